from __future__ import annotations

from datetime import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.timetable import LOOK_EVERY, Current, Slot, Timetable

DAY, NIGHT = Slot(time(8), time(18), 50.0), Slot(time(22), time(6), 200.0)

times = st.times()
rates = st.floats(1.0, 1e9)
slots = st.tuples(times, times, rates).filter(lambda each: each[0] != each[1]).map(lambda each: Slot(*each))
timetables = st.builds(Timetable, st.none() | rates, st.lists(slots, max_size=4).map(tuple))


@pytest.mark.parametrize(
    ("at", "rate"),
    [
        (time(7, 59, 59), None),
        (time(8), 50.0),
        (time(17, 59, 59), 50.0),
        (time(18), None),
        (time(22), 200.0),
        (time(0), 200.0),
        (time(6), None),
    ],
)
def test_a_slot_holds_from_its_start_to_before_its_stop(at: time, rate: float | None) -> None:
    assert Timetable(None, (DAY, NIGHT)).rate(at) == rate


@given(timetables, times)
def test_the_lowest_of_what_holds_holds(timetable: Timetable, at: time) -> None:
    rate = timetable.rate(at)
    holding = [slot.rate for slot in timetable.slots if slot.covers(at)]
    if timetable.most is not None:
        holding.append(timetable.most)
    assert (rate is None) == (not holding)
    assert all(rate is not None and rate <= each for each in holding)


@given(slots, times)
def test_a_slot_and_what_it_leaves_are_the_whole_day(slot: Slot, at: time) -> None:
    assert slot.covers(at) != Slot(slot.stop, slot.start, slot.rate).covers(at)


@given(timetables, times, st.integers(1, 64))
def test_shares_add_up_to_the_whole(timetable: Timetable, at: time, among: int) -> None:
    whole, share = timetable.rate(at), timetable.shared(among).rate(at)
    assert share == (None if whole is None else pytest.approx(whole / among))


def test_a_slot_of_no_time_or_no_rate_is_refused() -> None:
    for start, stop, rate in ((time(8), time(8), 1.0), (time(8), time(9), 0.0)):
        with pytest.raises(ValueError, match="above zero"):
            Slot(start, stop, rate)


def test_the_clock_is_looked_at_once_a_second_and_never_without_slots() -> None:
    looks = []

    def wall() -> time:
        looks.append(1)
        return time(7, 59) if len(looks) < 3 else time(8)

    current = Current(Timetable(80.0, (DAY,)), wall)
    seen = [current.rate(LOOK_EVERY * tick / 2) for tick in range(6)]
    assert seen == [80.0, 80.0, 80.0, 80.0, 50.0, 50.0]
    assert len(looks) == 3
    assert Current(Timetable(80.0), wall).rate(1.0) == 80.0
    assert len(looks) == 3
