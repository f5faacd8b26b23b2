"""The cap on bytes per second: a token bucket, with time passed in, and the thin gate that waits for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time

import anyio

from sealift.timetable import Current, Timetable, local_time

BURST_SECONDS = 0.25
"""How much of a second's allowance may pass at once: long enough to be met by one write of a slow link,
short enough that a one-second average never exceeds 1.25 times the cap."""


class TokenBucket:
    """`rate` bytes a second on the long run, `burst` bytes at once. May go into debt; the debtor waits."""

    __slots__ = ("_level", "_updated", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        if rate <= 0 or burst <= 0:
            msg = "rate and burst must be above zero"
            raise ValueError(msg)
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._updated = now

    def take(self, amount: int, now: float) -> float:
        """Take `amount` bytes at time `now` (seconds) and return the seconds to wait before going on."""
        self._level = min(self.burst, self._level + max(0.0, now - self._updated) * self.rate)
        self._updated = max(self._updated, now)
        self._level -= amount
        return max(0.0, -self._level / self.rate)


class Bandwidth:
    """Lets bytes through at no more than a timetable's bytes a second."""

    __slots__ = ("_bucket", "_current", "unlimited")

    def __init__(self, rates: Timetable, *, wall: Callable[[], time] = local_time) -> None:
        self.unlimited = rates.most is None and not rates.slots
        """Whether nobody ever waits."""
        self._current = Current(rates, wall)
        self._bucket: TokenBucket | None = None

    async def spend(self, amount: int) -> None:
        """Account for `amount` bytes that were received, and wait until they were allowed."""
        if not self.unlimited:
            now = anyio.current_time()
            await anyio.sleep(self._wait(amount, now))

    def _wait(self, amount: int, now: float) -> float:
        rate, bucket = self._current.rate(now), self._bucket
        if rate is None:
            self._bucket = None
            return 0.0
        if bucket is None or bucket.rate != rate:
            self._bucket = bucket = TokenBucket(rate, rate * BURST_SECONDS, now)
        return bucket.take(amount, now)
