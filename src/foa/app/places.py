"""Where things are kept under the state folder."""

from pathlib import Path

from foa.app.settings import Settings
from foa.errors import StoreFailed


def journal_file(settings: Settings) -> Path:
    """Jobs, reputation and replies of this machine."""
    return settings.state_dir / "jobs.db"


def broker_folder(settings: Settings) -> Path:
    """Sessions and retained messages of the broker that `foa up` starts."""
    return settings.state_dir / "broker"


def registry_folder(settings: Settings, orchestrator: str, *, keep: bool) -> Path | None:
    """Where an orchestrator's index and cards are kept; None: nowhere.

    Args:
        settings: FOA_INDEX_DIR, else the state folder.
        orchestrator: its name, an id.
        keep: whether to keep them where no setting names a folder. An exact index has nothing to keep.
    """
    if settings.index_dir:
        return Path(settings.index_dir).expanduser()
    return settings.state_dir / "registry" / orchestrator if keep and settings.index != "exact" else None


def made(folder: Path) -> Path:
    """The folder, made where it was missing.

    Raises:
        StoreFailed: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreFailed(f"the folder {folder} cannot be made: {error.strerror or error}") from error
    return folder
