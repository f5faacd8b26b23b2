"""A fault server in a process of its own, with a generated listing: see `tests.support.faultserver.process`."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
from dataclasses import asdict

import uvloop

from tests.support.faultserver.listing import small_objects
from tests.support.faultserver.process import Served
from tests.support.faultserver.server import FaultServer


def main() -> None:
    """Print the address, serve until standard input ends, and print what was served."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.faultserver")
    parser.add_argument("bucket")
    parser.add_argument("prefix")
    parser.add_argument("count", type=int)
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(asked.bucket, asked.prefix, asked.count))


async def _serve(bucket: str, prefix: str, count: int) -> None:
    server = FaultServer(remember=False)
    server.serve(small_objects(bucket, prefix, count))
    async with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
    used = resource.getrusage(resource.RUSAGE_SELF)
    served = Served(
        gets=server.gets,
        lists=server.lists,
        body_bytes=server.body_bytes,
        connections=server.connections,
        cpu_seconds=used.ru_utime + used.ru_stime,
    )
    json.dump(asdict(served), sys.stdout)


if __name__ == "__main__":
    main()
