"""Task groups, as callers see them: one error comes out, and any way of cancelling does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.lowlevel

from sealift.errors import SealiftError

P = ParamSpec("P")
T = TypeVar("T")


def insulated(work: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let `work` run in a task of its own, so that asyncio's own cancellation reaches it as anyio's does.

    `task.cancel()` and `asyncio.timeout` break off whatever is awaited, a worker thread's call as well: the thread
    would go on behind the back of those who then close its files. A task group waits for it.
    """

    @wraps(work)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        results: list[T] = []

        async def run() -> None:
            results.append(await work(*args, **kwargs))

        with ungrouped():
            async with anyio.create_task_group() as group:
                group.start_soon(run)
        if not results:  # cancelled, and through with that before the cancellation came here
            await anyio.lowlevel.checkpoint()
        return results[0]

    return wrapper


async def share_out(
    work: Callable[[Iterator[T]], Coroutine[Any, Any, None]], items: Sequence[T], *, at_once: int
) -> None:
    """Let tasks, `at_once` at the most, share the items: each item goes to one of them. One error comes out."""
    left = iter(items)
    with ungrouped():
        async with anyio.create_task_group() as together:
            for _ in range(min(at_once, len(items))):
                together.start_soon(work, left)


@contextmanager
def ungrouped() -> Iterator[None]:
    """Let one error out of a task group's bundle: a bug before an error of ours, the gravest of those first."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        ours = sorted((error for error in errors if isinstance(error, SealiftError)), key=lambda e: -e.exit_status)
        bugs = [error for error in errors if not isinstance(error, SealiftError)]
        first = (bugs or ours)[0]
        raise first from first.__cause__


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
