"""Pictures of a run's seconds, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sealift.cli.quantities import count, size
from sealift.report.runs import Run, thinned

MOST_POINTS = 600
"""Of a curve: what 1,200 pixels can show. More seconds than that are put together."""

MIB = 1024 * 1024
_BLUE, _RED, _ORANGE, _GREEN, _GREY = "#1f6feb", "#cf222e", "#bc4c00", "#1a7f37", "#8c959f"
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#eaeef2",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture."""

    title: str
    says: str
    """In words, also for those who do not see it."""
    svg: bytes


def plots(run: Run) -> list[Plot]:
    """Draw what there is to draw of a run."""
    found = []
    if pace := thinned(run.pace, MOST_POINTS):
        found += [_throughput(pace), _objects(pace), _under_way(pace)]
        if any(each["kms_requests"] or each["kms_wait"] for each in pace):
            found.append(_kms(pace))
        if any(each["kms_throttled"] or each["s3_throttled"] or each["retries"] for each in pace):
            found.append(_refusals(pace))
    if run.sizes:
        found.append(_sizes(run))
    return found


def _rate(pace: Sequence[Mapping[str, Any]], *names: str) -> list[float]:
    return [sum(each[name] for name in names) / each["seconds"] for each in pace]


def _figure(unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 2.2))
    axes = figure.subplots()
    axes.set_ylabel(unit)
    return figure, axes


def _legend(axes: Axes, columns: int) -> None:
    """Put the legend above the curves, where it covers none."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=columns, fontsize=8)


def _drawn(title: str, says: str, figure: Figure, axes: Axes, pace: Sequence[Mapping[str, Any]] = ()) -> Plot:
    if pace:
        end = pace[-1]["at"]
        unit, length = next(
            (name, size)
            for name, size in (("hours", 3600), ("minutes", 60), ("seconds", 1))
            if end > 3 * size or size == 1
        )
        axes.set_xlabel(f"{unit} since the run began")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / length:g}")
        axes.set_xlim(0, end)
        axes.set_ylim(bottom=0)
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return Plot(title, says, written.getvalue())


def _curves(
    title: str,
    says: str,
    unit: str,
    pace: Sequence[Mapping[str, Any]],
    curves: Mapping[str, tuple[str, Sequence[float]]],
) -> Plot:
    with rc_context(_STYLE):
        figure, axes = _figure(unit)
        at = [each["at"] for each in pace]
        for name, (colour, values) in curves.items():
            axes.plot(at, values, color=colour, linewidth=1.2, label=name, marker="." if len(at) < 20 else "")
            if len(curves) == 1:
                axes.fill_between(at, values, color=colour, alpha=0.15, linewidth=0)
        if len(curves) > 1:
            _legend(axes, len(curves))
        return _drawn(title, says, figure, axes, pace)


def _throughput(pace: Sequence[Mapping[str, Any]]) -> Plot:
    rates = [rate / MIB for rate in _rate(pace, "bytes")]
    says = f"up to {size(max(rates) * MIB)}/s"
    return _curves("Throughput", says, "MiB/s", pace, {"received": (_BLUE, rates)})


def _objects(pace: Sequence[Mapping[str, Any]]) -> Plot:
    rates = _rate(pace, "objects")
    return _curves("Objects", f"up to {max(rates):,.0f} objects/s", "objects/s", pace, {"downloaded": (_GREEN, rates)})


def _under_way(pace: Sequence[Mapping[str, Any]]) -> Plot:
    numbers = [float(each["connections"]) for each in pace]
    return _curves("GETs under way", f"up to {max(numbers):,.0f} at once", "GETs", pace, {"GETs": (_GREY, numbers)})


def _refusals(pace: Sequence[Mapping[str, Any]]) -> Plot:
    kms, s3, retries = (
        count(sum(each[name] for each in pace)) for name in ("kms_throttled", "s3_throttled", "retries")
    )
    says = f"{kms} by KMS, {s3} by S3, {retries} retries"
    curves = {
        "KMS": (_RED, _rate(pace, "kms_throttled")),
        "S3": (_ORANGE, _rate(pace, "s3_throttled")),
        "retries": (_GREY, _rate(pace, "retries")),
    }
    return _curves("Refusals and retries", says, "a second", pace, curves)


def _kms(pace: Sequence[Mapping[str, Any]]) -> Plot:
    """What KMS was asked, against the quota that was found out; what it refused; and when it was down."""
    at = [each["at"] for each in pace]
    granted = [(each["kms_requests"] - each["kms_throttled"]) / each["seconds"] for each in pace]
    quota = [each["kms_quota"] for each in pace]
    known = next((value for value in reversed(quota) if value is not None), None)
    waited = sum(each["kms_wait"] for each in pace)
    says = "no quota was met" if known is None else f"a quota of {known:,.0f}/s was found out"
    if waited:
        says += f"; GETs waited for KMS for {waited:,.0f} s"
    down = [each["at"] for each in pace if each["kms_down"]]
    if down:
        says += f"; KMS was down around {down[0]:,.0f} s"
    with rc_context(_STYLE):
        figure, axes = _figure("requests/s")
        axes.plot(at, granted, color=_BLUE, linewidth=1.2, label="granted")
        axes.plot(at, _rate(pace, "kms_throttled"), color=_RED, linewidth=1.2, label="refused")
        if known is not None:
            axes.step(
                at,
                [float("nan") if each is None else each for each in quota],
                color=_GREEN,
                linestyle="--",
                where="post",
                label="quota",
            )
        for begin, each in zip([0.0, *at], pace, strict=False):
            if each["kms_down"]:
                axes.axvspan(begin, each["at"], color=_ORANGE, alpha=0.25, linewidth=0)
        _legend(axes, 3)
        return _drawn("KMS", says, figure, axes, pace)


def _sizes(run: Run) -> Plot:
    classes = range(min(run.sizes), max(run.sizes) + 1)
    objects = sum(group.count for group in run.sizes.values())
    bytes_ = max(1, sum(group.bytes for group in run.sizes.values()))
    shares = {
        "of objects": (
            _BLUE,
            [100 * run.sizes[each].count / objects if each in run.sizes else 0.0 for each in classes],
        ),
        "of bytes": (_GREY, [100 * run.sizes[each].bytes / bytes_ if each in run.sizes else 0.0 for each in classes]),
    }
    with rc_context(_STYLE):
        figure, axes = _figure("%")
        for shift, (name, (colour, values)) in zip((-0.2, 0.2), shares.items(), strict=True):
            axes.bar([each + shift for each in classes], values, width=0.4, color=colour, label=name)
        axes.set_xticks([*classes][:: -(-len(classes) // 6)])
        axes.xaxis.set_major_formatter(lambda x, _: "0 B" if x < 1 else f"< {size(2 ** round(x))}".replace(".0", ""))
        axes.tick_params(axis="x", labelsize=7)
        _legend(axes, 2)
        return _drawn("Sizes", f"{count(objects)} objects of {size(bytes_)} in all", figure, axes)
