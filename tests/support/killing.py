"""Runs that are killed (SIGKILL) at seeded moments, and what they leave."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.support.faultserver import FaultServer
from tests.support.mixture import PART, contents, damage, mixture, serve, total
from tests.support.powerloss.recording import CANNOT_RECORD, environment
from tests.support.running import partials, tree
from tests.support.smallbatches import LOST
from tests.support.smallbatches import environment as small_batches

LOOK_EVERY = 0.001
"""Seconds between two looks at how far a run has come."""

CONNECTIONS = 4
"""GETs at once."""

PATIENCE = 60.0
"""Seconds that a run may take."""


class Killer:
    """Starts runs of one command, and kills them at moments that follow from a seed."""

    def __init__(self, server: FaultServer, dest: Path, seed: int, *options: str) -> None:
        self._server = server
        self._dest = dest
        self._random = random.Random(seed)
        self._command = [sys.executable, "-m", "sealift", "mirror", "s3://bucket", str(dest), "--json", *options]
        self._environment = os.environ | small_batches() | {"AWS_ENDPOINT_URL": server.url}

    def finish(self) -> subprocess.CompletedProcess[bytes]:
        """Run to the end."""
        return subprocess.run(self._command, env=self._environment, capture_output=True, timeout=PATIENCE)

    def kill(self, *, operations: int, size: int) -> str:
        """Run, and kill the process when it has done some of so many operations on files, or received some of so many
        bytes. Return when that was, in words; none if the run has come to its end before."""
        if not CANNOT_RECORD and self._random.random() < 0.7:
            most = self._random.randint(1, operations)
            recorded = environment(self._dest, self._dest.parent / "ops", kill=most)
            done = subprocess.run(
                self._command, env=self._environment | recorded, capture_output=True, timeout=PATIENCE
            )
            return self._told(f"{most} operations on files", done.returncode)
        most = self._random.randint(0, size)
        sent = self._server.body_bytes
        with self.started() as process:
            wait(process, lambda: self._sent(sent) >= most)
            process.kill()
        return self._told(f"{most:,} bytes", process.returncode)

    def kill_workers(self, moments: Sequence[int]) -> tuple[int, int]:
        """Run to the end, and kill one worker process each time that so many bytes have come. Return the run's exit
        status, and how many were killed."""
        sent, killed = self._server.body_bytes, 0
        with self.started() as process:

            def due(moment: int) -> bool:
                return bool(children(process.pid)) and self._sent(sent) >= moment

            for moment in moments:
                wait(process, partial(due, moment))
                if workers := children(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(self._random.choice(workers), signal.SIGKILL)
                        killed += 1
            return process.wait(PATIENCE), killed

    def _sent(self, before: int) -> int:
        return self._server.body_bytes - before

    def _told(self, when: str, status: int) -> str:
        assert status in {0, -signal.SIGKILL}, f"{when}: exit status {status}"
        return when if status else ""

    def started(self) -> subprocess.Popen[bytes]:
        """Start a run."""
        return subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What came of runs that were killed, and of the one that was not."""

    seed: int
    moments: list[str]
    sent: int
    """Bytes of bodies that the server has sent."""
    size: int
    """… and that there are."""
    most: int
    """… and that it may send at the most."""

    @property
    def kills(self) -> int:
        """How many runs were killed."""
        return len(self.moments)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}, {self.kills} killed after {'; '.join(self.moments)}. "
            f"{self.sent:,} bytes sent, of {self.size:,}; {self.most:,} allowed"
        )


def killed_to_the_end(server: FaultServer, dest: Path, seed: int, *options: str, most: int = 20) -> Told:
    """Mirror a mixture of objects by runs that are killed, `most` of them, and by one more in the end. Check it all.

    The parts are of another size in each run.
    """
    chance = random.Random(seed)
    bodies = mixture(seed)
    expected, size = contents(bodies), total(bodies)
    serve(server, bodies)
    before, moments = server.body_bytes, list[str]()
    dest.parent.mkdir(exist_ok=True)
    while len(moments) < most:
        parts = ["--part-size", str(chance.choice([PART, PART // 2, PART * 3 // 4]))]
        killer = Killer(server, dest, chance.getrandbits(32), "--concurrency", str(CONNECTIONS), *parts, *options)
        moment = killer.kill(operations=150, size=size // 4)
        damaged = damage(dest, expected) if dest.exists() else []
        assert damaged == [], f"seed {seed}, after {moments}, {moment}"
        if not moment:
            break
        moments.append(moment)
    done = killer.finish()
    told = Told(seed, moments, server.body_bytes - before, size, size + len(moments) * (CONNECTIONS * PART + LOST))
    assert done.returncode == 0, f"{told}: {done.stderr.decode()}"
    assert tree(dest) == expected, told
    assert partials(dest) == [], told
    assert told.sent <= told.most, told
    return told


def wait(process: subprocess.Popen[bytes], due: Callable[[], bool]) -> None:
    """Wait until something is due, or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not due():
        assert time.monotonic() < deadline
        time.sleep(LOOK_EVERY)


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    try:
        tasks = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just ended, or one of its threads has
        return []
    return [int(child) for child in " ".join(tasks).split()]
