"""What a power loss leaves of a run: its file operations are recorded, and what was not synced is lost at random.

1. `recording` runs a command under `shim.c`, which writes down every write, name and sync below the destination.
2. `disk` takes the record up to any moment, keeps what a sync has covered, and of the rest what a seeded choice says:
   any of it, in any order that a file system could write it. The tree that is left is put into a directory.
3. A test starts Sealift there, and looks at what it finds and does.
"""

from __future__ import annotations

from tests.support.powerloss.disk import Chance, Disk, Loss, Way
from tests.support.powerloss.recording import CANNOT_RECORD, Recording, record

__all__ = ["CANNOT_RECORD", "Chance", "Disk", "Loss", "Recording", "Way", "record"]
