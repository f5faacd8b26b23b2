"""A mirrored file that is being read back. Everything here blocks."""

from __future__ import annotations

import os
from typing import Protocol, Self

from sealift.checksum import Running
from sealift.errors import Integrity
from sealift.model import ByteRange

BLOCK = 1024 * 1024
"""Bytes that are read at once: what fits into a core's cache until they are summed up."""


class Readable(Protocol):
    """A file whose bytes can be read back."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with the bytes from `offset` on, and return how many those are: fewer only at the end."""
        ...


class Reading:
    """An open file. Use `with`."""

    def __init__(self, descriptor: int, name: str) -> None:
        """The descriptor is this one's to close; `name` is for messages."""
        self._descriptor = descriptor
        self.name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with the bytes from `offset` on, and return how many those are: fewer only at the end.

        Raises Integrity where the disk does not give them.
        """
        size = 0
        try:
            while size < len(buffer) and (some := os.preadv(self._descriptor, [buffer[size:]], offset + size)):
                size += some
        except OSError as error:
            raise Integrity(f"{self.name} cannot be read ({error.strerror})") from error
        return size

    def facts(self) -> tuple[int, int]:
        """Return size and modification time (ns)."""
        about = os.fstat(self._descriptor)
        return about.st_size, about.st_mtime_ns


def sum_up(file: Readable, stretch: ByteRange, *running: Running) -> None:
    """Read a stretch of a file, and sum up its bytes. Raises Integrity where they are not there."""
    buffer = memoryview(bytearray(min(BLOCK, len(stretch))))
    at = stretch.start
    while at < stretch.stop:
        size = file.read_into(at, buffer[: stretch.stop - at])
        if not size:
            raise Integrity(f"{file.name} has become shorter; run again", code="PartialFileLost")
        for each in running:
            each.update(buffer[:size])
        at += size
