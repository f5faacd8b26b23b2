from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.errors import SourceError
from sealift.model import Ending, Failure, Outcome, PaceSample, Summary
from sealift.runlog import KEPT, RunLog
from tests.support.smalldisk import small_tmpfs

NIGHT = datetime(2024, 5, 17, 2, 30, tzinfo=UTC)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_tmpfs(tmp_path / "small", options="size=64k") as mount:
        yield mount


def lines_of(directory: Path, log: RunLog) -> list[dict[str, object]]:
    text = (directory / log.name).read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def failed(key: str) -> Outcome:
    return Outcome(Ending.FAILED, "bucket", key, 5, error="AccessDenied", message="refused")


def test_a_run_is_one_json_object_a_line(tmp_path: Path, runs: int) -> None:
    log = RunLog(runs, NIGHT, sources=["s3://bucket"], dest="/data")
    with log.telling_how():
        pass
    log.ended(Outcome(Ending.DOWNLOADED, "bucket", "a/b", 7, path="a/b", seconds=0.25, replaced=True))
    log.ended(Outcome(Ending.DOWNLOADED, "bucket", "quick", 7, path="quick", seconds=0.02))
    log.ended(Outcome(Ending.UP_TO_DATE, "bucket", "same", 7, path="same"))
    log.in_place(1, lambda: iter([Outcome(Ending.UP_TO_DATE, "bucket", "same too", 7, path="same too")]))
    log.ended(Outcome(Ending.SKIPPED, "bucket", "left", 7, path="left"))
    log.ended(failed("c"))
    log.noted("warning", "nothing lies under s3://b/p")
    log.finished(Summary(listed=4, failures=(Failure("bucket", "c", "AccessDenied", "refused"),)))
    *events, last = lines_of(tmp_path, log)
    assert events == [
        {"event": "began", "at": "2024-05-17T02:30:00.000000Z", "sources": ["s3://bucket"], "dest": "/data"},
        {
            "event": "downloaded",
            "bucket": "bucket",
            "key": "a/b",
            "size": 7,
            "path": "a/b",
            "seconds": 0.25,
            "replaced": True,
        },
        {"event": "downloaded", "bucket": "bucket", "key": "quick", "size": 7, "path": "quick"},
        {"event": "skipped", "bucket": "bucket", "key": "left", "size": 7, "path": "left"},
        {
            "event": "failed",
            "bucket": "bucket",
            "key": "c",
            "size": 5,
            "error": "AccessDenied",
            "message": "refused",
        },
        {"event": "warning", "message": "nothing lies under s3://b/p"},
    ]
    assert last["event"] == "finished"
    summary = last["summary"]
    assert isinstance(summary, dict)
    assert summary["listed"] == 4
    assert summary["failures"] == [], "every one of them has its own line"
    assert (last["how"], last["status"], last["error"]) == ("ended", 1, "")


def test_a_log_tells_how_the_run_ended(tmp_path: Path, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = RunLog(runs, NIGHT)
    with pytest.raises(SourceError), refused.telling_how():
        raise SourceError("there is no such bucket")
    stopped = RunLog(runs, NIGHT + timedelta(1))
    with pytest.raises(KeyboardInterrupt), stopped.telling_how():
        raise KeyboardInterrupt
    good = RunLog(runs, NIGHT + timedelta(2))
    with good.telling_how():
        pass
    several = RunLog(runs, NIGHT + timedelta(3))
    with pytest.raises(SourceError), several.telling_how():
        raise ExceptionGroup("tasks", [SourceError("there is no such bucket")])
    broken = RunLog(runs, NIGHT + timedelta(4))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with pytest.raises(KeyError), broken.telling_how():
        raise KeyError("hunter2")
    last = []
    for log in (refused, stopped, good, several, broken):
        log.finished(Summary(complete=True))
        last.append(lines_of(tmp_path, log)[-1])
    assert [(line["how"], line["status"], line["error"]) for line in last] == [
        ("error", 5, "there is no such bucket"),
        ("cancelled", 1, ""),
        ("ended", 0, ""),
        ("error", 5, "there is no such bucket"),
        ("error", 1, "KeyError: '[secret]' (a bug in Sealift)"),
    ]


def test_each_second_has_a_line(tmp_path: Path, runs: int) -> None:
    log = RunLog(runs, NIGHT)
    log.measured(PaceSample(at=1.00049, seconds=1.0, bytes=7, kms_requests=3, kms_quota=None))
    log.finished(Summary())
    _, pace, _ = lines_of(tmp_path, log)
    assert pace.items() >= {"event": "pace", "at": 1.0, "bytes": 7, "kms_requests": 3, "kms_quota": None}.items()
    assert pace.keys() == {"event"} | {field.name for field in fields(PaceSample)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(st.characters(codec=None), max_size=20), message=st.text(max_size=20))
def test_no_key_breaks_a_line_or_reaches_a_terminal_raw(tmp_path: Path, runs: int, key: str, message: str) -> None:
    log = RunLog(runs, NIGHT)
    log.ended(Outcome(Ending.FAILED, "bucket", key, error="Odd", message=message))
    log.ended(Outcome(Ending.DOWNLOADED, "bucket", key, path=key))
    log.finished(Summary())
    raw = (tmp_path / log.name).read_bytes()
    assert all(32 <= byte < 127 or byte == 10 for byte in raw)
    _, failure, download, _ = lines_of(tmp_path, log)
    # A pair of surrogates in a row reads back as the character that it spells.
    same = key.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert failure["key"] == download["key"] == download["path"] == same
    assert failure["message"] == message
    (tmp_path / log.name).unlink()


def test_the_logs_of_thirty_runs_are_kept(tmp_path: Path, runs: int) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    names = []
    for night in range(KEPT + 5):
        log = RunLog(runs, NIGHT + timedelta(days=night))
        log.finished(Summary())
        names.append(log.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*sorted(names[-KEPT:]), "notes.txt"]


def test_a_name_tells_the_time_in_utc_and_sorts_by_it(runs: int) -> None:
    east = timezone(timedelta(hours=9))
    first = RunLog(runs, datetime(2024, 5, 17, 9, 0, tzinfo=east))
    second = RunLog(runs, datetime(2024, 5, 17, 0, 0, 0, 1, tzinfo=UTC))
    assert first.name == "20240517T000000.000000Z.jsonl"
    assert first.name < second.name
    for log in (first, second):
        log.finished(Summary())


def test_a_log_never_writes_through_a_symlink_or_into_another_log(tmp_path: Path, runs: int) -> None:
    log = RunLog(runs, NIGHT)
    log.finished(Summary())
    with pytest.raises(FileExistsError):
        RunLog(runs, NIGHT)
    (tmp_path / log.name).unlink()
    (tmp_path / log.name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=log.name):
        RunLog(runs, NIGHT)
    assert not (tmp_path / "elsewhere").exists()


def test_permissions_follow_the_umask(tmp_path: Path, runs: int) -> None:
    before = os.umask(0o027)
    try:
        log = RunLog(runs, NIGHT)
    finally:
        os.umask(before)
    log.finished(Summary())
    assert stat.S_IMODE((tmp_path / log.name).stat().st_mode) == 0o640


def test_a_log_that_is_large_enough_takes_only_failures(
    tmp_path: Path, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sealift.runlog.LARGEST", 1000)
    log = RunLog(runs, NIGHT)
    for number in range(100):
        log.ended(Outcome(Ending.DOWNLOADED, "bucket", f"fine-{number}", path=f"fine-{number}"))
        log.ended(failed(f"bad-{number}"))
    log.finished(Summary())
    keys = [str(line.get("key")) for line in lines_of(tmp_path, log)[:-1]]
    assert [key for key in keys if key.startswith("bad")] == [f"bad-{number}" for number in range(100)]
    assert 0 < sum(key.startswith("fine") for key in keys) < 20


def test_a_full_disk_cuts_the_log_short_and_nothing_else(small_disk: Path) -> None:
    """What is there is the beginning of what was to be written: no line is torn but the last."""
    descriptor = os.open(small_disk, os.O_RDONLY | os.O_DIRECTORY)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(32 * 1024))
    log = RunLog(descriptor, NIGHT)
    for number in range(2000):
        if number == 1000:
            ballast.unlink()  # there is room again, in the middle of a line
        log.ended(failed(f"key-{number}"))
    log.finished(Summary())
    os.close(descriptor)
    _, *whole, _ = (small_disk / log.name).read_bytes().split(b"\n")
    keys = [json.loads(line)["key"] for line in whole]
    assert keys
    assert keys == [f"key-{number}" for number in range(len(keys))]
