"""What a run finds out about files goes into the ledger, behind the run's back and some at once.

Bytes are on the disk before a file has its name (`sealift.writing`), and names are before the ledger says anything of
them: a batch of records is written behind a sync of the file system. Records may come late, or be lost with the
process: the next run knows those files by their size and time.
"""

from __future__ import annotations

from collections import defaultdict

import anyio
from anyio.to_thread import run_sync

from sealift.bell import Bell
from sealift.kmscost import ENOUGH
from sealift.ledger import Changes, Decrypts, Ledger, Record
from sealift.partial import sync_file_system

MOST = 5000
"""Changes after which a batch is written: some 15 ms of a thread's work, and 5 MB."""

LONGEST_WAIT = 2.0
"""Seconds after which a batch is written in any case: what a killed run knows by size and time only."""

MOST_WAITING = 10 * MOST
"""Changes with which the run waits for the disk: a minute's stall must not fill the memory."""


def blended(before: Decrypts, decrypts: Decrypts) -> Decrypts:
    """Return what is known after a run: what that has asked, and of what was known as much as makes up for too little.

    So a bucket that was given Bucket Keys is known to have them after one run that fetches enough.
    """
    room = min(before.total, max(0, ENOUGH - decrypts.total))
    kept = round(before.charged * room / before.total) if room else 0
    return Decrypts(decrypts.charged + kept, decrypts.free + room - kept)


class Recorder:
    """Takes down changes of the ledger; `keep_up` runs beside the run, and `flush` once after it.

    Without a ledger, it listens and forgets. Everything here belongs to the event loop.
    """

    def __init__(self, ledger: Ledger | None, directory_fd: int, *, sync: bool) -> None:
        """`directory_fd` is an open directory on the file system of the files; `sync` it before each batch."""
        self._ledger = ledger
        self._directory_fd = directory_fd
        self._sync = sync
        self._changes = Changes()
        self._count = 0
        self._names = False
        self._asked: defaultdict[tuple[str, str, bool], int] = defaultdict(int)
        self._some = anyio.Event()
        self._many = anyio.Event()
        self._room = Bell()
        self._writing = anyio.Lock()

    def record(self, record: Record) -> None:
        """Say of a file that was put in its place what the record says."""
        self._names = True
        self._changes.records.append(record)
        self._grew(1)

    def asked(self, bucket: str, prefix: str, requests: int, *, charged: bool) -> None:
        """Hear of requests for something under a prefix, for which KMS was asked or not."""
        self._asked[bucket, prefix, charged] += requests

    async def keep_asked(self) -> None:
        """Let the ledger know what KMS was asked, at the end of a run. Raises LocalStorageError."""
        ledger = self._ledger
        if ledger is None:
            return
        with anyio.CancelScope(shield=True):
            for bucket, prefix in {where[:2] for where in self._asked}:
                decrypts = Decrypts(self._asked[bucket, prefix, True], self._asked[bucket, prefix, False])
                before = await run_sync(ledger.decrypts, bucket, prefix)
                await run_sync(ledger.keep_decrypts, bucket, prefix, blended(before, decrypts))
        self._asked.clear()

    def moved(self, path: str, to: str) -> None:
        """Hear that a file has another path now."""
        self._names = True
        self._changes.moves.append((path, to))
        self._grew(1)

    def add(self, changes: Changes, *, fresh: bool = False) -> None:
        """Take down changes; `fresh` ones are of what happened on disk just now."""
        self._names = self._names or fresh
        if count := len(changes):
            self._changes.extend(changes)
            self._grew(count)

    async def has_room(self) -> None:
        """Wait while the disk does not take what is to be written."""
        while self._count >= MOST_WAITING:
            await self._room.wait()

    async def keep_up(self) -> None:
        """Write changes as they come, until cancelled. Raises LocalStorageError."""
        while True:
            await self._some.wait()
            with anyio.move_on_after(LONGEST_WAIT):
                await self._many.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write what there is. Cannot be cancelled. Raises LocalStorageError."""
        with anyio.CancelScope(shield=True):
            async with self._writing:
                changes, self._changes, self._count = self._changes, Changes(), 0
                names, self._names = self._names, False
                self._some, self._many = anyio.Event(), anyio.Event()
                self._room.ring()
                if self._ledger is not None and len(changes):
                    await run_sync(self._write, self._ledger, changes, names)

    def _grew(self, count: int) -> None:
        if self._ledger is None:
            self._changes = Changes()
            return
        self._count += count
        if not self._some.is_set():
            self._some.set()
        if self._count >= MOST and not self._many.is_set():
            self._many.set()

    def _write(self, ledger: Ledger, changes: Changes, names: bool) -> None:
        if names and self._sync:
            sync_file_system(self._directory_fd)
        ledger.write(changes)
