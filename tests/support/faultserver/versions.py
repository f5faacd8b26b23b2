"""ListObjectVersions: key by key in UTF-8 byte order, of each the newest version first, delete markers too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.support.faultserver.content import StoredObject
from tests.support.faultserver.listing import MAX_KEYS, iso, url_encode
from tests.support.faultserver.wire import NAMESPACE, Request, Response, escape_xml, xml_response

History = Mapping[tuple[str, str], Sequence[StoredObject]]


def list_versions(request: Request, history: History, *, page_size: int) -> Response:
    """S3's answer for a bucket that exists. The last version of a key that was put is the latest."""
    query = request.query
    limit = min(int(query.get("max-keys", MAX_KEYS)), page_size, MAX_KEYS)
    found = _behind(_entries(request, history), query.get("key-marker"), query.get("version-id-marker"))
    page = [entry for entry, _ in zip(found, range(limit + 1), strict=False)]
    more = len(page) > limit
    del page[limit:]
    text = url_encode if query.get("encoding-type") == "url" else escape_xml
    out = [f'<ListVersionsResult xmlns="{NAMESPACE}"><Name>{request.bucket}</Name>']
    out.append(f"<Prefix>{text(query.get('prefix', ''))}</Prefix><MaxKeys>{limit}</MaxKeys>")
    if query.get("encoding-type") == "url":
        out.append("<EncodingType>url</EncodingType>")
    out.append(f"<IsTruncated>{str(more).lower()}</IsTruncated>")
    if more and page:
        name, version = page[-1]
        out.append(f"<NextKeyMarker>{text(name)}</NextKeyMarker>")
        if version is not None:
            out.append(f"<NextVersionIdMarker>{_id(version)}</NextVersionIdMarker>")
    out += [_version_xml(version, text) for _, version in page if version is not None]
    out += [f"<CommonPrefixes><Prefix>{text(name)}</Prefix></CommonPrefixes>" for name, version in page if not version]
    return xml_response("".join([*out, "</ListVersionsResult>"]))


def _entries(request: Request, history: History) -> Iterator[tuple[str, StoredObject | None]]:
    prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
    rolled = ""
    for key in sorted((key for bucket, key in list(history) if bucket == request.bucket), key=_order):
        if not key.startswith(prefix):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            yield from ((key, version) for version in reversed(history[request.bucket, key]))
        elif key[: end + len(delimiter)] != rolled:
            rolled = key[: end + len(delimiter)]
            yield rolled, None


def _behind(
    entries: Iterator[tuple[str, StoredObject | None]], key: str | None, version_id: str | None
) -> Iterator[tuple[str, StoredObject | None]]:
    passed = version_id is None
    for name, version in entries:
        if key is None or _order(name) > _order(key):
            yield name, version
        elif name == key and version is not None:
            if passed and version_id is not None:
                yield name, version
            passed = passed or _id(version) == version_id


def _version_xml(version: StoredObject, text) -> str:
    inside = f"<Key>{text(version.key)}</Key><VersionId>{_id(version)}</VersionId>"
    inside += f"<IsLatest>false</IsLatest><LastModified>{iso(version.last_modified)}</LastModified>"
    if version.delete_marker:
        return f"<DeleteMarker>{inside}</DeleteMarker>"
    inside += f"<ETag>{escape_xml(version.etag)}</ETag><Size>{version.size}</Size>"
    return f"<Version>{inside}<StorageClass>{version.storage_class}</StorageClass></Version>"


def _id(version: StoredObject) -> str:
    return version.version_id or "null"


def _order(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
