"""What it costs that files survive a power loss: `python -m benchmarks.durability.run`.

The modes take turns, A B C A B C, each into a fresh destination, whose file system is synced before the clock starts.
`none, then sync` counts the sync that has to follow before the files are on the disk as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.origin import CACHE, DataSet, Origin, make_data

RESULTS = Path(__file__).parent / "results"
MODES = ("none", "batch", "file", "none, then sync")
WORK = (
    DataSet("small20", (16 * 1024,) * 20_000),
    DataSet("medium100", (8 * 1024**2,) * 100),
)
TITLES = {"small20": "20,000 × 16 KiB", "medium100": "100 × 8 MiB"}


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


def measure(data: DataSet, place: str, directory: Path, mode: str, origin: Origin) -> Measured:
    """Mirror once."""
    dest = directory / "durability"
    shutil.rmtree(dest, ignore_errors=True)
    dest.mkdir(parents=True)
    os.sync()
    durability = mode.partition(",")[0]
    command = [sys.executable, "-m", "sealift", "mirror", f"s3://bucket/{data.name}/", str(dest), "-q"]
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
    shutil.rmtree(dest)
    return Measured(data.name, place, mode, wall, used.ru_utime + used.ru_stime)


def table(measured: list[Measured]) -> str:
    """Return the best of all rounds, and what that is as a share of the best without any sync."""
    by_case: defaultdict[tuple[str, str, str], list[Measured]] = defaultdict(list)
    for one in measured:
        by_case[one.work, one.place, one.mode].append(one)
    lines = [
        "| Work | to | `--durability` | wall, s | of `none` | CPU, s | of `none` |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (work, place, mode), runs in by_case.items():
        base = by_case[work, place, "none"]
        wall, cpu = (min(getattr(run, kind) for run in runs) for kind in ("wall", "cpu"))
        of_wall, of_cpu = (
            value / min(getattr(run, kind) for run in base) for value, kind in ((wall, "wall"), (cpu, "cpu"))
        )
        lines.append(f"| {TITLES[work]} | {place} | {mode} | {wall:.2f} | {of_wall:.0%} | {cpu:.2f} | {of_cpu:.0%} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", default=",".join(TITLES))
    parser.add_argument("--places", default="disk,memory")
    parser.add_argument("--name", default=f"{datetime.now(UTC):%Y-%m-%d}", help="of the files in results/")
    asked = parser.parse_args()
    work = [data for data in WORK if data.name in asked.work.split(",")]
    root = CACHE / "data"
    make_data(root, work)
    measured = []
    with Origin(root, work) as origin:
        for data in work:
            for place in asked.places.split(","):
                directory = CACHE / "dest" if place == "disk" else Path("/dev/shm/sealift-benchmark")
                for _ in range(asked.rounds):
                    for mode in MODES if place == "disk" else MODES[:3]:
                        measured.append(measure(data, place, directory, mode, origin))
                        sys.stdout.write(f"{measured[-1]}\n")
                        sys.stdout.flush()
    RESULTS.mkdir(exist_ok=True)
    about = {
        "rounds": asked.rounds,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    (RESULTS / f"{asked.name}.json").write_text(
        json.dumps({"about": about, "runs": [asdict(one) for one in measured]}, indent=1)
    )
    text = (
        f"# What durability costs\n\nThe best of {asked.rounds} rounds, on {about['cores']} cores, also the origin's; "
        f"disk: ext4. Modes took turns.\n\n{table(measured)}\n"
    )
    (RESULTS / f"{asked.name}.md").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
