"""What passes between those who decide (`sealift.fetch`) and those who carry out (`sealift.lanes`).

Values only, which may go to another process: an attempt is handed out, its progress is told, and it ends once.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from sealift.errors import SealiftError
from sealift.model import Encryption, Part, RemoteObject


class Spot(NamedTuple):
    """A final name, as names from the destination downwards."""

    segments: tuple[bytes, ...]
    mtime_ns: int


class Attempt(NamedTuple):
    """One GET of what is left of a part, and where its bytes go."""

    number: int
    remote: RemoteObject
    part: Part
    name: str
    """The partial file; it is there already unless there is a `spot`."""
    spot: Spot | None
    """Where the object is put as soon as it is there: a whole object of one GET, of which nothing was written yet."""
    counted: bool = False
    """Whether it is to be told when the GET is sent."""


class Ended(NamedTuple):
    """How an attempt ended."""

    number: int
    reached: int
    """The offset in the object up to which everything from the attempt's start was written."""
    placed: bool
    """The object is complete and has its final name."""
    error: SealiftError | None
    """What ended it early; None also for one that was called off."""
    checksum: str = ""
    """Of a whole object that is there and needs no further check: that of its bytes, as the ledger has it."""
    verified: bool = False
    """… and that S3's own says the same."""
    told: str | None = None
    """What S3 said of the object's checksum, where it was asked and that is to be checked yet; nothing: it has none."""
    algorithm: str = ""
    """What the stretches were summed up by."""
    stretches: tuple[tuple[int, int, int], ...] = ()
    """The CRCs of what was written, by `sealift.checksum`, where they are needed yet."""
    pieces: tuple[tuple[int, bytes], ...] = ()
    """The hashes of those parts of the upload that were written, whole, where they are needed yet."""


class Decider(Protocol):
    """Who hands out attempts and hears what becomes of them."""

    async def take(self) -> Attempt | None:
        """Return the next attempt, when there is one; None when there will be none any more. Raises RunError."""
        ...

    def sent(self, number: int) -> None:
        """Hear that the GET of an attempt that is `counted` goes out."""
        ...

    def answered(self, number: int, encryption: Encryption) -> None:
        """Hear that an attempt's body is coming, and how its object is encrypted: KMS may have been asked for it."""
        ...

    def received(self, size: int) -> None:
        """Hear that so many body bytes came."""
        ...

    def reached(self, number: int, offset: int) -> None:
        """Hear that an attempt has written everything up to `offset`."""
        ...

    def ended(self, end: Ended) -> None:
        """Hear how an attempt ended. Raises RunError."""
        ...
