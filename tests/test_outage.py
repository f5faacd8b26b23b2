"""KMS is down, or not; and when it is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sealift.outage import FIRST, LONGEST, Outage


def down(patience: float = 900.0, *, since: float = 70.0, now: float = 100.0) -> Outage:
    outage = Outage(patience)
    assert outage.failed(since, now)
    return outage


def tries(outage: Outage, now: float, until: float) -> list[float]:
    """Try whenever that may be, up to a time; return when."""
    times = []
    while (now := now + outage.wait(now)) <= until:
        outage.tried(now)
        times.append(now)
    return times


def test_nothing_waits_as_long_as_kms_is_at_work() -> None:
    outage = Outage(900)
    assert outage.wait(5) == 0
    outage.tried(5)
    assert outage.wait(5) == 0
    assert not outage.on


def test_what_failed_while_other_things_were_granted_is_no_outage() -> None:
    outage = Outage(900)
    assert outage.granted(80) is None
    assert not outage.failed(70, 100)
    assert outage.failed(81, 110)


def test_it_is_tried_at_growing_intervals_of_a_minute_at_the_most() -> None:
    times = tries(down(), 100, 400)
    assert [later - sooner for sooner, later in zip([100.0, *times], times, strict=False)] == [
        1,
        2,
        4,
        8,
        16,
        32,
        60,
        60,
        60,
    ]


def test_the_first_grant_ends_it_and_tells_how_long_it_was() -> None:
    outage = down(since=70)
    assert outage.granted(130) == 60
    assert not outage.on
    assert outage.wait(130) == 0


def test_patience_counts_from_the_first_failure_and_ends_with_a_last_try() -> None:
    outage = down(patience=100, since=70)
    assert tries(outage, 100, 170)[-1] == 170
    assert not outage.spent(169)
    assert outage.spent(170)


def test_a_new_outage_has_all_the_patience_and_short_intervals_again() -> None:
    outage = down(patience=100, since=70)
    tries(outage, 100, 160)
    outage.granted(165)
    assert outage.failed(200, 230)
    assert not outage.spent(299)
    assert tries(outage, 230, 232) == [230 + FIRST]


def test_where_kms_was_not_asked_something_else_is_tried_at_once() -> None:
    outage = down()
    outage.tried(101)
    outage.told_nothing()
    assert outage.wait(101) == 0


@given(st.floats(1, 1e5), st.floats(0, 1e5), st.floats(0, 600))
def test_tries_are_at_least_a_second_apart_but_for_the_last_and_one_is_when_patience_ends(
    patience: float, since: float, late: float
) -> None:
    outage = Outage(patience)
    now = since + late
    assert outage.failed(since, now)
    times = tries(outage, now, now + patience + LONGEST)
    gaps = [later - sooner for sooner, later in zip([now, *times], times, strict=False)]
    assert all(gap <= LONGEST + 1e-6 for gap in gaps)
    assert sum(gap < FIRST - 1e-6 for gap in gaps) <= 1
    end = since + patience
    assert now + FIRST >= end or any(abs(time - end) < 1e-6 for time in times)
    assert outage.spent(times[-1])
