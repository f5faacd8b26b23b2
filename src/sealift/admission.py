"""Which GETs may be sent now: at KMS's pace those for which it is asked, at S3's all of a bucket.

1. A quota of KMS's is that of the caller's account in the key's Region, which is the bucket's. So all buckets of a
   Region share a `Pace`. Custom key stores have quotas of their own, but nothing says beforehand which keys are in
   one: where a refusal speaks of one, its bucket has a Pace of its own from then on.
2. S3 counts requests by the prefix, and nobody knows how it cuts them: so by the bucket. Its pace is unlimited until S3
   asks for fewer requests, and then found out by the same rule as that of KMS.
3. Neither holds back what it is not about. An object for which KMS is most likely not asked (`sealift.neighbours`)
   needs no permit; under a cap, which is never exceeded, it is counted until its answer shows that KMS was not asked.
   Objects of directories of which nothing is known yet go before those that are known to be charged.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from sealift.config import KmsSettings
from sealift.governor import WINDOW, Cap, Governor
from sealift.model import RemoteObject
from sealift.neighbours import Neighbours
from sealift.pacing import Pace, Permit
from sealift.timetable import Timetable, local_time

SHORT = 0.25
"""Seconds below which a count tells no rate."""


UNCAPPED = 1e6
"""Requests a second of a cap that holds nothing back, at those times of the day at which there is none: ten times the
highest quota of any Region."""


class Wanted(Protocol):
    """What is to be fetched, as far as it matters here."""

    remote: RemoteObject
    to_open: bool
    """It cannot be asked for yet, and needs no leave."""
    charged: bool
    """KMS is asked for it, as far as is known."""
    refused: bool
    """KMS has refused it."""


class Way:
    """The leave that some GETs of a bucket need: a `line.Leave`."""

    __slots__ = ("_bucket", "_clock", "_reserves", "pace", "rank")

    def __init__(
        self, bucket: Bucket, pace: Pace | None, clock: Callable[[], float], *, reserves: bool = False, rank: int = 1
    ) -> None:
        self.rank = rank
        """See `Leave.rank`."""
        self._bucket = bucket
        self.pace = pace
        """That of KMS, where it is to be asked or may be."""
        self._reserves = reserves
        self._clock = clock

    def take(self) -> float:
        """See `Leave.take`."""
        now, s3 = self._clock(), self._bucket.s3
        seconds = s3.wait(now)
        if not seconds and self.pace is not None:
            seconds = self.pace.reserve() if self._reserves else self.pace.take()
        if not seconds:
            s3.take(now, 1)
        return seconds

    def give_back(self) -> None:
        """See `Leave.give_back`."""
        now, permit = self._clock(), self.permit()
        self._bucket.s3.give_back(now)
        if permit is not None:
            permit.not_needed(now)

    def permit(self) -> Permit | None:
        """Return what is to hear of the GET for which leave was just taken, if KMS may be asked for it."""
        return None if self.pace is None else Permit(self.pace, reserved=self._reserves)


class Bucket:
    """What paces the GETs of one bucket."""

    __slots__ = (
        "_clock", "answered", "answers", "charged", "lately", "neighbours", "pace", "probably_free", "region", "s3",
        "slowed", "uncharged", "unproven",
    )  # fmt: skip

    def __init__(self, region: str, pace: Pace, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.s3 = Governor()
        self.slowed = False
        """Whether S3 has asked for fewer requests."""
        self.answers = self.answered = 0
        """GETs that S3 has answered, and how many they were at the last tick."""
        self.lately = 0.0
        """… and a second, between the last two ticks."""
        self.neighbours = Neighbours()
        self.belong(region, pace)

    def belong(self, region: str, pace: Pace) -> None:
        """Be in this Region from now on, nothing where it is not known, and under its quota."""
        self.region = region
        self.pace = pace
        self.charged = Way(self, pace, self._clock)
        self.unproven = Way(self, pace, self._clock, rank=0)
        self.probably_free = Way(self, pace if pace.capped else None, self._clock, reserves=True)
        self.uncharged = Way(self, None, self._clock)

    def tick(self, seconds: float) -> None:
        """Let so many seconds end."""
        self.lately = (self.answers - self.answered) / max(seconds, SHORT)
        self.answered = self.answers


class Admission:
    """The paces of a run. `leave` is the `line.Gate` of its jobs."""

    def __init__(
        self,
        kms: KmsSettings,
        region: Callable[[str], str],
        caps: Mapping[str, float],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], dt.time] = local_time,
    ) -> None:
        """`region` says in which Region a bucket is, as far as is known; `caps` are those of single Regions."""
        self._kms = kms
        self._region = region
        self._caps = caps
        self._clock = clock
        self._wall = wall
        self._hours = Timetable(kms.rps, kms.timetable)
        self._common = Cap(self._cap_now()) if kms.timetable or kms.rps is not None else None
        self._capped = self._common is not None or bool(caps)
        self._slowed = False
        self._paces: dict[tuple[str, str], Pace] = {}
        self._buckets: dict[str, Bucket] = {}
        self._apart: set[str] = set()
        self._ticked = clock()
        self.look_again: Callable[[], None] = _nobody
        """Called when there may be leave earlier than was said. Set by whoever waits for it."""

    @property
    def paces(self) -> Collection[Pace]:
        """Those of all quotas of KMS's that were met."""
        return self._paces.values()

    @property
    def paced(self) -> bool:
        """Whether there is a cap, or something is refused: what has leave then is to be sent at once."""
        return self._capped or self._slowed or any(pace.limits for pace in self._paces.values())

    @property
    def s3_rate(self) -> float | None:
        """Requests a second that may be sent to buckets of which S3 has refused some; None: there are none."""
        rates = [bucket.s3.rate for bucket in self._buckets.values() if bucket.s3.rate is not None]
        return sum(rates) if rates else None

    def leave(self, wanted: Wanted) -> Way | None:
        """Return what leave the next GET of `wanted` needs; None: none."""
        if wanted.to_open:
            return None
        remote = wanted.remote
        bucket = self._buckets.get(remote.bucket)
        if bucket is None or not bucket.region:
            bucket = self.bucket(remote.bucket)
        if wanted.charged and bucket.pace.limits:
            charged = wanted.refused or bucket.neighbours.charged(remote.key)
            if charged is None:
                return bucket.unproven
            if charged:
                return bucket.charged
            if bucket.pace.capped:
                return bucket.probably_free
        return bucket.uncharged if bucket.slowed else None

    def pace_for(self, remote: RemoteObject) -> Pace:
        """Return the pace of the KMS that is asked for an object."""
        return self.bucket(remote.bucket).pace

    def bucket(self, name: str) -> Bucket:
        """Return what paces the GETs of a bucket."""
        known, region = self._buckets.get(name), self._region(name)
        if known is None:
            known = self._buckets[name] = Bucket(region, self._pace(region), self._clock)
        elif known.region != region:
            known.belong(region, self._pace(region, name if name in self._apart else ""))
        return known

    @asynccontextmanager
    async def aside(self, bucket: str) -> AsyncIterator[Callable[[], None] | None]:
        """Wait, under a cap, for leave for a GET that stands in no line: see `store.Leave`.

        Without one it goes at once: there are few of them.
        """
        pace = self.bucket(bucket).pace
        if not pace.capped:
            yield None
            return
        with await pace.permit() as permit:
            yield permit.going

    def answered(self, wanted: Wanted, permit: Permit | None, sent: float, *, charged: bool) -> float | None:
        """Hear that S3 has answered what was sent with `permit` at `sent`; `charged`: KMS was asked, and granted it.

        Return how many seconds KMS was down until now, if it was.
        """
        remote = wanted.remote
        bucket = self._buckets[remote.bucket]
        bucket.answers += 1
        if bucket.slowed:
            changes = bucket.s3.changes
            bucket.s3.succeeded(self._clock(), sent)
            if bucket.s3.changes != changes:
                self.look_again()
        if bucket.pace.limits:
            bucket.neighbours.learn(remote.key, charged=charged)
        if charged:
            return bucket.pace.succeeded(sent)
        if permit is not None:
            permit.not_needed(sent)
        return None

    def refused(self, wanted: Wanted, sent: float, *, key_store: bool) -> float | None:
        """Hear that KMS has refused what was sent at `sent`, for its rate. Return what `answered` returns.

        `key_store`: it was a custom key store that did.
        """
        remote = wanted.remote
        bucket = self.bucket(remote.bucket)
        if key_store and remote.bucket not in self._apart:
            self._apart.add(remote.bucket)
            bucket.belong(bucket.region, self._pace(bucket.region, remote.bucket))
        bucket.neighbours.learn(remote.key, charged=True)
        return bucket.pace.refused(sent)

    def slowed(self, wanted: Wanted, sent: float) -> None:
        """Hear that S3 asks for fewer requests."""
        bucket, now = self.bucket(wanted.remote.bucket), self._clock()
        if not bucket.slowed:
            bucket.slowed = self._slowed = True
            before = bucket.lately * max(0.0, WINDOW - (now - self._ticked))
            bucket.s3.begin(now, bucket.answers - bucket.answered + int(before))
        bucket.s3.refused(now, sent)

    def tick(self) -> None:
        """Let a second pass, and keep to the timetable.

        What S3 has answered in it tells its rate, should it refuse something in the next.
        """
        now = self._clock()
        if self._common is not None and self._hours.slots:
            self._common.change(self._cap_now())
        seconds, self._ticked = now - self._ticked, now
        for bucket in self._buckets.values():
            bucket.tick(seconds)

    def _hurry(self) -> None:
        self.look_again()

    def _cap_now(self) -> float:
        """Return the cap of this time of the day."""
        rate = self._hours.rate(self._wall())
        return UNCAPPED if rate is None else rate

    def _pace(self, region: str, apart: str = "") -> Pace:
        pace = self._paces.get((region, apart))
        if pace is None and region and not apart:
            pace = self._paces.pop(("", ""), None)  # what was found out before the Region was known holds for it
            if pace is not None:
                self._paces[region, ""] = pace
        if pace is None:
            pace = self._paces[region, apart] = Pace(
                self._caps.get(region, min(self._caps.values(), default=None)),
                common=self._common,
                patience=self._kms.patience,
                look_again=self._hurry,
                clock=self._clock,
            )
        return pace


def no_region(_bucket: str) -> str:
    """Return the Region of a bucket before anybody knows one."""
    return ""


def _nobody() -> None:
    """Tell nobody."""
