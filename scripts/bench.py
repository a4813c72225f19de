"""One form for every benchmark: `benchmarks/NAME.py` has `run(quick: bool, **options)`, this prints what it measured.

`run` returns {"figures": …, "baseline": …, "repetitions": n}. With `--json` the last line is one JSON object
{name, machine, repetitions, figures, baseline}, so that figures can be compared over time and over machines.
"""

import difflib
import importlib
import inspect
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
USAGE = "usage: scripts/bench NAME [--json] [--quick] [--OPTION VALUE …], or scripts/bench --list"


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark that the arguments name."""
    sys.path.insert(0, str(ROOT))
    if not arguments or arguments[0] in {"-h", "--help"}:
        stop(USAGE)
    if arguments[0] == "--list":
        print("\n".join(names()))
        return
    name, rest = arguments[0], list(arguments[1:])
    if name not in names():
        stop(f"there is no benchmark {name!r}{nearest(name, names())}; there are: {', '.join(names())}")
    run = importlib.import_module(f"benchmarks.{name}").run
    as_json, quick, options = parse(rest, known=set(inspect.signature(run).parameters) - {"quick"})
    measured = run(quick=quick, **options)
    report = {"name": name, "machine": machine(), **{k: measured[k] for k in ("repetitions", "figures", "baseline")}}
    print(json.dumps(report) if as_json else json.dumps(report, indent=2))


def names() -> list[str]:
    """Every benchmark of the folder."""
    return sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py") if not file.stem.startswith("_"))


def parse(rest: list[str], *, known: set[str]) -> tuple[bool, bool, dict[str, Any]]:
    """Split into our two switches and the benchmark's own options; a lone option is True."""
    options: dict[str, Any] = {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            stop(f"{word!r} stands alone: options are written --NAME VALUE")
        key, joined, value = word[2:].partition("=")
        key = key.replace("-", "_")
        if not joined and rest and not rest[0].startswith("--"):
            value, joined = rest.pop(0), "="
        options[key] = number(value) if joined else True
    as_json, quick = bool(options.pop("json", False)), bool(options.pop("quick", False))
    for key in options:
        if key not in known:
            stop(f"this benchmark has no option --{key}{nearest(key, known)}; it has: {', '.join(sorted(known)) or 'none'}")
    return as_json, quick, options


def number(text: str) -> int | float | str:
    """The value as a number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def nearest(word: str, known: Sequence[str] | set[str]) -> str:
    """A hint at what was meant, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def machine() -> Mapping[str, Any]:
    """What the figures were taken on."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def cpu_model() -> str:
    """The processor as the system calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def stop(why: str) -> NoReturn:
    """Say what is wrong and leave with the code for unusable input."""
    print(why, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
