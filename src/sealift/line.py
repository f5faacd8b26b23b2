"""The line in which parts wait for a worker.

Theory of operation. Jobs stand in the order in which they were found; a worker takes the next part of the first
job that has one left, so few objects are open at once and their parts come in the order of their offsets. A part
whose attempt failed goes back in line with a time before which it is not handed out again: meanwhile it holds no
worker, no memory and no connection. While many wait like that no new parts are begun: they would only join them.

A part may need leave before it is handed out (`Gate`). Where there is none at the moment, its job stands aside, with
all others that need the same leave, and those behind it go past: so what needs no leave waits for nobody that does.

The line is at its end when nobody adds jobs any more and no part is waiting or under way, because any part under way
may still come back, or bring its job back.

`Queue` decides, with time passed in; `Line` does the waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import anyio

from sealift.alarm import wake_at
from sealift.bell import Bell
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


class Leave(Protocol):
    """A kind of leave: that of some service, at its pace."""

    @property
    def rank(self) -> int:
        """Those who wait for leave of a lower rank go first; kinds of one rank take turns."""
        ...

    def take(self) -> float:
        """Take leave for one part and return 0.0, or return in how many seconds to ask again."""
        ...

    def give_back(self) -> None:
        """Give leave back that was just taken, and is not needed."""
        ...


MOST_RETURNED = 16
"""Parts that wait to be tried again before no new object is begun. Of 4 to 64, measured with 3,000 objects under a
quota of 300 GETs a second, it is the number with which a run is done first, with half the refusals that 64 cost."""

NEAR = 0.1
"""Seconds for which whether the line is at its end may wait for who looks next: less than anybody notices, and more
than lies between two permits of the slowest pace worth mentioning, of 10 a second."""

MOST_ASIDE = 10_000
"""Jobs that stand aside, about 10 MB, before nobody looks further for what can go past them."""

J = TypeVar("J", bound=Divisible)
Gate = Callable[[J], Leave | None]
"""Says what kind of leave a job's next part needs."""


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
    leave: Leave | None = None
    """What leave was taken for the attempt that is under way."""
    stood_aside: bool = False
    """There was none for it, or for its job, at first."""
    waiting: bool = False
    """It waits in line."""
    failing_since: float | None = None
    """Since when every attempt failed, in the seconds of the event loop's clock."""


class _Aside(Generic[J]):
    """Those that need one kind of leave, which is to be asked for again at `until`."""

    __slots__ = ("jobs", "tickets", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.tickets: deque[Ticket[J]] = deque()
        self.jobs: deque[J] = deque()


def _open(_job: object) -> None:
    """Let everybody through."""


class Queue(Generic[J]):
    """Who is next. Pure: `now` and all times are seconds of one clock.

    While `most_returned` parts or more wait to be tried again, nothing new is handed out. At the most `most_aside` jobs
    stand aside for want of leave.
    """

    def __init__(self, most_returned: int, *, most_aside: int = MOST_ASIDE) -> None:
        self._most_returned = most_returned
        self._gate: Gate[J] = _open
        self._most_aside = most_aside
        self._jobs: deque[J] = deque()
        self._returned: list[tuple[float, int, Ticket[J]]] = []
        self._numbers = itertools.count()
        self._ahead: dict[J, Part] = {}  # of each job that was begun: one is drawn ahead to know which is the last
        self._aside: dict[Leave, _Aside[J]] = {}

    def __len__(self) -> int:
        """Return how many jobs wait with parts that nobody has taken, and do not stand aside."""
        return len(self._jobs)

    @property
    def waits(self) -> bool:
        """Whether parts wait for their time, or for leave."""
        return bool(self._returned or self._aside)

    def __iter__(self) -> Iterator[J]:
        """Go through all jobs with parts that nobody has taken."""
        return itertools.chain(self._jobs, *(aside.jobs for aside in self._aside.values()))

    def guard(self, gate: Gate[J]) -> None:
        """Let `gate` say, from now on, what leave jobs need."""
        self._gate = gate

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
        for aside in self._aside.values():
            aside.tickets = deque(ticket for ticket in aside.tickets if ticket not in tickets)

    def call_in(self, job: J) -> None:
        """Let what stands aside of a job go next: the leave for it is not needed any more."""
        for aside in self._aside.values():
            for ticket in [ticket for ticket in aside.tickets if ticket.job is job]:
                aside.tickets.remove(ticket)
                self.put_back(ticket, -math.inf)
            if job in aside.jobs:
                aside.jobs.remove(job)
                self._jobs.appendleft(job)

    def take(self, now: float) -> Ticket[J] | float | None:
        """Return the next part; or, if all have to wait, until when; or None if there are none."""
        ticket = None if not self._aside else self._from_aside(now)
        if ticket is None and self._returned:
            ticket = self._come_back(now)
        ticket = ticket or self._new(now)
        if ticket is not None:
            return ticket
        times = [aside.until for aside in self._aside.values()]
        if self._returned:
            times.append(self._returned[0][0])
        return min(times, default=None)

    def _from_aside(self, now: float) -> Ticket[J] | None:
        """Return the first part of those who stand aside that has leave now."""
        for leave, aside in sorted(self._aside.items(), key=_rank):
            self._send_away(leave, aside, now)
            if not (aside.tickets or aside.jobs):
                del self._aside[leave]
                continue
            seconds = leave.take()
            if seconds:
                aside.until = now + seconds
                continue
            aside.until = now
            ticket = aside.tickets.popleft() if aside.tickets else self._draw(aside.jobs)
            if ticket is not None:
                ticket.leave, ticket.stood_aside = leave, True
                self._aside[leave] = self._aside.pop(leave)
                return ticket
            leave.give_back()
        return None

    def _send_away(self, leave: Leave, aside: _Aside[J], now: float) -> None:
        """Let those at the front leave who turn out to need other leave by now, or none."""
        while aside.tickets and self._leave_of(aside.tickets[0].job) is not leave:
            self.put_back(aside.tickets.popleft(), -math.inf)
        while aside.jobs and (other := self._leave_of(aside.jobs[0])) is not leave:
            job = aside.jobs.popleft()
            if other is None:
                self._jobs.appendleft(job)
            else:
                self._aside.setdefault(other, _Aside(now)).jobs.append(job)

    def _leave_of(self, job: J) -> Leave | None:
        return None if job.over else self._gate(job)

    def _come_back(self, now: float) -> Ticket[J] | None:
        """Return the first part whose time has come and that has leave, if it needs any."""
        while self._returned and self._returned[0][0] <= now:
            ticket = heapq.heappop(self._returned)[2]
            leave = self._leave_of(ticket.job)
            if leave is None or self._has(leave, now):
                ticket.leave = leave
                return ticket
            self._aside[leave].tickets.append(ticket)
        return None

    def _new(self, now: float) -> Ticket[J] | None:
        """Return the next part of the first job that has leave, if it needs any."""
        while self._jobs and len(self._returned) < self._most_returned:
            leave = self._leave_of(self._jobs[0])
            if leave is None or self._has(leave, now):
                ticket = self._draw(self._jobs)
                if ticket is not None:
                    ticket.leave = leave
                    return ticket
                if leave is not None:
                    leave.give_back()
            elif sum(len(aside.jobs) for aside in self._aside.values()) >= self._most_aside:
                break
            else:
                self._aside[leave].jobs.append(self._jobs.popleft())
        return None

    def _has(self, leave: Leave, now: float) -> bool:
        """Take leave, if nobody stands aside for it and there is any."""
        if leave in self._aside:
            return False
        seconds = leave.take()
        if seconds:
            self._aside[leave] = _Aside(now + seconds)
        return not seconds

    def _draw(self, jobs: deque[J]) -> Ticket[J] | None:
        """Return the next part of the first of `jobs`, if it has one; with its last part, a job leaves them."""
        job = jobs[0]
        part = self._ahead.pop(job, None) or next(job.parts, None)
        ahead = None if job.over or part is None else next(job.parts, None)
        if ahead is None:
            jobs.popleft()
        else:
            self._ahead[job] = ahead
        return None if part is None or job.over else Ticket(job, part, part.range.start, last=ahead is None)


def _rank(item: tuple[Leave, object]) -> int:
    return item[0].rank


class Line(Generic[J]):
    """The queue, and the waiting for it. At most `limit` jobs wait in it untouched; `add` waits beyond that.

    Those who wait to take are woken one by one, as there is something to take, in the order of their coming. Whoever
    has looked and found that all have to wait sets an alarm, and until then nobody looks, unless something comes about.
    """

    def __init__(self, limit: int, *, most_returned: int = MOST_RETURNED) -> None:
        self._queue: Queue[J] = Queue(most_returned)
        self._limit = limit
        self.closed = False
        """Nobody adds jobs from outside any more."""
        self._under_way = 0
        self._room = Bell()
        self._takers: deque[anyio.Event] = deque()
        self._coming: anyio.Event | None = None  # that of the one who was woken and has not looked yet
        self._due = math.inf
        self._alarm: asyncio.TimerHandle | None = None  # there is nothing before it, if nothing comes about

    def guard(self, gate: Gate[J]) -> None:
        """Let `gate` say, from now on, what leave jobs need."""
        self._queue.guard(gate)

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
            if self._alarm is None:
                now = time.monotonic() if self._queue.waits else 0.0
                full = len(self._queue) >= self._limit
                found = self._queue.take(now)
                if full and len(self._queue) < self._limit:
                    self._room.ring()
                if isinstance(found, Ticket):
                    self._under_way += 1
                    if self._takers and (self._queue.waits or len(self._queue)):
                        self._wake()
                    return found
                if found is None and self.closed and not self._under_way:
                    self._wake_all()  # they are to see that it is over
                    return None
                if found is not None:
                    self._set_alarm(max(found, now))
            await self._wait()

    def put_back(self, ticket: Ticket[J], delay: float) -> None:
        """Let a part wait for `delay` seconds."""
        self._queue.put_back(ticket, time.monotonic() + delay)
        self._under_way -= 1
        self._wake()

    def call_in(self, job: J) -> None:
        """Let what stands aside of a job go next: the leave for it is not needed any more."""
        self._queue.call_in(job)
        self._wake()

    def look_again(self) -> None:
        """Say that there may be leave earlier than it seemed."""
        if self._queue.waits:
            self._wake()

    def drop(self, tickets: Collection[Ticket[J]]) -> None:
        """Forget parts that wait: somebody who has taken another one sees to them."""
        self._queue.drop(tickets)

    def done(self) -> None:
        """Say that a part that was taken does not come back."""
        self._under_way -= 1
        if self.closed and not self._under_way:
            if not (self._queue.waits or len(self._queue)):
                self._wake_all()
            elif self._due > time.monotonic() + NEAR:  # where requests are paced this is so after each of them
                self._wake()

    async def _wait(self) -> None:
        """Wait to be woken."""
        woken = anyio.Event()
        self._takers.append(woken)
        try:
            await woken.wait()
        except BaseException:
            if woken.is_set():  # it was for somebody who takes
                self._came(woken)
                self._wake()
            else:
                self._takers.remove(woken)
            raise
        self._came(woken)

    def _came(self, woken: anyio.Event) -> None:
        if self._coming is woken:
            self._coming = None

    def _set_alarm(self, due: float) -> None:
        """Let somebody look again at `due`, and nobody before, unless something comes about."""
        self._due = due
        self._alarm = wake_at(due, self._wake)

    def _wake(self) -> None:
        """Let one of those who wait look again, who wakes the next if there is something for that one, too."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm, self._due = None, math.inf
        if self._coming is None and self._takers:
            self._coming = self._takers.popleft()
            self._coming.set()

    def _wake_all(self) -> None:
        self._wake()
        while self._takers:
            self._takers.popleft().set()
