"""What can go wrong, sorted by two questions: is it worth another try, and how far does it spread?

    SealiftError
    ├─ ConfigError            the command or its settings are wrong; nothing was done
    ├─ RunError               ends the run; what was done is kept, a rerun continues
    │   ├─ CredentialsError
    │   ├─ AccessError
    │   ├─ LocalStorageError
    │   ├─ SourceError
    │   └─ TooManyDeletions
    └─ ObjectError            ends one object; the run goes on
        ├─ Transient          worth another attempt
        │   ├─ ServerFailed   … as S3, or KMS behind it, said that it failed
        │   ├─ Unreachable    … of which not even a connection came
        │   └─ WorkerDied     … as the process that made the last one is gone; never counts as an attempt
        ├─ Throttled          worth waiting for; never counts as an attempt
        │   └─ NotSent        … before anybody has heard it
        ├─ Permanent          no attempt would help
        │   └─ Refused        … because somebody has not granted it
        ├─ Changed            the object was overwritten; start over with the new one
        └─ Integrity          the bytes are not the ones that were promised
            └─ ChecksumMismatch   … as their checksum shows once all of them have come

Cancellation is never in this tree. Every message says what happened, to what, why, and what to do,
and holds no secret: no key, token, signature or presigned query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from sealift.denial import PLAIN, Denial

if TYPE_CHECKING:
    from sealift.model import Summary


class SealiftError(Exception):
    """The root of everything that Sealift raises on purpose.

    `code` is a short, stable name for scripts: AWS's own error code where AWS gave one.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).__name__

    def __reduce__(self) -> tuple[object, ...]:
        """Let it come from another process as it is, also where its constructor has keywords."""
        return _revived, (type(self), self.args, self.__dict__)


def _revived(kind: type[SealiftError], args: tuple[object, ...], state: dict[str, object]) -> SealiftError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(SealiftError):
    """The command line, the environment or the settings file is wrong."""

    exit_status = 2


class RunError(SealiftError):
    """Ends the run. What is complete is kept; a rerun continues.

    `summary` is what the run had done when it ended, where a run had begun.
    """

    summary: Summary | None = None


class CredentialsError(RunError):
    """There are no credentials, or they are not accepted, or they expired and cannot be renewed."""

    exit_status = 3


class AccessError(RunError):
    """A listing was refused; or nothing is in place, and everything that failed was refused."""

    exit_status = 3

    def __init__(self, message: str, *, code: str | None = None, denial: Denial = PLAIN) -> None:
        super().__init__(message, code=code)
        self.denial = denial
        """What AWS said of it, if it explained one refusal."""


class LocalStorageError(RunError):
    """The destination cannot be written: full, read-only, locked, not a directory."""

    exit_status = 4


class SourceError(RunError):
    """The bucket does not exist, or the endpoint cannot be reached or makes no sense."""

    exit_status = 5


class TooManyDeletions(RunError):
    """More files would be deleted than --max-delete allows; none was."""


class ObjectError(SealiftError):
    """Ends one object (`bucket`, `key`), which becomes a failed outcome."""

    def __init__(self, message: str, *, bucket: str = "", key: str = "", code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.bucket = bucket
        self.key = key


class Transient(ObjectError):
    """The connection was lost, the server failed, or the body ended early: another attempt may do."""


class Unreachable(Transient):
    """There was no connection at all. If that goes on everywhere, it is the source that is gone."""


class ServerFailed(Transient):
    """S3 answered that it, or KMS behind it, has failed. If that goes on everywhere, KMS is down."""


class WorkerDied(Transient):
    """The worker process that fetched it ended. Costs the object nothing: it is not to blame."""


class Throttled(ObjectError):
    """KMS or S3 asked for fewer requests. Costs the object nothing but time."""

    def __init__(
        self,
        message: str,
        *,
        service: Literal["kms", "s3"],
        bucket: str = "",
        key: str = "",
        code: str | None = None,
        key_store: bool = False,
    ) -> None:
        """`key_store`: it is a custom key store of KMS's that did, which has quotas of its own."""
        super().__init__(message, bucket=bucket, key=key, code=code)
        self.service: Literal["kms", "s3"] = service
        self.key_store = key_store


class NotSent(Throttled):
    """It has to go out yet, or once more.

    KMS had begun to refuse while this waited for its connection; or the connection was closed just then, and what goes
    out again has to be counted again.
    """


class Permanent(ObjectError):
    """No further attempt would help."""


class Refused(Permanent):
    """Somebody has to grant something first."""

    def __init__(
        self, message: str, *, bucket: str = "", key: str = "", code: str | None = None, denial: Denial = PLAIN
    ) -> None:
        super().__init__(message, bucket=bucket, key=key, code=code)
        self.denial = denial
        """What AWS said of it."""


class Changed(ObjectError):
    """The object is no longer the one that was listed (412, or another ETag)."""


class Integrity(ObjectError):
    """Range, length or checksum is not what it must be. The bytes get no final name."""


class ChecksumMismatch(Integrity):
    """The object's bytes are not those of which S3 has the checksum: fetch all of them again, once."""
