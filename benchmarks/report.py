"""The results as a table in Markdown, and as a chart in SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

LISTING = "sealift (listing alone)"
OURS = ("sealift", "sealift (default)", LISTING)


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
        "" if about["scale"] == 1 else f"\nWith {about['scale']:g} of the objects that the rows' names say.\n",
        "`sealift` is with `--durability none`, which is what the peers have; `sealift (default)` syncs in batches.",
        "Ratio: the wall time by that of the fastest peer in the row.\n",
        "| work | | wall s | ratio | CPU s | CPU µs an object | CPU s a GiB | peak MB | GETs | connections |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row, lines in _by_row(medians).items():
        fastest = _fastest_peer(lines)
        for line in sorted(lines, key=lambda line: line.get("wall", 1e9)):
            if "wall" not in line:
                out.append(f"| {row.title} | {line['peer']} | failed | | | | | | | |")
                continue
            ratio = f"{line['wall'] / fastest:.2f}" if fastest else ""
            if line["peer"] == OURS[0] and fastest:
                ratio = f"**{ratio}** (aim {row.target:g})"
            out.append(
                f"| {row.title} | {line['peer']} | {line['wall']:.2f} | {ratio} | {line['cpu']:.2f} | "
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
    """Return horizontal bars: each row's wall times, as shares of its slowest that is shown."""
    bars: list[str] = []
    y = 40
    for row, lines in _by_row(medians).items():
        shown = sorted(
            (line for line in lines if "wall" in line and line["peer"] != OURS[1]), key=lambda line: line["wall"]
        )
        if not shown:
            continue
        bars.append(f'<text x="10" y="{y}" class="title">{row.title}</text>')
        y += 8
        longest = shown[-1]["wall"]
        for line in shown:
            width = max(2, 520 * line["wall"] / longest)
            kind = "ours" if line["peer"] in OURS else "peer"
            bars.append(f'<text x="90" y="{y + 11}" text-anchor="end">{line["peer"]}</text>')
            bars.append(f'<rect x="98" y="{y}" width="{width:.0f}" height="14" class="{kind}"/>')
            bars.append(f'<text x="{104 + width:.0f}" y="{y + 11}">{line["wall"]:.2f} s</text>')
            y += 18
        y += 24
    style = "text{font:12px sans-serif;fill:#57606a}.title{font-weight:bold}.ours{fill:#1f6feb}.peer{fill:#afb8c1}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {y}" role="img">'
        f"<title>Wall times side by side, {about['date']}</title><style>{style}</style>"
        f'<text x="10" y="18">Whole-process wall time, medians of {about["rounds"]}; less is better</text>'
        + "".join(bars)
        + "</svg>\n"
    )
