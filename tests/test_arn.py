"""What ARNs name."""

import pytest

from sealift.arn import Arn, account_of, region_of

BUCKET = "arn:aws:s3:::bucket"


@pytest.mark.parametrize(
    ("text", "account", "region"),
    [
        ("arn:aws:kms:eu-central-1:111122223333:key/1234abcd", "111122223333", "eu-central-1"),
        ("arn:aws-cn:kms:cn-north-1:111122223333:alias/a:b", "111122223333", "cn-north-1"),
        ("arn:aws:iam::111122223333:role/team/nightly", "111122223333", ""),
        (BUCKET, "", ""),
    ],
)
def test_an_arn_names_an_account_and_a_region_or_leaves_them_out(text, account, region):
    assert (account_of(text), region_of(text)) == (account, region)
    assert str(Arn.parse(text)) == text


@pytest.mark.parametrize("text", ["", "1234abcd", "arn:aws:kms:eu-west-1", "arn::kms:eu-west-1:1:key/1", "a:b:c:d:e:f"])
def test_what_is_no_arn_names_nothing(text):
    assert Arn.parse(text) is None
    assert (account_of(text), region_of(text)) == ("", "")
