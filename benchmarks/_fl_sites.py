"""A process with some sites of the Grid benchmark: `python -m benchmarks._fl_sites FIRST LAST PORT PROJECT`."""

import asyncio
import sys
from contextlib import AsyncExitStack

from benchmarks._fl_digits import mnist, shared
from benchmarks._fl_mnist_app import ALPHA, CLIENTS, app
from foa.agents.announce import last_will
from foa.agents.profile import AgentProfile
from foa.agents.versions import Versions
from foa.app.clock import SystemClock
from foa.app.federated_site import site_host
from foa.fl.block import FlBlock, fl_of, node_id
from foa.fl.flower import context
from foa.fl.grids.node import FlowerNode
from foa.fl.roll import KIND
from foa.models.wordllama import WordLlamaEmbedder
from foa.registry.keys import new_key
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from foa.values.topics import Topics


async def main(first: int, last: int, port: int, project: str) -> None:
    """Serve sites FIRST to LAST − 1, each with its own session, card and last will, until the process is ended."""
    topics, clock, embedder = Topics(), SystemClock(), WordLlamaEmbedder()
    mnist(), shared(CLIENTS, ALPHA, 0)  # read before anybody waits for an answer
    began = clock.now()
    async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
        for number in range(first, last):
            name = AgentId(f"site-{number:03}")
            will = last_will(topics, name, [name], since=began)
            address = f"mqtt://127.0.0.1:{port}"
            link = await stack.enter_async_context(MqttTransport(address, client_id=f"{project}-{name}", will=will))
            behind = context(node_id(name), {"partition-id": number})
            node = FlowerNode(link, topics, name, lambda run, behind=behind: (app, behind), clock)
            group.create_task(node.serve(), name=f"site[{name}]")
            block = FlBlock(agent=name, project=project)
            profile = AgentProfile(
                agent_id=name, name=name, description="a site of the benchmark", spec="", kinds=(KIND,), fl=fl_of(block)
            )
            host = site_host(
                link, profile, clock, embedder=embedder, key=new_key(), versions=Versions(), began=began, topics=topics
            )
            await stack.enter_async_context(host.serve())
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
