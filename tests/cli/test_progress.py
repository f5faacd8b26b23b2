from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

from sealift.cli.console import Console
from sealift.cli.progress import MOST_LINES, Progress, pace_of
from sealift.errors import Throttled, Transient
from sealift.model import Ending, Outcome, PaceSample, RemoteObject, Summary
from tests.support.terminal import Terminal

MIB = 1024 * 1024
REMOTE = RemoteObject("b", "k", 10 * MIB, '"e"', 0)
FAILED = Outcome(Ending.FAILED, "b", "bad\x1b[2J\nkey", error="NoSuchKey", message="it is gone")


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_line_tells_objects_bytes_rate_and_what_is_left() -> None:
    err, clock = io.StringIO(), Clock()
    progress = Progress(Console(None, err), "lines", clock=clock)
    progress.listed(20_000)
    for _ in range(100):
        progress.planned(REMOTE, "p", 10 * MIB, 1)
    for _ in range(160):
        progress.advanced(65536)
    progress.ended(Outcome(Ending.DOWNLOADED, "b", "k", 10 * MIB))
    clock.now += 10
    progress.draw()
    assert err.getvalue() == ("sealift: 1 of 20,000 objects, 10.0 MiB of 1000.0 MiB, 1.0 MiB/s, 0:16:30 left\n")


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    progress = Progress(Console(None, io.StringIO()), "bar", clock=clock)
    progress.planned(REMOTE, "p", 100 * MIB, 1)
    for _ in range(100):
        clock.now += 0.1
        progress.advanced(MIB)
        sentence = progress.sentence(clock.now)
    assert "10.0 MiB/s" in sentence
    for _ in range(100):
        clock.now += 0.1
        sentence = progress.sentence(clock.now)
    assert "0 B/s" in sentence
    assert "left" not in sentence


def test_many_small_objects_take_as_long_as_their_requests() -> None:
    clock = Clock()
    progress = Progress(Console(None, io.StringIO()), "bar", clock=clock)
    for size in (100 * MIB, *[1] * 1000):
        progress.planned(REMOTE, "p", size, 1)
    progress.advanced(100 * MIB)
    for _ in range(11):
        progress.ended(Outcome(Ending.DOWNLOADED, "b", "k"))
    clock.now += 1
    assert progress.sentence(clock.now).endswith("100.0 MiB/s, 0:01:30 left")


def test_failures_and_throttling_are_part_of_it() -> None:
    err, clock = io.StringIO(), Clock()
    progress = Progress(Console(None, err), "lines", clock=clock)
    progress.listed(1)
    progress.ended(FAILED)
    progress.retrying(Throttled("slow", service="kms"))
    progress.retrying(Transient("reset"))
    clock.now += 1
    assert progress.sentence(clock.now) == "1 of 1 object, 0 B of 0 B, 0 B/s, KMS refused 1, 1 failed"
    assert err.getvalue() == "failed: s3://b/bad\\x1b[2J\\x0akey: it is gone\n"


def throttled_second(at: float, **changes: Any) -> PaceSample:
    return replace(
        PaceSample(at=at, seconds=1.0, kms_requests=290, kms_throttled=3, kms_rate=291.0, kms_quota=296.0),
        **changes,
    )


def test_while_kms_refuses_the_line_tells_how_many_requests_it_grants_and_refuses() -> None:
    progress = Progress(Console(None, io.StringIO()), "bar", clock=Clock())
    for _ in range(3):
        progress.retrying(Throttled("slow", service="kms"))
    progress.measured(throttled_second(1.0))
    assert progress.sentence(1000.0).endswith(", KMS 287/s, 3 refused")
    progress.measured(throttled_second(2.0, kms_down=True))
    assert progress.sentence(1000.0).endswith(", KMS is down")
    progress.measured(throttled_second(3.0, kms_throttled=0))
    progress.retrying(Throttled("slow", service="s3"))
    assert progress.sentence(1000.0).endswith(", KMS refused 3, S3 refused 1")


def test_while_a_cap_holds_the_run_back_the_line_tells_what_comes_of_it() -> None:
    progress = Progress(Console(None, io.StringIO()), "bar", clock=Clock())
    capped = throttled_second(1.0, kms_throttled=0, kms_requests=99, kms_wait=0.97)
    for _ in range(3):
        progress.measured(capped)
    assert progress.sentence(1000.0).endswith(", KMS 99/s")


def test_a_change_of_pace_is_told_to_whoever_wants_to_know_everything() -> None:
    for verbose in (True, False):
        err = io.StringIO()
        progress = Progress(Console(None, err), "none", verbose=verbose)
        progress.measured(throttled_second(1.0))
        progress.measured(throttled_second(2.0, kms_changes=4))
        expected = "pace: 291/s to KMS; 3 of 290 were refused within 1 s, about 296/s are granted\n"
        assert err.getvalue() == (expected if verbose else "")
    assert pace_of(PaceSample(at=1.0, seconds=1.0, kms_changes=1)) == "pace: KMS is not held back"


def test_an_object_that_is_started_over_takes_its_bytes_back() -> None:
    clock = Clock()
    progress = Progress(Console(None, io.StringIO()), "lines", clock=clock)
    progress.planned(REMOTE, "p", 10 * MIB, 1)
    progress.advanced(5 * MIB)
    clock.now += 1
    progress.sentence(clock.now)
    progress.restarted(10 * MIB, 5 * MIB)
    clock.now += 1
    assert "0 of 0 objects, 0 B of 0 B, 0 B/s" in progress.sentence(clock.now)


def test_a_plan_tells_what_was_listed() -> None:
    progress = Progress(Console(None, io.StringIO()), "lines", planning=True)
    progress.listed(3)
    progress.planned(REMOTE, "p", 10 * MIB, 2)
    assert progress.sentence(0) == "3 objects listed, 1 to fetch, 10.0 MiB"


def test_only_so_many_failures_are_told_one_by_one() -> None:
    err = io.StringIO()
    progress = Progress(Console(None, err), "none")
    for _ in range(MOST_LINES + 50):
        progress.ended(FAILED)
        progress.noted("warning", "w")
    lines = err.getvalue().splitlines()
    assert sum(line.startswith("failed: ") for line in lines) == MOST_LINES
    assert sum(line.startswith("warning: ") for line in lines) == MOST_LINES
    assert sum(line.startswith("more ") for line in lines) == 2
    assert len(lines) == 2 * MOST_LINES + 2


def test_what_is_not_told_one_by_one_any_more_is_no_less_grave() -> None:
    err = io.StringIO()
    console = Console(None, err)
    console.as_json = True
    progress = Progress(console, "none")
    for _ in range(MOST_LINES + 1):
        progress.ended(FAILED)
        progress.noted("warning", "w")
    assert [json.loads(line)["level"] for line in err.getvalue().splitlines()[-2:]] == ["error", "warning"]


def test_how_much_is_told_is_a_choice() -> None:
    def told(*, verbose: bool = False, quiet: bool = False, tell_failures: bool = True) -> list[str]:
        err = io.StringIO()
        progress = Progress(Console(None, err), "none", verbose=verbose, quiet=quiet, tell_failures=tell_failures)
        progress.ended(FAILED)
        progress.ended(Outcome(Ending.UP_TO_DATE, "b", "k", path="p"))
        progress.retrying(Transient("reset", bucket="b", key="k"))
        progress.noted("warning", "w")
        progress.noted("info", "i")
        progress.draw()
        return [line.split(" ")[0] for line in err.getvalue().splitlines()]

    assert told() == ["failed:", "warning:"]
    assert told(quiet=True) == ["failed:"]
    assert told(verbose=True) == ["failed:", "up", "again:", "warning:", "i"]
    assert told(tell_failures=False) == ["warning:"]


def test_what_is_in_place_is_counted_and_shown_one_by_one_to_those_who_want_that() -> None:
    for verbose, shown in [(False, ""), (True, "up to date: s3://b/x -> x\nup to date: s3://b/y -> y\n")]:
        err = io.StringIO()
        progress = Progress(Console(None, err), "lines", clock=Clock(), verbose=verbose)
        progress.listed(2)
        progress.in_place(2, lambda: iter([Outcome(Ending.UP_TO_DATE, "b", key, path=key) for key in "xy"]))
        assert progress.sentence(1.0).startswith("2 of 2 objects")
        assert err.getvalue() == shown


def test_the_summary_is_kept() -> None:
    progress = Progress(Console(None, None), "none")
    summary = Summary(listed=1)
    progress.finished(summary)
    assert progress.summary is summary


def test_a_terminal_gets_a_bar_that_steps_aside_and_leaves_nothing(terminal: Terminal) -> None:
    clock = Clock()
    console = Console(None, terminal.stream)
    assert console.stderr.isatty()
    progress = Progress(console, "bar", clock=clock)
    progress.listed(2)
    progress.planned(REMOTE, "p", 8 * MIB, 1)
    clock.now += 1
    progress.draw()
    progress.advanced(2 * MIB)
    clock.now += 1
    progress.draw()
    drawn = terminal.written()
    assert " 25% |" in drawn
    assert "0 of 2 objects, 2.0 MiB of 8.0 MiB, 1.0 MiB/s, 6.0 s left" in drawn
    assert "█" in drawn

    progress.ended(FAILED)
    drawn = terminal.written()
    wiped, line, again = drawn.partition("failed: s3://b/bad\\x1b[2J\\x0akey: it is gone\r\n")
    assert line
    assert wiped.strip("\r ") == ""  # the bar was wiped before the line
    assert " 25% |" in again  # and drawn again below it

    progress.close()
    assert terminal.written().strip("\r ") == ""
    console.err("afterwards")
    assert terminal.written() == "afterwards\r\n"


def test_a_plan_on_a_terminal_shows_a_sentence_alone(terminal: Terminal) -> None:
    progress = Progress(Console(None, terminal.stream), "bar", planning=True)
    progress.listed(7)
    progress.draw()
    progress.close()
    drawn = terminal.written()
    assert "7 objects listed, 0 to fetch, 0 B" in drawn
    assert "%" not in drawn
