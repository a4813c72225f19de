"""Passwords and ACL files, both in Mosquitto's syntax: one pair of files serves both brokers."""

import asyncio
import shutil
from pathlib import Path

import pytest
from tests.integration.broker.conftest import Running, Start
from tests.rawmqtt import Raw, Will, raw

from foa.broker import Broker, BrokerConfig
from foa.errors import BadInput

ACL = """\
# anonymous clients
topic read public/#

user alice
topic readwrite rooms/#
topic deny rooms/secret/#
topic write inbox/+
topic both/ways

pattern readwrite agents/%u/#
pattern read clients/%c
"""


async def mosquitto_passwd(path: Path, user: str, password: str, *, algorithm: str) -> None:
    """Add a user with Mosquitto's own tool."""
    program = shutil.which("mosquitto_passwd")
    assert program is not None, "mosquitto_passwd makes the files for this test: apt-get install mosquitto"
    process = await asyncio.create_subprocess_exec(program, "-H", algorithm, "-b", str(path), user, password)
    assert await process.wait() == 0


@pytest.fixture
async def passwords(tmp_path: Path) -> Path:
    """Two users, one hashed each way."""
    path = tmp_path / "passwords"
    path.touch()
    await mosquitto_passwd(path, "alice", "sesame", algorithm="sha512-pbkdf2")
    await mosquitto_passwd(path, "bob", "open: $6$ü", algorithm="sha512")
    return path


@pytest.fixture
async def guarded(start: Start, tmp_path: Path, passwords: Path) -> Running:
    """A broker with both files."""
    acl = tmp_path / "acl"
    acl.write_text(ACL)
    settings = [f"password_file {passwords}", f"acl_file {acl}", "allow_anonymous false"]
    return await start(passwords=passwords, acl=acl, settings=settings)


ALICE = {"user": "alice", "password": "sesame"}
BOB = {"user": "bob", "password": "open: $6$ü"}


@pytest.mark.parametrize("who", [ALICE, BOB])
async def test_the_right_password_opens(guarded: Running, who: dict[str, str]) -> None:
    async with raw(guarded.port) as client:
        assert (await client.connect("c", **who)).reason == 0


@pytest.mark.parametrize(
    "who",
    [
        {"user": "alice", "password": "wrong"},
        {"user": "alice", "password": ""},
        {"user": "alice"},
        {"user": "mallory", "password": "sesame"},
        {"user": "bob", "password": "sesame"},
        {},
    ],
)
async def test_anything_else_does_not(guarded: Running, who: dict[str, str]) -> None:
    """3.1.4: 0x86, or 0x87 in Mosquitto; one that speaks on is not listened to."""
    async with raw(guarded.port) as client:
        assert (await client.connect("c", **who)).reason in ((0x86,) if guarded.embedded else (0x86, 0x87))
        await client.closed()


async def pair(broker: Running) -> tuple[Raw, Raw]:
    """Alice as both."""
    one, other = await Raw.open(broker.port), await Raw.open(broker.port)
    await one.connect("one", **ALICE)
    await other.connect("other", **ALICE)
    return one, other


async def test_a_user_writes_and_reads_what_the_rules_say(guarded: Running) -> None:
    one, other = await pair(guarded)
    await one.subscribe("rooms/#", "both/ways", "agents/alice/#")
    for topic in ("rooms/1", "both/ways", "agents/alice/x"):
        await other.publish(topic, b"x", qos=0)
        assert (await one.message()).topic == topic
    for topic in ("rooms/secret/1", "agents/bob/x", "public/a"):
        answer = await other.publish(topic, b"x")
        assert answer is not None
        assert answer.reason == 0x87
    answer = await other.publish("rooms/secret/1", b"x", qos=2)
    assert answer is not None
    assert answer.reason == 0x87
    await one.quiet()
    one.cut()
    other.cut()


async def test_a_filter_that_could_bring_nothing_is_refused(guarded: Running) -> None:
    """3.9.3: 0x87; Mosquitto 2.0.11 grants everything and filters later."""
    async with raw(guarded.port, "one", **ALICE) as client:
        filters = [
            "agents/bob/#",
            "rooms/secret/#",
            "rooms/+",
            "#",
            "clients/one",
            "clients/other",
            "inbox/+",
            "$share/x/rooms/1",
        ]
        answer = await client.subscribe(*filters)
        if guarded.embedded:
            assert answer.reasons == (0x87, 0x87, 2, 2, 2, 0x87, 0x87, 2)
        else:
            assert answer.reasons == (2,) * 8


async def test_a_wide_filter_brings_only_what_may_be_read(guarded: Running) -> None:
    async with raw(guarded.port, "bob", **BOB) as bob, raw(guarded.port, "one", **ALICE) as alice:
        await bob.subscribe("#", "agents/+/x")
        await alice.publish("agents/alice/x", b"no", qos=1)
        await alice.publish("rooms/1", b"no", qos=1)
        await bob.publish("agents/bob/x", b"yes", qos=0)
        assert (await bob.message()).payload == b"yes"
        if not guarded.embedded:
            await bob.message()  # a copy for each matching filter
        await bob.quiet()


async def test_retained_messages_are_filtered_too(guarded: Running) -> None:
    async with raw(guarded.port, "one", **ALICE) as alice, raw(guarded.port, "bob", **BOB) as bob:
        await alice.publish("rooms/1", b"x", retain=True)
        await bob.subscribe("#")
        await bob.quiet()


async def test_a_will_is_held_to_the_rules(guarded: Running) -> None:
    async with raw(guarded.port, "watch", **ALICE) as watcher:
        await watcher.subscribe("rooms/#")
        async with raw(guarded.port, "bob", **BOB, will=Will(topic="rooms/1")) as bob:
            await bob.quiet()
        await watcher.quiet()


async def test_a_client_id_cannot_widen_its_own_rights(guarded: Running) -> None:
    """`pattern read clients/%c` with a client called `+` or `#`."""
    async with raw(guarded.port, "one", **ALICE):
        for name in ("#", "+", "a/b"):
            async with raw(guarded.port) as client:
                answer = await client.connect(name, **BOB)
                if answer.reason == 0 and guarded.embedded:
                    assert (await client.subscribe("clients/one")).reasons == (0x87,)


async def test_another_user_cannot_take_a_session(tmp_path: Path, passwords: Path) -> None:
    """A client id is no secret; the queue behind it is its owner's."""
    async with Broker(BrokerConfig(port=0, passwords=passwords)) as broker:
        assert broker.port is not None
        async with raw(broker.port, "c", **ALICE, session_expiry=60) as alice:
            async with raw(broker.port) as thief:
                assert (await thief.connect("c", clean=False, **BOB)).reason == 0x87
            await alice.quiet()


async def test_without_passwords_a_user_name_is_only_a_claim(tmp_path: Path) -> None:
    """An ACL's `user` section needs a password that proves the user."""
    acl = tmp_path / "acl"
    acl.write_text(ACL)
    async with Broker(BrokerConfig(port=0, acl=acl)) as broker:
        assert broker.port is not None
        async with raw(broker.port, "c", user="alice") as client:
            assert (await client.subscribe("public/a", "rooms/1")).reasons == (2, 0x87)


async def test_nobody_writes_to_the_brokers_own_topics(broker: Running) -> None:
    """4.7.2"""
    async with raw(broker.port, "c") as client:
        answer = await client.publish("$SYS/broker/version", b"forged", retain=True)
        assert answer is not None
        assert answer.reason == 0x87
        await client.subscribe("$SYS/broker/version")
        assert (await client.message()).payload != b"forged"


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("passwords", "alice:plain\n", "line 1.*not hashed"),
        ("passwords", "# fine\nalice\n", "line 2.*expected user:hash"),
        ("passwords", "alice:$7$0$AAAA$AAAA\n", "line 1.*iterations"),
        ("passwords", "alice:$6$AAAA$AAAA\n", "line 1.*64"),
        ("passwords", "alice:$6$*$AAAA\n", "line 1"),
        ("acl", "topic read a\nallow b\n", "line 2.*expected user, topic or pattern"),
        ("acl", "topic read a/#/b\n", "line 1.*not a topic filter"),
        ("acl", "user\n", "line 1.*without a name"),
        ("acl", "topic\n", "line 1.*not a topic filter"),
    ],
)
async def test_a_wrong_line_is_named(tmp_path: Path, field: str, text: str, message: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        await Broker(BrokerConfig(port=0, **{field: path})).__aenter__()


@pytest.mark.parametrize("field", ["passwords", "acl"])
async def test_a_missing_file_is_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(BadInput, match=r"missing.*cannot be read"):
        await Broker(BrokerConfig(port=0, **{field: tmp_path / "missing"})).__aenter__()
