"""Keep-alive connections to one origin: dialled when needed, used again while they are good, watched for silence."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass

import anyio

from sealift.s3.addresses import Addresses
from sealift.s3.connection import POURING, Connection, SilentError, buffer

MOST_ADDRESSES = 3
"""Addresses that one connection tries. With all of a host's first three gone, the retry policy takes over."""

WATCH_EVERY = 1.0
"""Seconds between two looks at the silent connections: a timeout is met to the second. One timer for all of them
costs nothing; one a read would cost as much as the read."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go (RFC 6454): those to one origin are alike."""

    scheme: str
    host: str
    port: int


class UnreachableError(Exception):
    """No connection came about. `certificate`: because TLS failed, which other attempts do not mend."""

    def __init__(self, message: str, *, certificate: bool = False) -> None:
        super().__init__(message)
        self.certificate = certificate


class Pool:
    """The connections to one origin. Take one, and `give_back` what is to be used again; `close` the rest."""

    def __init__(
        self, origin: Origin, *, context: ssl.SSLContext | None, connect_timeout: float, read_timeout: float
    ) -> None:
        """Times are in seconds. `context` verifies the peer of https."""
        self._origin = origin
        self._context = context
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._loop = asyncio.get_running_loop()
        self._pouring = buffer(POURING)
        self._addresses = Addresses()
        self._looking_up = anyio.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._watch: asyncio.TimerHandle | None = None
        self.dialled = 0
        """Connections that came about."""

    def take_idle(self) -> Connection | None:
        """Return a connection that nobody else uses, the one used last, while it is warm; None where there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return self._taken(connection)
        return None

    async def take_fresh(self) -> Connection:
        """Return a new connection. Raises UnreachableError."""
        return self._taken(await self._dial())

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request if it is good for one; else close it."""
        self._busy.discard(connection)
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()

    def distrust(self, connection: Connection) -> None:
        """Leave the address of a connection alone for a while: somebody is there, and does not answer."""
        self._addresses.failed(connection.address, self._loop.time())

    def close(self) -> None:
        """Close every connection."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for connection in [*self._idle, *self._busy]:
            connection.close()
        self._idle.clear()
        self._busy.clear()

    def _taken(self, connection: Connection) -> Connection:
        self._busy.add(connection)
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_EVERY, self._look)
        return connection

    def _look(self) -> None:
        self._watch = None
        silent_since = self._loop.time() - self._read_timeout
        for connection in self._busy:
            if connection.heard < silent_since and connection.waiting:
                connection.close(SilentError(f"nothing came for {self._read_timeout:g} s"))
        if self._busy:
            self._watch = self._loop.call_later(WATCH_EVERY, self._look)

    async def _dial(self) -> Connection:
        tried: list[str] = []
        failure: OSError | None = None
        await self._look_up()
        while len(tried) < MOST_ADDRESSES:
            address = self._addresses.choose(self._loop.time(), besides=tried)
            if address is None:
                break
            tried.append(address)
            try:
                connection = await self._connect(address)
            except ssl.SSLCertVerificationError as error:
                raise UnreachableError(error.verify_message, certificate=True) from error
            except ssl.SSLError as error:
                raise UnreachableError(error.reason or str(error), certificate=True) from error
            except OSError as error:
                self._addresses.failed(address, self._loop.time())
                failure = error
            else:
                self.dialled += 1
                return connection
        where = f"{self._origin.host}:{self._origin.port}"
        raise UnreachableError(f"{where}: {_reason(failure)}") from failure

    async def _connect(self, address: str) -> Connection:
        """Open a connection to one address. Raises OSError, of which ssl.SSLError and TimeoutError are kinds."""
        origin = self._origin
        connection = Connection(self._loop, self._pouring)
        connection.address = address
        try:
            with anyio.fail_after(self._connect_timeout):
                await self._loop.create_connection(
                    lambda: connection,
                    address,
                    origin.port,
                    ssl=self._context,
                    server_hostname=origin.host if self._context is not None else None,
                )
        except BaseException:
            # Called off in the very turn in which TLS came about, both event loops would close it politely: they
            # wait for the peer's goodbye, up to 30 s (ssl_shutdown_timeout).
            connection.close()
            raise
        return connection

    async def _look_up(self) -> None:
        async with self._looking_up:
            if not self._addresses.stale(self._loop.time()):
                return
            origin = self._origin
            try:
                with anyio.fail_after(self._connect_timeout):
                    found = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            except OSError as error:
                if self._addresses.keep(self._loop.time()):
                    return
                raise UnreachableError(f"{origin.host}: {_reason(error)}") from error
            self._addresses.found((str(item[4][0]) for item in found), self._loop.time())


def _reason(error: OSError | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)) if error is not None else "it has no address"
