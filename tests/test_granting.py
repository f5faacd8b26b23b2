"""Which policies have to say what: the keys, where nobody names them, are those of the objects."""

from __future__ import annotations

import pytest

from sealift.errors import AccessError, ConfigError, SourceError
from sealift.granting import Granted, Wishes, policies
from tests.support.faultserver import DEFAULT_KMS_KEY, Answer, FaultServer
from tests.support.running import settings_for

pytestmark = pytest.mark.anyio

ROLE = "arn:aws:iam::111122223333:role/nightly"
OTHER = "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-000000000000"


def keys_of(granted: Granted) -> list[str]:
    """What the IAM policy allows to decrypt with."""
    (found,) = (
        [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
        for statement in granted.documents[0].statements
        if statement["Sid"] == "SealiftDecrypt"
    )
    return sorted(found)  # type: ignore[call-overload, no-any-return]


async def test_the_keys_are_those_that_objects_from_all_over_the_prefix_are_encrypted_with():
    async with FaultServer() as server:
        for number in range(40):
            server.put("bucket", f"p/{number:02}/x", b"x", kms_key=OTHER if number == 20 else DEFAULT_KMS_KEY)
        server.put("bucket", "p/plain", b"x", kms_key=None)
        server.put("bucket", "elsewhere", b"x", kms_key=f"{OTHER}0")
        granted = await policies(["s3://bucket/p/"], Wishes(principal=ROLE, sample=1000), settings_for(server))
    assert keys_of(granted)[:1] == [DEFAULT_KMS_KEY]
    assert {document.kind for document in granted.documents} == {"iam", "key"}
    assert any("keys found" in note for note in granted.notes)
    assert {request.op for request in server.requests} == {"list", "head"}


async def test_an_object_of_exactly_that_key_is_looked_at_as_well():
    async with FaultServer() as server:
        server.put("bucket", "p", b"x", kms_key=OTHER)
        granted = await policies(["s3://bucket/p"], Wishes(principal=ROLE), settings_for(server))
    assert keys_of(granted) == [OTHER]
    assert any("an object or a prefix" in note for note in granted.notes)


async def test_named_keys_are_taken_without_asking_anybody():
    granted = await policies(["s3://bucket/p/"], Wishes(principal=ROLE, keys=[OTHER]))
    assert keys_of(granted) == [OTHER]


async def test_nothing_is_said_of_keys_where_nothing_is_encrypted_with_one():
    async with FaultServer() as server:
        server.put("bucket", "p/x", b"x", kms_key=None)
        granted = await policies(["s3://bucket/p/"], Wishes(principal=ROLE), settings_for(server))
    assert [document.kind for document in granted.documents] == ["iam"]
    assert "no key is named: nothing of the object that was looked at is encrypted with SSE-KMS" in granted.notes


async def test_where_there_is_nothing_it_says_that_keys_are_left_out():
    async with FaultServer() as server:
        server.put("bucket", "x", b"x")
        granted = await policies(["s3://bucket/p/"], Wishes(principal=ROLE), settings_for(server))
    assert any("there is no object" in note for note in granted.notes)


async def test_where_no_object_may_be_looked_at_the_keys_have_to_be_named():
    async with FaultServer() as server:
        server.put("bucket", "p/x", b"x")
        with pytest.raises(SourceError):
            await policies(["s3://nowhere/p/"], Wishes(principal=ROLE), settings_for(server))
        server.fault(op="head", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
        with pytest.raises(AccessError, match="--key"):
            await policies(["s3://bucket/p/"], Wishes(principal=ROLE), settings_for(server))
        server.fault(op="list", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
        with pytest.raises(AccessError, match="may not be listed"):
            await policies(["s3://bucket/p/"], Wishes(principal=ROLE), settings_for(server))


async def test_a_key_that_no_policy_can_name_is_said_to_be_none():
    async with FaultServer() as server:
        server.put("bucket", "p/x", b"x", kms_key="a-bare-name")
        with pytest.raises(ConfigError, match="a-bare-name"):
            await policies(["s3://bucket/p/"], Wishes(principal=ROLE), settings_for(server))


@pytest.mark.parametrize(
    ("principal", "note"),
    [
        ("arn:aws:sts::111122223333:assumed-role/nightly/i-0123", "aws iam get-role --role-name nightly"),
        ("arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Read_0123456789abcdef/ann", "permission set Read"),
    ],
)
async def test_what_is_not_known_of_the_principal_is_said(principal, note):
    granted = await policies(["s3://bucket/p/"], Wishes(principal=principal, keys=[OTHER]))
    assert any(note in each for each in granted.notes)
    assert not any(note in each for each in (await policies(["s3://b/"], Wishes(principal=ROLE, keys=[OTHER]))).notes)


async def test_the_account_of_an_access_point_is_taken_for_its_buckets():
    point = "arn:aws:s3:us-east-1:444455556666:accesspoint/pulls"
    wishes = Wishes(principal=ROLE, keys=[OTHER], behind="bucket")
    granted = await policies([f"{point}/p/"], wishes)
    assert [(each.kind, each.account) for each in granted.documents[2:]] == [
        ("access-point", "444455556666"),
        ("bucket", "444455556666"),
    ]
