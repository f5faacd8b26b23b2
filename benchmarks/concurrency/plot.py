"""The limit over time, one panel a scenario, as an SVG without a library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, GAP, COLUMNS = 300, 150, 46, 3
TOP = 1024
"""The top of each panel; the scale is logarithmic, from 1."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One scenario: the limit as (time, limit), and the best fixed one."""

    name: str
    seconds: float
    limits: list[tuple[float, int]]
    best: int


def svg(panels: list[Panel]) -> str:
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * (WIDTH + GAP) + 16, rows * (HEIGHT + GAP) + 16
    drawn = []
    for index, panel in enumerate(panels):
        x, y = GAP + index % COLUMNS * (WIDTH + GAP), GAP // 2 + index // COLUMNS * (HEIGHT + GAP)
        drawn.append(f'<g transform="translate({x},{y})">{_panel(panel)}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _panel(panel: Panel) -> str:
    grid = "".join(
        f'<path d="M0 {_y(limit):.0f}H{WIDTH}" stroke="#ddd"/>'
        f'<text x="-5" y="{_y(limit) + 4:.0f}" text-anchor="end" fill="#555">{limit}</text>'
        for limit in (1, 4, 16, 64, 256, 1024)
    )
    steps = "".join(f"H{when / panel.seconds * WIDTH:.1f}V{_y(limit):.1f}" for when, limit in panel.limits[1:])
    return (
        f'<text y="-6">{escape(panel.name)}</text>{grid}'
        f'<path d="M0 {_y(panel.best):.1f}H{WIDTH}" stroke="#c60" stroke-dasharray="5 4"/>'
        f'<path d="M0 {_y(panel.limits[0][1]):.1f}{steps}H{WIDTH}" stroke="#06c" stroke-width="1.5" fill="none"/>'
        f'<text y="{HEIGHT + 13}" fill="#555">0</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 13}" text-anchor="end" fill="#555">{panel.seconds:.3g} s</text>'
    )


def _y(limit: int) -> float:
    return HEIGHT * (1 - math.log(limit) / math.log(TOP))
