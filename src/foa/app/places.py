"""Where things are kept under the state folder."""

from pathlib import Path

from foa.app.settings import Settings


def journal_file(settings: Settings) -> Path:
    """Jobs, reputation and replies of this machine."""
    return settings.state_dir / "jobs.db"


def broker_folder(settings: Settings) -> Path:
    """Sessions and retained messages of the broker that `foa up` starts."""
    return settings.state_dir / "broker"
