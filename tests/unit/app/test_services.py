"""What a block that runs something beside it raises."""

import asyncio

import pytest

from foa.app.services import running
from foa.errors import BadInput, StoreFailed


async def test_of_several_errors_a_failed_store_is_the_one_that_is_raised():
    async def serve(ready: asyncio.Event) -> None:
        ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise StoreFailed("the disk is full")

    with pytest.raises(StoreFailed, match="disk"):
        async with running("serve", serve):
            raise BadInput("not a task")


async def test_an_error_that_is_no_error_of_ours_is_not_hidden_behind_one():
    async def serve(ready: asyncio.Event) -> None:
        ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("a bug")

    with pytest.raises(BaseExceptionGroup) as raised:
        async with running("serve", serve):
            raise BadInput("not a task")
    assert raised.group_contains(KeyError)
