"""How many GETs may be under way at once where nobody said so: a pure controller, with time and totals passed in.

Its caller looks in with the run's totals whenever `due` has passed; between two looks it costs nothing. Looks are
gathered into rounds, in which about every GET under way is followed by another, and each round is judged once:

1. Refusals: if S3 refused more than one GET in a hundred, the limit shrinks and rests.
   Overload: if more than one in twenty failed in S3, the limit shrinks to the share that did not. Where that does not
   help, it was not the number of connections, and the limit goes back to where it was.
2. Idleness: if it was not the limit that held the run back, the round says nothing about the limit.
3. Start: the limit doubles each round while that brings a quarter more; then it goes to the best one seen.
4. Trial: a step down or up is compared with the limit, in the order limit, step, step, limit, so that what changes by
   itself meanwhile cancels out. The step is taken if it was better both times, and a wider one of the kind is tried.
   Where the CPU is saturated nothing is tried upwards.
5. Rest: when neither direction was better the limit rests, each time longer, until the goodput changes by itself.

Better is what has the higher score, goodput / limit ** WORTH: more connections must earn themselves, and idle ones go.
docs/design.md has the simulation that chose this rule and its numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

INITIAL = 96
"""GETs at once to begin with: of 48, 64, 96 and 128 the best on the average of the simulation. Fewer cost short runs of
small objects a round trip, more are in the way where a few suffice, before anything is known."""
LARGE = 1024 * 1024
"""Bytes from which a GET is a large one."""
INITIAL_LARGE = 16
"""GETs at once to begin with where the first is a large one. Measured: 300 objects of 8 MiB over TLS, on two cores,
take 3.9 s with it and 5.0 s with 96: each connection more is a handshake, and half a MiB of buffers in no cache. Also
32 cost 600 of them over plain HTTP a tenth (3.5 and 3.9 s), and brought one of 3 GiB at 80 MB/s a connection nothing.
The simulation would have 24 to 48, for runs of seconds at 100 ms: it knows of one process, and nothing of caches."""
HIGHEST = 1024
"""The most that is ever tried. 5,500 GETs/s a prefix at S3's slow first byte of 200 ms are 1,100 at once, 100 Gb/s at
85 MB/s a connection are 150 (AWS performance guidelines)."""
LOOK = 0.01
"""Seconds between looks: below the round trip to any other Region, and 100 looks of 3 µs a second cost nothing."""
SHORTEST = 0.2
"""Seconds a round lasts at least after the start: long against garbage collection, scheduling and one slow write."""
LONGEST = 1.0
"""Seconds a round lasts at most: long parts on a slow link do not end within it, but their bytes tell by then."""
FULL = 0.9
"""The share of the limit that must be under way to say that the limit holds the run back, in three looks of four."""
GET_WORTH = 1024 * 1024
"""Bytes that count as much as a GET. Between what one costs the CPU (50 µs: 75 KB at 1.5 GB/s) and what it costs a
connection (30–100 ms: 3–9 MB at 85 MB/s), so that of a mixture neither small nor large objects are overlooked."""
GROWTH = 1.25
"""What doubling must bring at the start, when each round also sets up connections: the threshold of BBR's startup."""
PATIENCE = 2
"""Rounds without that growth that end the start: in the first one, new connections may still be setting up."""
WORTH = 0.2
"""The exponent of the limit in the score: twice the connections must bring 15 %, and 2.9 times as many 25 %, as in
BBR's startup. With 0.1 the simulated laptop wandered up to hundreds of connections that brought nothing."""
STEP = math.sqrt(2)
"""A trial's first step: 40 % more or fewer connections show through noise of 20 %."""
WIDEST = 2.0
"""The widest step: that of the start."""
SHRINK = 0.7
"""What refusals leave of the limit: the decrease of CUBIC (RFC 9438, 4.6) and of botocore's adaptive mode."""
REFUSED = 0.01
"""The share of refused GETs that is no accident: S3 answers a 503 now and then at any load."""
FAILED = 0.05
"""The share of GETs that fail in S3 (500, 503 but for SlowDown) from which it may be overload: a few fail at any load,
and each is tried again by itself, ever later."""
RELIEF = 0.5
"""What fewer connections may leave of that share at the most to have helped: between none of it, where those that were
too many are gone, and all of it, where their number does not matter."""
PATIENT = 60.0
"""Seconds for which failures are left alone after fewer connections were of no help."""
BUSY = 0.95
"""The share of its CPU from which a run counts as saturated: more connections would queue for the CPU."""
SHORTEST_REST, LONGEST_REST = 1.0, 8.0
"""Seconds. A trial down costs a run that was well off up to half its goodput for 0.4 s: at most 3 % on the long run."""
CHANGED = 1.4
"""By what factor the goodput must change, two rounds in a row, to end a rest: outside of noise of 20 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a run knows of itself: totals since its start, and the GETs under way now."""

    received: int
    """Body bytes, also of GETs that have not ended yet."""
    answered: int
    """GETs that ended with their whole body."""
    refused: int
    """GETs that S3 refused as too many. KMS's refusals do not belong here: those are about the rate."""
    under_way: int
    """GETs under way, with the one that is just ending."""
    cpu: float
    """Seconds of CPU used by the processes of the data plane, divided by their number: 1.0 a second is all there is."""
    failed: int = 0
    """GETs of which S3 said that it has failed."""


@dataclass(frozen=True, slots=True)
class Share:
    """With what a process begins that takes its part of what a run has at once."""

    limit: int
    proven: bool
    """A share of a limit that was found out, and not of one that the start would have doubled yet."""


@dataclass(frozen=True, slots=True)
class _Round:
    """What a stretch of time with one limit brought."""

    goodput: float
    """GETs a second, with the bytes counted in."""
    full: bool
    """The limit was what held the run back."""
    refused: float
    """The share of GETs refused as too many."""
    failed: float
    """The share of GETs that failed in S3."""
    busy: float
    """The share of the CPU used."""


@dataclass(slots=True)
class _Start:
    """Doubling: the goodput that each limit brought, and how many rounds the last one did not grow."""

    seen: dict[int, float] = field(default_factory=dict)
    stalled: int = 0


@dataclass(slots=True)
class _Trial:
    """`limit` against `step`: the goodput of the rounds so far, in the order limit, step, step, limit."""

    limit: int
    step: int
    rounds: list[float]


@dataclass(slots=True)
class _Rest:
    """Nothing is tried before `until`, unless the goodput leaves the neighbourhood of `usual` (0 if unknown)."""

    until: float
    usual: float
    unusual: int = 0


@dataclass(frozen=True, slots=True)
class _Relief:
    """Fewer connections are tried, as this share of GETs failed with `limit`."""

    limit: int
    failed: float


def initial_for(size: int) -> int:
    """Return how many GETs at once to begin with where the first is of `size` bytes."""
    return INITIAL_LARGE if size >= LARGE else INITIAL


class Concurrency:
    """The limit to the GETs under way, from 1 to `highest`."""

    __slots__ = (
        "_began", "_failed", "_first", "_full", "_highest", "_looks", "_patient_until", "_phase", "_ratio", "_rest",
        "_settling", "_up", "due", "limit",
    )  # fmt: skip

    def __init__(
        self, *, highest: int, now: float, initial: int = INITIAL, proven: bool = False, settling: bool = False
    ) -> None:
        """`highest` is what memory and descriptors allow; `now` is in seconds, of a clock that never goes back.

        An `initial` limit that is `proven`, as a share of one that was found out, is not doubled at the start. While
        GETs of another limit are under way it is `settling`: the first round is not judged.
        """
        if min(highest, initial) < 1:
            msg = "highest and initial must be at least 1"
            raise ValueError(msg)
        self._highest = highest
        self.limit = min(initial, highest)
        self.due = now
        """A look before this time does nothing."""
        self._first: Totals | None = None
        self._began = now
        self._looks = self._full = 0
        self._phase: _Start | _Trial | _Rest | _Relief = _Rest(now, 0.0) if proven else _Start()
        self._settling = settling
        self._up = False
        self._failed = 0
        self._ratio = STEP
        self._rest = SHORTEST_REST
        self._patient_until = now

    def share(self, part: int, whole: int) -> Share:
        """Return what so large a part of the `whole` begins with."""
        return Share(max(1, self.limit * part // whole), proven=not isinstance(self._phase, _Start))

    def look(self, totals: Totals, now: float) -> int:
        """Take note of the totals at time `now`, and return the limit from now on."""
        if now < self.due:
            return self.limit
        self.due = now + LOOK
        if self._first is None:
            self._begin(totals, now)
            return self.limit
        self._looks += 1
        self._full += totals.under_way >= FULL * self.limit
        if self._over(totals, now - self._began):
            before = self.limit
            self._judge(self._measured(self._first, totals, now - self._began), now)
            self._settling = self.limit != before and not isinstance(self._phase, _Start)
            self._begin(totals, now)
        return self.limit

    def _begin(self, totals: Totals, now: float) -> None:
        self._first = totals
        self._began = now
        self._looks = self._full = 0

    def _over(self, totals: Totals, seconds: float) -> bool:
        if self._first is None or seconds < (LOOK if isinstance(self._phase, _Start) else SHORTEST):
            return False
        first = self._first
        ended = totals.answered - first.answered + totals.refused - first.refused + totals.failed - first.failed
        return ended >= self.limit or seconds >= LONGEST

    def _measured(self, first: Totals, last: Totals, seconds: float) -> _Round:
        answered, refused = last.answered - first.answered, last.refused - first.refused
        failed = last.failed - first.failed
        ended = max(1, answered + refused + failed)
        return _Round(
            goodput=(answered + (last.received - first.received) / GET_WORTH) / seconds,
            full=4 * self._full >= 3 * self._looks,
            refused=refused / ended,
            failed=failed / ended,
            busy=(last.cpu - first.cpu) / seconds,
        )

    def _judge(self, what: _Round, now: float) -> None:
        phase = self._phase
        if self._settling:
            return  # GETs of the limit before are in it
        if what.refused > REFUSED:
            self._shrink(now)
        elif what.failed > FAILED and now >= self._patient_until:
            self._relieve(what, now)
        elif isinstance(phase, _Relief):
            self._lie_down(now, 0.0)  # that was it
        elif not what.full:
            if isinstance(phase, _Trial):
                self._set(phase.limit)
                self._phase = _Rest(now, 0.0)
        elif isinstance(phase, _Start):
            self._grow(phase, what, now)
        elif isinstance(phase, _Trial):
            self._compare(phase, what, now)
        elif self._rested(phase, what, now):
            self._try(what, now)

    def _shrink(self, now: float) -> None:
        """Refused: take back what was too much."""
        phase = self._phase
        if isinstance(phase, _Trial) and phase.limit < phase.step == self.limit:
            self._set(phase.limit)  # only the step was refused
        elif isinstance(phase, _Start):
            self._set(self.limit // 2)  # what the last doubling added
        else:
            self._set(int(self.limit * SHRINK))
        self._lie_down(now, 0.0)

    def _relieve(self, what: _Round, now: float) -> None:
        """Failed: see whether fewer connections help."""
        before = self._phase
        if isinstance(before, _Relief) and what.failed > RELIEF * before.failed:
            self._set(before.limit)
            self._patient_until = now + PATIENT
            self._lie_down(now, 0.0)
        else:
            self._phase = _Relief(self.limit, what.failed)
            self._set(int(self.limit * min(SHRINK, 1 - what.failed)))

    def _set(self, limit: int) -> None:
        self.limit = min(max(1, limit), self._highest)

    def _grow(self, start: _Start, what: _Round, now: float) -> None:
        best = max(start.seen.values(), default=0.0)
        start.seen[self.limit] = max(what.goodput, start.seen.get(self.limit, 0.0))
        start.stalled = 0 if what.goodput >= GROWTH * best else start.stalled + 1
        if start.stalled >= PATIENCE or self.limit == self._highest:
            self._set(max(start.seen, key=lambda limit: _score(start.seen[limit], limit)))
            self._phase = _Rest(now, what.goodput)
        elif not start.stalled and what.busy * GROWTH < 1.0:
            self._set(2 * self.limit)

    def _try(self, what: _Round, now: float) -> None:
        """Begin a trial in the direction that is due, or in the other one if that is closed."""
        closed = self.limit == self._highest or what.busy >= BUSY if self._up else self.limit == 1
        if closed:
            self._fail(now, what.goodput)
        else:
            step = max(self.limit + 1, round(self.limit * self._ratio)) if self._up else int(self.limit / self._ratio)
            self._phase = _Trial(self.limit, min(max(1, step), self._highest), [what.goodput])
            self._set(self._phase.step)

    def _compare(self, trial: _Trial, what: _Round, now: float) -> None:
        """Go through limit, step, step, limit, as far as it is still open which is better."""
        rounds = trial.rounds
        rounds.append(what.goodput)
        if len(rounds) == 2 and not _better(rounds[1], trial.step, rounds[0], trial.limit):
            self._set(trial.limit)
            self._fail(now, rounds[0])
        elif len(rounds) == 3:
            self._set(trial.limit)
        elif len(rounds) == 4:
            if _better(rounds[2], trial.step, rounds[3], trial.limit):
                self._set(trial.step)
                self._ratio = min(WIDEST, self._ratio * STEP)
                self._failed = 0
                self._rest = SHORTEST_REST
                self._phase = _Rest(now, (rounds[1] + rounds[2]) / 2)
            else:
                self._fail(now, rounds[3])

    def _fail(self, now: float, usual: float) -> None:
        """Turn round; when neither direction was better, rest."""
        self._up = not self._up
        self._ratio = STEP
        self._failed += 1
        if self._failed < 2:
            self._phase = _Rest(now, usual)
        else:
            self._lie_down(now, usual)

    def _lie_down(self, now: float, usual: float) -> None:
        """Rest, and longer than the last time; down is tried first afterwards."""
        self._failed = 0
        self._ratio = STEP
        self._up = False
        self._phase = _Rest(now + self._rest, usual)
        self._rest = min(LONGEST_REST, 2 * self._rest)

    def _rested(self, rest: _Rest, what: _Round, now: float) -> bool:
        if now >= rest.until:
            return True
        if rest.usual == 0.0:
            rest.usual = what.goodput
        unusual = not rest.usual / CHANGED <= what.goodput <= rest.usual * CHANGED
        rest.unusual = rest.unusual + 1 if unusual else 0
        if rest.unusual < 2:
            return False
        self._rest = SHORTEST_REST
        return True


def _score(goodput: float, limit: int) -> float:
    return goodput / math.pow(limit, WORTH)


def _better(goodput: float, limit: int, other: float, other_limit: int) -> bool:
    return _score(goodput, limit) > _score(other, other_limit)
