"""The pace of GETs that KMS is asked for: `sealift.governor` decides, and this waits. One for a whole run.

A GET of which it is not known that KMS need not be asked takes a permit when its turn has come, in the order of coming;
while it waits it holds neither a connection nor memory. Where the answer shows that KMS was not asked (a Bucket Key,
SSE-S3), the permit is given back. What KMS refuses goes back in line at once: there is no other waiting for it. While
KMS is down (`sealift.outage`) there is a permit for a single request now and then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable

import anyio

from sealift.governor import Governor
from sealift.outage import Outage
from sealift.tally import Observer


async def _within(event: anyio.Event, seconds: float) -> None:
    """Wait for an event, for so many seconds at the most."""
    with anyio.move_on_after(seconds):
        await event.wait()


class Pace:
    """Permits to ask KMS; `cap` is the most a second, in any second, `patience` the seconds that KMS may be down."""

    def __init__(
        self,
        cap: float | None,
        *,
        patience: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        within: Callable[[anyio.Event, float], Awaitable[None]] = _within,
    ) -> None:
        self._governor = Governor(cap)
        self.outage = Outage(patience)
        self._clock = clock
        self._within = within
        self._sooner = anyio.Event()
        self._turn = anyio.Lock()
        self._waiting = 0
        self._waiting_since = self._waited = 0.0

    @property
    def rate(self) -> float | None:
        """Requests a second that may be sent; None is unlimited."""
        return self._governor.rate

    @property
    def quota(self) -> float | None:
        """Requests a second that KMS granted when it refused some last; None while it refused none."""
        return self._governor.quota

    @property
    def changes(self) -> int:
        """How often the pace was cut or freed, or had grown by a tenth."""
        return self._governor.changes

    @property
    def waited(self) -> float:
        """Seconds in which somebody waited for a permit."""
        return self._waited + (self._clock() - self._waiting_since if self._waiting else 0.0)

    async def permit(self) -> bool:
        """Wait for a permit; say whether that took any time."""
        governor = self._governor
        if governor.rate is None and not self.outage.on:
            governor.take(self._clock(), 1)
            return False
        self._waiting += 1
        if self._waiting == 1:
            self._waiting_since = self._clock()
        waited = self._turn.locked()
        try:
            async with self._turn:
                while (seconds := self._delay(self._clock())) is not None:
                    waited = True
                    self._sooner = anyio.Event()
                    await self._within(self._sooner, seconds)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._waited += self._clock() - self._waiting_since
        return waited

    def give_back(self) -> None:
        """Hear that a permit was not needed."""
        self._governor.give_back(1)
        self.outage.told_nothing()
        self._sooner.set()

    def succeeded(self, sent: float) -> float | None:
        """Hear that KMS has granted what was sent at `sent`, in seconds of the monotonic clock.

        Return how many seconds it was down until now, if it was.
        """
        now, governor = self._clock(), self._governor
        changes = governor.changes
        governor.succeeded(now, sent)
        if governor.changes != changes:  # at the pace of probes the next permit would be a tenth of a second away
            self._sooner.set()
        return self._at_work(now)

    def refused(self, sent: float) -> float | None:
        """Hear that KMS has refused what was sent at `sent`, for its rate. Return what `succeeded` returns."""
        now = self._clock()
        self._governor.refused(now, sent)
        return self._at_work(now)

    def failed(self, since: float) -> bool:
        """Hear that an object failed at every attempt since `since`; say whether KMS is down."""
        return self.outage.failed(since, self._clock())

    def _at_work(self, now: float) -> float | None:
        down = self.outage.granted(now)
        if down is not None:
            self._sooner.set()
        return down

    def _delay(self, now: float) -> float | None:
        """Take a permit and return None, or return in how many seconds there may be one."""
        seconds = self.outage.wait(now)
        if seconds:
            return seconds
        if not self._governor.take(now, 1):
            return self._governor.wait(now)
        self.outage.tried(now)
        return None


def say_if_back(down: float | None, observer: Observer) -> None:
    """Say that KMS is back, if it was down for some seconds, as `Pace.succeeded` and `refused` tell."""
    if down is not None:
        observer.noted("warning", f"KMS is back after {down:.0f} s: going on")
