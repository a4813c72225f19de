"""A degraded update instead of none: where a site refuses for now, its last one counts again, each round half as much.

Source: the client agent of arXiv:2604.04895, which sends a degraded update rather than drop out. What is counted again was
released and paid for before: to a privacy ledger it is post-processing and free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import Message

from foa.fl.aggregate import Arrays, Update
from foa.fl.checkpoint import Kept
from foa.fl.contents import arrays_of, put_arrays
from foa.fl.flower import REFUSED_DEGRADED, pack_content, unpack_content
from foa.fl.rounds import ClientRow
from foa.fl.stages.cohort import Cohort
from foa.fl.stages.receive import Received, failed
from foa.values.ids import AgentId

DECAY = 0.5  #: of a change, for each round since it was made
MOST_BYTES = 64_000_000  #: of kept updates in one run; the oldest go first


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """An update that is counted again."""

    message: Message  #: as if the site had sent it now
    sent: Message  #: what the strategy asked it
    refusal: ClientRow  #: what it really said, with the age


def recounted(
    sent: Sequence[Message], replies: Sequence[Message], cohort: Cohort, kept: Mapping[AgentId, Kept], *, rounds: int
) -> dict[AgentId, Again]:
    """What is counted again in a round: only beside a fresh update, or the model would go round in circles.

    Args:
        sent: the strategy's messages.
        replies: that came.
        cohort: of the round.
        kept: last updates, by client.
        rounds: after so many an update is too old.
    """
    if rounds < 1 or all(reply.has_error() for reply in replies):
        return {}
    base, found = arrays_of(sent[0]), dict[AgentId, Again]()
    for message in sent:
        client = cohort.name(message.metadata.dst_node_id)
        refusal = None if client is None else _refusal(client, cohort, replies)
        if client is None or refusal is None or client not in kept:
            continue
        age = cohort.round - kept[client].round
        if 1 <= age <= rounds and (reply := _decayed(message, kept[client], base, age)) is not None:
            found[client] = Again(message=reply, sent=message, refusal=replace(refusal, age=age))
    return found


def _refusal(client: AgentId, cohort: Cohort, replies: Sequence[Message]) -> ClientRow | None:
    """The row of a client that would rather be counted again than be left out; None: it is none of these."""
    talk = cohort.talks.get(client)
    if talk is not None and talk.agreed is None:
        row = ClientRow(client=client, kind="refused", reason=talk.reason, node="negotiate")
        return row if talk.degraded else None
    for reply in replies:
        if cohort.name(reply.metadata.src_node_id) == client and reply.has_error():
            return failed(client, reply) if reply.error.code == REFUSED_DEGRADED else None
    return None


def _decayed(message: Message, kept: Kept, base: Arrays, age: int) -> Message | None:
    """The kept change on top of the model of today; None where the model has other shapes by now."""
    reply = Message(unpack_content(kept.content), reply_to=message)
    changes = arrays_of(reply)
    if any(name not in base or base[name].ndim != change.ndim for name, change in changes.items()):
        return None
    parts = {name: _part(base[name], change.shape) for name, change in changes.items()}
    if any(parts[name].shape != change.shape for name, change in changes.items()):
        return None
    share = DECAY**age
    put_arrays(reply, {name: (parts[name] + share * change).astype(parts[name].dtype) for name, change in changes.items()})
    return reply


def marked(received: Received, again: Mapping[AgentId, Again]) -> Received:
    """What came, with the rows of those that were counted again saying so."""
    rows = [
        replace(again[client].refusal, credit=row.credit, samples=row.samples)
        if (client := AgentId(row.client)) in again
        else row
        for row in received.rows
    ]
    return replace(received, rows=tuple(rows))


def keep(
    kept: Mapping[AgentId, Kept], received: Received, base: Arrays, number: int, *, but: Mapping[AgentId, Again]
) -> dict[AgentId, Kept]:
    """The last updates after a round.

    Args:
        kept: before it.
        received: of the round.
        base: the model that went out.
        number: of the round.
        but: those that were counted again and brought nothing new.
    """
    found = dict(kept)
    # nothing is shown where the round was not taken: what spoilt a model is not kept either
    for update, message in zip(received.sifted.kept, received.messages, strict=False):
        if update.client not in but:
            found[update.client] = Kept(round=number, content=_change(update, message, base))
    oldest_first = sorted(found.items(), key=lambda item: (item[1].round, item[0]))
    while oldest_first and sum(len(one.content) for _, one in oldest_first) > MOST_BYTES:
        oldest_first.pop(0)
    return dict(oldest_first)


def _change(update: Update, message: Message, base: Arrays) -> bytes:
    own = Message(unpack_content(pack_content(message.content)), reply_to=message)
    put_arrays(own, {name: array - _part(base[name], array.shape) for name, array in update.arrays.items()})
    return pack_content(own.content)


def _part(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array[tuple(slice(0, length) for length in shape)]
