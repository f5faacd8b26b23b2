"""Choose the rule for `--concurrency auto`: every rule in every scenario, against the best fixed limit of a sweep.

    .venv/bin/python -m benchmarks.concurrency.simulate

prints the table of docs/design.md and draws docs/concurrency.svg, in three minutes of two cores. A cell is the work
done a second as a share of what the best fixed limit did with the same seed, on average over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.concurrency.model import Result, Rule, Scenario, simulate
from benchmarks.concurrency.plot import Panel, svg
from benchmarks.concurrency.rules import Aimd, Bbr, Climb, Fixed, Gradient, auto
from benchmarks.concurrency.scenarios import SCENARIOS

SWEEP = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
SEEDS = [1, 2, 3, 4, 5]
OURS = "auto"
RULES: dict[str, Callable[[Scenario], Rule]] = {
    "fixed 32": lambda _: Fixed(32),
    "fixed 256": lambda _: Fixed(256),
    "AIMD": lambda _: Aimd(),
    "Gradient2": lambda _: Gradient(),
    "BBR": lambda _: Bbr(),
    "climb": lambda _: Climb(),
    OURS: auto,
}
CHART = Path(__file__).parents[2] / "docs" / "concurrency.svg"


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario's outcome."""

    best: int
    """The smallest fixed limit that did at least 98 % of the most work."""
    efficiency: dict[str, float]
    late: float
    """Our mean limit in the second half of the time."""
    limits: list[tuple[float, int]]
    """When our limit became what, with the first seed."""
    seconds: float


def best_fixed(scenario: Scenario, seed: int) -> tuple[int, float]:
    """Return the smallest limit of the sweep that did 98 % of the most work a second, and that most."""
    results = {limit: simulate(scenario, Fixed(limit), seed) for limit in SWEEP}
    rates = {limit: result.work / result.seconds for limit, result in results.items()}
    most = max(rates.values())
    return next(limit for limit in SWEEP if rates[limit] >= 0.98 * most), most


def row(scenario: Scenario) -> Row:
    most = {seed: best_fixed(scenario, seed) for seed in SEEDS}
    results = {name: [simulate(scenario, rule(scenario), seed) for seed in SEEDS] for name, rule in RULES.items()}
    efficiency = {
        name: mean(result.work / result.seconds / most[seed][1] for seed, result in zip(SEEDS, runs, strict=True))
        for name, runs in results.items()
    }
    ours = results[OURS]
    return Row(
        most[SEEDS[0]][0], efficiency, mean(late_limit(result) for result in ours), ours[0].limits, ours[0].seconds
    )


def late_limit(result: Result) -> float:
    """Return the mean limit of the second half of the time."""
    half = result.seconds / 2
    ends = [when for when, _ in result.limits[1:]] + [result.seconds]
    spans = zip(result.limits, ends, strict=True)
    return sum(limit * max(0.0, end - max(begin, half)) for (begin, limit), end in spans) / half


def main() -> None:
    print("| Scenario | Best fixed | " + " | ".join(RULES) + " | its limit |")
    print("| --- " * (len(RULES) + 3) + "|")
    panels = []
    with ProcessPoolExecutor() as pool:
        # By index: scenarios hold functions, which do not travel.
        for scenario, outcome in zip(SCENARIOS, pool.map(_row, range(len(SCENARIOS))), strict=True):
            cells = " | ".join(f"{max(0.0, share):.0%}".replace("%", " %") for share in outcome.efficiency.values())
            print(f"| {scenario.name} | {outcome.best} | {cells} | {outcome.late:.0f} |", flush=True)
            panels.append(Panel(scenario.name, outcome.seconds, outcome.limits, outcome.best))
    CHART.write_text(svg(panels), encoding="utf-8")


def _row(index: int) -> Row:
    return row(SCENARIOS[index])


if __name__ == "__main__":
    main()
