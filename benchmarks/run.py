"""Everyone side by side: `make bench`, or `python -m benchmarks.run --rows small,list --peers sealift,s5cmd`.

Peers take turns, in another order each round, each into a fresh destination; every file is compared with its source
afterwards, outside of the time that counts. A run that fails, or whose files differ, has no time.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.destinations import Destinations, destinations
from benchmarks.interpreter import interpreter
from benchmarks.origin import CACHE, DataSet, Origin, make_data
from benchmarks.peers import PEERS, Peer
from benchmarks.report import LISTING, OURS, chart, table
from benchmarks.rows import ROWS, Row, data_sets

RESULTS = Path(__file__).parent / "results"
LONGEST = 900
"""Seconds after which a run is given up."""

BEHIND = 1.25
"""Times the wall time of the row's fastest peer, which the ratio is to: who took longer in the first round is not run
again in that row."""

SMALL = 1024 * 1024
"""Bytes of a file that is compared in one go."""


@dataclass(frozen=True)
class Measured:
    """One run."""

    row: str
    peer: str
    wall: float
    cpu: float
    """User and system time of the whole process tree."""
    memory: int
    """The highest sum of the tree's proportional set sizes, in bytes, seen ten times a second."""
    gets: int
    connections: int
    error: str = ""
    python: str = ""
    """The interpreter that everybody had who needs one; older results do not tell."""


def measure(row: Row, peer: Peer, data: DataSet, origin: Origin, dest: Path) -> Measured | None:
    """Run a peer once."""
    command = peer.command(row, dest, origin)
    if command is None:
        return None
    before = origin.counts()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(CACHE / "home"),
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": origin.url(row.origin),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": str(origin.ca),
        "SSL_CERT_FILE": str(origin.ca),
    }
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=errors, stdin=subprocess.DEVNULL)
        peak: list[int] = [0]
        watching = threading.Thread(target=_watch, args=(process.pid, peak))
        watching.start()
        alarm = threading.Timer(LONGEST, process.kill)
        alarm.start()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        alarm.cancel()
        watching.join()
        errors.seek(0)
        said = errors.read()[-300:].decode(errors="replace")
    after = origin.counts()
    error = f"exit {process.returncode}: {said}" if process.returncode else ""
    if not error and row.rerun and after[0] > before[0] and peer.name != LISTING:  # whose plan looks at a hundred
        error = f"{after[0] - before[0]} objects were asked for, and none has changed"
    if not error and not row.listing:
        error = _differences(data, origin, dest if peer.files_below_prefix else dest / data.name)
    return Measured(
        row.name,
        peer.name,
        wall,
        used.ru_utime + used.ru_stime,
        peak[0],
        after[0] - before[0],
        after[2] - before[2],
        error,
        str(interpreter()),
    )


def _watch(pid: int, peak: list[int]) -> None:
    while True:
        total, tree = 0, [pid]
        try:
            for each in tree:
                for task in Path(f"/proc/{each}/task").iterdir():
                    tree += map(int, (task / "children").read_text().split())
                rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
                total += next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration, ProcessLookupError):
            if not Path(f"/proc/{pid}/smaps_rollup").exists() or not total:
                return
        peak[0] = max(peak[0], total)
        time.sleep(0.1)


def _differences(data: DataSet, origin: Origin, dest: Path) -> str:
    source = origin.root / "bucket" / data.name
    for number, size in enumerate(data.sizes):
        path = dest / f"{number:08d}"
        if not path.is_file() or path.stat().st_size != size:
            return f"{path} is missing, or not as long as it should be"
        if data.stored and not _same(path, source / path.name, size):
            return f"{path} differs from its source"
    return ""


def _same(one: Path, other: Path, size: int) -> bool:
    if size <= SMALL:
        return one.read_bytes() == other.read_bytes()
    return filecmp.cmp(one, other, shallow=False)


def main() -> int:
    """Measure, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: fewer objects, for a quick look")
    parser.add_argument(
        "--name", default=f"{datetime.now(UTC):%Y-%m-%d}", help="of the files in results/; other rows in them are kept"
    )
    asked = parser.parse_args()
    rows = [row for row in ROWS if row.name in asked.rows.split(",")]
    peers = [PEERS[name] for name in asked.peers.split(",")]
    (CACHE / "home").mkdir(parents=True, exist_ok=True)
    for peer in peers:
        peer.install()
    sets = {data.name: data for data in data_sets(asked.scale)}
    root = CACHE / f"data-{asked.scale:g}"
    make_data(root, [sets[row.data] for row in rows])
    measured, versions = measured_before(asked.name, asked.scale, {row.name for row in rows})
    versions |= {peer.name: peer.version() for peer in peers}
    with Origin(root, list(sets.values())) as origin:
        for row in rows:
            data = sets[row.data]
            read_all(root / "bucket" / data.name)
            with destinations(on_disk=row.on_disk) as places:
                measured += in_rounds(row, data, origin, peers, asked.rounds, places)
            write(asked.name, asked.rounds, asked.scale, versions, measured, sets)
    return 0


def in_rounds(
    row: Row, data: DataSet, origin: Origin, peers: Sequence[Peer], rounds: int, places: Destinations
) -> list[Measured]:
    """Let the peers take turns."""
    measured: list[Measured] = []
    behind: set[str] = set()
    with filled(row, data, origin, places) if row.rerun else nullcontext() as shared:
        for number in range(rounds):
            for peer in in_turn(peers, row, number):
                if peer.name in behind or (row.many and peer.slow):
                    continue
                with nullcontext(shared) if shared else places.fresh() as dest:
                    one = measure(row, peer, data, origin, dest / "d")
                if one is not None:
                    measured.append(one)
                    told = one.error or f"{one.wall:.2f} s, CPU {one.cpu:.2f} s, {one.memory / 1e6:.0f} MB"
                    sys.stdout.write(f"{row.name:14} {number + 1} {peer.name:18} {told}\n")
                    sys.stdout.flush()
            behind = behind or far_behind(measured)
    return measured


def read_all(directory: Path) -> None:
    """Let the origin find its files in the page cache from the first run on."""
    for path in directory.glob("*"):
        with path.open("rb", buffering=0) as file:
            while file.read(SMALL):
                pass


def in_turn(peers: Sequence[Peer], row: Row, number: int) -> list[Peer]:
    """Return the peers in the order of a round: by chance, but the same whenever that round is run.

    With one order for all rounds, who follows whom is a part of what is measured: a run took a fifth longer behind
    a peer of much memory than behind one like itself.
    """
    order = list(peers)
    random.Random(f"{row.name} {number}").shuffle(order)
    return order


def far_behind(runs: Iterable[Measured]) -> set[str]:
    """Return the peers of which one round says enough."""
    walls = {each.peer: each.wall for each in runs if not each.error and each.peer not in OURS}
    return {peer for peer, wall in walls.items() if wall > BEHIND * min(walls.values())}


def measured_before(name: str, scale: float, besides: set[str]) -> tuple[list[Measured], dict[str, str]]:
    """Return what results of that name have already: the runs, `besides` those of these rows, and whose version."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return [], {}
    document = json.loads(path.read_text())
    if document["about"]["scale"] != scale:
        raise SystemExit(f"{path} is of scale {document['about']['scale']:g}: give these another --name")
    runs = [Measured(**run) for run in document["runs"] if run["row"] not in besides]
    return runs, document["about"]["versions"]


@contextmanager
def filled(row: Row, data: DataSet, origin: Origin, places: Destinations) -> Iterator[Path]:
    """Yield a destination where everything is in place, and which Sealift has a ledger of."""
    with places.fresh() as shared:
        origin.fill(data, shared / "d")
        first = measure(row, PEERS["sealift (default)"], data, origin, shared / "d")
        if first is None or first.error:
            raise RuntimeError(f"the destination was not adopted: {first and first.error}")
        yield shared


def write(
    name: str, rounds: int, scale: float, versions: dict[str, str], measured: list[Measured], sets: dict[str, DataSet]
) -> None:
    """Write results/NAME.json, .md and .svg."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "rounds": rounds,
        "scale": scale,
        "versions": versions,
        "interpreters": list(dict.fromkeys(each.python for each in measured)),
    }
    document = {"about": about, "runs": [asdict(each) for each in measured]}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    medians = summed_up(measured, sets)
    (RESULTS / f"{name}.md").write_text(table(about, medians))
    (RESULTS / f"{name}.svg").write_text(chart(about, medians))


def summed_up(measured: list[Measured], sets: dict[str, DataSet]) -> list[dict[str, object]]:
    """Return one line a row and peer: the medians of its good runs."""
    lines: list[dict[str, object]] = []
    for row in ROWS:
        for peer in PEERS:
            runs = [each for each in measured if (each.row, each.peer) == (row.name, peer)]
            good = [each for each in runs if not each.error]
            if not runs:
                continue
            data = sets[row.data]
            line: dict[str, object] = {"row": row, "peer": peer, "runs": len(runs), "good": len(good)}
            if good:
                cpu = statistics.median(each.cpu for each in good)
                line |= {
                    "wall": statistics.median(each.wall for each in good),
                    "cpu": cpu,
                    "cpu_us_object": cpu / len(data.sizes) * 1e6,
                    "cpu_s_gib": cpu / (sum(data.sizes) / 1024**3),
                    "memory": max(each.memory for each in good),
                    "gets": good[0].gets,
                    "connections": good[0].connections,
                }
            lines.append(line)
    return lines


if __name__ == "__main__":
    sys.exit(main())
