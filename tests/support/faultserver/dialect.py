"""What S3 would answer: the state of the buckets and pure decisions on it. The network is in server.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

from tests.support.faultserver.content import (
    DEFAULT_KMS_KEY,
    Generated,
    Restore,
    StoredObject,
    Window,
    make_etag,
)
from tests.support.faultserver.listing import MAX_KEYS, GeneratedListing, Order, list_objects
from tests.support.faultserver.sums import checksum_headers
from tests.support.faultserver.versions import list_versions
from tests.support.faultserver.wire import NAMESPACE, Request, Response, error_response, xml_response

KmsForm = Literal["KMS.ThrottlingException", "SlowDown"]

KMS_REFUSALS: Mapping[KmsForm, tuple[int, str]] = {
    "KMS.ThrottlingException": (
        400,
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
    ),
    "SlowDown": (503, "Please reduce your request rate for operations involving AWS KMS."),
}

CREDENTIAL_REFUSALS: Mapping[str, tuple[int, str]] = {
    "ExpiredToken": (400, "The provided token has expired."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
}

FIRST_PUT = datetime(2024, 5, 17, 8, 30, tzinfo=UTC)
"""LastModified of the first object; each further one is a second younger, so that an overwrite always shows."""


class Dialect:
    """Buckets, objects, and S3's answers to requests for them. Attributes may be changed at any time."""

    def __init__(self, *, region: str = "us-east-1") -> None:
        self.region = region
        self.buckets: dict[str, str] = {}
        """Name to region."""
        self.objects: dict[tuple[str, str], StoredObject] = {}
        """(bucket, key) to the current version."""
        self.versions: dict[tuple[str, str, str], StoredObject] = {}
        """(bucket, key, version id) to every version that has an id."""
        self.history: dict[tuple[str, str], list[StoredObject]] = {}
        """(bucket, key) to all that was put there, the oldest first: what ListObjectVersions tells."""
        self.generated: list[GeneratedListing] = []
        self.listing_order: Order = "key"
        self.page_size = MAX_KEYS
        """Entries on a page of a listing, at most, whatever max-keys asks for."""
        self.require_access_key: set[str] | None = None
        """Only requests signed with one of these access key ids are answered; None lets everybody in."""
        self.access_key_refusal: Literal["ExpiredToken", "InvalidAccessKeyId"] = "ExpiredToken"
        self.kms_rps: int | None = None
        """GETs of SSE-KMS objects without a Bucket Key, and HEADs that ask for their checksums, per second of
        `clock`; None for no limit."""
        self.kms_form: KmsForm = "KMS.ThrottlingException"
        self.clock: Callable[[], float] = time.monotonic
        self.kms_calls = 0
        """Decrypts that KMS granted."""
        self.kms_refused = 0
        self._window = (-1, 0)
        self._puts = 0

    def bucket(self, name: str, *, region: str | None = None) -> None:
        """Make a bucket. `put` makes the bucket it needs."""
        self.buckets[name] = region or self.region

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes | Generated,
        *,
        etag: str | None = None,
        last_modified: datetime | None = None,
        storage_class: str = "STANDARD",
        version_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        kms_key: str | None = DEFAULT_KMS_KEY,
        bucket_key: bool = False,
        restore: Restore | None = None,
        checksum: str = "",
        parts: tuple[int, ...] = (),
        composite: bool = False,
        listed: bool = True,
    ) -> StoredObject:
        """Store an object. `etag` goes with its quotes; by default it is made from key and body.

        Versions are kept for `versionId` where the objects are given version ids. `checksum` names the algorithm of
        the checksum that S3 has of it, which listings tell if it is `listed`; `parts` are those it was uploaded in, and
        `composite` says that the checksum is one of theirs.
        """
        self.buckets.setdefault(bucket, self.region)
        headers = dict(headers or {})
        if checksum and isinstance(body, bytes):
            headers |= checksum_headers(checksum, body, parts, composite=composite)
        ending = f'-{len(parts)}"' if parts else '"'
        stored = StoredObject(
            key=key,
            body=body,
            etag=etag or f"{make_etag(key, body)[:-1]}{ending}",
            last_modified=last_modified or FIRST_PUT + timedelta(seconds=self._puts),
            storage_class=storage_class,
            version_id=version_id,
            headers=headers,
            kms_key=kms_key,
            bucket_key=bucket_key,
            restore=restore,
            parts=parts,
            listed_checksum=checksum if listed else "",
        )
        self._puts += 1
        self._store(bucket, stored)
        return stored

    def overwrite(self, bucket: str, key: str, body: bytes | Generated) -> StoredObject:
        """Replace an object's body: another ETag and LastModified, a new version id if it had one, the rest as
        it was. Raises KeyError if there is no such object."""
        old = self.find(bucket, key)
        if old is None:
            raise KeyError((bucket, key))
        self._puts += 1
        new = replace(
            old,
            body=body,
            etag=make_etag(f"{key} {self._puts}", body),
            last_modified=old.last_modified + timedelta(seconds=self._puts),
            version_id=old.version_id and f"{old.version_id}.{self._puts}",
        )
        self._store(bucket, new)
        return new

    def _store(self, bucket: str, stored: StoredObject) -> None:
        past = self.history.setdefault((bucket, stored.key), [])
        past[:] = [version for version in past if version.version_id != stored.version_id]
        past.append(stored)
        self.objects[bucket, stored.key] = stored
        if stored.version_id is not None:
            self.versions[bucket, stored.key, stored.version_id] = stored

    def delete(self, bucket: str, key: str, *, last_modified: datetime | None = None) -> StoredObject:
        """Put a delete marker in place of an object, as S3 does in a bucket with versions."""
        marker = StoredObject(
            key=key,
            body=b"",
            etag="",
            last_modified=last_modified or FIRST_PUT + timedelta(seconds=self._puts),
            version_id=f"marker-{self._puts}",
            delete_marker=True,
        )
        self._puts += 1
        self.history.setdefault((bucket, key), []).append(marker)
        self.objects.pop((bucket, key), None)
        return marker

    def generate_listing(
        self,
        bucket: str,
        prefix: str,
        count: int,
        size: int | Callable[[int], int],
        key_for: Callable[[int], str] = "{:09d}".format,
    ) -> GeneratedListing:
        """`count` objects `prefix + key_for(0)`, … that take no memory: they are made when they are listed or got.

        `key_for` must ascend in UTF-8 byte order. With a `listing_order` other than "key" every page costs
        time and memory in proportion to `count`.
        """
        listing = GeneratedListing(bucket, prefix, count, size if callable(size) else lambda _: size, key_for)
        self.serve(listing)
        return listing

    def serve(self, listing: GeneratedListing) -> None:
        """Serve the objects of a generated listing, in a bucket that is made if need be."""
        self.buckets.setdefault(listing.bucket, self.region)
        self.generated.append(listing)

    def find(self, bucket: str, key: str, version_id: str | None = None) -> StoredObject | None:
        """The object, or its version, put or generated."""
        if version_id is not None and version_id != "null":
            return self.versions.get((bucket, key, version_id))
        stored = self.objects.get((bucket, key))
        if stored is None and self.generated:
            here = (listing.find(key) for listing in self.generated if listing.bucket == bucket)
            return next((found for found in here if found is not None), None)
        return stored

    def refuse_credentials(self, request: Request) -> Response | None:
        """The refusal of a request that `require_access_key` does not let in."""
        allowed, access_key = self.require_access_key, request.access_key
        if allowed is None or access_key in allowed:
            return None
        if access_key is None:
            return error_response(request, 403, "AccessDenied", "Access Denied")
        status, message = CREDENTIAL_REFUSALS[self.access_key_refusal]
        return error_response(request, status, self.access_key_refusal, message)

    def answer(self, request: Request) -> Response:
        """S3's answer. Takes a decrypt from the KMS quota where S3 would, so ask once a request."""
        if request.op == "other":
            return error_response(
                request,
                501,
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
            )
        region = self.buckets.get(request.bucket)
        if region is None:
            extra = f"<BucketName>{request.bucket}</BucketName>"
            message = "The specified bucket does not exist"
            return error_response(request, 404, "NoSuchBucket", message, extra_xml=extra)
        if request.op == "bucket":
            return self._answer_for_bucket(request, region)
        if request.op == "list" and "versions" in request.query:
            page = list_versions(request, self.history, page_size=self.page_size)
            page.headers["x-amz-bucket-region"] = region
            return page
        if request.op == "list":
            page = list_objects(
                request, self.objects, self.generated, order=self.listing_order, page_size=self.page_size
            )
            page.headers["x-amz-bucket-region"] = region
            return page
        return self._answer_for_object(request)

    def _answer_for_bucket(self, request: Request, region: str) -> Response:
        if request.method == "HEAD":
            headers = {
                "x-amz-bucket-region": region,
                "x-amz-access-point-alias": "false",
                "Content-Type": "application/xml",
            }
            return Response(200, headers, chunked=True)
        # The one Region that S3 does not name.
        name = "" if region == "us-east-1" else region
        return xml_response(f'<LocationConstraint xmlns="{NAMESPACE}">{name}</LocationConstraint>')

    def _answer_for_object(self, request: Request) -> Response:
        version_id = request.query.get("versionId")
        stored = self.find(request.bucket, request.key, version_id)
        refusal = self._refuse_object(request, stored, version_id)
        if refusal is not None or stored is None:
            return refusal or error_response(request, 404, "NoSuchKey", "The specified key does not exist.")
        checksums = request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
        needs_kms = stored.kms_key is not None and (request.op == "get" or checksums)
        if needs_kms and not stored.bucket_key and not self._kms_grants():
            status, message = KMS_REFUSALS[self.kms_form]
            return error_response(request, status, self.kms_form, message)
        number = request.query.get("partNumber")
        if number is not None:
            size = stored.parts[int(number) - 1] if stored.parts else stored.size
            response = object_response(stored, (0, size), checksums=False)
            response.headers["x-amz-mp-parts-count"] = str(len(stored.parts))
            return response
        return object_response(stored, request.range, checksums=checksums)

    def _refuse_object(self, request: Request, stored: StoredObject | None, version_id: str | None) -> Response | None:
        if stored is None and version_id is not None:
            extra = f"<VersionId>{version_id}</VersionId>"
            return error_response(
                request, 404, "NoSuchVersion", "The specified version does not exist.", extra_xml=extra
            )
        if stored is None:
            return None
        pins = request.headers.get("if-match")
        if pins is not None and pins != "*":
            wanted = {pin.strip().strip('"') for pin in pins.split(",")}
            if stored.etag.strip('"') not in wanted:
                message = "At least one of the pre-conditions you specified did not hold"
                extra = "<Condition>If-Match</Condition>"
                return error_response(request, 412, "PreconditionFailed", message, extra_xml=extra)
        if stored.archived and request.op == "get":
            return error_response(
                request,
                403,
                "InvalidObjectState",
                "The operation is not valid for the object's storage class",
                headers={"x-amz-storage-class": stored.storage_class},
                extra_xml=f"<StorageClass>{stored.storage_class}</StorageClass>",
            )
        if request.range is not None and request.range[0] >= stored.size:
            return error_response(
                request,
                416,
                "InvalidRange",
                "The requested range is not satisfiable",
                headers={"Content-Range": f"bytes */{stored.size}"},
                extra_xml=f"<RangeRequested>{request.headers.get('range', '')}</RangeRequested>"
                f"<ActualObjectSize>{stored.size}</ActualObjectSize>",
            )
        return None

    def _kms_grants(self) -> bool:
        """Count a Decrypt against the quota of the present second."""
        second, calls = self._window
        now = int(self.clock())
        if now != second:
            calls = 0
        granted = self.kms_rps is None or calls < self.kms_rps
        if granted:
            self.kms_calls += 1
            calls += 1
        else:
            self.kms_refused += 1
        self._window = (now, calls)
        return granted


def object_response(stored: StoredObject, asked: tuple[int, int] | None, *, checksums: bool = False) -> Response:
    """The object, or the range of it, which must begin within it."""
    headers = {
        "Last-Modified": format_datetime(stored.last_modified.astimezone(UTC), usegmt=True),
        "ETag": stored.etag,
        "Accept-Ranges": "bytes",
        "Content-Type": "binary/octet-stream",
    }
    if stored.kms_key is None:
        headers["x-amz-server-side-encryption"] = "AES256"
    else:
        headers["x-amz-server-side-encryption"] = "aws:kms"
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = stored.kms_key
        if stored.bucket_key:
            headers["x-amz-server-side-encryption-bucket-key-enabled"] = "true"
    if stored.version_id is not None:
        headers["x-amz-version-id"] = stored.version_id
    if stored.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = stored.storage_class
    if stored.restore is not None:
        headers["x-amz-restore"] = f'ongoing-request="{str(stored.restore.in_progress).lower()}"'
        if stored.restore.expiry is not None:
            expiry = format_datetime(stored.restore.expiry.astimezone(UTC), usegmt=True)
            headers["x-amz-restore"] += f', expiry-date="{expiry}"'
    with_checksums = checksums and asked is None
    headers |= {
        name: value
        for name, value in stored.headers.items()
        if with_checksums or not name.lower().startswith("x-amz-checksum-")
    }
    if asked is None:
        return Response(200, headers, stored.content)
    start, stop = asked[0], min(asked[1], stored.size)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    return Response(206, headers, Window(stored.content, start, stop))
