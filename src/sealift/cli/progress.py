"""Progress on standard error: events are counted, and drawn from time to time.

Observers are called for every chunk that arrives, so here they only count; `draw` is what costs, and is called by
a clock (`sealift.cli.conduct`), also when nothing arrives at all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from sealift.cli.console import Console, Level
from sealift.cli.quantities import count, duration, objects, per_second, rate, size
from sealift.errors import ObjectError, Throttled
from sealift.model import Ending, Outcome, PaceSample, RemoteObject, Summary
from sealift.tally import Unobserved

if TYPE_CHECKING:
    from sealift.cli.bar import Bar

MOST_LINES = 100
"""Failures, and warnings, that are told one by one: more than a screen, and nothing that floods a mail from cron."""

BETWEEN_DRAWINGS = 0.1
"""Seconds between two drawings of the bar; tqdm's own `mininterval`."""

BETWEEN_LINES = 10.0
"""Seconds between two lines where there is no terminal."""

RATE_WINDOW = 5.0
"""Seconds over which the rate is taken: long enough to be read, short enough to show a stall."""

Style = Literal["bar", "lines", "none"]


class Progress(Unobserved):
    """An observer that counts, tells what went wrong as it happens, and draws how far the run is."""

    def __init__(
        self,
        console: Console,
        style: Style,
        *,
        planning: bool = False,
        verbose: bool = False,
        quiet: bool = False,
        tell_failures: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.style: Style = style
        self.summary: Summary | None = None
        """What the run said at its end."""
        self._console = console
        self._planning = planning
        self._verbose = verbose
        self._quiet = quiet
        self._tell_failures = tell_failures
        self._clock = clock
        self._bar: Bar | None = None
        self._listed = self._ended = self._failed = self._to_fetch = self._fetched = 0
        self._refused: dict[str, int] = {"kms": 0, "s3": 0}
        self._total = self._done = 0
        self._told = {"failed": 0, "warning": 0}
        self._samples: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])
        self._lately: deque[PaceSample] = deque(maxlen=int(RATE_WINDOW))

    # What happens is counted.

    def listed(self, objects: int) -> None:
        """See `Observer.listed`."""
        self._listed += objects

    def planned(self, remote: RemoteObject, path: str, size: int, gets: int) -> None:
        """See `Observer.planned`."""
        del remote, path, gets
        self._to_fetch += 1
        self._total += size

    def advanced(self, size: int) -> None:
        """See `Observer.advanced`."""
        self._done += size

    def restarted(self, size: int, received: int) -> None:
        """See `Observer.restarted`."""
        self._to_fetch -= 1
        self._total -= size
        self._done -= received

    def ended(self, outcome: Outcome) -> None:
        """See `Observer.ended`."""
        self._ended += outcome.ending is not Ending.DELETED
        self._fetched += outcome.ending in (Ending.DOWNLOADED, Ending.FAILED)
        if outcome.ending is Ending.FAILED:
            self._failed += 1
            if self._tell_failures:
                self._tell(
                    "failed",
                    f"failed: s3://{outcome.bucket}/{outcome.key}: {outcome.message}",
                    bucket=outcome.bucket,
                    key=outcome.key,
                    error=outcome.error,
                )
        elif self._verbose:
            where = f" -> {outcome.path}" if outcome.path else ""
            what = outcome.ending.value.replace("_", " ")
            why = f": {outcome.message}" if outcome.message else ""
            self._console.err(
                f"{what}: s3://{outcome.bucket}/{outcome.key}{where}{why}",
                event=outcome.ending.value,
                bucket=outcome.bucket,
                key=outcome.key,
                size=outcome.size,
            )

    def in_place(self, objects: int, outcomes: Callable[[], Iterator[Outcome]]) -> None:
        """See `Observer.in_place`."""
        if self._verbose:
            super().in_place(objects, outcomes)
        else:
            self._ended += objects

    def retrying(self, error: ObjectError) -> None:
        """See `Observer.retrying`."""
        if isinstance(error, Throttled):
            self._refused[error.service] += 1
        if self._verbose:
            self._console.err(
                f"again: s3://{error.bucket}/{error.key}: {error.message}",
                event="retrying",
                bucket=error.bucket,
                key=error.key,
                error=error.code,
            )

    def measured(self, sample: PaceSample) -> None:
        """See `Observer.measured`."""
        self._lately.append(sample)
        if self._verbose and sample.kms_changes:
            self._console.err(pace_of(sample), event="pace")

    def noted(self, level: Literal["info", "warning"], text: str) -> None:
        """See `Observer.noted`."""
        if level == "warning" and not self._quiet:
            self._tell("warning", f"warning: {text}")
        elif level == "info" and self._verbose:
            self._console.err(text)

    def finished(self, summary: Summary) -> None:
        """See `Observer.finished`."""
        self.summary = summary

    # What was counted is drawn.

    @property
    def interval(self) -> float:
        """Seconds between two calls of `draw`."""
        return BETWEEN_DRAWINGS if self.style == "bar" else BETWEEN_LINES

    def draw(self) -> None:
        """Show how far the run is, now."""
        now = self._clock()
        if self.style == "bar":
            if self._bar is None:
                from sealift.cli.bar import Bar

                self._bar = Bar(self._console.stderr, scaled=not self._planning)
                self._console.drawing = self._bar
            self._bar.show(self._done, self._total, self.facts(now))
        elif self.style == "lines":
            self._console.err(
                f"sealift: {self.sentence(now)}",
                event="progress",
                listed=self._listed,
                ended=self._ended,
                failed=self._failed,
                bytes=self._done,
                total_bytes=max(self._total, self._done),
            )

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._console.drawing = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def sentence(self, now: float) -> str:
        """Say how far the run is at time `now`, in seconds of the clock."""
        return ", ".join(self.facts(now))

    def facts(self, now: float) -> list[str]:
        """Return what `sentence` says."""
        if self._planning:
            facts = [f"{objects(self._listed)} listed", f"{count(self._to_fetch)} to fetch", size(self._total)]
        else:
            facts = [
                f"{count(self._ended)} of {self._of_all(self._listed)}",
                f"{size(self._done)} of {size(max(self._total, self._done))}",
                *self._pace(now),
            ]
        facts += self._throttling()
        if self._failed:
            facts.append(f"{count(self._failed)} failed")
        return facts

    def _of_all(self, number: int) -> str:
        """Return so many of what the run is about."""
        return objects(number)

    def _pace(self, now: float) -> list[str]:
        """Return the rate of the last seconds, and how long the rest would take at it.

        Small objects cost requests rather than bytes: of both, what takes longer counts.
        """
        samples = self._samples
        samples.append((now, self._done, self._fetched))
        while len(samples) > 2 and samples[1][0] <= now - RATE_WINDOW:
            samples.popleft()
        then, done, fetched = samples[0]
        if now <= then:
            return []
        rest = (
            (self._total - self._done, self._done - done),
            (self._to_fetch - self._fetched, self._fetched - fetched),
        )
        seconds = max((left / lately * (now - then) for left, lately in rest if lately > 0), default=0.0)
        speed = max(0.0, (self._done - done) / (now - then))
        return [rate(speed), *([f"{duration(seconds)} left"] if seconds > 0 else [])]

    def _throttling(self) -> list[str]:
        """Return what is refused, and while KMS holds the run back, how many requests a second it gets through."""
        kms, s3 = self._refused["kms"], self._refused["s3"]
        facts = []
        if self._lately and self._lately[-1].kms_down:
            facts.append("KMS is down")
        elif self._lately and self._lately[-1].throttled:
            granted = sum(sample.kms_requests - sample.kms_throttled for sample in self._lately)
            facts.append(f"KMS {per_second(granted / sum(sample.seconds for sample in self._lately))}")
            if kms:
                facts.append(f"{count(kms)} refused")
        elif kms:
            facts.append(f"KMS refused {count(kms)}")
        return [*facts, f"S3 refused {count(s3)}"] if s3 else facts

    def _tell(self, kind: Literal["failed", "warning"], line: str, **facts: object) -> None:
        """Write the line, if it is one of the first of its kind."""
        self._told[kind] += 1
        level: Level = "error" if kind == "failed" else "warning"
        if self._told[kind] <= MOST_LINES:
            self._console.err(line, level, event=kind, **facts)
        elif self._told[kind] == MOST_LINES + 1:
            more = "failures: the summary counts them, and the run's log in DEST/.sealift/runs names them all"
            self._console.err(f"more {more if kind == 'failed' else 'warnings are not shown'}", level)


def pace_of(sample: PaceSample) -> str:
    """Say what the pace of KMS is now, and why."""
    if sample.kms_rate is None:
        return "pace: KMS is not held back"
    refused = (
        f"{count(sample.kms_throttled)} of {count(sample.kms_requests)} were refused within {sample.seconds:.0f} s"
    )
    quota = "" if sample.kms_quota is None else f", about {per_second(sample.kms_quota)} are granted"
    return f"pace: {per_second(sample.kms_rate)} to KMS; {refused}{quota}"
