"""Whether file work is done by the event loop itself or by threads: a decision, with times passed in, and its gate.

A write into the page cache takes 40 µs for 256 KiB and 15 to 30 µs for a small file's creation, and a hop to a thread
and back about 100 µs. A thread that works at the same time costs more than that: it and the loop take the
interpreter's lock from each other at each system call (measured: 80 µs an object). So as long as the disk keeps up,
the loop does the work. A disk that does not keep up makes writers wait (Linux: balance_dirty_pages), and the loop must
not: then threads work, and hold back only those who need what they do.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from resource import getrusage
from typing import TypeVar, TypeVarTuple

from anyio.to_thread import run_sync

A = TypeVarTuple("A")
T = TypeVar("T")

STALL = 0.02
"""Seconds that an operation may take: 100 times the usual, and the longest that the other connections can be left
alone without their windows filling up (20 ms at 1 GB/s and 64 connections are 320 KB each)."""

SHORTEST, LONGEST = 0.25, 30.0
"""Seconds for which threads work after a stall: twice as long after each further one, as it costs one to find out."""


class DiskPace:
    """Remembers stalls. Times are seconds of one clock."""

    __slots__ = ("_for", "_until")

    def __init__(self) -> None:
        self._until = 0.0
        self._for = SHORTEST

    def inline(self, now: float) -> bool:
        """Whether the event loop may do it by itself."""
        return now >= self._until

    def took(self, seconds: float, now: float, *, waited: bool) -> None:
        """Hear how long an operation of the loop's own took, and whether the thread had to wait (not only its turn)."""
        if seconds >= STALL and waited:
            self._until = now + self._for
            self._for = min(LONGEST, self._for * 2)


class DiskWork:
    """Does file work where the disk's pace says."""

    __slots__ = ("_pace", "_whose")

    def __init__(self) -> None:
        self._pace = DiskPace()
        # Where the system does not tell of a thread how often it has waited (macOS), all of the process's are meant.
        self._whose: int = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)

    @property
    def keeps_up(self) -> bool:
        """Whether the event loop may do it by itself."""
        return self._pace.inline(time.monotonic())

    async def perform(self, work: Callable[[*A], T], *arguments: *A) -> T:
        """Return what `work` returns, which takes a millisecond at the most where nothing has to wait."""
        return self.perform_inline(work, *arguments) if self.keeps_up else await run_sync(work, *arguments)

    def perform_inline(self, work: Callable[[*A], T], *arguments: *A) -> T:
        """Return what `work` returns, and remember how long that took."""
        whose = self._whose
        began, waits = time.monotonic(), getrusage(whose).ru_nvcsw  # losing its turn is not waiting
        result = work(*arguments)
        ended = time.monotonic()
        if ended - began >= STALL:
            self._pace.took(ended - began, ended, waited=getrusage(whose).ru_nvcsw > waits)
        return result
