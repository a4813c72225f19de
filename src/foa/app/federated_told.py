"""What the runs of a server agent have told, a file a run: who asks again hears all of it, also after a restart."""

from pathlib import Path

import msgspec

from foa.app.federated_lines import NodeLine, read_line
from foa.errors import BadMessage, StoreFailed
from foa.messages import TrainProgress, TrainRequest
from foa.values.ids import AgentId

MAX_BYTES = 256_000_000  #: of one run


class Told:
    """The nodes of one run that ended, each once, in the order they were told."""

    def __init__(self, state_dir: Path, run: str) -> None:
        """Read what there is.

        Raises:
            StoreFailed: it cannot be read.
        """
        self._path = state_dir / "fl" / run / "told.jsonl"
        self._lines: dict[tuple[int, str], NodeLine] = {}
        self._torn = False
        for line in self._read():
            self._lines.setdefault((line.round, line.node), line)

    def all(self, request: TrainRequest, *, agent: AgentId) -> list[TrainProgress]:
        """Every node, for who asks."""
        return [line.progress(request, agent=agent) for line in self._lines.values()]

    def keep(self, line: NodeLine) -> bool:
        """Keep a node that ended; False: it was told before, so it is not told again.

        Raises:
            StoreFailed: it cannot be written.
        """
        place = (line.round, line.node)
        if place in self._lines:
            return False
        if line.state == "began":
            return True
        self._lines[place] = line
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # a line that a kill cut short must not swallow this one
                file.write((b"\n" if self._torn else b"") + msgspec.json.encode(line) + b"\n")
            self._torn = False
        except OSError as error:
            raise StoreFailed(f"{self._path}: {error.strerror or error}") from error
        return True

    def _read(self) -> list[NodeLine]:
        try:
            if not self._path.exists():
                return []
            if self._path.stat().st_size > MAX_BYTES:
                raise StoreFailed(f"{self._path} is over {MAX_BYTES:,} bytes: remove it to begin anew")
            raw = self._path.read_bytes()
        except OSError as error:
            raise StoreFailed(f"{self._path}: {error.strerror or error}") from error
        self._torn = not raw.endswith(b"\n") and bool(raw)
        found: list[NodeLine] = []
        for each in raw.splitlines():
            try:
                line = read_line(each)
            except BadMessage:
                continue  # the last one, where the process was killed while it wrote
            if isinstance(line, NodeLine):
                found.append(line)
        return found
