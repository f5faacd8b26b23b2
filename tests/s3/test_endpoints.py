"""Where buckets lie, held against the SDK: the request that it would send."""

import functools
import re

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from hypothesis import example, given
from hypothesis import strategies as st

from sealift.s3.endpoints import bucket_url
from sealift.s3.route import Route

REGIONS = ["us-east-1", "us-west-2", "eu-west-1", "ap-southeast-5", "il-central-1", "cn-north-1", "us-gov-west-1"]
ENDPOINTS = [
    "http://127.0.0.1:9000",
    "https://s3.example.com",
    "https://s3.example.com:8443/",
    "http://[::1]:9000",
]
PLACES = [(region, None) for region in REGIONS] + [
    (region, endpoint_url) for region in ("us-east-1", "eu-west-1") for endpoint_url in ENDPOINTS
]
BUCKETS = [
    "plain",
    "with-dashes-1",
    "abc",
    "x" * 63,
    "dotted.name",
    "a..b",
    "1.2.3.4",
    "UPPER",
    "Mixed-Case",
    "under_score",
    "-leading",
    "trailing-",
    "123",
    "xn--punycode",
    "x" * 64,
    "long." * 50,
    "s3",
    "s3-eu-west-1",
    "alias-s3alias",
    "a--b",
    "aws",
]


class Stop(Exception):
    """The request is known; it is not sent."""


@functools.cache
def client(region, endpoint_url):
    session = botocore.session.Session()
    made = session.create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def look(request, **_):
        raise Stop(request.url, request.headers["Authorization"].decode())

    made.meta.events.register("before-send.s3.GetObject", look)
    return made


def sent_by_the_sdk(bucket, region, endpoint_url):
    """The URL and the Region of a GET; None where the SDK would not send it."""
    try:
        client(region, endpoint_url).get_object(Bucket=bucket, Key="k")
    except Stop as stop:
        url, authorization = stop.args
        [signed_for] = re.findall(r"/\d{8}/([^/]+)/s3/", authorization)
        return url.removesuffix("/k"), signed_for
    except BotoCoreError:
        return None
    raise AssertionError


@pytest.mark.parametrize(("region", "endpoint_url"), PLACES)
def test_a_bucket_lies_where_the_sdk_would_look_for_it(region, endpoint_url):
    known = 0
    for bucket in BUCKETS:
        url = bucket_url(bucket, region, endpoint_url)
        if url is not None:
            assert (url, region) == sent_by_the_sdk(bucket, region, endpoint_url), bucket
            known += 1
    assert known > len(BUCKETS) // 2


@given(
    st.from_regex(r"[A-Za-z0-9._-]{1,70}", fullmatch=True) | st.from_regex(r"[a-z0-9.-]{3,63}", fullmatch=True),
    st.sampled_from(PLACES),
)
@example("arn.aws", ("us-east-1", None))
def test_the_same_for_any_name(bucket, place):
    region, endpoint_url = place
    url = bucket_url(bucket, region, endpoint_url)
    if url is not None:
        assert (url, region) == sent_by_the_sdk(bucket, region, endpoint_url)


@pytest.mark.parametrize(
    "bucket",
    [
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/point",
        "arn:aws:s3::123456789012:accesspoint/a.mrap",
        "m.mrap",
        "b--use1-az4--x-s3",
        "p--use1-az4--xa-s3",
        "point-abcdefghijkl-s3alias",
        "outpost--op-s3",
        "lambda--ol-s3",
        "table--table-s3",
        "",
        "ab",
        "sl/ash",
        "sp ace",
        "ünïcode",
    ],
)
@pytest.mark.parametrize("endpoint_url", [None, "https://s3.example.com"])
def test_what_has_a_meaning_of_its_own_is_left_to_the_sdk(bucket, endpoint_url):
    assert bucket_url(bucket, "us-east-1", endpoint_url) is None


@pytest.mark.parametrize(
    "region", ["us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1", "eusc-de-east-1", "auto", "", "x"]
)
def test_at_awss_endpoints_other_partitions_are_left_to_the_sdk(region):
    assert bucket_url("bucket", region, None) is None
    assert bucket_url("bucket", region, "https://s3.example.com") is not None


@pytest.mark.parametrize("region", [region for region in REGIONS if region != "cn-north-1"])
@pytest.mark.parametrize("bucket", ["plain", "dotted.name", "UPPER"])
def test_a_bucket_that_moved_is_where_it_would_have_been_looked_for_in_its_region(region, bucket):
    before, there = bucket_url(bucket, "us-east-1", None), bucket_url(bucket, region, None)
    assert before is not None
    assert there is not None
    if region == "us-east-1":  # which is then called by its own name
        there = there.replace("s3.amazonaws.com", "s3.us-east-1.amazonaws.com")
    assert Route.to(before, "us-east-1").moved(region) == Route.to(there, region)
