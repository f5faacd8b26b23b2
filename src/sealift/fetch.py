"""Objects become attempts, and attempts come to ends: everything about fetching is decided here.

1. A part's turn comes: its object's partial file is opened first, so that a full disk is found before the bytes are
   fetched. A whole object of one GET needs none: it is told where to go, and written, finished and placed in one go.
2. Others carry the attempt out (`sealift.lanes`), and tell how far it came.
3. An attempt that fails sends what is left of the part back to the line (`sealift.retry` decides), or fails the
   object. An object that was overwritten meanwhile is looked up again and started over.
4. When the last part has come, all bytes are there, as lengths were checked. They are held against S3's checksum
   (`sealift.checking`; of a whole object of one GET, by whoever fetched it), and the object is put in its place. One
   whose bytes are others is fetched once more from the start.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial as bind
from typing import Protocol

import anyio
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync

from sealift.admission import Admission, Way
from sealift.attempt import Attempt, Ended, Spot
from sealift.bell import Bell
from sealift.checking import Checker
from sealift.checksum import Checksum, Sums, summed_up
from sealift.concurrency import GET_WORTH
from sealift.config import Durability, Settings
from sealift.errors import (
    Changed,
    ChecksumMismatch,
    LocalStorageError,
    NotSent,
    ObjectError,
    Permanent,
    RunError,
    SourceError,
    Throttled,
    Transient,
    Unreachable,
)
from sealift.line import MOST_RETURNED, Line, Ticket
from sealift.model import UNTOLD, ByteRange, Encryption, Outcome, Part, RemoteObject
from sealift.pacing import Permit, say_if_back
from sealift.partial import Blocked, PartialFile, record_all
from sealift.planning import MIB, count_parts, grain_of, part_size_under_quota, parts
from sealift.ranges import merged, missing
from sealift.retry import Again, Attempts, after
from sealift.s3.store import ObjectStore
from sealift.tally import Tally

RECORD_EVERY = 32 * MIB
"""Bytes of large objects after which what is there of them is recorded durably: 0.16 s of a disk of 200 MB/s."""

RECORD_WITHIN = 1.0
"""Seconds after which that is done in any case: its three syncs take some 1 to 10 ms each on an idle disk."""

MOST_UNRECORDED = 2 * RECORD_EVERY
"""Bytes with which no more parts are begun: a killed run fetches no more than so many twice, and what is under way."""

KEEP_AT_ONCE = 64
"""Files that are open at once to be recorded when a run ends: as many as are open while it finishes objects."""

UNNAMED_OBJECTS, UNNAMED_SECONDS = MOST_RETURNED, 5.0
"""Where S3 says that it failed and does not name KMS, so many objects have to fail, for so many seconds in which
nothing was granted, before it is an outage: as many as keep new objects from being begun, and longer than a few bad
answers of S3's own last; ten attempts last for half a minute."""

MOST_MISMATCHES = 1
"""How often an object is fetched once more whose bytes are not those that its checksum says: what comes wrong twice was
not damaged by chance."""

FINISHING = 64
"""Objects that may be on their way to their place before nothing more is begun: as many files are open for them."""


class Landing(Protocol):
    """Where objects come down: the mirror's destination, or the one file of `get`. Errors are `sealift.errors`'."""

    def name(self, job: Job) -> str:
        """Return the name of a job's partial file."""
        ...

    def spot(self, job: Job) -> Spot | None:
        """Return where a whole object may be put by whoever has fetched it; None: it is landed."""
        ...

    def begin(self, job: Job) -> PartialFile:
        """Open the partial file of a job, the one that holds `job.done` if there is such. Called in a thread."""
        ...

    def reopen(self, job: Job) -> PartialFile:
        """Open the partial file that somebody else began in this run. Called in a thread."""
        ...

    async def land(self, job: Job, partial: PartialFile) -> Outcome:
        """Give a complete partial file its final name. Raises ObjectError where that cannot be."""
        ...

    def placed(self, job: Job) -> Outcome:
        """Return the outcome of an object that was put at its spot."""
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
    """Bytes written to its partial file since what is there was last recorded."""
    due: int = field(init=False)
    """Bytes that were missing when it was planned."""
    received: int = 0
    encryption: Encryption = UNTOLD
    """As the last answer said."""
    charged: bool = True
    """KMS is asked for each part, as far as is known."""
    refused: bool = False
    """KMS has refused a part: that is believed, whatever headers say."""
    grown: int = 0
    """Bytes of its parts from now on, where they are more than `part_size`: KMS has refused some."""
    to_open: bool = True
    """Its partial file has to be opened before anything is asked for."""
    checksum: str = ""
    """That of its bytes, once all are there and were checked, as the ledger has it."""
    verified: bool = False
    """… and S3's own says the same."""
    told: str | None = None
    """What S3 said of its checksum when it was asked, nothing where it has none; None: it was not asked."""
    sums: Sums | None = None
    """The CRCs of what came in parts in this run."""
    pieces: dict[int, bytes] = field(default_factory=dict)
    """The hashes of the parts of its upload that came whole in this run."""
    began: float = 0.0
    """When its first GET was sent, in seconds of the monotonic clock."""
    replaces: bool = False
    """A file is in its place."""
    filing: anyio.Lock | None = None
    """Held while the partial file is opened, recorded or landed."""

    def __post_init__(self) -> None:
        size = self.remote.size
        if not self.done:
            self.due = size
            self.to_open = size > self.part_size
            grain = grain_of(self.remote, self.part_size) if self.to_open else 0
            self.parts = parts(size, self.part_size, grown=lambda: self.grown, grain=grain)
            return
        left = missing(size, self.done)
        self.due = sum(map(len, left))
        grain = grain_of(self.remote, self.part_size)
        # If an earlier run fetched all of it and did not come to placing it, a part of nothing brings it there.
        self.parts = (
            parts(size, self.part_size, self.done, grown=lambda: self.grown, grain=grain)
            if left
            else iter([Part(ByteRange(size, size), whole=False)])
        )

    @property
    def gets(self) -> int:
        """How many parts were planned: to be asked before any is done."""
        if not self.to_open:
            return 1
        grain = grain_of(self.remote, self.part_size)
        return count_parts(self.remote.size, self.part_size, self.done, grain=grain)

    @property
    def left(self) -> float:
        """What is left to do, as `Lanes.done` counts it."""
        size = self.due - self.received
        return max(1.0, size / self.part_size) + size / GET_WORTH

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
    """The `attempt.Decider` of a run."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        line: Line[Job],
        landing: Landing,
        settings: Settings,
        tally: Tally,
        tasks: TaskGroup,
        start_over: Callable[[Job, RemoteObject], Awaitable[None]],
        over: Callable[[Job], None],
        admission: Admission,
    ) -> None:
        """`start_over` is called with an object's new version, and puts a new job for it in the line.

        `over` hears of each job that has ended: its files are left alone from then on.

        What takes its time (placing, recording, looking up) runs in `tasks`.
        """
        self._store = store
        self._line = line
        self._landing = landing
        self._settings = settings
        self._tally = tally
        self._tasks = tasks
        self._start_over = start_over
        self._over = over
        self._admission = admission
        self._checker = Checker(store, admission.pace_for, tally, settings.retry)
        line.guard(admission.leave)
        admission.look_again = line.look_again
        self._jobs: set[Job] = set()
        self._numbers = 0
        self._tickets: dict[int, Ticket[Job]] = {}
        self._permits: dict[int, Permit] = {}
        """Of those that KMS may be asked for, while permits are short."""
        self._sync = settings.storage.durability is not Durability.NONE
        self._finishing = 0
        self._finished = Bell()
        self._unrecorded = 0
        self._recording = False
        self._recorded_at = time.monotonic()
        self._fewer_unrecorded = Bell()
        self._answered = time.monotonic()
        self.kept: set[str] = set()
        """The names of the partial files that wait for the next run."""
        self.call_off: Callable[[int], None] = _nobody
        """Ends an attempt that is under way. Set by whoever carries attempts out."""

    @property
    def under_way(self) -> int:
        """How many attempts were handed out and have not ended."""
        return len(self._tickets)

    @property
    def paced(self) -> bool:
        """See `Admission.paced`."""
        return self._admission.paced

    async def take(self) -> Attempt | None:
        """See `Decider.take`."""
        while (ticket := await self._next()) is not None:
            job, opens = ticket.job, ticket.job.to_open
            ticket.waiting = False
            if not job.tickets:
                self._jobs.add(job)
            job.tickets.add(ticket)
            job.drawn = job.drawn or ticket.last
            spot = self._landing.spot(job) if ticket.part.whole and job.partial is None else None
            if spot is None and job.partial is None and not job.over:
                try:
                    await self._open_partial(job)
                except ObjectError as error:
                    self._fail(job, error)
            job.to_open = False
            if opens and not job.over and self._admission.leave(job) is not None:
                ticket.waiting = True
                self._line.put_back(ticket, 0.0)
                continue
            if not ticket.part.whole and not job.over:
                self._enlarge(ticket)
            part = ticket.part
            if job.over or not (part.whole or part.range):
                # Failed meanwhile; or nothing is left to fetch: the last attempt failed after the last byte, or the
                # last run ended before the object was in place.
                if ticket.leave is not None:
                    ticket.leave.give_back()
                self._settle(ticket)
                continue
            self._numbers += 1
            self._tickets[self._numbers] = ticket
            self._tally.get_requests += 1
            ticket.sent = time.monotonic()
            job.began = job.began or ticket.sent
            permit = ticket.leave.permit() if isinstance(ticket.leave, Way) else None
            if permit is not None:
                self._permits[self._numbers] = permit
            counted = permit is not None and permit.going is not None
            return Attempt(self._numbers, job.remote, part, self._landing.name(job), spot, counted)
        return None

    def _enlarge(self, ticket: Ticket[Job]) -> None:
        """Let a part that KMS is asked for be larger, where it is KMS that limits the run."""
        job, leave = ticket.job, ticket.leave
        if not isinstance(leave, Way) or leave.pace is None:
            return
        if ticket.stood_aside and not job.grown:
            self._grow(job)
        if job.grown:
            self._join(ticket)

    def _next(self) -> Awaitable[Ticket[Job] | None]:
        if self._finishing >= FINISHING or self._unrecorded >= MOST_UNRECORDED:
            return self._next_when_there_is_room()
        return self._line.take()

    async def _next_when_there_is_room(self) -> Ticket[Job] | None:
        while self._finishing >= FINISHING:
            await self._finished.wait()
        while self._unrecorded >= MOST_UNRECORDED:
            await self._fewer_unrecorded.wait()
        return await self._line.take()

    def _throttled(self, ticket: Ticket[Job], error: Throttled) -> None:
        """Hear that KMS or S3 has refused a part for its rate."""
        if error.service == "s3":
            self._admission.slowed(ticket.job, ticket.sent)
            return
        down = self._admission.refused(ticket.job, ticket.sent, key_store=error.key_store)
        say_if_back(down, self._tally.observer)
        ticket.job.charged = ticket.job.refused = True
        if not ticket.part.whole:
            self._grow(ticket.job)

    def _grow(self, job: Job) -> None:
        """Let the parts that are still to come be larger, as KMS allows fewer GETs than could be sent."""
        if self._settings.transfer.part_size is None:
            job.grown = part_size_under_quota(job.due - job.received, job.part_size)

    def _join(self, ticket: Ticket[Job]) -> None:
        """Let a part that was cut before parts grew take in its neighbours that wait, as far as it may grow."""
        job, part = ticket.job, ticket.part.range
        start, stop = part.start, part.stop
        joined = set()
        # What has begun is left alone: where it began and how far it came is needed.
        waiting = [
            other
            for other in job.tickets
            if other.waiting and other is not ticket and other.part.range.start == other.start
        ]
        behind = {other.start: other for other in waiting}
        while (other := behind.get(stop)) is not None and other.part.range.stop - start <= job.grown:
            stop = other.part.range.stop
            joined.add(other)
        before = {other.part.range.stop: other for other in waiting} if start == ticket.start else {}
        while (other := before.get(start)) is not None and stop - other.start <= job.grown:
            ticket.start = start = other.start
            joined.add(other)
        if joined:
            ticket.part = Part(ByteRange(start, stop), whole=False)
            job.tickets -= joined
            self._line.drop(joined)
            for other in joined:
                other.waiting = False

    def received(self, size: int) -> None:
        """See `Decider.received`."""
        self._tally.receive(size)

    def sent(self, number: int) -> None:
        """See `Decider.sent`."""
        permit = self._permits.get(number)
        if permit is not None:  # else it has ended at that very moment
            permit.sent()

    def answered(self, number: int, encryption: Encryption) -> None:
        """See `Decider.answered`."""
        ticket = self._tickets[number]
        job = ticket.job
        job.encryption = encryption
        charged = job.refused or encryption.charged
        down = self._admission.answered(job, self._permits.get(number), ticket.sent, charged=charged)
        if down is not None:
            say_if_back(down, self._tally.observer)
        if charged:
            job.charged = True
            self._tally.kms_requests += 1
            return
        if job.charged:
            job.charged = False
            if len(job.tickets) > 1 or not job.drawn:
                self._line.call_in(job)

    def reached(self, number: int, offset: int) -> None:
        """See `Decider.reached`."""
        ticket = self._tickets[number]
        job, part = ticket.job, ticket.part
        came = offset - part.range.start
        if not came:
            return
        ticket.part = Part(ByteRange(offset, part.range.stop), whole=False)
        ticket.progressed = True
        job.received += came
        if job.partial is not None:
            job.unrecorded += came
            self._unrecorded += came
            if not self._recording and (
                self._unrecorded >= RECORD_EVERY or time.monotonic() >= self._recorded_at + RECORD_WITHIN
            ):
                self._recording = True
                self._tasks.start_soon(self._record)

    def ended(self, end: Ended) -> None:
        """See `Decider.ended`."""
        ticket = self._tickets[end.number]
        job, error = ticket.job, end.error
        if not end.placed:
            self.reached(end.number, end.reached)
            self._note_checksums(job, end)
        del self._tickets[end.number]
        permit = self._permits.pop(end.number, None)
        if permit is not None:
            permit.ended(error)
        if not isinstance(error, Unreachable):
            self._answered = time.monotonic()
        progressed, ticket.progressed = ticket.progressed, False
        if isinstance(error, RunError):
            raise _about(error, job) from error
        job.checksum, job.verified = end.checksum, end.verified
        if end.placed:  # all of the object, which was this one part
            job.tickets.discard(ticket)
            self._jobs.discard(job)
            self._end_well(job, self._landing.placed(job))
            self._over(job)
            self._line.done()
            return
        if isinstance(error, Blocked):
            pass  # it is complete, and `_finish` finds it another place
        elif isinstance(error, NotSent) and job.failure is None:
            self._tally.get_requests -= 1
            ticket.waiting = True
            self._line.put_back(ticket, 0.0)
            return
        elif isinstance(error, ObjectError) and job.failure is None:
            # What has another checksum has come whole: no part of it is worth another attempt, but all of it is.
            if not isinstance(error, ChecksumMismatch) and self._goes_back(ticket, error, progressed=progressed):
                return
            self._fail(job, error)
        self._settle(ticket)

    def _note_checksums(self, job: Job, end: Ended) -> None:
        """Take down what an attempt that has placed nothing tells of checksums."""
        if end.told is not None:
            job.told = end.told
        if end.stretches:
            if job.sums is None:
                job.sums = Sums(*summed_up(job.remote))
            if end.algorithm == job.sums.algorithm.name:
                for stretch in end.stretches:
                    job.sums.add(*stretch)
        job.pieces.update(end.pieces)

    def keep(self) -> None:
        """Record what is on disk of every unfinished object, so that a rerun continues there.

        Called when nobody carries out anything any more.
        """
        jobs = list(self._jobs)
        self._jobs.clear()
        for start in range(0, len(jobs), KEEP_AT_ONCE):
            self._keep(jobs[start : start + KEEP_AT_ONCE])

    def _settle(self, ticket: Ticket[Job]) -> None:
        """Be done with a part; with its object, if no part of that is under way or to come."""
        job = ticket.job
        job.tickets.discard(ticket)
        job.done.append(ByteRange(ticket.start, ticket.part.range.start))
        if job.tickets or not (job.over or job.drawn):
            self._line.done()
        else:
            self._finishing += 1
            self._tasks.start_soon(self._finish, job)

    async def _open_partial(self, job: Job) -> None:
        async with _filing(job):
            if job.partial is None and not job.over:
                again = any(ticket.part.range.start > ticket.start for ticket in job.tickets)
                try:
                    job.partial = await run_sync(self._landing.reopen if again else self._landing.begin, job)
                except LocalStorageError as error:
                    raise _about(error, job) from error

    async def _record(self) -> None:
        """Record what is there of all large objects, behind barriers that they share."""
        while jobs := [job for job in self._jobs if job.unrecorded and _held(job)]:
            try:
                noted = [(job, job.partial, job.on_disk(), job.unrecorded) for job in jobs]
                begun = [(file, done) for _, file, done, _ in noted if file is not None]
                await run_sync(bind(record_all, begun, sync=self._sync))
            except LocalStorageError as error:
                raise _about(error, jobs[0]) from error
            finally:
                for job in jobs:
                    _filing(job).release()
            for job, _, _, size in noted:
                self._count_recorded(job, size)
            if self._unrecorded < RECORD_EVERY:
                break
        self._recording = False
        self._recorded_at = time.monotonic()

    def _count_recorded(self, job: Job, size: int) -> None:
        """Hear that so many bytes of an object would not be fetched again by a run that follows a killed one."""
        size = min(size, job.unrecorded)
        if size:
            job.unrecorded -= size
            self._unrecorded -= size
            self._fewer_unrecorded.ring()

    def _goes_back(self, ticket: Ticket[Job], error: ObjectError, *, progressed: bool) -> bool:
        """Put a part back in line if it is worth another attempt. Raises SourceError when nothing answers."""
        now = time.monotonic()
        if progressed or ticket.failing_since is None:
            ticket.failing_since = now
        again = after(error, ticket.attempts, self._settings.retry, progressed=progressed, chance=random.random())
        pace = self._admission.pace_for(ticket.job.remote)
        if ticket.job.charged and pace.is_to_blame(
            error,
            ticket.failing_since,
            self._tally.observer,
            used_up=again is None,
            widespread=lambda seconds: seconds >= UNNAMED_SECONDS and self._failing() >= UNNAMED_OBJECTS,
        ):
            again = Again(Attempts(), 0.0)  # it waits for a permit
        if again is not None:
            if isinstance(error, Throttled):
                self._throttled(ticket, error)
            self._tally.retry(error)
            ticket.attempts, ticket.waiting = again.attempts, True
            self._line.put_back(
                ticket, 0.0 if isinstance(error, Throttled) else again.delay
            )  # what is throttled needs leave
            return True
        if isinstance(error, Unreachable) and self._answered < ticket.failing_since:
            seconds = now - ticket.failing_since
            raise SourceError(
                f"nothing has answered for {seconds:.0f} s ({error.message}): what is complete is kept; check the "
                "endpoint and the network, and run the same command again to continue",
                code=error.code,
            ) from error
        return False

    def _failing(self) -> int:
        """Return how many objects have a part whose last attempts failed."""
        return sum(any(ticket.attempts.failures for ticket in job.tickets) for job in self._jobs)

    def _fail(self, job: Job, error: ObjectError) -> None:
        """Let a job fail, and call off its other parts."""
        job.failure = error
        if len(job.tickets) > 1:
            for number, ticket in self._tickets.items():
                if ticket.job is job:
                    self.call_off(number)

    async def _finish(self, job: Job) -> None:
        """See an object to its end: no part of it is under way any more."""
        try:
            async with _filing(job):  # also while its file is dropped: it must not be recorded meanwhile
                await self._land(job)
                if self._restarts(job):
                    await self._again_from_the_start(job)
                elif job.failure is not None:
                    await self._end_failed(job)
        except LocalStorageError as error:
            raise _about(error, job) from error
        self._jobs.discard(job)
        self._count_recorded(job, job.unrecorded)
        self._over(job)
        self._line.done()
        self._finishing -= 1
        self._finished.ring()

    async def _land(self, job: Job) -> None:
        if job.failure is not None:
            return
        try:
            if job.partial is None:
                job.partial = await run_sync(self._landing.reopen, job)
            if not job.checksum:
                await self._check(job, job.partial)
            outcome = await self._landing.land(job, job.partial)
        except ObjectError as error:
            job.failure = error
        else:
            job.partial = None
            self._end_well(job, outcome)

    async def _check(self, job: Job, partial: PartialFile) -> None:
        told = None if not job.told else Checksum.parse(job.told)
        job.checksum, job.verified = await self._checker.check(
            job.remote,
            partial,
            job.sums or Sums(*summed_up(job.remote)),
            told,
            asked=job.told is not None,
            charged=job.charged,
            pieces=job.pieces,
        )

    def _end_well(self, job: Job, outcome: Outcome) -> None:
        self._tally.verified += job.verified
        self._tally.end(outcome)

    def _restarts(self, job: Job) -> bool:
        """Whether all of an object is to be fetched anew."""
        if isinstance(job.failure, ChecksumMismatch):
            return job.restarts < MOST_MISMATCHES
        return isinstance(job.failure, Changed) and job.restarts < self._settings.retry.restarts

    async def _again_from_the_start(self, job: Job) -> None:
        """Drop what there is of a version that is gone, or is damaged, and fetch the one that is there now."""
        remote, error = job.remote, job.failure
        if not isinstance(error, ChecksumMismatch):
            error = Transient(f"{remote.key!r} was overwritten while it was fetched; starting over")
        self._tally.retry(error)
        self._tally.observer.restarted(job.due, job.received)
        await run_sync(self._drop, job)
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
        if not isinstance(error, Transient):
            await run_sync(self._drop, job)
        else:
            await run_sync(self._keep, [job])
            error = Transient(
                f"{error.message}; given up after {self._settings.retry.max_attempts} attempts in a row that brought "
                "nothing: run the same command again later, or with a higher --max-attempts",
                bucket=error.bucket,
                key=error.key,
                code=error.code,
            )
        self._tally.fail(job.remote, error)

    def _keep(self, jobs: Iterable[Job]) -> None:
        """Let unfinished objects' files wait for the next run, as far as there is anything in them."""
        kept = []
        for job in jobs:
            if done := job.on_disk():
                if job.partial is None:
                    job.partial = self._landing.reopen(job)
                kept.append((job.partial, done))
                job.partial = None
            else:
                self._drop(job)
        record_all(kept, sync=self._sync)
        for partial, _ in kept:
            partial.close()
            self.kept.add(partial.name)

    def _drop(self, job: Job) -> None:
        if job.partial is None and job.on_disk():
            job.partial = self._landing.reopen(job)
        if job.partial is not None:
            job.partial.discard()
            job.partial = None
        job.done = []


def _about(error: RunError, job: Job) -> RunError:
    """Say which object it was about, where it is the disk that failed."""
    if isinstance(error, LocalStorageError):
        return LocalStorageError(f"{error.message} (it was for {job.remote.key!r})", code=error.code)
    return error


def _filing(job: Job) -> anyio.Lock:
    if job.filing is None:
        job.filing = anyio.Lock()
    return job.filing


def _held(job: Job) -> bool:
    """Take the lock of a partial file that nobody has: what is being put in its place needs no record."""
    filing = _filing(job)
    with suppress(anyio.WouldBlock):
        filing.acquire_nowait()
        if job.partial is not None:
            return True
        filing.release()
    return False


def _nobody(number: int) -> None:
    """Call off nothing."""
