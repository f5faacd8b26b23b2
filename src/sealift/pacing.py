"""The pace of GETs that KMS is asked for: `sealift.governor` decides, and this waits. One for a whole run.

A GET of which it is not known that KMS need not be asked takes a permit when its turn has come, in the order of coming;
while it waits it holds neither a connection nor memory. Where the answer shows that KMS was not asked (a Bucket Key,
SSE-S3), the permit is given back. What KMS refuses goes back in line at once: there is no other waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

from sealift.governor import Governor


async def _within(event: anyio.Event, seconds: float) -> None:
    """Wait for an event, for so many seconds at the most."""
    with anyio.move_on_after(seconds):
        await event.wait()


class Pace:
    """Permits to ask KMS; `cap` is the most a second, in any second."""

    def __init__(
        self,
        cap: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        within: Callable[[anyio.Event, float], Awaitable[None]] = _within,
    ) -> None:
        self._governor = Governor(cap)
        self._clock = clock
        self._within = within
        self._given_back = anyio.Event()
        self._turn = anyio.Lock()

    @property
    def limits(self) -> bool:
        """Whether fewer may be sent than could be."""
        return self._governor.rate is not None

    async def permit(self) -> None:
        """Wait for a permit."""
        governor = self._governor
        if governor.rate is None:
            governor.take(self._clock(), 1)
            return
        async with self._turn:
            while not governor.take(now := self._clock(), 1):
                self._given_back = anyio.Event()
                await self._within(self._given_back, governor.wait(now))

    def give_back(self) -> None:
        """Hear that a permit was not needed."""
        self._governor.give_back(1)
        self._given_back.set()

    def succeeded(self, sent: float) -> None:
        """Hear that KMS has granted what was sent at `sent`, in seconds of the monotonic clock."""
        self._governor.succeeded(self._clock(), sent)

    def refused(self, sent: float) -> None:
        """Hear that KMS has refused what was sent at `sent`, in seconds of the monotonic clock."""
        self._governor.refused(self._clock(), sent)
