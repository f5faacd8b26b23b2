"""What was looked at, as it was found: nothing is concluded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sealift.diagnosis.findings import Name
from sealift.errors import AccessError, SealiftError
from sealift.model import Encryption, RemoteObject
from sealift.selection import Location, parse_location


class Unseen(NamedTuple):
    """Nobody may look, or there is nothing to see: the error's code, and what was said."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose credentials these are."""

    arn: str
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The credentials, without a word of what is secret in them."""

    provider: str
    """As the SDK calls it: `env`, `sso`, `assume-role`, `iam-role`, …; nothing where requests are not signed."""
    expires: datetime | None
    caller: Caller | Unseen
    skew: float | None
    """Seconds by which this machine's clock is ahead of AWS's; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the bucket is reached."""

    host: str
    addresses: int
    tls: str
    """The version of TLS that was agreed on; nothing where there is none."""
    proxy: bool = False
    """A proxy is in between, which looks the rest up by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSeen:
    """What the bucket is. Each answer is there, or is not."""

    reached: Unseen | None
    """None where HeadBucket was answered."""
    region: str
    """Nothing where it is not known."""
    mine: bool | None
    """Whether it is the caller's account's own: None where that is not known."""
    encryption: Mapping[str, Any] | Unseen
    """The default encryption: `SSEAlgorithm`, `KMSMasterKeyID`, `BucketKeyEnabled`."""
    requester_pays: bool | Unseen
    policy: Mapping[str, Any] | Unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySeen:
    """What a key is."""

    described: Mapping[str, Any] | Unseen
    """`KeyMetadata`, as KMS has it."""
    policy: Mapping[str, Any] | Unseen
    grants: Sequence[Mapping[str, Any]] | Unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be examined."""

    source: str
    bucket_account: str = ""
    """Whose the bucket is, where somebody says."""
    behind: str = ""
    """The name of the bucket behind an access point."""
    pays: bool = False
    """Whether the requests offer to pay."""

    @property
    def location(self) -> Location:
        """Bucket and key, or prefix. Raises ConfigError."""
        return parse_location(self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """An object of the sample."""

    remote: RemoteObject
    encryption: Encryption | None
    """None where a HEAD did not tell."""
    head: SealiftError | None = None
    """Why the HEAD did not."""
    tried: bool = False
    """Whether a byte was asked for."""
    get: SealiftError | None = None
    """Why it was not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was found. What was not come to is None, or empty."""

    question: Question
    identity: Identity | None = None
    endpoint: Endpoint | None = None
    bucket: BucketSeen | None = None
    broken: SealiftError | None = None
    """What ended the examination before its end."""
    broken_at: Name = "bucket"
    """The link where that was."""
    listing: AccessError | None = None
    """Why nothing could be listed."""
    listed: int = 0
    """Objects below the prefix that were seen."""
    whole: bool = False
    """There are no others."""
    gets: int = 0
    """What a mirror of those that were seen takes."""
    exact: bool = False
    """The source is an object by itself."""
    objects: tuple[Examined, ...] = ()
    keys: Mapping[str, KeySeen] = field(default_factory=dict)
    """By the keys' ARNs."""
    quota: float | Unseen | None = None
    """Requests to KMS a second, by Service Quotas."""
