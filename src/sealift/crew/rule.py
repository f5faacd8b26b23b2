"""When worker processes pay. Pure.

Starting one costs some 0.2 s of a core, and each object costs a fifth more when it is handed over. So a run begins
without any, and gets them when its own event loop is what limits it: when it has been at work all the time for a while.
"""

from __future__ import annotations

LOOK_EVERY = 0.1
"""Seconds between two looks."""

BUSY = 0.8
"""The share of the time for which a loop works that is the limit: the rest goes to whoever else wants the core."""

LOOKS = 5
"""Looks in a row at a busy loop: half a second, about what it costs to start the workers."""

MOST = 8
"""Processes: what one parent can feed, whose part of a small object is about an eighth of the whole."""


class CrewRule:
    """Hears how busy the loop is, and says when to take workers on. Times are seconds."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._busy = 0

    def processes(self, chosen: int | None) -> int:
        """Return how many processes are started when it is time, `chosen` by the user or not; 0 for none at all."""
        if chosen is None:
            return min(self._cores, MOST) if self._cores > 1 else 0
        return chosen if chosen > 1 else 0

    def due(self, cpu: float, elapsed: float) -> bool:
        """Hear that the loop used `cpu` of the last `elapsed` seconds; say whether it is time."""
        self._busy = self._busy + 1 if cpu >= BUSY * elapsed else 0
        return self._busy >= LOOKS
