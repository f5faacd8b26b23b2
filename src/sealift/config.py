"""The settings: one frozen value, composed of each mechanism's own, and the reading of sizes and rates."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from sealift.concurrency import HIGHEST
from sealift.errors import ConfigError
from sealift.planning import MIB
from sealift.retry import RetrySettings
from sealift.selection import Filter
from sealift.sharding import Shard
from sealift.timetable import Slot, Timetable

E = TypeVar("E", bound=enum.StrEnum)

SDK_CONCURRENCY = 32
"""GETs at once through the SDK where none are chosen: with S3's 100–200 ms to the first byte of a small object (AWS
performance guidelines) this is 160–320 objects a second, and a core of CPU is good for some 800."""

SPARE_DESCRIPTORS = 256
"""Open files that are not connections: 128 directories, 64 objects that are being placed, the lock, logs and pipes."""

LANE_MEMORY = 256 * 1024
"""Bytes that one GET under way holds: the buffer that its connection receives into. uvloop reads at most this much at
once (its UV_STREAM_RECV_BUF_SIZE); a write of it takes about 40 µs."""


class TransportChoice(enum.StrEnum):
    """Who carries the requests."""

    AUTO = "auto"
    """The wire, and the SDK for what the wire does not serve."""
    WIRE = "wire"
    SDK = "sdk"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """How S3 is reached and as whom. None leaves the choice to the AWS_* variables and AWS's own files."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    sign: bool = True
    request_payer: bool = False
    ca_bundle: Path | None = None
    allow_http: bool = False
    transport: TransportChoice = TransportChoice.AUTO
    connect_timeout: float = 10.0
    """Seconds to a connection, TLS included. Three SYN retransmissions (1 + 2 + 4 s, RFC 6298) fit."""
    read_timeout: float = 60.0
    """Seconds without a byte after which a connection is given up; the AWS SDKs' own default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSettings:
    """Which objects are meant, and what happens to keys that no file system can hold as they are."""

    filters: tuple[Filter, ...] = ()
    strict_keys: bool = False
    files_from: str | None = None
    """The file that names the objects, or `-` for standard input; None lists the sources."""
    null: bool = False
    """Names in that file end with NUL bytes, not with lines."""
    inventory: str | None = None
    """The manifest of an S3 Inventory report, which lists the objects; None lists the sources."""
    then_list: bool = False
    """The sources are listed as well, after the inventory."""
    as_of: datetime | Literal["start"] | None = None
    """The moment at which the bucket's state is meant; `start` is when the run began, None now, whatever happens."""
    shard: Shard | None = None
    """Which part of all that is this run's: the others are for other machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """How much is in flight. Sizes in bytes, rates in bytes a second; None chooses automatically."""

    concurrency: int | None = None
    processes: int | None = None
    dask: str | None = None
    """The scheduler of a Dask cluster whose workers do the fetching."""
    part_size: int | None = None
    memory: int = 256 * MIB
    """For bodies in flight: enough for 1,024 GETs at once that are written as they come."""
    max_bandwidth: float | None = None
    bandwidth: tuple[Slot, ...] = ()
    """Lower limits, at some times of the day."""

    @property
    def workers(self) -> int:
        """How many GETs may be under way at once through the SDK, or to a stream."""
        return SDK_CONCURRENCY if self.concurrency is None else self.concurrency

    def lanes(self, descriptors: int) -> int:
        """Return for how many GETs at once there is memory, and descriptors, at the most as many as were chosen."""
        room = min(self.memory // LANE_MEMORY, descriptors - SPARE_DESCRIPTORS)
        return max(1, min(room, HIGHEST if self.concurrency is None else self.concurrency))

    def share_of_bandwidth(self, processes: int) -> Timetable:
        """Return what each of so many processes may receive, in bytes a second."""
        return Timetable(self.max_bandwidth, self.bandwidth).shared(processes)


class Durability(enum.StrEnum):
    """What is on the disk, and survives a power loss, before a file has its final name."""

    NONE = "none"
    """Nothing is waited for: as cp, and every other downloader, has it."""
    BATCH = "batch"
    """Small files are synced many at once, and named then; large ones each by itself."""
    FILE = "file"
    """Each file and its directory are synced by themselves."""


class Check(enum.StrEnum):
    """How it is told whether the file in an object's place is that object."""

    LEDGER = "ledger"
    """By what the ledger says of it; by size and time where that says nothing."""
    SIZE_MTIME = "size-mtime"
    """By size and time, whatever the ledger says."""
    CHECKSUM = "checksum"
    """By its bytes: what is as long as the object is read, and held against the ledger's checksum, or S3's."""


class Adopt(enum.StrEnum):
    """How it is told whether a file that the ledger does not know is the object in whose place it is."""

    SIZE_MTIME = "size-mtime"
    """By size and time."""
    VERIFY = "verify"
    """By its bytes: what is as long as the object is read, and held against S3's checksum."""


@dataclass(frozen=True, slots=True)
class MaxDelete:
    """How many files a run may delete: a number, or so many percent of those that the ledger has of its sources."""

    number: int
    percent: bool

    def allows(self, deleted: int, of: int) -> bool:
        """Whether so many of so many files may be deleted."""
        return deleted * 100 <= self.number * of if self.percent else deleted <= self.number

    def __str__(self) -> str:
        return f"{self.number}{'%' * self.percent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """How files are kept, and which are fetched again."""

    durability: Durability = Durability.BATCH
    check: Check = Check.LEDGER
    adopt: Adopt = Adopt.SIZE_MTIME
    force: bool = False
    """Everything is fetched, whatever is in its place."""
    state: Path | None = None
    """Where the ledger and the logs of runs are kept; None for DEST/.sealift."""
    delete: bool = False
    """Files whose object is gone are deleted."""
    max_delete: MaxDelete = MaxDelete(50, percent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsSettings:
    """How much of the account's KMS quota a run may use."""

    rps: float | None = None
    """Requests a second for which KMS is asked, at the most, in any second; None finds out what is allowed."""
    share: float | None = None
    """Of the account's quota, in percent: a cap as well, and the lower of the two holds."""
    timetable: tuple[Slot, ...] = ()
    """Lower caps, at some times of the day."""
    patience: float = 900.0
    """Seconds that KMS may be down before the run ends: 15 min, which outlasts a key store that is restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set about a run."""

    connection: ConnectionSettings = field(default_factory=ConnectionSettings)
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    kms: KmsSettings = field(default_factory=KmsSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)


def refuse_combinations(settings: Settings) -> None:
    """Raise ConfigError where two settings of a mirror exclude each other."""
    chosen = settings.selection
    if chosen.files_from is not None and settings.storage.delete:
        raise ConfigError(
            "--delete and --files-from exclude each other: a file of names does not say which objects are gone"
        )
    if chosen.inventory is not None and settings.storage.delete and not chosen.then_list:
        raise ConfigError(
            "--delete and --inventory exclude each other without --then-list: an inventory is of yesterday, and does "
            "not say which objects are gone"
        )
    if chosen.inventory is not None and (chosen.files_from is not None or chosen.as_of is not None):
        other = "--files-from" if chosen.files_from is not None else "--as-of"
        raise ConfigError(f"--inventory and {other} exclude each other: each of them says which objects there are")
    if chosen.then_list and chosen.inventory is None:
        raise ConfigError("--then-list is of --inventory: without one everything is listed anyway")
    if chosen.files_from is not None and chosen.as_of is not None:
        raise ConfigError("--as-of and --files-from exclude each other: a file of names may say each object's version")
    if chosen.null and chosen.files_from is None:
        raise ConfigError("--null (-0) says how --files-from is to be read: name that file as well")


# No number of more digits is meant; a "b" is refused, as some read it as bytes and some as bits.
_SIZE = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([kKMGT]?)(i?)(B?)\s*")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Read bytes: `65536`, `8MiB` or `8M` (powers of 1,024, as rclone reads them), `8MB` (powers of 1,000).

    Raises ConfigError.
    """
    match = _SIZE.fullmatch(text)
    if not match or (match[3] and not match[2]):
        raise ConfigError(f"{text!r} is not a size: write for example 8MiB or 64MB")
    base = 1000 if match[4] and not match[3] and match[2] else 1024
    size = int(float(match[1]) * base ** _POWER[match[2].lower()])
    if size < 1:
        raise ConfigError(f"{text!r} is not a size: it must be at least one byte")
    return size


def parse_rate(text: str) -> float:
    """Read bytes a second: a size, with or without `/s`. Raises ConfigError."""
    return float(parse_size(text.removesuffix("/s").removesuffix("ps")))


def parse_duration(text: str) -> float:
    """Read seconds: `90s`, `30m`, `2h`, `1h30m`, or a number of seconds. Raises ConfigError."""
    match = re.fullmatch(r"(?:([0-9]{1,5})h)?\s*(?:([0-9]{1,7})\s*m(?:in)?)?\s*(?:([0-9]{1,9})\s*s?)?", text.strip())
    seconds = (
        0 if not match else sum(int(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True))
    )
    if not seconds:
        raise ConfigError(f"{text!r} is not a duration: write for example 90s, 30m or 1h30m")
    return float(seconds)


def parse_percent(text: str) -> float:
    """Read a share: `50` or `12.5`, with or without `%`; above 0 and 100 at the most. Raises ConfigError."""
    number = text.strip().removesuffix("%")
    if not re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,6})?", number) or not 0 < float(number) <= 100:
        raise ConfigError(f"{text!r} is not a share: write a number above 0 and up to 100, as in 50 for one half")
    return float(number)


def parse_count(text: str) -> int:
    """Read a whole number of at least one. Raises ConfigError."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise ConfigError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def parse_max_delete(text: str) -> MaxDelete:
    """Read a number of files, or a share of them as in `50%`. Raises ConfigError."""
    match = re.fullmatch(r"([0-9]{1,18})(%?)", text.strip())
    if not match or (match[2] and int(match[1]) > 100):
        raise ConfigError(f"{text!r} is neither a number of files nor a percentage: write for example 1000 or 10%")
    return MaxDelete(int(match[1]), percent=bool(match[2]))


def parse_moment(text: str) -> datetime | Literal["start"]:
    """Read a time in ISO 8601, of UTC where it does not say, or `start`. Raises ConfigError."""
    if text.strip() == "start":
        return "start"
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time: write for example 2026-11-25T02:15:00Z, or start") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def or_auto(parse: Callable[[str], int]) -> Callable[[str], int | None]:
    """Return a reader that also takes `auto`, which is None."""

    def read(text: str) -> int | None:
        return None if text == "auto" else parse(text)

    return read


def one_of(choices: type[E]) -> Callable[[str], E]:
    """Return a reader of one of the words of an enumeration."""

    def read(text: str) -> E:
        try:
            return choices(text)
        except ValueError as error:
            words = [str(choice) for choice in choices]
            raise ConfigError(f"{text!r} is not one of {', '.join(words[:-1])} and {words[-1]}") from error

    return read
