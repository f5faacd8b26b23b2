"""Who carries the requests, for each bucket."""

import subprocess
import sys
from dataclasses import replace

import pytest

from sealift.config import ConnectionSettings, TransportChoice
from sealift.errors import ConfigError
from sealift.s3.sdk import SdkStore
from sealift.s3.transport import Transport
from sealift.s3.wire import WireStore
from tests.support.faultserver import FaultServer, FaultServerThread

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server():
    async with FaultServer() as server:
        server.bucket("bucket")
        server.put("bucket", "k", b"body")
        yield server


async def chosen(settings, bucket="bucket"):
    said: list[str] = []
    async with Transport(settings, connections=2, noted=said.append) as transport:
        return await transport._choose(bucket), said


@pytest.mark.parametrize(
    ("choice", "kind"),
    [(TransportChoice.AUTO, WireStore), (TransportChoice.WIRE, WireStore), (TransportChoice.SDK, SdkStore)],
)
async def test_the_wire_serves_an_ordinary_bucket_unless_told_otherwise(server, choice, kind):
    store, said = await chosen(ConnectionSettings(endpoint_url=server.url, transport=choice))
    assert isinstance(store, kind)
    assert said == []


async def test_a_profile_is_the_sdks_to_read_and_the_wire_goes_by_it(server, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text(
        f"[profile p]\nregion = eu-west-1\nendpoint_url = {server.url}\n"
        "aws_access_key_id = PROFILES\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    async with Transport(ConnectionSettings(profile="p"), connections=2, noted=print) as transport:
        page = await transport.list_page("bucket", "")
        assert isinstance(await transport._choose("bucket"), WireStore)
    assert [remote.key for remote in page.objects] == ["k"]
    [request] = server.requests
    assert request.access_key == "PROFILES"
    assert "/eu-west-1/s3/" in request.headers["authorization"]


async def test_a_proxy_is_the_sdks_business_and_said(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    settings = ConnectionSettings(endpoint_url=server.url)
    store, said = await chosen(settings)
    assert isinstance(store, SdkStore)
    assert said == ["requests to bucket go through the SDK: an HTTP proxy is set for it"]
    with pytest.raises(ConfigError, match="--transport wire: an HTTP proxy"):
        await chosen(replace(settings, transport=TransportChoice.WIRE))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert isinstance((await chosen(settings))[0], WireStore)


@pytest.mark.parametrize("bucket", ["b--use1-az4--x-s3", "arn:aws:s3::111122223333:accesspoint/m.mrap"])
async def test_what_the_wire_does_not_speak_goes_through_the_sdk(bucket):
    store, [said] = await chosen(ConnectionSettings(), bucket)
    assert isinstance(store, SdkStore)
    assert said.startswith(f"requests to {bucket} go through the SDK: ")


async def test_an_access_point_is_reached_where_the_sdk_says():
    arn = "arn:aws:s3:eu-west-1:111122223333:accesspoint/name"
    async with Transport(ConnectionSettings(), connections=2, noted=pytest.fail) as transport:
        access = await transport.access_for([arn])
        assert access is not None
        route = await access.route(arn)
    assert (route.host, route.region) == ("name-111122223333.s3-accesspoint.eu-west-1.amazonaws.com", "eu-west-1")


async def test_plain_http_over_a_network_is_refused():
    with pytest.raises(ConfigError, match="--allow-http"):
        await chosen(ConnectionSettings(endpoint_url="http://s3.example.com"))


def test_where_the_environment_tells_everything_the_sdk_is_not_imported(tmp_path):
    with FaultServerThread() as server:
        server.put("bucket", "k", b"body")
        code = (
            "import anyio, sys, sealift\n"
            "settings = sealift.Settings(connection=sealift.ConnectionSettings(endpoint_url=sys.argv[1]))\n"
            "summary = anyio.run(sealift.mirror, ['s3://bucket'], sys.argv[2], settings)\n"
            "assert summary.downloaded == 1, summary\n"
            "assert not {'botocore', 'aioboto3', 'aiohttp'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", code, server.url, str(tmp_path)], check=True)
