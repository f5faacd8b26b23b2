"""The seam: the SDK's errors become ours."""

import ssl

import aiohttp
import anyio
import pytest
from anyio.abc import SocketAttribute
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from sealift.config import ConnectionSettings
from sealift.errors import ConfigError, CredentialsError, Refused, SourceError, Throttled, Transient, Unreachable
from sealift.s3.sdkerrors import translated
from sealift.s3.store import PageRequest
from tests.support.sdk import sdk_store

SECRET = "https://user:hunter2@h.example.com/b/k?X-Amz-Security-Token=hunter2&X-Amz-Signature=hunter2"


def client_error(code, operation):
    return sdk.ClientError(
        {"Error": {"Code": code, "Message": "No."}, "ResponseMetadata": {"HTTPStatusCode": 403}}, operation
    )


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (sdk.EndpointConnectionError(endpoint_url=SECRET), Unreachable, "EndpointUnreachable"),
        (sdk.ConnectTimeoutError(endpoint_url=SECRET), Unreachable, "EndpointUnreachable"),
        (sdk.ProxyConnectionError(proxy_url=SECRET), Unreachable, "EndpointUnreachable"),
        (
            sdk.EndpointConnectionError(endpoint_url=SECRET, error=aiohttp.ServerDisconnectedError()),
            Transient,
            "ConnectionLost",
        ),
        (sdk.ReadTimeoutError(endpoint_url=SECRET), Transient, "Timeout"),
        (aiohttp.SocketTimeoutError(SECRET), Transient, "Timeout"),
        (TimeoutError(), Transient, "Timeout"),
        (sdk.ConnectionClosedError(endpoint_url=SECRET), Transient, "ConnectionLost"),
        (sdk.HTTPClientError(error=SECRET), Transient, "ConnectionLost"),
        (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), Transient, "ConnectionLost"),
        (aiohttp.ClientPayloadError(f"not enough from {SECRET}"), Transient, "ConnectionLost"),
        (ConnectionResetError(104, "reset"), Transient, "ConnectionLost"),
        (ResponseParserError("no XML"), Transient, "ConnectionLost"),
        (sdk.SSLError(endpoint_url=SECRET, error=ssl.SSLError()), SourceError, "TLSError"),
        (client_error("AccessDenied", "AssumeRole"), CredentialsError, "AccessDenied"),
        (client_error("AccessDenied", "GetObject"), Refused, "AccessDenied"),
        (sdk.NoCredentialsError(), CredentialsError, "NoCredentialsError"),
        (sdk.TokenRetrievalError(provider="sso", error_msg=SECRET), CredentialsError, "TokenRetrievalError"),
        (sdk.UnauthorizedSSOTokenError(), CredentialsError, "UnauthorizedSSOTokenError"),
        (sdk.InvalidRegionError(region_name="no region"), ConfigError, "ConfigError"),
        (ValueError(f"Invalid timestamp: {SECRET}"), Transient, "BadAnswer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_the_sdk_becomes_one_of_ours_that_names_it_and_tells_no_secret(error, kind, code):
    with pytest.raises(kind) as caught, translated("get", "bucket", "k"):
        raise error
    ours = caught.value
    assert type(ours) is kind
    assert ours.code == code
    assert ours.__cause__ is error
    assert "hunter2" not in ours.message
    assert "X-Amz" not in ours.message
    assert "\n" not in ours.message
    if isinstance(ours, (Transient, Refused)):
        assert (ours.bucket, ours.key) == ("bucket", "k")


def test_what_the_sdk_makes_of_settings_before_it_asks_anybody_is_about_them():
    with pytest.raises(ConfigError) as caught, translated("list", "", ""):
        raise ValueError(f"Invalid endpoint: {SECRET}")
    assert caught.value.message == "the AWS settings cannot be used: Invalid endpoint: https://h.example.com/b/k"


@pytest.mark.parametrize("error", [KeyError("a bug"), Throttled("slow", service="s3"), KeyboardInterrupt()])
def test_what_is_not_the_sdks_goes_through_as_it_is(error):
    with pytest.raises(type(error)) as caught, translated("get", "bucket", "k"):
        raise error
    assert caught.value is error
    assert error.__cause__ is None


@pytest.mark.anyio
async def test_tls_with_a_server_that_has_none_says_what_may_be_wrong():
    async def answer(stream):
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        port = listener.extra(SocketAttribute.local_port)
        async with sdk_store(ConnectionSettings(endpoint_url=f"https://127.0.0.1:{port}")) as store:
            with pytest.raises(SourceError, match="--ca-bundle") as caught:
                await store.list_page(PageRequest("bucket", ""))
        assert caught.value.code == "TLSError"
        group.cancel_scope.cancel()
