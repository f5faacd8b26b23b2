"""A hundred kill -9s at random moments of real runs: final names are complete and right or absent, the end is the same
as without, and no more is fetched twice than what was under way and one batch.

`SEALIFT_SEED=n make stress` repeats the moments that were printed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from sealift.config import Durability
from tests.support.faultserver import Call, Exchange, FaultServer, FaultServerThread
from tests.support.killing import Killer, killed_to_the_end
from tests.support.mixture import PART, contents, damage, mixture, serve, total
from tests.support.running import partials, tree
from tests.support.smallbatches import LOST

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1200)]

KILLS = 100
CONNECTIONS = 4
SEED = int(os.environ.get("SEALIFT_SEED", random.randrange(10**6)))
SLOW = 0.005
"""Seconds to the first byte of the slow server: two thirds of the time of a run's GETs."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServerThread() as server:
        yield server


async def slowly(exchange: Exchange) -> None:
    await asyncio.sleep(SLOW)


@pytest.mark.parametrize("durability", [Durability.BATCH, Durability.FILE, Durability.NONE])
def test_runs_that_are_killed_again_and_again(
    server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], durability: Durability
) -> None:
    kills = 0
    for seed in count(SEED):
        slow = server.fault(op="get", do=Call(slowly), times=None) if seed % 2 else None
        told = killed_to_the_end(server, tmp_path / str(seed), seed, "--durability", durability)
        if slow is not None:
            slow.remove()
        kills += told.kills
        with capsys.disabled():
            sys.stdout.write(f"\n  {told}")
        if kills >= KILLS:
            break


@pytest.mark.parametrize("seed", range(SEED, SEED + 5))
def test_worker_processes_that_are_killed_one_by_one(server: FaultServer, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    bodies, dest = mixture(seed, small=300, large=6), tmp_path / "dest"
    serve(server, bodies)
    server.fault(op="get", do=Call(slowly), times=None)
    options = ["--part-size", str(PART), "--concurrency", str(CONNECTIONS), "--processes", "2"]
    moments = sorted(chance.randint(0, total(bodies)) for _ in range(5))
    status, killed = Killer(server, dest, seed, *options).kill_workers(moments)
    assert status == 0
    assert killed > 0
    assert tree(dest) == contents(bodies)
    assert partials(dest) == []
    assert server.body_bytes <= total(bodies) + killed * (CONNECTIONS * PART + LOST)


@pytest.mark.parametrize("seed", range(SEED, SEED + 5))
def test_a_run_that_follows_a_killed_one_waits_for_its_workers(server: FaultServer, tmp_path: Path, seed: int) -> None:
    """They are still at it when the next run begins: it must not write what they are about to name."""
    bodies, dest = mixture(seed, small=300, large=6), tmp_path / "dest"
    expected = contents(bodies)
    serve(server, bodies)
    options = ["--part-size", str(PART), "--concurrency", str(CONNECTIONS), "--processes", "3"]
    for number in range(4):
        Killer(server, dest, seed * 1000 + number, *options).kill(operations=600, size=total(bodies))
        assert damage(dest, expected) == [], f"seed {seed}"
    done = Killer(server, dest, seed, *options).finish()
    assert done.returncode == 0, done.stderr.decode()
    assert tree(dest) == expected
    assert partials(dest) == []
