"""Which workers a run may have besides its own lanes: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial as bind

from sealift.concurrency import Share
from sealift.config import Settings, TransferSettings
from sealift.crew.cluster import BYTES_AHEAD, GATHERING, Cluster
from sealift.crew.parent import Crew, start_process
from sealift.crew.rule import CrewRule
from sealift.crew.sharing import mark_of
from sealift.crew.worker import Orders
from sealift.destination import Destination
from sealift.fetch import Fetcher
from sealift.fetching import CrewOf, descriptors
from sealift.s3.route import Access
from sealift.tally import Observer


@asynccontextmanager
async def workers_elsewhere(transfer: TransferSettings, observer: Observer) -> AsyncIterator[Cluster | None]:
    """Reach the cluster that does the fetching, if one is to. Raises ConfigError."""
    if transfer.dask is None:
        yield None
        return
    async with Cluster(transfer.dask, most=transfer.processes, noted=bind(observer.noted, "info")) as cluster:
        yield cluster


def crew_of(
    settings: Settings, destination: Destination, access: Access | None, cluster: Cluster | None
) -> CrewOf | None:
    """Return what makes a crew of workers, here or elsewhere; None where there can be none."""
    if access is None and cluster is None:
        return None
    return bind(_crew, settings, destination, access, cluster)


def _crew(
    settings: Settings,
    destination: Destination,
    access: Access | None,
    cluster: Cluster | None,
    rule: CrewRule,
    initial: Share | None,
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
