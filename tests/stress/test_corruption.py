"""Bodies whose bits are flipped, whose ranges are swapped, and that are cut off, at random: no file ever has other
bytes than its object, each damage is told, and one run without any makes the tree whole.

`SEALIFT_SEED=n make stress` repeats which answers are spoilt, and how.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.corruption import spoilt_to_the_end
from tests.support.faultserver import FaultServer

pytestmark = [pytest.mark.stress, pytest.mark.anyio, pytest.mark.timeout(300)]

MIRRORS = 8
"""Each of four spoilt runs and one that is not: 1 s."""
SEED = int(os.environ.get("SEALIFT_SEED", random.randrange(10**6)))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    async with FaultServer() as server:
        yield server


async def test_what_is_spoilt_on_the_way_never_gets_a_name(
    server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = 0
    for seed in range(SEED, SEED + MIRRORS):
        told = await spoilt_to_the_end(server, tmp_path / str(seed), seed)
        spoilt += told.silent.total()
        with capsys.disabled():
            sys.stdout.write(f"\n  {told}")
    assert spoilt
