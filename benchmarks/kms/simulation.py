"""Runs that share a KMS quota, as a simulation of events, deterministic for a seed.

A run sends as its rule allows and as it has lanes free. Half a round trip later the server grants or refuses; another
half later the run hears of it, or later still where refusals are late. What is refused goes back in line. An event
loop wakes up to a millisecond late.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.kms.quota import Timetable

LATE = 0.001
"""Seconds by which an event loop wakes up late at the most."""
SOONER = 1.5
"""By what a pace must have grown at once for a run to wake up before it would have: as when a brake is released."""
UNLIMITED = 20_000
"""Requests a second that a run sends where nothing holds it back: facts of one event loop on one core."""


class Rule(Protocol):
    """What decides how many requests may go: the interface of `sealift.governor.Governor`."""

    @property
    def rate(self) -> float | None: ...
    def take(self, now: float, most: int) -> int: ...
    def wait(self, now: float) -> float: ...
    def succeeded(self, now: float, sent: float) -> None: ...
    def refused(self, now: float, sent: float) -> None: ...


class Server(Protocol):
    """Who grants and refuses."""

    def grants(self, now: float) -> bool: ...


class Bucket:
    """A token bucket, full at first, that holds `burst` seconds' tokens."""

    def __init__(self, quota: Timetable, burst: float) -> None:
        self._quota, self._burst = quota, burst
        self._at, self._level = 0.0, quota.at(0.0) * burst

    def grants(self, now: float) -> bool:
        rate = self._quota.at(max(0.0, now))
        if now > self._at:
            self._level = min(max(1.0, rate * self._burst), self._level + (now - self._at) * rate)
            self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Windows:
    """Seconds that begin anywhere, each up to `jitter` late, with so many requests each."""

    def __init__(self, quota: Timetable, jitter: float, rng: random.Random) -> None:
        self._quota, self._jitter, self._rng = quota, jitter, rng
        self._next = self._ends = rng.random()
        self._left = quota.at(0.0)

    def grants(self, now: float) -> bool:
        while now >= self._ends:
            self._left = self._quota.at(self._ends)
            self._next += 1.0
            self._ends = self._next + self._rng.uniform(0.0, self._jitter)
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class Run:
    """One client, and what became of it."""

    rule: Rule
    lanes: int = 256
    trip: float = 0.05
    """Seconds there and back."""
    jitter: float = 0.2
    """The share of a trip that it may take longer. At 0 all that is sent at once is one event: faster."""
    late: float = 0.0
    """Seconds that refusals take longer than grants."""
    objects: int | None = None
    """None: as many as there is time for."""
    begins: float = 0.0
    granted: list[int] = field(default_factory=list)
    """Per second."""
    refused: list[int] = field(default_factory=list)
    first_refusal: float = math.inf
    refused_later: int = 0
    """Of what was sent when the first refusal had been heard."""
    ends: float = math.inf
    traced: bool = False
    paces: list[tuple[float, float]] = field(default_factory=list)
    """The rule's rate over time, a hundred times a second, if it is traced."""


class _State:
    """A run that is under way."""

    __slots__ = ("done", "free", "left", "run", "wake", "waking")

    def __init__(self, run: Run, seconds: float, wake: float) -> None:
        self.run = run
        self.free = run.lanes
        self.left = 1 << 60 if run.objects is None else run.objects
        self.done = 0
        self.waking = True
        self.wake = wake  # when it wakes up next; a wake-up at any other time is out of date
        run.granted = [0] * (int(seconds) + 1)
        run.refused = [0] * (int(seconds) + 1)


Event = tuple[float, int, _State, float, int, int]
"""When, a serial number, whose, when it was sent, how many are granted and refused; no request at all is a wake-up."""


def simulate(server: Server, runs: list[Run], seconds: float, seed: int = 1) -> None:
    """Let the runs go on for so many seconds, or until those that have an end have come to it."""
    rng = random.Random(seed)
    chance = rng.random
    events: list[Event] = []
    serial = 0
    for run in runs:
        serial += 1
        heapq.heappush(events, (run.begins, serial, _State(run, seconds, run.begins), 0.0, 0, 0))
    finite = sum(run.objects is not None for run in runs)
    while events:
        now, _, state, sent, granted, refused = heapq.heappop(events)
        if now >= seconds:
            break
        run = state.run
        if granted or refused:
            before = run.rule.rate
            _hear(state, now, sent, granted, refused)
            pace = run.rule.rate
            if state.done == run.objects:
                run.ends = now
                finite -= 1
                if not finite:
                    break
                continue
            sooner = before is not None and pace is not None and pace > SOONER * before
            if (state.waking and not sooner) or not state.left:
                continue
        elif now != state.wake:
            continue
        state.waking = False
        for event in _send(server, state, now, chance):
            serial += 1
            heapq.heappush(events, (event[0], serial, *event[1:]))


def _hear(state: _State, now: float, sent: float, granted: int, refused: int) -> None:
    run = state.run
    for _ in range(granted):
        run.rule.succeeded(now, sent)
    for _ in range(refused):
        run.rule.refused(now, sent)
    run.granted[int(now)] += granted
    state.done += granted
    state.free += granted + refused
    if refused:
        run.refused[int(now)] += refused
        state.left += refused
        if sent > run.first_refusal:
            run.refused_later += refused
        run.first_refusal = min(run.first_refusal, now)


def _send(
    server: Server, state: _State, now: float, chance: Callable[[], float]
) -> list[tuple[float, _State, float, int, int]]:
    """Send what may be sent; return what will be heard of it, and when the run wakes up again."""
    run, rule = state.run, state.run.rule
    most = min(state.free, state.left)
    heard: list[tuple[float, _State, float, int, int]] = []
    count = rule.take(now, most if rule.rate is not None else min(most, int(UNLIMITED * LATE))) if most else 0
    state.free -= count
    state.left -= count
    half = run.trip / 2
    if run.jitter:
        for _ in range(count):
            there = now + half * (1 + run.jitter * chance())
            back = there + half * (1 + run.jitter * chance())
            heard.append((back, state, now, 1, 0) if server.grants(there) else (back + run.late, state, now, 0, 1))
    elif count:
        granted = sum(server.grants(now + half) for _ in range(count))
        if granted:
            heard.append((now + run.trip, state, now, granted, 0))
        if granted < count:
            heard.append((now + run.trip + run.late, state, now, 0, count - granted))
    pace = rule.rate
    if run.traced and pace is not None and (not run.paces or now - run.paces[-1][0] >= 0.01):
        run.paces.append((now, pace))
    if state.left and state.free:
        state.waking = True
        wait = LATE if pace is None else rule.wait(now) + LATE * chance()
        state.wake = now + wait
        heard.append((state.wake, state, 0.0, 0, 0))
    return heard
