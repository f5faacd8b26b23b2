"""A mirrored file against its record: is it there, untouched, and are its bytes still those that were recorded?

    nothing there                                                  missing
    bytes that have the recorded checksum                          intact, whatever the file's time says
    other bytes or another length, and another time                changed: somebody has written to it
    other bytes, while length and time are as recorded             damaged: by the disk, or what lies below it
    no checksum was recorded                                       unchecked, or changed, by length and time

Everything here blocks.
"""

from __future__ import annotations

from typing import NamedTuple

from sealift.checksum import Checksum, running_checksum
from sealift.destination import Destination, Directory, File
from sealift.errors import Integrity, ObjectError
from sealift.ledger import Record
from sealift.localpath import place_of
from sealift.model import ByteRange, Flaw
from sealift.partial import Blocked
from sealift.reading import Reading, sum_up
from sealift.standing import fits


class Verdict(NamedTuple):
    """What a file is."""

    flaw: Flaw | None
    """None: it is in order."""
    message: str = ""
    unchecked: bool = False
    """It is, by size and time, as there is no checksum of it."""
    read: int = 0
    """Bytes that it took."""


class Open(NamedTuple):
    """A file that has to be read to tell. Its `reading` is to be closed."""

    record: Record
    checksum: Checksum
    reading: Reading
    file: File


INTACT = Verdict(None)
MISSING = Verdict(Flaw.MISSING, "there is no such file")
UNCHECKED = Verdict(None, unchecked=True)
_CHANGED = Verdict(Flaw.CHANGED, "somebody has written to it since it was recorded")
_DAMAGED = Verdict(Flaw.DAMAGED, "its size and time are as they were recorded, its bytes are not")


def begin(destination: Destination, record: Record) -> Verdict | Open:
    """Look at what stands in a record's place; open it where it has to be read. Raises LocalStorageError."""
    path = place_of(record.path)
    try:
        if path.directory:
            return INTACT if isinstance(destination.facts(path), Directory) else MISSING
        reading = destination.read(path)
    except FileNotFoundError:
        return MISSING
    except Blocked as blocked:
        return Verdict(Flaw.CHANGED, blocked.message)
    except ObjectError as error:
        return Verdict(Flaw.DAMAGED, error.message)
    file = File(*reading.facts())
    checksum = None if record.checksum is None else Checksum.parse(record.checksum)
    if checksum is not None and not checksum.parts and file.size == record.local_size:
        return Open(record, checksum, reading, file)
    reading.close()
    return UNCHECKED if checksum is None and fits(file, record) else _CHANGED


def inspect(destination: Destination, record: Record) -> Verdict:
    """Look at a file, and read all of it. Raises LocalStorageError."""
    found = begin(destination, record)
    if isinstance(found, Verdict):
        return found
    running = running_checksum(found.checksum.algorithm)
    with found.reading:
        try:
            sum_up(found.reading, ByteRange(0, found.file.size), running)
        except Integrity as error:
            return unreadable(error)
    return judged(found, running.digest())


def judged(file: Open, digest: bytes | None) -> Verdict:
    """Return what a file is whose bytes have this checksum."""
    if digest == file.checksum.value:
        return INTACT._replace(read=file.file.size)
    found = _DAMAGED if fits(file.file, file.record) else _CHANGED
    return found._replace(read=file.file.size)


def unreadable(error: Integrity) -> Verdict:
    """Return what a file is that the disk does not give, or that became shorter while it was read."""
    return Verdict(Flaw.DAMAGED, error.message)
