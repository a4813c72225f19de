"""What an index has stored is there after kill -9, whatever it was doing, and nobody saved it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from foa.index.edge import EdgeIndex
from foa.index.shard import EdgeOptions
from foa.ports import IndexPoint, IndexQuery
from foa.values.ids import AgentId
from foa.values.vcv import Vector

DIMENSION, AGENTS, INDEX_FROM, SETTLED_EVERY = 32, 300, 100, 250

STORES = """
import asyncio, sys
from pathlib import Path
from tests.chaos.test_index_survives_kill import INDEX_FROM, SETTLED_EVERY, stored
from foa.index.edge import EdgeIndex
from foa.index.shard import EdgeOptions

async def main():
    index = EdgeIndex(32, path=Path(sys.argv[1]), options=EdgeOptions(index_from=INDEX_FROM))
    for i in range(int(sys.argv[2]), 10**6):
        await index.upsert([stored(i)])
        print(i, flush=True)
        sys.stdin.readline()
        if i % SETTLED_EVERY == 0:
            await index.settled()

asyncio.run(main())
"""

KILLED_IN_A_CHANGE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.chaos.test_index_survives_kill import stored
from foa.index.edge import EdgeIndex

class Dying:
    def __init__(self, engine, changes):
        self.engine, self.left = engine, changes

    def update(self, operation):
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        self.engine.update(operation)

async def main():
    index = EdgeIndex(32, path=Path(sys.argv[1]))
    shard = index._parts[0]._layers[-1].shard
    shard._engine = Dying(shard._engine, int(sys.argv[2]))
    await index.upsert([stored(1)])

asyncio.run(main())
"""


def unit(seed: int) -> Vector:
    values = np.random.default_rng(seed).normal(size=DIMENSION)
    return (values / np.linalg.norm(values)).astype(np.float32)


def stored(i: int) -> IndexPoint:
    """The i-th card: every agent has a new one after `AGENTS` others, and every other one two vectors."""
    more = (unit(10**6 + i),) if i % 2 else ()
    return IndexPoint(
        agent=AgentId(f"a{i % AGENTS}"), vector=unit(i), more_vectors=more, text=f"card {i}", policies=frozenset({"gdpr"})
    )


def store_until_killed(folder: Path, first: int, last: int) -> None:
    """Store cards from `first`; kill when `last` is stored and the next one may be."""
    command = [sys.executable, "-c", STORES, str(folder), str(first)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            process.stdin.write("\n")
            process.stdin.flush()
            if int(line) == last:
                break
        process.kill()
    assert process.returncode == -9


async def check(folder: Path, last: int) -> None:
    """Expect the newest card of every agent that was stored, once."""
    index = EdgeIndex(DIMENSION, path=folder, options=EdgeOptions(index_from=10**6))
    newest = {stored(i).agent: stored(i) for i in range(last + 1)}
    newest.pop(stored(last + 1).agent, None)  # the kill may have come in the middle of its change
    found = await index.agents()
    assert len(found) == len(set(found)) == await index.count()
    assert set(newest) <= set(found)
    for agent, point in newest.items():
        for vector in (point.vector, *point.more_vectors):
            hits = await index.search(IndexQuery(vector=vector, k=3))
            assert [hit.agent for hit in hits].count(agent) == 1
            assert hits[0].agent == agent
            assert hits[0].similarity > 0.99
    await index.upsert(list(newest.values()))
    assert index.written == 0  # they were as they had been told
    await index.aclose()


@pytest.mark.parametrize("lasts", [(105, 240, 260), (130, 251), (420, 999)])
async def test_whoever_was_stored_is_there_once_with_the_newest_card_after_kills(tmp_path: Path, lasts: tuple[int, ...]):
    # a build begins with every 100 agents or so, and goes on for about a second, in which hundreds are stored; where a
    # multiple of 250 is among those stored, one has ended, and the layers it was made of have been replaced
    first = 0
    for last in lasts:
        await asyncio.to_thread(store_until_killed, tmp_path, first, last)
        first = last + 1
    await check(tmp_path, lasts[-1])


@pytest.mark.parametrize("changes", [1, 2])
async def test_whoever_was_half_stored_when_the_process_was_killed_is_stored_again(tmp_path: Path, changes: int):
    # three changes make an agent of two vectors: both vectors, the filters of the second one, the digest
    command = [sys.executable, "-c", KILLED_IN_A_CHANGE, str(tmp_path), str(changes)]
    assert (await asyncio.to_thread(subprocess.run, command, check=False, timeout=60)).returncode == -9
    index = EdgeIndex(DIMENSION, path=tmp_path)
    assert await index.agents() == ["a1"]
    await index.upsert([stored(1)])  # as its card is heard again
    assert index.written == 1
    await index.upsert([IndexPoint(agent=AgentId("other"), vector=unit(10**6 + 1))])  # the filter is not everybody's
    assert await index.count() == 2
    hits = await index.search(IndexQuery(vector=unit(10**6 + 1), k=3, policies=frozenset({"gdpr"})))
    assert [hit.agent for hit in hits] == ["a1"]
    assert hits[0].similarity > 0.99
    await index.aclose()
