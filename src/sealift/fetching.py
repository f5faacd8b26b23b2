"""A line of objects, the fetcher that decides about them, and those who carry out what it decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.to_thread import run_sync

from sealift.bandwidth import Bandwidth
from sealift.config import Settings
from sealift.fetch import Fetcher, Job, Landing
from sealift.lanes import Lanes
from sealift.line import Line
from sealift.model import RemoteObject
from sealift.s3.store import ObjectStore
from sealift.tally import Tally
from sealift.taskgroups import ungrouped
from sealift.writing import Writer


async def fetch_all(
    feed: Callable[[], Awaitable[None]],
    *,
    store: ObjectStore,
    line: Line[Job],
    landing: Landing,
    settings: Settings,
    tally: Tally,
    start_over: Callable[[Job, RemoteObject], Awaitable[None]],
    writer: Writer,
) -> frozenset[str]:
    """Fetch what `feed` puts in the line and closes it, and return which partial files wait for the next run.

    Whatever happens, what is on disk of unfinished objects is recorded on the way out. Raises RunError.
    """
    fetchers: list[Fetcher] = []
    try:
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                fetcher = Fetcher(
                    store=store,
                    line=line,
                    landing=landing,
                    settings=settings,
                    tally=tally,
                    tasks=tasks,
                    start_over=start_over,
                )
                lanes = Lanes(
                    store=store,
                    decider=fetcher,
                    writer=writer,
                    bandwidth=Bandwidth(settings.transfer.max_bandwidth),
                    most=settings.transfer.lanes,
                )
                fetcher.call_off = lanes.call_off
                fetchers.append(fetcher)
                tasks.start_soon(lanes.run)
                await feed()
    finally:
        with anyio.CancelScope(shield=True):
            for fetcher in fetchers:
                await run_sync(fetcher.keep)
    return frozenset(fetchers[0].kept)
