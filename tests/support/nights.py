"""Logs of runs as they might have been, for those who read them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sealift.errors import SealiftError
from sealift.model import Ending, KmsUse, Outcome, PaceSample, Summary
from sealift.runlog import RunLog

FIRST, SECOND = datetime(2026, 11, 24, 1, 15, tzinfo=UTC), datetime(2026, 11, 25, 1, 15, tzinfo=UTC)


def directory_of_runs(dest: Path) -> Path:
    """The directory of a destination's logs, made if need be."""
    runs = dest / ".sealift" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    return runs


@contextmanager
def logged(dest: Path, began: datetime, summary: Summary, error: SealiftError | None = None) -> Iterator[RunLog]:
    """Write the log of a run that ends with `summary`, or with `error`."""
    descriptor = os.open(directory_of_runs(dest), os.O_RDONLY | os.O_DIRECTORY)
    try:
        log = RunLog(descriptor, began, sources=["s3://bucket/reports/"], dest=str(dest))
        try:
            with log.telling_how():
                yield log
                if error is not None:
                    raise error
        except SealiftError:
            pass
        finally:
            log.finished(summary)
    finally:
        os.close(descriptor)


def failed(key: str, error: str = "AccessDenied", message: str = "it is refused") -> Outcome:
    """An object that failed."""
    return Outcome(Ending.FAILED, "bucket", key, 5, error=error, message=message)


def fetched(key: str, size: int = 1000, seconds: float = 0.1, *, replaced: bool = False) -> Outcome:
    """An object that was downloaded."""
    return Outcome(Ending.DOWNLOADED, "bucket", key, size, path=key, seconds=seconds, replaced=replaced)


def sample(at: float, **what: Any) -> PaceSample:
    """A second of a run."""
    return PaceSample(at=at, seconds=1.0, bytes=1_000_000, objects=10, **what)


def two_nights(dest: Path) -> list[Path]:
    """A night that failed in two objects, and one that replaced, deleted, met a quota and failed in others."""
    with logged(dest, FIRST, Summary(listed=4, downloaded=2, failed=2, seconds=3.0, complete=True)) as log:
        for outcome in (fetched("a"), fetched("b", 5000, 2.5), failed("old"), failed("both")):
            log.ended(outcome)
    use = KmsUse(requests=300, wait_seconds=1.5, quota=200.0)
    summary = Summary(
        listed=5,
        downloaded=3,
        failed=2,
        deleted=1,
        bytes=3_000_000,
        kms_throttled=50,
        retries=1,
        seconds=3.0,
        complete=True,
        kms=use,
    )
    with logged(dest, SECOND, summary) as log:
        for outcome in (
            fetched("a", 9000, 0.5, replaced=True),
            fetched("new/1", 70_000),
            fetched("new/<2>\udcff\x1b", 2),
            failed("both"),
            failed("fresh", "KMS.DisabledException", "the key is disabled"),
            Outcome(Ending.DELETED, "bucket", "b", 5000, path="b"),
        ):
            log.ended(outcome)
        log.noted("warning", "KMS is back after 2 s: going on")
        log.measured(sample(1.0, kms_requests=250, kms_throttled=50, kms_quota=200.0, connections=64))
        log.measured(sample(2.0, kms_wait=1.0, kms_quota=200.0, kms_down=True, retries=1))
        log.measured(sample(3.0, kms_requests=50, kms_quota=200.0, connections=10))
    return sorted(directory_of_runs(dest).iterdir())
