"""Three nights, run from the example jobs by the command line of the systemd unit, against a real S3 and a real KMS.

The first pulls everything. In the second there are additions, changes and deletions, and the KMS goes away in the
middle. The third is cut by its deadline, and a rerun finishes it. Report and metrics have to tell exactly that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from prometheus_client.parser import text_string_to_metric_families

from sealift.sandbox.servers import Sandbox
from tests.support.running import tree

pytestmark = [pytest.mark.stress, pytest.mark.sandbox, pytest.mark.timeout(900)]

CONFIG = Path(__file__).parents[2] / "config"
BETWEEN_LOOKS = 0.05
"""Seconds between two looks at what has arrived."""

REPORTS, ADDED, CHANGED, DELETED, LATE = 200, 300, 10, 5, 300
SIZE = 64 * 1024
SLOW = "2MB/s"
"""Slow enough that something can happen in the middle: what is added takes ten seconds."""
SLOWER = "500kB/s"
"""… and that a deadline comes before the end: what comes late takes 40 seconds."""


@dataclass
class Bucket:
    """What lies in the bucket, and has to be in the mirror."""

    sandbox: Sandbox
    portal: BlockingPortal
    bodies: dict[str, bytes]

    def put(self, *keys: str, generation: int = 0) -> None:
        """Upload objects, each with bytes of its own."""
        bodies = {key: hashlib.shake_128(f"{key} {generation}".encode()).digest(SIZE) for key in keys}
        self.bodies |= bodies
        self.portal.call(self._put, bodies)

    def delete(self, *keys: str) -> None:
        """Delete objects."""
        for key in keys:
            del self.bodies[key]
        self.portal.call(self._delete, keys)

    def below(self, prefix: str) -> dict[str, bytes]:
        """What a mirror of a prefix holds."""
        return {key.removeprefix(prefix): body for key, body in self.bodies.items() if key.startswith(prefix)}

    async def _put(self, bodies: dict[str, bytes]) -> None:
        async with self.sandbox.client() as s3:
            for key, body in bodies.items():
                await s3.put_object(Bucket=self.sandbox.bucket, Key=key, Body=body)

    async def _delete(self, keys: tuple[str, ...]) -> None:
        async with self.sandbox.client() as s3:
            for key in keys:
                await s3.delete_object(Bucket=self.sandbox.bucket, Key=key)


@pytest.fixture
def bucket(levers: Sandbox) -> Iterator[Bucket]:
    with start_blocking_portal() as portal:
        bucket = Bucket(levers, portal, {})
        bucket.put(*(f"reports/{number % 7}/{number}.csv" for number in range(REPORTS)), "reports/left-out.tmp")
        bucket.put("archive/2025.tar", "archive/2024.tar", "archive/scratch/x")
        for left_out in ("reports/left-out.tmp", "archive/scratch/x"):
            del bucket.bodies[left_out]
        yield bucket


def command_of_the_unit() -> list[str]:
    """The shipped unit's command line, with what lies elsewhere here."""
    unit = (CONFIG / "systemd" / "sealift.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    elsewhere = {
        "/usr/local/bin/sealift": str(Path(sysconfig.get_path("scripts")) / "sealift"),
        "/etc/sealift/jobs.toml": str(CONFIG / "jobs.toml"),
    }
    return [elsewhere.get(word, word) for word in shlex.split(line)]


@dataclass
class Nights:
    """The machine that pulls, night after night."""

    bucket: Bucket
    data: Path

    def begin(self, *, until_deadline: timedelta = timedelta(hours=4), **environ: str) -> subprocess.Popen[str]:
        """Begin a night, so long before half past five of this machine's clock."""
        sandbox = self.bucket.sandbox
        offset = (datetime.now(UTC).replace(hour=5, minute=30, second=0) - until_deadline) - datetime.now(UTC)
        seconds = round(offset.total_seconds()) % 86_400
        zone = f"NIGHT-{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"  # POSIX: east is negative
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
        environment = {
            **clean,
            **sandbox.environment(sandbox.reader),
            "BUCKET": sandbox.bucket,
            "DATA": str(self.data),
            "TZ": zone,
            **environ,
        }
        return subprocess.Popen(
            command_of_the_unit(), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def metrics(self, job: str = "reports") -> dict[str, float]:
        """What Prometheus would read."""
        families = text_string_to_metric_families((self.data / f"{job}.prom").read_text())
        return {
            " ".join([sample.name, *(value for name, value in sample.labels.items() if name != "dest")]): sample.value
            for family in families
            for sample in family.samples
        }

    def report(self) -> str:
        """The page on the last run, as text."""
        page = self.data / "page.html"
        command = [sys.executable, "-m", "sealift", "report", str(self.data / "reports"), "-o", str(page)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return page.read_text(encoding="utf-8")

    def facts(self, page: str) -> dict[str, str]:
        """The numbers of a page."""
        return dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))

    def failures(self) -> list[dict[str, Any]]:
        """What the job's command was told."""
        path = self.data / "failures.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def everything_is_in_place(self) -> None:
        """Compare both mirrors with what was uploaded."""
        for job in ("reports", "archive"):
            assert tree(self.data / job) == self.bucket.below(f"{job}/")


@pytest.fixture
def nights(bucket: Bucket, tmp_path: Path) -> Nights:
    return Nights(bucket, tmp_path)


def wait_until(process: subprocess.Popen[str], what: Path, count: int) -> None:
    """Wait until so many files lie in a directory."""
    while not what.is_dir() or len(list(what.iterdir())) < count:
        assert process.poll() is None, "it ended before"
        time.sleep(BETWEEN_LOOKS)


def test_three_nights_are_told_as_they_were(nights: Nights, bucket: Bucket) -> None:
    # The first night pulls everything.
    with nights.begin() as first:
        out, err = first.communicate()
    assert (first.returncode, err) == (0, "")
    assert out.count("exit status 0") == 2
    nights.everything_is_in_place()
    told, page = nights.metrics(), nights.report()
    assert told["sealift_run_exit_status"] == 0
    assert (told["sealift_run_objects downloaded"], told["sealift_run_objects up_to_date"]) == (REPORTS, 0)
    assert told["sealift_last_success_timestamp_seconds"] == told["sealift_run_end_timestamp_seconds"]
    assert nights.metrics("archive")["sealift_run_objects downloaded"] == 2
    assert "<b>Exit status 0</b>: everything is in place" in page
    assert nights.facts(page).items() >= {"new": str(REPORTS), "replaced": "0", "deleted": "0"}.items()

    # In the second, something was added, changed and deleted, and the KMS goes away in the middle.
    bucket.put(*(f"reports/new/{number}.csv" for number in range(ADDED)))
    bucket.put(*(f"reports/{number % 7}/{number}.csv" for number in range(CHANGED)), generation=1)
    bucket.delete(*(f"reports/{number % 7}/{number}.csv" for number in range(REPORTS - DELETED, REPORTS)))
    said = []
    with nights.begin(SEALIFT_MAX_BANDWIDTH=SLOW) as second:
        wait_until(second, nights.data / "reports" / "new", ADDED // 10)
        bucket.portal.call(bucket.sandbox.seal)
        for line in second.stderr or ():
            said.append(line)
            if "pausing" in line:
                bucket.portal.call(bucket.sandbox.unseal)
    assert second.returncode == 0, said
    assert [line.split(": ")[:2] for line in said] == [["reports", "warning"]] * 2, said
    assert "KMS is back after" in said[1]
    nights.everything_is_in_place()
    told, page = nights.metrics(), nights.report()
    assert told["sealift_run_exit_status"] == told["sealift_run_objects failed"] == 0
    assert told["sealift_run_objects downloaded"] == ADDED + CHANGED
    assert told["sealift_run_objects up_to_date"] == REPORTS - CHANGED - DELETED
    assert told["sealift_run_objects deleted"] == DELETED
    assert told["sealift_run_retries"] > 0
    succeeded = told["sealift_last_success_timestamp_seconds"]
    assert "<b>Exit status 0</b>: everything is in place" in page
    assert nights.facts(page).items() >= {"new": str(ADDED), "replaced": str(CHANGED), "deleted": str(DELETED)}.items()
    assert "KMS was down around" in page
    assert "KMS is back after" in page
    assert nights.failures() == []

    # The third is cut by its deadline.
    bucket.put(*(f"reports/late/{number}.csv" for number in range(LATE)))
    with nights.begin(until_deadline=timedelta(seconds=15), SEALIFT_MAX_BANDWIDTH=SLOWER) as third:
        _, err = third.communicate()
    assert third.returncode == 1
    assert "reports: its time was up; what is complete is kept, and the next run continues\n" in err
    assert "archive: it has not begun: its deadline had passed" in err
    told, page = nights.metrics(), nights.report()
    reached, left = told["sealift_run_objects downloaded"], told["sealift_run_objects pending"]
    assert 0 < reached < LATE
    assert reached + left == LATE
    assert told["sealift_run_exit_status"] == 1
    assert told["sealift_last_success_timestamp_seconds"] == succeeded
    assert f"stopped by its deadline or a signal: {left:.0f} not reached" in page
    assert nights.facts(page).items() >= {"new": f"{reached:.0f}", "not reached": f"{left:.0f}"}.items()
    reports, archive = nights.failures()
    assert (reports["job"], reports["cut"], reports["pending"]) == ("reports", "deadline", left)
    assert (archive["job"], archive["cut"], archive["listed"]) == ("archive", "deadline", 0)

    # A rerun finishes it.
    with nights.begin() as again:
        again.communicate()
    assert again.returncode == 0
    nights.everything_is_in_place()
    told, page = nights.metrics(), nights.report()
    assert (told["sealift_run_objects downloaded"], told["sealift_run_objects pending"]) == (left, 0)
    assert told["sealift_last_success_timestamp_seconds"] > succeeded
    assert "<b>Exit status 0</b>: everything is in place" in page
    assert nights.facts(page).items() >= {"new": f"{left:.0f}", "failed": "0", "deleted": "0"}.items()
    assert len(nights.failures()) == 2
