"""A fault server in a process of its own, so that a test can measure a client and not the server beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.faultserver.listing import GeneratedListing, small_objects

PATIENCE = 30.0
"""Seconds that the process may take to end."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the server did in its life."""

    gets: int
    lists: int
    body_bytes: int
    connections: int
    cpu_seconds: float


class FaultServerProcess:
    """Serves `small_objects(bucket, prefix, count)`: `with FaultServerProcess("bucket", "prefix/", 200_000) as server`.

    It misbehaves in nothing. It ends with the `with` block, and also when this process is killed: its standard input
    ends then.
    """

    def __init__(self, bucket: str, prefix: str, count: int) -> None:
        self.listing: GeneratedListing = small_objects(bucket, prefix, count)
        """What it serves."""
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        what = [self.listing.bucket, self.listing.prefix, str(self.listing.count)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.faultserver", *what],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self.__exit__(None, None, None)
            raise RuntimeError("the fault server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._process as process:
            process.kill()

    def stop(self) -> Served:
        """End it, and return what it served. Raises RuntimeError where it failed."""
        said, _ = self._process.communicate(timeout=PATIENCE)
        if self._process.returncode != 0:
            raise RuntimeError("the fault server failed")
        return Served(**json.loads(said))
