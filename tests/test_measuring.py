"""Samples of a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.admission import Admission
from sealift.config import KmsSettings
from sealift.errors import ObjectError, Throttled, Transient
from sealift.measuring import Sampler
from sealift.model import Ending, Outcome
from sealift.pacing import Pace
from sealift.tally import Tally
from tests.support.running import Watcher


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now


def sampled() -> tuple[Sampler, Tally, Pace, Watcher, Clock]:
    clock, watcher = Clock(), Watcher()
    tally = Tally(watcher, clock.now)
    admission = Admission(KmsSettings(), lambda _: "us-east-1", {}, clock=clock.time)
    pace = admission.bucket("bucket").pace
    return Sampler(tally, admission, lambda: 7, clock=clock.time), tally, pace, watcher, clock


KMS, S3, LOST = Throttled("slow", service="kms"), Throttled("slow", service="s3"), Transient("lost")


@given(st.lists(st.lists(st.sampled_from([KMS, S3, LOST, "bytes", "object", "GET"]))))
def test_samples_add_up_to_the_summary(seconds: list[list[ObjectError | str]]) -> None:
    sampler, tally, _, watcher, clock = sampled()
    for events in seconds:
        for event in events:
            if isinstance(event, ObjectError):
                tally.retry(event)
            elif event == "bytes":
                tally.receive(10)
            elif event == "object":
                tally.end(Outcome(Ending.DOWNLOADED, "b", "k"))
            else:
                tally.get_requests += 1
                tally.kms_requests += 1
        clock.now += 1
        sampler.sample()
    summary, samples = tally.summary(clock.now, complete=True), watcher.samples
    assert sum(sample.seconds for sample in samples) == summary.seconds
    assert sum(sample.bytes for sample in samples) == summary.bytes
    assert sum(sample.objects for sample in samples) == summary.downloaded
    assert sum(sample.get_requests for sample in samples) == summary.get_requests
    assert sum(sample.retries for sample in samples) == summary.retries
    assert sum(sample.kms_requests for sample in samples) == summary.kms.requests
    assert sum(sample.kms_throttled for sample in samples) == summary.kms_throttled
    assert sum(sample.s3_throttled for sample in samples) == summary.s3_throttled


def test_a_sample_tells_the_pace_and_what_was_found_out_of_the_quota() -> None:
    sampler, tally, pace, watcher, clock = sampled()
    sampler.sample()
    for _ in range(50):
        pace.succeeded(clock.now)
        clock.now += 0.01
    pace.refused(clock.now - 0.01)
    clock.now += 0.25
    sampler.sample()
    before, after = watcher.samples
    assert (before.connections, before.kms_rate, before.kms_quota, before.kms_changes) == (7, None, None, 0)
    assert after.at == after.seconds == pytest.approx(0.75)
    assert after.kms_rate is not None
    assert after.kms_quota is not None
    assert after.kms_rate < after.kms_quota
    assert after.kms_changes == 1
    assert tally.kms_quota == after.kms_quota
