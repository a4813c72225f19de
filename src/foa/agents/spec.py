"""A Spec's rules, read from its text: what the agent declines, and whether it must say when it is unsure. Pure.

    Never give a final legal opinion.   ─► a request for "a final legal opinion" is declined, with this rule as the reason
    Say so when you are not certain.    ─► answers of low confidence are marked

A matcher on words, deterministic: it knows a rule by its first word and a request by how many of the rule's words it has.
It is the floor under the model, which is asked to keep the Spec as well.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from foa.agents.evidence import sentences, terms
from foa.plan.consensus import words

MAX_RULES = 64
MATCH = 0.75  #: share of a rule's terms a request must have to fall under it

#: Verbs with which a Spec speaks of a request; others ("never assume") are about the way of working.
_VERBS = (
    "answer|discuss|help|give|provide|write|draft|disclose|reveal|share|offer|assist|respond|diagnose|prescribe|recommend|"
    "generate|create|produce|advise|comment|talk|speak|explain|describe|translate|requests?|questions?"
)
_FORBIDS = re.compile(
    r"^\**(?:you\s+)?(?P<word>never|refuse(?:\s+to)?|decline(?:\s+to)?|do\s+not|don['’]t|must\s+not|will\s+not|no)\b[\s:*]*(?P<what>.+)$",
    re.IGNORECASE,
)
_SPEAKING = re.compile(rf"(?:to\s+)?(?:{_VERBS})\b", re.IGNORECASE)
_REQUESTS = re.compile(
    rf"^(?:to\s+)?(?:{_VERBS}|anything|any|the)\b[\s:]*(?:to|with|on|about|for|any|a|an|the|requests?|questions?|advice)?\s*",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(?:uncertain\w*|unsure|not (?:sure|certain)|confiden\w+|don['’]t know|do not know|hedge|caveat\w*|calibrat\w+)\b",
    re.IGNORECASE,
)
#: Headings under which every forbidding line is about requests.
_SECTION = re.compile(r"\b(?:boundar\w+|refus\w+|declin\w*|safety|never|out of scope|off[- ]limits)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing a Spec forbids."""

    text: str  #: as written
    terms: frozenset[str]  #: what a forbidden request speaks of


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecRules:
    """What was found in a Spec."""

    forbids: tuple[Rule, ...] = ()
    marks_uncertainty: bool = False

    def declines(self, request: str) -> str:
        """Give the rule that forbids the request, as written; empty: none does."""
        asked = terms(request)
        for rule in self.forbids:
            if rule.terms and len(rule.terms & asked) / len(rule.terms) >= MATCH:
                return rule.text
        return ""


@lru_cache(maxsize=256)
def read_spec(spec: str) -> SpecRules:
    """Find the rules of a Spec.

    A line is a rule when it begins with never, refuse, decline, do not, don't, must not, will not or no, goes on with a verb
    of answering (or stands under a heading such as Boundaries or Safety), and names at least two things or one long word.
    """
    forbids: list[Rule] = []
    under_rules = False
    for line in spec.split("\n"):
        if line.lstrip().startswith("#"):
            under_rules = bool(_SECTION.search(line))
            continue
        for sentence in sentences(line, most=8):
            if len(forbids) < MAX_RULES and (rule := _rule(sentence, under_rules=under_rules)) is not None:
                forbids.append(rule)
    return SpecRules(forbids=tuple(forbids), marks_uncertainty=bool(_UNSURE.search(spec)))


def _rule(sentence: str, *, under_rules: bool) -> Rule | None:
    match = _FORBIDS.match(sentence)
    if match is None:
        return None
    plainly = match["word"].lower().startswith(("refuse", "decline"))
    if not (plainly or under_rules or _SPEAKING.match(match["what"])):
        return None
    named = _REQUESTS.sub("", match["what"], count=1)
    # an exception ("unless", "without") is for the model to weigh: the matcher leaves such rules alone
    if re.search(r"\b(?:unless|without|until|if|when)\b", named, re.IGNORECASE):
        return None
    about = words(named)
    if len(about) < 2 and not any(len(word) >= 6 for word in about):
        return None
    return Rule(text=sentence[:300], terms=_stems(about))


def _stems(about: frozenset[str]) -> frozenset[str]:
    """One form of each word, the one that `terms` of a request has as well."""
    return frozenset(min(terms(word), key=len) for word in about)


def excerpt(spec: str, *, characters: int) -> str:
    """Shorten a Spec for a small prompt: its rules first, then its beginning.

    Args:
        spec: the whole text.
        characters: most characters of what comes back.
    """
    whole = " ".join(spec.split())
    if len(whole) <= characters:
        return whole
    rules: Sequence[str] = [rule.text for rule in read_spec(spec).forbids]
    kept = ""
    for rule in rules:
        if len(kept) + len(rule) + 1 > characters // 2:
            break
        kept = f"{kept} {rule}".strip()
    start = whole[: max(0, characters - len(kept) - 2)].rsplit(" ", 1)[0]
    return f"{start}… {kept}".strip()[:characters]
