"""The store on the SDK: what it sends, what it makes of what comes back, and who it says it is."""

import os
import re
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import anyio
import pytest
from anyio.abc import SocketAttribute
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from sealift.config import ConnectionSettings
from sealift.errors import (
    ConfigError,
    CredentialsError,
    Permanent,
    Refused,
    SourceError,
    Throttled,
    Transient,
    Unreachable,
)
from sealift.model import ByteRange, Part, RemoteObject
from sealift.s3.plainhttp import refuse_plain_http
from sealift.s3.sdk import SdkStore, _translated, parse_moment
from sealift.s3.store import PageRequest
from tests.support.faultserver import Answer, Call, FaultServer, ResetBeforeHead, Stall
from tests.support.faultserver.content import InMemory, Resized
from tests.support.faultserver.wire import xml_response

pytestmark = pytest.mark.anyio

REMOTE = RemoteObject("bucket", "k", 4, '"e"', 0)


@pytest.fixture
async def server():
    async with FaultServer() as server:
        server.bucket("bucket")
        yield server


def store_at(server, **connection):
    return SdkStore(replace(ConnectionSettings(endpoint_url=server.url), **connection), connections=4)


def whole(remote):
    return Part(ByteRange(0, remote.size), whole=True)


async def body_of(store, remote, part=None):
    async with store.open(remote, part or whole(remote)) as body:
        data = bytearray()
        while chunk := await body.read():
            data += chunk
        return bytes(data)


# ── Plain HTTP ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.example.com",
        "http://127.0.0.1:9000",
        "http://127.8.9.10",
        "http://[::1]:9000",
        "http://localhost:9000",
        "http://minio.localhost",
    ],
)
def test_what_stays_on_this_machine_or_is_encrypted_is_not_refused(endpoint):
    refuse_plain_http(endpoint, allowed=False)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://s3.example.com",
        "http://10.0.0.1:9000",
        "http://0.0.0.0:9000",
        "http://[fe80::1]",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "http://2130706433",
        "ftp://127.0.0.1.example.com",
        "http://",
    ],
)
def test_everything_else_is_refused_unless_it_was_asked_for(endpoint):
    with pytest.raises(ConfigError, match="--allow-http"):
        refuse_plain_http(endpoint, allowed=False)
    refuse_plain_http(endpoint, allowed=True)


def test_a_refused_address_does_not_tell_who_would_have_signed_in():
    with pytest.raises(ConfigError) as caught:
        refuse_plain_http("http://user:hunter2@s3.example.com/path", allowed=False)
    assert "http://s3.example.com is not encrypted" in caught.value.message
    assert "hunter2" not in caught.value.message


async def test_an_endpoint_from_the_environment_is_held_to_it_as_well(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.com")
    with pytest.raises(ConfigError, match=r"http://s3\.example\.com"):
        await SdkStore(ConnectionSettings(), connections=1).__aenter__()
    async with SdkStore(ConnectionSettings(allow_http=True), connections=1):
        pass


# ── What is sent ────────────────────────────────────────────────────────────────────────────────────


async def test_every_request_says_who_pays(server):
    server.put("bucket", "k", b"body")
    async with store_at(server, request_payer=True) as store:
        [remote] = (await store.list_page(PageRequest("bucket", ""))).objects
        await store.head("bucket", "k")
        await body_of(store, remote)
    assert [request.headers["x-amz-request-payer"] for request in server.requests] == ["requester"] * 3


async def test_every_request_says_what_asks_it(server):
    async with store_at(server) as store:
        await store.list_page(PageRequest("bucket", ""))
    [request] = server.requests
    assert re.fullmatch(
        r"sealift/\S+ aiobotocore/\S+ Python/\S+ \S+ awscrt/\S+ botocore/\S+", request.headers["user-agent"]
    )


async def test_without_signing_there_is_no_signature_and_nothing_to_renew(server, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    server.put("bucket", "k", b"body")
    async with store_at(server, sign=False) as store:
        assert (await store.head("bucket", "k")).size == 4
        assert not await store.renew()
    assert "authorization" not in server.requests[0].headers


async def test_a_version_is_asked_for_where_it_is_known(server):
    server.put("bucket", "k", b"old", version_id="1")
    server.put("bucket", "k", b"newer", version_id="2")
    async with store_at(server) as store:
        old = await store.head("bucket", "k", "1")
        assert (old.size, old.version_id) == (3, "1")
        assert await body_of(store, old) == b"old"
        assert (await store.head("bucket", "k")).size == 5


async def test_a_body_that_was_read_to_its_end_leaves_its_connection_for_the_next(server):
    stored = server.put("bucket", "k", os.urandom(1_000_000))
    async with store_at(server) as store:
        remote = await store.head("bucket", "k")
        for _ in range(3):
            assert await body_of(store, remote) == stored.body
        assert server.connections == 1
        for _ in range(2):
            async with store.open(remote, whole(remote)) as body:
                await body.read()
    assert server.connections == 2, "a connection with bytes that nobody read is of no more use"


async def test_a_store_that_is_not_open_says_so():
    store = SdkStore(ConnectionSettings(endpoint_url="http://localhost:9"), connections=1)
    with pytest.raises(RuntimeError, match="not open"):
        await store.head("bucket", "k")


# ── Listings ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>same</NextContinuationToken>"])
async def test_a_listing_that_goes_on_nowhere_is_an_error_and_no_endless_loop(server, token):
    page = f"<ListBucketResult><IsTruncated>true</IsTruncated>{token}</ListBucketResult>"

    async def answer(exchange):
        await exchange.send(xml_response(page))

    server.fault(op="list", do=Call(answer))
    async with store_at(server) as store:
        with pytest.raises(SourceError, match="does not go on"):
            await store.list_page(PageRequest("bucket", "", token="same"))


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-17T08:30:00.000Z",
        "2024-05-17T08:30:00Z",
        "2024-05-17T08:30:00.123456Z",
        "2024-05-17T08:30:00+02:00",
        "20240517T083000Z",
        "Fri, 17 May 2024 08:30:00 GMT",
        "Friday, 17-May-24 08:30:00 GMT",
        "Fri, 17 May 2024 10:30:00 +0200",
        "1715934600",
        1715934600,  # in JSON, from other services of the same session
        1715934600.5,
    ],
)
def test_times_are_what_the_sdk_makes_of_them(text):
    assert parse_moment(text) == parse_timestamp(text)


@given(st.integers(0, 10**17))
def test_any_time_is_read_with_the_precision_it_was_written_with(microseconds):
    exact = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert parse_moment(exact.isoformat().replace("+00:00", "Z")) == exact
    assert parse_moment(exact.strftime("%a, %d %b %Y %H:%M:%S GMT")) == exact.replace(microsecond=0)


@pytest.mark.parametrize("text", ["2024-05-17T08:30:00", "Fri May 17 08:30:00 2024"])
def test_a_time_without_a_zone_is_utc(text):
    assert parse_moment(text) == datetime(2024, 5, 17, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01T00:00:00Z"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the SDK's own, which the seam makes one of ours
        parse_moment(text)


async def test_an_answer_that_makes_no_sense_is_worth_another_try(server):
    page = "<ListBucketResult><Contents><Key>k</Key><LastModified>then</LastModified></Contents></ListBucketResult>"

    async def answer(exchange):
        await exchange.send(xml_response(page))

    server.fault(op="list", do=Call(answer))
    async with store_at(server) as store:
        with pytest.raises(Transient, match="makes no sense"):
            await store.list_page(PageRequest("bucket", ""))


async def test_an_error_document_with_status_200_is_the_error_that_it_says(server):
    async def answer(exchange):
        await exchange.send(xml_response("<Error><Code>SlowDown</Code><Message>Please reduce</Message></Error>"))

    server.fault(op="list", do=Call(answer))
    async with store_at(server) as store:
        with pytest.raises(Throttled):
            await store.list_page(PageRequest("bucket", ""))


# ── Heads ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_head_that_is_refused_without_a_word_is_explained_by_a_get(server):
    server.put("bucket", "k", b"body")
    denied = Answer(403, "AccessDenied", "User: arn:aws:iam::1:user/u is not authorized to perform: kms:Decrypt on x")
    server.fault(op="any", do=denied, times=None)
    async with store_at(server) as store:
        with pytest.raises(Refused, match="kms:Decrypt"):
            await store.head("bucket", "k")
    assert [request.op for request in server.requests] == ["head", "get"]
    assert server.requests[1].range == (0, 1)


@pytest.mark.parametrize("body", [b"body", b""], ids=["with bytes", "empty"])
async def test_a_head_that_fails_where_a_get_would_not_is_that_failure(server, body):
    server.put("bucket", "k", body)
    server.fault(op="head", do=Answer(429, "TooManyRequests", "Please reduce your request rate."))
    async with store_at(server) as store:
        with pytest.raises(Throttled):
            await store.head("bucket", "k")
        assert (await store.head("bucket", "k")).size == len(body)


async def test_a_head_that_nobody_answers_is_not_asked_why(server):
    server.put("bucket", "k", b"body")
    server.fault(op="head", do=ResetBeforeHead(), times=2)  # aiohttp asks once more by itself
    async with store_at(server) as store:
        with pytest.raises(Transient) as caught:
            await store.head("bucket", "k")
    assert caught.value.code == "ConnectionLost"
    assert server.gets == 0


async def test_a_key_that_is_not_utf8_is_refused_before_anything_is_sent(server):
    remote = REMOTE._replace(key="\udcff")
    async with store_at(server) as store:
        for ask in (store.head("bucket", remote.key), body_of(store, remote)):
            with pytest.raises(Permanent, match="not UTF-8") as caught:
                await ask
            assert (caught.value.code, caught.value.key) == ("InvalidKey", "\udcff")
    assert server.requests == []


# ── Bodies ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [3, 5])
async def test_a_chunked_body_of_another_length_is_no_body(server, size):
    server.put("bucket", "k", b"body")

    async def answer(exchange):
        response = exchange.response()
        response.content, response.chunked = Resized(InMemory(b"body"), size), True
        await exchange.send(response)

    async with store_at(server) as store:
        remote = await store.head("bucket", "k")
        server.fault(op="get", do=Call(answer))
        with pytest.raises(Transient) as caught:
            await body_of(store, remote)
        assert caught.value.code == "IncompleteBody"
        assert await body_of(store, remote) == b"body"


# ── Who asks ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def keys(monkeypatch, tmp_path):
    """Put an access key id into a shared credentials file, as a tool that rotates them does."""
    path = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    def write(access_key, *more):
        lines = ["[default]", f"aws_access_key_id = {access_key}", "aws_secret_access_key = hunter2", *more]
        path.write_text("\n".join(lines))

    return write


async def test_rotated_credentials_are_found_and_used_from_then_on(server, keys):
    keys("OLD")
    server.put("bucket", "k", b"body")
    async with store_at(server) as store:
        await store.head("bucket", "k")
        assert not await store.renew(), "nothing has changed yet"
        keys("NEW")
        assert await store.renew()
        await store.head("bucket", "k")
        keys("NEW", "aws_session_token = another")
        assert await store.renew(), "a fresh token is as good as a fresh key"
    assert [request.access_key for request in server.requests] == ["OLD", "NEW"]


async def test_a_profile_of_the_settings_goes_before_the_environments(server, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_PROFILE", "one")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    lines = [f"[{name}]\naws_access_key_id = {name.upper()}\naws_secret_access_key = s\n" for name in ("one", "two")]
    (tmp_path / "credentials").write_text("".join(lines))
    for profile in (None, "two"):
        async with store_at(server, profile=profile) as store:
            await store.list_page(PageRequest("bucket", ""))
    assert [request.access_key for request in server.requests] == ["ONE", "TWO"]


async def test_many_that_find_their_credentials_stale_renew_them_once(server, keys):
    keys("OLD")
    renewed = []
    async with store_at(server) as store:
        keys("NEW")

        async def renew():
            renewed.append(await store.renew())

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(renew)
        assert renewed == [True] * 5
        assert not await store.renew()


async def test_a_body_under_way_outlives_the_renewal_of_the_credentials(server, keys):
    keys("OLD")
    stored = server.put("bucket", "k", os.urandom(3_000_000))
    async with store_at(server) as store:
        remote = await store.head("bucket", "k")
        async with store.open(remote, whole(remote)) as body:
            data = bytearray(await body.read())
            keys("NEW")
            assert await store.renew()
            while chunk := await body.read():
                data += chunk
    assert data == stored.body


@pytest.mark.parametrize(
    ("profile", "lines", "code", "error"),
    [
        (None, "", "NoCredentials", CredentialsError),
        (None, "[default]\naws_access_key_id = A", "PartialCredentialsError", CredentialsError),
        (None, "[default]\ncredential_process = /bin/false", "CredentialRetrievalError", CredentialsError),
        ("nobody", "[default]\naws_access_key_id = A\naws_secret_access_key = B", "ConfigError", ConfigError),
        (None, "no profile here", "ConfigError", ConfigError),
    ],
    ids=["none", "half", "a process that fails", "another profile", "no credentials file"],
)
async def test_credentials_that_cannot_be_had_end_it_before_it_begins(
    server, monkeypatch, tmp_path, profile, lines, code, error
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "file"))
    (tmp_path / "file").write_text(lines)
    with pytest.raises(error) as caught:
        await store_at(server, profile=profile).__aenter__()
    assert caught.value.code == code
    assert server.requests == []


# ── The seam: the SDK's errors become ours ──────────────────────────────────────────────────────────

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
    with pytest.raises(kind) as caught, _translated("get", "bucket", "k"):
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
    with pytest.raises(ConfigError) as caught, _translated("list", "", ""):
        raise ValueError(f"Invalid endpoint: {SECRET}")
    assert caught.value.message == "the AWS settings cannot be used: Invalid endpoint: https://h.example.com/b/k"


@pytest.mark.parametrize("error", [KeyError("a bug"), Throttled("slow", service="s3"), KeyboardInterrupt()])
def test_what_is_not_the_sdks_goes_through_as_it_is(error):
    with pytest.raises(type(error)) as caught, _translated("get", "bucket", "k"):
        raise error
    assert caught.value is error
    assert error.__cause__ is None


async def test_cancellation_goes_through_as_it_is(server):
    server.put("bucket", "k", b"body")
    held = server.fault(op="get", do=Stall("head"))
    async with store_at(server) as store:
        remote = await store.head("bucket", "k")
        async with anyio.create_task_group() as group:
            group.start_soon(body_of, store, remote)
            await held.reached()
            group.cancel_scope.cancel()
        assert await body_of(store, remote) == b"body", "the store is as good as new"


async def test_tls_with_a_server_that_has_none_says_what_may_be_wrong():
    async def answer(stream):
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        port = listener.extra(SocketAttribute.local_port)
        async with SdkStore(ConnectionSettings(endpoint_url=f"https://127.0.0.1:{port}"), connections=1) as store:
            with pytest.raises(SourceError, match="--ca-bundle") as caught:
                await store.list_page(PageRequest("bucket", ""))
        assert caught.value.code == "TLSError"
        group.cancel_scope.cancel()


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "something else"])
@pytest.mark.parametrize("named", ["in the settings", "in the environment"])
async def test_a_ca_bundle_that_is_none_is_told_at_once(server, monkeypatch, tmp_path, content, named):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    if named == "in the environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(ConfigError, match=r"bundle\.pem cannot be used"):
        await store_at(server, ca_bundle=bundle if named == "in the settings" else None).__aenter__()
