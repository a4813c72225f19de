"""The rows of a roster, in memory and in a file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foa.errors import StoreFailed
from foa.registry.rows import FileRows, Rows

KINDS: dict[str, Callable[[Path], Rows]] = {"memory": lambda path: Rows(), "file": lambda path: FileRows(path / "rows")}


@pytest.fixture(params=KINDS)
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rows]:
    made = KINDS[request.param](tmp_path)
    yield made
    made.close()


def test_rows_come_back_in_the_order_they_are_asked_for(rows: Rows):
    for slot in range(2_000):
        rows.put(slot, slot.to_bytes(4, "little"))
    rows.put(7, b"last")
    assert [row.tobytes() for row in rows.get([1_999, 7, 0])] == [(1_999).to_bytes(4, "little"), b"last", bytes(4)]


def test_no_rows_are_no_rows(rows: Rows):
    rows.put(0, b"abcd")
    assert rows.get([]).shape == (0, 4)


def test_a_row_that_comes_early_waits_for_its_turn(rows: Rows):
    rows.put(1_000, b"late")
    rows.put(999, b"soon")
    assert rows.get([1_000, 999]).tobytes() == b"latesoon"


def test_a_file_of_rows_starts_empty(tmp_path: Path):
    first = FileRows(tmp_path / "rows")
    first.put(3, b"abcd")
    first.close()
    FileRows(tmp_path / "rows").close()
    assert (tmp_path / "rows").stat().st_size == 0


def test_a_file_that_cannot_be_is_said(tmp_path: Path):
    with pytest.raises(StoreFailed, match="no file for the registry's rows"):
        FileRows(tmp_path / "nowhere" / "rows")


def test_a_closed_file_is_said(tmp_path: Path):
    rows = FileRows(tmp_path / "rows")
    rows.put(0, b"abcd")
    rows.close()
    with pytest.raises(StoreFailed, match="rows"):
        rows.put(1, b"abcd")
    with pytest.raises(StoreFailed, match="rows"):
        rows.get([0])
