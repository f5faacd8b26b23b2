"""Refused objects, counted by why they were."""

from __future__ import annotations

import pytest

from sealift.errors import ObjectError, Permanent, Transient
from sealift.model import RefusedObjects, RemoteObject
from sealift.refusals import MOST, Refusals, is_refusal
from sealift.s3.translate import Refusal, translate
from tests.support.awserrors import AWS_ERRORS, KEY_ARN

ERRORS = {error.name: error for error in AWS_ERRORS}


def refused(name: str, key: str = "k") -> ObjectError:
    said = ERRORS[name]
    error = translate(Refusal(said.status, said.code, said.message, "get", "b", key, headers=said.headers))
    assert isinstance(error, ObjectError)
    return error


def remote(key: str) -> RemoteObject:
    return RemoteObject("b", key, 1, '"e"', 0)


def test_a_million_refusals_for_one_reason_are_one_line_with_an_example():
    refusals = Refusals()
    for number in range(4112):
        refusals.add(remote(f"k{number}"), refused("decrypt_not_in_identity_policy", f"k{number}"))
    assert list(refusals) == [
        RefusedObjects(4112, "AccessDenied", "kms:Decrypt", KEY_ARN, "no identity-based policy allows it", "b", "k0")
    ]


@pytest.mark.parametrize(
    ("name", "resource", "reason"),
    [
        ("decrypt_denied_by_key_policy", KEY_ARN, "a Deny in a resource-based policy"),
        ("decrypt_denied_by_identity_policy", KEY_ARN, "a Deny in an identity-based policy"),
        (
            "decrypt_of_a_key_elsewhere",
            KEY_ARN,
            "the key's policy does not allow it, or denies it",
        ),
        ("decrypt_of_an_unnamed_key", "", "the key's policy does not allow it"),
        ("get_not_in_identity_policy", "s3://b", "no identity-based policy allows it"),
        ("plain_access_denied", "s3://b", "S3 does not say why"),
        ("key_disabled", KEY_ARN, "the key is disabled"),
        ("key_not_found", KEY_ARN, "the key is gone"),
    ],
)
def test_each_reason_is_told_with_what_it_is_about(name, resource, reason):
    refusals = Refusals()
    refusals.add(remote("k"), refused(name))
    (found,) = refusals
    assert (found.resource, found.reason.startswith(reason)) == (resource, True)


def test_other_failures_are_no_refusals():
    refusals = Refusals()
    for error in (Transient("lost"), Permanent("gone", code="NoSuchKey"), refused("archived_in_glacier")):
        assert not is_refusal(error)
        refusals.add(remote("k"), error)
    assert list(refusals) == []


def test_the_most_frequent_comes_first_and_the_number_of_reasons_is_bounded():
    refusals = Refusals()
    for number in range(MOST + 20):
        error = translate(
            Refusal(400, "KMS.DisabledException", f"{KEY_ARN}{number} is disabled.", "get", "b", f"k{number}")
        )
        assert isinstance(error, ObjectError)
        refusals.add(remote(f"k{number}"), error)
    found = list(refusals)
    assert len(found) == MOST
    assert sum(each.objects for each in found) == MOST + 20
    assert found[0].objects == max(each.objects for each in found)
