"""Running a verb: the event loop, the signals that stop it, and the clock that draws progress beside it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

import anyio

from sealift.cli.status import INTERRUPTED
from sealift.garbage import collect_less_often

T = TypeVar("T")

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None
"""What `signal.signal` takes and gives back."""

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """The first SIGINT or SIGTERM cancels the work, a second one ends the process at once.

    Plain handlers, not the event loop's: a second signal has to work also when the loop does not turn any more.
    """

    def __init__(self, farewell: Callable[[], None], *, patient: bool = False) -> None:
        self.heard = False
        """Whether there was a signal."""
        self._farewell = farewell
        self._patient = patient
        self._stopped = False
        self._cancel: Callable[[], object] | None = None
        self._before: dict[signal.Signals, _Handler] = {}

    def __enter__(self) -> Self:
        for number in _STOPPING:
            # What is ignored stays ignored: a shell without job control starts background jobs so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self) -> None:
        """Cancel the work, now or as soon as it begins. May be called from a signal handler."""
        self._stopped = True
        if self._cancel is not None:
            self._cancel()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Enclose the work, on the event loop."""
        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as scope:
            self._cancel = lambda: loop.call_soon_threadsafe(scope.cancel)
            if self._stopped:
                scope.cancel()
            try:
                yield
            finally:
                self._cancel = None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.heard and not self._patient:
            self._farewell()
            os._exit(INTERRUPTED)
        self.heard = True
        self.stop()


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """How the work ended: with a result, with an error, or with neither where it was stopped."""

    result: T | None = None
    error: Exception | None = None
    interrupted: bool = False
    """A signal was heard before there was a result."""


class Drawn(Protocol):
    """What is drawn beside the work."""

    @property
    def interval(self) -> float:
        """Seconds between two drawings."""

    def draw(self) -> None:
        """Draw it now."""

    def close(self) -> None:
        """Take it away."""


def conduct(work: Callable[[], Awaitable[T]], interrupts: Interrupts, drawn: Drawn | None = None) -> Ended[T]:
    """Run `work` on an event loop of its own, and return how it ended."""
    collect_less_often()
    try:
        return anyio.run(_beside, work, interrupts, drawn, backend="asyncio", backend_options={"use_uvloop": True})
    finally:
        if drawn is not None:
            drawn.close()


async def _beside(work: Callable[[], Awaitable[T]], interrupts: Interrupts, drawn: Drawn | None) -> Ended[T]:
    ended: Ended[T] | None = None
    async with anyio.create_task_group() as beside:
        if drawn is not None:
            beside.start_soon(keep_drawing, drawn)
        with interrupts.scope():
            ended = await ending(work())
        beside.cancel_scope.cancel()
    if ended is None:
        return Ended(interrupted=interrupts.heard)
    return ended if ended.error is None else replace(ended, interrupted=interrupts.heard)


async def ending(work: Awaitable[T]) -> Ended[T]:
    """Wait for the work, and return how it ended, unless it is cancelled."""
    try:
        return Ended(await work)
    except Exception as error:  # noqa: BLE001 - whoever asked for the work decides what to say of it
        return Ended(error=leaf(error))


async def keep_drawing(drawn: Drawn) -> None:
    """Draw until cancelled."""
    while True:
        await anyio.sleep(drawn.interval)
        drawn.draw()


def leaf(error: Exception) -> Exception:
    """Return the one error that a task group bundled up, or the bundle if there are several."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
