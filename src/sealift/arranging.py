"""A run's ledger is arranged before it begins: in one piece, or in a part for each shard (`sealift.shards`).

Of the shards that begin at once one arranges, and the others wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sealift.destination import Destination, File
from sealift.errors import LocalStorageError, ObjectError
from sealift.ledger import Record
from sealift.localpath import place_of
from sealift.sharding import Shard
from sealift.shards import begin_part, present, unite
from sealift.standing import fits

AGAIN = 0.1
"""Seconds between looks whether another shard has done: copying takes it seconds, or nothing at all."""

Noted = Callable[[str], None]


async def arrange(destination: Destination, whole: Path, shard: Shard | None, noted: Noted) -> None:
    """Let the ledger in `whole` be as a run of this `shard`, or of none, needs it. `noted` hears of damage.

    Raises LocalStorageError, also where shards of another number of them are under way.
    """
    if shard is None and not await run_sync(present, whole):
        return
    held = await _alone(destination)
    try:
        parts = [part for part in await run_sync(present, whole) if shard is None or part.count != shard.count]
        for part in parts:
            if await run_sync(destination.is_locked_by, part.name):
                raise LocalStorageError(
                    f"shard {part} is being mirrored, with its ledger in {whole}: wait for it to end, as there is one "
                    "number of shards at a time",
                    code="DestinationLocked",
                )
        await _carried_out(unite(whole, parts, noted, partial(_in_place, destination)))
        for part in parts:
            await run_sync(destination.unite_partials, part.name)
        if shard is not None:
            await _carried_out(begin_part(whole, shard, noted))
    finally:
        destination.end_arranging(held)


def _in_place(destination: Destination, record: Record) -> bool:
    """Whether a file is still as it was recorded."""
    try:
        facts = destination.facts(place_of(record.path))
    except ObjectError:
        return False
    return isinstance(facts, File) and fits(facts, record)


async def _alone(destination: Destination) -> list[int]:
    """Wait until no other shard arranges, and keep others from it."""
    while True:
        held = await run_sync(destination.begin_arranging)
        if held is not None:
            return held
        await anyio.sleep(AGAIN)


async def _carried_out(steps: Generator[None, None, None]) -> None:
    """Take all steps, each in a thread, so that a run can be stopped between two."""
    try:
        while await run_sync(next, steps, True) is None:
            pass
    finally:
        steps.close()
