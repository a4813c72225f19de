"""Where an orchestrator searches: which folder, whose vectors, who else has it, and what is said where it does not do."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.test_card import HashEmbedder

from foa.app.alive import held, is_held
from foa.app.places import registry_folder
from foa.app.search_place import Place, collection_of, open_place
from foa.app.settings import Settings, read_settings
from foa.errors import BadInput, StoreFailed
from foa.index.edge import EdgeIndex
from foa.index.exact import ExactIndex
from foa.ports import Embedder, IndexPoint
from foa.registry.shelf import FileShelf
from foa.values.ids import AgentId


class OtherEmbedder(HashEmbedder):
    """The same dimension under another name."""

    id = "other-256:1"


def told(**settings: object) -> Settings:
    return read_settings(environ={}, overrides={f"FOA_{name.upper()}": value for name, value in settings.items()})


async def kept(folder: Path | None, embedder: Embedder | None = None, *, add: str = "", **settings: object) -> list[str]:
    """Open, put an agent in, close; gives who was there before."""
    embedder = embedder or HashEmbedder()
    async with open_place(told(**settings), embedder, orchestrator="agent-0", folder=folder) as place:
        assert isinstance(place.index, EdgeIndex)
        before = await place.index.agents()
        if add:
            [vector] = await embedder.embed([add])
            await place.index.upsert([IndexPoint(agent=AgentId(add), vector=vector, embedder=embedder.id)])
            place.shelf.put(AgentId(add), b"card")
        await closed(place)
    return [*before]


async def closed(place: Place) -> None:
    await place.index.aclose()
    place.shelf.close()


@pytest.mark.parametrize(
    ("settings", "keep", "folder"),
    [
        ({}, True, "/state/registry/zero"),
        ({}, False, None),
        ({"index": "exact"}, True, None),
        ({"index_dir": "/here"}, True, "/here"),
        ({"index_dir": "/here"}, False, "/here"),
    ],
)
def test_an_orchestrator_of_its_own_keeps_its_index_and_others_where_it_is_said(
    settings: dict[str, object], keep: bool, folder: str | None
):
    chosen = registry_folder(told(state_dir="/state", **settings), "zero", keep=keep)
    assert chosen == (None if folder is None else Path(folder))


async def test_a_kept_folder_has_its_agents_again(tmp_path: Path):
    assert await kept(tmp_path / "new", add="a") == []
    assert await kept(tmp_path / "new", add="b") == ["a"]
    assert sorted(await kept(tmp_path / "new")) == ["a", "b"]


async def test_without_a_folder_nothing_stays():
    assert await kept(None, add="a") == []
    assert await kept(None) == []


async def test_cards_lie_in_files_beside_a_kept_index(tmp_path: Path):
    async with open_place(told(index="exact"), HashEmbedder(), orchestrator="agent-0", folder=tmp_path) as place:
        assert isinstance(place.index, ExactIndex)
        assert isinstance(place.shelf, FileShelf)
        await closed(place)


async def test_an_index_of_another_embedder_of_the_same_width_is_emptied(tmp_path: Path):
    await kept(tmp_path, add="a")
    assert await kept(tmp_path, OtherEmbedder(), add="b") == []
    assert await kept(tmp_path, OtherEmbedder()) == ["b"]
    assert await kept(tmp_path) == []


async def test_an_index_in_another_number_of_parts_is_emptied_and_leaves_nothing_behind(tmp_path: Path):
    await kept(tmp_path, add="a")
    assert await kept(tmp_path, add="b", index_shards=3) == []
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [f"part-00{i}-of-003" for i in range(3)]
    assert await kept(tmp_path, index_shards=3, index_quantised=True) == ["b"]  # the layout may change


async def test_a_second_orchestrator_in_a_folder_is_refused_and_may_have_it_later(tmp_path: Path):
    async with open_place(told(), HashEmbedder(), orchestrator="zero-a", folder=tmp_path) as place:
        with pytest.raises(BadInput, match=r"another orchestrator keeps its agents in .*FOA_INDEX_DIR"):
            await kept(tmp_path)
        await closed(place)
    assert await kept(tmp_path) == []


async def test_a_folder_of_something_else_is_not_touched(tmp_path: Path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreFailed, match=r"is no folder of an index, it has index: give an empty one in FOA_INDEX_DIR"):
        await kept(tmp_path)
    assert (tmp_path / "index" / "thesis.tex").read_text() == "years of work"


async def test_a_start_that_was_killed_before_there_was_an_index_is_begun_again(tmp_path: Path):
    with held(tmp_path, "registry"):
        pass
    (tmp_path / "registry.part").write_text("{")
    assert await kept(tmp_path, add="a") == []


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"v": 1}', b'{"v": 2, "vectors": []}', b"\xef\xbb\xbf", b'{"embedder": "\xff"}']
)
async def test_a_folder_whose_description_is_damaged_says_what_to_do(tmp_path: Path, text: bytes):
    await kept(tmp_path, add="a")
    (tmp_path / "registry.json").write_bytes(text)
    with pytest.raises(
        StoreFailed, match=r"registry\.json cannot be read .*remove .*, it is made again from the agents' cards"
    ):
        await kept(tmp_path)


async def test_a_damaged_index_lets_go_of_its_folder(tmp_path: Path):
    await kept(tmp_path, add="a")
    manifest = tmp_path / "index" / "part-000-of-001" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:10])
    with pytest.raises(StoreFailed, match="cannot read the index"):
        await kept(tmp_path)
    manifest.write_bytes(whole)
    assert await kept(tmp_path) == ["a"]


async def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match=r"the folder .*/file/index cannot be made: Not a directory"):
        await kept(tmp_path / "file" / "index")


async def test_a_folder_that_cannot_be_written_is_named_and_no_state_folder(tmp_path: Path):
    (tmp_path / "registry.lock").mkdir()
    with pytest.raises(StoreFailed, match=rf"^the folder {tmp_path} cannot be written: Is a directory"):
        await kept(tmp_path)


def test_a_full_disk_is_a_sentence_that_names_the_folder(tmp_path: Path):
    code = (
        "import asyncio, resource, signal\n"
        "from pathlib import Path\n"
        "from tests.unit.app.test_search_place import kept\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))  # no file grows past 16 bytes\n"
        f"asyncio.run(kept(Path({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last == f"foa.errors.StoreFailed: the folder of the index, {tmp_path}, cannot be written: File too large"


async def test_whoever_is_cancelled_while_an_index_is_opened_holds_the_folder_until_that_is_done(tmp_path: Path):
    await kept(tmp_path, add="a")
    manifest = tmp_path / "index" / "part-000-of-001" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.unlink()
    os.mkfifo(manifest)  # whoever reads it waits for a writer
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(kept(tmp_path), name="serve")
        pipe = await asyncio.to_thread(os.open, manifest, os.O_WRONLY)  # returns when it is read
        try:
            task.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.wait([task])
            assert not task.done()
            assert is_held(tmp_path, "registry")
        finally:
            os.write(pipe, whole)
            os.close(pipe)
    assert task.cancelled()
    assert await kept(tmp_path) == ["a"]  # from the table that a clean end leaves


def test_a_disk_that_is_full_while_it_serves_is_a_sentence(tmp_path: Path):
    code = (
        "import asyncio, resource, signal\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from foa.index.edge import EdgeIndex\n"
        "from foa.ports import IndexPoint\n"
        "async def main():\n"
        f"    index = EdgeIndex(256, path=Path({str(tmp_path)!r}))\n"
        "    points = [IndexPoint(agent=f'a{i}', vector=row) for i, row in enumerate(np.eye(256, dtype=np.float32))]\n"
        "    await index.upsert(points)\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))  # no file grows past 16 bytes\n"
        "    await index.save()\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
    assert f"foa.errors.StoreFailed: the index in {tmp_path} could not be read or written: " in done.stderr


# ── a Qdrant server ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_orchestrator_and_embedder_has_a_collection_of_its_own():
    settings = told(index="qdrant", index_url="http://q:6333")
    names = {
        collection_of(settings, embedder, orchestrator)
        for embedder in (HashEmbedder(), OtherEmbedder())
        for orchestrator in ("zero-a", "zero-b")
    }
    assert names == {f"foa-agents-zero-{one}-{made_by}-256" for one in "ab" for made_by in ("hash-256-0", "other-256-1")}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"index": "qdrant"}, "FOA_INDEX_URL is not set"),
        ({"index_url": "http://q:6333"}, "set FOA_INDEX=qdrant"),
        ({"index": "qdrant", "index_url": "q:6333"}, "no address of a server"),
        ({"index": "faiss"}, "FOA_INDEX cannot be 'faiss'"),
        ({"index_shards": 0}, "FOA_INDEX_SHARDS cannot be 0"),
        ({"index_collection": "a/b"}, "FOA_INDEX_COLLECTION cannot be"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object], said: str):
    with pytest.raises(BadInput, match=said):
        told(**settings)


def test_the_missing_client_of_a_server_is_named_with_its_cure():
    code = (
        "import asyncio, sys; sys.modules['qdrant_client'] = None\n"
        "from tests.unit.app.test_search_place import HashEmbedder, open_place, told\n"
        "async def main():\n"
        "    settings = told(index='qdrant', index_url='http://127.0.0.1:1')\n"
        "    async with open_place(settings, HashEmbedder(), orchestrator='zero', folder=None): pass\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'foa[qdrant]'" in done.stderr.splitlines()[-1]
