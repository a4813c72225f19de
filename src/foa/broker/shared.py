"""Shared subscriptions (MQTT v5, 4.8.2): each message goes to one member of a group."""

from foa.broker.codec import encode_length
from foa.broker.message import Message
from foa.broker.session import Outgoing, Session
from foa.broker.topics import Subscription


def encode_identifier(identifier: int) -> bytes:
    """A subscription identifier as a property; nothing for 0."""
    return b"\x0b" + encode_length(identifier) if identifier else b""


class Group:
    """The sessions that share one filter under one name, in turn.

    A member that could be sent the message at once is preferred, then one that is connected, then one that is away.
    """

    __slots__ = ("filter", "members", "topic_filter", "turn")

    def __init__(self, filter_: str, topic_filter: str) -> None:
        self.filter = filter_  #: with `$share/name/`
        self.topic_filter = topic_filter
        self.members: dict[Session, Subscription] = {}
        self.turn = 0

    def dispatch(self, message: Message, qos: int, *, leaving: Session | None = None) -> bool:
        """Give a message to the member whose turn it is.

        Args:
            message: what to deliver.
            qos: as published; the member's granted QoS may lower it.
            leaving: a member that is not to get it.

        Returns:
            Whether one took it.
        """
        ranked = self._in_turn(message.topic.decode(), leaving)
        for member in ranked:
            subscription = self.members[member]
            granted = min(qos, subscription.qos)
            retain = message.retain and subscription.retain_as_published
            if member.deliver(message, granted, retain, encode_identifier(subscription.identifier), self):
                return True
        return False

    def _in_turn(self, topic: str, leaving: Session | None) -> list[Session]:
        members = list(self.members)
        count = len(members)
        away: list[Session] = []
        busy: list[Session] = []
        for step in range(count):
            index = (self.turn + step) % count
            member = members[index]
            if member is leaving or not (member.readable is None or member.readable(topic)):
                continue
            if member.ready:
                self.turn = (index + 1) % count
                return [member, *busy, *away]
            (away if member.link is None else busy).append(member)
        self.turn = (self.turn + 1) % max(1, count)
        return busy + away

    def pass_on(self, outgoing: Outgoing, leaving: Session) -> bool:
        """Give a lost member's message to another one."""
        return self.dispatch(outgoing.message, outgoing.message.qos, leaving=leaving)

    @property
    def online(self) -> bool:
        """Whether some member is connected."""
        return any(member.link is not None for member in self.members)

    def adopt(self, member: Session) -> None:
        """A member has come: what members that are away hold is given out again."""
        for other in list(self.members):
            if other is member or other.link is not None:
                continue
            for outgoing in list(other.take_shared(self)):
                self.pass_on(outgoing, leaving=other)
