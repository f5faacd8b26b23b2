"""An object store in memory: what `sealift.s3.store` promises, with nothing in between."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sealift.checksum import Checksum
from sealift.errors import Changed, Permanent, SourceError
from sealift.model import Encryption, Part, RemoteObject
from sealift.s3.store import Going, Page, PageRequest, Sink, pour_what_is_read

CHUNK = 64 * 1024
"""Bytes that come at once."""


class FakeBody:
    """A `Body` that is all there."""

    encryption = Encryption("aws:kms")
    checksum: Checksum | None = None

    def __init__(self, data: bytes) -> None:
        self._left = data

    async def read(self) -> bytes:
        chunk, self._left = self._left[:CHUNK], self._left[CHUNK:]
        return chunk

    def take_what_came(self, sink: Sink) -> bool:
        return False

    async def pour(self, sink: Sink) -> bytes | memoryview:
        return await pour_what_is_read(self, sink)


class FakeStore:
    """An `ObjectStore`. Listings come in UTF-8 order; a continuation token is the last key."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, tuple[RemoteObject, bytes]]] = {}
        self._writes = 0

    def bucket(self, name: str) -> None:
        self._objects.setdefault(name, {})

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Write a version, whose ETag is no MD5."""
        self._writes += 1
        etag = f'"{hashlib.sha256(body + b"%d" % self._writes).hexdigest()[:32]}"'
        remote = RemoteObject(bucket, key, len(body), etag, (1_700_000_000 + self._writes) * 1_000_000_000)
        self._objects[bucket][key] = (remote, body)

    def delete(self, bucket: str, key: str) -> None:
        del self._objects[bucket][key]

    async def list_page(self, request: PageRequest) -> Page:
        objects, entries = self._in(request.bucket), {}
        token, start_after, delimiter = request.token, request.start_after, request.delimiter
        for key in objects:
            if key.startswith(request.prefix) and (
                start_after is None or token is not None or _order(key) > _order(start_after)
            ):
                end = key.find(delimiter, len(request.prefix)) if delimiter else -1
                entries[key if end < 0 else key[: end + len(delimiter or "")]] = end >= 0
        names = sorted((name for name in entries if token is None or _order(name) > _order(token)), key=_order)
        page = names[: request.most]
        return Page(
            tuple(objects[name][0] for name in page if not entries[name]),
            page[-1] if page and len(names) > request.most else None,
            tuple(name for name in page if entries[name]),
        )

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        # A HEAD knows whole seconds only; these have no more.
        return self._find(bucket, key)[0]._replace(version_id=version_id)

    async def encryption(self, bucket: str, key: str) -> Encryption:
        self._find(bucket, key)
        return Encryption("aws:kms", "arn:aws:kms:us-east-1:111122223333:key/fake")

    async def checksum(self, remote: RemoteObject, going: Going | None = None) -> None:
        self._pinned(remote)
        if going is not None:
            going()

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        return len(self._pinned(remote))

    @asynccontextmanager
    async def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AsyncIterator[FakeBody]:
        if going is not None:
            going()
        yield FakeBody(self._pinned(remote)[part.range.start : part.range.stop])

    def _pinned(self, remote: RemoteObject) -> bytes:
        found, body = self._find(remote.bucket, remote.key)
        if found.etag != remote.etag:
            raise Changed("overwritten", bucket=remote.bucket, key=remote.key, code="PreconditionFailed")
        return body

    def _in(self, bucket: str) -> dict[str, tuple[RemoteObject, bytes]]:
        if bucket not in self._objects:
            raise SourceError(f"there is no bucket {bucket!r}", code="NoSuchBucket")
        return self._objects[bucket]

    def _find(self, bucket: str, key: str) -> tuple[RemoteObject, bytes]:
        if key not in self._in(bucket):
            raise Permanent(f"{key!r} does not exist", bucket=bucket, key=key, code="NoSuchKey")
        return self._objects[bucket][key]


def _order(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
