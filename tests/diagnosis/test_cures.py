"""From AWS's words to what mends it."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.denial import KINDS, PLAIN, Denial
from sealift.diagnosis.cures import Case, cure
from sealift.policy.principal import Principal
from sealift.policy.reading import Reading
from sealift.policy.statements import Scope

ROLE = "arn:aws:iam::111122223333:role/nightly"
KEY = "arn:aws:kms:eu-central-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"
POINT = "arn:aws:s3:eu-central-1:444455556666:accesspoint/pulls"
WHERE = {
    "identity-based policy": "iam",
    "permissions boundary": "boundary",
    "session policy": "session",
    "service control policy": "service-control",
    "resource control policy": "resource-control",
    "VPC endpoint policy": "vpc-endpoint",
}


def case(action: str = "s3:GetObject", source: str = "s3://amzn-s3-demo-bucket/data/", **more: Any) -> Case:
    fields: dict[str, Any] = {
        "link": "object",
        "action": action,
        "caller": ROLE,
        "principal": Principal.parse(ROLE),
        "scope": Scope.parse(source, partition="aws", behind="amzn-s3-demo-bucket"),
    }
    return Case(**(fields | more))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effect", ["explicit", "implicit"])
@pytest.mark.parametrize("action", ["s3:GetObject", "kms:Decrypt"])
def test_each_kind_of_policy_that_aws_names_is_the_one_to_change(kind, effect, action):
    resource = KEY if action == "kms:Decrypt" else "arn:aws:s3:::amzn-s3-demo-bucket/data/x"
    found = cure(Denial(ROLE, action, resource, effect, kind), case(action))
    (remedy,) = found.remedies
    own = "key" if action == "kms:Decrypt" else "bucket"
    assert found.certain
    assert (remedy.act, remedy.where) == ("lift" if effect == "explicit" else "allow", WHERE.get(kind, own))
    assert bool(remedy.statements) == (effect == "implicit")
    assert action in remedy.text


def test_a_deny_of_which_aws_does_not_say_where_may_be_anywhere():
    found = cure(Denial(ROLE, "s3:GetObject", "", "explicit"), case())
    assert not found.certain
    assert {remedy.where for remedy in found.remedies} == {*WHERE.values(), "bucket"}
    assert {remedy.act for remedy in found.remedies} == {"lift"}


NIGHT = {"Sid": "Night", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}
NAMELESS = {name: value for name, value in NIGHT.items() if name != "Sid"}


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (Reading("yes", "yes", denying=(NIGHT,)), f'narrow the Deny "Night" in the key policy of {KEY} so that'),
        (Reading("yes", "yes", denying=(NIGHT, NAMELESS)), 'narrow the Deny "Night" and the one without a Sid in'),
        (
            Reading("yes", "perhaps", denying=(NAMELESS,)),
            "see whether the Deny without a Sid in the key policy of",
        ),
        (Reading("yes"), f"look for a Deny of kms:Decrypt in the key policy of {KEY}"),
        (None, f"look for a Deny of kms:Decrypt in the key policy of {KEY}"),
    ],
    ids=["one", "two", "perhaps", "not found", "not to be read"],
)
def test_a_deny_is_quoted_where_the_policy_may_be_read(reading, said):
    denial = Denial(ROLE, "kms:Decrypt", KEY, "explicit", "resource-based policy")
    (remedy,) = cure(denial, case("kms:Decrypt", of_key=reading)).remedies
    assert remedy.text.startswith(said)
    assert remedy.text.endswith(f"so that it spares {ROLE}")
    assert remedy.denies == (reading.denying if reading is not None else ())


def test_a_deny_elsewhere_is_not_that_of_the_resources_policy():
    night = Reading("yes", "yes", denying=(NIGHT,))
    denial = Denial(ROLE, "kms:Decrypt", KEY, "explicit", "identity-based policy")
    (remedy,) = cure(denial, case("kms:Decrypt", of_key=night)).remedies
    assert remedy.text.startswith("look for a Deny of kms:Decrypt in an IAM policy")
    assert remedy.denies == ()


def test_a_version_takes_permission_for_versions():
    found = cure(Denial(ROLE, "s3:GetObjectVersion", "arn:aws:s3:::b/x", "implicit", "identity-based policy"), case())
    assert found.remedies[0].statements[0]["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]


def test_what_no_statement_is_known_for_is_said_in_words():
    found = cure(Denial(ROLE, "s3:GetObjectTagging", "arn:aws:s3:::b/x", "implicit", "identity-based policy"), case())
    assert found.remedies[0].statements == ()
    assert "allow s3:GetObjectTagging" in found.remedies[0].text


def test_through_an_access_point_its_policy_and_the_bucket_behind_it_are_meant():
    at_point = case(source=f"{POINT}/data/")
    lacking = cure(
        Denial(ROLE, "s3:GetObject", f"{POINT}/object/data/x", "implicit", "resource-based policy"), at_point
    )
    (remedy,) = lacking.remedies
    assert (remedy.where, remedy.account, remedy.resource) == ("access-point", "444455556666", POINT)
    mine = cure(Denial(ROLE, "s3:GetObject", "", "implicit", "identity-based policy"), at_point).remedies[0]
    assert [each["Resource"] for each in mine.statements] == [
        f"{POINT}/object/data/*",
        "arn:aws:s3:::amzn-s3-demo-bucket/data/*",
    ]


def test_a_refusal_that_says_nothing_names_everything_that_is_left():
    found = cure(PLAIN, case(bucket_account="444455556666"))
    assert not found.certain
    assert "different accounts" in found.why
    assert {(remedy.act, remedy.where) for remedy in found.remedies} == {
        ("allow", "iam"),
        ("allow", "bucket"),
        ("lift", "iam"),
        ("lift", "bucket"),
        ("else", ""),
        *(("check", where) for where in WHERE.values() if where != "iam"),
    }


def test_an_object_that_nobody_listed_may_not_exist():
    found = cure(PLAIN, case(perhaps_missing=True, requester_pays=False))
    assert [remedy.text for remedy in found.remedies if remedy.act == "else"] == [
        "see that there is such an object: without s3:ListBucket a missing one is refused as well"
    ]
