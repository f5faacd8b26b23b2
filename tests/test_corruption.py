"""Bodies that are spoilt at random, a few of them; `make stress` spoils hundreds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.corruption import spoilt_to_the_end
from tests.support.faultserver import FaultServer


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})


@pytest.mark.anyio
async def test_what_is_spoilt_on_the_way_never_gets_a_name(tmp_path: Path) -> None:
    async with FaultServer() as server:
        await spoilt_to_the_end(server, tmp_path / "dest", random.randrange(10**6), runs=2)
