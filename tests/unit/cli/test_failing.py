"""Every way to fail is one sentence on stderr and its own exit code."""

import inspect

import pytest

import foa.errors
from foa.cli.failing import INTERRUPTED, fail, first_cause
from foa.errors import BadInput, BrokerUnreachable, FabricError


def test_an_error_of_ours_is_its_sentence_and_its_code(capsys):
    assert fail(BrokerUnreachable("no broker at mqtt://127.0.0.1:1: start one")) == 6
    assert capsys.readouterr().err == "foa: no broker at mqtt://127.0.0.1:1: start one\n"


def test_an_error_inside_groups_is_found(capsys):
    group = BaseExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("more", [BadInput("the file is empty")])])
    assert isinstance(first_cause(group), BadInput)
    assert fail(group) == 2
    assert capsys.readouterr().err == "foa: the file is empty\n"


def test_an_interruption_is_told_as_shells_do(capsys):
    assert fail(KeyboardInterrupt()) == INTERRUPTED
    assert capsys.readouterr().err == "foa: interrupted\n"


def test_a_fault_of_ours_is_a_sentence_and_not_a_traceback(capsys, monkeypatch):
    monkeypatch.delenv("FOA_DEBUG", raising=False)
    assert fail(KeyError("x")) == 1
    said = capsys.readouterr().err
    assert "KeyError" in said
    assert "FOA_DEBUG=1" in said
    assert "Traceback" not in said


def test_debugging_shows_the_traceback_too(capsys, monkeypatch):
    monkeypatch.setenv("FOA_DEBUG", "1")
    with pytest.raises(BadInput) as caught:
        raise BadInput("the file is empty")
    assert fail(caught.value) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("foa: the file is empty\n")


def test_a_message_cannot_steer_the_terminal(capsys):
    fail(BadInput("bad \x1b[2J name"))
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "kind", [each for _, each in inspect.getmembers(foa.errors, inspect.isclass) if issubclass(each, FabricError)]
)
def test_every_error_class_has_a_small_exit_code(kind):
    assert 1 <= kind.exit_code < 64
