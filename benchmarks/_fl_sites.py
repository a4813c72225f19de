"""A process with some sites of the Grid benchmark: `python -m benchmarks._fl_sites FIRST LAST PORT RUN`."""

import asyncio
import sys
from contextlib import AsyncExitStack

from benchmarks._fl_digits import mnist, shared
from benchmarks._fl_mnist_app import ALPHA, CLIENTS, app
from foa.fl.block import FlBlock, node_id
from foa.fl.flower import context
from foa.fl.grids.mqtt import FlowerNode, FlTopics, farewell
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId


async def main(first: int, last: int, port: int, run: str) -> None:
    """Serve sites FIRST to LAST − 1, each with its own session and last will, until the process is ended."""
    topics = FlTopics("foa", run)
    mnist(), shared(CLIENTS, ALPHA, 0)  # read before anybody waits for an answer
    async with AsyncExitStack() as stack:
        links = {}
        for number in range(first, last):
            name = AgentId(f"site-{number:03}")
            link = MqttTransport(f"mqtt://127.0.0.1:{port}", client_id=f"{run}-{name}", will=farewell(topics, name))
            links[number] = name, await stack.enter_async_context(link)
        async with asyncio.TaskGroup() as group:
            for number, (name, link) in links.items():
                behind = context(node_id(name), {"partition-id": number})
                node = FlowerNode(link, topics, FlBlock(agent=name), app, behind)
                group.create_task(node.serve(), name=f"site[{name}]")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
