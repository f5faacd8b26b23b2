"""The verbs that tell of runs that were: status and report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from sealift.cli.arguments import Command
from sealift.cli.console import Console
from sealift.cli.layers import Display
from sealift.cli.quantities import count, size
from sealift.cli.status import FAILED, IN_PLACE
from sealift.cli.story import HEADINGS, history, next_steps, unlogged, verdict
from sealift.config import Settings
from sealift.errors import ConfigError, LocalStorageError
from sealift.report.runs import Run, glance, logs, read_run
from sealift.report.state import State, look

SHOWN = 10
"""Runs that `status` tells of."""

EXTRA = "sealift report needs the extra: pip install 'sealift[report]'"


def status(command: Command, settings: Settings, display: Display, console: Console) -> int:
    """Say how the last runs into a destination ended, and return the exit status of the last one that has.

    Raises ConfigError, LocalStorageError.
    """
    dest = Path(command.words[0])
    state = look(dest, settings.storage.state)
    runs = {path: glance(path) for path in reversed(state.logs[-SHOWN:])}
    under_way = {part.under_way for part in state.parts if part.under_way is not None}
    ended = [path for part in state.parts for path in [path for path in part.logs if path not in under_way][-1:]]
    last = [read_run(path) for path in ended]
    if display.json:
        console.out(json.dumps(_as_dict(dest, state, runs, under_way, last), ensure_ascii=True))
    else:
        columns = shutil.get_terminal_size().columns if console.on_terminal else None
        for line in _lines(dest, state, runs, under_way, last, columns):
            console.out(line)
    unknown = state.missing or any(part.unlogged and not part.running for part in state.parts)
    return max([run.status for run in last] + [FAILED if unknown else IN_PLACE])


def report(command: Command, settings: Settings, console: Console) -> int:
    """Write the report on a run, or on the last run into a destination. Raises ConfigError, LocalStorageError."""
    try:
        from sealift.cli.page import page
    except ImportError as error:
        raise ConfigError(EXTRA) from error
    path, before, under_way = _asked_for(Path(command.words[0]), settings.storage.state, console)
    output = Path(str(command.layer.values.get("output", "report.html")))
    text = page(read_run(path), None if before is None else read_run(before), under_way=under_way)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LocalStorageError(f"{output} cannot be written: {error.strerror}") from error
    console.out(f"{output}")
    return IN_PLACE


def _asked_for(run: Path, state: Path | None, console: Console) -> tuple[Path, Path | None, bool]:
    """Return the log of a run, that of the one before, and whether the run is under way."""
    if run.is_dir():
        found = look(run, state)
        without = [unlogged(part) for part in found.parts if part.unlogged]
        if not found.logs:
            raise ConfigError("; ".join(without))
        for said in without:
            console.err(f"warning: {said}; this report is on the last one that has", "warning")
        run = found.logs[-1]
        under_way = any(part.under_way == run for part in found.parts)
    else:
        under_way = False
    if not run.is_file():
        raise ConfigError(f"{run} is neither a destination nor the log of a run: DEST/.sealift/runs has them")
    earlier = [path for path in logs(run.parent) if path.name < run.name]
    return run, earlier[-1] if earlier else None, under_way


def _lines(
    dest: Path,
    state: State,
    runs: Mapping[Path, Run],
    under_way: AbstractSet[Path],
    last: Sequence[Run],
    columns: int | None,
) -> list[str]:
    lines = []
    without = [unlogged(part) for part in state.parts if part.unlogged]
    if state.files is not None:
        lines += [f"{dest}: {count(state.files)} files that are known, {size(state.bytes)}", ""]
    if runs:
        lines += table([list(HEADINGS), *history(runs, under_way)], columns)
    if runs and without:
        lines.append("")
    return [*lines, *without, "", "next:", *(f"  {step}" for step in next_steps(state, last))]


def table(rows: Sequence[Sequence[str]], columns: int | None = None) -> list[str]:
    """Return a line a row: a time, numbers, and words, which have a line of their own where `columns` are too few."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = []
    for began, *numbers, words in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
        aligned.append(([began.ljust(widths[0]), *cells], words))
    wide = ["  ".join([*cells, words]).rstrip() for cells, words in aligned]
    if columns is None or max(map(len, wide)) <= columns:
        return wide
    return [line for cells, words in aligned for line in (" ".join(cells), *([f"  {words}"] if words else []))]


def _as_dict(
    dest: Path, state: State, runs: Mapping[Path, Run], under_way: AbstractSet[Path], last: Sequence[Run]
) -> dict[str, object]:
    return {
        "dest": str(dest.absolute()),
        "running": state.running,
        "files": state.files,
        "bytes": state.bytes,
        "unfinished": {
            "objects": state.unfinished.objects,
            "bytes": state.unfinished.bytes,
            "size": state.unfinished.size,
        },
        "shards": [part.shard for part in state.parts if part.shard],
        "missing_shards": list(state.missing),
        "unlogged": [
            {"shard": part.shard, "began": None if part.began is None else part.began.isoformat()}
            for part in state.parts
            if part.unlogged
        ],
        "runs": [
            {
                "log": str(path),
                "shard": run.shard,
                "began": run.began.isoformat(),
                "how": "running" if path in under_way else run.how,
                "status": None if run.how == "killed" else run.status,
                "said": verdict(run, under_way=path in under_way),
                "summary": run.summary,
            }
            for path, run in runs.items()
        ],
        "next": next_steps(state, last),
    }
