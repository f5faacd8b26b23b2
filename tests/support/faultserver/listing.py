"""ListObjectsV2: which entries, in which order, on which page, in which XML.

Keys are compared as UTF-8 bytes, as S3 does. A page in key order is found by seeking, so a generated listing
of a million objects needs the memory of one page.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import hmac
import itertools
import json
import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from operator import itemgetter
from typing import Literal
from urllib.parse import quote_plus

from tests.support.faultserver.content import Generated, StoredObject, make_etag
from tests.support.faultserver.wire import NAMESPACE, Request, Response, error_response, escape_xml, xml_response

Order = Literal["key", "shuffled"] | Callable[[list[str]], Sequence[str]]
"""How a listing is ordered. A callable gets all entries' names (keys and common prefixes) in key order and
returns them in its own; it must do the same for every page."""

MAX_KEYS = 1000
"""S3 never gives more on one page."""

GENERATED_AT = datetime(2024, 1, 1, tzinfo=UTC)
"""LastModified of every generated object."""

_SECRET = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class GeneratedListing:
    """`count` objects that exist only while they are looked at. `key_for` must ascend in UTF-8 byte order."""

    bucket: str
    prefix: str
    count: int
    size: Callable[[int], int]
    key_for: Callable[[int], str]

    def key(self, index: int) -> bytes:
        return (self.prefix + self.key_for(index)).encode("utf-8", "surrogateescape")

    def at(self, index: int) -> StoredObject:
        key = self.prefix + self.key_for(index)
        body = Generated(self.size(index), f"{self.bucket}/{key}")
        return StoredObject(key, body, make_etag(key, body), GENERATED_AT)

    def find(self, key: str) -> StoredObject | None:
        if not key.startswith(self.prefix):
            return None
        wanted = key.encode("utf-8", "surrogateescape")
        index = bisect.bisect_left(range(self.count), wanted, key=self.key)
        return self.at(index) if index < self.count and self.key(index) == wanted else None

    def walk(self, position: bytes) -> Iterator[tuple[bytes, StoredObject]]:
        """The objects from the first key that is not before `position`. Raises ValueError if keys descend."""
        previous = b""
        for index in range(bisect.bisect_left(range(self.count), position, key=self.key), self.count):
            key = self.key(index)
            if key <= previous:
                raise ValueError(f"key_for({index}) does not come after key_for({index - 1})")
            previous = key
            yield key, self.at(index)


def small_objects(bucket: str, prefix: str, count: int) -> GeneratedListing:
    """Return `count` objects of 1 to 1,000 bytes, a thousand to a directory; every process makes the same ones."""
    return GeneratedListing(
        bucket,
        prefix,
        count,
        size=lambda index: 1 + index % 1000,
        key_for=lambda index: f"{index // 1000:06d}/{index % 1000:03d}.bin",
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a listing: an object, or a common prefix where `stored` is None."""

    name: str
    stored: StoredObject | None


def entries(
    objects: Mapping[tuple[str, str], StoredObject],
    generated: Sequence[GeneratedListing],
    *,
    bucket: str,
    prefix: str,
    delimiter: str,
    after: str,
) -> Iterator[Entry]:
    """The entries after the name `after`, in key order, computed as they are asked for."""
    lead, cut = prefix.encode("utf-8", "surrogateescape"), delimiter.encode("utf-8", "surrogateescape")
    done = after.encode("utf-8", "surrogateescape")
    # list() first: in thread mode a test may put an object while this runs.
    stored = sorted(
        ((k.encode("utf-8", "surrogateescape"), o) for (b, k), o in list(objects.items()) if b == bucket),
        key=itemgetter(0),
    )
    mine = [listing for listing in generated if listing.bucket == bucket]
    position: bytes | None = max(lead, done + b"\0" if done else b"")
    while position is not None:
        for key, found in _seek(stored, mine, position):
            if not key.startswith(lead):
                return
            end = key.find(cut, len(lead)) if cut else -1
            if end >= 0:
                rolled = key[: end + len(cut)]
                if rolled != done:  # a page that ended with this prefix has told all there is below it
                    yield Entry(rolled.decode("utf-8", "surrogateescape"), None)
                position = _behind(rolled)
                break
            yield Entry(found.key, found)
        else:
            return


def _seek(
    stored: list[tuple[bytes, StoredObject]], generated: list[GeneratedListing], position: bytes
) -> Iterator[tuple[bytes, StoredObject]]:
    start = bisect.bisect_left(stored, position, key=itemgetter(0))
    if not generated:
        yield from itertools.islice(stored, start, None)
        return
    previous = None
    walks = [listing.walk(position) for listing in generated]
    for key, found in merge(itertools.islice(stored, start, None), *walks, key=itemgetter(0)):
        if key != previous:  # an object that was put hides the generated one of the same key
            yield key, found
        previous = key


def _behind(prefix: bytes) -> bytes | None:
    """The first byte string behind all that start with `prefix`; None if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def list_objects(
    request: Request,
    objects: Mapping[tuple[str, str], StoredObject],
    generated: Sequence[GeneratedListing],
    *,
    order: Order,
    page_size: int,
) -> Response:
    """S3's answer to ListObjectsV2 for a bucket that exists."""
    query = request.query
    prefix = query.get("prefix", "")
    asked = query.get("max-keys", str(MAX_KEYS))
    if not asked.isascii() or not asked.isdigit():
        return _invalid(request, "Provided max-keys not an integer or within integer range", "max-keys", asked)
    limit = min(int(asked), page_size, MAX_KEYS)
    token = query.get("continuation-token")
    position: str | int = query.get("start-after", "")
    if token is not None:
        opened = _open_token(token)
        if opened is None or opened[:2] != (request.bucket, prefix):
            return _invalid(request, "The continuation token provided is incorrect", "continuation-token", token)
        position = opened[2]
    elif order != "key":
        position = 0

    after = position if isinstance(position, str) else query.get("start-after", "")
    found = entries(
        objects,
        generated,
        bucket=request.bucket,
        prefix=prefix,
        delimiter=query.get("delimiter", ""),
        after=after,
    )
    if isinstance(position, str):
        page = list(itertools.islice(found, limit + 1 if limit else 0))
    else:
        page = _arranged(list(found), order)[position : position + limit + 1 if limit else position]
    following = None
    if len(page) > limit:
        del page[limit:]
        following = page[-1].name if isinstance(position, str) else position + limit
    next_token = None if following is None else _seal_token(request.bucket, prefix, following)
    return xml_response(_page_xml(request, page, asked=min(int(asked), MAX_KEYS), next_token=next_token))


def _arranged(found: list[Entry], order: Order) -> list[Entry]:
    if order == "key":  # the test has changed the order between two pages
        return found
    if order == "shuffled":
        random.Random(len(found)).shuffle(found)
        return found
    by_name = {entry.name: entry for entry in found}
    return [by_name[name] for name in order(list(by_name))]


def _seal_token(bucket: str, prefix: str, position: str | int) -> str:
    payload = json.dumps([bucket, prefix, position]).encode()
    return base64.b64encode(_seal(payload) + payload).decode()


def _open_token(token: str) -> tuple[str, str, str | int] | None:
    """What the server sealed into the token; None for any token that it did not give out."""
    try:
        raw = base64.b64decode(token, validate=True)
    except ValueError:
        return None
    seal, payload = raw[:16], raw[16:]
    if not hmac.compare_digest(seal, _seal(payload)):
        return None
    bucket, prefix, position = json.loads(payload)
    return bucket, prefix, position


def _seal(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, key=_SECRET, digest_size=16).digest()


def _invalid(request: Request, message: str, argument: str, value: str) -> Response:
    extra = f"<ArgumentName>{argument}</ArgumentName><ArgumentValue>{escape_xml(value)}</ArgumentValue>"
    return error_response(request, 400, "InvalidArgument", message, extra_xml=extra)


def url_encode(name: str) -> str:
    """encoding-type=url as S3 does it: space is `+`, `+` is %2B, `/` is left alone (brekkylab/backlot#178).

    For what was not measured there (`~`, `*`) this does as Java's URLEncoder, which fits all that was.
    """
    return quote_plus(name.encode("utf-8", "surrogateescape"), safe="/*").replace("~", "%7E")


def _page_xml(request: Request, page: list[Entry], *, asked: int, next_token: str | None) -> str:
    query = request.query
    url = query.get("encoding-type") == "url"
    text = url_encode if url else escape_xml
    restores = "RestoreStatus" in request.headers.get("x-amz-optional-object-attributes", "")
    out = [f'<ListBucketResult xmlns="{NAMESPACE}"><Name>{request.bucket}</Name>']
    out.append(f"<Prefix>{text(query.get('prefix', ''))}</Prefix>")
    if "start-after" in query:
        out.append(f"<StartAfter>{text(query['start-after'])}</StartAfter>")
    if "continuation-token" in query:
        out.append(f"<ContinuationToken>{escape_xml(query['continuation-token'])}</ContinuationToken>")
    if next_token is not None:
        out.append(f"<NextContinuationToken>{next_token}</NextContinuationToken>")
    out.append(f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{asked}</MaxKeys>")
    if query.get("delimiter"):
        out.append(f"<Delimiter>{text(query['delimiter'])}</Delimiter>")
    if url:
        out.append("<EncodingType>url</EncodingType>")
    out.append(f"<IsTruncated>{'false' if next_token is None else 'true'}</IsTruncated>")
    out += [_contents_xml(entry.stored, text, restores=restores) for entry in page if entry.stored is not None]
    out += [
        f"<CommonPrefixes><Prefix>{text(entry.name)}</Prefix></CommonPrefixes>"
        for entry in page
        if entry.stored is None
    ]
    out.append("</ListBucketResult>")
    return "".join(out)


def _contents_xml(stored: StoredObject, text: Callable[[str], str], *, restores: bool) -> str:
    restore = ""
    if restores and stored.restore is not None:
        expiry = stored.restore.expiry
        expires = "" if expiry is None else f"<RestoreExpiryDate>{iso(expiry)}</RestoreExpiryDate>"
        going_on = "true" if stored.restore.in_progress else "false"
        restore = f"<RestoreStatus><IsRestoreInProgress>{going_on}</IsRestoreInProgress>{expires}</RestoreStatus>"
    algorithm = stored.listed_checksum
    checksum = f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm>" if algorithm else ""
    return (
        f"<Contents><Key>{text(stored.key)}</Key><LastModified>{iso(stored.last_modified)}</LastModified>"
        f"<ETag>{escape_xml(stored.etag)}</ETag>{checksum}<Size>{stored.size}</Size>"
        f"<StorageClass>{stored.storage_class}</StorageClass>{restore}</Contents>"
    )


def iso(moment: datetime) -> str:
    """S3's timestamp in XML: whole seconds, and `.000` all the same."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
