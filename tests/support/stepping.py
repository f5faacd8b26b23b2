"""Stopping a program at its k-th await, whatever it happens to wait for there.

A step ends where a task suspends. Tasks that begin inside `stepping`, the work's own and those of the libraries below
it, report each of their suspensions; what runs beside them in the loop, or in another thread's, does not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any


class Stepped(Coroutine[Any, Any, Any]):
    """A coroutine that tells where it suspends. For everybody who looks into it, it is the one inside."""

    def __init__(self, inside: Any, suspended: Callable[[], None]) -> None:
        self._inside = inside
        self._suspended = suspended

    def send(self, value: Any) -> Any:
        awaited = self._inside.send(value)
        self._suspended()
        return awaited

    def throw(self, *error: Any) -> Any:
        awaited = self._inside.throw(*error)
        self._suspended()
        return awaited

    def close(self) -> None:
        self._inside.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        inside: Generator[Any, Any, Any] = self._inside.__await__()
        return inside

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


@contextmanager
def stepping(suspended: Callable[[], None]) -> Iterator[None]:
    """Call `suspended` whenever a task suspends that began in here."""

    def step(loop: asyncio.AbstractEventLoop, coroutine: Any, **how: Any) -> asyncio.Task[Any]:
        return asyncio.Task(Stepped(coroutine, suspended), loop=loop, **how)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(step)
    try:
        yield
    finally:
        loop.set_task_factory(None)


class Stopped:
    """What became of some work that was to be stopped at its `at`-th await (from 1)."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0
        self.stopped = False
        """The cancellation came while it was running, and ended it."""


async def stopped_at(at: int, work: Callable[[], Coroutine[Any, Any, object]], *, scoped: bool) -> Stopped:
    """Run `work` up to its `at`-th await and cancel it there, or run it to its end if it has fewer.

    `scoped`: cancelled as anyio does it, again and again until the work has ended; or else once, as asyncio does.
    """
    import anyio

    result = Stopped(at)
    cancels: list[Callable[[], object]] = []

    def suspended() -> None:
        result.steps += 1
        if result.steps == at:
            cancels[0]()

    async def begin() -> None:
        with anyio.CancelScope() as scope:
            if scoped:
                cancels.append(scope.cancel)
            await work()
        result.stopped = scope.cancelled_caught

    with stepping(suspended):
        task = asyncio.get_running_loop().create_task(begin())
        if not scoped:
            cancels.append(task.cancel)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
    if task.cancelled():
        result.stopped = True
    else:
        task.result()
    return result
