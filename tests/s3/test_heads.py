from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.s3 import heads
from sealift.s3.heads import (
    LARGEST_HEAD,
    LARGEST_LINE,
    ChunkedBody,
    Head,
    MalformedResponseError,
    parse_head,
)

FROM_S3 = (
    b"HTTP/1.1 206 Partial Content\r\n"
    b"x-amz-id-2: MzRISOwyjmnup0123456789abcdefJh7Rr4Gb8Bc9DwAPSrRTxCtaJMQ==\r\n"
    b"x-amz-request-id: 0A49CE4060975EAC\r\n"
    b"Date: Wed, 12 Oct 2026 17:50:00 GMT\r\n"
    b"Last-Modified: Sun, 1 Jan 2026 12:00:00 GMT\r\n"
    b'ETag: "fba9dede5f27731c9771645a39863328"\r\n'
    b"x-amz-server-side-encryption: aws:kms\r\n"
    b"Accept-Ranges: bytes\r\n"
    b"Content-Range: bytes 0-16383/16384\r\n"
    b"Content-Type: binary/octet-stream\r\n"
    b"Content-Length: 16384\r\n"
    b"Server: AmazonS3\r\n"
    b"\r\n"
)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory in ("_names", "_shapes"):
        monkeypatch.setattr(heads, memory, {})
    monkeypatch.setattr(heads, "_latest", [])


def response(*headers: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *headers, "", ""]).encode("latin-1")


def parsed(data: bytes, method: str = "GET") -> Head:
    head = parse_head(data, method=method)
    assert head is not None
    return head


def test_a_head_of_s3s_is_taken_apart() -> None:
    head = parsed(FROM_S3)
    assert (head.status, head.content_length, head.chunked, head.keep_alive) == (206, 16384, False, True)
    assert head.length == len(FROM_S3)
    assert head.headers["etag"] == '"fba9dede5f27731c9771645a39863328"'
    assert head.headers["date"] == "Wed, 12 Oct 2026 17:50:00 GMT"
    assert len(head.headers) == 11


@pytest.mark.parametrize(
    "data",
    [
        FROM_S3,
        response("Content-Length: 5"),
        response("Transfer-Encoding: chunked"),
        response(),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nx: y\r\n\r\n" + FROM_S3,
    ],
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_head_reads_the_same_wherever_its_bytes_are_split(data: bytes, kind: type) -> None:
    whole = parsed(data)
    assert whole.length == len(data)
    for count in range(len(data)):
        assert parse_head(kind(data[:count]), method="GET") is None
    for more in (b"", b"a", b"\r\n", b"\r\n\r\n", b"HTTP/1.1 500 No\r\n\r\n", b"\0" * LARGEST_HEAD):
        assert parse_head(kind(data + more), method="GET") == whole


@pytest.mark.parametrize(
    "second",
    [
        FROM_S3,
        FROM_S3.replace(b"AmazonS3", b""),
        FROM_S3.replace(b"AmazonS3", b" \t AmazonS3 \t "),
        FROM_S3.replace(b"AmazonS3", b"\xa0Amazon S3\x85"),
        FROM_S3.replace(b": AmazonS3", b":AmazonS3"),
        FROM_S3.replace(b"Server: ", b"server: "),
        FROM_S3.replace(b"Server: ", b"ETag: "),
        FROM_S3.replace(b"Server: ", b"X: Server: "),
        FROM_S3.replace(b"206", b"200"),
        FROM_S3.replace(b"1.1", b"1.0"),
        FROM_S3.replace(b"\r\nServer: ", b"\rServer: "),
        FROM_S3.replace(b"\r\nServer: ", b"\nServer: "),
        FROM_S3.replace(b"\r\nServer: ", b"\r\n Server: "),
        FROM_S3.replace(b"\r\nServer: ", b"\r\r\nServer: "),
        FROM_S3.replace(b"AmazonS3", b"Amazon\rS3"),
        FROM_S3.replace(b"AmazonS3", b"Amazon\0S3"),
        FROM_S3.replace(b"Server: ", b"Server : "),
        FROM_S3.replace(b"Server: ", b"Server"),
    ],
)
def test_a_head_is_read_alike_after_any_other(second: bytes) -> None:
    """The shape of a server's last head is remembered; that makes it quicker, and nothing else."""

    def read(*before: bytes) -> Head | str | None:
        heads._latest.clear()
        for data in before:
            parse_head(data, method="GET")
        try:
            return parse_head(second, method="GET")
        except MalformedResponseError as error:
            return str(error)

    assert read() == read(FROM_S3) == read(FROM_S3, FROM_S3) == read(response("x: y"), FROM_S3)


def test_heads_are_read_when_nothing_more_can_be_remembered() -> None:
    for number in range(2000):
        head = parsed(response(f"X-Amz-Meta-{number}: {number}"))
        assert head.headers == {f"x-amz-meta-{number}": str(number)}
    assert len(heads._shapes) == heads._MOST_SHAPES
    assert len(heads._names) == heads._MOST_NAMES
    for _ in range(2):
        assert parsed(FROM_S3).headers["server"] == "AmazonS3"


def test_the_first_response_is_read_alike_for_the_second_time() -> None:
    """Names are remembered once they were checked; a whole line that is a known name is still no header."""
    first = response("X-New: 1", "X-Other:2", "X-Empty:")
    assert parsed(first) == parsed(first)
    assert parsed(first).headers == {"x-new": "1", "x-other": "2", "x-empty": ""}
    with pytest.raises(MalformedResponseError):
        parse_head(response("X-Other: 2", "X-New"), method="GET")


@pytest.mark.parametrize(
    ("headers", "method", "status", "content_length", "chunked", "keep_alive"),
    [
        (["Content-Length: 0"], "GET", "HTTP/1.1 200 OK", 0, False, True),
        (["Content-Length: 00012"], "GET", "HTTP/1.1 200 OK", 12, False, True),
        (["Content-Length: 999999999999999999"], "GET", "HTTP/1.1 200 OK", 999999999999999999, False, True),
        (["Content-Length: 5"], "HEAD", "HTTP/1.1 200 OK", 0, False, True),
        (["Content-Length: 5"], "GET", "HTTP/1.1 304 Not Modified", 0, False, True),
        (["Transfer-Encoding: chunked"], "HEAD", "HTTP/1.1 200 OK", 0, False, True),
        ([], "HEAD", "HTTP/1.1 404 Not Found", 0, False, True),
        ([], "GET", "HTTP/1.1 204 No Content", 0, False, True),
        ([], "GET", "HTTP/1.1 200 OK", None, False, False),
        (["Connection: keep-alive"], "GET", "HTTP/1.1 200 OK", None, False, False),
        (["Transfer-Encoding: Chunked"], "GET", "HTTP/1.1 200 OK", None, True, True),
        (["Transfer-Encoding: chunked", "Connection: close"], "GET", "HTTP/1.1 200 OK", None, True, False),
        (["Content-Length: 5", "Connection: Close"], "GET", "HTTP/1.1 200 OK", 5, False, False),
        (["Content-Length: 5", "Connection: x , close"], "GET", "HTTP/1.1 200 OK", 5, False, False),
        (["Content-Length: 5", "Connection: x", "Connection: close"], "GET", "HTTP/1.1 200 OK", 5, False, False),
        (["Content-Length: 5", "Connection: closed"], "GET", "HTTP/1.1 200 OK", 5, False, True),
        (["Content-Length: 5"], "GET", "HTTP/1.0 200 OK", 5, False, False),
        (["Content-Length: 5", "Connection: Keep-Alive"], "GET", "HTTP/1.0 200 OK", 5, False, True),
        (["Content-Length: 5", "Connection: keep-alive, close"], "GET", "HTTP/1.0 200 OK", 5, False, False),
        (["Content-Length: 5"], "GET", "HTTP/1.1 200", 5, False, True),
        (["Content-Length: 5"], "GET", "HTTP/1.1 200 ", 5, False, True),
        (["Content-Length: 5"], "GET", "HTTP/1.1 503 Slow Down \xfc\t!", 5, False, True),
    ],
)
def test_where_the_body_ends_and_whether_the_connection_goes_on(
    headers: list[str], method: str, status: str, content_length: int | None, chunked: bool, keep_alive: bool
) -> None:
    head = parsed(response(*headers, status=status), method)
    assert head.status == int(status.split()[1])
    assert (head.content_length, head.chunked, head.keep_alive) == (content_length, chunked, keep_alive)


def test_a_head_request_learns_the_length_that_a_get_would_have() -> None:
    assert parsed(response("Content-Length: 5"), "HEAD").headers["content-length"] == "5"


def test_white_space_around_values_goes_and_repeated_headers_are_joined() -> None:
    head = parsed(response("Content-Length:5", "X-A: \t a  b \t", "X-B:", "x-a:c", "X-C: \xfc"))
    assert head.headers == {"content-length": "5", "x-a": "a  b, c", "x-b": "", "x-c": "\xfc"}


def test_interim_responses_are_skipped_and_counted() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\nTransfer-Encoding: x\r\n\r\n"
    head = parsed(early * 3 + FROM_S3)
    assert head == replace(parsed(FROM_S3), length=len(early) * 3 + len(FROM_S3))


@pytest.mark.parametrize(
    "data",
    [
        # Framing that two readers could understand differently.
        response("Content-Length: 5", "Transfer-Encoding: chunked"),
        response("Content-Length: 5", "Content-Length: 6"),
        response("Content-Length: 5", "content-length:5"),
        response("Content-Length: 5, 5"),
        response("Content-Length: 5, 6"),
        response("Content-Length: 5,"),
        response("Content-Length: 5", "Content-Length:"),
        response("Content-Length:"),
        response("Content-Length: -1"),
        response("Content-Length: +1"),
        response("Content-Length: 1_0"),
        response("Content-Length: 0x10"),
        response("Content-Length: 1 0"),
        response("Content-Length: \xb2"),
        response("Content-Length: 1000000000000000000"),
        response("Transfer-Encoding: gzip, chunked"),
        response("Transfer-Encoding: chunked, chunked"),
        response("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        response("Transfer-Encoding: identity"),
        response("Transfer-Encoding:"),
        response("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK"),
        response("Transfer-Encoding: \x0bchunked"),
        # Lines that are none of HTTP/1.1's.
        response("Content-Length : 5"),
        response(" Content-Length: 5"),
        response("Content-Length: 5", " folded"),
        response("Content-Length: 5", "\tfolded"),
        response("no colon"),
        response(": no name"),
        response("a b: c"),
        response("a\xfc: c"),
        response("a(: c"),
        response("a: b\0c"),
        response("a: b\x7fc"),
        response("a: b\nc: d"),
        response("a: b\rc: d"),
        response("a: b\r"),
        response("a: b\n"),
        # Status lines that are none.
        response(status="HTTP/1.1  200 OK"),
        response(status="HTTP/1.1 200OK"),
        response(status="HTTP/1.1 2000 OK"),
        response(status="HTTP/1.1 20 OK"),
        response(status="HTTP/1.1 099 OK"),
        response(status="HTTP/1.1 \xb2\xb2\xb2 OK"),
        response(status="HTTP/1.1\t200 OK"),
        response(status="HTTP/1.1 200\tOK"),
        response(status="HTTP/1.2 200 OK"),
        response(status="HTTP/1.12 200 OK"),
        response(status=" HTTP/1.1 200 OK"),
        response(status=""),
        response(status="HTTP/1.1 101 Switching Protocols"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + response("a b: c"),
        b"HTTP/1.1 100 Continue\r\na b: c\r\n\r\n" + FROM_S3,
    ],
)  # fmt: skip
def test_what_could_be_understood_in_two_ways_is_refused(data: bytes) -> None:
    for method in ("GET", "HEAD"):
        with pytest.raises(MalformedResponseError):
            parse_head(data, method=method)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200",
        b"HTTP/0.9",
        b"http/1.1",
        b"\r\nHTTP/1.1 200 OK",
        b"<html>",
        b"\x15\x03\x03\x00\x02",
        b"SSH-2.0-OpenSSH",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\n",
        b"HTTP/1.1 200 OK\rC",
        b"HTTP/1.1 100 Continue\r\n\r\nSSH",
    ],
)
def test_what_can_become_no_head_is_refused_without_waiting_for_more(data: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        parse_head(data, method="GET")


def test_a_head_has_its_largest_size() -> None:
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: ", b"\r\n\r\n"
    most = start + b"y" * (LARGEST_HEAD - len(start) - len(end)) + end
    assert parsed(most + b"body").length == LARGEST_HEAD
    assert parse_head(most[:-1], method="GET") is None
    too_much = start + b"y" * (LARGEST_HEAD - len(start) - len(end) + 1) + end
    for data in (too_much, too_much[:LARGEST_HEAD], start + b"y" * 2 * LARGEST_HEAD):
        with pytest.raises(MalformedResponseError, match="more than 65536 bytes"):
            parse_head(data, method="GET")


def test_interim_responses_without_end_are_refused() -> None:
    with pytest.raises(MalformedResponseError, match="more than 65536 bytes"):
        parse_head(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, method="GET")


NAMES = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12)
VALUES = st.text([chr(n) for n in (9, *range(0x20, 0x7F), *range(0x80, 0x100))], max_size=20)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


@given(st.integers(200, 599), HEADERS)
def test_names_and_values_come_out_as_they_went_in(status: int, headers: list[tuple[str, str]]) -> None:
    expected: dict[str, list[str]] = {}
    for name, value in headers:
        expected.setdefault(name.lower(), []).append(value.strip(" \t"))
    head = parsed(response(*(f"{name}:{value}" for name, value in headers), status=f"HTTP/1.1 {status} x"))
    assert head.status == status
    assert head.headers == {name: ", ".join(values) for name, values in expected.items()}


class Oracle:
    """What httptools makes of a response."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.heads = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        self.heads += 1


SPECKS = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"\x7f",
        b"\xff",
        b"0",
        b"9",
        b"a",
        b"\r\n\r\n",
        b"\r\n ",
    ]
)
LINES = st.sampled_from(
    [b"Content-Length: 5\r\n", b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
     b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200 OK\r\n", b"a:b\r\n"]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A head of S3's in which some bytes were replaced, inserted or left out."""
    data = draw(st.sampled_from([FROM_S3, response("Content-Length: 5", "Server: x"), response("Connection: x")]))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        gone = draw(st.sampled_from([0, 0, 1, 2, 20]))
        data = data[:place] + draw(SPECKS | LINES | st.binary(max_size=3)) + data[place + gone :]
    return data


@given(mutated() | st.binary(max_size=100) | st.binary(max_size=100).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_no_bytes_lead_to_anything_but_a_head_a_wait_or_a_refusal(data: bytes) -> None:
    try:
        head = parse_head(data, method="GET")
    except MalformedResponseError:
        return
    if head is not None:
        assert data[head.length - 4 : head.length] == b"\r\n\r\n"
        assert parse_head(data[: head.length], method="GET") == head
        assert parse_head(data[: head.length - 1], method="GET") is None
        assert not set("".join([*head.headers, *head.headers.values()])) & set("\r\n\0")


@given(mutated(), st.booleans())
def test_what_is_accepted_is_what_httptools_reads(data: bytes, remembered: bool) -> None:
    """Strict, and never about another response: what httptools refuses or reads otherwise is refused here."""
    heads._latest.clear()
    if remembered:
        parse_head(FROM_S3, method="GET")
    try:
        head = parse_head(data, method="GET")
    except MalformedResponseError:
        return
    if head is None or b"HTTP/1.1 1" in data[: head.length]:
        return
    oracle = Oracle()
    parser = httptools.HttpResponseParser(oracle)
    parser.feed_data(data[: head.length])
    assert oracle.heads == 1
    assert parser.get_status_code() == head.status
    joined: dict[str, list[str]] = {}
    for name, value in oracle.headers:
        joined.setdefault(name, []).append(value)
    assert {name: ", ".join(values) for name, values in joined.items()} == head.headers
    if head.keep_alive:
        assert parser.should_keep_alive()


def chunked(*chunks: bytes, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return body + b"0" + extension + b"\r\n" + trailers + b"\r\n"


def fed(body: ChunkedBody, pieces: Iterator[bytes]) -> tuple[bytes, int]:
    """Feed the pieces until the body is complete: what it says, and how many bytes it took."""
    said, used = b"", 0
    for piece in pieces:
        views, count = body.feed(memoryview(piece))
        said += b"".join(views)
        used += count
        if count < len(piece):
            assert body.finished
            break
    return said, used


BODIES = [
    (chunked(b"hello", b" ", b"world" * 5), b"hello " + b"world" * 5),
    (chunked(), b""),
    (chunked(b"hello", extension=b";a=b;c=\"d\t\xfc\""), b"hello"),
    (chunked(b"hello", extension=b" \t;x"), b"hello"),
    (chunked(b"hello", extension=b" "), b"hello"),
    (chunked(b"\r\n0\r\n\r\n", trailers=b"x-amz-checksum-crc32: abc\r\nb:\r\n"), b"\r\n0\r\n\r\n"),
    (b"000A\r\n0123456789\r\n0000\r\n\r\n", b"0123456789"),
    (b"a\r\n0123456789\r\n000000000000000\r\n\r\n", b"0123456789"),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "body"), BODIES)
def test_a_chunked_body_reads_the_same_wherever_its_bytes_are_split(wire: bytes, body: bytes) -> None:
    following = b"HTTP/1.1 200 OK\r\n"
    for place in range(len(wire) + 1):
        chunks = ChunkedBody()
        assert fed(chunks, iter([wire[:place], wire[place:] + following])) == (body, len(wire))
        assert chunks.finished
    chunks = ChunkedBody()
    assert fed(chunks, (bytes([byte]) for byte in wire)) == (body, len(wire))
    assert chunks.finished


@given(st.lists(st.binary(min_size=1, max_size=50)), st.lists(st.integers(0, 400)))
def test_chunks_and_pieces_need_not_agree(chunks: list[bytes], places: list[int]) -> None:
    wire = chunked(*chunks)
    cuts = [0, *sorted(min(place, len(wire)) for place in places), len(wire)]
    body = ChunkedBody()
    pieces = (wire[start:stop] for start, stop in pairwise(cuts))
    assert fed(body, pieces) == (b"".join(chunks), len(wire))
    assert body.finished


def test_a_body_that_has_not_ended_is_not_finished() -> None:
    wire = chunked(b"hello", trailers=b"a: b\r\n")
    for place in range(len(wire)):
        body = ChunkedBody()
        fed(body, iter([wire[:place]]))
        assert not body.finished


def test_the_pieces_are_views_of_what_was_fed() -> None:
    buffer = bytearray(chunked(b"hello"))
    [piece], _ = ChunkedBody().feed(memoryview(buffer))
    buffer[buffer.index(b"h")] = ord("H")
    assert bytes(piece) == b"Hello"


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 5\r\n",
        b";a\r\n",
        b"5\n",
        b"5;a\n",
        b"5;a\rb\r\n",
        b"5;a\0\r\n",
        b"5 5\r\n",
        b"1000000000000000\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello!\r\n",
        b"0\r\nno colon\r\n",
        b"0\r\n folded: x\r\n",
        b"0\r\na : x\r\n",
        b"0\r\na: x\n",
        b"0\r\na: \0\r\n",
        b"0\r\n\n",
        b"0\r\n" + b"a: b\r\n" * (LARGEST_HEAD // 6 + 1),
        b"5;" + b"a" * LARGEST_LINE,
        b"0" * (LARGEST_LINE + 1),
        b"0\r\na: " + b"b" * LARGEST_LINE,
    ],
)
def test_what_is_no_chunked_body_is_refused_wherever_it_is_split(wire: bytes) -> None:
    for pieces in ([wire], [bytes([byte]) for byte in wire]):
        with pytest.raises(MalformedResponseError):
            fed(ChunkedBody(), iter(pieces))


@given(st.lists(st.binary(max_size=20) | SPECKS | st.sampled_from([b"5\r\nhello\r\n", b"0\r\n", b"a: b\r\n"])))
def test_no_bytes_lead_to_anything_but_pieces_or_a_refusal(pieces: list[bytes]) -> None:
    body = ChunkedBody()
    try:
        said, used = fed(body, iter(pieces))
    except MalformedResponseError:
        with pytest.raises(MalformedResponseError):
            fed(ChunkedBody(), iter([b"".join(pieces)]))
        return
    assert fed(ChunkedBody(), iter([b"".join(pieces)])) == (said, used)
    assert body.finished or used == sum(map(len, pieces))
