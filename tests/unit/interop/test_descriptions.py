"""Descriptions of agents in other forms, in and out."""

import json

import pytest
from tests.unit.test_card import make

from foa.agents.profile import parse_profile
from foa.errors import BadCapability, BadInput
from foa.interop.a2a_card import EXTENSION, from_a2a, to_a2a, vcv_of_a2a
from foa.interop.markdown import to_markdown
from foa.interop.mcp_tools import from_mcp_tools, to_mcp_tool
from foa.interop.oasf import from_oasf, to_oasf, vcv_of_oasf
from foa.registry.card import encode_card
from foa.registry.keys import new_key

A2A = {
    "protocolVersion": "0.3",
    "name": "Forum Search",
    "description": "Developer questions and answers.",
    "url": "https://forum.example",
    "version": "0.1.10",
    "capabilities": {"streaming": False},
    "skills": [
        {
            "id": "search",
            "name": "Search",
            "description": "Search by keyword.",
            "tags": ["qna"],
            "examples": ["Find errors"],
        },
        {"id": "fetch", "description": "Fetch a thread.", "tags": "not a list"},
        "odd",
        17,
    ],
}


async def signed() -> tuple[object, bytes]:
    vcv = await make(examples=["explain this function"], policies={"gdpr"})
    return vcv, encode_card(vcv, new_key())


def test_an_a2a_card_becomes_a_profile():
    profile = from_a2a(json.dumps(A2A).encode())
    assert profile.agent_id == "forum-search"
    assert profile.description == "Developer questions and answers. Search by keyword. Fetch a thread."
    assert profile.skills == ("Search", "qna", "fetch", "odd")
    assert profile.examples == ("Find errors",)


async def test_a_vcv_rides_in_an_a2a_card_with_its_signature():
    vcv, card = await signed()
    document = to_a2a(vcv, card, url="https://a.example/a2a")  # type: ignore[arg-type]
    # another implementation writes it again, with its own spacing and order
    found = vcv_of_a2a(json.dumps(document, indent=2, sort_keys=True).encode())
    assert found is not None
    assert (found.agent_id, found.version, found.p) == ("coder-1", 3, {"gdpr"})
    assert from_a2a(json.dumps(document).encode()).skills == ("python", "code review")
    assert vcv_of_a2a(json.dumps(A2A).encode()) is None


async def test_a_vcv_that_was_changed_in_an_a2a_card_is_refused():
    vcv, card = await signed()
    document = json.dumps(to_a2a(vcv, card, url="https://a.example")).replace('"gdpr"', '"hipaa"')  # type: ignore[arg-type]
    with pytest.raises(BadCapability, match="signature"):
        vcv_of_a2a(document.encode())


@pytest.mark.parametrize("params", [None, 3, [], {"vcv": 3}, "x"])
def test_an_extension_without_a_vcv_is_refused(params: object):
    document = {"name": "x", "capabilities": {"extensions": [{"uri": EXTENSION, "params": params}]}}
    with pytest.raises(BadCapability):
        vcv_of_a2a(json.dumps(document).encode())


async def test_an_oasf_record_goes_out_and_comes_back():
    vcv, card = await signed()
    record = json.dumps(to_oasf(vcv, card, created_at="2026-01-01T00:00:00Z")).encode()  # type: ignore[arg-type]
    found = vcv_of_oasf(record)
    assert found is not None
    assert found.agent_id == "coder-1"
    assert from_oasf(record).skills == ("python", "code review")


def test_the_steps_of_an_oasf_skill_path_are_skills():
    record = {
        "name": "directory.example/summariser",
        "description": "Summarises.",
        "skills": [{"name": "natural_language_processing/text_summarization", "id": 10201}],
        "domains": [{"name": "finance"}],
    }
    assert from_oasf(json.dumps(record).encode()).skills == (
        "natural_language_processing/text_summarization",
        "text summarization",
        "finance",
    )
    assert vcv_of_oasf(json.dumps(record).encode()) is None


def test_an_mcp_servers_tools_become_skills():
    tools = {
        "result": {
            "tools": [
                {
                    "name": "send_email",
                    "description": "Sends an email.",
                    "inputSchema": {"properties": {"to": {"description": "the address"}, "body": True}},
                },
                {"name": "list_inbox"},
            ]
        }
    }
    profile = from_mcp_tools(json.dumps(tools).encode(), server="@acme/mail", description="Mail.")
    assert profile.agent_id == "acme-mail"
    assert profile.skills == ("send_email", "list_inbox")
    assert profile.description == "Mail. send_email: Sends an email. (to the address; body) list_inbox:"


async def test_an_agent_is_an_mcp_tool():
    vcv, _ = await signed()
    tool = to_mcp_tool(vcv)  # type: ignore[arg-type]
    assert tool["name"] == "coder-1"
    assert "code review" in str(tool["description"])
    assert tool["inputSchema"]["required"] == ["text"]  # type: ignore[index]


async def test_a_markdown_file_comes_back_as_it_went():
    vcv, _ = await signed()
    text = to_markdown(vcv, spec="Cite the line.\n\nNever guess.")  # type: ignore[arg-type]
    profile = parse_profile(text, file="coder-1.md")
    assert (profile.agent_id, profile.name, profile.description) == ("coder-1", "Coder", "Reads source code.")
    assert profile.skills == ("python", "code review")
    assert profile.policies == {"gdpr"}
    assert profile.examples == ("explain this function",)
    assert profile.resources.price.usd_per_call == 0.01
    assert profile.resources.latency_seconds == 1.5
    assert profile.spec == "Cite the line.\n\nNever guess."


async def test_a_markdown_file_says_only_requests_that_a_file_may_say():
    vcv = await make(kinds=["propose", "train"])
    assert parse_profile(to_markdown(vcv), file="site.md").kinds == ("propose",)
    for kinds in (["train", "fl"], []):
        with pytest.raises(BadInput, match="a file describes an agent that drafts"):
            to_markdown(await make(kinds=kinds))


NAMES = ["yes", "~", "1.0", "a: b", "# x", "---", "- a", "'", "[a, b]", "&a", "*a", "!t", "%x", "@x", "|", "a, b", "😀", "?"]


async def test_what_yaml_would_read_as_something_else_comes_back_as_it_went():
    vcv = await make(name="no", description="a: b # c", skills=NAMES, examples=["1: 2", "- x\n- y"])
    profile = parse_profile(to_markdown(vcv, spec="---\nnot front matter\n---"), file="x.md")
    assert (profile.name, profile.description, profile.skills) == ("no", "a: b # c", tuple(NAMES))
    assert profile.examples == ("1: 2", "- x - y")
    assert profile.spec == "---\nnot front matter\n---"


def test_a_strangers_text_moves_no_cursor_and_turns_no_line():
    hostile = "a\x00b\u202e\x1b[31mc\n\u2028d"
    document = json.dumps(
        {"name": hostile, "description": hostile, "skills": [{"name": hostile, "tags": [hostile]}]}
    ).encode()
    tools = json.dumps({"tools": [{"name": hostile, "description": hostile}]}).encode()
    for found in (from_a2a(document), from_oasf(document), from_mcp_tools(tools, server=hostile, description=hostile)):
        for text in (found.agent_id, found.name, found.description, *found.skills):
            assert text.isprintable()
    family = "\U0001f469\u200d\U0001f467"
    assert from_a2a(json.dumps({"name": family}).encode()).name == family


@pytest.mark.parametrize(
    "value", [None, 3, "x", [], {}, [[]], [None], [{"name": {}}], {"name": []}, [{"tags": [[1]], "name": "n"}]]
)
@pytest.mark.parametrize("member", ["skills", "domains", "capabilities", "modules", "tools", "result", "description"])
def test_members_of_wrong_types_are_passed_over(member: str, value: object):
    document = json.dumps({"name": "x", "description": "y", member: value}).encode()
    for read in (from_a2a, from_oasf, lambda given: from_mcp_tools(given, server="s")):
        assert read(document).name in ("x", "s")
    assert vcv_of_a2a(document) is None
    assert vcv_of_oasf(document) is None


def test_what_nests_for_ever_is_refused_and_a_large_list_is_cut():
    rope = b"[" * 900 + b"]" * 900
    with pytest.raises(BadCapability, match="within one another"):
        vcv_of_a2a(b'{"capabilities":{"extensions":[{"uri":"%b","params":%b}]}}' % (EXTENSION.encode(), rope))
    with pytest.raises(BadCapability, match="within one another"):
        vcv_of_oasf(b'{"modules":[{"name":"foa/vcv","data":%b}]}' % rope)
    many = json.dumps({"name": "x", "skills": [{"name": f"s{i}", "examples": [f"e{i}"] * 30} for i in range(900)]})
    assert len(from_a2a(many.encode()).skills) == 64


def test_too_much_is_cut_and_said():
    document = {"name": "n" * 500, "description": "d" * 9_000, "skills": [{"name": f"skill {i}"} for i in range(200)]}
    profile = from_a2a(json.dumps(document).encode())
    assert len(profile.skills) == 64
    assert len(profile.notes) == 3


@pytest.mark.parametrize("bad", [b"", b"[]", b"{}", b"nonsense", b'{"name": 3}', b"[" * 5_000, b" " * 1_000_001])
def test_what_describes_no_agent_is_refused(bad: bytes):
    for read in (from_a2a, from_oasf, lambda document: from_mcp_tools(document, server="")):
        with pytest.raises(BadInput):
            read(bad)
