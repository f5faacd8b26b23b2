"""The report: one HTML page that needs nothing else, no script and no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from sealift.cli.plots import plots
from sealift.cli.printable import printable
from sealift.cli.quantities import count, duration, objects, size
from sealift.cli.story import changed, facts, kind, verdict
from sealift.report.runs import EXAMPLES, Run


def page(run: Run, before: Run | None, *, under_way: bool = False) -> str:
    """Return the report on a run, held against the one before."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "count": count,
        "size": size,
        "duration": duration,
        "objects": objects,
        "s3": _s3,
        "line": _line,
    }
    template = environment.from_string((files("sealift.cli") / "report.html").read_text(encoding="utf-8"))
    earlier = dict(facts(before)) if before else {}
    return template.render(
        run=run,
        before=before,
        kind=kind(run),
        verdict=verdict(run, under_way=under_way),
        facts=[(name, value, earlier.get(name, "")) for name, value in facts(run)],
        changed=None if before is None else changed(run, before),
        failures=sorted(run.failures.items(), key=lambda item: -item[1].count),
        plots=[(plot, base64.b64encode(plot.svg).decode("ascii")) for plot in plots(run)],
        examples=EXAMPLES,
    )


def _s3(line: Mapping[str, Any]) -> str:
    return _line(f"s3://{line['bucket']}/{line['key']}")


def _line(text: str) -> str:
    """Return text of which nothing is taken for something else; bytes that are no UTF-8 are escaped."""
    return printable(text).encode("utf-8", "backslashreplace").decode("utf-8")
