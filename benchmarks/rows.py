"""What is measured: the rows of the table, and the data they need."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from benchmarks.origin import DataSet

KIB, MIB, GIB = 1024, 1024**2, 1024**3


@dataclass(frozen=True)
class Row:
    """One kind of work."""

    name: str
    title: str
    data: str
    origin: str
    on_disk: bool = False
    """The destination is on disk; else in memory (tmpfs), where the disk is no part of what is measured."""
    listing: bool = False
    """Only list, download nothing."""
    rerun: bool = False
    """All is in place already, in a destination that the peers share: a run that asks for an object has failed."""
    many: bool = False
    """So many objects that those whom each costs a millisecond or more are left out: they have the row of 20,000."""
    target: float = 1.0
    """The wall time that is aimed at, as a share of the fastest peer's."""


ROWS = (
    Row("small", "100,000 × 16 KiB, HTTP", "small", "http", many=True, target=0.6),
    Row("small-tls", "100,000 × 16 KiB, HTTPS", "small", "https", many=True, target=0.6),
    Row("medium", "600 × 8 MiB, HTTP", "medium", "http", target=0.85),
    Row("medium-tls", "600 × 8 MiB, HTTPS", "medium", "https", target=1.0),
    Row("large", "3 × 1.5 GiB to disk, HTTP", "large", "http", on_disk=True, target=1.0),
    Row("large-tls", "3 × 1.5 GiB to disk, HTTPS", "large", "https", on_disk=True, target=1.0),
    Row("mixed", "5,000 log-normal sizes, 4 GiB, to disk", "mixed", "http", on_disk=True, target=0.75),
    Row("small-slow", "100,000 × 16 KiB, 30 ms to the first byte", "small", "slow", many=True, target=0.9),
    Row("one", "one object of 3 GiB, 30 ms, 80 MB/s a connection", "one", "limited", target=1.0),
    Row("list", "listing 1,000,000 keys, 30 ms a page", "million", "slow", listing=True, target=0.2),
    Row("small-20k", "20,000 × 16 KiB, HTTP", "small20", "http", target=0.6),
    Row("small-2k-slow", "2,000 × 16 KiB, 30 ms to the first byte", "small2", "slow", target=0.9),
    Row("million", "1,000,000 × 16 bytes, HTTP", "million", "http", many=True),
    Row("rerun", "1,000,000 unchanged objects, 30 ms a page", "million", "slow", rerun=True),
    Row("rerun-100k", "100,000 unchanged objects, 30 ms a page", "million10", "slow", rerun=True),
)


def data_sets(scale: float) -> list[DataSet]:
    """Return the data of all rows; with a `scale` below 1 there are fewer objects, of the same sizes."""

    def count(full: int) -> int:
        return max(1, math.ceil(full * scale))

    chance = random.Random(20261125)
    raw = [chance.lognormvariate(0, 2) for _ in range(count(5_000))]
    factor = 4 * GIB * scale / sum(raw)
    return [
        DataSet("small", (16 * KIB,) * count(100_000)),
        DataSet("small20", (16 * KIB,) * count(20_000)),
        DataSet("small2", (16 * KIB,) * count(2_000)),
        DataSet("medium", (8 * MIB,) * count(600)),
        DataSet("large", (math.ceil(1.5 * GIB * max(scale, 0.02)),) * 3),
        DataSet("one", (math.ceil(3 * GIB * max(scale, 0.02)),)),
        DataSet("mixed", tuple(max(1, int(size * factor)) for size in raw)),
        DataSet("million", (16,) * count(1_000_000), stored=False),
        DataSet("million10", (16,) * count(100_000), stored=False),
    ]
