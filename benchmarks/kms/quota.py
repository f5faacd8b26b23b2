"""What KMS allows, and how it counts: pure, with time passed in.

Nobody outside AWS knows how KMS counts, so two ways are served. Both begin in the middle: a client cannot tell when the
next second begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

Way = Literal["windows", "bucket"]

PHASE = 0.4
"""Seconds of the first window that are over when the first request comes."""
BURST = 0.1
"""Seconds of its rate that a full bucket holds."""


@dataclass(frozen=True)
class Timetable:
    """Requests a second, each for `each` seconds, over and over. No rates at all: no limit."""

    rates: tuple[float, ...] = ()
    each: float = math.inf

    def at(self, seconds: float) -> float:
        """Return the rate so long after the first request."""
        if len(self.rates) == 1:
            return self.rates[0]
        return self.rates[int(seconds / self.each) % len(self.rates)]

    def ideal(self, requests: float) -> float:
        """Return the seconds that so many requests take when every one that is allowed is sent and none is refused."""
        if not self.rates:
            return 0.0
        if len(self.rates) == 1:
            return requests / self.rates[0]
        seconds = 0.0
        while True:
            rate = self.at(seconds)
            if requests <= rate * self.each:
                return seconds + requests / rate
            requests -= rate * self.each
            seconds += self.each


class Limit(Protocol):
    """Somebody who says yes or no."""

    def take(self, seconds: float) -> bool:
        """Say whether one more request is allowed, so long after the first one. Times never decrease."""
        ...


class Windows:
    """So many in each second of the server's clock; what is refused is not counted."""

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable
        self._window = -1
        self._left = 0.0

    def take(self, seconds: float) -> bool:
        window = int(seconds + PHASE)
        if window > self._window:
            self._window = window
            self._left = self._timetable.at(max(0.0, window - PHASE))
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Bucket:
    """A token bucket that holds a tenth of a second's tokens."""

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable
        self._at = 0.0
        self._level = max(1.0, timetable.at(0.0) * BURST)

    def take(self, seconds: float) -> bool:
        rate = self._timetable.at(seconds)
        self._level = min(max(1.0, rate * BURST), self._level + (seconds - self._at) * rate)
        self._at = seconds
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Unlimited:
    """Yes to everything."""

    def take(self, _: float) -> bool:
        return True


def limit(way: Way, timetable: Timetable) -> Limit:
    """Return what counts requests in this way."""
    if not timetable.rates:
        return Unlimited()
    return Windows(timetable) if way == "windows" else Bucket(timetable)
