"""Registries that are kept alike, and what they refuse of each other."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.fakes import HandClock
from tests.unit.test_card import HashEmbedder

from foa.errors import BadMessage, BrokerUnreachable
from foa.index.exact import ExactIndex
from foa.registry.admission import Departed, RegistryLimits
from foa.registry.card import build_vcv, encode_card
from foa.registry.gossip import Gossip, GossipRules
from foa.registry.gossiping import AGAIN_SECONDS, WAITING, gossip
from foa.registry.keys import SigningKey, new_key, public_key
from foa.registry.ledger import Comparisons, Stamp, mark_of
from foa.registry.registry import Registry
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId, OrchestratorId
from foa.values.topics import Topics

AGENT_KEY = new_key()


class Member:
    """One orchestrator: a registry and its end of the gossip."""

    def __init__(self, name: str, key: SigningKey, peers: dict[str, str], clock: HandClock, **more: int) -> None:
        self.id = OrchestratorId(name)
        limits = RegistryLimits(**({"updates_burst": 10_000, "check_text": False, "search_vectors": 0} | more))  # type: ignore[arg-type]
        self.registry = Registry(ExactIndex(256), HashEmbedder(), clock=clock, limits=limits)
        self.gossip = Gossip(self.registry, me=self.id, key=key, peers=peers, clock=clock, rules=GossipRules())

    def state(self) -> dict[str, object]:
        return {agent: self.registry.card(agent) for agent in self.registry.agents()}


class Circle:
    """Some members that hear each other over wires that can be cut."""

    def __init__(self, names: str = "xyz", **limits: int) -> None:
        self.clock = HandClock()
        self.keys = {name: new_key() for name in names}
        peers = {name: public_key(key) for name, key in self.keys.items()}
        self.members = {name: Member(name, key, peers, self.clock, **limits) for name, key in self.keys.items()}
        self.cut: set[str] = set()
        self.bytes = 0
        self.said: list[bytes] = []

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    async def say(self, speaker: str, messages: Sequence[bytes]) -> None:
        """Deliver messages, and the answers they bring, until nobody has anything to say."""
        waiting = [(speaker, message) for message in messages]
        while waiting:
            who, message = waiting.pop(0)
            self.bytes += len(message)
            self.said.append(message)
            for name, member in self.members.items():
                if name != who and not {name, who} & self.cut:
                    waiting += [(name, answer) for answer in await member.gossip.hear(message)]

    async def turn(self) -> None:
        """One period: everybody tells its digest."""
        await self.clock.move(30)
        for name, member in self.members.items():
            if name not in self.cut:
                await self.say(name, [member.gossip.digest()])

    def alike(self) -> bool:
        states = [member.state() for member in self.members.values()]
        ledgers = [member.gossip.ledger.digest(16) for member in self.members.values()]
        return all(state == states[0] for state in states) and all(ledger == ledgers[0] for ledger in ledgers)


async def card(name: str, version: int = 1, *, issued_at: float = 0.0, key: SigningKey = AGENT_KEY) -> bytes:
    text, embedder = f"{name} {version}", HashEmbedder()
    vcv = await build_vcv(
        agent_id=name, version=version, name=name, description=text, embedder=embedder, issued_at=issued_at
    )
    return encode_card(vcv, key)


async def test_a_change_is_pushed_to_everybody():
    circle = Circle()
    await circle["x"].registry.admit(await card("a"))
    await circle.say("x", circle["x"].gossip.push())
    assert circle.alike()
    assert len(circle["z"].registry) == 1
    assert circle["y"].gossip.push() == []  # what was heard is not pushed on


async def test_digests_alone_make_everybody_alike():
    circle = Circle()
    for i, name in enumerate("abcdefgh" * 5):
        await circle.members["xyz"[i % 3]].registry.admit(await card(f"{name}{i}"))
    await circle.turn()
    await circle.turn()
    assert len(circle["x"].registry) == 40
    assert circle.alike()
    before = circle.bytes
    await circle.turn()
    assert circle.bytes - before < 3 * 600  # three digests and nothing else


async def test_the_highest_version_wins_everywhere():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a", 3))
    await circle["y"].registry.admit(await card("a", 7))
    await circle.turn()
    assert circle.alike()
    entry = circle["x"].registry.roster.entry(AgentId("a"))
    assert entry is not None
    assert entry.version == 7


async def test_who_left_stays_gone_and_may_come_back():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    await circle.turn()
    await circle["x"].registry.leave(AgentId("a"))
    await circle.turn()
    assert len(circle["y"].registry) == 0
    assert circle.alike()
    await circle["y"].registry.admit(await card("a", issued_at=5.0))
    await circle.turn()
    assert len(circle["x"].registry) == 1
    assert circle.alike()


async def test_a_member_that_was_cut_off_for_an_hour_converges():
    circle = Circle()
    for i in range(10):
        await circle["x"].registry.admit(await card(f"a{i}"))
    await circle.turn()
    circle.cut = {"z"}
    for hour in range(12):
        await circle["x"].registry.admit(await card(f"a{hour % 10}", 2 + hour))
        await circle["x"].registry.leave(AgentId(f"a{(hour + 5) % 10}"))
        await circle["z"].registry.admit(await card(f"z{hour}"))
        await circle.clock.move(300)
        await circle.turn()
    circle.cut = set()
    await circle.turn()
    await circle.turn()
    assert circle.alike()
    assert "z11" in circle["x"].state()


async def test_ten_changes_among_many_cost_little_more_than_their_cards():
    circle = Circle("xy")
    agents = [f"agent-{i}" for i in range(1_000)]
    cards = [await card(agent) for agent in agents]
    for member in circle.members.values():
        await member.registry.admit_many([(None, one) for one in cards])
        member.gossip.push()
    changed = [await card(agent, 2) for agent in agents[::100]]
    await circle["x"].registry.admit_many([(None, one) for one in changed])
    circle.bytes = 0
    await circle.turn()
    assert circle.alike()
    spoken = sum(len(one) for one in changed)
    assert circle.bytes < 2.0 * spoken  # these cards have no text to speak of; benchmarks/gossip.py has real ones


async def test_only_known_orchestrators_are_heard():
    circle = Circle("xy")
    stranger = Member("s", new_key(), {}, circle.clock)
    with pytest.raises(BadMessage, match="not one of the orchestrators"):
        await circle["x"].gossip.hear(stranger.gossip.digest())
    liar = Member("y", new_key(), {}, circle.clock)
    with pytest.raises(BadMessage, match="signature"):
        await circle["x"].gossip.hear(liar.gossip.digest())


async def test_a_changed_message_is_refused():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    [message] = circle["x"].gossip.push()
    document = json.loads(message)
    document["gossip"]["tombstones"] = {"b": [9, 9, ""]}
    with pytest.raises(BadMessage, match="signature"):
        await circle["y"].gossip.hear(json.dumps(document).encode())


async def test_a_replayed_message_is_refused():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    [message] = circle["x"].gossip.push()
    await circle["y"].gossip.hear(message)
    with pytest.raises(BadMessage, match="heard before"):
        await circle["y"].gossip.hear(message)


async def test_an_old_message_is_refused_by_a_member_that_never_heard_it():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    [message] = circle["x"].gossip.push()
    await circle.clock.move(601)
    with pytest.raises(BadMessage, match="dated 601 s ago"):
        await circle["y"].gossip.hear(message)


async def test_a_card_that_an_orchestrator_forged_is_refused_and_not_asked_for_again():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    await circle.turn()
    forged = json.loads(await card("a", 9, key=new_key()))
    circle["y"].registry.card = lambda agent: json.dumps(forged).encode()  # type: ignore[method-assign]
    circle["y"].gossip.ledger.put(AgentId("a"), Stamp(9, 0.0, mark=mark_of(json.dumps(forged).encode())))
    await circle.turn()
    entry = circle["x"].registry.roster.entry(AgentId("a"))
    assert entry is not None
    assert entry.version == 1
    said: list[int] = []
    for _ in range(16):
        circle.said.clear()
        await circle.turn()
        assert not [message for message in circle.said if b'"do":"ask"' in message]
        said.append(sum(b'"do":"digest"' not in message for message in circle.said))
    # each side answers a digest that it has seen 1, 2, 4, 8 … times; the other's cards are then sent in vain
    assert sum(said[8:]) <= 4
    assert sum(1 for messages in said[4:] if not messages) >= 10


async def test_a_tombstone_for_another_owners_agent_is_passed_over():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a", 2))
    thief = circle["y"].registry
    await thief.admit(await card("a", 3, key=new_key()))
    await thief.leave(AgentId("a"))
    await circle.turn()
    assert AgentId("a") in circle["x"].registry


async def test_agents_of_a_key_that_one_member_quarantines_did_not_leave_the_others():
    circle = Circle("xy")
    for name in ("a", "b"):
        await circle["x"].registry.admit(await card(name))
    await circle.turn()
    for lie in ("one", "two", "three"):  # strikes, of one version and moment
        vcv = await build_vcv(agent_id="a", version=1, name=lie, description=lie, embedder=HashEmbedder(), issued_at=0.0)
        [refusal] = await circle["y"].registry.admit_many([(None, encode_card(vcv, AGENT_KEY))])
        assert "two contents" in str(refusal)
    assert len(circle["y"].registry) == 0
    await circle.say("y", circle["y"].gossip.push())
    await circle.turn()
    assert sorted(circle["x"].registry.agents()) == ["a", "b"]
    await circle.clock.move(3_601)  # the quarantine is over
    for _ in range(4):
        await circle.turn()
    assert circle.alike()


async def test_a_tombstone_from_the_future_is_passed_over():
    circle = Circle("xy")
    key = public_key(AGENT_KEY)
    left = Departed(version=9, issued_at=circle.clock.now() + 1e6, key=key)
    await circle["y"].registry.leave_elsewhere(AgentId("a"), left)
    await circle["x"].registry.admit(await card("a"))
    await circle.turn()
    assert AgentId("a") in circle["x"].registry


@pytest.mark.parametrize("payload", [b"", b"{}", b"x" * 2_000_000, b'{"gossip":{},"jws":""}', b'{"gossip":' + b"[" * 9_000])
async def test_what_is_no_gossip_is_refused(payload: bytes):
    with pytest.raises(BadMessage):
        await Circle("xy")["x"].gossip.hear(payload)


async def test_over_a_broker_a_late_joiner_and_a_change_arrive():
    circle, hub = Circle("xy"), MemoryHub()
    for i in range(5):
        await circle["x"].registry.admit(await card(f"a{i}"))
    async with (
        asyncio.timeout(10),
        MemoryTransport(hub, client_id="x") as left,
        MemoryTransport(hub, client_id="y") as right,
        asyncio.TaskGroup() as group,
    ):
        tasks: list[asyncio.Task[None]] = []
        for name, transport in (("x", left), ("y", right)):
            ready, member = asyncio.Event(), circle[name]
            run = gossip(member.gossip, transport, me=member.id, topics=Topics(), clock=circle.clock, ready=ready)
            tasks.append(group.create_task(run, name=name))
            await ready.wait()
        while len(circle["y"].registry) < 5:
            await circle.clock.move(31)
            await asyncio.sleep(0)
        await circle["y"].registry.admit(await card("new"))
        while AgentId("new") not in circle["x"].registry:
            await circle.clock.move(1)
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
    assert circle.alike()


@asynccontextmanager
async def gossiping(circle: Circle, **homes: MemoryHub) -> AsyncGenerator[dict[str, bool]]:
    """Each member at its own broker; the second also at the first's, unless that is said to be down."""
    down = {"down": False}
    names = list(homes)

    @asynccontextmanager
    async def first() -> AsyncGenerator[MemoryTransport]:
        if down["down"]:
            raise BrokerUnreachable("nobody there")
        async with MemoryTransport(homes[names[0]], client_id=f"{names[1]}.gossip") as transport:
            yield transport

    async with asyncio.timeout(20), AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks: list[asyncio.Task[None]] = []
        for name, hub in homes.items():
            transport = await stack.enter_async_context(MemoryTransport(hub, client_id=name))
            others = [first] if name != names[0] else []
            run = gossip(circle[name].gossip, transport, *others, me=circle[name].id, topics=Topics(), clock=circle.clock)
            tasks.append(group.create_task(run, name=name))
        yield down
        for task in tasks:
            task.cancel()


async def passing(circle: Circle, seconds: float, done: Callable[[], bool]) -> None:
    """Let time pass in steps until something is so."""
    while not done():
        await circle.clock.move(seconds)
        for _ in range(20):
            await asyncio.sleep(0)


async def test_a_member_whose_link_to_the_other_broker_was_down_for_an_hour_converges():
    circle = Circle("xy")
    async with gossiping(circle, x=MemoryHub(), y=MemoryHub()) as link:
        await circle["x"].registry.admit_many([(AgentId(f"a{i}"), await card(f"a{i}")) for i in range(10)])
        await passing(circle, 1, lambda: len(circle["y"].registry) == 10)
        assert {circle["y"].registry.origin(agent) for agent in circle["y"].registry.agents()} == {"x"}
        link["down"] = True
    async with gossiping(circle, x=MemoryHub(), y=MemoryHub()) as link:
        link["down"] = True
        for step in range(12):
            await circle["x"].registry.admit(await card(f"a{step % 10}", 2 + step))
            await circle["y"].registry.admit(await card(f"y{step}"))
            await circle["x"].registry.leave(AgentId(f"a{(step + 5) % 10}"))
            await passing(circle, 300, iter([False, True]).__next__)
        assert not circle.alike()
        link["down"] = False
        await passing(circle, AGAIN_SECONDS, circle.alike)
    assert "y11" in circle["x"].state()


async def test_what_waits_for_a_broker_that_is_down_is_bounded():
    circle = Circle("xy")
    async with gossiping(circle, x=MemoryHub(), y=MemoryHub()) as link:
        link["down"] = True
        for step in range(WAITING + 10):
            await circle["y"].registry.admit(await card(f"y{step}"))
            await passing(circle, 1, iter([False, True]).__next__)
        link["down"] = False
        await passing(circle, AGAIN_SECONDS, circle.alike)
    assert len(circle["x"].registry) == WAITING + 10


def test_a_difference_that_brought_nothing_is_looked_at_less_and_less_often():
    seen = Comparisons()
    looked = [period for period in range(1, 200) if seen.news("x", [1, 2], [1, 3])]
    assert looked == [1, 2, 4, 8, 16, 32, 64, 128, 192]
    assert seen.news("x", [1, 2], [1, 4]) == [1]  # it is another difference
    assert seen.news("y", [1, 2], [1, 4]) == [1]  # with somebody else
    assert seen.news("x", [1, 2], [1, 2]) == []
    assert seen.news("x", [1, 2], [1, 4]) == [1]  # they were alike in between
    seen.put_off("x", 2, [1])
    assert [len(seen.news("x", [1, 2], [1, 4])) for _ in range(3)] == [1, 1, 0]


async def test_a_card_that_is_refused_for_now_is_asked_for_again():
    circle = Circle("xy")
    slow = Member("y", circle.keys["y"], {"x": public_key(circle.keys["x"])}, circle.clock, updates_burst=1)
    circle.members["y"] = slow
    for member in circle.members.values():
        await member.registry.admit(await card("a"))
    for version in (2, 3):
        await circle["x"].registry.admit(await card("a", version))
        await circle.say("x", circle["x"].gossip.push())
    assert "updates too often" in circle["y"].registry.refusals[AgentId("a")]
    for _ in range(4):  # a period has 30 s: its key may update again
        await circle.turn()
    assert circle.alike()


@pytest.mark.parametrize("agents", [200, 600])
async def test_a_late_joiner_is_whole_at_once_however_little_a_message_holds(agents: int):
    circle = Circle("xy")
    for member in circle.members.values():
        member.gossip.rules = GossipRules(entries=10)
    await circle["x"].registry.admit_many([(None, await card(f"agent-{i}")) for i in range(agents)])
    circle["x"].gossip.push()
    await circle.say("y", [circle["y"].gossip.digest()])  # it knows nobody: 16 buckets, of 12 or 37 agents each
    assert circle.alike()
    assert all(len(message) < 1_000_000 for message in circle.said)


async def test_entries_and_wishes_of_the_longest_names_fit_into_a_message():
    circle = Circle("xy")
    ledger = circle["x"].gossip.ledger
    for i in range(9_000):
        ledger.put(AgentId(f"{i:064}"), Stamp(2**53 - 1, 1_700_000_000.123456))
    [entries] = await circle["x"].gossip.hear(circle["y"].gossip.digest())
    answers = await circle["y"].gossip.hear(entries)
    assert max(map(len, [entries, *answers])) < 1_000_000


async def test_a_peer_that_always_has_more_is_not_asked_for_ever():
    circle = Circle("xy")
    member = circle["x"].gossip
    member.rules = GossipRules(entries=1)
    for i in range(50):  # it says that it knows them, and gives nobody
        member.ledger.put(AgentId(f"ghost-{i}"), Stamp(1, 1.0))
    await circle.turn()
    assert len(circle.said) < 20
