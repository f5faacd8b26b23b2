"""Whether a file is the object that belongs in its place: the ledger says, else size and time, else its bytes. Pure.

    the ledger's record fits the file (size, time)    the file is the version that the record names: held against the
                                                      listing by ETag, version and size
    there is no record, or the file is another one    held against the listing by size and time; what fits is adopted

A record that does not fit is of a file that was changed or replaced since, by somebody else or by a run that was killed
before it could record that. Where size and time are not to be trusted (`Trust`), what is as long as the object has to
be read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sealift.destination import File, same_time
from sealift.ledger import Record
from sealift.model import RemoteObject


@dataclass(frozen=True, slots=True)
class Trust:
    """What a file's size and time are good for."""

    recorded: bool = True
    """To tell that it is still as it was recorded."""
    found: bool = True
    """To tell that it is the object, where the ledger knows nothing of it."""


class Standing(enum.Enum):
    """What a file is to an object."""

    IN_PLACE = "in place"
    ADOPTED = "adopted"
    """In place as well, by size and time, which the ledger does not say yet."""
    UNTOLD = "untold"
    """As long as the object; only its bytes can tell."""
    OUTDATED = "outdated"


def standing(file: File, record: Record | None, remote: RemoteObject, trust: Trust) -> Standing:
    """Return what `file` is to `remote`, given the ledger's `record` of its path."""
    if record is not None and fits(file, record):
        if not names(record, remote):
            return Standing.OUTDATED
        return Standing.IN_PLACE if trust.recorded else Standing.UNTOLD
    if not trust.found:
        return Standing.UNTOLD if file.size == remote.size else Standing.OUTDATED
    return Standing.ADOPTED if looks_like(file, remote) else Standing.OUTDATED


def looks_like(file: File, remote: RemoteObject) -> bool:
    """Whether the file has the object's size and modification time."""
    return file.size == remote.size and same_time(file.mtime_ns, remote.last_modified_ns)


def fits(file: File, record: Record) -> bool:
    """Whether the file is still the one that was recorded."""
    return file.size == record.local_size and same_time(file.mtime_ns, record.mtime_ns)


def names(record: Record, remote: RemoteObject) -> bool:
    """Whether the record is of this version of an object.

    Neither bucket nor key are compared: an ETag is one object's, or, where it is an MD5, one content's. So a bucket may
    be mirrored through an access point from now on.
    """
    return (
        record.etag == remote.etag
        and record.size == remote.size
        and (remote.version_id is None or record.version_id in {None, remote.version_id})
    )
