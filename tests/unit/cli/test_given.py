"""What a user gives becomes a task, or a sentence that says what to do."""

import io
import json
from pathlib import Path

import pytest

from foa.cli.given import make_task, read_question, read_transcript
from foa.errors import BadInput
from foa.values.task import MAX_TASK_CHARACTERS, Turn


def write(folder: Path, text: str) -> Path:
    path = folder / "chat.json"
    path.write_text(text)
    return path


def test_the_words_of_the_command_line_are_the_question():
    assert read_question(["How", "does it", "work?"]) == "How does it work?"


def test_a_dash_reads_the_question_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("  What is this?\n"))
    assert read_question(["-"]) == "What is this?"


def test_an_over_long_question_is_refused_with_a_way_out():
    with pytest.raises(BadInput, match=r"over 100,000 characters.*--over DIR"):
        read_question(["x" * (MAX_TASK_CHARACTERS + 1)])


@pytest.mark.parametrize("nothing", ["", "  \n "])
def test_an_empty_task_is_refused(nothing):
    with pytest.raises(BadInput, match="the task is empty"):
        make_task(nothing)


def test_the_last_turn_of_a_transcript_is_the_question(tmp_path):
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
    ]
    task = make_task("", read_transcript(write(tmp_path, json.dumps(turns))))
    assert task.text == "Why?"
    assert task.transcript == (Turn(role="user", content="Hi"), Turn(role="assistant", content="Hello"))


def test_a_question_beside_a_transcript_comes_after_all_of_it():
    task = make_task("And now?", (Turn(role="user", content="Hi"), Turn(role="assistant", content="Hello")))
    assert (task.text, len(task.transcript)) == ("And now?", 2)


def test_an_object_with_messages_and_parts_of_text_is_a_transcript_too(tmp_path):
    messages = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}
    assert read_transcript(write(tmp_path, json.dumps(messages))) == (Turn(role="user", content="a\nb"),)


def test_a_transcript_that_ends_with_the_assistant_is_refused():
    with pytest.raises(BadInput, match="ends with a message of the assistant"):
        make_task("", (Turn(role="assistant", content="Hello"),))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[\n  {"role": "user", "content": "a"},\n  {"role": "user" "content": "b"}\n]', r"chat\.json:3: not JSON"),
        ('[\n  {"role": "user", "content": "a"},\n  {"role": "robot", "content": "b"}\n]', r"chat\.json:3: not a message"),
        ('{"x": 1,\n "messages": [\n  {"content": "b"}\n]}', r"chat\.json:3: not a message: .*role"),
        ('[{"role": "user", "content": 3}]', r"chat\.json:1: not a message: .*content"),
        ('"hello"', r"chat\.json:1: not a transcript: write a list"),
        ("[]", r"chat\.json:1: not a transcript"),
        ("", r"chat\.json:1: not JSON"),
        ('{"messages":\n "none"}', r"chat\.json:1: not a transcript"),
        ("[" * 100_000, r"chat\.json:1: not JSON"),
    ],
)
def test_a_bad_transcript_is_pointed_at_by_its_line(tmp_path, text, complaint):
    with pytest.raises(BadInput, match=complaint):
        read_transcript(write(tmp_path, text))


def test_a_missing_transcript_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"gone\.json cannot be read: No such file"):
        read_transcript(tmp_path / "gone.json")


def test_too_many_messages_are_refused(tmp_path):
    text = json.dumps([{"role": "user", "content": "a"}] * 1001)
    with pytest.raises(BadInput, match="1,001 messages are over the limit of 1,000"):
        read_transcript(write(tmp_path, text))


@pytest.mark.parametrize(("option", "value"), [("policies", ["NOT A LABEL"]), ("skills", [""]), ("kind", "")])
def test_an_unusable_label_names_its_option(option, value):
    with pytest.raises(BadInput, match=r"--(policy|skill|kind): write a"):
        make_task("x", **{option: value})


def test_what_is_not_utf_8_is_refused_with_its_place(tmp_path):
    # the byte E9 (é in Latin-1) of an argument, as Python gives it: a lone surrogate
    with pytest.raises(BadInput, match="the task is not UTF-8 at character 4"):
        read_question(["caf\udce9"])
    transcript = write(tmp_path, '[{"role": "user", "content": "\\ud800"}]')
    with pytest.raises(BadInput, match=":1: the message is not UTF-8 at character 1"):
        read_transcript(transcript)
