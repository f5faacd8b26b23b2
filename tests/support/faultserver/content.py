"""What objects hold: bytes, or as many pseudo-random bytes as asked for without keeping any."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

BLOCK = 64 * 1024
"""Bytes of a Generated body that are made at a time: large enough that one hash a block costs nothing."""

STAMP = 16
"""Bytes at the start of each block that no other block of any other body has."""

DEFAULT_KMS_KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
"""The key of every object that is not told otherwise (the account and key id of AWS's documentation)."""


class Content(Protocol):
    """Bytes with a size that can be read at any place."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to, not including, `stop`, both within the size."""
        ...


@dataclass(frozen=True, slots=True)
class InMemory:
    """Bytes that are there."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> bytes:
        return self.data[start:stop]


@dataclass(frozen=True, slots=True)
class Generated:
    """A body of `size` bytes that is computed wherever it is read: the same for the same `seed`, in any ranges.

    Each block is a stamp made from seed and block number, then a window into a fixed pad of random bytes.
    So a block at the wrong place, or of another object, never compares equal.
    """

    size: int
    seed: int | str = 0

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        first, last = start // BLOCK, (stop - 1) // BLOCK
        if first == last:
            return self._within(first, start - first * BLOCK, stop - first * BLOCK)
        pieces = [self._within(first, start - first * BLOCK, BLOCK)]
        pieces += [self._within(block, 0, BLOCK) for block in range(first + 1, last)]
        pieces.append(self._within(last, 0, stop - last * BLOCK))
        return b"".join(pieces)

    def _within(self, block: int, start: int, stop: int) -> bytes:
        stamp = hashlib.blake2b(f"{self.seed!r} {block}".encode(errors="surrogateescape"), digest_size=STAMP).digest()
        pad = _pad()
        shift = int.from_bytes(stamp[:4]) % (len(pad) - BLOCK)
        if start >= STAMP:
            return pad[shift + start : shift + stop]
        return stamp[start:stop] + pad[shift + STAMP : max(shift + stop, shift + STAMP)]


@functools.cache
def _pad() -> bytes:
    """1 MiB that does not compress and does not repeat, the same in every run."""
    return hashlib.shake_128(b"fault server").digest(1 << 20)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of another content."""

    whole: Content
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def read(self, start: int, stop: int) -> bytes:
        return self.whole.read(self.start + start, min(self.start + stop, self.stop))


@dataclass(frozen=True, slots=True)
class Resized:
    """Another content, cut off or filled up with zeros to `size`."""

    whole: Content
    size: int

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        return self.whole.read(start, min(stop, self.whole.size)).ljust(stop - start, b"\0")


@dataclass(frozen=True, slots=True)
class Flipped:
    """Another content with the lowest bit of the byte at `at` turned over."""

    whole: Content
    at: int

    @property
    def size(self) -> int:
        return self.whole.size

    def read(self, start: int, stop: int) -> bytes:
        data = bytearray(self.whole.read(start, stop))
        if start <= self.at < start + len(data):
            data[self.at - start] ^= 1
        return bytes(data)


@dataclass(frozen=True, slots=True)
class Restore:
    """The state of an archived object's temporary copy. `expiry` is None while it is still being made."""

    in_progress: bool
    expiry: datetime | None = None


@dataclass(slots=True)
class StoredObject:
    """One version of an object. A test may change the fields while the server runs."""

    key: str
    body: bytes | Generated
    etag: str
    """With its quotes."""
    last_modified: datetime
    storage_class: str = "STANDARD"
    version_id: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """Further response headers of GET and HEAD. Those that begin with `x-amz-checksum-` are only sent when the
    request asks for them (`x-amz-checksum-mode: ENABLED`), and never with a range, as S3 does."""
    kms_key: str | None = DEFAULT_KMS_KEY
    """ARN of the key that encrypts it; None for an object under SSE-S3."""
    bucket_key: bool = False
    """Encrypted through a Bucket Key: its GETs do not count against `kms_rps`."""
    restore: Restore | None = None
    parts: tuple[int, ...] = ()
    """Sizes of the parts that it was uploaded in, for HEADs of one; none where it was uploaded whole."""
    listed_checksum: str = ""
    """The algorithm of its checksum, as listings tell it."""
    delete_marker: bool = False
    """It stands for an object that was deleted."""

    @property
    def content(self) -> Content:
        return InMemory(self.body) if isinstance(self.body, bytes) else self.body

    @property
    def size(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body.size

    @property
    def archived(self) -> bool:
        """In an archive class, with no readable copy."""
        thawed = self.restore is not None and not self.restore.in_progress
        return self.storage_class in {"GLACIER", "DEEP_ARCHIVE"} and not thawed


def make_etag(key: str, body: bytes | Generated) -> str:
    """A quoted ETag that is no MD5 of the body, as under SSE-KMS, and the same for the same key and body."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape") + b"\0", digest_size=16)
    digest.update(body if isinstance(body, bytes) else repr(body).encode("utf-8", "surrogateescape"))
    return f'"{digest.hexdigest()}"'
