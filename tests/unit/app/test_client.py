"""A client that lives long keeps nothing of what is over."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from foa.app.client import Client
from foa.errors import Unreachable
from foa.messages import encode
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.budget import Budget
from foa.values.ids import JobId
from foa.values.publication import Publication
from foa.values.result import Result
from foa.values.task import Submission, Task
from foa.values.topics import Topics

JOB = JobId("job-1")
SUBMISSION = Submission(task=Task(text="a task"), budget=Budget(usd=1.0, tokens=100, calls=1, seconds=1.0))


@asynccontextmanager
async def client_and_wire() -> AsyncGenerator[tuple[Client, MemoryTransport]]:
    hub = MemoryHub()
    async with (
        asyncio.timeout(10),
        MemoryTransport(hub, client_id="agent-0") as wire,
        MemoryTransport(hub, client_id="client") as transport,
        Client(transport, Topics()) as client,
    ):
        yield client, wire


async def end(wire: MemoryTransport, job: JobId) -> Result:
    result = Result(job_id=job, status="done", answer="an answer")
    await wire.publish(Publication(topic=Topics().result(job), payload=encode(result), retain=True))
    return result


async def test_a_job_can_be_followed_twice_and_the_client_still_closes():
    async with client_and_wire() as (client, _):
        first, second = await client.follow(JOB), await client.follow(JOB)
    for handle in (first, second):
        with pytest.raises(Unreachable, match="closed"):
            await handle.result()


async def test_everyone_who_follows_a_job_gets_its_result():
    async with client_and_wire() as (client, wire):
        handles = [await client.follow(JOB) for _ in range(2)]
        result = await end(wire, JOB)
        assert [await handle.result() for handle in handles] == [result, result]
        late = await client.follow(JOB)
        assert await late.result() == result


async def test_a_submission_that_nobody_takes_is_followed_no_longer():
    async with client_and_wire() as (client, _):
        with pytest.raises(Unreachable, match="no orchestrator"):
            await client.submit(SUBMISSION, seconds=0.01)
        assert client.following == 0
