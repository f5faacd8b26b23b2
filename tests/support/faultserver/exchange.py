"""One request and its answer on one connection, with everything a fault needs to spoil it."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING

from tests.support.faultserver.wire import Request, Response

if TYPE_CHECKING:
    from tests.support.faultserver.server import FaultServer

PIECE = 256 * 1024
"""Bytes of a body that are made and written at a time: what bounds the memory of a connection."""

POLL = 0.002
"""Seconds between looks at what only the kernel or another thread knows, and tells nobody."""


class Exchange:
    """What an arbitrary hook gets (see `Call`). A fault that sends nothing leaves the client waiting."""

    def __init__(
        self, server: FaultServer, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.request = request
        self.reader = reader
        self.writer = writer
        self.answered = False
        """Something was sent, or the connection was ended."""
        self.keep_alive = request.headers.get("connection", "").lower() != "close"

    def response(self) -> Response:
        """What S3 would answer now."""
        return self.server.answer(self.request)

    async def send(self, response: Response) -> None:
        """Send the whole answer."""
        content = response.framed()
        if response.headers.get("Connection", "").lower() == "close":
            self.keep_alive = False
        if self.request.method == "HEAD":
            await self.send_bytes(response.head(self.request))
        elif content.size <= PIECE:
            self._count(response, content.size)
            await self.send_bytes(response.head(self.request) + content.read(0, content.size))
        else:
            await self.send_part(response, content.size)

    async def send_part(self, response: Response, stop: int) -> None:
        """Send the head and the first `stop` bytes of what follows it (none for HEAD)."""
        await self.send_bytes(response.head(self.request))
        if self.request.method == "HEAD":
            return
        content = response.framed()
        stop = min(stop, content.size)
        for start in range(0, stop, PIECE):
            data = content.read(start, min(start + PIECE, stop))
            self._count(response, len(data))
            await self.send_bytes(data)

    def _count(self, response: Response, size: int) -> None:
        if self.request.op == "get" and response.status in {200, 206}:
            self.server.body_bytes += size

    async def send_bytes(self, data: bytes) -> None:
        """Send any bytes and wait until the kernel has them."""
        self.answered = True
        self.writer.write(data)
        await self.writer.drain()

    async def delivered(self) -> None:
        """Wait until the client's kernel has everything, so that a reset takes none of it away."""
        unsent = array.array("i", [1])
        while not self.writer.is_closing() and not self.reader.at_eof():
            # SIOCOUTQ, which has the number of TIOCOUTQ: bytes that the peer has not acknowledged.
            fcntl.ioctl(self._socket().fileno(), termios.TIOCOUTQ, unsent)
            if unsent[0] == 0:
                return
            await asyncio.sleep(POLL)

    async def finish(self) -> None:
        """End the connection in order (FIN), whatever was promised."""
        self.answered = True
        self.keep_alive = False
        self.writer.close()

    async def reset(self) -> None:
        """Break the connection off (RST)."""
        self.answered = True
        self.keep_alive = False
        if not self.writer.is_closing():
            # Linger for zero seconds: close() then sends RST instead of FIN.
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()

    async def client_gone(self) -> None:
        """Wait until the client has closed its side, or broken off."""
        self.answered = True
        self.keep_alive = False
        while await self.reader.read(PIECE):
            pass

    def _socket(self) -> socket.socket:
        found: socket.socket = self.writer.get_extra_info("socket")
        return found
