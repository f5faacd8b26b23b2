"""Routes as the SDK finds them, held against the request that the SDK itself would send."""

import re

import pytest

from sealift.config import ConnectionSettings
from sealift.s3.route import OffTheWireError, Route
from sealift.s3.sdkaccess import SdkAccess
from sealift.s3.sdksession import SdkSession

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"  # the loop has no part in it


class Stop(Exception):
    """The request is known; it is not sent."""


async def asked(bucket, settings):
    """The route to a bucket, and the one that the SDK itself would take."""
    seen = []

    def look(request, **_):
        seen.append(request)
        raise Stop

    async with SdkSession(settings, connections=1) as session, session.client() as client:
        route = await SdkAccess(session).route(bucket)
        client.meta.events.register("before-send.s3.GetObject", look)
        with pytest.raises(Stop):
            await client.get_object(Bucket=bucket, Key="k")
        authorization = seen[0].headers.get("Authorization", b"")
        scope = re.search(rb"/\d{8}/([^/]+)/s3/", authorization)
        region = scope[1].decode() if scope else client.meta.region_name
        return route, Route.to(seen[0].url.removesuffix("/k"), region)


def profile(monkeypatch, tmp_path, **settings):
    """AWS's configuration file, with these settings for S3."""
    lines = [f"{name} = {value}\n" for name, value in settings.items() if not name.startswith("s3_")]
    nested = [f"  {name[3:]} = {value}\n" for name, value in settings.items() if name.startswith("s3_")]
    (tmp_path / "config").write_text("".join(["[default]\n", *lines, *(["s3 =\n", *nested] if nested else [])]))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


PROFILES = {
    "plain": {},
    "dual-stack": {"use_dualstack_endpoint": "true"},
    "FIPS": {"use_fips_endpoint": "true"},
    "both": {"use_dualstack_endpoint": "true", "use_fips_endpoint": "true"},
    "accelerated": {"s3_use_accelerate_endpoint": "true"},
    "by path": {"s3_addressing_style": "path"},
    "by host": {"s3_addressing_style": "virtual"},
    "regional": {"s3_us_east_1_regional_endpoint": "regional"},
}


@pytest.mark.parametrize("bucket", ["plain", "dotted.name", "arn:aws:s3:us-west-2:123456789012:accesspoint/point"])
@pytest.mark.parametrize("settings", PROFILES.values(), ids=PROFILES)
async def test_a_route_is_the_way_that_the_sdk_would_take(monkeypatch, tmp_path, bucket, settings):
    if settings is PROFILES["accelerated"] and bucket != "plain":
        pytest.skip("the SDK refuses that")
    profile(monkeypatch, tmp_path, **settings)
    region = "us-west-2" if bucket.startswith("arn:") else "us-east-1"
    route, expected = await asked(bucket, ConnectionSettings(region=region))
    assert route == expected


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1"])
@pytest.mark.parametrize("sign", [True, False])
async def test_the_same_in_other_regions_and_without_a_signature(region, sign):
    route, expected = await asked("plain", ConnectionSettings(region=region, sign=sign))
    assert route == expected
    assert route.region == region


@pytest.mark.parametrize(
    "endpoint_url", ["http://127.0.0.1:9000", "https://s3.example.com:8443/base/path", "http://[::1]:9000"]
)
@pytest.mark.parametrize("bucket", ["plain", "dotted.name", "UPPER"])
async def test_the_same_at_an_endpoint_of_ones_own(endpoint_url, bucket):
    route, expected = await asked(bucket, ConnectionSettings(endpoint_url=endpoint_url, allow_http=True))
    assert route == expected


@pytest.mark.parametrize(
    ("bucket", "why"),
    [
        ("b--use1-az4--x-s3", "S3 Express"),
        ("p--use1-az4--xa-s3", "S3 Express"),
        ("arn:aws:s3::123456789012:accesspoint/a.mrap", "SigV4A"),
        ("arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/p", "AWS4-ECDSA"),
        ("arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/p", "s3-object-lambda"),
    ],
)
async def test_what_is_signed_in_another_way_is_not_for_the_wire(bucket, why):
    async with SdkSession(ConnectionSettings(region="us-west-2"), connections=1) as session:
        with pytest.raises(OffTheWireError, match=why):
            await SdkAccess(session).route(bucket)
