"""Who may read and write which topics, in Mosquitto's ACL file.

    topic readwrite public/#          before the first `user`: for anonymous clients
    user alice
    topic read news/#                 read, write, readwrite (the default) or deny
    pattern write agents/%u/#         for everyone; %u is the username, %c the client id

What no line allows is forbidden; `deny` wins over every other line that applies to the client.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foa.broker.auth import lines_of
from foa.broker.topics import covers, matches, overlap, valid_filter
from foa.errors import BadInput

READ, WRITE = 1, 2
DENY = 0
ACCESS: Mapping[str, int] = {"read": READ, "write": WRITE, "readwrite": READ | WRITE, "deny": DENY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One `topic` or `pattern` line."""

    access: int  #: READ, WRITE, both, or DENY
    topic: str  #: topic filter; in a pattern with %u and %c


@dataclass(slots=True, kw_only=True)
class Permissions:
    """What one client may do."""

    rules: Sequence[Rule]
    _known: dict[tuple[str, int], bool] = field(default_factory=dict[tuple[str, int], bool])

    def allow(self, topic: str, access: int) -> bool:
        """Whether it may read or write a topic name."""
        key = (topic, access)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= 4_096:
                self._known.clear()
            known = self._known[key] = self._decide(lambda rule: matches(rule.topic, topic), access)
        return known

    def _decide(self, fits: Callable[[Rule], bool], access: int) -> bool:
        fitting = [rule for rule in self.rules if fits(rule)]
        return all(rule.access for rule in fitting) and any(rule.access & access for rule in fitting)

    def may_read(self, topic: str) -> bool:
        """Whether it may be sent a message of this topic name."""
        return self.allow(topic, READ)

    def may_subscribe(self, topic_filter: str) -> bool:
        """Whether a filter could bring it anything: each message is checked again when it comes."""
        if any(not rule.access and covers(rule.topic, topic_filter) for rule in self.rules):
            return False
        return any(rule.access & READ and overlap(rule.topic, topic_filter) for rule in self.rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControl:
    """An ACL file."""

    anonymous: Sequence[Rule]
    users: Mapping[str, Sequence[Rule]]
    patterns: Sequence[Rule]

    def of(self, user: str | None, client_id: str) -> Permissions:
        """What a client may do; `user` is None for an anonymous one."""
        own = self.anonymous if user is None else self.users.get(user, ())
        return Permissions(rules=[*own, *fill(self.patterns, user, client_id)])


def fill(patterns: Sequence[Rule], user: str | None, client_id: str) -> Iterator[Rule]:
    """Patterns with a client's names put in; a name with `+`, `#` or `/` fits none, or it could widen its own rights."""
    for rule in patterns:
        names = (("%u", user), ("%c", client_id))
        used = [name for mark, name in names if mark in rule.topic]
        if any(name is None or any(sign in name for sign in "+#/") for name in used):
            if not rule.access:
                yield Rule(access=DENY, topic=rule.topic.replace("%u", "+").replace("%c", "+"))
            continue
        yield Rule(access=rule.access, topic=rule.topic.replace("%u", user or "").replace("%c", client_id))


def read_acl(path: Path) -> AccessControl:
    """Read an ACL file.

    Raises:
        BadInput: it cannot be read, or a line is not one of the three; names the line.
    """
    anonymous: list[Rule] = []
    patterns: list[Rule] = []
    users: dict[str, list[Rule]] = {}
    current = anonymous
    for number, line in lines_of(path, "ACL"):
        word, _, rest = line.partition(" ")
        try:
            if word == "user":
                current = users.setdefault(read_name(rest), [])
            elif word == "topic":
                current.append(read_rule(rest))
            elif word == "pattern":
                patterns.append(read_rule(rest))
            else:
                raise ValueError(f"expected user, topic or pattern, not {word!r}")
        except ValueError as error:
            raise BadInput(f"{path}, line {number}: {error}") from error
    return AccessControl(anonymous=anonymous, users=users, patterns=patterns)


def read_name(text: str) -> str:
    """What stands behind `user`."""
    if not text.strip():
        raise ValueError("user without a name")
    return text.strip()


def read_rule(text: str) -> Rule:
    """What stands behind `topic` or `pattern`; without one of the access words it is readwrite."""
    word, _, rest = text.strip().partition(" ")
    access, topic = (ACCESS[word], rest.strip()) if word in ACCESS and rest.strip() else (READ | WRITE, text.strip())
    if not valid_filter(topic):
        raise ValueError(f"{topic!r} is not a topic filter")
    return Rule(access=access, topic=topic)
