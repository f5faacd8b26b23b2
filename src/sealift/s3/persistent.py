"""Any object store, made persistent: listings and heads are tried again, stale credentials are renewed.

Parts are not tried again here: they go back in line (`sealift.line`), where they hold nothing while they wait.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Protocol, TypeVar

import anyio

from sealift.checksum import Checksum
from sealift.errors import CredentialsError, ObjectError, Unreachable
from sealift.model import Encryption, Part, RemoteObject
from sealift.retry import Attempts, RetrySettings, after
from sealift.s3.route import Access
from sealift.s3.store import Body, Going, Leave, Page, PageRequest, VersionedStore, VersionsPage, VersionsRequest
from sealift.s3.translate import RENEWABLE

T = TypeVar("T")

FIRST_CONTACT_ATTEMPTS = 6
"""Attempts at an endpoint that nobody has reached yet: about 3 s with the default delays. A wrong host name is
told soon, a name server's hiccup is survived."""


class RenewableStore(VersionedStore, Protocol):
    """An object store whose credentials can be renewed."""

    def region(self, bucket: str) -> str:
        """Return the Region that a bucket is in, as far as is known by now; nothing where it is not."""
        ...

    async def renew(self) -> bool:
        """Look for fresher credentials; say whether there were any."""
        ...


class PersistentStore:
    """An `ObjectStore` around another one, with one concern: what is worth another try gets it."""

    def __init__(
        self,
        store: RenewableStore,
        settings: RetrySettings,
        *,
        told: Callable[[ObjectError], None],
        access_for: Callable[[Iterable[str]], Awaitable[Access | None]] | None = None,
        guard: Callable[[Leave], None] | None = None,
    ) -> None:
        """`told` hears of each error that is followed by another attempt.

        `access_for` says what other processes may reach some buckets with, if they may, and `guard` lets GETs that say
        why a HEAD failed wait for leave.
        """
        self._guard = guard
        self._access_for = access_for
        self._store = store
        self._settings = settings
        self._told = told
        self._reached = False
        self._renewals = _Renewals(store)

    async def list_page(self, request: PageRequest) -> Page:
        """See `ObjectStore.list_page`."""
        return await self._persist(lambda: self._store.list_page(request))

    async def list_versions(self, request: VersionsRequest) -> VersionsPage:
        """See `VersionedStore.list_versions`."""
        return await self._persist(lambda: self._store.list_versions(request))

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        """See `ObjectStore.head`."""
        return await self._persist(lambda: self._store.head(bucket, key, version_id))

    def region(self, bucket: str) -> str:
        """See `RenewableStore.region`."""
        return self._store.region(bucket)

    async def encryption(self, bucket: str, key: str) -> Encryption:
        """See `ObjectStore.encryption`."""
        return await self._persist(lambda: self._store.encryption(bucket, key))

    async def checksum(self, remote: RemoteObject, going: Going | None = None) -> Checksum | None:
        """See `ObjectStore.checksum`: one attempt, as with `open`, since KMS is asked."""
        seen = self._renewals.count
        try:
            return await self._store.checksum(remote, going)
        except CredentialsError as error:
            await self._renewals.after(error, seen)
        return await self._store.checksum(remote, going)

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        """See `ObjectStore.part_size`."""
        return await self._persist(lambda: self._store.part_size(remote, number))

    def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AbstractAsyncContextManager[Body]:
        """See `ObjectStore.open`: one attempt, and one more where the credentials had only to be renewed."""
        return _Opening(partial(self._store.open, remote, part, going), self._renewals)

    async def access_for(self, buckets: Iterable[str]) -> Access | None:
        """Return what other processes may reach these buckets with; None where they may not."""
        return None if self._access_for is None else await self._access_for(buckets)

    def guard(self, leave: Leave) -> None:
        """Let `leave` say, from now on, when a GET may go out that says why a HEAD failed."""
        if self._guard is not None:
            self._guard(leave)

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        attempts, renewed = Attempts(), False
        while True:
            seen = self._renewals.count
            try:
                answer = await attempt()
            except CredentialsError as error:
                if renewed:
                    raise
                await self._renewals.after(error, seen)
                renewed = True
            except ObjectError as error:
                self._reached = self._reached or not isinstance(error, Unreachable)
                if not self._reached and attempts.failures + 1 >= FIRST_CONTACT_ATTEMPTS:
                    raise
                again = after(error, attempts, self._settings, progressed=False, chance=random.random())
                if again is None:
                    raise
                self._told(error)
                attempts = again.attempts
                await anyio.sleep(again.delay)
            else:
                self._reached = True
                return answer


class _Renewals:
    """Renews credentials once, however many attempts have ended for want of fresh ones."""

    def __init__(self, store: RenewableStore) -> None:
        self._store = store
        self._renewing = anyio.Lock()
        self.count = 0

    async def after(self, error: CredentialsError, seen: int) -> None:
        """Renew them, unless there were others than the `seen` renewals before `error` came of it, or raise that."""
        if error.code not in RENEWABLE:
            raise error
        async with self._renewing:
            if self.count == seen:
                if not await self._store.renew():
                    raise error
                self.count += 1


class _Opening:
    """A plain context manager class: it is on the way of every GET."""

    __slots__ = ("_inner", "_open", "_renewals")

    def __init__(self, open_once: Callable[[], AbstractAsyncContextManager[Body]], renewals: _Renewals) -> None:
        self._open = open_once
        self._renewals = renewals
        self._inner = open_once()

    async def __aenter__(self) -> Body:
        seen = self._renewals.count
        try:
            return await self._inner.__aenter__()
        except CredentialsError as error:
            await self._renewals.after(error, seen)
        self._inner = self._open()
        return await self._inner.__aenter__()

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        return self._inner.__aexit__(kind, error, trace)
