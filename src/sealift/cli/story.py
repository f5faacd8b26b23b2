"""What is to be said of runs that were. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sealift.cli.quantities import count, duration, objects, rate, size
from sealift.report.runs import Run
from sealift.report.state import Part, State

Kind = Literal["good", "bad", "unknown"]


def kind(run: Run) -> Kind:
    """Return how a run went, in a word."""
    return "unknown" if run.how == "killed" else "bad" if run.status else "good"


def verdict(run: Run, *, under_way: bool = False) -> str:
    """Say how a run ended."""
    summary = run.summary
    if run.how == "killed":
        return "it is under way" if under_way else "its log breaks off: it was killed"
    if run.how == "error":
        return run.error
    left = ", ".join(
        f"{count(summary[name])} {what}"
        for name, what in (("failed", "failed"), ("pending", "not reached"))
        if summary.get(name)
    )
    if not summary.get("complete", True):
        left = ", ".join(filter(None, [left, "the listing did not reach its end"]))
    if run.how == "cancelled":
        return f"stopped by its deadline or a signal: {left or 'what was left is not known'}"
    return left or "everything is in place"


def facts(run: Run) -> list[tuple[str, str]]:
    """Return the numbers of a run."""
    summary = run.summary
    kms: dict[str, Any] = summary.get("kms", {})
    seconds = run.seconds
    return [
        ("listed", _number(summary, "listed")),
        ("downloaded", _number(summary, "downloaded")),
        ("new", count(run.new.count)),
        ("replaced", count(run.replaced.count)),
        ("verified", _number(summary, "verified")),
        ("up to date", _number(summary, "up_to_date")),
        ("failed", _number(summary, "failed")),
        ("not reached", _number(summary, "pending")),
        ("deleted", _number(summary, "deleted")),
        ("received", size(summary.get("bytes", 0))),
        ("took", duration(seconds)),
        ("throughput", rate(summary.get("bytes", 0) / seconds) if seconds else "–"),
        ("objects/s", f"{summary.get('downloaded', 0) / seconds:,.1f}" if seconds else "–"),
        ("GET requests", _number(summary, "get_requests")),
        ("KMS requests", _number(kms, "requests")),
        ("KMS refusals", _number(summary, "kms_throttled")),
        ("waited for KMS", duration(kms.get("wait_seconds", 0.0))),
        ("KMS quota", f"{kms['quota']:,.0f}/s" if kms.get("quota") else "not met"),
        ("S3 refusals", _number(summary, "s3_throttled")),
        ("retries", _number(summary, "retries")),
    ]


@dataclass(frozen=True, slots=True)
class Changed:
    """Failures held against the last run's."""

    fresh: int
    """Objects that failed now, and not then."""
    again: int
    gone: int
    """Objects that failed then, and not now."""


def changed(run: Run, before: Run) -> Changed:
    """Compare what failed."""
    now, then = run.failed_keys, before.failed_keys
    return Changed(len(now - then), len(now & then), len(then - now))


def unlogged(part: Part) -> str:
    """Say that the last run has left no log, of whose runs `part` tells."""
    of = f" of shard {part.shard}" if part.shard else ""
    if part.running:
        return f"the run{of} that is under way has no log in {part.directory} so far"
    which = f"the last run{of}" if part.began is None else f"the last run, of {_minute(part.began)},"
    return f"{which} has left no log in {part.directory}: it was deleted, or is where the --state of that run said"


def next_steps(state: State, last: Sequence[Run]) -> list[str]:
    """Say what the next run would do first; `last` are the last runs that have ended, one of each shard."""
    if state.running and not state.parts[0].shard:
        return ["a run is under way: the next one is refused until it has ended"]
    steps = [f"shard {part.shard} is under way" for part in state.parts if part.running]
    if state.missing:
        steps.append(f"run shards that have never run: {', '.join(state.missing)}")
    if state.unfinished.objects:
        there = f"{size(state.unfinished.bytes)} of {size(state.unfinished.size)}"
        steps.append(f"go on with {objects(state.unfinished.objects)} of which a part is there: {there}")
    failures = [(error, group) for run in last for error, group in run.failures.items()]
    for error, group in sorted(failures, key=lambda item: -item[1].count):
        example = group.examples[0]
        where = f"s3://{example['bucket']}/{example['key']}"
        steps.append(f"try {objects(group.count)} again that failed with {error}, as {where}")
    if pending := sum(run.summary.get("pending", 0) for run in last):
        steps.append(f"fetch {objects(pending)} that the last run did not reach")
    if not all(run.summary.get("complete", True) for run in last):
        steps.append("list what the last run did not come to list")
    return [*steps, *([] if steps else ["list, and fetch what has changed"])]


def history(runs: Mapping[Path, Run], under_way: AbstractSet[Path]) -> list[list[str]]:
    """Return a row for each run, by its log."""
    return [
        [
            " ".join(filter(None, [_minute(run.began), run.shard])),
            duration(run.seconds),
            "–" if run.how == "killed" else str(run.status),
            _number(run.summary, "downloaded"),
            _number(run.summary, "failed"),
            _number(run.summary, "pending"),
            _number(run.summary, "deleted"),
            size(run.summary.get("bytes", 0)),
            verdict(run, under_way=path in under_way),
        ]
        for path, run in runs.items()
    ]


HEADINGS = ("began", "took", "status", "downloaded", "failed", "not reached", "deleted", "received", "")


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _number(summary: dict[str, Any], name: str) -> str:
    return count(summary[name]) if name in summary else "–"
