"""The broker's pure parts under Hypothesis: codec, topics, router, retained store, ACL, packets of any bytes."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from foa.broker import packets, properties
from foa.broker.acl import READ, Permissions, Rule
from foa.broker.codec import LONGEST, Cursor, decode_length, encode_length, encode_string
from foa.broker.message import Message
from foa.broker.properties import KINDS, Kind, Property, encode_properties, read_message, read_properties
from foa.broker.reason import PacketError
from foa.broker.retained import Retained
from foa.broker.router import Router
from foa.broker.session import Budget, Session
from foa.broker.topics import covers, matches, options_of, overlap, read_subscription, valid_filter

LEVEL = st.sampled_from(["a", "b", "", "$x", "é"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTER = st.one_of(
    st.lists(st.one_of(LEVEL, st.just("+")), min_size=1, max_size=4).map("/".join).filter(bool),
    st.lists(st.one_of(LEVEL, st.just("+")), max_size=3).map(lambda levels: "/".join([*levels, "#"])),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def slow_match(wanted: list[str], levels: list[str]) -> bool:
    """Matching by recursion, straight from 4.7.1."""
    if wanted == ["#"]:
        return True
    if not wanted or not levels:
        return not wanted and not levels
    return wanted[0] in ("+", levels[0]) and slow_match(wanted[1:], levels[1:]) if levels else False


def naive(topic_filter: str, topic: str) -> bool:
    """The yardstick for every matcher here."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    return slow_match(wanted, levels) or (wanted[-1] == "#" and slow_match(wanted[:-1], levels))


@given(st.integers(0, LONGEST))
def test_a_length_comes_back(value: int) -> None:
    encoded = encode_length(value)
    assert decode_length(encoded, 0, len(encoded)) == (value, len(encoded))
    assert decode_length(encoded[:-1], 0, len(encoded) - 1) is None


@given(TEXT)
def test_a_string_comes_back(text: str) -> None:
    encoded = encode_string(text)
    assert Cursor(encoded, 0, len(encoded)).string() == text


VALUES = {
    Kind.FLAG: st.integers(0, 1),
    Kind.TWO: st.integers(1, 0xFFFF),
    Kind.FOUR: st.integers(1, 0xFFFFFFFF),
    Kind.LENGTH: st.integers(1, LONGEST),
    Kind.STRING: TEXT,
    Kind.BINARY: st.binary(max_size=30),
    Kind.PAIR: st.tuples(TEXT, TEXT),
}
ANY_PROPERTIES = st.fixed_dictionaries({}, optional={key: VALUES[KINDS[key]] for key in Property})


@given(ANY_PROPERTIES)
def test_properties_come_back(found: dict[Property, properties.Value]) -> None:
    encoded = encode_properties(found)
    read = read_properties(Cursor(encoded, 0, len(encoded)), frozenset(Property))
    assert read == {key: value for key, value in found.items() if key is not Property.USER_PROPERTY}


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), st.integers(1, 0xFFFFFFFF), st.integers(1, 0xFFFF))
def test_user_properties_are_forwarded_in_order_and_the_hops_own_are_cut_out(
    pairs: list[tuple[str, str]], expiry: int, alias: int
) -> None:
    user = [properties.encode_property(Property.USER_PROPERTY, pair) for pair in pairs]
    own = [
        properties.encode_property(Property.MESSAGE_EXPIRY_INTERVAL, expiry),
        properties.encode_property(Property.TOPIC_ALIAS, alias),
    ]
    raw = b"".join([*user[:2], own[0], *user[2:], own[1]])
    found = read_message(raw, 0, len(raw))
    assert (found.forward, found.expiry_seconds, found.topic_alias) == (b"".join(user), expiry, alias)


READERS = [
    packets.read_connect,
    packets.read_subscribe,
    packets.read_unsubscribe,
    packets.read_disconnect,
    packets.read_acknowledgement,
    properties.read_message,
]


@given(st.sampled_from(READERS), st.binary(max_size=80))
def test_any_bytes_parse_or_are_refused(reader: object, raw: bytes) -> None:
    """Nothing but PacketError comes out of hostile bytes."""
    assert callable(reader)
    with contextlib.suppress(PacketError):
        reader(raw, 0, len(raw))


CONNECT_START = encode_string("MQTT") + b"\x05"


@given(st.binary(max_size=80))
def test_any_connect_parses_or_is_refused(raw: bytes) -> None:
    with contextlib.suppress(PacketError):
        packets.read_connect(CONNECT_START + raw, 0, len(CONNECT_START + raw))


@given(FILTER, TOPIC)
def test_matching_agrees_with_the_naive_matcher(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic) == naive(topic_filter, topic)


@given(st.text("a/+#", max_size=8))
def test_a_filter_is_valid_exactly_if_wildcards_stand_alone_and_hash_last(text: str) -> None:
    levels = text.split("/")
    alone = all(level in ("+", "#") or not set(level) & set("+#") for level in levels)
    assert valid_filter(text) == (bool(text) and alone and "#" not in levels[:-1])


def session_of(name: str) -> Session:
    return Session(name, None, 1, Budget(total=1, each=1, inflight=1), lambda: 0.0)


@given(st.lists(st.tuples(st.integers(0, 2), FILTER, st.booleans()), max_size=12), TOPIC)
def test_the_router_finds_exactly_the_sessions_whose_filters_match(steps: list[tuple[int, str, bool]], topic: str) -> None:
    """Subscribing and unsubscribing in any order, asked after every step, so that its cache is tested too."""
    router = Router(cache=100)
    sessions = [session_of(str(number)) for number in range(3)]
    for number, topic_filter, add in steps:
        if add:
            router.subscribe(sessions[number], read_subscription(topic_filter, 1, 0))
        else:
            router.unsubscribe(sessions[number], topic_filter)
        found = {target.session for target in router.route(topic.encode()).targets}
        wanted = {session for session in sessions if any(naive(item, topic) for item in session.subscriptions)}
        assert found == wanted
    assert router.count == sum(len(session.subscriptions) for session in sessions)
    for session in sessions:
        for topic_filter in list(session.subscriptions):
            assert router.unsubscribe(session, topic_filter)
    assert router._root.empty  # pyright: ignore[reportPrivateUsage]


@given(st.lists(st.tuples(TOPIC, st.binary(max_size=2)), max_size=12), FILTER)
def test_the_retained_store_is_a_dictionary_that_is_asked_by_filter(
    steps: list[tuple[str, bytes]], topic_filter: str
) -> None:
    kept: dict[str, bytes] = {}
    retained = Retained(limit=1_000_000)
    for topic, payload in steps:
        assert retained.set(topic, Message(topic.encode(), payload, b"", 0, True, None))
        kept[topic] = payload
        if not payload:
            del kept[topic]
    found = {message.topic.decode(): message.payload for message in retained.match(topic_filter)}
    assert found == {topic: payload for topic, payload in kept.items() if naive(topic_filter, topic)}
    assert retained.count == len(kept)


@given(FILTER, FILTER, TOPIC)
def test_overlap_and_covers_never_forget_a_topic(one: str, other: str, topic: str) -> None:
    """If both match some topic they overlap; what a covered filter matches, its cover matches (but for `$`)."""
    if matches(one, topic) and matches(other, topic):
        assert overlap(one, other)
    if covers(one, other) and matches(other, topic) and not topic.startswith("$"):
        assert matches(one, topic)


@given(st.lists(st.tuples(st.integers(0, 3), FILTER), max_size=6), FILTER, TOPIC)
def test_a_refused_filter_could_have_brought_nothing(rules: list[tuple[int, str]], wanted: str, topic: str) -> None:
    permissions = Permissions(rules=[Rule(access=access, topic=item) for access, item in rules])
    if matches(wanted, topic) and permissions.allow(topic, READ) and not topic.startswith("$"):
        assert permissions.may_subscribe(wanted)


@given(st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2), st.integers(0, LONGEST))
def test_subscription_options_come_back(qos: int, no_local: bool, kept: bool, handling: int, identifier: int) -> None:
    options = qos | no_local << 2 | kept << 3 | handling << 4
    assert options_of(read_subscription("a", options, identifier)) == options


@given(TOPIC, st.binary(max_size=300), st.integers(0, 2), st.integers(0, 1), st.integers(0, 1_000))
def test_an_encoded_message_has_the_length_it_says(topic: str, payload: bytes, qos: int, retain: int, left: int) -> None:
    message = Message(topic.encode(), payload, b"\x26\0\1k\0\1v", qos, bool(retain), left or None)
    head, tail = message.encode(0x30 | qos << 1 | retain, b"\x0b\x05", 0.0)
    whole = head + (b"\0\1" if qos else b"") + tail
    decoded = decode_length(whole, 1, len(whole))
    assert decoded is not None
    length, start = decoded
    assert start + length == len(whole)
    assert whole.endswith(payload)
