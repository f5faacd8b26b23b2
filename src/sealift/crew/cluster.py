"""Workers on a Dask cluster: one task a Dask worker, which carries out attempts like a worker process of this machine.

1. `Cluster` connects to the scheduler and asks for as many tasks as there are Dask workers, or as were chosen.
2. Each task calls back, proves by a token that it is one of them, and gets a channel (`sealift.crew.channel`). From
   then on it is a worker: it finds its own credentials, and none goes over the network.
3. When a Dask worker dies, its channel ends: what it was handed goes back in line, and takes permits of its own. Dask
   runs its task again elsewhere, which calls back and is the next worker.

So the client keeps the line, the ledger and the budgets: each GET that KMS is asked for goes out with a permit of the
client's pace, which is lent to the worker that has it. The channel is encrypted where the cluster's own are.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any, Final, Self

import anyio
from anyio.to_thread import run_sync

from sealift import __version__
from sealift.crew.channel import Channel
from sealift.errors import ConfigError, SealiftError, SourceError
from sealift.planning import MIB

CONNECTING: Final = 30.0
"""Seconds to reach the scheduler, and for which a task tries to call back: as `distributed.comm.timeouts.connect`."""

GATHERING: Final = 3.0
"""Seconds for which the first worker waits for the others: what it takes Dask to start a task, and Python to import."""

BYTES_AHEAD: Final = 4 * MIB
"""Bytes that a worker is given beyond its lanes: 4 ms of work at 1 GB/s, longer than a message takes; and where
connections are slow, no worker has much left when the others have nothing."""

_TOKEN: Final = 32
"""Bytes that prove that a caller was sent by this run."""


class Cluster:
    """A Dask cluster, as an async context manager. Raises ConfigError on entering where it cannot be used."""

    def __init__(self, scheduler: str, *, most: int | None, noted: Callable[[str], None]) -> None:
        """Use as many of its workers as there are, `most` at the most. `noted` hears how many."""
        self.size = 0
        """How many tasks there are."""
        self._scheduler = scheduler
        self._most = most
        self._noted = noted
        self._token = secrets.token_bytes(_TOKEN)
        self._client: Any = None
        self._tasks: list[Any] = []
        self._server: asyncio.Server | None = None
        self._calls: asyncio.Queue[Channel | SealiftError] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        try:
            connect: Any = import_module("distributed").Client
        except ImportError as error:
            raise ConfigError("--dask needs the extra: pip install 'sealift[dask]'") from error
        try:
            self._client = await run_sync(lambda: connect(self._scheduler, timeout=CONNECTING, set_as_default=False))
            workers = await run_sync(lambda: list(self._client.scheduler_info(n_workers=-1)["workers"]))
        except (OSError, ValueError, TypeError) as error:
            await self._close()
            raise ConfigError(f"--dask {self._scheduler}: there is no scheduler to be reached ({error})") from error
        if not workers:
            await self._close()
            raise ConfigError(f"--dask {self._scheduler}: the cluster has no workers; start some, and run again")
        self.size = len(workers) if self._most is None else min(len(workers), self._most)
        self._noted(f"{self.size} workers of the Dask cluster at {self._scheduler}")
        try:
            await self._listen(workers)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._close()

    async def start(self) -> tuple[_Remote, Channel]:
        """Return the next worker that calls. Raises SourceError where Dask has given one up."""
        call = await self._calls.get()
        if isinstance(call, SealiftError):
            raise call
        return _Remote(), call

    async def _listen(self, workers: list[str]) -> None:
        context = self._client.security.get_listen_args("client").get("ssl_context")
        here = _own_address(self._client.scheduler.address)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Caller(self._token, self._calls.put_nowait), here, 0, ssl=context
        )
        address = self._server.sockets[0].getsockname()[:2]
        tell, loop = self._calls.put_nowait, asyncio.get_running_loop()

        def ended(task: Any) -> None:  # noqa: ANN401 - a future of Dask's, which has no types
            if task.status != "finished":
                why = repr(task.exception()) if task.status == "error" else f"its task is {task.status}"
                failure = SourceError(f"Dask has given up a worker of the run: {why}", code="WorkersDie")
                with suppress(RuntimeError):  # the run is over
                    loop.call_soon_threadsafe(tell, failure)

        for number in range(self.size):
            task = self._client.submit(
                serve_run,
                *address,
                self._token,
                (__version__, sys.version_info[:2]),
                workers=[workers[number]],  # where it is best; and anywhere else where that dies
                allow_other_workers=True,
                pure=False,
                key=f"sealift-{self._token.hex()[:12]}-{number}",
            )
            task.add_done_callback(ended)
            self._tasks.append(task)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        while not self._calls.empty():
            call = self._calls.get_nowait()
            if isinstance(call, Channel):
                call.close()
        if self._client is not None:
            client, self._client = self._client, None
            if self._tasks:
                with suppress(Exception):  # the scheduler may be gone, and it is nobody's business any more
                    await run_sync(lambda: client.cancel(self._tasks, force=True))
            with suppress(Exception):
                await run_sync(client.close)


class _Remote:
    """A worker elsewhere: Dask sees to its end."""

    async def finish(self) -> str:
        """Return how it ended."""
        return "a worker of the Dask cluster was lost"


class _Caller(Channel):
    """A channel whose other end has to prove first that it was sent."""

    def __init__(self, token: bytes, arrived: Callable[[Channel], None]) -> None:
        super().__init__()
        self._token = token
        self._arrived = arrived
        self._proof = bytearray()
        self._proven = False

    def data_received(self, data: bytes) -> None:
        """See asyncio. Nothing is read of a caller that is not one of the run's: it would be unpickled."""
        if self._proven:
            super().data_received(data)
            return
        self._proof += data
        if len(self._proof) < len(self._token):
            return
        rest = bytes(self._proof[len(self._token) :])
        if not hmac.compare_digest(bytes(self._proof[: len(self._token)]), self._token):
            self.close()
            return
        self._proven = True
        self._arrived(self)
        if rest:
            super().data_received(rest)


def serve_run(host: str, port: int, token: bytes, versions: tuple[str, tuple[int, int]]) -> None:
    """Work for the run that listens there, until it hangs up: what a task does. Runs in a thread of a Dask worker."""
    from sealift.crew.worker import work

    dask_worker: Any = import_module("distributed").get_worker()
    own = (__version__, sys.version_info[:2])
    if own != versions:
        raise RuntimeError(
            f"this worker has Sealift {own[0]} on Python {own[1]}, the client {versions[0]} on {versions[1]}"
        )
    context: ssl.SSLContext | None = dask_worker.security.get_connection_args("worker").get("ssl_context")
    end = socket.create_connection((host, port), timeout=CONNECTING)
    anyio.run(work, end, token, context, backend_options={"use_uvloop": True})


def _own_address(scheduler: str) -> str:
    """Return the address of this machine from which the scheduler is reached."""
    host, _, port = scheduler.rpartition("://")[2].rpartition(":")
    family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:  # nothing is sent: it only chooses a route
        probe.connect(address)
        found: str = probe.getsockname()[0]
    return found
