"""`foa ask` with everything of its own: told to stop, killed, twice at once, and where nothing can be written."""

import asyncio
import contextlib
import json
import resource
import signal
from pathlib import Path

import pytest
from tests.chaos.mind import TASK
from tests.chaos.processes import Running, until
from tests.chaos.world import World, result_of, world


def ask(made: World, *options: str, **settings: str) -> Running:
    """With its own broker, orchestrator and agents."""
    folder = made.folder / "federation"
    folder.mkdir(exist_ok=True)
    for name in ("alpha", "beta"):
        (folder / f"{name}.md").write_text(
            f"---\nname: {name}\ndescription: Knows how the fabric routes tasks to agents.\n---\nYou are agent {name}.\n"
        )
    (folder / "FEDERATION.toml").write_text('name = "two"\nagents = ["*.md"]\n')
    return made.foa("ask", "--federation", str(folder), "--json", *options, TASK, **settings)


def children(pid: int) -> set[int]:
    """Processes that this one started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, _, after = stat.read_text().rpartition(") ")
            state, parent = after.split()[:2]
            if int(parent) == pid and state != "Z":
                found.add(int(stat.parent.name))
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if _state(pid) not in ("", "Z")}


def _state(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    return ""


async def listed(made: World) -> list[dict]:
    listing = made.foa("jobs", "list", "--json")
    assert await listing.ended() == 0, listing.errors
    return json.loads(listing.output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
async def test_a_question_that_is_interrupted_is_cancelled_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with world(tmp_path) as made:
        made.mind.hold("draft")
        asking = ask(made)
        await made.mind.busy("draft", 4)
        started = children(asking.pid)
        asking.send(number)
        result = await result_of(asking, exit_code=10)
        await until(lambda: not alive(started), "the end of its broker")
        (row,) = await listed(made)
    assert started, "it has a broker of its own"
    assert result["status"] == row["status"] == "cancelled"
    assert "interrupted by its user" in result["error"]
    assert result["bill"]["calls"] == 2  # the proposals; drafts that nobody waited for are not paid


async def test_a_killed_question_takes_its_broker_along_and_its_job_is_ended_by_the_next(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        made.mind.hold("draft")
        asking = ask(made)
        await made.mind.busy("draft", 4)
        started = children(asking.pid)
        await asking.kill()
        await until(lambda: not alive(started), "the end of its broker")
        made.mind.release()
        (row,) = await listed(made)
        shown = made.foa("jobs", "show", row["job_id"], "--json")
        await shown.ended()
    assert started
    assert row["status"] == "failed"
    assert "was killed" in json.loads(shown.output)["error"]
    assert json.loads(shown.output)["bill"]["calls"] == 2
    assert not list((tmp_path / "state").glob("ask-*"))


async def test_two_questions_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    async with world(tmp_path) as made, asyncio.TaskGroup() as group:
        made.mind.hold("draft")
        both = [ask(made) for _ in range(2)]
        await made.mind.busy("draft", 8)
        assert {row["status"] for row in await listed(made)} == {"running"}
        made.mind.release()
        asked = [group.create_task(result_of(one), name=f"ask {one.pid}") for one in both]
        results = [await one for one in asked]
        rows = await listed(made)
    assert [result["status"] for result in results] == ["done", "done"]
    assert [result["lost"] for result in results] == [{}, {}]
    assert {row["job_id"] for row in rows} == {result["job_id"] for result in results}


async def test_a_state_folder_that_is_none_is_a_sentence_and_exit_code_11(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with world(tmp_path) as made:
        asking = ask(made, FOA_STATE_DIR=str(tmp_path / "file" / "state"))
        assert await asking.ended() == 11
    assert f"the folder {tmp_path / 'file' / 'state'} cannot be written" in asking.errors
    assert len(asking.errors.splitlines()) == 1


async def test_a_journal_that_cannot_grow_ends_the_question_with_exit_code_11(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        made.mind.hold("draft")
        asking = ask(made)
        await made.mind.busy("draft", 4)
        # as on a full disk: from here on no file of this process may get longer
        resource.prlimit(asking.pid, resource.RLIMIT_FSIZE, (8_000, 8_000))
        made.mind.release()
        assert await asking.ended() == 11
    assert asking.errors.splitlines()[-1].startswith("foa: the journal")
    assert "Traceback" not in asking.errors
