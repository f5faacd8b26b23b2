"""A run against S3 as a queueing model, deterministic for a seed.

A GET waits for the client's CPU, then for its first byte, then shares the link evenly with the other bodies, none of
which is faster than one connection can be. A connection that is used for the first time is set up before. S3 refuses
what exceeds its rate. The link's and the CPU's rates vary, and the disk stalls, as the scenario says.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sealift.concurrency import Totals

KIB, MIB = 1024, 1024 * 1024
TICK = 0.025
"""Seconds: how often bytes are seen to arrive where no GET ends, and how often the link's rate may change."""


class Rule(Protocol):
    """What decides how many GETs may be under way."""

    limit: int

    def look(self, totals: Totals, now: float) -> int:
        """Take note, and return the limit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Sizes in bytes, times in seconds, rates per second."""

    name: str
    size: Callable[[random.Random], int]
    seconds: float
    objects: int | None = None
    """A run of so many objects, which ends with the last of them; otherwise it goes on for all of the `seconds`."""
    link: float
    per_connection: float
    first_byte: float
    spread: float = 0.2
    """Sigma of the first byte's log-normal time."""
    cpu_get: float = 45e-6
    """Measured: docs/design.md, sign to rename."""
    cpu_byte: float = 1 / 1.5e9
    """Measured, plain HTTP."""
    crowding: float = 1000.0
    """How many more GETs under way double what each costs the CPU: caches, larger epoll sets, larger heaps."""
    set_up: float = 2.0
    """Round trips (first bytes) to set up a connection."""
    cpu_set_up: float = 200e-6
    cap: float | None = None
    noise: float = 0.0
    """Sigma of the link's and the CPU's log-normal rate, drawn anew five times a second."""
    weather: Callable[[float], float] = lambda _: 1.0
    """A factor to the link's rate at a time; 0 is a stalled disk."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    seconds: float
    work: float
    """GETs, with each MiB counted as another, those under way as far as they have come, and less the refused ones."""
    answered: int
    received: float
    refused: int
    limits: list[tuple[float, int]]
    """When the limit became what."""
    late: float
    """What of the work was done in the second half of the time."""


def simulate(scenario: Scenario, rule: Rule, seed: int = 1) -> Result:  # noqa: C901
    """Let the rule run in the scenario."""
    s = scenario
    rng, noise = random.Random(seed), random.Random(f"noise {seed}")  # the noise is the same whatever the rule does
    now, attained, cpu_free, cpu_used = (
        0.0,
        0.0,
        0.0,
        0.0,
    )  # attained: bytes a body has got that was there from the start
    events: list[tuple[float, int, int, int]] = []  # time, serial, what, size
    bodies: list[tuple[float, int, int]] = []  # attained at which it ends, serial, size
    serial = under_way = opened = answered = refused = started = 0
    received = half = 0.0
    tokens, tokens_at = (s.cap or 0.0) * 0.1, 0.0
    left = s.objects
    factor = cpu_factor = 1.0
    redraw = 0.2
    limits = [(0.0, rule.limit)]
    tick, first_byte, refusal = 0, 1, 2

    def push(when: float, what: int, size: int) -> None:
        nonlocal serial
        serial += 1
        heapq.heappush(events, (when, serial, what, size))

    def fill() -> None:
        nonlocal under_way, opened, cpu_free, cpu_used, tokens, tokens_at, left, started
        while under_way < rule.limit and left != 0:
            under_way += 1
            started += 1
            size = s.size(rng)
            cost = (s.cpu_get + size * s.cpu_byte) * (1 + under_way / s.crowding) * cpu_factor
            wait = s.first_byte * rng.lognormvariate(0.0, s.spread)
            if under_way > opened:
                opened = under_way
                cost += s.cpu_set_up
                wait += s.set_up * s.first_byte
            cpu_free = max(cpu_free, now) + cost
            cpu_used += cost
            if s.cap is not None:
                tokens = min(s.cap * 0.1, tokens + (now - tokens_at) * s.cap)
                tokens_at = now
                if tokens < 1:
                    push(cpu_free + wait, refusal, size)
                    continue
                tokens -= 1
            if left is not None:
                left -= 1
            push(cpu_free + wait, first_byte, size)

    def look() -> None:
        cpu = cpu_used - max(0.0, cpu_free - now)
        totals = Totals(received=int(received), answered=answered, refused=refused, under_way=under_way, cpu=cpu)
        if rule.look(totals, now) != limits[-1][1]:
            limits.append((now, rule.limit))

    def work() -> float:
        """Count a body under way by what there is of it: `attained` was `ends - size` when it began."""
        begun = sum(1 - (ends - attained) / size for ends, _, size in bodies)
        return answered + begun + received / MIB - refused

    push(TICK, tick, 0)
    look()
    fill()
    while now < s.seconds and not (left == 0 and under_way == 0):
        rate = min(s.per_connection, s.link * factor / len(bodies)) if bodies else 0.0
        ends = now + (bodies[0][0] - attained) / rate if bodies and rate else float("inf")
        then = min(ends, events[0][0])
        if now < s.seconds / 2 <= then:
            half = work()
        attained += rate * (then - now)
        received += rate * (then - now) * len(bodies)
        now = then
        if ends <= events[0][0]:
            attained = bodies[0][0]
            heapq.heappop(bodies)
            answered += 1
            look()
            under_way -= 1
        else:
            _, _, what, size = heapq.heappop(events)
            if what == first_byte:
                serial += 1
                heapq.heappush(bodies, (attained + size, serial, size))
            elif what == refusal:
                refused += 1
                look()
                under_way -= 1
            else:
                push(now + TICK, tick, 0)
                if s.noise and now >= redraw:
                    redraw = now + 0.2
                    drawn = noise.lognormvariate(0.0, s.noise)
                    cpu_factor = noise.lognormvariate(0.0, s.noise)
                    factor = s.weather(now) * drawn
                elif not s.noise:
                    factor = s.weather(now)
                look()
        fill()
    return Result(now, work(), answered, received, refused, limits, work() - half)
