"""How many KMS-charged requests may be sent a second: a pure controller, with time passed in.

KMS allows an account so many requests a second, shared with whatever else the account runs, and tells nobody how many
are left: it refuses. `Governor` finds out. Seconds are of one clock that never goes back.

1. Nothing is held back until the first refusal, but for the cap that the user set.
2. A refusal sets the pace from the success rate of the last second: that much was allowed. Whatever else is refused of
   what had been sent before belongs to the same event and says nothing new.
3. While what is sent afterwards is refused as well, the pace is halved, down to a few probes a second. The first
   success ends that: a second's quota that is used up costs a few refusals, not a quota's worth.
4. Then the pace grows along a cubic: quickly back to what was allowed, gently past it, and ever faster while nothing is
   refused.
"""

from __future__ import annotations

from collections import deque

JITTER = 0.01
"""Seconds by which the network may push requests together: what is to hold in any second for the server is kept for
any second and a hundredth here, so a cap is used to 99 %."""
CATCH_UP = 0.02
"""Seconds of permits that may be made up for at once: event loops wake up late by a few milliseconds, and what the
pace allowed meanwhile would be lost."""
WINDOW = 1.0
"""Seconds over which successes are counted: KMS's quotas are per second, and a bucket or a window of one holds back
what is beyond it in bursts."""
BINS = 20
"""Parts of a window: it is forgotten by steps of a twentieth."""
BACKOFF = 0.05
"""What a refusal takes off the success rate."""
PLATEAU = 4.0
"""Seconds until the pace is back where it was refused."""
DOUBLING = 6.0
"""Seconds from there until the pace has doubled, if nothing is refused."""
AHEAD = 1.5
"""How much higher the pace may be than the success rate of the last second: growth that nobody uses proves nothing."""
PROBES = 10.0
"""Probes a second while everything is refused, at the most: a tenth of a second is lost where a one-second window ends,
and ten requests are refused in one."""
LEAST = 1.0
"""Requests a second that are always allowed: less finds out nothing."""


class _Meter:
    """Counts what happened within the last window."""

    __slots__ = ("_bin", "_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * BINS
        self._bin = 0
        self._total = 0

    def add(self, now: float) -> None:
        self._turn(now)
        self._counts[self._bin % BINS] += 1
        self._total += 1

    def count(self, now: float) -> int:
        self._turn(now)
        return self._total

    def _turn(self, now: float) -> None:
        there = int(now * (BINS / WINDOW))
        if there <= self._bin:
            return
        for passed in range(max(self._bin + 1, there - BINS + 1), there + 1):
            self._total -= self._counts[passed % BINS]
            self._counts[passed % BINS] = 0
        self._bin = there


class _Permits:
    """Evenly spaced permits: never more than `cap` in any second, if there is one."""

    __slots__ = ("_at", "_each", "_fastest", "_level", "_log", "_most")

    def __init__(self, cap: float | None) -> None:
        self._level = 1.0
        self._at = float("-inf")
        self._most = None if cap is None else max(1, int(cap))
        self._each = (WINDOW if cap is None or cap >= 1 else 1 / cap) + JITTER
        self._fastest = float("inf") if self._most is None else self._most / self._each
        self._log: deque[float] = deque()

    def take(self, now: float, most: int, rate: float) -> int:
        self._level = self._due(now, rate)
        self._at = max(self._at, now)
        count = min(most, int(self._level + 1e-9))
        if self._most is not None:
            log, begin = self._log, now - self._each
            while log and log[0] <= begin:
                log.popleft()
            count = min(count, self._most - len(log))
            log.extend([now] * count)
        self._level -= count
        return count

    def wait(self, now: float, rate: float) -> float:
        wait = max(0.0, (1 - 1e-9 - self._due(now, rate)) / min(rate, self._fastest))
        if self._most is not None and len(self._log) >= self._most:
            wait = max(wait, self._log[-self._most] + self._each - now)
        return wait

    def give_back(self, count: int) -> None:
        self._level += count
        for _ in range(min(count, len(self._log))):
            self._log.pop()

    def _due(self, now: float, rate: float) -> float:
        if self._at == float("-inf"):
            return self._level
        rate = min(rate, self._fastest)
        full = max(1.0, rate * CATCH_UP, self._level)
        return min(full, self._level + max(0.0, now - self._at) * rate)


class Governor:
    """The pace of one KMS quota: requests a second, and never more than `cap` in any second."""

    __slots__ = (
        "_allowed", "_brake", "_braked", "_cap", "_cut", "_meter", "_pace", "_permits", "_told", "changes",
    )  # fmt: skip

    def __init__(self, cap: float | None = None) -> None:
        """`cap` is in requests a second, refused ones included; ValueError unless it is above zero."""
        if cap is not None and cap <= 0:
            msg = "cap must be above zero"
            raise ValueError(msg)
        self._cap = cap
        self._permits = _Permits(cap)
        self._meter = _Meter()
        self._allowed: float | None = None
        self._pace: float | None = None
        self._cut = self._braked = float("-inf")
        self._brake = 1.0
        self._told = 0.0
        self.changes = 0
        """Grows whenever the pace was cut, and whenever it has grown by a tenth since."""

    @property
    def rate(self) -> float | None:
        """Permits a second as of the last call; None is unlimited."""
        return self._cap if self._pace is None else self._limited(self._pace)

    @property
    def quota(self) -> float | None:
        """Requests a second that were allowed when some were refused last; None while none were."""
        return self._allowed

    def take(self, now: float, most: int) -> int:
        """Return how many of `most` requests may be sent now. They count as sent."""
        if self._pace is not None:
            self._grow(now, self._pace)
        rate = self.rate
        return most if rate is None else self._permits.take(now, most, rate)

    def wait(self, now: float) -> float:
        """Return the seconds until `take` gives at least one."""
        rate = self.rate
        return 0.0 if rate is None else self._permits.wait(now, rate)

    def give_back(self, count: int) -> None:
        """Take back the permits of requests that never went out."""
        if self.rate is not None:
            self._permits.give_back(count)

    def succeeded(self, now: float, sent: float) -> None:
        """A charged request, sent at `sent`, was decrypted."""
        self._meter.add(now)
        if self._brake < 1.0 and sent > self._braked:
            self._brake = 1.0

    def refused(self, now: float, sent: float) -> None:
        """A charged request, sent at `sent`, was refused by KMS."""
        if sent <= self._braked:
            return
        self._braked = now
        if self._pace is None or now - self._cut >= WINDOW:
            # Where the counting began less than a window ago, the quota's burst has been used, and no more is known.
            self._allowed = max(LEAST, float(self._meter.count(now)) / WINDOW)
            self._cut = now
            self._pace = self._curve(0.0)
            self._told = self._pace
        else:
            self._brake /= 2
        self.changes += 1

    def _grow(self, now: float, before: float) -> None:
        seconds = now - self._cut
        self._pace = max(before, min(self._curve(seconds), AHEAD * self._meter.count(now) / WINDOW))
        if self._pace >= 1.1 * self._told:
            self._told = self._pace
            self.changes += 1

    def _curve(self, seconds: float) -> float:
        allowed = self._allowed or LEAST
        beyond = seconds - PLATEAU
        steep = BACKOFF / PLATEAU**3 if beyond < 0 else 1 / DOUBLING**3
        return allowed * (1 + steep * beyond**3)

    def _limited(self, pace: float) -> float:
        braked = pace if self._brake == 1.0 else max(pace * self._brake, min(pace, PROBES))
        return braked if self._cap is None else min(braked, self._cap)
