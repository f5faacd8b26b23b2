"""The SDK's session and client: profiles, SSO, roles, endpoints and Regions are its business.

The SDK's own retries are off (`sealift.retry` has the one policy), and so are aiohttp's, and the checksum trailers,
which no ranged GET carries.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import anyio

from sealift import __version__
from sealift.config import ConnectionSettings
from sealift.errors import CredentialsError
from sealift.s3.plainhttp import refuse_plain_http
from sealift.s3.sdkerrors import translated
from sealift.s3.signing import Credentials
from sealift.s3.tls import tls_context

_DEFAULT_REGION = "us-east-1"
"""What the SDK signs for where no Region is set and an endpoint of one's own is."""

RAW_PAGE = "SealiftPage"
"""Where in the SDK's answer to a listing its body is."""


class _Client:
    """One SDK client, closed by the last one to leave it."""

    def __init__(self, client: Any, stack: AsyncExitStack, credentials: Any, identity: object) -> None:
        self.client = client
        self.credentials = credentials
        self.identity = identity
        self._stack = stack
        self._users = 1  # the session's own hold

    def enter(self) -> Any:
        self._users += 1
        return self.client

    async def leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            with anyio.CancelScope(shield=True):
                await self._stack.aclose()


class SdkSession:
    """Who asks, and where: an aioboto3 client and its credentials, as an async context manager.

    `connections` bounds the pool. Raises ConfigError on entering where the settings cannot be meant.
    """

    def __init__(self, settings: ConnectionSettings, *, connections: int) -> None:
        self._settings = settings
        self._connections = connections
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
        with translated("list", "", ""):
            frozen = await current.credentials.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    async def signed(self, bucket: str, key: str) -> tuple[str, str, str]:
        """Return a GET's URL and Authorization header, and the client's Region: the SDK's word on where `bucket` is.

        It is not sent. Raises ConfigError, CredentialsError.
        """
        async with self.client() as client:
            region: str = client.meta.region_name or _DEFAULT_REGION
            request: Any = None
            asking = _not_to_be_sent.set(True)
            try:
                with translated("list", "", ""):
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

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """Lend the client. One that was lent outlives the renewal of the credentials."""
        current = self._entered()
        client = current.enter()
        try:
            yield client
        finally:
            await current.leave()

    def _entered(self) -> _Client:
        if self._current is None:
            msg = "the SDK's session is not open"
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
            with translated("list", "", ""):
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
                        verify=verified_by(bundle),
                        config=AioConfig(**config, http_session_cls=_http_session()),
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


def verified_by(bundle: str | Path | None) -> str | Literal[True]:
    """Return the SDK's `verify`. Never None: the SDK takes an empty AWS_CA_BUNDLE for "do not verify"."""
    return os.fspath(bundle) if bundle else True


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
def _http_session() -> Any:
    """Return the class of the SDK's HTTP sessions, but that each request goes out once.

    aiohttp sends a GET or HEAD again by itself, once, where the connection was lost before an answer: KMS would be
    asked twice, and one of the two never counted. Neither library has a setting for that. Should one of these
    attributes get another name, it is sent again as before, which a test tells.
    """
    from aiobotocore.httpsession import AIOHTTPSession

    class OneAttempt(AIOHTTPSession):  # type: ignore[misc]  # untyped
        async def _get_session(self, proxy_url: str | None) -> Any:
            session = await super()._get_session(proxy_url)
            session._retry_connection = False  # noqa: SLF001
            return session

    return OneAttempt


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
            customized_response_dict[RAW_PAGE] = response_dict["body"]
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
