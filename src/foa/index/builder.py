"""Build an indexed shard out of others, in a process of its own: `python -m foa.index.builder JOB.json`.

Qdrant Edge's `optimize` holds the Python interpreter while it builds, minutes for a large shard. Here nobody waits for it.
The sources belong to the parent, which does not write to them meanwhile; they are copied before they are opened.
"""

import os
import shutil
import sys
from pathlib import Path

import msgspec

from foa.index.columns import COLUMNS
from foa.index.files import copy_folder
from foa.index.shard import EdgeOptions, Shard


class BuildJob(msgspec.Struct, frozen=True, kw_only=True):
    """What to build."""

    sources: tuple[str, ...]  #: folders of shards, the largest first; what is not in their files yet is in their logs
    target: str  #: folder that does not exist yet
    dimension: int
    options: EdgeOptions


def build(job: BuildJob) -> None:
    """Bring the sources together in the target, index it, and write it to disk."""
    target = Path(job.target)
    first, *others = job.sources
    copy_folder(Path(first), target, without=COLUMNS)  # they are written anew
    shard = Shard(target, dimension=job.dimension, options=job.options)
    for i, source in enumerate(others):
        copy = target.with_name(f"{target.name}.copy{i}")
        copy_folder(Path(source), copy, without=COLUMNS)
        poured = Shard(copy, dimension=job.dimension, options=job.options)
        shard.pour(poured)
        shard.flush()  # what is logged twice does not grow as large as all of it
        poured.close()
        shutil.rmtree(copy)
    shard.optimize()
    shard.write_words()
    shard.close()


def main() -> None:
    """Read the job file named on the command line and do it, at low priority."""
    os.nice(10)
    build(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=BuildJob))


if __name__ == "__main__":
    main()
