"""When worker processes pay, and how many. Pure.

Starting one costs some 0.2 s of a core, and each small object costs a fifth more when it is handed over. So a run
begins without any, and gets them when its own event loop is what limits it, and enough is left to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Self

LOOK_EVERY = 0.05
"""Seconds between two looks."""

BUSY = 0.8
"""The share of the time for which a loop works that is the limit: the rest goes to whoever else wants the core."""

FEW_LOOKS, LOOKS = 3, 10
"""Looks that are taken together: a few where it is known that enough is left; else half a second, about what it costs
to start the workers."""

REPAYS = 1.0
"""Seconds of work left from which workers pay: two processes save half of them, and take 0.3 s to be there."""

MOST = 8
"""Processes: what one parent can feed, whose part of a small object is about an eighth of the whole."""

JOINS_IN = 4
"""Processes up to which the parent is one of them: handing out takes up to half of its core by then."""


class CrewRule:
    """Hears how busy the loop is, and says when to take workers on. Times are seconds."""

    def __init__(self, *, chosen: int | None, cores: int, lanes: int) -> None:
        """`chosen` by the user, or None. Each process needs one of the `lanes`, and a core unless it was chosen."""
        self.shares = max(1, min(min(cores, MOST) if chosen is None else chosen, lanes))
        """Processes that fetch, and have a share each in the run's budgets."""
        self.joins_in = self.shares <= JOINS_IN
        """Whether this process is one of them."""
        self.due = chosen is not None
        """It is time."""
        self._looks: deque[tuple[float, float]] = deque(maxlen=LOOKS)

    @classmethod
    def of_cluster(cls, size: int) -> Self:
        """Return the rule for so many workers elsewhere: they do all of the fetching, from the beginning."""
        rule = cls(chosen=size, cores=size, lanes=size)
        rule.joins_in = False
        return rule

    @property
    def workers(self) -> int:
        """How many processes to start when it is time."""
        return self.shares - self.joins_in

    def look(self, cpu: float, elapsed: float, *, left: Callable[[], float], more: bool) -> None:
        """Hear that the loop used `cpu` of the last `elapsed` seconds, and how long it would go on alone.

        `left` says how long what waits would take it at its present pace, and is asked of a busy loop only: it goes
        through all that. `more` is whether more may come.
        """
        self._looks.append((cpu, elapsed))
        if not (self._busy(FEW_LOOKS) or self._busy(LOOKS)):
            return
        if left() >= REPAYS:
            self.due = self.due or self._busy(FEW_LOOKS)
        elif more:
            self.due = self.due or self._busy(LOOKS)

    def _busy(self, looks: int) -> bool:
        """Whether the loop was busy over the last so many looks."""
        last = list(self._looks)[-looks:]
        return len(last) == looks and sum(cpu for cpu, _ in last) >= BUSY * sum(elapsed for _, elapsed in last)
