"""The verbs, each from its command to its exit status."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sealift.cli.arguments import Command
from sealift.cli.conduct import Ended, Interrupts, conduct
from sealift.cli.console import Console, Level, StandardOutputClosed
from sealift.cli.failure import say
from sealift.cli.forecast import Foreseen, totals
from sealift.cli.layers import Display
from sealift.cli.progress import Progress, Style
from sealift.cli.status import IN_PLACE, INTERRUPTED, PIPE_CLOSED, USAGE, exit_status
from sealift.cli.summary import EXPLAINED, advice, as_json, doctor_for, table
from sealift.config import Settings
from sealift.errors import ConfigError, RunError
from sealift.model import Forecast, Summary, Verification
from sealift.tally import Observer, Observers, Onlooker

if TYPE_CHECKING:
    from sealift.cli.policies import Format
    from sealift.diagnosis.findings import Diagnosis
    from sealift.granting import Granted


def run(command: Command, settings: Settings, display: Display, console: Console) -> int:
    """Run mirror, get or plan, and return the exit status. Raises ConfigError."""
    words = command.words
    if command.verb == "plan" or command.layer.values.get("dry-run"):
        return foresee(partial(_plan, words, settings), display, console, source=words[0])
    if command.verb == "mirror":
        work = partial(_mirror, words, settings)
        return transfer("mirror", work, display, console, source=words[0], dest=Path(words[-1]))
    version = cast("str | None", command.layer.values.get("version-id"))
    if words[1:] != ("-",):
        return transfer("get", partial(_get, words, settings, version), display, console, source=words[0])
    if display.json:
        raise ConfigError("the object and --json cannot both go to standard output: name a file, or leave --json out")
    work = partial(_get_to_stdout, words[0], settings, version)
    return transfer("get", work, display, console, source=words[0], pipes=True)


def serve(command: Command, display: Display, console: Console) -> int:
    """Run the sandbox or the demo, and return the exit status. Ctrl-C is how a sandbox is meant to end."""
    with Interrupts(console.leave_line, patient=True) as interrupts:
        ended = conduct(partial(_serve, command, partial(_announce, console)), interrupts)
    if ended.result is not None:
        return ended.result
    if ended.error is None and command.verb == "sandbox":
        return IN_PLACE
    return _fruitless(ended, display, console)


def transfer(
    verb: str,
    work: Callable[[Observer], Awaitable[Summary]],
    display: Display,
    console: Console,
    *,
    source: str,
    pipes: bool = False,
    dest: Path | None = None,
) -> int:
    """Run `work`, show how it goes and what came of it, and return the exit status. `source` is what it is about.

    `dest` is the destination of a mirror, of which there are metrics.
    `pipes` says that standard output is where the object goes, and nothing else.
    """
    progress = Progress(console, style_of(display, console), verbose=display.verbose, quiet=display.quiet)
    with Interrupts(console.leave_line) as interrupts:
        ended = conduct(partial(work, progress), interrupts, progress)
    summary = ended.result or reached(ended.error, progress)
    status = _status(summary, ended)
    if display.metrics is not None and dest is not None and status != USAGE:
        write_metrics(display.metrics, dest, status, summary, console)
    if not pipes and status not in (USAGE, PIPE_CLOSED):
        if display.json:
            console.out(as_json(summary))
        elif not display.quiet and (ended.error is None or summary.listed):
            for line in table(summary, of_one=verb == "get"):
                console.out(line)
        console.flush()
    conclude(verb, status, summary, ended.error, display, console, source)
    return status


def write_metrics(path: Path, dest: Path, status: int, summary: Summary, console: Console) -> None:
    """Write a run's metrics to the file at `path`; what keeps that from being done is only said."""
    from sealift.cli.metrics import write

    try:
        write(path, dest, status, summary)
    except OSError as error:
        console.err(f"warning: {path} cannot be written: {error.strerror}", "warning")


def foresee(work: Callable[[Observer], Awaitable[Forecast]], display: Display, console: Console, *, source: str) -> int:
    """Run the plan `work`, print it, and return the exit status. `source` is what it is about."""
    lines = not display.json and not display.quiet
    progress = Progress(
        console,
        "none" if lines and console.on_terminal else style_of(display, console),
        planning=True,
        verbose=display.verbose,
        quiet=display.quiet,
        tell_failures=not lines,
    )
    with Interrupts(console.leave_line) as interrupts:
        foreseen = Foreseen(console, interrupts.stop, lines=lines)
        ended = conduct(partial(work, Observers(progress, foreseen)), interrupts, progress)
    if foreseen.error is not None:
        ended = replace(ended, error=foreseen.error)
    forecast = ended.result or foreseen.so_far(reached(ended.error, progress))
    status = _status(forecast, ended)
    if status not in (USAGE, PIPE_CLOSED):
        if display.json:
            console.out(as_json(forecast))
        else:
            if lines and (forecast.to_download or forecast.failed):
                console.out("")
            for line in totals(forecast):
                console.out(line)
        console.flush()
    conclude("plan", status, forecast, ended.error, display, console, source)
    return status


def verify(command: Command, settings: Settings, display: Display, console: Console) -> int:
    """Run verify, and return the exit status. Raises ConfigError."""
    from sealift.cli.checks import Checks, outlook, sums

    lines = not display.json
    with Interrupts(console.leave_line) as interrupts:
        checks = Checks(console, style_of(display, console), interrupts.stop, display, lines=lines)
        ended = conduct(partial(_verify, command, settings, checks), interrupts, checks)
    if checks.error is not None:
        ended = replace(ended, error=checks.error)
    result, error = checks.result, ended.error
    status = _status(result, ended)
    if status not in (USAGE, PIPE_CLOSED):
        if display.json:
            console.out(as_json(result))
        elif not display.quiet and (error is None or result.files):
            for line in sums(result):
                console.out(line)
        console.flush()
    if error is not None:
        say(error, console, verbose=display.verbose)
    elif status not in (IN_PLACE, USAGE, PIPE_CLOSED) and not display.quiet:
        console.err(f"sealift: {outlook(result, interrupted=ended.interrupted)}", gravity(status))
    return status


def grant(command: Command, settings: Settings, display: Display, console: Console) -> int:
    """Run policy, and return the exit status. Raises ConfigError."""
    from sealift.cli.policies import written

    given = command.layer.values
    with Interrupts(console.leave_line) as interrupts:
        ended = conduct(partial(_policies, command, settings), interrupts)
    if ended.result is None:
        return _fruitless(ended, display, console)
    for line in written(ended.result, cast("Format", given.get("format", "text"))):
        console.out(line)
    console.flush()
    if not display.quiet:
        for note in ended.result.notes:
            console.err(f"sealift: {note}")
    return IN_PLACE


def diagnose(command: Command, settings: Settings, display: Display, console: Console) -> int:
    """Run doctor, and return the exit status. Raises ConfigError."""
    from sealift.cli import findings

    with Interrupts(console.leave_line) as interrupts:
        ended = conduct(partial(_doctor, command, settings), interrupts)
    diagnosis = ended.result
    if diagnosis is None:
        return _fruitless(ended, display, console)
    for line in [findings.as_json(diagnosis)] if display.json else findings.written(diagnosis):
        console.out(line)
    console.flush()
    if not display.quiet:
        for note in diagnosis.notes:
            console.err(f"sealift: {note}")
        console.err(f"sealift: {findings.verdict(diagnosis)}", gravity(diagnosis.exit_status))
    return diagnosis.exit_status


async def _doctor(command: Command, settings: Settings) -> Diagnosis:
    from sealift.doctoring import doctor
    from sealift.survey import SAMPLE

    given: Mapping[str, Any] = command.layer.values
    return await doctor(
        command.words[0],
        settings,
        sample=given.get("sample", SAMPLE),
        bucket_account=given.get("bucket-account", ""),
        behind=given.get("bucket", ""),
    )


async def _policies(command: Command, settings: Settings) -> Granted:
    from sealift.granting import Wishes, policies
    from sealift.survey import SAMPLE

    given: Mapping[str, Any] = command.layer.values
    if "principal" not in given:
        raise ConfigError("say who is to read: --principal arn:aws:iam::ACCOUNT:role/NAME")
    wishes = Wishes(
        principal=given["principal"],
        keys=tuple(given.get("key", ())),
        bucket_account=given.get("bucket-account", ""),
        behind=given.get("bucket", ""),
        strict=given.get("strict", False),
        bucket_keys=given.get("bucket-keys", "both"),
        extras=frozenset(given.get("for", ())),
        sample=given.get("sample", SAMPLE),
    )
    return await policies(command.words, wishes, settings)


async def _verify(command: Command, settings: Settings, observer: Onlooker) -> Verification:
    from sealift.verifying import verify as verify_files

    dest, *prefixes = command.words
    repair = bool(command.layer.values.get("repair"))
    return await verify_files(dest, prefixes, settings, repair=repair, observer=observer)


async def _mirror(words: tuple[str, ...], settings: Settings, observer: Observer) -> Summary:
    from sealift.mirroring import mirror

    return await mirror(words[:-1], words[-1], settings, observer=observer)


async def _plan(words: tuple[str, ...], settings: Settings, observer: Observer) -> Forecast:
    from sealift.mirroring import plan

    return await plan(words[:-1], words[-1], settings, observer=observer)


async def _get(words: tuple[str, ...], settings: Settings, version: str | None, observer: Observer) -> Summary:
    from sealift.getting import get

    try:
        target = words[1] if len(words) > 1 else None
        return await get(words[0], target, settings, version_id=version, observer=observer)
    except BrokenPipeError as error:  # PATH may be a pipe, too
        raise StandardOutputClosed from error


async def _get_to_stdout(source: str, settings: Settings, version: str | None, observer: Observer) -> Summary:
    from sealift.getting import get_to_stream

    if sys.stdout is None:
        raise ConfigError("standard output is closed: name a file instead of -")
    try:
        return await get_to_stream(source, sys.stdout.fileno(), settings, version_id=version, observer=observer)
    except BrokenPipeError as error:
        raise StandardOutputClosed from error


async def _serve(command: Command, announce: Callable[[str], None]) -> int:
    given = command.layer.values.get("data")
    data = given if isinstance(given, Path) else None
    if command.verb == "demo":
        from sealift.sandbox.demo import demo

        return await demo(announce=announce, data=data)
    from sealift.sandbox.servers import serve as serve_sandbox

    await serve_sandbox(data=data, tls=bool(command.layer.values.get("tls")), announce=announce)
    return IN_PLACE


def _announce(console: Console, text: str) -> None:
    for line in text.split("\n"):
        console.out(line)
    console.flush()


def style_of(display: Display, console: Console) -> Style:
    """Return how progress is shown."""
    if display.quiet or not display.progress:
        return "none"
    return "bar" if console.stderr.isatty() and display.log_format == "text" else "lines"


def reached(error: Exception | None, progress: Progress) -> Summary:
    """Return what a run did that was stopped by an error or a signal, maybe before anything was listed."""
    if isinstance(error, RunError) and error.summary is not None:
        return error.summary
    return progress.summary or Summary()


def _status(result: Summary | Forecast | Verification | None, ended: Ended[Any]) -> int:
    closed = isinstance(ended.error, StandardOutputClosed)
    return exit_status(result, ended.error, interrupted=ended.interrupted, pipe_closed=closed)


def gravity(status: int) -> Level:
    """Return how grave it is that a run ended with `status`: who interrupts one knows that."""
    if status == IN_PLACE:
        return "info"
    return "warning" if status == INTERRUPTED else "error"


def _fruitless(ended: Ended[Any], display: Display, console: Console) -> int:
    """Say why there is no result, and return the exit status."""
    if ended.error is not None:
        say(ended.error, console, verbose=display.verbose)
    return _status(None, ended)


def conclude(
    verb: str,
    status: int,
    result: Summary | Forecast,
    error: Exception | None,
    display: Display,
    console: Console,
    source: str,
    *,
    cut: str = "",
) -> None:
    """Say on standard error why a run did not end well, and what to do; `cut` is what ended it in good order."""
    if error is not None:
        # Where one object failed, that may be what ended the run.
        told = result.failures[0].message if result.failed == len(result.failures) == 1 else ""
        say(error, console, verbose=display.verbose, told=told)
    if command := doctor_for(result, error, source):
        console.err(f"sealift: {EXPLAINED.format(command=command)}")
    if cut:
        console.err(f"sealift: {cut}; what is complete is kept, and the next run continues", "warning")
    elif status not in (IN_PLACE, USAGE, PIPE_CLOSED) and not display.quiet:
        console.err(f"sealift: {advice(verb, status, result)}", gravity(status))
