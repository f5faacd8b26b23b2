"""Tasks that carry out attempts: one GET each at a time, its bytes written as they come.

A lane holds one connection's buffer and nothing else: bytes go from where they arrived to where they belong, so what
all lanes together hold in memory is their number times `config.LANE_MEMORY`. How many there are is fixed, or follows
what they find out together (`sealift.concurrency`).
"""

from __future__ import annotations

import time
from functools import partial

import anyio
from anyio.abc import TaskGroup

from sealift.attempt import Attempt, Decider, Ended
from sealift.bandwidth import Bandwidth
from sealift.concurrency import GET_WORTH, INITIAL_LARGE, Concurrency, Share, Totals, initial_for
from sealift.errors import SealiftError, ServerFailed, Throttled
from sealift.s3.store import ObjectStore
from sealift.timetable import Timetable
from sealift.writing import Filling, Writer


class Lanes:
    """So many tasks at the most, all alike. `run` them; `call_off` single attempts."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        decider: Decider,
        writer: Writer,
        bandwidth: Bandwidth,
        most: int,
        found_out: bool,
        initial: Share | None = None,
    ) -> None:
        """There are `most` lanes, or it is `found_out` how many are best.

        That begins with `initial` ones, a share of what another has, or as the first GET's size says.
        """
        self._store = store
        self.decider = decider
        self.writer = writer
        self.bandwidth = bandwidth
        self._most = most
        self._found_out = found_out
        self._concurrency: Concurrency | None = None
        if found_out and initial is not None:
            self._concurrency = _begun(initial, most)
        self._lanes: TaskGroup | None = None
        self._count = 0
        self._under_way = 0
        self._received = self._answered = self._refused = self._failed = 0
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._ended = anyio.Event()
        self.finished = anyio.Event()
        """No lane is left: there is no more to do, or others do it."""

    @property
    def limit(self) -> int:
        """How many there may be now."""
        if self._concurrency is not None:
            return min(self._most, self._concurrency.limit)
        return min(self._most, INITIAL_LARGE) if self._found_out else self._most

    def share(self, shares: int) -> Share:
        """Return what each of so many shares begins with."""
        if self._concurrency is not None:
            return self._concurrency.share(1, shares)
        return Share(max(1, self.limit // shares), proven=False)

    @property
    def done(self) -> float:
        """What was done, in GETs: so many MiB count as much as one that ended."""
        return self._answered + self._received / GET_WORTH

    async def run(self) -> None:
        """Carry out attempts until there are no more. Raises RunError."""
        ended = self.decider.ended
        async with anyio.create_task_group() as beside:
            beside.start_soon(self.writer.name_batches, ended, lambda: self._under_way == 0)
            try:
                async with anyio.create_task_group() as self._lanes:
                    self._fill_up()
            finally:
                beside.cancel_scope.cancel()
                await self.writer.name_batch(ended)
                self.finished.set()

    def call_off(self, number: int) -> None:
        """End an attempt that is under way, and was one of several of its object; it is `ended` without an error."""
        scope = self._scopes.get(number)
        if scope is not None:
            scope.cancel()

    async def make_room(self, *, most: int, bandwidth: Timetable) -> None:
        """Leave the rest to others from now on; return when no more than `most` lanes are left."""
        if self._concurrency is not None and most:
            self._concurrency = _begun(self._concurrency.share(most, self._most), most)
        self._most = most
        self.bandwidth = Bandwidth(bandwidth)
        while self._count > self.limit:
            self._ended = anyio.Event()
            await self._ended.wait()

    def arrived(self, size: int) -> None:
        """Hear of body bytes."""
        self._received += size
        self.decider.received(size)

    def progressed(self, number: int, reached: int) -> None:
        """Hear how far an attempt has come of which there is more to come."""
        self.decider.reached(number, reached)
        self._look(0)

    def _fill_up(self) -> None:
        while self._lanes is not None and self._count < self.limit:
            self._count += 1
            self._lanes.start_soon(self._lane)

    async def _lane(self) -> None:
        decider = self.decider
        try:
            while self._count <= self.limit and (attempt := await decider.take()) is not None:
                self._under_way += 1
                if self._found_out and self._concurrency is None:
                    self._begin(len(attempt.part.range))
                try:
                    end = await self._small(attempt) if attempt.spot is not None else await self._part(attempt)
                    self._look(0 if end is not None and end.error is not None else 1)
                finally:
                    self._under_way -= 1
                if end is not None:
                    self._refused += isinstance(end.error, Throttled) and end.error.service == "s3"
                    self._failed += isinstance(end.error, ServerFailed)
                    decider.ended(end)
        finally:
            self._count -= 1
            self._ended.set()

    def _begin(self, size: int) -> None:
        """Let the number of lanes be found out from now on: the first GET's size tells where to begin."""
        self._concurrency = Concurrency(highest=self._most, initial=initial_for(size), now=time.monotonic())
        self._fill_up()

    def _look(self, answered: int) -> None:
        """Let the number of lanes follow what came of it, now and then."""
        self._answered += answered
        concurrency = self._concurrency
        if concurrency is None or (now := time.monotonic()) < concurrency.due:
            return
        totals = Totals(
            received=self._received,
            answered=self._answered,
            refused=self._refused,
            failed=self._failed,
            under_way=self._under_way,
            cpu=time.thread_time(),
        )
        concurrency.look(totals, now)
        self._fill_up()

    async def _small(self, attempt: Attempt) -> Ended | None:
        """GET a whole object and put it in its place. None: it waits there for its batch."""
        filling = self.writer.fill(attempt)
        try:
            await self._fetch(attempt, filling)
            checked = filling.check()
            if checked is None or attempt.spot is None:
                return filling.ended(None)
            if not await filling.place(attempt.spot, checked):
                return None
        except SealiftError as error:
            return filling.ended(error)
        except BaseException:
            self.decider.reached(attempt.number, filling.reached)  # it goes on from there in the next run
            raise
        finally:
            filling.close()
        return Ended(attempt.number, filling.reached, True, None, *checked)

    async def _part(self, attempt: Attempt) -> Ended:
        """GET a part into its object's file."""
        try:
            filling = self.writer.fill(attempt)
        except SealiftError as error:
            return Ended(attempt.number, attempt.part.range.start, placed=False, error=error)
        failure, checked = None, None
        with anyio.CancelScope() as scope:
            self._scopes[attempt.number] = scope
            try:
                await self._fetch(attempt, filling)
                checked = filling.check() if attempt.part.whole else None
            except SealiftError as error:
                failure = error
            finally:
                del self._scopes[attempt.number]
                filling.close()
        return filling.ended(failure, checked)

    async def _fetch(self, attempt: Attempt, filling: Filling) -> None:
        intake = _Intake(self, attempt, filling)
        going = partial(self.decider.sent, attempt.number) if attempt.counted else None
        async with self._store.open(attempt.remote, attempt.part, going) as body:
            self.decider.answered(attempt.number, body.encryption)
            filling.expect(body.checksum)
            if body.take_what_came(intake):
                return
            while data := await body.pour(intake):
                size = len(data)
                self.arrived(size)
                await filling.write(data)
                intake.written()
                await self.bandwidth.spend(size)


def _begun(share: Share, most: int) -> Concurrency:
    return Concurrency(highest=most, initial=share.limit, now=time.monotonic(), proven=share.proven, settling=True)


class _Intake:
    """Where the bytes of an attempt go as they come, a `store.Sink`."""

    __slots__ = ("_attempt", "_filling", "_lanes")

    def __init__(self, lanes: Lanes, attempt: Attempt, filling: Filling) -> None:
        self._lanes = lanes
        self._attempt = attempt
        self._filling = filling

    @property
    def ready(self) -> bool:
        """See `Sink.ready`."""
        return self._lanes.bandwidth.unlimited and self._lanes.writer.disk.keeps_up

    def take(self, data: bytes | memoryview) -> None:
        """See `Sink.take`."""
        self._lanes.arrived(len(data))
        self._filling.write_inline(data)
        self.written()

    def written(self) -> None:
        """Tell how far it has come."""
        reached, attempt = self._filling.reached, self._attempt
        if reached < attempt.part.range.stop:  # else it is about to end, which tells the same
            self._lanes.progressed(attempt.number, reached)
