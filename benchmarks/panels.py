"""Drawn panels in rows and columns, as one SVG without a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Layout:
    """How large each panel is, in pixels, what lies between two, and how many are beside each other."""

    width: int
    height: int
    gap: int
    columns: int
    font: int
    """The height of its letters."""

    def svg(self, panels: Sequence[str]) -> str:
        """Return the picture of panels that are drawn from (0, 0) on."""
        rows = math.ceil(len(panels) / self.columns)
        width, height = self.columns * (self.width + self.gap) + 16, rows * (self.height + self.gap) + 16
        placed = []
        for index, panel in enumerate(panels):
            row, column = divmod(index, self.columns)
            x, y = self.gap + column * (self.width + self.gap), self.gap // 2 + row * (self.height + self.gap)
            placed.append(f'<g transform="translate({x},{y})">{panel}</g>')
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="{self.font}">\n'
            f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(placed) + "\n</svg>\n"
        )

    def frame(self, name: str, seconds: float, marks: Sequence[tuple[float, float]]) -> str:
        """Return a panel's name, its axis of time, and a line across at each mark's height, with its value."""
        below = self.height + self.font + 2
        return (
            f'<text y="-6">{escape(name)}</text>'
            + "".join(
                f'<path d="M0 {y:.0f}H{self.width}" stroke="#ddd"/>'
                f'<text x="-5" y="{y + 4:.0f}" text-anchor="end" fill="#555">{value}</text>'
                for value, y in marks
            )
            + f'<text y="{below}" fill="#555">0</text>'
            f'<text x="{self.width}" y="{below}" text-anchor="end" fill="#555">{seconds:.3g} s</text>'
        )
