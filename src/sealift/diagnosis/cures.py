"""From a refusal to what mends it: which statement is missing, or which Deny to lift, in which policy. Pure.

- What AWS explains is believed: one remedy, in the policy that it names.
- What it does not explain is narrowed by what is known: whose the bucket and the key are, and what their policies
  say where somebody may look. What is left is named, all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sealift.arn import account_of, region_of
from sealift.denial import Denial, with_article
from sealift.diagnosis.findings import Act, Cure, Name, Remedy, Where
from sealift.policy.principal import Principal
from sealift.policy.reading import Reading
from sealift.policy.statements import Scope, Statement, decrypting, listing, reading

_POLICIES: dict[str, Where] = {
    "identity-based policy": "iam",
    "permissions boundary": "boundary",
    "session policy": "session",
    "service control policy": "service-control",
    "resource control policy": "resource-control",
    "VPC endpoint policy": "vpc-endpoint",
}

_GUARDS: tuple[Where, ...] = ("boundary", "session", "service-control", "resource-control")
"""What can deny, or leave out, whatever the others allow."""

_CALLED: dict[Where, str] = {
    "iam": "an IAM policy of",
    "key": "the key policy of",
    "bucket": "the bucket policy of",
    "access-point": "the policy of the access point",
    "boundary": "the permissions boundary of",
    "session": "the session policy that went with the role's credentials of",
    "service-control": "a service control policy (SCP) of the organization of",
    "resource-control": "a resource control policy (RCP) of the organization that owns",
    "vpc-endpoint": "the policy of the VPC endpoint that the requests go through, of",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is known where something was refused."""

    link: Name
    action: str
    """What was tried, where AWS does not say it: `s3:ListBucket`, `s3:GetObject` or `kms:Decrypt`."""
    caller: str
    """The ARN of the user or of the role's session; nothing where it is not known."""
    principal: Principal | None
    scope: Scope
    key: str = ""
    """The key's ARN, where it is about a key."""
    bucket_account: str = ""
    """Nothing where it is not known."""
    of_key: Reading | None = None
    """What the key's policy says; None where nobody may look."""
    of_bucket: Reading | None = None
    bucket_key: bool = False
    """The object has a Bucket Key: KMS is told the bucket's ARN, not the object's."""
    perhaps_missing: bool = False
    """There may be no such object: nothing listed it."""
    requester_pays: bool | None = None
    """Whether the requester has to pay, and does not; None where it is not known."""

    @property
    def caller_account(self) -> str:
        """The caller's account; nothing where it is not known."""
        return self.principal.account if self.principal is not None else account_of(self.caller)


def cure(denial: Denial, case: Case) -> Cure:
    """Return what mends a refusal."""
    action = denial.action or case.action
    made = _Maker(case, action, denial.resource)
    subject = f"{action} on {made.subject}"
    if denial.effect == "explicit" and denial.kind:
        where = made.of_resource if denial.kind == "resource-based policy" else _POLICIES.get(denial.kind)
        if where is not None:
            why = f"a Deny in {with_article(denial.kind)} forbids it: no Allow overrides a Deny"
            return made.cured(subject, why, True, [made.lift(where)])
    if denial.effect == "explicit":
        every: list[Where] = ["iam", made.of_resource, *made.guards]
        why = "a Deny forbids it, and AWS does not say where: no Allow overrides a Deny"
        return made.cured(subject, why, False, [made.lift(where) for where in every])
    if denial.effect == "implicit" and not denial.foreign:
        where = made.of_resource if denial.kind == "resource-based policy" else _POLICIES.get(denial.kind)
        if where is not None:
            why = f"no {denial.kind} allows it{made.about_context()}"
            return made.cured(subject, why, True, [made.allow(where)])
    if denial.foreign:
        return _foreign(made, subject)
    return _plain(made, subject)


def _foreign(made: _Maker, subject: str) -> Cure:
    """AWS's answer across accounts: the key's policy allows nothing, or denies, or there is no such key."""
    key = made.subject
    why = (
        f"the key is another account's ({made.owner or 'not said which'}), and its policy does not allow it, or denies "
        "it, or there is no such key in this Region: AWS does not tell which. The caller's IAM policy has to allow it "
        f"as well{made.about_context()}"
    )
    region = region_of(key)
    gone = Remedy(
        act="else",
        where="",
        account=made.owner,
        resource=key,
        action=made.action,
        text=f"see that the key still exists{f' in {region}' if region else ''}: aws kms describe-key --key-id {key}, "
        "in its own account",
    )
    return made.cured(subject, why, False, [made.allow("key"), made.allow("iam"), made.lift("key"), gone])


def _plain(made: _Maker, subject: str) -> Cure:
    """Nothing was explained: what is not ruled out is named."""
    case = made.case
    of_key = made.of_resource == "key"
    policy = made.read
    mine = made.owner != "" and made.owner == case.caller_account
    found: list[Remedy] = []
    if policy is not None and policy.denies == "yes":
        why = f"{_CALLED[made.of_resource]} {made.resource_of(made.of_resource)} denies it: no Allow overrides a Deny"
        return made.cured(subject, why, True, [made.lift(made.of_resource)])
    allowed = policy is not None and policy.allows == "yes"
    enough_by_itself = mine and policy is not None and policy.itself
    if not enough_by_itself:
        found.append(made.allow("iam"))
    if not allowed and not (mine and not of_key and policy is not None):
        found.append(made.allow(made.of_resource))
    found.append(made.lift("iam"))
    if policy is None or policy.denies == "perhaps":
        found.append(made.lift(made.of_resource))
    found += [made.check(where) for where in made.guards]
    found += _else(made)
    both = "in both the caller's IAM policy and " + ("the key policy" if of_key else "the bucket policy")
    whose = (
        f"; caller and {'key' if of_key else 'bucket'} are in different accounts, so it has to be allowed {both}"
        if made.owner and not mine
        else ""
    )
    why = f"AWS says only that access is denied: one or several of these are missing{whose}{made.about_context()}"
    return made.cured(subject, why, False, found)


def _else(made: _Maker) -> list[Remedy]:
    case = made.case
    found = []
    if made.of_resource != "key" and case.requester_pays is None:
        found.append(
            made.otherwise("if the bucket is a Requester Pays bucket, run with --request-payer: you pay for requests")
        )
    if made.of_resource != "key" and case.perhaps_missing:
        found.append(
            made.otherwise("see that there is such an object: without s3:ListBucket a missing one is refused as well")
        )
    return found


def requester_has_to_pay(case: Case) -> Cure:
    """Return what mends a refusal by a Requester Pays bucket to somebody who did not offer to pay."""
    made = _Maker(case, case.action, "")
    text = "run with --request-payer: you pay for requests and transfer, and need the permissions all the same"
    return made.cured(
        f"{case.action} on {made.subject}", "the bucket is a Requester Pays bucket", True, [made.otherwise(text)]
    )


class _Maker:
    """Writes remedies for one refusal."""

    def __init__(self, case: Case, action: str, resource: str) -> None:
        self.case = case
        self.action = action
        named = resource if action.startswith("kms:") else ""
        self.key = named if account_of(named) else case.key or named
        """The key's ARN, of what is about a key."""
        self.of_resource: Where = (
            "key" if action.startswith("kms:") else "access-point" if case.scope.access_point else "bucket"
        )
        """The resource that was asked for, whose policy it is that allows or denies."""
        self.subject = resource or (self.key or "the object's key" if self.of_resource == "key" else self._asked())
        self._resource = resource

    def _asked(self) -> str:
        scope = self.case.scope
        if self.action.startswith("s3:List"):
            return scope.access_point or scope.bucket_arn
        return ", ".join(scope.objects())

    @property
    def read(self) -> Reading | None:
        """What the resource's policy says; None where nobody may look."""
        return self.case.of_key if self.of_resource == "key" else self.case.of_bucket

    @property
    def guards(self) -> tuple[Where, ...]:
        """The policies beside identity's and resource's. S3 itself asks KMS: no VPC endpoint is on that way."""
        return _GUARDS if self.of_resource == "key" else (*_GUARDS, "vpc-endpoint")

    @property
    def owner(self) -> str:
        """The account of the resource; nothing where it is not known."""
        if self.of_resource == "key":
            return account_of(self.key)
        return account_of(self.case.scope.access_point) or self.case.bucket_account

    def resource_of(self, where: Where) -> str:
        """Return what a policy belongs to."""
        case = self.case
        if where == "key" or (where == "resource-control" and self.of_resource == "key"):
            return self.key or "the object's key"
        if where == "access-point":
            return case.scope.access_point
        if where in ("bucket", "resource-control"):
            return case.scope.bucket_arn
        return case.principal.arn if case.principal is not None else case.caller or "the caller"

    def account(self, where: Where) -> str:
        """Return whose a policy is; nothing where that is not known."""
        if where in ("key", "access-point") or where == "resource-control":
            return self.owner
        return self.case.bucket_account if where == "bucket" else self.case.caller_account

    def allow(self, where: Where) -> Remedy:
        """Add the statement that is missing."""
        text = f"allow {self.action} in {_CALLED[where]} {self.resource_of(where)}"
        if where == "key":
            text += f", for {self._who()}"
        return self._remedy("allow", where, text, self._statements(where))

    def lift(self, where: Where) -> Remedy:
        """Narrow the Deny: the very statement, where the policy may be read."""
        policy = self.read if where == self.of_resource else None
        denying = policy.denying if policy is not None else ()
        place = f"{_CALLED[where]} {self.resource_of(where)}"
        if policy is not None and policy.denies == "yes":
            text = f"narrow {_called(denying)} in {place} so that it spares {self._who()}"
        elif denying:
            text = f"see whether {_called(denying)} in {place} denies it, and narrow it so that it spares {self._who()}"
        else:
            text = f"look for a Deny of {self.action} in {place}, and narrow it so that it spares {self._who()}"
        return self._remedy("lift", where, text, denies=denying)

    def check(self, where: Where) -> Remedy:
        """See that a guard lets it pass."""
        text = (
            f"see that {_CALLED[where]} {self.resource_of(where)}, if there is one, neither denies {self.action} nor "
            "leaves it out"
        )
        return self._remedy("check", where, text, self._statements(where))

    def otherwise(self, text: str) -> Remedy:
        """Do something that is no change of a policy."""
        return self._remedy("else", "", text)

    def cured(self, subject: str, why: str, certain: bool, remedies: Iterable[Remedy]) -> Cure:
        """Return the cure that is made of remedies."""
        return Cure(link=self.case.link, subject=subject, why=why, certain=certain, remedies=tuple(remedies))

    def about_context(self) -> str:
        """Say that a condition may be in the way, where Bucket Keys have changed what it is compared with."""
        if self.of_resource != "key" or not self.case.bucket_key:
            return ""
        bucket = self.case.scope.bucket_arn
        return (
            "; the object has a Bucket Key, so a condition on kms:EncryptionContext:aws:s3:arn that names objects does "
            f"not fit any more: the context is {bucket}"
        )

    def _who(self) -> str:
        principal = self.case.principal
        return principal.arn if principal is not None else self.case.caller or "the caller"

    def _remedy(
        self,
        act: Act,
        where: Where,
        text: str,
        statements: tuple[Statement, ...] = (),
        denies: tuple[Statement, ...] = (),
    ) -> Remedy:
        return Remedy(
            act=act,
            where=where,
            account=self.account(where) if where else "",
            resource=self.resource_of(where) if where else self.subject,
            action=self.action,
            text=text,
            statements=statements,
            denies=denies,
        )

    def _statements(self, where: Where) -> tuple[Statement, ...]:
        case, scopes = self.case, [self.case.scope]
        of_resource = where in ("key", "bucket", "access-point", "vpc-endpoint")
        if of_resource and case.principal is None:
            return ()  # nobody to name
        principal = case.principal if of_resource else None
        direct = where == "bucket"
        if self.action == "kms:Decrypt":
            return (decrypting([self.key], scopes, principal),) if self.key or where == "key" else ()
        versions = self.action in ("s3:GetObjectVersion", "s3:ListBucketVersions")
        if self.action.startswith("s3:ListBucket"):
            made = listing
        elif self.action in ("s3:GetObject", "s3:GetObjectVersion"):
            made = reading
        else:
            return ()
        through = bool(case.scope.access_point) and not of_resource
        return (
            *made(scopes, principal, versions=versions, direct=direct),
            *(made(scopes, principal, versions=versions, direct=True) if through else []),
        )


def _called(denying: Sequence[Statement]) -> str:
    """Return how to find statements in a policy."""
    names = [json.dumps(statement["Sid"]) if statement.get("Sid") else "without a Sid" for statement in denying]
    return f"the Deny {' and the one '.join(names)}"
