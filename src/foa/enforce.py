"""The policy gates at work: before a request goes out and before data flows along an edge; auditors hear every decision.

A card may have changed since the work was routed, so the gate looks again, at the card as it is now.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from foa.job import Job
from foa.messages import encode
from foa.policy.gate import Gate, enforcement, may_dispatch, may_flow
from foa.ports import Transport
from foa.registry.registry import Registry
from foa.values.ids import AgentId
from foa.values.plan import Subtask
from foa.values.publication import Publication


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcer:
    """Asks the gates and publishes what they say on `foa/policies/enforcement`."""

    transport: Transport
    registry: Registry

    async def cleared(
        self, job: Job, subtask: Subtask, agents: Sequence[AgentId], *, data: Collection[str] = (), request: str = "draft"
    ) -> list[AgentId]:
        """Those of the agents that may have the subtask, and see the data that flows into it; the others are said as lost.

        Args:
            job: the running job.
            subtask: with the labels that an agent must be cleared for.
            agents: who would be asked.
            data: labels of what flows into it; empty where nothing does.
            request: which request is about to go out, for the auditors.
        """
        granted: list[AgentId] = []
        for agent in agents:
            if await self._passes(job, subtask, agent, "dispatch", subtask.policies, request) and (
                not data or await self._passes(job, subtask, agent, "flow", data, request)
            ):
                granted.append(agent)
        return granted

    async def _passes(
        self, job: Job, subtask: Subtask, agent: AgentId, gate: Gate, labels: Collection[str], request: str
    ) -> bool:
        card = self.registry.get(agent)
        held = card.p if card is not None else frozenset[str]()
        verdict = may_flow(labels=labels, cleared=held) if gate == "flow" else may_dispatch(needs=labels, cleared=held)
        if labels:  # a grant over unlabelled work says nothing to an auditor
            told = enforcement(
                verdict,
                at=job.clock.now(),
                gate=gate,
                agent=agent,
                job=job.id,
                subtask=subtask.id,
                request=request,
                labels=tuple(sorted(labels)),
            )
            await self.transport.publish(Publication(topic=job.topics.enforcement(), payload=encode(told), qos=0))
        if not verdict:
            job.lose(agent, f"policy: {verdict.reason}", subtask=subtask.id, asked=False)
        return bool(verdict)
