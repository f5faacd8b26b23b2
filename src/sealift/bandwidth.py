"""The cap on bytes per second: a token bucket, with time passed in, and the thin gate that waits for it."""

from __future__ import annotations

import anyio

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
    """Lets bytes through at no more than `rate` bytes a second; None is no limit."""

    __slots__ = ("_bucket",)

    def __init__(self, rate: float | None) -> None:
        self._bucket = None if rate is None else TokenBucket(rate, rate * BURST_SECONDS, anyio.current_time())

    @property
    def unlimited(self) -> bool:
        """Whether nobody ever waits."""
        return self._bucket is None

    async def spend(self, amount: int) -> None:
        """Account for `amount` bytes that were received, and wait until they were allowed."""
        if self._bucket is not None:
            await anyio.sleep(self._bucket.take(amount, anyio.current_time()))
