"""The progress bar: what tqdm draws."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, cast

from tqdm import tqdm

from sealift.cli.console import Unbreakable

if TYPE_CHECKING:
    _Base = tqdm[NoReturn]
else:
    _Base = tqdm  # generic in its stubs only


class _Tqdm(_Base):
    """tqdm without the thread that watches over it: the event loop draws."""

    monitor_interval = 0


_Tqdm.set_lock(threading.RLock())  # tqdm's own lock spans processes, which costs a semaphore of the system's


LEAST = 6
"""Columns that a bar takes, at the least, before facts are left out for it: a sixth of the work is seen then."""

_AROUND = len("100% || ")


class Bar:
    """A bar of bytes, `scaled` by their total, with facts at its end; or the facts alone."""

    def __init__(self, stream: Unbreakable, *, scaled: bool) -> None:
        self._stream = stream
        self._taken = LEAST + _AROUND if scaled else 0
        self._tqdm = _Tqdm(
            total=0,
            file=cast("io.TextIOBase", stream),
            bar_format="{percentage:3.0f}% |{bar}| {desc}" if scaled else "{desc}",
            dynamic_ncols=True,
            leave=False,
            disable=False,
        )

    def show(self, done: int, total: int, facts: Sequence[str]) -> None:
        """Draw the bar anew. Of facts for which the terminal is too narrow the longest are left out."""
        sentence = fitting(facts, self._stream.columns - self._taken)
        # One at the least: without a total tqdm has another layout.
        self._tqdm.total = max(done, total, 1)
        self._tqdm.n = max(done, 0)
        self._tqdm.set_description_str(sentence, refresh=False)
        self._tqdm.refresh()

    def clear(self) -> None:
        """See `Drawing.clear`."""
        self._tqdm.clear()

    def refresh(self) -> None:
        """See `Drawing.refresh`."""
        self._tqdm.refresh()

    def close(self) -> None:
        """Take the bar off the terminal for good."""
        self._tqdm.close()


def fitting(facts: Sequence[str], columns: int) -> str:
    """Return as many of the facts as fit, in their order."""
    left = list(facts)
    while left and len(", ".join(left)) > columns:
        left.remove(max(left, key=len))
    return ", ".join(left)
