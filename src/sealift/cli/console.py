"""Standard output and standard error: every line that Sealift prints goes through here."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, Protocol, TextIO

from sealift.cli.printable import printable
from sealift.errors import LocalStorageError

_COLUMNS = 80
"""How wide a terminal is that does not tell."""

Level = Literal["info", "warning", "error"]


class StandardOutputClosed(Exception):
    """Nobody reads standard output any more."""


class Drawing(Protocol):
    """Something on the terminal's last line that has to step aside for other lines."""

    def clear(self) -> None:
        """Take it off the terminal."""

    def refresh(self) -> None:
        """Put it back."""


class Console:
    """Writes lines, each made printable. Either stream may be missing: a shell's `>&-`."""

    def __init__(self, out: TextIO | None, err: TextIO | None) -> None:
        out, err = _buffered(out), _buffered(err)
        self._out = out
        self._unflushed = False
        self.stderr = Unbreakable(err)
        self.drawing: Drawing | None = None
        self.as_json = False
        """Whether what goes to standard error are JSON objects, one a line."""
        for stream in (out, err):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a locale without the character is no reason to stop

    @property
    def on_terminal(self) -> bool:
        """Whether standard output is a terminal."""
        return self._out is not None and self._out.isatty()

    def out(self, line: str) -> None:
        """Write a line to standard output. Raises StandardOutputClosed, LocalStorageError."""
        self._write(f"{printable(line)}\n")

    def out_above(self, line: str) -> None:
        """As `out`, above whatever is drawn, if that is on the same terminal."""
        drawing = self.drawing if self.on_terminal else None
        if drawing is None:
            self.out(line)
            return
        drawing.clear()
        self.out(line)
        self.flush()
        drawing.refresh()

    def flush(self) -> None:
        """Hand everything to the operating system. Raises StandardOutputClosed, LocalStorageError."""
        self._write("")

    def err(self, line: str, level: Level = "info", **facts: object) -> None:
        """Write a line to standard error, above whatever is drawn there; in JSON, with the `facts`. Never raises."""
        if self.drawing is not None:
            self.drawing.clear()
        self.stderr.write(f"{_as_json(line, level, facts) if self.as_json else printable(line)}\n")
        self.stderr.flush()
        if self.drawing is not None:
            self.drawing.refresh()

    def leave_line(self) -> None:
        """Put the cursor on a line of its own, as the process is about to end. Safe in a signal handler."""
        if self.drawing is not None:
            with contextlib.suppress(OSError):
                os.write(self.stderr.fileno(), b"\n")

    def _write(self, text: str) -> None:
        if self._out is None or not (text or self._unflushed):
            return  # Python hands over even nothing, which a full device refuses
        try:
            self._out.write(text)
            self._unflushed = bool(text)
            if not text:
                self._out.flush()
        except BrokenPipeError:
            self._give_up()
            raise StandardOutputClosed from None
        except OSError as error:
            self._give_up()
            raise LocalStorageError(f"standard output cannot be written: {error.strerror}") from error

    def _give_up(self) -> None:
        """Let what is still buffered go nowhere, or the interpreter would fail on it once more when it ends."""
        stream, self._out = self._out, None
        if stream is None:
            return
        try:
            descriptor = stream.fileno()
        except OSError:
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _buffered(stream: TextIO | None) -> TextIO | None:
    """Return the stream with a buffer, which holds on to what the system did not take of a write.

    With PYTHONUNBUFFERED, as containers often have it, there is none, and that is dropped without a word. A pipe takes
    no more than it has room for when something wakes the process meanwhile, as the event loop's io_uring does.
    """
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.RawIOBase):
        return os.fdopen(stream.fileno(), "w", 1, stream.encoding, closefd=False)
    return stream


def _as_json(line: str, level: Level, facts: Mapping[str, object]) -> str:
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    message = line.removeprefix("sealift: ").removeprefix("warning: ")
    return json.dumps({"time": at, "level": level, "message": message, **facts}, ensure_ascii=True)


class Unbreakable:
    """Standard error for what must never end a run: a line that cannot be written is lost, no more."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """See `TextIO.encoding`; tqdm asks whether it can draw."""
        return "ascii" if self._stream is None else self._stream.encoding

    def write(self, text: str) -> int:
        """Write `text`, if possible."""
        if self._stream is not None:
            try:
                return self._stream.write(text)
            except (OSError, ValueError):
                self._stream = None
        return len(text)

    def flush(self) -> None:
        """Flush, if possible."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    @property
    def columns(self) -> int:
        """How wide the terminal is, as far as it tells."""
        try:
            return os.get_terminal_size(-1 if self._stream is None else self._stream.fileno()).columns or _COLUMNS
        except (OSError, ValueError):
            return _COLUMNS

    def fileno(self) -> int:
        """See `TextIO.fileno`; tqdm asks it for the terminal's width."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()
