"""Whether agents that a peer says left are still there: the own broker is asked, whose retained cards are the truth.

An orchestrator that was cut off for longer than its session lasts did not hear who left meanwhile.
"""

import asyncio
from collections.abc import Collection

from foa.errors import BrokerUnreachable, PublishRefused
from foa.ports import Transport
from foa.registry.echo import Echo
from foa.values.ids import AgentId
from foa.values.publication import Filter
from foa.values.topics import Topics

SECONDS = 5.0  #: how long the broker may take to answer


async def without_card(
    transport: Transport, agents: Collection[AgentId], *, topics: Topics, name: str, seconds: float = SECONDS
) -> set[AgentId]:
    """Give those of these agents of which the broker retains no card; nobody where it does not answer in time.

    Args:
        transport: a session at the broker.
        agents: whom to ask for; a subscription each.
        topics: topic names.
        name: of this orchestrator, for its echo.
        seconds: how long to wait for the answer.
    """
    echo = Echo(topics, name)
    missing = {topics.capability(agent): agent for agent in agents}
    filters = [*(Filter(topic_filter=topic) for topic in missing), echo.filter]
    try:
        async with asyncio.timeout(seconds), transport.subscribe(*filters) as inbox:
            await transport.publish(echo.publication)
            async for delivery in inbox:
                await delivery.acknowledge()
                told = delivery.publication
                if echo.is_heard(told):
                    return set(missing.values())
                if told.payload:
                    missing.pop(told.topic, None)
    except (TimeoutError, PublishRefused, BrokerUnreachable):
        return set()
    return set()
