"""Whether a worker on another machine sees the same destination as the client: a file system that both have mounted."""

from __future__ import annotations

import socket
from pathlib import Path

from sealift.errors import LocalStorageError


def mark_of(path: Path) -> bytes:
    """Return what tells a destination from every other one: what the run that has it locked has written there.

    Raises LocalStorageError.
    """
    try:
        return (path / ".sealift" / "lock").read_bytes()
    except OSError as error:
        raise LocalStorageError(f"{path}: the lock cannot be read ({error.strerror})", code="NotShared") from error


def refuse_unshared(path: Path, mark: bytes) -> None:
    """Raise LocalStorageError where the destination at `path` is not the one that the client has."""
    if not path.is_dir() or mark_of(path) != mark:
        raise LocalStorageError(
            f"{path} on {socket.gethostname()} is not the destination of this run: it has to be on a file system that "
            "client and workers share, under one path",
            code="NotShared",
        )
