"""What has to be fetched of an object: pure arithmetic on sizes and ranges.

An object is tiled by parts, each of which is one GetObject. Any number of parts will do: the limit of
10,000 parts is one of uploads, not of ranged downloads (S3 User Guide, "Multipart upload limits").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sealift.model import ByteRange, Part
from sealift.ranges import missing

MIB = 1024 * 1024

SMALLEST_PART = 8 * MIB
"""AWS's performance guidelines recommend ranges of 8–16 MiB; below that requests dominate."""

LARGEST_PART = 64 * MIB
"""What a lost connection may cost at the most, and still 30 parts in flight of a 2 GiB object."""

PARTS_OF_A_LARGE_OBJECT = 1024
"""Parts grow with the object so that bookkeeping, and KMS calls, do not: 1,024 × 8 MiB is 8 GiB."""

LARGEST_PART_UNDER_QUOTA = 512 * MIB
"""6 s on one of S3's connections. A lost one costs a Decrypt more, and no bytes: the rest of its part is asked for."""

FILLING = 16
"""Parts at once that fill a link of 10 Gb/s, with 85 to 90 MB/s on a connection (AWS performance guidelines)."""


def part_size_for(size: int, fixed: int | None = None) -> int:
    """Return the part size in bytes for an object of `size` bytes; `fixed` is the user's own choice.

    The automatic size is a power of two between 8 and 64 MiB.
    """
    if fixed is not None:
        return fixed
    part_size = SMALLEST_PART
    while part_size < LARGEST_PART and part_size * PARTS_OF_A_LARGE_OBJECT < size:
        part_size *= 2
    return part_size


def part_size_under_quota(left: int, usual: int) -> int:
    """Return the part size in bytes for what is `left` of an object when KMS allows fewer GETs than could be sent.

    Each part is a Decrypt then, so as few parts are made as fill the link, and never smaller ones than `usual`.
    """
    return max(usual, min(LARGEST_PART_UNDER_QUOTA, -(-left // FILLING)))


def parts(
    size: int, part_size: int, done: Iterable[ByteRange] = (), *, grown: Callable[[], int] = lambda: 0
) -> Iterator[Part]:
    """Yield the parts that tile what is missing, in the order of their offsets.

    An empty object is one part of no bytes: its GET is what proves that it may be read. Each part is as large as
    `grown` says by then, and of `part_size` at the least.
    """
    done = tuple(done)
    if size <= part_size and not done:
        yield Part(ByteRange(0, size), whole=True)
        return
    for gap in missing(size, done):
        start = gap.start
        while start < gap.stop:
            stop = min(start + max(part_size, grown()), gap.stop)
            yield Part(ByteRange(start, stop), whole=False)
            start = stop


def count_parts(size: int, part_size: int, done: Iterable[ByteRange] = ()) -> int:
    """Return how many parts `parts` yields, without making them."""
    done = tuple(done)
    if size <= part_size and not done:
        return 1
    return sum(-(-len(gap) // part_size) for gap in missing(size, done))
