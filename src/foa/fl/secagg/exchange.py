"""One round of secure aggregation over any Grid, from the server's side. Needs the extra `fl`.

The asks that would go out go out in four exchanges, and what comes back is one model and who is in it.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict

from foa.errors import BadMessage
from foa.fl.aggregate import Arrays
from foa.fl.contents import arrays_of, size_of
from foa.fl.secagg import wire
from foa.fl.secagg.assembly import Assembly, Revealed, Shared
from foa.fl.secagg.levels import Scale, from_levels
from foa.fl.secagg.masks import Levels
from foa.fl.secagg.member import Keys
from foa.fl.secagg.site import floats
from foa.fl.secagg.wire import SECAGG, Flat
from foa.fl.terms import RECORD

STAGE_SECONDS = 30.0  #: for each exchange but training, or the round's deadline where that is less

#: Carries messages, waits so many seconds, and gives what came.
Send = Callable[[Sequence[Message], float], Sequence[Message]]


T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Summed:
    """What came of a round."""

    model: Arrays | None = None  #: base and mean change; None: no sum could be unmasked
    members: tuple[int, ...] = ()  #: numbers of those who are in it
    replies: dict[int, Message] = field(default_factory=dict[int, Message])  #: of training, without updates; or why not
    faults: dict[int, str] = field(default_factory=dict[int, str])  #: who sent what is no part of the protocol
    why: str = ""  #: why there is no model
    bytes_out: int = 0
    bytes_in: dict[int, int] = field(default_factory=dict[int, int])  #: by node


def exchange(send: Send, asked: Sequence[Message], *, about: str, weight_max: int, seconds: float) -> Summed:
    """Let the asked train, and add their updates up without seeing any.

    Args:
        send: the Grid.
        asked: a message for each client, with model and ask.
        about: names run and round, as the asks do.
        weight_max: most that one client counts.
        seconds: for training.
    """
    found = Summed()
    try:
        _Round(send, {message.metadata.dst_node_id: message for message in asked}, found, seconds).run(about, weight_max)
    except BadMessage as error:
        found.why = str(error)
    return found


class _Round:
    """The four exchanges."""

    def __init__(self, send: Send, asked: Mapping[int, Message], found: Summed, seconds: float) -> None:
        self._send, self._asked, self._found, self._seconds = send, asked, found, seconds

    def run(self, about: str, weight_max: int) -> None:
        """All four, one after the other.

        Raises:
            BadMessage: no sum can be unmasked.
        """
        if not self._asked:
            raise BadMessage("nobody is to train in this round")
        base = arrays_of(next(iter(self._asked.values())))
        width = 1 + sum(base[name].size for name in floats(base))
        keys = self._keys()
        server = Assembly(keys, about)
        scale = Scale(members=len(keys), weight_max=weight_max)
        shared = self._shared(server, scale)
        there = server.add(self._masked(server.pass_on(shared), width))
        total = server.total(self._revealed(there))
        mean = from_levels(total, len(server.there), scale)
        self._found.model, self._found.members = _moved(base, mean), tuple(server.there)

    def _keys(self) -> dict[int, Keys]:
        came = self._exchange({node: {"stage": "setup"} for node in self._asked}, wire.read_keys)
        ring = list(came)
        secrets.SystemRandom().shuffle(ring)
        return {node: came[node] for node in ring}

    def _shared(self, server: Assembly, scale: Scale) -> dict[int, Shared]:
        introduced = server.introduce()
        going = {node: wire.write_share(keys, server.threshold, scale) for node, keys in introduced.items()}
        return self._exchange(going, wire.read_shared)

    def _masked(self, sealed: Mapping[int, Mapping[int, bytes]], width: int) -> dict[int, Levels]:
        going = {node: wire.write_train(entry) for node, entry in sealed.items()}
        return self._exchange(going, lambda values: wire.read_masked(values, width), train=True)

    def _revealed(self, there: Mapping[int, tuple[list[int], list[int]]]) -> dict[int, Revealed]:
        return self._exchange({node: wire.write_reveal(*named) for node, named in there.items()}, wire.read_revealed)

    def _exchange(self, going: Mapping[int, Flat], read: Callable[[wire.Values], T], *, train: bool = False) -> dict[int, T]:
        """Send one stage and read what came; whoever sent something else has dropped out, and it is on record why."""
        messages = [self._message(node, values, train=train) for node, values in going.items()]
        self._found.bytes_out += sum(map(size_of, messages))
        found = dict[int, T]()
        for reply in self._send(messages, self._seconds if train else min(STAGE_SECONDS, self._seconds)):
            node = reply.metadata.src_node_id
            if node not in going or node in found:
                continue
            self._found.bytes_in[node] = self._found.bytes_in.get(node, 0) + size_of(reply)
            if train or reply.has_error():
                # who fails after its update arrived is in the sum all the same
                self._found.replies.setdefault(node, reply)
            if not reply.has_error():
                self._read(node, reply, read, found)
        return found

    def _read(self, node: int, reply: Message, read: Callable[[wire.Values], T], found: dict[int, T]) -> None:
        try:
            found[node] = read(dict(reply.content.config_records.get(SECAGG, {})))
        except BadMessage as error:
            self._found.faults[node] = str(error)

    def _message(self, node: int, values: Flat, *, train: bool) -> Message:
        asked = self._asked[node]
        content = asked.content if train else RecordDict({RECORD: asked.content[RECORD]})
        content[SECAGG] = ConfigRecord(values)  # type: ignore[arg-type]
        if train:
            return asked
        return Message(content, node, "train", group_id=asked.metadata.group_id)


def _moved(base: Arrays, mean: np.ndarray) -> dict[str, np.ndarray]:
    moved, at = dict(base), 0
    for name in floats(base):
        size = base[name].size
        moved[name] = (base[name] + mean[at : at + size].reshape(base[name].shape)).astype(base[name].dtype)
        at += size
    return moved
