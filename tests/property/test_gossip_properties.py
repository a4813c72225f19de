"""However messages travel, registries end alike: last writer wins, in any order, any number of times."""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import HandClock

from foa.errors import BadMessage
from foa.index.exact import ExactIndex
from foa.registry.admission import RegistryLimits
from foa.registry.card import build_vcv, encode_card
from foa.registry.gossip import Gossip
from foa.registry.keys import new_key, public_key
from foa.registry.ledger import FINE, Ledger, Stamp
from foa.registry.registry import Registry
from foa.values.ids import AgentId, OrchestratorId
from foa.values.vcv import Matrix

KEYS = {name: new_key() for name in "xyz"}
PEERS = {name: public_key(key) for name, key in KEYS.items()}
AGENT_KEY = new_key()

agents = st.sampled_from("abcdef")
stamps = st.builds(Stamp, st.integers(1, 5), st.sampled_from([0.0, 1.0, 2.0]), st.booleans(), st.integers(0, 2))


class OneVector:
    """Every text is alike."""

    id = "one:1"
    dimension = 4

    async def embed(self, texts: Sequence[str]) -> Matrix:
        return np.tile(np.array([1, 0, 0, 0], np.float32), (len(texts), 1))


_cards: dict[tuple[str, int, float, str], bytes] = {}


async def card(agent: str, version: int, issued_at: float, words: str) -> bytes:
    known = (agent, version, issued_at, words)
    if known not in _cards:
        vcv = await build_vcv(
            agent_id=agent, version=version, name=agent, description=words, embedder=OneVector(), issued_at=issued_at
        )
        _cards[known] = encode_card(vcv, AGENT_KEY)
    return _cards[known]


def member(name: str, clock: HandClock) -> Gossip:
    limits = RegistryLimits(updates_burst=10_000, search_vectors=0)
    registry = Registry(ExactIndex(4), OneVector(), clock=clock, limits=limits)
    return Gossip(registry, me=OrchestratorId(name), key=KEYS[name], peers=PEERS, clock=clock)


def state(gossip: Gossip) -> dict[str, bytes | None]:
    registry = gossip.registry
    return {agent: registry.card(agent) for agent in registry.agents()}


#: what happens to an agent, each a second later: where its card is published, with which version and words; or it leaves
events = st.lists(
    st.tuples(st.sampled_from("xy"), agents, st.integers(1, 4), st.sampled_from(["this", "that"]), st.booleans()),
    max_size=12,
)


Happened = list[tuple[str, str, int, str, bool]]


async def happen(members: dict[str, Gossip], happened: Happened) -> list[bytes]:
    """Let it happen; gives what the members push.

    An agent is at one broker at a time: it leaves one for the other. Its version never goes back.
    """
    said: list[bytes] = []
    versions: dict[str, int] = {}
    for second, (name, agent, version, words, leaves) in enumerate(happened):
        versions[agent] = max(version, versions.get(agent, 1))
        for other in members.values() if leaves else [m for n, m in members.items() if n != name]:
            await other.registry.leave(AgentId(agent))
            said += other.push()
        if not leaves:
            await members[name].registry.admit_many([(None, await card(agent, versions[agent], float(second), words))])
            said += members[name].push()
    return said


async def talk(members: dict[str, Gossip], speaker: str) -> None:
    """One member tells its digest, and everybody answers until nobody has anything to say."""
    waiting = [(speaker, members[speaker].digest())]
    while waiting:
        who, message = waiting.pop(0)
        for other, listener in members.items():
            if other != who:
                waiting += [(other, answer) for answer in await listener.hear(message)]


async def scenario(happened: Happened, order: list[int], repeats: int) -> None:
    clock = HandClock()
    members = {name: member(name, clock) for name in "xyz"}
    said = await happen(members, happened)
    for message in [said[i] for i in order if i < len(said)] * repeats:
        for gossip in members.values():
            with contextlib.suppress(BadMessage):  # the second time it was heard before
                await gossip.hear(message)
    for _ in range(3):
        for name in members:
            await talk(members, name)
    assert state(members["x"]) == state(members["y"]) == state(members["z"])


@settings(max_examples=50, deadline=None)
@given(events, st.permutations(range(24)), st.integers(0, 2))
def test_deltas_in_any_order_lost_or_repeated_end_in_one_state(happened: Happened, order: list[int], repeats: int):
    asyncio.run(scenario(happened, order, repeats))


@given(st.lists(st.tuples(agents, stamps)), st.randoms())
def test_a_digest_depends_on_what_is_known_and_not_on_the_order(known: list[tuple[str, Stamp]], dice: random.Random):
    last = {AgentId(agent): stamp for agent, stamp in known}
    one, other = Ledger(), Ledger()
    for agent, stamp in known:
        one.put(AgentId(agent), stamp)
    shuffled = list(last.items())
    dice.shuffle(shuffled)
    for agent, stamp in shuffled:
        other.put(agent, stamp)
    for buckets in (16, 1_024, FINE):
        assert one.digest(buckets) == other.digest(buckets)
    assert one.members(16, range(16)) == sorted(last)


@given(st.dictionaries(agents, stamps, min_size=1), stamps)
def test_a_digest_shows_every_difference(known: dict[str, Stamp], changed: Stamp):
    one, other = Ledger(), Ledger()
    for agent, stamp in known.items():
        one.put(AgentId(agent), stamp)
        other.put(AgentId(agent), stamp)
    agent = AgentId(next(iter(known)))
    one.put(agent, changed)
    assert (one.digest(16) != other.digest(16)) == (changed != known[agent])


@given(stamps, stamps, stamps)
def test_stamps_are_totally_ordered(a: Stamp, b: Stamp, c: Stamp):
    assert max(a, max(b, c)) == max(max(a, b), c) == max(c, b, a)
