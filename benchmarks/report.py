"""The results as a table in Markdown, and as a chart in SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.interpreter import named

LISTING = "sealift (listing alone)"
OURS = ("sealift", "sealift (default)", LISTING)

MOST_PEERS = 3
"""Peers that the chart has of a row; the table has all."""

COLUMN_WIDTH, ROW_HEIGHT = 410, 112
"""Of the chart, in pixels: four bars and a title."""


def _by_row(medians: Iterable[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    rows: dict[Any, list[dict[str, Any]]] = {}
    for line in medians:
        rows.setdefault(line["row"], []).append(line)
    return rows


def _fastest_peer(lines: Iterable[dict[str, Any]]) -> float | None:
    return min((line["wall"] for line in lines if line["peer"] not in OURS and "wall" in line), default=None)


def table(about: dict[str, Any], medians: list[dict[str, Any]]) -> str:
    """Return the table."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if name not in OURS[1:])
    out = [
        f"# Benchmark of {about['date']}\n",
        f"{about['machine']}. Medians of {about['rounds']} interleaved rounds; {versions}.",
        *filter(None, [named(about.get("interpreters", ()))]),
        "Who took a quarter longer than the row's fastest peer in the first round was not run again there.",
        "" if about["scale"] == 1 else f"\nWith {about['scale']:g} of the objects that the rows' names say.\n",
        "`sealift` is with `--durability none`, which is what the peers have; `sealift (default)` syncs in batches.",
        "Ratio: the wall time by that of the fastest peer in the row.\n",
        "| work | | runs | wall s | ratio | CPU s | CPU µs an object | CPU s a GiB | peak MB | GETs | connections |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row, lines in _by_row(medians).items():
        fastest = _fastest_peer(lines)
        for line in sorted(lines, key=lambda line: line.get("wall", 1e9)):
            if "wall" not in line:
                out.append(f"| {row.title} | {line['peer']} | {line['runs']} | failed | | | | | | | |")
                continue
            ratio = f"{line['wall'] / fastest:.2f}" if fastest else ""
            if line["peer"] == OURS[0] and fastest:
                ratio = f"**{ratio}** (aim {row.target:g})"
            out.append(
                f"| {row.title} | {line['peer']} | {line['good']} | {line['wall']:.2f} | {ratio} | {line['cpu']:.2f} | "
                f"{line['cpu_us_object']:,.0f} | {line['cpu_s_gib']:.2f} | {line['memory'] / 1e6:,.0f} | "
                f"{line['gets']:,} | {line['connections']:,} |"
            )
    out += _reruns(medians)
    return "\n".join(out) + "\n"


def _reruns(medians: list[dict[str, Any]]) -> Iterator[str]:
    for row, lines in _by_row(medians).items():
        walls = {line["peer"]: line["wall"] for line in lines if "wall" in line}
        for peer in OURS[:2]:
            if row.rerun and peer in walls and LISTING in walls:
                times = walls[peer] / walls[LISTING]
                yield f"\n{row.title}: {peer} takes {times:.2f} times as long as the listing alone."


def chart(about: dict[str, Any], medians: list[dict[str, Any]]) -> str:
    """Return horizontal bars in two columns: the wall times of Sealift and its fastest peers, where there are any."""
    rows = [(row, _shown(lines)) for row, lines in _by_row(medians).items()]
    rows = [(row, lines) for row, lines in rows if any(line["peer"] not in OURS for line in lines)]
    height = -(-len(rows) // 2) * ROW_HEIGHT + 30
    blocks = []
    for number, (row, lines) in enumerate(rows):
        x, y = number % 2 * COLUMN_WIDTH, number // 2 * ROW_HEIGHT + 44
        blocks.append(f'<g transform="translate({x} {y})"><text x="10" y="0" class="title">{row.title}</text>')
        longest = max(line["wall"] for line in lines)
        for place, line in enumerate(lines):
            top = 8 + place * 18
            width = max(2, 260 * line["wall"] / longest)
            kind = "ours" if line["peer"] in OURS else "peer"
            blocks.append(f'<text x="70" y="{top + 11}" text-anchor="end">{line["peer"]}</text>')
            blocks.append(f'<rect x="78" y="{top}" width="{width:.0f}" height="14" class="{kind}"/>')
            blocks.append(f'<text x="{84 + width:.0f}" y="{top + 11}">{line["wall"]:.2f} s</text>')
        blocks.append("</g>")
    style = "text{font:12px sans-serif;fill:#57606a}.title{font-weight:bold}.ours{fill:#1f6feb}.peer{fill:#afb8c1}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * COLUMN_WIDTH} {height}" role="img">'
        f"<title>Wall times side by side, {about['date']}</title><style>{style}</style>"
        f'<text x="10" y="18">Whole-process wall time, medians of {about["rounds"]}; less is better</text>'
        + "".join(blocks)
        + "</svg>\n"
    )


def _shown(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines that the chart has room for, the fastest first: Sealift's, and those of its fastest peers."""
    timed = sorted(
        (line for line in lines if "wall" in line and line["peer"] != OURS[1]), key=lambda line: line["wall"]
    )
    peers = [line["peer"] for line in timed if line["peer"] not in OURS][:MOST_PEERS]
    return [line for line in timed if line["peer"] in OURS or line["peer"] in peers]
