"""Models that decide in the selection benchmark: recorded, embedded, at an endpoint, and a policy written by hand.

A recording is in the form of `foa.models.recorded`, packed with gzip and without the requests' texts: their hashes are
enough to repeat a run, and the file stays small.
"""

import asyncio
import gzip
import json
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks._fl_scenarios import FEW, K, Moment
from foa.app.models import open_model
from foa.app.settings import Settings
from foa.errors import BadInput, ModelReplyInvalid, ModelUnreachable
from foa.fl.server import DAYS
from foa.models.recorded import RecordedModel
from foa.models.weights import SMOLLM2
from foa.ports import Model, ModelReply, ModelRequest

RECORDED = Path(__file__).resolve().parent / "recorded" / "fl_selection_smollm2.jsonl.gz"
#: How many seeds were recorded in each scenario, from the first on.
RECORDED_SEEDS = {"steady": 1, "policy": 2, "shift": 1}
NO_MORE_REPAIRS = 2


class Kept:
    """Around a real model: what cannot be used becomes a reply, too, so that a recording repeats every decision."""

    def __init__(self, inner: Model, *, tries: int = 3) -> None:
        self._inner = inner
        self._tries = tries

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self._inner.name

    @property
    def drives_tools(self) -> bool:
        """As the inner model's."""
        return self._inner.drives_tools

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Ask; again where the machine was too busy, since a recording with holes repeats nothing."""
        for _ in range(self._tries - 1):
            try:
                return await self._once(request)
            except ModelUnreachable:
                await asyncio.sleep(1.0)
        return await self._once(request)

    async def _once(self, request: ModelRequest) -> ModelReply:
        try:
            return await self._inner.ask(request)
        except ModelReplyInvalid as error:
            # no value and no repair left: the guard takes the rule, as it does after the error
            return ModelReply(text=error.raw[:500], value=None, spend=error.spend, repairs=NO_MORE_REPAIRS)

    async def aclose(self) -> None:
        """Let go of the inner model."""
        await self._inner.aclose()


class Written:
    """The policy scenario's wishes, put into code by hand: what a model could reach at best. No model takes part."""

    name, drives_tools = "policy written by hand", False

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Keep the wishes, and leave the rest to the rule's choice."""
        facts = json.loads(request.prompt.partition("\n")[2].partition("\n")[0])
        moment = Moment(hour=facts["hour"], weekday=DAYS.index(facts["day"]))
        properties = (request.schema or {})["properties"]
        wanted = K if moment.weekend else FEW
        value = {
            "selector": "oort-per-turn",
            "k": max((k for k in properties["k"]["enum"] if k <= wanted), default=min(properties["k"]["enum"])),
            "deadline_seconds": max(properties["deadline_seconds"]["enum"]),
            "avoid": "north" if moment.night else "",
            "reason": "the owner's wishes",
        }
        return ModelReply(text=json.dumps(value), value=value)

    async def aclose(self) -> None:
        """Nothing to let go of."""


@asynccontextmanager
async def deciding(which: str, settings: Settings, *, record: str = "") -> AsyncGenerator[Model]:
    """The model that decides.

    Args:
        which: `recorded`, `embedded`, `written`, or an endpoint's address (its model's name: FOA_MODEL).
        settings: for the cache, keys and the endpoint's model.
        record: file that real exchanges are added to.

    Raises:
        BadInput: nothing was recorded.
    """
    if which == "written":
        yield Written()
        return
    if which == "recorded":
        with tempfile.TemporaryDirectory() as folder:
            yield RecordedModel(_unpacked(Path(folder)), name=f"{SMOLLM2.name}, recorded", drives_tools=False)
        return
    async with open_model(replace(settings, model_url="" if which == "embedded" else which)) as real:
        kept = Kept(real)
        yield RecordedModel(Path(record), inner=kept) if record else kept


def _unpacked(folder: Path) -> Path:
    if not RECORDED.is_file():
        raise BadInput(f"{RECORDED} is not there: use --model embedded")
    path = folder / "recorded.jsonl"
    path.write_bytes(gzip.decompress(RECORDED.read_bytes()))
    return path


def pack(recording: Path, *, to: Path = RECORDED) -> int:
    """Pack a recording without its requests; bytes of the file."""
    lines = [json.loads(line) for line in recording.read_bytes().splitlines() if line.strip()]
    small = [json.dumps({**line, "request": {}}, ensure_ascii=False, separators=(",", ":")) for line in lines]
    to.parent.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress("\n".join(small).encode(), mtime=0)
    to.write_bytes(packed)
    return len(packed)
