"""What `import foa` offers is what its reference says, and it costs nothing until it is used."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import foa

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "library.md"


def test_the_reference_lists_every_public_name_and_no_other():
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(foa.__all__)


@pytest.mark.parametrize("name", foa.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name):
    assert (getattr(foa, name).__doc__ or "").strip()


def test_the_version_is_the_packages():
    assert foa.__version__ == version("foa")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        foa.nonsense  # noqa: B018


def test_importing_foa_imports_nothing_else_of_it():
    code = "import sys, foa; print([name for name in sys.modules if name.startswith('foa.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_asking_for_help_imports_no_command():
    code = (
        "import sys\nfrom foa.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name in ('foa.cli.ask', 'numpy', 'pydantic', 'sqlalchemy', 'scipy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
