"""HTTP/1.1 as S3 speaks it: heads in, heads and XML error documents out. No I/O here."""

from __future__ import annotations

import email.utils
import functools
import http
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, unquote_plus
from xml.sax.saxutils import escape

from tests.support.faultserver.content import Content, InMemory

XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
HOST_ID = "Zm9yIHRlc3RzOiBhIGhvc3QgaWQgaXMgNzYgY2hhcmFjdGVycyBvZiBiYXNlNjQgbG9uZyBvbiBTMyw="
"""x-amz-id-2: the same in every answer."""

Op = Literal["get", "head", "list", "bucket", "other"]
"""GetObject, HeadObject; ListObjectsV2 and ListObjectVersions; HeadBucket and GetBucketLocation; all other requests."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z", re.ASCII)
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")


class BadHeadError(ValueError):
    """What came is no HTTP/1.1 request head."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it came. `headers` have lower-case names, `query` and `key` are decoded (PEP 383)."""

    number: int
    """1 for the server's first request."""
    connection: int
    """1 for the server's first connection: requests that share it show that the client keeps connections."""
    method: str
    target: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    time: float
    """Seconds of time.monotonic()."""
    range: tuple[int, int] | None = None
    """Half-open, as asked for: `bytes=0-7` is (0, 8) also for a 5-byte object. An open end (`7-`) and a
    suffix (`-7`) are taken from the object's size, where there is such an object."""

    @property
    def id(self) -> str:
        """What x-amz-request-id says."""
        return f"{self.number:016X}"

    @property
    def op(self) -> Op:
        if self.key:
            known = all(
                n in {"partNumber", "versionId", "x-id"} or n.startswith(("X-Amz-", "response-")) for n in self.query
            )
            if known and self.method in {"GET", "HEAD"}:
                return "get" if self.method == "GET" else "head"
        elif self.bucket:
            if self.method == "HEAD" or (self.method == "GET" and "location" in self.query):
                return "bucket"
            if self.method == "GET" and (self.query.get("list-type") == "2" or "versions" in self.query):
                return "list"
        return "other"

    @property
    def access_key(self) -> str | None:
        """The access key id that signed it, from the Authorization header or the presigned query."""
        if found := _CREDENTIAL.search(self.headers.get("authorization", "")):
            return found[1]
        return self.query.get("X-Amz-Credential", "").partition("/")[0] or None


def parse_head(head: bytes, *, number: int, connection: int) -> Request:
    """Parse a request head. Raises BadHeadError."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if version != "HTTP/1.1" or not target.startswith("/"):
        raise BadHeadError(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadHeadError(line)
        headers[name.lower()] = value.strip(" \t")
    path, _, raw_query = target.partition("?")
    bucket, _, key = path[1:].partition("/")
    return Request(
        number=number,
        connection=connection,
        method=method,
        target=target,
        bucket=unquote(bucket),
        key=unquote(key, errors="surrogateescape"),
        query=_parse_query(raw_query) if raw_query else {},
        headers=headers,
        time=time.monotonic(),
    )


def _parse_query(raw: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in raw.split("&"))
    return {
        unquote_plus(name, errors="surrogateescape"): unquote_plus(value, errors="surrogateescape")
        for name, _, value in pairs
    }


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open range that a Range header asks for in a body of `size` bytes; None without a usable one.

    The stop is not cut to the size. S3 answers headers that it does not understand, and several ranges at
    once, with the whole object.
    """
    if not header or not (found := _RANGE.match(header)):
        return None
    first, last = found[1], found[2]
    if first:
        start, stop = int(first), int(last) + 1 if last else max(size, int(first) + 1)
        return (start, stop) if start < stop else None
    # A suffix of zero bytes, or of an empty object, cannot be satisfied: a start at the end says so.
    return (max(0, size - int(last)), size) if last else None


@dataclass(slots=True)
class Response:
    """An answer before it is sent. `headers` lack only those that every answer has."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    content: Content = field(default_factory=lambda: InMemory(b""))
    chunked: bool = False
    """Framed by Transfer-Encoding instead of Content-Length, as S3 frames its XML."""

    def head(self, request: Request) -> bytes:
        """The bytes up to and including the empty line."""
        lines = [
            f"HTTP/1.1 {self.status} {_phrase(self.status)}",
            f"x-amz-id-2: {HOST_ID}",
            f"x-amz-request-id: {request.id}",
            f"Date: {_http_date(int(time.time()))}",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif "Content-Length" not in self.headers:
            lines.append(f"Content-Length: {self.content.size}")
        lines.append("Server: AmazonS3\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1")

    def framed(self) -> Content:
        """What follows the head on the wire."""
        if not self.chunked:
            return self.content
        body = self.content.read(0, self.content.size)
        return InMemory(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n")


@functools.cache
def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


@functools.lru_cache(maxsize=2)
def _http_date(seconds: int) -> str:
    return email.utils.formatdate(seconds, usegmt=True)


def xml_response(document: str) -> Response:
    """A 200 with an XML document (without its declaration)."""
    body = InMemory((XML + document).encode("utf-8", "surrogateescape"))
    return Response(200, {"Content-Type": "application/xml"}, body, chunked=True)


def error_response(
    request: Request,
    status: int,
    code: str,
    message: str,
    *,
    headers: Mapping[str, str] | None = None,
    extra_xml: str = "",
    chunked: bool = True,
) -> Response:
    """S3's error document. `extra_xml` goes in as it is, before RequestId."""
    key = f"<Key>{escape_xml(request.key)}</Key>" if request.key else ""
    document = (
        f"{XML}<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>{key}{extra_xml}"
        f"<RequestId>{request.id}</RequestId><HostId>{HOST_ID}</HostId></Error>"
    )
    body = InMemory(document.encode("utf-8", "surrogateescape"))
    return Response(status, {"Content-Type": "application/xml", **(headers or {})}, body, chunked=chunked)


_CONTROLS = {chr(code): f"&#x{code:x};" for code in [*range(0x20), 0x7F]}


def escape_xml(text: str) -> str:
    """Text for XML as S3 writes it: control characters become references, which XML 1.0 parsers refuse."""
    return escape(text, {'"': "&quot;", **_CONTROLS})
