"""Writing to a stream that may not take it: a pipe whose reader is slow, or gone."""

from __future__ import annotations

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
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            # A description of our own: O_NONBLOCK on the given one would be the shell's as well.
            self._fd = os.open(f"/dev/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of what is ours."""
        if self._fd != self._given:
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
        view = memoryview(data)
        while view and not unwanted.is_set():
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(PATIENCE_MS)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise translated(error, self._name) from error
