"""A Dask cluster of real processes on this machine, for tests and benchmarks: the scheduler is one of its own as well.

with dask_cluster(workers=2) as cluster:
    ...                                 # cluster.scheduler is its address
    cluster.kill(0)                     # a worker dies, and its nanny starts another
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SERVE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import dask
from distributed import LocalCluster, Client
from distributed.security import Security
if __name__ == "__main__":
    dask.config.set({"distributed.worker.daemon": True})
    security = Security.temporary() if sys.argv[2:] else None
    if security is not None:
        for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
            with open(f"{sys.argv[2]}/{name}", "w") as file:
                file.write(getattr(security, name))
    how = {"threads_per_worker": 1, "processes": True, "dashboard_address": None, "host": "127.0.0.1"}
    with LocalCluster(n_workers=int(sys.argv[1]), security=security, silence_logs=50, **how) as cluster, \\
            Client(cluster) as client:
        pids = list(client.run(lambda: __import__("os").getpid()).values())
        print(json.dumps([cluster.scheduler_address, pids]), flush=True)
        sys.stdin.read()
"""


@dataclass
class DaskCluster:
    """What runs."""

    scheduler: str
    pids: list[int]
    """Of the workers that there were at first."""

    def kill(self, number: int) -> None:
        """Let a worker die without a word."""
        os.kill(self.pids[number], signal.SIGKILL)


@contextmanager
def dask_cluster(workers: int, certificates: Path | None = None) -> Iterator[DaskCluster]:
    """A cluster of so many workers with a thread each, and with keys for S3; it ends with the block.

    With TLS where there is a directory for `certificates`, which a client needs.
    """
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}
    where = [] if certificates is None else [str(certificates)]
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(workers), *where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | keys,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield DaskCluster(*json.loads(process.stdout.readline()))
    finally:
        process.communicate()
