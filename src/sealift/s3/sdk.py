"""The object store through aioboto3: sessions, profiles, SSO, roles, endpoints and Regions are the SDK's business.

The SDK's own retries are off (`sealift.retry` has the one policy), and so are its checksum trailers, which no
ranged GET carries.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import anyio

from sealift import __version__
from sealift.arn import region_of
from sealift.checksum import Checksum
from sealift.config import ConnectionSettings
from sealift.errors import (
    Changed,
    ConfigError,
    CredentialsError,
    Permanent,
    SealiftError,
    SourceError,
    Transient,
    Unreachable,
)
from sealift.model import Encryption, Part, RemoteObject
from sealift.s3.pagexml import parse_page, parse_versions
from sealift.s3.plainhttp import refuse_plain_http
from sealift.s3.response import check_head, encryption_of, is_charged, length_of
from sealift.s3.signing import Credentials
from sealift.s3.store import Page, PageRequest, Sink, VersionsPage, VersionsRequest, pour_what_is_read
from sealift.s3.tls import tls_context
from sealift.s3.translate import Refusal, translate

READ_SIZE = 256 * 1024
"""Bytes asked of a body at once; aiohttp hands over what its own buffer of 64–128 KiB holds."""

_OPERATIONS = frozenset({"ListObjectsV2", "ListObjectVersions", "HeadObject", "GetObject", "HeadBucket"})
"""What Sealift asks of S3 (HeadBucket: the SDK, to follow a redirect). Anything else is about credentials."""

_DEFAULT_REGION = "us-east-1"
"""What the SDK signs for where no Region is set and an endpoint of one's own is."""
_RAW = "SealiftPage"
"""Where in the SDK's answer to a listing its body is."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SdkBody:
    """A `Body` that aiohttp receives. Counts its bytes: a chunked body announces no length."""

    __slots__ = ("_left", "_remote", "_stream", "charged", "checksum")

    def __init__(
        self, stream: Any, remote: RemoteObject, length: int, *, charged: bool, checksum: Checksum | None
    ) -> None:
        self.charged = charged
        """See `Body.charged`."""
        self.checksum = checksum
        """See `Body.checksum`."""
        self._stream = stream
        self._remote = remote
        self._left = length

    async def read(self) -> bytes:
        """Return the next bytes, `b""` at the end. Raises Transient."""
        with _translated("get", self._remote.bucket, self._remote.key):
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

    async def pour(self, sink: Sink) -> bytes | memoryview:
        """See `Body.pour`."""
        return await pour_what_is_read(self, sink)

    @property
    def finished(self) -> bool:
        """Whether the connection is free for another request."""
        return bool(self._stream.content.at_eof())


class _Client:
    """One SDK client, closed by the last one to leave it."""

    def __init__(self, client: Any, stack: AsyncExitStack, credentials: Any, identity: object) -> None:
        self.client = client
        self.credentials = credentials
        self.identity = identity
        self._stack = stack
        self._users = 1  # the store's own hold

    def enter(self) -> Any:
        self._users += 1
        return self.client

    async def leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            with anyio.CancelScope(shield=True):
                await self._stack.aclose()


class SdkStore:
    """An `ObjectStore` on aioboto3, as an async context manager.

    `connections` bounds the pool. Raises ConfigError on entering where the settings cannot be meant.
    """

    def __init__(self, settings: ConnectionSettings, *, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        self._regions: dict[str, str] = {}
        self._current: _Client | None = None
        self._renewing = anyio.Lock()
        self.ca_bundle: Path | None = None
        """The certificates that are trusted; None for the SDK's own."""

    async def __aenter__(self) -> Self:
        self._current = await self._open_client()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._current is not None:
            await self._current.leave()
            self._current = None

    async def renew(self) -> bool:
        """Look for fresher credentials, as the SDK finds them; say whether there were any.

        A profile's file that was rewritten, a credential process, SSO and roles all give fresh ones; the
        environment of a running process does not.
        """
        stale = self._current
        async with self._renewing:
            if self._current is not stale:
                return True  # somebody else was quicker
            fresh = await self._open_client()
            if stale is not None and fresh.identity == stale.identity:
                await fresh.leave()
                return False
            self._current = fresh
            if stale is not None:
                await stale.leave()
            return True

    async def credentials(self) -> Credentials | None:
        """Return credentials that hold for minutes to come, refreshed by the SDK where that is due; None signs nothing.

        Raises CredentialsError.
        """
        current = self._entered()
        if current.credentials is None:
            return None
        with _translated("list", "", ""):
            frozen = await current.credentials.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    async def signed(self, bucket: str, key: str) -> tuple[str, str, str]:
        """Return a GET's URL and Authorization header, and the client's Region: the SDK's word on where `bucket` is.

        It is not sent. Raises ConfigError, CredentialsError.
        """
        async with self._client() as client:
            region: str = client.meta.region_name or _DEFAULT_REGION
            request: Any = None
            asking = _not_to_be_sent.set(True)
            try:
                with _translated("list", "", ""):
                    try:
                        await client.get_object(Bucket=bucket, Key=key)
                    except _NotSentError as stopped:
                        request = stopped.request
            finally:
                _not_to_be_sent.reset(asking)
            authorization = request.headers.get("Authorization", "")
        if isinstance(authorization, bytes):
            authorization = authorization.decode("latin-1")
        return request.url, authorization, _DEFAULT_REGION if region == "aws-global" else region

    async def list_page(self, request: PageRequest) -> Page:
        """See `ObjectStore.list_page`."""
        asked: dict[str, Any] = {
            "Bucket": request.bucket,
            "Prefix": request.prefix,
            "MaxKeys": request.most,
            # The SDK would decode the keys itself, and mend what is not UTF-8 on the way.
            "EncodingType": "url",
            # Tells which archived objects are restored; needs no permission beyond s3:ListBucket.
            "OptionalObjectAttributes": ["RestoreStatus"],
            **self._payer(),
        }
        where = {
            "ContinuationToken": request.token,
            "StartAfter": request.start_after,
            "Delimiter": request.delimiter,
        }
        asked |= {name: value for name, value in where.items() if value is not None}
        async with self._client() as client:
            with _translated("list", request.bucket, ""):
                answer = await client.list_objects_v2(**asked)
        return parse_page(answer.get(_RAW, b""), bucket=request.bucket, prefix=request.prefix, token=request.token)

    async def list_versions(self, request: VersionsRequest) -> VersionsPage:
        """See `VersionedStore.list_versions`."""
        asked: dict[str, Any] = {
            "Bucket": request.bucket,
            "Prefix": request.prefix,
            "MaxKeys": request.most,
            "EncodingType": "url",
            "OptionalObjectAttributes": ["RestoreStatus"],
            **self._payer(),
        }
        where = {
            "KeyMarker": request.key_marker,
            "VersionIdMarker": request.version_marker,
            "Delimiter": request.delimiter,
        }
        asked |= {name: value for name, value in where.items() if value is not None}
        async with self._client() as client:
            with _translated("list", request.bucket, ""):
                answer = await client.list_object_versions(**asked)
        marker = (request.key_marker, request.version_marker)
        return parse_versions(answer.get(_RAW, b""), bucket=request.bucket, prefix=request.prefix, marker=marker)

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        """See `ObjectStore.head`. Where HEAD fails, which it does without a word, a GET of one byte tells why."""
        request = {"Bucket": bucket, "Key": _sendable(bucket, key), **self._payer()}
        if version_id is not None:
            request["VersionId"] = version_id
        async with self._client() as client:
            try:
                with _translated("head", bucket, key):
                    answer = await client.head_object(**request)
            except SealiftError as error:
                if error.__cause__ is None or not hasattr(error.__cause__, "response"):
                    raise  # no answer at all: there is nothing to explain
                try:
                    with _translated("get", bucket, key):
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
        async with self._client() as client:
            with _translated("head", bucket, key):
                answer = await client.head_object(Bucket=bucket, Key=_sendable(bucket, key), **self._payer())
        return encryption_of(answer["ResponseMetadata"]["HTTPHeaders"])

    async def checksum(self, remote: RemoteObject) -> Checksum | None:
        """See `ObjectStore.checksum`."""
        return Checksum.told(await self._head_of(remote, ChecksumMode="ENABLED"))

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        """See `ObjectStore.part_size`."""
        return length_of(remote, await self._head_of(remote, PartNumber=number))

    async def _head_of(self, remote: RemoteObject, **how: object) -> Mapping[str, str]:
        """Return the headers of a HEAD that is pinned to a version."""
        async with self._client() as client:
            with _translated("head", remote.bucket, remote.key):
                answer = await client.head_object(**self._pinned(remote), **how)
        headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
        return headers

    @asynccontextmanager
    async def open(self, remote: RemoteObject, part: Part) -> AsyncIterator[SdkBody]:
        """See `ObjectStore.open`."""
        request = self._pinned(remote)
        if not part.whole:
            request["Range"] = f"bytes={part.range.start}-{part.range.stop - 1}"
        async with self._client() as client:
            with _translated("get", remote.bucket, remote.key):
                answer = await client.get_object(**request)
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            charged = is_charged(headers)
            if charged and (region := region_of(answer.get("SSEKMSKeyId", ""))):
                self._regions[remote.bucket] = region
            body = SdkBody(
                answer["Body"],
                remote,
                len(part.range),
                charged=charged,
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
        request = {"Bucket": remote.bucket, "Key": _sendable(remote.bucket, remote.key), **self._payer()}
        if remote.etag:
            request["IfMatch"] = remote.etag
        if remote.version_id is not None:
            request["VersionId"] = remote.version_id
        return request

    def _payer(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self._settings.request_payer else {}

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        current = self._entered()
        client = current.enter()
        try:
            yield client
        finally:
            await current.leave()

    def _entered(self) -> _Client:
        if self._current is None:
            msg = "the store is not open"
            raise RuntimeError(msg)
        return self._current

    async def _open_client(self) -> _Client:
        import aioboto3
        from aiobotocore.config import AioConfig
        from aiobotocore.session import AioSession
        from botocore import UNSIGNED

        settings = self._settings
        config: dict[str, Any] = {
            "connect_timeout": settings.connect_timeout,
            "read_timeout": settings.read_timeout,
            "max_pool_connections": self._connections,
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        if not settings.sign:
            config["signature_version"] = UNSIGNED
        async with AsyncExitStack() as stack:
            with _translated("list", "", ""):
                core = AioSession()
                core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_moment)
                session = aioboto3.Session(
                    botocore_session=core, profile_name=settings.profile, region_name=settings.region
                )
                core.register_component("data_loader", _models(core.get_config_variable("data_path")))
                # A whole one, or the SDK composes it anew for each request: a twentieth of what a GET costs.
                sdk_agent = core.user_agent().removesuffix(core.user_agent_extra).rstrip()  # which the SDK adds itself
                config["user_agent"] = f"sealift/{__version__} {sdk_agent}"
                bundle = settings.ca_bundle or core.get_config_variable("ca_bundle")
                if bundle:
                    self.ca_bundle = Path(bundle)
                    tls_context(self.ca_bundle)  # or the SDK would call each connection lost that needs them
                client = await stack.enter_async_context(
                    session.client(
                        "s3",
                        endpoint_url=settings.endpoint_url,
                        # Never None: the SDK takes an empty AWS_CA_BUNDLE for "do not verify".
                        verify=os.fspath(bundle) if bundle else True,
                        config=AioConfig(**config),
                    )
                )
                client.meta.events.register_first("before-parse.s3.ListObjectsV2", _keep_raw)
                client.meta.events.register_first("before-call.s3.GetObject", _ask_for_checksum)
                client.meta.events.register_first("before-parse.s3.ListObjectVersions", _keep_raw)
                client.meta.events.register_first("before-send.s3.GetObject", _stop)
                refuse_plain_http(client.meta.endpoint_url, allowed=settings.allow_http)
                credentials, identity = await _credentials(session) if settings.sign else (None, None)
            return _Client(client, stack.pop_all(), credentials, identity)
        raise AssertionError  # the stack never swallows an exception


_not_to_be_sent: ContextVar[bool] = ContextVar("_not_to_be_sent", default=False)


class _NotSentError(Exception):
    """The request is known, which is all that was wanted."""

    def __init__(self, request: Any) -> None:
        super().__init__("not sent")
        self.request = request


def _stop(request: Any, **_: object) -> None:
    if _not_to_be_sent.get():
        raise _NotSentError(request)


def _ask_for_checksum(params: dict[str, Any], **_: object) -> None:
    """Ask for a whole object's checksum, past the SDK: it would check it by itself, and tell nobody what it was."""
    if "Range" not in params["headers"]:
        params["headers"]["x-amz-checksum-mode"] = "ENABLED"


@cache
def _models(data_path: str | None) -> Any:
    """Return the SDK's descriptions of services, read once a process: a session of its own would read them anew."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


async def _credentials(session: Any) -> tuple[Any, object]:
    """Return the SDK's credentials, and what tells them from fresher ones."""
    credentials = await session.get_credentials()
    if credentials is None:
        raise CredentialsError(
            "no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose a --profile, sign in "
            "with aws sso login, or use --no-sign-request for a public bucket",
            code="NoCredentials",
        )
    frozen = await credentials.get_frozen_credentials()
    return credentials, (frozen.access_key, frozen.token)


def _keep_raw(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_more: object) -> None:
    """Put a page past the SDK's parser, which takes 68 ms, and past its search for errors, 10 ms."""
    if response_dict["status_code"] != 200:
        return
    for name in (b"<ListBucketResult", b"<ListVersionsResult"):
        if name in response_dict["body"][:1024]:
            customized_response_dict[_RAW] = response_dict["body"]
            response_dict["body"] = name + b"/>"


def parse_moment(text: str) -> datetime:
    """Read a time as S3 writes it in headers; any other form is the SDK's business, UTC unless it says.

    The SDK's own reader guesses at the form, which takes it 30 to 45 µs: a twentieth of what a GET costs.
    """
    with suppress(ValueError, TypeError, AttributeError):  # AttributeError: services that speak JSON send numbers
        moment = datetime.fromisoformat(text) if text.endswith("Z") else parsedate_to_datetime(text)
        if moment.tzinfo is not None:
            return moment
    from botocore.utils import parse_timestamp

    guessed: datetime = parse_timestamp(text)
    return guessed if guessed.tzinfo is not None else guessed.replace(tzinfo=UTC)


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


class _translated:  # noqa: N801  (used as a function)
    """A context in which the SDK's and aiohttp's errors become Sealift's, with the cause chained.

    A plain context manager class: it is on the way of every request.
    """

    __slots__ = ("_bucket", "_key", "_operation")

    def __init__(self, operation: Literal["list", "head", "get"], bucket: str, key: str) -> None:
        self._operation: Literal["list", "head", "get"] = operation
        self._bucket = bucket
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, SealiftError):
            ours = self._translate(error)
            if ours is not None:
                raise ours from error

    def _translate(self, error: Exception) -> SealiftError | None:
        from aiohttp import ClientConnectionError, ClientConnectorError
        from aiohttp import ClientError as AiohttpError
        from botocore import exceptions as sdk
        from botocore.parsers import ResponseParserError

        if isinstance(error, sdk.ClientError):
            if error.operation_name not in _OPERATIONS:
                return CredentialsError(
                    f"credentials cannot be had ({_first_line(error)}): check the role, its trust policy and the "
                    "profile that names it",
                    code=str(error.response.get("Error", {}).get("Code", "")) or None,
                )
            return translate(self._refusal(error.response))
        if isinstance(error, sdk.SSLError):
            return SourceError(
                f"TLS to the endpoint failed ({_first_line(error)}): if it uses a certificate of its own, "
                "name the authority's with --ca-bundle",
                code="TLSError",
            )
        if isinstance(error, _credentials_errors()):
            return CredentialsError(
                f"credentials cannot be had ({_first_line(error)}): set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, choose a --profile, or sign in with aws sso login",
                code=type(error).__name__,
            )
        # The SDK says that it could not connect, too, when an open connection was reset: aiohttp knows better.
        cause = getattr(error, "kwargs", {}).get("error")
        reset = isinstance(cause, ClientConnectionError) and not isinstance(cause, ClientConnectorError)
        unreachable = (sdk.EndpointConnectionError, sdk.ConnectTimeoutError, sdk.ProxyConnectionError)
        if isinstance(error, unreachable) and not reset:
            return Unreachable(
                f"the endpoint cannot be reached ({_first_line(error)}): check AWS_ENDPOINT_URL or --endpoint-url, the "
                "network and its name server",
                bucket=self._bucket,
                key=self._key,
                code="EndpointUnreachable",
            )
        if isinstance(
            error,
            (
                sdk.HTTPClientError,
                sdk.ConnectionError,
                sdk.IncompleteReadError,
                ResponseParserError,
                AiohttpError,
                OSError,
            ),
        ):
            timed_out = isinstance(error, (sdk.ReadTimeoutError, TimeoutError))
            what = "sent nothing for too long" if timed_out else "was lost"
            return Transient(
                f"the connection {what} ({_first_line(error)})",
                bucket=self._bucket,
                key=self._key,
                code="Timeout" if timed_out else "ConnectionLost",
            )
        if isinstance(error, sdk.BotoCoreError) or (isinstance(error, ValueError) and not self._bucket):
            return ConfigError(f"the AWS settings cannot be used: {_first_line(error)}")
        if isinstance(error, ValueError):  # one of the SDK's parsers'
            return Transient(
                f"the server's answer makes no sense ({_first_line(error)})",
                bucket=self._bucket,
                key=self._key,
                code="BadAnswer",
            )
        return None

    def _refusal(self, response: Mapping[str, Any]) -> Refusal:
        error, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
        return Refusal(
            status=meta.get("HTTPStatusCode", 0),
            code=str(error.get("Code", "")),
            message=str(error.get("Message", "")),
            operation=self._operation,
            bucket=self._bucket,
            key=self._key,
            region=str(error.get("Region", "")),
            headers=meta.get("HTTPHeaders", {}),
        )


def _credentials_errors() -> tuple[type[Exception], ...]:
    from botocore import exceptions as sdk

    return (
        sdk.NoCredentialsError,
        sdk.PartialCredentialsError,
        sdk.CredentialRetrievalError,
        sdk.TokenRetrievalError,
        sdk.NoAuthTokenError,
        sdk.SSOError,
        sdk.RefreshWithMFAUnsupportedError,
        sdk.MetadataRetrievalError,
        sdk.UnknownCredentialError,
    )


def _first_line(error: Exception) -> str:
    """Return the first line of the error's text without what may be secret in an address: query and user."""
    text = str(error).partition("\n")[0] or type(error).__name__
    return re.sub(r"//[^/\s\"]*@", "//", text.partition("?")[0])
