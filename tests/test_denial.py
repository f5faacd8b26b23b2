"""What AWS's words say of a refusal."""

import pytest

from sealift.denial import KINDS, PLAIN, Denial, read_denial
from tests.support.awserrors import AWS_ERRORS, KEY_ARN, OBJECT_ARN, PRINCIPAL

SAID = {error.name: error.message for error in AWS_ERRORS}
DECRYPT = Denial(PRINCIPAL, "kms:Decrypt", KEY_ARN)


@pytest.mark.parametrize(
    ("name", "denial"),
    [
        ("decrypt_not_in_identity_policy", DECRYPT._replace(effect="implicit", kind="identity-based policy")),
        ("decrypt_not_in_key_policy", DECRYPT._replace(effect="implicit", kind="resource-based policy")),
        ("decrypt_denied_by_identity_policy", DECRYPT._replace(effect="explicit", kind="identity-based policy")),
        ("decrypt_denied_by_key_policy", DECRYPT._replace(effect="explicit", kind="resource-based policy")),
        (
            "decrypt_denied_by_service_control_policy",
            DECRYPT._replace(effect="explicit", kind="service control policy"),
        ),
        ("decrypt_of_a_key_elsewhere", DECRYPT._replace(kind="resource-based policy", foreign=True)),
        ("decrypt_of_an_unnamed_key", DECRYPT._replace(resource="", kind="resource-based policy", foreign=True)),
        ("decrypt_in_older_words", Denial(action="kms:Decrypt", kind="resource-based policy", foreign=True)),
        (
            "get_not_in_identity_policy",
            Denial(PRINCIPAL, "s3:GetObject", OBJECT_ARN, "implicit", "identity-based policy"),
        ),
        ("plain_access_denied", PLAIN),
    ],
)
def test_each_of_awss_wordings_is_understood(name, denial):
    assert read_denial(SAID[name]) == denial
    assert denial.plain == (name == "plain_access_denied")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_policy_is_told_whether_it_denies_or_does_not_allow(kind):
    who = f'User: {PRINCIPAL} is not authorized to perform: s3:ListBucket on resource: "arn:aws:s3:::b"'
    article = "an" if kind[0] in "aeiou" else "a"
    denied = read_denial(f"{who} with an explicit deny in {article} {kind}")
    lacking = read_denial(f"{who} because no {kind} allows the s3:ListBucket action")
    assert (denied.effect, denied.kind, denied.resource) == ("explicit", kind, "arn:aws:s3:::b")
    assert (lacking.effect, lacking.kind) == ("implicit", kind)


def test_a_reason_that_is_left_out_or_unheard_of_leaves_the_question_open():
    who = f"User: {PRINCIPAL} is not authorized to perform: kms:Decrypt on resource: {KEY_ARN}."
    assert read_denial(who) == DECRYPT
    assert read_denial(f"{who} because the moon is full") == DECRYPT
    assert read_denial(f"{who} with an explicit deny").effect == "explicit"
    assert read_denial("") == PLAIN
