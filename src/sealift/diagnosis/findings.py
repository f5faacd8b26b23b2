"""What a diagnosis says: the links of the chain from credentials to bytes, and what mends those that are broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sealift.model import KmsForecast
from sealift.policy.statements import Statement

State = Literal["ok", "refused", "unseen", "warning"]
"""`unseen`: not permitted to look, or it cannot be told, which breaks nothing by itself."""

Name = Literal["credentials", "clock", "endpoint", "bucket", "listing", "object", "key", "quota"]

Where = Literal[
    "iam",
    "key",
    "bucket",
    "access-point",
    "boundary",
    "session",
    "service-control",
    "resource-control",
    "vpc-endpoint",
    "",
]
"""The policy that is meant: the caller's own, a key's, …; none where it takes something else than a policy."""

Act = Literal["allow", "lift", "check", "else"]
"""Add statements; narrow a Deny; see that the policy neither denies it nor leaves it out; or what the text says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link: what it is, whether it holds, what was found."""

    name: Name
    state: State
    found: str
    todo: str = ""
    """What to do about it, where no cure says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One change that somebody would have to make."""

    act: Act
    where: Where
    account: str
    """Whose policy it is; nothing where that is not known."""
    resource: str
    """What the policy belongs to: the ARN of the caller, a key, a bucket or an access point, as far as known."""
    action: str
    text: str
    statements: tuple[Statement, ...] = ()
    """To be added."""
    denies: tuple[Statement, ...] = ()
    """To be narrowed: the Deny, where the policy may be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """What mends one refusal."""

    link: Name
    subject: str
    """What was refused, as in `kms:Decrypt on arn:…`."""
    why: str
    certain: bool
    """All of the remedies are needed; else AWS does not tell which of them."""
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFound:
    """One of the keys that objects are encrypted with."""

    arn: str
    account: str
    objects: int
    """How many of the sample it has."""
    readable: bool | None
    """Whether those could be read; None where none was tried."""
    same_account: bool | None
    """Whether it is the caller's account's; None where the caller is not known."""
    state: str = ""
    manager: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that was found. The fields are those of `sealift doctor --json`, but for `kms`, in its order."""

    source: str
    exit_status: int
    caller: str
    """Its ARN; nothing where it is not known."""
    caller_account: str
    bucket_account: str
    """Whose the bucket is; nothing where that is not known."""
    bucket_same_account: bool | None
    links: tuple[Link, ...]
    cures: tuple[Cure, ...]
    keys: tuple[KeyFound, ...] = ()
    kms: KmsForecast | None = None
    """What KMS would be asked; None where no object was seen."""
    kms_whole: bool = False
    """The forecast is for all objects there are; else for each million of GETs."""
    notes: tuple[str, ...] = ()
    """What somebody should know who pastes statements."""
