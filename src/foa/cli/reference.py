"""docs/reference/commands.md, written from the commands themselves.

python -m foa.cli.reference > docs/reference/commands.md
"""

import sys
from collections.abc import Iterator
from typing import Any

import typer

from foa.cli import COMMANDS, build

_INTRODUCTION = """# Commands

Every command with its arguments and options; `foa COMMAND --help` shows the same.
What a command leaves with is explained in [exit codes](exit-codes.md).
Answers and tables go to stdout, progress and complaints to stderr.

This page is written by `python -m foa.cli.reference`; a test compares the two."""


def page() -> str:
    """The whole page, Markdown."""
    parts = [_INTRODUCTION]
    for name in COMMANDS:
        top: Any = typer.main.get_command(build([name]))
        parts.extend(_sections(top.commands[name], f"foa {name}"))
    return "\n\n".join(parts) + "\n"


def _sections(command: Any, path: str) -> Iterator[str]:
    inner: dict[str, Any] = getattr(command, "commands", {})
    lines = [f"## `{path}`" if path.count(" ") == 1 else f"### `{path}`", "", command.help or ""]
    rows = [row for each in command.params if (row := _row(each))]
    if rows and not inner:
        lines += ["", "| argument or option | default | meaning |", "|---|---|---|", *rows]
    yield "\n".join(lines)
    for name, each in inner.items():
        yield from _sections(each, f"{path} {name}")


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if "--help" in names:
        return ""
    metavar = parameter.metavar or ""
    if parameter.param_type_name == "argument":
        shown = f"`{metavar or parameter.name.upper()}`"
    else:
        value = "" if parameter.is_flag else f" {metavar or 'VALUE'}"
        shown = ", ".join(f"`{name}`" for name in names[:-1]) + (", " if len(names) > 1 else "") + f"`{names[-1]}{value}`"
    default = parameter.default
    empty = default in (None, "", False) or callable(default) or parameter.required
    return f"| {shown} | {'' if empty else f'`{default}`'} | {(getattr(parameter, 'help', '') or '').replace('|', '/')} |"


if __name__ == "__main__":
    sys.stdout.write(page())
