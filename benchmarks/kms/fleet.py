"""Choose the rule of the KMS governor: every rule in every scenario, by simulation.

    .venv/bin/python -m benchmarks.kms.fleet                        # five minutes of two cores
    .venv/bin/python -m benchmarks.kms.fleet --minutes 2 --fleets 8 # twenty seconds

prints the tables of docs/design.md and draws docs/governor.svg. Fleets of independent runs share 10,000/s, with 50 ms a
round trip; the first minute is left out. Single runs are held against the ideal, in which nothing is ever refused; what
was under way when the first refusal was heard is left out. Cells are means of three seeds, but for fleets, which have
one.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

from benchmarks.kms.paces import Panel, svg
from benchmarks.kms.quota import Timetable
from benchmarks.kms.rules import Aimd, Bbr, Constant, Cubic
from benchmarks.kms.simulation import Bucket, Rule, Run, Server, Windows, simulate

from sealift.governor import Governor

Kind = Literal["bucket", "small bucket", "windows"]

OURS = "Governor"
RULES: dict[str, Callable[[], Rule]] = {"AIMD": Aimd, "CUBIC": Cubic, "BBR": Bbr, OURS: Governor}
FLEETS = (1, 8, 64, 512)
QUOTA = 10_000
SEEDS = (1, 2, 3)
LANES = 4_000
"""GETs at once that a whole fleet has, at least 64 each: eight times what 10,000/s at 50 ms need."""
JITTER = 0.02
"""Seconds by which a server's seconds begin late at the most: a timer on a busy machine."""
WARM_UP = 60
"""Seconds of a fleet that are left out."""
CHART = Path(__file__).parents[2] / "docs" / "governor.svg"


def server(kind: Kind, quota: Timetable, seed: int) -> Server:
    """Return one that holds a second's tokens, a tenth of a second's, or that counts in seconds of its own."""
    if kind == "windows":
        return Windows(quota, JITTER, random.Random(f"windows {seed}"))
    return Bucket(quota, 1.0 if kind == "bucket" else 0.1)


def steady(rate: float) -> Timetable:
    return Timetable((rate,))


CHANGING = Timetable((300.0, 150.0), 10.0)


@dataclass(frozen=True, slots=True)
class Single:
    """One run by itself."""

    name: str
    kind: Kind
    quota: Timetable
    objects: int
    trip: float = 0.005
    late: float = 0.0


SINGLES = (
    Single("300/s, 6,000 objects", "bucket", steady(300), 6_000),
    Single("300/s, 6,000 objects", "small bucket", steady(300), 6_000),
    Single("300/s, 6,000 objects", "windows", steady(300), 6_000),
    Single("the same, 50 ms a trip", "bucket", steady(300), 6_000, trip=0.05),
    Single("the same, 50 ms a trip", "windows", steady(300), 6_000, trip=0.05),
    Single("the same, refusals 0.5 s late", "bucket", steady(300), 6_000, late=0.5),
    Single("20/s, 500 objects", "bucket", steady(20), 500),
    Single("20/s, 500 objects", "windows", steady(20), 500),
    Single("3,000/s, 20,000 objects", "bucket", steady(3_000), 20_000),
    Single("3,000/s, 20,000 objects", "windows", steady(3_000), 20_000),
    Single("300/s and 150/s in turns of 10 s", "bucket", CHANGING, 9_000),
    Single("300/s and 150/s in turns of 10 s", "small bucket", CHANGING, 9_000),
    Single("300/s and 150/s in turns of 10 s", "windows", CHANGING, 9_000),
)


def single(rule: Callable[[], Rule], there: Single, seed: int) -> tuple[float, float]:
    """Return the time as a share of the ideal (at most 3), and the refused ones as a share of the objects."""
    ideal = there.quota.ideal(there.objects)
    lanes = 1024 if there.quota.at(0.0) > 1000 else 256
    run = Run(rule(), lanes=lanes, trip=there.trip, late=there.late, objects=there.objects)
    simulate(server(there.kind, there.quota, seed), [run], 3 * ideal, seed)
    return min(run.ends, 3 * ideal) / ideal, run.refused_later / there.objects


@dataclass(frozen=True, slots=True)
class Shared:
    """What two runs beside a constant client of 100/s made of 300/s, from the fifth second on."""

    ratio: float
    """The larger share by the smaller one."""
    background: float
    """The refused share of the constant client's requests."""
    used: float
    """What the two had of what the client left."""


def shared(rule: Callable[[], Rule], kind: Kind, seed: int, seconds: int = 300, trip: float = 0.005) -> Shared:
    first, second = Run(rule(), trip=trip), Run(rule(), trip=trip, begins=0.05)
    background = Run(Constant(100.0), trip=trip)
    simulate(server(kind, steady(300), seed), [first, second, background], seconds, seed)
    one, other = (max(1, sum(each.granted[5:])) for each in (first, second))
    refused, granted = sum(background.refused[5:]), sum(background.granted[5:])
    return Shared(max(one / other, other / one), refused / (refused + granted), (one + other) / (200 * (seconds - 5)))


@dataclass(frozen=True, slots=True)
class Fleet:
    """What became of a fleet, its first minute left out."""

    goodput: float
    """The share of the quota."""
    refused: float
    """The share of all requests."""
    fairness: float
    """Jain's index of the runs' shares: 1 is even, 1 by their number is one that has all."""


def fleet(rule: Callable[[], Rule], kind: Kind, size: int, seconds: int, seed: int = 1, first: int = WARM_UP) -> Fleet:
    """Let so many runs begin within two seconds and share the quota."""
    rng = random.Random(seed)
    lanes = max(64, min(1024, LANES // size))
    runs = [Run(rule(), lanes=lanes, jitter=0.0, begins=2.0 * rng.random()) for _ in range(size)]
    simulate(server(kind, steady(QUOTA), seed), runs, seconds, seed)
    shares = [sum(run.granted[first:seconds]) for run in runs]
    refused, granted = sum(sum(run.refused[first:seconds]) for run in runs), sum(shares)
    return Fleet(
        granted / QUOTA / (seconds - first), refused / (refused + granted),
        granted**2 / size / sum(share**2 for share in shares),
    )  # fmt: skip


def percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}".replace("%", " %")


def _single_cell(name: str, index: int) -> str:
    found = [single(RULES[name], SINGLES[index], seed) for seed in SEEDS]
    time = mean(each[0] for each in found)
    return f"{'≥ 3' if time > 2.99 else f'{time:.2f}'} / {percent(mean(each[1] for each in found))}"


def _shared_cell(name: str, kind: Kind) -> str:
    found = [shared(RULES[name], kind, seed) for seed in SEEDS]
    ratio = mean(each.ratio for each in found)
    return (
        f"{'> 9' if ratio > 9 else f'{ratio:.2f}'} / {percent(mean(each.background for each in found))}"
        f" / {percent(mean(each.used for each in found), 0)}"
    )


def _fleet_cell(name: str, kind: Kind, size: int, seconds: int) -> str:
    found = fleet(RULES[name], kind, size, seconds)
    return f"{percent(found.goodput)} / {percent(found.refused)} / {found.fairness:.2f}"


def _panels() -> list[Panel]:
    panels = []
    for name, rule in RULES.items():
        run = Run(rule(), trip=0.02, traced=True)
        simulate(server("bucket", CHANGING, 1), [run], 60)
        quota = [(10.0 * turn, CHANGING.at(10.0 * turn)) for turn in range(6)]
        panels.append(Panel(f"{name}: 300/s and 150/s in turns", 60, [run.paces], quota))
    for name, rule in RULES.items():
        runs = [Run(rule(), trip=0.02, traced=True), Run(rule(), trip=0.02, begins=15.0, traced=True)]
        simulate(server("bucket", steady(300), 1), [*runs, Run(Constant(100.0), trip=0.02)], 60)
        panels.append(Panel(f"{name}: a second run joins, of 200/s", 60, [run.paces for run in runs], [(0.0, 100.0)]))
    return panels


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10, help="what fleets last, with the first minute; default 10")
    parser.add_argument("--fleets", type=int, nargs="*", default=FLEETS, help="their sizes; default all")
    options = parser.parse_args(arguments)
    seconds = 60 * options.minutes
    kinds: tuple[Kind, Kind] = ("bucket", "windows")
    with ProcessPoolExecutor() as pool:
        # The others get two minutes: what they do they do from the start.
        fleets = [
            (size, kind, [
                pool.submit(_fleet_cell, name, kind, size, seconds if name == OURS else min(120, seconds))
                for name in RULES
            ]) for size in sorted(options.fleets, reverse=True) for kind in kinds
        ]  # fmt: skip
        singles = [(there, [pool.submit(_single_cell, name, index) for name in RULES])
                   for index, there in enumerate(SINGLES)]  # fmt: skip
        both = [(kind, [pool.submit(_shared_cell, name, kind) for name in RULES]) for kind in kinds]
        head = " | ".join(RULES) + " |\n" + "| --- " * (len(RULES) + 2) + "|"
        print("| Runs | Server | " + head)
        for size, kind, cells in reversed(fleets):
            print(f"| {size} | {kind} | " + " | ".join(cell.result() for cell in cells) + " |", flush=True)
        print("\n| One run | Server | " + head)
        for there, cells in singles:
            print(f"| {there.name} | {there.kind} | " + " | ".join(cell.result() for cell in cells) + " |", flush=True)
        print("\n| Two runs | Server | " + head)
        for kind, cells in both:
            print(
                f"| beside 100/s, of 300/s | {kind} | " + " | ".join(cell.result() for cell in cells) + " |", flush=True
            )
    CHART.write_text(svg(_panels()), encoding="utf-8")


if __name__ == "__main__":
    main()
