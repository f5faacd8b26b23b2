"""The rules that were compared, beside the one in `sealift.governor`. What they share is how permits are spaced."""

from __future__ import annotations

import math

from sealift.governor import Meter, Permits


class _Paced:
    """Unlimited before the first refusal, then a rate that each rule changes in its own way."""

    def __init__(self) -> None:
        self.pace: float | None = None
        self.meter = Meter()
        self._permits = Permits()
        self._judged = float("-inf")
        self._cut = 0.0

    @property
    def rate(self) -> float | None:
        return None if self.pace is None else max(1.0, self.pace)

    def take(self, now: float, most: int) -> int:
        if self.pace is None:
            return most
        self.pace = self.grown(now - self._cut, now)
        return self._permits.take(now, most, max(1.0, self.pace))

    def wait(self, now: float) -> float:
        rate = self.rate
        return 0.0 if rate is None else self._permits.wait(now, rate)

    def succeeded(self, now: float, sent: float) -> None:
        self.meter.add(now)

    def refused(self, now: float, sent: float) -> None:
        if sent > self._judged:
            self._judged = self._cut = now
            self.pace = self.cut(self.meter.rate(now) if self.pace is None else self.pace, now)

    def cut(self, pace: float, now: float) -> float:
        """Return the pace after a refusal."""
        raise NotImplementedError

    def grown(self, seconds: float, now: float) -> float:
        """Return the pace so many seconds after the last refusal."""
        raise NotImplementedError


class Aimd(_Paced):
    """TCP Reno: halved by a refusal, then 5 requests a second more each second."""

    def __init__(self) -> None:
        super().__init__()
        self._base = 0.0

    def cut(self, pace: float, now: float) -> float:
        self._base = pace / 2
        return self._base

    def grown(self, seconds: float, now: float) -> float:
        return self._base + 5 * seconds


class Cubic(_Paced):
    """botocore's adaptive mode (retries/throttling.py): 0.7 of the rate, a cubic of 0.4/s⁴, twice what was measured."""

    def __init__(self) -> None:
        super().__init__()
        self._highest = 0.0

    def cut(self, pace: float, now: float) -> float:
        self._highest = min(pace, max(1.0, self.meter.rate(now)))
        return 0.7 * self._highest

    def grown(self, seconds: float, now: float) -> float:
        back = math.cbrt(0.3 * self._highest / 0.4)
        return min(0.4 * (seconds - back) ** 3 + self._highest, 2 * max(1.0, self.meter.rate(now)))


class Bbr(_Paced):
    """BBR: the best rate of delivery of the last 4 s, and a quarter more and less of it in one round of eight each."""

    def __init__(self) -> None:
        super().__init__()
        self._best: list[tuple[float, float]] = []

    def cut(self, pace: float, now: float) -> float:
        return pace

    def grown(self, seconds: float, now: float) -> float:
        if not self._best or now - self._best[-1][0] >= 0.25:
            best = [each for each in self._best if now - each[0] < 4]
            self._best = [*best, (now, self.meter.rate(now, 0.25 if best else 1.0))]
        gain = (1.25, 0.75, 1, 1, 1, 1, 1, 1)[int(now / 0.25) % 8]
        return gain * max(1.0, *(rate for _, rate in self._best))


class Constant:
    """So many a second whatever happens: production, which knows of nobody."""

    def __init__(self, rate: float) -> None:
        self.rate: float | None = rate
        self._each = 1 / rate
        self._next = 0.0

    def take(self, now: float, most: int) -> int:
        count = 0
        while self._next <= now and count < most:
            self._next += self._each
            count += 1
        return count

    def wait(self, now: float) -> float:
        return max(0.0, self._next - now)

    def succeeded(self, now: float, sent: float) -> None:
        pass

    def refused(self, now: float, sent: float) -> None:
        pass
