"""The ledger: what is known of each file that a mirror has put in place, or found there. An SQLite file.

    DEST/.sealift/ledger.db    tables `file`, `seal`, `directory`, shown by the view `files`; `landmark`, `decrypt`

A record is a statement about a file: "the bytes at `path`, as long as its size and time are these, are that version of
that object". It is written after the file has its name, so it never promises more than there is; a file without a
record is none the worse, and is known again by its size and time. So the ledger may be lost at any time, and one that
is damaged is set aside and begun anew.

Paths are relative to the destination, which may be moved. Names and keys that are not UTF-8 are stored as BLOBs, and
sort behind all others. Everything here blocks, and may be called from several threads at once. What is looked up
does not wait for what is being written.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from operator import lt
from pathlib import Path
from types import NoneType
from typing import Any, Final, NamedTuple, Self, TypeVar

from sealift.errors import LocalStorageError
from sealift.localpath import encoded
from sealift.partial import translated

LEDGER: Final = "ledger.db"

_VERSION = 1
_APPLICATION = 0x5EA1_1F70
"""What SQLite's header says about whose file this is."""

_PATIENCE = 10.0
"""Seconds for which somebody else may keep the ledger locked: a person's own query."""

_CHECKPOINT = 4000
"""Pages of 4 KiB after which the write-ahead log goes into the file, which syncs twice: some 80,000 records."""

_AT_ONCE = 200
"""Records in one statement. A statement of many takes two thirds of what one a record does, and lets go of the
interpreter's lock once."""

LATEST: Final = 2**63 - 1
"""The greatest number that SQLite takes, as a time in the year 2262: a later one is taken for this."""

_ENDINGS = ("", "-wal", "-shm")
_CORRUPT, _NOT_A_DATABASE, _FULL, _BUSY, _LOCKED = 11, 26, 13, 5, 6
"""SQLite's own numbers."""

_NO_FORMAT = "unsupported file format"
"""What SQLite says, under a number for everything, of a header whose format is none of the four that there are."""

_ENTRY = ("path", "seal", "key", "size", "etag", "version", "local_size", "local_mtime_ns")
_COLUMNS = "path, seal, key, size, etag, version, checksum, local_size, local_mtime_ns, adopted"
_NAME, _MAYBE, _NUMBER = (str, bytes), (str, NoneType), (int,)
_COLUMN: tuple[tuple[type, ...], ...] = (_NAME, _NUMBER, _NAME, _NUMBER, (str,), _MAYBE, _MAYBE, *[_NUMBER] * 3)
_KINDS = frozenset(product(*_COLUMN))
"""What the columns may hold, a row at a time."""
_SCHEMA = """
CREATE TABLE seal (
    id INTEGER PRIMARY KEY, bucket TEXT NOT NULL, sse TEXT NOT NULL, kms_key_id TEXT NOT NULL,
    UNIQUE (bucket, sse, kms_key_id));
CREATE TABLE file (
    path TEXT PRIMARY KEY, seal INTEGER NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    version TEXT, checksum TEXT, local_size INTEGER NOT NULL, local_mtime_ns INTEGER NOT NULL,
    adopted INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE directory (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE landmark (
    bucket TEXT NOT NULL, prefix TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (bucket, prefix, key)) WITHOUT ROWID;
CREATE VIEW files AS
    SELECT path, bucket, key, size, etag, version, checksum, sse, kms_key_id, local_size, local_mtime_ns, adopted
    FROM file JOIN seal ON seal.id = file.seal;
"""
_ADDED = """
CREATE TABLE IF NOT EXISTS decrypt (
    bucket TEXT NOT NULL, prefix TEXT NOT NULL, charged INTEGER NOT NULL, free INTEGER NOT NULL,
    PRIMARY KEY (bucket, prefix)) WITHOUT ROWID;
"""
"""What came later. A Sealift that does not know of it leaves it alone, so the version is the same."""
_STAMP = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"

T = TypeVar("T")


class Seal(NamedTuple):
    """Where an object is from and how it is encrypted there: the same for very many."""

    bucket: str
    sse: str = ""
    """`aws:kms`, `aws:kms:dsse`, `AES256`; nothing where it is not known."""
    kms_key_id: str = ""


class Decrypts(NamedTuple):
    """Of the requests for what lay under a prefix, how many KMS was asked for, and how many not."""

    charged: int = 0
    free: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.charged + self.free


class Record(NamedTuple):
    """What the ledger says of one file."""

    path: str
    """Below the destination, as it is on disk (surrogates for bytes that are not UTF-8)."""
    seal: Seal
    key: str
    size: int
    """The object's, in bytes."""
    etag: str
    version_id: str | None
    checksum: str | None
    """Algorithm and value of the file's bytes, as `sealift.checksum` writes them."""
    local_size: int
    mtime_ns: int
    """The file's modification time when it was recorded."""
    adopted: bool = False
    """Sealift found it there and did not write it."""


Entry = tuple[str, int, str, int, str, str | None, int, int]
"""What of a record says whether its file is in place: `_ENTRY`, a row as it comes, for a third of a `Record`'s price.

Its second value is the number of its seal: see `Ledger.seals_of`."""


@dataclass(slots=True)
class Changes:
    """What is to be written at once: first the records, then the moves, then the rest."""

    records: list[Record] = field(default_factory=list)
    moves: list[tuple[str, str]] = field(default_factory=list)
    """Files that have another path now."""
    gone: list[str] = field(default_factory=list)
    """Paths of files of which nothing is to be said any more."""
    removed: list[str] = field(default_factory=list)
    """Directories that are not there any more."""
    directories: list[str] = field(default_factory=list)
    """Directories that are Sealift's own making."""

    def __len__(self) -> int:
        return len(self.records) + len(self.moves) + len(self.gone) + len(self.removed) + len(self.directories)

    def extend(self, later: Changes) -> None:
        """Let other changes follow."""
        self.records += later.records
        self.moves += later.moves
        self.gone += later.gone
        self.removed += later.removed
        self.directories += later.directories


class _DamagedError(Exception):
    """The file is no ledger, or not any more."""


class Ledger:
    """An open ledger; close it, or use `with`. A damaged one is set aside whenever that shows."""

    def __init__(self, directory: Path, noted: Callable[[str], None]) -> None:
        self._directory = directory
        self._noted = noted
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._seals: dict[Seal, int] = {}
        self._sealed: dict[int, Seal] = {}
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self.empty = True
        """Nothing is recorded from before this run."""
        self._damaged = False

    @classmethod
    def open(cls, directory: Path, noted: Callable[[str], None]) -> Self:
        """Open the ledger in `directory`, or begin one. `noted` hears of one that was damaged, and set aside.

        Raises LocalStorageError, with code `LedgerTooNew` where a newer Sealift has written it.
        """
        ledger = cls(directory, noted)
        try:
            with _translating(directory):
                try:
                    ledger._connect()
                except _DamagedError:
                    ledger._set_aside()
                    ledger._connect()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def open_to_read(cls, directory: Path, noted: Callable[[str], None], *, shared: bool = False) -> Self | None:
        """Open a ledger that is there already, and change nothing. None where there is none, or only a damaged one.

        `shared`: it stays right if a run begins to write meanwhile, for which SQLite makes a file beside it until it is
        closed. Raises LocalStorageError.
        """
        _refuse_links(directory)
        if not (directory / LEDGER).exists():
            return None
        ledger = cls(directory, noted)
        try:
            with _translating(directory):
                ledger._reader = ledger._connected_to_read(shared=shared)
                ledger._learn(ledger._reader)
        except _DamagedError:
            ledger.close()
            noted(f"{directory / LEDGER} is damaged: files are known by their size and time")
            return None
        except BaseException:
            ledger.close()
            raise
        return ledger

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._directory

    @property
    def damaged(self) -> bool:
        """Whether it turned out to be damaged: what was read is not all there was."""
        return self._damaged

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. What was written stays written."""
        with self._writing, self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    with suppress(sqlite3.Error):
                        connection.close()
            self._reader = self._writer = None

    # ── Looking up ──────────────────────────────────────────────────────────────────────────────────

    def look_up(self, paths: Sequence[str]) -> dict[str, Record]:
        """Return the records of those of these paths that have one. At most some hundred at once."""
        found = self._read(_look_up(len(paths)), [_stored(path) for path in paths], self._record)
        return {record.path: record for record in found}

    def known(self, path: str) -> Record | None:
        """Return the record of a path, whoever's the file is."""
        return self.look_up([path]).get(path)

    def said_of(self, path: str) -> list[Record]:
        """Return all that is said of a path: one record at the most, but where shards have had it one after another."""
        return list(self.look_up([path]).values())

    def entries(self, paths: Sequence[str]) -> list[Entry]:
        """Return the entries of those of these paths that have one, and are UTF-8; maybe some others' besides.

        Where the paths ascend so do they: a stretch of the ledger is read then, in two thirds of the time.
        """
        rows: list[Entry] = []
        first, last = (_stored(paths[0]), _stored(paths[-1])) if paths else ("", "")
        if isinstance(first, str) and isinstance(last, str) and all(map(lt, paths, paths[1:])):
            most = 2 * len(paths)  # records of objects that are gone may lie between them
            rows = self._read(_STRETCH, (first, last, most))
            paths = [path for path in paths if path > rows[-1][0]] if len(rows) == most > 0 else []
        if paths:
            rows += self._read(_look_up(len(paths), ", ".join(_ENTRY)), [_stored(path) for path in paths])
        return rows

    def seals_of(self, bucket: str) -> frozenset[int]:
        """Return the numbers of a bucket's seals."""
        return frozenset(number for number, seal in tuple(self._sealed.items()) if seal.bucket == bucket)

    def buckets(self) -> set[str]:
        """Return the buckets from which there may be files."""
        return {seal.bucket for seal in tuple(self._sealed.values())}

    def records(self, after: str = "", most: int = 1000) -> list[Record]:
        """Return the next records behind the path `after`, in the ledger's order; none at the end."""
        return self._read(_NEXT, (_stored(after), most), self._following(after))

    def records_below(self, directory: str, after: str = "", most: int = 1000) -> list[Record]:
        """As `records`, of what is in or below a directory, whose own record (`directory/`) is the first."""
        if not directory:
            return self.records(after, most)
        behind, following, found = _stored(after), self._following(after), list[Record]()
        for first, end in _bounds(directory):
            if isinstance(first, bytes) or not isinstance(behind, bytes):
                start = behind if after and type(behind) is type(first) else type(first)()
                found += self._read(_NEXT_BELOW, (first, end, start, most - len(found)), following)
        return found

    def pages(self, directory: str = "", most: int = 1000) -> Iterator[list[Record]]:
        """Yield all records some at a time, or those of what is in or below a directory. Others may write meanwhile."""
        after = ""
        while page := self.records_below(directory, after, most):
            after = page[-1].path
            yield page

    def recorded(self, paths: Sequence[str]) -> dict[str, str]:
        """Return those of these paths that have a record, each with its object's key. At most some hundred at once."""
        rows: list[tuple[object, object]] = self._read(
            _look_up(len(paths), "path, key"), [_stored(path) for path in paths]
        )
        return {text_of(path): text_of(key) for path, key in rows}

    def totals(self, directory: str = "") -> tuple[int, int]:
        """Return how many files there are, in or below a directory, and their bytes. Raises LocalStorageError."""
        files = size = 0
        queries = [(f"{_TOTALS} WHERE path >= ? AND path < ?", bounds) for bounds in _bounds(directory)]
        for sql, bounds in queries if directory else [(_TOTALS, ())]:
            rows: list[tuple[int, int]] = self._read(sql, bounds)
            for count, bytes_ in rows:
                files += count
                size += bytes_
        return files, size

    def made(self, directories: Sequence[str]) -> set[str]:
        """Return those of these directories that are Sealift's own making; none if the ledger is damaged."""
        with self._reading, _translating(self._directory), suppress(_DamagedError), _finding_damage():
            execute = _opened(self._reader).execute
            sql = "SELECT 1 FROM directory WHERE path = ?"
            return {path for path in directories if execute(sql, (_stored(path),)).fetchone()}
        return set()

    def directories(self, after: str = "", most: int = 1000) -> list[str]:
        """Return the next directories that are Sealift's own making, behind `after`, in the ledger's order."""
        rows: list[tuple[object]] = self._read(_NEXT_DIRECTORIES, (_stored(after), most))
        return [text_of(path) for (path,) in rows]

    def landmarks(self, bucket: str, prefix: str) -> list[str]:
        """Return keys that were spread evenly under a prefix when it was last listed to its end; none if unknown."""
        with self._reading, _translating(self._directory), suppress(_DamagedError), _finding_damage():
            sql = "SELECT key FROM landmark WHERE bucket = ? AND prefix = ?"
            return [text_of(key) for (key,) in _opened(self._reader).execute(sql, (_stored(bucket), _stored(prefix)))]
        return []

    def decrypts(self, bucket: str, prefix: str) -> Decrypts:
        """Return what KMS was asked when objects under a prefix were fetched last; nothing if that is not known."""
        return self.all_decrypts().get((bucket, prefix), Decrypts())

    def all_decrypts(self) -> dict[tuple[str, str], Decrypts]:
        """Return what KMS was asked, by bucket and prefix."""
        with self._reading, _translating(self._directory), suppress(_DamagedError), _finding_damage():
            execute = _opened(self._reader).execute
            if execute("SELECT 1 FROM sqlite_master WHERE name = 'decrypt'").fetchone():  # an older one, and read only
                rows = execute("SELECT bucket, prefix, charged, free FROM decrypt").fetchall()
                return {(text_of(row[0]), text_of(row[1])): Decrypts(*row[2:]) for row in rows if _are_counts(*row[2:])}
        return {}

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────

    def keep_landmarks(self, bucket: str, prefix: str, keys: Sequence[str]) -> None:
        """Let these be the landmarks under a prefix. Raises LocalStorageError."""
        where = (_stored(bucket), _stored(prefix))

        def change(writer: sqlite3.Connection) -> None:
            writer.execute("DELETE FROM landmark WHERE bucket = ? AND prefix = ?", where)
            writer.executemany("INSERT INTO landmark VALUES (?, ?, ?)", [(*where, _stored(key)) for key in keys])

        self._change(change)

    def keep_decrypts(self, bucket: str, prefix: str, decrypts: Decrypts) -> None:
        """Let this be what KMS was asked for what lies under a prefix. Raises LocalStorageError."""
        row = (_stored(bucket), _stored(prefix), *decrypts)
        self._change(lambda writer: writer.execute("INSERT OR REPLACE INTO decrypt VALUES (?, ?, ?, ?)", row))

    def write(self, changes: Changes) -> None:
        """Write changes, all of them or none. Raises LocalStorageError."""

        def change(writer: sqlite3.Connection) -> None:
            self._insert(writer, changes.records)
            writer.executemany("UPDATE OR REPLACE file SET path = ?2 WHERE path = ?1", _all_stored(changes.moves))
            for statement, paths in (
                ("DELETE FROM file WHERE path = ?", changes.gone),
                ("DELETE FROM directory WHERE path = ?", changes.removed),
                ("INSERT OR IGNORE INTO directory VALUES (?)", changes.directories),
            ):
                writer.executemany(statement, [(_stored(path),) for path in paths])

        self._change(change)

    def _change(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """Carry out a change, all of it or nothing; in a new ledger where this one turns out to be damaged."""
        with self._writing, _translating(self._directory):
            try:
                self._transact(change)
            except _DamagedError:
                with self._reading:
                    self._set_aside()
                    self._connect()
                self._transact(change)

    def _transact(self, change: Callable[[sqlite3.Connection], object]) -> None:
        writer = _opened(self._writer)
        with _finding_damage():
            writer.execute("BEGIN IMMEDIATE")
            try:
                change(writer)
            except BaseException:
                with suppress(sqlite3.Error):
                    writer.execute("ROLLBACK")
                raise
            writer.execute("COMMIT")

    def _insert(self, writer: sqlite3.Connection, records: Sequence[Record]) -> None:
        for start in range(0, len(records), _AT_ONCE):
            values: list[object] = []
            some = records[start : start + _AT_ONCE]
            for record in some:
                path, seal, key, *rest = record
                values += (_stored(path), self._seals.get(seal) or self._learn_seal(writer, seal), _stored(key), *rest)
            writer.execute(_insertion(len(some)), values)

    def _learn_seal(self, writer: sqlite3.Connection, seal: Seal) -> int:
        writer.execute("INSERT OR IGNORE INTO seal (bucket, sse, kms_key_id) VALUES (?, ?, ?)", seal)
        (number,) = writer.execute(
            "SELECT id FROM seal WHERE bucket = ? AND sse = ? AND kms_key_id = ?", seal
        ).fetchone()
        self._seals[seal], self._sealed[number] = number, seal
        return int(number)

    # ── Opening ─────────────────────────────────────────────────────────────────────────────────────

    def _connect(self) -> None:
        """Open both connections, to a ledger that is made if need be."""
        _refuse_links(self._directory)
        path = self._directory / LEDGER
        with _finding_damage():
            writer = self._writer = _connection(str(path))
            writer.execute("PRAGMA journal_mode = WAL")
            # The log is synced when it goes into the file. A power loss may so cost the last records, and no others.
            writer.execute("PRAGMA synchronous = NORMAL")
            writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
            writer.execute("BEGIN IMMEDIATE")
            tables = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            writer.execute("COMMIT")
            if not tables:
                writer.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {_STAMP} COMMIT")
            if [_asked(writer, what) for what in ("application_id", "user_version")] == [_APPLICATION, _VERSION]:
                writer.execute(_ADDED)
            reader = self._reader = _connection(str(path))
        self._learn(reader)

    def _connected_to_read(self, *, shared: bool) -> sqlite3.Connection:
        uri = (self._directory / LEDGER).absolute().as_uri()
        if (self._directory / f"{LEDGER}-wal").exists():
            mode = "mode=ro"
        elif shared and os.access(self._directory, os.W_OK):
            mode = "mode=rw"
        else:  # nobody has it open, and nothing is made beside it, which may be on a read-only file system
            mode = "immutable=1"
        with _finding_damage():
            return _connection(f"{uri}?{mode}", uri=True)

    def _learn(self, connection: sqlite3.Connection) -> None:
        """Check that it is a ledger of this version, and read its seals."""
        with _finding_damage():
            application, version = _asked(connection, "application_id"), _asked(connection, "user_version")
            if application != _APPLICATION:
                raise _DamagedError
            if version > _VERSION:
                raise LocalStorageError(
                    f"{self._directory / LEDGER} was written by a newer Sealift (its version is {version}, this one "
                    f"knows {_VERSION}): update Sealift, or run with --check size-mtime, which needs no ledger",
                    code="LedgerTooNew",
                )
            try:
                connection.execute(f"SELECT {_COLUMNS} FROM file WHERE path = ''").fetchone()  # noqa: S608
                rows = connection.execute("SELECT id, bucket, sse, kms_key_id FROM seal").fetchall()
                self.empty = connection.execute("SELECT 1 FROM file LIMIT 1").fetchone() is None
            except sqlite3.OperationalError as error:
                if (
                    getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_ERROR
                ):  # no such table, no such column
                    raise _DamagedError from error
                raise
        self._sealed = {number: Seal(*rest) for number, *rest in rows}
        self._seals = {seal: number for number, seal in self._sealed.items()}

    def _set_aside(self) -> None:
        """Give a damaged ledger another name, which nothing reads: the next one begins from nothing."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self._reader = self._writer = None
        number = 1
        # A run that was killed in between may have left some of them only.
        while any(os.path.lexists(self._directory / f"{LEDGER}.damaged-{number}{ending}") for ending in _ENDINGS):
            number += 1
        aside = f"{LEDGER}.damaged-{number}"
        for ending in reversed(_ENDINGS):  # a log that is left alone is deleted by SQLite
            with suppress(FileNotFoundError):
                (self._directory / f"{LEDGER}{ending}").replace(self._directory / f"{aside}{ending}")
        self.empty = self._damaged = True
        self._noted(
            f"{self._directory / LEDGER} was damaged: it is called {aside} now, and a new one is begun. Files that are "
            "in place are known by their size and time"
        )

    def _read(self, sql: str, values: Sequence[object], read: Callable[[tuple[Any, ...]], T] | None = None) -> list[T]:
        """Return the rows that a query finds, as `read` makes them; none where the ledger turns out to be damaged."""
        with self._reading, _translating(self._directory):
            reader = _opened(self._reader)
            try:
                with _finding_damage():
                    rows = reader.execute(sql, values).fetchall()
                return rows if read is None else list(map(read, rows))
            except _DamagedError:
                pass
        if self._writer is not None:
            self._begin_anew(reader)
        else:
            self._damaged = True
        return []

    def _begin_anew(self, damaged: sqlite3.Connection) -> None:
        """Begin a new ledger, unless another thread has done so since this one was found `damaged`."""
        with self._writing, self._reading, _translating(self._directory):
            if self._reader is damaged:
                self._set_aside()
                self._connect()

    def _following(self, after: str) -> Callable[[tuple[Any, ...]], Record]:
        """Return what makes records of rows that follow a path, one by one."""
        before = _place(after)

        def following(row: tuple[Any, ...]) -> Record:
            nonlocal before
            record = self._record(row)
            if (place := _place(record.path)) <= before:  # whoever asks for the next ones would not come to an end
                raise _DamagedError
            before = place
            return record

        return following

    def _record(self, row: tuple[Any, ...]) -> Record:
        if tuple(map(type, row)) not in _KINDS:
            raise _DamagedError  # no run has written such a row
        path, number, key, *rest, adopted = row
        seal = self._sealed.get(number)
        if seal is None:
            raise _DamagedError
        return Record._make([text_of(path), seal, text_of(key), *rest, adopted == 1])


def _connection(database: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(database, timeout=_PATIENCE, isolation_level=None, check_same_thread=False, uri=uri)


def _asked(connection: sqlite3.Connection, pragma: str) -> int:
    (number,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)


def _opened(connection: sqlite3.Connection | None) -> sqlite3.Connection:
    if connection is None:
        msg = "the ledger is closed, or open to be read only"
        raise ValueError(msg)
    return connection


_STRETCH = f"SELECT {', '.join(_ENTRY)} FROM file WHERE path BETWEEN ? AND ? ORDER BY path LIMIT ?"  # noqa: S608
_NEXT = f"SELECT {_COLUMNS} FROM file WHERE path > ? ORDER BY path LIMIT ?"  # noqa: S608 (nobody's input)

_NEXT_DIRECTORIES = "SELECT path FROM directory WHERE path > ? ORDER BY path LIMIT ?"
_NEXT_BELOW = f"SELECT {_COLUMNS} FROM file WHERE path >= ? AND path < ? AND path > ? ORDER BY path LIMIT ?"  # noqa: S608
_TOTALS = "SELECT count(*), coalesce(sum(local_size), 0) FROM file"


_SECOND = 1_000_000_000
_ALL = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS.split(", ")[1:])
_OR_REPLACE = f"""ON CONFLICT (path) DO UPDATE SET {_ALL}
WHERE excluded.adopted = 0 OR file.adopted = 1 OR file.key <> excluded.key OR file.size <> excluded.size
OR file.etag <> excluded.etag OR NOT coalesce(file.version = excluded.version, 1)
OR file.local_size <> excluded.local_size OR file.local_mtime_ns / {_SECOND} <> excluded.local_mtime_ns / {_SECOND}
OR (file.local_mtime_ns <> excluded.local_mtime_ns
    AND file.local_mtime_ns % {_SECOND} AND excluded.local_mtime_ns % {_SECOND})"""
"""A record takes the place of another, but not of one that Sealift wrote of the same file and version if it is adopted:
a first run does not look for what it has recorded itself (`standing.names`, `destination.same_time`). For nothing: with
and without it, a record takes 2.3 µs where there is none of its path yet, and 2.7 to 2.9 µs where there is one."""


@lru_cache
def _look_up(count: int, columns: str = _COLUMNS) -> str:
    return f"SELECT {columns} FROM file WHERE path IN ({', '.join('?' * count)})"  # noqa: S608 (nobody's input)


@lru_cache
def _insertion(count: int) -> str:
    row = f"({', '.join('?' * (_COLUMNS.count(',') + 1))})"
    return f"INSERT INTO file ({_COLUMNS}) VALUES {', '.join([row] * count)} {_OR_REPLACE}"  # noqa: S608 (nobody's input)


def _stored(text: str) -> str | bytes:
    """Return a name or key as SQLite can take it."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return encoded(text)
    return text


def _bounds(directory: str) -> Iterator[tuple[str | bytes, str | bytes]]:
    """Yield between what the paths below a directory lie: those that are UTF-8, and the others."""
    if isinstance(stored := _stored(directory), str):
        yield f"{stored}/", f"{stored}0"  # which follows the slash
        stored = stored.encode()
    yield stored + b"/", stored + b"0"


def _are_counts(*values: object) -> bool:
    """Say whether a run can have written these."""
    return all(isinstance(value, int) and value >= 0 for value in values)


def _place(name: str) -> tuple[bool, bytes]:
    """Return what SQLite sorts a name by."""
    stored = _stored(name)
    return isinstance(stored, bytes), stored if isinstance(stored, bytes) else stored.encode()


def text_of(stored: object) -> str:
    """Return a name or key that SQLite had taken."""
    return stored.decode("utf-8", "surrogateescape") if isinstance(stored, bytes) else str(stored)


def _all_stored(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str | bytes, str | bytes]]:
    return ((_stored(one), _stored(other)) for one, other in pairs)


def _refuse_links(directory: Path) -> None:
    """SQLite follows symbolic links: none may lead out of the directory. Raises LocalStorageError."""
    for ending in _ENDINGS:
        path = directory / f"{LEDGER}{ending}"
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise translated(error, str(path)) from error
        if not stat.S_ISREG(mode):
            raise LocalStorageError(f"{path} is not a regular file; move it away", code="NotWritable")


@contextmanager
def _finding_damage() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite's own message names what it has read
        raise _DamagedError from error
    except sqlite3.DatabaseError as error:
        number = getattr(error, "sqlite_errorcode", None)
        if number is None:  # the interpreter's own: a text that is not UTF-8
            damaged = isinstance(error, sqlite3.OperationalError)
        else:
            damaged = number & 0xFF in {_CORRUPT, _NOT_A_DATABASE} or str(error) == _NO_FORMAT
        if damaged:
            raise _DamagedError from error
        raise


@contextmanager
def _translating(directory: Path) -> Iterator[None]:
    """Let what SQLite says become an error of ours."""
    path = directory / LEDGER
    try:
        yield
    except OSError as error:
        raise translated(error, str(path)) from error
    except sqlite3.Error as error:
        number = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if number == _FULL:
            raise LocalStorageError(
                f"no space left on the disk of {path}; free some and run again", code="DiskFull"
            ) from error
        if number in {_BUSY, _LOCKED}:
            raise LocalStorageError(
                f"{path} is locked by somebody else; end what has it open and run again", code="LedgerBusy"
            ) from error
        raise LocalStorageError(
            f"{path} cannot be used ({error}); look at it and its directory, or move it away and run again: files "
            "are then known by their size and time",
            code="LedgerUnusable",
        ) from error
