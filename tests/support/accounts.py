"""The account model: a caller, a bucket and a key in one, two or three accounts, and what AWS would answer.

1. Policies are real documents, evaluated by `tests.support.iam` for each request: S3's for the listing and the object,
   then KMS's for the Decrypt that S3 asks for, with the encryption context that Bucket Keys decide.
2. A refusal is put in AWS's words. S3 explains itself within the account or the organization (`explained`), and
   else says "Access Denied", whatever the reason.
3. `follow` does what `sealift doctor --json` says, and nothing else.

`AccountStore` and `AccountLooks` are the model without a network; `tests.support.accountserver` is it on loopback.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from sealift.diagnosis.facts import BucketSeen, Caller, Endpoint, Identity, KeySeen, Unseen
from sealift.errors import SealiftError
from sealift.model import Encryption, Part, RemoteObject
from sealift.s3.store import Going, Page, PageRequest
from sealift.s3.translate import Refusal, translate
from tests.support.fakestore import FakeBody
from tests.support.iam import Ask, Decision, Policies, Policy, allows, decide

ONE, TWO, THREE = "111122223333", "444455556666", "777788889999"
REGION = "eu-central-1"
BUCKET = "amzn-s3-demo-bucket"
PREFIX = "data/"
KEYS = ("data/2025/a.csv", "data/2026/b.csv")
BODY = b"sealed and lifted"

_KINDS = {
    "identity": "identity-based policy",
    "resource": "resource-based policy",
    "boundary": "permissions boundary",
    "session": "session policy",
    "service control": "service control policy",
    "resource control": "resource control policy",
    "VPC endpoint": "VPC endpoint policy",
}
_FOREIGN = (
    "because the resource does not exist in this Region, no resource-based policies allow access, "
    "or a resource-based policy explicitly denies access"
)
_OLDER = (
    "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not "
    "allowed to access."
)
_GUARDS = ("boundary", "session", "service-control", "resource-control", "vpc-endpoint")


@dataclass(frozen=True, slots=True)
class Refused:
    """AWS's answer."""

    status: int
    code: str
    message: str


@dataclass(slots=True, kw_only=True)
class Accounts:
    """Whose what is, and all the policies. A test changes them; `follow` does."""

    caller: str = ONE
    bucket: str = ONE
    key: str = ONE
    bucket_key: bool = False
    explained: bool = True
    """Whether S3 explains its refusals across accounts: they are in one organization."""
    silent: bool = False
    """S3 explains nothing at all, as in older days."""
    older: bool = False
    """Of Decrypts across accounts, KMS says what it said in older days."""
    key_state: Literal["Enabled", "Disabled", "PendingDeletion", "gone"] = "Enabled"
    identity: list[dict[str, Any]] = field(default_factory=list)
    bucket_policy: list[dict[str, Any]] = field(default_factory=list)
    key_policy: list[dict[str, Any]] = field(default_factory=list)
    guards: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Statements of the others, by the names that doctor gives them; only those that there are."""
    objects: dict[str, bytes] = field(default_factory=lambda: dict.fromkeys(KEYS, BODY))

    @property
    def role(self) -> str:
        return f"arn:aws:iam::{self.caller}:role/nightly"

    @property
    def session(self) -> str:
        return f"arn:aws:sts::{self.caller}:assumed-role/nightly/i-0123456789abcdef0"

    @property
    def key_arn(self) -> str:
        return f"arn:aws:kms:{REGION}:{self.key}:key/1234abcd-12ab-34cd-56ef-1234567890ab"

    @property
    def bucket_arn(self) -> str:
        return f"arn:aws:s3:::{BUCKET}"

    def object_arn(self, key: str) -> str:
        return f"{self.bucket_arn}/{key}"

    # What AWS answers.

    def listing(self, prefix: str) -> Refused | None:
        """ListObjectsV2; also HeadBucket, without a prefix."""
        return self._s3("s3:ListBucket", self.bucket_arn, {"s3:prefix": prefix})

    def head(self, key: str) -> Refused | None:
        """HeadObject. Its refusal has no body."""
        return self._s3("s3:GetObject", self.object_arn(key)) or self._missing(key)

    def get(self, key: str) -> Refused | None:
        """GetObject."""
        return self._s3("s3:GetObject", self.object_arn(key)) or self._missing(key) or self._decrypt(key)

    def owned_by(self, account: str) -> Refused | None:
        """What a request with `x-amz-expected-bucket-owner` is told, if it is refused for that."""
        return None if account == self.bucket else Refused(403, "AccessDenied", "Access Denied")

    def of_bucket(self, action: str) -> Refused | None:
        """A look at the bucket's settings."""
        return self._s3(action, self.bucket_arn)

    def of_key(self, action: str) -> Refused | None:
        """A look at the key, by the caller's own request to KMS, which explains its refusals always."""
        if action == "kms:GetKeyPolicy" and self.caller != self.key:  # "Cross-account use: No"
            return self._not_found()
        said = self._kms(action, {})
        return None if said is None else Refused(400, "AccessDeniedException", said)

    def _s3(self, action: str, resource: str, context: Mapping[str, str] | None = None) -> Refused | None:
        ask = Ask(self.role, action, resource, context or {}, self.session)
        decision = decide(ask, self._policies(self.bucket_policy), self.bucket)
        if decision.allowed:
            return None
        if not self._explains:
            return Refused(403, "AccessDenied", "Access Denied")
        return Refused(403, "AccessDenied", self._said(f'{action} on resource: "{resource}"', action, decision))

    def _decrypt(self, key: str) -> Refused | None:
        unusable = {
            "Disabled": ("KMS.DisabledException", f"{self.key_arn} is disabled."),
            "PendingDeletion": ("KMS.KMSInvalidStateException", f"{self.key_arn} is pending deletion."),
        }
        if self.key_state == "gone":
            return Refused(400, "KMS.NotFoundException", f"Key '{self.key_arn}' does not exist")
        said = self._kms("kms:Decrypt", self._context(key))
        if said is not None:
            return Refused(403, "AccessDenied", said if self._explains else "Access Denied")
        return Refused(400, *unusable[self.key_state]) if self.key_state in unusable else None

    def _context(self, key: str) -> dict[str, str]:
        arn = self.bucket_arn if self.bucket_key else self.object_arn(key)
        return {"kms:ViaService": f"s3.{REGION}.amazonaws.com", "kms:EncryptionContext:aws:s3:arn": arn}

    def _kms(self, action: str, context: Mapping[str, str]) -> str | None:
        ask = Ask(self.role, action, self.key_arn, context, self.session)
        policies = self._policies(self.key_policy, by_kms=True)
        decision = decide(ask, policies, self.key, by_resource=True)
        if decision.allowed:
            return None
        if self.key != self.caller and decision.where == "resource" and self.older:
            return _OLDER
        if self.key != self.caller and decision.where == "resource":
            return f"User: {self.session} is not authorized to perform: {action} on resource: {self.key_arn} {_FOREIGN}"
        return self._said(f"{action} on resource: {self.key_arn}", action, decision)

    def _said(self, what: str, action: str, decision: Decision) -> str:
        kind = _KINDS[str(decision.where)]
        article = "an" if kind[0] in "aeiou" else "a"
        why = (
            f"with an explicit deny in {article} {kind}"
            if decision.explicit
            else f"because no {kind} allows the {action} action"
        )
        return f"User: {self.session} is not authorized to perform: {what} {why}"

    def _not_found(self) -> Refused:
        return Refused(400, "NotFoundException", f"Key '{self.key_arn}' does not exist")

    def _missing(self, key: str) -> Refused | None:
        if key in self.objects:
            return None
        if self._s3("s3:ListBucket", self.bucket_arn) is None:
            return Refused(404, "NoSuchKey", "The specified key does not exist.")
        return Refused(403, "AccessDenied", "Access Denied")

    @property
    def _explains(self) -> bool:
        return not self.silent and (self.explained or self.bucket == self.caller)

    def _policies(self, resource: list[dict[str, Any]], *, by_kms: bool = False) -> Policies:
        def guard(name: str) -> Policy | None:
            return {"Statement": self.guards[name]} if name in self.guards else None

        return Policies(
            identity=[{"Statement": self.identity}],
            resource={"Statement": resource} if resource else None,
            boundary=guard("boundary"),
            session=guard("session"),
            service_control=guard("service-control"),
            resource_control=guard("resource-control"),
            vpc_endpoint=None if by_kms else guard("vpc-endpoint"),
        )

    # What people do.

    def follow(self, remedy: Mapping[str, Any]) -> None:
        """Do what one remedy of `sealift doctor --json` says. What is no change of a policy is left."""
        if remedy["act"] == "else":
            return
        policy = self._policy(remedy["policy"])
        if policy is None:
            return  # there is no such guard, so it neither denies nor leaves anything out
        if remedy["act"] in ("lift", "check"):
            policy[:] = [statement for statement in policy if not _denies(statement, remedy["action"])]
        if remedy["act"] in ("allow", "check"):
            assert remedy["act"] == "check" or remedy["statements"], "nothing to paste"
            policy += [dict(statement) for statement in remedy["statements"]]

    def changes(self, remedy: Mapping[str, Any]) -> bool:
        """Whether a remedy that was called certain is one: it adds what is missing, or lifts what is there."""
        policy = self._policy(remedy["policy"]) or []
        if remedy["act"] == "lift":
            return any(_denies(statement, remedy["action"]) for statement in policy)
        resource = {"s3:ListBucket": self.bucket_arn, "s3:GetObject": self.object_arn(KEYS[0])}
        ask = Ask(
            self.role,
            remedy["action"],
            resource.get(remedy["action"], self.key_arn),
            {"s3:prefix": PREFIX} if remedy["action"] == "s3:ListBucket" else self._context(KEYS[0]),
        )
        return remedy["act"] == "allow" and not allows({"Statement": policy}, ask)

    def _policy(self, name: str) -> list[dict[str, Any]] | None:
        if name in _GUARDS:
            return self.guards.get(name)
        return {"iam": self.identity, "bucket": self.bucket_policy, "key": self.key_policy}[name]

    @property
    def works(self) -> bool:
        """Whether the prefix can be mirrored."""
        return self.listing(PREFIX) is None and all(self.head(key) is None and self.get(key) is None for key in KEYS)


def _denies(statement: Mapping[str, Any], action: str) -> bool:
    actions: list[str] = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    covers = action in actions or f"{action.partition(':')[0]}:*" in actions
    return bool(statement["Effect"] == "Deny" and covers)


class AccountStore:
    """An `ObjectStore` of the model."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def list_page(self, request: PageRequest) -> Page:
        prefix, delimiter = request.prefix, request.delimiter
        _answered(self._accounts.listing(prefix), "list")
        keys = [key for key in sorted(self._accounts.objects) if key.startswith(prefix)]
        beyond = {key: key[len(prefix) :].partition("/") for key in keys}
        below = {f"{prefix}{name}/" for name, slash, _ in beyond.values() if slash} if delimiter else set()
        direct = [key for key in keys if not delimiter or not beyond[key][1]]
        return Page(tuple(self._remote(key) for key in direct), None, tuple(sorted(below)))

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        if (refused := self._accounts.head(key)) is not None:
            _answered(self._accounts.get(key) or refused, "get", key)
        return self._remote(key)

    async def encryption(self, bucket: str, key: str) -> Encryption:
        refused = self._accounts.head(key)
        _answered(refused and Refused(refused.status, str(refused.status), "Forbidden"), "head", key)
        return Encryption("aws:kms", self._accounts.key_arn, self._accounts.bucket_key)

    @asynccontextmanager
    async def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AsyncIterator[FakeBody]:
        _answered(self._accounts.get(remote.key), "get", remote.key)
        yield FakeBody(self._accounts.objects[remote.key][part.range.start : part.range.stop])

    def _remote(self, key: str) -> RemoteObject:
        return RemoteObject(BUCKET, key, len(self._accounts.objects[key]), f'"{hash(key):x}"', 0)


class AccountLooks:
    """`Looks` at the model."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def identity(self) -> Identity:
        accounts = self._accounts
        return Identity(provider="env", expires=None, caller=Caller(accounts.session, accounts.caller), skew=0.0)

    async def endpoint(self, bucket: str) -> Endpoint:
        return Endpoint(host="127.0.0.1", addresses=1, tls="")

    async def bucket(self, bucket: str, prefix: str, account: str) -> BucketSeen:
        accounts = self._accounts
        reached, listed = accounts.listing(""), accounts.listing(prefix)
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": accounts.key_arn}
        encryption = {**default, "BucketKeyEnabled": accounts.bucket_key}
        policy = {"Statement": accounts.bucket_policy}
        return BucketSeen(
            reached=None if reached is None else Unseen(str(reached.status), "Forbidden"),
            region=REGION,
            mine=None if reached and listed else accounts.owned_by(account) is None,
            encryption=_unseen(accounts.of_bucket("s3:GetEncryptionConfiguration")) or encryption,
            requester_pays=_unseen(accounts.of_bucket("s3:GetBucketRequestPayment")) or False,
            policy=_unseen(accounts.of_bucket("s3:GetBucketPolicy")) or policy,
        )

    async def key(self, arn: str) -> KeySeen:
        accounts = self._accounts
        described = {"Arn": arn, "KeyState": accounts.key_state, "KeyManager": "CUSTOMER", "MultiRegion": False}
        return KeySeen(
            described=_unseen(accounts.of_key("kms:DescribeKey")) or described,
            policy=_unseen(accounts.of_key("kms:GetKeyPolicy")) or {"Statement": accounts.key_policy},
            grants=[] if (refused := _unseen(accounts.of_key("kms:ListGrants"))) is None else refused,
        )

    async def quota(self, region: str) -> float | Unseen:
        return Unseen("AccessDeniedException", "not authorized to perform: servicequotas:GetServiceQuota")


def _unseen(refused: Refused | None) -> Unseen | None:
    return None if refused is None else Unseen(refused.code, refused.message)


def _answered(refused: Refused | None, operation: Literal["list", "head", "get"], key: str = "") -> None:
    if refused is not None:
        error: SealiftError = translate(Refusal(refused.status, refused.code, refused.message, operation, BUCKET, key))
        raise error


# Grants, to put a model together.

State = Literal["present", "absent", "denied"]
KeyState = Literal["named", "delegated", "absent", "denied"]


def delegation(account: str) -> dict[str, Any]:
    """The statement by which a key's policy leaves the matter to IAM policies, as that of most keys has."""
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    return {"Sid": "Enable IAM policies", "Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}


def statement(
    effect: Literal["Allow", "Deny"], actions: Iterable[str], resources: Iterable[str], principal: str = ""
) -> dict[str, Any]:
    who = {"Principal": {"AWS": principal}} if principal else {}
    return {"Effect": effect, **who, "Action": list(actions), "Resource": list(resources)}


def granted(
    *,
    list_: State = "present",
    get: State = "present",
    decrypt: State = "present",
    bucket_policy: State = "present",
    key_policy: KeyState = "named",
    **accounts: Any,
) -> Accounts:
    """Return the model with each grant present, absent, or denied."""
    made = Accounts(**accounts)
    objects = f"{made.bucket_arn}/*"
    wanted = [
        (list_, "s3:ListBucket", made.bucket_arn),
        (get, "s3:GetObject", objects),
        (decrypt, "kms:Decrypt", made.key_arn),
    ]
    for state, action, resource in wanted:
        made.identity += _in_state(state, [action], [resource])
    of_bucket = ["s3:ListBucket", "s3:GetObject"]
    made.bucket_policy += _in_state(bucket_policy, of_bucket, [made.bucket_arn, objects], made.role)
    # Whoever owns a key keeps the use of it: KMS refuses a policy that locks its owner out.
    made.key_policy.append(statement("Allow", ["kms:*"], ["*"], f"arn:aws:iam::{made.key}:role/administrator"))
    if key_policy == "delegated":
        made.key_policy.append(delegation(made.key))
    else:
        named: State = "present" if key_policy == "named" else key_policy
        made.key_policy += _in_state(named, ["kms:Decrypt"], ["*"], made.role)
    return made


def _in_state(state: State, actions: list[str], resources: list[str], principal: str = "") -> list[dict[str, Any]]:
    """A Deny beside the Allow: when it is lifted, nothing else is missing."""
    allow = statement("Allow", actions, resources, principal)
    deny = statement("Deny", actions, resources, principal)
    return {"present": [allow], "absent": [], "denied": [allow, deny]}[state]


CASES: dict[str, dict[str, Any]] = {
    "same-account-iam": {"decrypt": "absent", "key_policy": "delegated", "bucket_policy": "absent"},
    "same-account-key": {"decrypt": "absent", "key_policy": "absent", "bucket_policy": "absent"},
    "cross-account": {
        "decrypt": "absent",
        "bucket_policy": "absent",
        "key_policy": "absent",
        "bucket": TWO,
        "key": TWO,
    },
}
"""Those of docs/permissions.md."""

THREADS: dict[str, dict[str, Any]] = {
    "boto/boto3#2952": {"decrypt": "absent", "key_policy": "delegated", "bucket_policy": "absent", "silent": True},
    "slashdevops/idp-scim-sync#540": {"decrypt": "absent", "key_policy": "delegated", "bucket_key": True},
    "ministryofjustice/modernisation-platform#3468": {"key": TWO, "key_policy": "absent", "older": True},
    "aws/aws-cli#1689": {"list_": "absent", "bucket_policy": "absent"},
}
"""Those of docs/troubleshooting.md: refusals that people could not read."""
