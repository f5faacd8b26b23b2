"""Who is to read."""

import pytest

from sealift.errors import ConfigError
from sealift.policy.principal import Principal

SSO = "AWSReservedSSO_Read-Only_0123456789abcdef"


@pytest.mark.parametrize(
    ("written", "arn"),
    [
        ("arn:aws:iam::111122223333:role/nightly", "arn:aws:iam::111122223333:role/nightly"),
        ("arn:aws:iam::111122223333:role/team/a/nightly", "arn:aws:iam::111122223333:role/team/a/nightly"),
        ("arn:aws-cn:iam::111122223333:user/ann+b@c", "arn:aws-cn:iam::111122223333:user/ann+b@c"),
        ("arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root"),
        ("arn:aws:sts::111122223333:assumed-role/nightly/i-0123", "arn:aws:iam::111122223333:role/nightly"),
        (" arn:aws:iam::111122223333:role/nightly\n", "arn:aws:iam::111122223333:role/nightly"),
    ],
)
def test_a_policy_names_the_user_the_role_of_a_session_or_the_account(written, arn):
    principal = Principal.parse(written)
    assert principal.arn == arn
    assert principal.clause == ({"AWS": arn}, {})


def test_a_session_does_not_tell_the_path_of_its_role():
    assert not Principal.parse("arn:aws:sts::111122223333:assumed-role/nightly/i-0123").path_known
    assert Principal.parse("arn:aws:iam::111122223333:role/nightly").path_known


def test_the_role_of_a_permission_set_is_named_by_its_account_and_a_condition_as_its_path_is_not_known():
    principal = Principal.parse(f"arn:aws:sts::111122223333:assumed-role/{SSO}/ann@example.com")
    assert principal.permission_set == "Read-Only"
    assert principal.clause == (
        {"AWS": "arn:aws:iam::111122223333:root"},
        {
            "ArnLike": {
                "aws:PrincipalArn": f"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/*{SSO}",
            }
        },
    )


def test_the_role_of_a_permission_set_is_named_itself_where_its_path_is_known():
    arn = f"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-west-1/{SSO}"
    assert Principal.parse(arn).clause == ({"AWS": arn}, {})


@pytest.mark.parametrize(
    "nobody",
    [
        "",
        "nightly",
        "111122223333",
        "arn:aws:iam::111122223333:group/readers",
        "arn:aws:iam::1111:role/nightly",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:sts::111122223333:federated-user/ann",
        "arn:aws:s3:::bucket",
        "arn:aws:iam::111122223333:role/with space",
        "arn:aws:iam::aws:policy/ReadOnlyAccess",
    ],
)
def test_what_no_policy_can_name_is_refused(nobody):
    with pytest.raises(ConfigError, match="ARN"):
        Principal.parse(nobody)
