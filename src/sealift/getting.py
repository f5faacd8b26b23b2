"""Get one object: to a file, by concurrent ranged GETs that end in one rename; or to a stream, in order.

To a stream:

1. Workers take the object's parts in order; whoever takes one has reserved memory for it first, so the part that
   is due next always has its memory and the budget can never be used up by later ones.
2. Each fetches its part, trying again by itself from the byte reached, and waiting while KMS is down.
3. Whoever has the part that is due writes it out, and sums it up.
4. At the end the sum is held against S3's checksum. Of an object of one part that is done before anything is written.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sealift.admission import Admission, no_region
from sealift.attempt import Spot
from sealift.bandwidth import Bandwidth
from sealift.checking import Checker
from sealift.checksum import Checksum, Running, agrees, mismatch, running_checksum, usual_part_size
from sealift.config import Durability, Settings
from sealift.errors import (
    AccessError,
    Changed,
    ChecksumMismatch,
    ConfigError,
    Integrity,
    LocalStorageError,
    NotSent,
    ObjectError,
    Permanent,
    Throttled,
)
from sealift.fetch import MOST_MISMATCHES, Job
from sealift.fetching import fetch_all
from sealift.line import Line
from sealift.localpath import local_path
from sealift.locks import cannot_lock
from sealift.measuring import Sampler
from sealift.memory import Memory
from sealift.model import ByteRange, Ending, Outcome, Part, RemoteObject, Summary
from sealift.pacing import Pace, Permit, say_if_back
from sealift.partial import PartialFile, discard, of_the_object, partial_name, translated
from sealift.planning import MIB, count_parts, part_size_for, part_size_of, parts
from sealift.retry import Again, Attempts, after
from sealift.s3 import connected
from sealift.s3.persistent import PersistentStore
from sealift.s3.translate import archived
from sealift.selection import Location, parse_location
from sealift.stream import Stream
from sealift.tally import Observer, Observers, Tally, reported
from sealift.taskgroups import insulated, ungrouped
from sealift.writing import Writer


@insulated
async def get(
    source: str,
    target: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    *,
    version_id: str | None = None,
    observer: Observer | None = None,
) -> Summary:
    """Get the object `source` (`s3://bucket/key`) into the file `target`, atomically, and return what was done.

    `version_id` chooses one of its versions. Without a target, or with a directory, the file is named after the key's
    last segment. A target that is no regular file (a device, a named pipe) is written in order. An unfinished object is
    kept beside its target and continued by the next call. An object that fails is in the summary's `failures`.

    Raises ConfigError; and CredentialsError, AccessError, LocalStorageError or SourceError, each with `.summary`.
    """
    location = _object_at(source)
    path = await run_sync(_target, target, location)
    if path.exists() and not path.is_file():
        fd = await run_sync(_open_for_writing, path)
        try:
            return await get_to_stream(source, fd, settings, version_id=version_id, observer=observer)
        finally:
            os.close(fd)
    run = _Run(settings or Settings(), observer)
    return await run.deliver(location, version_id, lambda store, remote: run.to_file(store, remote, path))


@insulated
async def get_to_stream(
    source: str,
    fd: int,
    settings: Settings | None = None,
    *,
    version_id: str | None = None,
    observer: Observer | None = None,
) -> Summary:
    """Get the object `source` and write its bytes, in order, to the open descriptor `fd`, which stays open.

    Memory is bounded by the settings. Once bytes were written, an object that is overwritten meanwhile fails.
    Raises what `get` raises, and BrokenPipeError when the reader is gone.
    """
    location = _object_at(source)
    run = _Run(settings or Settings(), observer)
    return await run.deliver(location, version_id, lambda store, remote: run.to_stream(store, remote, fd))


def _object_at(source: str) -> Location:
    location = parse_location(source)
    if not location.key:
        raise ConfigError(f"{source!r} names no object: write s3://BUCKET/KEY, or run sealift mirror for a prefix")
    return location


def _target(target: str | os.PathLike[str] | None, location: Location) -> Path:
    """Return the file that is meant; a symbolic link's own target, as its owner means that."""
    text = os.fspath(target) if target is not None else "."
    path = Path(text)
    if path.is_dir() or text.endswith("/"):
        last = location.key.rpartition("/")[2]
        if not last:
            raise ConfigError(f"the key {location.key!r} ends with a slash: name the file to write")
        path /= os.fsdecode(local_path(last, 1).segments[-1])
    return path.resolve()


def _open_for_writing(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise translated(error, str(path)) from error


class _Run:
    """The getting of one object."""

    def __init__(self, settings: Settings, observer: Observer | None) -> None:
        self._tally = Tally(Observers(observer), anyio.current_time())
        self._settings = settings
        self._described = False
        self._admission = Admission(settings.kms, no_region, {})

    def summary(self) -> Summary:
        """Return what was done up to now."""
        return self._tally.summary(anyio.current_time(), complete=self._described)

    async def deliver(
        self,
        location: Location,
        version_id: str | None,
        fetch: Callable[[PersistentStore, RemoteObject], Awaitable[None]],
    ) -> Summary:
        """Look the object up, `fetch` it, and return what was done. Raises what the whole amounts to."""
        with reported(self._tally.observer, self.summary):
            async with connected(self._settings, self._tally) as store:
                self._admission = Admission(self._settings.kms, store.region, {})
                store.guard(self._admission.aside)
                remote = await self._describe(store, location, version_id)
                if remote is not None:
                    await fetch(store, remote)
            if self._tally.refused:
                raise AccessError(self._tally.failures[0].message, code=self._tally.failures[0].error)
        return self.summary()

    async def _describe(
        self, store: PersistentStore, location: Location, version_id: str | None
    ) -> RemoteObject | None:
        """Look the object up; None, counted as failed, where that fails or it is archived."""
        try:
            remote = await store.head(location.bucket, location.key, version_id)
            if remote.cold:
                raise archived(remote.bucket, remote.key, remote.storage_class)
        except ObjectError as error:
            self._tally.list(1)
            self._tally.fail(RemoteObject(location.bucket, location.key, 0, "", 0), error)
            return None
        self._described = True
        self._tally.list(1)
        return remote

    async def to_file(self, store: PersistentStore, remote: RemoteObject, path: Path) -> None:
        """Fetch the object's parts, at once as many as the settings allow, and give the file its name at the end."""
        settings = self._settings
        line: Line[Job] = Line(1)
        with _directory_of(path) as directory_fd:
            landing = FileLanding(directory_fd, path, settings.storage.durability)
            with landing.locked(_partial_name(remote)):

                async def start_over(job: Job, fresh: RemoteObject) -> None:
                    again = await self._job(landing, fresh)
                    again.restarts = job.restarts + 1
                    line.add_again(again)

                async def feed() -> None:
                    line.add_again(await self._job(landing, remote))
                    line.close()

                await fetch_all(
                    feed,
                    wire=await store.access_for([remote.bucket]) is not None,
                    store=store,
                    line=line,
                    landing=landing,
                    settings=settings,
                    tally=self._tally,
                    start_over=start_over,
                    over=lambda _: None,
                    admission=self._admission,
                    writer=Writer(None, directory_fd, settings.storage.durability),
                )

    async def _job(self, landing: FileLanding, remote: RemoteObject) -> Job:
        size = part_size_of(remote, self._settings.transfer.part_size)
        job = Job(remote, size, done=await run_sync(landing.left_over, remote))
        self._tally.observer.planned(remote, landing.path.name, job.due, job.gets)
        return job

    async def to_stream(self, store: PersistentStore, remote: RemoteObject, fd: int) -> None:
        """Fetch the object's parts and write them out in order."""
        stream = Stream(fd, "the output")
        restarts = 0
        admission = self._admission
        ordered: _Ordered | None = None
        sampler = Sampler(self._tally, admission, lambda: 0 if ordered is None else ordered.under_way)
        try:
            while True:
                pace = admission.bucket(remote.bucket).pace
                ordered = _Ordered(store, remote, self._settings, self._tally, stream, pace)
                try:
                    with ungrouped():
                        await sampler.during(ordered.run)
                except Changed as error:
                    if ordered.written or restarts >= self._settings.retry.restarts:
                        raise _overwritten(remote, ordered.written) from error
                    restarts += 1
                    remote = await store.head(remote.bucket, remote.key, remote.version_id)
                else:
                    break
        except ObjectError as error:
            self._tally.fail(remote, error)
        else:
            self._tally.verified += ordered.verified
            self._tally.end(Outcome(Ending.DOWNLOADED, remote.bucket, remote.key, remote.size))
        finally:
            sampler.sample()
            stream.close()


def _running(remote: RemoteObject, told: Checksum) -> Running:
    """Return what sums up an object, in order, as its checksum wants it."""
    return running_checksum(told.algorithm, usual_part_size(remote.size, told.parts) if told.parts > 1 else 0)


def _overwritten(remote: RemoteObject, written: int) -> Permanent:
    return Permanent(
        f"{remote.key!r} was overwritten after {written:,} of its bytes had been written out; what was written is of "
        "no use: run the same command again",
        bucket=remote.bucket,
        key=remote.key,
        code="PreconditionFailed",
    )


class _Ordered:
    """The parts of one object version on their way to a stream."""

    def __init__(
        self, store: PersistentStore, remote: RemoteObject, settings: Settings, tally: Tally, stream: Stream, pace: Pace
    ) -> None:
        self.written = 0
        self.under_way = 0
        """GETs, now."""
        self._pace = pace
        self._charged = True
        self._refused = False
        self.verified = False
        """S3's checksum is that of the bytes."""
        self._checker = Checker(store, lambda _: self._pace, tally, settings.retry)
        self._told: Checksum | None = None
        self._running: Running | None = None
        self._store = store
        self._remote = remote
        self._settings = settings
        self._tally = tally
        self._stream = stream
        self._workers = settings.transfer.workers
        self._memory = Memory(settings.transfer.memory)
        self._bandwidth = Bandwidth(settings.transfer.share_of_bandwidth(1))
        self._taking = anyio.Lock()
        self._turn = anyio.Condition()
        # Parts are held whole until they are due: no larger than lets every worker have one.
        share = max(MIB, settings.transfer.memory // self._workers)
        size = settings.transfer.part_size or min(part_size_for(remote.size), share)
        self._whole = remote.size <= min(size, settings.transfer.memory)
        self._parts: Iterator[Part] = parts(remote.size, min(size, settings.transfer.memory))
        tally.observer.planned(remote, "", remote.size, count_parts(remote.size, size))

    async def run(self) -> None:
        """Write the whole object. Raises ObjectError, RunError, BrokenPipeError."""
        told = None if self._whole else await self._checker.ask(self._remote, charged=True)
        if told is not None:
            self._running = _running(self._remote, told)
        with ungrouped():
            async with anyio.create_task_group() as pool:
                for _ in range(self._workers):
                    pool.start_soon(self._work)
        if told is not None and self._running is not None:
            await self._judge(told, self._running)

    async def _judge(self, told: Checksum, running: Running) -> None:
        """Hold the sum of all bytes against what S3 told. Raises ChecksumMismatch."""
        agreed = agrees(told, running)
        if agreed is False or (agreed is None and await self._as_guessed(told)):
            error = mismatch(self._remote, told)
            if self.written:
                error.message += "; what was written is of no use"
            raise error
        self.verified = bool(agreed)

    async def _as_guessed(self, told: Checksum) -> bool:
        """Whether the parts of the upload, whose checksums the COMPOSITE one is of, were cut as it was guessed."""
        size = usual_part_size(self._remote.size, told.parts)
        layout = await self._checker.layout(self._remote, told.parts)
        return all(part.start % size == 0 for part in layout) if size and layout else False

    async def _work(self) -> None:
        while True:
            async with self._taking:
                part = next(self._parts, None)
                if part is None:
                    return
                await self._memory.acquire(len(part.range))
            try:
                await self._emit(part.range, await self._fetch(part))
            finally:
                self._memory.release(len(part.range))

    async def _emit(self, place: ByteRange, data: bytearray) -> None:
        async with self._turn:
            while self.written != place.start:
                await self._turn.wait()
            await self._stream.write(data)
            if self._running is not None:
                await run_sync(self._running.update, data)
            self.written = place.stop
            self._turn.notify_all()

    async def _fetch(self, part: Part) -> bytearray:
        """Return the bytes of a part, after as many attempts as it takes or the settings allow."""
        data, attempts, mismatches = bytearray(), Attempts(), 0
        failing_since: float | None = None
        while True:
            before = len(data)
            try:
                await self._attempt(_rest(part, before), data)
            except ChecksumMismatch as error:
                if mismatches >= MOST_MISMATCHES:
                    raise
                mismatches += 1
                self._tally.retry(error)
                data.clear()
            except NotSent:
                continue
            except ObjectError as error:
                progressed = len(data) > before
                if progressed or failing_since is None:
                    failing_since = time.monotonic()
                again = after(error, attempts, self._settings.retry, progressed=progressed, chance=random.random())
                if self._charged and self._pace.is_to_blame(
                    error, failing_since, self._tally.observer, used_up=again is None
                ):
                    again = Again(Attempts(), 0.0)  # it waits for a permit
                if again is None:
                    raise
                self._tally.retry(error)
                attempts = again.attempts
                # What KMS has refused waits for a permit.
                by_kms = isinstance(error, Throttled) and error.service == "kms"
                await anyio.sleep(0.0 if by_kms else again.delay)
            else:
                return data

    def _hear(self, sent: float, permit: Permit | None, *, charged: bool) -> None:
        """Hear whether KMS was asked for what was sent at `sent`."""
        self._charged = charged or self._refused
        if self._charged:
            self._tally.kms_requests += 1
            say_if_back(self._pace.succeeded(sent), self._tally.observer)
        elif permit is not None:
            permit.not_needed(sent)

    async def _attempt(self, part: Part, data: bytearray) -> None:
        if not part.whole and not part.range:
            return
        if self._charged:
            with await self._pace.permit() as permit:
                await self._get(part, data, permit)
        else:
            await self._get(part, data, None)
        if self._whole and self._told is not None:  # nothing was written yet
            running = _running(self._remote, self._told)
            await run_sync(running.update, data)
            await self._judge(self._told, running)

    async def _get(self, part: Part, data: bytearray, permit: Permit | None) -> None:
        sent = time.monotonic()
        self._tally.get_requests += 1
        self.under_way += 1
        try:
            async with self._store.open(self._remote, part, None if permit is None else permit.going) as body:
                self._hear(sent, permit, charged=body.encryption.charged)
                if part.whole:
                    self._told = body.checksum
                while chunk := await body.read():
                    self._tally.receive(len(chunk))
                    data += chunk
                    await self._bandwidth.spend(len(chunk))
        except NotSent:
            self._tally.get_requests -= 1
            raise
        except Throttled as error:
            if error.service == "kms":
                self._charged = self._refused = True
                say_if_back(self._pace.refused(sent), self._tally.observer)
            raise
        finally:
            self.under_way -= 1


class FileLanding:
    """The `Landing` of one file: its partial file is beside it, under a name that begins with a dot."""

    def __init__(self, directory_fd: int, path: Path, durability: Durability) -> None:
        self.path = path
        self._directory_fd = directory_fd
        self._sync = durability is not Durability.NONE

    @contextmanager
    def locked(self, partial: str) -> Iterator[None]:
        """Keep others from writing this partial file. Raises LocalStorageError where one does."""
        name = f"{partial}.lock"
        while True:
            try:
                fd = os.open(
                    name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=self._directory_fd
                )
            except OSError as error:
                raise translated(error, str(self.path)) from error
            locked = False
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=self._directory_fd))
            except FileNotFoundError:
                pass  # its last holder has just deleted it: make another one
            except BlockingIOError as error:
                raise LocalStorageError(
                    f"another sealift get is writing {self.path}; wait for it to end", code="DestinationLocked"
                ) from error
            except OSError as error:
                raise cannot_lock(error, self.path.with_name(name), self.path) from error
            finally:
                if not locked:
                    os.close(fd)
            if locked:
                break
        try:
            yield
        finally:
            with suppress(OSError):  # one that is left means nothing, and what was fetched is in its place
                os.unlink(name, dir_fd=self._directory_fd)
            os.close(fd)

    def left_over(self, remote: RemoteObject) -> list[ByteRange]:
        """Return what an earlier call left of exactly this version, and drop what it left of others. Blocks."""
        name = _partial_name(remote)
        for other in self._of_other_versions(remote):
            with suppress(LocalStorageError, ObjectError), self.locked(other):  # somebody may still be writing it
                discard(self._directory_fd, other)
        resumed = PartialFile.resume(self._directory_fd, name, remote.size)
        if resumed is None:
            with suppress(ObjectError):  # something that is none of ours: whoever begins the file says so
                discard(self._directory_fd, name)
            return []
        partial, done = resumed
        partial.close()
        return list(done)

    def _of_other_versions(self, remote: RemoteObject) -> set[str]:
        """Return the names of partial files of other versions of an object."""
        with os.scandir(self._directory_fd) as entries:
            found = (_PARTIAL.match(entry.name) for entry in entries)
            names = {match[0]: of_the_object(match[1]) for match in found if match}
        mine = of_the_object(partial_name(remote))
        return {other for other, whose in names.items() if whose == mine} - {_partial_name(remote)}

    def name(self, job: Job) -> str:
        """See `Landing.name`."""
        return _partial_name(job.remote)

    def spot(self, job: Job) -> Spot | None:
        """See `Landing.spot`: one object is landed by whoever got it."""

    def begin(self, job: Job) -> PartialFile:
        """See `Landing.begin`."""
        name, size = _partial_name(job.remote), job.remote.size
        if job.done:
            resumed = PartialFile.resume(self._directory_fd, name, size)
            if resumed is None:
                raise Integrity(f"the partial file of {self.path} has vanished; run again", code="PartialFileLost")
            return resumed[0]
        return PartialFile.create(self._directory_fd, name, size, preallocate=size > job.part_size)

    def reopen(self, job: Job) -> PartialFile:
        """See `Landing.reopen`."""
        return PartialFile.reopen(self._directory_fd, _partial_name(job.remote), job.remote.size)

    async def land(self, job: Job, partial: PartialFile) -> Outcome:
        """See `Landing.land`."""
        return await run_sync(self._commit, job, partial)

    def placed(self, job: Job) -> Outcome:
        """See `Landing.placed`."""
        remote = job.remote
        return Outcome(Ending.DOWNLOADED, remote.bucket, remote.key, remote.size, str(self.path))

    def _commit(self, job: Job, partial: PartialFile) -> Outcome:
        remote = job.remote
        try:
            partial.commit(
                self._directory_fd,
                os.fsencode(self.path.name),
                remote.last_modified_ns,
                sync=self._sync,
                path=str(self.path),
            )
        except OSError as error:
            raise translated(error, str(self.path)) from error
        return self.placed(job)


def _rest(part: Part, received: int) -> Part:
    """Return what is left of a part when its first `received` bytes are there."""
    if not received:
        return part
    return Part(ByteRange(part.range.start + received, part.range.stop), whole=False)


_PARTIAL = re.compile(r"\.([0-9a-f]{32})\.sealift")


def _partial_name(remote: RemoteObject) -> str:
    return f".{partial_name(remote)}.sealift"


@contextmanager
def _directory_of(path: Path) -> Iterator[int]:
    """Open the directory that a file goes to, made with its parents."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError) as error:
        raise LocalStorageError(
            f"{path.parent} is not a directory: name another path to write to", code="NotADirectory"
        ) from error
    except OSError as error:
        raise translated(error, str(path.parent)) from error
    try:
        yield fd
    finally:
        os.close(fd)
