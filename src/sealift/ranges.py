"""Arithmetic on byte ranges. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sealift.model import ByteRange


def merged(ranges: Iterable[ByteRange]) -> list[ByteRange]:
    """Return the same bytes as the fewest ranges, in order. Empty ranges vanish."""
    result: list[ByteRange] = []
    for item in sorted(ranges):
        if len(item) == 0:
            continue
        if result and item.start <= result[-1].stop:
            result[-1] = ByteRange(result[-1].start, max(result[-1].stop, item.stop))
        else:
            result.append(item)
    return result


def missing(size: int, done: Iterable[ByteRange]) -> list[ByteRange]:
    """Return what is left of an object of `size` bytes when `done` is on disk."""
    gaps: list[ByteRange] = []
    reached = 0
    for item in merged(done):
        if item.start >= size:
            break
        if item.start > reached:
            gaps.append(ByteRange(reached, item.start))
        reached = max(reached, item.stop)
    if reached < size:
        gaps.append(ByteRange(reached, size))
    return gaps
