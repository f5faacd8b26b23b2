"""A run as its log tells it, whatever befell the log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import ConfigError, SourceError
from sealift.model import Summary
from sealift.report.runs import EXAMPLES, SLOWEST, glance, logs, read_run, thinned
from tests.support.nights import FIRST, SECOND, failed, fetched, logged, sample, two_nights


def test_a_run_is_read_as_it_was(tmp_path: Path) -> None:
    first, second = map(read_run, two_nights(tmp_path))
    assert (first.began, second.began) == (FIRST, SECOND)
    assert (second.sources, second.dest) == (("s3://bucket/reports/",), str(tmp_path))
    assert (second.how, second.status, second.error) == ("ended", 1, "")
    assert (second.summary["downloaded"], second.summary["kms"]["quota"]) == (3, 200.0)
    assert (second.new.count, second.new.bytes) == (2, 70_002)
    assert [line["key"] for line in second.replaced.examples] == ["a"]
    assert [line["key"] for line in second.deleted.examples] == ["b"]
    assert {error: group.count for error, group in second.failures.items()} == {
        "AccessDenied": 1,
        "KMS.DisabledException": 1,
    }
    assert second.failed_keys == {("bucket", "both"), ("bucket", "fresh")}
    assert [line["at"] for line in second.pace] == [1.0, 2.0, 3.0]
    assert [line["message"] for line in second.notes.examples] == ["KMS is back after 2 s: going on"]
    assert {bits: group.count for bits, group in second.sizes.items()} == {14: 1, 17: 1, 2: 1}
    assert [line["key"] for line in first.slowest] == ["b", "a"]


def test_a_log_that_is_torn_tells_what_it_has(tmp_path: Path) -> None:
    with logged(tmp_path, FIRST, Summary(listed=9, complete=True)) as log:
        log.ended(fetched("a"))
        log.ended(failed("b"))
        log.measured(sample(1.0, retries=2))
    (path,) = (tmp_path / ".sealift" / "runs").iterdir()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    run = read_run(path)
    assert (run.how, run.status) == ("killed", 1)
    assert run.summary["downloaded"] == run.summary["failed"] == 1
    assert (run.summary["retries"], run.summary["bytes"], run.seconds) == (2, 1_000_000, 1.0)
    assert "listed" not in run.summary
    for stop in range(0, len(whole), 7):
        path.write_bytes(whole[:stop])
        assert read_run(path).began == FIRST, "whose name tells it, too"


def test_what_ended_a_run_as_a_whole_is_told(tmp_path: Path) -> None:
    with logged(tmp_path, FIRST, Summary(), SourceError("there is no such bucket")):
        pass
    (path,) = logs(tmp_path / ".sealift" / "runs")
    run = read_run(path)
    assert (run.how, run.status, run.error) == ("error", 5, "there is no such bucket")


def test_what_is_kept_of_a_long_log_is_bounded(tmp_path: Path) -> None:
    with logged(tmp_path, FIRST, Summary()) as log:
        for number in range(3 * EXAMPLES):
            log.ended(fetched(f"k{number}", seconds=number % 50))
            log.ended(failed(f"f{number}"))
    (path,) = logs(tmp_path / ".sealift" / "runs")
    run = read_run(path)
    assert (run.new.count, len(run.new.examples)) == (3 * EXAMPLES, EXAMPLES)
    assert (run.failures["AccessDenied"].count, len(run.failures["AccessDenied"].examples)) == (3 * EXAMPLES, EXAMPLES)
    assert [line["seconds"] for line in run.slowest] == [float(seconds) for seconds in range(49, 49 - SLOWEST, -1)]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=50), st.integers(1, 20))
def test_seconds_are_put_together_so_that_they_add_up_to_the_same(seconds: list[tuple[int, bool]], most: int) -> None:
    pace = [asdict(sample(at + 1.0, retries=retries, kms_down=down)) for at, (retries, down) in enumerate(seconds)]
    few = thinned(pace, most)
    assert len(few) <= most
    for name in ("seconds", "bytes", "retries"):
        assert sum(each[name] for each in few) == sum(each[name] for each in pace)
    assert any(each["kms_down"] for each in few) == any(down for _, down in seconds)
    assert [each["at"] for each in few[-1:]] == [each["at"] for each in pace[-1:]]


def test_a_glance_tells_how_a_run_began_and_ended(tmp_path: Path) -> None:
    for path in two_nights(tmp_path):
        whole, seen = read_run(path), glance(path)
        assert (seen.began, seen.how, seen.status, seen.summary) == (
            whole.began,
            whole.how,
            whole.status,
            whole.summary,
        )
        assert not seen.failures
        path.write_bytes(path.read_bytes()[:-100])
        assert glance(path) == read_run(path)
        path.write_bytes(b"")
        assert glance(path).how == "killed"


def test_of_a_very_long_night_seconds_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealift.report.runs.SECONDS", 10)
    with logged(tmp_path, FIRST, Summary()) as log:
        for second in range(100):
            log.measured(sample(second + 1.0))
    (path,) = logs(tmp_path / ".sealift" / "runs")
    pace = read_run(path).pace
    assert 10 <= len(pace) <= 20
    assert sum(each["bytes"] for each in pace) == 100_000_000
    assert pace[-1]["at"] == 100.0


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_run(tmp_path / "none.jsonl")
    (tmp_path / "other.jsonl").write_text("[1]\n")
    assert read_run(tmp_path / "other.jsonl").how == "killed"
