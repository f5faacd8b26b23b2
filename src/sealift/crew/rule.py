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

    def __init__(self, *, chosen: int | None, cores: int, lanes: int) -> None:
        """`chosen` by the user, or None. Each process needs one of the `lanes`, and a core unless it was chosen."""
        processes = min(min(cores, MOST) if chosen is None else chosen, lanes)
        self.processes = processes if processes > 1 else 0
        """How many to start when it is time; 0: none at all."""
        self.due = chosen is not None
        """It is time."""
        self._busy = 0

    def look(self, cpu: float, elapsed: float) -> None:
        """Hear that the loop used `cpu` of the last `elapsed` seconds."""
        self._busy = self._busy + 1 if cpu >= BUSY * elapsed else 0
        self.due = self.due or self._busy >= LOOKS
