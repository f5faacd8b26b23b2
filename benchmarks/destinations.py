"""Directories for runs to fill, of which none slows down the next.

ext4 without a journal gives a deleted file's inode to no other for 35 seconds, and for each new file it looks through
all of those (`recently_deleted` in fs/ext4/ialloc.c). Where a run followed another's 5,000 deleted files, that was two
fifths of its CPU time. So files on a disk are emptied, and deleted when all runs are over.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.origin import CACHE

MEMORY = Path("/dev/shm")


class Destinations:
    """Fresh directories, on a disk or in memory (tmpfs, where there is one)."""

    def __init__(self, base: Path, *, on_disk: bool) -> None:
        self._base = base
        self._on_disk = on_disk

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Yield a directory of one run, with nothing left to be written to the disk, and take back what it holds."""
        if self._on_disk:
            os.sync()
        path = Path(tempfile.mkdtemp(dir=self._base))
        try:
            yield path
        finally:
            if self._on_disk:
                _empty(path)
            else:
                shutil.rmtree(path, ignore_errors=True)  # a peer that was given up may still write


@contextmanager
def destinations(*, on_disk: bool) -> Iterator[Destinations]:
    """Yield where runs are to put their files; in the end all of it is deleted."""
    base = CACHE if on_disk or not MEMORY.is_dir() else MEMORY
    with tempfile.TemporaryDirectory(prefix="bench-", dir=base, ignore_cleanup_errors=True) as root:
        yield Destinations(Path(root), on_disk=base is CACHE)


def _empty(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
