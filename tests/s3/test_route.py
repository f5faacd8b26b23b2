"""A bucket's URL becomes where to connect to, what the Host header says and what paths begin with."""

import pytest

from sealift.s3.pool import Origin
from sealift.s3.route import Route


@pytest.mark.parametrize(
    ("url", "origin", "host", "base_path"),
    [
        ("https://b.s3.amazonaws.com", ("https", "b.s3.amazonaws.com", 443), "b.s3.amazonaws.com", ""),
        ("https://s3.eu-west-1.amazonaws.com/b.c", ("https", "s3.eu-west-1.amazonaws.com", 443), None, "/b.c"),
        ("http://127.0.0.1:9000/b", ("http", "127.0.0.1", 9000), "127.0.0.1:9000", "/b"),
        ("http://[::1]:9000/b", ("http", "::1", 9000), "[::1]:9000", "/b"),
        ("https://[::1]/b", ("https", "::1", 443), "[::1]", "/b"),
        ("https://minio:443/b", ("https", "minio", 443), "minio", "/b"),
        ("http://minio:443/base/b%20c/", ("http", "minio", 443), "minio:443", "/base/b%20c"),
        ("http://minio/", ("http", "minio", 80), "minio", ""),
    ],
)
def test_a_route_is_what_the_url_says(url, origin, host, base_path):
    route = Route.to(url, "eu-west-1")
    expected = Origin(*origin)
    assert route == Route(expected, host or expected.host, base_path, "eu-west-1")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("b.s3.amazonaws.com", "b.s3.eu-west-1.amazonaws.com"),
        ("b.s3.us-west-2.amazonaws.com", "b.s3.eu-west-1.amazonaws.com"),
        ("b.s3-us-west-2.amazonaws.com", "b.s3.eu-west-1.amazonaws.com"),
        ("s3.amazonaws.com", "s3.eu-west-1.amazonaws.com"),
        ("b.s3.dualstack.us-west-2.amazonaws.com", "b.s3.dualstack.eu-west-1.amazonaws.com"),
        ("s3-fips.us-west-2.amazonaws.com", "s3-fips.eu-west-1.amazonaws.com"),
        ("s3-fips.dualstack.us-west-2.amazonaws.com", "s3-fips.dualstack.eu-west-1.amazonaws.com"),
        ("b.s3.cn-north-1.amazonaws.com.cn", "b.s3.eu-west-1.amazonaws.com.cn"),
    ],
)
def test_at_awss_endpoints_another_region_is_another_host(before, after):
    moved = Route.to(f"https://{before}/p", "us-east-1").moved("eu-west-1")
    assert moved == Route.to(f"https://{after}/p", "eu-west-1")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/b",
        "https://s3.example.com/b",
        "https://b.s3-accelerate.amazonaws.com",
        "https://b.s3-accelerate.dualstack.amazonaws.com",
        "https://point-123456789012.s3-accesspoint.us-west-2.amazonaws.com",
    ],
)
def test_elsewhere_only_the_signature_names_the_region(url):
    moved = Route.to(url, "us-east-1").moved("eu-west-1")
    assert moved == Route.to(url, "eu-west-1")
