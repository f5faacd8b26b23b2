"""What a policy that somebody may look at says of a request. Pure.

An aid to finding what is missing, never a verdict: whatever is not known, or not understood, is "perhaps".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sealift.arn import Arn

Sure = Literal["no", "perhaps", "yes"]
_DEGREES: tuple[Sure, ...] = ("no", "perhaps", "yes")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a policy says of one principal, one action and one resource."""

    allows: Sure = "no"
    denies: Sure = "no"
    itself: bool = False
    """It allows the principal by its own name, and not by its account's, which leaves the matter to IAM policies."""
    denying: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)
    """The statements that it denies by, as they stand in it."""


def read_policy(
    policy: Mapping[str, Any], *, principal: str, action: str, resource: str, context: Mapping[str, str]
) -> Reading:
    """Read the policy of a key or a bucket.

    `principal` is a user's or role's ARN, `context` what is known of conditions' keys, by their names in lower case.
    """
    allows: Sure = "no"
    denies: Sure = "no"
    itself = False
    denying: dict[Sure, list[Mapping[str, Any]]] = {degree: [] for degree in _DEGREES}
    for statement in _mappings(policy.get("Statement", [])):
        named = _named(statement, principal)
        applies = min(
            (
                "no" if not named else "perhaps" if named == "perhaps" else "yes",
                _among(statement, "Action", action.lower(), fold=True),
                _among(statement, "Resource", resource),
                _hold(statement.get("Condition", {}), context),
            ),
            key=_DEGREES.index,
        )
        if statement.get("Effect") == "Deny":
            denies = max(denies, applies, key=_DEGREES.index)
            denying[applies].append(statement)
        else:
            allows = max(allows, applies, key=_DEGREES.index)
            itself = itself or (applies == "yes" and named == "itself")
    return Reading(allows, denies, itself, tuple(denying[denies]) if denies != "no" else ())


def _named(statement: Mapping[str, Any], principal: str) -> Literal["itself", "its account", "perhaps", ""]:
    if "NotPrincipal" in statement:
        return "perhaps"
    who = statement.get("Principal", "")
    listed = ["*"] if who == "*" else _texts(who.get("AWS", [])) if isinstance(who, Mapping) else []
    arn = Arn.parse(principal)
    account = arn.account if arn is not None else ""
    if "*" in listed or principal in listed:
        return "itself"
    if arn is not None and (account in listed or str(arn._replace(resource="root")) in listed):
        return "its account"
    # A role's session, or a role whose path its session does not tell.
    name = principal.rpartition("/")[2]
    return "perhaps" if any(f":{account}:" in text and text.rpartition("/")[2] == name for text in listed) else ""


def _among(statement: Mapping[str, Any], name: str, text: str, *, fold: bool = False) -> Sure:
    def matches(patterns: Iterable[str]) -> bool:
        return any(_like(pattern.lower() if fold else pattern, text) for pattern in patterns)

    if f"Not{name}" in statement:
        return "no" if matches(_texts(statement[f"Not{name}"])) else "yes"
    return "yes" if matches(_texts(statement.get(name, []))) else "no"


def _hold(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> Sure:
    sure: Sure = "yes"
    for operator, tests in conditions.items():
        for variable, values in tests.items():
            test, value = _TESTS.get(operator.removesuffix("IfExists")), context.get(variable.lower())
            if test is None or value is None:
                sure = "perhaps"
            elif not test(value, _texts(values)):
                return "no"
    return sure


def _like(pattern: str, text: str) -> bool:
    parts = re.split(r"(\$\{[*?$]\}|[*?])", pattern)
    special = {"*": ".*", "?": "."}
    expression = "".join(
        special.get(part) or re.escape(part[2] if part.startswith("${") and len(part) == 4 else part) for part in parts
    )
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _any_like(value: str, listed: list[str]) -> bool:
    return any(_like(each, value) for each in listed)


def _any_equal(value: str, listed: list[str]) -> bool:
    return value in listed


_TESTS: Mapping[str, Callable[[str, list[str]], bool]] = {
    "StringEquals": _any_equal,
    "StringNotEquals": lambda value, listed: not _any_equal(value, listed),
    "StringLike": _any_like,
    "StringNotLike": lambda value, listed: not _any_like(value, listed),
    "ArnEquals": _any_like,
    "ArnLike": _any_like,
    "ArnNotEquals": lambda value, listed: not _any_like(value, listed),
    "ArnNotLike": lambda value, listed: not _any_like(value, listed),
}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    several = [value] if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return [each for each in several if isinstance(each, Mapping)]


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value] if isinstance(value, list) else []
