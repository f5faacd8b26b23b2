"""What a run does each second, measured from totals that are counted anyway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import anyio

from sealift.admission import Admission
from sealift.model import Ending, PaceSample
from sealift.tally import Tally

EVERY = 1.0
"""Seconds between two samples: quotas are per second, and a night of them is 3 MB."""


class Sampler:
    """Takes samples of a run: what its totals have grown by since the last one."""

    def __init__(
        self,
        tally: Tally,
        admission: Admission,
        connections: Callable[[], int],
        *,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        """`connections` says how many GETs are under way; `clock` is that of `Tally.started`."""
        self._tally = tally
        self._admission = admission
        self._connections = connections
        self._clock = clock
        self._at = clock()
        self._totals = self._count()
        self._waited, self._changes = self._waiting()

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Take a sample every second while `work` goes on."""
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._keep_on)
            await work()
            beside.cancel_scope.cancel()

    def sample(self) -> None:
        """Tell the observer what happened since the last sample, and the tally how KMS was waited for."""
        now, tally, paces = self._clock(), self._tally, self._admission.paces
        totals, (waited, changes) = self._count(), self._waiting()
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
            kms_rate=_sum(pace.rate for pace in paces),
            kms_quota=_sum(pace.quota for pace in paces),
            kms_changes=changes - self._changes,
            kms_down=any(pace.outage.on for pace in paces),
            s3_rate=self._admission.s3_rate,
        )
        self._at, self._totals, self._waited, self._changes = now, totals, waited, changes
        tally.kms_wait += sample.kms_wait
        tally.kms_quota = sample.kms_quota
        tally.observer.measured(sample)
        self._admission.tick()

    async def _keep_on(self) -> None:
        while True:
            await anyio.sleep(EVERY)
            self.sample()

    def _waiting(self) -> tuple[float, int]:
        """Return for how long something waited for KMS, wherever it did longest, and how often a pace has changed."""
        paces = self._admission.paces
        return max((pace.waited for pace in paces), default=0.0), sum(pace.changes for pace in paces)

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


def _sum(rates: Iterable[float | None]) -> float | None:
    """Return the sum of those that there are; None if there are none."""
    there = [rate for rate in rates if rate is not None]
    return sum(there) if there else None
