"""A store whose listing is any sequence of keys: continuation tokens and start-after are places in it."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio.lowlevel

from sealift.errors import Permanent
from sealift.model import Encryption, Part, RemoteObject
from sealift.s3.store import Going, Page, PageRequest
from tests.support.keys import remote

Order = Callable[[str], Any]


def utf8(key: str) -> bytes:
    """S3's order."""
    return key.encode("utf-8", "surrogateescape")


def as_tree(key: str) -> list[bytes]:
    """SeaweedFS's order: by the names of directories and files, so that `a/b/c` comes before `a b`."""
    return [name.encode("utf-8", "surrogateescape") for name in key.split("/")]


class Sequence:
    """An `ObjectStore` of one bucket without bodies."""

    def __init__(
        self, keys: Iterable[str], *, order: Order = utf8, page_size: int = 1000, pace: random.Random | None = None
    ) -> None:
        """`pace` lets answers overtake each other."""
        self.pace = pace or random.Random(0)
        self.order = order
        self.keys = sorted(set(keys), key=order)
        self.page_size = page_size
        self.pages = 0
        """Answers, with those to a delimiter, which are `looks`."""
        self.looks = 0
        self.now = self.most_at_once = 0
        self.after_page: Callable[[], None] = lambda: None
        """Called with each page."""

    async def list_page(self, request: PageRequest) -> Page:
        self.pages += 1
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            for _ in range(self.pace.randint(1, 4)):
                await anyio.lowlevel.checkpoint()
            page = self._page(request)
            for _ in range(self.pace.randint(1, 4)):
                await anyio.lowlevel.checkpoint()
            return page
        finally:
            self.now -= 1
            self.after_page()

    def _page(self, request: PageRequest) -> Page:
        prefix, most = request.prefix, min(request.most, self.page_size)
        keys = [key for key in self._behind(request) if key.startswith(prefix)]
        rolled = []
        if request.delimiter:
            self.looks += 1
            rolled = sorted({key[: key.index("/", len(prefix)) + 1] for key in keys if "/" in key[len(prefix) :]})
            keys = [key for key in keys if "/" not in key[len(prefix) :]]
        page = keys[:most]
        return Page(tuple(map(remote, page)), page[-1] if len(keys) > most else None, tuple(rolled[:1000]))

    def _behind(self, request: PageRequest) -> list[str]:
        after = request.token or request.start_after
        behind = 0 if after is None else bisect_right(self.keys, self.order(after), key=self.order)
        return self.keys[behind:]

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        if key not in self.keys:
            raise Permanent("it does not exist", bucket=bucket, key=key, code="NoSuchKey")
        return remote(key, bucket=bucket)

    async def encryption(self, bucket: str, key: str) -> Encryption:
        raise NotImplementedError

    def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError


class Filtering(Sequence):
    """Leaves out what by its bytes is not behind start-after, in whatever order it lists: some gateways do."""

    def _behind(self, request: PageRequest) -> list[str]:
        there = self.keys
        if request.token is not None:
            there = there[bisect_right(there, self.order(request.token), key=self.order) :]
        begin = utf8(request.start_after or "")
        return [key for key in there if utf8(key) > begin]
