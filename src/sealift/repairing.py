"""Fetch again what is not right on disk, file by file as it is found: the stages of a mirror, without a listing.

1. Somebody looks for such files, and says which they are. S3 is not reached for before there is one.
2. A HEAD tells what is in S3 now. What is recorded tells of which source of what run the file was.
3. Everything from there on is a mirror's, but that what is on disk is not believed.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial as bind
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream
from anyio.to_thread import run_sync

from sealift.arranging import arrange
from sealift.config import Settings
from sealift.destination import Destination
from sealift.errors import ObjectError
from sealift.finding import Finder
from sealift.ledger import Ledger, Record
from sealift.model import RemoteObject, Summary
from sealift.placing import origin
from sealift.recording import Recorder
from sealift.running import Run, Stages
from sealift.runstate import begin_log, made_directory
from sealift.s3 import connected
from sealift.s3.persistent import PersistentStore
from sealift.selection import Source
from sealift.tally import Observer
from sealift.taskgroups import insulated, ungrouped

MENDERS = 16
"""Files to be repaired that are looked up at once: a HEAD takes 30 ms, so that many come to 500 a second."""

Mend = Callable[[Record], Awaitable[None]]
"""Hears of a file that is to be fetched again."""
Look = Callable[[Destination, Ledger, Mend], Awaitable[None]]
"""Finds files that are to be fetched again."""


@insulated
async def repair(
    look: Look, dest: str | os.PathLike[str], settings: Settings, *, observer: Observer | None = None
) -> Summary:
    """Fetch again what `look` finds in the directory `dest`, as it is found, and return what was done.

    S3 is not reached for before something was found. Raises what `sealift.mirroring.mirror` raises.
    """
    settings = replace(settings, storage=replace(settings.storage, force=True))
    run = Run((), settings, observer)
    with run.reported(), await run_sync(bind(Destination.open, Path(dest), create=True)) as destination:
        await run_sync(destination.lock)
        whole = await run_sync(made_directory, destination, settings)
        await arrange(destination, whole, None, run.warn_from_anywhere)
        with await run_sync(Ledger.open, whole, run.warn_from_anywhere) as ledger:
            sources = [Source.parse(f"s3://{bucket}") for bucket in ledger.buckets()]
            log = await run_sync(begin_log, destination, settings, [source.written for source in sources])
            run.observers.add(log)
            run.finder = Finder(sources, settings.selection, run.tally)
            with log.telling_how():
                await _repair(run, destination, ledger, look)
                run.judge()
    return run.summary()


async def _repair(run: Run, destination: Destination, ledger: Ledger, look: Look) -> None:
    """Fetch again what `look` finds. Raises RunError, ConfigError."""
    send, receive = anyio.create_memory_object_stream[Record](MENDERS)

    async def find() -> None:
        async with send:
            await look(destination, ledger, send.send)
        run.finder.to_list = 0

    with ungrouped():
        async with receive, anyio.create_task_group() as finding:
            finding.start_soon(find)
            async for first in receive:
                async with connected(run.settings, run.tally) as store:
                    await run.settle_caps(store)
                    work = bind(_mend, run, store, destination, ledger, first, receive)
                    await run.record(store, destination, ledger, work)


async def _mend(
    run: Run,
    store: PersistentStore,
    destination: Destination,
    ledger: Ledger,
    first: Record,
    others: MemoryObjectReceiveStream[Record],
    recorder: Recorder,
) -> None:
    """Fetch again what is recorded, as it is in S3 by now."""
    stages = Stages(run, store, destination, ledger, recorder)
    alone, among = stages.diff(several=False), stages.diff(several=True)

    async def mend(record: Record) -> None:
        bucket, key = record.seal.bucket, record.key
        run.tally.list(1)
        try:
            source, several = origin(record)
            remote = await store.head(bucket, key, None)
        except ObjectError as error:
            run.tally.fail(RemoteObject(bucket, key, record.size, record.etag, record.mtime_ns), error)
            return
        await recorder.has_room()
        await stages.compare(among if several else alone, source, [remote])

    async def mend_some() -> None:
        async for record in others:
            await mend(record)

    async def feed() -> None:
        await mend(first)
        async with anyio.create_task_group() as menders:
            for _ in range(MENDERS):
                menders.start_soon(mend_some)
        await stages.catch_up()
        stages.line.close()

    await stages.fetch(feed, recorder, lambda place: alone if place.under is None else among)
