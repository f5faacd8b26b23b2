"""Who is to read, and how the policies of keys and buckets name them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sealift.arn import Arn
from sealift.errors import ConfigError

_IDENTITY = re.compile(r"(?P<kind>user|role)/(?P<path>(?:[\x21-\x7e]+/)?)(?P<name>[\w+=,.@-]+)", re.ASCII)
# STS leaves the role's path out (IAM User Guide, "IAM identifiers").
_SESSION = re.compile(r"assumed-role/(?P<name>[\w+=,.@-]+)/(?P<session>[\w+=,.@:-]+)", re.ASCII)
_SSO = re.compile(r"AWSReservedSSO_(?P<permission_set>.+)_[0-9a-f]{16}")
"""What IAM Identity Center calls the role of a permission set. It lies at a path that a session's ARN does not tell."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A user, a role, or all of an account."""

    partition: str
    account: str
    kind: Literal["user", "role", "account"]
    name: str = ""
    path: str = ""
    """With a slash at its end, as in `team/nightly/`."""
    path_known: bool = True
    """Not of a role that is known by one of its sessions only."""

    @classmethod
    def parse(cls, text: str) -> Principal:
        """Read the ARN of a user, a role, a role's session or an account. Raises ConfigError."""
        arn = Arn.parse(text.strip())
        if arn is None or not re.fullmatch("[0-9]{12}", arn.account) or arn.service not in {"iam", "sts"}:
            raise ConfigError(
                f"{text!r} is nobody's ARN: write that of a user or role, as in arn:aws:iam::111122223333:role/NAME "
                "(aws sts get-caller-identity says whose credentials these are)"
            )
        session = _SESSION.fullmatch(arn.resource)
        if arn.service == "sts" and session:
            return cls(arn.partition, arn.account, "role", session["name"], path_known=False)
        identity = _IDENTITY.fullmatch(arn.resource)
        if arn.service == "iam" and identity:
            kind: Literal["user", "role"] = "user" if identity["kind"] == "user" else "role"
            return cls(arn.partition, arn.account, kind, identity["name"], identity["path"])
        if arn.service == "iam" and arn.resource == "root":
            return cls(arn.partition, arn.account, "account")
        raise ConfigError(f"{text!r} is neither a user's ARN nor a role's: no policy can be written for it")

    @property
    def arn(self) -> str:
        """The ARN of the user, the role or the account; of a role whose path is not known, as if it had none."""
        resource = "root" if self.kind == "account" else f"{self.kind}/{self.path}{self.name}"
        return f"arn:{self.partition}:iam::{self.account}:{resource}"

    @property
    def permission_set(self) -> str:
        """The permission set of IAM Identity Center that the role was made for, if it was."""
        match = _SSO.fullmatch(self.name)
        return match["permission_set"] if match else ""

    @property
    def clause(self) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """The Principal of a statement in a key's or bucket's policy, and the conditions that go with it.

        A role at an unknown path cannot be named: that takes its account, and a condition that leaves the role.
        """
        if self.permission_set and not self.path_known:
            account = f"arn:{self.partition}:iam::{self.account}"
            pattern = f"{account}:role/aws-reserved/sso.amazonaws.com/*{self.name}"
            return {"AWS": f"{account}:root"}, {"ArnLike": {"aws:PrincipalArn": pattern}}
        return {"AWS": self.arn}, {}


def remark_on(principal: Principal) -> str:
    """Return what somebody should know who pastes policies for a principal; nothing, as a rule."""
    if principal.permission_set:
        return (
            f"IAM Identity Center makes the role: its IAM policy belongs into the permission set "
            f"{principal.permission_set}, as an inline policy"
        )
    if principal.path_known:
        return ""
    name = principal.name
    return (
        f"a session's ARN does not tell the path of its role: if {name} has one, take the role's own ARN instead "
        f"(aws iam get-role --role-name {name} --query Role.Arn)"
    )
