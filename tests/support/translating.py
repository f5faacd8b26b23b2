"""A proxy in front of the sandbox's S3, which says in AWS's words what its KMS refuses.

SeaweedFS answers whatever goes wrong with its KMS with `500 InternalError`. Here that becomes what S3 says on AWS, by
what `answer_for` returns for the object's key; None passes the 500 on. Everything else goes through as it is, so that
signatures hold.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import unquote, urlsplit

Said = tuple[int, str, str]
"""Status, code and message."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@asynccontextmanager
async def translating(endpoint: str, answer_for: Callable[[str], Said | None]) -> AsyncIterator[str]:
    """Serve on a free port; returns the URL. `answer_for` hears `BUCKET/KEY`."""
    to = urlsplit(endpoint)

    async def serve(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        server, forth = await asyncio.open_connection(to.hostname, to.port)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = await client.readuntil(b"\r\n\r\n")
                forth.write(asked)
                head = await server.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                silent = asked.startswith(b"HEAD ")
                body = await server.readexactly(int(length[1])) if length and not silent else b""
                if not length and not silent:
                    body = await _chunks(server)
                if head.split(b" ", 2)[1] == b"500" and asked.startswith(b"GET "):
                    path = unquote(asked.split(b" ", 2)[1].decode().partition("?")[0]).lstrip("/")
                    head, body = _translated(head, body, answer_for(path))
                back.write(head + body)
                await back.drain()
        for writer in (forth, back):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def _chunks(server: asyncio.StreamReader) -> bytes:
    """Read a chunked body as it is on the wire."""
    body = b""
    while True:
        line = await server.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        body += line + await server.readexactly(size + 2)
        if size == 0:
            return body


def _translated(head: bytes, body: bytes, said: Said | None) -> tuple[bytes, bytes]:
    if said is None:
        return head, body
    status, code, message = said
    document = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    length = f"Content-Type: application/xml\r\nContent-Length: {len(document)}"
    return f"HTTP/1.1 {status} Refused\r\n{length}\r\n\r\n".encode(), document
