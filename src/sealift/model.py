"""The values that the rooms hand to each other: frozen, without behaviour of their own."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""The storage classes whose objects have to be restored before a GET (S3 User Guide, "Working with archived
objects"); GLACIER_IR is read at once, and of INTELLIGENT_TIERING only the GET tells."""

Basis = Literal["objects", "sample", "earlier_runs", "upper_bound"]
"""What a forecast of requests to KMS is from."""


class RemoteObject(NamedTuple):
    """One object version as a listing or a HEAD described it.

    A named tuple, as it is made once for each object of a listing: that costs a third of what a frozen dataclass does.

    `key` is decoded from the listing's URL encoding as UTF-8; bytes that are not UTF-8 are kept as
    surrogates (PEP 383), so `os.fsencode` gives the key's own bytes back. `etag` keeps its quotes: it
    is a pin for If-Match and nothing else (the ETag of an SSE-KMS object is no MD5).
    """

    bucket: str
    key: str
    size: int
    etag: str
    last_modified_ns: int
    """Nanoseconds since the epoch, with the precision that the server gave."""
    version_id: str | None = None
    storage_class: str = "STANDARD"
    restored: bool = False
    """An archived object of which a readable copy is there for now."""
    checksum_algorithm: str = ""
    """What S3 has a checksum of it by, as far as the listing tells; nothing where it does not."""

    @property
    def cold(self) -> bool:
        """Whether it has to be restored before it can be read, as far as its storage class tells."""
        return self.storage_class in ARCHIVED and not self.restored


class Encryption(NamedTuple):
    """How an object is encrypted at rest, as the headers of a GET or HEAD say it."""

    sse: str = ""
    """`aws:kms`, `aws:kms:dsse`, `AES256`; nothing where no header says."""
    kms_key_id: str = ""
    """The key's ARN, as a rule."""
    bucket_key: bool = False

    @property
    def charged(self) -> bool:
        """Whether each GET asks KMS. A Bucket Key is never the key of DSSE-KMS."""
        return self.sse.startswith("aws:kms") and not (self.bucket_key and self.sse == "aws:kms")


UNTOLD = Encryption()
"""Of an object whose encryption no answer has told."""


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            msg = f"not a byte range: {self.start}..{self.stop}"
            raise ValueError(msg)

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one object that is fetched by one ranged GetObject."""

    range: ByteRange
    whole: bool
    """The object in one GET: sent without a Range header."""


class Ending(enum.Enum):
    """How an object ended. Every listed object ends in exactly one of the first four or stays pending."""

    DOWNLOADED = "downloaded"
    UP_TO_DATE = "up_to_date"
    SKIPPED = "skipped"
    FAILED = "failed"
    DELETED = "deleted"
    """It is not listed any more, and its file was deleted (in a plan: would be)."""

    # Members are counted by the million: Enum's own hash is a call of Python's.
    __hash__ = object.__hash__


class Outcome(NamedTuple):
    """What became of one object. A named tuple for the same reason as `RemoteObject`."""

    ending: Ending
    bucket: str
    key: str
    size: int = 0
    path: str = ""
    """Below the destination, as it is on disk (surrogates for bytes that are not UTF-8)."""
    escaped: bool = False
    error: str = ""
    message: str = ""
    seconds: float = 0.0
    """From its first GET in this run to its place."""
    replaced: bool = False
    """An older file was in its place."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One line of `failures` in the summary."""

    bucket: str
    key: str
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class RefusedObjects:
    """Objects that were refused for one reason. One line of `refusals` in the summary."""

    objects: int
    error: str
    action: str
    """What is not allowed, as policies write it; empty where AWS does not say."""
    resource: str
    """The key's ARN, or the bucket; empty where it is a key that AWS does not name."""
    reason: str
    bucket: str
    """Bucket and key of one of them."""
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceSample:
    """What a run did within a second or less, and how fast KMS lets it go. Samples of a run add up to its summary."""

    at: float
    """When the stretch ended, in seconds since the run began."""
    seconds: float
    """How long it was."""
    bytes: int = 0
    """Body bytes that came, retries included."""
    objects: int = 0
    """Objects that were downloaded, complete and in place."""
    get_requests: int = 0
    retries: int = 0
    connections: int = 0
    """GETs under way at its end, with those that are handed to worker processes."""
    kms_requests: int = 0
    """GETs for which KMS was asked, refused ones included."""
    kms_throttled: int = 0
    s3_throttled: int = 0
    kms_wait: float = 0.0
    """Seconds of the stretch in which GETs waited for leave to ask KMS."""
    kms_rate: float | None = None
    """Requests to KMS a second that were allowed at its end, of all its quotas that are known; None: as many as there
    are."""
    kms_quota: float | None = None
    """Requests a second that KMS grants, as far as was found out; None: nothing was refused yet."""
    kms_changes: int = 0
    """How often that pace was cut or freed, or had grown by a tenth."""
    kms_down: bool = False
    """Whether what KMS is asked for pauses, as KMS is down."""
    s3_rate: float | None = None
    """GETs a second that were allowed at its end to the buckets of which S3 has refused some; None: it refused none."""

    @property
    def throttled(self) -> bool:
        """Whether KMS's quota, or a cap, held the run back."""
        return self.kms_throttled > 0 or self.kms_wait > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsUse:
    """What a run asked of KMS. The fields are those of `kms` in `--json`, in its order."""

    requests: int = 0
    """GETs for which KMS was asked, refused ones included."""
    wait_seconds: float = 0.0
    """How long GETs waited for leave to ask KMS."""
    quota: float | None = None
    """Requests a second that KMS granted when it refused some last; None where it refused none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did. The fields are those of `--json`, in its order.

    `verified` are those downloaded whose bytes were held against a checksum of S3's. `bytes` are body bytes received,
    retries included. `complete` says that every listing reached its
    end. `failures` holds at most the first 1,000; the run's log has them all.
    """

    listed: int = 0
    downloaded: int = 0
    up_to_date: int = 0
    skipped: int = 0
    failed: int = 0
    pending: int = 0
    deleted: int = 0
    verified: int = 0
    escaped: int = 0
    bytes: int = 0
    get_requests: int = 0
    kms_throttled: int = 0
    s3_throttled: int = 0
    retries: int = 0
    seconds: float = 0.0
    complete: bool = False
    failures: tuple[Failure, ...] = field(default=())
    kms: KmsUse = field(default=KmsUse())
    refusals: tuple[RefusedObjects, ...] = field(default=())
    """All that was refused, by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsForecast:
    """What a run would ask of KMS. The fields are those of `kms` in `sealift plan --json`, in its order."""

    requests: int = 0
    """Decrypts: one for each GET of an object that is encrypted with SSE-KMS and has no Bucket Key, and one for the
    checksum of each of those that are fetched in parts."""
    basis: Basis = "objects"
    """All objects' encryption was looked up, or that of some chosen at random; earlier runs tell, at least of some; or
    nobody's was, and all are counted."""
    sampled: int = 0
    """How many objects' encryption was looked up."""
    rate: float = 0.0
    """Decrypts a second that are allowed."""
    rate_source: Literal["region", "account", "cap"] = "region"
    """Whose word that is: the default quota of the Region, Service Quotas, or an option."""
    seconds: float = 0.0
    """How long the Decrypts take at that rate."""
    usd: float = 0.0
    """Their price in US dollars, without the month's free ones."""
    requests_with_bucket_keys: int = 0
    """How many it would be if all of the objects had Bucket Keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a mirror run would do. The fields are those of `sealift plan --json`, in its order.

    `bytes` are those that would be fetched, with `get_requests` GETs; `failed` are objects of which it is known
    beforehand that they cannot be mirrored, and `failures` says why of at most the first 1,000. `to_delete` are files
    that `--delete` would delete. `kms` is what KMS would be asked.
    """

    listed: int = 0
    to_download: int = 0
    up_to_date: int = 0
    skipped: int = 0
    failed: int = 0
    to_delete: int = 0
    escaped: int = 0
    bytes: int = 0
    get_requests: int = 0
    seconds: float = 0.0
    complete: bool = False
    failures: tuple[Failure, ...] = field(default=())
    kms: KmsForecast = field(default=KmsForecast())


class Flaw(enum.StrEnum):
    """What is wrong with a mirrored file."""

    MISSING = "missing"
    """The ledger has it, the disk has not."""
    CHANGED = "changed"
    """Somebody has written to it, or put something else in its place, since it was recorded."""
    DAMAGED = "damaged"
    """Nobody has written to it, as its size and time say, and its bytes are others all the same."""
    UNKNOWN = "unknown"
    """The ledger knows nothing of it: it is no mirrored file."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `findings`."""

    path: str
    """Below the destination, as it is on disk (surrogates for bytes that are not UTF-8)."""
    flaw: Flaw
    message: str = ""
    bucket: str = ""
    key: str = ""
    """Those of the object, as far as the ledger knows one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What files were found to be, by the ledger. The fields are those of `sealift verify --json`, in its order.

    `files` is the sum of the next five. `bytes` were read. `complete` says that all files were looked at. `findings`
    holds at most the first 1,000, `unknown` ones last. `repair` is what was done about them, None where that was not
    asked for.
    """

    files: int = 0
    intact: int = 0
    missing: int = 0
    changed: int = 0
    damaged: int = 0
    unchecked: int = 0
    """As they were recorded, by size and time; the ledger has no checksum of them."""
    unknown: int = 0
    bytes: int = 0
    seconds: float = 0.0
    complete: bool = False
    findings: tuple[Finding, ...] = field(default=())
    repair: Summary | None = None
