from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import Changed, Integrity, ObjectError, Permanent, Refused, Throttled, Transient
from sealift.model import Ending, Outcome, PaceSample, RemoteObject, Summary
from sealift.tally import FAILURES_IN_SUMMARY, Observer, Observers, Tally, Unobserved

SAME = Outcome(Ending.UP_TO_DATE, "bucket", "same")
REMOTE = RemoteObject("bucket", "key", 10, '"etag"', 0)


class Witness(Unobserved):
    """Writes down what it hears of."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def listed(self, objects: int) -> None:
        self.heard.append(("listed", objects))

    def planned(self, remote: RemoteObject, path: str, size: int, gets: int) -> None:
        self.heard.append(("planned", remote.key, path, size, gets))

    def advanced(self, size: int) -> None:
        self.heard.append(("advanced", size))

    def restarted(self, size: int, received: int) -> None:
        self.heard.append(("restarted", size, received))

    def ended(self, outcome: Outcome) -> None:
        self.heard.append(("ended", outcome))

    def retrying(self, error: ObjectError) -> None:
        self.heard.append(("retrying", error))

    def measured(self, sample: PaceSample) -> None:
        self.heard.append(("measured", sample))

    def noted(self, level: Literal["info", "warning"], text: str) -> None:
        self.heard.append((level, text))

    def finished(self, summary: Summary) -> None:
        self.heard.append(("finished", summary))


def tell_everything(observer: Observer) -> None:
    observer.listed(2)
    observer.planned(REMOTE, "path", 10, 1)
    observer.advanced(3)
    observer.restarted(10, 3)
    observer.ended(Outcome(Ending.SKIPPED, "bucket", "key"))
    observer.in_place(2, lambda: iter([SAME] * 2))
    observer.retrying(Transient("lost"))
    observer.measured(PaceSample(at=1.0, seconds=1.0))
    observer.noted("warning", "look")
    observer.finished(Summary())


def test_nothing_that_happens_disturbs_one_who_looks_away() -> None:
    tell_everything(Unobserved())
    tell_everything(Observers())
    tell_everything(Observers(None))


def test_every_observer_hears_of_everything_from_when_it_joined() -> None:
    first, second = Witness(), Witness()
    observers = Observers(first)
    tell_everything(observers)
    observers.add(second)
    tell_everything(observers)
    assert len(first.heard) == 22
    assert len(second.heard) == 11
    assert [item[0] for item in second.heard if isinstance(item, tuple)] == [
        "listed",
        "planned",
        "advanced",
        "restarted",
        "ended",
        "ended",
        "ended",
        "retrying",
        "measured",
        "warning",
        "finished",
    ]


def test_one_who_is_among_several_that_are_one_hears_what_all_hear() -> None:
    alone, among = Witness(), Witness()
    tell_everything(Observers(alone, Observers(Unobserved(), among)))
    assert among.heard == alone.heard
    assert len(alone.heard) == 11


def test_many_that_are_in_place_are_counted_at_once_and_told_to_those_who_hear_of_each() -> None:
    witness = Witness()
    tally = Tally(witness, 0.0)
    tally.list(3)
    tally.settle(2, lambda: iter([SAME] * 2))
    assert (tally.in_place, tally.summary(0.0, complete=True).pending) == (2, 1)
    assert witness.heard == [("listed", 3), ("ended", SAME), ("ended", SAME)]


@given(st.lists(st.sampled_from(Ending)), st.integers(0, 50))
def test_listed_is_the_sum_of_all_endings_and_what_is_pending(endings: list[Ending], pending: int) -> None:
    tally = Tally(Unobserved(), 0.0)
    tally.list(sum(ending is not Ending.DELETED for ending in endings) + pending)
    for ending in endings:
        tally.end(Outcome(ending, "bucket", "key"))
    summary = tally.summary(1.0, complete=True)
    assert summary.pending == pending
    parts = summary.downloaded + summary.up_to_date + summary.skipped + summary.failed + summary.pending
    assert summary.listed == parts
    assert tally.in_place == summary.downloaded + summary.up_to_date


def test_a_throttle_is_counted_by_its_service_and_is_no_retry() -> None:
    tally = Tally(Unobserved(), 0.0)
    for error in (Throttled("slow", service="kms"), Throttled("slow", service="kms"), Throttled("slow", service="s3")):
        tally.retry(error)
    summary = tally.summary(1.0, complete=False)
    assert (summary.kms_throttled, summary.s3_throttled, summary.retries) == (2, 1, 0)
    assert summary.kms.requests == 2, "KMS was asked, and refused"


@pytest.mark.parametrize(("error", "retries"), [(Transient("lost"), 1), (Integrity("short"), 1), (Changed("new"), 0)])
def test_a_failed_attempt_is_a_retry(error: ObjectError, retries: int) -> None:
    witness = Witness()
    tally = Tally(witness, 0.0)
    tally.retry(error)
    assert tally.summary(1.0, complete=True).retries == retries
    assert witness.heard == [("retrying", error)]


def test_a_failure_is_named_counted_and_told() -> None:
    witness = Witness()
    tally = Tally(witness, 0.0)
    tally.list(1)
    tally.fail(REMOTE, Refused("no", code="AccessDenied"))
    summary = tally.summary(1.0, complete=True)
    assert summary.failed == tally.refused == 1
    (failure,) = summary.failures
    assert (failure.bucket, failure.key, failure.error, failure.message) == ("bucket", "key", "AccessDenied", "no")
    outcome = Outcome(Ending.FAILED, "bucket", "key", 10, error="AccessDenied", message="no")
    assert witness.heard == [("listed", 1), ("ended", outcome)]


def test_the_summary_names_a_thousand_failures_and_counts_them_all() -> None:
    witness = Witness()
    tally = Tally(witness, 0.0)
    for number in range(FAILURES_IN_SUMMARY + 5):
        tally.fail(RemoteObject("bucket", f"{number}", 0, "", 0), Permanent("gone"))
    summary = tally.summary(1.0, complete=True)
    assert summary.failed == FAILURES_IN_SUMMARY + 5
    assert [failure.key for failure in summary.failures] == [str(number) for number in range(FAILURES_IN_SUMMARY)]
    assert len(witness.heard) == FAILURES_IN_SUMMARY + 5
    assert tally.refused == 0


def test_bytes_escapes_and_seconds_add_up() -> None:
    witness = Witness()
    tally = Tally(witness, 100.0)
    tally.receive(3)
    tally.receive(4)
    tally.get_requests += 2
    tally.end(Outcome(Ending.DOWNLOADED, "bucket", "a//b", escaped=True))
    summary = tally.summary(101.23456, complete=True)
    assert (summary.bytes, summary.get_requests, summary.escaped, summary.seconds) == (7, 2, 1, 1.235)
    assert witness.heard[:2] == [("advanced", 3), ("advanced", 4)]


def test_two_runs_share_no_counters() -> None:
    one, other = Tally(Unobserved(), 0.0), Tally(Unobserved(), 0.0)
    one.fail(REMOTE, Permanent("gone"))
    assert other.summary(0.0, complete=False) == Summary()
