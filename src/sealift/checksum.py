"""Checksums as S3 has them: which there are, what headers say of them, and arithmetic on CRCs. Pure.

    FULL_OBJECT   of the object's bytes
    COMPOSITE     of the checksums of the parts that it was uploaded in, and how many there were: "VALUE-3"

A CRC of two stretches follows from theirs and the second one's length (`combine`), so CRCs are taken of stretches in
whatever order they come. Hashes (SHA-1, SHA-256, …) know one order only: they are taken of whole parts of the upload
(`Pieces`). What a COMPOSITE one says can be told only by who knows where the parts began; S3 does not say so along with
it, but the usual tools cut all parts but the last to one usual size (`usual_part_size`).
"""

from __future__ import annotations

import binascii
import enum
import hashlib
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple, Self

from sealift.errors import ChecksumMismatch
from sealift.model import ByteRange, RemoteObject
from sealift.ranges import missing

Crc = Callable[[bytes | bytearray | memoryview, int], int]
Combine = Callable[[int, int, int], int]
Stretch = tuple[int, int, int]
"""Where it starts, where it stops, and the CRC of what is between: as it goes to other processes."""
Piece = tuple[int, bytes]
"""A part of an upload, counted from 0, and its hash."""


class Algorithm(enum.Enum):
    """What S3 computes checksums with (S3 User Guide, "Checking object integrity"), as far as Sealift can as well.

    Of those that an object has several of, the first one is taken: in the order of what they cost.
    """

    CRC64NVME = (8, True, 1)
    CRC32C = (4, True, 2)
    CRC32 = (4, True, 3)
    SHA1 = (20, False, 4)
    SHA256 = (32, False, 5)
    SHA512 = (64, False, 6)
    MD5 = (16, False, 7)

    def __init__(self, size: int, is_crc: bool, number: int) -> None:
        del number  # members of equal values would be one member
        self.size = size
        """Bytes of a checksum."""
        self.is_crc = is_crc
        """Whether the checksum of two stretches follows from theirs."""
        self.prefix = f"{self._name_}:"
        """What a checksum begins with where it is written down."""

    # Looked up for each object: the enumeration's own is one of the name, in Python.
    __hash__ = object.__hash__


OWN = Algorithm.CRC64NVME
"""What Sealift takes by itself where S3 says nothing: S3's own default, and the cheapest."""

_HEADERS = tuple((f"x-amz-checksum-{algorithm.name.lower()}", algorithm) for algorithm in Algorithm)
_TEXT = re.compile(r"(\w+):([A-Za-z0-9+/]+=*)(?:-([0-9]{1,5}))?")


class Checksum(NamedTuple):
    """What is said of some bytes."""

    algorithm: Algorithm
    value: bytes
    """Big-endian, where it is a number."""
    parts: int = 0
    """How many parts' checksums it is the checksum of (COMPOSITE); 0: it is one of the bytes (FULL_OBJECT)."""

    def __str__(self) -> str:
        """Return algorithm and value as they are recorded: `CRC32:y/Q5Jg==`."""
        text = self.algorithm.prefix + binascii.b2a_base64(self.value, newline=False).decode()
        return f"{text}-{self.parts}" if self.parts else text

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the checksum that was written so; None for any other text."""
        match = _TEXT.fullmatch(text)
        if match is None or match[1] not in Algorithm.__members__:
            return None
        return cls._of(Algorithm[match[1]], match[2], int(match[3] or 0))

    @classmethod
    def _of(cls, algorithm: Algorithm, text: str, parts: int) -> Self | None:
        try:
            value = binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError):
            return None
        return cls(algorithm, value, parts) if len(value) == algorithm.size else None

    @classmethod
    def told(cls, headers: Mapping[str, str]) -> Self | None:
        """Return what the headers of an answer, whose names are in lower case, say of the object's checksum."""
        for header, algorithm in _HEADERS:
            text = headers.get(header)
            if text is None:
                continue
            text, dash, parts = text.partition("-")
            if dash:
                counted = parts.isascii() and parts.isdigit() and 0 < len(parts) <= 5 and int(parts)
                found = cls._of(algorithm, text, int(parts)) if counted else None
            elif headers.get("x-amz-checksum-type") == "COMPOSITE":  # of how many parts?
                found = None
            else:
                found = cls._of(algorithm, text, 0)
            if found is not None:
                return found
        return None


class Checked(NamedTuple):
    """What is known of a complete object's bytes."""

    checksum: str
    """Of all of them, as the ledger has it."""
    verified: bool
    """S3's own checksum says the same."""


def mismatch(remote: RemoteObject, told: Checksum) -> ChecksumMismatch:
    """Return the error of bytes that are not those of which S3 told the checksum."""
    return ChecksumMismatch(
        f"the bytes of {remote.key!r} that came are not those that were uploaded: S3's checksum is {told}, theirs is "
        "another one. If that happens again, look at what is on the way to S3, or have the object uploaded anew",
        bucket=remote.bucket,
        key=remote.key,
        code="ChecksumMismatch",
    )


# ── CRCs ────────────────────────────────────────────────────────────────────────────────────────────


@cache
def crc_function(algorithm: Algorithm) -> Crc:
    """Return what goes on with a CRC: of some bytes, after those that gave the second argument (0: none)."""
    if algorithm is Algorithm.CRC32:
        return zlib.crc32  # as fast as any, and there already
    from awscrt import checksums  # 45 ms, which only those spend who have something to check

    functions: dict[Algorithm, Crc] = {
        Algorithm.CRC64NVME: checksums.crc64nvme,
        Algorithm.CRC32C: checksums.crc32c,
    }
    return functions[algorithm]


@cache
def combine_function(algorithm: Algorithm) -> Combine:
    """Return what makes one CRC of those of two stretches, and the length of the second in bytes."""
    from awscrt import checksums

    functions: dict[Algorithm, Combine] = {
        Algorithm.CRC64NVME: checksums.combine_crc64nvme,
        Algorithm.CRC32C: checksums.combine_crc32c,
        Algorithm.CRC32: checksums.combine_crc32,
    }
    return functions[algorithm]


def crc_bytes(algorithm: Algorithm, value: int) -> bytes:
    """Return a CRC as S3 has it in a checksum."""
    return value.to_bytes(algorithm.size, "big")


def crc_checksum(algorithm: Algorithm, value: int) -> Checksum:
    """Return a CRC as a checksum."""
    return Checksum(algorithm, crc_bytes(algorithm, value))


def composite(algorithm: Algorithm, parts: Sequence[bytes]) -> Checksum:
    """Return the COMPOSITE checksum of an object whose parts have these checksums."""
    return Checksum(algorithm, digest(algorithm, b"".join(parts)), len(parts))


def digest(algorithm: Algorithm, data: bytes | bytearray | memoryview) -> bytes:
    """Return the checksum of some bytes."""
    running = running_checksum(algorithm)
    running.update(data)
    return running.digest()


# ── As bytes come ───────────────────────────────────────────────────────────────────────────────────


class Stretches:
    """The CRCs of the bytes of an object from `start` on, as they come; cut at the multiples of `grain`, if any."""

    __slots__ = ("_at", "_crc", "_cut", "_done", "_from", "_grain", "_value", "algorithm")

    def __init__(self, algorithm: Algorithm, start: int = 0, grain: int = 0) -> None:
        self.algorithm = algorithm
        self._crc = crc_function(algorithm)
        self._from = self._at = start
        self._value = 0
        self._grain = grain
        self._cut = (start // grain + 1) * grain if grain else sys.maxsize
        self._done: list[Stretch] = []

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        at = self._at + len(data)
        if at <= self._cut:
            self._value = self._crc(data, self._value)
            self._at = at
            return
        view = memoryview(data)
        while view:
            if self._at == self._cut:
                self._done.append((self._from, self._at, self._value))
                self._from, self._value = self._at, 0
                self._cut += self._grain
            piece = view[: self._cut - self._at]
            self._value = self._crc(piece, self._value)
            self._at += len(piece)
            view = view[len(piece) :]

    def so_far(self) -> tuple[Stretch, ...]:
        """Return the stretches, in order."""
        if self._at == self._from:
            return tuple(self._done)
        return (*self._done, (self._from, self._at, self._value))

    def digest(self) -> bytes:
        """Return the checksum of all bytes since the start."""
        value = self._value
        if self._done:
            combine, value = combine_function(self.algorithm), 0
            for start, stop, behind in self.so_far():
                value = combine(value, behind, stop - start)
        return crc_bytes(self.algorithm, value)

    def parts(self) -> list[bytes]:
        """Return the checksums of the parts, in order."""
        return [crc_bytes(self.algorithm, value) for _, _, value in self.so_far()] or [crc_bytes(self.algorithm, 0)]


class Hashes:
    """The hash of an object's bytes as they come, from the first one on; those of its parts, if there is a `grain`."""

    __slots__ = ("_at", "_grain", "_hash", "_parts", "algorithm")

    def __init__(self, algorithm: Algorithm, grain: int = 0) -> None:
        self.algorithm = algorithm
        self._hash = _hash(algorithm)
        self._grain = grain
        self._at = 0
        self._parts: list[bytes] = []

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        if not self._grain:
            self._hash.update(data)
            return
        view = memoryview(data)
        while view:
            if self._at == self._grain:
                self._parts.append(self._hash.digest())
                self._hash, self._at = _hash(self.algorithm), 0
            piece = view[: self._grain - self._at]
            self._hash.update(piece)
            self._at += len(piece)
            view = view[len(piece) :]

    def digest(self) -> bytes:
        """Return the hash of all bytes; of the last part's, if there is a grain."""
        return self._hash.digest()

    def parts(self) -> list[bytes]:
        """Return the hashes of the parts, in order."""
        return [*self._parts, self._hash.digest()]


class Pieces:
    """The hashes of those parts of an upload, each of `grain` bytes, that lie wholly in a stretch of the object.

    The stretch's bytes come in order. `size` is the object's: its last part is a shorter one.
    """

    __slots__ = ("_algorithm", "_at", "_begins", "_done", "_grain", "_hash", "_size", "_stop")

    def __init__(self, algorithm: Algorithm, grain: int, size: int, stretch: ByteRange) -> None:
        self._algorithm = algorithm
        self._grain = grain
        self._size = size
        self._at, self._stop = stretch.start, stretch.stop
        self._begins = -(-stretch.start // grain) * grain
        self._hash = _hash(algorithm)
        self._done: list[Piece] = []

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        while view:
            ends = min(self._begins + self._grain, self._size)
            if ends > self._stop:
                return
            hashes = self._at >= self._begins
            some = view[: (ends if hashes else self._begins) - self._at]
            self._at += len(some)
            view = view[len(some) :]
            if hashes:
                self._hash.update(some)
                if self._at == ends:
                    self._done.append((self._begins // self._grain, self._hash.digest()))
                    self._hash, self._begins = _hash(self._algorithm), ends

    def so_far(self) -> tuple[Piece, ...]:
        """Return the hashes of the parts that have come, in order."""
        return tuple(self._done)


Running = Stretches | Hashes


def running_checksum(algorithm: Algorithm, grain: int = 0) -> Running:
    """Return what takes a checksum of bytes as they come, from an object's first one on."""
    return Stretches(algorithm, 0, grain) if algorithm.is_crc else Hashes(algorithm, grain)


def _hash(algorithm: Algorithm) -> hashlib._Hash:
    return hashlib.new(algorithm.name.lower(), usedforsecurity=False)


class Sums:
    """The CRCs of stretches of one object, in whatever order they come.

    Neighbours become one, except across the multiples of `grain`, if any: where parts are taken to begin.
    """

    __slots__ = ("_combine", "_starts", "_stops", "algorithm", "grain")

    def __init__(self, algorithm: Algorithm, grain: int = 0) -> None:
        self.algorithm = algorithm
        self.grain = grain
        self._combine = combine_function(algorithm)
        self._starts: dict[int, tuple[int, int]] = {}
        self._stops: dict[int, int] = {}

    def add(self, start: int, stop: int, value: int) -> None:
        """Hear of a stretch. What was known of exactly the same one is forgotten."""
        if start == stop:
            return
        self._forget(start)
        before = self._stops.get(start)
        if before is not None and self._joins(start):
            value = self._combine(self._forget(before), value, stop - start)
            start = before
        if stop in self._starts and self._joins(stop):
            behind = self._starts[stop][0]
            value = self._combine(value, self._forget(stop), behind - stop)
            stop = behind
        self._starts[start] = (stop, value)
        self._stops[stop] = start

    def _forget(self, start: int) -> int:
        stop, value = self._starts.pop(start, (start, 0))
        if self._stops.get(stop) == start:
            del self._stops[stop]
        return value

    def of(self, start: int, stop: int) -> int | None:
        """Return the CRC of what is between; None if that is not known."""
        at, value = start, 0
        while at < stop:
            found = self._starts.get(at)
            if found is None or found[0] > stop:
                return None
            value = self._combine(value, found[1], found[0] - at)
            at = found[0]
        return value

    def stretches(self, start: int) -> Stretches:
        """Return what sums up the bytes from `start` on, to be added."""
        return Stretches(self.algorithm, start, self.grain)

    def missing(self, size: int) -> list[ByteRange]:
        """Return of what of an object of `size` bytes nothing is known."""
        return missing(size, (ByteRange(start, stop) for start, (stop, _) in self._starts.items()))

    def _joins(self, place: int) -> bool:
        return not self.grain or place % self.grain != 0


# ── Where parts begin ───────────────────────────────────────────────────────────────────────────────

_MIB = 1024 * 1024
_USUAL = tuple(size * _MIB for size in (8, 16, 5, 10, 32, 64, 50, 100, 128, 256))
"""What tools cut uploads into: boto3, the AWS CLI and the CRT into 8 MiB, the SDK for Go and rclone into 5, s5cmd into
50; twice as much and so on where that would make too many parts."""


def usual_part_size(size: int, count: int) -> int:
    """Guess what size the parts have that an object of `size` bytes was uploaded in; 0 if none would make `count`."""
    if count < 1 or size < 1:
        return 0
    least = -(-size // count)
    for usual in _USUAL:
        if -(-size // usual) == count:
            return usual
    whole = -(-least // _MIB) * _MIB
    if -(-size // whole) == count:
        return whole
    return least if -(-size // least) == count else 0


def summed_up(remote: RemoteObject) -> tuple[Algorithm, int]:
    """Return by which CRC an object that comes in pieces is to be summed up, and at which multiples to cut.

    That is S3's own, as far as the listing tells; of a COMPOSITE one, which the ETag shows, at what may be its parts.
    """
    listed = Algorithm.__members__.get(remote.checksum_algorithm, OWN)
    algorithm = listed if listed.is_crc else OWN
    # S3 has no COMPOSITE CRC64NVME (S3 User Guide, "Checking object integrity").
    count = 0 if algorithm is Algorithm.CRC64NVME else parts_of_etag(remote.etag)
    return algorithm, usual_part_size(remote.size, count) if count > 1 else 0


def hashed(remote: RemoteObject) -> tuple[Algorithm, int] | None:
    """Return by what the parts of an object's upload are to be hashed as it comes, and what size they may have.

    None where S3's checksum is no hash, or not one of parts, as far as listing and ETag tell.
    """
    listed = Algorithm.__members__.get(remote.checksum_algorithm, OWN)
    count = 0 if listed.is_crc else parts_of_etag(remote.etag)
    grain = usual_part_size(remote.size, count) if count > 1 else 0
    return (listed, grain) if grain else None


def parts_of_etag(etag: str) -> int:
    """Return in how many parts an object was uploaded, as its ETag tells also where it is no MD5; 0: in none."""
    _, dash, count = etag.strip('"').rpartition("-")
    return int(count) if dash and count.isascii() and count.isdigit() and len(count) <= 5 else 0


def agrees(told: Checksum, running: Running) -> bool | None:
    """Say whether the bytes of a whole object have the checksum that S3 told; None where that cannot be said.

    That is so for a COMPOSITE one of parts that were cut elsewhere than was guessed.
    """
    if not told.parts:
        return running.digest() == told.value
    parts = running.parts()
    if len(parts) == told.parts and composite(told.algorithm, parts) == told:
        return True
    return False if told.parts == 1 else None


def cut(size: int, grain: int) -> list[ByteRange]:
    """Return where the parts of an object of `size` bytes lie that are of `grain` bytes each; none without a grain."""
    return [ByteRange(start, min(start + grain, size)) for start in range(0, size, grain)] if grain else []


def stretches_of(sizes: Iterable[int]) -> list[ByteRange]:
    """Return where parts of these sizes lie."""
    ranges, start = [], 0
    for size in sizes:
        ranges.append(ByteRange(start, start + size))
        start += size
    return ranges
