from __future__ import annotations

from datetime import time

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.bandwidth import BURST_SECONDS, Bandwidth, TokenBucket
from sealift.timetable import LOOK_EVERY, Slot, Timetable

MIB = 1024 * 1024

rates = st.floats(1, 1e9)
takings = st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10**7)), min_size=1, max_size=60)


def releases(bucket: TokenBucket, history: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Let bytes through after these pauses; return when each was let go on, and how many they were."""
    now, result = 0.0, []
    for pause, amount in history:
        now += pause
        result.append((now + bucket.take(amount, now), amount))
    return result


@given(rates, st.floats(1, 1e7), takings)
def test_never_more_than_the_rate_and_one_burst_is_let_through(
    rate: float, burst: float, history: list[tuple[float, int]]
) -> None:
    total = 0
    for when, amount in releases(TokenBucket(rate, burst, 0.0), history):
        total += amount
        assert total <= (rate * when + burst) * (1 + 1e-9) + 1e-3


@given(rates, st.floats(1, 1e7), takings)
def test_any_stretch_of_time_obeys_the_rate_too(rate: float, burst: float, history: list[tuple[float, int]]) -> None:
    let_through = releases(TokenBucket(rate, burst, 0.0), history)
    for index, (begin, _) in enumerate(let_through):
        total = 0
        for when, amount in let_through[index + 1 :]:
            total += amount
            assert total <= (rate * (when - begin) + burst) * (1 + 1e-6) + 1


@given(rates, st.floats(1, 1e7), takings)
def test_nobody_waits_longer_than_the_debt_takes(rate: float, burst: float, history: list[tuple[float, int]]) -> None:
    """A model that counts tokens one taking at a time."""
    bucket = TokenBucket(rate, burst, 0.0)
    level, now = burst, 0.0
    for pause, amount in history:
        now += pause
        level = min(burst, level + pause * rate) - amount
        # now - (now - pause) is pause but for the rounding of a clock that runs for some minutes.
        assert bucket.take(amount, now) == pytest.approx(max(0.0, -level / rate), rel=1e-6, abs=1e-6)


@given(rates, takings)
def test_a_clock_that_steps_back_gives_nothing_away(rate: float, history: list[tuple[float, int]]) -> None:
    bucket = TokenBucket(rate, 1.0, 100.0)
    waits = [bucket.take(amount, 100.0 - pause) for pause, amount in history]
    assert waits == sorted(waits)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_a_bucket_without_rate_or_burst_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        TokenBucket(rate, burst, 0.0)


@pytest.mark.anyio
async def test_without_a_cap_nothing_waits() -> None:
    bandwidth = Bandwidth(Timetable())
    with anyio.fail_after(5):
        await bandwidth.spend(10**15)


@pytest.mark.anyio
async def test_bytes_beyond_the_burst_wait_for_their_time() -> None:
    rate = 100 * MIB
    begun = anyio.current_time()
    bandwidth = Bandwidth(Timetable(rate))
    await bandwidth.spend(int(rate * (BURST_SECONDS + 0.05)))
    assert anyio.current_time() - begun >= 0.048, "2 ms less: uvloop counts whole milliseconds"


@pytest.mark.anyio
async def test_bytes_that_came_before_a_cancellation_count_all_the_same() -> None:
    bandwidth = Bandwidth(Timetable(1))
    with anyio.move_on_after(0):
        await bandwidth.spend(1000)
    with anyio.move_on_after(0.01) as scope:
        await bandwidth.spend(0)
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_the_rate_follows_its_timetable() -> None:
    """Now there is no limit, then there is, then there is none again."""
    hours = iter([time(7), time(8), time(18)])
    moment = 0.0
    bandwidth = Bandwidth(Timetable(None, (Slot(time(8), time(18), 100.0),)), wall=lambda: next(hours))
    waits = []
    for _ in range(3):
        waits.append([bandwidth._wait(amount, moment) for amount in (1000, 100)])
        moment += LOOK_EVERY
    assert not bandwidth.unlimited
    assert waits == [[0.0, 0.0], [9.75, 10.75], [0.0, 0.0]]
