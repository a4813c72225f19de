"""A session on a link that the test holds: windows, order, redelivery."""

import pytest

from foa.broker.message import Message
from foa.broker.reason import Reason
from foa.broker.session import Budget, Session
from foa.broker.shared import Group
from foa.broker.topics import read_subscription


class Recorder:
    """A link that writes down what it is given."""

    def __init__(self, *, room: int = 10_000, largest: int = 1_000_000) -> None:
        self.room = room
        self.largest = largest
        self.packets: list[bytes] = []
        self.published: list[tuple[bytes, int, int]] = []  #: payload, packet id, DUP
        self.closed: Reason | None = None

    def send(self, packet: bytes) -> None:
        self.packets.append(packet)

    def publish(self, message: Message, flags: int, identifiers: bytes, packet_id: int) -> bool:
        if len(message.payload) > self.largest:
            return False
        self.published.append((message.payload, packet_id, flags & 8))
        self.room -= len(message.payload)
        return True

    def close(self, reason: Reason, text: str = "") -> None:
        self.closed = reason


def message(payload: bytes, *, qos: int = 1, expires_at: float | None = None) -> Message:
    """A publication."""
    return Message(b"a", payload, b"", qos, False, expires_at)


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def session(now: list[float]) -> Session:
    """A session with small bounds, not connected."""
    made = Session("c", None, 1, Budget(total=10_000, each=3_000, inflight=2_000), lambda: now[0])
    made.expiry_seconds = 60
    return made


def test_the_window_holds_back_and_lets_go_in_order(session: Session) -> None:
    link = Recorder()
    session.attach(link, 2)
    for payload in (b"1", b"2", b"3", b"4"):
        assert session.deliver(message(payload), 1, False, b"")
    assert link.published == [(b"1", 1, 0), (b"2", 2, 0)]
    session.acknowledged(2)
    session.acknowledged(1)
    assert link.published[2:] == [(b"3", 3, 0), (b"4", 4, 0)]


def test_a_full_link_holds_back_until_it_has_room(session: Session) -> None:
    link = Recorder(room=1)
    session.attach(link, 100)
    for payload in (b"1", b"2", b"3"):
        session.deliver(message(payload), 1, False, b"")
    assert len(link.published) == 1
    link.room = 100
    session.pump()
    assert [payload for payload, _, _ in link.published] == [b"1", b"2", b"3"]


def test_bytes_in_flight_are_bounded_whatever_window_the_client_names(session: Session) -> None:
    """2 000 bytes: the third of 900 + 257 waits."""
    link = Recorder()
    session.attach(link, 65_535)
    for _ in range(3):
        session.deliver(message(b"x" * 900), 1, False, b"")
    assert len(link.published) == 2
    session.acknowledged(1)
    assert len(link.published) == 3


def test_a_queue_takes_what_fits_and_gives_its_bytes_back(session: Session) -> None:
    """3 000 bytes hold two of 1 000 + 257."""
    assert [session.deliver(message(b"x" * 1_000), 1, False, b"") for _ in range(3)] == [True, True, False]
    link = Recorder()
    session.attach(link, 10)
    session.pump()
    assert session.queue_bytes == 0
    assert len(link.published) == 2


def test_what_was_sent_is_sent_again_first_with_its_number(session: Session) -> None:
    session.attach(Recorder(), 2)
    for payload in (b"1", b"2", b"3"):
        session.deliver(message(payload), 1, False, b"")
    session.detach()
    again = Recorder()
    session.attach(again, 10)
    session.pump()
    assert again.published == [(b"1", 1, 8), (b"2", 2, 8), (b"3", 3, 0)]


def test_an_acknowledgement_before_the_second_sending_ends_it(session: Session) -> None:
    session.attach(Recorder(), 2)
    session.deliver(message(b"1"), 1, False, b"")
    session.detach()
    again = Recorder()
    session.attach(again, 2)
    session.acknowledged(1)
    session.pump()
    assert again.published == []
    assert session.window == 2


def test_an_unknown_acknowledgement_does_not_widen_the_window(session: Session) -> None:
    session.attach(Recorder(), 2)
    session.acknowledged(77)
    assert session.window == 2


def test_what_expired_in_the_queue_is_not_sent(session: Session, now: list[float]) -> None:
    session.deliver(message(b"short", expires_at=5.0), 1, False, b"")
    session.deliver(message(b"long", expires_at=50.0), 1, False, b"")
    now[0] = 6.0
    link = Recorder()
    session.attach(link, 10)
    session.pump()
    assert [payload for payload, _, _ in link.published] == [b"long"]


def test_what_is_too_large_for_the_client_is_done_with(session: Session) -> None:
    link = Recorder(largest=10)
    session.attach(link, 1)
    session.deliver(message(b"x" * 11), 1, False, b"")
    session.deliver(message(b"fits"), 1, False, b"")
    assert [payload for payload, _, _ in link.published] == [b"fits"]


def test_live_qos_0_messages_do_not_overtake_retained_ones_that_wait(session: Session) -> None:
    """Of one topic the older would win."""
    link = Recorder(room=1)
    session.attach(link, 10)
    session.deliver(message(b"r1", qos=0), 0, True, b"", patient=True)
    session.deliver(message(b"r2", qos=0), 0, True, b"", patient=True)
    session.deliver(message(b"live", qos=0), 0, False, b"")
    link.room = 100
    session.pump()
    assert [payload for payload, _, _ in link.published] == [b"r1", b"r2", b"live"]


def test_packet_identifiers_skip_those_in_use(session: Session) -> None:
    link = Recorder(room=10_000_000)
    session.attach(link, 65_535)
    session.deliver(message(b"held"), 1, False, b"")
    for _ in range(65_535):
        session.deliver(message(b"x"), 1, False, b"")
        session.acknowledged(link.published[-1][1])
    identifiers = [packet_id for _, packet_id, _ in link.published]
    assert identifiers.count(1) == 1
    assert max(identifiers) == 65_535


def test_shared_messages_are_taken_out_and_the_rest_stays(session: Session) -> None:
    """QoS 2 that was sent belongs to its receiver [MQTT-4.8.2-4]."""
    group = Group("$share/x/a", "a")
    group.members[session] = read_subscription("$share/x/a", 2, 0)
    session.attach(Recorder(), 2)
    session.deliver(message(b"sent 1"), 1, False, b"", group)
    session.deliver(message(b"sent 2", qos=2), 2, False, b"", group)
    session.deliver(message(b"queued own"), 1, False, b"")
    session.deliver(message(b"queued 2", qos=2), 2, False, b"", group)
    session.detach()
    assert [entry.message.payload for entry in session.take_shared()] == [b"sent 1", b"queued 2"]
    assert [entry.message.payload for entry in session.inflight.values()] == [b"sent 2"]
    assert [entry.message.payload for entry in session.queue] == [b"queued own"]
