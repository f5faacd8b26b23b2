"""A bell wakes whoever waits, and nobody who comes later."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sealift.bell import Bell

pytestmark = pytest.mark.anyio


async def test_all_who_wait_are_woken_each_time_and_who_comes_later_waits_for_the_next():
    bell, heard = Bell(), []

    async def hear(name, times):
        for _ in range(times):
            await bell.wait()
            heard.append(name)

    bell.ring()  # nobody is there
    async with anyio.create_task_group() as waiting:
        waiting.start_soon(hear, "once", 1)
        waiting.start_soon(hear, "twice", 2)
        await anyio.wait_all_tasks_blocked()
        assert heard == []
        bell.ring()
        await anyio.wait_all_tasks_blocked()
        assert sorted(heard) == ["once", "twice"]
        bell.ring()
        await checkpoint()
    assert sorted(heard) == ["once", "twice", "twice"]
