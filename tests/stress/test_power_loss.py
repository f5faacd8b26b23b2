"""What runs find and do after a power loss, at many random moments, of first runs, later ones, and ones that go on.

`SEALIFT_SEED=n make stress` repeats the choice of objects, moments and losses that was printed; the order in which the
operations took place is the machine's own.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

import sealift
from sealift import TransferSettings
from sealift.config import Durability
from tests.support.faultserver import FaultServer, FaultServerThread, Generated
from tests.support.mixture import KIB, PART, Bodies, mixture, next_versions
from tests.support.powerloss import CANNOT_RECORD, Chance, Disk, record
from tests.support.powerloss.world import Recorded, look, run
from tests.support.running import settings_for, tree
from tests.support.smallbatches import environment

pytestmark = [
    pytest.mark.stress,
    pytest.mark.anyio,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CANNOT_RECORD, reason="there is no C compiler: what a power loss leaves stays untested"),
]

MOMENTS = int(os.environ.get("SEALIFT_MOMENTS", "250"))
"""For each run and way to make it: some two minutes. CI takes fewer."""

SEED = int(os.environ.get("SEALIFT_SEED", random.randrange(10**6)))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})


def first(server: FaultServer, dest: Path, *options: str) -> Recorded:
    """A run into nothing."""
    return run(server, dest, mixture(SEED), *options)


def second(server: FaultServer, dest: Path, *options: str) -> Recorded:
    """A run that finds overwritten, new and gone objects."""
    before = first(server, dest, *options).now
    return run(server, dest, next_versions(before, SEED + 1), *options)


def after_a_kill(server: FaultServer, dest: Path, *options: str) -> Recorded:
    """A run that goes on with what a killed one left, part of which is of older versions by now, in other parts.

    No object is gone: what the killed run had named and not recorded yet is nobody's, and --delete leaves it alone.
    """
    later: Bodies = next_versions(second(server, dest, *options).now, SEED + 2)
    run(server, dest, later, *options, kill=100)
    last: Bodies = {**later, **next_versions(later, SEED + 3, share=0.1)}
    return run(server, dest, last, *options, "--part-size", str(PART * 3 // 4))


async def test_a_power_loss_costs_no_file_that_was_got_alone(tmp_path: Path) -> None:
    """Over an older file, beside what was left of two versions, by a run that goes on with one of them."""
    dest, ops, target = tmp_path / "dest", tmp_path / "ops", tmp_path / "dest" / "file"
    dest.mkdir()
    versions = [Generated(size * KIB, seed=SEED + size) for size in (700, 600, 701)]
    allowed = [None, *(version.read(0, version.size) for version in (versions[0], versions[2]))]
    with FaultServerThread() as server:
        command = [sys.executable, "-m", "sealift", "get", "s3://bucket/k", str(target), "--part-size", str(PART)]
        env = environment() | {"AWS_ENDPOINT_URL": server.url}
        for version, kill in zip(versions, (None, 25, 40), strict=True):
            server.put("bucket", "k", version)
            record([*command, "--concurrency", "4"], dest, ops, env=env, kill=kill)
        disk, recording = Disk(dest), record([*command, "--concurrency", "4"], dest, ops, env=env)
        assert recording.status == 0, recording.err.decode()
        for number in range(MOMENTS):
            chance = Chance(SEED + number, recording.operations)
            lost = tmp_path / "lost"
            disk.after(recording.operations, chance).put(lost)
            file = lost / "file"
            assert (file.read_bytes() if file.exists() else None) in allowed, chance
            await sealift.get("s3://bucket/k", file, settings_for(server, transfer=TransferSettings(part_size=PART)))
            assert tree(lost) == {"file": allowed[2]}, chance
            shutil.rmtree(lost)


@pytest.mark.parametrize("durability", [Durability.BATCH, Durability.FILE])
@pytest.mark.parametrize("history", [first, second, after_a_kill])
async def test_a_power_loss_costs_no_file(history, durability, tmp_path, capsys):
    dest = tmp_path / "dest"
    dest.mkdir()
    with FaultServerThread() as server:
        recorded = history(server, dest, "--durability", durability)
        operations = recorded.recording.operations
        chances = [Chance(SEED + number, operations) for number in range(MOMENTS)]
        found = [await look(server, recorded, chance, tmp_path / "lost") for chance in chances]
        chances = [Chance(SEED + number, operations, moment=len(operations)) for number in range(20)]
        at_the_end = [await look(server, recorded, chance, tmp_path / "lost") for chance in chances]
    with capsys.disabled():
        sys.stdout.write(f"\n  seed {SEED}: {len(operations)} operations, power lost at {MOMENTS} moments")
    assert [str(one) for one in found if not one.is_well] == []
    assert [str(one) for one in at_the_end if not one.is_well or one.fetched] == [], "what has ended is on the disk"
