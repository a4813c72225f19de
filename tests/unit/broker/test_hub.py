"""The hub with a clock that the test moves: expiry, wills, and a restart."""

from collections.abc import Callable
from pathlib import Path

from tests.unit.broker.test_session import Recorder

from foa.broker.config import BrokerLimits
from foa.broker.hub import RESTART_GRACE_SECONDS, Hub
from foa.broker.message import Message
from foa.broker.packets import Connect, Will
from foa.broker.reason import Reason
from foa.broker.store import Store
from foa.broker.topics import read_subscription


class Alarm:
    """One call in the future."""

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Time:
    """A clock, and what it will call."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.alarms: list[Alarm] = []

    def later(self, seconds: float, call: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(self.now + seconds, call))
        return self.alarms[-1]

    def go(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        self.now += seconds
        for alarm in sorted(self.alarms, key=lambda alarm: alarm.at):
            if alarm.at <= self.now and not alarm.cancelled:
                alarm.cancelled = True
                alarm.call()


def hub_of(time: Time, store: Store | None = None) -> Hub:
    return Hub(limits=BrokerLimits(), acl=None, store=store, clock=lambda: time.now, later=time.later)


def connect(client_id: str, *, expiry: int = 0, clean: bool = False, will: Will | None = None) -> Connect:
    return Connect(
        client_id=client_id,
        clean_start=clean,
        keep_alive_seconds=0,
        session_expiry_seconds=expiry,
        receive_maximum=100,
        maximum_packet_bytes=10_000,
        topic_alias_maximum=0,
        problem_information=True,
        user=None,
        password=None,
        will=will,
    )


def a_will(delay: int = 0) -> Will:
    return Will(
        topic=b"will", payload=b"gone", qos=1, retain=False, properties=b"", expiry_seconds=None, delay_seconds=delay
    )


def watcher_of(hub: Hub) -> Recorder:
    """A link that hears every will."""
    link = Recorder()
    session, _ = hub.enter(connect("watch", expiry=1_000), None, link)
    hub.subscribe(session, read_subscription("will", 1, 0))
    return link


def heard(link: Recorder) -> int:
    return len(link.published)


def test_a_session_is_gone_when_its_expiry_has_passed() -> None:
    time = Time()
    hub = hub_of(time)
    link = Recorder()
    session, _ = hub.enter(connect("c", expiry=60), None, link)
    hub.leave(session, link, with_will=True)
    time.go(59)
    assert "c" in hub.sessions
    time.go(1)
    assert "c" not in hub.sessions


def test_coming_back_stops_the_clock() -> None:
    time = Time()
    hub = hub_of(time)
    link = Recorder()
    session, _ = hub.enter(connect("c", expiry=60), None, link)
    hub.leave(session, link, with_will=True)
    time.go(30)
    _, present = hub.enter(connect("c", expiry=60), None, Recorder())
    assert present
    time.go(3_600)
    assert "c" in hub.sessions


def test_an_expiry_of_all_ones_never_passes() -> None:
    """3.1.2.11.2"""
    time = Time()
    hub = hub_of(time)
    link = Recorder()
    session, _ = hub.enter(connect("c", expiry=0xFFFFFFFF), None, link)
    hub.leave(session, link, with_will=True)
    time.go(1e12)
    assert "c" in hub.sessions


def test_a_will_comes_at_its_delay_or_at_the_end_of_the_session_whichever_is_first() -> None:
    """3.1.3.2.2"""
    for delay, expiry, due in ((10, 60, 10), (60, 10, 10)):
        time = Time()
        hub = hub_of(time)
        watcher = watcher_of(hub)
        link = Recorder()
        session, _ = hub.enter(connect("c", expiry=expiry, will=a_will(delay)), None, link)
        hub.leave(session, link, with_will=True)
        time.go(due - 1)
        assert heard(watcher) == 0
        time.go(1)
        assert heard(watcher) == 1
        time.go(1_000)
        assert heard(watcher) == 1


def test_a_will_is_sent_once_however_the_client_ends() -> None:
    """[MQTT-3.1.2-8]"""
    time = Time()
    hub = hub_of(time)
    watcher = watcher_of(hub)
    link = Recorder()
    session, _ = hub.enter(connect("c", expiry=5, will=a_will()), None, link)
    hub.leave(session, link, with_will=True)
    hub.leave(session, link, with_will=True)
    time.go(100)
    assert heard(watcher) == 1


def test_a_takeover_closes_the_old_link_with_its_reason() -> None:
    hub = hub_of(Time())
    old = Recorder()
    hub.enter(connect("c", expiry=60), None, old)
    hub.enter(connect("c", expiry=60), None, Recorder())
    assert old.closed is Reason.SESSION_TAKEN_OVER


def test_after_a_restart_wills_wait_for_their_owners_to_come_back(tmp_path: Path) -> None:
    """3.1.2.5: a server may defer wills until its restart; a delay of 0 becomes the grace."""
    time = Time()
    store = Store(tmp_path, clock=lambda: time.now, wall=lambda: time.now)
    hub = hub_of(time, store)
    watching = Recorder()
    watcher, _ = hub.enter(connect("watch", expiry=1_000), None, watching)
    hub.subscribe(watcher, read_subscription("will", 1, 0))
    for name in ("back", "lost"):
        hub.enter(connect(name, expiry=1_000, will=a_will()), None, Recorder())
    store.close()
    time.alarms.clear()

    store = Store(tmp_path, clock=lambda: time.now, wall=lambda: time.now)
    hub = hub_of(time, store)
    hub.restore()
    watching = Recorder()
    _, present = hub.enter(connect("watch", expiry=1_000), None, watching)
    assert present
    hub.enter(connect("back", expiry=1_000), None, Recorder())
    time.go(RESTART_GRACE_SECONDS - 1)
    assert heard(watching) == 0
    time.go(1)
    assert [payload for payload, _, _ in watching.published] == [b"gone"]
    store.close()


def test_one_message_to_many_durable_sessions_is_stored_once(tmp_path: Path) -> None:
    time = Time()
    store = Store(tmp_path, clock=lambda: time.now, wall=lambda: time.now)
    hub = hub_of(time, store)
    for number in range(5):
        link = Recorder()
        session, _ = hub.enter(connect(f"c{number}", expiry=60), None, link)
        hub.subscribe(session, read_subscription("a", 1, 0))
        hub.leave(session, link, with_will=True)
    message = Message(b"a", b"x", b"", 1, False, None)
    assert hub.publish(message, hub.router.route(b"a"), None) is Reason.SUCCESS
    store.commit()
    entries = list(store.outgoing())
    assert len(entries) == 5
    assert len({id(entry.outgoing.message) for entry in entries}) == 1
    assert message.references == 5
    store.close()


def test_expired_retained_messages_are_forgotten() -> None:
    time = Time()
    hub = hub_of(time)
    hub.retain("a", Message(b"a", b"x", b"", 0, True, time.now + 5))
    hub.retain("b", Message(b"b", b"x", b"", 0, True, None))
    time.now += 6
    hub.forget_expired()
    assert hub.retained.count == 1
    assert hub.retained.get("a") is None
