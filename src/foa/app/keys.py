"""This machine's signing key for cards: made once, readable by its owner only."""

import os
from pathlib import Path

from foa.errors import StoreFailed
from foa.registry.keys import SigningKey, load_key, new_key, save_key

FILE_NAME = "agent-key.pem"


def host_key(state_dir: Path) -> SigningKey:
    """Give the key in the state folder; made there if it is missing.

    Two processes that make it at once end up with one: the file is created exclusively and the loser reads the winner's.

    Raises:
        StoreFailed: the folder cannot be written, or the file is not a key.
    """
    path = state_dir / FILE_NAME
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path, save_key(new_key()))
        return load_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreFailed(f"the signing key {path} cannot be used: {error}; move it away to get a new one") from error


def _create(path: Path, pem: bytes) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
    try:
        os.link(draft, path)  # fails where another process was first, and never shows half a file
    except FileExistsError:
        pass
    finally:
        draft.unlink()
