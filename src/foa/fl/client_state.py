"""What a client app keeps between rounds, on disk: a site that is killed and started again goes on with it.

That is Flower's `Context.state`: whatever the app puts there, and what compression left out so far. Needs the extra `fl`.
"""

import hashlib
from pathlib import Path

from flwr.app import Context, Message

from foa.errors import BadInput, StoreFailed
from foa.fl.blobs import write_whole
from foa.fl.flower import ClientAppCallable, context, pack_state

MAX_BYTES = 4_000_000_000


def remembered(path: Path, node: int, config: dict[str, int | float | str | bool]) -> Context:
    """A client's context, with the state that was saved there; without any, a new one.

    Args:
        path: the file of this client in this run.
        node: Flower's number of the client.
        config: e.g. `partition-id`.

    Raises:
        BadInput: the file is no saved state.
        StoreFailed: it cannot be read.
    """
    try:
        saved = path.read_bytes() if path.exists() and path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise StoreFailed(f"client state {path}: {error}") from error
    if saved is None:
        return context(node, config)
    digest, state = saved[:32], saved[32:]
    if hashlib.sha256(state).digest() != digest:
        raise BadInput(f"{path} is damaged: remove it, and this client begins this run without what it kept")
    return context(node, config, state)


def remembering(app: ClientAppCallable, path: Path) -> ClientAppCallable:
    """The app, whose state is on disk before its reply is sent.

    The state can be large, so it is written only where a message changed it.
    """
    last = b""

    def answer(message: Message, kept: Context) -> Message:
        nonlocal last
        reply = app(message, kept)
        state = pack_state(kept)
        digest = hashlib.sha256(state).digest()
        if digest != last and (last or len(kept.state)):
            _write(path, digest + state)
        last = digest
        return reply

    return answer


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise StoreFailed(f"client state {path}: {error}") from error
