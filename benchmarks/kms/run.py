"""Everyone under one KMS quota: `make bench-kms`, or `python -m benchmarks.kms.run --rows 300,20 --peers sealift`.

Each run has an origin of its own, whose log tells what happened; every file is compared with its source afterwards.
Results are added to those in results/NAME.json, so that rows and peers can be measured one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.interpreter import interpreter
from benchmarks.kms.content import PREFIX, contents
from benchmarks.kms.figures import Figures, figures
from benchmarks.kms.origin import REFUSED, TENANT, Call, Origin
from benchmarks.kms.peers import PEERS, Peer
from benchmarks.kms.report import chart, table
from benchmarks.kms.rows import ROWS, Row
from benchmarks.origin import CACHE

RESULTS = Path(__file__).parent / "results"
MEMORY = Path("/dev/shm")
LONGEST = 180.0
"""Seconds after which a run is stopped."""
SETTLED = 5.0
"""Seconds that a row of several runs leaves out."""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    wall: float
    cpu: float
    status: int
    stopped: bool
    said: str


class Running:
    """One run of a peer, in a process group of its own."""

    def __init__(self, peer: Peer, row: Row, origin: Origin, dest: Path, name: str) -> None:
        dest.mkdir()
        command = peer.command(origin.url, dest)
        if peer.home == "sealift":
            command += row.options
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(CACHE / "home"),
            "AWS_ACCESS_KEY_ID": origin.access_key or name,
            "AWS_SECRET_ACCESS_KEY": origin.secret_key or "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": origin.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            **peer.environment,
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `wait`)
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )

    def interrupt(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def wait(self, longest: float, number: signal.Signals = signal.SIGKILL) -> Ended:
        """Wait for the end. After `longest` seconds it gets a signal."""
        stopped, until = False, self._began + longest
        while True:
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            now = time.monotonic()
            if pid:
                break
            if now > until:
                self.interrupt(signal.SIGKILL if stopped else number)
                stopped, until = True, now + 20
            time.sleep(0.005)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._errors.seek(0)
        said = " ".join(self._errors.read().decode(errors="replace").split())[-200:]
        self._errors.close()
        return Ended(now - self._began, used.ru_utime + used.ru_stime, self._process.returncode, stopped, said)


def measure(row: Row, peer: Peer) -> dict[str, Any]:
    """Let a peer do a row's work, and return what came of it."""
    base = MEMORY if MEMORY.is_dir() else CACHE
    here = Path(tempfile.mkdtemp(prefix="bench-kms-", dir=base))
    names = [f"run{number}" for number in range(row.runs)]
    try:
        with Origin(row.orders, here, sealed=row.sealed) as origin:
            running = [Running(peer, row, origin, here / name, name) for name in names]
            if row.seconds:
                ended = [each.wait(row.seconds, signal.SIGINT) for each in running]
            else:
                ended = [each.wait(LONGEST) for each in running]
            over = time.monotonic()
        log = origin.log
        whole = contents(row.orders.kinds)
        complete = [sum(each.is_in(_file(here / name, each.key)) for each in whole) for name in names]
    finally:
        shutil.rmtree(here, ignore_errors=True)
    if row.runs > 1:
        return {"row": row.name, "peer": peer.name, "shared": shared(log, names, row.seconds), "errors": _errors(ended)}
    [end], [good] = ended, complete
    found = figures(log, row.orders.delay)
    seconds = over - log[0].at if row.from_first_get and log else end.wall
    result = {
        "row": row.name,
        "peer": peer.name,
        "wall": round(end.wall, 3),
        "seconds": round(seconds, 3),
        "cpu": round(end.cpu, 2),
        "status": end.status,
        "stopped": end.stopped,
        "said": end.said if end.status else "",
        "objects": len(whole),
        "complete": good,
        "figures": asdict(found),
    }
    if row.ideal:
        result |= {"ideal": round(row.ideal, 3), "ratio": round(seconds / row.ideal, 3)}
    return result


def _file(dest: Path, key: str) -> Path:
    return dest / key.removeprefix(PREFIX)


def _errors(ended: list[Ended]) -> list[str]:
    return [end.said for end in ended if end.status and not end.stopped]


def shared(log: list[Call], names: list[str], seconds: float) -> dict[str, Any]:
    """Return what each had of a quota that several share, without the time in which they settle."""
    began = log[0].at
    parts: dict[str, Figures] = {}
    per_second: dict[str, list[tuple[int, int]]] = {}
    for name in [*names, TENANT]:
        calls = [call for call in log if call.client == name and call.at < began + seconds]
        settled = figures([call for call in calls if call.at >= began + SETTLED])
        parts[name] = replace(settled, seconds=[])
        # From the first call of anybody, so that they can be drawn one above the other.
        counted = [[0, 0] for _ in range(int(seconds) + 1)]
        for call in calls:
            counted[int(call.at - began)][call.verdict == REFUSED] += 1
        per_second[name] = [(granted, refused) for granted, refused in counted]
    granted = [parts[name].charged - parts[name].refused for name in names]
    return {
        "figures": {name: asdict(part) for name, part in parts.items()},
        "seconds": per_second,
        "tenant_refused": parts[TENANT].refused / max(1, parts[TENANT].charged),
        "granted_a_second": [count / (seconds - SETTLED) for count in granted],
        "less_by_more": min(granted) / max(1, *granted),
    }


def told(result: dict[str, Any]) -> str:
    """Return the line that says how a run went."""
    if shares := result.get("shared"):
        rates = " and ".join(f"{rate:.1f}/s" for rate in shares["granted_a_second"])
        return f"{rates}, the other is refused {shares['tenant_refused']:.2%}"
    found = result["figures"]
    late = (found["refused"] - found["in_flight"]) / max(1, found["gets"])
    return (
        f"{result['seconds']:.2f} s"
        + (f" ({result['ratio']:.3f})" if "ratio" in result else "")
        + f", {result['complete']:,} of {result['objects']:,}, {found['gets']:,} GETs, {found['refused']:,} refused "
        f"({found['in_flight']:,} in flight; {late:.2%}), at most {found['most']:,}/s, CPU {result['cpu']:.2f} s"
        + (f", free by {found['free_by']:.1f} s" if found["free_by"] is not None else "")
        + (f" -- exit {result['status']}: {result['said'][-100:]}" if result["status"] else "")
    )


def main() -> int:
    """Measure, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--name", default=f"{datetime.now(UTC):%Y-%m-%d}", help="of the files with the results")
    parser.add_argument("--into", type=Path, default=RESULTS, help="their directory")
    asked = parser.parse_args()
    rows = [row for row in ROWS if row.name in asked.rows.split(",")]
    turns = [(row, PEERS[name]) for row in rows for name in row.peers if name in asked.peers.split(",")]
    (CACHE / "home").mkdir(parents=True, exist_ok=True)
    for peer in {peer.home: peer for _, peer in turns}.values():
        peer.install()
    for row, peer in turns:
        result = measure(row, peer) | {"python": str(interpreter()), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        sys.stdout.write(f"{row.name:16} {peer.name:18} {told(result)}\n")
        sys.stdout.flush()
        write(asked.into, asked.name, [result])
    return 0


def write(directory: Path, name: str, results: list[dict[str, Any]]) -> None:
    """Add to NAME.json, and write .md and .svg anew."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.json"
    document = json.loads(path.read_text()) if path.exists() else {"about": {"versions": {}}, "runs": []}
    new = {(each["row"], each["peer"]) for each in results}
    runs = [each for each in document["runs"] if (each["row"], each["peer"]) not in new] + results
    rows, peers = [row.name for row in ROWS], list(PEERS)
    runs.sort(key=lambda each: (rows.index(each["row"]), peers.index(each["peer"])))
    about = {
        "name": name,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "versions": document["about"]["versions"] | {PEERS[peer].home: PEERS[peer].version() for _, peer in new},
        "interpreters": list(dict.fromkeys(each.get("python", "") for each in runs)),
    }
    text = json.dumps({"about": about, "runs": runs}, separators=(",", ":"))
    path.write_text(text.replace('{"row"', '\n{"row"') + "\n")
    path.with_suffix(".md").write_text(table(about, runs))
    path.with_suffix(".svg").write_text(chart(about, runs))


if __name__ == "__main__":
    sys.exit(main())
