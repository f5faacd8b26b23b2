"""An answer that is not the one hoped for, read into a `Refusal`: S3's error document, or what is sent instead. Pure.

Says the same as the SDK does (`s3/sdkerrors.py`), so that `s3/translate.py` gives the same messages over either
transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal
from xml.parsers import expat

from sealift.s3.translate import Refusal

LARGEST_DOCUMENT = 64 * 1024
"""Bytes of a body that are looked at. S3's documents have some hundred; those about KMS, the longest, about 2,000."""


def refusal_of(
    status: int,
    headers: Mapping[str, str],
    document: bytes,
    *,
    operation: Literal["list", "head", "get"],
    bucket: str,
    key: str = "",
) -> Refusal:
    """Return what S3 says in `document`; `headers` have lower-case names.

    An answer without a document (HEAD has none, a proxy sends HTML) has its status for a code, as with the SDK.
    """
    said = _fields(document[:LARGEST_DOCUMENT])
    return Refusal(
        status=status,
        code=said.get("Code") or str(status),
        message=said.get("Message", "") if said else _phrase(status),
        operation=operation,
        bucket=bucket,
        key=key,
        region=said.get("Region", "") or headers.get("x-amz-bucket-region", ""),
        headers=headers,
    )


class _NotAnError(Exception):
    """The document is none of S3's."""


class _Reader:
    """Collects the texts of the elements right below <Error>, which is the root or, as with IAM and STS, below it."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self._path: list[str] = []
        self._text: list[str] = []

    def start(self, name: str, _attributes: object) -> None:
        self._path.append(name.rpartition(":")[2])
        self._text.clear()
        if len(self._path) == 1 and self._path[0] not in {"Error", "ErrorResponse"}:
            raise _NotAnError

    def end(self, _name: str) -> None:
        if self._path[:-1] in (["Error"], ["ErrorResponse", "Error"]):
            self.fields.setdefault(self._path[-1], "".join(self._text))
        self._path.pop()
        self._text.clear()

    def text(self, data: str) -> None:
        self._text.append(data)

    def doctype(self, *_: object) -> None:
        """Refuse what entities are declared in: S3 sends none, and a few bytes of it can mean gigabytes."""
        raise _NotAnError


def _fields(body: bytes) -> dict[str, str]:
    """Return the names and texts of an error document, nothing of any other body."""
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")  # whatever the document claims, as with the SDK
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(body, True)
    except (_NotAnError, expat.ExpatError):
        return {}
    return reader.fields


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
