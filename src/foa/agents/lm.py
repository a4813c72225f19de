"""A language model as an agent: retrieves, answers under its Spec, names its sources, and survives its own model.

    propose   schema-bounded plan ─► sense check ─► Proposal                       │ rule, said in `fallback`
    draft     Spec ─► tools ─► evidence ─► model ─► claims by evidence + extracts   │ the extracts alone
    revise    vote over claims, then the model's wording where sources carry it     │ the vote alone

A small model cannot drive tools: they are asked first, and what they found is shown to it. The best of the evidence is in
the draft whatever the model says, so an answer is of use even when the model is tiny.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from logging import getLogger

import foa.agents.prompts as prompts
from foa.agents.brain import Answer, Revised, Revision
from foa.agents.evidence import Evidence, attribute, coverage, extracts, sentences, terms, tidy
from foa.agents.meter import Meter
from foa.agents.profile import AgentProfile
from foa.agents.rules import MAX_CLAIMS, agrees, propose_by_rule, revise_by_rule
from foa.agents.scratchpad import Scratchpad
from foa.agents.spec import read_spec
from foa.agents.tools.guard import Closable, Equipped, GuardedTool, Retriever
from foa.errors import BudgetExceeded, FabricError, ModelReplyInvalid, ModelUnreachable
from foa.messages import Drafted, DraftRequest, Propose, Proposed, Refused
from foa.plan.consensus import similarity
from foa.ports import Clock, Model, ModelReply, ModelRequest
from foa.values.budget import Budget
from foa.values.draft import Claim, Draft, Source
from foa.values.ids import JobId
from foa.values.plan import Proposal, ProposedSubtask

log = getLogger(__name__)

TOOL_SECONDS = 20.0  #: most time for all look-ups of one draft
SMALL_SECONDS = 20.0  #: most time of one call of a small model: it is quick, or the machine is overloaded
SAME = 0.85  #: similarity from which a subtask repeats another
WHOLE = 0.95  #: similarity from which it repeats the whole task
UNSURE = 0.5  #: below this confidence an answer is marked, where the Spec asks for it

_NO_MODEL = (BudgetExceeded, ModelUnreachable, ModelReplyInvalid)
_LABEL = re.compile(r"^(?:[-*•]\s+|(?:sub-?)?task\s*\d+\s*[:.)-]\s*|\d+[.)]\s+|<[^>]*>)+", re.IGNORECASE)
_DECLINED = re.compile(r"^\W*declined\b[\s:.-]*(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an agent's tools brought."""

    evidence: tuple[Evidence, ...] = ()
    failed: tuple[str, ...] = ()  #: a sentence for each tool that was denied or failed


class LmBrain:
    """Answers by a model and tools. Without a model it answers by rule, from the evidence alone."""

    def __init__(self, profile: AgentProfile, model: Model | None, *, clock: Clock, tools: Sequence[Equipped] = ()) -> None:
        self._profile = profile
        self._model = model
        self._clock = clock
        self._tools = tuple(tools)
        self._rules = read_spec(profile.spec)
        self._pad = Scratchpad()
        self._room = prompts.room(profile.limits.prompt_tokens)
        able = model is not None and model.drives_tools
        self._seconds = profile.limits.seconds if able else min(SMALL_SECONDS, profile.limits.seconds)

    @property
    def model_name(self) -> str:
        """Which model answers; empty: rules only."""
        return self._model.name if self._model is not None else ""

    # ── propose ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def propose(self, request: Propose) -> Answer:
        """Split a task (Alg. 1). Nonsense from the model is replaced by the rule's proposal, and said."""
        text, most = request.task.text, request.subtasks_max
        if rule := self._rules.declines(text):
            return Answer(body=Refused(kind="spec", reason=f"its Spec says: {rule}"))
        if self._model is None:
            return Answer(body=Proposed(proposal=propose_by_rule(text, most=most)))
        meter = self._meter(request.budget)
        ask = ModelRequest(
            instructions=prompts.instructions(self._profile.spec, "You plan work.", characters=self._room),
            prompt=prompts.propose_prompt(request, characters=self._room),
            schema=prompts.propose_schema(fewest=request.subtasks_min, most=most),
            max_tokens=max(2 * self._profile.limits.reply_tokens, 60 * most),
            calls=2,
            seconds=self._seconds,
        )
        try:
            reply = await meter.ask(self._model, ask)
            proposal = sensible(reply, text, most=most)
        except _NO_MODEL as error:
            proposal = propose_by_rule(text, most=most)
            return Answer(body=Proposed(proposal=proposal, fallback=_short(error)), spend=meter.spend)
        return Answer(body=Proposed(proposal=proposal), spend=meter.spend)

    # ── draft ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def draft(self, request: DraftRequest) -> Answer:
        """Answer a subtask from what the tools find (Alg. 2), each claim with its source."""
        if rule := self._rules.declines(request.text):
            return Answer(body=Refused(kind="spec", reason=f"its Spec says: {rule}"))
        meter = self._meter(request.budget)
        labels = frozenset(request.task.policies)
        found = await self._look_up(request.text, labels, seconds=min(TOOL_SECONDS, meter.left().seconds / 2))
        evidence = (*found.evidence, *_inputs(request))
        driven = [tool.for_task(agent=self._profile.policies, task=labels) for tool in self._tools]
        said, fallback = "", ""
        try:
            said = await self._write(request, evidence, driven, meter)
        except _NO_MODEL as error:
            fallback = _short(error)
            if not evidence:
                kind = "budget" if isinstance(error, BudgetExceeded) else "model"
                return Answer(body=Refused(kind=kind, reason=f"{fallback}, and its tools found nothing"), spend=meter.spend)
        if said and (declined := _DECLINED.match(said)):
            reason = declined[1].strip()[:300] or "its rules forbid it"
            return Answer(body=Refused(kind="spec", reason=f"its Spec forbids it: {reason}"), spend=meter.spend)
        evidence = (*evidence, *_driven(driven))
        if said and not (said := self._of_use(said, evidence)):
            fallback = "what the model said stands on none of the evidence"
        draft = self._compose(request.text, said, evidence, fallback=fallback)
        self._pad.write(JobId(request.job), f"{request.text[:80]}: {draft.answer[:140]}")
        if found.failed:
            self._pad.write(JobId(request.job), "; ".join(found.failed))
            log.warning("tools of %s: %s", self._profile.agent_id, "; ".join(found.failed))
        return Answer(body=Drafted(draft=draft), spend=meter.spend)

    async def _write(
        self, request: DraftRequest, evidence: Sequence[Evidence], driven: Sequence[GuardedTool], meter: Meter
    ) -> str:
        if self._model is None:
            if evidence:
                return ""
            raise ModelUnreachable("this agent has no model")
        limits, able = self._profile.limits, self._model.drives_tools
        duty = prompts.draft_duty(has_evidence=bool(evidence), may_decline=able and bool(self._profile.spec))
        notes = self._pad.read(JobId(request.job), characters=self._room // 8)
        spoken = prompts.instructions(self._profile.spec, duty, characters=self._room)
        ask = ModelRequest(
            instructions=spoken,
            prompt=prompts.draft_prompt(
                request, evidence[: limits.evidence], notes, characters=max(600, self._room - len(spoken))
            ),
            tools=tuple(driven) if able else (),
            max_tokens=limits.reply_tokens,
            calls=4 if able and driven else 1,
            seconds=self._seconds,
        )
        return (await meter.ask(self._model, ask)).text.strip()[:8_000]

    def _of_use(self, said: str, evidence: Sequence[Evidence]) -> str:
        """Tidy what the model said. Of a small model's words without any support nothing is kept where there is evidence."""
        said = tidy(said)
        able = self._model is not None and self._model.drives_tools
        if able or not evidence or any(claim.source is not None for claim in attribute(said, evidence)):
            return said
        return ""

    def _compose(self, question: str, said: str, evidence: Sequence[Evidence], *, fallback: str) -> Draft:
        """Join the model's words and the evidence into one draft, best supported part first."""
        spoken = attribute(said, evidence)
        shown = extracts(question, evidence, most=3)
        supported = [claim for claim in spoken if claim.source is not None]
        confidence = _confidence(question, evidence, said=len(spoken), supported=len(supported))
        quotes = "\n".join(f"- {claim.text[:200]} [{claim.source.locator}]" for claim in shown if claim.source)
        if not shown:
            answer = said
        elif said and (supported or not spoken):
            answer = f"{said}\n\nFrom the sources:\n{quotes}"
        elif said:
            answer = f"From the sources:\n{quotes}\n\nWithout a source: {said}"
        else:
            answer = f"From the sources:\n{quotes}"
        uncertain = self._rules.marks_uncertainty and confidence < UNSURE
        return Draft(
            answer=(f"Not certain. {answer}" if uncertain else answer)[:20_000],
            claims=tuple(_distinct([*spoken, *shown]))[:MAX_CLAIMS],
            confidence=confidence,
            uncertain=uncertain,
            fallback=fallback,
        )

    async def _look_up(self, question: str, labels: frozenset[str], *, seconds: float) -> Found:
        """Ask every tool that can retrieve, at once; what is denied, fails or is late is named."""
        found: dict[str, list[Evidence]] = {}
        failed: dict[str, str] = {}
        k = self._profile.limits.evidence

        async def ask(equipped: Equipped, retriever: Retriever) -> None:
            name = equipped.tool.name
            if reason := equipped.denial(agent=self._profile.policies, task=labels):
                failed[name] = reason
                return
            try:
                found[name] = await retriever.retrieve(question, k)
            except FabricError as error:
                failed[name] = f"tool {name}: {error}"

        retrievers = [(tool, tool.tool) for tool in self._tools if isinstance(tool.tool, Retriever)]
        try:
            async with asyncio.timeout(max(0.05, seconds)), asyncio.TaskGroup() as group:
                for equipped, retriever in retrievers:
                    group.create_task(ask(equipped, retriever), name=f"look-up[{equipped.tool.name}]")
        except TimeoutError:
            late = [tool.tool.name for tool, _ in retrievers if tool.tool.name not in found | failed]
            failed |= {name: f"tool {name} did not answer in {seconds:.0f} s" for name in late}
        return Found(evidence=tuple(interleave(list(found.values()))[: 2 * k]), failed=tuple(failed.values()))

    # ── revise ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def revise(self, revision: Revision) -> Revised:
        """Update by the weighted vote; let the model word it where sources carry what it says (Alg. 4)."""
        voted = revise_by_rule(revision)
        model = self._model
        if model is None or not revision.peers or agrees(revision.own, revision.peers):
            return voted
        if revision.round > 1 + self._profile.limits.model_rounds or (revision.round > 2 and not model.drives_tools):
            return voted  # a small model gains nothing from a second look, and it costs the round its time
        meter = self._meter(revision.budget)
        ask = ModelRequest(
            instructions=prompts.instructions(self._profile.spec, "You compare answers.", characters=self._room),
            prompt=prompts.revise_prompt(revision, characters=self._room * 3 // 4),
            schema=prompts.revise_schema(reply_tokens=self._profile.limits.reply_tokens),
            max_tokens=self._profile.limits.reply_tokens + 32,
            calls=1,
            seconds=self._seconds,
        )
        try:
            reply = await meter.ask(model, ask)
        except _NO_MODEL as error:
            note = f"{voted.critique} (by rule: {_short(error)})".strip()[:2_000]
            return replace(voted, critique=note, spend=meter.spend)
        value = reply.value or {}
        critique = str(value.get("critique", "")).strip()[:1_000] or voted.critique
        draft = reworded(voted.draft, str(value.get("answer", "")))
        return Revised(draft=draft, critique=critique, stop=voted.stop and draft == revision.own, spend=meter.spend)

    async def forget(self, job: JobId) -> None:
        """Drop the job's notes."""
        self._pad.forget(job)

    async def aclose(self) -> None:
        """Close the tools; the model belongs to whoever made it."""
        for equipped in self._tools:
            if isinstance(equipped.tool, Closable):
                await equipped.tool.aclose()

    def _meter(self, budget: Budget) -> Meter:
        return Meter(budget, self._profile.resources.price, self._clock)


def sensible(reply: ModelReply, text: str, *, most: int) -> Proposal:
    """Turn a model's plan into a proposal, dropping what makes no sense.

    Raises:
        ModelReplyInvalid: fewer than two distinct subtasks remain that speak of the task and do not only repeat it.
    """
    value = reply.value or {}
    listed = value.get("subtasks")
    about = terms(text)
    kept: dict[int, str] = {}
    for index, item in enumerate(listed[:most] if isinstance(listed, list) else []):
        part = _LABEL.sub("", " ".join(item.split())[:300]) if isinstance(item, str) else ""
        fresh = similarity(terms(part), about) < WHOLE and all(
            similarity(terms(part), terms(other)) < SAME for other in kept.values()
        )
        if len(part.split()) >= 3 and fresh and len(terms(part) & about) >= min(2, len(about)):
            kept[index] = part
    if len(kept) < 2:
        raise ModelReplyInvalid("fewer than two of its subtasks speak of the task, without repeating it")
    place = {index: number for number, index in enumerate(kept)}
    edges: list[tuple[int, int]] = []
    drawn = value.get("edges")
    for pair in drawn[: most * most] if isinstance(drawn, list) else []:
        match pair:
            case [int() as before, int() as after] if before != after and before in place and after in place:
                edges.append((place[before], place[after]))
            case _:
                continue
    subtasks = tuple(ProposedSubtask(text=part) for part in kept.values())
    return Proposal(subtasks=subtasks, edges=tuple(dict.fromkeys(edges)))


def reworded(draft: Draft, said: str) -> Draft:
    """Put the model's wording before a draft, when at least half of its sentences stand on the draft's own sources."""
    text = " ".join(tidy(said).split())[:2_000]
    pieces = [
        Evidence(source=claim.source, text=f"{claim.text}\n{claim.source.quote}") for claim in draft.claims if claim.source
    ]
    spoken = attribute(text, pieces)
    supported = [claim for claim in spoken if claim.source is not None]
    if not spoken or 2 * len(supported) < len(spoken) or text in draft.answer:
        return draft
    claims = tuple(_distinct([*supported, *draft.claims]))[:MAX_CLAIMS]
    return replace(draft, answer=f"{text}\n\n{draft.answer}"[:20_000], claims=claims)


def interleave(lists: Sequence[Sequence[Evidence]]) -> list[Evidence]:
    """Merge ranked lists: every list's first, then every list's second …; scores of different tools do not compare."""
    longest = max((len(ranked) for ranked in lists), default=0)
    return [ranked[rank] for rank in range(longest) for ranked in lists if rank < len(ranked)]


def _inputs(request: DraftRequest) -> list[Evidence]:
    """What earlier subtasks found: their claims where these have sources, else their answers, told apart by source."""
    found: list[Evidence] = []
    for item in request.inputs[:8]:
        sourced = [claim for claim in item.claims if claim.source is not None][:2]
        found += [Evidence(source=claim.source, text=claim.text) for claim in sourced if claim.source is not None]
        if not sourced and item.answer.strip():
            found.append(Evidence(source=Source(kind="agent", locator=item.subtask), text=item.answer[:1_500]))
    return found


def _driven(driven: Sequence[GuardedTool]) -> list[Evidence]:
    return [
        Evidence(source=Source(kind="tool", locator=tool.name), text=result)
        for tool in driven
        for result in tool.results
        if result.strip()
    ]


def _confidence(question: str, evidence: Sequence[Evidence], *, said: int, supported: int) -> float:
    """How sure an answer is, from what can be measured: how much of the question the evidence speaks of, and how much of
    what the model says stands on it. Without evidence 0.4: nobody but the model says so.
    """
    if not evidence:
        return 0.4 if said else 0.2
    share = supported / said if said else 0.5
    return round(min(0.95, 0.25 + 0.35 * coverage(question, evidence) + 0.35 * share), 4)


def _distinct(claims: Sequence[Claim]) -> list[Claim]:
    seen: dict[tuple[str, str], Claim] = {}
    for claim in claims:
        seen.setdefault((claim.text, claim.source.locator if claim.source else ""), claim)
    return list(seen.values())


def _short(error: FabricError) -> str:
    return sentences(str(error), most=1)[0][:400] if str(error).strip() else type(error).__name__
