"""Names become objects: a file or standard input is read piece by piece, and HEADs say what it does not.

A HEAD asks nothing of KMS. Memory is bounded by `BATCH`, whatever the file's length.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self

from anyio.to_thread import run_sync

from sealift.errors import ConfigError, ObjectError
from sealift.manifest import Manifest, Named
from sealift.model import RemoteObject
from sealift.s3 import LISTINGS
from sealift.s3.store import ObjectStore
from sealift.taskgroups import share_out

STANDARD_INPUT: Final = "-"

BATCH: Final = 1000
"""Names at a time: what a page of a listing has."""

_PIECE: Final = 64 * 1024
"""Bytes that are read at once: a batch's, at 64 bytes a key."""

_PATIENCE_MS: Final = 100
"""How long a thread waits for a pipe before it looks whether it is still wanted."""


class Names:
    """The names that a file gives, as a context manager. Cancelling a read is safe, also where a pipe gives nothing."""

    def __init__(self, fd: int, name: str, *, null: bool, ours: bool) -> None:
        self.name = name
        """What messages call it."""
        self.manifest = Manifest(name, null=null)
        self._fd = fd
        self._ours = ours
        self._closing = threading.Lock()
        self._waiting: list[Named] = []
        self._ended = False

    @classmethod
    def open(cls, path: str, *, null: bool) -> Self:
        """Open a file, or standard input where `path` is `-`. Blocks. Raises ConfigError."""
        try:
            if path == STANDARD_INPUT:
                os.fstat(0)
                return cls(0, "standard input", null=null, ours=False)
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path, null=null, ours=True)
        except OSError as error:
            raise ConfigError(f"--files-from {path} cannot be read: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            with self._closing:  # an abandoned thread must not read from the next file that gets the number
                os.close(self._fd)

    def remarks(self) -> list[str]:
        """Return what a person should know when all was read."""
        copies = f"where {self.name} copies to is not heeded: objects lie below DEST, by their keys"
        return [copies] if self.manifest.copies else []

    async def batch(self) -> list[Named]:
        """Return the next names, `BATCH` at the most; none at the end. Raises ConfigError."""
        while len(self._waiting) < BATCH and not self._ended:
            data = await self._read()
            self._ended = not data
            self._waiting += self.manifest.feed(data) if data else self.manifest.finish()
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        return batch

    async def _read(self) -> bytes:
        unwanted = threading.Event()
        try:
            # Abandoned when cancelled: the thread finds out by itself, soon after.
            return await run_sync(self._read_when_there, unwanted, abandon_on_cancel=True)
        except OSError as error:
            raise ConfigError(f"{self.name} cannot be read: {error.strerror}") from error
        finally:
            unwanted.set()

    def _read_when_there(self, unwanted: threading.Event) -> bytes:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not poll.poll(_PATIENCE_MS):
            if unwanted.is_set():
                return b""
        with self._closing:
            return b"" if unwanted.is_set() else os.read(self._fd, _PIECE)


async def look_up(
    store: ObjectStore, names: Sequence[Named], failed: Callable[[RemoteObject, ObjectError], None]
) -> list[RemoteObject]:
    """Return the objects of these names, which have buckets, in their order; `failed` hears of those that are none.

    Raises what `ObjectStore.head` raises of the whole source.
    """
    found: list[RemoteObject | None] = [_as_said(named) for named in names]
    todo = [number for number, remote in enumerate(found) if remote is None]

    async def work(left: Iterator[int]) -> None:
        for number in left:
            named = names[number]
            try:
                found[number] = await store.head(named.bucket, named.key, named.version_id)
            except ObjectError as error:
                failed(RemoteObject(named.bucket, named.key, named.size or 0, named.etag, 0), error)

    await share_out(work, todo, at_once=LISTINGS)
    return [remote for remote in found if remote is not None]


def _as_said(named: Named) -> RemoteObject | None:
    if not named.whole or named.size is None or named.last_modified_ns is None:
        return None
    return RemoteObject(
        named.bucket,
        named.key,
        named.size,
        named.etag,
        named.last_modified_ns,
        named.version_id,
        named.storage_class,
    )
