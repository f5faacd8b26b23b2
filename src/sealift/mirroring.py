"""Mirror S3 prefixes onto local disk: the stages, wired in one task group.

1. **List**: what the sources hold is found, and goes downstream page by page as it comes (`sealift.finding`).
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
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from functools import partial as bind
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sealift.arranging import arrange
from sealift.config import Settings, refuse_combinations
from sealift.deleting import Deletion, delete
from sealift.destination import OWN_DIRECTORY, Destination
from sealift.employing import workers_elsewhere
from sealift.kmscost import ENOUGH, Sample, predict
from sealift.ledger import Ledger
from sealift.listed import Listed
from sealift.model import Forecast, RemoteObject, Summary
from sealift.quota import Quota
from sealift.recording import Recorder
from sealift.running import Run, Stages
from sealift.runstate import begin_listed, begin_log, made_directory, open_ledger, open_names
from sealift.s3 import connected
from sealift.s3.persistent import PersistentStore
from sealift.sampling import look_at
from sealift.selection import Ownership, Source, parse_sources
from sealift.shards import missing, open_to_read, part_of, present
from sealift.snapshot import as_it_was
from sealift.tally import Observer, forecast
from sealift.taskgroups import insulated, ungrouped

BETWEEN = 0.05
"""Seconds between looks whether all that an inventory has named is done, before the sources are listed."""


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
    run = Run(parse_sources(sources), settings, observer)
    shard = settings.selection.shard
    name = None if shard is None else shard.name
    with run.reported(), await run_sync(bind(Destination.open, Path(dest), create=True, shard=name)) as destination:
        await run_sync(destination.lock, name)
        whole = await run_sync(made_directory, destination, settings)
        await arrange(destination, whole, shard, run.warn_from_anywhere)
        state = whole if shard is None else part_of(whole, shard)
        log = await run_sync(begin_log, destination, settings, sources)
        run.observers.add(log)
        with (
            log.telling_how(),
            await run_sync(open_ledger, whole, settings, run.warn_from_anywhere) or nullcontext() as ledger,
            await run_sync(begin_listed, settings, state) or nullcontext() as listed,
            await run_sync(open_names, settings) or nullcontext() as names,
        ):
            run.finder.use(ledger, listed, names)
            async with connected(settings, run.tally) as store:
                await run.settle_caps(store)
                async with (
                    run.finder.inventory(store, state, settings.retry, run.admission.aside),
                    workers_elsewhere(settings.transfer, run.tally.observer) as run.cluster,
                ):
                    await _mirror(run, store, destination, ledger, listed)
            await _name_missing_shards(run, whole)
            run.judge()
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
    run = Run(parse_sources(sources), settings, observer, dry=True)
    sample = Sample()
    run.observers.add(sample)
    with run.reported(), await run_sync(bind(Destination.open, Path(dest), create=False)) as destination:
        whole = settings.storage.state or destination.path / OWN_DIRECTORY
        shard = settings.selection.shard
        with (
            await run_sync(open_to_read, whole, shard, run.warn_from_anywhere) or nullcontext() as ledger,
            await run_sync(begin_listed, settings, None) or nullcontext() as listed,
            await run_sync(open_names, settings) or nullcontext() as names,
        ):
            run.finder.use(ledger, listed, names)
            async with connected(settings, run.tally) as store:
                await run.settle_caps(store)
                async with run.finder.inventory(store, None, settings.retry, run.admission.aside):
                    return await _forecast(run, store, destination, ledger, listed, sample)


async def _mirror(
    run: Run, store: PersistentStore, destination: Destination, ledger: Ledger | None, listed: Listed | None
) -> None:
    """Run the stages. Raises RunError for what ends the run at once; `Run.judge` looks at the rest.

    `listed` takes down what is listed, where files are to be deleted, or named.
    """

    async def work(recorder: Recorder) -> None:
        await _find_and_fetch(run, store, destination, ledger, recorder)
        if listed is not None and run.settings.storage.delete:
            await recorder.flush()
            await _delete(run, destination, ledger, listed, recorder)

    await run.record(store, destination, ledger, work)


async def _find_and_fetch(
    run: Run, store: PersistentStore, destination: Destination, ledger: Ledger | None, recorder: Recorder
) -> None:
    """List, diff, plan and fetch, all at the same time."""
    chosen, finder = run.settings.selection, run.finder
    seen = as_it_was(store, chosen.as_of, run.tally.observer)
    stages = Stages(run, store, destination, ledger, recorder, seen=seen)
    diff = stages.diff()

    async def compare(source: Source, remotes: Sequence[RemoteObject]) -> None:
        await recorder.has_room()
        await stages.compare(diff, source, remotes)

    async def feed() -> None:
        nonlocal diff
        await finder.find(seen, compare)
        await stages.catch_up()
        if chosen.then_list:
            await _nothing_under_way(run)
            await recorder.flush()
            if ledger is not None:
                ledger.empty = False
            diff = stages.diff()
            await finder.find_what_is_new(seen, compare)
            await stages.catch_up()
        if finder.all_listed:
            await run_sync(diff.drop_useless)
        stages.line.close()

    kept = await stages.fetch(feed, recorder, lambda _: diff)
    if finder.all_listed:
        await run_sync(_clean, destination, kept)


async def _forecast(
    run: Run,
    store: PersistentStore,
    destination: Destination,
    ledger: Ledger | None,
    listed: Listed | None,
    sample: Sample,
) -> Forecast:
    """List and compare, and sum up what would be fetched and deleted. Raises RunError, ConfigError.

    How objects are encrypted is looked up of those that `sample`, which hears what is planned, has chosen among those
    of which earlier runs do not tell.
    """
    finder, limits = run.finder, run.settings.kms
    seen = as_it_was(store, run.settings.selection.as_of, run.tally.observer)
    diff = Stages(run, store, destination, ledger, None, seen=seen).diff()
    objects = size = gets = escaped = 0

    async def compare(source: Source, remotes: Sequence[RemoteObject]) -> None:
        nonlocal objects, size, gets, escaped
        need = await diff.need(source, remotes)
        objects += need.objects
        size += need.size
        gets += need.gets
        escaped += need.escaped

    sample.earlier = await run_sync(_told_by_earlier_runs, ledger, finder.ownership)
    with ungrouped():
        await finder.find(seen, compare)
        if run.settings.selection.then_list:
            await finder.find_what_is_new(seen, compare)
    for error in finder.errors:
        raise error
    if listed is not None and run.settings.storage.delete:
        await _delete(run, destination, ledger, listed, None)
    caps = [*run.caps.values(), *([] if limits.rps is None else [limits.rps])]
    quota = Quota(min(caps), "cap") if caps else None
    kms = predict(
        sample.requests,
        await look_at(store, sample.chosen),
        whole=sample.whole,
        quota=quota,
        foretold=sample.foretold,
        regions={store.region(source.bucket) for _, source in finder.ownership.sources},
    )
    return forecast(run.summary(), objects=objects, size=size, gets=gets, escaped=escaped + finder.escaped, kms=kms)


def _told_by_earlier_runs(ledger: Ledger | None, ownership: Ownership) -> Callable[[RemoteObject], float | None]:
    """Return what says for which share of the requests KMS was asked, when earlier runs fetched from there."""
    shares: dict[tuple[str, str], float] = {}
    if ledger is not None:
        asked = ledger.all_decrypts()
        places = [(source.bucket, source.prefix) for _, source in ownership.sources]
        known = {place: asked[place] for place in places if place in asked}
        shares = {place: each.charged / each.total for place, each in known.items() if each.total >= ENOUGH}

    def told(remote: RemoteObject) -> float | None:
        for (bucket, prefix), share in shares.items():
            if remote.bucket == bucket and remote.key.startswith(prefix):
                return share
        return None

    return told


async def _delete(
    run: Run, destination: Destination, ledger: Ledger | None, listed: Listed, recorder: Recorder | None
) -> None:
    """Delete files whose object is gone; without a `recorder`, say which. Raises RunError."""
    why = _why_not_to_delete(run, ledger, dry=recorder is None)
    if why:
        run.warn(f"nothing is deleted: {why}")
    if ledger is None or why:
        return
    run.judge()  # a run that failed as a whole deletes nothing
    deletion = Deletion(destination, ledger, listed, run.finder.ownership, several=run.finder.several)
    await delete(deletion, run.settings.storage.max_delete, run.tally, recorder)


def _why_not_to_delete(run: Run, ledger: Ledger | None, *, dry: bool) -> str:
    """Return why no file may be deleted, if there is a reason."""
    if run.finder.to_list:
        return "not every listing has reached its end"
    if run.finder.nothing_under_some:
        return "nothing lies under one of the sources"
    if ledger is None and not dry:  # a dry run finds none before the first real one
        return "there is no ledger that would say which files are Sealift's own"
    return ""


async def _nothing_under_way(run: Run) -> None:
    """Wait until all that was named is done: no object may be under way twice."""
    while True:
        if not run.tally.pending:
            return
        await anyio.sleep(BETWEEN)


async def _name_missing_shards(run: Run, whole: Path) -> None:
    """Say which shards have never run."""
    if run.settings.selection.shard is not None:
        names = ", ".join(map(str, missing(await run_sync(present, whole))))
        if names:
            run.tally.observer.noted("info", f"shards that have not run yet: {names}")


def _clean(destination: Destination, kept: AbstractSet[str]) -> None:
    """Drop what earlier runs left and no object of this one, which has seen them all, goes on with."""
    destination.abandon(destination.partials() - kept)
