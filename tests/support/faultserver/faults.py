"""The ways to misbehave. Each is a value with an async call that answers one exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tests.support.faultserver.content import Content, Flipped, Generated, InMemory, Resized, Window
from tests.support.faultserver.exchange import POLL, Exchange
from tests.support.faultserver.wire import Response, error_response

Fault = Callable[[Exchange], Awaitable[None]]
"""Any async function of an exchange is a fault; those below are the usual ones."""


class Gate(Protocol):
    """An event of asyncio, anyio or threading."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An error with AWS's XML body. The connection stays usable unless `headers` has `Connection: close`."""

    status: int
    code: str
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    extra_xml: str = ""
    """Further elements of the document, as they are."""
    chunked: bool = True
    """As S3 frames its errors; False sends Content-Length instead."""

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(
            error_response(
                exchange.request,
                self.status,
                self.code,
                self.message,
                headers=self.headers,
                extra_xml=self.extra_xml,
                chunked=self.chunked,
            )
        )


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes in place of an answer, then the end of the connection (or not)."""

    data: bytes
    close: bool = True

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send_bytes(self.data)
        if self.close:
            await exchange.finish()


@dataclass(frozen=True, slots=True)
class ResetBeforeHead:
    """The connection is reset as soon as the request is there."""

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.reset()


@dataclass(frozen=True, slots=True)
class ResetAfter:
    """The right head and `count` body bytes, which all arrive, then a reset."""

    count: int

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send_part(exchange.response(), self.count)
        await exchange.delivered()
        await exchange.reset()


@dataclass(frozen=True, slots=True)
class TruncateAfter:
    """The right head, with the full Content-Length, and `count` body bytes, then an orderly end."""

    count: int

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send_part(exchange.response(), self.count)
        await exchange.finish()


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing more comes, before the head or after so many body bytes, until the client goes away."""

    before: Literal["head"] | int = "head"

    async def __call__(self, exchange: Exchange) -> None:
        if self.before != "head":
            await exchange.send_part(exchange.response(), self.before)
        await exchange.client_gone()


@dataclass(frozen=True, slots=True)
class WrongContentRange:
    """A 206 with the right body and another Content-Range: `value`, or one that is a byte further on.

    An empty `value` leaves the header out.
    """

    value: str | None = None

    async def __call__(self, exchange: Exchange) -> None:
        response = exchange.response()
        if response.status in {200, 206}:
            start = exchange.request.range[0] if exchange.request.range else 0
            shifted = f"bytes {start + 1}-{start + response.content.size}/{start + response.content.size + 1}"
            response.status = 206
            response.headers.pop("Content-Range", None)
            if self.value != "":
                response.headers["Content-Range"] = self.value or shifted
        await exchange.send(response)


@dataclass(frozen=True, slots=True)
class WrongLength:
    """A body that is `delta` bytes longer (zeros) or shorter than asked for, and a Content-Length that agrees with
    the body. All other headers stay right. For a Content-Length that lies, see TruncateAfter."""

    delta: int

    async def __call__(self, exchange: Exchange) -> None:
        response = exchange.response()
        response.content = Resized(response.content, max(0, response.content.size + self.delta))
        await exchange.send(response)


@dataclass(frozen=True, slots=True)
class OtherETag:
    """If-Match is ignored and another version is served: another ETag, and a body of the same size unless given."""

    body: bytes | None = None
    etag: str = '"0123456789abcdef0123456789abcdef"'

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        request.headers.pop("if-match", None)
        response = exchange.response()
        if response.status in {200, 206}:
            response.headers["ETag"] = self.etag
            response.content = self._other(response, exchange)
        await exchange.send(response)

    def _other(self, response: Response, exchange: Exchange) -> Content:
        asked, size = exchange.request.range, response.content.size
        start = asked[0] if asked else 0
        if self.body is None:
            return Window(Generated(start + size, self.etag), start, start + size)
        stop = min(asked[1], len(self.body)) if asked else len(self.body)
        if asked:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(self.body)}"
        return InMemory(self.body[start:stop])


@dataclass(frozen=True, slots=True)
class OverwriteNow:
    """Somebody overwrites the object just before the request is answered, so that If-Match fails from then on."""

    body: bytes | Generated

    async def __call__(self, exchange: Exchange) -> None:
        exchange.server.overwrite(exchange.request.bucket, exchange.request.key, self.body)
        await exchange.send(exchange.response())


@dataclass(frozen=True, slots=True)
class ErrorDocumentAs200:
    """An error document under `200 OK`, with nothing in the head that says so."""

    code: str = "InternalError"
    message: str = "We encountered an internal error. Please try again."

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(error_response(exchange.request, 200, self.code, self.message, chunked=False))


@dataclass(frozen=True, slots=True)
class FlipBit:
    """One bit of the body is wrong: in the byte at `at`, counted from the start of this answer's body."""

    at: int

    async def __call__(self, exchange: Exchange) -> None:
        response = exchange.response()
        response.content = Flipped(response.content, self.at)
        await exchange.send(response)


@dataclass(frozen=True, slots=True)
class OtherRange:
    """A ranged request is answered with the head that it should get, and the bytes from `start` on."""

    start: int

    async def __call__(self, exchange: Exchange) -> None:
        response = exchange.response()
        if response.status == 206 and isinstance(response.content, Window):
            whole, size = response.content.whole, response.content.size
            response.content = Window(whole, self.start, self.start + size)
        await exchange.send(response)


@dataclass(frozen=True, slots=True)
class IgnoreRange:
    """A ranged request is answered 200 with the whole object."""

    async def __call__(self, exchange: Exchange) -> None:
        response = exchange.response()
        if response.status == 206 and isinstance(response.content, Window):
            response.status = 200
            response.content = response.content.whole
            del response.headers["Content-Range"]
        await exchange.send(response)


@dataclass(frozen=True, slots=True)
class Call:
    """Awaits `hook`; if that has sent nothing, S3's answer follows."""

    hook: Fault

    async def __call__(self, exchange: Exchange) -> None:
        await self.hook(exchange)
        if not exchange.answered:
            await exchange.send(exchange.response())


@dataclass(frozen=True, slots=True)
class Hold:
    """Waits for an event, then answers: as S3 would, or with the fault `then`."""

    event: Gate
    then: Fault | None = None

    async def __call__(self, exchange: Exchange) -> None:
        while not self.event.is_set():
            await asyncio.sleep(POLL)
        if self.then is None:
            await exchange.send(exchange.response())
        else:
            await self.then(exchange)
