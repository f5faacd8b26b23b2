"""Whether files are written by the event loop itself or by threads. Pure: times are passed in.

A write into the page cache takes 40 µs for 256 KiB and 15 to 30 µs for a small file's creation, and a hop to a thread
and back about 100 µs: as long as the disk keeps up, the loop writes itself. A disk that does not keep up makes
writers wait (Linux: balance_dirty_pages), and the loop must not: then threads write, and hold back only the
connections whose bytes they write.
"""

from __future__ import annotations

STALL = 0.02
"""Seconds that an operation may take: 100 times the usual, and the longest that the other connections can be left
alone without their windows filling up (20 ms at 1 GB/s and 64 connections are 320 KB each)."""

SHORTEST, LONGEST = 1.0, 30.0
"""Seconds for which threads write after a stall: twice as long after each further one, as it costs one to find out."""


class DiskPace:
    """Remembers stalls. Times are seconds of one clock."""

    __slots__ = ("_for", "_until")

    def __init__(self) -> None:
        self._until = 0.0
        self._for = SHORTEST

    def inline(self, now: float) -> bool:
        """Whether the event loop may write by itself."""
        return now >= self._until

    def took(self, seconds: float, now: float, *, waited: bool) -> None:
        """Hear how long an operation of the loop's own took, and whether the thread had to wait (not only its turn)."""
        if seconds >= STALL and waited:
            self._until = now + self._for
            self._for = min(LONGEST, self._for * 2)
