"""The object store through the SDK, for what the wire does not serve, and as what the wire is held against."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sealift.arn import region_of
from sealift.checksum import Checksum
from sealift.config import ConnectionSettings
from sealift.errors import Changed, Permanent, SealiftError, Transient
from sealift.model import Encryption, Part, RemoteObject
from sealift.s3.pagexml import parse_page, parse_versions
from sealift.s3.response import check_head, encryption_of, length_of
from sealift.s3.sdkerrors import translated
from sealift.s3.sdksession import RAW_PAGE, SdkSession
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

READ_SIZE = 256 * 1024
"""Bytes asked of a body at once; aiohttp hands over what its own buffer of 64–128 KiB holds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SdkBody:
    """A `Body` that aiohttp receives. Counts its bytes: a chunked body announces no length."""

    __slots__ = ("_left", "_remote", "_stream", "checksum", "encryption")

    def __init__(
        self, stream: Any, remote: RemoteObject, length: int, *, encryption: Encryption, checksum: Checksum | None
    ) -> None:
        self.encryption = encryption
        """See `Body.encryption`."""
        self.checksum = checksum
        """See `Body.checksum`."""
        self._stream = stream
        self._remote = remote
        self._left = length

    async def read(self) -> bytes:
        """Return the next bytes, `b""` at the end. Raises Transient."""
        with translated("get", self._remote.bucket, self._remote.key):
            chunk: bytes = await self._stream.read(READ_SIZE)
        self._left -= len(chunk)
        if self._left < 0 or (not chunk and self._left > 0):
            raise Transient(
                f"the body of {self._remote.key!r} has not the length that its head announced",
                bucket=self._remote.bucket,
                key=self._remote.key,
                code="IncompleteBody",
            )
        return chunk

    def take_what_came(self, sink: Sink) -> bool:  # noqa: ARG002 - nothing comes with the SDK's heads
        """See `Body.take_what_came`."""
        return False

    async def pour(self, sink: Sink) -> bytes | memoryview:
        """See `Body.pour`."""
        return await pour_what_is_read(self, sink)

    @property
    def finished(self) -> bool:
        """Whether the connection is free for another request."""
        return bool(self._stream.content.at_eof())


class SdkStore:
    """A `RenewableStore` on an open session of the SDK's."""

    def __init__(self, session: SdkSession, settings: ConnectionSettings) -> None:
        self._session = session
        self._payer = {"RequestPayer": "requester"} if settings.request_payer else {}
        self._regions: dict[str, str] = {}
        self.leave: Leave = at_once
        """See `WireStore.leave`."""

    async def renew(self) -> bool:
        """See `RenewableStore.renew`."""
        return await self._session.renew()

    async def list_page(self, request: PageRequest) -> Page:
        """See `ObjectStore.list_page`."""
        asked = self._listing(request, ContinuationToken=request.token, StartAfter=request.start_after)
        async with self._session.client() as client:
            with translated("list", request.bucket, ""):
                answer = await client.list_objects_v2(**asked)
        return parse_page(answer.get(RAW_PAGE, b""), bucket=request.bucket, prefix=request.prefix, token=request.token)

    async def list_versions(self, request: VersionsRequest) -> VersionsPage:
        """See `VersionedStore.list_versions`."""
        marker = (request.key_marker, request.version_marker)
        asked = self._listing(request, KeyMarker=request.key_marker, VersionIdMarker=request.version_marker)
        async with self._session.client() as client:
            with translated("list", request.bucket, ""):
                answer = await client.list_object_versions(**asked)
        return parse_versions(answer.get(RAW_PAGE, b""), bucket=request.bucket, prefix=request.prefix, marker=marker)

    def _listing(self, request: PageRequest | VersionsRequest, **where: str | None) -> dict[str, Any]:
        """Return how the SDK is asked for a page; `where` says where it begins."""
        where["Delimiter"] = request.delimiter
        return {
            "Bucket": request.bucket,
            "Prefix": request.prefix,
            "MaxKeys": request.most,
            # The SDK would decode the keys itself, and mend what is not UTF-8 on the way.
            "EncodingType": "url",
            # Tells which archived objects are restored; needs no permission beyond s3:ListBucket.
            "OptionalObjectAttributes": ["RestoreStatus"],
            **self._payer,
            **{name: value for name, value in where.items() if value is not None},
        }

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        """See `ObjectStore.head`. Where HEAD fails, which it does without a word, a GET of one byte tells why."""
        request = {"Bucket": bucket, "Key": _sendable(bucket, key), **self._payer}
        if version_id is not None:
            request["VersionId"] = version_id
        async with self._session.client() as client:
            try:
                with translated("head", bucket, key):
                    answer = await client.head_object(**request)
            except SealiftError as error:
                if error.__cause__ is None or not hasattr(error.__cause__, "response"):
                    raise  # no answer at all: there is nothing to explain
                try:
                    async with self.leave(bucket):
                        with translated("get", bucket, key):
                            silent = await client.get_object(**request, Range="bytes=0-0")
                except Changed:  # 416: an empty object has no first byte
                    raise error from error.__cause__
                async with silent["Body"]:
                    raise
        return RemoteObject(
            bucket=bucket,
            key=key,
            size=answer["ContentLength"],
            etag=answer.get("ETag", ""),
            last_modified_ns=_nanoseconds(answer["LastModified"]),
            version_id=version_id,
            storage_class=answer.get("StorageClass", "STANDARD"),
            restored='ongoing-request="false"' in answer.get("Restore", ""),
        )

    def region(self, bucket: str) -> str:
        """See `RenewableStore.region`. The SDK follows redirects by itself: it is that of the key of what came last."""
        return self._regions.get(bucket, "")

    async def encryption(self, bucket: str, key: str) -> Encryption:
        """See `ObjectStore.encryption`."""
        async with self._session.client() as client:
            with translated("head", bucket, key):
                answer = await client.head_object(Bucket=bucket, Key=_sendable(bucket, key), **self._payer)
        return encryption_of(answer["ResponseMetadata"]["HTTPHeaders"])

    async def checksum(self, remote: RemoteObject, going: Going | None = None) -> Checksum | None:
        """See `ObjectStore.checksum`."""
        headers = await self._head_of(remote, ChecksumMode="ENABLED")
        if going is not None:
            going()
        return Checksum.told(headers)

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        """See `ObjectStore.part_size`."""
        return length_of(remote, await self._head_of(remote, PartNumber=number))

    async def _head_of(self, remote: RemoteObject, **how: object) -> Mapping[str, str]:
        """Return the headers of a HEAD that is pinned to a version."""
        async with self._session.client() as client:
            with translated("head", remote.bucket, remote.key):
                answer = await client.head_object(**self._pinned(remote), **how)
        headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
        return headers

    @asynccontextmanager
    async def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AsyncIterator[SdkBody]:
        """See `ObjectStore.open`. When a request goes out only the SDK knows."""
        request = self._pinned(remote)
        if not part.whole:
            request["Range"] = f"bytes={part.range.start}-{part.range.stop - 1}"
        async with self._session.client() as client:
            with translated("get", remote.bucket, remote.key):
                answer = await client.get_object(**request)
            if going is not None:
                going()
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            encryption = encryption_of(headers)
            if encryption.charged and (region := region_of(answer.get("SSEKMSKeyId", ""))):
                self._regions[remote.bucket] = region
            body = SdkBody(
                answer["Body"],
                remote,
                len(part.range),
                encryption=encryption,
                checksum=Checksum.told(headers) if part.whole else None,
            )
            try:
                check_head(
                    remote,
                    part,
                    status=answer["ResponseMetadata"]["HTTPStatusCode"],
                    content_length=answer.get("ContentLength"),
                    content_range=answer.get("ContentRange"),
                    etag=answer.get("ETag"),
                )
                yield body
            finally:
                if not body.finished:
                    answer["Body"].close()

    def _pinned(self, remote: RemoteObject) -> dict[str, Any]:
        request = {"Bucket": remote.bucket, "Key": _sendable(remote.bucket, remote.key), **self._payer}
        if remote.etag:
            request["IfMatch"] = remote.etag
        if remote.version_id is not None:
            request["VersionId"] = remote.version_id
        return request


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _sendable(bucket: str, key: str) -> str:
    """Return `key`, or raise Permanent where the SDK cannot spell it in a request."""
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise Permanent(
            f"{key!r} is not UTF-8, which S3 keys are; rename the object at its source",
            bucket=bucket,
            key=key,
            code="InvalidKey",
        ) from error
    return key
