"""From an origin's log to figures: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.kms.origin import FREE, GRANTED, REFUSED, Call

SETTLING = 0.1
"""Seconds in which an answer on its way is heard of, and acted upon, by a busy client."""


@dataclass(frozen=True)
class Figures:
    """What one client did."""

    gets: int
    charged: int
    """Those that asked KMS, refused ones included."""
    refused: int
    in_flight: int
    """Of these, those that had been sent before the first refusal could be known."""
    most: int
    """Charged GETs in the fullest second, wherever it begins."""
    average: float
    """Charged GETs a second, from the first to the last."""
    seconds: list[tuple[int, int]]
    """Granted and refused in each second since the first GET of anybody."""
    free_by: float | None
    """Seconds after the first GET by which all had come that did not ask KMS."""

    @property
    def late_refusals(self) -> float:
        """The share of the GETs that were refused though refusals were known of."""
        return (self.refused - self.in_flight) / self.gets if self.gets else 0.0


def figures(calls: Sequence[Call], delay: float = 0.0) -> Figures:
    """Return the figures of these calls, all of one client; answers take `delay` seconds."""
    asked = [call for call in calls if call.verdict != FREE]
    free = [call.at for call in calls if call.verdict == FREE]
    times = [call.at for call in asked]
    began = calls[0].at if calls else 0.0
    span = times[-1] - times[0] if times else 0.0
    granted = Counter(int(call.at - began) for call in asked if call.verdict == GRANTED)
    refused = Counter(int(call.at - began) for call in asked if call.verdict == REFUSED)
    return Figures(
        gets=len(calls),
        charged=len(asked),
        refused=refused.total(),
        in_flight=in_flight_at_the_first_refusal(asked, delay),
        most=fullest_second(times),
        average=(len(times) - 1) / span if span else 0.0,
        seconds=[(granted[second], refused[second]) for second in range(int(span) + 1)],
        free_by=free[-1] - began if free else None,
    )


def fullest_second(times: Sequence[float]) -> int:
    """Return the most of these ascending times that lie within one second: of two a whole second apart, only one."""
    most = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def in_flight_at_the_first_refusal(asked: Sequence[Call], delay: float) -> int:
    """Return how many refused calls a client could not have held back.

    These came before the first refusal was answered; and of those soon after, the first of each connection, which
    carries one GET at a time.
    """
    first = next((call.at for call in asked if call.verdict == REFUSED), None)
    if first is None:
        return 0
    known = first + delay
    count = 0
    seen: set[int] = set()
    for call in asked:
        if call.at <= known:
            count += call.verdict == REFUSED
        elif call.at <= known + SETTLING and call.connection not in seen:
            seen.add(call.connection)
            count += call.verdict == REFUSED
    return count
