"""Agents that answer at once: what is left of a job's time is the fabric's own.

4 subtasks (two chains of two) × 3 agents × 3 rounds: every proposer draws the same plan, every member says something new in
every round and never votes to stop, so that all k rounds are held.
"""

from foa.agents.brain import Agent, Answer, Revised, Revision
from foa.agents.profile import AgentProfile
from foa.messages import Drafted, DraftRequest, Propose, Proposed
from foa.values.draft import Claim, Draft, Source
from foa.values.ids import AgentId, JobId
from foa.values.plan import Proposal, ProposedSubtask

TASK = "How does the fabric route a task to the agents that can work on it?"
SUBTASKS = (
    "Find the code that routes a task to agents",
    "Read what the documentation says about policies",
    "Trace the history of the scoring formula in git",
    "List the dependencies that the vector index needs",
)
EDGES = ((0, 2), (1, 3))
AGENTS = 12


class InstantBrain:
    """Says prepared things without thinking."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def propose(self, request: Propose) -> Answer:
        """The same four subtasks as everybody."""
        subtasks = tuple(ProposedSubtask(text=text) for text in SUBTASKS)
        return Answer(body=Proposed(proposal=Proposal(subtasks=subtasks, edges=EDGES)))

    async def draft(self, request: DraftRequest) -> Answer:
        """Three sourced claims."""
        return Answer(body=Drafted(draft=self._say(request.text, 0)))

    async def revise(self, revision: Revision) -> Revised:
        """Something new every round, so that neither the vote nor the gain ends the rounds before k."""
        return Revised(draft=self._say(revision.text, revision.round), critique="say where it is written")

    async def forget(self, job: JobId) -> None:
        """Nothing is kept."""

    async def aclose(self) -> None:
        """Nothing is held."""

    def _say(self, text: str, number: int) -> Draft:
        words = " ".join(f"{self._name}w{number}x{i}" for i in range(24))
        claims = tuple(
            Claim(text=f"{words} {i}", source=Source(kind="file", locator=f"src/{i}.py:1-9", quote=words)) for i in range(3)
        )
        return Draft(answer=f"{text}: {words}", claims=claims, confidence=0.7)


def instant_agents(count: int = AGENTS) -> list[Agent]:
    """Agents that all fit every subtask equally well."""
    return [
        Agent(
            profile=AgentProfile(
                agent_id=AgentId(f"instant-{i:02}"),
                name=f"instant {i}",
                description="Routes tasks; reads code, documentation, policies, git history, dependencies and the index.",
                spec="You answer at once.",
            ),
            brain=InstantBrain(f"i{i}"),
        )
        for i in range(count)
    ]
