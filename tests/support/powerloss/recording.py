"""Runs a command whose file operations are written down, and reads what was written."""

from __future__ import annotations

import enum
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

_HEAD = struct.Struct("<BQQQII")
_COMPILER = shutil.which("cc")
CANNOT_RECORD = not (_COMPILER and os.uname().sysname == "Linux")
"""There is no C compiler, or the system is none for which the shim was written."""


class Kind(enum.IntEnum):
    """The operations, as shim.c has them."""

    CREATE = 1
    MKDIR = 2
    WRITE = 3
    TRUNCATE = 4
    ALLOCATE = 5
    UTIME = 6
    RENAME = 7
    UNLINK = 8
    LINK = 9
    SYNC = 10
    SYNC_FS = 11
    SYNCED = 12


class Operation(NamedTuple):
    """One operation. What `a`, `b` and `c` mean depends on its kind; inodes are numbers, which may be used again.

    CREATE, MKDIR, LINK   a directory, b inode, name           UTIME     a inode, b modification time (ns)
    RENAME                a, b directories, c inode, names     SYNC      a inode, b number of the sync, c with times
    UNLINK                a directory, name                    SYNC_FS   b number of the sync
    WRITE                 a inode, b offset, bytes             SYNCED    b number of the sync that has come to its end
    TRUNCATE, ALLOCATE    a inode, b size
    """

    kind: Kind
    a: int
    b: int
    c: int
    data: bytes
    other: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """What a command did."""

    operations: tuple[Operation, ...]
    status: int
    """Its exit status; negative if a signal has ended it."""
    out: bytes
    err: bytes


@cache
def shim() -> Path:
    """Return the compiled shim."""
    target = Path(mkdtemp(prefix="sealift-shim-")) / "shim.so"
    source = Path(__file__).parent / "shim.c"
    assert _COMPILER
    subprocess.run([_COMPILER, "-O1", "-shared", "-fPIC", "-o", target, source, "-lpthread"], check=True)
    return target


def environment(root: Path, ops: Path, *, kill: int | None = None) -> dict[str, str]:
    """Return the variables under which what a command does below `root` goes to the file `ops`.

    It is killed (SIGKILL) after `kill` operations of its own process.
    """
    recorded = {"LD_PRELOAD": str(shim()), "SEALIFT_OPS": str(ops), "SEALIFT_ROOT": str(root.resolve())}
    return recorded if kill is None else recorded | {"SEALIFT_KILL": str(kill)}


def record(
    command: Sequence[str], root: Path, ops: Path, *, env: Mapping[str, str], kill: int | None = None
) -> Recording:
    """Run a command, and return what it did below `root`, which is there. `ops` is a file to be written.

    With `kill` it kills itself after so many operations.
    """
    ops.unlink(missing_ok=True)
    done = subprocess.run(command, env=os.environ | env | environment(root, ops, kill=kill), capture_output=True)
    return Recording(tuple(_read(ops)), done.returncode, done.stdout, done.stderr)


def _read(path: Path) -> Iterator[Operation]:
    data, at = path.read_bytes(), 0
    while at < len(data):
        kind, a, b, c, first, second = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield Operation(Kind(kind), a, b, c, data[at : at + first], data[at + first : at + first + second])
        at += first + second
