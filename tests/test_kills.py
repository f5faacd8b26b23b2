"""Runs that are killed at random moments, a few of them; `make stress` kills a hundred."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.faultserver import FaultServerThread
from tests.support.killing import killed_to_the_end


def test_runs_that_are_killed_again_and_again(tmp_path: Path) -> None:
    with FaultServerThread() as server:
        killed_to_the_end(server, tmp_path / "dest", random.randrange(10**6), most=2)
