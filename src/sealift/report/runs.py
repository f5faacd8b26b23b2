"""A run, as its log tells it (`sealift.runlog`). However long the log is, what is kept of it is bounded."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sealift.errors import ConfigError
from sealift.runlog import ENDING, began
from sealift.sharding import named

EXAMPLES = 20
"""Keys that are named of each kind of thing."""

SLOWEST = 20

REMEMBERED = 100_000
"""Failed keys that are held against the last run's: 20 MB."""


_SUMMED = (
    "seconds",
    "bytes",
    "objects",
    "get_requests",
    "retries",
    "kms_requests",
    "kms_throttled",
    "s3_throttled",
    "kms_wait",
)
"""What of a second's line adds up."""

SECONDS = 10_000
"""Lines of pace that are kept at the least, 15 MB: what is more is put together by twos."""

TAIL = 64 * 1024
"""Bytes at the end of a log among which its last line is: that has 2 KB."""


@dataclass(slots=True)
class Group:
    """Objects of which the same is to be said."""

    count: int = 0
    bytes: int = 0
    examples: list[Mapping[str, Any]] = field(default_factory=list)
    """The first of their lines."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Take one in."""
        self.count += 1
        self.bytes += line.get("size", 0)
        if len(self.examples) < EXAMPLES:
            self.examples.append(line)


@dataclass(slots=True)
class Run:
    """One run."""

    name: str
    """Of its log, without the ending."""
    began: datetime
    shard: str = ""
    """`3/8`, where it was one."""
    sources: tuple[str, ...] = ()
    dest: str = ""
    how: str = "killed"
    """`ended`, `error` or `cancelled`; `killed` where the log breaks off, which it also does while the run goes on."""
    status: int = 1
    """The exit status, 1 where the log does not say it."""
    error: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    """The fields of `--json`, as far as they are known; of a log that breaks off, what its lines add up to."""
    new: Group = field(default_factory=Group)
    replaced: Group = field(default_factory=Group)
    deleted: Group = field(default_factory=Group)
    skipped: Group = field(default_factory=Group)
    failures: dict[str, Group] = field(default_factory=dict)
    """By the error's name."""
    failed_keys: set[tuple[str, str]] = field(default_factory=set)
    notes: Group = field(default_factory=Group)
    """Warnings."""
    pace: list[Mapping[str, Any]] = field(default_factory=list)
    sizes: dict[int, Group] = field(default_factory=dict)
    """What was downloaded, by the number of bits of its size."""
    slowest: list[Mapping[str, Any]] = field(default_factory=list)
    """The slowest first."""

    @property
    def seconds(self) -> float:
        """How long it took, as far as is known."""
        last = self.pace[-1]["at"] if self.pace else 0.0
        return float(self.summary.get("seconds", last))


def logs(directory: Path, pattern: str = f"*{ENDING}") -> list[Path]:
    """Return the logs in a directory of runs, the oldest first."""
    return sorted(path for path in directory.glob(pattern) if path.is_file())


def shard_of_log(path: Path) -> str:
    """Return the shard whose log lies at `path`, as `3/8`; nothing where it is that of a run without shards."""
    shard = named(path.parent.parent.name)
    return "" if shard is None else str(shard)


def read_run(path: Path) -> Run:
    """Read a log. Raises ConfigError where there is none."""
    run = Run(path.stem, began(path.stem), shard_of_log(path))
    slowest: list[tuple[float, int, Mapping[str, Any]]] = []
    try:
        for number, line in enumerate(_lines(path)):
            _take(run, line)
            if seconds := line.get("seconds") if line["event"] == "downloaded" else None:
                keep = heapq.heappushpop if len(slowest) >= SLOWEST else heapq.heappush
                keep(slowest, (seconds, -number, line))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    run.slowest = [line for _, _, line in sorted(slowest, key=lambda each: each[:2], reverse=True)]
    if not run.summary:
        run.summary = _added_up(run)
    return run


def glance(path: Path) -> Run:
    """Read the beginning and the end of a log, which tell all but what became of single objects, and of each second.

    One that breaks off is read as a whole. Raises ConfigError.
    """
    try:
        with path.open("rb") as file:
            first = file.readline()
            file.seek(max(len(first), path.stat().st_size - TAIL))
            last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
        begin, end = json.loads(first), json.loads(last)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError:
        return read_run(path)
    if begin.get("event") != "began" or end.get("event") != "finished":
        return read_run(path)
    run = Run(path.stem, began(path.stem), shard_of_log(path))
    _take(run, begin)
    _take(run, end)
    return run


def thinned(pace: Sequence[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """Put stretches together so that at the most so many are left: what they counted is added up."""
    together = -(-len(pace) // most)
    rest = iter(pace)
    stretches = []
    while stretch := list(islice(rest, together)):
        joined = {**stretch[-1], **{name: sum(each[name] for each in stretch) for name in _SUMMED}}
        joined["kms_down"] = any(each["kms_down"] for each in stretch)
        stretches.append(joined)
    return [each for each in stretches if each["seconds"] > 0]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log. One that is torn, as the run was killed or the disk was full, is the last."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                return
            if not isinstance(line, dict) or "event" not in line:
                return
            yield line


def _take(run: Run, line: dict[str, Any]) -> None:
    match line["event"]:
        case "began":
            run.began = datetime.fromisoformat(line["at"])
            run.sources, run.dest = tuple(line["sources"]), line["dest"]
        case "downloaded":
            (run.replaced if line.get("replaced") else run.new).add(line)
            run.sizes.setdefault(int(line["size"]).bit_length(), Group()).add(line)
        case "deleted":
            run.deleted.add(line)
        case "skipped":
            run.skipped.add(line)
        case "failed":
            run.failures.setdefault(line["error"], Group()).add(line)
            if len(run.failed_keys) < REMEMBERED:
                run.failed_keys.add((line["bucket"], line["key"]))
        case "warning":
            run.notes.add(line)
        case "pace":
            run.pace.append(line)
            if len(run.pace) > 2 * SECONDS:
                run.pace[:] = thinned(run.pace, SECONDS)
        case "finished":
            run.how, run.status, run.error = line.get("how", "ended"), line.get("status", 0), line.get("error", "")
            run.summary = line["summary"]


def _added_up(run: Run) -> dict[str, Any]:
    """Return what a log that breaks off tells of the summary."""
    return {
        "downloaded": run.new.count + run.replaced.count,
        "skipped": run.skipped.count,
        "failed": sum(group.count for group in run.failures.values()),
        "deleted": run.deleted.count,
        "complete": False,
        **{
            name: sum(each[name] for each in run.pace)
            for name in ("bytes", "get_requests", "kms_throttled", "s3_throttled", "retries")
        },
    }
