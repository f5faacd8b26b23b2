"""Rates that hold at some times of the day. Pure, but for the clock that `Current` looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, time

LOOK_EVERY = 1.0
"""Seconds for which a rate is believed: rates are per second, and a timetable's times are minutes."""


@dataclass(frozen=True, slots=True)
class Slot:
    """No more than `rate` a second from `start` to before `stop`, over midnight if need be, by this machine's clock."""

    start: time
    stop: time
    rate: float

    def __post_init__(self) -> None:
        if self.start == self.stop or self.rate <= 0:
            msg = "a slot takes some time, and its rate is above zero"
            raise ValueError(msg)

    def covers(self, at: time) -> bool:
        """Whether it holds at a time of the day."""
        if self.start < self.stop:
            return self.start <= at < self.stop
        return at >= self.start or at < self.stop


@dataclass(frozen=True, slots=True)
class Timetable:
    """A rate that always holds, and slots. Where several hold, the lowest does."""

    most: float | None = None
    """None: no limit outside of the slots."""
    slots: tuple[Slot, ...] = ()

    def rate(self, at: time) -> float | None:
        """Return what is allowed at a time of the day, a second."""
        rates = [slot.rate for slot in self.slots if slot.covers(at)]
        return min([*rates, *([] if self.most is None else [self.most])], default=None)

    def shared(self, among: int) -> Timetable:
        """Return what each of so many may have."""
        slots = tuple(replace(slot, rate=slot.rate / among) for slot in self.slots)
        return Timetable(None if self.most is None else self.most / among, slots)


def local_time() -> time:
    """Return the time of the day, by this machine's clock and time zone."""
    return datetime.now().astimezone().time()


class Current:
    """What a timetable says now. `rate` costs a comparison, and a look at the clock once a second."""

    __slots__ = ("_rate", "_until", "_wall", "timetable")

    def __init__(self, timetable: Timetable, wall: Callable[[], time] = local_time) -> None:
        self.timetable = timetable
        self._wall = wall
        self._rate = timetable.most
        self._until = float("-inf") if timetable.slots else float("inf")

    def rate(self, now: float) -> float | None:
        """Return the rate at `now`, in seconds of a monotonic clock."""
        if now >= self._until:
            self._until = now + LOOK_EVERY
            self._rate = self.timetable.rate(self._wall())
        return self._rate
