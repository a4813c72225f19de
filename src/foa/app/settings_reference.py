"""docs/reference/settings.md, written from the classes: names, bounds, defaults, and the `#:` lines above the fields.

python -m foa.app.settings_reference > docs/reference/settings.md
"""

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache

from foa.app.bounds import describe
from foa.app.settings import Known, Settings, known_settings
from foa.values.parameters import Parameters

_INTRODUCTION = """# Settings

Every setting of FoA, in the order of the classes that define it.
The first of these that names a setting decides:
the command line, the environment, the user's file, the federation's file, the default.
`foa settings` shows which value holds and where it comes from.

- The environment: the name as it stands here, `FOE_TEAM_SIZE=2 foa ask …`.
- The user's file: `~/.config/foa/foa.toml` (or the file that `FOA_CONFIG` names), the same names in the table `[settings]`.
- The federation's file: the table `[settings]` of a `FEDERATION.toml`.

Names with `FOE_` are the paper's (arXiv:2509.20175), names with `FOA_` are ours.
An unknown name is an error that tells the nearest known one.

This page is written by `python -m foa.app.settings_reference`; a test compares the two."""


def page() -> str:
    """The whole page, Markdown."""
    parts = [_INTRODUCTION]
    known = known_settings()
    for section, fields in sections():
        rows = [_row(setting) for setting in known.values() if (setting.owner, setting.field) in fields]
        if rows:
            parts.append(
                "\n".join([f"## {section}\n", "| setting | value | default | meaning |", "|---|---|---|---|", *rows])
            )
    return "\n".join(part + "\n" for part in parts).rstrip() + "\n"


def meaning(setting: Known) -> str:
    """What a setting is, in its author's words."""
    return _documented(setting.owner)[setting.field]


@cache
def sections() -> Sequence[tuple[str, Mapping[tuple[type, str], None]]]:
    """The `# ── title ──` headings of both classes, each with the fields under it."""
    found: list[tuple[str, dict[tuple[type, str], None]]] = []
    for owner in (Settings, Parameters):
        for line in inspect.getsource(owner).splitlines():
            if heading := re.match(r"    # ── (.+?) ─+$", line):
                found.append((_capital(heading.group(1)), {}))
            elif (name := re.match(r"    (\w+): ", line)) and found:
                found[-1][1][(owner, name.group(1))] = None
    return found


@cache
def _documented(owner: type) -> Mapping[str, str]:
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(owner).splitlines():
        if above := re.match(r"    #: (.+)", line):
            comment.append(above.group(1))
        elif name := re.match(r"    (\w+): .*?(?:#: (.+))?$", line):
            found[name.group(1)] = name.group(2) or " ".join(comment)
            comment = []
    return found


def _row(setting: Known) -> str:
    return f"| `{setting.name}` | {describe(setting.type).replace('|', '/')} | {_shown(setting)} | {meaning(setting)} |"


def _shown(setting: Known) -> str:
    if setting.default == "":
        return "empty"
    return f"`{str(setting.default).lower() if isinstance(setting.default, bool) else setting.default}`"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    sys.stdout.write(page())
