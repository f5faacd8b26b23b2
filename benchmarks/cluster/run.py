"""Goodput of `sealift mirror --dask` at 1, 2 and 4 workers, against one origin whose connections have a limit each.

    python -m benchmarks.cluster.run            tells a table; --rounds N for others than three

Each worker may have eight connections, so that one alone cannot have what the origin has. On one machine all share the
processor: rows are chosen so that it is not the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kms.content import Kind, contents
from benchmarks.kms.origin import Orders, Origin
from benchmarks.kms.quota import Timetable
from tests.support.daskcluster import dask_cluster

WORKERS = (1, 2, 4)
CONNECTIONS = 8
RATE = 3e6
"""Bytes a second on one connection."""
DELAY = 0.03
"""Seconds from a request to its answer."""
UNLIMITED = Timetable((1_000_000,))
MB = 1_000_000


@dataclass(frozen=True)
class Row:
    """What is mirrored."""

    name: str
    kinds: tuple[Kind, ...]

    @property
    def size(self) -> int:
        return sum(kind.count * kind.size for kind in self.kinds)


ROWS = (
    Row("one object of 512 MB", (Kind(1, 512 * MB),)),
    Row("4,000 objects of 16 KB", (Kind(4000, 16_000),)),
    Row("a mixture: 128 MB, and 2,000 of 100 KB", (Kind(1, 128 * MB), Kind(2000, 100_000))),
)


def seconds(row: Row, workers: int, directory: Path) -> float:
    """Mirror a row, compare every byte, and return how long the run says it took."""
    orders = Orders(row.kinds, UNLIMITED, delay=DELAY, connection_rate=RATE)
    keys = {"AWS_ACCESS_KEY_ID": "run0", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}
    with Origin(orders, directory) as origin, dask_cluster(workers) as cluster:
        dest = directory / "dest"
        options = ["--dask", cluster.scheduler, "--endpoint-url", origin.url, "--concurrency", str(CONNECTIONS)]
        options += ["--part-size", "4MB", "--durability", "none", "--json", "--no-progress"]
        done = subprocess.run(
            [sys.executable, "-m", "sealift", "mirror", *options, "s3://bucket", str(dest)],
            env=os.environ | keys,
            stdout=subprocess.PIPE,
            check=True,
        )
        assert all(content.is_in(dest / content.key) for content in contents(row.kinds))
        took: float = json.loads(done.stdout)["seconds"]
    return took


def table(figures: dict[str, dict[int, list[float]]]) -> str:
    """Return the medians as a table."""
    lines = ["| Row | " + " | ".join(f"{workers} worker{'s' * (workers > 1)}" for workers in WORKERS) + " |"]
    lines.append("| --- |" + " --- |" * len(WORKERS))
    for row in ROWS:
        cells, first = [], 0.0
        for workers in WORKERS:
            goodput = row.size / statistics.median(figures[row.name][workers]) / MB
            first = first or goodput
            cells.append(f"{goodput:.1f} MB/s, {goodput / first:.2f}")
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run all rows, workers in turns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster.run")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(argv)
    figures: dict[str, dict[int, list[float]]] = {row.name: {workers: [] for workers in WORKERS} for row in ROWS}
    for _ in range(asked.rounds):
        for row in ROWS:
            for workers in WORKERS:
                with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
                    figures[row.name][workers].append(seconds(row, workers, Path(directory)))
                    print(row.name, workers, figures[row.name][workers][-1], file=sys.stderr, flush=True)
    print(table(figures))


if __name__ == "__main__":
    main()
