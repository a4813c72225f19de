"""Agents on the wire, over the in-memory transport: announce, answer, refuse, repeat, leave."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest

from foa.agents.announce import gone_agents, last_will
from foa.agents.brain import Agent
from foa.agents.functions import Question, agent
from foa.agents.host import AgentHost
from foa.agents.lm import LmBrain
from foa.agents.profile import Limits, parse_profile
from foa.agents.versions import Versions
from foa.errors import BadInput, BrokerUnreachable, StoreFailed
from foa.messages import Drafted, Proposed, Refused, Stop
from foa.registry.card import decode_card
from foa.registry.keys import new_key, public_key
from foa.registry.vitals import decode_vitals
from foa.state.memory import MemoryReplies
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.budget import Budget
from foa.values.ids import AgentId
from foa.values.publication import Filter
from foa.values.task import Task
from foa.values.topics import Topics
from tests.agents import Asker, CannedModel, WordEmbedder, asking, drafting, hosting, propose
from tests.fakes import HandClock


@agent(skills=["echo"], policies=["gdpr"], price=0.001)
async def echo(question: Question) -> str:
    """Repeats what it is asked."""
    return f"you said {question.text}"


@agent
def shout(question: Question) -> str:
    """Repeats it louder, from a thread."""
    return question.text.upper()


class Gate:
    """An agent whose answers wait until the test says so."""

    def __init__(self, *, slots: int = 1, queue: int = 1) -> None:
        self.open = asyncio.Event()
        self.started = asyncio.Event()
        self.calls = 0
        made = agent("gate")(self._answer)
        limits = Limits(slots=slots, queue=queue)
        profile = parse_profile(f"---\nname: gate\nlimits: {{slots: {slots}, queue: {queue}}}\n---\nWaits.", file="gate.md")
        assert profile.limits == limits
        self.agent = Agent(profile=profile, brain=made.brain)

    async def _answer(self, question: Question) -> str:
        self.calls += 1
        self.started.set()
        await self.open.wait()
        return question.text


@pytest.fixture
async def hub() -> MemoryHub:
    return MemoryHub()


@pytest.fixture
async def asker(hub: MemoryHub) -> AsyncGenerator[Asker]:
    async with asking(hub) as end:
        yield end


async def test_an_agent_is_announced_with_a_signed_card_and_takes_it_back(hub: MemoryHub) -> None:
    key, topics = new_key(), Topics()
    async with MemoryTransport(hub, client_id="watcher") as watcher:
        everything = Filter(topic_filter=topics.capability()), Filter(topic_filter=topics.vitals())
        async with watcher.subscribe(*everything) as inbox:
            async with hosting(hub, echo, key=key):
                card, vitals = [(await anext(inbox)).publication for _ in range(2)]
            taken, gone = [(await anext(inbox)).publication for _ in range(2)]
    vcv = decode_card(card.payload)
    assert (vcv.agent_id, vcv.version, vcv.skills, vcv.p) == ("echo", 1, ("echo",), {"gdpr"})
    assert vcv.public_key == public_key(key)
    assert vcv.description == "Repeats what it is asked."
    assert card.topic == "foa/capabilities/updates/echo"
    assert decode_vitals(vitals.payload).online
    assert not vitals.retain
    assert (taken.topic, taken.payload) == (card.topic, b"")
    assert gone_agents(gone, topics) == ("echo",)


async def test_a_late_joiner_finds_the_card(hub: MemoryHub) -> None:
    cards = Filter(topic_filter="foa/capabilities/updates/+")
    async with hosting(hub, echo), MemoryTransport(hub, client_id="late") as late, late.subscribe(cards) as inbox:
        found = (await anext(inbox)).publication
    assert decode_card(found.payload, allow_unsigned=True).agent_id == "echo"


async def test_functions_answer_drafts_and_leave_tasks_whole(hub: MemoryHub, asker: Asker) -> None:
    async with hosting(hub, echo, shout):
        drafted = await asker.ask("echo", drafting("hello"))
        loud = await asker.ask("shout", drafting("hello"))
        proposed = await asker.ask("shout", propose("One task, left whole"))
    assert isinstance(drafted.body, Drafted)
    assert drafted.body.draft.answer == "you said hello"
    assert drafted.spend.usd == 0.001
    assert isinstance(loud.body, Drafted)
    assert loud.body.draft.answer == "HELLO"
    assert isinstance(proposed.body, Proposed)
    assert [part.text for part in proposed.body.proposal.subtasks] == ["One task, left whole"]


async def test_a_repeated_request_gets_the_stored_reply_and_no_second_call(hub: MemoryHub, asker: Asker) -> None:
    gate = Gate()
    gate.open.set()
    async with hosting(hub, gate.agent) as host:
        first = await asker.ask("gate", drafting("x"), key="k1")
        again = await asker.ask("gate", drafting("x"), key="k1")
        other = await asker.ask("gate", drafting("x"), key="k2")
    assert first == again == other
    assert gate.calls == 2
    assert host.counts["repeated"] == 1


async def test_a_request_that_comes_while_the_first_is_worked_on_waits_for_it(hub: MemoryHub, asker: Asker) -> None:
    gate = Gate()
    async with hosting(hub, gate.agent):
        await asker.send("gate", drafting("x"), key="k1", correlation=b"first")
        await gate.started.wait()
        await asker.send("gate", drafting("x"), key="k1", correlation=b"second")
        gate.open.set()
        replies = dict([await asker.reply(), await asker.reply()])
    assert set(replies) == {b"first", b"second"}
    assert replies[b"first"] == replies[b"second"]
    assert gate.calls == 1


async def test_replies_outlive_the_host(hub: MemoryHub, asker: Asker) -> None:
    gate, replies = Gate(), MemoryReplies(HandClock())
    gate.open.set()
    for _ in range(2):
        async with hosting(hub, gate.agent, replies=replies):
            await asker.ask("gate", drafting("x"), key="k1")
    assert gate.calls == 1


async def test_beyond_slots_and_queue_requests_are_refused_and_not_remembered(hub: MemoryHub, asker: Asker) -> None:
    gate = Gate(slots=1, queue=1)
    async with hosting(hub, gate.agent):
        for number in range(3):
            await asker.send("gate", drafting("x"), key=f"k{number}", correlation=str(number).encode())
        correlation, refused = await asker.reply()
        assert correlation == b"2"
        assert isinstance(refused.body, Refused)
        assert refused.body.kind == "load"
        gate.open.set()
        await asker.reply()
        await asker.reply()
        again = await asker.ask("gate", drafting("x"), key="k2")
    assert isinstance(again.body, Drafted)


async def test_stop_cancels_the_work_of_a_job(hub: MemoryHub, asker: Asker) -> None:
    gate = Gate()
    async with hosting(hub, gate.agent) as host:
        await asker.send("gate", drafting("x"), key="k1")
        await gate.started.wait()
        await asker.send("gate", Stop(job="job-1"))
        gate.open.set()
        reply = await asker.ask("gate", drafting("y", job="job-2"), key="k2")
    assert isinstance(reply.body, Drafted)
    assert reply.body.draft.answer == "y"
    assert host.counts["stopped"] == 1


async def test_a_task_whose_labels_the_agent_lacks_is_refused_and_the_auditors_hear(hub: MemoryHub, asker: Asker) -> None:
    async with (
        MemoryTransport(hub, client_id="auditor") as auditor,
        auditor.subscribe(Filter(topic_filter=Topics().enforcement())) as inbox,
        hosting(hub, echo),
    ):
        allowed = await asker.ask("echo", drafting("x", task=Task(text="x", policies=("gdpr",))), key="1")
        refused = await asker.ask("echo", drafting("x", task=Task(text="x", policies=("gdpr", "hipaa"))), key="2")
        event = msgspec.json.decode((await anext(inbox)).publication.payload)
    assert isinstance(allowed.body, Drafted)
    assert refused.body == Refused(kind="policy", reason="not cleared for hipaa")
    assert (event["decision"], event["agent"], event["job"]) == ("deny", "echo", "job-1")


async def test_bytes_that_are_no_request_are_refused(hub: MemoryHub, asker: Asker) -> None:
    async with hosting(hub, echo):
        for payload in (b"", b"{}", b"\xff" * 40, b'{"do":"draft","v":2}'):
            reply = await asker.ask("echo", payload)
            assert isinstance(reply.body, Refused)
            assert reply.body.kind == "bad_request"


async def test_a_request_without_a_way_back_is_dropped_and_the_agent_goes_on(hub: MemoryHub, asker: Asker) -> None:
    async with hosting(hub, echo) as host:
        await asker.send("echo", drafting("x"), key="k1", topic="")
        reply = await asker.ask("echo", drafting("y"), key="k2")
    assert isinstance(reply.body, Drafted)
    assert host.counts["unsent"] == 1


async def test_a_function_that_raises_is_a_refusal_that_says_so(hub: MemoryHub, asker: Asker) -> None:
    @agent
    async def broken(question: Question) -> str:
        """Divides by zero."""
        return str(1 / 0)

    async with hosting(hub, broken):
        reply = await asker.ask("broken", drafting("x"))
    assert isinstance(reply.body, Refused)
    assert reply.body.reason == "the function raised ZeroDivisionError: division by zero"


async def test_what_costs_more_than_the_request_may_spend_is_refused(hub: MemoryHub, asker: Asker) -> None:
    poor = Budget(usd=0.0001, tokens=10, calls=1, seconds=5.0)
    async with hosting(hub, echo):
        reply = await asker.ask("echo", drafting("x", budget=poor))
    assert isinstance(reply.body, Refused)
    assert reply.body.kind == "budget"


async def test_a_request_out_of_time_is_refused_and_may_be_asked_again(hub: MemoryHub, asker: Asker) -> None:
    gate = Gate()
    async with hosting(hub, gate.agent):
        short = Budget(usd=1.0, tokens=10, calls=1, seconds=0.02)
        late = await asker.ask("gate", drafting("x", budget=short), key="k1")
        gate.open.set()
        again = await asker.ask("gate", drafting("x"), key="k1")
    assert isinstance(late.body, Refused)
    assert late.body.kind == "budget"
    assert isinstance(again.body, Drafted)


async def test_a_model_call_that_the_deadline_cut_off_is_in_the_bill_of_the_refusal(hub: MemoryHub, asker: Asker) -> None:
    model, clock = CannedModel("too late"), HandClock()
    model.gate = asyncio.Event()
    profile = parse_profile("---\nname: slow\n---\nYou know fruit.", file="slow.md")
    async with hosting(hub, Agent(profile=profile, brain=LmBrain(profile, model, clock=clock)), clock=clock):
        short = Budget(usd=1.0, tokens=10_000, calls=3, seconds=0.2)
        reply = await asker.ask("slow", drafting("How are red apples grown?", budget=short))
    assert isinstance(reply.body, Refused)
    assert reply.body.kind == "budget"
    assert reply.spend.calls == 1
    assert 0 < reply.spend.tokens_in < 10_000
    assert reply.spend.tokens_out == 0  # nobody knows what it had written by then


async def test_an_agent_answers_only_the_kinds_it_names(hub: MemoryHub, asker: Asker) -> None:
    profile = parse_profile("---\nname: drafter\nkinds: [draft]\n---\nDrafts.", file="drafter.md")
    clock = HandClock()
    drafter = Agent(profile=profile, brain=LmBrain(profile, CannedModel("fine"), clock=clock))
    async with hosting(hub, drafter, clock=clock):
        refused = await asker.ask("drafter", propose("a task"))
        drafted = await asker.ask("drafter", drafting("a question"))
    assert isinstance(refused.body, Refused)
    assert refused.body.kind == "bad_request"
    assert isinstance(drafted.body, Drafted)
    assert drafted.spend.tokens_in == 100


async def test_vitals_tell_the_load_when_it_changes(hub: MemoryHub, asker: Asker) -> None:
    gate, clock = Gate(slots=2), HandClock()
    async with (
        MemoryTransport(hub, client_id="watcher") as watcher,
        watcher.subscribe(Filter(topic_filter=Topics().vitals())) as inbox,
        hosting(hub, gate.agent, clock=clock),
    ):
        assert decode_vitals((await anext(inbox)).publication.payload).load == 0.0
        await asker.send("gate", drafting("x"), key="k1")
        await gate.started.wait()
        await clock.move(1.0)
        assert decode_vitals((await anext(inbox)).publication.payload).load == 0.5
        gate.open.set()


async def test_the_version_grows_when_the_profile_changed_since_the_last_run(tmp_path) -> None:
    path = tmp_path / "state" / "versions.json"
    one = AgentId("a")
    assert await Versions(path).next({one: "x"}) == {one: 1}
    assert await Versions(path).next({one: "x"}) == {one: 1}
    assert await Versions(path).next({one: "y", AgentId("b"): "x"}) == {one: 2, AgentId("b"): 1}
    assert await Versions(path).next({one: "x"}) == {one: 3}


async def test_processes_that_keep_versions_in_one_file_at_once_lose_none(tmp_path) -> None:
    path = tmp_path / "versions.json"
    async with asyncio.TaskGroup() as group:
        for i in range(40):
            group.create_task(Versions(path).next({AgentId(f"a{i % 20}"): f"{i}"}), name=f"process {i}")
    # twenty agents, each counted twice, with two contents
    assert await Versions(path).next({AgentId(f"a{i}"): "other" for i in range(20)}) == {f"a{i}": 3 for i in range(20)}


async def test_versions_that_cannot_be_kept_or_read_are_a_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match="cannot keep the agents' versions"):
        await Versions(tmp_path / "file" / "versions.json").next({AgentId("a"): "x"})
    with pytest.raises(StoreFailed, match="mend or remove it"):
        await Versions(tmp_path / "file").next({AgentId("a"): "x"})


async def test_two_agents_of_one_name_are_refused(hub: MemoryHub) -> None:
    with pytest.raises(BadInput, match="two agents are called 'echo'"):
        async with hosting(hub, echo, echo):
            pass


def test_the_will_of_a_host_names_its_agents() -> None:
    topics = Topics()
    many = [AgentId(f"agent-{number}") for number in range(1_000)]
    assert gone_agents(last_will(topics, "a7", [AgentId("a7")]), topics) == ("a7",)
    assert gone_agents(last_will(topics, "h1", many[:3]), topics) == tuple(many[:3])
    assert len(gone_agents(last_will(topics, "h1", many), topics)) > 100


async def test_an_error_in_the_block_of_a_host_keeps_its_type_and_the_agents_leave(hub: MemoryHub) -> None:
    cards = Filter(topic_filter=Topics().capability())
    async with MemoryTransport(hub, client_id="watcher") as watcher, watcher.subscribe(cards) as inbox:
        with pytest.raises(BadInput, match="a fault of the user's"):
            async with hosting(hub, echo):
                raise BadInput("a fault of the user's")
        assert [len((await anext(inbox)).publication.payload) > 0 for _ in range(2)] == [True, False]


async def test_a_lost_broker_ends_a_host_with_its_own_error(hub: MemoryHub) -> None:
    clock = HandClock()
    async with MemoryTransport(hub, client_id="h") as transport:
        host = AgentHost(
            transport, [echo], embedder=WordEmbedder(), replies=MemoryReplies(clock), clock=clock, drain_seconds=0.05
        )
        with pytest.raises(BrokerUnreachable):
            async with host.serve(), MemoryTransport(hub, client_id="h"):
                await asyncio.Event().wait()
