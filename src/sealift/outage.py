"""Whether KMS is down, and when it is tried again: pure, with time passed in.

An outage is failures and no success at all. It begins when an object has used up its attempts, and nothing was granted
since the first of them; it ends with the first grant, or with a refusal for rate, which somebody at work has sent.
Meanwhile single requests are tried, at growing intervals, until the patience is spent.
"""

from __future__ import annotations

import math

FIRST = 1.0
"""Seconds from the beginning to the first try: what led to it took half a minute, and most outages are short."""
LONGEST = 60.0
"""Seconds between two tries at the most, so that a run goes on within a minute of KMS."""


class Outage:
    """Whether KMS is down. `patience`: the seconds after which it is given up. All times are seconds of one clock."""

    __slots__ = ("_granted", "_interval", "_next", "_since", "patience")

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._granted = -math.inf
        self._since: float | None = None
        self._interval = FIRST
        self._next = -math.inf

    @property
    def on(self) -> bool:
        """Whether it is down, as far as is known."""
        return self._since is not None

    def failed(self, since: float, now: float) -> bool:
        """Hear that an object failed at every attempt since `since`; say whether KMS is down."""
        if self._since is None and self._granted < since:
            self._since = since
            self._interval = FIRST
            self._next = now + FIRST
        return self.on

    def granted(self, now: float) -> float | None:
        """Hear that KMS is at work. Return how many seconds it was down, if it was."""
        self._granted = now
        since, self._since = self._since, None
        return None if since is None else now - since

    def spent(self, now: float) -> bool:
        """Say whether patience is at its end."""
        return self._since is not None and now - self._since >= self.patience

    def wait(self, now: float) -> float:
        """Return in how many seconds something may be sent."""
        return max(0.0, self._next - now) if self.on else 0.0

    def tried(self, now: float) -> None:
        """Hear that something is sent. While KMS is down the next one follows later than this one did."""
        if self._since is None:
            return
        self._interval = min(LONGEST, 2 * self._interval)
        self._next = now + self._interval
        last = self._since + self.patience
        if now < last < self._next:  # one last try when patience ends
            self._next = last

    def told_nothing(self) -> None:
        """Hear that KMS was not asked by what was tried: another one may be tried at once."""
        self._next = -math.inf
