"""One HTTP/1.1 connection: bytes come into a buffer of our own, and are handed out where they lie.

    buffer   ░░░░░░▓▓▓▓▓▓▓▓▓▓▓▓······      ░ handed out, ▓ arrived, · free
                   ^start      ^stop

What `read` hands out is valid until the next call. When all that arrived was handed out, the buffer is begun anew;
when it is full, the socket is not read until somebody has made room: the peer waits, and memory does not grow.

`pour` hands a body out while it comes: each piece is done with before the next one is received, so all connections
receive into the same, larger buffer, which stays in the CPU's cache.

A connection is good for another request only when the last response was read to its end, nothing came after it, and
the head did not say otherwise. Everything else closes it.
"""

from __future__ import annotations

import asyncio
import mmap
import ssl
from typing import cast

from sealift.config import LANE_MEMORY
from sealift.s3.heads import ChunkedBody, Head, parse_head
from sealift.s3.store import Sink
from sealift.s3.tls import ended_in_good_order

POURING = 1024 * 1024
"""Bytes of the buffer that all connections pour from: with 256 KiB, 300 objects of 8 MiB over plain HTTP into tmpfs
cost 2.0 s of system time, with 512 KiB 1.8, with 1 MiB 1.4, with 2 MiB 1.3. It has to fit into a core's L2 cache."""

_EMPTY = memoryview(b"")


class LostError(Exception):
    """The connection ended before the response did. `unheard`: nothing of the response had come."""

    def __init__(self, message: str, *, unheard: bool) -> None:
        super().__init__(message)
        self.unheard = unheard


class SilentError(Exception):
    """The peer sent nothing for too long."""


class Connection(asyncio.BufferedProtocol):
    """A connection that is open, or was. One exchange at a time: `exchange`, then `read` until nothing comes."""

    __slots__ = (
        "_chunked",
        "_ended",
        "_error",
        "_head",
        "_left",
        "_loop",
        "_over",
        "_paused",
        "_pieces",
        "_pouring",
        "_sink",
        "_start",
        "_stop",
        "_transport",
        "_unheard",
        "_view",
        "_waiter",
        "address",
        "exchanges",
        "heard",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, pouring: memoryview) -> None:
        """`pouring` is the buffer that all connections of one event loop pour from."""
        self._loop = loop
        self._view = buffer(LANE_MEMORY)
        self._pouring = pouring
        self._sink: Sink | None = None
        self._start = self._stop = 0
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._over = True  # no response is awaited
        self._ended = False  # the peer said that nothing more comes; a reset says no such thing, nor a cut below TLS
        self._paused = False
        self._unheard = True
        self._head: Head | None = None
        self._left: int | None = 0
        self._chunked: ChunkedBody | None = None
        self._pieces: list[memoryview] = []
        self.address = ""
        """Which of its host's addresses it goes to."""
        self.exchanges = 0
        """Requests that were sent on it."""
        self.heard = 0.0
        """When the peer was last heard, or last became the one to be waited for, in seconds of the loop's clock."""

    # ── What the event loop calls ───────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        """See asyncio: the free end of the buffer, which `buffer_updated` keeps from being nothing."""
        sink = self._sink
        if sink is not None:
            if sink.ready and not self._stop:
                return self._pouring
            self._sink = None
        return self._view[self._stop :]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        self.heard = self._loop.time()
        if self._sink is not None:
            self._pour(self._sink, nbytes)
            return
        self._stop += nbytes
        if self._over:  # nobody asked for anything
            self.close()
            return
        self._unheard = False
        if self._stop == LANE_MEMORY and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """See asyncio: the transport then closes, which tells `connection_lost`."""
        tls = self.tls
        self._ended = tls is None or ended_in_good_order(tls)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        if self._error is None:
            self._error = LostError(str(exc) if exc else "the peer closed it", unheard=self._unheard)
        self._wake()

    # ── What the store calls ────────────────────────────────────────────────────────────────────────

    async def exchange(self, request: bytes, method: str = "GET") -> Head:
        """Send a request and return the head of its response, which may be an error's.

        Raises LostError, SilentError, MalformedResponseError; then, and when cancelled, the connection is closed.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise LostError("the peer closed it", unheard=True)
        self._begin_anew()
        self._over, self._unheard = False, True
        self._left, self._chunked = 0, None
        self.exchanges += 1
        self.heard = self._loop.time()
        try:
            transport.write(request)
            head = None
            while head is None:
                await self._event()
                self._look_at_arrival()
                head = parse_head(self._view[: self._stop], method=method)
        except BaseException:
            self.close()
            raise
        self._head = head
        self._start += head.length
        if head.chunked:
            self._left, self._chunked = None, ChunkedBody()
        else:
            self._left = head.content_length
        if self._left == 0:
            self._over = True
        return head

    async def read(self) -> memoryview:
        """Return the body's next bytes, or none at its end. They are valid until the next call.

        Raises LostError, SilentError, MalformedResponseError; then, and when cancelled, the connection is closed.
        """
        if self._pieces:  # they lie in the buffer: it is not begun anew before the last one is done with
            return self._pieces.pop(0)
        if self._start == self._stop:
            self._begin_anew()
        if self._over:
            return _EMPTY
        try:
            if self._chunked is not None:
                return await self._read_chunk(self._chunked)
            while self._start == self._stop:
                if self._at_its_end:
                    self._over = True
                    return _EMPTY
                await self._event()
                self._look_at_arrival()
        except BaseException:
            self.close()
            raise
        return self._handed_out()

    def take_what_came(self, sink: Sink) -> bool:
        """Let `sink` take what has come of a body, whose length is known, with its head; whether that is all of it.

        Raises what the sink raises; then the connection is closed.
        """
        if not self._left or self._start == self._stop or not sink.ready:
            return self._left == 0
        try:
            sink.take(self._handed_out())
        except BaseException:
            self.close()
            raise
        return self._over

    async def pour(self, sink: Sink) -> memoryview:
        """Let `sink` take a body of known length as it comes; return what came while it was not ready, or none.

        Raises what `read` and the sink raise; then, and when cancelled, the connection is closed.
        """
        if self._start != self._stop or self._over:
            piece = await self.read()
            if not (piece and sink.ready):
                return piece
            sink.take(piece)
            if self._left == 0:
                return _EMPTY
        self._begin_anew()
        self._sink = sink
        try:
            while self._pours:
                await self._event()
        except BaseException:
            self.close()
            raise
        finally:
            self._sink = None
        return await self.read()

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return (
            self._over
            and self._start == self._stop
            and self._error is None
            and self._head is not None
            and self._head.keep_alive
            and self._transport is not None
            and not self._transport.is_closing()
            and not self._pieces
        )

    @property
    def closed(self) -> bool:
        """Whether it is known to be of no use any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for the peer, rather than the peer for us."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def tls(self) -> ssl.SSLObject | None:
        """What TLS makes of it, or None in the clear."""
        if self._transport is None:
            return None
        return cast("ssl.SSLObject | None", self._transport.get_extra_info("ssl_object"))

    def close(self, error: Exception | None = None) -> None:
        """Close it at once. Whoever waits for bytes gets `error`."""
        if self._error is None and error is not None:
            self._error = error
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    async def _read_chunk(self, chunked: ChunkedBody) -> memoryview:
        while not self._pieces:
            if self._over:
                return _EMPTY
            while self._start == self._stop:
                self._begin_anew()
                await self._event()
                self._look_at_arrival()
            self._pieces, consumed = chunked.feed(self._view[self._start : self._stop])
            self._start += consumed
            self._over = chunked.finished
        return self._pieces.pop(0)

    @property
    def _pours(self) -> bool:
        """Whether more of the body is to be poured."""
        return self._sink is not None and not self._over

    def _pour(self, sink: Sink, nbytes: int) -> None:
        left = self._left or 0
        try:
            sink.take(self._pouring[: min(nbytes, left)])
        except Exception as error:  # noqa: BLE001 - whoever pours gets it
            self._sink = None
            self.close(error)
            return
        self._left = left - nbytes
        if self._left <= 0:
            self._over = True
            if self._left < 0:  # nobody asked for more
                self.close()
            self._wake()

    def _begin_anew(self) -> None:
        """Use the whole buffer again: nothing in it is wanted any more."""
        self._start = self._stop = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self.heard = self._loop.time()  # until now the peer waited for us
            self._transport.resume_reading()

    def _handed_out(self) -> memoryview:
        """Return what lies in the buffer of the body, which is handed out by that."""
        stop = self._stop if self._left is None else min(self._stop, self._start + self._left)
        piece = self._view[self._start : stop]
        self._start = stop
        if self._left is not None:
            self._left -= len(piece)
            self._over = self._left == 0
        return piece

    def _look_at_arrival(self) -> None:
        """Raise what has happened, where it was neither that bytes came nor the body's end."""
        if self._start == self._stop and not self._at_its_end:
            self._raise_error()

    def _event(self) -> asyncio.Future[None]:
        """Return what is to be awaited until something has happened."""
        self._raise_error()
        if self._transport is None:
            raise LostError("the peer closed it", unheard=self._unheard)
        self._waiter = self._loop.create_future()
        return self._waiter

    @property
    def _at_its_end(self) -> bool:
        """Whether a body that lasts as long as the connection has come to its end in good order."""
        return self._ended and self._left is None and self._chunked is None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def buffer(size: int) -> memoryview:
    """Return so many bytes to receive into. Mapped: a bytearray is filled with zeros, and takes up all its memory."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
