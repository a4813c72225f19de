"""Evidence and the claims made from it: which sentence of an answer stands on which source. Pure.

tools ─► Evidence(source, text, score)
model ─► sentences ─► attribute: best evidence by shared words ─► Claim(text, source) │ Claim(text, None)
evidence ─► extracts: the lines nearest to the question, as claims with quotes
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from foa.plan.consensus import similarity, words
from foa.values.draft import Claim, Source

MAX_QUOTE = 600  #: characters of a quote in a claim
MAX_TEXT = 400  #: characters of a claim made from evidence

REPEATED = 0.9  #: similarity from which a sentence says again what another said
#: Lines that come from a prompt of `foa.agents.prompts`, not from a thought.
_PROMPT = re.compile(
    r"<<<|>>>|^\s*\[\d+\]|^\s*(?:evidence|question|answer|notes|results so far|conversation)\s*:\s*$", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'`*(\[])|\n+")
_DOCSTRING = re.compile(r'"""\s*(.+?)(?:"""|\n\s*\n)', re.DOTALL)
_BEGINS = re.compile(r"^\s*(?:[-*•#>]|\d+[.)]|@|[A-Z`\"]|(?:async |export |pub )?(?:def|class|fn|func|function)\b)")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A piece of text with the place where it stands."""

    source: Source  #: its quote may be empty; `text` is what was found
    text: str
    score: float = 0.0  #: of the tool's own ranking, higher is better; compare within one tool only
    defines: tuple[str, ...] = ()  #: names it defines, when it is code


def sentences(text: str, *, most: int = 32) -> list[str]:
    """Part a text into sentences and lines, list marks stripped, empty ones left out."""
    parts = (part.strip().lstrip("-*•#> ").strip() for part in _SENTENCE.split(text.strip()))
    return [part[:2_000] for part in parts if len(part) > 2][:most]


@lru_cache(maxsize=4096)
def terms(text: str) -> frozenset[str]:
    """Words of a text, and the parts of compound names: `assignTeam` and `assign_team` give assign and team too."""
    found = set(words(text))
    for token in re.findall(r"[A-Za-z][A-Za-z0-9]*", text[:20_000]):
        parts = _PART.findall(token)
        if len(parts) > 1:
            found.update(part.lower() for part in parts if len(part) > 2)
    return frozenset(_stem(word) for word in found) | found


def tidy(said: str) -> str:
    """Take out of a model's reply what small models put in: pieces of the prompt, repeated sentences, a cut-off end.

    Returns:
        What is left, maybe nothing.
    """
    kept: list[str] = []
    lines: list[str] = []
    for line in said.split("\n"):
        if _PROMPT.search(line):
            continue
        fresh: list[str] = []
        for sentence in _SENTENCE.split(line.strip()):
            if sentence.strip() and all(similarity(terms(sentence), terms(other)) < REPEATED for other in kept):
                fresh.append(sentence)
                kept.append(sentence)
        lines.append(" ".join(fresh))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    if len(kept) > 1 and not re.search(r"[.!?:)\]`\"'*|]\s*$", text):
        text = text[: len(text) - len(kept[-1])].strip()
    return text


def support(sentence: str, evidence: Evidence) -> float:
    """Share of a sentence's terms that stand in the evidence, 0 to 1. A sentence without terms has none."""
    said = terms(sentence)
    return len(said & terms(evidence.text)) / len(said) if said else 0.0


def attribute(text: str, evidence: Sequence[Evidence], *, at_least: float = 0.6) -> list[Claim]:
    """Turn an answer into claims, each with the evidence that supports it best, or none."""
    claims: list[Claim] = []
    for sentence in sentences(text):
        if len(words(sentence)) < 2:
            continue
        best = max(evidence, key=lambda piece: support(sentence, piece), default=None)
        if best is None or support(sentence, best) < at_least:
            claims.append(Claim(text=sentence))
        else:
            claims.append(Claim(text=sentence, source=quoted(best, sentence)))
    return claims


def extracts(question: str, evidence: Sequence[Evidence], *, most: int = 3) -> list[Claim]:
    """Make claims of the evidence itself: what a piece is, and the words nearest to the question, with their source."""
    claims: list[Claim] = []
    for piece in evidence[:most]:
        source = quoted(piece, question)
        text = _summary(piece, source.quote)
        if text:
            claims.append(Claim(text=text, source=source))
    return claims


def _summary(piece: Evidence, quote: str) -> str:
    """One line for a piece: of code its name and what its docstring says, else the quote."""
    plain = " ".join(quote.split())
    if not piece.defines:
        return plain[:MAX_TEXT]
    said = _DOCSTRING.search(piece.text)
    about = " ".join(said[1].split()) if said is not None else plain
    return f"`{piece.defines[0]}`: {about}"[:MAX_TEXT]


def quoted(piece: Evidence, about: str) -> Source:
    """Give the source with the lines quoted that share most with `about`, at most `MAX_QUOTE` characters."""
    if piece.source.quote:
        return piece.source
    lines = [line.rstrip() for line in piece.text.split("\n")]
    wanted, asked = terms(about), about.strip().lower()
    shares = [0 if len(asked) > 20 and asked in line.lower() else len(wanted & terms(line)) for line in lines]
    best = max(range(len(lines)), key=lambda number: (shares[number], -number))
    while best > 0 and lines[best - 1].strip() and not _BEGINS.match(lines[best]):
        best -= 1  # begin where a sentence, item or definition begins
    quote = ""
    for line in lines[best : best + 8]:
        if len(quote) + len(line) > MAX_QUOTE or (quote and not line.strip()):
            break
        quote += line + "\n"
    quote = quote.strip() or lines[best].strip()[:MAX_QUOTE]
    return Source(kind=piece.source.kind, locator=piece.source.locator[:500], quote=quote)


def coverage(question: str, evidence: Sequence[Evidence]) -> float:
    """Share of the question's terms that the evidence speaks of at all, 0 to 1."""
    asked = words(question)
    if not asked or not evidence:
        return 0.0
    spoken = frozenset[str]().union(*(terms(piece.text) for piece in evidence))
    return sum(word in spoken or _stem(word) in spoken for word in asked) / len(asked)


def _stem(word: str) -> str:
    """Cut the commonest English endings, so that `decides` meets `decide`; crude, and enough for overlap."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) > 3:
            return word[: -len(ending)]
    return word
