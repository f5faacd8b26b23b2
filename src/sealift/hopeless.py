"""Whether it is worth going on when everything is refused: some thousands of refusals, and not a single byte.

1. Refusals are counted as long as nothing was granted.
2. At a thousand, a byte is asked of some objects from all over the sources, as there may be other keys elsewhere.
3. If one is given, the run goes on, and asks again at twice as many. If none is, there is nothing to go on for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from sealift.denial import PLAIN
from sealift.errors import AccessError, NotSent, ObjectError, Refused
from sealift.model import ByteRange, Part, RemoteObject
from sealift.refusals import is_refusal
from sealift.s3.store import Leave, ObjectStore, at_once
from sealift.sampling import HEADS
from sealift.survey import SAMPLE, evenly, spread
from sealift.tally import Tally
from sealift.taskgroups import ungrouped

ENOUGH = 1000
"""Refusals without a byte before the others are asked: a page of the listing, at $0.0004 for the GETs."""

Pick = Callable[[Sequence[RemoteObject]], Sequence[RemoteObject]]


class Hopeless:
    """Watches a run's refusals, and ends it where nothing can be read. Costs nothing where nothing is refused."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._enough = ENOUGH
        self._due = anyio.Event()
        tally.turned_away_again = self._count

    def _count(self) -> None:
        if self._tally.turned_away >= self._enough:
            self._due.set()

    async def watch(
        self, store: ObjectStore, places: Sequence[tuple[str, str]], pick: Pick, leave: Leave = at_once
    ) -> None:
        """Wait until there is reason to ask, and ask objects under `places`, buckets and prefixes, with `leave` to.

        `pick` leaves those that the run is about. Raises AccessError where nothing can be read.
        """
        while True:
            await self._due.wait()
            if self._tally.bytes:
                return
            error = await _none_readable(store, places, pick, leave)
            if error is not None:
                raise AccessError(
                    f"nothing can be read: {self._tally.turned_away:,} objects were refused, and so is a "
                    f"sample from all over the sources; the last one: {error.message}",
                    code="AccessDenied",
                    denial=error.denial if isinstance(error, Refused) else PLAIN,
                )
            self._enough = 2 * self._tally.turned_away
            self._due = anyio.Event()


async def _none_readable(
    store: ObjectStore, places: Sequence[tuple[str, str]], pick: Pick, leave: Leave
) -> ObjectError | None:
    """Return why an object of a sample cannot be read, if none can; None where that is not sure."""
    objects: list[RemoteObject] = []
    for bucket, prefix in places:
        try:
            objects += evenly(pick((await spread(store, bucket, prefix)).objects), SAMPLE)
        except AccessError:  # a file names what is to be mirrored, and nobody may list
            return None
    left = iter(evenly(objects, SAMPLE))
    refused: list[ObjectError] = []
    sure = True

    async def ask(scope: anyio.CancelScope) -> None:
        nonlocal sure
        for remote in left:
            error = await _refusal(store, remote, leave)
            sure = sure and error is not None and is_refusal(error)
            if error is not None:
                refused.append(error)
            if not sure:
                scope.cancel()
                return

    with ungrouped():
        async with anyio.create_task_group() as together:
            for _ in range(HEADS):
                together.start_soon(ask, together.cancel_scope)
    return refused[-1] if sure and refused else None


async def _refusal(store: ObjectStore, remote: RemoteObject, leave: Leave) -> ObjectError | None:
    """Ask for an object's first byte, and return what it is refused with, if it is."""
    whole = remote.size == 0
    while True:
        try:
            async with (
                leave(remote.bucket) as going,
                store.open(remote, Part(ByteRange(0, 0 if whole else 1), whole=whole), going),
            ):
                return None
        except NotSent:
            continue
        except ObjectError as error:
            return error
