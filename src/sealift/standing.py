"""Whether a file is the object that belongs in its place: the ledger says, else size and time. Pure.

    the ledger's record fits the file (size, time)    the file is the version that the record names: held against the
                                                      listing by ETag, version and size
    there is no record, or the file is another one    held against the listing by size and time; what fits is adopted

A record that does not fit is of a file that was changed or replaced since, by somebody else or by a run that was killed
before it could record that.
"""

from __future__ import annotations

import enum

from sealift.destination import File, same_time
from sealift.ledger import Record
from sealift.model import RemoteObject


class Standing(enum.Enum):
    """What a file is to an object."""

    IN_PLACE = "in place"
    ADOPTED = "adopted"
    """In place as well, by size and time, which the ledger does not say yet."""
    OUTDATED = "outdated"


def standing(file: File, record: Record | None, remote: RemoteObject) -> Standing:
    """Return what `file` is to `remote`, given the ledger's `record` of its path."""
    if record is not None and fits(file, record):
        return Standing.IN_PLACE if names(record, remote) else Standing.OUTDATED
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
