"""The verbs' shells, around small coroutines that end in every way that a run can end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio
import pytest

from sealift.cli.console import Console, StandardOutputClosed
from sealift.cli.layers import Display
from sealift.cli.verbs import foresee, transfer
from sealift.errors import (
    AccessError,
    ConfigError,
    CredentialsError,
    LocalStorageError,
    RunError,
    SourceError,
)
from sealift.model import Ending, Failure, Forecast, Outcome, RemoteObject, Summary
from sealift.tally import Observer

PLAIN = Display()
JSON = Display(json=True)
DONE = Summary(listed=1, downloaded=1, complete=True)
REMOTE = RemoteObject("b", "p/k\x1b", 2048, '"e"', 0)


SOURCE = "s3://b/p/"


class Shown(NamedTuple):
    """What a run came to, and what it wrote."""

    status: int
    out: str
    err: str


def mirrored(work: Callable[[Observer], Awaitable[Summary]], display: Display = PLAIN, *, pipes: bool = False) -> Shown:
    out, err = io.StringIO(), io.StringIO()
    status = transfer("mirror", work, display, Console(out, err), source=SOURCE, pipes=pipes)
    return Shown(status, out.getvalue(), err.getvalue())


def foreseen(work: Callable[[Observer], Awaitable[Forecast]], display: Display = PLAIN) -> Shown:
    out, err = io.StringIO(), io.StringIO()
    status = foresee(work, display, Console(out, err), source=SOURCE)
    return Shown(status, out.getvalue(), err.getvalue())


def ending_in(outcome: Summary | Exception, seen: Summary | None = None) -> Callable[[Observer], Awaitable[Summary]]:
    async def work(observer: Observer) -> Summary:
        await anyio.lowlevel.checkpoint()
        if seen is not None:
            observer.finished(seen)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return work


async def interrupted_mirror(observer: Observer) -> Summary:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()
    finally:
        observer.finished(Summary(listed=3, downloaded=1, pending=2))
    raise AssertionError


def test_a_good_run_prints_its_table_and_nothing_else() -> None:
    shown = mirrored(ending_in(DONE))
    assert shown.status == 0
    assert shown.out.splitlines()[0] == "listed        1"
    assert shown.err == ""


def test_quiet_is_quiet() -> None:
    shown = mirrored(ending_in(DONE), Display(quiet=True))
    assert (shown.status, shown.out, shown.err) == (0, "", "")


def test_json_is_one_object_and_nothing_else() -> None:
    shown = mirrored(ending_in(DONE), JSON)
    assert shown.out.count("\n") == 1
    assert json.loads(shown.out)["downloaded"] == 1


@pytest.mark.parametrize("kind", [CredentialsError, AccessError, LocalStorageError, SourceError])
def test_a_run_that_ends_before_it_began_prints_json_all_the_same(kind: type[RunError]) -> None:
    shown = mirrored(ending_in(kind("no such thing")), JSON)
    assert shown.status == kind.exit_status
    result = json.loads(shown.out)
    assert result.pop("complete") is False
    assert not any((*result.pop("kms").values(), *result.values()))
    assert shown.err.splitlines()[0] == "sealift: no such thing"
    assert "run the same command again" in shown.err.splitlines()[-1]


def test_what_a_run_had_done_is_shown_with_the_error_that_ended_it() -> None:
    error = LocalStorageError("the disk is full")
    error.summary = Summary(listed=5, downloaded=4, pending=1)
    shown = mirrored(ending_in(error))
    assert shown.status == 4
    assert "not reached   1" in shown.out
    assert "sealift: the disk is full\n" in shown.err


def test_a_run_that_ended_before_anything_was_listed_has_no_table() -> None:
    shown = mirrored(ending_in(LocalStorageError("no such place")))
    assert (shown.status, shown.out) == (4, "")
    assert "sealift: no such place\n" in shown.err


def test_a_get_that_failed_says_why_once() -> None:
    async def work(observer: Observer) -> Summary:
        await anyio.lowlevel.checkpoint()
        observer.ended(Outcome(Ending.FAILED, "b", "k", error="AccessDenied", message="it is refused"))
        error = AccessError("it is refused")
        error.summary = Summary(listed=1, failed=1, failures=(Failure("b", "k", "AccessDenied", "it is refused"),))
        raise error

    out, err = io.StringIO(), io.StringIO()
    assert transfer("get", work, PLAIN, Console(out, err), source=SOURCE) == 3
    assert (out.getvalue() + err.getvalue()).count("it is refused") == 1


def test_a_wrong_setting_found_late_prints_no_json() -> None:
    shown = mirrored(ending_in(ConfigError("that is an object"), seen=DONE), JSON)
    assert (shown.status, shown.out, shown.err) == (2, "", "sealift: that is an object\n")


def test_objects_that_failed_make_status_1_and_advice() -> None:
    shown = mirrored(ending_in(Summary(listed=2, failed=1, downloaded=1, complete=True)))
    assert shown.status == 1
    assert "1 object of 2 not in place" in shown.err


def test_an_interrupted_run_tells_what_it_did() -> None:
    for display in (Display(), JSON):
        shown = mirrored(interrupted_mirror, display)
        assert shown.status == 130
        assert "run the same command again to continue" in shown.err
    result = json.loads(shown.out)
    assert (result["listed"], result["downloaded"], result["pending"], result["complete"]) == (3, 1, 2, False)


@pytest.mark.parametrize(
    ("work", "levels"),
    [
        (ending_in(DONE), []),
        (ending_in(SourceError("no such bucket")), ["error", "error"]),
        (ending_in(AccessError("refused")), ["error", "info", "error"]),
        (ending_in(RuntimeError("odd")), ["error", "error"]),
        (ending_in(Summary(listed=1, failed=1)), ["error"]),
        (interrupted_mirror, ["warning"]),
    ],
)
def test_a_line_of_json_tells_how_grave_it_is(
    work: Callable[[Observer], Awaitable[Summary]], levels: list[str]
) -> None:
    err = io.StringIO()
    console = Console(None, err)
    console.as_json = True
    transfer("mirror", work, PLAIN, console, source=SOURCE)
    assert [json.loads(line)["level"] for line in err.getvalue().splitlines()] == levels


def test_signals_are_what_they_were_after_a_run() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    mirrored(interrupted_mirror)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_comes_after_the_work_is_done_changes_nothing() -> None:
    async def work(observer: Observer) -> Summary:
        del observer
        os.kill(os.getpid(), signal.SIGTERM)
        return DONE

    assert mirrored(work).status == 0


def test_a_bug_is_one_line_and_its_traceback_is_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    bug = RuntimeError("odd: hunter2 and X-Amz-Signature=abcdef")
    shown = mirrored(ending_in(bug), JSON)
    assert shown.status == 1
    assert json.loads(shown.out)["complete"] is False
    assert shown.err.splitlines()[0].startswith(
        "sealift: RuntimeError: odd: [secret] and X-Amz-Signature=[secret] (a bug in Sealift"
    )
    assert "Traceback" not in shown.err
    verbose = mirrored(ending_in(bug), Display(verbose=True))
    assert "Traceback" in verbose.err
    assert "hunter2" not in verbose.err
    assert "abcdef" not in verbose.err


def test_an_error_that_a_task_group_wrapped_is_still_that_error() -> None:
    group = ExceptionGroup("tasks", [ExceptionGroup("tasks", [SourceError("no such bucket")])])
    assert mirrored(ending_in(group)).status == 5


def test_an_object_on_standard_output_is_alone_there() -> None:
    shown = mirrored(ending_in(DONE), pipes=True)
    assert (shown.status, shown.out) == (0, "")


def test_a_reader_that_left_ends_it_quietly() -> None:
    shown = mirrored(ending_in(StandardOutputClosed()), pipes=True)
    assert (shown.status, shown.out, shown.err) == (141, "", "")


async def planned(observer: Observer) -> Forecast:
    await anyio.lowlevel.checkpoint()
    observer.listed(2)
    observer.planned(REMOTE, "k\x1b", 2048, 1)
    observer.ended(Outcome(Ending.FAILED, "b", "cold", message="it is archived"))
    observer.finished(Summary(listed=2, failed=1, pending=1, complete=True))
    return Forecast(listed=2, to_download=1, failed=1, bytes=2048, get_requests=1, complete=True)


def test_a_plan_prints_a_line_an_object_then_the_sum() -> None:
    shown = foreseen(planned)
    assert shown.status == 1
    assert shown.out.splitlines()[:3] == [
        "fetch     2.0 KiB      1 GET  s3://b/p/k\\x1b -> k\\x1b",
        "fail   s3://b/cold: it is archived",
        "",
    ]
    assert "cannot be mirrored  1" in shown.out
    assert shown.err == "sealift: 1 object cannot be mirrored as things stand\n"


def test_a_plan_may_be_json_or_only_its_sum() -> None:
    shown = foreseen(planned, JSON)
    assert json.loads(shown.out)["to_download"] == 1
    assert "failed: s3://b/cold: it is archived" in shown.err
    assert foreseen(planned, Display(quiet=True)).out.splitlines()[0] == "listed              2"


def test_an_interrupted_plan_tells_how_far_it_came() -> None:
    async def work(observer: Observer) -> Forecast:
        try:
            observer.planned(REMOTE, "k", 2048, 1)
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep_forever()
        finally:
            observer.finished(Summary(listed=7, pending=7))
        raise AssertionError

    shown = foreseen(work, JSON)
    assert shown.status == 130
    result = json.loads(shown.out)
    assert (result["listed"], result["to_download"], result["bytes"], result["complete"]) == (7, 1, 2048, False)


# What has to happen to a whole process happens to one.

PROGRAM = """
import os, signal, sys, threading, time
import anyio
from sealift.cli.console import Console
from sealift.cli.layers import Display
from sealift.cli.verbs import foresee, transfer
from sealift.model import Forecast, RemoteObject, Summary

console = Console(sys.stdout, sys.stderr)
remote = RemoteObject("b", "k", 1, "e", 0)
"""


def run_program(body: str, stdout: int) -> subprocess.CompletedProcess[bytes]:
    script = PROGRAM + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", script], stdout=stdout, stderr=subprocess.PIPE, timeout=60)


def test_a_second_signal_ends_the_process_even_when_the_loop_stands_still() -> None:
    done = run_program(
        """
        async def work(observer):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass
        transfer("mirror", work, Display(), console, source="s3://b/p/")
        """,
        stdout=subprocess.PIPE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def piped(body: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program whose standard output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return run_program(body, stdout=writer)
    finally:
        os.close(writer)


def test_a_plan_whose_reader_left_stops_with_141_and_without_a_word() -> None:
    done = piped(
        """
        async def work(observer):
            while True:
                observer.planned(remote, "k", 1, 1)
                await anyio.lowlevel.checkpoint()
        sys.exit(foresee(work, Display(), console, source="s3://b/p/"))
        """
    )
    assert (done.returncode, done.stderr) == (141, b"")


def test_help_that_nobody_reads_ends_with_141_and_without_a_word() -> None:
    done = piped("from sealift.cli import main; sys.exit(main(['--help']))")
    assert (done.returncode, done.stderr) == (141, b"")


def test_standard_output_on_a_full_disk_is_a_clear_error() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = run_program("from sealift.cli import main; sys.exit(main(['--version']))", stdout=full.fileno())
    assert done.returncode == 4
    assert done.stderr == b"sealift: standard output cannot be written: No space left on device\n"


def test_a_standard_output_that_gets_nothing_is_not_complained_of() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = run_program("console.flush()", stdout=full.fileno())
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_run_goes_on_when_standard_error_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    script = PROGRAM + textwrap.dedent(
        """
        async def work(observer):
            for _ in range(10):
                observer.noted("warning", "w")
            return Summary(listed=1, downloaded=1, complete=True)
        sys.exit(transfer("mirror", work, Display(json=True), console, source="s3://b/p/"))
        """
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=writer, timeout=60)
    os.close(writer)
    assert done.returncode == 0
    assert json.loads(done.stdout)["downloaded"] == 1


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "sealift", "--version"], capture_output=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith(b"sealift ")


def test_help_needs_neither_the_event_loop_nor_the_sdk() -> None:
    script = (
        "import sys; from sealift.cli import main; main(['mirror', '--help']); "
        "sys.exit(bool({'anyio', 'asyncio', 'tqdm', 'botocore', 'aiohttp', 'tomllib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0
