"""A line of objects, the fetcher that decides about them, and those who carry out what it decides."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial as bind

import anyio
import anyio.lowlevel
from anyio.to_thread import run_sync

from sealift.admission import Admission
from sealift.bandwidth import Bandwidth
from sealift.concurrency import HIGHEST, Share
from sealift.config import SPARE_DESCRIPTORS, Settings, TransferSettings
from sealift.crew.parent import Crew, cores
from sealift.crew.rule import LOOK_EVERY, CrewRule
from sealift.fetch import Fetcher, Job, Landing
from sealift.lanes import Lanes
from sealift.line import Line
from sealift.measuring import Sampler
from sealift.model import RemoteObject
from sealift.s3.store import ObjectStore
from sealift.tally import Tally
from sealift.taskgroups import ungrouped
from sealift.writing import Writer

CrewOf = Callable[[CrewRule, Share | None, Fetcher, Callable[[], Awaitable[None]]], Crew]
"""Makes a crew for a fetcher, of as many workers as the rule says, with so many lanes each to begin with or as many as
there are in its share; the last argument is to be awaited before they are given anything to do."""


async def fetch_all(
    feed: Callable[[], Awaitable[None]],
    *,
    store: ObjectStore,
    line: Line[Job],
    landing: Landing,
    settings: Settings,
    tally: Tally,
    start_over: Callable[[Job, RemoteObject], Awaitable[None]],
    over: Callable[[Job], None],
    admission: Admission,
    writer: Writer,
    wire: bool,
    crew_of: CrewOf | None = None,
    cluster: int = 0,
) -> frozenset[str]:
    """Fetch what `feed` puts in the line and closes it, and return which partial files wait for the next run.

    On the `wire`, how many GETs are under way at once is found out, if nobody chose it; the SDK's pool has a fixed
    size. Where a crew of worker processes may help out, `crew_of` makes it; one of so many workers of a `cluster`
    does all of the fetching. The observer hears of each second.
    Whatever happens, what is on disk of unfinished objects is recorded on the way out. Raises RunError.
    """
    fetchers: list[Fetcher] = []
    sampler = Sampler(tally, admission, lambda: sum(fetcher.under_way for fetcher in fetchers))
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
                    over=over,
                    admission=admission,
                )
                transfer = settings.transfer
                room = transfer.lanes(descriptors())
                lanes = Lanes(
                    store=store,
                    decider=fetcher,
                    writer=writer,
                    bandwidth=Bandwidth(transfer.share_of_bandwidth(1)),
                    most=room if wire else min(room, transfer.workers),
                    found_out=wire and transfer.concurrency is None,
                )
                fetcher.call_off = lanes.call_off
                fetchers.append(fetcher)
                rule = (
                    CrewRule.of_cluster(cluster)
                    if cluster
                    else CrewRule(chosen=transfer.processes, cores=cores(), lanes=room)
                )
                carry_out = lanes.run
                if crew_of is not None and cluster:
                    carry_out = bind(_leave_to_others, lanes, fetcher, transfer, rule, crew_of)
                elif crew_of is not None and rule.workers:
                    carry_out = bind(_share_out, lanes, line, fetcher, transfer, rule, crew_of)
                tasks.start_soon(sampler.during, carry_out)
                await feed()
    finally:
        sampler.sample()
        with anyio.CancelScope(shield=True):
            for fetcher in fetchers:
                await run_sync(fetcher.keep)
    return frozenset(fetchers[0].kept)


async def _share_out(
    lanes: Lanes, line: Line[Job], fetcher: Fetcher, transfer: TransferSettings, rule: CrewRule, crew_of: CrewOf
) -> None:
    """Let lanes of this process carry attempts out, and workers as well from when that pays."""
    async with anyio.create_task_group() as everybody:
        everybody.start_soon(lanes.run)
        if not await _crew_pays(lanes, line, rule):
            return
        most = transfer.lanes(descriptors())

        async def make_room() -> None:
            await lanes.make_room(
                most=most // rule.shares if rule.joins_in else 0,
                bandwidth=transfer.share_of_bandwidth(rule.shares),
            )

        initial = lanes.share(rule.shares) if transfer.concurrency is None else None
        crew = crew_of(rule, initial, fetcher, make_room)

        def call_off(number: int) -> None:
            lanes.call_off(number)
            crew.call_off(number)

        fetcher.call_off = call_off
        await crew.run()


async def _leave_to_others(
    lanes: Lanes, fetcher: Fetcher, transfer: TransferSettings, rule: CrewRule, crew_of: CrewOf
) -> None:
    """Let workers carry all attempts out, each of which begins with as many lanes as one process would."""
    crew = crew_of(rule, lanes.share(1) if transfer.concurrency is None else None, fetcher, anyio.lowlevel.checkpoint)
    fetcher.call_off = crew.call_off
    await crew.run()


async def _crew_pays(lanes: Lanes, line: Line[Job], rule: CrewRule) -> bool:
    """Watch this process's event loop until it has become what limits the run; False if the run ends before."""
    while not rule.due:
        cpu, began, done = time.thread_time(), time.monotonic(), lanes.done
        with anyio.move_on_after(LOOK_EVERY):
            await lanes.finished.wait()
        if lanes.finished.is_set():
            return False
        elapsed = time.monotonic() - began
        pace = (lanes.done - done) / elapsed
        rule.look(time.thread_time() - cpu, elapsed, left=bind(_left, line, pace), more=not line.closed)
    return True


def _left(line: Line[Job], pace: float) -> float:
    """Return how many seconds what waits takes at a pace."""
    return sum(job.left for job in line.waiting()) / pace if pace else math.inf


def descriptors() -> int:
    """Return how many files and connections this process may have open, after asking for enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HIGHEST + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):  # some systems forbid even that
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return wanted if soft == resource.RLIM_INFINITY else soft
