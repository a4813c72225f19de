"""A run from its first round, or from where it was killed, to its last. Needs the extra `fl`.

    load checkpoint ─► Strategy.start on an AgenticGrid, in a thread ─► after each round: save, tell ─► result

Cancelling the task that awaits `train` cancels the Grid; it returns within a second although a client's training, which
nothing can interrupt from outside, may run on in its thread until its process ends.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Result, Strategy

from foa.errors import BadInput
from foa.fl.checkpoint import Checkpoint, State, load, restore_strategy, save, strategy_arrays
from foa.fl.flower import pack_arrays, unpack_arrays
from foa.fl.grids.agentic import AgenticGrid
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.rounds import OnNode, RoundRow
from foa.fl.server import ServerAgent
from foa.fl.sift import Validate
from foa.fl.stages.cohort import AgenticSettings, Barred, Profiles
from foa.fl.stages.secure import check_secure


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is to be trained."""

    settings: AgenticSettings
    rounds: int
    strategy: Strategy  #: any of Flower's or a user's, with fraction_train=1.0
    arrays: ArrayRecord  #: the model to begin with
    config: ConfigRecord  #: what the app reads in training and evaluation
    validate: Validate | None = None  #: loss of a model on the server's own data
    checkpoint: Path | None = None  #: file to go on from; None: a killed run begins anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The end of a run."""

    arrays: ArrayRecord
    state: State
    began_at_round: int  #: 1, or where it was taken up again


async def train(
    run: Run,
    grid: InProcessGrid | MqttGrid,
    agent: ServerAgent,
    profiles: Profiles,
    *,
    on_round: Callable[[RoundRow], None] | None = None,
    on_node: OnNode | None = None,
    barred: Barred | None = None,
) -> Trained:
    """Train to the end.

    Args:
        run: what.
        grid: carries the messages; `InProcessGrid` or `MqttGrid`.
        agent: decides every round.
        profiles: who is there.
        on_round: hears of each round when it is over, on the event loop's thread.
        on_node: hears when a node of a round begins and ends, in order, from the thread of the Strategy.
        barred: who would be there and may not be asked, with the reason.

    Raises:
        BadInput: the checkpoint is not of this run or damaged, the strategy waits for more nodes than may be chosen, or the
            run asks for what secure aggregation rules out.
        StoreFailed: it cannot be read or written.
        JobCancelled: somebody cancelled the grid, or `on_node` raised it.
    """
    loop = asyncio.get_running_loop()
    _check_strategy(run.strategy, agent)
    if "fltrust" in agent.bounds.aggregations and run.settings.trusted is None:
        raise BadInput("fltrust needs the server's own training on clean data: write trusted(arrays) in the app")
    if run.settings.secure_aggregation:
        check_secure(run.settings, run.strategy, agent.bounds)
    path = run.checkpoint
    found = None if path is None else load(path, run=run.settings.run)
    state, arrays = (State(), run.arrays) if found is None else (found.state, unpack_arrays(found.model))
    done = 0 if found is None else found.round
    if found is not None:
        restore_strategy(run.strategy, found.strategy)
    if done >= run.rounds:
        return Trained(arrays=arrays, state=state, began_at_round=done + 1)

    def save_and_tell(reached: State, row: RoundRow, model: ArrayRecord) -> None:
        if path is not None:
            kept = strategy_arrays(run.strategy)
            save(
                path,
                Checkpoint(run=run.settings.run, round=row.round, model=pack_arrays(model), state=reached, strategy=kept),
            )
        if on_round is not None:
            loop.call_soon_threadsafe(on_round, row)

    agentic = AgenticGrid(
        grid,
        agent,
        run.settings,
        loop=loop,
        profiles=profiles,
        barred=barred,
        state=state,
        validate=run.validate,
        on_round=save_and_tell,
        on_node=on_node,
    )
    going = asyncio.to_thread(_start, run, agentic, arrays, done)
    try:
        result = await going
    except asyncio.CancelledError:
        grid.cancel()
        raise
    if len(agentic.state.rows) < run.rounds:
        raise BadInput(f"the strategy ended after {len(agentic.state.rows)} of {run.rounds} rounds")
    last = result.arrays if len(result.arrays) else arrays
    return Trained(arrays=last, state=agentic.state, began_at_round=done + 1)


def _check_strategy(strategy: Strategy, agent: ServerAgent) -> None:
    """Flower's strategies wait for ever for a minimum of nodes that are chosen: say so before."""
    least = max(int(getattr(strategy, name, 1)) for name in ("min_available_nodes", "min_train_nodes"))
    if least > agent.bounds.k_min:
        raise BadInput(
            f"the strategy waits for {least} nodes and the agent may choose {agent.bounds.k_min}: "
            "lower min_available_nodes and min_train_nodes, or raise k_min"
        )


def _start(run: Run, grid: AgenticGrid, arrays: ArrayRecord, done: int) -> Result:
    """Run Flower's loop; rounds count on from those that were done."""

    def keep(server_round: int, model: ArrayRecord) -> MetricRecord | None:
        # Flower calls this before the first round too (0), and after each with the model it kept
        if server_round > 0:
            grid.close_round(model)
        return None

    return run.strategy.start(
        grid,
        arrays,
        num_rounds=run.rounds - done,
        train_config=ConfigRecord(dict(run.config)),
        evaluate_config=ConfigRecord(dict(run.config)),
        evaluate_fn=keep,
    )
