"""What verification costs: `python -m benchmarks.verification.run`.

The same objects are mirrored from origins that tell their checksums by one algorithm each, from one that tells none,
and as if nothing were verified, with what takes sums and compares them taken out (`unverified`). Of the objects in
parts there are also COMPOSITE ones, as the AWS CLI uploads them, by 8 MiB. All take turns, each round beginning with
another one, in one process and without syncs, into memory. CPU is user and system time of a run without the
interpreter's start, all its threads included, and time is that of the same run; a figure is the least of many short
runs, as others may use this machine as well. The first run is not counted. Every file of the first round is compared
with its source. Rounds of one name, that is of one day where none is given, add up.
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
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import anyio
from benchmarks.destinations import destinations
from benchmarks.interpreter import own
from benchmarks.origin import CACHE, DataSet, Origin, make_data
from benchmarks.rows import KIB, MIB

import sealift
from sealift.checking import Checker
from sealift.checksum import Algorithm, Checked, Checksum, composite, cut, running_checksum
from sealift.model import ByteRange
from sealift.writing import Filling

RESULTS = Path(__file__).parent / "results"
ALGORITHMS = ("crc64nvme", "crc32c", "crc32", "sha1", "sha256")
OF_PARTS = " of parts"
COMPOSITE = tuple(f"{algorithm}{OF_PARTS}" for algorithm in ("crc32c", "crc32", "sha1", "sha256"))
PART = 8 * MIB
UNVERIFIED, NONE = "unverified", "none told"
LARGE = DataSet("v-large1", (1024 * MIB,))
WORK = (
    (DataSet("v-small20", (16 * KIB,) * 20_000), "20,000 × 16 KiB"),
    (DataSet("v-medium64", (8 * MIB,) * 64), "64 × 8 MiB, a GET each"),
    (LARGE, "1 GiB, in parts"),
)


Run = tuple[float, float]
"""Seconds of CPU, and of the clock."""
Measured = dict[str, dict[str, list[Run]]]
"""By the objects, and by what S3 tells of them."""


def sums(root: Path, kind: str) -> Path:
    """Write a table of the objects' checksums, and return where it is."""
    path, tables = root / f"{kind.replace(' ', '-')}.lua", []
    work = [LARGE] if kind in COMPOSITE else [data for data, _ in WORK]
    about = f"-- {[(data.name, len(data.sizes), data.sizes[0]) for data in work]}\n"
    if path.exists() and path.read_text().startswith(about):
        return path
    for data in work:
        for file in sorted((root / "bucket" / data.name).iterdir()):
            value = told(kind, memoryview(file.read_bytes()))
            tables.append(f'["/bucket/{data.name}/{file.name}"] = "{value}",\n')
    path.write_text(f"{about}return {{\n{''.join(tables)}}}\n")
    return path


def told(kind: str, body: memoryview) -> str:
    """Return what S3 tells of an object's checksum."""
    algorithm = Algorithm[kind.removesuffix(OF_PARTS).upper()]
    parts = cut(len(body), PART) if kind in COMPOSITE else [ByteRange(0, len(body))]
    values = []
    for part in parts:
        running = running_checksum(algorithm)
        running.update(body[part.start : part.stop])
        values.append(running.digest())
    if kind not in COMPOSITE:
        return binascii.b2a_base64(values[0], newline=False).decode()
    checksum = composite(algorithm, values)
    return f"{binascii.b2a_base64(checksum.value, newline=False).decode()}-{checksum.parts}"


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


def measure(data: DataSet, url: str, root: Path, *, verified: bool, compared: bool) -> Run:
    """Return the seconds of a run: of CPU, and of the clock."""
    settings = sealift.Settings(
        connection=sealift.ConnectionSettings(endpoint_url=url, region="us-east-1"),
        transfer=sealift.TransferSettings(processes=1),
        storage=sealift.StorageSettings(durability=sealift.Durability.NONE),
    )
    with destinations(on_disk=False) as places, places.fresh() as dest:
        gc.collect()
        with nullcontext() if verified else unverified():
            began, used = time.perf_counter(), time.process_time()
            summary = anyio.run(sealift.mirror, [f"s3://bucket/{data.name}/"], dest, settings, backend_options=LOOP)
            run = (time.process_time() - used, time.perf_counter() - began)
        if summary.downloaded != len(data.sizes):
            raise RuntimeError(summary)
        for path in (root / "bucket" / data.name).iterdir() if compared else ():
            if not filecmp.cmp(path, dest / path.name, shallow=False):
                raise RuntimeError(f"{path.name} differs from its source")
    return run


LOOP = {"use_uvloop": True}


def main() -> int:
    """Measure, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", default=",".join(data.name for data, _ in WORK))
    parser.add_argument("--name", default=f"{datetime.now(UTC):%Y-%m-%d}", help="of the files in results/")
    asked = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    root = CACHE / "data-verification"
    make_data(root, [data for data, _ in WORK])
    tables = {kind: sums(root, kind) for kind in (*ALGORITHMS, *COMPOSITE)}
    earlier = RESULTS / f"{asked.name}.json"
    measured: Measured = json.loads(earlier.read_text())["cpu_and_time"] if earlier.exists() else {}
    with Origin(root, [data for data, _ in WORK], tables) as origin:
        for data, title in WORK:
            if data.name not in asked.work.split(","):
                continue
            kinds = [UNVERIFIED, NONE, *ALGORITHMS, *(COMPOSITE if data is LARGE else ())]
            runs = measured.setdefault(data.name, {})
            measure(data, origin.url(kinds[-1]), root, verified=True, compared=False)
            for number in range(asked.rounds):
                turn = number % len(kinds)
                for kind in (*kinds[turn:], *kinds[:turn]):
                    verified = kind != UNVERIFIED
                    url = origin.url(kind if kind in tables else "http")
                    run = measure(data, url, root, verified=verified, compared=number == 0)
                    runs.setdefault(kind, []).append(run)
                measured[data.name] = runs = {kind: runs[kind] for kind in kinds}
                write(asked.name, measured)
            sys.stdout.write("\n".join(table(data, title, runs)) + "\n")
            sys.stdout.flush()
    return 0


def write(name: str, measured: Measured) -> None:
    """Write results/NAME.json and .md."""
    RESULTS.mkdir(exist_ok=True)
    about = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, {own()}"
    document = {"about": about, "cpu_and_time": measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [
        "# What verification costs",
        "",
        f"{about}. CPU and time of a run, without the interpreter's start: the least of the rounds, and",
        "the median of the CPU. Share: what verification takes of the CPU, by the least ones. How it is",
        "measured stands in `benchmarks/verification/run.py`.",
    ]
    for data, title in WORK:
        if data.name in measured:
            lines += table(data, title, measured[data.name])
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


def table(data: DataSet, title: str, runs: Mapping[str, list[Run]]) -> list[str]:
    """Return the lines of a table."""
    bare, gib = min(cpu for cpu, _ in runs[UNVERIFIED]), sum(data.sizes) / 1024**3
    lines = [
        "",
        f"## {title}, {len(runs[UNVERIFIED])} rounds",
        "",
        "| S3 tells | CPU s | median | more, µs an object | more, s a GiB | share | time s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    said = {UNVERIFIED: "(nothing is verified)", NONE: "no checksum: Sealift's own is recorded"}
    for kind, both in runs.items():
        cpus, times = zip(*both, strict=True)
        name = said.get(kind) or f"{kind.split()[0].upper()}{', COMPOSITE' if kind in COMPOSITE else ''}"
        more = min(cpus) - bare
        lines.append(
            f"| {name} | {min(cpus):.3f} | {statistics.median(cpus):.3f} | {more / len(data.sizes) * 1e6:.1f} | "
            f"{more / gib:.3f} | {more / min(cpus):.0%} | {min(times):.3f} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
