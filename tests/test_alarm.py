from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from sealift.alarm import wake_at


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [0.0001, 0.0004, 0.0016, 0.0102])
async def test_it_wakes_at_its_moment_and_not_before(seconds: float) -> None:
    rung, at = anyio.Event(), [0.0]

    def ring() -> None:
        at.append(time.monotonic())
        rung.set()

    due = time.monotonic() + seconds
    wake_at(due, ring)
    with anyio.fail_after(5):
        await rung.wait()
    assert at[1:] == [at[-1]], "once"
    assert at[-1] >= due


@pytest.mark.anyio
async def test_a_moment_that_has_passed_is_now() -> None:
    rung = anyio.Event()
    wake_at(time.monotonic() - 1, rung.set)
    with anyio.fail_after(5):
        await rung.wait()


@pytest.mark.anyio
async def test_what_is_cancelled_wakes_nobody() -> None:
    rung, later = anyio.Event(), anyio.Event()
    now = time.monotonic()
    wake_at(now + 0.001, rung.set).cancel()
    asyncio.get_running_loop().call_at(now + 0.01, later.set)
    with anyio.fail_after(5):
        await later.wait()
    assert not rung.is_set()
