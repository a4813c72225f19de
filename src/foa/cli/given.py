"""What the user gave, made into a submission: a question, a chat transcript, a budget."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from foa.app.toml_file import read_text
from foa.errors import BadInput
from foa.values.resources import Name
from foa.values.task import MAX_TASK_CHARACTERS, Label, Task, Turn

MAX_TRANSCRIPT_BYTES = 4_000_000
_TURN_NUMBER = 1_000  #: most turns, as the wire has it
_Skills = Annotated[tuple[Name, ...], msgspec.Meta(max_length=32)]
_Labels = Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)]
_WRITE = 'write a list of {"role": "user" or "assistant" or "system", "content": "…"}'


def read_question(words: Sequence[str]) -> str:
    """The question: the words of the command line, or standard input where they are `-`.

    Raises:
        BadInput: it is over-long, or not UTF-8.
    """
    text = sys.stdin.read(MAX_TASK_CHARACTERS + 1) if list(words) == ["-"] else " ".join(words)
    text = text.strip()
    if len(text) > MAX_TASK_CHARACTERS:
        raise BadInput(
            f"the task is over {MAX_TASK_CHARACTERS:,} characters: shorten it, or put the material into a folder and let "
            "the agents look there (--over DIR)"
        )
    _check_unicode(text, "the task")
    return text


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{what} is not UTF-8 at character {error.start + 1}: use a terminal or a file in UTF-8") from error


def make_task(
    question: str,
    transcript: Sequence[Turn] = (),
    *,
    kind: str = "general",
    skills: Sequence[str] = (),
    policies: Sequence[str] = (),
) -> Task:
    """Put question and transcript together: without a question, the transcript's last turn is it.

    Raises:
        BadInput: there is nothing to answer, or a skill, policy or kind is not usable.
    """
    earlier = list(transcript)
    if not question and earlier:
        last = earlier.pop()
        if last.role != "user":
            raise BadInput(f"the transcript ends with a message of the {last.role}: end it with the user's question")
        question = last.content
    if not question.strip():
        raise BadInput('the task is empty: say what you want to know, as in: foa ask "What does this program do?"')
    return Task(
        text=question,
        transcript=tuple(earlier),
        kind=_convert(kind, Name, "--kind", "a name of 1 to 64 characters"),
        skills=_convert(
            list(skills),
            Annotated[tuple[Name, ...], msgspec.Meta(max_length=32)],
            "--skill",
            "a name of 1 to 64 characters, at most 32 times",
        ),
        policies=_convert(
            list(policies),
            Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)],
            "--policy",
            "a label such as gdpr or region:eu, at most 32 times",
        ),
    )


def read_transcript(path: Path) -> tuple[Turn, ...]:
    """Read a chat transcript: a JSON list of messages in the OpenAI form, or an object with such a list as `messages`.

    Raises:
        BadInput: the file cannot be read or is no transcript; with file and line.
    """
    text = read_text(path, limit=MAX_TRANSCRIPT_BYTES)
    try:
        whole = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise BadInput(f"{path}:{line}: not JSON ({getattr(error, 'msg', error)}): {_WRITE}") from error
    start = 0
    if isinstance(whole, dict) and (key := re.search(r'"messages"\s*:', text)):
        start = key.end()
        whole = whole.get("messages")  # pyright: ignore[reportUnknownMemberType]
    if not isinstance(whole, list) or not whole:
        raise BadInput(f"{path}:{_line(text, start)}: not a transcript: {_WRITE}")
    if len(whole) > _TURN_NUMBER:
        raise BadInput(f"{path}: {len(whole):,} messages are over the limit of {_TURN_NUMBER:,}: keep the last ones")
    return tuple(_turn(value, f"{path}:{_line(text, at)}") for at, value in _elements(text, start))


def _elements(text: str, start: int) -> Iterator[tuple[int, Any]]:
    """Each element of the JSON list that begins at or after `start`, with its offset. The text is known to be JSON."""
    decoder = json.JSONDecoder()
    at = text.index("[", start) + 1
    while True:
        at = _skip(text, at)
        if text[at] == "]":
            return
        value, end = decoder.raw_decode(text, at)
        yield at, value
        at = end


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n,":
        at += 1
    return at


def _turn(value: Any, place: str) -> Turn:
    if isinstance(value, dict) and isinstance(parts := value.get("content"), list):
        texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
        value = {**value, "content": "\n".join(text for text in texts if isinstance(text, str))}
    try:
        turn = msgspec.convert(value, Turn)
    except msgspec.ValidationError as error:
        raise BadInput(f"{place}: not a message: {error}: {_WRITE}") from error
    _check_unicode(turn.content, f"{place}: the message")
    return turn


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _convert(value: object, kind: Any, option: str, form: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"{option}: write {form}") from error
