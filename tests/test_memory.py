from __future__ import annotations

import random

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.memory import Memory

pytestmark = pytest.mark.anyio

both_loops = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


async def test_what_fits_is_had_at_once() -> None:
    memory = Memory(100)
    async with memory.reserve(60), memory.reserve(40):
        assert memory.reserved == 100
    assert memory.reserved == 0
    assert memory.peak == 100


async def test_nobody_overtakes_a_larger_one_that_came_first() -> None:
    memory, order = Memory(100), list[int]()

    async def take(amount: int) -> None:
        await memory.acquire(amount)
        order.append(amount)

    await memory.acquire(50)
    async with anyio.create_task_group() as group:
        for amount in (80, 10, 20):
            group.start_soon(take, amount)
            await anyio.wait_all_tasks_blocked()
        assert order == [], "10 and 20 would fit, but 80 was first"
        memory.release(50)
        await anyio.wait_all_tasks_blocked()
        assert order == [80, 10]
        memory.release(80)
    assert order == [80, 10, 20]


async def test_a_reservation_above_the_limit_is_granted_alone() -> None:
    memory = Memory(100)
    await memory.acquire(1)
    async with anyio.create_task_group() as group:
        group.start_soon(memory.acquire, 500)
        await anyio.wait_all_tasks_blocked()
        assert memory.reserved == 1
        memory.release(1)
        await anyio.wait_all_tasks_blocked()
        assert memory.reserved == 500
        group.start_soon(memory.acquire, 1)
        await anyio.wait_all_tasks_blocked()
        assert memory.reserved == 500
        memory.release(500)
    assert memory.reserved == 1


async def test_those_behind_one_who_gives_up_waiting_are_let_through() -> None:
    memory = Memory(100)
    await memory.acquire(50)
    impatient = anyio.CancelScope()

    async def give_up() -> None:
        with impatient:
            await memory.acquire(80)

    async with anyio.create_task_group() as group:
        group.start_soon(give_up)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(memory.acquire, 30)
        await anyio.wait_all_tasks_blocked()
        assert memory.reserved == 50
        impatient.cancel()
    assert memory.reserved == 80


async def test_a_grant_that_meets_a_cancellation_is_given_back() -> None:
    memory = Memory(100)
    await memory.acquire(100)
    impatient = anyio.CancelScope()

    async def take() -> None:
        with impatient:
            await memory.acquire(100)
            memory.release(100)

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await anyio.wait_all_tasks_blocked()
        memory.release(100)  # grants it,
        impatient.cancel()  # before the waiter has run
    assert memory.reserved == 0
    with anyio.fail_after(5):
        await memory.acquire(100)


async def test_whoever_is_cancelled_before_the_call_takes_nothing() -> None:
    memory = Memory(100)
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with memory.reserve(10):
            pytest.fail("the reservation was granted")
    assert memory.reserved == 0


async def test_an_error_inside_gives_the_reservation_back() -> None:
    memory = Memory(100)
    with pytest.raises(ValueError, match="inside"):
        async with memory.reserve(10):
            raise ValueError("inside")
    assert memory.reserved == 0


@both_loops
@given(
    st.integers(1, 100),
    st.lists(st.integers(0, 150), min_size=1, max_size=60),
    st.floats(0, 0.7),
    st.integers(),
)
async def test_no_crowd_overdraws_the_budget_and_no_cancellation_leaks(
    limit: int, amounts: list[int], cancelled: float, seed: int
) -> None:
    dice = random.Random(seed)
    memory, held, finished = Memory(limit), list[int](), list[int]()
    scopes = [anyio.CancelScope() for _ in amounts]

    async def work(number: int) -> None:
        amount = amounts[number]
        with scopes[number]:
            async with memory.reserve(amount):
                held.append(amount)
                assert memory.reserved >= sum(held)
                assert memory.reserved <= limit or memory.reserved in amounts
                try:
                    for _ in range(dice.randrange(4)):
                        await checkpoint()
                finally:
                    held.remove(amount)
            finished.append(number)

    async def disturb() -> None:
        for scope in dice.sample(scopes, int(cancelled * len(scopes))):
            for _ in range(dice.randrange(3)):
                await checkpoint()
            scope.cancel()

    with anyio.fail_after(20):  # a lost wake-up would wait for ever
        async with anyio.create_task_group() as group:
            for number in range(len(amounts)):
                group.start_soon(work, number)
            group.start_soon(disturb)
    assert memory.reserved == 0
    assert memory.peak <= max(limit, *amounts)
    assert len(finished) + sum(scope.cancelled_caught for scope in scopes) == len(amounts)
    with anyio.fail_after(5):
        await memory.acquire(limit)
