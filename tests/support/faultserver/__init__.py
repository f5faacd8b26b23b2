"""An HTTP/1.1 server on loopback that speaks S3's dialect and can be scripted to misbehave.

    async with FaultServer() as server:                     # in the test's own asyncio or uvloop loop
        server.put("bucket", "key", b"body")
        broken = server.fault(op="get", key="key", do=ResetAfter(2))
        ...                                                 # a client talks to server.url
        assert broken.hits == 1

    with FaultServerThread() as server: ...                 # the same, for tests that run commands
    with FaultServerProcess("bucket", "p/", 200_000): ...   # so many generated objects, for tests that measure

Rules:

1. What no rule spoils is what S3 answers: GetObject and HeadObject (Range, If-Match, versionId), ListObjectsV2,
   ListObjectVersions (of what was put), HeadBucket, GetBucketLocation; path-style addresses, HTTP/1.1, connections
   kept. Errors and listings are `Transfer-Encoding: chunked` XML, objects have a Content-Length. Anything else is 501
   NotImplemented.
2. Every object is under SSE-KMS unless it is put with `kms_key=None`; its ETag is no MD5.
3. A request is held against `require_access_key` first, then against the rules in the order they were made,
   then S3 answers. Signatures are not verified.
4. Continuation tokens are sealed: one that this process did not give out for that bucket and prefix is refused.
5. Nothing sleeps for a fixed time. A stall lasts until the client goes away, a Hold until its event is set.
6. Memory does not grow with objects: `Generated` bodies and `generate_listing` keep nothing. `remember=False` stops
   the growth of `requests`.
7. An exception in a script's hook ends its connection and is raised when the server is left.

Rooms: content (what objects hold), sums (S3's checksums of them), wire (heads and XML), listing, dialect (S3's
decisions, no I/O), exchange (one request on one connection), faults, server (connections, script, record), process.
"""

from __future__ import annotations

from tests.support.faultserver.content import DEFAULT_KMS_KEY, Generated, Restore, StoredObject
from tests.support.faultserver.exchange import Exchange
from tests.support.faultserver.faults import (
    Answer,
    Call,
    ErrorDocumentAs200,
    Fault,
    FlipBit,
    Hold,
    IgnoreRange,
    OtherETag,
    OtherRange,
    OverwriteNow,
    Raw,
    ResetAfter,
    ResetBeforeHead,
    Stall,
    TruncateAfter,
    WrongContentRange,
    WrongLength,
)
from tests.support.faultserver.process import FaultServerProcess
from tests.support.faultserver.server import FaultHandle, FaultServer, FaultServerThread
from tests.support.faultserver.wire import Request, Response

__all__ = [
    "DEFAULT_KMS_KEY",
    "Answer",
    "Call",
    "ErrorDocumentAs200",
    "Exchange",
    "Fault",
    "FaultHandle",
    "FaultServer",
    "FaultServerProcess",
    "FaultServerThread",
    "FlipBit",
    "Generated",
    "Hold",
    "IgnoreRange",
    "OtherETag",
    "OtherRange",
    "OverwriteNow",
    "Raw",
    "Request",
    "ResetAfter",
    "ResetBeforeHead",
    "Response",
    "Restore",
    "Stall",
    "StoredObject",
    "TruncateAfter",
    "WrongContentRange",
    "WrongLength",
]
