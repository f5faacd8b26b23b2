"""Mirror S3 prefixes onto local disk: the stages, wired in one task group.

1. **List**: each source is listed by several listers at once (`sealift.listing`); a page goes downstream as it comes.
   Or a file names the objects (`sealift.naming`), and nothing is listed.
2. **Diff**: each page's objects are held against the disk. What is in place, or cannot be mirrored, ends here.
3. **Plan**: the others stand in line as jobs, to be cut into parts as workers ask for them.
4. **Fetch**, **write**, **commit**: a bounded pool of workers (`sealift.fetch`).
   What has its place is recorded in the ledger (`sealift.recording`), behind the run's back.
5. **Delete**, where that is asked for: files whose object is gone (`sealift.deleting`), when every listing is complete.
6. **Report**: every object ends as one outcome, counted and told; the sum of them is the summary.

Between the stages are bounded streams: a slow disk holds back the network, and that the listing. A listing that
fails ends alone; what it had listed is still fetched, and the run then says that it is not complete.
"""

from __future__ import annotations

import os
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial as bind
from pathlib import Path

import anyio
from anyio import from_thread
from anyio.streams.memory import MemoryObjectSendStream
from anyio.to_thread import run_sync

from sealift.config import Check, Durability, Settings, refuse_combinations
from sealift.crew.parent import Crew
from sealift.crew.rule import CrewRule
from sealift.crew.worker import Orders
from sealift.deleting import Deletion, check
from sealift.destination import OWN_DIRECTORY, Destination
from sealift.diff import Diff
from sealift.errors import (
    AccessError,
    ConfigError,
    LocalStorageError,
    ObjectError,
    Permanent,
    RunError,
    SealiftError,
    SourceError,
)
from sealift.fetch import Fetcher, Job
from sealift.fetching import descriptors, fetch_all
from sealift.kmscost import Sample, predict
from sealift.ledger import Ledger
from sealift.line import Line
from sealift.listed import AT_ONCE, Listed
from sealift.listing import list_prefix
from sealift.localpath import Clashes
from sealift.manifest import Named
from sealift.model import Ending, Forecast, Outcome, RemoteObject, Summary
from sealift.naming import Names, look_up
from sealift.partial import sync_file_system, translated
from sealift.placing import Place, TreeLanding, WayMaker
from sealift.quota import Quota, default_quota
from sealift.recording import Recorder
from sealift.runlog import RunLog
from sealift.s3 import LISTINGS, connected
from sealift.s3.persistent import PersistentStore
from sealift.s3.route import Access
from sealift.s3.servicequotas import account_quota
from sealift.s3.store import ObjectStore, VersionedStore
from sealift.sampling import look_at
from sealift.selection import Ownership, Selection, Source, parse_sources
from sealift.shards import SHARDS, begin_part, missing, open_part, part_of, present, unite
from sealift.snapshot import Snapshot, beginning
from sealift.splitting import Landmarks
from sealift.tally import Observer, Observers, Tally, forecast
from sealift.taskgroups import insulated, ungrouped
from sealift.writing import Writer

PAGES_AHEAD = 4
"""Listed pages that wait to be compared: enough to hide a page's round trip, 4,000 objects at the most."""

ARRANGING = 0.1
"""Seconds between looks whether another shard has done with the ledger: copying takes it seconds, or nothing at all."""

JOBS_AHEAD = 2000
"""Objects that wait for a worker: two pages, about 2 MB."""

_Found = tuple[Source, Sequence[RemoteObject]]
_Compare = Callable[[Source, Sequence[RemoteObject]], Awaitable[None]]


@insulated
async def mirror(
    sources: Sequence[str],
    dest: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    observer: Observer | None = None,
) -> Summary:
    """Mirror what lies under `sources` into the directory `dest`, and return what was done.

    Objects that are in place already are not fetched again, and unfinished ones are continued. Objects that fail
    are in the summary's `failures`. Cancelling is safe at any time: what is complete is kept.

    Raises ConfigError; and CredentialsError, AccessError, LocalStorageError or SourceError, each with `.summary`.
    """
    settings = settings or Settings()
    refuse_combinations(settings)
    observers = Observers(*([] if observer is None else [observer]))
    run = Run(parse_sources(sources), settings, Tally(observers, anyio.current_time()))
    try:
        shard = settings.selection.shard
        name = None if shard is None else shard.name
        with await run_sync(bind(Destination.open, Path(dest), create=True, shard=name)) as destination:
            await run_sync(destination.lock, name)
            whole = await run_sync(_whole, destination, settings)
            await run.arrange(destination, whole)
            state = whole if shard is None else part_of(whole, shard)
            observers.add(await run_sync(_begin_log, destination, settings))
            with (
                await run_sync(_open_ledger, whole, settings, run) or nullcontext() as ledger,
                await run_sync(_begin_listed, settings, state) or nullcontext() as listed,
                await run_sync(_open_names, settings) or nullcontext() as names,
            ):
                run.names = names
                async with connected(settings, run.tally) as store:
                    await run.settle_cap(store)
                    await run.mirror(store, destination, ledger, listed)
                await run.name_missing_shards(whole)
            run.judge()
    except RunError as error:
        error.summary = run.summary()
        raise
    finally:
        observers.finished(run.summary())
    return run.summary()


@insulated
async def plan(
    sources: Sequence[str],
    dest: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    observer: Observer | None = None,
) -> Forecast:
    """Say what `mirror` would do, and change nothing. Raises what `mirror` raises."""
    settings = settings or Settings()
    refuse_combinations(settings)
    observers = Observers(*([] if observer is None else [observer]))
    run = Run(parse_sources(sources), settings, Tally(observers, anyio.current_time()))
    sample = Sample()
    observers.add(sample)
    try:
        with await run_sync(bind(Destination.open, Path(dest), create=False)) as destination:
            state = await run.state_to_read(destination)
            with (
                await run_sync(Ledger.open_to_read, state, run.warn_from_anywhere) or nullcontext() as ledger,
                await run_sync(_begin_listed, settings, None) or nullcontext() as listed,
                await run_sync(_open_names, settings) or nullcontext() as names,
            ):
                run.names = names
                async with connected(settings, run.tally) as store:
                    await run.settle_cap(store)
                    return await run.forecast(store, destination, ledger, listed, sample)
    finally:
        observers.finished(run.summary())


async def _region(store: PersistentStore, settings: Settings, buckets: Sequence[str]) -> str:
    """Return the Region of the first bucket, where its key is as a rule."""
    access = await store.access_for(buckets[:1])
    if access is not None:
        return (await access.route(buckets[0])).region
    environ = os.environ.get
    return settings.connection.region or environ("AWS_REGION") or environ("AWS_DEFAULT_REGION") or "us-east-1"


def _whole(destination: Destination, settings: Settings) -> Path:
    """Return the directory of the ledger, and of its shards' parts, made if need be. Raises LocalStorageError."""
    chosen, shard = settings.storage.state, settings.selection.shard
    if chosen is None:
        if shard is not None:
            os.close(destination.own_directory(SHARDS, shard.name))
        return destination.path / OWN_DIRECTORY
    try:
        ((chosen if shard is None else part_of(chosen, shard)) / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _about_state(error, chosen) from error
    return chosen


def _open_ledger(whole: Path, settings: Settings, run: Run) -> Ledger | None:
    """Open the run's ledger. With a check that needs none, a run goes on without one that cannot be used."""
    shard = settings.selection.shard
    try:
        if shard is not None:
            return open_part(whole, shard, run.warn_from_anywhere)
        return Ledger.open(whole, run.warn_from_anywhere)
    except LocalStorageError as error:
        if settings.storage.check is not Check.SIZE_MTIME:
            raise
        run.warn(f"{error.message}; this run goes on without it")
        return None


def _begin_listed(settings: Settings, directory: Path | None) -> Listed | None:
    """Begin to take down what is listed, where something may be deleted, or named twice."""
    needed = settings.storage.delete or settings.selection.files_from is not None
    return Listed.begin(directory) if needed else None


def _open_names(settings: Settings) -> Names | None:
    chosen = settings.selection
    return None if chosen.files_from is None else Names.open(chosen.files_from, null=chosen.null)


def _begin_log(destination: Destination, settings: Settings) -> RunLog:
    chosen, shard = settings.storage.state, settings.selection.shard
    below = () if shard is None else (SHARDS, shard.name)
    try:
        if chosen is None:
            directory_fd = destination.own_directory(*below, "runs")
        else:
            directory_fd = os.open(chosen.joinpath(*below, "runs"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return RunLog(directory_fd, datetime.now(UTC))
        finally:
            os.close(directory_fd)
    except OSError as error:
        raise _about_state(error, chosen or destination.path) from error


def _about_state(error: OSError, path: Path) -> LocalStorageError:
    failure = translated(error, str(path))
    return LocalStorageError(failure.message, code=failure.code)


def _clean(destination: Destination, kept: AbstractSet[str]) -> None:
    """Drop what earlier runs left and no object of this one, which has seen them all, goes on with."""
    destination.abandon(destination.partials() - kept)


def _crew(
    settings: Settings,
    path: Path,
    access: Access,
    rule: CrewRule,
    initial: int | None,
    fetcher: Fetcher,
    make_room: Callable[[], Awaitable[None]],
) -> Crew:
    """Return worker processes that fetch into the destination at `path`: they share out what is set for the run."""
    orders = Orders(
        path=path,
        shard=None if settings.selection.shard is None else settings.selection.shard.name,
        connection=settings.connection,
        durability=settings.storage.durability,
        lanes=settings.transfer.lanes(descriptors()) // rule.shares,
        initial=initial,
        max_bandwidth=settings.transfer.share_of_bandwidth(rule.shares),
        ca_bundle=access.ca_bundle,
    )
    return Crew(decider=fetcher, access=access, orders=orders, processes=rule.workers, make_room=make_room)


async def _arranging(destination: Destination) -> int:
    """Wait until no other shard arranges its ledger, and keep others from that."""
    while True:
        held = await run_sync(destination.begin_arranging)
        if held is not None:
            return held
        await anyio.sleep(ARRANGING)


async def _carried_out(steps: Generator[None, None, None]) -> None:
    """Take all steps, each in a thread, so that a run can be stopped between two."""
    try:
        while await run_sync(next, steps, True) is None:
            pass
    finally:
        steps.close()


class _Landmarks:
    """Where the listing of a source can be split, as the ledger remembers it from the last run."""

    def __init__(self, ledger: Ledger | None, *, dry: bool) -> None:
        self._ledger = ledger
        self._dry = dry

    async def recall(self, source: Source) -> list[str]:
        """Return what was remembered of a source."""
        if self._ledger is None:
            return []
        return await run_sync(self._ledger.landmarks, source.bucket, source.prefix)

    async def remember(self, source: Source, keys: list[str]) -> None:
        """Remember what a listing that came to its end has shown. Raises LocalStorageError."""
        if self._ledger is not None and not self._dry:
            await run_sync(self._ledger.keep_landmarks, source.bucket, source.prefix, keys)


class Run:
    """One run: what its stages share. `mirror` or `forecast` it; then `judge` it."""

    def __init__(self, sources: Sequence[Source], settings: Settings, tally: Tally) -> None:
        self.tally = tally
        self._settings = settings
        self._several = len(sources) > 1
        self._ownership = Ownership(sources, Selection(settings.selection.filters))
        self._to_list = 1 if settings.selection.files_from is not None else len(self._ownership.sources)
        self.names: Names | None = None
        """What names the objects, where nothing is to be listed."""
        self._named_again = 0
        self._snapshot: Snapshot | None = None
        self._listing_errors: list[SealiftError] = []
        self._foresees = False
        self._escaped = 0
        self._listed: Listed | None = None
        self._nothing_under_some = False

    def summary(self) -> Summary:
        """Return what was done up to now."""
        return self.tally.summary(anyio.current_time(), complete=self._to_list == 0)

    def warn(self, text: str) -> None:
        """Say what a person should know."""
        self.tally.observer.noted("warning", text)

    def warn_from_anywhere(self, text: str) -> None:
        """As `warn`, also from a worker thread."""
        try:
            from_thread.run_sync(self.warn, text)
        except RuntimeError:  # this is the event loop's thread
            self.warn(text)

    async def arrange(self, destination: Destination, whole: Path) -> None:
        """Let the ledger in `whole` be in one piece, or in a shard's parts, as this run needs it.

        Raises LocalStorageError, also where shards of another number of them are under way.
        """
        shard = self._settings.selection.shard
        if shard is None and not await run_sync(present, whole):
            return
        held = await _arranging(destination)
        try:
            parts = [part for part in await run_sync(present, whole) if shard is None or part.count != shard.count]
            for part in parts:
                if await run_sync(destination.is_locked_by, part.name):
                    raise LocalStorageError(
                        f"shard {part} is being mirrored to {destination.path}: wait for it to end, as there is one "
                        "number of shards at a time",
                        code="DestinationLocked",
                    )
            await _carried_out(unite(whole, parts, self.warn_from_anywhere))
            for part in parts:
                await run_sync(destination.unite_partials, part.name)
            if shard is not None:
                await _carried_out(begin_part(whole, shard, self.warn_from_anywhere))
        finally:
            destination.end_arranging(held)

    async def state_to_read(self, destination: Destination) -> Path:
        """Return the directory of the ledger that a dry run reads."""
        shard = self._settings.selection.shard
        whole = self._settings.storage.state or destination.path / OWN_DIRECTORY
        parts = await run_sync(present, whole)
        if shard in parts and shard is not None:
            return part_of(whole, shard)
        if parts:
            self.warn(
                "files that shards have mirrored are known to this plan by their size and time only, and it does not "
                "say which of them --delete would delete"
            )
        return whole

    async def name_missing_shards(self, whole: Path) -> None:
        """Say which shards have never run."""
        if self._settings.selection.shard is not None:
            names = ", ".join(map(str, missing(await run_sync(present, whole))))
            if names:
                self.tally.observer.noted("info", f"shards that have not run yet: {names}")

    async def settle_cap(self, store: PersistentStore) -> None:
        """Turn a share of the account's KMS quota into requests a second, and take this shard's. Raises ConfigError."""
        await self._settle_share(store)
        kms, shard = self._settings.kms, self._settings.selection.shard
        if shard is not None and kms.rps is not None:
            self._settings = replace(self._settings, kms=replace(kms, rps=kms.rps / shard.count))

    async def _settle_share(self, store: PersistentStore) -> None:
        kms = self._settings.kms
        if kms.share is None:
            return
        region = await _region(store, self._settings, [source.bucket for _, source in self._ownership.sources])
        try:
            rate = await account_quota(self._settings.connection, region)
        except SourceError as error:
            rate = default_quota([region]).rate
            self.warn(f"--kms-share is taken of the default quota of {region}, {rate:,.10g}/s: {error.message}")
        else:
            self.tally.observer.noted("info", f"the account's KMS quota in {region} is {rate:,.10g}/s")
        cap = rate * kms.share / 100
        self._settings = replace(self._settings, kms=replace(kms, rps=cap if kms.rps is None else min(cap, kms.rps)))

    async def mirror(
        self, store: PersistentStore, destination: Destination, ledger: Ledger | None, listed: Listed | None
    ) -> None:
        """Run the stages. Raises RunError for what ends the run at once; `judge` looks at the rest.

        `listed` takes down what is listed, where files are to be deleted, or named.
        """
        self._listed = listed
        batches = self._settings.storage.durability is Durability.BATCH
        recorder = Recorder(ledger, destination.partial_fd, sync=batches)
        with ungrouped():
            async with anyio.create_task_group() as beside:
                beside.start_soon(recorder.keep_up)
                try:
                    await self._mirror(store, destination, ledger, recorder)
                    if listed is not None and self._settings.storage.delete:
                        await recorder.flush()
                        await self._delete(destination, ledger, listed, recorder)
                except BaseException:
                    with suppress(LocalStorageError):  # as the run, most likely
                        await recorder.flush()
                    raise
                beside.cancel_scope.cancel()
        await recorder.flush()

    async def _mirror(
        self, store: PersistentStore, destination: Destination, ledger: Ledger | None, recorder: Recorder
    ) -> None:
        settings = self._settings
        seen = self._seen(store)
        way, diff = self._diff(seen, destination, ledger, recorder)
        line: Line[Job] = Line(JOBS_AHEAD)

        async def start_over(job: Job, fresh: RemoteObject) -> None:
            if isinstance(job.target, Place):
                for again in await diff.jobs(job.target.source, [fresh], restarts=job.restarts + 1):
                    line.add_again(again)

        durability = settings.storage.durability

        async def compare(source: Source, remotes: Sequence[RemoteObject]) -> None:
            await recorder.has_room()
            for job in await diff.jobs(source, remotes):
                await line.add(job)

        async def feed() -> None:
            await self._list_and_compare(seen, compare, _Landmarks(ledger, dry=False))
            line.close()

        access = await store.access_for({source.bucket for _, source in self._ownership.sources})
        kept = await fetch_all(
            feed,
            store=store,
            line=line,
            landing=TreeLanding(destination, way, durability, recorder),
            settings=settings,
            tally=self.tally,
            start_over=start_over,
            writer=Writer(destination, destination.partial_fd, durability),
            wire=access is not None,
            crew_of=None if access is None else bind(_crew, settings, destination.path.absolute(), access),
        )
        if not self._to_list and self.names is None:
            await run_sync(_clean, destination, kept)
        if durability is not Durability.NONE:
            await run_sync(sync_file_system, destination.partial_fd)  # the last names are on the disk as well

    async def forecast(
        self,
        store: VersionedStore,
        destination: Destination,
        ledger: Ledger | None,
        listed: Listed | None,
        sample: Sample,
    ) -> Forecast:
        """List and compare, and sum up what would be fetched and deleted. Raises RunError, ConfigError.

        How objects are encrypted is looked up of those that `sample`, which hears what is planned, has chosen.
        """
        self._listed = listed
        seen = self._seen(store)
        _, diff = self._diff(seen, destination, ledger, None)
        objects = size = gets = 0

        async def compare(source: Source, remotes: Sequence[RemoteObject]) -> None:
            nonlocal objects, size, gets
            need = await diff.need(source, remotes)
            objects += need.objects
            size += need.size
            gets += need.gets
            self._escaped += need.escaped

        self._foresees = True
        with ungrouped():
            await self._list_and_compare(seen, compare, _Landmarks(ledger, dry=True))
        for error in self._listing_errors:
            raise error
        if listed is not None and self._settings.storage.delete:
            await self._delete(destination, ledger, listed, None)
        cap = self._settings.kms.rps
        quota = None if cap is None else Quota(cap, "cap")
        kms = predict(sample.requests, await look_at(store, sample.chosen), whole=sample.whole, quota=quota)
        return forecast(self.summary(), objects=objects, size=size, gets=gets, escaped=self._escaped, kms=kms)

    async def _delete(
        self, destination: Destination, ledger: Ledger | None, listed: Listed, recorder: Recorder | None
    ) -> None:
        """Delete files whose object is gone; without a `recorder`, say which. Raises RunError."""
        if why := self._why_not_to_delete(ledger, dry=recorder is None):
            self.warn(f"nothing is deleted: {why}")
        if ledger is None or why:
            return
        self.judge()  # a run that failed as a whole deletes nothing
        deletion = Deletion(destination, ledger, listed, self._ownership, several=self._several)
        verdict = await run_sync(deletion.judge)
        for number, what in ((verdict.changed, "changed here"), (verdict.adopted, "not written by Sealift")):
            if number:
                self.warn(f"files whose object is gone, but which were {what}, are kept: {number:,}")
        most = self._settings.storage.max_delete
        if recorder is not None:
            check(verdict, most)
        if verdict.gone:
            steps = deletion.foresee() if recorder is None else deletion.carry_out()
            while (step := await run_sync(next, steps, None)) is not None:
                for record in step.records:
                    key, size = record.key, record.local_size
                    self.tally.end(Outcome(Ending.DELETED, record.seal.bucket, key, size, record.path))
                if recorder is not None:
                    recorder.add(step.changes, fresh=True)
                    await recorder.has_room()
        check(verdict, most)  # of a dry run, when all were named

    def _why_not_to_delete(self, ledger: Ledger | None, *, dry: bool) -> str:
        """Return why no file may be deleted, if there is a reason."""
        if self._to_list:
            return "not every listing has reached its end"
        if self._nothing_under_some:
            return "nothing lies under one of the sources"
        if ledger is None and not dry:  # a dry run finds none before the first real one
            return "there is no ledger that would say which files are Sealift's own"
        return ""

    def judge(self) -> None:
        """Raise the RunError or ConfigError that the whole of the run amounts to, if it does."""
        errors = self._listing_errors
        for kind in (ConfigError, SourceError):
            for error in errors:
                if isinstance(error, kind):
                    raise error
        tally = self.tally
        failed = tally.endings[Ending.FAILED]
        if tally.in_place or failed != tally.refused:
            return
        for error in errors:
            raise error
        if failed:
            raise AccessError(
                f"nothing could be read: all {failed:,} objects were refused; the first one: "
                f"{tally.failures[0].message}",
                code="AccessDenied",
            )

    def _seen(self, store: VersionedStore) -> ObjectStore:
        """Return the store as it is to be seen: as it was at some moment, where that was asked for."""
        chosen, now = self._settings.selection.as_of, datetime.now(UTC)
        if chosen is None:
            return store
        if chosen == "start":
            chosen = beginning(now)
            self.tally.observer.noted("info", f"mirrored is what was there at {chosen.isoformat()}")
        elif chosen > now:
            raise ConfigError(f"--as-of {chosen.isoformat()} lies in the future: what will be there, nobody knows")
        self._snapshot = Snapshot(store, chosen)
        return self._snapshot

    def _diff(
        self, store: ObjectStore, destination: Destination, ledger: Ledger | None, recorder: Recorder | None
    ) -> tuple[WayMaker, Diff]:
        """Return what compares this run's objects with the disk, and clears their way.

        Without a `recorder`, nothing on disk is changed.
        """
        settings, tally, dry = self._settings, self.tally, recorder is None
        strict = settings.selection.strict_keys
        way = WayMaker(
            store, destination, self._ownership, tally, strict=strict, dry=dry, ledger=ledger, recorder=recorder
        )
        return way, Diff(
            destination=destination,
            way=way,
            settings=settings,
            tally=tally,
            several=self._several,
            dry=dry,
            ledger=ledger,
            recorder=recorder,
        )

    async def _list_and_compare(self, store: ObjectStore, compare: _Compare, landmarks: _Landmarks) -> None:
        """List all sources at once, and compare their pages as they come."""
        send, receive = anyio.create_memory_object_stream[_Found](PAGES_AHEAD)
        async with receive, anyio.create_task_group() as listing:  # held open here: see docs/design.md, "Streams"
            async with send:
                if self.names is not None:
                    listing.start_soon(self._take_names, store, self.names, send.clone())
                else:
                    for index, source in self._ownership.sources:
                        listing.start_soon(self._list, store, index, source, send.clone(), landmarks)
            async for source, remotes in receive:
                await compare(source, remotes)
        if self._snapshot is not None and self.tally.listed and not self._snapshot.versioned:
            self.warn(
                "no object has a version: the bucket keeps none, and what was overwritten or deleted since is left out"
            )

    async def _list(
        self,
        store: ObjectStore,
        index: int,
        source: Source,
        found: MemoryObjectSendStream[_Found],
        landmarks: _Landmarks,
    ) -> None:
        """List one source. Its failure is kept for the end: what was listed is worth fetching."""
        async with found:
            with self._listing(f"{source.written} cannot be listed"):
                hints, passed = await landmarks.recall(source), Landmarks()
                await self._pages(store, index, source, found, hints, passed)
                await landmarks.remember(source, passed.chosen())

    @contextmanager
    def _listing(self, failed: str) -> Iterator[None]:
        """Count a listing that comes to its end, and keep the failure of one that does not; `failed` says which."""
        try:
            yield
        except (ObjectError, SourceError, AccessError, ConfigError) as error:
            if isinstance(error, ObjectError):
                failure: SealiftError = SourceError(f"{failed}: {error.message}", code=error.code)
                failure.__cause__ = error
            else:
                failure = error
            self._listing_errors.append(failure)
            if self._several:
                self.warn(failure.message)
        else:
            self._to_list -= 1

    async def _take_names(self, store: ObjectStore, names: Names, found: MemoryObjectSendStream[_Found]) -> None:
        """Go through what a file names. What was named before it failed is worth fetching."""
        clashes, batches = _Foreseen(), 0
        async with found:
            with self._listing(f"what {names.name} names cannot be looked up"):
                while batch := await self._next_names(names, first=not batches):
                    batches += 1
                    for source, mine in (await self._known(store, batch)).items():
                        if self._foresees:
                            in_order = sorted(mine, key=lambda remote: remote.key.encode("utf-8", "surrogateescape"))
                            self._escaped += clashes.count(batches, in_order, self._base(source))
                        await found.send((source, mine))
                if names.manifest.copies:
                    self.warn(f"where {names.name} copies to is not heeded: objects lie below DEST, by their keys")
                if self._named_again:
                    self.warn(f"objects that {names.name} names again are mirrored once: {self._named_again:,}")
                if not batches:
                    self._nothing_under_some = True
                    self.warn(f"{names.name} names nothing")

    async def _next_names(self, names: Names, *, first: bool) -> list[Named]:
        """Return the next names. Raises ConfigError, or SourceError where some were taken already."""
        try:
            batch = await names.batch()
            if len({source.bucket for _, source in self._ownership.sources}) > 1:
                _refuse_bare(names.name, batch)
        except ConfigError as error:
            if first:
                raise
            raise SourceError(f"{error.message}; nothing from there on was mirrored", code="BadManifest") from error
        return batch

    async def _known(self, store: ObjectStore, batch: Sequence[Named]) -> dict[Source, list[RemoteObject]]:
        """Return the objects that some names stand for, by their sources. Those that there are not have failed then."""
        [bucket, *_] = [source.bucket for _, source in self._ownership.sources]
        if shard := self._settings.selection.shard:
            batch = [named for named in batch if shard.has(named.key)]
        fresh = {(named.bucket or bucket, named.key): named for named in reversed(batch)}
        if self._listed is not None:
            objects = list(fresh)
            for start in range(0, len(objects), AT_ONCE):
                for again in await run_sync(self._listed.among, objects[start : start + AT_ONCE]):
                    del fresh[again]
            for where in {where for where, _ in fresh}:
                await run_sync(self._listed.add, where, [key for there, key in fresh if there == where])
        self._named_again += len(batch) - len(fresh)
        wanted = []
        for (where, key), named in reversed(fresh.items()):
            if self._ownership.covers(where, key):
                wanted.append(named._replace(bucket=where))
            elif not self._ownership.contains(where, key):
                self._not_there(RemoteObject(where, key, 0, "", 0), _outside(where, key))
        by_source: dict[Source, list[RemoteObject]] = {}
        for remote in await look_up(store, wanted, self._not_there):
            if source := self._ownership.source_of(remote.bucket, remote.key):
                by_source.setdefault(source, []).append(remote)
        self.tally.list(sum(map(len, by_source.values())))
        return by_source

    def _not_there(self, remote: RemoteObject, error: ObjectError) -> None:
        """Count an object that was named, and cannot be had."""
        self.tally.list(1)
        self.tally.fail(remote, error)

    async def _pages(
        self,
        store: ObjectStore,
        index: int,
        source: Source,
        found: MemoryObjectSendStream[_Found],
        hints: Sequence[str],
        passed: Landmarks,
    ) -> None:
        anything = False
        clashes, shard = _Foreseen(), self._settings.selection.shard

        async def take(stretch: int, objects: Sequence[RemoteObject]) -> None:
            nonlocal anything
            anything = True
            passed.pass_by(objects[0].key)
            for remote in objects:
                if not remote.key.startswith(source.prefix):
                    raise SourceError(
                        f"{source.written} cannot be listed: the server names {remote.key!r}, which does not lie there"
                    )
            mine = self._ownership.owned(index, objects)
            if shard is not None:
                if self._listed is not None:  # directories that are empty in this shard may be another's
                    markers = [remote.key for remote in mine if remote.key.endswith("/")]
                    await run_sync(self._listed.add, source.bucket, markers)
                mine = shard.among(mine)
            if self._foresees:
                self._escaped += clashes.count(stretch, mine, self._base(source))
            if mine:
                if self._listed is not None:
                    await run_sync(self._listed.add, source.bucket, [remote.key for remote in mine])
                self.tally.list(len(mine))
                await found.send((source, mine))

        listers = max(1, LISTINGS // len(self._ownership.sources))
        await list_prefix(store, source.bucket, source.prefix, take, listers=listers, hints=hints)
        if not anything:
            await self._nothing_under(store, source)
        for key in clashes.between():
            page = await store.list_page(source.bucket, f"{self._base(source)}{key}/")
            self._escaped += any(self._ownership.covers(source.bucket, remote.key) for remote in page.objects)

    def _base(self, source: Source) -> str:
        """Return what of the source's keys does not show in their paths."""
        return "" if self._several else source.prefix

    async def _nothing_under(self, store: ObjectStore, source: Source) -> None:
        """Warn that there is nothing to mirror; raise ConfigError where an object of exactly that key was meant."""
        if source.exact_key:
            try:
                await store.head(source.bucket, source.exact_key)
            except ObjectError:
                pass
            else:
                raise ConfigError(
                    f"{source.written} is an object, not a prefix: run sealift get {source.written} instead"
                )
        self._nothing_under_some = True
        self.warn(f"nothing lies under {source.written}")


def _refuse_bare(name: str, batch: Sequence[Named]) -> None:
    for named in batch:
        if not named.bucket:
            raise ConfigError(
                f"{name}, line {named.line}: {named.key!r} does not say in which bucket, and the SOURCEs are in "
                "several: write s3://BUCKET/KEY"
            )


def _outside(bucket: str, key: str) -> Permanent:
    return Permanent(
        f"s3://{bucket}/{key} lies under no SOURCE: name one under which it does",
        bucket=bucket,
        key=key,
        code="OutsideSource",
    )


class _Foreseen:
    """Counts the objects of one source whose own name is needed for a directory.

    Unlike a run, a forecast has no files to find in the way.
    """

    def __init__(self) -> None:
        self._clashes: defaultdict[int, Clashes] = defaultdict(Clashes)
        self._first_keys: list[str] = []

    def count(self, stretch: int, remotes: Sequence[RemoteObject], base: str) -> int:
        """Take the next objects of a stretch of the listing, and return how many earlier ones clash because of them."""
        keys = [remote.key[len(base) :] for remote in remotes]
        if keys and stretch not in self._clashes:
            insort(self._first_keys, keys[0])
        return self._clashes[stretch].count_all(keys, [remote.size for remote in remotes])

    def between(self) -> Iterator[str]:
        """Yield the keys that may clash with what another stretch begins with: at most a few."""
        for clashes in self._clashes.values():
            for key in clashes.unmet():
                after = bisect_right(self._first_keys, key)
                if after < len(self._first_keys) and self._first_keys[after].startswith(key):
                    yield key
