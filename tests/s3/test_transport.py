"""Who carries the requests: the wire, or the SDK for what the wire does not serve."""

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sealift.config import ConnectionSettings, TransportChoice
from sealift.errors import ConfigError, CredentialsError, SourceError
from sealift.model import ByteRange, Part
from sealift.s3.store import PageRequest
from sealift.s3.transport import Transport
from tests.support.faultserver import FaultServer, FaultServerThread
from tests.support.peer import listening

pytestmark = pytest.mark.anyio

EXPRESS = "b--use1-az4--x-s3"
MULTI_REGION = "arn:aws:s3::123456789012:accesspoint/a.mrap"


@pytest.fixture
async def server():
    async with FaultServer() as server:
        server.put("bucket", "k", b"body")
        yield server


@asynccontextmanager
async def opened(server, notes=None, **settings):
    reached = replace(ConnectionSettings(endpoint_url=server.url), **settings)
    noted = pytest.fail if notes is None else notes.append
    async with Transport(reached, connections=4, noted=noted) as transport:
        yield transport


async def fetched(transport):
    """One listing, one HEAD and one GET."""
    [remote] = (await transport.list_page(PageRequest("bucket", ""))).objects
    assert (await transport.head("bucket", "k")).etag == remote.etag
    async with transport.open(remote, Part(ByteRange(0, 4), whole=True)) as body:
        return bytes(await body.read())


def by_the_sdk(server):
    """Whether each request came from the SDK, which says so."""
    return ["aiobotocore" in request.headers.get("user-agent", "") for request in server.requests]


@pytest.mark.parametrize("choice", TransportChoice)
async def test_requests_are_the_wires_unless_the_sdk_was_chosen(server, choice):
    async with opened(server, transport=choice) as transport:
        assert await fetched(transport) == b"body"
    assert by_the_sdk(server) == [choice is TransportChoice.SDK] * 3


async def test_with_a_profile_the_sdk_is_asked_once_and_sends_nothing_itself(server, tmp_path, monkeypatch):
    (tmp_path / "credentials").write_text("[other]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with opened(server, profile="other") as transport:
        assert await fetched(transport) == b"body"
    assert by_the_sdk(server) == [False] * 3
    assert {request.access_key for request in server.requests} == {"AKIDPROFILE"}


async def test_a_profiles_region_and_endpoint_are_the_wires_too(server, tmp_path, monkeypatch):
    (tmp_path / "config").write_text(
        f"[profile p]\nregion = eu-west-1\nendpoint_url = {server.url}\n"
        "aws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    async with Transport(ConnectionSettings(profile="p"), connections=2, noted=pytest.fail) as transport:
        assert await fetched(transport) == b"body"
    assert all("/eu-west-1/s3/" in request.headers["authorization"] for request in server.requests)


async def test_an_access_point_is_reached_where_the_sdk_says():
    arn = "arn:aws:s3:eu-west-1:111122223333:accesspoint/name"
    async with Transport(ConnectionSettings(region="us-east-1"), connections=2, noted=pytest.fail) as transport:
        access = await transport.access_for([arn])
        assert access is not None
        route = await access.route(arn)
    assert (route.host, route.region) == ("name-111122223333.s3-accesspoint.eu-west-1.amazonaws.com", "eu-west-1")


async def test_without_a_signature_the_wire_sends_none(server):
    async with opened(server, sign=False) as transport:
        assert await fetched(transport) == b"body"
        assert not await transport.renew()
    assert not any("authorization" in request.headers for request in server.requests)


async def test_where_there_are_no_credentials_that_is_said(server, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(CredentialsError):
        async with opened(server):
            pass


# ── Proxies ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def no_exceptions(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


async def test_through_a_proxy_the_sdk_goes_and_that_is_said_once_a_bucket(server, monkeypatch):
    async with listening() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}:{proxy.port}")
        notes: list[str] = []
        async with opened(server, notes) as transport:
            for _ in range(2):
                assert await transport.access_for(["bucket"]) is None
            asking = asyncio.create_task(transport.list_page(PageRequest("bucket", "")))
            page = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            request = await (await proxy.accept()).answers(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page
            )
            assert not (await asking).objects
        assert request.startswith(f"GET {server.url}/bucket?".encode())
        assert notes == ["requests to bucket go through the SDK: an HTTP proxy is set for it"]
        assert not server.requests


@pytest.mark.parametrize("excepted", ["127.0.0.1", "*"])
async def test_what_needs_no_proxy_goes_over_the_wire(server, monkeypatch, excepted):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", excepted)
    async with opened(server) as transport:
        assert await fetched(transport) == b"body"
    assert by_the_sdk(server) == [False] * 3


async def test_a_proxy_for_the_other_scheme_is_none(server, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    async with opened(server) as transport:
        assert await fetched(transport) == b"body"
    assert by_the_sdk(server) == [False] * 3


async def test_https_goes_through_the_proxy_for_it(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    notes: list[str] = []
    async with Transport(ConnectionSettings(region="eu-west-1"), connections=1, noted=notes.append) as transport:
        assert await transport.access_for(["bucket"]) is None
    assert len(notes) == 1


async def test_the_wire_alone_does_not_pass_a_proxy_by(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with opened(server, transport=TransportChoice.WIRE) as transport:
        with pytest.raises(ConfigError, match="--transport wire: an HTTP proxy is set"):
            await transport.list_page(PageRequest("bucket", ""))
    assert not server.requests


# ── What the wire does not serve ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("bucket", "why"), [(EXPRESS, "S3 Express"), (MULTI_REGION, "SigV4A")])
async def test_buckets_that_want_another_signature_are_the_sdks(bucket, why):
    notes: list[str] = []
    async with Transport(ConnectionSettings(region="us-east-1"), connections=1, noted=notes.append) as transport:
        assert await transport.access_for([bucket]) is None
        assert await transport.access_for(["plain"]) is not None
    [note] = notes
    assert note.startswith(f"requests to {bucket} go through the SDK: ")
    assert why in note


async def test_the_wire_alone_refuses_them():
    settings = ConnectionSettings(region="us-east-1", transport=TransportChoice.WIRE)
    async with Transport(settings, connections=1, noted=pytest.fail) as transport:
        with pytest.raises(ConfigError, match=r"S3 Express.*leave the choice to auto"):
            await transport.head(EXPRESS, "k")


async def test_others_may_use_the_wire_where_it_serves_all_their_buckets(server):
    async with opened(server) as transport:
        access = await transport.access_for(["bucket", "other"])
        assert access is not None
        assert (await access.route("other")).base_path == "/other"
        assert not server.requests
    async with opened(server, transport=TransportChoice.SDK) as transport:
        assert await transport.access_for(["bucket"]) is None


# ── Plain HTTP ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("choice", TransportChoice)
async def test_nothing_is_sent_in_the_clear_over_a_network_unless_that_was_asked_for(choice):
    settings = ConnectionSettings(endpoint_url="http://s3.example.com", transport=choice)
    with pytest.raises(ConfigError, match="--allow-http"):
        async with Transport(settings, connections=1, noted=pytest.fail) as transport:
            await transport.list_page(PageRequest("bucket", ""))


async def test_it_is_sent_where_that_was_asked_for():
    settings = ConnectionSettings(endpoint_url="http://no-such-host.invalid", allow_http=True)
    async with Transport(settings, connections=1, noted=pytest.fail) as transport:
        assert await transport.access_for(["bucket"]) is not None


async def test_a_bundle_without_certificates_is_a_wrong_setting(tmp_path):
    (tmp_path / "none.pem").write_text("no certificate\n")
    settings = ConnectionSettings(endpoint_url="https://127.0.0.1:9", ca_bundle=tmp_path / "none.pem")
    async with Transport(settings, connections=1, noted=pytest.fail) as transport:
        with pytest.raises((ConfigError, SourceError), match=r"none\.pem"):
            await transport.list_page(PageRequest("bucket", ""))


# ── The SDK is not imported ─────────────────────────────────────────────────────────────────────────

PROGRAM = """
import sys
from sealift.cli.entry import main
status = main(sys.argv[1:])
print(status, sorted(name for name in sys.modules if name in {"aioboto3", "aiobotocore", "botocore", "aiohttp"}))
"""


def mirrored(server, destination, *options):
    """Mirror in a process of its own; return its status and which of the SDK's parts it had imported."""
    arguments = ["mirror", "s3://bucket/", str(destination), "--quiet", "--endpoint-url", server.url, *options]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=os.environ, capture_output=True, text=True, timeout=60
    )
    return done.stdout.splitlines()[-1] if done.stdout else done.stderr


def test_with_keys_in_the_environment_the_sdk_is_never_imported(tmp_path):
    with FaultServerThread() as server:
        server.put("bucket", "k", b"body")
        assert mirrored(server, tmp_path / "wire") == "0 []"
        assert "'botocore'" in mirrored(server, tmp_path / "sdk", "--transport", "sdk")
        assert (tmp_path / "wire" / "k").read_bytes() == (tmp_path / "sdk" / "k").read_bytes() == b"body"
