"""S3 Inventory as the source of a mirror: what a report lists becomes names, as a file of names does.

1. The manifest says which files the report has, in which format, and of which bucket and moment it is.
2. Each file is fetched whole into a file without a name, and its MD5 compared: nothing of a damaged one is used.
3. Rows are read some at a time. Of a report with versions only the latest count, and no delete markers.

So memory is bounded by a row group (Parquet), a stripe (ORC) or a batch of lines (CSV), and disk by the largest file.
Formats other than CSV need pyarrow, of the extra `sealift[inventory]`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import random
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import IO, Any, Final, Literal, NoReturn, Self, cast
from urllib.parse import unquote_to_bytes

import anyio
from anyio.to_thread import run_sync

from sealift.errors import ConfigError, LocalStorageError, ObjectError, Permanent, SourceError
from sealift.manifest import Named
from sealift.model import ARCHIVED, ByteRange, Part, RemoteObject
from sealift.naming import BATCH
from sealift.partial import translated
from sealift.retry import Attempts, RetrySettings, after
from sealift.s3.store import Leave, ObjectStore, at_once
from sealift.selection import Location, parse_location

LARGEST_MANIFEST: Final = 64 * 1024 * 1024
"""Bytes of a manifest that are read: some 300,000 files of 200 bytes each."""

_COLUMNS = (
    "key",
    "versionid",
    "islatest",
    "isdeletemarker",
    "size",
    "lastmodifieddate",
    "etag",
    "storageclass",
    "encryptionstatus",
)
"""What is looked at, in this order; the names are those of the reports, without capitals and underscores."""

_CUSTOMER_KEY = "SSE-C"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Row = tuple[Any, ...]
"""The values of `_COLUMNS`; None where a report has no such column or no such value."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a report."""

    key: str
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a manifest says."""

    bucket: str
    """The bucket that was listed."""
    moment: datetime | None
    format: Literal["CSV", "Parquet", "ORC"]
    columns: tuple[str, ...]
    """Of a CSV, in their order, as `_COLUMNS` writes them."""
    files: tuple[DataFile, ...]


def parse_report(data: bytes, name: str) -> Report:
    """Read a manifest. Raises ConfigError."""
    try:
        said = json.loads(data)
        kind = said["fileFormat"]
        files = tuple(DataFile(str(file["key"]), int(file["size"]), str(file["MD5checksum"])) for file in said["files"])
        columns = tuple(_plain(column) for column in str(said["fileSchema"]).split(",")) if kind == "CSV" else ()
        created = said.get("creationTimestamp")
        moment = None if created is None else datetime.fromtimestamp(int(created) / 1000, UTC)
        bucket = str(said["sourceBucket"])
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{name} is no manifest of S3 Inventory ({type(error).__name__}: {error})") from error
    if kind not in {"CSV", "Parquet", "ORC"}:
        raise ConfigError(f"{name}: reports in the format {kind!r} are not known: there are CSV, Parquet and ORC")
    if kind == "CSV" and "key" not in columns:
        raise ConfigError(f"{name} is no manifest of S3 Inventory (its report has no keys)")
    return Report(bucket, moment, kind, columns, files)


class Inventory:
    """The names that a report gives, as a context manager: the same as `naming.Names`, from S3."""

    def __init__(
        self,
        store: ObjectStore,
        where: Location,
        report: Report,
        *,
        retry: RetrySettings,
        directory: Path | None,
        buckets: Collection[str],
        pinned: bool,
        failed: Callable[[RemoteObject, ObjectError], None],
        leave: Leave,
    ) -> None:
        """Files are put into `directory`, None for where temporary files go; `buckets` are those that are meant.

        Reports may be encrypted as what they name is: `leave` paces the GETs.
        `pinned`: with the versions' ids, where the report has them; else what was overwritten since comes as it is
        now. `failed` hears of objects that cannot be had. Raises ConfigError.
        """
        self.report = report
        self.name = str(where)
        """What messages call it."""
        self.encryption: Counter[str] = Counter()
        """How many rows that counted were encrypted in which way."""
        self._store = store
        self._bucket = where.bucket
        self._retry = retry
        self._directory = directory
        self._pinned = pinned
        self._failed = failed
        self._leave = leave
        self._of = _one_of(buckets, report.bucket, str(where))
        self._files = iter(report.files)
        self._batches: Generator[list[Row], None, None] | None = None
        self._file: IO[bytes] | None = None

    @classmethod
    async def open(
        cls,
        store: ObjectStore,
        written: str,
        *,
        retry: RetrySettings,
        directory: Path | None,
        buckets: Collection[str],
        pinned: bool,
        failed: Callable[[RemoteObject, ObjectError], None],
        leave: Leave = at_once,
    ) -> Self:
        """Read the manifest at the location `written`; what else there is, is as with `__init__`.

        Raises ConfigError, SourceError, CredentialsError.
        """
        where = parse_location(written)
        name = str(where)
        try:
            remote = await store.head(where.bucket, where.key)
            if remote.size > LARGEST_MANIFEST:
                raise ConfigError(f"{name} is no manifest: it has {remote.size:,} bytes")
            data = bytearray()
            await _fetch(store, remote, data.extend, retry, leave)
            report = parse_report(bytes(data), name)
            return cls(
                store,
                where,
                report,
                retry=retry,
                directory=directory,
                buckets=buckets,
                pinned=pinned,
                failed=failed,
                leave=leave,
            )
        except ObjectError as error:
            raise SourceError(f"the inventory {name} cannot be read: {error.message}", code=error.code) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    async def batch(self) -> list[Named]:
        """Return the next names, about `BATCH`; none at the end. Raises SourceError, LocalStorageError."""
        while True:
            if self._batches is None:
                file = next(self._files, None)
                if file is None:
                    return []
                self._batches = await self._opened(file)
            rows = await run_sync(self._next, self._batches)
            if rows is None:
                self._close()
            elif names := self._names(rows):
                return names

    def remarks(self) -> list[str]:
        """Return what a person should know when all was read."""
        counts = ", ".join(f"{number:,} {status}" for status, number in sorted(self.encryption.items()) if status)
        return [f"encrypted, by the inventory: {counts}"] if counts else []

    async def _opened(self, file: DataFile) -> Generator[list[Row], None, None]:
        """Fetch a file, check it, and return its rows."""
        digest = hashlib.md5(usedforsecurity=False)
        with self._storing(file):
            self._file = written = await run_sync(_unnamed, self._directory)

        def take(data: bytes | memoryview) -> None:
            digest.update(data)
            with self._storing(file):
                written.write(data)

        try:
            remote = await self._store.head(self._bucket, file.key)
            await _fetch(self._store, remote, take, self._retry, self._leave)
        except ObjectError as error:
            raise SourceError(
                f"{file.key!r}, of {self.name}, cannot be read: {error.message}", code=error.code
            ) from error
        with self._storing(file):
            written.seek(0)  # which writes what is still in its buffer
        if digest.hexdigest() != file.md5.lower():
            _refuse(f"{file.key!r}, of {self.name}, is not the file that its manifest names: its MD5 is another one")
        read = {"CSV": _rows_of_csv, "Parquet": _rows_of_parquet, "ORC": _rows_of_orc}[self.report.format]
        return read(written, self.report.columns)

    @contextmanager
    def _storing(self, file: DataFile) -> Iterator[None]:
        """Let go of the room for a file that the disk does not take. Raises LocalStorageError."""
        try:
            yield
        except OSError as error:
            self._close()
            where = os.fspath(self._directory or tempfile.gettempdir())
            failure = translated(error, where, needed=file.size)
            message = f"{file.key!r}, of {self.name}, has to be stored while it is read: {failure.message}"
            raise LocalStorageError(message, code=failure.code) from error

    def _next(self, batches: Iterator[list[Row]]) -> list[Row] | None:
        try:
            return next(batches, None)
        except (csv.Error, ValueError, LookupError, TypeError, OSError, EOFError, zlib.error) as error:
            # pyarrow's own errors are ValueErrors and OSErrors.
            raise SourceError(f"a file of {self.name} makes no sense: {error}", code="BadInventory") from error

    def _names(self, rows: Iterable[Row]) -> list[Named]:
        names = []
        bucket = self._of
        for key, version, latest, marker, size, modified, etag, storage, encryption in rows:
            if marker or latest is False:
                continue
            self.encryption[encryption or ""] += 1
            if encryption == _CUSTOMER_KEY:
                self._failed(RemoteObject(bucket, key, size or 0, "", 0), _customers(bucket, key))
                continue
            # Whether there is a readable copy of an archived object only a HEAD says.
            known = etag and storage not in ARCHIVED
            names.append(
                Named(
                    bucket,
                    key,
                    version or None if self._pinned else None,
                    f'"{etag}"' if known else "",
                    size,
                    modified,
                    storage or "STANDARD",
                )
            )
        return names

    def _close(self) -> None:
        if self._batches is not None:
            self._batches.close()
        if self._file is not None:
            with suppress(OSError):  # a full disk does not take what is left to be written, which nobody needs
                self._file.close()
        self._batches = self._file = None


async def _fetch(
    store: ObjectStore,
    remote: RemoteObject,
    take: Callable[[bytes | memoryview], object],
    retry: RetrySettings,
    leave: Leave,
) -> None:
    """Get an object's bytes in their order, going on where an attempt ended. Raises ObjectError."""
    offset, attempts = 0, Attempts()
    while offset < remote.size:
        before = offset
        try:
            part = Part(ByteRange(offset, remote.size), whole=not offset)
            async with leave(remote.bucket) as going, store.open(remote, part, going) as body:
                while piece := await body.read():
                    take(piece)
                    offset += len(piece)
        except ObjectError as error:
            again = after(error, attempts, retry, progressed=offset > before, chance=random.random())
            if again is None:
                raise
            attempts = again.attempts
            await anyio.sleep(again.delay)


def _rows_of_csv(file: IO[bytes], columns: Sequence[str]) -> Generator[list[Row], None, None]:
    """Yield the rows of a CSV, gzipped as S3 writes it or not. Keys are URL-encoded."""
    where = [columns.index(name) if name in columns else None for name in _COLUMNS]
    with _unzipped(file) as plain:
        rows: list[Row] = []
        for line in csv.reader(text.decode("utf-8") for text in plain):
            if len(line) != len(columns):
                raise ValueError(f"a row of {len(line)} columns, where its manifest says {len(columns)}")
            said = [None if at is None else line[at] or None for at in where]
            key, version, latest, marker, size, modified, *rest = said
            if not key:
                raise ValueError("a row without a key")
            rows.append(
                (
                    unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape"),
                    version,
                    None if latest is None else latest.lower() == "true",
                    marker is not None and marker.lower() == "true",
                    None if size is None else int(size),
                    None if modified is None else _nanoseconds(modified),
                    *rest,
                )
            )
            if len(rows) == BATCH:
                yield rows
                rows = []
        if rows:
            yield rows


def _unzipped(file: IO[bytes]) -> IO[bytes]:
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if zipped else file


def _rows_of_parquet(file: IO[bytes], _columns: Sequence[str]) -> Generator[list[Row], None, None]:
    parquet = _arrow("pyarrow.parquet")
    opened = parquet.ParquetFile(file, pre_buffer=False)
    names = [name for name in opened.schema_arrow.names if _plain(name) in _COLUMNS]
    for batch in opened.iter_batches(batch_size=BATCH, columns=names):
        yield _rows_of(batch)


def _rows_of_orc(file: IO[bytes], _columns: Sequence[str]) -> Generator[list[Row], None, None]:
    opened = _arrow("pyarrow.orc").ORCFile(file)
    names = [name for name in opened.schema.names if _plain(name) in _COLUMNS]
    for number in range(opened.nstripes):
        stripe = opened.read_stripe(number, columns=names)
        for start in range(0, stripe.num_rows, BATCH):
            yield _rows_of(stripe.slice(start, BATCH))


def _rows_of(batch: Any) -> list[Row]:  # noqa: ANN401 - pyarrow is not there to be imported, and not typed
    """Return the rows of a record batch."""
    arrow = _arrow("pyarrow")
    there = {_plain(name): column for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    columns: list[Iterable[Any]] = []
    for name in _COLUMNS:
        column = there.get(name)
        if column is None:
            columns.append(repeat(None, batch.num_rows))
        elif name == "lastmodifieddate":
            if arrow.types.is_timestamp(column.type):
                column = column.cast(arrow.timestamp("ms"), safe=False)
            milliseconds = column.cast(arrow.int64()).to_pylist()
            columns.append([None if value is None else value * 1_000_000 for value in milliseconds])
        elif arrow.types.is_binary(column.type):
            values = column.to_pylist()
            columns.append([value and value.decode("utf-8", "surrogateescape") for value in values])
        else:
            columns.append(column.to_pylist())
    rows = list(zip(*columns, strict=True))
    if any(not row[0] for row in rows):
        raise ValueError("a row without a key")
    return rows


def _arrow(module: str) -> Any:  # noqa: ANN401 - as above
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            "a report in Parquet or ORC is read by pyarrow: pip install 'sealift[inventory]', or let S3 write CSV"
        ) from error


def _plain(column: str) -> str:
    return re.sub(r"[\s_]", "", column).lower()


def _nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _unnamed(directory: Path | None) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=directory)


def _one_of(buckets: Collection[str], reported: str, name: str) -> str:
    """Return which of the buckets a report is of, which names it as it is called itself."""
    if reported in buckets:
        return reported
    if len(buckets) == 1 and (only := next(iter(buckets))).startswith("arn:"):  # an access point's
        return only
    raise ConfigError(f"{name} is an inventory of s3://{reported}, and no SOURCE is in that bucket")


def _customers(bucket: str, key: str) -> Permanent:
    return Permanent(
        f"{key!r} is encrypted with a key that only its writer has (SSE-C): S3 gives it to nobody else",
        bucket=bucket,
        key=key,
        code="CustomerKey",
    )


def _refuse(why: str) -> NoReturn:
    raise SourceError(why, code="BadInventory")
