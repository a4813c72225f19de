"""The report of a run: an HTML page with plots, the plots as PNG files, and the raw figures as JSON. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from foa.errors import StoreFailed
from foa.fl.guard import GuardEntry
from foa.fl.page import page
from foa.fl.plots import pictures
from foa.fl.rounds import RoundRow


def write_report(
    folder: Path,
    title: str,
    rows: Sequence[RoundRow],
    *,
    facts: Mapping[str, str],
    decisions: Sequence[tuple[str, GuardEntry]] = (),
) -> Path:
    """Write the report; gives the page's path.

    Args:
        folder: gets `report.html`, `rounds.json` and a PNG for each plot that has something to show; is created.
        title: of the page.
        rows: every round.
        facts: shown at the top, name → value.
        decisions: (site, what its model decided), where the sites are in this process; other sites keep theirs.

    Raises:
        StoreFailed: the folder cannot be written.
    """
    plots = pictures(rows)
    written = page(title, rows, facts, plots, decisions)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, drawn in plots.items():
            (folder / f"{name}.png").write_bytes(drawn)
        (folder / "rounds.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1))
        (folder / "report.html").write_text(written, encoding="utf-8")
    except OSError as error:
        raise StoreFailed(f"report in {folder}: {error}") from error
    return folder / "report.html"
