"""The results as tables in Markdown, and as a plot in SVG: what was granted and refused in each second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.interpreter import named
from benchmarks.kms.rows import ROWS, Row

ROWS_BY_NAME = {row.name: row for row in ROWS}
WIDTH, HEIGHT, GAP, COLUMNS = 190, 80, 34, 5
OURS = "sealift"
EXPLAINED = """\
- Ideal: every object by one GET, as many a second as the quota allows, none refused.
- In flight: refused GETs sent before the first refusal could be known. The share of refused GETs leaves them out.
- Fullest second: charged GETs by the origin's log, refused ones included, wherever the second begins.
"""
COLUMNS_OF_A_ROW = (
    "| | complete | s | ratio | GETs | refused | in flight | refused, the rest | fullest second | average/s | CPU s |"
)


def described(row: Row) -> str:
    """Return a row's title with how KMS counts and refuses."""
    if not row.orders.timetable.rates:
        return row.title
    way = "one-second windows" if row.orders.way == "windows" else "token bucket of 0.1 s"
    if row.sealed:
        way = "OpenBao's rate-limit quota on transit/decrypt"
    form = "400 KMS.ThrottlingException" if row.orders.form == "400" else "503 SlowDown"
    return f"{row.title} ({way}, {form})"


def table(about: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """Return the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(about["versions"].items()))
    out = [
        f"# Under a KMS quota, {about['date']}\n",
        f"{about['machine']}. {versions}. One run each, beside the origin on the same cores.",
        *filter(None, [measured_on(runs), named(about.get("interpreters", ()))]),
        "The method is in [the README](../../README.md#under-a-kms-quota).\n",
        EXPLAINED,
        f"![Granted and refused requests in each second]({about['name']}.svg)\n",
    ]
    for row, lines in _by_row(runs):
        out.append(f"\n## {described(row)}\n")
        aims = [
            *([f"time ≤ {row.ratio:g} × ideal"] if row.ratio else []),
            *([f"refused ≤ {row.refused:.0%}"] if row.refused else []),
        ]
        if aims:
            counted = ", from the first GET" if row.from_first_get else ", of the whole process"
            ideal = f"; ideal {row.ideal:.1f} s" if row.ratio else ""
            out.append(f"Aim: {', '.join(aims)}. Time{counted}{ideal}.\n")
        if row.runs > 1:
            out += _shared(lines)
            continue
        out += [
            COLUMNS_OF_A_ROW,
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *map(_line, lines),
        ]
    return "\n".join(out) + "\n"


def measured_on(runs: list[dict[str, Any]]) -> str:
    """Say who was measured on which day, where not all were on one."""
    days: dict[str, dict[str, None]] = {}
    for run in runs:
        days.setdefault(run.get("date", "a day that is not noted"), {})[run["peer"]] = None
    if len(days) < 2:
        return ""
    return "Measured on " + "; on ".join(f"{day}: {', '.join(peers)}" for day, peers in sorted(days.items())) + "."


def _by_row(runs: list[dict[str, Any]]) -> Iterator[tuple[Row, list[dict[str, Any]]]]:
    for name, row in ROWS_BY_NAME.items():
        if lines := [each for each in runs if each["row"] == name]:
            yield row, lines


def _line(run: dict[str, Any]) -> str:
    found = run["figures"]
    gets, refused, in_flight = found["gets"], found["refused"], found["in_flight"]
    late = (refused - in_flight) / gets if gets else 0
    whole = run["complete"] == run["objects"]
    complete = f"{run['complete']:,}" if whole else f"**{run['complete']:,} of {run['objects']:,}**"
    seconds = f"{run['seconds']:.1f}" + (" (stopped)" if run["stopped"] else "")
    ratio = f"{run['ratio']:.3f}" if whole and "ratio" in run else ""
    free = f", free ones by {found['free_by']:.1f} s" if found["free_by"] is not None else ""
    name = f"**{run['peer']}**" if run["peer"] == OURS else run["peer"]
    return (
        f"| {name} | {complete} | {seconds}{free} | {ratio} | {gets:,} | {refused:,} | {in_flight:,} | {late:.2%} | "
        f"{found['most']:,} | {found['average']:.1f} | {run['cpu']:.1f} |"
    )


def _shared(lines: list[dict[str, Any]]) -> Iterator[str]:
    yield "Aim: the other is refused in < 1 % of its calls; the smaller share is ≥ 80 % of the larger."
    yield "The first 5 s are left out.\n"
    yield "| | granted/s, each | smaller by larger | refused of theirs | the other's calls refused |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for line in lines:
        shares = line["shared"]
        rates = " and ".join(f"{rate:.1f}" for rate in shares["granted_a_second"])
        own = [part for name, part in shares["figures"].items() if name != "tenant"]
        refused = sum(part["refused"] for part in own) / max(1, sum(part["charged"] for part in own))
        name = f"**{line['peer']}**" if line["peer"] == OURS else line["peer"]
        yield f"| {name} | {rates} | {shares['less_by_more']:.2f} | {refused:.2%} | {shares['tenant_refused']:.2%} |"


def chart(about: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """Return a row of panels for each row of the tables: bars of what each second granted, and refused above it."""
    drawn: list[str] = []
    y = 40
    for row, lines in _by_row(runs):
        drawn.append(f'<text x="10" y="{y}" class="title">{described(row)}</text>')
        y += 22
        for at, line in enumerate(lines):
            if at and at % COLUMNS == 0:
                y += HEIGHT + GAP
            x = 34 + at % COLUMNS * (WIDTH + GAP)
            drawn.append(f'<g transform="translate({x},{y})">{_panel(row, line)}</g>')
        y += HEIGHT + GAP + 12
    style = (
        "text{font:11px sans-serif;fill:#57606a}.title{font-weight:bold}.granted{fill:#1f6feb}.refused{fill:#cf222e}"
        ".other{fill:#afb8c1}.quota{stroke:#1a7f37;stroke-dasharray:4 3;fill:none}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * (WIDTH + GAP) + 40} {y}" role="img">'
        f"<title>Granted and refused requests in each second, {about['date']}</title><style>{style}</style>"
        '<rect width="100%" height="100%" fill="white"/>'
        '<text x="10" y="18">Charged GETs in each second: granted (blue), refused (red, above); the quota is dashed; '
        "the clipped ones go on beyond the panel</text>" + "".join(drawn) + "</svg>\n"
    )


def _panel(row: Row, run: dict[str, Any]) -> str:
    stacks: list[tuple[tuple[str, int], ...]]
    if shares := run.get("shared"):
        ours = [seconds for name, seconds in shares["seconds"].items() if name != "tenant"]
        stacks = [
            (
                ("other", tenant),
                ("granted", sum(granted for granted, _ in own)),
                ("refused", sum(bad for _, bad in own)),
            )
            for (tenant, _), *own in zip(shares["seconds"]["tenant"], *ours, strict=True)
        ]
    else:
        stacks = [(("granted", granted), ("refused", refused)) for granted, refused in run["figures"]["seconds"]]
    timetable = row.orders.timetable
    highest = max(timetable.rates) if timetable.rates else max(sum(n for _, n in stack) for stack in stacks)
    scale = HEIGHT / (1.8 * max(1, highest))
    width = WIDTH / len(stacks)
    bars: dict[str, list[str]] = {}
    for second, stack in enumerate(stacks):
        below = 0.0
        for kind, count in stack:
            tall = min(count * scale, HEIGHT - below)
            if tall > 0:
                top, left = HEIGHT - below - tall, second * width
                bars.setdefault(kind, []).append(f"M{left:.1f} {top:.1f}h{width:.2f}v{tall:.1f}h-{width:.2f}z")
            below += tall
    paths = "".join(f'<path class="{kind}" d="{"".join(each)}"/>' for kind, each in bars.items())
    line = ""
    if timetable.rates:
        steps = [
            f"{'L' if at else 'M'}{at * width:.1f} {HEIGHT - timetable.at(at) * scale:.1f}" for at in range(len(stacks))
        ]
        line = f'<path class="quota" d="{"".join(steps)}H{WIDTH}"/>'
    whole = "shared" in run or run["complete"] == run["objects"]
    lost = "" if whole else f", {run['objects'] - run['complete']:,} missing"
    return (
        f'<text y="-5">{run["peer"]}{lost}</text><path d="M0 {HEIGHT}H{WIDTH}" stroke="#57606a"/>{paths}{line}'
        f'<text y="{HEIGHT + 12}">0</text><text x="{WIDTH}" y="{HEIGHT + 12}" text-anchor="end">{len(stacks)} s</text>'
    )
