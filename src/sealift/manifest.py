"""Files that name objects become names: what `--files-from` reads. Pure.

How a file is written is told by its first line:

    s3://bucket/a/key                                               one key a line, with or without its bucket
    {"key": "a/key", "etag": "…", "size": 1, "last_modified": "…"}  JSON lines, also with S3's own names (Key, ETag, …)
    cp s3://bucket/a/key some/path                                  what `s5cmd run` takes, where it only copies from S3

With NUL bytes between names there are keys only.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, NoReturn

from sealift.errors import ConfigError
from sealift.selection import parse_location

LONGEST: Final = 64 * 1024
"""Bytes of one line: a key has 1,024 at the most, of which JSON makes six times as many, and all else is short."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COPIES = re.compile(r"(?:s5cmd\s+)?cp\s.*s3://")
_COMMANDS = re.compile(r"(?:s5cmd\s+)?(?:mv|rm|sync|mb|rb|select|pipe|cat|du|ls|run|head|presign)\s+.*s3://")


class Named(NamedTuple):
    """An object that somebody named, with as much of it as was said."""

    bucket: str
    """Nothing where only a key was written."""
    key: str
    version_id: str | None = None
    etag: str = ""
    """With its quotes; nothing where it was not said. Likewise `size` and `last_modified_ns`, which are None."""
    size: int | None = None
    last_modified_ns: int | None = None
    storage_class: str = "STANDARD"
    line: int = 0

    @property
    def whole(self) -> bool:
        """Whether everything is said that a listing would say."""
        return bool(self.etag) and self.size is not None and self.last_modified_ns is not None


class Manifest:
    """Reads a file of names piece by piece. What cannot be meant raises ConfigError with the number of its line."""

    def __init__(self, name: str, *, null: bool = False) -> None:
        """`name` is what messages call it; `null`: names end with NUL bytes, not with lines."""
        self.copies = False
        """It is a file for `s5cmd run`."""
        self._name = name
        self._end = b"\0" if null else b"\n"
        self._null = null
        self._rest = b""
        self._line = 0
        self._held: list[tuple[int, str]] = []
        self._read: Callable[[str], Named | None] | None = self._key if null else None

    def feed(self, data: bytes) -> list[Named]:
        """Take the next bytes, and return the names that they complete."""
        *lines, self._rest = (self._rest + data).split(self._end)
        if len(self._rest) > LONGEST:
            self._line += len(lines) + 1
            self._refuse("the line does not end")
        return [named for line in lines for named in self._take(line)]

    def finish(self) -> list[Named]:
        """Return the names of what is left, once all bytes were fed."""
        last, self._rest = self._rest, b""
        names = self._take(last) if last else []
        if self._read is None and self._held:  # nothing but what looks like comments: then these are keys
            self._read = self._key
            names = self._released()
        return names

    def _take(self, raw: bytes) -> list[Named]:
        self._line += 1
        line = raw.decode("utf-8", "surrogateescape")
        if not self._null:
            line = line.removesuffix("\r")
        if not line:
            return []
        if self._read is None:
            self._held.append((self._line, line))
            if line.startswith("#"):  # a comment of s5cmd's, or a key: the first other line tells
                return []
            self._read = self._way_of(line)
            return self._released()
        named = self._read(line)
        return [] if named is None else [named._replace(line=self._line)]

    def _released(self) -> list[Named]:
        held, self._held = self._held, []
        names = []
        for number, line in held:
            self._line = number
            if self._read is not None and (named := self._read(line)) is not None:
                names.append(named._replace(line=number))
        return names

    def _way_of(self, line: str) -> Callable[[str], Named | None]:
        if line.startswith("{"):
            return self._json
        if _COPIES.match(line) or _COMMANDS.match(line):
            self.copies = True
            return self._copy
        return self._key

    def _key(self, line: str) -> Named:
        return self._located(line) if line.startswith("s3://") else Named("", line)

    def _located(self, text: str) -> Named:
        try:
            location = parse_location(text)
        except ConfigError as error:
            self._refuse(error.message)
        if not location.key:
            self._refuse(f"{text!r} names no object: write s3://BUCKET/KEY")
        return Named(location.bucket, location.key)

    def _json(self, line: str) -> Named:
        try:
            value = json.loads(line)
        except ValueError as error:
            self._refuse(f"no JSON ({error})")
        if not isinstance(value, dict):
            self._refuse("no JSON object")
        # Both ours, last_modified, and S3's, LastModified.
        said: dict[str, Any] = {name.replace("_", "").lower(): what for name, what in value.items() if what is not None}
        version = self._text(said, "versionid") or self._text(said, "version")
        size = said.get("size")
        if size is not None and (type(size) is not int or size < 0):
            self._refuse(f"{size!r} is no size: a whole number of bytes")
        etag = self._text(said, "etag")
        if etag and not etag.startswith('"'):
            etag = f'"{etag}"'
        key = self._text(said, "key")
        if not key:
            self._refuse("there is no key")
        return Named(
            self._text(said, "bucket"),
            key,
            version or None,
            etag,
            size,
            self._moment(self._text(said, "lastmodified")),
            self._text(said, "storageclass") or "STANDARD",
        )

    def _text(self, said: dict[str, Any], name: str) -> str:
        value = said.get(name, "")
        if not isinstance(value, str):
            self._refuse(f"{name} is no text")
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            self._refuse(f"{name} has a surrogate that stands for no byte")
        return value

    def _moment(self, text: str) -> int | None:
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self._refuse(f"{text!r} is no time: write for example 2026-11-25T02:15:00Z")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND * 1000

    def _copy(self, line: str) -> Named | None:
        if not line.strip() or line.lstrip().startswith("#"):
            return None
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            self._refuse(f"{line!r}: {error}")
        if words[:1] == ["s5cmd"]:
            del words[0]
        if words[:1] != ["cp"]:
            self._refuse(f"{' '.join(words[:1])} does not copy: only cp from S3 to this machine is understood")
        try:
            asked, _ = _COPY.parse_known_args(words[1:])
        except ConfigError as error:
            self._refuse(f"{line!r}: {error.message}")
        source, target = asked.source, asked.target
        if not source.startswith("s3://") or target.startswith("s3://"):
            self._refuse(f"{line!r} does not copy from S3 to this machine, which is all that Sealift does")
        if not asked.raw and re.search(r"[*?]", source):
            self._refuse(f"{source!r} is a pattern: name the objects, or mirror their prefix with --include")
        return self._located(source)._replace(version_id=asked.version)

    def _refuse(self, why: str) -> NoReturn:
        raise ConfigError(f"{self._name}, {'name' if self._null else 'line'} {self._line}: {why}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _copy_parser() -> argparse.ArgumentParser:
    """Return a parser of what follows `cp`. How s5cmd would copy is nothing to Sealift; what takes a value is named."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--version-id", dest="version")
    for names in (("-c", "--concurrency"), ("-p", "--part-size"), ("--source-region",), ("--destination-region",)):
        parser.add_argument(*names)
    return parser


_COPY = _copy_parser()
