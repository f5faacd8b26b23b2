"""What a run did, for Prometheus: a file for the node exporter's textfile collector.

Everything is a gauge: numbers of the last run into each destination. Of this run's, only the time of the last success
is carried over from the file that was there; what that says of other destinations stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from sealift.cli.printable import printable
from sealift.cli.status import IN_PLACE
from sealift.model import Summary

SUCCESS = "sealift_last_success_timestamp_seconds"


class Gauges(Collector):
    """The gauges of a file, each for several destinations."""

    def __init__(self) -> None:
        self._families: dict[str, GaugeMetricFamily] = {}

    def add(self, name: str, what: str, labels: Mapping[str, str], value: float) -> None:
        """Add a number to the gauge of that name, which says `what`."""
        family = self._families.setdefault(name, GaugeMetricFamily(name, what, labels=list(labels)))
        family.add_metric(list(labels.values()), value)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """See `Collector.collect`."""
        return self._families.values()


def write(path: Path, dest: Path, status: int, summary: Summary, now: float | None = None) -> None:
    """Write the metrics of a run into `dest` that ends `now` with `status`, by one rename. Raises OSError.

    `now` is in seconds since the epoch.
    """
    now = time.time() if now is None else now
    where = printable(str(dest.absolute()))  # a name need not be UTF-8, which the file is
    gauges = Gauges()
    success = now if status == IN_PLACE else None
    for name, what, labels, value in _gauges_at(path):
        if labels["dest"] != where:
            gauges.add(name, what, labels, value)
        elif name == SUCCESS and success is None:
            success = value

    def gauge(name: str, what: str, value: float, **labels: str) -> None:
        gauges.add(name, what, {"dest": where, **labels}, value)

    gauge("sealift_run_end_timestamp_seconds", "When the last run ended.", now)
    gauge("sealift_run_duration_seconds", "How long the last run took.", summary.seconds)
    gauge("sealift_run_exit_status", "Exit status of the last run; 0: everything is in place.", status)
    gauge("sealift_run_listing_complete", "1 if every listing of the last run reached its end.", summary.complete)
    for result in ("downloaded", "up_to_date", "skipped", "failed", "pending", "deleted"):
        what = "Objects of the last run, by what became of them."
        gauge("sealift_run_objects", what, getattr(summary, result), result=result)
    gauge("sealift_run_verified_objects", "Downloads of the last run that S3's checksums confirm.", summary.verified)
    gauge("sealift_run_received_bytes", "Body bytes received in the last run, retries included.", summary.bytes)
    gauge("sealift_run_get_requests", "GetObject requests of the last run.", summary.get_requests)
    gauge("sealift_run_kms_requests", "Requests of the last run for which KMS was asked.", summary.kms.requests)
    for service, refused in (("kms", summary.kms_throttled), ("s3", summary.s3_throttled)):
        what = "Requests of the last run that a rate limit refused."
        gauge("sealift_run_throttled_requests", what, refused, service=service)
    gauge("sealift_run_retries", "Attempts of the last run that failed for another reason.", summary.retries)
    gauge("sealift_run_kms_wait_seconds", "How long GETs of the last run waited for KMS.", summary.kms.wait_seconds)
    if summary.kms.quota is not None:
        gauge("sealift_run_kms_quota_requests_per_second", "Requests a second that KMS granted.", summary.kms.quota)
    if success is not None:
        gauge(SUCCESS, "When a run last ended with exit status 0.", success)
    registry = CollectorRegistry()
    registry.register(gauges)
    write_to_textfile(str(path), registry)


def _gauges_at(path: Path) -> Iterator[tuple[str, str, dict[str, str], float]]:
    """Yield what Sealift has written to the file at `path`: name, help, labels and value; nothing if it is no such."""
    try:
        families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return
    for family in families:
        for sample in family.samples:
            if family.type == "gauge" and family.name.startswith("sealift_") and "dest" in sample.labels:
                yield family.name, family.documentation, sample.labels, sample.value
