"""Which policies have to grant what, by the accounts that caller, key and bucket are in. Pure.

- The caller's IAM policy always, but it alone is not enough across accounts.
- A key's policy where the key is another account's. In the caller's account it may leave the matter to IAM policies,
  as the policies of most keys do, by a statement for the account's root; else it has to name the caller.
- A bucket's policy where the bucket is another account's, and an access point's where that is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sealift.arn import Arn, account_of, region_of
from sealift.errors import ConfigError
from sealift.policy.principal import Principal
from sealift.policy.statements import (
    BucketKeys,
    Scope,
    Statement,
    asking_for_the_quota,
    decrypting,
    listing,
    looking,
    reading,
)

Kind = Literal["iam", "key", "bucket", "access-point"]
Extra = Literal["as-of", "kms-share", "doctor"]
EXTRAS: tuple[Extra, ...] = ("as-of", "kms-share", "doctor")
"""What takes more than a plain mirror does."""

LARGEST_MANAGED_POLICY = 6144
"""Characters of an IAM policy without its white space (IAM User Guide, "IAM and AWS STS quotas")."""

_KEY = re.compile(r"key/[A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who is to read what."""

    principal: Principal
    scopes: Sequence[Scope]
    keys: Mapping[str, Sequence[Scope]]
    """The ARNs of the keys that objects are encrypted with, each with the scopes where those are."""
    bucket_account: str = ""
    """Whose the buckets are; the principal's own, where nobody says."""
    strict: bool = False
    bucket_keys: BucketKeys = "both"
    extras: frozenset[Extra] = frozenset()


@dataclass(frozen=True, slots=True)
class Document:
    """Statements that a policy needs."""

    kind: Kind
    account: str
    """Whose policy it is."""
    resources: tuple[str, ...]
    """The ARNs of what the policy belongs to: the principal, keys, a bucket or an access point."""
    required: bool
    """False: only where `why` says so."""
    why: str
    statements: tuple[Statement, ...]

    @property
    def policy(self) -> dict[str, object]:
        """The statements as a policy of their own."""
        return {"Version": "2012-10-17", "Statement": list(self.statements)}

    @property
    def too_large(self) -> bool:
        """Whether it exceeds what a managed IAM policy may have."""
        return self.kind == "iam" and len(json.dumps(self.policy, separators=(",", ":"))) > LARGEST_MANAGED_POLICY


def checked_key(text: str) -> str:
    """Return the ARN of a KMS key, as it was written. Raises ConfigError for anything else."""
    arn = Arn.parse(text.strip())
    if arn is not None and arn.service == "kms" and arn.region and arn.account and _KEY.fullmatch(arn.resource):
        return str(arn)
    raise ConfigError(
        f"{text!r} is no key's ARN: policies take arn:aws:kms:REGION:ACCOUNT:key/ID, and neither aliases nor bare ids "
        "(aws kms describe-key --key-id alias/NAME --query KeyMetadata.Arn)"
    )


def checked_account(text: str) -> str:
    """Return the number of an account. Raises ConfigError for anything else."""
    if not re.fullmatch("[0-9]{12}", text.strip()):
        raise ConfigError(f"{text!r} is no account: write its twelve digits")
    return text.strip()


def documents(request: Request) -> list[Document]:
    """Return what every policy concerned needs, the caller's own first."""
    return [_iam(request), *_of_keys(request), *_of_buckets(request)]


def _iam(request: Request) -> Document:
    versions = "as-of" in request.extras
    through = [scope for scope in request.scopes if scope.access_point]
    statements: list[Statement] = [
        *listing(request.scopes, versions=versions),
        *reading(request.scopes, versions=versions),
        # What goes through an access point needs both to allow it (S3 User Guide, "Configuring IAM policies for
        # using access points"): the bucket as well, for as much as comes through there.
        *listing(through, versions=versions, direct=True),
        *reading(through, versions=versions, direct=True),
    ]
    statements += [
        _decrypt(request, keys, scopes, None, number) for number, (keys, scopes) in enumerate(_alike(request))
    ]
    if "kms-share" in request.extras or "doctor" in request.extras:
        statements.append(asking_for_the_quota())
    if "doctor" in request.extras:
        statements += looking(list(request.keys), request.scopes)
    principal = request.principal
    return Document(
        "iam",
        principal.account,
        (principal.arn,),
        required=True,
        why="the caller's own permissions",
        statements=tuple(statements),
    )


def _of_keys(request: Request) -> list[Document]:
    found = []
    for keys, scopes in _alike(request):
        for account in dict.fromkeys(account_of(key) for key in keys):
            mine = tuple(key for key in keys if account_of(key) == account)
            foreign = account != request.principal.account
            root = f"arn:{request.principal.partition}:iam::{account}:root"
            why = (
                "the key is another account's, so its policy has to allow it as well"
                if foreign
                else "needed only where the key's policy does not leave it to IAM policies, by a statement that allows "
                f"kms:* to {root}"
            )
            statement = _decrypt(request, mine, scopes, request.principal)
            found.append(Document("key", account, mine, foreign, why, (statement,)))
    return found


def _of_buckets(request: Request) -> list[Document]:
    versions, principal = "as-of" in request.extras, request.principal
    found = []
    by_bucket: dict[str, list[Scope]] = {}
    by_point: dict[str, list[Scope]] = {}
    for scope in request.scopes:
        by_bucket.setdefault(scope.bucket_arn, []).append(scope)
        if scope.access_point:
            by_point.setdefault(scope.access_point, []).append(scope)
    for point, scopes in by_point.items():
        account = account_of(point)
        if account != principal.account:
            statements = (
                *listing(scopes, principal, versions=versions),
                *reading(scopes, principal, versions=versions),
            )
            why = "the access point is another account's, so its policy has to allow it as well"
            found.append(Document("access-point", account, (point,), required=True, why=why, statements=statements))
    if not request.bucket_account or request.bucket_account == principal.account:
        return found
    for bucket, scopes in by_bucket.items():
        statements = (
            *listing(scopes, principal, versions=versions, direct=True),
            *reading(scopes, principal, versions=versions, direct=True),
        )
        why = "the bucket is another account's, so its policy has to allow it as well"
        found.append(Document("bucket", request.bucket_account, (bucket,), True, why, statements))
    return found


def _alike(request: Request) -> list[tuple[list[str], Sequence[Scope]]]:
    """Return keys that one statement serves: all of them, unless conditions name what is encrypted with each."""
    if not request.strict:
        return [(list(request.keys), request.scopes)] if request.keys else []
    alike: dict[tuple[str, tuple[Scope, ...]], list[str]] = {}
    for key, scopes in request.keys.items():
        alike.setdefault((region_of(key), tuple(scopes)), []).append(key)
    return [(keys, scopes) for (_, scopes), keys in alike.items()]


def _decrypt(
    request: Request, keys: Sequence[str], scopes: Sequence[Scope], principal: Principal | None, number: int = 0
) -> Statement:
    return decrypting(keys, scopes, principal, strict=request.strict, bucket_keys=request.bucket_keys, number=number)
