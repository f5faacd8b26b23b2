"""Messages between the parent and a worker: tuples of plain values, over a socket pair.

They are marshalled: both ends are the same interpreter, and it takes a tenth of what pickle takes. Errors, which are
rare, are pickled within.

A cap on requests to KMS, and every pace, is one of what goes into channels, and of what the parent's own lanes send:
permits are the parent's. So that this is what goes out to S3 as well, nothing waits at the other end while requests are
paced: a worker is handed only what it has a lane for (`parent.Crew`). What a message takes, tens of microseconds on one
machine, is beyond the cap, as is what the network takes after it.
"""

from __future__ import annotations

import asyncio
import marshal
import pickle
import socket
import ssl
from collections import deque
from typing import Any, cast

from sealift.attempt import Attempt, Ended, Spot
from sealift.errors import SealiftError
from sealift.model import ByteRange, Part, RemoteObject

Message = tuple[Any, ...]

_LENGTH = 4
"""Bytes that say how long a message is."""


class Channel(asyncio.Protocol):
    """One end of a channel. `send` never waits: what is under way is bounded by whoever hands out work."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._messages: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False
        """The other end is gone."""

    @classmethod
    async def over(cls, end: socket.socket, *, token: bytes = b"", context: ssl.SSLContext | None = None) -> Channel:
        """Speak over an end of a socket pair, or of a connection, which is the channel's from now on.

        Over a network the `token` goes first, in TLS where there is a `context` for that.
        """
        end.setblocking(False)
        name = None if context is None else ""  # a cluster's certificates vouch for the cluster, not for hosts
        transport, channel = await asyncio.get_running_loop().create_connection(
            cls, sock=end, ssl=context, server_hostname=name
        )
        transport.write(token)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._data += data
        at = 0
        while len(self._data) - at >= _LENGTH:
            stop = at + _LENGTH + int.from_bytes(self._data[at : at + _LENGTH], "big")
            if stop > len(self._data):
                break
            self._messages.append(marshal.loads(memoryview(self._data)[at + _LENGTH : stop]))  # noqa: S302 (our own)
            at = stop
        del self._data[:at]
        if self._messages:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """See asyncio."""
        self.closed = True
        self._wake()

    def send(self, message: Message) -> None:
        """Send a message; nothing happens where the other end is gone."""
        if self._transport is not None and not self.closed:
            data = marshal.dumps(message)
            self._transport.write(len(data).to_bytes(_LENGTH, "big") + data)

    async def receive(self) -> Message | None:
        """Return the next message; None once the other end is gone and all its messages were returned."""
        while not self._messages:
            if self.closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._messages.popleft()

    def close(self) -> None:
        """Send what was not sent yet, and hang up."""
        if self._transport is not None:
            self._transport.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def packed_attempt(attempt: Attempt) -> Message:
    """Return an attempt as plain values."""
    part = attempt.part
    spot = None if attempt.spot is None else tuple(attempt.spot)
    return (
        attempt.number,
        tuple(attempt.remote),
        part.range.start,
        part.range.stop,
        part.whole,
        attempt.name,
        spot,
        attempt.counted,
    )


def unpacked_attempt(message: Message) -> Attempt:
    """Return the attempt that was packed."""
    number, remote, start, stop, whole, name, spot, counted = message
    return Attempt(
        number,
        RemoteObject(*remote),
        Part(ByteRange(start, stop), whole),
        name,
        None if spot is None else Spot(*spot),
        counted,
    )


def packed_end(end: Ended) -> Message:
    """Return an attempt's end as plain values."""
    number, reached, placed, error, *rest = end
    return (number, reached, placed, None if error is None else pickle.dumps(error), *rest)


def unpacked_end(message: Message) -> Ended:
    """Return the end that was packed."""
    number, reached, placed, error, *rest = message
    ours: SealiftError | None = None if error is None else pickle.loads(error)  # noqa: S301 (our own worker's)
    return Ended(number, reached, placed, ours, *rest)
