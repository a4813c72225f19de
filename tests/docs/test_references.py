"""Reference pages say what the code says."""

from pathlib import Path

from foa.app.settings import known_settings
from foa.app.settings_reference import meaning, page

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_the_settings_page_is_what_the_classes_say():
    written = (REFERENCE / "settings.md").read_text()
    assert written == page(), "run: python -m foa.app.settings_reference > docs/reference/settings.md"


def test_every_setting_is_on_the_page_with_its_meaning():
    written = page()
    for name, setting in known_settings().items():
        assert f"| `{name}` |" in written
        assert meaning(setting), f"{name} has no `#:` line"
