"""One answer to ListObjectsV2 becomes a `Page`, one to ListObjectVersions a `VersionsPage`. Pure.

1. **Quick**: in a page as S3 writes it, all objects stand in a row and look alike. One regular expression takes them
   apart column by column; the frame around them goes to the strict reader, with one empty object in their place.
2. **Strict**: everything else (elements in another order, comments, CDATA, entities in keys, keys that are not encoded)
   goes through expat, element by element. What has a document type is refused, so no entity can be declared.

Both give the same page for the same bytes (property-tested): whatever the quick reader does not know, it leaves to the
strict one. A thousand objects take 2 ms the one way and 15 ms the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import NoReturn
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

from sealift.errors import SourceError, Transient
from sealift.model import RemoteObject
from sealift.s3.store import Page, Version, VersionsPage

# Texts without what XML gives a meaning, and without control characters: an XML parser changes some of those.
_OBJECT = re.compile(
    r"<Contents><Key>([^<>&\0-\x1f\x7f]+)</Key>"
    r"<LastModified>(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d(?:\.\d{1,9})?)Z</LastModified>"
    r'<ETag>(?:&quot;|&#34;|")([\w-]+)(?:&quot;|&#34;|")</ETag>'
    r"(?:<ChecksumAlgorithm>(\w+)</ChecksumAlgorithm>(?:<ChecksumAlgorithm>\w+</ChecksumAlgorithm>)*)?"
    r"(?:<ChecksumType>\w+</ChecksumType>)?"
    r"<Size>(\d{1,18})</Size>"
    r"(?:<StorageClass>(\w+)</StorageClass>)?</Contents>",
    re.ASCII,
)
_COLUMNS = _OBJECT.groups + 1
_VERSION = re.compile(
    r"<(Version|DeleteMarker)><Key>([^<>&\0-\x1f\x7f]+)</Key><VersionId>([^<>&\0-\x1f\x7f]*)</VersionId>"
    r"<IsLatest>(?:true|false)</IsLatest>"
    r"<LastModified>(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d(?:\.\d{1,9})?)Z</LastModified>"
    r'(?:<ETag>(?:&quot;|&#34;|")([\w-]+)(?:&quot;|&#34;|")</ETag>'
    r"(?:<ChecksumAlgorithm>(\w+)</ChecksumAlgorithm>(?:<ChecksumAlgorithm>\w+</ChecksumAlgorithm>)*)?"
    r"(?:<ChecksumType>\w+</ChecksumType>)?<Size>(\d{1,18})</Size>(?:<StorageClass>(\w+)</StorageClass>)?)?"
    r"(?:<Owner>(?:<ID>\w*</ID>)?(?:<DisplayName>[^<>&\0-\x1f\x7f]*</DisplayName>)?</Owner>)?</\1>",
    re.ASCII,
)
_OBJECTS_HERE = "<Contents/>"
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d)?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}")
_STANDARD = "STANDARD"
_VERSIONS = frozenset({"Version", "DeleteMarker"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)

_DEEPEST = 16
"""Levels of elements; S3's answers have four."""


def parse_page(data: bytes, *, bucket: str, prefix: str, token: str | None = None) -> Page:
    """Read the body of an answer to ListObjectsV2 for `bucket` and `prefix`, asked for with `token`.

    Raises Transient (code `BadAnswer`) for anything that is not such an answer, and SourceError for a listing that
    says that it goes on, and not where.
    """
    try:
        answer = _quick(data, bucket) or _strict(data, bucket)
    except (ValueError, expat.ExpatError) as error:
        raise _makes_no_sense(f"s3://{bucket}/{prefix}", bucket, error) from error
    if answer.truncated and answer.next_token in {"", token}:
        raise SourceError(
            f"the listing of s3://{bucket}/{prefix} does not go on: the server gave no new continuation token"
        )
    return Page(tuple(answer.objects), answer.next_token if answer.truncated else None, tuple(answer.common_prefixes))


def parse_versions(
    data: bytes, *, bucket: str, prefix: str, marker: tuple[str | None, str | None] = (None, None)
) -> VersionsPage:
    """Read the body of an answer to ListObjectVersions for `bucket` and `prefix`, asked for behind `marker`.

    Raises what `parse_page` does.
    """
    try:
        root, versions = _quick_versions(data, bucket) or _strict_versions(data, bucket)
        decode = _decoder(root)
    except (ValueError, expat.ExpatError) as error:
        raise _makes_no_sense(f"the versions of s3://{bucket}/{prefix}", bucket, error) from error
    prefixes = tuple(decode(item.text("Prefix")) for item in root.all("CommonPrefixes"))
    if root.text("IsTruncated").strip() != "true":
        return VersionsPage(versions, None, None, prefixes)
    following = (decode(root.text("NextKeyMarker")), root.text("NextVersionIdMarker") or None)
    if not following[0] or following == marker:
        raise SourceError(
            f"the listing of the versions of s3://{bucket}/{prefix} does not go on: the server gave no new marker"
        )
    return VersionsPage(versions, *following, prefixes)


def _makes_no_sense(what: str, bucket: str, error: Exception) -> Transient:
    return Transient(f"the server's answer makes no sense (listing {what}: {error})", bucket=bucket, code="BadAnswer")


def _quick_versions(data: bytes, bucket: str) -> tuple[_Element, tuple[Version, ...]] | None:
    """Read a page of versions as S3 writes it, and return what is around them as well; None for any other."""
    if not data.isascii() or b"<!" in data:
        return None
    pieces = _VERSION.split(data.decode("ascii"))
    columns = _VERSION.groups + 1
    between = pieces[::columns]
    if len(between) < 2 or any(between[1:-1]):
        return None
    try:
        root = _tree_called("ListVersionsResult", f"{between[0]}<Version/>{between[-1]}".encode("ascii"))
    except (ValueError, expat.ExpatError):
        return None
    if len([item for item in root.below if item.name in _VERSIONS]) != 1:
        return None
    names, keys, ids, minutes, seconds, etags, algorithms, sizes, classes = (
        pieces[column::columns] for column in range(1, columns)
    )
    markers = [name == "DeleteMarker" for name in names]
    if markers != [size is None for size in sizes]:
        return None
    remotes = zip(
        repeat(bucket),
        _all_decoded(keys) if root.text("EncodingType") == "url" else keys,
        [int(size or 0) for size in sizes],
        [f'"{etag}"' if etag else "" for etag in etags],
        _moments(minutes, seconds),
        [version or "null" for version in ids],
        [name or _STANDARD for name in classes],
        repeat(False),
        [name or "" for name in algorithms],
    )
    # Past their own __new__, as with `_objects`.
    objects = map(tuple.__new__, repeat(RemoteObject), remotes)
    return root, tuple(map(tuple.__new__, repeat(Version), zip(objects, markers, strict=True)))


def _strict_versions(data: bytes, bucket: str) -> tuple[_Element, tuple[Version, ...]]:
    root = _tree_called("ListVersionsResult", data)
    decode = _decoder(root)
    return root, tuple(_version(item, bucket, decode) for item in root.below if item.name in _VERSIONS)


def _decoder(root: _Element) -> Callable[[str], str]:
    return _decoded if root.text("EncodingType") == "url" else str


def _version(item: _Element, bucket: str, decode: Callable[[str], str]) -> Version:
    version_id = item.text("VersionId") or "null"
    if item.name == "Version":
        return Version(_object(item, bucket, decode)._replace(version_id=version_id), delete_marker=False)
    key = item.text("Key")
    if not key:
        raise ValueError("a delete marker without a key")
    moment = _moment(item.text("LastModified").strip())
    return Version(RemoteObject(bucket, decode(key), 0, "", moment, version_id), delete_marker=True)


class _Answer:
    """What an answer says, as far as it was read."""

    __slots__ = ("common_prefixes", "next_token", "objects", "truncated", "url_encoded")

    def __init__(self, root: _Element) -> None:
        if root.name != "ListBucketResult":
            raise ValueError(f"a {root.name!r} document")
        self.truncated = root.text("IsTruncated").strip() == "true"
        self.next_token = root.text("NextContinuationToken")
        self.url_encoded = root.text("EncodingType") == "url"
        decode: Callable[[str], str] = _decoded if self.url_encoded else str
        self.common_prefixes = [decode(item.text("Prefix")) for item in root.all("CommonPrefixes")]
        self.objects: list[RemoteObject] = []


class _Element:
    """An XML element: its name without a namespace, its text, and the elements in it."""

    __slots__ = ("below", "name", "pieces")

    def __init__(self, name: str) -> None:
        self.name = name.rpartition(" ")[2]
        self.below: list[_Element] = []
        self.pieces: list[str] = []

    def all(self, name: str) -> list[_Element]:
        """Return the elements of that name directly in this one."""
        return [element for element in self.below if element.name == name]

    def text(self, name: str) -> str:
        """Return the text of the first element of that name, or nothing where there is none."""
        for element in self.below:
            if element.name == name:
                return "".join(element.pieces)
        return ""


def _quick(data: bytes, bucket: str) -> _Answer | None:
    """Read a page as S3 writes it; None for any other."""
    if not data.isascii() or b"<!" in data:
        return None
    pieces = _OBJECT.split(data.decode("ascii"))
    between = pieces[::_COLUMNS]
    if len(between) < 2 or any(between[1:-1]):
        return None
    try:
        root = _tree(f"{between[0]}{_OBJECTS_HERE}{between[-1]}".encode("ascii"))
    except (ValueError, expat.ExpatError):
        return None
    if len(root.all("Contents")) != 1:  # one that looks otherwise, or all of them somewhere inside of something else
        return None
    answer = _Answer(root)
    keys, minutes, seconds, etags, algorithms, sizes, classes = (
        pieces[column::_COLUMNS] for column in range(1, _COLUMNS)
    )
    answer.objects = _objects(
        bucket,
        _all_decoded(keys) if answer.url_encoded else keys,
        list(map(int, sizes)),
        [f'"{etag}"' for etag in etags],
        _moments(minutes, seconds),
        [name or _STANDARD for name in classes],
        [name or "" for name in algorithms],
    )
    return answer


def _objects(
    bucket: str,
    keys: list[str],
    sizes: list[int],
    etags: list[str],
    moments: list[int],
    classes: list[str],
    algorithms: list[str],
) -> list[RemoteObject]:
    # Not through RemoteObject's own __new__, which is Python's: a third of what an object costs here.
    rows = zip(repeat(bucket), keys, sizes, etags, moments, repeat(None), classes, repeat(False), algorithms)
    return list(map(tuple.__new__, repeat(RemoteObject), rows))


class _Minutes(dict[str, int]):
    """Nanoseconds since the epoch, by `YYYY-MM-DDTHH:MM:`."""

    def __missing__(self, minute: str) -> int:
        moment = datetime.fromisoformat(f"{minute}00+00:00")
        value = self[minute] = (moment - _EPOCH) // _SECOND * 1_000_000_000
        return value


class _Seconds(dict[str, int]):
    """Nanoseconds of the minute, by `SS` and any fraction."""

    def __missing__(self, second: str) -> int:
        whole, _, fraction = second.partition(".")
        if whole > "60":  # a leap second is one
            raise ValueError(f"no time has {second} seconds")
        value = self[second] = int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
        return value


def _moments(minutes: Sequence[str], seconds: Sequence[str]) -> list[int]:
    # A page has few different ones, S3's seconds being whole: each is worked out once.
    of_minute, of_second = _Minutes(), _Seconds()
    return [of_minute[minute] + of_second[second] for minute, second in zip(minutes, seconds, strict=True)]


def _all_decoded(keys: list[str]) -> list[str]:
    """Decode many keys at once: the same as `_decoded` of each."""
    joined = "\n".join(keys)
    if "%0A" in joined or "%0a" in joined:
        return [_decoded(key) for key in keys]
    return _decoded(joined).split("\n")


def _decoded(text: str) -> str:
    # S3 encodes as forms do: a space is "+", and a plus sign "%2B". Keys are UTF-8 whatever the locale says.
    if "+" in text:
        text = text.replace("+", " ")
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape") if "%" in text else text


def _strict(data: bytes, bucket: str) -> _Answer:
    root = _tree(data)
    answer = _Answer(root)
    decode: Callable[[str], str] = _decoded if answer.url_encoded else str
    answer.objects = [_object(item, bucket, decode) for item in root.all("Contents")]
    return answer


def _object(item: _Element, bucket: str, decode: Callable[[str], str]) -> RemoteObject:
    key, size = item.text("Key"), item.text("Size").strip()
    if not key or not _DIGITS.fullmatch(size):
        raise ValueError(f"an object with the key {key!r} and the size {size!r}")
    restored = False
    for restore in item.all("RestoreStatus"):
        in_progress = restore.text("IsRestoreInProgress").strip() == "true"
        restored = bool(restore.all("RestoreExpiryDate")) and not in_progress
    return RemoteObject(
        bucket=bucket,
        key=decode(key),
        size=int(size),
        etag=item.text("ETag"),
        last_modified_ns=_moment(item.text("LastModified").strip()),
        storage_class=item.text("StorageClass") or _STANDARD,
        restored=restored,
        checksum_algorithm=item.text("ChecksumAlgorithm"),
    )


def _moment(text: str) -> int:
    """Return nanoseconds since the epoch; UTC where no zone is given."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError(f"no time: {text!r}")
    offset = 0
    if match[3] not in {None, "Z"}:
        there = datetime.fromisoformat(f"{match[1]}00{match[3]}")
        offset = (there.utcoffset() or timedelta()) // _SECOND * 1_000_000_000
    return _moments([match[1]], [match[2]])[0] - offset


def _tree_called(name: str, data: bytes) -> _Element:
    root = _tree(data)
    if root.name != name:
        raise ValueError(f"a {root.name!r} document")
    return root


def _tree(data: bytes) -> _Element:
    """Parse a document strictly. Raises ValueError, expat.ExpatError."""
    parser = expat.ParserCreate("UTF-8", " ")  # whatever the document declares: S3's are, and Python would look it up
    parser.buffer_text = True
    document = _Element("")
    open_now = [document]

    def start(name: str, _attributes: dict[str, str]) -> None:
        if len(open_now) > _DEEPEST:
            raise ValueError("elements within elements without end")
        element = _Element(name)
        open_now[-1].below.append(element)
        open_now.append(element)

    def end(_name: str) -> None:
        open_now.pop()

    def text(piece: str) -> None:
        open_now[-1].pieces.append(piece)

    def doctype(*_declaration: object) -> NoReturn:
        raise ValueError("a document type, which no answer of S3's has")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    parser.Parse(data, True)
    return document.below[0]
