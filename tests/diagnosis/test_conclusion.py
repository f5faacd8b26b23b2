"""What the facts mean, link by link."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sealift.denial import read_denial
from sealift.diagnosis.conclusion import conclude
from sealift.diagnosis.facts import BucketSeen, Caller, Endpoint, Examined, Facts, Identity, KeySeen, Question, Unseen
from sealift.diagnosis.findings import Diagnosis, Link
from sealift.errors import (
    AccessError,
    CredentialsError,
    Permanent,
    Refused,
    SealiftError,
    SourceError,
    Throttled,
    Transient,
)
from sealift.model import Encryption, RemoteObject
from sealift.s3.translate import Refusal, translate
from tests.support.awserrors import AWS_ERRORS

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ME = Caller("arn:aws:sts::111122223333:assumed-role/nightly/x", "111122223333")
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
FOREIGN_KEY = KEY.replace("111122223333", "444455556666")
NOT = Unseen("AccessDenied", "Access Denied")
SEALED = Encryption("aws:kms", KEY)


def identity(**more: Any) -> Identity:
    fields: dict[str, Any] = {"provider": "sso", "expires": None, "caller": ME, "skew": 0.0}
    return Identity(**(fields | more))


def bucket(**more: Any) -> BucketSeen:
    fields: dict[str, Any] = {
        "reached": None,
        "region": "eu-central-1",
        "mine": True,
        "encryption": NOT,
        "requester_pays": NOT,
        "policy": NOT,
    }
    return BucketSeen(**(fields | more))


def remote(key: str = "data/x", **more: Any) -> RemoteObject:
    return RemoteObject("amzn-s3-demo-bucket", key, 10, '"e"', 0)._replace(**more)


def examined(encryption: Encryption | None = SEALED, get: SealiftError | None = None, **more: Any) -> Examined:
    return Examined(remote=remote(), encryption=encryption, tried=True, get=get, **more)


def refused(message: str = "Access Denied", code: str = "AccessDenied", status: int = 403) -> SealiftError:
    return translate(Refusal(status, code, message, "get", "amzn-s3-demo-bucket", "data/x"))


def concluded(source: str = "s3://amzn-s3-demo-bucket/data/", **more: Any) -> Diagnosis:
    fields: dict[str, Any] = {
        "question": Question(source=source),
        "identity": identity(),
        "endpoint": Endpoint(host="s3.eu-central-1.amazonaws.com", addresses=3, tls="TLSv1.3"),
        "bucket": bucket(),
        "listed": 1,
        "whole": True,
        "gets": 1,
        "objects": (examined(),),
    }
    return conclude(Facts(**(fields | more)), now=NOW)


def links(diagnosis: Diagnosis, name: str) -> list[Link]:
    return [link for link in diagnosis.links if link.name == name]


def test_a_chain_that_holds_is_healthy_link_by_link():
    diagnosis = concluded()
    assert [(link.name, link.state) for link in diagnosis.links] == [
        ("credentials", "ok"),
        ("endpoint", "ok"),
        ("bucket", "ok"),
        ("listing", "ok"),
        ("object", "ok"),
        ("key", "ok"),
    ]
    assert (diagnosis.exit_status, diagnosis.cures) == (0, ())


@pytest.mark.parametrize(
    ("left", "state", "said"),
    [
        (timedelta(hours=8), "ok", "for another 8 h"),
        (timedelta(minutes=10), "warning", "for another 10 min"),
        (timedelta(seconds=-1), "warning", "expired"),
    ],
)
def test_credentials_that_end_soon_are_warned_of(left, state, said):
    (link,) = links(concluded(identity=identity(expires=NOW + left)), "credentials")
    assert (link.state, said in link.found, bool(link.todo)) == (state, True, state == "warning")


@pytest.mark.parametrize(
    ("skew", "said"), [(0.0, ""), (-299.0, ""), (400.0, "7 min ahead"), (-1200.0, "20 min behind")]
)
def test_a_clock_that_is_off_is_told_before_requests_are_refused(skew, said):
    found = links(concluded(identity=identity(skew=skew)), "clock")
    assert [said in link.found for link in found] == ([True] if said else [])


def test_whose_credentials_they_are_is_learnt_from_a_refusal_where_sts_does_not_tell():
    said = "User: arn:aws:sts::111122223333:assumed-role/nightly/x is not authorized to perform: kms:Decrypt on "
    said += f"resource: {KEY} because no identity-based policy allows the kms:Decrypt action"
    hidden = identity(caller=Unseen("EndpointConnectionError", "no way"))
    diagnosis = concluded(identity=hidden, objects=(examined(get=refused(said)),))
    assert (diagnosis.caller, diagnosis.caller_account) == (ME.arn, ME.account)
    assert links(diagnosis, "credentials")[0].state == "unseen"
    assert diagnosis.cures[0].remedies[0].resource == "arn:aws:iam::111122223333:role/nightly"


def test_somebody_whom_no_policy_can_name_is_still_told_what_is_missing():
    federated = Caller("arn:aws:sts::111122223333:federated-user/ann", "111122223333")
    diagnosis = concluded(identity=identity(caller=federated), objects=(examined(get=refused()),))
    (cure,) = diagnosis.cures
    by_policy = {remedy.where: remedy for remedy in cure.remedies if remedy.act == "allow"}
    assert by_policy["iam"].statements
    assert by_policy["key"].statements == ()
    assert federated.arn in by_policy["key"].text


def test_what_is_archived_is_told_with_the_class():
    cold = Examined(remote=remote(storage_class="GLACIER"), encryption=SEALED)
    diagnosis = concluded(objects=(examined(), cold))
    assert diagnosis.exit_status == 3
    assert "1 of 2 are archived (GLACIER)" in links(diagnosis, "object")[1].found
    thawed = Examined(remote=remote(storage_class="GLACIER", restored=True), encryption=SEALED, tried=True)
    assert concluded(objects=(thawed,)).exit_status == 0


def test_a_customers_own_key_is_told_for_what_it_is():
    message = "The object was stored using a form of Server Side Encryption. The correct parameters must be provided"
    diagnosis = concluded(
        objects=(examined(None, refused(message, "InvalidRequest", 400), head=refused("", "400", 400)),)
    )
    assert "SSE-C" in links(diagnosis, "object")[1].found
    assert (diagnosis.exit_status, diagnosis.cures) == (3, ())


def test_a_bucket_whose_requesters_pay_asks_for_the_option_and_for_no_policy():
    refusal = examined(None, refused(), head=refused("", "403"))
    (cure,) = concluded(bucket=bucket(requester_pays=True), objects=(refusal,)).cures
    assert [remedy.text.split(":")[0] for remedy in cure.remedies] == ["run with --request-payer"]
    paying = Question(source="s3://amzn-s3-demo-bucket/data/", pays=True)
    (cure,) = concluded(question=paying, bucket=bucket(requester_pays=True), objects=(refusal,)).cures
    assert not any("--request-payer" in remedy.text for remedy in cure.remedies)


@pytest.mark.parametrize(
    ("sse", "bucket_key", "said"),
    [
        ("aws:kms", False, "1 with SSE-KMS"),
        ("aws:kms", True, "1 with SSE-KMS and a Bucket Key"),
        ("aws:kms:dsse", False, "1 with DSSE-KMS"),
        ("AES256", False, "1 with SSE-S3"),
    ],
)
def test_each_kind_of_encryption_has_its_name(sse, bucket_key, said):
    diagnosis = concluded(objects=(examined(Encryption(sse, KEY if "kms" in sse else "", bucket_key)),))
    assert f": {said};" in links(diagnosis, "object")[0].found


def test_throttling_is_no_refusal():
    slow = Throttled("KMS asks for fewer requests", service="kms")
    diagnosis = concluded(objects=(examined(get=slow),))
    assert links(diagnosis, "object")[1].state == "warning"
    assert diagnosis.cures == ()


def test_where_whatever_was_tried_failed_it_is_the_sources_fault():
    lost = Transient("S3 failed on 'data/x' (500 InternalError)", code="InternalError")
    diagnosis = concluded(objects=(examined(get=lost), Examined(remote=remote("data/y"), encryption=SEALED)))
    assert (diagnosis.exit_status, links(diagnosis, "object")[1].state) == (5, "refused")
    diagnosis = concluded(objects=(examined(get=lost), examined()))
    assert (diagnosis.exit_status, links(diagnosis, "object")[1].state) == (3, "warning")


def test_awss_own_key_of_another_account_cannot_be_mended_by_a_policy():
    described = {"Arn": FOREIGN_KEY, "KeyState": "Enabled", "KeyManager": "AWS", "MultiRegion": True}
    seen = KeySeen(described=described, policy=NOT, grants=NOT)
    sealed = Encryption("aws:kms", FOREIGN_KEY)
    diagnosis = concluded(objects=(examined(sealed, refused()),), keys={FOREIGN_KEY: seen})
    (link,) = links(diagnosis, "key")
    assert "nobody in another account can use it" in link.found
    assert "multi-Region" in link.found


@pytest.mark.parametrize(
    ("partition", "region", "service", "said"),
    [
        ("aws", "eu-central-1", "s3.eu-central-1.amazonaws.com", "leaves Decrypt to IAM policies"),
        ("aws-us-gov", "us-gov-west-1", "s3.us-gov-west-1.amazonaws.com", "leaves Decrypt to IAM policies"),
        ("aws-cn", "cn-north-1", "s3.cn-north-1.amazonaws.com.cn", "leaves Decrypt to IAM policies"),
        ("aws-cn", "cn-north-1", "s3.cn-north-1.amazonaws.com", "allows no Decrypt"),
        ("aws-iso", "us-iso-east-1", "s3.us-iso-east-1.c2s.ic.gov", "may allow Decrypt, by a condition"),
    ],
)
def test_a_keys_policy_is_read_by_what_kms_calls_s3_in_its_partition(partition, region, service, said):
    caller = Caller(ME.arn.replace("aws", partition), ME.account)
    key = KEY.replace("aws", partition).replace("eu-central-1", region)
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:{partition}:iam::{ME.account}:root"},
        "Action": "kms:Decrypt",
        "Resource": "*",
        "Condition": {"StringEquals": {"kms:ViaService": service}},
    }
    seen = KeySeen(described=NOT, policy={"Statement": [statement]}, grants=NOT)
    diagnosis = concluded(
        identity=identity(caller=caller), objects=(examined(Encryption("aws:kms", key)),), keys={key: seen}
    )
    assert f"its policy {said}" in links(diagnosis, "key")[0].found


def test_a_deny_of_the_buckets_policy_is_quoted_by_what_was_refused_of_which_object():
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject"}
    here = deny | {"Sid": "Here", "Resource": "arn:aws:s3:::amzn-s3-demo-bucket/data/x"}
    elsewhere = deny | {"Sid": "Elsewhere", "Resource": "arn:aws:s3:::amzn-s3-demo-bucket/data/y"}
    said = f"User: {ME.arn} is not authorized to perform: s3:GetObject on resource: "
    said += '"arn:aws:s3:::amzn-s3-demo-bucket/data/x" with an explicit deny in a resource-based policy'
    diagnosis = concluded(
        bucket=bucket(policy={"Statement": [elsewhere, here]}), objects=(examined(get=refused(said)),)
    )
    (cure,) = diagnosis.cures
    (remedy,) = cure.remedies
    assert (remedy.act, remedy.where, remedy.denies) == ("lift", "bucket", (here,))


def test_grants_to_the_caller_are_told_and_those_that_go_by_context():
    grants: list[dict[str, Any]] = [
        {"GranteePrincipal": "arn:aws:iam::111122223333:role/nightly", "Operations": ["Decrypt"]},
        {"GranteePrincipal": ME.arn, "Operations": ["Decrypt"], "Constraints": {"EncryptionContextSubset": {}}},
        {"GranteePrincipal": "arn:aws:iam::111122223333:role/other", "Operations": ["Decrypt"]},
        {"GranteePrincipal": ME.arn, "Operations": ["Encrypt"]},
    ]
    seen = KeySeen(described=NOT, policy=NOT, grants=grants)
    (link,) = links(concluded(keys={KEY: seen}), "key")
    assert "2 grants to decrypt for the caller, 1 of them for certain encryption contexts only" in link.found


@pytest.mark.parametrize(
    ("error", "name", "status"),
    [
        (CredentialsError("expired", code="ExpiredToken"), "credentials", 3),
        (SourceError("there is no bucket"), "bucket", 5),
        (Throttled("slow", service="s3"), "bucket", 5),
    ],
)
def test_what_ends_the_examination_is_the_last_link(error, name, status):
    diagnosis = concluded(broken=error, broken_at="bucket", objects=())
    assert (diagnosis.links[-1].name, diagnosis.links[-1].state) == (name, "refused")
    assert diagnosis.exit_status == status


def test_nothing_under_a_prefix_is_a_warning():
    diagnosis = concluded(listed=0, objects=(), gets=0)
    assert links(diagnosis, "listing")[0].state == "warning"
    assert diagnosis.exit_status == 0


def test_of_several_keys_each_is_told_by_itself_and_only_the_refused_one_is_mended():
    said = read_denial(next(error.message for error in AWS_ERRORS if error.name == "decrypt_not_in_key_policy"))
    denied = Refused("refused", code="AccessDenied", denial=said._replace(resource=FOREIGN_KEY))
    diagnosis = concluded(objects=(examined(), examined(Encryption("aws:kms", FOREIGN_KEY), denied)))
    assert [(key.arn, key.readable) for key in diagnosis.keys] == [(KEY, True), (FOREIGN_KEY, False)]
    (cure,) = diagnosis.cures
    assert cure.subject == f"kms:Decrypt on {FOREIGN_KEY}"


def test_the_same_refusal_of_many_objects_is_one_cure():
    objects = tuple(
        Examined(remote=remote(f"data/{number}"), encryption=SEALED, tried=True, get=refused()) for number in range(3)
    )
    assert len(concluded(objects=objects).cures) == 1


def test_unusable_keys_are_told_without_the_objects_names():
    gone = refused(f"Key '{KEY}' does not exist", "KMS.NotFoundException", 400)
    assert isinstance(gone, Permanent)
    found = [link for link in links(concluded(objects=(examined(get=gone),)), "key") if "its KMS key" in link.found]
    assert [link.state for link in found] == ["refused"]
    assert "data/x" not in found[0].found


@pytest.mark.parametrize(
    ("quota", "state", "said"),
    [
        (20_000.0, "ok", "KMS allows the account 20,000 symmetric requests a second in eu-central-1"),
        (Unseen("AccessDenied", "no"), "unseen", "no: the default quota of eu-central-1 is taken"),
    ],
)
def test_the_accounts_quota_is_told_or_that_nobody_may_ask(quota, state, said):
    (link,) = links(concluded(quota=quota), "quota")
    assert (link.state, link.found) == (state, said)


def test_a_forecast_for_more_than_was_seen_is_for_a_million_gets():
    diagnosis = concluded(whole=False, quota=500.0)
    assert diagnosis.kms is not None
    assert (diagnosis.kms_whole, diagnosis.kms.requests, diagnosis.kms.rate_source) == (False, 1_000_000, "account")
    assert diagnosis.kms.seconds == 2000.0
    assert concluded(objects=(), listing=AccessError("no")).kms is None
