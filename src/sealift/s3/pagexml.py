"""The documents that ListObjectsV2 answers with. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from sealift.errors import SourceError, Transient
from sealift.model import RemoteObject
from sealift.s3.store import Page

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_page(document: bytes, bucket: str) -> Page:
    """Read one page. Raises Transient (code `BadAnswer`) where it is none, SourceError where the next is not told."""
    try:
        root = _root(document)
        fields = {_name(item): item.text or "" for item in root}
        encoded = fields.get("EncodingType") == "url"
        objects = tuple(_listed(bucket, item, encoded) for item in root if _name(item) == "Contents")
    except (ET.ParseError, ValueError, LookupError) as error:
        raise Transient(f"the server's answer makes no sense ({error})", bucket=bucket, code="BadAnswer") from error
    if fields.get("IsTruncated") != "true":
        return Page(objects, None)
    token = fields.get("NextContinuationToken")
    if not token:
        raise SourceError(f"the listing of s3://{bucket} does not go on: the server gave no new continuation token")
    return Page(objects, token)


def _root(document: bytes) -> ET.Element:
    if b"<!" in document:  # S3 declares no types or entities, and nobody else's are expanded
        raise ValueError("a document type is declared")
    root = ET.fromstring(document)  # noqa: S314 (no entities: see above)
    if _name(root) != "ListBucketResult":
        raise ValueError(f"a page was due, and not {_name(root)}")
    return root


def _listed(bucket: str, item: ET.Element, encoded: bool) -> RemoteObject:
    fields = {_name(child): child.text or "" for child in item}
    key = fields["Key"]
    if encoded:
        # S3 encodes as forms do: a space is "+", and a plus sign "%2B". Keys are UTF-8 whatever the locale says.
        key = unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")
    restored = False
    for child in item:
        if _name(child) == "RestoreStatus":
            status = {_name(part): part.text or "" for part in child}
            restored = "RestoreExpiryDate" in status and status.get("IsRestoreInProgress") != "true"
    return RemoteObject(
        bucket=bucket,
        key=key,
        size=int(fields["Size"]),
        etag=fields.get("ETag", ""),
        last_modified_ns=_nanoseconds(fields["LastModified"]),
        storage_class=fields.get("StorageClass", "STANDARD"),
        restored=restored,
    )


def _nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
