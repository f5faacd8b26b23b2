"""Waiting for permits to ask KMS."""

from __future__ import annotations

from contextlib import suppress
from functools import partial as bind
from itertools import pairwise

import anyio
import pytest

from sealift.errors import NotSent, ObjectError, Unreachable
from sealift.pacing import Pace, Permit

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that goes on when somebody sleeps, and only then."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    async def within(self, event: anyio.Event, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        if not event.is_set():
            self.now += seconds + 1e-4  # as event loops do


def paced(cap: float | None) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(cap, clock=clock.time, within=clock.within), clock


async def permits(pace: Pace, clock: Clock, *, tasks: int, each: int) -> list[float]:
    """Let some tasks ask KMS so many times each; return when they did."""
    sent: list[float] = []

    async def work() -> None:
        for _ in range(each):
            await asks(pace)
            sent.append(clock.now)
            pace.succeeded(clock.now)

    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(work)
    return sent


async def asks(pace: Pace) -> Permit:
    """Wait for a permit, and send something with it."""
    permit = await pace.permit()
    permit.sent()
    return permit


async def test_nothing_waits_before_the_first_refusal() -> None:
    pace, clock = paced(None)
    assert len(await permits(pace, clock, tasks=8, each=50)) == 400
    assert clock.now == 1000.0
    assert pace.rate is None


async def test_no_second_has_more_permits_than_the_cap_whoever_asks() -> None:
    pace, clock = paced(100)
    assert pace.rate is not None
    sent = await permits(pace, clock, tasks=7, each=50)
    assert len(sent) == 350
    assert all(later - sooner >= 1 for sooner, later in zip(sent, sent[100:], strict=False))
    assert sent[-1] - sent[0] < 350 / 98


async def test_after_a_refusal_permits_wait() -> None:
    pace, clock = paced(None)
    await permits(pace, clock, tasks=1, each=100)
    clock.now += 0.5
    pace.refused(1000.0)
    assert pace.rate is not None
    sent = await permits(pace, clock, tasks=3, each=20)
    assert sent[-1] > sent[0]


async def test_a_permit_that_was_not_needed_is_the_next_ones() -> None:
    pace, clock = paced(1)
    for _ in range(1000):
        (await pace.permit()).not_needed(clock.now)
    assert clock.now == 1000.0


async def test_a_permit_counts_from_when_its_request_goes_out() -> None:
    pace, clock = paced(1)
    permit = await pace.permit()
    clock.now += 60  # its connection took long
    permit.sent()
    await pace.permit()
    assert clock.now == pytest.approx(1061, abs=0.1)


async def test_a_request_that_was_sent_elsewhere_first_counts_once() -> None:
    pace, clock = paced(2)
    permit = await asks(pace)
    clock.now += 0.1
    permit.sent()
    await asks(pace)
    assert clock.now < 1000.7
    await asks(pace)
    assert clock.now == pytest.approx(1001.11, abs=0.01)


@pytest.mark.parametrize("error", [NotSent("not yet", service="kms"), Unreachable("nobody there")])
async def test_what_never_went_out_leaves_its_permit_to_the_next(error: ObjectError) -> None:
    pace, clock = paced(1)
    for _ in range(100):
        with suppress(type(error)), await pace.permit():
            raise error
    assert clock.now == 1000.0


async def test_what_was_lost_on_its_way_has_used_its_permit() -> None:
    """Its connection was closed as it went out: whether it was heard nobody knows."""
    pace, clock = paced(1)
    with suppress(NotSent), await asks(pace):
        raise NotSent("once more", service="kms")
    await pace.permit()
    assert clock.now == pytest.approx(1001, abs=0.1)


async def test_a_request_that_is_called_off_leaves_its_place_a_second_later() -> None:
    """Whether it had gone out by then nobody knows."""
    pace, clock = paced(1)
    with await pace.permit():
        clock.now += 60
    await pace.permit()
    assert clock.now == pytest.approx(1061, abs=0.1)


async def test_who_waits_already_gets_it_as_well() -> None:
    pace = Pace(0.001)
    permit = await asks(pace)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(pace.permit)
            await anyio.wait_all_tasks_blocked()
            permit.not_needed(0.0)


async def test_who_waits_at_the_pace_of_probes_goes_on_as_soon_as_one_is_granted() -> None:
    now, taken = 0.0, 0

    async def until_told(event: anyio.Event, _: float) -> None:
        await event.wait()

    async def take() -> None:
        nonlocal taken
        while True:
            await pace.permit()
            taken += 1

    pace = Pace(None, clock=lambda: now, within=until_told)
    for _ in range(100):
        pace.succeeded(0.0)
    for _ in range(5):
        now += 0.1
        pace.refused(now - 0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await anyio.wait_all_tasks_blocked()
        before = taken
        now += 0.05
        pace.succeeded(now - 0.001)
        await anyio.wait_all_tasks_blocked()
        assert taken > before
        group.cancel_scope.cancel()


async def test_who_is_cancelled_while_waiting_leaves_the_turn_to_the_next() -> None:
    pace, clock = paced(1)
    await asks(pace)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pace.permit()
    await asks(pace)
    assert clock.now > 1000.0


async def test_while_kms_is_down_single_requests_are_tried_and_the_first_grant_lets_all_go_on() -> None:
    pace, clock = paced(None)
    assert pace.failed(970.0)
    sent: list[float] = []

    async def work() -> None:
        await pace.permit()
        sent.append(clock.now)
        if len(sent) == 4:
            assert pace.succeeded(clock.now) == pytest.approx(45, abs=0.1)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(work)
    assert [round(later - sooner) for sooner, later in pairwise(sent[:4])] == [2, 4, 8]
    assert len(sent) == 20
    assert sent[-1] == sent[3]


async def test_a_refusal_for_rate_ends_an_outage() -> None:
    pace, clock = paced(None)
    assert pace.failed(970.0)
    assert pace.refused(clock.now) == 30
    assert not pace.outage.on


async def test_it_is_told_for_how_long_somebody_waited_however_many_did() -> None:
    pace, clock = paced(10)
    await permits(pace, clock, tasks=5, each=10)
    waited = clock.now - 1000.0
    assert waited > 3
    assert waited - 0.5 <= pace.waited <= waited
    clock.now += 100
    assert pace.waited <= waited, "nobody waits any more"


async def test_who_waits_already_is_counted() -> None:
    pace, clock = paced(0.001)
    await asks(pace)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            pace._within = bind(_let_pass, clock)
            group.start_soon(pace.permit)
            await anyio.wait_all_tasks_blocked()
            assert pace.waited == 7.0
            scope.cancel()
    assert pace.waited == 7.0


async def _let_pass(clock: Clock, event: anyio.Event, seconds: float) -> None:
    clock.now += 7.0
    await anyio.sleep_forever()
