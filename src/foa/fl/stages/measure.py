"""EVALUATE: what the clients measured of the new model, in the round's row and in the memory. Needs the extra `fl`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flwr.app import Message

from foa.fl.block import FlBlock
from foa.fl.checkpoint import State
from foa.fl.contents import metric
from foa.fl.rounds import RoundRow
from foa.fl.stages.cohort import AgenticSettings
from foa.values.ids import AgentId


def accuracies(
    replies: Sequence[Message], profiles: Mapping[int, FlBlock], settings: AgenticSettings
) -> Mapping[AgentId, float]:
    """The accuracy at each client that told a usable one."""
    found = dict[AgentId, float]()
    for reply in replies:
        block = profiles.get(reply.metadata.src_node_id)
        accuracy = None if block is None or reply.has_error() else metric(reply, settings.accuracy_key)
        if block is not None and accuracy is not None and 0 <= accuracy <= 1:
            found[block.id] = accuracy
    return found


def measured_row(row: RoundRow, found: Mapping[AgentId, float]) -> RoundRow:
    """The row with what was measured; `found` has one at least."""
    ranked = sorted(found.values())
    worst = ranked[: max(1, len(ranked) // 10)]
    return replace(
        row,
        accuracy=sum(ranked) / len(ranked),
        worst10=sum(worst) / len(worst),
        accuracies=tuple(sorted(found.items())),
    )


def measured_state(state: State, found: Mapping[AgentId, float]) -> State:
    """The state with what was measured."""
    devices = {
        client: replace(device, accuracy=found.get(client, device.accuracy))
        for client, device in state.memory.devices.items()
    }
    return replace(state, memory=replace(state.memory, devices=devices))
