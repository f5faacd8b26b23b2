"""Workers fetch parts, write them where they belong, and see each object to its end.

1. A worker takes the next part from the line and reserves memory for what it holds of it.
2. One GET, pinned to the version that was listed. Its bytes go to their offset in the object's partial file, a
   stretch at a time; a small object stays in memory and is written, finished and put in place in one go.
3. An attempt that fails sends what is left of the part back to the line (`sealift.retry` decides), or fails the
   object. An object that was overwritten meanwhile is looked up again and started over.
4. Whoever brings the last part puts the object in its place: lengths were checked, so all bytes are there.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio.to_thread import run_sync

from sealift.bandwidth import Bandwidth
from sealift.config import Settings
from sealift.errors import Changed, LocalStorageError, ObjectError, Permanent, SourceError, Transient, Unreachable
from sealift.line import Line, Ticket
from sealift.memory import Memory
from sealift.model import ByteRange, Outcome, Part, RemoteObject
from sealift.partial import PartialFile
from sealift.planning import MIB, parts
from sealift.ranges import merged, missing
from sealift.retry import after
from sealift.s3.store import ObjectStore
from sealift.tally import Tally

STRETCH = 1 * MIB
"""Bytes that are gathered before they are written: a hop to a writing thread costs about 0.1 ms, a MiB takes about
1 ms to arrive at 1 GB/s, so the hop is a tenth at the worst."""

RECORD_EVERY = 64 * MIB
"""Bytes of one object after which what is there of it is recorded durably, for one fdatasync each: what a killed run
fetches twice of a large object at the most, beside the stretches that its workers had not written."""


class Landing(Protocol):
    """Where objects come down: the mirror's destination, or the one file of `get`. Errors are `sealift.errors`'."""

    def begin(self, job: Job) -> PartialFile:
        """Open the partial file of a job, the one that holds `job.done` if there is such. Called in a thread."""
        ...

    async def land(self, job: Job, partial: PartialFile) -> Outcome:
        """Give a complete partial file its final name. Raises ObjectError where that cannot be."""
        ...

    def land_small(self, job: Job, data: bytes | bytearray) -> Outcome | PartialFile:
        """Write and place a small object at once; where its place is taken, return the complete partial file.

        Called in a thread.
        """
        ...


@dataclass(slots=True, eq=False)
class Job:
    """An object that is being fetched."""

    remote: RemoteObject
    part_size: int
    target: object = None
    """What the landing needs to know of it."""
    restarts: int = 0
    partial: PartialFile | None = None
    done: list[ByteRange] = field(default_factory=list)
    failure: ObjectError | None = None
    parts: Iterator[Part] = field(init=False)
    tickets: set[Ticket[Job]] = field(default_factory=set)
    """Parts that were taken and are not finished."""
    drawn: bool = False
    """All parts were taken."""
    unrecorded: int = 0
    """Bytes written since the finished ranges were last recorded."""
    due: int = field(init=False)
    """Bytes that were missing when it was planned."""
    received: int = 0
    opening: anyio.Lock = field(default_factory=anyio.Lock)
    scopes: set[anyio.CancelScope] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.due = sum(map(len, missing(self.remote.size, self.done)))
        self.parts = parts(self.remote.size, self.part_size, self.done)
        if self.done and not missing(self.remote.size, self.done):
            # An earlier run fetched all of it and did not come to placing it: a part of nothing brings it there.
            self.parts = iter([Part(ByteRange(self.remote.size, self.remote.size), whole=False)])

    @property
    def over(self) -> bool:
        """See `line.Divisible`."""
        return self.failure is not None

    def on_disk(self) -> list[ByteRange]:
        """Return what was written so far, of unfinished parts as well."""
        begun = [ByteRange(ticket.start, ticket.part.range.start) for ticket in self.tickets]
        self.done = merged(self.done)
        return merged([*self.done, *begun])


class Fetcher:
    """The worker pool's common ground."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        line: Line[Job],
        landing: Landing,
        settings: Settings,
        tally: Tally,
        start_over: Callable[[Job, RemoteObject], Awaitable[None]],
    ) -> None:
        """`start_over` is called with an object's new version, and puts a new job for it in the line."""
        self._store = store
        self._line = line
        self._landing = landing
        self._settings = settings
        self._tally = tally
        self._start_over = start_over
        self._memory = Memory(settings.transfer.memory)
        self._bandwidth = Bandwidth(settings.transfer.max_bandwidth)
        self._jobs: set[Job] = set()
        self._answered = anyio.current_time()
        self.kept: set[str] = set()
        """The names of the partial files that wait for the next run."""

    async def work(self) -> None:
        """Fetch parts until the line is at its end. Raises RunError."""
        while (ticket := await self._line.take()) is not None:
            try:
                await self._serve(ticket)
            except LocalStorageError as error:
                key = ticket.job.remote.key
                raise LocalStorageError(f"{error.message} (it was for {key!r})", code=error.code) from error

    def keep(self) -> None:
        """Record what is on disk of every unfinished object, so that a rerun continues there.

        Called when no worker runs any more.
        """
        for job in self._jobs:
            self._keep(job)
        self._jobs.clear()

    async def _serve(self, ticket: Ticket[Job]) -> None:
        job = ticket.job
        self._jobs.add(job)
        job.tickets.add(ticket)
        job.drawn = job.drawn or ticket.last
        if not job.over:
            reached = ticket.part.range.start
            try:
                with anyio.CancelScope() as scope:
                    job.scopes.add(scope)
                    try:
                        await self._attempt(ticket)
                    finally:
                        job.scopes.discard(scope)
            except ObjectError as error:
                if job.failure is None and self._goes_back(ticket, error, progressed=ticket.part.range.start > reached):
                    return
                self._fail(job, error)
        job.tickets.discard(ticket)
        job.done.append(ByteRange(ticket.start, ticket.part.range.start))
        if not job.tickets and (job.over or job.drawn):
            await self._finish(job)
            self._jobs.discard(job)
        self._line.done()

    async def _attempt(self, ticket: Ticket[Job]) -> None:
        """GET what is left of a part, once."""
        job, part = ticket.job, ticket.part
        if not part.whole and not part.range:
            # The last attempt failed after the last byte, or the last run ended before the object was in place.
            await self._open_partial(job)
            return
        small = part.whole and job.remote.size <= STRETCH and job.partial is None
        if not small:
            await self._open_partial(job)  # before the GET: a full disk is found before the bytes are fetched
        data = bytearray()
        async with self._memory.reserve(min(len(part.range), STRETCH)):
            self._tally.get_requests += 1
            try:
                async with self._store.open(job.remote, part) as body:
                    self._answered = anyio.current_time()
                    while chunk := await body.read():
                        self._tally.receive(len(chunk))
                        job.received += len(chunk)
                        data += chunk
                        await self._bandwidth.spend(len(chunk))
                        if len(data) >= STRETCH:
                            await self._write(ticket, data)
                if small:
                    await self._land_small(job, data)
                    ticket.part = rest(ticket.part, len(data))
                else:
                    await self._write(ticket, data)
            except ObjectError as error:
                if not isinstance(error, Unreachable):
                    self._answered = anyio.current_time()
                if data and not job.over:
                    await self._write(ticket, data)
                raise

    async def _write(self, ticket: Ticket[Job], data: bytearray) -> None:
        """Write what was gathered, and note how far the part has come."""
        if data:
            job = ticket.job
            partial = await self._open_partial(job)
            await run_sync(partial.write, ticket.part.range.start, data)
            ticket.part = rest(ticket.part, len(data))
            job.unrecorded += len(data)
            data.clear()
            if job.unrecorded >= RECORD_EVERY:
                job.unrecorded = 0
                await run_sync(partial.record, job.on_disk())

    async def _open_partial(self, job: Job) -> PartialFile:
        if job.partial is None:
            async with job.opening:
                if job.partial is None:
                    job.partial = await run_sync(self._landing.begin, job)
        return job.partial

    def _goes_back(self, ticket: Ticket[Job], error: ObjectError, *, progressed: bool) -> bool:
        """Put a part back in line if it is worth another attempt. Raises SourceError when nothing answers."""
        now = anyio.current_time()
        if progressed or ticket.failing_since is None:
            ticket.failing_since = now
        again = after(error, ticket.attempts, self._settings.retry, progressed=progressed, chance=random.random())
        if again is not None:
            self._tally.retry(error)
            ticket.attempts = again.attempts
            self._line.put_back(ticket, again.delay)
            return True
        if isinstance(error, Unreachable) and self._answered < ticket.failing_since:
            seconds = now - ticket.failing_since
            raise SourceError(
                f"nothing has answered for {seconds:.0f} s ({error.message}): what is complete is kept; check the "
                "endpoint and the network, and run the same command again to continue",
                code=error.code,
            ) from error
        return False

    def _fail(self, job: Job, error: ObjectError) -> None:
        """Let a job fail, and call off its other parts."""
        if job.failure is None:
            job.failure = error
            for scope in job.scopes:
                scope.cancel()

    async def _finish(self, job: Job) -> None:
        """See an object to its end: no part of it is under way any more."""
        if job.failure is None and job.partial is not None:
            try:
                outcome = await self._landing.land(job, job.partial)
            except ObjectError as error:
                job.failure = error
            else:
                job.partial = None
                self._tally.end(outcome)
        if isinstance(job.failure, Changed) and job.restarts < self._settings.retry.restarts:
            await self._again_from_the_start(job)
        elif job.failure is not None:
            await self._end_failed(job)

    async def _land_small(self, job: Job, data: bytearray) -> None:
        landed = await run_sync(self._landing.land_small, job, data)
        if isinstance(landed, Outcome):
            self._tally.end(landed)
        else:
            job.partial = landed  # its place is taken: `_finish` sees to it

    async def _again_from_the_start(self, job: Job) -> None:
        """Drop what there is of a version that is gone, and fetch the one that took its place."""
        remote = job.remote
        self._tally.retry(Transient(f"{remote.key!r} was overwritten while it was fetched; starting over"))
        self._tally.observer.restarted(job.due, job.received)
        if job.partial is not None:
            await run_sync(job.partial.discard)
            job.partial = None
        try:
            fresh = await self._store.head(remote.bucket, remote.key, remote.version_id)
        except ObjectError as error:
            job.failure = error
            await self._end_failed(job)
        else:
            await self._start_over(job, fresh)

    async def _end_failed(self, job: Job) -> None:
        error = job.failure
        if isinstance(error, Changed):
            error = Permanent(
                f"{job.remote.key!r} was overwritten {job.restarts + 1} times while it was fetched: wait until its "
                "writer is done, and run the same command again",
                code="ChangedTooOften",
            )
        if error is None:
            return
        if isinstance(error, Transient):
            error = Transient(
                f"{error.message}; given up after {self._settings.retry.max_attempts} attempts in a row that brought "
                "nothing: run the same command again later, or with a higher --max-attempts",
                bucket=error.bucket,
                key=error.key,
                code=error.code,
            )
        await run_sync(self._keep if isinstance(error, Transient) else _drop, job)
        self._tally.fail(job.remote, error)

    def _keep(self, job: Job) -> None:
        """Let an unfinished object's file wait for the next run, if there is anything in it."""
        if job.partial is None:
            return
        done = job.on_disk()
        if done:
            job.partial.record(done)
            job.partial.close()
            self.kept.add(job.partial.name)
        else:
            job.partial.discard()
        job.partial = None


def rest(part: Part, received: int) -> Part:
    """Return what is left of a part when its first `received` bytes are there."""
    if not received:
        return part
    return Part(ByteRange(part.range.start + received, part.range.stop), whole=False)


def _drop(job: Job) -> None:
    if job.partial is not None:
        job.partial.discard()
        job.partial = None
