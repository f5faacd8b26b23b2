"""What a destination is in: whether a run is under way, what is unfinished, what its ledger holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sealift.destination import OWN_DIRECTORY
from sealift.errors import ConfigError
from sealift.locks import LOCK, is_held, taken
from sealift.partial import NOTE, NOTE_IN_WRITING
from sealift.report.runs import logs
from sealift.runlog import ENDING
from sealift.runlog import began as time_of
from sealift.shards import SHARDS, missing, open_to_read, part_of, present


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Objects of which a part is there."""

    objects: int
    bytes: int
    """What the next run need not fetch: bytes that are recorded as being on disk."""
    size: int
    """What these objects have in all, those aside of which nothing is recorded yet."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard has left, or runs without shards."""

    shard: str
    """`3/8`; nothing for runs without."""
    directory: Path
    """Of the logs, if there are any."""
    logs: tuple[Path, ...]
    """The oldest first."""
    running: bool
    """A run is under way, as far as can be told on this machine."""
    began: datetime | None = None
    """When the last run began, to the second, where that is known without its log."""

    @property
    def unlogged(self) -> bool:
        """Whether the last run has left no log here: it was deleted, or is where a `--state` said."""
        return not self.logs or (self.began is not None and time_of(self.logs[-1].stem) < self.began)

    @property
    def under_way(self) -> Path | None:
        """The log of the run that is under way, if there is one."""
        return self.logs[-1] if self.running and not self.unlogged else None


@dataclass(frozen=True, slots=True)
class State:
    """A destination as it is."""

    directory: Path
    """Of ledger and logs."""
    parts: tuple[Part, ...]
    """The shards that mirror to it, or the one part of all."""
    missing: tuple[str, ...]
    """Shards that have never run."""
    logs: tuple[Path, ...]
    """All of them, the oldest first, also those of shards that are no more."""
    unfinished: Unfinished
    files: int | None
    """That the ledger knows; None where there is none."""
    bytes: int = 0

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return any(part.running for part in self.parts)


def look(dest: Path, state: Path | None) -> State:
    """Look at a destination. Raises ConfigError where none was ever mirrored to, LocalStorageError."""
    own = dest / OWN_DIRECTORY
    if not own.is_dir():
        raise ConfigError(f"nothing was ever mirrored to {dest}: there is no {own}")
    kept = state or own
    shards = present(kept)
    parts = [
        _part(str(shard), part_of(kept, shard) / "runs", is_held(own / SHARDS / f"{shard.name}.lock"))
        for shard in shards
    ] or [_part("", kept / "runs", is_held(own / LOCK), taken(own / LOCK))]
    every = sorted([*logs(kept / "runs"), *logs(kept / SHARDS, f"*/runs/*{ENDING}")], key=lambda path: path.name)
    files, size = _files(kept, sharded=bool(shards))
    return State(
        kept,
        tuple(parts),
        tuple(map(str, missing(shards))),
        tuple(every),
        _unfinished(own / "partial"),
        files,
        size,
    )


def _part(shard: str, runs: Path, running: bool, taken_at: datetime | None = None) -> Part:
    return Part(shard, runs, tuple(logs(runs)), running, taken_at)


def _unfinished(partial: Path) -> Unfinished:
    objects = bytes_ = size = 0
    for path in partial.rglob("*"):
        if path.name.endswith((NOTE, NOTE_IN_WRITING)) or path.is_dir():
            continue
        objects += 1
        try:
            note = json.loads(path.with_name(f"{path.name}{NOTE}").read_text(encoding="utf-8"))
            bytes_ += sum(stop - start for start, stop in note["done"])
            size += note["size"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # nothing is recorded of it: it starts over
    return Unfinished(objects, bytes_, size)


def _files(directory: Path, *, sharded: bool) -> tuple[int | None, int]:
    """Return how many files are known, None where there is no ledger, and their bytes."""
    ledger = open_to_read(directory, None, _nobody)
    if ledger is None:
        return None, 0
    with ledger:
        if not sharded:
            return ledger.totals()
        pages = [(len(page), sum(record.local_size for record in page)) for page in ledger.pages()]
        return sum(count for count, _ in pages), sum(size for _, size in pages)


def _nobody(text: str) -> None:
    """Say it to nobody: the next run says it itself."""
