"""A file system of its own, small enough to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_tmpfs(mount: Path, *, options: str) -> Iterator[Path]:
    """Mount a tmpfs at `mount`, which is made, for as long as the block lasts; skips where that is forbidden."""
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command).returncode:
        pytest.skip("CANNOT MOUNT A TMPFS HERE: what happens on another or a full file system stays untested")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)
