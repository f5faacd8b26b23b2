"""Waking all who wait for something to change, each time that it does."""

from __future__ import annotations

import anyio


class Bell:
    """Whoever waits is woken when it rings next, and looks again whether that was what was waited for."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = anyio.Event()

    def ring(self) -> None:
        """Wake all who wait now."""
        rung, self._next = self._next, anyio.Event()
        rung.set()

    async def wait(self) -> None:
        """Wait until it rings. What was looked at just before cannot have changed unheard."""
        await self._next.wait()
