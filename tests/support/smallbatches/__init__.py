"""Batches so small that a short run has many of them, in every process of a command: `env=environment()`.

Real runs, in all else: the interpreter sets the sizes before it begins (sitecustomize.py).
"""

from __future__ import annotations

import os
from pathlib import Path

KIB = 1024

FILES = 12
"""Small files of a batch; with more than `partial.FEW` the whole file system is synced."""

AT_ONCE = 5
"""Names that are given in one go; without syncs, files of a batch."""

BYTES = 32 * KIB
"""Bytes of a batch of small files."""

UNRECORDED = 128 * KIB
"""Bytes of large objects that no note names."""

LOST = 2 * BYTES + UNRECORDED
"""Bytes that are fetched again after a kill at most, beside what was under way: the batch that is synced, the one that
fills up meanwhile, and what no note names."""

_HERE = Path(__file__).parent


def environment() -> dict[str, str]:
    """Return the variables for a command whose processes have such batches."""
    return {"PYTHONPATH": os.pathsep.join([str(_HERE), str(_HERE.parents[2])])}


def set_sizes() -> None:
    """Set the sizes in this process."""
    from sealift import fetch, recording, writing

    writing.MOST_FILES, writing.MOST_BYTES = FILES, BYTES
    writing.AT_ONCE, writing.AT_ONCE_BYTES = AT_ONCE, BYTES
    fetch.RECORD_EVERY, fetch.MOST_UNRECORDED = UNRECORDED // 2, UNRECORDED
    recording.MOST = 20
