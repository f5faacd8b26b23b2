"""S3's error documents. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Literal

from sealift.s3.translate import Refusal

LARGEST_DOCUMENT = 64 * 1024
"""Bytes of an error document that are looked at: S3's are below 2 KiB."""

_REASONS = {301: "Moved Permanently", 307: "Temporary Redirect", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}
"""The reason phrases of RFC 9110 for the answers that S3 gives without a document: those to HEAD."""


def refusal_of(
    status: int,
    headers: Mapping[str, str],
    document: bytes,
    *,
    operation: Literal["list", "head", "get"],
    bucket: str,
    key: str,
) -> Refusal:
    """Return what an answer says that is not the one hoped for. `headers` have lower-case names.

    Without a document that says so, its code is the status, as the SDK has it.
    """
    told = _told(document[:LARGEST_DOCUMENT])
    return Refusal(
        status=status,
        code=told.get("Code") or str(status),
        message=told.get("Message") or _REASONS.get(status, ""),
        operation=operation,
        bucket=bucket,
        key=key,
        region=told.get("Region") or headers.get("x-amz-bucket-region", ""),
        headers=headers,
    )


def _told(document: bytes) -> dict[str, str]:
    """Return the elements of an S3 error document; nothing of any other document."""
    if b"<!" in document:  # S3 declares no types or entities, and nobody else's are expanded
        return {}
    try:
        root = ET.fromstring(document)  # noqa: S314 (no entities: see above)
    except (ET.ParseError, ValueError):
        return {}
    if root.tag.rpartition("}")[2] != "Error":
        return {}
    return {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in root}
