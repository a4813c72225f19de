"""The other end of a training: progress before the reply, once in work, stopped when told, one at a time."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from foa.agents.brain import Answer
from foa.exchange import PART_PROPERTY
from foa.messages import Refused, Reply, Stop, Trained, TrainProgress, TrainRequest, decode, encode
from foa.state.memory import MemoryReplies
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from foa.values.task import Task
from foa.values.topics import Topics
from tests.agents import PLENTY, REPLIES, hosting
from tests.fakes import HandClock
from tests.trainers import FakeTrainer, training_agent


def request(**changes: Any) -> TrainRequest:
    fields: dict[str, Any] = {
        "job": "job-1",
        "subtask": "s1",
        "text": "train a model",
        "task": Task(text="train"),
        "budget": PLENTY,
    }
    return TrainRequest(**fields | changes)


@dataclass
class Asker:
    """Agent-0's end: hears parts and replies alike."""

    transport: MemoryTransport
    inbox: Any

    async def send(self, message: TrainRequest | Stop, *, correlation: bytes = b"1") -> None:
        await self.transport.publish(
            Publication(
                topic=Topics().tasks(AgentId("trainer")),
                payload=encode(message),
                response_topic=REPLIES,
                correlation_data=correlation,
            )
        )

    async def hear(self) -> tuple[bytes, TrainProgress | Reply]:
        async with asyncio.timeout(5):
            delivery = await anext(self.inbox)
        await delivery.acknowledge()
        publication = delivery.publication
        kind: Any = TrainProgress if PART_PROPERTY in publication.user_properties else Reply
        return publication.correlation_data or b"", decode(publication.payload, kind)

    async def heard(self, correlation: bytes = b"1") -> tuple[list[str], Reply]:
        """All progress of one asking, then its reply."""
        parts: list[str] = []
        while True:
            told, message = await self.hear()
            if told != correlation:
                continue
            if isinstance(message, Reply):
                return parts, message
            if message.state == "ended":
                parts.append(f"{message.round}/{message.node}")


@asynccontextmanager
async def asker(hub: MemoryHub) -> AsyncGenerator[Asker]:
    async with (
        MemoryTransport(hub, client_id="agent-0") as transport,
        transport.subscribe(Filter(topic_filter=REPLIES)) as inbox,
    ):
        yield Asker(transport, inbox)


EVERY_NODE = [f"{number}/{node}" for number in (1, 2) for node in ("select", "train", "evaluate", "credit")]


async def test_progress_comes_before_the_reply() -> None:
    hub, brain = MemoryHub(), FakeTrainer()
    async with hosting(hub, training_agent(brain)), asker(hub) as asking:
        await asking.send(request())
        parts, reply = await asking.heard()
    assert parts == EVERY_NODE
    assert isinstance(reply.body, Trained)
    assert reply.body.figures == {"accuracy": 0.8}


async def test_who_asks_again_on_the_way_hears_everything_and_nothing_is_trained_twice() -> None:
    hub, brain = MemoryHub(), FakeTrainer(hold_at=5)
    async with hosting(hub, training_agent(brain)), asker(hub) as asking:
        await asking.send(request(), correlation=b"1")
        await brain.holding.wait()
        await asking.send(request(), correlation=b"2")
        # the second asking hears the five nodes that were told before it came
        seen = 0
        while seen < 5:
            told, message = await asking.hear()
            seen += told == b"2" and isinstance(message, TrainProgress) and message.state == "ended"
        brain.hold.set()
        parts, reply = await asking.heard(b"2")
    assert parts == EVERY_NODE[5:]
    assert isinstance(reply.body, Trained)
    assert brain.trained == ["s1"]


class FailsOnce(FakeTrainer):
    """Refuses its first training where it was held, as one whose run could not go on; trains when `refused` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = asyncio.Event()

    async def train(self, request: TrainRequest, tell: Callable[[TrainProgress], None]) -> Answer:
        if self.trained:
            await self.refused.wait()
            return await super().train(request, tell)
        self.trained.append(request.subtask)
        self._tell(request, tell, 1, "select")
        await self.hold.wait()
        return Answer(body=Refused(kind="load", reason="another process trains this run"))


async def test_who_asked_beside_one_that_is_refused_hears_all_of_the_training_that_follows() -> None:
    # a refusal for load is not kept: the second asker's wait ends with a training of its own, on the same feed
    hub, brain = MemoryHub(), FailsOnce()
    async with hosting(hub, training_agent(brain)), asker(hub) as agent_0:
        await agent_0.send(request())
        await agent_0.send(request(), correlation=b"2")
        while (await agent_0.hear())[0] != b"2":  # it listens
            pass
        brain.hold.set()
        _, refusal = await agent_0.heard(b"1")
        brain.refused.set()
        parts, reply = await agent_0.heard(b"2")
    assert isinstance(refusal.body, Refused)
    assert isinstance(reply.body, Trained)
    # the first node was heard above
    assert parts == EVERY_NODE[1:]


async def test_after_a_restart_the_kept_reply_comes_with_all_progress() -> None:
    hub, brain, replies = MemoryHub(), FakeTrainer(), MemoryReplies(HandClock())
    async with hosting(hub, training_agent(brain), replies=replies), asker(hub) as asking:
        await asking.send(request())
        await asking.heard()
    async with hosting(hub, training_agent(brain), replies=replies), asker(hub) as asking:
        await asking.send(request())
        parts, reply = await asking.heard()
    assert parts == EVERY_NODE
    assert isinstance(reply.body, Trained)
    assert brain.trained == ["s1"]


async def test_a_stop_ends_the_training() -> None:
    hub, brain = MemoryHub(), FakeTrainer(hold_at=1)
    async with hosting(hub, training_agent(brain)) as host, asker(hub) as asking:
        await asking.send(request())
        await brain.holding.wait()
        await asking.send(Stop(job="job-1"))
        async with asyncio.timeout(5):
            await brain.cancelled.wait()
        assert host.counts["stopped"] == 1


async def test_one_run_at_a_time_a_bounded_queue_and_beyond_it_a_refusal() -> None:
    hub, brain = MemoryHub(), FakeTrainer(hold_at=1)
    async with hosting(hub, training_agent(brain, queue=1)), asker(hub) as asking:
        await asking.send(request(subtask="s1"), correlation=b"1")
        await brain.holding.wait()
        await asking.send(request(subtask="s2"), correlation=b"2")  # waits for the slot
        await asking.send(request(subtask="s3"), correlation=b"3")
        parts, reply = await asking.heard(b"3")
        assert parts == []
        assert isinstance(reply.body, Refused)
        assert reply.body.kind == "load"
        assert brain.trained == ["s1"]
        # who asks again for what is under way takes nobody's place: it is not refused
        await asking.send(request(subtask="s1"), correlation=b"4")
        told, message = await asking.hear()
        while told != b"4":
            told, message = await asking.hear()
        assert isinstance(message, TrainProgress)


async def test_a_policy_that_it_is_not_cleared_for_is_refused_before_anything_is_trained() -> None:
    hub, brain = MemoryHub(), FakeTrainer()
    async with hosting(hub, training_agent(brain, policies=["gdpr"])), asker(hub) as asking:
        await asking.send(request(task=Task(text="train", policies=("hipaa",))))
        _, reply = await asking.heard()
    assert isinstance(reply.body, Refused)
    assert (reply.body.kind, brain.trained) == ("policy", [])


async def test_no_time_left_is_a_refusal_and_ends_the_training() -> None:
    hub, brain = MemoryHub(), FakeTrainer(hold_at=1)
    budget = type(PLENTY)(usd=1.0, tokens=10, calls=1, seconds=0.05)
    async with hosting(hub, training_agent(brain)), asker(hub) as asking:
        await asking.send(request(budget=budget))
        _, reply = await asking.heard()
    assert isinstance(reply.body, Refused)
    assert reply.body.kind == "budget"
    assert brain.cancelled.is_set()
