"""Walk a DAG: every node starts as soon as its predecessors have ended, unrelated nodes run at once."""

import asyncio
from collections.abc import Awaitable, Callable

from foa.plan.validate import predecessors
from foa.values.ids import SubtaskId
from foa.values.plan import Plan, Subtask

Visit = Callable[[Subtask, tuple[SubtaskId, ...]], Awaitable[None]]


async def walk(plan: Callable[[], Plan], visit: Visit) -> None:
    """Visit every node of a plan that may change on the way.

    Args:
        plan: the plan as it stands now; it is asked again whenever a node has ended. Nodes that were visited may have gone
            from it, new ones wait for their predecessors like all others.
        visit: does the work of a node; given the node and what it waited for.

    Raises:
        BaseExceptionGroup: what a visit raised; the other visits are cancelled.
    """
    started: set[SubtaskId] = set()
    ended: set[SubtaskId] = set()

    async with asyncio.TaskGroup() as group:

        def start_ready() -> None:
            now = plan()
            before = predecessors(now)
            for subtask in now.subtasks:
                if subtask.id not in started and ended.issuperset(before[subtask.id]):
                    started.add(subtask.id)
                    group.create_task(run(subtask, before[subtask.id]), name=f"node[{subtask.id}]")

        async def run(subtask: Subtask, before: tuple[SubtaskId, ...]) -> None:
            await visit(subtask, before)
            ended.add(subtask.id)
            start_ready()

        start_ready()
