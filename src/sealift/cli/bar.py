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

_ECHOED = "^C"
"""What a terminal writes behind the bar when Ctrl-C is pressed, and what has to be on the same line to go with it."""


class Bar:
    """A bar of bytes, `scaled` by their total, with facts at its end; or the facts alone."""

    def __init__(self, stream: Unbreakable, *, scaled: bool) -> None:
        self._stream = stream
        self._taken = LEAST + _AROUND if scaled else 0
        self._tqdm = _Tqdm(
            total=0,
            file=cast("io.TextIOBase", stream),
            bar_format="{percentage:3.0f}% |{bar}| {desc}" if scaled else "{desc}",
            ncols=self._columns,
            leave=False,
            disable=False,
        )

    def show(self, done: int, total: int, facts: Sequence[str]) -> None:
        """Draw the bar anew. Of facts for which the terminal is too narrow the longest are left out."""
        self._tqdm.ncols = columns = self._columns
        sentence = fitting(facts, columns - self._taken)
        # One at the least: without a total tqdm has another layout.
        self._tqdm.total = max(done, total, 1)
        self._tqdm.n = max(done, 0)
        self._tqdm.set_description_str(sentence, refresh=False)
        self._tqdm.refresh()

    def clear(self) -> None:
        """See `Drawing.clear`."""
        self._tqdm.clear()
        self._wipe()

    def refresh(self) -> None:
        """See `Drawing.refresh`."""
        self._tqdm.refresh()

    def close(self) -> None:
        """Take the bar off the terminal for good."""
        self._tqdm.close()
        self._wipe()

    @property
    def _columns(self) -> int:
        """How wide a bar may be."""
        return max(1, self._stream.columns - len(_ECHOED) - 1)

    def _wipe(self) -> None:
        """Take away what is on the line beside the bar."""
        self._stream.write(f"\r{' ' * (self._columns + len(_ECHOED))}\r")
        self._stream.flush()


def fitting(facts: Sequence[str], columns: int) -> str:
    """Return as many of the facts as fit, in their order."""
    left = list(facts)
    while left and len(", ".join(left)) > columns:
        left.remove(max(left, key=len))
    return ", ".join(left)
