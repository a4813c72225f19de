"""What the documentation shows, runs: every fenced block that is marked `run`.

A block begins with ```python run or ```sh run; what it prints is not compared, only that it ends well.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 120


def blocks() -> Iterator[object]:
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r"^```(python|sh) run\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            yield pytest.param(found[1], found[2], id=f"{page.relative_to(ROOT)}:{line}")


def environment(tmp_path: Path) -> dict[str, str]:
    """The user's, with folders of its own and this environment's commands first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOA_", "FOE_"))}
    own = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config"), "FOA_DEBUG": "1"}
    return {**kept, **own, "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}"}


@pytest.mark.parametrize(("language", "code"), list(blocks()))
def test_an_example_runs_as_it_stands(language, code, tmp_path):
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euc", code]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr


def test_there_are_examples_to_run():
    assert len(list(blocks())) >= 3


def links() -> Iterator[object]:
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                yield pytest.param(page.parent / target, id=f"{page.relative_to(ROOT)} -> {target}")


@pytest.mark.parametrize("target", list(links()))
def test_a_link_leads_somewhere(target):
    assert target.exists()


def test_every_page_is_reached_from_the_index():
    indexes = [ROOT / "docs" / "README.md", ROOT / "docs" / "decisions" / "README.md"]
    found = ((index.parent, link) for index in indexes for link in re.findall(r"\]\(([^)#]+)\)", index.read_text()))
    reached = {(folder / link).resolve() for folder, link in found}
    pages = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs" / "README.md"}
    assert sorted(pages - reached) == []
