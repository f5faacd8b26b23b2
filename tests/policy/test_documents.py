"""What is printed is valid, grants what it is to grant, and grants nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import ConfigError
from sealift.policy.documents import EXTRAS, Document, Request, checked_account, checked_key, documents
from sealift.policy.principal import Principal
from sealift.policy.statements import Scope
from tests.support.iam import Ask, Policies, decide
from tests.support.linting import complaints

ONE, TWO, THREE = "111122223333", "444455556666", "777788889999"
ROLE = f"arn:aws:iam::{ONE}:role/team/nightly"
BUCKET = "arn:aws:s3:::amzn-s3-demo-bucket"
REGION = "eu-central-1"


def key_of(account: str, number: int = 1) -> str:
    return f"arn:aws:kms:{REGION}:{account}:key/1234abcd-12ab-34cd-56ef-12345678900{number}"


def scope(source: str = "s3://amzn-s3-demo-bucket/data/", behind: str = "") -> Scope:
    return Scope.parse(source, partition="aws", behind=behind)


def request(
    *sources: str, keys: Sequence[str] = (key_of(ONE),), principal: str = ROLE, behind: str = "", **more: Any
) -> Request:
    scopes = [scope(source, behind) for source in sources or ("s3://amzn-s3-demo-bucket/data/",)]
    return Request(principal=Principal.parse(principal), scopes=scopes, keys=dict.fromkeys(keys, scopes), **more)


def policy(found: Sequence[Document], kind: str, resource: str) -> dict[str, Any] | None:
    """What a key or a bucket is told, of which nothing is known but that."""
    for document in found:
        if document.kind == kind and resource in document.resources:
            return document.policy
    return None


def allowed(
    found: Sequence[Document],
    action: str,
    resource: str,
    owner: str,
    context: Mapping[str, str] | None = None,
    *,
    delegates: bool = False,
) -> bool:
    """Whether the documents, pasted where they say, allow `ROLE` something; `delegates`: the key's policy had the usual
    statement for its account already, and optional documents were left out."""
    of_key = action.startswith("kms:")
    kept = [document for document in found if document.required or not delegates]
    of_resource = policy(kept, "key" if of_key else "bucket", resource if of_key else resource.partition("/")[0])
    if delegates:
        root = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{owner}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
        of_resource = {"Statement": [root, *(of_resource or {"Statement": []})["Statement"]]}
    mine = [document.policy for document in kept if document.kind == "iam"]
    asked = Ask(ROLE, action, resource, context or {})
    return decide(asked, Policies(identity=mine, resource=of_resource), owner, by_resource=of_key).allowed


def of_s3(context: str, region: str = REGION) -> dict[str, str]:
    """The context of a Decrypt that S3 asks for."""
    return {"kms:ViaService": f"s3.{region}.amazonaws.com", "kms:EncryptionContext:aws:s3:arn": context}


ACCOUNTS = [(bucket, key) for bucket in (ONE, TWO) for key in (ONE, TWO, THREE)]


@pytest.mark.parametrize(("bucket", "key"), ACCOUNTS)
@pytest.mark.parametrize("strict", [False, True])
def test_they_allow_listing_getting_and_decrypting_whosever_key_and_bucket_are(bucket, key, strict):
    found = documents(request(keys=[key_of(key)], bucket_account=bucket, strict=strict))
    assert allowed(found, "s3:ListBucket", BUCKET, bucket, {"s3:prefix": "data/"})
    assert allowed(found, "s3:ListBucket", BUCKET, bucket, {"s3:prefix": "data/2026/"})
    assert allowed(found, "s3:GetObject", f"{BUCKET}/data/2026/report.csv", bucket)
    for context in (BUCKET, f"{BUCKET}/data/2026/report.csv"):  # with a Bucket Key, and without
        for delegates in (False, True):
            assert allowed(found, "kms:Decrypt", key_of(key), key, of_s3(context), delegates=delegates)


@pytest.mark.parametrize(("bucket", "key"), ACCOUNTS)
@pytest.mark.parametrize("strict", [False, True])
def test_they_allow_nothing_beside_that(bucket, key, strict):
    found = documents(request(keys=[key_of(key)], bucket_account=bucket, strict=strict))
    inside = f"{BUCKET}/data/report.csv"
    for prefix in ("", "dat", "data", "data-2/", "other/"):
        assert not allowed(found, "s3:ListBucket", BUCKET, bucket, {"s3:prefix": prefix})
    assert not allowed(found, "s3:ListBucket", BUCKET, bucket)
    for outside in ("other/report.csv", "data-2/report.csv", "data", "Data/report.csv"):
        assert not allowed(found, "s3:GetObject", f"{BUCKET}/{outside}", bucket)
    assert not allowed(found, "s3:GetObject", f"{BUCKET}-2/data/report.csv", bucket)
    for action in (
        "s3:GetObjectVersion",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:GetObjectAcl",
        "s3:ListBucketVersions",
    ):
        assert not allowed(found, action, inside, bucket)
    for action in ("kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant", "kms:DescribeKey", "kms:ReEncryptFrom"):
        assert not allowed(found, action, key_of(key), key, of_s3(inside), delegates=True)
    assert not allowed(found, "kms:Decrypt", key_of(key, 2), key, of_s3(inside), delegates=True)
    assert not allowed(found, "servicequotas:GetServiceQuota", "*", ONE)


@pytest.mark.parametrize("delegates", [False, True])
def test_strict_ones_allow_decrypting_only_as_s3_asks_for_it_and_only_what_is_in_scope(delegates):
    def decrypts(found: Sequence[Document], context: Mapping[str, str]) -> bool:
        return allowed(found, "kms:Decrypt", key_of(TWO), TWO, context, delegates=delegates)

    loose, strict = (documents(request(keys=[key_of(TWO)], strict=strict)) for strict in (False, True))
    inside, outside = f"{BUCKET}/data/report.csv", f"{BUCKET}/other/report.csv"
    for context in ({}, of_s3(outside), of_s3(inside, "us-east-1"), {"kms:EncryptionContext:aws:s3:arn": inside}):
        assert decrypts(loose, context)
        assert not decrypts(strict, context)
    assert decrypts(strict, of_s3(inside))


@pytest.mark.parametrize(
    ("bucket_keys", "of_bucket", "of_object"), [("on", True, False), ("off", False, True), ("both", True, True)]
)
def test_strict_ones_name_the_encryption_context_that_bucket_keys_make(bucket_keys, of_bucket, of_object):
    found = documents(request(keys=[key_of(TWO)], strict=True, bucket_keys=bucket_keys))
    assert allowed(found, "kms:Decrypt", key_of(TWO), TWO, of_s3(BUCKET)) == of_bucket
    assert allowed(found, "kms:Decrypt", key_of(TWO), TWO, of_s3(f"{BUCKET}/data/x")) == of_object


def test_with_several_keys_and_prefixes_each_key_is_for_the_prefixes_that_it_was_found_under():
    first, second = scope("s3://amzn-s3-demo-bucket/a/"), scope("s3://amzn-s3-demo-bucket2/b/")
    wanted = Request(
        principal=Principal.parse(ROLE),
        scopes=[first, second],
        keys={key_of(ONE, 1): [first], key_of(TWO, 2): [second], key_of(TWO, 3): [first, second]},
        strict=True,
        bucket_keys="off",
        bucket_account=TWO,
    )
    found = documents(wanted)
    contexts = {1: f"{BUCKET}/a/x", 2: f"{BUCKET}2/b/x"}
    for number, owner, of in ((1, ONE, {1}), (2, TWO, {2}), (3, TWO, {1, 2})):
        key = key_of(owner, number)
        for place, context in contexts.items():
            assert allowed(found, "kms:Decrypt", key, owner, of_s3(context)) == (place in of), (number, place)
    for bucket, key, other in ((BUCKET, "a/x", "b/x"), (f"{BUCKET}2", "b/x", "a/x")):
        assert allowed(found, "s3:GetObject", f"{bucket}/{key}", TWO)
        assert not allowed(found, "s3:GetObject", f"{bucket}/{other}", TWO)
        assert allowed(found, "s3:ListBucket", bucket, TWO, {"s3:prefix": key[:2]})
        assert not allowed(found, "s3:ListBucket", bucket, TWO, {"s3:prefix": other[:2]})


def test_a_source_without_a_slash_may_be_the_object_or_the_prefix():
    found = documents(request("s3://amzn-s3-demo-bucket/data"))
    assert allowed(found, "s3:GetObject", f"{BUCKET}/data", ONE)
    assert allowed(found, "s3:GetObject", f"{BUCKET}/data/x", ONE)
    assert not allowed(found, "s3:GetObject", f"{BUCKET}/data-2", ONE)
    assert allowed(found, "s3:ListBucket", BUCKET, ONE, {"s3:prefix": "data/"})


def test_a_whole_bucket_is_listed_under_any_prefix():
    found = documents(request("s3://amzn-s3-demo-bucket", "s3://amzn-s3-demo-bucket/data/"))
    for context in ({}, {"s3:prefix": ""}, {"s3:prefix": "x/"}):
        assert allowed(found, "s3:ListBucket", BUCKET, ONE, context)
    assert allowed(found, "s3:GetObject", f"{BUCKET}/x", ONE)


POINT = f"arn:aws:s3:{REGION}:{TWO}:accesspoint/pulls"


@pytest.mark.parametrize("point", [POINT, POINT.replace("/", ":")])
def test_through_an_access_point_the_bucket_allows_only_what_comes_through_it(point):
    found = documents(request(f"{point}/data/", behind="amzn-s3-demo-bucket", bucket_account=TWO, keys=[key_of(TWO)]))
    assert [document.kind for document in found] == ["iam", "key", "access-point", "bucket"]
    through = {"s3:DataAccessPointArn": POINT}
    mine, at_point, at_bucket = (found[number].policy for number in (0, 2, 3))
    for resource, of_resource, context in (
        (f"{POINT}/object/data/x", at_point, {}),
        (f"{BUCKET}/data/x", at_bucket, through),
    ):
        policies = Policies(identity=[mine], resource=of_resource)
        assert decide(Ask(ROLE, "s3:GetObject", resource, context), policies, TWO).allowed
        assert not decide(Ask(ROLE, "s3:GetObject", resource.replace("data", "other"), context), policies, TWO).allowed
    directly = Ask(ROLE, "s3:GetObject", f"{BUCKET}/data/x")
    assert not decide(directly, Policies(identity=[mine], resource=at_bucket), TWO).allowed
    listing = Ask(ROLE, "s3:ListBucket", POINT, {"s3:prefix": "data/"})
    assert decide(listing, Policies(identity=[mine], resource=at_point), TWO).allowed


def test_an_access_point_in_the_callers_account_needs_the_iam_policy_alone():
    found = documents(request(f"{POINT.replace(TWO, ONE)}/data/", behind="amzn-s3-demo-bucket", bucket_account=ONE))
    assert [document.kind for document in found if document.required] == ["iam"]


@pytest.mark.parametrize(
    "point",
    [
        f"arn:aws:s3-object-lambda:{REGION}:{TWO}:accesspoint/pulls",
        f"arn:aws:s3-outposts:{REGION}:{TWO}:outpost/op-1/accesspoint/pulls",
        f"arn:aws:s3::{TWO}:accesspoint/pulls.mrap",
    ],
)
def test_no_policy_is_guessed_for_what_works_otherwise(point):
    with pytest.raises(ConfigError, match="not for Outposts"):
        scope(f"{point}/data/", "amzn-s3-demo-bucket")


def test_the_bucket_behind_an_access_point_has_to_be_named():
    with pytest.raises(ConfigError, match="get-access-point --account-id 444455556666 --name pulls"):
        scope(f"{POINT}/data/")


def test_what_further_options_need_is_allowed_only_where_they_are_asked_for():
    def actions(*extras: str) -> set[str]:
        iam, *_ = documents(request(extras=frozenset(extras)))
        found: list[Any] = [statement["Action"] for statement in iam.statements]
        return {action for each in found for action in ([each] if isinstance(each, str) else each)}

    plain = actions()
    assert plain == {"s3:ListBucket", "s3:GetObject", "kms:Decrypt"}
    quota = {"servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota"}
    assert actions("as-of") == plain | {"s3:ListBucketVersions", "s3:GetObjectVersion"}
    assert actions("kms-share") == plain | quota
    assert actions("doctor") - plain - quota == {
        "kms:DescribeKey",
        "kms:GetKeyPolicy",
        "kms:ListGrants",
        "s3:GetBucketPolicy",
        "s3:GetBucketRequestPayment",
        "s3:GetEncryptionConfiguration",
    }


def every_request() -> Iterator[Request]:
    sources = {
        "": [
            ["s3://amzn-s3-demo-bucket/data/"],
            ["s3://amzn-s3-demo-bucket", "s3://amzn-s3-demo-bucket2/data"],
            ["s3://amzn-s3-demo-bucket/a*b?/${c}/", "s3://amzn-s3-demo-bucket/é/"],
        ],
        "amzn-s3-demo-bucket": [[f"{POINT}/data/"]],
    }
    principals = [ROLE, f"arn:aws:sts::{ONE}:assumed-role/AWSReservedSSO_Read_0123456789abcdef/ann"]
    for behind, alternatives in sources.items():
        for written, account, strict, who, extras, keys in itertools.product(
            alternatives,
            (ONE, TWO),
            (False, True),
            principals,
            ((), EXTRAS),
            ([], [key_of(ONE), key_of(TWO), key_of(TWO, 2)]),
        ):
            yield request(
                *written,
                keys=keys,
                principal=who,
                behind=behind,
                bucket_account=account,
                strict=strict,
                extras=frozenset(extras),
            )


def test_every_document_is_valid_by_the_linter_and_has_sids_of_its_own():
    number = 0
    for wanted in every_request():
        for document in documents(wanted):
            number += 1
            assert complaints(document.policy, of_resource=document.kind == "key") == []
            sids = [statement["Sid"] for statement in document.statements]
            assert len(sids) == len(set(sids))
    assert number > 200


def test_the_linter_would_complain():
    wrong = {"Effect": "Allow", "Action": "s3:GetObjects", "Resource": BUCKET}
    assert complaints({"Version": "2012-10-17", "Statement": [wrong]})
    mismatch = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": BUCKET}
    assert complaints({"Version": "2012-10-17", "Statement": [mismatch]})
    star = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}
    assert complaints({"Version": "2012-10-17", "Statement": [star]})


KEYS = st.text(st.sampled_from("ab/*?${}é:"), min_size=1, max_size=6)


@given(prefix=KEYS, other=KEYS, strict=st.booleans())
def test_whatever_characters_a_prefix_has_exactly_what_lies_under_it_is_allowed(prefix, other, strict):
    found = documents(
        request(f"s3://amzn-s3-demo-bucket/{prefix}/", keys=[key_of(TWO)], strict=strict, bucket_keys="off")
    )
    for key in (f"{prefix}/{other}", other, f"{other}/{prefix}", f"{prefix}{other}"):
        under = key.startswith(f"{prefix}/")
        assert allowed(found, "s3:GetObject", f"{BUCKET}/{key}", ONE) == under
        assert allowed(found, "s3:ListBucket", BUCKET, ONE, {"s3:prefix": key}) == under
        if strict:
            assert allowed(found, "kms:Decrypt", key_of(TWO), TWO, of_s3(f"{BUCKET}/{key}")) == under


def test_a_policy_that_is_larger_than_a_managed_one_may_be_is_known():
    assert not documents(request())[0].too_large
    assert documents(request(keys=[key_of(TWO, number) for number in range(100)]))[0].too_large


def test_a_key_is_written_as_its_arn_and_neither_as_alias_nor_as_id():
    assert checked_key(f" {key_of(ONE)}\n") == key_of(ONE)
    assert checked_key("arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab")
    for wrong in ("1234abcd-12ab-34cd-56ef-1234567890ab", "alias/x", f"arn:aws:kms:{REGION}:{ONE}:alias/x", ""):
        with pytest.raises(ConfigError, match="key's ARN"):
            checked_key(wrong)


def test_an_account_has_twelve_digits():
    assert checked_account(ONE) == ONE
    for wrong in ("1111-2222-3333", "11112222333", "", "arn:aws:iam::111122223333:root"):
        with pytest.raises(ConfigError, match="twelve digits"):
            checked_account(wrong)


@pytest.mark.parametrize(("partition", "domain"), [("aws-cn", "amazonaws.com.cn"), ("aws-us-gov", "amazonaws.com")])
def test_in_other_partitions_arns_and_s3s_name_are_those_of_the_partition(partition, domain):
    principal = Principal.parse(ROLE.replace("aws", partition))
    scopes = [Scope.parse("s3://amzn-s3-demo-bucket/data/", partition=principal.partition)]
    keys = {f"arn:{partition}:kms:x-1:{TWO}:key/1": scopes}
    found = documents(Request(principal=principal, scopes=scopes, keys=keys, bucket_account=TWO, strict=True))
    written = str([document.policy for document in found])
    assert "arn:aws:" not in written
    assert f"'s3.x-1.{domain}'" in written


def test_where_it_is_not_known_what_kms_calls_s3_no_policy_names_it():
    principal = Principal.parse(ROLE.replace("aws", "aws-iso"))
    scopes = [Scope.parse("s3://amzn-s3-demo-bucket/data/", partition=principal.partition)]
    keys = {key.replace("aws", "aws-iso"): scopes for key in (key_of(ONE), key_of(TWO))}
    assert documents(Request(principal=principal, scopes=scopes, keys=keys))
    with pytest.raises(ConfigError, match=f"partition of arn:aws-iso:kms:.*:{ONE}:.* leave --strict out"):
        documents(Request(principal=principal, scopes=scopes, keys=keys, strict=True))
