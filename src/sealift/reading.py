"""A mirrored file that is being read back. Everything here blocks."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from sealift.errors import Integrity


class Reading:
    """An open file. Use `with`."""

    def __init__(self, descriptor: int, name: str) -> None:
        """The descriptor is this one's to close; `name` is for messages."""
        self._descriptor = descriptor
        self.name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
