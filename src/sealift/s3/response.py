"""Whether the head of a GetObject response is the answer to what was asked, and what else it says. Pure.

No byte of a body is looked at before this has passed: an error document, another version or another range
can so never reach a file.
"""

from __future__ import annotations

from collections.abc import Mapping

from sealift.errors import Changed, Integrity, Transient
from sealift.model import Encryption, Part, RemoteObject


def check_head(
    remote: RemoteObject,
    part: Part,
    *,
    status: int,
    content_length: int | None,
    content_range: str | None,
    etag: str | None,
) -> None:
    """Raise Changed or Integrity unless the head announces exactly `part` of `remote`.

    `content_length` is None for a chunked body, whose bytes are counted as they come.
    """
    if remote.etag and etag is None:
        raise _mismatch(remote, "ETagMissing", f"no ETag where {remote.etag} was due")
    if remote.etag and etag != remote.etag:
        raise Changed(
            f"{remote.key!r} is not the version that was listed: its ETag is {etag}, not {remote.etag}",
            bucket=remote.bucket,
            key=remote.key,
            code="PreconditionFailed",
        )
    start, stop = part.range.start, part.range.stop
    if part.whole:
        if status != 200:
            raise _mismatch(remote, "StatusMismatch", f"status {status} where 200 was due")
    else:
        if status != 206:
            raise _mismatch(remote, "RangeMismatch", f"status {status} where 206 and bytes {start}-{stop - 1} were due")
        due = f"bytes {start}-{stop - 1}/{remote.size}"
        if content_range != due:
            raise _mismatch(remote, "RangeMismatch", f"Content-Range {content_range!r} where {due!r} was due")
    if content_length is not None and content_length != len(part.range):
        raise _mismatch(remote, "LengthMismatch", f"Content-Length {content_length} where {len(part.range)} was due")


def _mismatch(remote: RemoteObject, code: str, what: str) -> Integrity:
    return Integrity(
        f"the server's answer for {remote.key!r} does not fit the request ({what}); nothing of it was written",
        bucket=remote.bucket,
        key=remote.key,
        code=code,
    )


def length_of(remote: RemoteObject, headers: Mapping[str, str]) -> int:
    """Return the length, in bytes, of which the headers of a HEAD speak. Raises Transient where they do not."""
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise Transient(
            f"the server's answer makes no sense (no length of a part of {remote.key!r})",
            bucket=remote.bucket,
            key=remote.key,
            code="BadAnswer",
        )
    return int(length)


def encryption_of(headers: Mapping[str, str]) -> Encryption:
    """Return what the headers of a GET or HEAD, whose names are in lower case, say of the object's encryption."""
    said = headers.get
    return Encryption(
        said("x-amz-server-side-encryption", ""),
        said("x-amz-server-side-encryption-aws-kms-key-id", ""),
        said("x-amz-server-side-encryption-bucket-key-enabled", "").lower() == "true",
    )
