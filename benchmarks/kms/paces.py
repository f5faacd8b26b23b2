"""Paces over time, a panel a scenario, as an SVG."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.panels import Layout

LAYOUT = Layout(width=220, height=120, gap=40, columns=4, font=10)
MARKS = (0, 100, 200, 300, 400, 500)
"""Requests a second; the last is the top of each panel."""
COLOURS = ("#06c", "#393")


@dataclass(frozen=True, slots=True)
class Panel:
    """The paces of runs as (time, requests a second), and what the quota is from when on."""

    name: str
    seconds: float
    paces: list[list[tuple[float, float]]]
    quota: list[tuple[float, float]]


def svg(panels: list[Panel]) -> str:
    return LAYOUT.svg([_drawn(panel) for panel in panels])


def _drawn(panel: Panel) -> str:
    lines = "".join(
        f'<path d="{_steps(panel, paces)}" stroke="{colour}" fill="none"/>'
        for paces, colour in zip(panel.paces, COLOURS, strict=False)
    )
    return (
        LAYOUT.frame(panel.name, panel.seconds, [(rate, _y(rate)) for rate in MARKS])
        + f'<path d="{_steps(panel, panel.quota)}" stroke="#c60" stroke-dasharray="5 4" fill="none"/>{lines}'
    )


def _steps(panel: Panel, values: list[tuple[float, float]]) -> str:
    """Draw what changes by more than a pixel."""
    drawn, last = "", None
    for when, rate in values:
        x, y = round(when / panel.seconds * LAYOUT.width), round(_y(rate))
        if last is None:
            drawn = f"M{x} {y}"
        elif y != last:
            drawn += f"H{x}V{y}"
        last = y
    return f"{drawn}H{LAYOUT.width}"


def _y(rate: float) -> float:
    return LAYOUT.height * (1 - min(rate, MARKS[-1]) / MARKS[-1])
