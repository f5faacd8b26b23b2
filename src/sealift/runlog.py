"""The run's log: one JSON line an object that was not simply up to date, in DEST/.sealift/runs/."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import IO, Literal

from sealift.model import Ending, Outcome, Summary
from sealift.tally import Unobserved

KEPT = 30
"""Logs of earlier runs that are kept: a month of nights."""

LARGEST = 256 * 1024 * 1024
"""Bytes of one log, about a million lines. After that only failures are written, so that none is without a name."""


class RunLog(Unobserved):
    """Writes a run's log. Lines are buffered; `finished` writes them out."""

    def __init__(self, directory_fd: int, now: datetime) -> None:
        """Begin the log of a run that begins at `now`, in the open directory `directory_fd`; drop the oldest logs."""
        self.name = f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.jsonl"
        _drop_oldest(directory_fd)
        descriptor = os.open(
            self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=directory_fd
        )
        self._file: IO[str] = os.fdopen(descriptor, "w", encoding="ascii")
        self._left = LARGEST
        self._broken = False

    def ended(self, outcome: Outcome) -> None:
        """See `Observer.ended`."""
        if outcome.ending is Ending.UP_TO_DATE:
            return
        if self._left > 0 or outcome.ending is Ending.FAILED:
            # Put together by hand, a line costs a tenth of what an encoder takes for a dictionary.
            text = (
                f'{{"event": "{outcome.ending.value}", "bucket": {_quoted(outcome.bucket)}, '
                f'"key": {_quoted(outcome.key)}, "size": {outcome.size}, '
            )
            if outcome.ending is Ending.FAILED:
                text += f'"error": {_quoted(outcome.error)}, "message": {_quoted(outcome.message)}}}\n'
            else:
                text += f'"path": {_quoted(outcome.path)}}}\n'
            self._write(text)

    def in_place(self, objects: int, outcomes: Callable[[], Iterator[Outcome]]) -> None:
        """See `Observer.in_place`."""

    def noted(self, level: Literal["info", "warning"], text: str) -> None:
        """See `Observer.noted`."""
        self._write(json.dumps({"event": level, "message": text}) + "\n")

    def finished(self, summary: Summary) -> None:
        """See `Observer.finished`."""
        with suppress(OSError):  # the disk may be full, which the run has found out and says by itself
            self._write(json.dumps({"event": "finished", "summary": asdict(summary) | {"failures": []}}) + "\n")
            self._file.close()

    def _write(self, text: str) -> None:
        if self._broken:
            return
        self._left -= len(text)
        try:
            self._file.write(text)
        except OSError:  # as in `finished`; some line is cut short, and nothing may follow it
            self._broken = True


def _drop_oldest(directory_fd: int) -> None:
    logs = sorted(name for name in os.listdir(directory_fd) if Path(name).suffix == ".jsonl")
    for name in logs[: max(0, len(logs) - KEPT + 1)]:
        os.unlink(name, dir_fd=directory_fd)
