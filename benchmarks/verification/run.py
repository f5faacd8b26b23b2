"""What verification costs: `python -m benchmarks.verification.run`.

The same objects are mirrored from origins that tell their checksums by one algorithm each, from one that tells none,
and as if nothing were verified, with what takes sums and compares them taken out (`unverified`). All take turns, in one
process and without syncs, into memory. CPU is user and system time of a run without the interpreter's start, all its
threads included; a figure is the least of many short runs, as others use this machine as well. Every file of the first
round is compared with its source.
"""

from __future__ import annotations

import argparse
import binascii
import filecmp
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import anyio
from benchmarks.origin import CACHE, DataSet, Origin, make_data
from benchmarks.rows import KIB, MIB
from benchmarks.run import MEMORY

import sealift
from sealift.checking import Checker
from sealift.checksum import Algorithm, Checked, Checksum, running_checksum
from sealift.writing import Filling

RESULTS = Path(__file__).parent / "results"
ALGORITHMS = ("crc64nvme", "crc32c", "crc32", "sha1", "sha256")
UNVERIFIED, NONE = "unverified", "none told"
WORK = (
    (DataSet("v-small", (16 * KIB,) * 3000), "3,000 × 16 KiB"),
    (DataSet("v-medium", (8 * MIB,) * 24), "24 × 8 MiB, a GET each"),
    (DataSet("v-large", (384 * MIB,)), "384 MiB, in parts"),
)


def sums(root: Path, algorithm: str) -> Path:
    """Write a table of the objects' checksums, and return where it is."""
    path = root / f"{algorithm}.lua"
    if not path.exists():
        lines = []
        for data, _ in WORK:
            for file in sorted((root / "bucket" / data.name).iterdir()):
                running = running_checksum(Algorithm[algorithm.upper()])
                running.update(file.read_bytes())
                value = binascii.b2a_base64(running.digest(), newline=False).decode()
                lines.append(f'["/bucket/{data.name}/{file.name}"] = "{value}",\n')
        path.write_text(f"return {{\n{''.join(lines)}}}\n")
    return path


@contextmanager
def unverified() -> Iterator[None]:
    """Take out what verifies. The header that asks for a checksum is still sent: a third of a microsecond."""

    async def check(*_: object, **__: object) -> Checked:
        return Checked("", verified=False)

    with (
        patch.object(Checksum, "told", lambda _: None),
        patch.object(Filling, "expect", lambda *_: None),
        patch.object(Filling, "check", lambda _: Checked("", verified=False)),
        patch.object(Checker, "check", check),
    ):
        yield


def measure(data: DataSet, url: str, root: Path, *, verified: bool, compared: bool) -> float:
    """Return the CPU seconds of a run."""
    settings = sealift.Settings(
        connection=sealift.ConnectionSettings(endpoint_url=url, region="us-east-1"),
        transfer=sealift.TransferSettings(processes=1),
        storage=sealift.StorageSettings(durability=sealift.Durability.NONE),
    )
    with tempfile.TemporaryDirectory(prefix="bench-", dir=MEMORY if MEMORY.is_dir() else CACHE) as home:
        dest = Path(home) / "d"
        gc.collect()
        with nullcontext() if verified else unverified():
            began = time.process_time()
            summary = anyio.run(sealift.mirror, [f"s3://bucket/{data.name}/"], dest, settings, backend_options=LOOP)
            cpu = time.process_time() - began
        if summary.downloaded != len(data.sizes):
            raise RuntimeError(summary)
        for path in (root / "bucket" / data.name).iterdir() if compared else ():
            if not filecmp.cmp(path, dest / path.name, shallow=False):
                raise RuntimeError(f"{path.name} differs from its source")
    return cpu


LOOP = {"use_uvloop": True}


def main() -> int:
    """Measure, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--work", default=",".join(data.name for data, _ in WORK))
    parser.add_argument("--name", default=f"{datetime.now(UTC):%Y-%m-%d}", help="of the files in results/")
    asked = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    root = CACHE / "data-verification"
    make_data(root, [data for data, _ in WORK])
    tables = {algorithm: sums(root, algorithm) for algorithm in ALGORITHMS}
    kinds = {UNVERIFIED: "http", NONE: "http"} | {each: each for each in ALGORITHMS}
    earlier = RESULTS / f"{asked.name}.json"  # further rounds add to it
    measured: dict[str, dict[str, list[float]]] = (
        json.loads(earlier.read_text())["cpu_seconds"] if earlier.exists() else {}
    )
    with Origin(root, [data for data, _ in WORK], tables) as origin:
        for data, title in WORK:
            if data.name not in asked.work.split(","):
                continue
            runs = measured.setdefault(data.name, {kind: [] for kind in kinds})
            for number in range(asked.rounds):
                for kind, where in kinds.items():
                    verified = kind != UNVERIFIED
                    runs[kind].append(measure(data, origin.url(where), root, verified=verified, compared=number == 0))
            sys.stdout.write("\n".join(table(data, title, runs)) + "\n")
            sys.stdout.flush()
            write(asked.name, measured)
    return 0


def write(name: str, measured: Mapping[str, Mapping[str, list[float]]]) -> None:
    """Write results/NAME.json and .md."""
    RESULTS.mkdir(exist_ok=True)
    about = (
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    )
    document = {"about": about, "cpu_seconds": measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [
        "# What verification costs",
        "",
        f"{about}. CPU of a run, without the interpreter's start: the least of the rounds, and their median.",
        "Share: what verification takes of it, by the least ones. How it is measured stands in",
        "`benchmarks/verification/run.py`.",
    ]
    for data, title in WORK:
        if data.name in measured:
            lines += table(data, title, measured[data.name])
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


def table(data: DataSet, title: str, runs: Mapping[str, list[float]]) -> list[str]:
    """Return the lines of a table."""
    bare, gib = min(runs[UNVERIFIED]), sum(data.sizes) / 1024**3
    lines = [
        "",
        f"## {title}, {len(runs[UNVERIFIED])} rounds",
        "",
        "| S3 tells | CPU s | median | more, µs an object | more, s a GiB | share |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    said = {UNVERIFIED: "(nothing is verified)", NONE: "no checksum: Sealift's own is recorded"}
    for kind, cpus in runs.items():
        more = min(cpus) - bare
        lines.append(
            f"| {said.get(kind, kind.upper())} | {min(cpus):.3f} | {statistics.median(cpus):.3f} | "
            f"{more / len(data.sizes) * 1e6:.1f} | {more / gib:.3f} | {more / min(cpus):.0%} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
