"""The pace of requests to one KMS, under one quota: `sealift.governor` decides, `sealift.outage` says when it is down.

Whatever KMS may be asked for takes a permit first: at once (`take`), or by waiting for it (`permit`). Where the answer
shows that KMS was not asked (a Bucket Key, SSE-S3), it is given back. While KMS is down there is a permit for a single
request now and then.

A request may go out some time after its permit was taken, as its connection is still to come. Under a cap its second is
that in which it goes out, which its `Permit` is told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio

from sealift.alarm import wake_at
from sealift.errors import NotSent, ObjectError, ServerFailed, SourceError, Transient, Unreachable
from sealift.governor import LEAST_WAIT, Cap, Governor
from sealift.outage import Outage
from sealift.tally import Observer


async def _within(event: anyio.Event, seconds: float) -> None:
    """Wait for an event, for so many seconds at the most."""
    alarm = wake_at(time.monotonic() + seconds, event.set)
    try:
        await event.wait()
    finally:
        alarm.cancel()


def _nobody() -> None:
    """Tell nobody."""


def _seldom(_: float) -> bool:
    """Take no failure for an outage that does not name KMS: there is one object only, and it may be that."""
    return False


class Pace:
    """Permits to ask KMS; `cap` is the most a second, in any second, `patience` the seconds that KMS may be down.

    `common` is a cap that is shared with other paces; `look_again` is called when there may be permits earlier than was
    said.
    """

    def __init__(
        self,
        cap: float | None,
        *,
        common: Cap | None = None,
        patience: float = math.inf,
        look_again: Callable[[], None] = _nobody,
        clock: Callable[[], float] = time.monotonic,
        within: Callable[[anyio.Event, float], Awaitable[None]] = _within,
    ) -> None:
        self._governor = Governor(cap, common=common)
        self.outage = Outage(patience)
        self._clock = clock
        self._within = within
        self._look_again = look_again
        self._sooner = anyio.Event()
        self._turn = anyio.Lock()
        self._short_since: float | None = None
        self._waited = 0.0
        self.limits = self._governor.rate is not None
        """Whether permits are to be had at a certain pace only."""

    @property
    def capped(self) -> bool:
        """Whether there is a cap."""
        return self._governor.capped

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
        """Seconds in which a permit was wanted and there was none."""
        return self._waited + (0.0 if self._short_since is None else self._clock() - self._short_since)

    def take(self) -> float:
        """Take a permit and return 0.0, or return in how many seconds there may be one. See to it by a `Permit`."""
        now = self._clock()
        seconds = self.outage.wait(now)
        if not seconds and not self._governor.take(now, 1, held=True):
            seconds = max(LEAST_WAIT, self._governor.wait(now))
        if seconds:
            if self._short_since is None:
                self._short_since = now
            return seconds
        if self._short_since is not None:
            self._waited += now - self._short_since
            self._short_since = None
        self.outage.tried(now)
        return 0.0

    def reserve(self) -> float:
        """Count a request against the caps for which KMS is most likely not asked; return what `take` returns."""
        return self._governor.reserve(self._clock(), held=True)

    def sent(self, before: float | None) -> float:
        """Hear that a request goes out for which there is a permit, and return when; `before` is when it went first."""
        now = self._clock()
        self._governor.sent(now, before)
        return now

    def unsent(self, *, reserved: bool) -> None:
        """Hear that a request never went out for which there was a permit, or which was `reserved` for."""
        self._governor.unsent(reserved=reserved)
        self._hurry()

    def free(self, sent: float) -> None:
        """Hear that KMS was not asked by one that was reserved for by `sent`."""
        self._governor.free(sent)
        self._hurry()

    async def permit(self) -> Permit:
        """Wait for a permit, in the order of coming."""
        if self.limits:
            async with self._turn:
                while seconds := self.take():
                    self._sooner = anyio.Event()
                    await self._within(self._sooner, seconds)
        return Permit(self)

    def give_back(self, sent: float | None = None) -> None:
        """Hear that a permit was not needed that was taken by `sent`, by now if nothing is said."""
        self._governor.give_back(self._clock() if sent is None else sent)
        self.outage.told_nothing()
        self._hurry()

    def succeeded(self, sent: float) -> float | None:
        """Hear that KMS has granted what was sent at `sent`, in seconds of the monotonic clock.

        Return how many seconds it was down until now, if it was.
        """
        now, governor = self._clock(), self._governor
        changes = governor.changes
        governor.succeeded(now, sent)
        if governor.changes != changes:  # at the pace of probes the next permit would be a tenth of a second away
            self._hurry()
        return self._at_work(now)

    def refused(self, sent: float) -> float | None:
        """Hear that KMS has refused what was sent at `sent`, for its rate. Return what `succeeded` returns."""
        now = self._clock()
        self._governor.refused(now, sent)
        down = self._at_work(now)
        self.limits = True
        return down

    def failed(self, since: float) -> bool:
        """Hear that an object failed at every attempt since `since`; say whether KMS is down."""
        down = self.outage.failed(since, self._clock())
        self.limits = self.limits or down
        return down

    def is_to_blame(
        self,
        error: ObjectError,
        since: float,
        observer: Observer,
        *,
        used_up: bool,
        widespread: Callable[[float], bool] = _seldom,
    ) -> bool:
        """Say whether it is KMS that is down, rather than something with the object whose attempt ended in `error`.

        Every attempt at it has failed since `since`, and these are `used_up` or not. Where S3 does not name KMS,
        `widespread` says whether enough others have failed for so many seconds. Raises SourceError when patience ends.
        """
        if not isinstance(error, Transient) or isinstance(error, Unreachable):
            return False
        now, outage = self._clock(), self.outage
        minutes = f"{outage.patience / 60:.3g} min"
        if outage.on:
            if outage.spent(now):
                raise SourceError(
                    f"KMS has been down for longer than --kms-patience, {minutes} ({error.message})", code=error.code
                ) from error
            return True
        if not used_up or not isinstance(error, ServerFailed):
            return False
        seconds = now - since
        if not (error.code or "").startswith("KMS.") and not widespread(seconds):
            return False
        if not self.failed(since):
            return False
        observer.noted(
            "warning",
            f"nothing that KMS has to decrypt has come for {seconds:.0f} s ({error.message}): pausing; single requests "
            f"are tried until KMS is back, for {minutes} at the most (--kms-patience)",
        )
        return True

    def _hurry(self) -> None:
        """Let those who wait look again: there may be permits earlier than they were told."""
        self._sooner.set()
        self._look_again()

    def _at_work(self, now: float) -> float | None:
        down = self.outage.granted(now)
        if down is not None:
            self.limits = self._governor.rate is not None
            self._hurry()
        return down


class Permit:
    """Leave for one request to KMS, which hears what becomes of that; as a context manager, that it has ended."""

    __slots__ = ("_at", "_pace", "_reserved")

    def __init__(self, pace: Pace, *, reserved: bool = False) -> None:
        """`reserved`: KMS is most likely not asked, and it counts against the caps alone."""
        self._pace = pace
        self._reserved = reserved
        self._at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended(error)

    @property
    def going(self) -> Callable[[], None] | None:
        """Who is to be told when the request goes out; None where nobody has to know."""
        return self.sent if self._pace.capped else None

    def sent(self) -> None:
        """Hear that the request goes out; or again, as KMS was not asked by what went before."""
        self._at = self._pace.sent(self._at)

    def not_needed(self, sent: float) -> None:
        """Hear that KMS was not asked by what was sent at `sent`, as far as is known."""
        self.ended()
        at = sent if self._at is None else self._at
        if self._reserved:
            self._pace.free(at)
        else:
            self._pace.give_back(at)

    def ended(self, error: BaseException | None = None) -> None:
        """Hear that the request has ended, if in `error`. If nobody knows when it went out, it may just have gone."""
        if self._at is not None:
            return
        if isinstance(error, NotSent | Unreachable):
            self._pace.unsent(reserved=self._reserved)
        elif self._pace.capped:
            self.sent()


def say_if_back(down: float | None, observer: Observer) -> None:
    """Say that KMS is back, if it was down for some seconds, as `Pace.succeeded` and `refused` tell."""
    if down is not None:
        observer.noted("warning", f"KMS is back after {down:.0f} s: going on")
