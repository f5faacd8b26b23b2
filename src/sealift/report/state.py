"""What a destination is in: whether a run is under way, what is unfinished, what its ledger holds."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from sealift.destination import OWN_DIRECTORY
from sealift.errors import ConfigError
from sealift.ledger import Ledger
from sealift.partial import NOTE
from sealift.report.runs import logs

LINUX = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Objects of which a part is there."""

    objects: int
    bytes: int
    """What the next run need not fetch: bytes that are recorded as being on disk."""
    size: int
    """What these objects have in all, those aside of which nothing is recorded yet."""


@dataclass(frozen=True, slots=True)
class State:
    """A destination as it is."""

    directory: Path
    """Of the logs."""
    logs: tuple[Path, ...]
    """The oldest first."""
    running: bool
    unfinished: Unfinished
    files: int | None
    """That the ledger knows; None where there is none."""
    bytes: int = 0


def look(dest: Path, state: Path | None) -> State:
    """Look at a destination. Raises ConfigError where none was ever mirrored to, LocalStorageError."""
    own = dest / OWN_DIRECTORY
    if not own.is_dir():
        raise ConfigError(f"nothing was ever mirrored to {dest}: there is no {own}")
    kept = state or own
    files, size = _ledger(kept)
    return State(kept / "runs", tuple(logs(kept / "runs")), _running(own), _unfinished(own / "partial"), files, size)


def _running(own: Path) -> bool:
    """Say whether a run holds the lock. Trying the lock would tell, too, and keep out a run that begins right now."""
    try:
        lock = (own / "lock").lstat()
        holder = json.loads((own / "lock").read_bytes())
        os.kill(holder["pid"], 0)
        held = Path("/proc/locks").read_text(encoding="ascii") if LINUX else f":{lock.st_ino} "
    except PermissionError:
        return True  # a process of somebody else's
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return f":{lock.st_ino} " in held


def _unfinished(partial: Path) -> Unfinished:
    objects = bytes_ = size = 0
    names = {path.name for path in partial.iterdir()} if partial.is_dir() else set()
    for name in names:
        if not name.endswith((NOTE, f"{NOTE}.new")):
            objects += 1
            try:
                note = json.loads((partial / f"{name}{NOTE}").read_text(encoding="utf-8"))
                bytes_ += sum(stop - start for start, stop in note["done"])
                size += note["size"]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # nothing is recorded of it: it starts over
    return Unfinished(objects, bytes_, size)


def _ledger(directory: Path) -> tuple[int | None, int]:
    ledger = Ledger.open_to_read(directory, lambda _: None)
    if ledger is None:
        return None, 0
    with ledger:
        return ledger.totals()
