"""Being woken at a moment of the monotonic clock: not before it, and once.

uvloop counts whole milliseconds, and rounds: what is to wait for less than half of one does not wait. Whoever asks the
clock then whether it is time already (as anyio's timeouts do) goes round and round until it is, 97 times for each of
300 permits a second. So the moment is put off to the millisecond's end: nobody who wakes has woken for nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

GRAINS = 1000
"""Moments a second that the coarsest clock of an event loop can tell apart: uvloop's."""


def wake_at(due: float, wake: Callable[[], None]) -> asyncio.TimerHandle:
    """Call `wake` at `due` in seconds of `time.monotonic`, or within a millisecond of it; what is returned cancels."""
    return asyncio.get_running_loop().call_at(math.ceil(due * GRAINS) / GRAINS, wake)
