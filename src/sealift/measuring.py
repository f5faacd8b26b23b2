"""What a run does each second, measured from totals that are counted anyway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from sealift.model import Ending, PaceSample
from sealift.pacing import Pace
from sealift.tally import Tally

EVERY = 1.0
"""Seconds between two samples: quotas are per second, and a night of them is 3 MB."""


class Sampler:
    """Takes samples of a run: what its totals have grown by since the last one."""

    def __init__(
        self,
        tally: Tally,
        pace: Pace,
        connections: Callable[[], int],
        *,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        """`connections` says how many GETs are under way; `clock` is that of `Tally.started`."""
        self._tally = tally
        self._pace = pace
        self._connections = connections
        self._clock = clock
        self._at = clock()
        self._totals = self._count()
        self._waited = pace.waited
        self._changes = pace.changes

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Take a sample every second while `work` goes on."""
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._keep_on)
            await work()
            beside.cancel_scope.cancel()

    def sample(self) -> None:
        """Tell the observer what happened since the last sample, and the tally how KMS was waited for."""
        now, tally, pace = self._clock(), self._tally, self._pace
        totals, waited, changes = self._count(), pace.waited, pace.changes
        bytes_, objects, gets, retries, asked, kms, s3 = (
            new - old for new, old in zip(totals, self._totals, strict=True)
        )
        sample = PaceSample(
            at=now - tally.started,
            seconds=now - self._at,
            bytes=bytes_,
            objects=objects,
            get_requests=gets,
            retries=retries,
            connections=self._connections(),
            kms_requests=asked,
            kms_throttled=kms,
            s3_throttled=s3,
            kms_wait=waited - self._waited,
            kms_rate=pace.rate,
            kms_quota=pace.quota,
            kms_changes=changes - self._changes,
            kms_down=pace.outage.on,
        )
        self._at, self._totals, self._waited, self._changes = now, totals, waited, changes
        tally.kms_wait += sample.kms_wait
        tally.kms_quota = sample.kms_quota
        tally.observer.measured(sample)

    async def _keep_on(self) -> None:
        while True:
            await anyio.sleep(EVERY)
            self.sample()

    def _count(self) -> tuple[int, ...]:
        tally = self._tally
        return (
            tally.bytes,
            tally.endings[Ending.DOWNLOADED],
            tally.get_requests,
            tally.retries,
            tally.kms_requests,
            tally.kms_throttled,
            tally.s3_throttled,
        )
