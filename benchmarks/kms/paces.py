"""Paces over time, a panel a scenario, as an SVG without a library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, GAP, COLUMNS = 220, 120, 40, 4
TOP = 500.0
"""Requests a second at the top of each panel."""
COLOURS = ("#06c", "#393")


@dataclass(frozen=True, slots=True)
class Panel:
    """The paces of runs as (time, requests a second), and what the quota is from when on."""

    name: str
    seconds: float
    paces: list[list[tuple[float, float]]]
    quota: list[tuple[float, float]]


def svg(panels: list[Panel]) -> str:
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * (WIDTH + GAP) + 16, rows * (HEIGHT + GAP) + 8
    drawn = []
    for index, panel in enumerate(panels):
        x, y = GAP + index % COLUMNS * (WIDTH + GAP), GAP // 2 + index // COLUMNS * (HEIGHT + GAP)
        drawn.append(f'<g transform="translate({x},{y})">{_panel(panel)}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="10">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _panel(panel: Panel) -> str:
    grid = "".join(
        f'<path d="M0 {_y(rate):.0f}H{WIDTH}" stroke="#ddd"/>'
        f'<text x="-4" y="{_y(rate) + 4:.0f}" text-anchor="end" fill="#555">{rate}</text>'
        for rate in (0, 100, 200, 300, 400, 500)
    )
    lines = "".join(
        f'<path d="{_steps(panel, paces)}" stroke="{colour}" fill="none"/>'
        for paces, colour in zip(panel.paces, COLOURS, strict=False)
    )
    return (
        f'<text y="-6">{escape(panel.name)}</text>{grid}'
        f'<path d="{_steps(panel, panel.quota)}" stroke="#c60" stroke-dasharray="5 4" fill="none"/>{lines}'
        f'<text y="{HEIGHT + 12}" fill="#555">0</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 12}" text-anchor="end" fill="#555">{panel.seconds:.3g} s</text>'
    )


def _steps(panel: Panel, values: list[tuple[float, float]]) -> str:
    """Draw what changes by more than a pixel."""
    drawn, last = "", None
    for when, rate in values:
        x, y = round(when / panel.seconds * WIDTH), round(_y(rate))
        if last is None:
            drawn = f"M{x} {y}"
        elif y != last:
            drawn += f"H{x}V{y}"
        last = y
    return f"{drawn}H{WIDTH}"


def _y(rate: float) -> float:
    return HEIGHT * (1 - min(rate, TOP) / TOP)
