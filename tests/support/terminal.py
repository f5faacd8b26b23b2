"""A terminal for tests of what is drawn on one."""

from __future__ import annotations

import os
import pty
import termios


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self, columns: int = 100, encoding: str = "utf-8") -> None:
        self._reader, writer = pty.openpty()
        os.set_blocking(self._reader, False)
        self.stream = open(writer, "w", encoding=encoding)  # noqa: PTH123, SIM115 - a descriptor; closed below
        termios.tcsetwinsize(writer, (25, columns))

    def written(self) -> str:
        self.stream.flush()
        chunks = []
        while True:
            try:
                chunks.append(os.read(self._reader, 65536))
            except BlockingIOError:
                return b"".join(chunks).decode(self.stream.encoding)

    def close(self) -> None:
        self.stream.close()
        os.close(self._reader)
