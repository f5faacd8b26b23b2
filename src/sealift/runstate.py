"""What a run keeps: its ledger, its log, what it takes down of the listings. Where that is, and how it is opened.

It is in DEST/.sealift, or in the directory of --state; what is a shard's alone is in a directory of its own there.
Everything here blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sealift.config import Check, Settings
from sealift.destination import OWN_DIRECTORY, Destination
from sealift.errors import LocalStorageError
from sealift.ledger import Ledger
from sealift.listed import Listed
from sealift.naming import Names
from sealift.partial import unusable
from sealift.runlog import RunLog
from sealift.shards import SHARDS, open_part, part_of


def made_directory(destination: Destination, settings: Settings) -> Path:
    """Return the directory of the ledger, and of its shards' parts; made if need be, and locked.

    Raises LocalStorageError.
    """
    chosen, shard = settings.storage.state, settings.selection.shard
    if chosen is None:
        if shard is not None:
            os.close(destination.own_directory(SHARDS, shard.name))
        return destination.path / OWN_DIRECTORY
    try:
        ((chosen if shard is None else part_of(chosen, shard)) / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(error, chosen) from error
    destination.lock_state(chosen, None if shard is None else shard.name)
    return chosen


def open_ledger(whole: Path, settings: Settings, warn: Callable[[str], None]) -> Ledger | None:
    """Open the run's ledger. With a check that needs none, a run goes on without one that cannot be used.

    Raises LocalStorageError.
    """
    shard = settings.selection.shard
    try:
        if shard is not None:
            return open_part(whole, shard, warn)
        return Ledger.open(whole, warn)
    except LocalStorageError as error:
        if settings.storage.check is not Check.SIZE_MTIME:
            raise
        warn(f"{error.message}; this run goes on without it")
        return None


def begin_listed(settings: Settings, directory: Path | None) -> Listed | None:
    """Begin to take down what is listed, where something may be deleted, or named twice. Raises LocalStorageError."""
    needed = settings.storage.delete or settings.selection.files_from is not None
    return Listed.begin(directory) if needed else None


def open_names(settings: Settings) -> Names | None:
    """Open the file that names the objects, if one does. Raises ConfigError."""
    chosen = settings.selection
    return None if chosen.files_from is None else Names.open(chosen.files_from, null=chosen.null)


def begin_log(destination: Destination, settings: Settings, sources: Sequence[str]) -> RunLog:
    """Begin the run's log. Raises LocalStorageError."""
    chosen, shard = settings.storage.state, settings.selection.shard
    below = () if shard is None else (SHARDS, shard.name)
    try:
        if chosen is None:
            directory_fd = destination.own_directory(*below, "runs")
        else:
            directory_fd = os.open(chosen.joinpath(*below, "runs"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return RunLog(directory_fd, datetime.now(UTC), sources=sources, dest=str(destination.path.absolute()))
        finally:
            os.close(directory_fd)
    except OSError as error:
        raise unusable(error, chosen or destination.path) from error
