"""The rules that were compared, beside the one in `sealift.concurrency`."""

from __future__ import annotations

import math
import random

from benchmarks.concurrency.model import Scenario

from sealift.concurrency import HIGHEST, Concurrency, Totals, initial_for


def auto(scenario: Scenario, *, highest: int = HIGHEST) -> Concurrency:
    """Return the rule of `sealift.concurrency` as lanes begin with it: as the first GET's size says."""
    return Concurrency(highest=highest, now=0.0, initial=initial_for(scenario.size(random.Random(1))))


class Fixed:
    """As many as somebody chose."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def look(self, totals: Totals, now: float) -> int:
        return self.limit


class _Rounds:
    """What the other rules share: a judgement a round, in which about every GET under way is followed by another."""

    def __init__(self, initial: int) -> None:
        self.limit = initial
        self._first: Totals | None = None
        self._began = 0.0

    def look(self, totals: Totals, now: float) -> int:
        if self._first is None:
            self._first, self._began = totals, now
        seconds = now - self._began
        ended = totals.answered + totals.refused - self._first.answered - self._first.refused
        if seconds >= 0.025 and (ended >= self.limit or seconds >= 1.0):
            refused = totals.refused - self._first.refused
            received = totals.received - self._first.received
            goodput = (totals.answered - self._first.answered + received / 2**20) / seconds
            latency = self.limit * seconds / max(1, ended)
            self.judge(goodput, latency, refused / max(1, ended))
            self.limit = min(max(1, self.limit), HIGHEST)
            self._first, self._began = totals, now
        return self.limit

    def judge(self, goodput: float, latency: float, refused: float) -> None:
        raise NotImplementedError


class Aimd(_Rounds):
    """TCP Reno: slow start to the first refusal, then one more a round, halved by refusals."""

    def __init__(self) -> None:
        super().__init__(32)
        self._start = True

    def judge(self, goodput: float, latency: float, refused: float) -> None:
        if refused > 0.01:
            self._start = False
            self.limit //= 2
        else:
            self.limit = 2 * self.limit if self._start else self.limit + 1


class Gradient(_Rounds):
    """Gradient2 of Netflix's concurrency-limits: the long-term latency against this round's, and a queue of √limit."""

    def __init__(self) -> None:
        super().__init__(32)
        self._long = 0.0
        self._exact = 32.0

    def judge(self, goodput: float, latency: float, refused: float) -> None:
        self._long = latency if not self._long else self._long + (latency - self._long) * 0.05
        if self._long > 2 * latency:
            self._long *= 0.95
        gradient = max(0.5, min(1.0, 1.5 * self._long / latency))
        if refused > 0.01:
            self._exact *= 0.7
        else:
            self._exact = 0.8 * self._exact + 0.2 * (self._exact * gradient + math.sqrt(self._exact))
        self._exact = min(max(1.0, self._exact), HIGHEST)
        self.limit = int(self._exact)


class Bbr(_Rounds):
    """BBR: double while goodput grows, then twice the rate × the least latency seen, probing a quarter up and down."""

    def __init__(self) -> None:
        super().__init__(32)
        self._best: list[float] = []
        self._least: list[float] = []
        self._stalled = 0
        self._rounds = 0

    def judge(self, goodput: float, latency: float, refused: float) -> None:
        ended = self.limit / latency
        self._least = [*self._least[-50:], latency]
        if self._stalled < 3:
            self._stalled = 0 if ended >= 1.25 * max(self._best, default=0.0) else self._stalled + 1
            self._best = [*self._best[-10:], ended]
            if self._stalled < 3:
                self.limit = self.limit * 2 if not self._stalled else self.limit
                return
        self._best = [*self._best[-10:], ended]
        self._rounds += 1
        gain = (1.25, 0.75, 1, 1, 1, 1, 1, 1)[self._rounds % 8]
        product = max(self._best) * min(self._least)
        self.limit = int(self.limit * 0.7) if refused > 0.01 else max(4, round(2 * gain * product))


class Climb(_Rounds):
    """Hill climbing by single rounds: a step on while goodput is not lower than before, otherwise back."""

    def __init__(self) -> None:
        super().__init__(32)
        self._before = 0.0
        self._ratio = 1.4

    def judge(self, goodput: float, latency: float, refused: float) -> None:
        if refused > 0.01:
            self._ratio = 1 / 1.4
        elif goodput < self._before * 1.02:
            self._ratio = 1 / self._ratio
        self._before = goodput
        self.limit = (
            max(self.limit + 1, round(self.limit * self._ratio)) if self._ratio > 1 else int(self.limit * self._ratio)
        )
