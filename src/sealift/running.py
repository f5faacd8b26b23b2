"""One run, whatever it is for: what its stages share, and how they are wired behind what finds the objects.

1. **Diff**: objects are held against the disk. What is in place, or cannot be mirrored, ends here (`Stages.diff`).
2. **Plan**, **fetch**, **write**, **commit**: the others stand in line, and are carried out (`Stages.fetch`).
3. What has its place is recorded in the ledger (`sealift.recording`), behind the run's back (`Run.record`).
4. **Report**: at the end, all of the run amounts to a summary, and perhaps to an error (`Run.reported`, `Run.judge`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

import anyio
from anyio import from_thread
from anyio.to_thread import run_sync

from sealift.admission import Admission, no_region
from sealift.capping import settled_caps
from sealift.checking import Checker
from sealift.config import Durability, Settings
from sealift.crew.cluster import Cluster
from sealift.destination import Destination
from sealift.diff import Diff
from sealift.employing import crew_of
from sealift.errors import AccessError, ConfigError, LocalStorageError, ObjectError, SourceError
from sealift.fetch import Job
from sealift.fetching import fetch_all
from sealift.finding import Finder
from sealift.hopeless import Hopeless
from sealift.ledger import Ledger
from sealift.line import Line
from sealift.model import Ending, RemoteObject, Summary
from sealift.partial import sync_file_system
from sealift.placing import Place, TreeLanding, WayMaker
from sealift.proving import Prover
from sealift.recording import Recorder
from sealift.s3.persistent import PersistentStore
from sealift.s3.route import Access
from sealift.s3.store import ObjectStore
from sealift.selection import Source
from sealift.tally import Observer, Observers, Tally, reported
from sealift.taskgroups import ungrouped
from sealift.underway import UnderWay
from sealift.writing import Writer

JOBS_AHEAD = 2000
"""Objects that wait for a worker: two pages, about 2 MB."""

MOST_WAITING = JOBS_AHEAD
"""Objects that came again and wait for their job to end: no more than may be in line, about 1 MB."""


class Run:
    """What is set, found and counted in a run. `judge` it when its stages are done."""

    def __init__(
        self, sources: Sequence[Source], settings: Settings, observer: Observer | None, *, dry: bool = False
    ) -> None:
        """A `dry` one changes nothing on disk."""
        self.observers = Observers(observer)
        self.tally = Tally(self.observers, anyio.current_time())
        self.settings = settings
        self.finder = Finder(sources, settings.selection, self.tally, dry=dry)
        self.cluster: Cluster | None = None
        """Whose workers do the fetching, where it is not this machine's."""
        self.caps: dict[str, float] = {}
        """Requests to KMS a second, by the Region."""
        self.admission = Admission(settings.kms, no_region, {})
        """What paces the run's requests to KMS, once its caps are settled."""
        self._hopeless = Hopeless(self.tally)

    def summary(self) -> Summary:
        """Return what was done up to now."""
        return self.tally.summary(anyio.current_time(), complete=self.finder.to_list == 0)

    def warn(self, text: str) -> None:
        """Say what a person should know."""
        self.tally.observer.noted("warning", text)

    def warn_from_anywhere(self, text: str) -> None:
        """As `warn`, also from a worker thread."""
        try:
            from_thread.run_sync(self.warn, text)
        except RuntimeError:  # this is the event loop's thread
            self.warn(text)

    def reported(self) -> AbstractContextManager[None]:
        """Report on the way out: see `tally.reported`."""
        return reported(self.observers, self.summary)

    async def settle_caps(self, store: PersistentStore) -> None:
        """Turn a share of the account's KMS quotas into requests a second; take this shard's part.

        Raises ConfigError.
        """
        kms, self.caps = await settled_caps(store, self.settings, self._buckets(), self.tally.observer)
        self.settings = replace(self.settings, kms=kms)
        self.admission = Admission(kms, store.region, self.caps)
        store.guard(self.admission.aside)

    async def record(
        self,
        store: PersistentStore,
        destination: Destination,
        ledger: Ledger | None,
        work: Callable[[Recorder], Awaitable[None]],
    ) -> None:
        """Do what tells a recorder what becomes of files, and see that the ledger hears it. Raises RunError."""
        synced = self.settings.storage.durability is not Durability.NONE
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

    async def access(self, store: PersistentStore) -> Access | None:
        """Return what workers need to reach the sources' buckets by themselves; None where they cannot."""
        return await store.access_for(self._buckets())

    def judge(self) -> None:
        """Raise the RunError or ConfigError that the whole of the run amounts to, if it does."""
        errors = self.finder.errors
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

    def _buckets(self) -> set[str]:
        return {source.bucket for _, source in self.finder.ownership.sources}

    async def _watch_for_refusals(self, store: ObjectStore) -> None:
        """End the run where nothing at all can be read. Raises AccessError."""
        ownership = self.finder.ownership
        places = [(source.bucket, source.prefix) for _, source in ownership.sources]

        def pick(objects: Sequence[RemoteObject]) -> list[RemoteObject]:
            return [remote for remote in objects if ownership.covers(remote.bucket, remote.key)]

        with suppress(SourceError, ObjectError, ConfigError):  # whoever lists it says why
            await self._hopeless.watch(store, places, pick, self.admission.aside)


class Stages:
    """What an object of a run goes through, from a store to a destination."""

    def __init__(
        self,
        run: Run,
        store: PersistentStore,
        destination: Destination,
        ledger: Ledger | None,
        recorder: Recorder | None,
        *,
        seen: ObjectStore | None = None,
    ) -> None:
        """`seen` is the store as it is to be seen, if not as it is. Without a `recorder` nothing on disk is changed."""
        settings = run.settings
        self.line: Line[Job] = Line(JOBS_AHEAD)
        """Where what `diff` finds missing is to wait."""
        self._under_way: UnderWay[tuple[Diff, Source]] = UnderWay()
        self._run = run
        self._store = store
        self._seen = seen or store
        self._destination = destination
        self._ledger = ledger
        self._recorder = recorder
        self._admission = run.admission
        self._way = WayMaker(
            self._seen,
            destination,
            run.finder.ownership,
            run.tally,
            strict=settings.selection.strict_keys,
            dry=recorder is None,
            ledger=ledger,
            recorder=recorder,
        )

    def diff(self, *, several: bool | None = None) -> Diff:
        """Return what compares objects with the disk, and clears their way.

        `several`: each bucket has a directory of its own, where that is not as it is for the whole run.
        """
        run, settings = self._run, self._run.settings
        return Diff(
            destination=self._destination,
            way=self._way,
            settings=settings,
            tally=run.tally,
            several=run.finder.several if several is None else several,
            dry=self._recorder is None,
            ledger=self._ledger,
            recorder=self._recorder,
            prover=Prover(self._destination, Checker(self._seen, self._admission.pace_for, run.tally, settings.retry)),
        )

    async def compare(self, diff: Diff, source: Source, remotes: Sequence[RemoteObject]) -> None:
        """Let `diff` look at some objects, and put in line what is to be fetched of them. Raises RunError.

        What comes again while its object is under way is looked at later: `catch_up` with it in the end.
        """
        await self._compare(diff, source, remotes)
        await self.catch_up(MOST_WAITING)

    async def catch_up(self, most: int = 0) -> None:
        """Look at what came again and whose job has ended, until at most so many wait. Raises RunError."""
        while True:
            while freed := self._under_way.freed():
                if self._recorder is not None:
                    await self._recorder.flush()  # what has come to its place is looked up
                for (diff, source), remotes in freed.items():
                    await self._compare(diff, source, remotes, again=True)
            if self._under_way.waiting <= most:
                return
            await self._under_way.changed.wait()

    async def _compare(
        self, diff: Diff, source: Source, remotes: Sequence[RemoteObject], *, again: bool = False
    ) -> None:
        told = diff, source
        jobs = await diff.jobs(source, self._under_way.put_off(remotes, told), again=again)
        begun, doubled = self._under_way.begin(jobs, told)
        for job in doubled:
            self._run.tally.observer.restarted(job.due, 0)
        for job in begun:
            await self.line.add(job)

    async def fetch(
        self, feed: Callable[[], Awaitable[None]], recorder: Recorder, compared_by: Callable[[Place], Diff]
    ) -> AbstractSet[str]:
        """Fetch what `feed` puts in line, and return which partial files are worth keeping. Raises RunError.

        `compared_by` says what has compared the object of a place, and does so again where that has changed.
        """
        run, destination, durability = self._run, self._destination, self._run.settings.storage.durability

        async def start_over(job: Job, fresh: RemoteObject) -> None:
            if isinstance(place := job.target, Place):
                for again in await compared_by(place).jobs(place.source, [fresh], restarts=job.restarts + 1):
                    self._under_way.go_on(again)
                    self.line.add_again(again)

        access = await run.access(self._store)
        kept = await fetch_all(
            feed,
            store=self._store,
            line=self.line,
            landing=TreeLanding(destination, self._way, durability, recorder),
            settings=run.settings,
            tally=run.tally,
            start_over=start_over,
            over=self._under_way.over,
            admission=self._admission,
            writer=Writer(destination, destination.partial_fd, durability),
            wire=access is not None,
            crew_of=crew_of(run.settings, destination, access, run.cluster),
            cluster=0 if run.cluster is None else run.cluster.size,
        )
        if durability is not Durability.NONE:
            await run_sync(sync_file_system, destination.partial_fd)  # the last names are on the disk as well
        return kept
