"""A hub that lives long keeps nothing that is over."""

from foa.transport.hub import MemoryHub
from foa.transport.inbox import Packet
from foa.values.publication import Filter, Publication


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Deaf:
    """A link that takes what comes."""

    def arrive(self, publication: Publication, packet: Packet | None) -> None: ...

    def taken_over(self) -> None: ...


def test_a_session_that_expired_is_forgotten_with_its_subscriptions_and_queue():
    watch = Watch()
    hub = MemoryHub(monotonic=watch)
    session, _ = hub.connect("client-1", Deaf(), will=None, receive_maximum=1)
    hub.subscribe(session, Filter(topic_filter="a"))
    hub.disconnect(session, clean=True, session_expiry_interval=60)
    hub.publish(Publication(topic="a", payload=b"1"))
    assert len(session.queue) == 1
    for number in range(5_000):
        watch.seconds += 1.0
        again, _ = hub.connect(f"client-{number}", Deaf(), will=None, receive_maximum=1)
        hub.disconnect(again, clean=True, session_expiry_interval=10)
    assert hub.kept[0] <= 1_025
    hub.publish(Publication(topic="a", payload=b"2"))
    assert len(session.queue) == 0


def test_a_retained_message_that_expired_is_dropped_though_nobody_asks_for_it():
    watch = Watch()
    hub = MemoryHub(monotonic=watch)
    for number in range(5_000):
        watch.seconds = float(number)
        result = Publication(topic=f"result/{number}", payload=b"x", retain=True, message_expiry_interval=10)
        hub.publish(result)
    assert hub.kept[1] <= 1_024
