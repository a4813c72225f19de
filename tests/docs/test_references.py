"""Reference pages say what the code says."""

import inspect
import re
from pathlib import Path

import foa.errors
from foa.app.settings import known_settings
from foa.app.settings_reference import meaning, page
from foa.cli.failing import INTERRUPTED
from foa.cli.reference import page as commands_page

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_the_settings_page_is_what_the_classes_say():
    written = (REFERENCE / "settings.md").read_text()
    assert written == page(), "run: python -m foa.app.settings_reference > docs/reference/settings.md"


def test_every_setting_is_on_the_page_with_its_meaning():
    written = page()
    for name, setting in known_settings().items():
        assert f"| `{name}` |" in written
        assert meaning(setting), f"{name} has no `#:` line"


def test_every_exit_code_has_a_section_that_names_its_errors():
    sections = dict(re.findall(r"^## (\d+): (.+?)(?=^## |\Z)", (REFERENCE / "exit-codes.md").read_text(), re.M | re.S))
    assert {"0", "1", str(INTERRUPTED)} <= set(sections)
    for name, kind in inspect.getmembers(foa.errors, inspect.isclass):
        if issubclass(kind, foa.errors.FabricError) and kind is not foa.errors.FabricError:
            assert f"`{name}`" in sections[str(kind.exit_code)], f"{name} is missing under {kind.exit_code}"


def test_the_commands_page_is_what_the_commands_say():
    written = (REFERENCE / "commands.md").read_text()
    assert written == commands_page(), "run: python -m foa.cli.reference > docs/reference/commands.md"
