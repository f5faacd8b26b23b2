"""What has to be fetched of an object: pure arithmetic on sizes and ranges.

An object is tiled by parts, each of which is one GetObject. Any number of parts will do: the limit of
10,000 parts is one of uploads, not of ranged downloads (S3 User Guide, "Multipart upload limits").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sealift.checksum import hashed
from sealift.model import ByteRange, Part, RemoteObject
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


def part_size_of(remote: RemoteObject, fixed: int | None = None) -> int:
    """Return the part size in bytes for an object; `fixed` is the user's own choice.

    Where S3's checksum is one of hashes of the parts of the upload, each GET brings some of these whole. That never
    makes more GETs, nor larger ones than automatic parts may be; and they are still as many as fill a link, or half as
    many as otherwise.
    """
    size = part_size_for(remote.size, fixed)
    if fixed is not None or remote.size <= size or (by := hashed(remote)) is None:
        return size
    along = -(-size // by[1]) * by[1]
    return along if along <= LARGEST_PART and (along <= 2 * size or along * FILLING <= remote.size) else size


def grain_of(remote: RemoteObject, part_size: int) -> int:
    """Return at whose multiples an object's parts end, in bytes: the parts of its upload, if `part_size` has some."""
    by = hashed(remote)
    return by[1] if by is not None and part_size % by[1] == 0 else 0


def part_size_under_quota(left: int, usual: int) -> int:
    """Return the part size in bytes for what is `left` of an object when KMS allows fewer GETs than could be sent.

    Each part is a Decrypt then, so as few parts are made as fill the link, and never smaller ones than `usual`.
    """
    return max(usual, min(LARGEST_PART_UNDER_QUOTA, -(-left // FILLING)))


def parts(
    size: int, part_size: int, done: Iterable[ByteRange] = (), *, grown: Callable[[], int] = lambda: 0, grain: int = 0
) -> Iterator[Part]:
    """Return the parts that tile what is missing, in the order of their offsets.

    An empty object is one part of no bytes: its GET is what proves that it may be read. Each part is as large as
    `grown` says by then, and of `part_size` at the least. It then goes on to the next multiple of `grain`, if any.
    """
    done = tuple(done)
    if size <= part_size and not done:
        return iter((Part(ByteRange(0, size), whole=True),))
    return _cut(missing(size, done), part_size, grown, grain)


def _cut(gaps: Iterable[ByteRange], part_size: int, grown: Callable[[], int], grain: int) -> Iterator[Part]:
    for gap in gaps:
        start = gap.start
        while start < gap.stop:
            stop = min(_along(start + max(part_size, grown()), grain), gap.stop)
            yield Part(ByteRange(start, stop), whole=False)
            start = stop


def count_parts(size: int, part_size: int, done: Iterable[ByteRange] = (), *, grain: int = 0) -> int:
    """Return how many parts `parts` yields, without making them. `part_size` is a multiple of `grain`, if any."""
    done = tuple(done)
    if size <= part_size and not done:
        return 1
    # Only the first part behind a gap's start does not begin at a multiple.
    firsts = ((gap, _along(gap.start + part_size, grain)) for gap in missing(size, done))
    return sum(1 + -(-max(0, gap.stop - first) // part_size) for gap, first in firsts)


def _along(place: int, grain: int) -> int:
    return -(-place // grain) * grain if grain else place
