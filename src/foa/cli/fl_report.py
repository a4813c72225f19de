"""The report of a run, for every way to start one. Needs the extra `fl`."""

from pathlib import Path

from foa.app.federated import Asked
from foa.app.federated_guardian import decisions_in
from foa.app.federated_sites import run_folder
from foa.app.settings import Settings
from foa.fl.report import write_report
from foa.fl.training import Trained


def report_of(asked: Asked, settings: Settings, trained: Trained, folder: Path | None) -> Path:
    """Write it; gives the page's path.

    Args:
        asked: what was run.
        settings: state folder.
        trained: how it ended.
        folder: where it goes; None: into the run's own.

    Raises:
        StoreFailed: the folder cannot be written.
    """
    return write_report(
        folder or run_folder(settings, asked.run) / "report",
        f"{asked.folder.resolve().name}: {asked.run}",
        trained.state.rows,
        facts=_facts(asked, trained),
        decisions=[(found.site, found.entry) for found in decisions_in(run_folder(settings, asked.run))],
    )


def _agreements(trained: Trained) -> str:
    talks = [talk for row in trained.state.rows for talk in row.talks]
    if not talks:
        return "none: nobody negotiated"
    return f"{sum(talk.agreed is not None for talk in talks)} of {len(talks)} negotiations"


def _facts(asked: Asked, trained: Trained) -> dict[str, str]:
    rows = trained.state.rows
    models = sorted({row.model for row in rows if row.model and row.verdict != "fallback"})
    fallbacks = sum(row.verdict == "fallback" and bool(row.model) for row in rows)
    return {
        "selector": asked.selector,
        "rounds": f"{len(rows)}" + (f", this time from {began}" if (began := trained.began_at_round) > 1 else ""),
        "decisions by": ", ".join(models) or "the rule",
        "proposals replaced by the rule": str(fallbacks),
        "tokens spent on decisions": f"{sum(row.tokens for row in rows):,}",
        "agreements": _agreements(trained),
        "paid": f"{sum(client.usd for row in rows for client in row.clients):.2f} US$",
        "found by the audit": str(sum(len(client.findings) for row in rows for client in row.clients)),
    }
