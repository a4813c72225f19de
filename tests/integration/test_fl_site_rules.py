"""The rules for a broker in docs/reference/sites.md: with them a run works, and a site can speak for itself only."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from foa.app.clock import SystemClock
from foa.broker import Broker, BrokerConfig
from foa.errors import BrokerUnreachable, PublishRefused
from foa.fl.block import node_id
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.roll import Roll, Wanted
from foa.ports import Transport
from foa.transport.address import Address
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from tests.fl_sites import PROJECT, TOPICS, announced, block, node, will

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "sites.md"
CLOCK = SystemClock()
SITE, OTHER, SERVER = AgentId("clinic"), AgentId("ward"), "fl-server"


def rules() -> str:
    """The ACL file as the page prints it."""
    return PAGE.read_text().split("## Rules for a broker")[1].split("```text\n")[1].split("```")[0]


def password_line(user: str) -> str:
    salt = b"salt"
    digest = hashlib.sha512(user.encode() + salt).digest()
    return f"{user}:$6${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[int]:
    (folder / "acl").write_text(rules())
    (folder / "passwords").write_text("".join(map(password_line, (SITE, OTHER, SERVER))))
    config = BrokerConfig(host="127.0.0.1", port=0, passwords=folder / "passwords", acl=folder / "acl")
    async with Broker(config) as broker:
        yield broker.port


def link(port: int, user: str, *, will: Publication | None = None) -> MqttTransport:
    address = Address(scheme="mqtt", host="127.0.0.1", port=port, username=user, password=user)
    return MqttTransport(address, client_id=f"c-{user}", will=will)


async def test_a_run_works_under_the_rules_of_the_page(tmp_path: Path) -> None:
    app = ClientApp()

    @app.query()
    def echo(message: Message, kept: object) -> Message:
        return Message(RecordDict(), reply_to=message)

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        port = await enter(guarded(tmp_path))
        site = await enter(link(port, SITE, will=will(SITE)))
        group = await enter(asyncio.TaskGroup())
        ready = asyncio.Event()
        serving = group.create_task(node(site, SITE, app, CLOCK).serve(ready=ready), name="site")
        stack.callback(serving.cancel)
        await ready.wait()
        await enter(announced(site, block(SITE), CLOCK))
        server = await enter(link(port, SERVER))
        grid = await enter(MqttGrid(server, TOPICS, "run-1", Roll(Wanted(project=PROJECT), CLOCK)))
        await grid.present(1, seconds=10)
        ask = Message(RecordDict(), node_id(SITE), "query")
        (reply,) = await asyncio.to_thread(grid.send_and_receive, [ask], timeout=20)
        assert not reply.has_error()
        # a wish goes up and its answer comes down
        async with (
            server.subscribe(Filter(topic_filter=TOPICS.wishes(PROJECT))) as wishes,
            site.subscribe(Filter(topic_filter=TOPICS.told(PROJECT, SITE))) as told,
        ):
            await site.publish(Publication(topic=TOPICS.wishes(PROJECT, SITE), payload=b"w"))
            await server.publish(Publication(topic=TOPICS.told(PROJECT, SITE), payload=b"t"))
            async with asyncio.timeout(10):
                assert (await anext(wishes)).publication.payload == b"w"
                assert (await anext(told)).publication.payload == b"t"


@pytest.mark.parametrize(
    "topic",
    [
        TOPICS.training(SITE),
        TOPICS.capability(SITE),
        TOPICS.vitals(SITE),
        TOPICS.wishes(PROJECT, SITE),
        TOPICS.told(PROJECT, SITE),
    ],
)
async def test_a_site_can_say_nothing_in_the_name_of_another(tmp_path: Path, topic: str) -> None:
    async with guarded(tmp_path) as port, link(port, OTHER) as other:
        with pytest.raises(PublishRefused):
            await other.publish(Publication(topic=topic, payload=b"x"))


@pytest.mark.parametrize("topic", [TOPICS.training(SITE), TOPICS.told(PROJECT, SITE), "foa/orchestrators/fl-run-1/replies"])
async def test_a_site_can_hear_nothing_that_is_for_another(tmp_path: Path, topic: str) -> None:
    async def hear(transport: Transport) -> None:
        async with transport.subscribe(Filter(topic_filter=topic)):
            raise AssertionError("it may listen")

    async with guarded(tmp_path) as port, link(port, OTHER) as other:
        with pytest.raises(BrokerUnreachable):
            await hear(other)
