"""The memory budget: bytes in flight are reserved before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel


class Memory:
    """`limit` bytes, reserved and given back, first come first served.

    A reservation larger than the whole budget is granted when nothing else is reserved, so that a budget
    that is too small slows a run down and never stops it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserved = 0
        self.peak = 0
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    @asynccontextmanager
    async def reserve(self, amount: int) -> AsyncIterator[None]:
        """Hold `amount` bytes of the budget; wait for them if need be."""
        await self.acquire(amount)
        try:
            yield
        finally:
            self.release(amount)

    async def acquire(self, amount: int) -> None:
        """Take `amount` bytes; whoever takes them must `release` them. Safe to cancel while waiting."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        if not self._waiting and self._fits(amount):
            self._grant(amount)
            return
        entry = (amount, anyio.Event())
        self._waiting.append(entry)
        try:
            await entry[1].wait()
        except BaseException:
            if entry[1].is_set():
                self.release(amount)
            else:
                self._waiting.remove(entry)
                self._wake()
            raise

    def release(self, amount: int) -> None:
        """Give `amount` bytes back and let the next ones in line have them."""
        self.reserved -= amount
        self._wake()

    def _fits(self, amount: int) -> bool:
        return self.reserved == 0 or self.reserved + amount <= self.limit

    def _grant(self, amount: int) -> None:
        self.reserved += amount
        self.peak = max(self.peak, self.reserved)

    def _wake(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            amount, event = self._waiting.popleft()
            self._grant(amount)
            event.set()
