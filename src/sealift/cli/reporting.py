"""The verbs that tell of runs that were: status and report."""

from __future__ import annotations

import json
from pathlib import Path

from sealift.cli.arguments import Command
from sealift.cli.console import Console
from sealift.cli.layers import Display
from sealift.cli.quantities import count, size
from sealift.cli.status import FAILED, IN_PLACE
from sealift.cli.story import HEADINGS, history, next_steps, verdict
from sealift.config import Settings
from sealift.errors import ConfigError, LocalStorageError
from sealift.report.runs import Run, logs, read_run
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
    runs = [read_run(path) for path in reversed(state.logs[-SHOWN:])]
    ended = next((run for run in runs if not (state.running and run is runs[0])), None)
    if display.json:
        console.out(json.dumps(_as_dict(dest, state, runs, ended), ensure_ascii=True))
    else:
        for line in _lines(dest, state, runs, ended):
            console.out(line)
    return IN_PLACE if ended is None and state.running else FAILED if ended is None else ended.status


def report(command: Command, settings: Settings, console: Console) -> int:
    """Write the report on a run, or on the last run into a destination. Raises ConfigError, LocalStorageError."""
    try:
        from sealift.cli.page import page
    except ImportError as error:
        raise ConfigError(EXTRA) from error
    path, before, under_way = _asked_for(Path(command.words[0]), settings.storage.state)
    output = Path(str(command.layer.values.get("output", "report.html")))
    text = page(read_run(path), None if before is None else read_run(before), under_way=under_way)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LocalStorageError(f"{output} cannot be written: {error.strerror}") from error
    console.out(f"{output}")
    return IN_PLACE


def _asked_for(run: Path, state: Path | None) -> tuple[Path, Path | None, bool]:
    """Return the log of a run, that of the one before, and whether the run is under way."""
    if run.is_dir():
        found = look(run, state)
        if not found.logs:
            raise ConfigError(f"there is no log in {found.directory}")
        earlier = found.logs[-2] if len(found.logs) > 1 else None
        return found.logs[-1], earlier, found.running
    if not run.is_file():
        raise ConfigError(f"{run} is neither a destination nor the log of a run: DEST/.sealift/runs has them")
    earlier_ones = [path for path in logs(run.parent) if path.name < run.name]
    return run, earlier_ones[-1] if earlier_ones else None, False


def _lines(dest: Path, state: State, runs: list[Run], ended: Run | None) -> list[str]:
    lines = []
    if state.files is not None:
        lines += [f"{dest}: {count(state.files)} files that are known, {size(state.bytes)}", ""]
    rows = [list(HEADINGS), *history(runs, running=state.running)] if runs else []
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))] if rows else []
    for row in rows:
        *numbers, words = (
            cell if column in (0, 8) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([numbers[0].ljust(widths[0]), *numbers[1:], words]).rstrip())
    if not runs:
        lines.append("no run has left a log")
    return [*lines, "", "next:", *(f"  {step}" for step in next_steps(state, ended))]


def _as_dict(dest: Path, state: State, runs: list[Run], ended: Run | None) -> dict[str, object]:
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
        "runs": [
            {
                "log": str(state.directory / f"{run.name}.jsonl"),
                "began": run.began.isoformat(),
                "how": "running" if state.running and run is runs[0] else run.how,
                "status": None if run.how == "killed" else run.status,
                "said": verdict(run, under_way=state.running and run is runs[0]),
                "summary": run.summary,
            }
            for run in runs
        ],
        "next": next_steps(state, ended),
    }
