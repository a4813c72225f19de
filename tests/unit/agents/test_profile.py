"""Agent files: what is read, what is mended, what is refused, and with which line."""

from pathlib import Path

import pytest

from foa.agents.profile import AgentProfile, ToolSpec, load_profile, parse_profile, slug
from foa.errors import BadInput
from foa.values.resources import Price

FULL = """---
name: Clause checker
description: Checks contracts for missing clauses.
skills: [contracts, law]
policies: [gdpr, "region:eu"]
model: qwen3:8b
price: {usd_per_call: 0.002, usd_per_1k_tokens_out: 0.01}
resources:
  latency_seconds: 2.5
  context_tokens: 8192
limits: {reply_tokens: 200, slots: 2}
examples:
  - Is there a clause, any clause, about liability?
tools:
  - documents: ./clauses
  - {kind: sql, file: contracts.db, requires: [gdpr]}
  - git
---
You check contracts.

Never give a final legal opinion.
"""


def test_every_field_of_an_agent_file_is_read() -> None:
    profile = parse_profile(FULL, file="clause.md")
    assert profile.agent_id == "clause-checker"
    assert profile.skills == ("contracts", "law")
    assert profile.policies == {"gdpr", "region:eu"}
    assert profile.model == "qwen3:8b"
    assert profile.resources.price == Price(usd_per_call=0.002, usd_per_1k_tokens_out=0.01)
    assert profile.resources.latency_seconds == 2.5
    assert profile.resources.tools == ("documents", "sql", "git")
    assert (profile.limits.reply_tokens, profile.limits.slots, profile.limits.prompt_tokens) == (200, 2, 600)
    assert profile.examples == ("Is there a clause, any clause, about liability?",)
    assert profile.tools == (
        ToolSpec(kind="documents", options={"": "./clauses"}),
        ToolSpec(kind="sql", options={"file": "contracts.db", "requires": ["gdpr"]}),
        ToolSpec(kind="git"),
    )
    assert profile.spec.endswith("Never give a final legal opinion.")
    assert profile.notes == ()


def test_a_file_of_another_program_works_as_it_is() -> None:
    text = (
        "---\nname: reviewer\ndescription: Reviews code.\ntools: Read, Grep, Bash\nmodel: sonnet\ncolor: red\n---\nReview."
    )
    profile = parse_profile(text, file="reviewer.md")
    assert (profile.name, profile.description, profile.model, profile.tools) == ("reviewer", "Reviews code.", "sonnet", ())
    assert profile.notes == (
        "reviewer.md: ignored tools Read, Grep, Bash: not tools of this program",
        "reviewer.md: ignored color: not fields of an agent here",
    )


def test_without_front_matter_the_name_is_the_files_and_the_description_its_first_paragraph() -> None:
    profile = parse_profile("# Helper\n\nHelps with\ntax forms.\n\nMore.", file="agents/tax-helper.md")
    assert (profile.name, profile.agent_id, profile.description) == ("tax-helper", "tax-helper", "Helps with tax forms.")
    assert profile.spec.startswith("# Helper")


@pytest.mark.parametrize(
    ("line", "description"),
    [
        ("description: Use this when: a user asks", "Use this when: a user asks"),
        ('description: "Quoted" first: then not', '"Quoted" first: then not'),
        ("description: 'single' quotes: odd", "'single' quotes: odd"),
        ("description: @mentions first", "@mentions first"),
        ("description: [Brackets] first: then text", "[Brackets] first: then text"),
        ("description: Runs on\n  over: two lines", "Runs on over: two lines"),
        ("description: >\n  Folded\n  text: here", "Folded text: here"),
    ],
)
def test_a_bare_colon_in_a_value_is_read_as_text(line: str, description: str) -> None:
    profile = parse_profile(f"---\nname: x\n{line}\nskills: [a, b]\n---\nBody", file="x.md")
    assert profile.description == description
    assert profile.skills == ("a", "b")


def test_scalars_stay_as_they_are_written() -> None:
    profile = parse_profile("---\nname: on\ndescription: 1.10\nskills: [yes, 2024-01-01]\n---\n", file="x.md")
    assert (profile.name, profile.description, profile.skills) == ("on", "1.10", ("yes", "2024-01-01"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.md:1: the file is empty"),
        ("---\nname: x\n", "x.md:1: the front matter does not end"),
        ("---\nname: x\n\npolicies: [GDPR]\n---\n", "x.md:4: policies: labels are"),
        ("---\nname: x\nprice: cheap\n---\n", "x.md:3: price: not usable"),
        ("---\nname: x\nprice: {usd_per_call: -1}\n---\n", "x.md:3: price: not usable"),
        ("---\nname: x\nlimits: {slots: 0}\n---\n", "x.md:3: limits: slots must be 1 to 1,024"),
        ("---\nname: x\nid: a/b\n---\n", "x.md:3: id: agent id 'a/b' will not do"),
        ("---\nname: x\nkinds: [dance]\n---\n", "x.md:3: kinds: 'dance' is no kind of request"),
        ("---\nname: x\ndescription: {a: b}\n---\n", "x.md:3: description: must be text"),
        ("---\na: &x [1]\nb: *x\n---\n", "x.md:2: front matter is not usable: aliases"),
        ("---\n# about\n- a\nname: x\n---\n", "x.md:4: front matter is not YAML"),
    ],
)
def test_a_file_that_is_not_usable_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_profile(text, file="x.md")
    assert str(refused.value).startswith(message)


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.md"
    path.write_text("x" * 300_000)
    with pytest.raises(BadInput, match="over 262,144 bytes"):
        load_profile(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.md: cannot be read"):
        load_profile(tmp_path / "none.md")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.md"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match=r"latin\.md: not UTF-8 text \(byte 3\)"):
        load_profile(path)


def test_relative_paths_start_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Does things.")
    assert load_profile(tmp_path / "a.md").folder == tmp_path.resolve()


def test_windows_line_ends_and_a_byte_order_mark_do_not_matter() -> None:
    profile = parse_profile("\ufeff---\r\nname: x\r\ndescription: d\r\n---\r\nBody\r\n", file="x.md")
    assert (profile.name, profile.description, profile.spec) == ("x", "d", "Body")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Clause Checker", "clause-checker"), ("Köln Führer!", "koln-fuhrer"), ("a" * 80, "a" * 64), ("-- x", "x")],
)
def test_an_id_is_made_of_the_name(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_a_name_without_latin_letters_still_has_an_id_of_its_own() -> None:
    assert slug("翻訳者").startswith("agent-")
    assert slug("翻訳者") != slug("医者")


def _profile(**changes: str) -> AgentProfile:
    lines = {"name": "x", "description": "d", **changes}
    return parse_profile("---\n" + "".join(f"{key}: {value}\n" for key, value in lines.items()) + "---\nSpec", file="x.md")


def test_the_digest_changes_with_what_peers_can_see_and_not_with_notes() -> None:
    assert _profile().digest() == _profile(color="red").digest()
    assert _profile().digest() != _profile(skills="[law]").digest()
