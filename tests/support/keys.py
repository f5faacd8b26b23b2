"""A store that holds keys and no bytes: for what only asks which objects there are."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from sealift.errors import ObjectError, Permanent
from sealift.model import Encryption, Part, RemoteObject
from sealift.s3.store import Going, Page, PageRequest


class Keys:
    """An `ObjectStore` of one bucket, that lists so many keys a page and remembers what it was asked."""

    def __init__(self, keys: Iterable[str] = (), *, page_size: int = 1000) -> None:
        self.keys = sorted(keys)
        self.page_size = page_size
        self.asked: list[tuple[str, str]] = []
        self.refusals: dict[str, ObjectError] = {}
        """Keys whose HEAD fails, and how."""

    async def list_page(self, request: PageRequest) -> Page:
        if request.start_after is not None or request.delimiter is not None:
            raise NotImplementedError
        self.asked.append(("list", request.prefix))
        start = int(request.token or 0)
        found = [key for key in self.keys if key.startswith(request.prefix)]
        page, rest = found[start : start + self.page_size], found[start + self.page_size :]
        objects = tuple(remote(key, bucket=request.bucket) for key in page)
        return Page(objects, str(start + self.page_size) if rest else None)

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        self.asked.append(("head", key))
        if key in self.refusals:
            raise self.refusals[key]
        if key not in self.keys:
            raise Permanent("it does not exist", bucket=bucket, key=key, code="NoSuchKey")
        return remote(key, bucket=bucket)

    async def encryption(self, bucket: str, key: str) -> Encryption:
        raise NotImplementedError

    async def checksum(self, remote: RemoteObject, going: Going | None = None) -> None:
        raise NotImplementedError

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        raise NotImplementedError

    def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError


def remote(key: str, size: int = 4, *, bucket: str = "bucket", **more: Any) -> RemoteObject:
    """An object of that key."""
    return RemoteObject(bucket, key, size, '"etag"', 1_700_000_000_000_000_000, **more)
