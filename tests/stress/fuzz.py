"""Arbitrary bytes for the parsers of answers, guided by the code they reach: `python -m tests.stress.fuzz heads`.

A parser takes them, refuses them in its own words, or waits for more; anything else ends the process, with the bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["sealift"]):
    from sealift.errors import ObjectError, SourceError
    from sealift.s3.heads import ChunkedBody, MalformedResponseError, parse_head
    from sealift.s3.pagexml import parse_page


def heads(data: bytes) -> None:
    """A head is the same however much of what follows it has come, and is never longer than what there is."""
    try:
        head = parse_head(data, method="GET")
    except MalformedResponseError:
        return
    if head is not None:
        assert 0 < head.length <= len(data)
        assert parse_head(data[: head.length], method="GET") == head
        assert parse_head(data[: head.length - 1], method="GET") is None


def chunks(data: bytes) -> None:
    """A chunked body is the same wherever its bytes are split."""
    place = data[0] if data else 0
    assert fed(data) == fed(data[:place], data[place:])


def pages(data: bytes) -> None:
    """A page of a listing is understood, or refused as one of our errors."""
    try:
        parse_page(data, bucket="bucket", prefix="")
    except (ObjectError, SourceError):
        return


def fed(*pieces: bytes) -> tuple[bytes, bool] | None:
    """Return what a chunked body's bytes amount to, and whether that is all of it; None if it is malformed."""
    body, out, rest = ChunkedBody(), bytearray(), b""
    for piece in pieces:
        rest += piece
        while rest and not body.finished:
            try:
                found, consumed = body.feed(memoryview(rest))
            except MalformedResponseError:
                return None
            out += b"".join(found)
            rest = rest[consumed:]
            if not consumed:
                break
    return bytes(out), body.finished


TARGETS: dict[str, Callable[[bytes], None]] = {"heads": heads, "chunks": chunks, "pages": pages}

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
