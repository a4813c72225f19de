"""What an orchestrator whose signature is trusted may not do to the others, and what nobody else may do at all."""

import json

import pytest
from tests.unit.registry.test_gossip import AGENT_KEY, Circle, Member, card
from tests.unit.test_card import HashEmbedder

from foa.errors import BadMessage
from foa.registry.admission import Departed
from foa.registry.canonical import canonical
from foa.registry.card import build_vcv, encode_card
from foa.registry.gossip import TYPE
from foa.registry.keys import SigningKey, new_key, public_key, sign
from foa.values.ids import AgentId

A, B = AgentId("a"), AgentId("b")
LAST = 2**53 - 1


class Liar:
    """An orchestrator that the others hear, and that says what it likes."""

    def __init__(self, circle: Circle, name: str = "y") -> None:
        self.circle, self.name, self.seq = circle, name, 10**15  # above those of the member whose key it has

    def says(self, do: str, **fields: object) -> bytes:
        now = self.circle.clock.now()
        self.seq += 1
        body = {"v": 1, "do": do, "sender": self.name, "seq": self.seq, "at": now, **fields}
        return canonical({"gossip": body, "jws": sign(body, self.circle.keys[self.name], typ=TYPE)})

    async def tells(self, name: str, do: str, **fields: object) -> list[bytes]:
        return list(await self.circle[name].gossip.hear(self.says(do, **fields)))


def tombstone(*, version: int = LAST, issued_at: float = 1_000_000.0, key: SigningKey = AGENT_KEY) -> list[object]:
    return [version, issued_at, public_key(key)]


async def worded(words: str, *, version: int = 1, issued_at: float = 0.0, key: SigningKey = AGENT_KEY) -> bytes:
    """A card of the agent a with its own words."""
    vcv = await build_vcv(
        agent_id="a", version=version, name="a", description=words, embedder=HashEmbedder(), issued_at=issued_at
    )
    return encode_card(vcv, key)


async def test_nobody_says_that_an_agent_of_the_own_broker_left():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    await Liar(circle).tells("x", "delta", tombstones={"a": tombstone()})
    assert A in circle["x"].registry
    for _ in range(3):  # the liar holds the tombstone, and what differs for good ends no loop
        await circle.turn()
    assert A in circle["x"].registry


async def test_what_was_said_before_an_agent_came_to_the_own_broker_does_not_keep_it_out():
    circle = Circle("xy")
    liar = Liar(circle)
    await liar.tells("x", "delta", tombstones={"a": tombstone(), "b": tombstone(key=new_key())})
    await circle["x"].registry.admit(await card("a"))
    await circle["x"].registry.admit(await card("b"))
    assert sorted(circle["x"].registry.agents()) == ["a", "b"]
    await liar.tells("x", "delta", tombstones={"a": tombstone(), "b": tombstone()})
    assert sorted(circle["x"].registry.agents()) == ["a", "b"]


async def test_an_agent_of_the_own_broker_comes_back_whatever_a_peer_says_of_its_leaving():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    await circle["x"].registry.leave(A)
    await Liar(circle).tells("x", "delta", tombstones={"a": tombstone()})
    await circle["x"].registry.admit(await card("a", issued_at=1.0))
    assert A in circle["x"].registry


async def test_a_name_that_a_peer_told_of_under_another_key_is_free_on_the_own_broker():
    circle = Circle("xy")
    await Liar(circle).tells("x", "delta", cards=[json.loads(await card("a", 9, key=new_key()))])
    assert circle["x"].registry.origin(A) == "y"
    await circle["x"].registry.admit(await card("a"))
    assert circle["x"].registry.origin(A) == ""
    entry = circle["x"].registry.roster.entry(A)
    assert entry is not None
    assert entry.key == public_key(AGENT_KEY)


async def test_an_agent_elsewhere_does_not_leave_because_the_own_broker_has_no_card_of_it():
    circle = Circle("xy")
    await circle["y"].registry.admit(await card("a"))
    await circle.turn()
    assert not await circle["x"].registry.leave(A)  # somebody emptied a topic on x's broker
    await circle.turn()
    assert A in circle["x"].registry
    assert A in circle["y"].registry


async def test_a_forged_card_does_not_keep_the_true_ones_out():
    circle = Circle("xyz")
    await circle["x"].registry.admit(await card("a"))
    await circle.turn()
    forged = json.loads(await card("a", LAST, issued_at=1e6))
    forged["vcv"]["description"] = "forged"
    await Liar(circle).tells("z", "delta", cards=[forged])
    await circle["x"].registry.admit(await card("a", 2))
    await circle.turn()
    entry = circle["z"].registry.roster.entry(A)
    assert entry is not None
    assert entry.version == 2


async def test_entries_of_a_peer_that_tells_no_marks_differ_in_nothing_else():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a", issued_at=1.0))
    buckets = list(range(16))
    entries = {"a": [1, 1.0, False]}
    assert await Liar(circle).tells("x", "entries", buckets=16, chosen=buckets, entries=entries) == []
    [answer] = await Liar(circle, "y").tells("x", "entries", buckets=16, chosen=buckets, entries={}, seq=10**15 + 9)
    assert b'"do":"delta"' in answer


@pytest.mark.parametrize("later", [0.0, 5.0])
async def test_two_contents_of_one_version_at_two_brokers_end_as_the_same_one(later: float):
    circle = Circle("xyz")
    await circle["x"].registry.admit(await worded("this", issued_at=1.0))
    await circle["y"].registry.admit(await worded("that", issued_at=1.0 + later))
    for _ in range(3):
        await circle.turn()
    assert circle.alike()
    if later:
        assert circle["x"].registry.card(A) == await worded("that", issued_at=6.0)
    assert circle["x"].registry.refusals == {}  # and it is no false claim of whoever signed both
    before = circle.bytes
    await circle.turn()
    assert circle.bytes - before < 3 * 600  # three digests and nothing else


async def test_a_wish_for_one_agent_a_thousand_times_is_answered_once():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    [answer] = await Liar(circle).tells("x", "ask", asked=["a"] * 20_000)
    assert len(json.loads(answer)["gossip"]["cards"]) == 1


async def test_the_answer_to_a_wish_for_everything_is_made_message_by_message():
    circle = Circle("xy")
    cards = [await card(f"agent-{i}") for i in range(900)]
    await circle["x"].registry.admit_many([(None, one) for one in cards])
    answers = iter(await circle["x"].gossip.hear(Liar(circle).says("ask", asked=[f"agent-{i}" for i in range(900)])))
    first = next(answers)
    assert len(first) < 1_000_000
    await circle["x"].registry.admit(await card("agent-899", 2))  # it is in a later message
    last = list(answers)[-1]
    assert b'"version":2' in last


async def test_forged_tombstones_of_many_names_are_held_in_bounded_memory_and_forget_no_own_leaver():
    circle = Circle("xy", remembered=100)
    registry, liar = circle["x"].registry, Liar(circle)
    await registry.admit(await card("a"))
    await registry.leave(A)
    for start in range(0, 10_000, 5_000):
        names = [f"forged-{i}" for i in range(start, start + 5_000)]
        await liar.tells("x", "delta", tombstones={name: tombstone(key=new_key()) for name in names[:1]})
        await liar.tells("x", "delta", tombstones={name: [1, 1.0, "nobody"] for name in names})
    assert len(circle["x"].gossip.ledger) <= 101
    await liar.tells("x", "delta", cards=[json.loads(await card("a"))])
    assert A not in registry


async def test_forged_cards_of_many_names_leave_nothing_behind():
    circle = Circle("xy")
    forged, liar = json.loads(await card("a")), Liar(circle)
    for start in range(0, 1_000, 250):
        cards = [forged | {"vcv": forged["vcv"] | {"agent_id": f"forged-{i}"}} for i in range(start, start + 250)]
        await liar.tells("x", "delta", cards=cards)
    assert len(circle["x"].registry) == 0
    assert len(circle["x"].gossip.ledger) == 0
    assert circle["x"].gossip.push() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"tombstones": {"a": [0, 1.0, ""]}},
        {"tombstones": {"a": [2**53, 1.0, ""]}},
        {"tombstones": {"a": [1, -1.0, ""]}},
        {"tombstones": {"a": [1, 1e12, ""]}},
        {"tombstones": {"a": [1, 1.0, "k" * 65]}},
        {"tombstones": {"a/b": [1, 1.0, ""]}},
        {"tombstones": {"a": [1, 1.0]}},
        {"cards": {}},
        {"to": "a b"},
        {"entries": {"a": [1, 1.0, True]}, "marks": "!"},
        {"entries": {"a": [1, 1.0, True]}, "marks": "AAAA"},
    ],
)
async def test_a_signed_message_out_of_its_bounds_is_refused(fields: dict[str, object]):
    do = "entries" if "entries" in fields else "delta"
    with pytest.raises(BadMessage):
        await Liar(Circle("xy")).tells("x", do, **fields)


@pytest.mark.parametrize("given", [None, 3, "x", [], {}, {"vcv": None}, {"vcv": {"agent_id": "a"}}, {"vcv": [[[[[]]]]]}])
async def test_what_is_no_card_in_a_delta_is_passed_over_and_the_rest_taken(given: object):
    circle = Circle("xy")
    await Liar(circle).tells("x", "delta", cards=[given, json.loads(await card("a"))])
    assert list(circle["x"].registry.agents()) == ["a"]


@pytest.mark.parametrize(
    ("buckets", "digest"), [(3, "AAAAAAAAAAAAAAAA"), (16, ""), (16, "AAAA"), (1, "AAAAAAAA"), (8_192, "A" * 40_000)]
)
async def test_a_digest_of_another_length_than_it_says_is_refused(buckets: int, digest: str):
    with pytest.raises(BadMessage):
        await Liar(Circle("xy")).tells("x", "digest", buckets=buckets, digest=digest)


async def test_a_truncated_message_is_refused_wherever_it_is_cut():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    [message] = circle["x"].gossip.push()
    for end in range(0, len(message), 7):
        with pytest.raises(BadMessage):
            await circle["y"].gossip.hear(message[:end])
    await circle["y"].gossip.hear(message)
    assert A in circle["y"].registry


async def test_deltas_that_arrive_in_another_order_end_in_the_newest():
    circle = Circle("xy")
    said: list[bytes] = []
    for version in (1, 2, 3):
        await circle["x"].registry.admit(await card("a", version))
        said += circle["x"].gossip.push()
    await circle["x"].registry.leave(A)
    said += circle["x"].gossip.push()
    for message in reversed(said):
        await circle["y"].gossip.hear(message)
    assert A not in circle["y"].registry
    await circle["x"].registry.admit(await card("a", 4))
    for message in circle["x"].gossip.push():
        await circle["y"].gossip.hear(message)
    assert circle.alike()


async def test_an_agent_with_the_same_name_and_another_key_at_two_brokers_is_each_brokers_own():
    circle = Circle("xy")
    mine, theirs = await card("a"), await card("a", 5, key=new_key())
    await circle["x"].registry.admit(mine)
    await circle["y"].registry.admit(theirs)
    for _ in range(10):
        await circle.turn()
    assert (circle["x"].registry.card(A), circle["y"].registry.card(A)) == (mine, theirs)
    circle.said.clear()
    for _ in range(8):
        await circle.turn()
    assert sum(b'"do":"digest"' not in message for message in circle.said) <= 6  # less and less is said about it


async def test_a_card_nested_as_deep_as_a_card_may_be_is_told_to_others():
    circle = Circle("xy")
    body = json.loads(await card("a"))["vcv"] | {"later": [[[[[[[]]]]]]]}
    await circle["x"].registry.admit(canonical({"vcv": body, "jws": sign(body, AGENT_KEY, typ="foa-vcv")}))
    await circle.say("x", circle["x"].gossip.push())
    assert circle.alike()
    assert A in circle["y"].registry


async def test_a_member_whose_clock_is_off_is_not_heard_and_hears_nobody_until_it_is_set():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    fast = Member("y", circle.keys["y"], {"x": public_key(circle.keys["x"])}, type(circle.clock)(1_000_000.0 + 700))
    with pytest.raises(BadMessage, match="is its clock right"):
        await circle["x"].gossip.hear(fast.gossip.digest())
    with pytest.raises(BadMessage, match="is its clock right"):
        await fast.gossip.hear(circle["x"].gossip.digest())


async def test_tombstones_are_kept_by_the_peer_that_told_of_them_and_bring_nobody_back():
    circle = Circle()
    await circle["x"].registry.admit(await card("a"))
    await circle.turn()
    circle.cut = {"z"}
    await circle["x"].registry.leave(A)
    await circle.turn()
    circle.cut = {"x"}  # who heard it leave is away; z still holds the card
    for _ in range(2):
        await circle.turn()
    assert A not in circle["y"].registry
    assert A not in circle["z"].registry
    assert circle["z"].registry.departed(A) == Departed(version=1, issued_at=0.0, key=public_key(AGENT_KEY))


async def test_brokers_in_a_row_and_in_a_ring_end_alike_and_fall_silent():
    for links in ({"xy", "yz"}, {"xy", "yz", "zx"}):
        circle = Circle()
        for step, name in enumerate("xyzxyz"):
            await circle[name].registry.admit(await card(f"{name}{step}", issued_at=float(step)))
        await circle["x"].registry.leave(AgentId("x0"))
        for _ in range(4):
            await around(circle, links)
        assert circle.alike()
        assert AgentId("x0") not in circle["z"].registry
        before = circle.bytes
        await around(circle, links)
        assert circle.bytes - before <= 2 * len(links) * 400  # digests and nothing else


async def around(circle: Circle, links: set[str]) -> None:
    """One period, in which only neighbours hear each other."""
    await circle.clock.move(30)
    for link in sorted(links):
        others = set(circle.members) - set(link)
        for name in link:
            circle.cut = others
            await circle.say(name, [circle[name].gossip.digest()])
    circle.cut = set()
