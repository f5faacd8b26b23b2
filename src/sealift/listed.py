"""Which objects a run's listings or a file have named: an SQLite file without a name, as they may be 100 million.

Nothing of it has to survive anything: it is one transaction that is never committed. Everything here blocks, and may
be called from several threads at once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from sealift.errors import LocalStorageError
from sealift.localpath import encoded

AT_ONCE: Final = 500
"""Objects in one statement: each lets go of the interpreter's lock once. SQLite takes 32,766 values."""

_CACHE = 16 * 1024
"""KiB that stay in memory: the keys of a listing come in a few ascending sequences, of which the ends are needed."""


class Listed:
    """Buckets and keys. `begin` it and close it, or use `with`."""

    def __init__(self, database: sqlite3.Connection, where: str) -> None:
        self._lock = threading.Lock()
        self._database = database
        self._where = where

    @classmethod
    def begin(cls, directory: Path | None) -> Self:
        """Begin with none. The file takes its room in `directory`, None for where temporary files go.

        Raises LocalStorageError.
        """
        path = None if directory is None else directory / "listed.db"
        where = "the directory for temporary files" if path is None else str(path)
        with _translating(where):
            if path is not None:
                path.unlink(missing_ok=True)  # a run that was killed in the next two lines
            database = sqlite3.connect(path or "", isolation_level=None, check_same_thread=False)
            try:
                database.execute("PRAGMA journal_mode = OFF")
                database.execute("PRAGMA locking_mode = EXCLUSIVE")
                database.execute(f"PRAGMA cache_size = -{_CACHE}")
                database.execute("CREATE TABLE object (bucket, key, PRIMARY KEY (bucket, key)) WITHOUT ROWID")
                if path is not None:
                    path.unlink()
                database.execute("BEGIN")
            except BaseException:
                database.close()
                raise
        return cls(database, where)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, bucket: str, keys: Sequence[str]) -> None:
        """Take down some keys. Raises LocalStorageError."""
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            values = [value for key in some for value in (bucket, encoded(key))]
            rows = ", ".join(["(?, ?)"] * len(some))
            with self._lock, _translating(self._where):
                self._database.execute(f"INSERT OR IGNORE INTO object VALUES {rows}", values)  # noqa: S608

    def among(self, objects: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of these buckets and keys, at most `AT_ONCE`, that were taken down. Raises LocalStorageError."""
        keys: dict[str, dict[bytes, str]] = {}
        for bucket, key in objects:
            keys.setdefault(bucket, {})[encoded(key)] = key
        found = set()
        for bucket, names in keys.items():
            # Not (bucket, key) IN (VALUES …): SQLite would go through the whole table.
            sql = f"SELECT key FROM object WHERE bucket = ? AND key IN ({', '.join('?' * len(names))})"  # noqa: S608
            with self._lock, _translating(self._where):
                found |= {(bucket, names[key]) for (key,) in self._database.execute(sql, (bucket, *names))}
        return found

    def close(self) -> None:
        """Let go of it, and of its room."""
        with self._lock:
            self._database.close()


@contextmanager
def _translating(where: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        raise LocalStorageError(
            f"no space left for what the run needs to remember in {where}; free some and run again"
            if full
            else f"what the run needs to remember cannot be kept in {where} ({error})",
            code="DiskFull" if full else "NotWritable",
        ) from error
