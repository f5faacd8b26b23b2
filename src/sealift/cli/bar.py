"""The progress bar: what tqdm draws."""

from __future__ import annotations

import io
import threading
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


class Bar:
    """A bar of bytes, `scaled` by their total, with a sentence at its end; or the sentence alone."""

    def __init__(self, stream: Unbreakable, *, scaled: bool) -> None:
        self._tqdm = _Tqdm(
            total=0,
            file=cast("io.TextIOBase", stream),
            bar_format="{percentage:3.0f}% |{bar}| {desc}" if scaled else "{desc}",
            dynamic_ncols=True,
            leave=False,
            disable=False,
        )

    def show(self, done: int, total: int, sentence: str) -> None:
        """Draw the bar anew."""
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
