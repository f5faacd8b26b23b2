"""A connection against a peer that says exactly what a test wants, in exactly the pieces that it wants."""

import asyncio

import anyio
import pytest

from sealift.s3.connection import BUFFER, Connection, LostError, SilentError
from sealift.s3.heads import LARGEST_HEAD, MalformedResponseError

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 4
LENGTH = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 1024\r\n\r\n' + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"200;name=value\r\n" + BODY[:512] + b"\r\n1FF\r\n" + BODY[512:1023] + b"\r\n1\r\n" + BODY[1023:] + b"\r\n"
    + b"0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n"
)  # fmt: skip
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY


class Peer:
    """A server of one connection. It is told what to send; `None` closes, and an exception resets."""

    def __init__(self):
        self.asked = b""
        self.sent = anyio.Event()
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        port = self._server.sockets[0].getsockname()[1]
        _, self.connection = await loop.create_connection(lambda: Connection(loop), "127.0.0.1", port)
        while self._writer is None:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_):
        self.connection.close()
        self._writer.transport.abort()
        self._server.close()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self._reader, self._writer = reader, writer

    async def heard(self):
        """Wait for a request's head."""
        self.asked = await self._reader.readuntil(b"\r\n\r\n")

    async def say(self, *pieces):
        for piece in pieces:
            if piece is None:
                self._writer.close()
            else:
                self._writer.write(piece)
                await self._writer.drain()
                for _ in range(3):  # each piece arrives by itself
                    await asyncio.sleep(0)

    async def answer(self, *pieces):
        await self.heard()
        await self.say(*pieces)


async def whole(connection):
    body = bytearray()
    while piece := await connection.read():
        body += piece
    return bytes(body)


REQUEST = b"GET /b/k HTTP/1.1\r\nhost: h\r\n\r\n"


async def answered(*pieces):
    """Exchange one request; return the head, the body, and whether the connection can be used again."""
    async with Peer() as peer, anyio.create_task_group() as group:
        with anyio.fail_after(30):
            group.start_soon(peer.answer, *pieces)
            head = await peer.connection.exchange(REQUEST)
            body = await whole(peer.connection)
            assert peer.asked == REQUEST
            return head, body, peer.connection.reusable


@pytest.mark.parametrize(
    ("response", "reusable"),
    [(LENGTH, True), (CHUNKED, True), (UNTIL_CLOSE, False)],
    ids=["length", "chunked", "close"],
)
async def test_a_response_is_the_same_however_it_is_cut(response, reusable):
    async with Peer() as peer:
        connection = peer.connection
        for cut in range(1, len(response), 7 if reusable else len(response) // 3):
            if not reusable:
                head, body, again = await answered(response[:cut], response[cut:], None)
            else:
                async with anyio.create_task_group() as group:
                    group.start_soon(peer.answer, response[:cut], response[cut:])
                    with anyio.fail_after(30):
                        head = await connection.exchange(REQUEST)
                        body = await whole(connection)
                again = connection.reusable
            assert (head.status, body, again) == (200, BODY, reusable), cut


async def test_a_response_may_come_a_byte_at_a_time():
    head, body, _ = await answered(*(LENGTH[at : at + 1] for at in range(200)), LENGTH[200:])
    assert (head.headers["etag"], body) == ('"e"', BODY)


async def test_what_comes_before_the_final_answer_is_passed_over():
    head, body, _ = await answered(b"HTTP/1.1 100 Continue\r\n\r\n", LENGTH)
    assert (head.status, body) == (200, BODY)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * LARGEST_HEAD,
    ],
)
async def test_what_is_no_response_is_refused_and_the_connection_closed(garbage):
    async with Peer() as peer, anyio.create_task_group() as group:
        group.start_soon(peer.answer, garbage)
        with anyio.fail_after(30), pytest.raises(MalformedResponseError):
            await peer.connection.exchange(REQUEST)
        assert peer.connection.closed


@pytest.mark.parametrize(("before", "unheard"), [((), True), ((b"HTTP/1.1 20",), False)])
async def test_an_end_before_the_answer_says_whether_anything_had_come(before, unheard):
    async with Peer() as peer, anyio.create_task_group() as group:
        group.start_soon(peer.answer, *before, None)
        with anyio.fail_after(30), pytest.raises(LostError) as caught:
            await peer.connection.exchange(REQUEST)
        assert caught.value.unheard is unheard


@pytest.mark.parametrize("response", [LENGTH[:-1], CHUNKED[:-3]])
async def test_a_body_that_ends_early_is_lost(response):
    async with Peer() as peer, anyio.create_task_group() as group:
        group.start_soon(peer.answer, response, None)
        await peer.connection.exchange(REQUEST)
        with anyio.fail_after(30), pytest.raises(LostError):
            await whole(peer.connection)
        assert not peer.connection.reusable


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_server_that_wants_to_close_is_believed(head):
    _, body, reusable = await answered(head)
    assert (body, reusable) == (b"", False)


async def test_a_connection_is_not_used_again_before_its_body_was_read():
    async with Peer() as peer, anyio.create_task_group() as group:
        group.start_soon(peer.answer, LENGTH)
        await peer.connection.exchange(REQUEST)
        assert not peer.connection.reusable
        await whole(peer.connection)
        assert peer.connection.reusable


async def test_bytes_that_nobody_asked_for_close_it():
    async with Peer() as peer, anyio.create_task_group() as group:
        group.start_soon(peer.answer, LENGTH)
        await peer.connection.exchange(REQUEST)
        await whole(peer.connection)
        await peer.say(b"HTTP/1.1 200 OK\r\n")
        with anyio.fail_after(30):
            while not peer.connection.closed:
                await asyncio.sleep(0)
        assert not peer.connection.reusable


async def test_a_slow_reader_holds_the_peer_back_and_loses_nothing():
    size = 16 * BUFFER
    body = b"".join(number.to_bytes(4, "big") for number in range(size // 4))
    async with Peer() as peer, anyio.create_task_group() as group:
        group.start_soon(peer.answer, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, body)
        head = await peer.connection.exchange(REQUEST)
        assert head.content_length == size
        first = await peer.connection.read()
        kept = bytes(first)
        for _ in range(50):  # it may fill its buffer now, and must leave alone what was handed out
            await asyncio.sleep(0)
        assert bytes(first) == kept
        assert len(kept) < size
        assert kept + await whole(peer.connection) == body
        assert peer.connection.reusable


@pytest.mark.parametrize("where", ["head", "body"])
async def test_cancelling_closes_it(where):
    async with Peer() as peer:
        connection = peer.connection
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cut():
                    await peer.answer(*([] if where == "head" else [LENGTH[:100]]))
                    scope.cancel()

                group.start_soon(cut)
                await connection.exchange(REQUEST)
                await whole(connection)
        assert scope.cancelled_caught
        assert connection.closed


async def test_whoever_waits_hears_why_it_was_closed():
    async with Peer() as peer, anyio.create_task_group() as group:

        async def watch():
            await peer.heard()
            assert peer.connection.waiting
            peer.connection.close(SilentError("nothing came for 60 s"))

        group.start_soon(watch)
        with anyio.fail_after(30), pytest.raises(SilentError, match="60 s"):
            await peer.connection.exchange(REQUEST)
