"""The run's log in DEST/.sealift/runs/: a JSON line an object that was not simply up to date, and one a second of pace.

    {"event": "began", "at": "2026-11-26T01:15:03.482911Z", "sources": ["s3://b/p/"], "dest": "/data"}
    {"event": "downloaded", "bucket": "b", "key": "p/k", "size": 7, "path": "k", "seconds": 1.021, "replaced": true}
    {"event": "failed", "bucket": "b", "key": "p/l", "size": 7, "error": "AccessDenied", "message": "..."}
    {"event": "deleted", "bucket": "b", "key": "p/m", "size": 7, "path": "m"}; and "skipped"
    {"event": "warning", "message": "..."}; and "info"
    {"event": "pace", "at": 1.0, "seconds": 1.0, ...}, see `PaceSample`
    {"event": "finished", "how": "ended", "status": 0, "error": "", "summary": {...}}

`seconds` is left out below `SLOW`, and `replaced` unless it is true: most lines are short, and quickly made.
`how` is `ended`, `error` (also where that was a bug), or `cancelled` (by a signal or a deadline); `status` is the exit
status, 1 where it was cancelled. Of a run that was killed, the last line is missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted
from typing import IO, Any, Final, Literal

from sealift.errors import SealiftError
from sealift.model import Ending, Outcome, PaceSample, Summary
from sealift.secrecy import described
from sealift.tally import Unobserved
from sealift.taskgroups import ungrouped

KEPT = 30
"""Logs of earlier runs that are kept: a month of nights."""

LARGEST = 256 * 1024 * 1024
"""Bytes of one log, about a million lines. After that only failures are written, so that none is without a name."""

ENDING: Final = ".jsonl"
_NAMED: Final = "%Y%m%dT%H%M%S.%fZ"
"""What a log is called, by the moment at which its run began: in the order of their names, the oldest is the first."""

SLOW = 0.1
"""Seconds that an object takes to be worth saying: S3's first byte of a small object comes after 100–200 ms."""


class RunLog(Unobserved):
    """Writes a run's log. Lines are buffered; `finished` writes them out."""

    def __init__(self, directory_fd: int, now: datetime, *, sources: Sequence[str] = (), dest: str = "") -> None:
        """Begin the log of a run that begins at `now`, in the open directory `directory_fd`; drop the oldest logs."""
        self._how: Literal["ended", "error", "cancelled"] = "cancelled"
        self._error: Exception | None = None
        self.name = f"{now.astimezone(UTC):{_NAMED}}{ENDING}"
        _drop_oldest(directory_fd)
        descriptor = os.open(
            self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=directory_fd
        )
        self._file: IO[str] = os.fdopen(descriptor, "w", encoding="ascii")
        self._left = LARGEST
        self._broken = False
        at = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        self._write_event("began", at=at, sources=list(sources), dest=dest)

    @contextmanager
    def telling_how(self) -> Iterator[None]:
        """Enclose the run, to hear how it ends."""
        try:
            with ungrouped():
                yield
        except Exception as error:
            self._how, self._error = "error", error
            raise
        self._how = "ended"

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
            elif outcome.ending is Ending.DOWNLOADED:
                text += f'"path": {_quoted(outcome.path)}'
                if outcome.seconds >= SLOW:
                    text += f', "seconds": {outcome.seconds:.3f}'
                text += ', "replaced": true}\n' if outcome.replaced else "}\n"
            else:
                text += f'"path": {_quoted(outcome.path)}}}\n'
            self._write(text)

    def in_place(self, objects: int, outcomes: Callable[[], Iterator[Outcome]]) -> None:
        """See `Observer.in_place`."""

    def noted(self, level: Literal["info", "warning"], text: str) -> None:
        """See `Observer.noted`."""
        self._write_event(level, message=text)

    def measured(self, sample: PaceSample) -> None:
        """See `Observer.measured`."""
        if self._left > 0:
            facts = asdict(sample).items()
            self._write_event("pace", **{k: round(v, 3) if isinstance(v, float) else v for k, v in facts})

    def finished(self, summary: Summary) -> None:
        """See `Observer.finished`."""
        left = self._how == "cancelled" or summary.failed or summary.pending or not summary.complete
        error, status = _told(self._error) if self._error is not None else ("", int(bool(left)))
        with suppress(OSError):  # the disk may be full, which the run has found out and says by itself
            self._write_event(
                "finished",
                how=self._how,
                status=status,
                error=error,
                summary=asdict(summary) | {"failures": []},
            )
            self._file.close()

    def _write_event(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - what JSON can hold
        self._write(json.dumps({"event": event, **facts}) + "\n")

    def _write(self, text: str) -> None:
        if self._broken:
            return
        self._left -= len(text)
        try:
            self._file.write(text)
        except OSError:  # as in `finished`; some line is cut short, and nothing may follow it
            self._broken = True


def began(run: str) -> datetime:
    """Return when a run began, as the name of its log says without its ending; 1970 where that says nothing."""
    try:
        return datetime.strptime(run, _NAMED).replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _told(error: Exception) -> tuple[str, int]:
    """Return what is to be said of what ended a run as a whole, and the exit status."""
    if isinstance(error, SealiftError):
        return error.message, error.exit_status
    return f"{described(error)} (a bug in Sealift)", 1


def _drop_oldest(directory_fd: int) -> None:
    logs = sorted(name for name in os.listdir(directory_fd) if name.endswith(ENDING))
    for name in logs[: max(0, len(logs) - KEPT + 1)]:
        os.unlink(name, dir_fd=directory_fd)
