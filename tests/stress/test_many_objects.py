"""Hundreds of thousands of objects: that memory is bounded by settings, and not by how many there are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.faultserver import FaultServerProcess
from tests.support.running import tree

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1800)]

MIB = 1024 * 1024
COUNT = 200_000
ROOM = 2 * 1024 * MIB
"""Bytes of the mirror's file system: a block of 4 KiB and an inode of 1 KiB for each object, and as much again."""

MOST_MEMORY = 250 * MIB
"""Bytes of resident memory of the client at its peak, the interpreter and the SDK (70 MiB) included."""

BETWEEN_LOOKS = 0.05
"""Seconds between two looks at the client's memory."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command line."""

    summary: dict[str, Any]
    seconds: float
    cpu_seconds: float
    peak: int
    """Bytes of resident memory at the most."""


@pytest.fixture
def dest() -> Iterator[Path]:
    """In memory where there is room: each file is synced, and it is not the disk that is tried here."""
    shm = Path("/dev/shm")
    room = os.statvfs(shm) if shm.is_dir() else None
    roomy = room is not None and room.f_bavail * room.f_frsize > ROOM and room.f_favail > 2 * COUNT
    directory = Path(tempfile.mkdtemp(prefix="sealift-stress-", dir=shm if roomy else None))
    yield directory / "dest"
    shutil.rmtree(directory)


def mirror(url: str, source: str, dest: Path) -> Run:
    command = [sys.executable, "-m", "sealift", "mirror", source, os.fspath(dest), "--json"]
    environment = os.environ | {"AWS_ENDPOINT_URL": url}
    peak, began = 0, time.monotonic()
    # Into files: nobody reads while the process is watched, and a pipe would fill up.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(command, env=environment, stdout=out, stderr=err) as process:
            try:
                ended = 0
                while not ended:
                    # Not ru_maxrss: a process begins with its parent's, and pytest may be large.
                    peak = max(peak, high_water(process.pid))
                    time.sleep(BETWEEN_LOOKS)
                    ended, status, used = os.wait4(process.pid, os.WNOHANG)
                process.returncode = os.waitstatus_to_exitcode(status)
            finally:
                process.kill()  # does nothing to one that has ended
        seconds = time.monotonic() - began
        out.seek(0)
        err.seek(0)
        assert process.returncode == 0, err.read().decode()
        return Run(json.load(out), seconds, used.ru_utime + used.ru_stime, peak)


def high_water(pid: int) -> int:
    """Bytes of resident memory that a process has had at the most; 0 once it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def test_two_hundred_thousand_objects_fit_into_250_mib(dest, capsys):
    with FaultServerProcess("bucket", "many/", COUNT) as server:
        first = mirror(server.url, "s3://bucket/many", dest)
        again = mirror(server.url, "s3://bucket/many", dest)
        served = server.stop()

    lines = [f"{COUNT:,} objects of 1 to 1,000 bytes to {dest}"]
    for name, run in (("mirror", first), ("rerun", again)):
        pace = f"{run.seconds:6.1f} s, {COUNT / run.seconds:7,.0f} objects/s"
        lines.append(f"{name:<7} {pace}, {run.cpu_seconds:6.1f} s of CPU, peak RSS {run.peak / MIB:5.1f} MiB")
    lines.append(f"server  {served.cpu_seconds:6.1f} s of CPU, {served.connections:,} connections")
    with capsys.disabled():
        sys.stdout.write("".join(f"\n  {line}" for line in lines) + "\n")

    objects = map(server.listing.at, range(COUNT))
    expected = {stored.key.removeprefix("many/"): stored.content.read(0, stored.size) for stored in objects}
    assert tree(dest) == expected
    assert (first.summary["downloaded"], first.summary["failed"], first.summary["complete"]) == (COUNT, 0, True)
    assert first.summary["bytes"] == served.body_bytes == sum(map(len, expected.values()))
    assert (again.summary["up_to_date"], again.summary["get_requests"]) == (COUNT, 0)
    assert served.gets == COUNT, "nothing was fetched twice"
    assert max(first.peak, again.peak) < MOST_MEMORY
