"""HTTP/1.1 as far as a client of S3 needs it: response heads, and bodies in chunks (RFC 9112). Pure.

Total over arbitrary bytes: what is no response is a MalformedResponseError, never another exception, and never a
guess. Where the RFC lets a client be lenient (bare line feeds, folded lines, a space before the colon, a length
beside a coding, or twice), this one refuses: leniency is what request smuggling is made of, and no S3 needs it.

httptools would be slower: it calls back for each header and leaves decoding, checking and collecting to do. A server
repeats itself, so here a head is first compared with the shape of the last one, which is a match of one pattern; only
another shape is read line by line. The tests hold both ways against httptools, and against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

LARGEST_HEAD = 64 * 1024
"""Bytes of a response's head, those of interim responses before it included. S3's have 500 to 4,000: user metadata
are 2 KB at most (S3 User Guide, "Working with object metadata")."""

LARGEST_LINE = 4096
"""Bytes of a chunk's size line; S3-compatible servers write a size and at most a signature."""

_FIRST_LOOK = 4096  # holds nearly all heads; a look at a receive buffer copies that much and not the buffer

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n")
_BROKEN_LINE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")

# What may stand in a head, line ends aside (RFC 9110, "field-content"): all but control characters.
_TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_BEGINNING = b"HTTP/1."


class MalformedResponseError(ValueError):
    """What the server sent is no HTTP/1.1 response, or one that two readers could understand differently."""


@dataclass(slots=True)
class Head:
    """A response's head. `headers` have lower-case names; repeated ones are joined with a comma and a space.

    `content_length` is the number of bytes of the body as it comes over the connection: 0 where there can be none
    (HEAD, 204, 304), None where the body is chunked or ends with the connection. `length` is what the head itself
    takes, interim (1xx) responses before it included.
    """

    status: int
    headers: dict[str, str]
    keep_alive: bool
    content_length: int | None
    chunked: bool
    length: int


def parse_head(data: bytes | bytearray | memoryview, *, method: str) -> Head | None:
    """Return the head that `data` begins with, the answer to a `method`; None where more bytes are needed.

    Interim responses (1xx) are skipped. Raises MalformedResponseError.
    """
    view = bytes(data[:_FIRST_LOOK])
    end = view.find(b"\r\n\r\n")
    if end < 0:
        view = bytes(data[:LARGEST_HEAD])
        end = view.find(b"\r\n\r\n")
    start = 0
    while end >= 0:
        status, minor, headers = _parse(view[start:end])
        if status >= 200:
            return _framed(status, minor, headers, method, end + 4)
        if status == 101:
            raise MalformedResponseError("the server switches to a protocol that nobody asked for")
        start = end + 4
        view = bytes(data[:LARGEST_HEAD])
        end = view.find(b"\r\n\r\n", start)
    _check_beginning(view[start:])
    if len(view) >= LARGEST_HEAD:
        raise MalformedResponseError(f"the response's head has more than {LARGEST_HEAD} bytes")
    return None


def _check_beginning(data: bytes) -> None:
    """Refuse what cannot become a head, rather than wait for more of it."""
    if not _BEGINNING.startswith(data[: len(_BEGINNING)]):
        raise MalformedResponseError("the response does not begin as HTTP/1 does")
    if _BROKEN_LINE.search(data):
        raise MalformedResponseError("a line of the response's head ends without a CR LF")


@dataclass(frozen=True, slots=True)
class _Shape:
    """A status line and header names in their order, as a server repeats them from one answer to the next."""

    match: Callable[[str], re.Match[str] | None]
    status: int
    minor: int
    names: tuple[str, ...]
    ends: bytes


# What was checked with care once and is compared from then on. Where they are full, heads are read with care for ever.
_names: dict[str, str] = {}  # as written: in lower case
_shapes: dict[tuple[str, ...], _Shape] = {}
_latest: list[_Shape] = []  # the one that the last head had, if any
_MOST_NAMES = 1024  # S3 sends some 60 different ones, user metadata aside
_MOST_SHAPES = 32  # GETs, listings and errors have one each for a bucket; learning one takes 300 µs


def _parse(block: bytes) -> tuple[int, int, dict[str, str]]:
    """Return status, minor version and headers of a head without its empty line."""
    # Deleting what may be there is one pass in C; what is left must be the line ends and nothing else.
    ends = block.translate(None, _TEXT)
    text = block.decode("latin-1")
    if _latest and "\t" not in text:
        shape = _latest[0]
        # A pattern that fails late has tried much: heads with another number of lines are told apart before.
        if ends == shape.ends and (match := shape.match(text)):
            return shape.status, shape.minor, dict(zip(shape.names, match.groups(), strict=False))
    first, *lines = text.split("\r\n")
    if ends != b"\r\n" * len(lines):
        raise MalformedResponseError("there is a control character in the response's head")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise MalformedResponseError("the response's status line is not one of HTTP/1")
    headers: dict[str, str] = {}
    written: list[str] = [first]
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise MalformedResponseError("a line of the response's head has no colon")
        written.append(name)
        name, value = _names.get(name) or _learn_name(name), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if len(headers) == len(lines):  # no name came twice
        known = _shapes.get(tuple(written)) or _learn_shape(tuple(written), int(status[2]), int(status[1]))
        _latest[:] = [known] if known else []
    return int(status[2]), int(status[1]), headers


def _learn_name(name: str) -> str:
    if _FIELD_NAME.fullmatch(name) is None:
        raise MalformedResponseError("a header's name in the response is no token")
    if len(_names) < _MOST_NAMES:
        _names[name] = name.lower()
    return name.lower()


def _learn_shape(written: tuple[str, ...], status: int, minor: int) -> _Shape | None:
    """Remember the shape of a head that was read with care, unless there are too many."""
    if len(_shapes) >= _MOST_SHAPES:
        return None
    # No value begins or ends with a space here, nor is it empty, so that none has to be stripped.
    lines = [re.escape(written[0]), *(f"{re.escape(name)}: (?! )(.*)(?<! )" for name in written[1:])]
    names = tuple(map(str.lower, written[1:]))
    shape = _Shape(re.compile("\r\n".join(lines)).fullmatch, status, minor, names, b"\r\n" * len(names))
    _shapes[written] = shape
    return shape


def _framed(status: int, minor: int, headers: dict[str, str], method: str, length: int) -> Head:
    """Say where the body ends (RFC 9112, section 6.3) and whether the connection is good for another request."""
    content_length, chunked = _content_length(headers), False
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if content_length is not None:
            raise MalformedResponseError("the response has both a Content-Length and a Transfer-Encoding")
        if coding.lower() != "chunked" or minor == 0:
            raise MalformedResponseError("the response has a Transfer-Encoding other than HTTP/1.1's chunked")
        chunked = True
    if method == "HEAD" or status in {204, 304}:
        content_length, chunked = 0, False
    framed = chunked or content_length is not None
    return Head(
        status, headers, framed and _keeps_alive(headers.get("connection"), minor), content_length, chunked, length
    )


@lru_cache(maxsize=16)  # a server says the same each time
def _keeps_alive(connection: str | None, minor: int) -> bool:
    if connection is None:
        return minor == 1
    options = {option.strip(" \t") for option in connection.lower().split(",")}
    return "close" not in options and (minor == 1 or "keep-alive" in options)


def _content_length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    # No list either, which repeated ones become: llhttp refuses them too, whether they agree or not.
    # 18 digits hold 20,000 times S3's largest object (50 TB).
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise MalformedResponseError("the response's Content-Length is no number of bytes")
    return int(text)


class ChunkedBody:
    """Takes a chunked body apart as it comes (RFC 9112, section 7.1). Extensions and trailers are skipped."""

    __slots__ = ("_left", "_line", "_reading", "_trailers", "finished")

    def __init__(self) -> None:
        self.finished = False
        self._reading = _SIZE
        self._left = 0  # bytes of the current chunk
        self._line = bytearray()  # a line that is not complete yet
        self._trailers = 0

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        """Take the next bytes. Return the pieces of the body in them, as views, and how many bytes were used.

        Fewer than all are used when the body ends before they do: `finished` is True, and what follows is not of
        this response. Raises MalformedResponseError, after which the body is not to be fed any more.
        """
        pieces: list[memoryview] = []
        position, size = 0, len(data)
        while position < size and not self.finished:
            if self._left:
                piece = data[position : position + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                position += len(piece)
            else:
                position += self._take_line(data[position : position + LARGEST_LINE])
        return pieces, position

    def _take_line(self, window: memoryview) -> int:
        """Use a line, or the part of it that is there. Return how many bytes that is."""
        some = bytes(window)
        stop = some.find(b"\n") + 1
        self._line += some[:stop] if stop else some
        if len(self._line) > LARGEST_LINE:
            raise MalformedResponseError(f"a line between the body's chunks has more than {LARGEST_LINE} bytes")
        if not stop:
            return len(some)
        line = bytes(self._line)
        self._line.clear()
        if self._reading is _SIZE:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise MalformedResponseError("the body has a chunk without a size")
            self._left = int(match[1], 16)
            self._reading = _END if self._left else _TRAILERS
        elif self._reading is _END:
            if line != b"\r\n":
                raise MalformedResponseError("a chunk of the body is longer than its size")
            self._reading = _SIZE
        elif line == b"\r\n":
            self.finished = True
        else:
            self._trailers += len(line)
            if _TRAILER.fullmatch(line) is None or self._trailers > LARGEST_HEAD:
                raise MalformedResponseError("what follows the body's last chunk is no trailer, or too much")
        return stop


_SIZE, _END, _TRAILERS = "a chunk's size", "a chunk's end", "the trailers"
