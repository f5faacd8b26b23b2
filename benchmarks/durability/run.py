"""What it costs that files survive a power loss: `python -m benchmarks.durability.run`.

The modes take turns, A B C, B C A, each into a fresh destination, whose file system is synced before the clock starts.
`none, then sync` counts the sync that has to follow before the files are on the disk as well. Time is that of the whole
process, interpreter and all. The best of the rounds tells what durability costs, the median whether the machine was
quiet enough to believe it. A first run is not counted; every file of the first round is compared with its source.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.destinations import destinations
from benchmarks.interpreter import interpreter
from benchmarks.origin import CACHE, DataSet, Origin, make_data
from benchmarks.peers import PEERS, SEALIFT

RESULTS = Path(__file__).parent / "results"
MODES = ("none", "batch", "file", "none, then sync")
WORK = (
    DataSet("small20", (16 * 1024,) * 20_000),
    DataSet("medium100", (8 * 1024**2,) * 100),
    DataSet("large2", (512 * 1024**2,) * 2),
)
TITLES = {"small20": "20,000 × 16 KiB", "medium100": "100 × 8 MiB", "large2": "2 × 512 MiB, in parts"}


@dataclass(frozen=True)
class Measured:
    """One run."""

    work: str
    place: str
    mode: str
    wall: float
    """Seconds, interpreter and all."""
    cpu: float
    """Seconds, user and system, of all processes."""


def measure(data: DataSet, place: str, mode: str, origin: Origin, dest: Path, *, compared: bool) -> Measured:
    """Mirror once."""
    durability = mode.partition(",")[0]
    command = [str(SEALIFT), "mirror", f"s3://bucket/{data.name}/", str(dest), "-q"]
    env = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": origin.url("http"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    began = time.monotonic()
    process = subprocess.Popen([*command, "--durability", durability], env=env)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}")
    if durability != mode:
        subprocess.run(["sync", "-f", str(dest)], check=True)
    wall = time.monotonic() - began
    files = sum(path.is_file() for path in dest.iterdir())
    if files != len(data.sizes):
        raise RuntimeError(f"{files} of {len(data.sizes)} files")
    for path in (origin.root / "bucket" / data.name).iterdir() if compared else ():
        if not filecmp.cmp(path, dest / path.name, shallow=False):
            raise RuntimeError(f"{path.name} differs from its source")
    return Measured(data.name, place, mode, wall, used.ru_utime + used.ru_stime)


def turns(modes: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield the number of the round and the mode of each run, the first of which, of round -1, is not to count."""
    yield -1, modes[0]
    for number in range(rounds):
        turn = number % len(modes)
        yield from ((number, mode) for mode in (*modes[turn:], *modes[:turn]))


def table(measured: list[Measured]) -> str:
    """Return the best and the median of all rounds, and what these are as a share of those without any sync."""
    by_case: defaultdict[tuple[str, str, str], list[Measured]] = defaultdict(list)
    for one in measured:
        by_case[one.work, one.place, one.mode].append(one)
    lines = [
        "| Work | to | `--durability` | rounds | wall, s | of `none` | median | of `none` | CPU, s | of `none` |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for work, place, mode in sorted(by_case, key=_in_order):
        runs, base = by_case[work, place, mode], by_case[work, place, "none"] or by_case[work, place, mode]
        cells = [TITLES[work], place, mode, str(len(runs))]
        for kind, best in (("wall", min), ("wall", statistics.median), ("cpu", min)):
            value, bare = (best(getattr(run, kind) for run in some) for some in (runs, base))
            cells += [f"{value:.2f}", f"{value / bare:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _in_order(case: tuple[str, str, str]) -> tuple[int, bool, int]:
    work, place, mode = case
    return list(TITLES).index(work), place != "disk", MODES.index(mode)


def write(name: str, measured: list[Measured]) -> str:
    """Write results/NAME.json and .md, and return the text of the latter."""
    RESULTS.mkdir(exist_ok=True)
    about = {"cores": os.cpu_count(), "kernel": platform.release(), "python": str(interpreter())}
    kind = subprocess.run(["df", "--output=fstype", str(CACHE)], capture_output=True, text=True, check=True)
    about["disk"] = kind.stdout.split()[-1]
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"about": about, "runs": [asdict(one) for one in measured]}, indent=1) + "\n"
    )
    text = (
        f"# What durability costs\n\nOn {about['cores']} cores, also the origin's; Linux {about['kernel']}, "
        f"{about['python']}; disk: {about['disk']}. The best of the rounds, and their median.\nHow it is measured "
        f"stands in `benchmarks/durability/run.py`.\n\n{table(measured)}\n"
    )
    (RESULTS / f"{name}.md").write_text(text)
    return text


def main() -> int:
    """Measure, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--work", default=",".join(TITLES))
    parser.add_argument("--places", default="disk,memory")
    parser.add_argument("--name", default=f"{datetime.now(UTC):%Y-%m-%d}", help="of the files in results/")
    asked = parser.parse_args()
    work = [data for data in WORK if data.name in asked.work.split(",")]
    root = CACHE / "data-durability"
    make_data(root, work)
    PEERS["sealift"].install()
    measured: list[Measured] = []
    text = ""
    with Origin(root, work) as origin:
        for data in work:
            for place in asked.places.split(","):
                modes = MODES if place == "disk" else MODES[:3]
                with destinations(on_disk=place == "disk") as places:
                    for number, mode in turns(modes, asked.rounds):
                        with places.fresh() as dest:
                            one = measure(data, place, mode, origin, dest, compared=number == 0)
                        if number < 0:
                            continue
                        measured.append(one)
                        sys.stdout.write(f"{one}\n")
                        sys.stdout.flush()
                        text = write(asked.name, measured)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
