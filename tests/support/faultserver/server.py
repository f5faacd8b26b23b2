"""The network half: connections, the script of faults, the record of what was asked."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import anyio

from tests.support.faultserver.dialect import Dialect
from tests.support.faultserver.exchange import Exchange
from tests.support.faultserver.faults import Fault
from tests.support.faultserver.wire import BadHeadError, Request, parse_head, parse_range

T = TypeVar("T")

HEAD_LIMIT = 256 * 1024
"""Bytes of a request head: far more than any client sends."""

THREAD_PATIENCE = 60.0
"""Seconds that another thread is waited for, on a busy machine, before a test fails instead of hanging."""


@dataclass(eq=False)
class FaultHandle:
    """A rule of the script, and how often it struck."""

    do: Fault
    op: Literal["get", "head", "list", "bucket", "any"]
    bucket: str | None
    key: str | None
    times: int | None
    after: int
    when: Callable[[Request], bool] | None
    seen: int = 0
    """Requests that the rule is about and that no earlier rule took."""
    hits: int = 0
    """Requests that were answered by the fault."""
    removed: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _waiting: list[tuple[int, asyncio.Event]] = field(default_factory=list, repr=False)

    def remove(self) -> None:
        """Take the rule out of the script."""
        self.removed = True

    async def reached(self, hits: int = 1) -> None:
        """Wait, in the server's own loop, until the fault has struck so often (it may still be answering)."""
        event = asyncio.Event()
        self._waiting.append((hits, event))
        if self.hits < hits:
            await event.wait()

    def wait(self, hits: int = 1) -> None:
        """The same for another thread. Raises TimeoutError after 60 seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.hits >= hits, THREAD_PATIENCE):
                raise TimeoutError(f"the fault struck {self.hits} times, not {hits}")

    def takes(self, request: Request) -> bool:
        """Decide whether this request gets the fault, and count."""
        if self.removed or (self.times is not None and self.hits >= self.times) or not self._is_about(request):
            return False
        self.seen += 1
        if self.seen <= self.after:
            return False
        with self._changed:
            self.hits += 1
            self._changed.notify_all()
        for hits, event in self._waiting:
            if self.hits >= hits:
                event.set()
        return True

    def _is_about(self, request: Request) -> bool:
        return (
            self.op in {"any", request.op}
            and self.bucket in {None, request.bucket}
            and self.key in {None, request.key}
            and (self.when is None or self.when(request))
        )


class FaultServer(Dialect):
    """S3 on a free loopback port: `async with FaultServer() as server`. See the package for the rules."""

    def __init__(self, *, region: str = "us-east-1", remember: bool = True) -> None:
        super().__init__(region=region)
        self.remember = remember
        """Keep every request in `requests`; switch off for runs of many thousand requests."""
        self.requests: list[Request] = []
        self.gets = 0
        """GetObject requests, refused and spoilt ones included; likewise `heads` and `lists`."""
        self.heads = 0
        self.lists = 0
        self.body_bytes = 0
        """Bytes of objects' bodies that went out."""
        self.connections = 0
        """Connections that were ever accepted."""
        self.gets_now = 0
        self.most_gets_at_once = 0
        self.url = ""
        self._port = 0
        self._numbers = 0
        self._rules: list[FaultHandle] = []
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []

    def fault(
        self,
        *,
        do: Fault,
        op: Literal["get", "head", "list", "bucket", "any"],
        bucket: str | None = None,
        key: str | None = None,
        times: int | None = 1,
        after: int = 0,
        when: Callable[[Request], bool] | None = None,
    ) -> FaultHandle:
        """Script a fault for the requests that all of the conditions fit.

        The first `after` of them are spared, the next `times` (None: all) get it. Rules are asked in the order
        in which they were made; the first that takes a request answers it, and later rules do not see it.
        """
        rule = FaultHandle(do=do, op=op, bucket=bucket, key=key, times=times, after=after, when=when)
        self._rules.append(rule)
        return rule

    async def open(self) -> None:
        """Listen: on a free port the first time, later on the same one again."""
        self._listener = await asyncio.start_server(
            self._accept, "127.0.0.1", self._port, limit=HEAD_LIMIT, backlog=1024, reuse_address=True
        )
        self._port = self._listener.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def close(self) -> None:
        """End all connections and refuse new ones until the next `open`."""
        if self._listener is None:
            return
        with anyio.CancelScope(shield=True):
            self._listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._listener.wait_closed()
            self._listener = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
        if self._errors and error is None:
            raise ExceptionGroup("a script or the fault server itself failed", self._errors)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: it can be cancelled and waited for, which asyncio's own cannot in Python 3.11.
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        # drain() then waits until the kernel has everything: a slow client holds one piece in memory.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            # IncompleteReadError: the client has closed, between two requests or within one.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._serve_one(reader, writer, connection):
                    pass
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        except Exception as error:  # noqa: BLE001 (raised again when the server is left)
            self._errors.append(error)
        finally:
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> bool:
        """Answer the connection's next request; say whether it may bring another."""
        head = await reader.readuntil(b"\r\n\r\n")
        self._numbers += 1
        try:
            request = parse_head(head, number=self._numbers, connection=connection)
        except BadHeadError:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        if (length := int(request.headers.get("content-length", "0"))) > 0:
            await reader.readexactly(length)
        if "range" in request.headers and request.key:
            stored = self.find(request.bucket, request.key, request.query.get("versionId"))
            size = 0 if stored is None else stored.size
            request = replace(request, range=parse_range(request.headers["range"], size))
        self._record(request)
        exchange = Exchange(self, request, reader, writer)
        try:
            await self._answer(exchange)
        finally:
            self.gets_now -= request.op == "get"
        return exchange.keep_alive and not writer.is_closing()

    def _record(self, request: Request) -> None:
        op = request.op
        self.gets += op == "get"
        self.heads += op == "head"
        self.lists += op == "list"
        self.gets_now += op == "get"
        self.most_gets_at_once = max(self.most_gets_at_once, self.gets_now)
        if self.remember:
            self.requests.append(request)

    async def _answer(self, exchange: Exchange) -> None:
        refusal = self.refuse_credentials(exchange.request)
        if refusal is not None:
            await exchange.send(refusal)
            return
        for rule in tuple(self._rules):
            if rule.takes(exchange.request):
                await rule.do(exchange)
                return
        await exchange.send(exchange.response())


class FaultServerThread:
    """A FaultServer in a thread of its own, for tests that run commands: `with FaultServerThread() as server`.

    Objects, rules and settings may be changed from the test's thread. `call` runs a coroutine in the server's loop,
    such as `thread.call(server.close())`.
    """

    def __init__(self, server: FaultServer | None = None) -> None:
        self.server = server or FaultServer()
        self._thread = threading.Thread(target=self._run, name="fault server", daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> FaultServer:
        self._thread.start()
        if not self._started.wait(THREAD_PATIENCE):
            raise TimeoutError("the fault server did not start")
        if self._error is not None:
            raise self._error
        return self.server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(THREAD_PATIENCE)
        if self._thread.is_alive():
            raise TimeoutError("the fault server did not stop")
        if self._error is not None and error is None:
            raise self._error

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop and return its result."""
        if self._loop is None:
            raise RuntimeError("the fault server is not running")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(THREAD_PATIENCE)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 (raised again in the test's thread)
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        async with self.server:
            self._loop = asyncio.get_running_loop()
            self._started.set()
            await self._stop.wait()
