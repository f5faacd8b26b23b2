"""A versioned bucket as it was at one moment: an object store in which nothing has happened since.

Of each key's versions the newest that is not later than the moment counts; where that is a delete marker, there is no
object. What is listed has its version's id, so that every GET asks for exactly that version.

1. ListObjectVersions gives a key's versions in a row, the newest first. They may be on several pages: a continuation
   token says, besides where the listing goes on, whether the last key of the page before is settled.
2. A page on which nothing was there at the moment is left out, unless it is the last one.

So a snapshot is listed like a bucket, by several listers at once (`sealift.listing`). LastModified has whole seconds: a
version counts as written at the beginning of the second in which it was.
"""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

from sealift.checksum import Checksum
from sealift.errors import ConfigError, Permanent
from sealift.model import Encryption, Part, RemoteObject
from sealift.s3.store import (
    Body,
    Going,
    ObjectStore,
    Page,
    PageRequest,
    VersionedStore,
    VersionsPage,
    VersionsRequest,
)
from sealift.tally import Observer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)

UNVERSIONED: Final = "null"
"""The version id of an object that was written while its bucket had no versions."""


def beginning(now: datetime) -> datetime:
    """Return the last second of which everything has happened: what a run that begins `now` can see all of."""
    return now.replace(microsecond=0) - _SECOND


def as_it_was(store: VersionedStore, chosen: datetime | Literal["start"] | None, observer: Observer) -> ObjectStore:
    """Return the store as it is to be seen: as it was at the `chosen` moment, or as it is. Raises ConfigError."""
    now = datetime.now(UTC)
    if chosen is None:
        return store
    if chosen == "start":
        chosen = beginning(now)
        observer.noted("info", f"mirrored is what was there at {chosen.isoformat()}")
    elif chosen > now:
        raise ConfigError(f"--as-of {chosen.isoformat()} lies in the future: what will be there, nobody knows")
    return Snapshot(store, chosen)


class _Place(NamedTuple):
    """Where a listing goes on."""

    key: str | None = None
    version: str | None = None
    settled: bool = False
    """The versions of `key` that are still to come do not count."""


class Snapshot:
    """An `ObjectStore` around another one: what was there at a moment."""

    def __init__(self, store: VersionedStore, moment: datetime) -> None:
        self._store = store
        self._moment_ns = (moment - _EPOCH) // _MICROSECOND * 1000 + 999
        self.versioned = False
        """An object had a version of its own: the bucket has, or had, versions."""

    async def list_page(self, request: PageRequest) -> Page:
        """See `ObjectStore.list_page`."""
        place = _Place(request.start_after) if request.token is None else _Place(*json.loads(request.token))
        versions = VersionsRequest(request.bucket, request.prefix, delimiter=request.delimiter, most=request.most)
        while True:
            page = await self._store.list_versions(
                replace(versions, key_marker=place.key, version_marker=place.version)
            )
            objects, settled = self._as_of(page, place)
            if page.next_key is None:
                return Page(objects, None, page.common_prefixes)
            place = _Place(page.next_key, page.next_version, settled == page.next_key)
            if objects or page.common_prefixes:
                return Page(objects, json.dumps(place), page.common_prefixes)

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        """See `ObjectStore.head`: of the version that was there."""
        if version_id is not None:
            return await self._store.head(bucket, key, version_id)
        token = None
        while True:
            page = await self.list_page(PageRequest(bucket, key, token=token))
            for remote in page.objects:
                if remote.key == key:
                    return remote
            token = page.next_token
            if token is None or page.objects:  # the keys that begin with this one come behind it
                raise Permanent(f"{key!r} was not there at that moment", bucket=bucket, key=key, code="NoSuchKey")

    async def encryption(self, bucket: str, key: str) -> Encryption:
        """See `ObjectStore.encryption`."""
        return await self._store.encryption(bucket, key)

    async def checksum(self, remote: RemoteObject, going: Going | None = None) -> Checksum | None:
        """See `ObjectStore.checksum`."""
        return await self._store.checksum(remote, going)

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        """See `ObjectStore.part_size`."""
        return await self._store.part_size(remote, number)

    def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AbstractAsyncContextManager[Body]:
        """See `ObjectStore.open`."""
        return self._store.open(remote, part, going)

    def _as_of(self, page: VersionsPage, place: _Place) -> tuple[tuple[RemoteObject, ...], str | None]:
        """Return what of a page was there, and the last key of which that is settled."""
        settled = place.key if place.settled else None
        objects = []
        for version in page.versions:
            remote = version.remote
            self.versioned = self.versioned or remote.version_id != UNVERSIONED
            if remote.key == settled or remote.last_modified_ns > self._moment_ns:
                continue
            settled = remote.key
            if not version.delete_marker:
                objects.append(remote)
        return tuple(objects), settled
