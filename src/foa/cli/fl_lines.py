"""`foa fl run --lines`: a run as a child of a server agent. It says what it does in JSON lines and dies with its parent.

Everything here needs the extra `fl`.
"""

import asyncio
import contextlib
import os
import stat
import sys
import threading
from pathlib import Path

import msgspec

from foa.app.clock import SystemClock
from foa.app.federated import Asked, run_project
from foa.app.federated_lines import Lines, NodeLine, TrainedLine, failed_line
from foa.app.federated_lock import held_run
from foa.app.federated_sites import run_folder
from foa.app.settings import Settings
from foa.cli.fl_report import report_of
from foa.errors import FabricError
from foa.fl.checkpoint import load
from foa.fl.outcomes import outcomes
from foa.fl.project import read_project
from foa.fl.rounds import NODES, NodeEvent
from foa.fl.story import brought, cost, said, tell_story
from foa.job import one_error
from foa.messages import Trained
from foa.ports import Model

MAX_VALUE_BYTES = 64_000  #: of what a node gave; larger is left out, the report has it


async def run_in_lines(asked: Asked, settings: Settings, model: Model | None, *, report: Path | None) -> int:
    """Train to the end, saying every node and then the outcome; gives the exit code."""
    lines = Lines(sys.stdout)
    _die_with_parent()
    try:
        # what the app prints is no line of ours
        with one_error(), contextlib.redirect_stdout(sys.stderr):
            async with held_run(run_folder(settings, asked.run)):
                lines.write(await _train(asked, settings, model, lines, report))
    except FabricError as error:
        lines.write(failed_line(error))
        return error.exit_code
    return 0


async def _train(asked: Asked, settings: Settings, model: Model | None, lines: Lines, report: Path | None) -> TrainedLine:
    _say_again(asked, settings, lines)
    trained = await run_project(asked, settings, SystemClock(), model, on_node=lambda event: lines.write(node_line(event)))
    where = report_of(asked, settings, trained, report)
    purpose = read_project(asked.folder).purpose
    what = asked.folder.resolve().name + ("" if purpose == "*" else f", for {purpose}")
    rows = trained.state.rows
    story = await asyncio.to_thread(tell_story, what, rows, report=where)
    body = Trained(draft=story.draft, run=asked.run, rounds=len(rows), figures=story.figures)
    return TrainedLine(trained=body, spend=story.spend)


def _say_again(asked: Asked, settings: Settings, lines: Lines) -> None:
    """Say what the run did before it was killed, out of its checkpoint: who listens may have missed the end of it."""
    found = load(run_folder(settings, asked.run) / "run.ckpt", run=asked.run)
    for row in () if found is None else found.state.rows:
        values = outcomes(row)
        for node in NODES:
            lines.write(node_line(NodeEvent(round=row.round, node=node, state="ended", value=values[node])))


def node_line(event: NodeEvent) -> NodeLine:
    """An event as a line."""
    value = msgspec.json.encode(event.value)
    return NodeLine(
        round=event.round,
        node=event.node,
        state=event.state,
        said=said(event),
        value=msgspec.Raw(value if len(value) <= MAX_VALUE_BYTES else b"null"),
        credits=dict(list(brought(event).items())[:1_000]),
        spend=cost(event),
    )


def _die_with_parent() -> None:
    """End this process when its stdin ends, if that is a pipe: whoever started it is gone."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):

        def wait() -> None:
            while os.read(0, 4096):
                pass
            os._exit(1)  # the checkpoint is whole at any moment; threads may be deep in training

        threading.Thread(target=wait, name="parent", daemon=True).start()
