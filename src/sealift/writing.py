"""The file work of those who carry out attempts: bytes go to their offset, small objects get their final name.

A small object's file is made when its first byte is there, under its partial file's name, and is renamed when its
last byte is, together with others that are complete: a batch. With durability `batch` they are renamed only when a
barrier has passed: one sync for all files of the batch, then all their names. A power loss so finds, under any final
name, either a complete file or the old one. With `none` there is no barrier, and the batches are small.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from sealift.attempt import Attempt, Ended, Spot
from sealift.bell import Bell
from sealift.checksum import (
    OWN,
    Checked,
    Checksum,
    Pieces,
    Running,
    Stretches,
    agrees,
    hashed,
    mismatch,
    running_checksum,
    summed_up,
    usual_part_size,
)
from sealift.config import Durability
from sealift.destination import Destination, Segments
from sealift.diskpace import DiskWork
from sealift.errors import SealiftError
from sealift.localpath import LocalPath
from sealift.partial import FEW, PartialFile, sync_file_system

MOST_FILES = 500
"""Files of a batch: at 20,000 a second one sync every 25 ms, of which each takes 1 to 10 ms on an idle disk."""

MOST_BYTES = 32 * 1024 * 1024
"""Bytes of a batch: what a disk of 200 MB/s syncs in a sixth of a second. While one is synced the next fills up: so two
of them are what a killed run fetches twice."""

LONGEST_WAIT = 0.5
"""Seconds that a complete file waits for the others of its batch: what a slow link's file waits at the most."""

AT_ONCE = 100
"""Names that are given in one go, 8 to 17 µs each: 2 ms at the most, for which the event loop does nothing else. More
than come before the next go, of which each brings one a connection. So many are a batch where nothing is synced."""

AT_ONCE_BYTES = 4 * 1024 * 1024
"""Bytes of a batch where nothing is synced: a file of this size costs so much else that it need not wait for others."""

SHORTEST_WAIT = 0.05
"""Seconds that a complete file waits for the others of its batch where nothing is synced."""

LOOK_EVERY = 0.01
"""Seconds after which a batch that waits looks whether more is to come: what a file waits when none is."""


class _Complete(NamedTuple):
    """A complete file that waits for its name."""

    attempt: Attempt
    spot: Spot
    partial: PartialFile
    checked: Checked


@dataclass(slots=True)
class _Batch:
    """Complete files that get their names together."""

    files: list[_Complete] = field(default_factory=list)
    bytes: int = 0


class Filling:
    """The file that an attempt fills. One task's own."""

    __slots__ = ("_attempt", "_beside", "_partial", "_running", "_told", "_writer", "reached")

    def __init__(self, writer: Writer, attempt: Attempt, partial: PartialFile | None) -> None:
        self._writer = writer
        self._attempt = attempt
        self._partial = partial
        self.reached = attempt.part.range.start
        """The offset up to which everything was written."""
        self._told: Checksum | None = None
        self._running: Running | None = None
        self._beside: Pieces | Stretches | None = None

    def expect(self, told: Checksum | None) -> None:
        """Sum up what comes. `told` is what S3 says of a whole object's checksum."""
        remote, part = self._attempt.remote, self._attempt.part
        if not part.whole:
            algorithm, grain = summed_up(remote)
            self._running = Stretches(algorithm, part.range.start, grain)
            if (pieces := hashed(remote)) is not None:
                self._beside = Pieces(*pieces, remote.size, part.range)
        elif told is None:
            self._running = Stretches(OWN)
        else:
            self._told = told
            grain = usual_part_size(remote.size, told.parts) if told.parts > 1 else 0
            self._running = running_checksum(told.algorithm, grain)
            if grain and not told.algorithm.is_crc:  # of parts: what is recorded is one of all bytes
                self._beside = Stretches(OWN)

    def check(self) -> Checked | None:
        """Say what a whole object's bytes are; None where that takes more than to have seen them.

        Raises ChecksumMismatch.
        """
        told, running = self._told, self._running
        if running is None:
            return None
        if told is None:
            return Checked(str(Checksum(running.algorithm, running.digest())), verified=False)
        agreed = agrees(told, running)
        if agreed is False:
            raise mismatch(self._attempt.remote, told)
        if not agreed:
            return None
        whole = self._beside if isinstance(self._beside, Stretches) else running
        return Checked(str(Checksum(whole.algorithm, whole.digest())), verified=True)

    def ended(self, error: SealiftError | None, checked: Checked | None = None) -> Ended:
        """Return how an attempt ended that has not brought its object to its place, be it complete and `checked`."""
        attempt, told, running = self._attempt, self._told, self._running
        if checked is not None:
            return Ended(attempt.number, self.reached, False, error, *checked)
        asked = attempt.part.whole and running is not None
        algorithm, stretches = "", tuple[tuple[int, int, int], ...]()
        if isinstance(running, Stretches):
            algorithm, stretches = running.algorithm.name, running.so_far()
        pieces = self._beside.so_far() if isinstance(self._beside, Pieces) else ()
        return Ended(
            attempt.number,
            self.reached,
            placed=False,
            error=error,
            told=(str(told) if told else "") if asked else None,
            algorithm=algorithm,
            stretches=stretches,
            pieces=pieces,
        )

    async def write(self, data: bytes | memoryview) -> None:
        """Put the next bytes where they belong. Raises LocalStorageError."""
        await self._writer.disk.perform(self._write, data)

    def write_inline(self, data: bytes | memoryview) -> None:
        """Put the next bytes where they belong, in the event loop: where `Writer.disk` keeps up. As `write`."""
        self._writer.disk.perform_inline(self._write, data)

    async def place(self, spot: Spot, checked: Checked) -> bool:
        """Put the complete object where it belongs; whether it is there, rather than waiting for its batch.

        Raises Blocked, LocalStorageError.
        """
        partial = self._partial
        if partial is None:  # an empty object: nothing came that would have made its file
            partial = await self._writer.disk.perform(self._finish)
        return await self._writer.place(self._attempt, spot, partial, checked)

    def close(self) -> None:
        """Let go of the file; it stays on the disk."""
        if self._partial is not None:
            self._partial.close()

    def _write(self, data: bytes | memoryview) -> None:
        attempt, partial = self._attempt, self._partial
        if partial is None:
            partial = self._partial = self._writer.create(attempt)
        partial.write(self.reached, data)
        if self._running is not None:
            self._running.update(data)
        if self._beside is not None:
            self._beside.update(data)
        self.reached += len(data)
        if self.reached == attempt.remote.size and attempt.spot is not None:
            partial.finish(attempt.remote.last_modified_ns, sync=False)

    def _finish(self) -> PartialFile:
        self._partial = self._writer.create(self._attempt)
        self._partial.finish(self._attempt.remote.last_modified_ns, sync=False)
        return self._partial


class Writer:
    """Writes for all lanes of a process; `name_batches` runs beside them, and `name_batch` once after them."""

    def __init__(self, destination: Destination | None, partial_fd: int, durability: Durability) -> None:
        """`partial_fd` is the open directory of the partial files; without a `destination` nothing is placed."""
        self._destination = destination
        self._partial_fd = partial_fd
        self._durability = durability
        self._synced = durability is not Durability.NONE
        self.disk = DiskWork()
        self._batch = _Batch()
        self._room = Bell()
        self._due = anyio.Event()
        self._naming = anyio.Lock()

    def fill(self, attempt: Attempt) -> Filling:
        """Open the file that an attempt goes on with, if it is not a new one. Raises SealiftError."""
        partial = None
        if attempt.spot is None:
            partial = PartialFile.reopen(self._partial_fd, attempt.name, attempt.remote.size)
        return Filling(self, attempt, partial)

    def create(self, attempt: Attempt) -> PartialFile:
        """Begin a small object's file. Raises LocalStorageError."""
        return PartialFile.create(self._partial_fd, attempt.name, attempt.remote.size, preallocate=False)

    async def place(self, attempt: Attempt, spot: Spot, partial: PartialFile, checked: Checked) -> bool:
        """See `Filling.place`."""
        if self._durability is Durability.FILE:
            await run_sync(self._place_synced, partial, spot)
            return True
        while self._full():
            await self._room.wait()
        batch = self._batch
        batch.files.append(_Complete(attempt, spot, partial, checked))
        batch.bytes += attempt.remote.size
        if len(batch.files) == 1 or self._complete():
            self._due.set()
        return False

    async def name_batches(self, ended: Callable[[Ended], None], idle: Callable[[], bool]) -> None:
        """Name batches as they fill up, until cancelled; `ended` hears of each of their attempts.

        `idle` says that nothing is under way which would bring more files.
        """
        while True:
            await self._due.wait()
            until = time.monotonic() + (LONGEST_WAIT if self._synced else SHORTEST_WAIT)
            while not (self._complete() or idle() or time.monotonic() >= until):
                self._due = anyio.Event()
                with anyio.move_on_after(LOOK_EVERY):
                    await self._due.wait()
            self._due = anyio.Event()
            await self.name_batch(ended)

    async def name_batch(self, ended: Callable[[Ended], None]) -> None:
        """Sync and name what waits for it. Cannot be cancelled: what is complete is kept, also by a run that ends."""
        with anyio.CancelScope(shield=True):
            async with self._naming:
                batch, self._batch = self._batch, _Batch()
                self._room.ring()
                if not batch.files:
                    return
                error = await run_sync(self._sync, batch.files) if self._synced else None
                ends = list[Ended]()
                for start in range(0, len(batch.files), AT_ONCE):
                    if start:
                        await checkpoint()
                    some = batch.files[start : start + AT_ONCE]
                    ends += await self.disk.perform(self._name, some, error)
                for end in ends:
                    ended(end)

    def _complete(self) -> bool:
        """Whether a batch waits for no more files; there is room yet for those that come before it is taken."""
        files, size = len(self._batch.files), self._batch.bytes
        if self._synced:
            return files >= MOST_FILES * 4 // 5 or size >= MOST_BYTES
        return files >= AT_ONCE or size >= AT_ONCE_BYTES

    def _full(self) -> bool:
        """Whether a batch takes no more files."""
        return len(self._batch.files) >= MOST_FILES or self._batch.bytes >= MOST_BYTES

    def _sync(self, files: Sequence[_Complete]) -> SealiftError | None:
        """Let complete files reach the disk; return what went wrong."""
        try:
            if len(files) <= FEW:
                for file in files:
                    file.partial.sync()
            else:
                sync_file_system(self._partial_fd)
        except SealiftError as error:
            return error
        return None

    def _name(self, files: Sequence[_Complete], error: SealiftError | None) -> list[Ended]:
        """Give complete files their names, directory by directory; none where `error` came before."""
        directories: dict[Segments, list[_Complete]] = {}
        for file in files:
            directories.setdefault(file.spot.segments[:-1], []).append(file)
        ends = []
        for directory, those in directories.items():
            failures: Sequence[SealiftError | None] = [error] * len(those)
            if error is None:
                named = [(partial, spot.segments[-1], spot.mtime_ns) for _, spot, partial, _ in those]
                failures = self._into().place_all(directory, named)
            for (attempt, _, _, checked), failure in zip(those, failures, strict=True):
                ends.append(Ended(attempt.number, attempt.part.range.stop, failure is None, failure, *checked))
        return ends

    def _place_synced(self, partial: PartialFile, spot: Spot) -> None:
        partial.sync()
        path = LocalPath(spot.segments, escaped=False, directory=False)
        self._into().place(partial, path, spot.mtime_ns, sync=True)

    def _into(self) -> Destination:
        if self._destination is None:
            msg = "there is no destination to place objects in"
            raise TypeError(msg)
        return self._destination
