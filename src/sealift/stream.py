"""Writing to a stream that may not take it: a pipe whose reader is slow, or gone."""

from __future__ import annotations

import errno
import os
import select
import stat
import threading

from anyio.to_thread import run_sync

from sealift.partial import translated

PATIENCE_MS = 100
"""How long a writing thread waits for a full pipe before it looks whether it is still wanted."""


class Stream:
    """An open descriptor (`fd`, not ours to close) that is written in order. Cancelling a write is safe at any time.

    Raises BrokenPipeError when the reader is gone, and LocalStorageError when a disk is full.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._name = name
        self._given = fd
        self._fd = fd
        self._most: int | None = None
        self._closing = threading.Lock()
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            self._fd = self._reopened(fd)
        if self._fd == fd and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            # A write of more than poll(2) promised room for would block, and nobody could cancel it.
            self._most = select.PIPE_BUF

    def _reopened(self, fd: int) -> int:
        """Return a description of our own: O_NONBLOCK on the given one would be the shell's as well."""
        try:
            return os.open(f"/dev/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:  # fifo(7): nobody has it open for reading
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
            return fd  # another user's pipe (sudo, su), or no /dev/fd

    def close(self) -> None:
        """Let go of what is ours."""
        if self._fd != self._given:
            with self._closing:  # an abandoned thread must not write to the next file that gets the number
                os.close(self._fd)
            self._fd = self._given

    async def write(self, data: bytes | bytearray) -> None:
        """Write all of `data`."""
        unwanted = threading.Event()
        try:
            # Abandoned when cancelled: the thread finds out by itself, soon after.
            await run_sync(self._write, data, unwanted, abandon_on_cancel=True)
        finally:
            unwanted.set()

    def _write(self, data: bytes | bytearray, unwanted: threading.Event) -> None:
        fd, view = self._fd, memoryview(data)
        while view:
            full = self._most is not None and not _room(fd, 0)
            with self._closing:
                if unwanted.is_set():
                    return
                try:
                    if not full:
                        view = view[os.write(fd, view[: self._most]) :]
                except BlockingIOError:
                    full = True
                except BrokenPipeError:
                    raise
                except OSError as error:
                    raise translated(error, self._name) from error
            if full:
                _room(fd, PATIENCE_MS)


def _room(fd: int, patience: int) -> bool:
    """Say whether `fd` takes something, or an error is to be had from it; wait up to `patience` milliseconds."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(patience))
