"""The limit over time, one panel a scenario, as an SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.panels import Layout

LAYOUT = Layout(width=300, height=150, gap=46, columns=3, font=11)
MARKS = (1, 4, 16, 64, 256, 1024)
TOP = MARKS[-1]
"""The top of each panel; the scale is logarithmic, from 1."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One scenario: the limit as (time, limit), and the best fixed one."""

    name: str
    seconds: float
    limits: list[tuple[float, int]]
    best: int


def svg(panels: list[Panel]) -> str:
    return LAYOUT.svg([_drawn(panel) for panel in panels])


def _drawn(panel: Panel) -> str:
    across = LAYOUT.width
    steps = "".join(f"H{when / panel.seconds * across:.1f}V{_y(limit):.1f}" for when, limit in panel.limits[1:])
    return (
        LAYOUT.frame(panel.name, panel.seconds, [(limit, _y(limit)) for limit in MARKS])
        + f'<path d="M0 {_y(panel.best):.1f}H{across}" stroke="#c60" stroke-dasharray="5 4"/>'
        f'<path d="M0 {_y(panel.limits[0][1]):.1f}{steps}H{across}" stroke="#06c" stroke-width="1.5" fill="none"/>'
    )


def _y(limit: int) -> float:
    return LAYOUT.height * (1 - math.log(limit) / math.log(TOP))
