"""A log record is one line with its fields."""

import logging

import pytest

from foa.app.logs import LineFormatter, configure_logs


def line(message: str, **fields: object) -> str:
    record = logging.makeLogRecord({"name": "foa.x", "levelname": "WARNING", "msg": message, **fields})
    return LineFormatter().format(record).partition(" ")[2]


def test_fields_stand_beside_the_text():
    assert line("refused a card", agent="liar", seconds=0.5) == "warning foa.x refused a card agent=liar seconds=0.5"


def test_a_field_with_spaces_is_quoted_and_an_empty_one_seen():
    assert line("x", reason="not now", why="") == 'warning foa.x x reason="not now" why=""'


def test_nothing_breaks_the_line_or_steers_the_terminal():
    shown = line("a\nb\x1b[2J", agent="c\r\n\u202ed")
    assert shown.isprintable()


def test_a_long_field_is_cut():
    assert len(line("x", payload="y" * 10_000)) < 400


@pytest.fixture
def restored_logs():
    root, ours = logging.getLogger(), logging.getLogger("foa")
    before = root.handlers, root.level, ours.level
    yield
    root.handlers, ours.level = before[0], before[2]
    root.setLevel(before[1])


@pytest.mark.usefixtures("restored_logs")
def test_only_what_is_severe_enough_is_written(capsys):
    configure_logs("info")
    logging.getLogger("foa.y").info("told", extra={"job": "j1"})
    logging.getLogger("foa.y").debug("not told")
    logging.getLogger("elsewhere").info("not told either")
    assert [each.partition(" ")[2] for each in capsys.readouterr().err.splitlines()] == ["info foa.y told job=j1"]
