"""The one file that knows Flower's internals. Needs the extra `fl` (Flower 1.41).

A Grid must make and read messages below Flower's public API: the identity of the running task, message ids, and their
protobuf form. Those move between releases; everything else in `foa.fl` uses the public API only.
"""

import logging
import secrets
import threading
from collections.abc import Mapping
from typing import Any

import flwr.supercore.telemetry as flower_telemetry
from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable as ClientAppCallable
from flwr.common.serde import (
    array_record_from_proto,
    array_record_to_proto,
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.recorddict_pb2 import ArrayRecord as ArrayRecordProto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from foa.errors import BadMessage

RUN_ID = 1  #: Flower's number of the run; ours is a name, and one process has one run
SERVER_NODE = 1  #: Flower's number of the server

CRASHED = 2  #: error code of a client app that raised; from 100 on: a guardian's answers
REFUSED = 100
REFUSED_DEGRADED = 101  #: refused, and would rather have its last update counted again


#: Held while the header of an array is read. numpy reads it by `ast`, and Python 3.11 raises SystemError now and then where
#: two threads do that at once (python/cpython issue 106905): a client's reply was lost to it.
HEADER = threading.Lock()
_read_numpy = Array.numpy


def _numpy(self: Array) -> NDArray[Any]:
    with HEADER:
        return _read_numpy(self)


def begin() -> None:
    """Make this process ready for a run: its identity, no telemetry, warnings only. Calling twice does no harm."""
    # read at every event; the environment variable is read at import only, which may be over
    flower_telemetry.FLWR_TELEMETRY_ENABLED = "0"
    logging.getLogger("flwr").setLevel(logging.WARNING)
    Array.numpy = _numpy
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.node_id = SERVER_NODE
    TaskIdentity.task_id = 1


def stamp(message: Message) -> str:
    """Give a message an id of its own, as Flower's server would."""
    found = secrets.token_hex(16)
    message.metadata.__dict__["_message_id"] = found
    return found


def pack(message: Message) -> bytes:
    """A message as bytes (protobuf)."""
    return message_to_proto(message).SerializeToString()


def unpack(payload: bytes) -> Message:
    """A message from bytes off the wire.

    Raises:
        BadMessage: they are no Flower message.
    """
    try:
        return message_from_proto(MessageProto.FromString(payload))
    except (DecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadMessage(f"not a usable Flower message: {str(error)[:200]}") from error


def category_of(message: Message) -> str:
    """`train`, `evaluate` or `query`: an app answers `train.default` with the very function that answers `train`."""
    return message.metadata.message_type.partition(".")[0]


def failure(message: Message, code: int, reason: str) -> Message:
    """The reply that says why there is none."""
    return Message(Error(code=code, reason=reason[:500]), reply_to=message)


def context(node: int, config: Mapping[str, int | float | str | bool], state: bytes | None = None) -> Context:
    """What a client app is given besides the message.

    Args:
        node: Flower's number of the client.
        config: e.g. `partition-id`.
        state: saved by `pack_state`.
    """
    kept = RecordDict() if state is None else recorddict_from_proto(RecordDictProto.FromString(state))
    return Context(run_id=RUN_ID, node_id=node, node_config=dict(config), state=kept, run_config={})


def pack_state(of: Context) -> bytes:
    """A client's state between rounds, as bytes."""
    return recorddict_to_proto(of.state).SerializeToString()


def pack_content(content: RecordDict) -> bytes:
    """The content of a message by itself."""
    return recorddict_to_proto(content).SerializeToString()


def unpack_content(payload: bytes) -> RecordDict:
    """The inverse of `pack_content`, of bytes that this site wrote itself."""
    return recorddict_from_proto(RecordDictProto.FromString(payload))


def pack_arrays(arrays: ArrayRecord) -> bytes:
    """A model as bytes."""
    return array_record_to_proto(arrays).SerializeToString()


def unpack_arrays(payload: bytes) -> ArrayRecord:
    """The inverse of `pack_arrays`.

    Raises:
        BadMessage: they are no model.
    """
    try:
        return array_record_from_proto(ArrayRecordProto.FromString(payload))
    except (DecodeError, ValueError, TypeError) as error:
        raise BadMessage(f"not a usable model: {str(error)[:200]}") from error


class RunGrid(Grid):
    """What every Grid of ours does alike: it keeps Flower's description of the run, and makes messages."""

    _run: Run | None = None

    def set_run(self, run: Run) -> None:
        """Flower's description of the run; kept and given back."""
        self._run = run

    @property
    def run(self) -> Run:
        """What `set_run` was given."""
        if self._run is None:
            raise RuntimeError("this Grid was given no run: call set_run first")
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """See Flower's Grid."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)
