"""This machine's signing keys, one for cards and one for gossip: made once, readable by their owner only."""

import os
from pathlib import Path

from foa.errors import StoreFailed
from foa.registry.keys import SigningKey, load_key, new_key, save_key

FILE_NAME = "agent-key.pem"
ORCHESTRATOR_FILE_NAME = "orchestrator-key.pem"


def host_key(state_dir: Path, name: str = FILE_NAME) -> SigningKey:
    """Give a key of the state folder; made there if it is missing.

    Two processes that make it at once end up with one: the file is created exclusively and the loser reads the winner's.

    Raises:
        StoreFailed: the folder cannot be written, or the file is not a key.
    """
    path = state_dir / name
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path, save_key(new_key()))
        return load_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreFailed(f"the signing key {path} cannot be used: {error}; move it away to get a new one") from error


def orchestrator_key(state_dir: Path) -> SigningKey:
    """Give the key with which the orchestrators of this machine sign what they tell others; made if it is missing.

    Raises:
        StoreFailed: the folder cannot be written, or the file is not a key.
    """
    return host_key(state_dir, ORCHESTRATOR_FILE_NAME)


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
