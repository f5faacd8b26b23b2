"""What a run did, for Prometheus: a file for the node exporter's textfile collector.

Everything is a gauge, as each run writes the file anew: numbers of the last run. Only the time of the last success is
carried over from the file that was there.
"""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from sealift.cli.status import IN_PLACE
from sealift.model import Summary

SUCCESS = "sealift_last_success_timestamp_seconds"


def write(path: Path, dest: Path, status: int, summary: Summary, now: float | None = None) -> None:
    """Write the metrics of a run into `dest` that ends `now` with `status`, by one rename. Raises OSError.

    `now` is in seconds since the epoch.
    """
    now = time.time() if now is None else now
    registry = CollectorRegistry()
    where = str(dest.absolute())

    def gauge(name: str, what: str, value: float, **labels: str) -> None:
        Gauge(name, what, ["dest", *labels], registry=registry).labels(dest=where, **labels).set(value)

    def gauges(name: str, what: str, label: str, values: dict[str, float]) -> None:
        metric = Gauge(name, what, ["dest", label], registry=registry)
        for key, value in values.items():
            metric.labels(where, key).set(value)

    gauge("sealift_run_end_timestamp_seconds", "When the last run ended.", now)
    gauge("sealift_run_duration_seconds", "How long the last run took.", summary.seconds)
    gauge("sealift_run_exit_status", "Exit status of the last run; 0: everything is in place.", status)
    gauge("sealift_run_listing_complete", "1 if every listing of the last run reached its end.", summary.complete)
    gauges(
        "sealift_run_objects",
        "Objects of the last run, by what became of them.",
        "result",
        {
            "downloaded": summary.downloaded,
            "up_to_date": summary.up_to_date,
            "skipped": summary.skipped,
            "failed": summary.failed,
            "pending": summary.pending,
            "deleted": summary.deleted,
        },
    )
    gauge("sealift_run_verified_objects", "Downloads of the last run that S3's checksums confirm.", summary.verified)
    gauge("sealift_run_received_bytes", "Body bytes received in the last run, retries included.", summary.bytes)
    gauge("sealift_run_get_requests", "GetObject requests of the last run.", summary.get_requests)
    gauge("sealift_run_kms_requests", "Requests of the last run for which KMS was asked.", summary.kms.requests)
    gauges(
        "sealift_run_throttled_requests",
        "Requests of the last run that a rate limit refused.",
        "service",
        {"kms": summary.kms_throttled, "s3": summary.s3_throttled},
    )
    gauge("sealift_run_retries", "Attempts of the last run that failed for another reason.", summary.retries)
    gauge("sealift_run_kms_wait_seconds", "How long GETs of the last run waited for KMS.", summary.kms.wait_seconds)
    if summary.kms.quota is not None:
        gauge("sealift_run_kms_quota_requests_per_second", "Requests a second that KMS granted.", summary.kms.quota)
    success = now if status == IN_PLACE else _last_success(path, where)
    if success is not None:
        gauge(SUCCESS, "When a run last ended with exit status 0.", success)
    write_to_textfile(str(path), registry)


def _last_success(path: Path, dest: str) -> float | None:
    """Return when the last success was, as the file at `path` tells."""
    try:
        families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    samples = (sample for family in families for sample in family.samples)
    return next((sample.value for sample in samples if sample.name == SUCCESS and sample.labels["dest"] == dest), None)
