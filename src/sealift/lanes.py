"""Tasks that carry out attempts: one GET each at a time, its bytes written as they come.

A lane holds one connection's buffer and nothing else: bytes go from where they arrived to where they belong, so what
all lanes together hold in memory is their number times `LANE_MEMORY`.
"""

from __future__ import annotations

import anyio

from sealift.attempt import Attempt, Decider, Ended
from sealift.bandwidth import Bandwidth
from sealift.errors import SealiftError
from sealift.s3.store import ObjectStore
from sealift.writing import Filling, Writer


class Lanes:
    """So many tasks at the most, all alike. `run` them; `call_off` single attempts."""

    def __init__(
        self, *, store: ObjectStore, decider: Decider, writer: Writer, bandwidth: Bandwidth, most: int
    ) -> None:
        self._store = store
        self._decider = decider
        self._writer = writer
        self._bandwidth = bandwidth
        self._most = most
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._retired = False
        self.over = False
        """There is no more to do."""

    async def run(self) -> None:
        """Carry out attempts until there are no more. Raises RunError."""
        ended = self._decider.ended
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._writer.name_batches, ended)
            try:
                async with anyio.create_task_group() as lanes:
                    for _ in range(self._most):
                        lanes.start_soon(self._lane)
            finally:
                self.over = not self._retired
                beside.cancel_scope.cancel()
                await self._writer.name_batch(ended)

    def call_off(self, number: int) -> None:
        """End an attempt that is under way, and was one of several of its object; it is `ended` without an error."""
        scope = self._scopes.get(number)
        if scope is not None:
            scope.cancel()

    def retire(self) -> None:
        """Take no more attempts: others do from now on."""
        self._retired = True

    async def _lane(self) -> None:
        decider = self._decider
        while not self._retired and (attempt := await decider.take()) is not None:
            end = await self._small(attempt) if attempt.spot is not None else await self._part(attempt)
            if end is not None:
                decider.ended(end)

    async def _small(self, attempt: Attempt) -> Ended | None:
        """GET a whole object and put it in its place. None: it waits there for its batch."""
        filling = self._writer.fill(attempt)
        try:
            await self._fetch(attempt, filling)
            if attempt.spot is not None and not await filling.place(attempt.spot):
                return None
        except SealiftError as error:
            return Ended(attempt.number, filling.reached, placed=False, error=error)
        except BaseException:
            self._decider.reached(attempt.number, filling.reached)  # it goes on from there in the next run
            raise
        finally:
            filling.close()
        return Ended(attempt.number, filling.reached, placed=True, error=None)

    async def _part(self, attempt: Attempt) -> Ended:
        """GET a part into its object's file."""
        reached, failure = attempt.part.range.start, None
        with anyio.CancelScope() as scope:
            self._scopes[attempt.number] = scope
            try:
                filling = self._writer.fill(attempt)
                try:
                    await self._fetch(attempt, filling)
                finally:
                    reached = filling.reached
                    filling.close()
            except SealiftError as error:
                failure = error
            finally:
                del self._scopes[attempt.number]
        return Ended(attempt.number, reached, placed=False, error=failure)

    async def _fetch(self, attempt: Attempt, filling: Filling) -> None:
        decider, number, stop = self._decider, attempt.number, attempt.part.range.stop
        async with self._store.open(attempt.remote, attempt.part) as body:
            while data := await body.read():
                decider.received(len(data))
                await filling.write(data)
                if filling.reached < stop:
                    decider.reached(number, filling.reached)
                await self._bandwidth.spend(len(data))
