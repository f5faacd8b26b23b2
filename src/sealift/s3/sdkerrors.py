"""The SDK's and aiohttp's errors become Sealift's: the seam behind which nobody knows theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

from sealift.errors import ConfigError, CredentialsError, SealiftError, SourceError, Transient, Unreachable
from sealift.s3.translate import Refusal, translate

_OPERATIONS = frozenset({"ListObjectsV2", "ListObjectVersions", "HeadObject", "GetObject", "HeadBucket"})
"""What Sealift asks of S3 (HeadBucket: the SDK, to follow a redirect). Anything else is about credentials."""


class translated:  # noqa: N801  (used as a function)
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
                    f"credentials cannot be had ({first_line(error)}): check the role, its trust policy and the "
                    "profile that names it",
                    code=str(error.response.get("Error", {}).get("Code", "")) or None,
                )
            return translate(self._refusal(error.response))
        if isinstance(error, sdk.SSLError):
            return SourceError(
                f"TLS to the endpoint failed ({first_line(error)}): if it uses a certificate of its own, "
                "name the authority's with --ca-bundle",
                code="TLSError",
            )
        if isinstance(error, _credentials_errors()):
            return CredentialsError(
                f"credentials cannot be had ({first_line(error)}): set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, choose a --profile, or sign in with aws sso login",
                code=type(error).__name__,
            )
        # The SDK says that it could not connect, too, when an open connection was reset: aiohttp knows better.
        cause = getattr(error, "kwargs", {}).get("error")
        reset = isinstance(cause, ClientConnectionError) and not isinstance(cause, ClientConnectorError)
        unreachable = (sdk.EndpointConnectionError, sdk.ConnectTimeoutError, sdk.ProxyConnectionError)
        if isinstance(error, unreachable) and not reset:
            return Unreachable(
                f"the endpoint cannot be reached ({first_line(error)}): check AWS_ENDPOINT_URL or --endpoint-url, the "
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
                f"the connection {what} ({first_line(error)})",
                bucket=self._bucket,
                key=self._key,
                code="Timeout" if timed_out else "ConnectionLost",
            )
        if isinstance(error, sdk.BotoCoreError) or (isinstance(error, ValueError) and not self._bucket):
            return ConfigError(f"the AWS settings cannot be used: {first_line(error)}")
        if isinstance(error, ValueError):  # one of the SDK's parsers'
            return Transient(
                f"the server's answer makes no sense ({first_line(error)})",
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


def first_line(error: Exception) -> str:
    """Return the first line of the error's text without what may be secret in an address: query and user."""
    text = str(error).partition("\n")[0] or type(error).__name__
    return re.sub(r"//[^/\s\"]*@", "//", text.partition("?")[0])
