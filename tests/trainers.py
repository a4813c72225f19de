"""A trainer for tests: it tells the nodes of its rounds one by one as the test lets it, and remembers what it told."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from foa.agents.brain import Agent, Answer, Revised, Revision
from foa.agents.profile import AgentProfile, Limits
from foa.errors import ModelUnreachable
from foa.messages import DraftRequest, Propose, Trained, TrainProgress, TrainRequest
from foa.values.budget import Spend
from foa.values.draft import Claim, Draft, Source
from foa.values.ids import AgentId, JobId
from foa.values.plan import Proposal, ProposedSubtask

TRAIN = "Train a model on the data of the hospitals by federated learning"
EXPLAIN = "Explain the history of the scoring formula to agents"
MIXED = Proposal(subtasks=(ProposedSubtask(text=TRAIN), ProposedSubtask(text=EXPLAIN)), edges=((0, 1),))
NODES = ("select", "train", "evaluate", "credit")
NODE_SPEND = Spend(usd=0.01, tokens_in=10, calls=1)
CREDITS = {"north": 0.2, "south": -0.1}


@dataclass
class FakeTrainer:
    """Trains for some rounds of four nodes; goes on where it was when it is asked again."""

    name: str = "trainer"
    rounds: int = 2
    hold_at: int = 0  #: before telling this many nodes it waits for `hold`; 0: never
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    spend: Spend = NODE_SPEND  #: of each node
    trained: list[str] = field(default_factory=list)  #: subtasks that a training was begun or gone on with for
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    told_before: list[TrainProgress] = field(default_factory=list)
    holding: asyncio.Event = field(default_factory=asyncio.Event)

    async def train(self, request: TrainRequest, tell: Callable[[TrainProgress], None]) -> Answer:
        self.trained.append(request.subtask)
        done = {(progress.round, progress.node) for progress in self.told_before}
        try:
            for number in range(1, self.rounds + 1):
                for node in NODES:
                    if (number, node) in done:
                        continue
                    await self._wait()
                    self._tell(request, tell, number, node)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        nodes = self.rounds * len(NODES)
        total = Spend(usd=nodes * self.spend.usd, tokens_in=nodes * self.spend.tokens_in, calls=nodes * self.spend.calls)
        source = Source(kind="file", locator="/runs/r1/rounds.json")
        draft = Draft(
            answer="The model reached an accuracy of 0.8000; the worst tenth of sites is at 0.7000.",
            claims=(Claim(text="accuracy 0.8000", source=source),),
            confidence=0.8,
        )
        return Answer(body=Trained(draft=draft, run="r1", rounds=self.rounds, figures={"accuracy": 0.8}), spend=total)

    async def _wait(self) -> None:
        if self.hold_at and len(self.told_before) >= self.hold_at:
            self.holding.set()
            await self.hold.wait()

    def _tell(self, request: TrainRequest, tell: Callable[[TrainProgress], None], number: int, node: str) -> None:
        began = TrainProgress(
            agent=self.name, job=request.job, subtask=request.subtask, round=number, node=node, state="began"
        )
        ended = msgspec.structs.replace(
            began,
            state="ended",
            said=f"{node} of round {number}",
            value=msgspec.Raw(b'{"n":%d}' % number),
            credits=CREDITS if node == "credit" else {},
            spend=self.spend,
        )
        tell(began)
        self.told_before.append(ended)
        tell(ended)

    async def told(self, request: TrainRequest) -> Sequence[TrainProgress]:
        return list(self.told_before)

    async def propose(self, request: Propose) -> Answer:
        raise ModelUnreachable("it only trains")

    async def draft(self, request: DraftRequest) -> Answer:
        raise ModelUnreachable("it only trains")

    async def revise(self, revision: Revision) -> Revised:
        raise ModelUnreachable("it only trains")

    async def forget(self, job: JobId) -> None: ...

    async def aclose(self) -> None: ...


def training_agent(
    brain: FakeTrainer,
    *,
    description: str = "Trains a model on the data of hospitals by federated learning, without moving it.",
    policies: Sequence[str] = (),
    queue: int = 1,
) -> Agent:
    """An agent that answers trainings only."""
    profile = AgentProfile(
        agent_id=AgentId(brain.name),
        name=brain.name,
        description=description,
        spec="",
        policies=frozenset(policies),
        kinds=("train",),
        limits=Limits(slots=1, queue=queue),
    )
    return Agent(profile=profile, brain=brain)
