"""Copies of files that are mostly holes."""

import os
from pathlib import Path

from foa.index.files import all_to_disk, copy_folder, to_disk

LARGE = 64 << 20


def test_a_copy_reads_as_its_original_does_and_takes_no_more_room(tmp_path: Path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    with (source / "deep" / "holes").open("wb") as file:  # data, a hole, data that takes two reads, a hole
        file.write(b"begin")
        file.seek(8 << 20)
        file.write(bytes(range(256)) * 6_000)
        file.truncate(LARGE)
    (source / "all-hole").touch()
    os.truncate(source / "all-hole", LARGE)
    (source / "empty").touch()
    (source / "full").write_bytes(b"full")
    copy_folder(source, tmp_path / "copy")
    all_to_disk(tmp_path / "copy")
    for name in ("deep/holes", "all-hole", "empty", "full"):
        assert (tmp_path / "copy" / name).read_bytes() == (source / name).read_bytes()
    blocks = sum(file.stat().st_blocks for file in (tmp_path / "copy").rglob("*") if file.is_file())
    assert blocks * 512 < 4 << 20  # of 128 MB: some 1.5 MB of data


def test_what_is_written_to_disk_tells_its_size(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"12345")
    assert to_disk(tmp_path / "file") == 5
