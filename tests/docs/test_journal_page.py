"""The example on the journal's page runs, and its table names the tables that there are."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from foa.app.clock import SystemClock
from foa.state.database import Database
from foa.state.schema import tables
from foa.state.sql import SqlJournal
from foa.values.ids import JobId

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "journal.md").read_text("utf-8")


async def test_the_example_lists_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Database("jobs.db") as database:
        await SqlJournal(database, SystemClock()).open(JobId("job-1"), b"{}", text="What is a fabric?")
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    code = compile(example, "journal.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ran = eval(code, {})
    assert inspect.isawaitable(ran)
    await ran
    assert capsys.readouterr().out == "job-1 running What is a fabric?\n"


def test_every_table_is_named() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M)) == set(tables.tables)
