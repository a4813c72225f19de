"""Who may do what: gates before dispatch, before data flows along an edge, before a tool runs.

A gate looks at labels only, so it never depends on a score, a price or a fallback, and it says what is missing. Every
denial, and every grant over labelled data, is told to the auditors as an `Enforcement` on `foa/policies/enforcement`.

Source: arXiv:2509.20175, Sec. 3 (1[p_s ⊆ p_a] in eq. 2; policy events on their own topic).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from foa.messages import WireMessage
from foa.values.budget import Amount
from foa.values.ids import WireId
from foa.values.resources import Name
from foa.values.task import Label

Gate = Literal["admission", "dispatch", "flow", "tool", "safety"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a gate says. True where it is granted."""

    granted: bool
    reason: str = ""  #: why not; empty where it is granted

    def __bool__(self) -> bool:
        return self.granted


GRANTED = Verdict(granted=True)


def may_dispatch(*, needs: Collection[str], cleared: Collection[str]) -> Verdict:
    """Whether an agent may have a subtask: p_s ⊆ p_a.

    Args:
        needs: p_s, the labels of the task.
        cleared: p_a, the labels of the agent's VCV.
    """
    return _within(needs, cleared, "not cleared for")


def may_flow(*, labels: Collection[str], cleared: Collection[str]) -> Verdict:
    """Whether a report may go along an edge: to an agent cleared for every label of the data.

    Args:
        labels: those of the data: the labels of the task it answers, and of every report it was made from.
        cleared: the labels of the agent that receives it.
    """
    return _within(labels, cleared, "may not see data under")


def may_run_tool(
    tool: str, *, allowed: Collection[str], labels: Collection[str] = (), cleared: Collection[str] | None = None
) -> Verdict:
    """Whether an agent may run a tool for this task.

    Args:
        tool: its name.
        allowed: the tools in the agent's card; what is not in it is not run, whatever a model asks for.
        labels: those of the data that could go to the tool.
        cleared: what the tool is cleared for; None: it runs inside the agent and sees what the agent sees.
    """
    if tool not in allowed:
        offered = ", ".join(sorted(allowed)) or "none"
        return Verdict(granted=False, reason=f"tool {tool[:64]!r} is not one of the agent's own: {offered}")
    if cleared is None:
        return GRANTED
    return _within(labels, cleared, f"tool {tool[:64]!r} is not cleared for")


def _within(needs: Collection[str], cleared: Collection[str], words: str) -> Verdict:
    missing = sorted(set(needs).difference(cleared))
    return Verdict(granted=False, reason=f"{words} {', '.join(missing)}") if missing else GRANTED


class Enforcement(WireMessage, frozen=True, kw_only=True):
    """One decision of a gate, for auditors."""

    at: Amount  #: seconds since the epoch
    decision: Literal["grant", "deny"]
    gate: Gate
    agent: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: who would have had it; empty: nobody yet (safety)
    job: Annotated[str, msgspec.Meta(max_length=64)] = ""
    subtask: Annotated[str, msgspec.Meta(max_length=64)] = ""
    request: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: propose, draft, refine, or the tool's name
    labels: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)] = ()  #: what was asked for
    reason: Annotated[str, msgspec.Meta(max_length=2_000)] = ""


def enforcement(
    verdict: Verdict,
    *,
    at: float,
    gate: Gate,
    agent: WireId = "",
    job: WireId = "",
    subtask: WireId = "",
    request: Name = "",
    labels: Collection[str] = (),
) -> Enforcement:
    """Put a verdict into the form that auditors read.

    Args:
        verdict: what the gate said.
        at: when, seconds since the epoch.
        gate: which gate.
        agent: who would have had the data or done the work.
        job: the job.
        subtask: the subtask, where there is one.
        request: the kind of request, or the tool.
        labels: the labels that were asked for; the first 32, sorted, are told.
    """
    return Enforcement(
        at=at,
        decision="grant" if verdict else "deny",
        gate=gate,
        agent=agent[:64],
        job=job[:64],
        subtask=subtask[:64],
        request=request[:64],
        labels=tuple(sorted(set(labels)))[:32],
        reason=verdict.reason[:2_000],
    )
