"""The object store on our own wire: requests signed and sent by us, answers read where they arrive.

A GetObject through the SDK costs about a millisecond of CPU, and this a twentieth of it: nothing is resolved,
imported or built per request that could be known per bucket.

1. A bucket's route and signer are found out once (`sealift.s3.route`); a bucket in another Region than it seemed
   is asked again there, once.
2. A request goes out on a pooled connection. One that the server had closed meanwhile is no attempt: the request
   goes out again, on a fresh connection. Where somebody counts what goes out, it goes back to them for that.
3. GETs whose connections are still to come when KMS refuses one for the first time do not go out: a crowd of them would
   be refused.
4. An answer that is not the one asked for becomes the same error that the SDK's would (`sealift.s3.translate`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Literal, Self

import anyio

from sealift.checksum import Checksum
from sealift.config import ConnectionSettings
from sealift.errors import (
    Changed,
    NotSent,
    ObjectError,
    SealiftError,
    SourceError,
    Throttled,
    Transient,
    Unreachable,
)
from sealift.model import UNTOLD, Encryption, Part, RemoteObject
from sealift.s3.connection import Connection, LostError, SilentError
from sealift.s3.heads import Head, MalformedResponseError
from sealift.s3.pagexml import parse_page, parse_versions
from sealift.s3.pool import Origin, Pool, UnreachableError
from sealift.s3.refusal import LARGEST_DOCUMENT, refusal_of
from sealift.s3.response import check_head, encryption_of, length_of
from sealift.s3.route import Access, Route
from sealift.s3.signing import Credentials, Signer, encoded_path, encoded_query
from sealift.s3.store import (
    Going,
    Leave,
    Page,
    PageRequest,
    Sink,
    VersionsPage,
    VersionsRequest,
    at_once,
    pour_what_is_read,
)
from sealift.s3.tls import ResumingContext, tls_context
from sealift.s3.translate import Refusal, translate

ASK_AGAIN_AFTER = 30.0
"""Seconds for which credentials are used without asking whoever renews them: the SDK renews those of a role
15 minutes before they expire, so that half a minute is nothing."""

LARGEST_PAGE = 16 * 1024 * 1024
"""Bytes of one page of a listing that are read: 1,000 keys of 1,024 bytes, each byte written as %XX, are 3 MB."""

Operation = Literal["list", "head", "get"]
Headers = Sequence[tuple[str, str]]

_CHECKSUM_MODE = ("x-amz-checksum-mode", "ENABLED")
_MOVED = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",  # of Regions that have to be opted into
        "301",
        "307",
        "400",
    }
)
"""The codes, or of a HEAD the statuses, of an answer that may name the bucket's own Region."""


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What is known of a bucket. A request keeps to one of these, whatever is found out meanwhile."""

    route: Route
    pool: Pool
    signer: Signer


class WireBody:
    """The bytes of one part, and the way to them: an async context manager and `store.Body` in one."""

    __slots__ = ("_connection", "_going", "_left", "_part", "_pool", "_remote", "_store", "checksum", "encryption")

    def __init__(self, store: WireStore, remote: RemoteObject, part: Part, going: Going | None) -> None:
        self.encryption = UNTOLD
        """See `Body.encryption`."""
        self.checksum: Checksum | None = None
        """See `Body.checksum`."""
        self._store = store
        self._remote = remote
        self._part = part
        self._going = going
        self._left: int | None = None
        """Bytes that are still due, where nobody else counts them: the head did not announce how many there are."""
        self._pool: Pool | None = None
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        remote, part = self._remote, self._part
        self._connection, head, self._pool = await self._store.get(remote, part, self._going)
        try:
            headers = head.headers
            check_head(
                remote,
                part,
                status=head.status,
                content_length=head.content_length,
                content_range=headers.get("content-range"),
                etag=headers.get("etag"),
            )
        except BaseException:
            self._pool.give_back(self._connection)
            raise
        if head.content_length is None:
            self._left = len(part.range)
        self.encryption = encryption_of(headers)
        if part.whole:
            self.checksum = Checksum.told(headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None and self._connection is not None:
            self._pool.give_back(self._connection)

    async def read(self) -> memoryview:
        """See `Body.read`."""
        try:
            piece = await self._opened().read()
        except (LostError, SilentError, MalformedResponseError) as error:
            raise _translated(error, self._remote.bucket, self._remote.key) from error
        if self._left is None:
            return piece
        self._left -= len(piece)
        if self._left < 0 or (self._left > 0 and not piece):
            raise Transient(
                f"the body of {self._remote.key!r} has not the length that its head announced",
                bucket=self._remote.bucket,
                key=self._remote.key,
                code="IncompleteBody",
            )
        return piece

    def take_what_came(self, sink: Sink) -> bool:
        """See `Body.take_what_came`."""
        return self._left is None and self._opened().take_what_came(sink)

    async def pour(self, sink: Sink) -> bytes | memoryview:
        """See `Body.pour`."""
        if self._left is not None:
            return await pour_what_is_read(self, sink)
        try:
            return await self._opened().pour(sink)
        except (LostError, SilentError, MalformedResponseError) as error:
            raise _translated(error, self._remote.bucket, self._remote.key) from error

    def _opened(self) -> Connection:
        if self._connection is None:
            msg = "the body is not open"
            raise RuntimeError(msg)
        return self._connection


class WireStore:
    """An `ObjectStore` on connections of our own, as an async context manager.

    The first request to a bucket raises ConfigError where its endpoint speaks TLS and the certificates cannot be
    used, and OffTheWireError where the wire cannot serve it: `sealift.s3.transport` asks beforehand.
    """

    def __init__(self, access: Access, settings: ConnectionSettings) -> None:
        self._access = access
        self._settings = settings
        self._tls: ResumingContext | None = None
        self._pools: dict[Origin, Pool] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._signers: dict[str, Signer] = {}
        self._credentials: Credentials | None = None
        self._ask_at = 0.0
        self._asking = anyio.Lock()
        self._kms_refuses = False
        self._payer: Headers = (("x-amz-request-payer", "requester"),) if settings.request_payer else ()
        self.leave: Leave = at_once
        """For the GET that says why a HEAD failed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools.values():
            pool.close()
        if self._pools:
            await asyncio.sleep(0)  # lets the transports close their sockets

    async def renew(self) -> bool:
        """Look for fresher credentials; say whether there were any."""
        async with self._asking:
            if not await self._access.renew():
                return False
            await self._ask_credentials()
            return True

    async def list_page(self, request: PageRequest) -> Page:
        """See `ObjectStore.list_page`."""
        most, prefix = str(request.most), request.prefix
        parameters = [("encoding-type", "url"), ("list-type", "2"), ("max-keys", most), ("prefix", prefix)]
        where = {
            "continuation-token": request.token,
            "delimiter": request.delimiter,
            "start-after": request.start_after,
        }
        parameters += [(name, value) for name, value in where.items() if value is not None]
        # Tells which archived objects are restored; needs no permission beyond s3:ListBucket.
        headers = (("x-amz-optional-object-attributes", "RestoreStatus"), *self._payer)
        document = await self._list(request.bucket, parameters, headers)
        return parse_page(document, bucket=request.bucket, prefix=prefix, token=request.token)

    async def list_versions(self, request: VersionsRequest) -> VersionsPage:
        """See `VersionedStore.list_versions`."""
        most, prefix = str(request.most), request.prefix
        parameters = [("encoding-type", "url"), ("max-keys", most), ("prefix", prefix), ("versions", "")]
        where = {
            "delimiter": request.delimiter,
            "key-marker": request.key_marker,
            "version-id-marker": request.version_marker,
        }
        parameters += [(name, value) for name, value in where.items() if value is not None]
        headers = (("x-amz-optional-object-attributes", "RestoreStatus"), *self._payer)
        document = await self._list(request.bucket, parameters, headers)
        marker = (request.key_marker, request.version_marker)
        return parse_versions(document, bucket=request.bucket, prefix=prefix, marker=marker)

    async def _list(self, bucket: str, parameters: Sequence[tuple[str, str]], headers: Headers) -> bytes:
        connection, _, pool = await self._ask("list", bucket, None, encoded_query(parameters), headers)
        try:
            return await _whole(connection, LARGEST_PAGE)
        except (LostError, SilentError, MalformedResponseError) as error:
            raise _translated(error, bucket, "") from error
        finally:
            pool.give_back(connection)

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        """See `ObjectStore.head`. Where HEAD fails, which it does without a word, a GET of one byte tells why."""
        query = _version(version_id)
        try:
            connection, head, pool = await self._ask("head", bucket, key, query, self._payer)
        except SealiftError as error:
            if isinstance(error, ObjectError) and error.__cause__ is not None:
                raise  # no answer at all: there is nothing to explain
            try:
                headers = (("range", "bytes=0-0"), *self._payer)
                async with self.leave(bucket) as going:
                    connection, _, pool = await self._ask("get", bucket, key, query, headers, going)
            except Changed:  # 416: an empty object has no first byte
                raise error from error.__cause__
            connection.close()
            pool.give_back(connection)
            raise
        pool.give_back(connection)
        return _described(bucket, key, version_id, head)

    def region(self, bucket: str) -> str:
        """See `RenewableStore.region`."""
        known = self._buckets.get(bucket)
        return "" if known is None else known.route.region

    async def encryption(self, bucket: str, key: str) -> Encryption:
        """See `ObjectStore.encryption`."""
        connection, head, pool = await self._ask("head", bucket, key, "", self._payer)
        pool.give_back(connection)
        return encryption_of(head.headers)

    async def checksum(self, remote: RemoteObject, going: Going | None = None) -> Checksum | None:
        """See `ObjectStore.checksum`."""
        return Checksum.told(await self._head_of(remote, "", (_CHECKSUM_MODE, *self._payer), going))

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        """See `ObjectStore.part_size`."""
        return length_of(remote, await self._head_of(remote, str(number), self._payer))

    async def _head_of(
        self, remote: RemoteObject, part: str, headers: Headers, going: Going | None = None
    ) -> dict[str, str]:
        """Return the headers of a HEAD that is pinned to a version; of an uploaded `part` alone, if one is named."""
        parameters = [("partNumber", part)] if part else []
        if remote.version_id is not None:
            parameters.append(("versionId", remote.version_id))
        if remote.etag:
            headers = (("if-match", remote.etag), *headers)
        query = encoded_query(parameters)
        connection, head, pool = await self._ask("head", remote.bucket, remote.key, query, headers, going)
        pool.give_back(connection)
        return head.headers

    def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> WireBody:
        """See `ObjectStore.open`."""
        return WireBody(self, remote, part, going)

    def get(
        self, remote: RemoteObject, part: Part, going: Going | None
    ) -> Coroutine[None, None, tuple[Connection, Head, Pool]]:
        """Send the GET of a part, and return where its body comes from; `give_back` the connection to the pool."""
        headers = list(self._payer)
        if remote.etag:
            headers.append(("if-match", remote.etag))
        if part.whole:
            headers.append(_CHECKSUM_MODE)
        else:
            headers.append(("range", f"bytes={part.range.start}-{part.range.stop - 1}"))
        return self._ask("get", remote.bucket, remote.key, _version(remote.version_id), headers, going)

    async def _ask(
        self,
        operation: Operation,
        bucket: str,
        key: str | None,
        query: str,
        headers: Headers,
        going: Going | None = None,
    ) -> tuple[Connection, Head, Pool]:
        """Send one request, and return its answer, which is a good one; the body is to be read or dropped."""
        redirected = False
        while True:
            known = self._buckets.get(bucket)
            if known is None or time.monotonic() >= self._ask_at:
                known = await self._known(bucket)
            connection, head = await self._send(known, operation, bucket, key, query, headers, going)
            if 200 <= head.status < 300:
                return connection, head, known.pool
            try:
                document = await _whole(connection, LARGEST_DOCUMENT)
            except (LostError, SilentError, MalformedResponseError):
                document = b""  # the status says enough
            finally:
                known.pool.give_back(connection)
            refusal = refusal_of(head.status, head.headers, document, operation=operation, bucket=bucket, key=key or "")
            if redirected or not self._moves(bucket, known, refusal):
                error = translate(refusal)
                self._kms_refuses = self._kms_refuses or (isinstance(error, Throttled) and error.service == "kms")
                raise error
            redirected = True

    async def _send(
        self,
        known: _Bucket,
        operation: Operation,
        bucket: str,
        key: str | None,
        query: str,
        headers: Headers,
        going: Going | None,
    ) -> tuple[Connection, Head]:
        route = known.route
        path = (route.base_path or "/") if key is None else f"{route.base_path}/{encoded_path(key)}"
        method = "HEAD" if operation == "head" else "GET"
        fresh = False
        while True:
            unaware = not self._kms_refuses
            try:
                connection = (None if fresh else known.pool.take_idle()) or await known.pool.take_fresh()
            except UnreachableError as error:
                raise _unreachable(error, bucket, key or "") from error
            used_before = connection.exchanges > 0
            if unaware and self._kms_refuses and operation == "get":
                known.pool.give_back(connection)
                raise NotSent(
                    "KMS refuses requests: this one did not go out", service="kms", bucket=bucket, key=key or ""
                )
            request = known.signer.head(method, route.host, path, query, headers, time.time())
            if going is not None:  # uvloop writes when the loop has been round, which may take it a while
                asyncio.get_running_loop().call_soon(going)
            try:
                head = await connection.exchange(request, method)
            except (LostError, SilentError, MalformedResponseError) as error:
                known.pool.give_back(connection)
                if not used_before or isinstance(error, SilentError):
                    known.pool.distrust(connection)
                elif isinstance(error, LostError) and error.unheard:
                    if going is not None:
                        await asyncio.sleep(0)  # it was told by then
                        raise NotSent(
                            "the connection was closed before the request was heard: it goes out once more",
                            service="kms",
                            bucket=bucket,
                            key=key or "",
                        ) from error
                    fresh = True
                    continue
                raise _translated(error, bucket, key or "") from error
            except BaseException:
                known.pool.give_back(connection)
                raise
            if not used_before and self._tls is not None:
                self._tls.remember(route.origin.host, connection.tls)
            return connection, head

    async def _known(self, bucket: str) -> _Bucket:
        """Return what is known of a bucket, with credentials that are good for a while."""
        async with self._asking:
            if time.monotonic() >= self._ask_at:
                await self._ask_credentials()
            if bucket not in self._buckets:
                route = await self._access.route(bucket)
                self._buckets[bucket] = _Bucket(route, self._pool(route.origin), self._signer(route.region))
            return self._buckets[bucket]

    async def _ask_credentials(self) -> None:
        credentials = await self._access.credentials()
        self._ask_at = time.monotonic() + ASK_AGAIN_AFTER
        if credentials != self._credentials:
            self._credentials = credentials
            self._signers.clear()
            for bucket, known in self._buckets.items():
                self._buckets[bucket] = replace(known, signer=self._signer(known.route.region))

    def _moves(self, bucket: str, known: _Bucket, refusal: Refusal) -> bool:
        """Go to the Region that an answer names, if it is another one than the request went to."""
        region = refusal.region
        if refusal.code not in _MOVED or region in {"", known.route.region}:
            return False
        if self._buckets[bucket].route.region != region:  # else another request's answer has told already
            route = known.route.moved(region)
            self._buckets[bucket] = _Bucket(route, self._pool(route.origin), self._signer(region))
        return True

    def _signer(self, region: str) -> Signer:
        signer = self._signers.get(region)
        if signer is None:
            signer = self._signers[region] = Signer(self._credentials, region)
        return signer

    def _pool(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            secure = origin.scheme == "https"
            if secure and self._tls is None:
                self._tls = tls_context(self._access.ca_bundle)
            pool = self._pools[origin] = Pool(
                origin,
                context=self._tls if secure else None,
                connect_timeout=self._settings.connect_timeout,
                read_timeout=self._settings.read_timeout,
            )
        return pool


async def _whole(connection: Connection, limit: int) -> bytes:
    """Return a body that is needed whole; of a larger one than `limit` bytes the beginning."""
    document = bytearray()
    while (piece := await connection.read()) and len(document) < limit:
        document += piece
    return bytes(document)


def _version(version_id: str | None) -> str:
    return "" if version_id is None else encoded_query([("versionId", version_id)])


def _described(bucket: str, key: str, version_id: str | None, head: Head) -> RemoteObject:
    headers = head.headers
    try:
        modified = parsedate_to_datetime(headers["last-modified"])
        size = int(headers["content-length"])
    except (LookupError, ValueError, TypeError) as error:
        raise Transient(
            f"the server's answer makes no sense (no length or no time of {key!r})",
            bucket=bucket,
            key=key,
            code="BadAnswer",
        ) from error
    return RemoteObject(
        bucket=bucket,
        key=key,
        size=size,
        etag=headers.get("etag", ""),
        last_modified_ns=int(modified.timestamp()) * 1_000_000_000,
        version_id=version_id,
        storage_class=headers.get("x-amz-storage-class", "STANDARD"),
        restored='ongoing-request="false"' in headers.get("x-amz-restore", ""),
    )


def _unreachable(error: UnreachableError, bucket: str, key: str) -> SealiftError:
    if error.certificate:
        return SourceError(
            f"TLS to the endpoint failed ({error}): if it uses a certificate of its own, "
            "name the authority's with --ca-bundle",
            code="TLSError",
        )
    return Unreachable(
        f"the endpoint cannot be reached ({error}): check AWS_ENDPOINT_URL or --endpoint-url, the "
        "network and its name server",
        bucket=bucket,
        key=key,
        code="EndpointUnreachable",
    )


def _translated(error: Exception, bucket: str, key: str) -> Transient:
    if isinstance(error, MalformedResponseError):
        return Transient(f"the server's answer makes no sense ({error})", bucket=bucket, key=key, code="BadAnswer")
    silent = isinstance(error, SilentError)
    return Transient(
        f"the connection {'sent nothing for too long' if silent else 'was lost'} ({error})",
        bucket=bucket,
        key=key,
        code="Timeout" if silent else "ConnectionLost",
    )
