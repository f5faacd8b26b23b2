"""What a run finds and does after a power loss, at a few random moments; `make stress` has some thousand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sealift.config import Durability
from tests.support.faultserver import FaultServerThread
from tests.support.mixture import mixture
from tests.support.powerloss import CANNOT_RECORD, Chance, Way
from tests.support.powerloss.world import look, run

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CANNOT_RECORD, reason="there is no C compiler: what a power loss leaves stays untested"),
]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})


@pytest.mark.parametrize("durability", [Durability.BATCH, Durability.NONE])
async def test_no_power_loss_leaves_a_damaged_file_unless_nothing_is_synced(
    tmp_path: Path, durability: Durability
) -> None:
    """And where nothing is synced, it does: else this could not tell."""
    seed, dest = random.randrange(10**6), tmp_path / "dest"
    dest.mkdir()
    with FaultServerThread() as server:
        recorded = run(server, dest, mixture(seed), "--durability", durability)
        operations = recorded.recording.operations
        if durability is Durability.NONE:
            late = Chance(seed, operations, way=Way.NAMES, moment=len(operations) * 2 // 3)
            assert (await look(server, recorded, late, tmp_path / "lost")).damaged
        else:
            for number, way in enumerate([*Way, Way.ANY, Way.JOURNAL]):
                found = await look(server, recorded, Chance(seed + number, operations, way=way), tmp_path / "lost")
                assert found.is_well, found
