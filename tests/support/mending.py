"""Following what doctor says, round by round, until it says that nothing is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sealift.cli.findings import as_json, written
from sealift.diagnosis.conclusion import conclude
from sealift.diagnosis.facts import Question
from sealift.doctoring import examine
from tests.support.accounts import (
    BUCKET,
    KEYS,
    ONE,
    PREFIX,
    THREE,
    TWO,
    AccountLooks,
    Accounts,
    AccountStore,
    KeyState,
    State,
    granted,
)
from tests.support.iam import Ask, Policies, decide

NOW = datetime(2026, 11, 25, tzinfo=UTC)
SOURCE = f"s3://{BUCKET}/{PREFIX}"
ROUNDS = 12
"""More than there are grants: each may take a round."""

ACCOUNTS = [(ONE, ONE), (ONE, TWO), (TWO, ONE), (TWO, TWO), (TWO, THREE)]
"""The bucket's and the key's, the caller's being the first."""
STATES: tuple[State, ...] = ("present", "absent", "denied")
KEY_STATES: tuple[KeyState, ...] = ("named", "delegated", "absent", "denied")


async def examined(accounts: Accounts, source: str = SOURCE, **more: Any) -> dict[str, Any]:
    """What doctor prints with --json; all of which is in what it prints without."""

    @asynccontextmanager
    async def store():
        yield AccountStore(accounts)

    facts = await examine(Question(source=source, **more), AccountLooks(accounts), store)
    diagnosis = conclude(facts, now=NOW)
    said: dict[str, Any] = json.loads(as_json(diagnosis))
    text = "\n".join(written(diagnosis))
    for cure in said["cures"]:
        assert cure["subject"] in text
        for remedy in cure["remedies"]:
            assert remedy["act"] == "check" or remedy["text"] in text
            assert all(json.dumps(denying, indent=2, ensure_ascii=False) in text for denying in remedy["denies"])
    return said


async def mend(accounts: Accounts, source: str = SOURCE) -> list[dict[str, Any]]:
    """Do what doctor says until nothing is refused. Returns all that it said."""
    rounds: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        said = await examined(accounts, source)
        if said["exit_status"] == 0:
            return rounds
        assert said["cures"], said["links"]
        rounds.append(said)
        for cure in said["cures"]:
            if cure["certain"]:
                assert all(accounts.changes(remedy) for remedy in cure["remedies"]), cure
            for remedy in cure["remedies"]:
                accounts.follow(remedy)
    raise AssertionError(f"after {ROUNDS} rounds it is still refused: {rounds[-1]['cures']}")


async def mend_every_cell(bucket: str, key: str, *, bucket_key: bool, explained: bool, gets_too: bool = False) -> int:
    """Mend each cell of the account model, and return how many there were.

    s3:GetObject is in the state that s3:ListBucket is in, or `gets_too` in each.
    """
    cells = 0
    grants = itertools.product(STATES, STATES if gets_too else [None], STATES, STATES, KEY_STATES)
    for list_, get, decrypt, of_bucket, of_key in grants:
        accounts = granted(
            list_=list_,
            get=get or list_,
            decrypt=decrypt,
            bucket_policy=of_bucket,
            key_policy=of_key,
            bucket=bucket,
            key=key,
            bucket_key=bucket_key,
            explained=explained,
        )
        worked = accounts.works
        rounds = await mend(accounts)
        assert accounts.works
        assert worked == (not rounds)
        assert not grants_more(accounts)
        for cure in (cure for each in rounds for cure in each["cures"]):
            assert cure["remedies"]
            assert "unknown" not in f"{cure['subject']} {cure['why']}"
            if explained or bucket == ONE:  # only KMS's own answer across accounts leaves a choice then
                assert cure["certain"] or (cure["link"] == "key" and key != ONE)
        cells += 1
    return cells


def grants_more(accounts: Accounts) -> bool:
    """Whether what was added lets the caller do anything beside reading the prefix and decrypting with the key."""

    def added(policy: list[dict[str, Any]]) -> dict[str, Any]:
        return {"Statement": [each for each in policy if str(each.get("Sid", "")).startswith("Sealift")]}

    mine, of_bucket, of_key = added(accounts.identity), added(accounts.bucket_policy), added(accounts.key_policy)

    def allowed(action: str, resource: str, policy: Mapping[str, Any], context: Mapping[str, str]) -> bool:
        ask = Ask(accounts.role, action, resource, context)
        return decide(ask, Policies(identity=[mine], resource=policy), accounts.caller).allowed

    return (
        allowed("s3:GetObject", accounts.object_arn("other/x"), of_bucket, {})
        or allowed("s3:PutObject", accounts.object_arn(KEYS[0]), of_bucket, {})
        or allowed("s3:ListBucket", accounts.bucket_arn, of_bucket, {"s3:prefix": "other/"})
        or allowed("kms:Encrypt", accounts.key_arn, of_key, {})
        or allowed("kms:Decrypt", accounts.key_arn.replace("1234abcd", "ffffffff"), of_bucket, {})
    )
