"""Running the jobs of a file.

1. The file is read. If anything is wrong with it, no job begins.
2. Each job is a mirror. They begin in their order, as many at once as the file says; what ends one ends no other.
3. Its time being up, a job is cancelled as Ctrl-C would: what is complete is kept, the rest is counted as not reached.
4. Its command is told how it ended, in JSON.
5. The exit status is the greatest.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import anyio

from sealift.cli.arguments import Command, did_you_mean
from sealift.cli.conduct import Ended, Interrupts, conduct, ending, keep_drawing
from sealift.cli.console import Console, Drawing, Level
from sealift.cli.hooks import tell
from sealift.cli.jobfile import Job, JobFileError, Jobs, read_jobs
from sealift.cli.layers import Display
from sealift.cli.options import Layer
from sealift.cli.progress import Progress
from sealift.cli.status import FAILED, IN_PLACE, INTERRUPTED, USAGE, exit_status
from sealift.cli.summary import table
from sealift.cli.verbs import conclude, reached, style_of, write_metrics
from sealift.errors import ConfigError, SealiftError
from sealift.mirroring import mirror
from sealift.model import Summary
from sealift.secrecy import described

Cut = Literal["", "deadline", "signal"]
"""What stopped a job before its end: its `deadline` or `max_duration`; SIGINT or SIGTERM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a job ended."""

    job: Job
    status: int
    summary: Summary
    began: datetime
    cut: Cut = ""
    error: str = ""
    """What ended it as a whole, if something did, in words."""
    failure: Exception | None = None
    """The same, where that was an error."""

    def as_dict(self) -> dict[str, object]:
        """Return what a job's command, and `sealift run --json`, tell of it: see docs/json.md."""
        return {
            "job": self.job.name,
            "sources": self.job.sources,
            "dest": str(self.job.dest),
            "began": f"{self.began.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "status": self.status,
            "cut": self.cut,
            "error": self.error,
            **dataclasses.asdict(self.summary),
        }


def run_file(
    command: Command, settings_file: Layer, display: Display, console: Console, environ: Mapping[str, str]
) -> int:
    """Run the jobs of a file, or those that are named, and return the exit status. Raises ConfigError.

    `settings_file` is what that says, on top of which the jobs are.
    """
    path, *names = command.words
    try:
        file = read_jobs(Path(path), environ, command.layer, settings_file)
    except JobFileError as error:
        for line in error.lines:
            console.err(f"sealift: {line}", "error")
        return USAGE
    jobs = chosen(file.jobs, names)
    if command.layer.values.get("check-config"):
        console.out(f"{path}: nothing is wrong with it; it has {', '.join(job.name for job in file.jobs)}")
        return IN_PLACE
    running = _Running(Jobs(jobs, file.parallel), display, console, environ)
    with Interrupts(console.leave_line) as interrupts:
        ended = conduct(running.run, interrupts)
    if ended.error is not None:
        raise ended.error
    statuses = [running.least, *(result.status for result in running.results)]
    status = max([*statuses, INTERRUPTED] if ended.interrupted else statuses)
    if display.json:
        told = {"status": status, "jobs": [result.as_dict() for result in running.results]}
        console.out(json.dumps(told, ensure_ascii=True))
    return status


def chosen(jobs: Sequence[Job], names: Sequence[str]) -> tuple[Job, ...]:
    """Return the jobs called `names`, in that order; all of them where there are none. Raises ConfigError."""
    known = {job.name: job for job in jobs}
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no job {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else tuple(jobs)


class _Running:
    """What the jobs of one run share."""

    def __init__(self, file: Jobs, display: Display, console: Console, environ: Mapping[str, str]) -> None:
        self.results: list[Result] = []
        self.least = IN_PLACE
        """The exit status at the least."""
        self._file = file
        self._display = display
        self._console = console
        self._environ = environ
        self._began = _now()

    async def run(self) -> None:
        """Run all jobs."""
        waiting = iter(self._file.jobs)
        async with anyio.create_task_group() as tasks:
            for _ in range(min(self._file.parallel, len(self._file.jobs))):
                tasks.start_soon(self._run_from, waiting)

    async def _run_from(self, waiting: Iterator[Job]) -> None:
        for job in waiting:
            await self._run_one(job)

    async def _run_one(self, job: Job) -> None:
        console = Named(self._console, job.name)
        began = _now()
        left = job.seconds_left(self._began, began)
        if left is not None and left <= 0:
            error = "it has not begun: its deadline had passed"
            result = Result(job=job, status=FAILED, summary=Summary(), began=began, cut="deadline", error=error)
        else:
            result = await self._mirrored(job, console, began, left)
        self._add(result, console)
        self._tell(result, console)
        command = job.on_failure if result.status else job.on_success
        if command:
            environ = {**self._environ, "SEALIFT_JOB": job.name, "SEALIFT_STATUS": str(result.status)}
            if wrong := await tell(command, json.dumps(result.as_dict(), ensure_ascii=True), environ):
                self.least = FAILED
                console.err(f"warning: {wrong}", "warning")

    async def _mirrored(self, job: Job, console: Named, began: datetime, left: float | None) -> Result:
        """Mirror for so many seconds. What was done by then is added to the results also where the run is stopped."""
        display = self._display
        style = style_of(display, console)
        if style == "bar" and self._file.parallel > 1:
            style = "lines"  # bars would take each other's place
        progress = Progress(console, style, verbose=display.verbose, quiet=display.quiet)
        ended: Ended[Summary] | None = None
        result = partial(Result, job=job, began=began)
        try:
            async with anyio.create_task_group() as drawing:
                drawing.start_soon(keep_drawing, progress)
                with anyio.move_on_after(left):
                    ended = await ending(mirror(job.sources, job.dest, job.settings, observer=progress))
                drawing.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            stopped = progress.summary or Summary()
            self._add(result(status=INTERRUPTED, summary=stopped, cut="signal", error="interrupted"), console)
            raise
        finally:
            progress.close()
        if ended is None:
            return result(status=FAILED, summary=reached(None, progress), cut="deadline", error="its time was up")
        error = ended.error
        summary = ended.result or reached(error, progress)
        return result(status=exit_status(summary, error), summary=summary, error=_text(error), failure=error)

    def _add(self, result: Result, console: Named) -> None:
        self.results.append(result)
        if result.job.metrics is not None and result.status != USAGE:
            write_metrics(result.job.metrics, result.job.dest, result.status, result.summary, console)

    def _tell(self, result: Result, console: Named) -> None:
        """Show how a job ended."""
        display = self._display
        if not display.json and not display.quiet:
            self._console.out(f"{result.job.name}: exit status {result.status}")
            if result.summary.listed or not result.error:
                for line in table(result.summary):
                    self._console.out(f"  {line}".rstrip())
            self._console.flush()
        cut = result.error if result.cut else ""
        about = result.job.sources[0]
        conclude("mirror", result.status, result.summary, result.failure, display, console, about, cut=cut)


class Named(Console):
    """The console of one job: what it says on standard error begins with the job's name."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        super().__init__(None, None)
        self.stderr = console.stderr

    @property
    def drawing(self) -> Drawing | None:
        """See `Console.drawing`: there is one terminal."""
        return self._console.drawing

    @drawing.setter
    def drawing(self, drawing: Drawing | None) -> None:
        self._console.drawing = drawing

    def err(self, line: str, level: Level = "info", **facts: object) -> None:
        """See `Console.err`."""
        if self._console.as_json:
            self._console.err(line, level, job=self._name, **facts)
        else:
            self._console.err(f"{self._name}: {line.removeprefix('sealift: ')}")


def _text(error: Exception | None) -> str:
    if error is None:
        return ""
    return error.message if isinstance(error, SealiftError) else described(error)


def _now() -> datetime:
    return datetime.now().astimezone()
