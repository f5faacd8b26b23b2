"""IAM's evaluation of policies, as the IAM User Guide has it ("Policy evaluation logic"): small, and strict.

Whatever it does not know of the grammar, it refuses to evaluate: a policy is never taken for more than it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

Policy = Mapping[str, Any]
Where = Literal["identity", "resource", "boundary", "session", "service control", "resource control", "VPC endpoint"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for one action."""

    principal: str
    """The ARN of the user or role."""
    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)
    session: str = ""
    """The ARN of the role's session, if it is one."""

    @property
    def account(self) -> str:
        return self.principal.split(":")[4]


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed, or why not: `explicit` is a Deny, else nothing allows it."""

    allowed: bool
    where: Where | None = None
    explicit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """All that is evaluated. None: there is no such policy."""

    identity: Sequence[Policy] = ()
    resource: Policy | None = None
    boundary: Policy | None = None
    session: Policy | None = None
    service_control: Policy | None = None
    resource_control: Policy | None = None
    vpc_endpoint: Policy | None = None


def decide(ask: Ask, policies: Policies, owner: str, *, by_resource: bool = False) -> Decision:
    """Evaluate `ask` for a resource of account `owner`.

    `by_resource`: the resource's policy must allow it also within the account, as that of a KMS key must.
    """
    of_identity = [_says(policy, ask) for policy in policies.identity]
    of_resource = _says(policies.resource, ask) if policies.resource is not None else _Says()
    guards: list[tuple[Where, Policy | None]] = [
        ("service control", policies.service_control),
        ("resource control", policies.resource_control),
        ("VPC endpoint", policies.vpc_endpoint),
        ("boundary", policies.boundary),
        ("session", policies.session),
    ]
    said: list[tuple[Where, _Says]] = [(where, _says(policy, ask)) for where, policy in guards if policy is not None]
    for where, says in [*said[:], ("resource", of_resource), *((("identity", says)) for says in of_identity)]:
        if says.denies:
            return Decision(allowed=False, where=where, explicit=True)
    for where, says in said:
        if not says.allows and where not in {"boundary", "session"}:
            return Decision(allowed=False, where=where)
    mine = any(says.allows for says in of_identity)
    foreign = owner != ask.account
    if foreign and not of_resource.allows:
        return Decision(allowed=False, where="resource")
    if by_resource and not of_resource.allows:
        return Decision(allowed=False, where="resource")
    if not mine and (foreign or not of_resource.names):
        return Decision(allowed=False, where="identity")
    for where, says in said:
        if not says.allows:
            return Decision(allowed=False, where=where)
    return Decision(allowed=True)


def allows(policy: Policy, ask: Ask) -> bool:
    """Whether a policy by itself allows something; a resource's, also by allowing the principal's account."""
    return _says(policy, ask).allows


@dataclass(frozen=True, slots=True)
class _Says:
    denies: bool = False
    allows: bool = False
    names: bool = False
    """It allows the principal itself, not only the account, which leaves it to that account's IAM policies."""


def _says(policy: Policy, ask: Ask) -> _Says:
    denies = allows = names = False
    assert policy.keys() <= {"Version", "Statement", "Id"}, policy
    statements = policy["Statement"]
    for statement in [statements] if isinstance(statements, Mapping) else statements:
        assert statement.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}, statement
        named = _named(statement["Principal"], ask) if "Principal" in statement else "itself"
        if (
            named
            and any(_matches(pattern.lower(), ask.action.lower()) for pattern in _listed(statement["Action"]))
            and any(_matches(pattern, ask.resource) for pattern in _listed(statement["Resource"]))
            and _hold(statement.get("Condition", {}), ask)
        ):
            if statement["Effect"] == "Deny":
                denies = True
            else:
                assert statement["Effect"] == "Allow", statement
                allows, names = True, names or named == "itself"
    return _Says(denies, allows, names)


def _named(principal: Any, ask: Ask) -> Literal["itself", "its account", ""]:
    if principal == "*":
        return "itself"
    assert principal.keys() == {"AWS"}, principal
    listed = _listed(principal["AWS"])
    if "*" in listed or ask.principal in listed or (ask.session and ask.session in listed):
        return "itself"
    partition = ask.principal.split(":")[1]
    root = f"arn:{partition}:iam::{ask.account}:root"
    return "its account" if root in listed or ask.account in listed else ""


def _hold(conditions: Mapping[str, Mapping[str, Any]], ask: Ask) -> bool:
    context = {"aws:principalarn": ask.principal} | {name.lower(): value for name, value in ask.context.items()}
    for operator, tests in conditions.items():
        for variable, values in tests.items():
            if not _OPERATORS[operator](context.get(variable.lower()), _listed(values)):
                return False
    return True


def _equals(value: str | None, listed: Iterable[str]) -> bool:
    return value is not None and any(_unescaped(each) == value for each in listed)


def _like(value: str | None, listed: Iterable[str]) -> bool:
    return value is not None and any(_matches(each, value) for each in listed)


def _arn_like(value: str | None, listed: Iterable[str]) -> bool:
    """Each of an ARN's six parts by itself."""
    if value is None:
        return False
    parts = value.split(":", 5)
    return any(all(map(_matches, each.split(":", 5), parts)) for each in listed)


_OPERATORS = {
    "StringEquals": _equals,
    "StringNotEquals": lambda value, listed: not _equals(value, listed),
    "StringLike": _like,
    "StringNotLike": lambda value, listed: not _like(value, listed),
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
}


def _listed(values: Any) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).fullmatch(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\$\{[*?$]\}|[*?])", pattern)
    special = {"*": ".*", "?": "."}
    return re.compile(
        "".join(special.get(part) or re.escape(part[2] if part.startswith("${") else part) for part in parts),
        re.DOTALL,
    )


def _unescaped(text: str) -> str:
    return re.sub(r"\$\{([*?$])\}", r"\1", text)
