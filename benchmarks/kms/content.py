"""The objects of a row, and their bytes, made up where they are needed: no two objects begin alike, and no two places
within one that a part might begin at are alike either."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "data/"
STAMP = 32
"""Bytes at the beginning that name the object."""
PERIOD = 4_194_301
"""A prime: nobody's parts are a multiple of it."""
NOISE = random.Random("sealift").randbytes(PERIOD)
_NOISE = memoryview(NOISE)


@dataclass(frozen=True)
class Kind:
    """So many objects of one size."""

    count: int
    size: int
    bucket_key: bool = False
    """Sealed with a Bucket Key: GETs of them do not ask KMS."""


@dataclass(frozen=True, slots=True)
class Content:
    """One object."""

    number: int
    size: int
    bucket_key: bool

    @property
    def key(self) -> str:
        return f"{PREFIX}{self.number:08d}"

    def pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes from `start` to `stop`, in order."""
        if start < min(STAMP, stop):
            stamp = f"{self.key} of {self.size:d}".encode().ljust(STAMP)[: self.size]
            yield memoryview(stamp)[start:stop]
            start = STAMP
        while start < stop:
            at = (start + self.number * 7919) % PERIOD
            piece = _NOISE[at : at + stop - start]
            yield piece
            start += len(piece)

    def is_in(self, path: Path) -> bool:
        """Say whether the file has exactly this object's bytes."""
        try:
            with path.open("rb") as file:
                for piece in self.pieces(0, self.size):
                    if file.read(len(piece)) != piece:
                        return False
                return not file.read(1)
        except OSError:
            return False


def contents(kinds: tuple[Kind, ...]) -> list[Content]:
    """Return the objects of all kinds, shuffled, the same each time, in the order of their keys."""
    shuffled = [kind for kind in kinds for _ in range(kind.count)]
    random.Random(20261125).shuffle(shuffled)
    return [Content(number, kind.size, kind.bucket_key) for number, kind in enumerate(shuffled)]
