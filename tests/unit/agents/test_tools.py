"""What agents look things up with: what is found, where it stands, and what is refused."""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.agents import WordEmbedder

from foa.agents.profile import parse_profile
from foa.agents.tools.chunks import chunk
from foa.agents.tools.dependencies import DependencyTool
from foa.agents.tools.documents import code, documents
from foa.agents.tools.equip import equip
from foa.agents.tools.files import Ignore, Limits, walk
from foa.agents.tools.git import GitTool
from foa.agents.tools.guard import Equipped
from foa.agents.tools.manifests import read_manifest
from foa.agents.tools.sql import SqlTool
from foa.agents.tools.vectors import VectorCache
from foa.errors import BadInput, PolicyDenied

SOURCE = '''"""How long to wait before trying again."""

import random

LIMIT_SECONDS = 60.0


def retry_delay(attempt: int) -> float:
    """Double the delay at every attempt, up to the limit."""
    return min(LIMIT_SECONDS, 2.0**attempt * random.random())


class Courier:
    """Carries parcels."""

    def deliver(self, parcel: str) -> None:
        """Bring a parcel to its door."""
'''

GUIDE = """# Guide

Read this first.

## Installing

Run the installer and wait.

## Apples

Red apples grow in cool orchards.
Pick them in autumn.
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "retry.py").write_text(SOURCE)
    (folder / "src" / "main.py").write_text("import random\nfrom src.retry import retry_delay\n\nprint(retry_delay(1))\n")
    (folder / "guide.md").write_text(GUIDE)
    (folder / "secret.md").write_text("The password of the apples is orchard.")
    (folder / ".gitignore").write_text("secret.md\n*.log\n!keep.log\nbuild/\n")
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = [\n  "httpx>=0.28",\n  "msgspec",\n]\n')
    return folder


# ── folders ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_document_is_found_by_its_words_with_its_lines(project: Path) -> None:
    found = await documents(project, WordEmbedder()).retrieve("Where do red apples grow?", 3)
    assert found[0].source.locator == "guide.md:9-12"
    assert found[0].text.startswith("## Apples")
    assert "secret.md" not in {piece.source.locator.split(":")[0] for piece in found}


async def test_what_defines_the_name_a_question_mentions_comes_first(project: Path) -> None:
    found = await code(project, WordEmbedder()).retrieve("What does retry_delay do with random?", 3)
    assert found[0].source.locator == "src/retry.py:8-10"
    assert found[0].defines == ("retry_delay",)


async def test_a_changed_file_is_seen_at_the_next_question(project: Path) -> None:
    tool = documents(project, WordEmbedder())
    await tool.retrieve("whales", 1)
    (project / "whales.md").write_text("# Whales\n\nBlue whales sing at night.\n")
    assert (await tool.retrieve("Do blue whales sing?", 1))[0].source.locator == "whales.md:1-3"


async def test_a_second_start_embeds_only_what_changed(project: Path, tmp_path: Path) -> None:
    class Counting(WordEmbedder):
        texts = 0

        async def embed(self, texts):
            self.texts += len(texts)
            return await super().embed(texts)

    async def embedded() -> int:
        embedder = Counting()
        await documents(project, embedder, cache=VectorCache(tmp_path / "cache" / "v.db")).retrieve("apples", 1)
        return embedder.texts - 1  # less the question

    first = await embedded()
    assert first > 3
    assert await embedded() == 0
    (project / "guide.md").write_text(GUIDE.replace("cool", "warm"))
    assert await embedded() == 1


def test_only_text_inside_the_folder_and_within_the_limits_is_walked(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.md").write_text("outside")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.md").write_text("far")
    (project / "link.md").symlink_to(tmp_path / "outside.md")
    (project / "inside.md").symlink_to(project / "guide.md")
    (project / "linked").symlink_to(tmp_path / "elsewhere")
    (project / "build").mkdir()
    (project / "build" / "made.md").write_text("made")
    (project / "a.log").write_text("x")
    (project / "keep.log").write_text("x")
    (project / "node_modules").mkdir()
    (project / "node_modules" / "x.md").write_text("x")
    (project / "big.md").write_text("x" * 5_000)
    names = [file.name for file in walk(project, limits=Limits(file_bytes=4_000))]
    assert names == [
        ".gitignore", "guide.md", "inside.md", "keep.log", "pyproject.toml", "src/main.py", "src/retry.py"
    ]  # fmt: skip


async def test_binary_files_are_passed_over(project: Path) -> None:
    (project / "blob.md").write_bytes(b"apples\0\1\2")
    found = await documents(project, WordEmbedder()).retrieve("apples", 5)
    assert all(not piece.source.locator.startswith("blob") for piece in found)


@pytest.mark.parametrize(
    ("pattern", "name", "ignored"),
    [
        ("*.py", "a/b.py", True),
        ("/a.py", "b/a.py", False),
        ("/a.py", "a.py", True),
        ("docs/*.md", "docs/x/y.md", False),
        ("docs/**/*.md", "docs/x/y.md", True),
        ("**/temp", "a/b/temp", True),
        ("a?c", "abc", True),
        ("a.c", "abc", False),
        ("# not a pattern", "# not a pattern", False),
    ],
)
def test_ignore_patterns_mean_what_git_means(pattern: str, name: str, *, ignored: bool) -> None:
    assert Ignore([pattern])(name, folder=False) is ignored


def test_code_is_parted_by_definitions_and_text_by_headings() -> None:
    pieces = chunk("src/retry.py", SOURCE)
    assert [(piece.locator, piece.title) for piece in pieces] == [
        ("src/retry.py:1-5", ""),
        ("src/retry.py:8-10", "retry_delay"),
        ("src/retry.py:13-17", "Courier"),
    ]
    assert pieces[0].defines == ("LIMIT_SECONDS",)
    assert pieces[2].defines == ("Courier", "deliver")
    assert [piece.title for piece in chunk("guide.md", GUIDE)] == ["Guide", "Installing", "Apples"]


def test_long_pieces_are_parted_and_every_line_is_in_one() -> None:
    pieces = chunk("a.txt", "\n".join(f"line {number}" for number in range(1, 201)))
    assert all(piece.last - piece.first < 60 for piece in pieces)
    assert {line for piece in pieces for line in range(piece.first, piece.last + 1)} == set(range(1, 201))


# ── SQL ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "orders.db"
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("CREATE TABLE orders (customer TEXT, item TEXT, total REAL)")
        rows = [("Ada", "red apples", 3.5), ("Bo", "blue paint", 12.0), ("Ada", "whale song", 1.0)]
        store.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    return path


@pytest.fixture
async def orders(database: Path):
    tool = SqlTool(database, about="orders", rows=2, seconds=0.2)
    yield tool
    await tool.aclose()


async def test_a_query_gives_rows_and_says_when_there_are_more(orders: SqlTool) -> None:
    text = await orders({"sql": "SELECT customer, total FROM orders ORDER BY total"})
    assert text == "customer | total\nAda | 1.0\nAda | 3.5\n… there are more rows"


async def test_rows_that_hold_the_questions_words_are_sources(orders: SqlTool) -> None:
    found = await orders.retrieve("Who ordered the red apples?", 2)
    assert (found[0].source.kind, found[0].source.locator) == ("row", "orders?rowid=1")
    assert "customer: Ada" in found[0].text
    assert "orders(customer, item, total)" in orders.description


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM orders",
        "WITH x AS (SELECT 1) DELETE FROM orders",
        "SELECT 1; DROP TABLE orders",
        "PRAGMA writable_schema=ON",
        "ATTACH 'x.db' AS x",
        "VACUUM INTO 'copy.db'",
        "SELECT load_extension('x')",
        "select nothing from nowhere",
        "",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    ],
)
async def test_a_statement_that_does_not_read_or_does_not_end_is_refused(
    orders: SqlTool, database: Path, statement: str
) -> None:
    with pytest.raises(BadInput):
        await orders({"sql": statement})
    with closing(sqlite3.connect(database)) as store:
        assert store.execute("SELECT count(*) FROM orders").fetchone() == (3,)


async def test_words_of_sql_inside_a_text_do_not_matter(orders: SqlTool) -> None:
    assert await orders({"sql": "SELECT 'drop; delete' AS said"}) == "said\ndrop; delete"


def test_an_sqlite_url_is_sent_to_the_file_form() -> None:
    with pytest.raises(BadInput, match="as a file"):
        SqlTool("sqlite:///x.db")


# ── git ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    process = await asyncio.create_subprocess_exec(
        "git", "-C", str(folder), *author, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0


@pytest.fixture
async def repository(project: Path) -> Path:
    await _git(project, "init", "-q", "-b", "main")
    await _git(project, "add", ".")
    await _git(project, "commit", "-q", "-m", "Plant the orchard", "-m", "Because apples were wanted.")
    (project / "guide.md").write_text(GUIDE + "\nMore.\n")
    await _git(project, "commit", "-q", "-am", "Say more in the guide")
    return project


async def test_history_is_tables_that_can_be_queried(repository: Path) -> None:
    tool = GitTool(repository, embedder=WordEmbedder())
    text = await tool({"sql": "SELECT subject, author FROM commits ORDER BY rowid"})
    assert text == "subject | author\nSay more in the guide | Ada\nPlant the orchard | Ada"
    counted = await tool.query("SELECT path, count(*) FROM files GROUP BY path ORDER BY 2 DESC, path LIMIT 1")
    assert counted.rows == (("guide.md", 2),)
    with pytest.raises(BadInput):
        await tool({"sql": "DELETE FROM commits"})
    await tool.aclose()


async def test_commits_are_found_by_their_words_and_counts_by_the_question(repository: Path) -> None:
    tool = GitTool(repository, embedder=WordEmbedder())
    commit = (await tool.retrieve("Why were apples planted in the orchard?", 2))[0]
    assert commit.source.locator == "commits?rowid=2"
    assert "Because apples were wanted." in commit.source.quote
    counts = (await tool.retrieve("Which files change most often?", 2))[0]
    assert "guide.md | 2" in counts.text
    await _git(repository, "commit", "-q", "--allow-empty", "-m", "Sing with whales")
    assert "Sing with whales" in (await tool.retrieve("whales sing", 1))[0].text
    await tool.aclose()


async def test_a_folder_without_history_says_so(project: Path) -> None:
    with pytest.raises(BadInput, match="has no git history to read"):
        await GitTool(project, embedder=WordEmbedder()).retrieve("anything", 1)


# ── dependencies ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_declared_packages_and_their_importers_are_found(project: Path) -> None:
    tool = DependencyTool(project)
    declared = await tool.retrieve("Which version of httpx is needed?", 3)
    assert declared[0].source.locator == "pyproject.toml:4"
    assert declared[0].text == "httpx >=0.28 is declared in pyproject.toml (required)"
    listed = await tool.retrieve("Which libraries does it need?", 1)
    assert listed[0].text == "pyproject.toml declares 2 dependencies (required): httpx >=0.28, msgspec"
    used = await tool.retrieve("Who imports the retry module?", 1)
    assert used[0].source.locator == "src/main.py:2"
    assert used[0].text == "src.retry is imported by 1 file: src/main.py:2"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("requirements.txt", "# c\nhttpx[http2]>=0.28 ; python_version > '3'\n-r other.txt\n",
         [("httpx", ">=0.28", "required", 2)]),
        ("web/package.json", '{"dependencies": {"vue": "^3"},\n "devDependencies": {"vite": "5"}}',
         [("vue", "^3", "required", 1), ("vite", "5", "dev", 2)]),
        ("Cargo.toml", '[dependencies]\nserde = { version = "1" }\ntokio = "1.2"\n',
         [("serde", "1", "required", 2), ("tokio", "1.2", "required", 3)]),
        ("go.mod", "module x\n\nrequire (\n\tgithub.com/a/b v1.2.3\n\tgolang.org/x/y v0.1.0 // indirect\n)\n",
         [("github.com/a/b", "v1.2.3", "required", 4), ("golang.org/x/y", "v0.1.0", "indirect", 5)]),
        ("pyproject.toml", '[project.optional-dependencies]\nweb = ["nicegui>=3"]\n[dependency-groups]\ndev = ["ruff"]\n',
         [("nicegui", ">=3", "extra web", 2), ("ruff", "", "group dev", 4)]),
        ("pyproject.toml", "[broken", []),
        ("notes.txt", "httpx", []),
    ],
)  # fmt: skip
def test_manifests_of_several_languages_are_read(name: str, text: str, expected: list[tuple[str, str, str, int]]) -> None:
    found = read_manifest(name, lambda: text)
    assert [(entry.name, entry.spec, entry.group, entry.line) for entry in found] == expected


# ── policy ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Probe:
    """A tool that remembers that it ran."""

    name = "probe"
    description = ""
    parameters: Mapping[str, Any] = {}
    ran = False

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        self.ran = True
        return "x" * 20_000


async def test_no_tool_runs_without_the_labels_it_requires() -> None:
    probe = Probe()
    equipped = Equipped(tool=probe, requires=frozenset({"phi"}))
    with pytest.raises(PolicyDenied, match="requires phi"):
        await equipped.for_task(agent=frozenset({"gdpr"}), task=frozenset())({})
    assert not probe.ran


async def test_a_labelled_task_does_not_flow_into_a_tool_outside() -> None:
    probe = Probe()
    outside = Equipped(tool=probe, cleared=frozenset({"gdpr"}))
    agent = frozenset({"gdpr", "phi"})
    with pytest.raises(PolicyDenied, match="not cleared for phi"):
        await outside.for_task(agent=agent, task=frozenset({"phi"}))({})
    assert not probe.ran
    allowed = outside.for_task(agent=agent, task=frozenset({"gdpr"}))
    assert len(await allowed({})) == 8_000
    assert allowed.results
    assert not Equipped(tool=probe).denial(agent=agent, task=frozenset({"phi"}))


# ── agent files ────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_the_tools_of_an_agent_file_are_made(project: Path, database: Path) -> None:
    text = f"""---
name: x
tools:
  - documents: .
  - code
  - {{kind: documents, name: guides, include: ["*.md"]}}
  - {{kind: sql, file: {database}, requires: [gdpr]}}
  - {{kind: http, allow: ["https://example.org/api"], search: "https://example.org/api?q={{query}}", policies: [gdpr]}}
  - {{kind: mcp, name: wiki, command: wiki-server}}
---
"""
    profile = parse_profile(text, file="x.md", folder=project)
    async with equip(profile, embedder=WordEmbedder()) as tools:
        assert [one.tool.name for one in tools] == ["documents", "code", "guides", "sql", "http", "wiki"]
        assert [one.cleared for one in tools] == [None, None, None, None, {"gdpr"}, frozenset()]
        assert tools[3].requires == {"gdpr"}


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("documents: ./none", "no folder"),
        ("sql: none.db", "no database file"),
        ("http: []", "needs `allow`"),
        ("http: ftp://x", "will not do"),
        ("{kind: http, allow: ['https://x.org/a'], search: 'https://x.org/b?q={query}'}", "is not allowed"),
        ("mcp: ''", "needs either"),
        ("{kind: documents, include: {a: b}}", "must be a list"),
        ("documents\n  - documents", "two tools are called"),
    ],
)
async def test_a_tool_that_cannot_be_made_names_the_agent_and_the_way_out(project: Path, tool: str, message: str) -> None:
    profile = parse_profile(f"---\nname: x\ntools:\n  - {tool}\n---\n", file="x.md", folder=project)
    with pytest.raises(BadInput, match=message):
        async with equip(profile, embedder=WordEmbedder()):
            pass
