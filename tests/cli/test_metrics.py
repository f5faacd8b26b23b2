"""What Prometheus gets to read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sealift.cli.metrics import write
from sealift.model import KmsUse, Summary

DONE = Summary(
    listed=9,
    downloaded=2,
    up_to_date=3,
    failed=1,
    pending=3,
    deleted=5,
    bytes=1000,
    get_requests=7,
    kms_throttled=2,
    seconds=1.5,
    complete=True,
    kms=KmsUse(requests=6, wait_seconds=0.5, quota=300.0),
)


def samples(path: Path, dest: str = "/data/mirror") -> dict[str, float]:
    """Each sample of a destination by its name and the values of its labels."""
    found = {}
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            if sample.labels.pop("dest") != dest:
                continue
            found[" ".join([sample.name, *sample.labels.values()])] = sample.value
    return found


def test_a_run_is_told_in_numbers(tmp_path: Path) -> None:
    path = tmp_path / "sealift.prom"
    write(path, Path("/data/mirror"), 1, DONE, now=1000.0)
    told = samples(path)
    assert (
        told.items()
        >= {
            "sealift_run_end_timestamp_seconds": 1000,
            "sealift_run_duration_seconds": 1.5,
            "sealift_run_exit_status": 1,
            "sealift_run_listing_complete": 1,
            "sealift_run_objects downloaded": 2,
            "sealift_run_objects pending": 3,
            "sealift_run_objects failed": 1,
            "sealift_run_objects deleted": 5,
            "sealift_run_received_bytes": 1000,
            "sealift_run_kms_requests": 6,
            "sealift_run_throttled_requests kms": 2,
            "sealift_run_kms_quota_requests_per_second": 300,
        }.items()
    )
    assert "sealift_last_success_timestamp_seconds" not in told
    assert list(tmp_path.iterdir()) == [path], "nothing is left of how it was written"


def test_the_last_success_outlives_what_fails_after_it(tmp_path: Path) -> None:
    path = tmp_path / "sealift.prom"
    seen = []
    for now, status in ((1000.0, 0), (2000.0, 5), (3000.0, 1), (4000.0, 0)):
        write(path, Path("/data/mirror"), status, DONE, now=now)
        seen.append(samples(path)["sealift_last_success_timestamp_seconds"])
    assert seen == [1000, 1000, 1000, 4000]


@pytest.mark.parametrize("before", ["", "no metrics {", 'sealift_last_success_timestamp_seconds{dest="/other"} 5\n'])
def test_what_lay_there_does_not_matter(tmp_path: Path, before: str) -> None:
    path = tmp_path / "sealift.prom"
    path.write_text(before)
    write(path, Path("/data/mirror"), 1, Summary(), now=1000.0)
    assert "sealift_last_success_timestamp_seconds" not in samples(path)


def test_what_is_told_of_other_destinations_stays(tmp_path: Path) -> None:
    path = tmp_path / "sealift.prom"
    write(path, Path("/data/mirror"), 0, DONE, now=1000.0)
    before = samples(path)
    for now in (2000.0, 3000.0):
        write(path, Path("/data/other"), 1, Summary(), now=now)
    assert samples(path) == before
    other = samples(path, "/data/other")
    assert other["sealift_run_end_timestamp_seconds"] == 3000
    assert before.keys() - other.keys() == {
        "sealift_last_success_timestamp_seconds",
        "sealift_run_kms_quota_requests_per_second",
    }
    assert path.read_text().count("# HELP sealift_run_objects ") == 1


def test_a_destination_need_not_be_called_in_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "sealift.prom"
    dest = Path(os.fsdecode(b"/data/caf\xe9"))
    write(path, dest, 0, DONE, now=1000.0)
    write(path, dest, 1, DONE, now=2000.0)
    assert samples(path, "/data/caf\\udce9")["sealift_last_success_timestamp_seconds"] == 1000
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "none" / "sealift.prom", Path("/data"), 0, Summary())
