"""Whatever strangers write of their agents: an agent file that is read as it was written, or one sentence."""

from dataclasses import replace

import msgspec
from hypothesis import event, given
from hypothesis import strategies as st

from foa.agents.profile import parse_profile
from foa.app.other_forms import FORMS, read_form
from foa.errors import BadInput
from foa.interop.markdown import write_profile

texts = st.text(st.characters(codec="utf-8"), max_size=90)
scalars = st.none() | st.booleans() | st.integers(-5, 5) | texts
things = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
entries = st.lists(
    things | st.fixed_dictionaries({}, optional={"name": texts, "id": texts, "tags": st.lists(texts, max_size=3) | things}),
    max_size=4,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "name": texts | things,
        "description": texts | things,
        "skills": entries | things,
        "domains": entries | things,
        "tools": entries | things,
        "capabilities": things,
        "modules": entries | things,
        "schema_version": texts,
    },
)


def check(text: str, form: str, name: str) -> None:
    refusal = ""
    try:
        profile = read_form(text, file="x", form=form, name=name).profile
    except BadInput as error:
        refusal = str(error)
    event("refused" if refusal else "read")
    if refusal:
        assert refusal.startswith("x:")
        return
    again = parse_profile(write_profile(profile), file="x")
    assert replace(again, notes=()) == replace(profile, notes=())


@given(documents, st.sampled_from(("", *FORMS)), texts)
def test_a_json_document_becomes_an_agent_file_or_is_refused(document: dict[str, object], form: str, name: str) -> None:
    check(msgspec.json.encode(document).decode(), form, name)


@given(st.lists(st.tuples(st.sampled_from(["name", "id", "skills", "tools", "price", "limits", "model"]), texts)), texts)
def test_a_markdown_document_becomes_an_agent_file_or_is_refused(front: list[tuple[str, str]], body: str) -> None:
    lines = "\n".join(f"{key}: {value}" for key, value in front)
    check(f"---\n{lines}\n---\n{body}", "", "")
    check(body, "markdown", "")
