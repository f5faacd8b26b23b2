"""The statements that reading takes, one grant each, as IAM's grammar has it. Pure.

They grant what they have to, and nothing else: the objects below the prefix and not the bucket, the listing of that
prefix, Decrypt under the keys that were named. `*`, `?` and `$` of a key are written so that IAM takes them literally.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sealift.arn import Arn
from sealift.errors import ConfigError
from sealift.policy.principal import Principal
from sealift.selection import parse_location

Statement: TypeAlias = Mapping[str, object]
"""As it stands in a policy's JSON."""

BucketKeys = Literal["on", "off", "both"]
"""Whether the objects have Bucket Keys, which changes the encryption context that KMS is told."""

_DOMAINS = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
"""What services' names end in, by partition (botocore, data/partitions.json). What KMS calls S3 in the isolated
partitions, and in the European one, is not known here."""

_ACCESS_POINT = re.compile(r"accesspoint[/:](?P<name>[A-Za-z0-9.-]+)")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be read: a prefix, an object, or whatever of the two a SOURCE without a slash at its end means."""

    bucket: str
    """The bucket's name; behind an access point, that of the access point's bucket."""
    key: str
    what: Literal["prefix", "object", "either"]
    partition: str = "aws"
    access_point: str = ""
    """Its ARN, if the bucket is reached through one."""

    @classmethod
    def parse(cls, source: str, *, partition: str, behind: str = "") -> Scope:
        """Read a SOURCE; `behind` is the bucket's name if it is an access point. Raises ConfigError."""
        location = parse_location(source)
        if not location.key.isprintable():
            raise ConfigError(f"{location.key!r} cannot be written in a policy: name a prefix of printable characters")
        what: Literal["prefix", "either"] = "prefix" if not location.key or location.key.endswith("/") else "either"
        arn = Arn.parse(location.bucket)
        if arn is None:
            return cls(location.bucket, location.key, what, partition)
        point = _ACCESS_POINT.fullmatch(arn.resource)
        if arn.service != "s3" or not point or not arn.region:
            raise ConfigError(
                f"{location.bucket!r}: policies are written for buckets and their access points, not for Outposts, "
                "Object Lambda and Multi-Region Access Points"
            )
        if not behind:
            raise ConfigError(
                f"name the bucket behind the access point with --bucket NAME: aws s3control get-access-point "
                f"--account-id {arn.account} --name {point['name']} --query Bucket"
            )
        written = str(arn._replace(resource=f"accesspoint/{point['name']}"))
        return cls(behind, location.key, what, arn.partition, written)

    @property
    def bucket_arn(self) -> str:
        """The bucket's ARN."""
        return f"arn:{self.partition}:s3:::{self.bucket}"

    @property
    def keys(self) -> list[str]:
        """Patterns, as IAM has them, of the keys that are meant."""
        literal = _literal(self.key)
        if self.what == "object":
            return [literal]
        if self.what == "either":
            return [literal, f"{literal}/*"]
        return [f"{literal}*"]

    @property
    def listed(self) -> list[str] | None:
        """Patterns of the prefixes that have to be listed; None: any."""
        if self.what == "object":
            return []
        if self.what == "either":
            return [f"{_literal(self.key)}/*"]
        return [f"{_literal(self.key)}*"] if self.key else None

    def objects(self, *, direct: bool = False) -> list[str]:
        """Return the ARNs of the objects that are meant; `direct`, as the bucket has them, behind its access point."""
        root = f"{self.access_point}/object" if self.access_point and not direct else self.bucket_arn
        return [f"{root}/{key}" for key in self.keys]


def listing(
    scopes: Sequence[Scope], principal: Principal | None = None, *, versions: bool = False, direct: bool = False
) -> list[Statement]:
    """Return what allows listing the scopes' prefixes: one statement a bucket or access point.

    With a `principal`, for a resource's own policy; `direct`, for a bucket that is reached through an access point.
    """
    actions = ["s3:ListBucket", *(["s3:ListBucketVersions"] if versions else [])]
    patterns: dict[tuple[str, str], list[str] | None] = {}
    for scope in scopes:
        if scope.listed == []:
            continue
        point = scope.access_point
        at = (scope.bucket_arn, point) if direct or not point else (point, "")
        before = patterns.get(at, [])
        patterns[at] = None if before is None or scope.listed is None else [*before, *scope.listed]
    return [
        _statement(
            "SealiftListThrough" if point else "SealiftList",
            number,
            actions,
            [resource],
            principal,
            {} if found is None else {"StringLike": {"s3:prefix": _one_or_more(found)}},
            _through(point),
        )
        for number, ((resource, point), found) in enumerate(patterns.items())
    ]


def reading(
    scopes: Sequence[Scope], principal: Principal | None = None, *, versions: bool = False, direct: bool = False
) -> list[Statement]:
    """Return what allows getting the scopes' objects. See `listing`."""
    actions = ["s3:GetObject", *(["s3:GetObjectVersion"] if versions else [])]
    objects: dict[str, list[str]] = {}
    for scope in scopes:
        point = scope.access_point if direct else ""
        objects.setdefault(point, []).extend(scope.objects(direct=direct))
    return [
        _statement("SealiftReadThrough" if point else "SealiftRead", number, actions, found, principal, _through(point))
        for number, (point, found) in enumerate(objects.items())
    ]


def decrypting(
    keys: Sequence[str],
    scopes: Sequence[Scope],
    principal: Principal | None = None,
    *,
    strict: bool = False,
    bucket_keys: BucketKeys = "both",
    number: int = 0,
) -> Statement:
    """Return what allows Decrypt under `keys`; with a `principal`, for the policy of each of them.

    `strict`: only as S3 asks, and only for the scopes. With a Bucket Key S3 tells KMS the bucket's ARN and no object's:
    then it is any object of the bucket. Raises ConfigError where it is not known as what S3 asks.
    """
    conditions: dict[str, dict[str, object]] = {}
    if strict:
        services = [via_service(key) for key in keys]
        if not all(services):
            raise ConfigError(
                f"what KMS calls S3 in the partition of {keys[services.index('')]} is not known: leave --strict out"
            )
        contexts = [
            context
            for scope in scopes
            for context in (
                *([scope.bucket_arn] if bucket_keys != "off" else []),
                *(scope.objects(direct=True) if bucket_keys != "on" else []),
            )
        ]
        conditions = {
            "StringEquals": {"kms:ViaService": _one_or_more(services)},
            "StringLike": {"kms:EncryptionContext:aws:s3:arn": _one_or_more(contexts)},
        }
    resources = list(keys) if principal is None else ["*"]
    return _statement("SealiftDecrypt", number, ["kms:Decrypt"], resources, principal, conditions)


def via_service(key: str) -> str:
    """Return what `kms:ViaService` says where S3 asks for a key, whose ARN this is; nothing where that is not known.

    It is S3's name in the key's Region (AWS KMS Developer Guide, "kms:ViaService"), which in China ends in `.cn`.
    """
    arn = Arn.parse(key)
    domain = _DOMAINS.get(arn.partition) if arn is not None else None
    return f"s3.{arn.region}.{domain}" if arn is not None and arn.region and domain else ""


def asking_for_the_quota() -> Statement:
    """Return what allows asking Service Quotas, which knows of no resources, for the account's KMS quota."""
    actions = ["servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota"]
    return _statement("SealiftQuota", 0, actions, ["*"], None)


def looking(keys: Sequence[str], scopes: Sequence[Scope]) -> list[Statement]:
    """Return what allows `sealift doctor` to look at the bucket and at the keys themselves."""
    buckets = _unique(scope.bucket_arn for scope in scopes)
    of_bucket = ["s3:GetEncryptionConfiguration", "s3:GetBucketPolicy", "s3:GetBucketRequestPayment"]
    of_key = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListGrants"]
    return [
        _statement("SealiftLookAtBucket", 0, of_bucket, buckets, None),
        *([_statement("SealiftLookAtKey", 0, of_key, list(keys), None)] if keys else []),
    ]


def _statement(
    name: str,
    number: int,
    actions: Sequence[str],
    resources: Sequence[str],
    principal: Principal | None,
    *conditions: Mapping[str, Mapping[str, object]],
) -> Statement:
    statement: dict[str, object] = {"Sid": f"{name}{number + 1 if number else ''}", "Effect": "Allow"}
    all_conditions = [*conditions]
    if principal is not None:
        statement["Principal"], more = principal.clause
        all_conditions.append(more)
    statement["Action"] = _one_or_more(actions)
    statement["Resource"] = _one_or_more(resources)
    merged: dict[str, dict[str, object]] = {}
    for condition in all_conditions:
        for operator, tests in condition.items():
            merged.setdefault(operator, {}).update(tests)
    if merged:
        statement["Condition"] = merged
    return statement


def _through(access_point: str) -> dict[str, dict[str, object]]:
    return {"ArnEquals": {"s3:DataAccessPointArn": access_point}} if access_point else {}


def _literal(key: str) -> str:
    """Return `key` as IAM takes it for itself (IAM User Guide, "Policy variables", special characters)."""
    return re.sub(r"[*?$]", lambda match: f"${{{match[0]}}}", key)


def _one_or_more(values: Iterable[str]) -> str | list[str]:
    unique = _unique(values)
    return unique[0] if len(unique) == 1 else unique


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
