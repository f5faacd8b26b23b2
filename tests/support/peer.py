"""The other end of a connection, in the hands of the test: it hears, sends and goes when the test says so."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing then resets the connection."""


@dataclass
class Side:
    """The peer's side of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """The head of the next request."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answers(self, data: bytes) -> bytes:
        """Hear a request, and send this. Returns the request."""
        request = await self.request()
        await self.send(data)
        return request

    def close(self) -> None:
        """An orderly end, behind what was sent."""
        self.writer.close()

    def cut(self) -> None:
        """End the stream behind what was sent, below TLS: as an orderly end, but without a word of it in TLS."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as below:
            below.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    async def gone(self) -> bool:
        """Wait until the client has ended the connection; say whether it had sent nothing more."""
        try:
            return not await self.reader.read()
        except ConnectionError:
            return True


@dataclass
class Peer:
    """A server on loopback."""

    host: str
    port: int
    accepted: asyncio.Queue[Side] = field(default_factory=asyncio.Queue)
    count: int = 0
    """Connections that came."""

    async def accept(self) -> Side:
        return await self.accepted.get()


@asynccontextmanager
async def listening(
    host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None, *, deaf: bool = False
) -> AsyncIterator[Peer]:
    """A peer that waits for connections until the block is left, which ends them all. A deaf one hears nothing on them,
    so that it takes no leave either.
    """
    sides: list[Side] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        side = Side(reader, writer)
        sides.append(side)
        peer.count += 1
        peer.accepted.put_nowait(side)
        if deaf:
            cast("asyncio.Transport", writer.transport).pause_reading()

    server = await asyncio.start_server(accept, host, port, ssl=context)
    peer = Peer(host, server.sockets[0].getsockname()[1])
    try:
        yield peer
    finally:
        server.close()
        for side in sides:
            side.writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)
