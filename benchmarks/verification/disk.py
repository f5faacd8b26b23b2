"""How near `sealift verify` comes to the disk's own speed: `python -m benchmarks.verification.disk DIRECTORY`, as root.

Files of three sizes are written below DIRECTORY, which has to be on the disk that is meant, with a ledger of their
checksums (CRC64NVME). Then `cat` of all of them into /dev/null and `sealift verify`, with its start, take turns, each
after the page cache was dropped, and with priority over other work on the machine. The ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from benchmarks.peers import PEERS, SEALIFT
from benchmarks.rows import KIB, MIB

from sealift.checksum import Algorithm, Checksum, running_checksum
from sealift.ledger import Changes, Ledger
from sealift.model import RemoteObject
from sealift.placing import recorded

WORK = {"65,536 × 16 KiB": (16 * KIB, 65_536), "256 × 8 MiB": (8 * MIB, 256), "2 × 1 GiB": (1024 * MIB, 2)}
"""Size and number of files."""
A_DIRECTORY = 1000
"""Files in one."""
PIECE = 8 * MIB
DROP = Path("/proc/sys/vm/drop_caches")
CAT = ["sh", "-c", 'find "$0" -name .sealift -prune -o -type f -print0 | xargs -0 cat > /dev/null']
VERIFY = [str(SEALIFT), "verify", "-q"]
FIRST = -15
"""Niceness: others are busy as well."""


def make(dest: Path, size: int, number: int) -> None:
    """Write the files and their ledger, unless they are there."""
    if dest.exists():
        return
    begun = dest.with_suffix(".new")
    shutil.rmtree(begun, ignore_errors=True)
    (begun / ".sealift").mkdir(parents=True)
    piece = min(size, PIECE)
    noise = memoryview(random.Random(size).randbytes(2 * piece))
    records = []
    for index in range(number):
        path = begun / f"{index // A_DIRECTORY:03}" / f"{index:06}"
        path.parent.mkdir(exist_ok=True)
        running = running_checksum(Algorithm.CRC64NVME)
        with path.open("wb") as file:
            for at in range(size // piece):
                start = (index * 7919 + at * 104_729) % piece
                file.write(noise[start : start + piece])
                running.update(noise[start : start + piece])
        checksum = Checksum(Algorithm.CRC64NVME, running.digest() or b"")
        key, mtime_ns = str(path.relative_to(begun)), path.stat().st_mtime_ns
        records.append(recorded(RemoteObject("bucket", key, size, '"e"', mtime_ns), key, mtime_ns, str(checksum)))
    with Ledger.open(begun / ".sealift", print) as ledger:
        ledger.write(Changes(records=records))
    begun.rename(dest)


def took(command: list[str]) -> tuple[float, float]:
    """Return the seconds that a command takes with an empty page cache, and those of CPU."""
    os.sync()
    DROP.write_text("3")
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(["nice", "-n", str(FIRST), *command], check=True)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    PEERS["sealift"].install()
    print("| | cat | sealift verify | ratio | CPU of cat | of verify |\n| --- | --- | --- | --- | --- | --- |")
    for name, (size, number) in WORK.items():
        dest = asked.directory / f"{number}x{size}"
        make(dest, size, number)
        rounds = [(took([*CAT, str(dest)]), took([*VERIFY, str(dest)])) for _ in range(asked.rounds)]
        cat, cat_cpu, verify, verify_cpu = (
            statistics.median(each[who][what] for each in rounds) for who in (0, 1) for what in (0, 1)
        )
        pace = size * number / MIB
        print(
            f"| {name} | {cat:.2f} s, {pace / cat:,.0f} MiB/s | {verify:.2f} s, {pace / verify:,.0f} MiB/s | "
            f"{verify / cat:.2f} | {cat_cpu:.1f} s | {verify_cpu:.1f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
