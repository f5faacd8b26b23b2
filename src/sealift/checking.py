"""A complete partial file is held against S3's checksum before it gets its name.

1. S3 is asked for the object's checksum, if no GET of the whole object has told it: one HEAD, paced as a GET, since KMS
   is asked for that as well. Where it tells none, the file has Sealift's own, of which nothing can be said but that.
2. CRCs were taken of the stretches as they were written. What was not summed up (it came in an earlier run, or by a
   worker process that died) is read back. So is the whole file where S3's checksum is not that kind of CRC.
3. A COMPOSITE checksum wants to know where parts begin. Usual tools cut all parts to one size, which is guessed; that
   it fits proves the guess. Where it does not, S3 is asked for the size of each part (HEADs, which ask nothing of KMS).
   Hashes were taken of those parts that one GET brought whole; of the others, the file is read back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import anyio
from anyio.to_thread import run_sync

from sealift.checksum import (
    OWN,
    Algorithm,
    Checked,
    Checksum,
    Running,
    Sums,
    composite,
    crc_bytes,
    crc_checksum,
    cut,
    hashed,
    mismatch,
    running_checksum,
    stretches_of,
    usual_part_size,
)
from sealift.errors import Changed, NotSent, ObjectError, Throttled
from sealift.model import ByteRange, Part, RemoteObject
from sealift.pacing import Pace, Permit, say_if_back
from sealift.reading import Readable, sum_up
from sealift.retry import Again, Attempts, RetrySettings, after
from sealift.s3.store import ObjectStore
from sealift.tally import Tally
from sealift.taskgroups import ungrouped

SIZES_AT_ONCE = 16
"""HEADs at once that ask for the sizes of parts, of which there may be 10,000."""

SLICE = 32 * 1024 * 1024
"""Bytes that are read back in one call of a thread, which cannot be called off meanwhile: 0.2 s of a disk's time."""

_SLOW = frozenset({"400", "503"})
"""What a HEAD says, which has no body, where a GET would say that KMS asks for fewer requests."""


class Checker:
    """Holds files against S3's checksums. One for a whole run."""

    def __init__(
        self, store: ObjectStore, pace_for: Callable[[RemoteObject], Pace], tally: Tally, settings: RetrySettings
    ) -> None:
        """`pace_for` says what paces the requests to KMS for an object."""
        self._store = store
        self._pace_for = pace_for
        self._tally = tally
        self._settings = settings

    async def check(
        self,
        remote: RemoteObject,
        file: Readable,
        sums: Sums,
        told: Checksum | None,
        *,
        asked: bool,
        charged: bool,
        pieces: Mapping[int, bytes],
    ) -> Checked:
        """Return what a complete file's bytes are.

        `sums` are the CRCs of what was summed up, `pieces` the hashes that were taken of parts of the upload
        (`hashed`); `told` is S3's checksum, if S3 was `asked` already. `charged`: KMS is asked for this object. Raises
        what `ask` raises, ChecksumMismatch and LocalStorageError.
        """
        if not asked:
            told = await self.ask(remote, charged=charged)
        if told is not None and told.algorithm.is_crc:
            grain = usual_part_size(remote.size, told.parts) if told.parts > 1 else 0
            if told.algorithm is not sums.algorithm or (grain and grain != sums.grain):
                sums = Sums(told.algorithm, grain)
        if told is None or told.algorithm.is_crc:
            await self._fill(file, sums, remote.size)
            found = crc_checksum(sums.algorithm, sums.of(0, remote.size) or 0)
            if told is None:
                return Checked(str(found), verified=False)
            if not told.parts:
                return self._agreed(remote, told, found, found)
            if _by_guess(remote, sums, told) == told:
                return Checked(str(found), verified=True)
        elif not told.parts:
            running = running_checksum(told.algorithm)
            await self._read(file, ByteRange(0, remote.size), running)
            found = Checksum(told.algorithm, running.digest())
            return self._agreed(remote, told, found, found)
        elif (checked := await self._by_hashes(remote, file, sums, told, pieces)) is not None:
            return checked
        return await self._by_parts(remote, file, told)

    async def ask(self, remote: RemoteObject, *, charged: bool) -> Checksum | None:
        """Return S3's checksum of an object; None where it has none.

        As patiently as a part is fetched: no object gets its name because S3 would not tell. Raises Changed, RunError,
        and the last attempt's ObjectError.
        """
        attempts = Attempts()
        by_head = True
        failing_since: float | None = None
        pace = self._pace_for(remote)
        while True:
            permit = await pace.permit() if charged else None
            sent = time.monotonic()
            try:
                told = await self._told(remote, permit, by_head=by_head)
            except Changed:
                raise
            except NotSent:
                continue
            except ObjectError as error:
                failure = _as_a_get_would_say(error) if by_head and charged else error
                by_kms = isinstance(failure, Throttled) and failure.service == "kms"
                if charged and by_kms:
                    say_if_back(pace.refused(sent), self._tally.observer)
                if failing_since is None:
                    failing_since = time.monotonic()
                again = after(failure, attempts, self._settings, progressed=False, chance=random.random())
                if charged and pace.is_to_blame(failure, failing_since, self._tally.observer, used_up=again is None):
                    again = Again(Attempts(), 0.0)  # it waits for a permit
                if again is not None:
                    attempts = again.attempts
                    await anyio.sleep(0.0 if by_kms and charged else again.delay)
                elif not by_head:
                    raise
                self._tally.retry(failure)
                by_head = False
            else:
                if charged:
                    self._tally.kms_requests += 1
                    say_if_back(pace.succeeded(sent), self._tally.observer)
                return told

    async def _told(self, remote: RemoteObject, permit: Permit | None, *, by_head: bool) -> Checksum | None:
        """Ask once.

        By a GET, that is given up once its head is there: its refusal says what is the matter, a HEAD's does not. That
        costs a connection.
        """
        going = None if permit is None else permit.going
        with permit or nullcontext():
            if by_head:
                return await self._store.checksum(remote, going)
            self._tally.get_requests += 1
            try:
                async with self._store.open(remote, Part(ByteRange(0, remote.size), whole=True), going) as body:
                    return body.checksum
            except NotSent:
                self._tally.get_requests -= 1
                raise

    def _agreed(self, remote: RemoteObject, told: Checksum, found: Checksum, whole: Checksum) -> Checked:
        if found != told:
            raise mismatch(remote, told)
        return Checked(str(whole), verified=True)

    async def _by_hashes(
        self, remote: RemoteObject, file: Readable, sums: Sums, told: Checksum, pieces: Mapping[int, bytes]
    ) -> Checked | None:
        """Say what a file is, if it agrees with a COMPOSITE hash of parts of the usual size; None if it does not."""
        grain = usual_part_size(remote.size, told.parts)
        if not grain:
            return None
        parts = cut(remote.size, grain)
        if pieces and hashed(remote) == (told.algorithm, grain):
            hashes = dict(pieces)
            for number, part in enumerate(parts):
                if number not in hashes:
                    running = running_checksum(told.algorithm)
                    await self._read(file, part, running)
                    hashes[number] = running.digest()
            await self._fill(file, sums, remote.size)
            found = composite(told.algorithm, [hashes[number] for number in range(told.parts)])
            whole = crc_checksum(sums.algorithm, sums.of(0, remote.size) or 0)
        else:
            found, whole = await self._read_parts(file, told.algorithm, parts)
        return Checked(str(whole), verified=True) if found == told else None

    async def _by_parts(self, remote: RemoteObject, file: Readable, told: Checksum) -> Checked:
        """Say what a file is that does not agree with a COMPOSITE checksum of parts of the usual size."""
        parts = await self.layout(remote, told.parts)
        if parts and parts == cut(remote.size, usual_part_size(remote.size, told.parts)):
            raise mismatch(remote, told)  # it was the right guess
        found, whole = await self._read_parts(file, told.algorithm, parts or [ByteRange(0, remote.size)])
        if not parts:  # nobody says what the parts were
            return Checked(str(whole), verified=False)
        return self._agreed(remote, told, found, whole)

    async def _read_parts(
        self, file: Readable, algorithm: Algorithm, parts: Sequence[ByteRange]
    ) -> tuple[Checksum, Checksum]:
        """Read all of a file back; return the checksum of its parts' checksums, and Sealift's own of the whole."""
        own, digests = running_checksum(OWN), []
        for part in parts:
            running = running_checksum(algorithm)
            await self._read(file, part, running, own)
            digests.append(running.digest())
        return composite(algorithm, digests), Checksum(OWN, own.digest())

    async def layout(self, remote: RemoteObject, count: int) -> list[ByteRange]:
        """Return where the parts lie that an object was uploaded in; none where S3 does not tell. Raises RunError."""
        sizes = [0] * count

        async def work(left: Iterator[int]) -> None:
            for number in left:
                sizes[number] = await self._store.part_size(remote, number + 1)

        try:
            with ungrouped():
                async with anyio.create_task_group() as together:
                    left = iter(range(count))
                    for _ in range(SIZES_AT_ONCE):
                        together.start_soon(work, left)  # shared: each part goes to one of the tasks
        except Changed:
            raise
        except ObjectError:
            return []
        return stretches_of(sizes) if sum(sizes) == remote.size else []

    async def _fill(self, file: Readable, sums: Sums, size: int) -> None:
        """Read back what was not summed up."""
        for gap in sums.missing(size):
            running = sums.stretches(gap.start)
            await self._read(file, gap, running)
            for stretch in running.so_far():
                sums.add(*stretch)

    async def _read(self, file: Readable, stretch: ByteRange, *running: Running) -> None:
        at = stretch.start
        while at < stretch.stop:
            stop = min(at + SLICE, stretch.stop)
            await run_sync(sum_up, file, ByteRange(at, stop), *running)
            at = stop


def _as_a_get_would_say(error: ObjectError) -> ObjectError:
    """Return what a HEAD's error means for which KMS was asked."""
    return Throttled(error.message, service="kms", code=error.code) if error.code in _SLOW else error


def _by_guess(remote: RemoteObject, sums: Sums, told: Checksum) -> Checksum | None:
    """Return the COMPOSITE checksum that the file has if its parts are of the usual size."""
    size = usual_part_size(remote.size, told.parts)
    values = [sums.of(start, min(start + size, remote.size)) for start in range(0, remote.size, size)] if size else []
    known = [crc_bytes(told.algorithm, value) for value in values if value is not None]
    return composite(told.algorithm, known) if len(known) == told.parts else None
