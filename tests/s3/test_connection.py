"""One connection: what it makes of every way in which an answer can come, or not come."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.config import LANE_MEMORY
from sealift.s3.connection import POURING, Connection, LostError, buffer
from sealift.s3.heads import MalformedResponseError
from tests.support.peer import listening

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE = bytes(range(251)) * 16_384
"""4 MiB, of which no two neighbouring buffers are alike."""

ANSWERS = {
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    "in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"6;x=y\r\nhello \r\n4\r\nworl\r\n1\r\nd\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    "until it closes": b"HTTP/1.1 200 OK\r\n\r\nhello world",
    "after interim ones": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
}


@asynccontextmanager
async def connected():
    """A connection, and the peer's side of it."""
    async with listening() as peer:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(loop, buffer(POURING)), peer.host, peer.port)
        try:
            yield connection, await peer.accept()
        finally:
            connection.close()


def arrives(connection, data):
    """Do what the event loop does when it has received `data`, all at once."""
    if data:
        connection.get_buffer(-1)[: len(data)] = data
        connection.buffer_updated(len(data))


async def settle():
    """Let everybody go on who can."""
    for _ in range(4):
        await asyncio.sleep(0)


async def received(connection, method="GET"):
    """Send a request; return the status and the body of its answer."""
    head = await connection.exchange(REQUEST, method)
    body = bytearray()
    while piece := await connection.read():
        body += piece
    return head.status, bytes(body)


async def answered(answer, method="GET"):
    """What comes of an answer that is followed by nothing; and whether the connection is good for another request."""
    async with connected() as (connection, side):
        asking = asyncio.create_task(received(connection, method))
        await side.answers(answer)
        outcome = await asking
        return outcome, connection.reusable


# ── Where the bytes are split ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_the_same_wherever_it_is_split(answer):
    for split in range(1, len(answer)):
        async with connected() as (connection, side):
            asking = asyncio.create_task(received(connection))
            await settle()
            arrives(connection, answer[:split])
            await settle()
            arrives(connection, answer[split:])
            if answer is ANSWERS["until it closes"]:
                side.close()
            assert await asking == (200, b"hello world"), split


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_may_come_byte_by_byte(answer):
    async with connected() as (connection, side):
        asking = asyncio.create_task(received(connection))
        await settle()
        for position in range(len(answer)):
            arrives(connection, answer[position : position + 1])
            await settle()
        side.close()
        assert await asking == (200, b"hello world")


@pytest.mark.parametrize("framing", ["with a length", "in chunks", "until it closes"])
async def test_a_large_body_comes_whole_through_a_buffer_that_is_smaller(framing):
    pieces = [LARGE[start : start + 70_001] for start in range(0, len(LARGE), 70_001)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head, body = {
        "with a length": (b"Content-Length: %d\r\n" % len(LARGE), LARGE),
        "in chunks": (b"Transfer-Encoding: chunked\r\n", chunks),
        "until it closes": (b"", LARGE),
    }[framing]

    async def serve(side):
        await side.answers(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)
        if framing == "until it closes":
            side.close()

    async with connected() as (connection, side), anyio.create_task_group() as group:
        group.start_soon(serve, side)
        assert await received(connection) == (200, LARGE)
        assert connection.reusable == (framing != "until it closes")


# ── What was handed out ─────────────────────────────────────────────────────────────────────────────


async def test_what_was_handed_out_stays_as_it_is_until_the_next_read():
    async with connected() as (connection, _):
        asking = asyncio.create_task(connection.exchange(REQUEST))
        await settle()
        arrives(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nfour")
        await asking
        piece = await connection.read()
        arrives(connection, b"and more")
        assert bytes(piece) == b"four"
        assert bytes(await connection.read()) == b"and more"


async def test_chunks_that_came_together_stay_as_they_are_while_more_come():
    async with connected() as (connection, _):
        asking = asyncio.create_task(connection.exchange(REQUEST))
        await settle()
        arrives(
            connection,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3\r\nabc\r\n4\r\ndefg\r\n2\r\nhi\r\n",
        )
        await asking
        assert bytes(await connection.read()) == b"abc"
        second = await connection.read()
        arrives(connection, b"6\r\nXXXXXX\r\n" * 20)
        assert bytes(second) == b"defg"
        assert bytes(await connection.read()) == b"hi"
        assert bytes(await connection.read()) == b"XXXXXX"


async def test_a_peer_waits_for_a_reader_that_does_not_read_and_nothing_is_lost():
    async with connected() as (connection, side):
        far = side.writer.get_extra_info("socket")
        near = connection._transport.get_extra_info("socket")
        await_head = asyncio.create_task(connection.exchange(REQUEST))
        await side.answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * len(LARGE)))
        await await_head
        with socket.socket(fileno=socket.dup(far.fileno())) as raw:
            raw.setblocking(False)
            data, sent, refused = memoryview(LARGE * 4), 0, 0
            while refused < 50 and sent < len(data):  # each time, whoever would receive may do so
                try:
                    sent += raw.send(data[sent : sent + LANE_MEMORY])
                    refused = 0
                except BlockingIOError:
                    refused += 1
                    await settle()
            kernel = far.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            kernel += near.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            assert connection._stop == LANE_MEMORY
            assert sent <= LANE_MEMORY + kernel
            rest = asyncio.create_task(asyncio.get_running_loop().sock_sendall(raw, data[sent:]))
            body = bytearray()
            while piece := await connection.read():
                body += piece
            await rest
        assert body == data
        assert connection.reusable


async def test_a_peer_that_was_made_to_wait_is_not_silent():
    async with connected() as (connection, _):
        asking = asyncio.create_task(connection.exchange(REQUEST))
        await settle()
        arrives(connection, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * LANE_MEMORY))
        await asking
        arrives(connection, bytes(len(connection.get_buffer(-1))))
        connection.heard -= 1000.0  # so long the reader took
        before = connection.heard
        assert await connection.read()
        assert connection.heard == before
        waiting = asyncio.create_task(connection.read())
        await settle()
        assert connection.waiting
        assert connection.heard > before + 900.0, "its time begins when it may send again"
        waiting.cancel()


# ── Poured ──────────────────────────────────────────────────────────────────────────────────────────


class Glass:
    """A sink that takes what comes while it is `ready`, or raises `error`."""

    def __init__(self, *ready, error=None):
        self.taken = bytearray()
        self.times = 0
        self.error = error
        self._ready = list(ready)

    @property
    def ready(self):
        return self._ready.pop(0) if self._ready else True

    def take(self, data):
        if self.error is not None:
            raise self.error
        self.taken += data
        self.times += 1


async def poured(connection, glass, *, at_once=False):
    """Send a request; return the body: what the sink took, and what came while it was not ready, as it came."""
    await connection.exchange(REQUEST)
    if at_once and connection.take_what_came(glass):
        return bytes(glass.taken)
    while data := await connection.pour(glass):
        glass.taken += data
    return bytes(glass.taken)


def with_length(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_a_large_body_is_poured_whole_and_leaves_the_connection_good():
    async with connected() as (connection, side), anyio.create_task_group() as group:
        group.start_soon(side.answers, with_length(LARGE))
        assert await poured(connection, Glass()) == LARGE
        assert connection.reusable
        group.start_soon(side.answers, with_length(b"again"))
        assert await received(connection) == (200, b"again")


@given(
    size=st.integers(0, 3000),
    cuts=st.lists(st.integers(1, 500), max_size=20),
    ready=st.lists(st.booleans(), max_size=20),
    at_once=st.booleans(),
)
@settings(max_examples=60)
def test_what_is_poured_is_the_body_wherever_it_is_split_and_whenever_the_sink_is_ready(size, cuts, ready, at_once):
    body = LARGE[:size]

    async def pour():
        async with connected() as (connection, _):
            pouring = asyncio.create_task(poured(connection, Glass(*ready), at_once=at_once))
            await settle()
            answer = with_length(body)
            for cut in [*cuts, len(answer)]:
                piece, answer = answer[:cut], answer[cut:]
                arrives(connection, piece)
                await settle()
            assert await pouring == body
            assert connection.reusable

    anyio.run(pour)


async def test_what_a_sink_raises_comes_out_and_closes_the_connection():
    async with connected() as (connection, _):
        pouring = asyncio.create_task(poured(connection, Glass(error=ZeroDivisionError())))
        await settle()
        arrives(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await settle()
        arrives(connection, b"hell")
        with pytest.raises(ZeroDivisionError):
            await pouring
        assert connection.closed


async def test_bytes_behind_a_poured_body_reach_no_sink_and_spoil_the_connection():
    async with connected() as (connection, _):
        glass = Glass()
        pouring = asyncio.create_task(poured(connection, glass))
        await settle()
        arrives(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await settle()
        arrives(connection, b"llo, and more")
        assert await pouring == b"hello"
        assert not connection.reusable


async def test_a_body_that_came_with_its_head_is_taken_at_once_and_leaves_the_connection_good():
    async with connected() as (connection, side), anyio.create_task_group() as group:
        for body in (b"hello", b""):
            group.start_soon(side.answers, with_length(body))
            await connection.exchange(REQUEST)
            glass = Glass()
            assert connection.take_what_came(glass)
            assert (bytes(glass.taken), connection.reusable) == (body, True)


async def test_a_body_of_which_only_the_beginning_came_with_its_head_is_not_all_there():
    async with connected() as (connection, side), anyio.create_task_group() as group:
        group.start_soon(side.answers, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await connection.exchange(REQUEST)
        glass = Glass()
        assert not connection.take_what_came(glass)
        assert (bytes(glass.taken), connection.reusable) == (b"he", False)


async def test_what_a_sink_raises_over_a_body_that_came_with_its_head_closes_the_connection():
    async with connected() as (connection, side), anyio.create_task_group() as group:
        group.start_soon(side.answers, with_length(b"hello"))
        await connection.exchange(REQUEST)
        with pytest.raises(ZeroDivisionError):
            connection.take_what_came(Glass(error=ZeroDivisionError()))
        assert connection.closed


async def test_nothing_is_taken_at_once_of_a_body_in_chunks():
    async with connected() as (connection, side), anyio.create_task_group() as group:
        group.start_soon(side.answers, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        await connection.exchange(REQUEST)
        assert not connection.take_what_came(Glass())
        assert await connection.read() == b"hello"


@pytest.mark.parametrize("at_once", [True, False])
async def test_bytes_that_came_together_with_a_poured_body_spoil_the_connection_too(at_once):
    async with connected() as (connection, _):
        pouring = asyncio.create_task(poured(connection, Glass(), at_once=at_once))
        await settle()
        arrives(connection, with_length(b"hello") + b", and more")
        assert await pouring == b"hello"
        assert not connection.reusable


async def test_a_poured_body_that_breaks_off_is_lost():
    async with connected() as (connection, side):
        glass = Glass()
        pouring = asyncio.create_task(poured(connection, glass))
        await side.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell")
        side.close()
        with pytest.raises(LostError):
            await pouring
        assert glass.taken == b"hell"


async def test_nothing_is_poured_any_more_when_whoever_poured_is_cancelled():
    async with connected() as (connection, _):
        glass = Glass()
        pouring = asyncio.create_task(poured(connection, glass))
        await settle()
        arrives(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await settle()
        arrives(connection, b"he")
        pouring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pouring
        arrives(connection, b"llo")
        assert glass.taken == b"he"
        assert not connection.reusable


# ── Good for another request ────────────────────────────────────────────────────────────────────────

ONCE_MORE = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", b"ok"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", b""),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HEAD", b""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", b""),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", b""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET", b"ok"),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "GET", b"ok"),
]
NEVER_AGAIN = [
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "GET", b"ok"),
    (b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive, Close\r\nContent-Length: 2\r\n\r\nok", "GET", b"ok"),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", b"ok"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok+", "GET", b"ok"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n+", "GET", b""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n+", "GET", b"ok"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HEAD", b""),
]


@pytest.mark.parametrize(("answer", "method", "body"), ONCE_MORE)
async def test_an_answer_that_was_read_to_its_end_leaves_the_connection_good(answer, method, body):
    (status, got), reusable = await answered(answer, method)
    assert (status // 100 in {2, 3}, got, reusable) == (True, body, True)


@pytest.mark.parametrize(("answer", "method", "body"), NEVER_AGAIN)
async def test_a_connection_is_not_used_again_where_the_answer_says_so_or_says_too_much(answer, method, body):
    (_, got), reusable = await answered(answer, method)
    assert (got, reusable) == (body, False)


async def test_answers_follow_each_other_on_one_connection():
    async with connected() as (connection, side):
        for number, (answer, method, body) in enumerate(ONCE_MORE, 1):
            asking = asyncio.create_task(received(connection, method))
            await side.answers(answer)
            assert (await asking)[1] == body
            assert (connection.exchanges, connection.reusable) == (number, True)


@pytest.mark.parametrize("answer", [ANSWERS["with a length"], ANSWERS["in chunks"]])
async def test_a_body_that_was_not_read_to_its_end_spoils_the_connection(answer):
    async with connected() as (connection, side):
        asking = asyncio.create_task(connection.exchange(REQUEST))
        await side.answers(answer)
        await asking
        assert not connection.reusable
        await connection.read()
        assert connection.reusable == (answer is ANSWERS["with a length"])  # that one came at once


async def test_bytes_that_nobody_asked_for_close_it():
    async with connected() as (connection, side):
        asking = asyncio.create_task(received(connection))
        await side.answers(ONCE_MORE[0][0])
        await asking
        assert connection.reusable
        await side.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert await side.gone()
        assert connection.closed


async def test_a_peer_that_closes_an_idle_connection_is_noticed():
    async with connected() as (connection, side):
        asking = asyncio.create_task(received(connection))
        await side.answers(ONCE_MORE[0][0])
        await asking
        side.close()
        while not connection.closed:
            await asyncio.sleep(0)
        with pytest.raises(LostError) as caught:
            await connection.exchange(REQUEST)
        assert caught.value.unheard
        assert connection.closed
        assert not connection.reusable


# ── What goes wrong ─────────────────────────────────────────────────────────────────────────────────

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
        CHUNKED + b"zz\r\n",
        CHUNKED + b"1\r\nabc\r\n",
        CHUNKED + b"0\r\n" + b"T: t\r\n" * 20_000,
    ],
    ids=lambda answer: f"{answer[:70]!r}, {len(answer)}",
)
async def test_what_is_no_answer_closes_the_connection(answer):
    async with connected() as (connection, side), anyio.create_task_group() as group:

        async def serve():
            with suppress(ConnectionError):  # it goes before it has heard everything
                await side.answers(answer)

        group.start_soon(serve)
        with pytest.raises(MalformedResponseError):
            await received(connection)
        assert connection.closed
        assert not connection.reusable
        await side.gone()


BROKEN_OFF = {
    "before the head": (b"", True),
    "in the head": (b"HTTP/1.1 200 OK\r\nContent-", False),
    "after an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n", False),
    "before the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", False),
    "in the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", False),
    "in a chunk": (CHUNKED + b"5\r\nhell", False),
    "between chunks": (CHUNKED + b"5\r\nhello\r\n", False),
    "in the trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n", False),
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(("begun", "unheard"), BROKEN_OFF.values(), ids=BROKEN_OFF)
async def test_an_answer_that_breaks_off_is_lost(begun, unheard, how):
    async with connected() as (connection, side):
        asking = asyncio.create_task(received(connection))
        await side.request()
        arrives(connection, begun)
        await settle()
        getattr(side, how)()
        with pytest.raises(LostError) as caught:
            await asking
        assert caught.value.unheard == unheard
        assert connection.closed
        assert not connection.reusable


async def test_what_had_arrived_before_the_end_is_still_handed_out():
    async with connected() as (connection, side):
        asking = asyncio.create_task(connection.exchange(REQUEST))
        await side.answers(ANSWERS["with a length"])
        side.close()
        await asking
        await side.gone()
        assert bytes(await connection.read()) == b"hello world"
        assert not await connection.read()


@pytest.mark.parametrize("ended", ["by the peer's reset", "by ourselves"])
async def test_a_body_without_a_length_ends_with_an_orderly_end_and_with_no_other(ended):
    async with connected() as (connection, side):
        asking = asyncio.create_task(received(connection))
        await side.request()
        arrives(connection, ANSWERS["until it closes"])
        await settle()
        if ended == "by ourselves":
            connection.close()
        else:
            side.reset()
        with pytest.raises(LostError):
            await asking


# ── Cancellation ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 2", ANSWERS["with a length"][:-3], CHUNKED, CHUNKED + b"5\r\nhe"])
async def test_whoever_is_cancelled_takes_the_connection_along(begun):
    async with connected() as (connection, side):
        async with anyio.create_task_group() as group:
            group.start_soon(received, connection)
            await side.request()
            arrives(connection, begun)
            await settle()
            assert connection.waiting
            group.cancel_scope.cancel()
        assert connection.closed
        assert not connection.reusable
        assert await side.gone()
        with pytest.raises(LostError):
            await connection.exchange(REQUEST)
