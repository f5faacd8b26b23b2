"""The line in which parts wait for a worker.

Theory of operation. Jobs stand in the order in which they were found; a worker takes the next part of the first
job that has one left, so few objects are open at once and their parts come in the order of their offsets. A part
whose attempt failed goes back in line with a time before which it is not handed out again: meanwhile it holds no
worker, no memory and no connection. While many wait like that no new parts are begun: they would only join them. The
line is at its end when nobody adds jobs any more and no part is waiting
or under way, because any part under way may still come back, or bring its job back.

`Queue` decides, with time passed in; `Line` does the waiting.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import anyio

from sealift.model import Part
from sealift.retry import Attempts


class Divisible(Protocol):
    """What the line needs to know of a job."""

    @property
    def parts(self) -> Iterator[Part]:
        """The parts that nobody has taken yet."""

    @property
    def over(self) -> bool:
        """Whether the job has failed, so that its remaining parts need not be fetched."""


MOST_RETURNED = 16
"""Parts that wait to be tried again before no new object is begun. Of 4 to 64, measured with 3,000 objects under a
quota of 300 GETs a second, it is the number with which a run is done first, with half the refusals that 64 cost."""

J = TypeVar("J", bound=Divisible)


@dataclass(slots=True, eq=False)
class Ticket(Generic[J]):
    """A part of a job in a worker's hands. `part` is what is left of it; `start` is where it began."""

    job: J
    part: Part
    start: int
    last: bool
    """No part of the job comes after this one."""
    attempts: Attempts = field(default_factory=Attempts)
    progressed: bool = False
    """Bytes came in the attempt that is under way."""
    sent: float = 0.0
    """When the attempt that is under way was handed out, in seconds of the monotonic clock."""
    waiting: bool = False
    """It waits in line to be tried again, or for a permit."""
    failing_since: float | None = None
    """Since when every attempt failed, in the seconds of the event loop's clock."""


class Queue(Generic[J]):
    """Who is next. Pure: `now` and all times are seconds of one clock.

    While `most_returned` parts or more wait to be tried again, nothing new is handed out.
    """

    def __init__(self, most_returned: int) -> None:
        self._most_returned = most_returned
        self._jobs: deque[J] = deque()
        self._returned: list[tuple[float, int, Ticket[J]]] = []
        self._numbers = itertools.count()
        self._ahead: Part | None = None  # the first job's next part: one is drawn ahead to know which is the last

    def __len__(self) -> int:
        """Return how many jobs wait with parts that nobody has taken."""
        return len(self._jobs)

    @property
    def returned(self) -> bool:
        """Whether parts wait to be tried again."""
        return bool(self._returned)

    def __iter__(self) -> Iterator[J]:
        """Go through these jobs."""
        return iter(self._jobs)

    def add(self, job: J) -> None:
        """Put a job at the end."""
        self._jobs.append(job)

    def put_back(self, ticket: Ticket[J], not_before: float) -> None:
        """Let a part wait until `not_before`."""
        heapq.heappush(self._returned, (not_before, next(self._numbers), ticket))

    def drop(self, tickets: Collection[Ticket[J]]) -> None:
        """Forget parts that wait."""
        self._returned = [waiting for waiting in self._returned if waiting[2] not in tickets]
        heapq.heapify(self._returned)

    def take(self, now: float) -> Ticket[J] | float | None:
        """Return the next part; or, if all have to wait, until when; or None if there are none."""
        if self._returned and self._returned[0][0] <= now:
            return heapq.heappop(self._returned)[2]
        while self._jobs and len(self._returned) < self._most_returned:
            job = self._jobs[0]
            part = self._ahead or next(job.parts, None)
            self._ahead = None if job.over or part is None else next(job.parts, None)
            if self._ahead is None:
                self._jobs.popleft()
            if part is not None and not job.over:
                return Ticket(job, part, part.range.start, last=self._ahead is None)
        return self._returned[0][0] if self._returned else None


class Line(Generic[J]):
    """The queue, and the waiting for it. At most `limit` jobs wait in it untouched; `add` waits beyond that.

    Those who wait to take are woken one by one, as there is something to take, in the order of their coming.
    """

    def __init__(self, limit: int, *, most_returned: int = MOST_RETURNED) -> None:
        self._queue: Queue[J] = Queue(most_returned)
        self._limit = limit
        self.closed = False
        """Nobody adds jobs from outside any more."""
        self._under_way = 0
        self._room = anyio.Event()
        self._takers: deque[anyio.Event] = deque()

    async def add(self, job: J) -> None:
        """Put a job at the end, when there is room for it."""
        while len(self._queue) >= self._limit:
            await self._room.wait()
        self.add_again(job)

    def add_again(self, job: J) -> None:
        """Put a job at the end, room or not: for a worker, which must not wait for workers."""
        self._queue.add(job)
        self._wake()

    def close(self) -> None:
        """Say that nobody adds jobs from outside any more."""
        self.closed = True
        self._wake_all()

    def waiting(self) -> Iterator[J]:
        """Go through the jobs with parts that nobody has taken."""
        return iter(self._queue)

    async def take(self) -> Ticket[J] | None:
        """Return the next part, which must be `done` or `put_back`; None when the line is at its end."""
        while True:
            now = anyio.current_time() if self._queue.returned else 0.0
            full = len(self._queue) >= self._limit
            found = self._queue.take(now)
            if full and len(self._queue) < self._limit:
                room, self._room = self._room, anyio.Event()
                room.set()
            if isinstance(found, Ticket):
                self._under_way += 1
                if self._queue.returned or len(self._queue):
                    self._wake()
                return found
            if found is None and self.closed and not self._under_way:
                return None
            await self._wait(None if found is None else found - now)

    def put_back(self, ticket: Ticket[J], delay: float) -> None:
        """Let a part wait for `delay` seconds."""
        self._queue.put_back(ticket, anyio.current_time() + delay)
        self._under_way -= 1
        self._wake()

    def drop(self, tickets: Collection[Ticket[J]]) -> None:
        """Forget parts that wait: somebody who has taken another one sees to them."""
        self._queue.drop(tickets)

    def done(self) -> None:
        """Say that a part that was taken does not come back."""
        self._under_way -= 1
        if self.closed and not self._under_way:
            self._wake_all()

    async def _wait(self, seconds: float | None) -> None:
        """Wait to be woken, or for `seconds`."""
        woken = anyio.Event()
        self._takers.append(woken)
        try:
            with anyio.move_on_after(seconds):
                await woken.wait()
        except BaseException:
            if woken.is_set():  # it was for somebody who takes
                self._wake()
            raise
        finally:
            if not woken.is_set():
                self._takers.remove(woken)

    def _wake(self) -> None:
        if self._takers:
            self._takers.popleft().set()

    def _wake_all(self) -> None:
        while self._takers:
            self._takers.popleft().set()
