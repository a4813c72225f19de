"""ACL rules, as Mosquitto reads them."""

from pathlib import Path

import pytest

from foa.broker.acl import READ, WRITE, AccessControl, read_acl


@pytest.fixture
def acl(tmp_path: Path) -> AccessControl:
    path = tmp_path / "acl"
    path.write_text("""\
        topic read public/#
        user alice smith
        topic deny rooms/secret/#
        topic rooms/#
        topic write inbox
        topic read with space/x
        pattern deny locked/%u
        pattern readwrite agents/%u/%c
    """)
    return read_acl(path)


@pytest.mark.parametrize(
    ("user", "topic", "reads", "writes"),
    [
        (None, "public/a", True, False),
        (None, "rooms/1", False, False),
        (None, "locked/x", False, False),
        ("alice smith", "public/a", False, False),
        ("alice smith", "rooms/1", True, True),
        ("alice smith", "rooms/secret/1", False, False),
        ("alice smith", "inbox", False, True),
        ("alice smith", "with space/x", True, False),
        ("alice smith", "agents/alice smith/c1", True, True),
        ("alice smith", "agents/alice smith/c2", False, False),
        ("bob", "agents/bob/c1", True, True),
        ("bob", "rooms/1", False, False),
    ],
)
def test_rules_apply_to_their_user(acl: AccessControl, user: str | None, topic: str, reads: bool, writes: bool) -> None:
    permissions = acl.of(user, "c1")
    assert (permissions.allow(topic, READ), permissions.allow(topic, WRITE)) == (reads, writes)


@pytest.mark.parametrize("name", ["#", "+", "a/b", "x+"])
def test_a_name_with_wildcards_fits_no_pattern(acl: AccessControl, name: str) -> None:
    for user, client_id in ((name, "c1"), ("bob", name)):
        permissions = acl.of(user, client_id)
        assert not permissions.may_subscribe("agents/#")
        assert not permissions.allow("agents/bob/c1", READ)


@pytest.mark.parametrize(
    ("topic_filter", "granted"),
    [("rooms/#", True), ("#", True), ("+/1", True), ("rooms/secret/+", False), ("rooms/secret/#", False), ("inbox", False)],
)
def test_a_filter_is_granted_if_it_could_bring_anything(acl: AccessControl, topic_filter: str, granted: bool) -> None:
    assert acl.of("alice smith", "c1").may_subscribe(topic_filter) is granted
