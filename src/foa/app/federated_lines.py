"""What a run that is a child process says on its stdout: a JSON line a node, and one at its end.

{"is": "node", "round": 3, "node": "train", "state": "ended", …}
{"is": "trained", "run": …, "draft": …, "figures": …, "spend": …}    or    {"is": "failed", "error": …}
"""

import threading
from collections.abc import Mapping
from typing import Literal, TextIO

import msgspec

from foa.errors import BadMessage, FabricError
from foa.messages import Trained, TrainProgress, TrainRequest, decode, encode
from foa.values.budget import Spend
from foa.values.ids import AgentId

MAX_LINE_BYTES = 1_000_000


class NodeLine(msgspec.Struct, frozen=True, kw_only=True, tag="node", tag_field="is"):
    """A node began or ended; see `foa.messages.TrainProgress`."""

    round: int
    node: str
    state: Literal["began", "ended"]
    said: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")
    credits: Mapping[str, float] = {}
    spend: Spend = Spend()

    def progress(self, request: TrainRequest, *, agent: AgentId) -> TrainProgress:
        """The line as whoever asked for the training hears it.

        Raises:
            BadMessage: it does not fit the message's bounds.
        """
        fields = msgspec.structs.asdict(self)
        told = TrainProgress(agent=agent, job=request.job, subtask=request.subtask, **fields)
        return decode(encode(told), TrainProgress)


class TrainedLine(msgspec.Struct, frozen=True, kw_only=True, tag="trained", tag_field="is"):
    """The run has ended."""

    trained: Trained
    spend: Spend


class FailedLine(msgspec.Struct, frozen=True, kw_only=True, tag="failed", tag_field="is"):
    """The run cannot go on, and why."""

    error: str
    exit_code: int = 1


Line = NodeLine | TrainedLine | FailedLine
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Lines:
    """Writes lines; from any thread, each whole."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write(self, line: Line) -> None:
        """Write one, at once."""
        with self._lock:
            self._file.write(msgspec.json.encode(line).decode() + "\n")
            self._file.flush()


def failed_line(error: FabricError) -> FailedLine:
    """A failure as a line."""
    return FailedLine(error=str(error)[:2_000], exit_code=error.exit_code)


def read_line(raw: bytes) -> Line:
    """What a child said.

    Raises:
        BadMessage: it is no such line.
    """
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadMessage(f"not a line of a run: {error}") from error
