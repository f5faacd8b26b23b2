"""The object store as the rest of Sealift sees it: the whole outside world in one small file.

Every method raises only errors of `sealift.errors`; contract tests hold each implementation to this page.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple, Protocol

from sealift.checksum import Checksum
from sealift.model import Encryption, Part, RemoteObject

MOST_KEYS = 1000
"""Keys that S3 lists in one answer, at the most (S3 API Reference, ListObjectsV2 and ListObjectVersions, max-keys)."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of a listing is asked for."""

    bucket: str
    prefix: str
    """What all keys begin with."""
    _: KW_ONLY
    token: str | None = None
    """The `next_token` of the page before; it goes with the same `prefix`, `start_after` and `delimiter`."""
    start_after: str | None = None
    """Where to begin without a token: with the first key behind this one, which need not exist itself."""
    delimiter: str | None = None
    """What goes on behind it is rolled up into common prefixes."""
    most: int = MOST_KEYS
    """Objects and common prefixes, at the most."""


@dataclass(frozen=True, slots=True)
class VersionsRequest:
    """Which page of a listing of versions is asked for. What has no word here is as with `PageRequest`."""

    bucket: str
    prefix: str
    _: KW_ONLY
    key_marker: str | None = None
    """Where to begin: behind `version_marker` of this key; without a version behind all of this key's, which need not
    exist itself."""
    version_marker: str | None = None
    delimiter: str | None = None
    most: int = MOST_KEYS


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a listing: at most 1,000 objects and common prefixes, in the order that the server gave them."""

    objects: tuple[RemoteObject, ...]
    next_token: str | None
    """What to ask the next page with; None says that the listing has reached its end."""
    common_prefixes: tuple[str, ...] = ()
    """What keys that go on behind a delimiter begin with, the delimiter included; they are not among the objects."""


class Version(NamedTuple):
    """One version of an object, or a delete marker: what stands for an object that was deleted then."""

    remote: RemoteObject
    """With its version's id, `null` where it has none of its own. Of a marker only key, id and time are known."""
    delete_marker: bool


@dataclass(frozen=True, slots=True)
class VersionsPage:
    """One answer to a listing of versions: key by key, of each key the newest first."""

    versions: tuple[Version, ...]
    next_key: str | None
    """Where the next page begins, with `next_version`: behind that version of that key. None at the end."""
    next_version: str | None = None
    common_prefixes: tuple[str, ...] = ()


Going = Callable[[], None]
"""Hears that a request has just gone out; or, where that moment cannot be known, that its answer has come.

Where an attempt ends at that very moment it may hear of it afterwards. It hears of it once more where the answer was
none, and KMS was not asked: the bucket is in another Region, credentials had to be renewed. Apart from that nothing
goes out again by itself of which it has heard: what nobody may have received raises NotSent.
"""


Leave = Callable[[str], AbstractAsyncContextManager[Going | None]]
"""Waits until a GET from a bucket may go out for which KMS may be asked, and which nothing else paces.

What it gives, if anything, hears of it; the context ends when the GET has.
"""


def at_once(_bucket: str) -> AbstractAsyncContextManager[Going | None]:
    """Let a GET go out: nothing is capped."""
    return nullcontext()


class Sink(Protocol):
    """Where a body's bytes can go at once, from within the event loop's callback."""

    @property
    def ready(self) -> bool:
        """Whether `take` may be called now."""
        ...

    def take(self, data: bytes | memoryview) -> None:
        """Take the next bytes, which are valid during the call only. Whatever it raises comes out of `Body.pour`."""
        ...


class Body(Protocol):
    """The bytes of one part, on their way. Its head was checked: it is the right range of the right version."""

    @property
    def encryption(self) -> Encryption:
        """How the object is encrypted, as the head says; whether KMS was asked for these bytes is part of it."""
        ...

    @property
    def checksum(self) -> Checksum | None:
        """What the head says of the whole object's checksum. Only whole objects are asked for it."""
        ...

    async def read(self) -> bytes | memoryview:
        """Return the next bytes as they come, at most a few hundred KiB; none once all have come.

        They are valid until the next call only, and as long as the body is open.

        Raises Transient where the connection is lost, stalls or ends early.
        """
        ...

    def take_what_came(self, sink: Sink) -> bool:
        """Let `sink` take the bytes that came together with the head, before any others; whether those are all.

        A small object is there with that, and nothing is to be waited for. Raises what the sink raises.
        """
        ...

    async def pour(self, sink: Sink) -> bytes | memoryview:
        """Let `sink` take the bytes as they come, and return what came while it was not ready; none once all have come.

        Costs large bodies a third less than `read`. What it returns, and what it raises, is as with `read`.
        """
        ...


async def pour_what_is_read(body: Body, sink: Sink) -> bytes | memoryview:
    """Do `Body.pour` by `Body.read`, where nothing quicker is possible."""
    while (data := await body.read()) and sink.ready:
        sink.take(data)
    return data


class ObjectStore(Protocol):
    """Listing, heads and ranged GETs, one attempt each."""

    async def list_page(self, request: PageRequest) -> Page:
        """Return one page of what lies under a prefix.

        Raises SourceError (no such bucket), AccessError, CredentialsError, Transient, Throttled.
        """
        ...

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> RemoteObject:
        """Describe one object.

        Raises Permanent (code `NoSuchKey`), Refused, SourceError, CredentialsError, Transient, Throttled.
        """
        ...

    async def encryption(self, bucket: str, key: str) -> Encryption:
        """Say how one object is encrypted: a HEAD, which asks nothing of KMS.

        Raises what `head` raises; but why a HEAD failed is not looked into, as that might ask KMS.
        """
        ...

    async def checksum(self, remote: RemoteObject, going: Going | None = None) -> Checksum | None:
        """Return what S3 has for a checksum of this version: a HEAD, for which KMS is asked as for a GET.

        Raises Changed, and what `head` raises; but a HEAD that fails says no more than a status.
        """
        ...

    async def part_size(self, remote: RemoteObject, number: int) -> int:
        """Return how many bytes the part `number`, from 1, has in which the object was uploaded: a HEAD.

        Nothing is asked of KMS. Raises what `checksum` raises.
        """
        ...

    def open(self, remote: RemoteObject, part: Part, going: Going | None = None) -> AbstractAsyncContextManager[Body]:
        """GET one part, pinned to the version that `remote` describes.

        Entering sends the request and checks the response's status, range, length and ETag before a byte
        of it can be read. Raises Changed (not that version any more), Integrity (not that range), Permanent,
        Refused, CredentialsError, Transient, Throttled. A body that was not read to its end takes its
        connection with it.
        """
        ...


class VersionedStore(ObjectStore, Protocol):
    """An object store that tells the versions of its objects as well."""

    async def list_versions(self, request: VersionsRequest) -> VersionsPage:
        """Return one page of all versions of what lies under a prefix. Raises what `list_page` does."""
        ...
