"""Locks that keep other runs out: files under flock(2), which the kernel lets go of however a process ends.

A lock's file says who has it. It stays when the lock is let go, and means nothing then. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from sealift.errors import LocalStorageError
from sealift.partial import unusable

LOCK: Final = "lock"
"""What the one lock of all is called; one of a shard's has its name."""

_LOCKED: Final = "DestinationLocked"
"""The code of what another run keeps this one from."""

LINUX = sys.platform == "linux"

_WORKERS_PATIENCE = 10.0
"""Seconds for which the workers of a run that was killed may still hold its lock: they name a last batch of files."""

_LOOK_EVERY = 0.02
"""Seconds between two tries for it."""

# O_NONBLOCK: a fifo of that name must not hold the run up.
_TO_ASK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TO_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Holder(NamedTuple):
    """Who has a lock, or had it last."""

    process: int
    host: str
    started: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, started {self.started}"


def take(directory_fd: int, path: Path, whose: Path, *, shared: bool = False, wait: bool = False) -> int:
    """Return a descriptor that holds the lock at `path`, in the directory of that descriptor, on what is in `whose`.

    With `wait` the workers of a run that was killed, which still have it, are waited for. Whoever inherits the
    descriptor keeps the lock as well. Raises LocalStorageError, naming the other run if there is one.
    """
    until = time.monotonic() + (_WORKERS_PATIENCE if wait else 0.0)
    while True:
        try:
            descriptor = os.open(path.name, _TO_LOCK, 0o666, dir_fd=directory_fd)
        except OSError as error:
            raise unusable(error, path) from error
        locked = False
        try:
            patient = time.monotonic() < until
            locked = _locked(descriptor, directory_fd, path, whose, shared=shared, wait=patient)
            if locked:
                return descriptor
        finally:
            if not locked:
                os.close(descriptor)


def take_if_free(directory_fd: int, path: Path, whose: Path) -> int | None:
    """As `take`; None where another run has it."""
    try:
        return take(directory_fd, path, whose)
    except LocalStorageError as error:
        if error.code == _LOCKED:
            return None
        raise


def cannot_lock(error: OSError, path: Path, whose: Path) -> LocalStorageError:
    """Return what is wrong where the system would not lock the file at `path`, for another reason than a lock on it."""
    return LocalStorageError(
        f"{path} cannot be locked ({error.strerror}); {whose} must be on a file system that has file locks (flock)",
        code="CannotLock",
    )


def let_go(descriptor: int) -> None:
    """Let others have the lock that a descriptor holds, and close it."""
    # Not left to os.close: a child that is just being started may share it until its exec.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_held(path: Path) -> bool:
    """Say whether a run of this machine holds the lock at `path`, as far as the system tells who only asks.

    Trying the lock would tell, too, and keep out a run that begins right now.
    """
    try:
        descriptor = os.open(path, _TO_ASK)
    except OSError:
        return False
    try:
        holder, about = _holder(descriptor), os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not LINUX:
        return holder is not None and _runs(holder.process)
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except (OSError, ValueError):
        return False
    return has_one_on(locks, about.st_dev, about.st_ino, None if holder is None else holder.process)


def taken(path: Path) -> datetime | None:
    """Return when the lock at `path` was last taken, as far as it says.

    Those of shards are also tried by others, which this would take for runs.
    """
    try:
        descriptor = os.open(path, _TO_ASK)
    except OSError:
        return None
    try:
        holder = _holder(descriptor)
        return None if holder is None else datetime.fromisoformat(holder.started).astimezone(UTC)
    except (ValueError, TypeError):
        return None
    finally:
        os.close(descriptor)


def has_one_on(locks: str, device: int, inode: int, process: int | None) -> bool:
    """Say whether the system's table of `locks` has one on the file of that device and inode, which names a process.

    Of some file systems (btrfs) the table has another device than a file's own: the process tells then.
    """
    whole = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    for line in locks.splitlines():
        *_, whose, file, _start, _end = ["", "", "", "", *line.split()]
        if file == whole or (file.endswith(f":{inode}") and whose == str(process)):
            return True
    return False


def _locked(descriptor: int, directory_fd: int, path: Path, whose: Path, *, shared: bool, wait: bool) -> bool:
    """Try the lock; False if that has to be tried again.

    Either the file is no longer the one of that name, so that it locks nothing; or, where the caller will `wait`,
    the run that has it has ended, and only its workers have not.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise LocalStorageError(f"{path} is not a regular file; delete it", code="NotWritable")
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(descriptor)
        if wait and holder is not None and holder.host == socket.gethostname() and not _runs(holder.process):
            time.sleep(_LOOK_EVERY)
            return False
        of = "" if path.name == LOCK else f" of shard {path.stem}"
        raise LocalStorageError(
            f"another sealift run{of} is writing to {whose} ({holder or 'which has not said who it is'}); "
            "wait for it to end, or end it",
            code=_LOCKED,
        ) from error
    except OSError as error:
        raise cannot_lock(error, path, whose) from error
    try:
        if not os.path.samestat(os.fstat(descriptor), os.lstat(path.name, dir_fd=directory_fd)):
            return False
    except FileNotFoundError:
        return False
    started = datetime.now(UTC).isoformat(timespec="seconds")
    data = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": started}).encode() + b"\n"
    try:
        # Never empty in between: somebody who is refused may be reading it.
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    except OSError as error:
        raise unusable(error, path) from error
    return True


def _holder(descriptor: int) -> Holder | None:
    """Return who wrote a lock's file, as far as it can be read."""
    try:
        said = json.loads(os.pread(descriptor, 1024, 0))
        return Holder(int(said["pid"]), said["host"], said["started"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None


def _runs(process: int) -> bool:
    """Say whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's
        pass
    return True
