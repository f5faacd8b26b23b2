"""Where requests go."""

import pytest

from sealift.s3.pool import Origin
from sealift.s3.route import Route


@pytest.mark.parametrize(
    ("url", "route"),
    [
        (
            "https://bucket.s3.eu-west-1.amazonaws.com",
            Route(
                Origin("https", "bucket.s3.eu-west-1.amazonaws.com", 443), "bucket.s3.eu-west-1.amazonaws.com", "", "r"
            ),
        ),
        ("http://127.0.0.1:9000/bucket", Route(Origin("http", "127.0.0.1", 9000), "127.0.0.1:9000", "/bucket", "r")),
        ("http://[::1]:9000/base/bucket", Route(Origin("http", "::1", 9000), "[::1]:9000", "/base/bucket", "r")),
        ("https://host:443/b/", Route(Origin("https", "host", 443), "host", "/b", "r")),
    ],
)
def test_a_route_is_read_from_the_url_below_which_objects_lie(url: str, route: Route) -> None:
    assert Route.to(url, "r") == route


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("https://b.s3.us-east-1.amazonaws.com", "https://b.s3.eu-west-1.amazonaws.com"),
        ("https://b.s3.amazonaws.com", "https://b.s3.eu-west-1.amazonaws.com"),
        ("https://s3.us-west-2.amazonaws.com/b.c", "https://s3.eu-west-1.amazonaws.com/b.c"),
        ("https://b.s3-us-west-2.amazonaws.com", "https://b.s3.eu-west-1.amazonaws.com"),
        ("https://b.s3.dualstack.us-east-1.amazonaws.com", "https://b.s3.dualstack.eu-west-1.amazonaws.com"),
        ("https://minio.example.org/b", "https://minio.example.org/b"),
        ("http://127.0.0.1:9000/b", "http://127.0.0.1:9000/b"),
    ],
)
def test_a_bucket_that_is_elsewhere_is_asked_at_its_regions_endpoint(before: str, after: str) -> None:
    assert Route.to(before, "us-east-1").moved("eu-west-1") == Route.to(after, "eu-west-1")
