"""Which objects are meant: sources, filters, and who lists what when sources overlap. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sealift.errors import ConfigError
from sealift.model import RemoteObject

# What botocore lets through: S3's own rule is narrower, other servers' is not, and the server has the last word.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
# arn:PARTITION:s3:REGION:ACCOUNT:accesspoint/NAME or …accesspoint:NAME (S3 User Guide, "Access points").
_ACCESS_POINT = re.compile(
    r"(?P<arn>arn:[a-z0-9-]+:s3(?:-outposts|-object-lambda)?:[a-z0-9-]*:[0-9]{12}:"
    r"(?:outpost[/:][A-Za-z0-9-]+[/:])?accesspoint[/:](?P<name>[A-Za-z0-9.-]+))(?:/(?P<rest>.*))?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Location:
    """What `s3://bucket/key` names. `bucket` is a bucket's name or an access point's ARN."""

    bucket: str
    key: str

    @property
    def directory(self) -> str:
        """The name that stands for the bucket on disk: an access point's is its own name."""
        match = _ACCESS_POINT.fullmatch(self.bucket)
        return match["name"] if match else self.bucket

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"


def parse_location(text: str) -> Location:
    """Read `s3://bucket/key`, `s3://ARN/key` or `ARN/key`. Raises ConfigError for anything else."""
    rest = text.removeprefix("s3://")
    point = _ACCESS_POINT.fullmatch(rest)
    if point:
        return Location(point["arn"], point["rest"] or "")
    if rest == text:
        raise ConfigError(f"{text!r} is not an S3 location: write s3://BUCKET/PREFIX/")
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"{text!r} names no bucket: write s3://BUCKET/PREFIX/")
    return Location(bucket, key)


@dataclass(frozen=True, slots=True)
class Source:
    """What lies under a prefix. `prefix` is empty or ends with `/`, whatever the user wrote."""

    bucket: str
    prefix: str
    directory: str
    written: str
    """As the user wrote it, for messages."""
    exact_key: str = ""
    """The key that the user may have meant, where the location did not end with `/`."""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read a SOURCE argument. Raises ConfigError."""
        location = parse_location(text)
        prefix = location.key
        exact = "" if not prefix or prefix.endswith("/") else prefix
        if exact:
            prefix += "/"
        return cls(location.bucket, prefix, location.directory, text, exact)

    def on_disk(self, *, several: bool) -> tuple[str | None, str]:
        """Return the directory of its own that it has where there are `several` sources, if it has one.

        And what of its keys does not show in their paths.
        """
        return (self.directory, "") if several else (None, self.prefix)


def parse_sources(texts: Sequence[str]) -> tuple[Source, ...]:
    """Read several SOURCEs. Raises ConfigError, also where two of them would share one directory."""
    sources = tuple(Source.parse(text) for text in texts)
    if not sources:
        raise ConfigError("no SOURCE given: write s3://BUCKET/PREFIX/")
    directories: dict[str, str] = {}
    for source in sources:
        other = directories.setdefault(source.directory, source.bucket)
        if other != source.bucket:
            raise ConfigError(
                f"{other} and {source.bucket} would both go to DEST/{source.directory}: mirror them to two destinations"
            )
    return sources


@dataclass(frozen=True, slots=True)
class Filter:
    """One --include or --exclude. In `glob`, `*` crosses `/`, as in the AWS CLI."""

    kind: Literal["include", "exclude"]
    glob: str


class Selection:
    """Which keys the filters let through: everything is included, and the last filter that matches wins."""

    __slots__ = ("_rules", "filters")

    def __init__(self, filters: Sequence[Filter] = ()) -> None:
        self.filters = tuple(filters)
        self._rules = [
            (re.compile(fnmatch.translate(item.glob)).match, item.kind == "include") for item in reversed(self.filters)
        ]

    def includes(self, key_below: str) -> bool:
        """Say whether `key_below`, the key below its source's prefix, is meant."""
        for match, included in self._rules:
            if match(key_below):
                return included
        return True


class Ownership:
    """Which source an object belongs to when several cover it: it is listed, and fetched, once.

    The source with the shortest prefix has it, the earlier one of two equals; but only if its filters,
    which look at the key below its own prefix, let the object through.
    """

    __slots__ = ("_all", "_listed", "_plain", "_selection", "sources")

    def __init__(self, sources: Sequence[Source], selection: Selection) -> None:
        self._selection = selection
        self._all = tuple(sources)
        self._listed: dict[int, tuple[str, list[Source]]] = {}
        listed: list[tuple[int, Source]] = []
        for index, source in enumerate(sources):
            before = [
                other
                for position, other in enumerate(sources)
                if other.bucket == source.bucket
                and source.prefix.startswith(other.prefix)
                and (len(other.prefix), position) < (len(source.prefix), index)
            ]
            if before and not selection.filters:
                continue
            self._listed[index] = (source.prefix, before)
            listed.append((index, source))
        # Without filters an object is that source's which lists it: the others that have it are not listed.
        self._plain = not selection.filters
        self.sources = tuple(listed)
        """The sources that have to be listed, each with its number."""

    def owns(self, index: int, key: str) -> bool:
        """Say whether source number `index` is the one that is to fetch `key`, which it lists."""
        prefix, before = self._listed[index]
        if not self._selection.includes(key[len(prefix) :]):
            return False
        return not any(self._selection.includes(key[len(other.prefix) :]) for other in before)

    def owned(self, index: int, remotes: Sequence[RemoteObject]) -> Sequence[RemoteObject]:
        """Return those of the objects, which source number `index` lists, that it is to fetch."""
        if self._plain:
            return remotes
        return [remote for remote in remotes if self.owns(index, remote.key)]

    def covers(self, bucket: str, key: str) -> bool:
        """Say whether any source is to mirror `key`, should it exist."""
        return self.source_of(bucket, key) is not None

    def contains(self, bucket: str, key: str) -> bool:
        """Say whether `key` lies under any source, whatever the filters say of it."""
        return any(source.bucket == bucket and key.startswith(source.prefix) for source in self._all)

    def source_of(self, bucket: str, key: str) -> Source | None:
        """Return a source that is to mirror `key`, should it exist."""
        for source in self._all:
            below = key[len(source.prefix) :]
            if source.bucket == bucket and key.startswith(source.prefix) and self._selection.includes(below):
                return source
        return None
