"""The evaluation data: folders of JSON lines under `FOA_DATA`, cut from their publishers' files (SOURCE.txt in each)."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def folder(name: str) -> Path:
    """Give one data folder.

    Raises:
        SystemExit: FOA_DATA is not set, or has no such folder.
    """
    root = os.environ.get("FOA_DATA", "")
    found = Path(root) / name
    if not root or not found.is_dir():
        raise SystemExit(f"this benchmark reads {name}: set FOA_DATA to the folder that has it (FOA_DATA is {root!r})")
    return found


def rows(file: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def teaching(text: str) -> bool:
    """Tell whether a row is for teaching and tuning (a quarter of them); the others are for reporting only.

    The first byte of the SHA-256 of `foa-split:` and the text, below 64.
    """
    return hashlib.sha256(f"foa-split:{text}".encode()).digest()[0] < 64
