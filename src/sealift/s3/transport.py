"""Each bucket's requests go over the wire, or through the SDK where the wire does not serve them.

1. What settings and environment tell completely is used as it is, and the SDK is not even imported.
2. Else the SDK is asked for credentials and routes, once a bucket, and the wire carries the requests.
3. What the wire does not serve (HTTP proxies, SigV4A, S3 Express) goes through the SDK altogether.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from sealift.checksum import Checksum
from sealift.config import ConnectionSettings, TransportChoice
from sealift.errors import ConfigError, SealiftError
from sealift.model import Encryption, Part, RemoteObject
from sealift.s3.endpoints import bucket_url
from sealift.s3.environment import Environment, environment_access, proxy_for
from sealift.s3.persistent import RenewableStore
from sealift.s3.plainhttp import refuse_plain_http
from sealift.s3.route import Access, OffTheWireError, Route
from sealift.s3.sdk import SdkStore
from sealift.s3.sdkaccess import SdkAccess
from sealift.s3.sdksession import SdkSession
from sealift.s3.signing import Credentials
from sealift.s3.store import Body, Going, Leave, Page, PageRequest, VersionsPage, VersionsRequest, at_once
from sealift.s3.wire import WireStore


class Transport:
    """A `RenewableStore`, as an async context manager, that is the wire or the SDK for each bucket."""

    def __init__(self, settings: ConnectionSettings, *, connections: int, noted: Callable[[str], None]) -> None:
        """`connections` bounds the SDK's pool; `noted` hears which buckets are not served by the wire, and why."""
        self._settings = settings
        self._connections = connections
        self._noted = noted
        self._stack = AsyncExitStack()
        self._session: SdkSession | None = None
        self._sdk: SdkStore | None = None
        self._wire: WireStore | None = None
        self._access: Access | None = None
        self._chosen: dict[str, RenewableStore] = {}
        self._choosing = anyio.Lock()
        self._leave: Leave = at_once

    async def __aenter__(self) -> Self:
        try:
            if self._settings.transport is TransportChoice.SDK:
                await self._open_sdk()
                return self
            known = environment_access(self._settings, os.environ)
            if known is not None:
                self._access = _EnvironmentAccess(known, self._sdk_access)
            else:
                self._access = await self._sdk_access()
            self._wire = await self._stack.enter_async_context(WireStore(self._access, self._settings))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    async def renew(self) -> bool:
        """Look for fresher credentials; say whether there were any."""
        if self._wire is not None:
            return await self._wire.renew()
        return self._sdk is not None and await self._sdk.renew()

    async def access_for(self, buckets: Iterable[str]) -> Access | None:
        """Return what others may reach these buckets with, if the wire serves them all."""
        try:
            for bucket in buckets:
                if await self._choose(bucket) is not self._wire:
                    return None
        except SealiftError:
            return None  # whoever lists the bucket says why
        return self._access

    def guard(self, leave: Leave) -> None:
        """Let `leave` say, from now on, when a GET may go out that says why a HEAD failed."""
        self._leave = leave
        for store in (self._wire, self._sdk):
            if store is not None:
                store.leave = leave

    async def list_page(self, request: PageRequest) -> Page:
        """See `ObjectStore.list_page`."""
        store = self._chosen.get(request.bucket) or await self._choose(request.bucket)
        return await store.list_page(request)

    async def list_versions(self, request: VersionsRequest) -> VersionsPage:
        """See `VersionedStore.list_versions`."""
        store = self._chosen.get(request.bucket) or await self._choose(request.bucket)
        return await store.list_versions(request)

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        """See `ObjectStore.head`."""
        store = self._chosen.get(bucket) or await self._choose(bucket)
        return await store.head(bucket, key, version_id)

    def region(self, bucket: str) -> str:
        """See `RenewableStore.region`."""
        store = self._chosen.get(bucket)
        return "" if store is None else store.region(bucket)

    async def encryption(self, bucket: str, key: str) -> Encryption:
        """See `ObjectStore.encryption`."""
        store = self._chosen.get(bucket) or await self._choose(bucket)
        return await store.encryption(bucket, key)

    async def checksum(self, remote: RemoteObject, going: Going | None = None) -> Checksum | None:
        """See `ObjectStore.checksum`."""
        store = self._chosen.get(remote.bucket) or await self._choose(remote.bucket)
        return await store.checksum(remote, going)

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        """See `ObjectStore.part_size`."""
        store = self._chosen.get(remote.bucket) or await self._choose(remote.bucket)
        return await store.part_size(remote, number)

    def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AbstractAsyncContextManager[Body]:
        """See `ObjectStore.open`."""
        store = self._chosen.get(remote.bucket)
        return self._open_late(remote, part, going) if store is None else store.open(remote, part, going)

    @asynccontextmanager
    async def _open_late(self, remote: RemoteObject, part: Part, going: Going | None) -> AsyncIterator[Body]:
        store = await self._choose(remote.bucket)
        async with store.open(remote, part, going) as body:
            yield body

    async def _choose(self, bucket: str) -> RenewableStore:
        async with self._choosing:
            if bucket not in self._chosen:
                self._chosen[bucket] = await self._store_for(bucket)
            return self._chosen[bucket]

    async def _store_for(self, bucket: str) -> RenewableStore:
        if self._wire is None or self._access is None:
            return await self._open_sdk()
        try:
            url = await self._on_the_wire(self._access, bucket)
        except OffTheWireError as error:
            if self._settings.transport is TransportChoice.WIRE:
                raise ConfigError(
                    f"{bucket!r} cannot be reached with --transport wire: {error}; leave the choice to auto"
                ) from error
            self._noted(f"requests to {bucket} go through the SDK: {error}")
            return await self._open_sdk()
        refuse_plain_http(url, allowed=self._settings.allow_http)
        return self._wire

    @staticmethod
    async def _on_the_wire(access: Access, bucket: str) -> str:
        """Return the URL of a bucket that the wire serves. Raises OffTheWireError."""
        route = await access.route(bucket)
        url = f"{route.origin.scheme}://{route.host}"
        if proxy_for(url, os.environ) is not None:
            raise OffTheWireError("an HTTP proxy is set for it")
        return url

    async def _open_sdk(self) -> SdkStore:
        if self._sdk is None:
            self._sdk = SdkStore(await self._open_session(), self._settings)
            self._sdk.leave = self._leave
        return self._sdk

    async def _sdk_access(self) -> SdkAccess:
        return SdkAccess(await self._open_session())

    async def _open_session(self) -> SdkSession:
        if self._session is None:
            session = SdkSession(self._settings, connections=self._connections)
            self._session = await self._stack.enter_async_context(session)
        return self._session


class _EnvironmentAccess:
    """An `Access` of what the environment told; the SDK is asked for the routes of out-of-the-way buckets."""

    def __init__(self, known: Environment, ask_sdk: Callable[[], Awaitable[SdkAccess]]) -> None:
        self._known = known
        self._ask_sdk = ask_sdk

    @property
    def ca_bundle(self) -> Path | None:
        """See `Access.ca_bundle`."""
        return self._known.ca_bundle

    async def route(self, bucket: str) -> Route:
        """See `Access.route`."""
        known = self._known
        url = bucket_url(bucket, known.region, known.endpoint_url)
        if url is None:
            return await (await self._ask_sdk()).route(bucket)
        return Route.to(url, known.region)

    async def credentials(self) -> Credentials | None:
        """See `Access.credentials`."""
        return self._known.credentials

    async def renew(self) -> bool:
        """See `Access.renew`: the environment of a running process does not change."""
        return False
