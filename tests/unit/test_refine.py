"""Who counts as there when a cluster's rounds begin."""

import asyncio

from tests.unit.test_calls import job_of

from foa.calls import Calls
from foa.exchange import Exchange
from foa.exchange import answer as reply_to
from foa.messages import Joined, Reply, encode
from foa.phases.refine import refine
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.draft import AgentDraft, Draft
from foa.values.ids import AgentId, ClusterId, SubtaskId
from foa.values.plan import Subtask
from foa.values.publication import Filter

A, B, CLUSTER = AgentId("a"), AgentId("b"), ClusterId("c-1")


async def test_a_member_that_joined_another_cluster_is_lost():
    hub = MemoryHub()
    async with (
        asyncio.timeout(10),
        MemoryTransport(hub, client_id="agents") as agents,
        MemoryTransport(hub, client_id="agent-0") as transport,
        Exchange(transport, reply_topic="foa/orchestrators/agent-0/replies") as exchange,
        agents.subscribe(Filter(topic_filter="foa/agents/+/tasks")) as inbox,
        asyncio.TaskGroup() as group,
    ):

        async def play() -> None:
            for _ in range(2):
                delivery = await anext(inbox)
                agent = delivery.publication.topic.split("/")[2]
                joined = Joined(cluster=CLUSTER if agent == A else "c-2")
                await reply_to(agents, delivery, encode(Reply(agent=agent, body=joined)))

        group.create_task(play(), name="agents")
        job = job_of(transport)
        done = await refine(
            job,
            Calls(exchange, transport),
            transport,
            cluster=CLUSTER,
            subtask=Subtask(id=SubtaskId("s1"), text="a subtask"),
            drafts={name: AgentDraft(agent=name, draft=Draft(answer=f"of {name}", confidence=0.5)) for name in (A, B)},
            weights={},
            parts=2,
        )
    assert done.value.view.rounds == 0
    assert job.lost == {B: "joined the cluster c-2, not c-1"}
