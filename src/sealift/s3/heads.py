"""HTTP/1.1 response heads and chunked bodies (RFC 9112), strictly: what is not well-formed is refused. Pure.

llhttp (through httptools) decides what is well-formed; on top of that, everything that two readers might understand
differently is refused: it is how one response is smuggled into another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

LARGEST_HEAD = 64 * 1024
"""Bytes. S3's heads are below 4 KiB (2 KiB of user metadata at the most); servers commonly stop at 8 to 64 KiB."""

LARGEST_SIZE_LINE = 1024
"""Bytes of a chunk's size line, or of a trailer's, with extensions: S3 sends some 90 (a chunk's signature)."""

MOST_TRAILERS = 64
"""Lines of trailers: S3 sends at most a checksum and its signature."""

_LENGTH = re.compile(r"[0-9]{1,18}")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")


class MalformedResponseError(ValueError):
    """It is not HTTP/1.1, or not clearly so."""


@dataclass(slots=True)
class Head:
    """A response's head."""

    status: int
    headers: dict[str, str]
    """Lower-case names; the values of repeated ones joined with ", "."""
    keep_alive: bool
    content_length: int | None
    """Bytes of the body; None when only its end will tell: that of the chunks, or that of the connection."""
    chunked: bool


class _Lines:
    """What llhttp calls."""

    __slots__ = ("headers", "over", "repeated")

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.over = False
        self.repeated: list[str] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        if key in self.headers:
            self.repeated.append(key)
            text = f"{self.headers[key]}, {text}"
        self.headers[key] = text

    def on_headers_complete(self) -> None:
        self.over = True


def parse_head(data: bytes, *, method: str) -> Head:
    """Read the head of a response to a `method` request: `data` is it, from its first byte to the empty line.

    Raises MalformedResponseError.
    """
    lines = _Lines()
    parser = httptools.HttpResponseParser(lines)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        raise MalformedResponseError("the server wants to speak another protocol") from None
    except httptools.HttpParserError as error:
        raise MalformedResponseError(f"the response's head is not HTTP ({error})") from None
    # llhttp takes a lone line feed for a line's end in places, and other versions.
    if not lines.over or data.count(b"\n") != data.count(b"\r\n") or b"\0" in data or data[:7] != b"HTTP/1.":
        raise MalformedResponseError("the response's head is not HTTP/1.1")
    headers = lines.headers
    status = parser.get_status_code()
    chunked = _chunked(headers)
    if {"content-length", "transfer-encoding"} & set(lines.repeated) or (chunked and "content-length" in headers):
        raise MalformedResponseError("the response tells its length twice")
    length = _length(headers)
    if method == "HEAD" or status < 200 or status in {204, 304}:
        return Head(status, headers, parser.should_keep_alive(), 0, chunked=False)
    if chunked:
        length = None
    keep_alive = parser.should_keep_alive() and (chunked or length is not None)
    return Head(status, headers, keep_alive, length, chunked)


def _chunked(headers: dict[str, str]) -> bool:
    encoding = headers.get("transfer-encoding")
    if encoding is None:
        return False
    if encoding.lower() != "chunked":
        raise MalformedResponseError(f"the body is encoded as {encoding!r}, which nobody asked for")
    return True


def _length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    if not _LENGTH.fullmatch(text):
        raise MalformedResponseError(f"the response's length is {text!r}")
    return int(text)


class ChunkedBody:
    """Takes a chunked body (RFC 9112, 7.1) apart, however its bytes are cut. Extensions and trailers are dropped."""

    __slots__ = ("_line", "_state", "_to_come", "_trailers", "finished")

    def __init__(self) -> None:
        self._line = bytearray()
        self._state = "size"
        self._to_come = 0
        self._trailers = 0
        self.finished = False
        """The body is at its end, trailers included."""

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        """Take the next bytes; return the payload among them, and how many were taken: not those after the end.

        Raises MalformedResponseError.
        """
        pieces: list[memoryview] = []
        at = 0
        while at < len(data) and not self.finished:
            if self._state == "payload":
                piece = data[at : at + self._to_come]
                pieces.append(piece)
                at += len(piece)
                self._to_come -= len(piece)
                if not self._to_come:
                    self._state = "end"
            else:
                at = self._take_line(data, at)
        return pieces, at

    def _take_line(self, data: memoryview, at: int) -> int:
        """Go on to the end of a line, and see what it says if that has come."""
        line, room = self._line, LARGEST_SIZE_LINE - len(self._line)
        taken = bytes(data[at : at + room + 1])
        end = taken.find(b"\n")
        if end < 0:
            if len(taken) > room:
                raise MalformedResponseError("a chunk's size takes no end")
            line += taken
            return at + len(taken)
        line += taken[: end + 1]
        if line[-2:] != b"\r\n":
            raise MalformedResponseError("a chunk's line ends with a lone line feed")
        text = bytes(line[:-2])
        line.clear()
        self._heed(text)
        return at + end + 1

    def _heed(self, text: bytes) -> None:
        if self._state == "end":
            if text:
                raise MalformedResponseError("a chunk is longer than its size says")
            self._state = "size"
        elif self._state == "size":
            match = _SIZE_LINE.fullmatch(text)
            if match is None:
                raise MalformedResponseError("a chunk's size is no number")
            self._to_come = int(match[1], 16)
            self._state = "payload" if self._to_come else "trailer"
        elif not text:
            self.finished = True
        elif self._trailers == MOST_TRAILERS or not _TRAILER.fullmatch(text):
            raise MalformedResponseError("the trailers are none")
        else:
            self._trailers += 1
