"""What KMS allows an account by default."""

import pytest

from sealift.quota import default_quota


@pytest.mark.parametrize(
    ("regions", "rate"),
    [((), 10_000), (("eu-north-1",), 10_000), (("eu-central-1",), 20_000), (("us-east-1",), 100_000)],
)
def test_the_default_is_that_of_the_region(regions, rate):
    assert (default_quota(regions).rate, default_quota(regions).source) == (rate, "region")


def test_of_several_regions_the_least_counts():
    assert default_quota({"us-east-1", "eu-west-2", "eu-west-1"}).rate == 20_000
