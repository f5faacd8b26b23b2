"""Doctor names what is missing, in every cell of the account model; and what it prints is enough."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import anyio
import pytest

from tests.support.accounts import BUCKET, KEYS, ONE, THREE, TWO, Accounts, delegation, granted, statement
from tests.support.linting import complaints
from tests.support.mending import ACCOUNTS, examined, mend, mend_every_cell


@pytest.mark.parametrize(("bucket_key", "explained"), [(False, True), (True, False)], ids=["explained", "bucket key"])
@pytest.mark.parametrize(("bucket", "key"), ACCOUNTS)
def test_in_every_cell_following_what_is_printed_makes_the_download_work(bucket, key, bucket_key, explained):
    """`make stress` has all four of these, and three times the cells."""
    cells = partial(mend_every_cell, bucket, key, bucket_key=bucket_key, explained=explained)
    assert anyio.run(cells) == 108


GUARDS = ("boundary", "session", "service-control", "resource-control", "vpc-endpoint")
ALL = ["s3:ListBucket", "s3:GetObject", "kms:Decrypt"]


@pytest.mark.parametrize("explained", [True, False], ids=["explained", "plain"])
@pytest.mark.parametrize("action", ALL)
@pytest.mark.parametrize("effect", ["denies", "leaves out"])
@pytest.mark.parametrize("guard", GUARDS)
def test_whatever_else_stands_in_the_way_is_named_or_is_among_the_candidates(guard, effect, action, explained):
    if guard == "vpc-endpoint" and action == "kms:Decrypt":
        pytest.skip("S3 itself asks KMS: no endpoint of the caller's is on that way")
    accounts = granted(bucket=TWO, key=THREE, explained=explained)
    others = [each for each in ALL if each != action]
    who = accounts.role if guard == "vpc-endpoint" else ""
    everything = statement("Allow", ALL if effect == "denies" else others, ["*"], who)
    deny = [statement("Deny", [action], ["*"], who)] if effect == "denies" else []
    accounts.guards[guard] = [everything, *deny]
    assert not accounts.works
    (said,) = anyio.run(mend, accounts)
    (cure,) = said["cures"]
    assert cure["subject"].startswith(f"{action} on arn:")
    assert guard in [remedy["policy"] for remedy in cure["remedies"]]
    if explained:
        (remedy,) = cure["remedies"]
        assert (remedy["policy"], remedy["act"]) == (guard, "lift" if deny else "allow")
    assert accounts.works


def only(said: list[dict[str, Any]]) -> dict[str, Any]:
    """The one remedy of the one round."""
    ((cure,),) = ([*each["cures"]] for each in said)
    (remedy,) = cure["remedies"]
    found: dict[str, Any] = remedy
    return found


def test_in_one_account_a_key_that_leaves_it_to_iam_needs_a_statement_there():
    accounts = granted(decrypt="absent", key_policy="delegated")
    remedy = only(anyio.run(mend, accounts))
    assert (remedy["policy"], remedy["account"], remedy["resource"]) == ("iam", ONE, accounts.role)
    (pasted,) = remedy["statements"]
    assert (pasted["Action"], pasted["Resource"]) == ("kms:Decrypt", accounts.key_arn)


def test_in_one_account_a_key_that_keeps_it_to_itself_has_to_name_the_caller():
    accounts = granted(key_policy="absent")
    remedy = only(anyio.run(mend, accounts))
    assert (remedy["policy"], remedy["account"], remedy["resource"]) == ("key", ONE, accounts.key_arn)
    (pasted,) = remedy["statements"]
    assert (pasted["Principal"], pasted["Action"], pasted["Resource"]) == ({"AWS": accounts.role}, "kms:Decrypt", "*")


def test_across_accounts_both_sides_have_to_allow_it():
    accounts = granted(decrypt="absent", key_policy="absent", key=TWO)
    (said,) = anyio.run(mend, accounts)
    allowed = [(each["policy"], each["account"]) for each in said["cures"][0]["remedies"] if each["act"] == "allow"]
    assert allowed == [("key", TWO), ("iam", ONE)]


def test_a_policy_whose_condition_names_objects_is_found_out_where_bucket_keys_changed_the_context():
    accounts = granted(decrypt="absent", key_policy="absent", bucket_key=True)
    condition = {"StringLike": {"kms:EncryptionContext:aws:s3:arn": f"{accounts.bucket_arn}/*"}}
    accounts.key_policy.append(statement("Allow", ["kms:Decrypt"], ["*"], accounts.role) | {"Condition": condition})
    accounts.bucket_key = False
    assert anyio.run(mend, accounts) == []
    accounts.bucket_key = True
    (said,) = anyio.run(mend, accounts)
    assert "a condition on kms:EncryptionContext:aws:s3:arn that names objects does not fit" in said["cures"][0]["why"]
    assert f"the context is {accounts.bucket_arn}" in said["cures"][0]["why"]


def allow_looking(accounts: Accounts) -> None:
    """What `sealift policy --for doctor` adds."""
    of_key = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListGrants"]
    of_bucket = ["s3:GetBucketPolicy", "s3:GetEncryptionConfiguration", "s3:GetBucketRequestPayment"]
    accounts.identity.append(statement("Allow", of_key, [accounts.key_arn]))
    accounts.identity.append(statement("Allow", of_bucket, [accounts.bucket_arn]))


def test_what_may_be_looked_at_leaves_fewer_candidates():
    def candidates(*, looking: bool) -> list[tuple[str, str]]:
        accounts = granted(bucket=TWO, key=ONE, decrypt="absent", key_policy="delegated", explained=False)
        if looking:
            allow_looking(accounts)
        (said,) = anyio.run(mend, accounts)
        (cure,) = said["cures"]
        return [(remedy["act"], remedy["policy"]) for remedy in cure["remedies"] if remedy["act"] != "check"]

    assert candidates(looking=False) == [("allow", "iam"), ("allow", "key"), ("lift", "iam"), ("lift", "key")]
    assert candidates(looking=True) == [("allow", "iam"), ("lift", "iam")]


def test_a_deny_that_can_be_read_in_the_key_policy_is_the_answer():
    accounts = granted(bucket=TWO, key=ONE, key_policy="denied", explained=False)
    accounts.key_policy.append(delegation(ONE))
    allow_looking(accounts)
    denying = [each for each in accounts.key_policy if each["Effect"] == "Deny"]
    remedy = only(anyio.run(mend, accounts))
    assert (remedy["act"], remedy["policy"], remedy["denies"]) == ("lift", "key", denying)
    assert len(denying) == 1


def link(said: dict[str, Any], name: str) -> dict[str, Any]:
    """The last link of that name."""
    found: dict[str, Any] = next(each for each in reversed(said["links"]) if each["name"] == name)
    return found


def test_not_being_permitted_to_look_is_a_finding_and_no_error():
    said = anyio.run(examined, granted(bucket=TWO, key=THREE))
    assert said["exit_status"] == 0
    assert said["cures"] == []
    assert "not permitted to look with kms:DescribeKey, kms:GetKeyPolicy, kms:ListGrants" in link(said, "key")["found"]
    assert "not permitted to look with s3:GetEncryptionConfiguration" in link(said, "bucket")["found"]


def test_whose_bucket_and_key_are_is_told_from_arns_and_from_s3s_word():
    for bucket, key in ACCOUNTS:
        said = anyio.run(examined, granted(bucket=bucket, key=key))
        assert said["caller_account"] == ONE
        assert said["bucket_same_account"] == (bucket == ONE)
        assert said["bucket_account"] == (ONE if bucket == ONE else "")
        assert [(each["account"], each["same_account"]) for each in said["keys"]] == [(key, key == ONE)]


def test_the_buckets_account_is_in_the_remedies_where_somebody_says_it():
    async def refused() -> dict[str, Any]:
        return await examined(granted(bucket=TWO, bucket_policy="absent"), bucket_account=TWO)

    said = anyio.run(refused)
    (remedy,) = said["cures"][0]["remedies"]
    assert (remedy["policy"], remedy["account"]) == ("bucket", TWO)


@pytest.mark.parametrize(
    ("state", "advice"),
    [("Disabled", "enable-key"), ("PendingDeletion", "cancel-key-deletion"), ("gone", "cannot be read without it")],
)
def test_a_key_that_nobody_can_use_is_told_once_and_no_policy_is_blamed(state, advice):
    said = anyio.run(examined, granted(key_state=state))
    assert said["exit_status"] == 3
    assert said["cures"] == []
    refused = [each for each in said["links"] if each["name"] == "key" and each["state"] == "refused"]
    assert sum(advice in each["found"] for each in refused) == 1


def test_an_object_is_examined_by_itself_and_its_statements_are_for_it_alone():
    accounts = granted(get="absent", list_="absent", bucket_policy="absent")
    rounds = anyio.run(mend, accounts, f"s3://{BUCKET}/{KEYS[0]}")
    statements = [each for said in rounds for cure in said["cures"] for each in cure["remedies"][0]["statements"]]
    objects = [each["Resource"] for each in statements if each["Action"] == "s3:GetObject"]
    assert accounts.get(KEYS[0]) is None
    assert objects
    assert all(accounts.object_arn(KEYS[0]) in each for each in objects)


def test_what_kms_would_be_asked_is_told_for_all_objects_where_all_were_seen():
    said = anyio.run(examined, granted())
    assert said["kms_whole"]
    assert (said["kms"]["requests"], said["kms"]["rate"], said["kms"]["rate_source"]) == (len(KEYS), 20_000.0, "region")
    assert anyio.run(examined, granted(bucket_key=True))["kms"]["requests"] == 0


def test_every_statement_that_is_printed_is_valid_by_the_linter():
    pasted: dict[str, dict[str, Any]] = {}
    for bucket, key in ACCOUNTS:
        accounts = granted(
            list_="absent",
            get="absent",
            decrypt="absent",
            bucket_policy="absent",
            key_policy="absent",
            bucket=bucket,
            key=key,
            explained=False,
        )
        for said in anyio.run(mend, accounts):
            for cure in said["cures"]:
                for remedy in cure["remedies"]:
                    for each in remedy["statements"]:
                        pasted[f"{remedy['policy']} {json.dumps(each)}"] = each
    assert len(pasted) >= 10
    for where, each in pasted.items():
        policy = {"Version": "2012-10-17", "Statement": [each]}
        assert complaints(policy, of_resource=where.startswith("key ")) == []
