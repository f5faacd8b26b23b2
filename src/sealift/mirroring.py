"""Mirror S3 prefixes onto local disk: the stages, wired in one task group.

1. **List**: each source is listed by several listers at once (`sealift.listing`); a page goes downstream as it comes.
   Or a file names the objects (`sealift.naming`), or an inventory does (`sealift.inventory`), and nothing is listed;
   after an inventory, where that is asked for, everything is.
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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial as bind
from pathlib import Path

import anyio
from anyio import from_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from anyio.to_thread import run_sync

from sealift.admission import Admission
from sealift.arranging import arrange
from sealift.checking import Checker
from sealift.config import Check, Durability, Settings, refuse_combinations
from sealift.crew.cluster import BYTES_AHEAD, GATHERING, Cluster
from sealift.crew.parent import Crew, start_process
from sealift.crew.rule import CrewRule
from sealift.crew.sharing import mark_of
from sealift.crew.worker import Orders
from sealift.deleting import Deletion, Verdict, check
from sealift.destination import OWN_DIRECTORY, Destination
from sealift.diff import Diff
from sealift.errors import (
    AccessError,
    ConfigError,
    LocalStorageError,
    ObjectError,
    RunError,
    SealiftError,
    SourceError,
)
from sealift.fetch import Fetcher, Job
from sealift.fetching import CrewOf, descriptors, fetch_all
from sealift.hopeless import Hopeless
from sealift.intake import Intake, Page
from sealift.inventory import Inventory
from sealift.kmscost import ENOUGH, Sample, predict
from sealift.ledger import Ledger, Record
from sealift.line import Line
from sealift.listed import Listed
from sealift.listing import list_prefix
from sealift.localpath import Clashes, encoded
from sealift.model import Ending, Forecast, Outcome, RemoteObject, Summary
from sealift.naming import Names
from sealift.partial import sync_file_system, unusable
from sealift.placing import Place, TreeLanding, WayMaker, origin
from sealift.proving import Prover
from sealift.quota import Quota, default_quota
from sealift.recording import Recorder
from sealift.runlog import RunLog
from sealift.s3 import LISTINGS, connected
from sealift.s3.persistent import PersistentStore
from sealift.s3.route import Access
from sealift.s3.servicequotas import account_quota
from sealift.s3.store import ObjectStore, PageRequest, VersionedStore
from sealift.sampling import look_at
from sealift.selection import Ownership, Selection, Source, parse_sources
from sealift.shards import SHARDS, missing, open_part, open_to_read, part_of, present
from sealift.snapshot import Snapshot, beginning
from sealift.splitting import Landmarks
from sealift.tally import Observer, Observers, Tally, forecast
from sealift.taskgroups import insulated, ungrouped
from sealift.timetable import Timetable
from sealift.writing import Writer

PAGES_AHEAD = 4
"""Listed pages that wait to be compared: enough to hide a page's round trip, 4,000 objects at the most."""

BETWEEN = 0.05
"""Seconds between looks whether all that an inventory has named is done, before the sources are listed."""

JOBS_AHEAD = 2000
"""Objects that wait for a worker: two pages, about 2 MB."""

MENDERS = 16
"""Files to be repaired that are looked up at once: a HEAD takes 30 ms, so that many come to 500 a second."""

Mend = Callable[[Record], Awaitable[None]]
"""Hears of a file that is to be fetched again."""
Look = Callable[[Destination, Ledger, Mend], Awaitable[None]]
"""Finds files that are to be fetched again."""
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
    observers = Observers(observer)
    run = Run(parse_sources(sources), settings, Tally(observers, anyio.current_time()))
    try:
        shard = settings.selection.shard
        name = None if shard is None else shard.name
        with await run_sync(bind(Destination.open, Path(dest), create=True, shard=name)) as destination:
            await run_sync(destination.lock, name)
            whole = await run_sync(_whole, destination, settings)
            await arrange(destination, whole, shard, run.warn_from_anywhere)
            state = whole if shard is None else part_of(whole, shard)
            log = await run_sync(_begin_log, destination, settings, sources)
            observers.add(log)
            with (
                log.telling_how(),
                await run_sync(_open_ledger, whole, settings, run) or nullcontext() as ledger,
                await run_sync(_begin_listed, settings, state) or nullcontext() as listed,
                await run_sync(_open_names, settings) or nullcontext() as names,
            ):
                run.take_from(names, listed)
                async with connected(settings, run.tally) as store:
                    await run.settle_cap(store)
                    async with run.inventory(store, state), run.workers_elsewhere():
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
    observers = Observers(observer)
    run = Run(parse_sources(sources), settings, Tally(observers, anyio.current_time()))
    sample = Sample()
    observers.add(sample)
    try:
        with await run_sync(bind(Destination.open, Path(dest), create=False)) as destination:
            whole = settings.storage.state or destination.path / OWN_DIRECTORY
            shard = settings.selection.shard
            with (
                await run_sync(open_to_read, whole, shard, run.warn_from_anywhere) or nullcontext() as ledger,
                await run_sync(_begin_listed, settings, None) or nullcontext() as listed,
                await run_sync(_open_names, settings) or nullcontext() as names,
            ):
                run.take_from(names, listed)
                async with connected(settings, run.tally) as store:
                    await run.settle_cap(store)
                    async with run.inventory(store, None):
                        return await run.forecast(store, destination, ledger, listed, sample)
    finally:
        observers.finished(run.summary())


@insulated
async def repair(
    look: Look, dest: str | os.PathLike[str], settings: Settings, *, observer: Observer | None = None
) -> Summary:
    """Fetch again what `look` finds in the directory `dest`, as it is found, and return what was done.

    S3 is not reached for before something was found. Raises what `mirror` raises.
    """
    observers = Observers(observer)
    run = Run((), settings, Tally(observers, anyio.current_time()))
    try:
        with await run_sync(bind(Destination.open, Path(dest), create=True)) as destination:
            await run_sync(destination.lock)
            whole = await run_sync(_whole, destination, settings)
            await arrange(destination, whole, None, run.warn_from_anywhere)
            with await run_sync(Ledger.open, whole, run.warn_from_anywhere) as ledger:
                buckets = [Source.parse(f"s3://{bucket}") for bucket in ledger.buckets()]
                log = await run_sync(_begin_log, destination, settings, [source.written for source in buckets])
                observers.add(log)
                fetching = replace(settings, storage=replace(settings.storage, force=True))
                run = Run(buckets, fetching, run.tally)
                with log.telling_how():
                    await run.repair(destination, ledger, look)
                    run.judge()
    except RunError as error:
        error.summary = run.summary()
        raise
    finally:
        observers.finished(run.summary())
    return run.summary()


async def _region(store: PersistentStore, settings: Settings, bucket: str) -> str:
    """Return the Region of a bucket, where its keys are."""
    access = await store.access_for([bucket])
    if access is not None:
        return (await access.route(bucket)).region
    environ = os.environ.get
    return settings.connection.region or environ("AWS_REGION") or environ("AWS_DEFAULT_REGION") or "us-east-1"


def _whole(destination: Destination, settings: Settings) -> Path:
    """Return the directory of the ledger, and of its shards' parts; made if need be, and locked.

    Raises LocalStorageError.
    """
    chosen, shard = settings.storage.state, settings.selection.shard
    if chosen is None:
        if shard is not None:
            os.close(destination.own_directory(SHARDS, shard.name))
        return destination.path / OWN_DIRECTORY
    try:
        ((chosen if shard is None else part_of(chosen, shard)) / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(error, chosen) from error
    destination.lock_state(chosen, None if shard is None else shard.name)
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


def _begin_log(destination: Destination, settings: Settings, sources: Sequence[str]) -> RunLog:
    chosen, shard = settings.storage.state, settings.selection.shard
    below = () if shard is None else (SHARDS, shard.name)
    try:
        if chosen is None:
            directory_fd = destination.own_directory(*below, "runs")
        else:
            directory_fd = os.open(chosen.joinpath(*below, "runs"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return RunLog(directory_fd, datetime.now(UTC), sources=sources, dest=str(destination.path.absolute()))
        finally:
            os.close(directory_fd)
    except OSError as error:
        raise unusable(error, chosen or destination.path) from error


def _clean(destination: Destination, kept: AbstractSet[str]) -> None:
    """Drop what earlier runs left and no object of this one, which has seen them all, goes on with."""
    destination.abandon(destination.partials() - kept)


def _crew(
    settings: Settings,
    destination: Destination,
    access: Access | None,
    cluster: Cluster | None,
    rule: CrewRule,
    initial: int | None,
    fetcher: Fetcher,
    make_room: Callable[[], Awaitable[None]],
) -> Crew:
    """Return worker processes that fetch into the destination: they share out what is set for the run."""
    orders = Orders(
        path=destination.path.absolute(),
        mark=None if cluster is None else mark_of(destination.path.absolute()),
        shard=None if settings.selection.shard is None else settings.selection.shard.name,
        connection=settings.connection,
        durability=settings.storage.durability,
        # Another machine has memory and descriptors of its own.
        lanes=settings.transfer.lanes(descriptors()) // (rule.shares if cluster is None else 1),
        initial=initial,
        bandwidth=settings.transfer.share_of_bandwidth(rule.shares),
        ca_bundle=None if access is None else access.ca_bundle,
    )
    crew = bind(Crew, decider=fetcher, access=access, orders=orders, processes=rule.workers, make_room=make_room)
    if cluster is None:
        return crew(start=bind(start_process, destination.lock_fds))
    return crew(start=cluster.start, gathering=GATHERING, bytes_ahead=BYTES_AHEAD)


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
        chosen = settings.selection
        named = chosen.files_from is not None or chosen.inventory is not None
        self._to_list = named + (0 if named and not chosen.then_list else len(self._ownership.sources))
        self.names: Names | Inventory | None = None
        """What names the objects, where nothing is to be listed."""
        self._intake = Intake(self._ownership, tally, shard=chosen.shard, named=None, versions=None)
        self.cluster: Cluster | None = None
        """Whose workers do the fetching, where it is not this machine's."""
        self._snapshot: Snapshot | None = None
        self._listing_errors: list[SealiftError] = []
        self._foresees = False
        self._escaped = 0
        self._caps: dict[str, float] = {}
        self._listed: Listed | None = None
        self._nothing_under_some = False
        self._hopeless = Hopeless(tally)

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

    async def name_missing_shards(self, whole: Path) -> None:
        """Say which shards have never run."""
        if self._settings.selection.shard is not None:
            names = ", ".join(map(str, missing(await run_sync(present, whole))))
            if names:
                self.tally.observer.noted("info", f"shards that have not run yet: {names}")

    def take_from(self, names: Names | None, named: Listed | None) -> None:
        """Let a file, if there is one, name the objects; `named` takes down which ones."""
        if names is not None:
            self.names = names
            shard = self._settings.selection.shard
            self._intake = Intake(self._ownership, self.tally, shard=shard, named=named, versions=None)

    @asynccontextmanager
    async def workers_elsewhere(self) -> AsyncIterator[None]:
        """Reach the cluster that does the fetching, if one is to. Raises ConfigError."""
        transfer = self._settings.transfer
        if transfer.dask is None:
            yield
            return
        noted = bind(self.tally.observer.noted, "info")
        async with Cluster(transfer.dask, most=transfer.processes, noted=noted) as self.cluster:
            yield

    def _crew_of(self, destination: Destination, access: Access | None) -> CrewOf | None:
        """Return what makes a crew of workers, here or elsewhere; None where there can be none."""
        if access is None and self.cluster is None:
            return None
        return bind(_crew, self._settings, destination, access, self.cluster)

    @asynccontextmanager
    async def inventory(self, store: ObjectStore, directory: Path | None) -> AsyncIterator[None]:
        """Open the inventory that names the objects, if one does; files are put into `directory`, or a temporary one.

        Raises ConfigError, SourceError, LocalStorageError.
        """
        chosen = self._settings.selection
        if chosen.inventory is None:
            yield
            return
        buckets = {source.bucket for _, source in self._ownership.sources}
        begun = await run_sync(Listed.begin, directory) if chosen.then_list else nullcontext()
        with begun as versions:
            self._intake = Intake(self._ownership, self.tally, shard=chosen.shard, named=None, versions=versions)
            with await Inventory.open(
                store,
                chosen.inventory,
                retry=self._settings.retry,
                directory=directory,
                buckets=buckets,
                pinned=not chosen.then_list,
                failed=self._intake.in_vain,
            ) as names:
                moment = names.report.moment
                if moment is not None:
                    self.tally.observer.noted("info", f"the inventory is of {moment.isoformat(timespec='seconds')}")
                self.names, self.tally.forgives_missing = names, True
                yield

    async def settle_cap(self, store: PersistentStore) -> None:
        """Turn a share of the account's KMS quotas into requests a second; take this shard's part.

        Raises ConfigError.
        """
        await self._settle_share(store)
        kms, shard = self._settings.kms, self._settings.selection.shard
        if shard is not None:
            self._caps = {region: cap / shard.count for region, cap in self._caps.items()}
            hours = Timetable(kms.rps, kms.timetable).shared(shard.count)
            self._settings = replace(self._settings, kms=replace(kms, rps=hours.most, timetable=hours.slots))

    async def _settle_share(self, store: PersistentStore) -> None:
        """Find out what the share is, for each Region."""
        kms = self._settings.kms
        if kms.share is None:
            return
        buckets = {source.bucket for _, source in self._ownership.sources}
        for region in sorted({await _region(store, self._settings, bucket) for bucket in buckets}):
            try:
                rate = await account_quota(self._settings.connection, region)
            except SourceError as error:
                rate = default_quota([region]).rate
                self.warn(f"--kms-share is taken of the default quota of {region}, {rate:,.10g}/s: {error.message}")
            else:
                self.tally.observer.noted("info", f"the account's KMS quota in {region} is {rate:,.10g}/s")
            self._caps[region] = rate * kms.share / 100

    async def mirror(
        self, store: PersistentStore, destination: Destination, ledger: Ledger | None, listed: Listed | None
    ) -> None:
        """Run the stages. Raises RunError for what ends the run at once; `judge` looks at the rest.

        `listed` takes down what is listed, where files are to be deleted, or named.
        """
        self._listed = listed

        async def work(recorder: Recorder) -> None:
            await self._mirror(store, destination, ledger, recorder)
            if listed is not None and self._settings.storage.delete:
                await recorder.flush()
                await self._delete(destination, ledger, listed, recorder)

        await self._record(store, destination, ledger, work)

    async def repair(self, destination: Destination, ledger: Ledger, look: Look) -> None:
        """Fetch again what `look` finds. Raises RunError, ConfigError."""
        send, receive = anyio.create_memory_object_stream[Record](MENDERS)

        async def find() -> None:
            async with send:
                await look(destination, ledger, send.send)
            self._to_list = 0

        with ungrouped():
            async with receive, anyio.create_task_group() as finding:
                finding.start_soon(find)
                async for first in receive:
                    async with connected(self._settings, self.tally) as store:
                        await self.settle_cap(store)
                        work = bind(self._mend, store, destination, ledger, first, receive)
                        await self._record(store, destination, ledger, work)

    async def _record(
        self,
        store: PersistentStore,
        destination: Destination,
        ledger: Ledger | None,
        work: Callable[[Recorder], Awaitable[None]],
    ) -> None:
        """Do what tells a recorder what becomes of files, and see that the ledger hears it. Raises RunError."""
        synced = self._settings.storage.durability is not Durability.NONE
        recorder = Recorder(ledger, destination.partial_fd, sync=synced)
        with ungrouped():
            async with anyio.create_task_group() as beside:
                beside.start_soon(recorder.keep_up)
                beside.start_soon(self._watch_for_refusals, store)
                try:
                    await work(recorder)
                except BaseException:
                    with suppress(LocalStorageError):  # as the run, most likely
                        await recorder.flush()
                        await recorder.keep_asked()
                    raise
                beside.cancel_scope.cancel()
        await recorder.flush()
        await recorder.keep_asked()

    async def _watch_for_refusals(self, store: ObjectStore) -> None:
        """End the run where nothing at all can be read. Raises AccessError."""
        places = [(source.bucket, source.prefix) for _, source in self._ownership.sources]

        def pick(objects: Sequence[RemoteObject]) -> list[RemoteObject]:
            return [remote for remote in objects if self._ownership.covers(remote.bucket, remote.key)]

        with suppress(SourceError, ObjectError, ConfigError):  # whoever lists it says why
            await self._hopeless.watch(store, places, pick)

    async def _mirror(
        self, store: PersistentStore, destination: Destination, ledger: Ledger | None, recorder: Recorder
    ) -> None:
        settings = self._settings
        seen = self._seen(store)
        admission = Admission(settings.kms, store.region, self._caps)
        way, diff = self._diff(seen, destination, admission, ledger, recorder)
        line: Line[Job] = Line(JOBS_AHEAD)

        async def compare(source: Source, remotes: Sequence[RemoteObject]) -> None:
            await recorder.has_room()
            for job in await diff.jobs(source, remotes):
                await line.add(job)

        async def feed() -> None:
            nonlocal diff
            await self._list_and_compare(seen, compare, _Landmarks(ledger, dry=False))
            if settings.selection.then_list:
                await self._nothing_under_way()
                await recorder.flush()
                if ledger is not None:
                    ledger.empty = False
                diff = self._diff(seen, destination, admission, ledger, recorder, way)[1]
                await self._list_what_is_new(seen, compare, _Landmarks(ledger, dry=False))
            if not self._to_list and self.names is None:
                await run_sync(diff.drop_useless)
            line.close()

        kept = await self._fetch(feed, store, destination, line, way, recorder, admission, lambda _: diff)
        if not self._to_list and self.names is None:
            await run_sync(_clean, destination, kept)

    async def _mend(
        self,
        store: PersistentStore,
        destination: Destination,
        ledger: Ledger,
        first: Record,
        others: MemoryObjectReceiveStream[Record],
        recorder: Recorder,
    ) -> None:
        """Fetch again what is recorded, as it is in S3 by now."""
        admission = Admission(self._settings.kms, store.region, self._caps)
        way, alone = self._diff(store, destination, admission, ledger, recorder, several=False)
        _, among = self._diff(store, destination, admission, ledger, recorder, way, several=True)
        line: Line[Job] = Line(JOBS_AHEAD)

        async def mend(record: Record) -> None:
            bucket, key = record.seal.bucket, record.key
            self.tally.list(1)
            try:
                source, several = origin(record)
                remote = await store.head(bucket, key, None)
            except ObjectError as error:
                self.tally.fail(RemoteObject(bucket, key, record.size, record.etag, record.mtime_ns), error)
                return
            await recorder.has_room()
            for job in await (among if several else alone).jobs(source, [remote]):
                await line.add(job)

        async def mend_some() -> None:
            async for record in others:
                await mend(record)

        async def feed() -> None:
            await mend(first)
            async with anyio.create_task_group() as menders:
                for _ in range(MENDERS):
                    menders.start_soon(mend_some)
            line.close()

        await self._fetch(
            feed,
            store,
            destination,
            line,
            way,
            recorder,
            admission,
            lambda place: alone if place.under is None else among,
        )

    async def _fetch(
        self,
        feed: Callable[[], Awaitable[None]],
        store: PersistentStore,
        destination: Destination,
        line: Line[Job],
        way: WayMaker,
        recorder: Recorder,
        admission: Admission,
        compared_by: Callable[[Place], Diff],
    ) -> AbstractSet[str]:
        """Fetch what `feed` puts in line, and return which partial files are worth keeping. Raises RunError."""
        settings, durability = self._settings, self._settings.storage.durability

        async def start_over(job: Job, fresh: RemoteObject) -> None:
            if isinstance(place := job.target, Place):
                for again in await compared_by(place).jobs(place.source, [fresh], restarts=job.restarts + 1):
                    line.add_again(again)

        access = await store.access_for({source.bucket for _, source in self._ownership.sources})
        kept = await fetch_all(
            feed,
            store=store,
            line=line,
            landing=TreeLanding(destination, way, durability, recorder),
            settings=settings,
            tally=self.tally,
            start_over=start_over,
            admission=admission,
            writer=Writer(destination, destination.partial_fd, durability),
            wire=access is not None,
            crew_of=self._crew_of(destination, access),
            cluster=0 if self.cluster is None else self.cluster.size,
        )
        if durability is not Durability.NONE:
            await run_sync(sync_file_system, destination.partial_fd)  # the last names are on the disk as well
        return kept

    async def forecast(
        self,
        store: PersistentStore,
        destination: Destination,
        ledger: Ledger | None,
        listed: Listed | None,
        sample: Sample,
    ) -> Forecast:
        """List and compare, and sum up what would be fetched and deleted. Raises RunError, ConfigError.

        How objects are encrypted is looked up of those that `sample`, which hears what is planned, has chosen among
        those of which earlier runs do not tell.
        """
        self._listed = listed
        seen, limits = self._seen(store), self._settings.kms
        admission = Admission(limits, store.region, self._caps)
        _, diff = self._diff(seen, destination, admission, ledger, None)
        objects = size = gets = 0

        async def compare(source: Source, remotes: Sequence[RemoteObject]) -> None:
            nonlocal objects, size, gets
            need = await diff.need(source, remotes)
            objects += need.objects
            size += need.size
            gets += need.gets
            self._escaped += need.escaped

        self._foresees = True
        sample.earlier = await run_sync(self._told_by_earlier_runs, ledger)
        with ungrouped():
            await self._list_and_compare(seen, compare, _Landmarks(ledger, dry=True))
            if self._settings.selection.then_list:
                await self._list_what_is_new(seen, compare, _Landmarks(ledger, dry=True))
        for error in self._listing_errors:
            raise error
        if listed is not None and self._settings.storage.delete:
            await self._delete(destination, ledger, listed, None)
        caps = [*self._caps.values(), *([] if self._settings.kms.rps is None else [self._settings.kms.rps])]
        quota = Quota(min(caps), "cap") if caps else None
        kms = predict(
            sample.requests,
            await look_at(store, sample.chosen),
            whole=sample.whole,
            quota=quota,
            foretold=sample.foretold,
            regions={store.region(source.bucket) for _, source in self._ownership.sources},
        )
        return forecast(self.summary(), objects=objects, size=size, gets=gets, escaped=self._escaped, kms=kms)

    def _told_by_earlier_runs(self, ledger: Ledger | None) -> Callable[[RemoteObject], float | None]:
        """Return what says for which share of the requests KMS was asked, when earlier runs fetched from there."""
        shares: dict[tuple[str, str], float] = {}
        if ledger is not None:
            asked = ledger.all_decrypts()
            places = [(source.bucket, source.prefix) for _, source in self._ownership.sources]
            known = {place: asked[place] for place in places if place in asked}
            shares = {place: each.charged / each.total for place, each in known.items() if each.total >= ENOUGH}

        def told(remote: RemoteObject) -> float | None:
            for (bucket, prefix), share in shares.items():
                if remote.bucket == bucket and remote.key.startswith(prefix):
                    return share
            return None

        return told

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
        verdict, judging = Verdict(), deletion.judge()
        while (sofar := await run_sync(next, judging, None)) is not None:  # a run may be stopped between any two
            verdict = sofar
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
            what = f"all {failed:,} objects were refused; the first one" if failed > 1 else "the one object was refused"
            raise AccessError(f"nothing could be read: {what}: {tally.failures[0].message}", code="AccessDenied")

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
        self,
        store: ObjectStore,
        destination: Destination,
        admission: Admission,
        ledger: Ledger | None,
        recorder: Recorder | None,
        way: WayMaker | None = None,
        *,
        several: bool | None = None,
    ) -> tuple[WayMaker, Diff]:
        """Return what compares this run's objects with the disk, and clears their way, as `way` does if there is one.

        Without a `recorder`, nothing on disk is changed.
        """
        settings, tally, dry = self._settings, self.tally, recorder is None
        strict = settings.selection.strict_keys
        way = way or WayMaker(
            store, destination, self._ownership, tally, strict=strict, dry=dry, ledger=ledger, recorder=recorder
        )
        return way, Diff(
            destination=destination,
            way=way,
            settings=settings,
            tally=tally,
            several=self._several if several is None else several,
            dry=dry,
            ledger=ledger,
            recorder=recorder,
            prover=Prover(destination, Checker(store, admission.pace_for, tally, settings.retry)),
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

    async def _list_what_is_new(self, store: ObjectStore, compare: _Compare, landmarks: _Landmarks) -> None:
        """List all sources, after their inventory: what that has named as it is now is left out."""
        self.names, self.tally.forgives_missing = None, False
        await self._list_and_compare(store, compare, landmarks)

    async def _nothing_under_way(self) -> None:
        """Wait until all that was named is done: no object may be under way twice."""
        while True:
            if not self.tally.pending:
                return
            await anyio.sleep(BETWEEN)

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

    async def _take_names(
        self, store: ObjectStore, names: Names | Inventory, found: MemoryObjectSendStream[_Found]
    ) -> None:
        """Take in what is named. What was named before it failed is worth fetching."""
        clashes, pages = _Foreseen(), 0

        async def take(page: Page) -> None:
            nonlocal pages
            pages += 1
            for source, mine in page.items():
                if self._foresees:
                    in_order = sorted(mine, key=lambda remote: encoded(remote.key))
                    self._escaped += clashes.count(pages, in_order, self._base(source))
                await found.send((source, mine))

        async with found:
            with self._listing(f"what {names.name} names cannot be looked up"):
                self._nothing_under_some |= not await self._intake.pages(store, names, take)

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
        clashes = _Foreseen()

        async def take(stretch: int, objects: Sequence[RemoteObject]) -> None:
            nonlocal anything
            anything = True
            passed.pass_by(objects[0].key)
            for remote in objects:
                if not remote.key.startswith(source.prefix):
                    raise SourceError(
                        f"{source.written} cannot be listed: the server names {remote.key!r}, which does not lie there"
                    )
            mine = await self._to_mirror(source, self._ownership.owned(index, objects))
            if self._foresees:
                self._escaped += clashes.count(stretch, mine, self._base(source))
            if mine:
                self.tally.list(len(mine))
                await found.send((source, mine))

        listers = max(1, LISTINGS // len(self._ownership.sources))
        await list_prefix(store, source.bucket, source.prefix, take, listers=listers, hints=hints)
        if not anything:
            await self._nothing_under(store, source)
        for key in clashes.between():
            page = await store.list_page(PageRequest(source.bucket, f"{self._base(source)}{key}/"))
            self._escaped += any(self._ownership.covers(source.bucket, remote.key) for remote in page.objects)

    async def _to_mirror(self, source: Source, listed: Sequence[RemoteObject]) -> Sequence[RemoteObject]:
        """Return those of a source's listed objects that are this run's, and still to be mirrored."""
        chosen, mine = self._settings.selection, listed
        if chosen.shard is not None:
            mine = chosen.shard.among(mine)
        if self._listed is not None and listed:
            keys = [remote.key for remote in mine]
            if chosen.shard is not None:  # directories that are empty in this shard may be another's
                keys += [remote.key for remote in listed if remote.key.endswith("/")]
            await run_sync(self._listed.add, source.bucket, keys)
        return await self._intake.new_among(source.bucket, mine) if chosen.then_list else mine

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
