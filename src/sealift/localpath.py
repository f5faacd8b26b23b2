"""Where a key lands below the destination. Pure: no file is looked at.

A key is cut at every slash into segments, and each segment becomes one file name of at most 255 bytes
(NAME_MAX of Linux and macOS) by itself. Ordinary segments stay as they are; these do not:

    nothing (`a//b`, `/a`)                                  %empty
    `.`                                                     %dot
    `..`                                                    %dotdot
    `.sealift` at the first level, in any case              <segment>%literal
    one that ends like an escaped one                       <segment>%literal
    one with a NUL, or of more than 255 bytes by now        <its beginning>%sha256-<64 hex digits>

The digest is that of the segment, with its `%literal` where it got one. A file whose own name is needed
for a directory (`a` beside `a/b`) is called `a%file`. No two keys meet: a name that ends in one of the
six escapes was escaped, the escape says by which rule, and what stands before it is the segment again.
Injectivity of the digest is SHA-256's.

An empty object whose key ends in a slash is a directory marker and becomes a directory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

_NAME_MAX = 255
"""Bytes: NAME_MAX of ext4, XFS, btrfs, tmpfs and APFS."""

_DIGEST_MARK = b"%sha256-"
_BEGINNING = _NAME_MAX - len(_DIGEST_MARK) - 2 * hashlib.sha256().digest_size
_ALWAYS_ESCAPED = {b"": b"%empty", b".": b"%dot", b"..": b"%dotdot"}
_LOOKS_ESCAPED = re.compile(rb"%(?:empty|dot|dotdot|file|literal|sha256-[0-9a-f]{64})\Z")
_OWN_DIRECTORY = ".sealift"
_IN_ODD_KEYS = ("%", "\0", "//", "/.", "\n.", "\n/", "/\n", "\n\n")
"""One of these is in the lines of any keys of which one is odd."""
_PERHAPS_ODD = re.compile(r"\A\.|%|\0|(?:\A|/)\.{0,2}(?:/|\Z)")
"""What any key has that is not to be cut at its slashes only, but for names that are too long."""


class LocalPath(NamedTuple):
    """A place below the destination, as the file names that lead there.

    No segments at all is the destination itself, and then always a directory.
    """

    segments: tuple[bytes, ...]
    escaped: bool
    """At least one name is not what the key says."""
    directory: bool
    """A directory marker: there is a directory to make and no file to write."""

    @property
    def text(self) -> str:
        """The path below the destination, to be shown and recorded (PEP 383 for foreign bytes)."""
        return b"/".join(self.segments).decode("utf-8", "surrogateescape")


def local_path(key_below: str, size: int, *, under: str | None = None) -> LocalPath:
    """Return the place of the object whose key, after the source's prefix, is `key_below`.

    `size` (bytes) tells a directory marker from an object with an odd key. `under` is the directory of
    the bucket when there are several sources. Raises UnicodeEncodeError for a string that no bytes
    decode to (a surrogate that is not PEP 383's).
    """
    raw = encoded(key_below)
    if under is None and len(raw) <= _NAME_MAX and not _PERHAPS_ODD.search(key_below):  # nearly all
        return LocalPath(tuple(raw.split(b"/")), False, False)
    keys = raw.split(b"/")
    directory = size == 0 and not keys[-1]
    if directory:
        keys.pop()
    if under is not None:
        keys.insert(0, encoded(under))
    names = tuple(_name(key, first=not level) for level, key in enumerate(keys))
    return LocalPath(names, names != tuple(keys), directory)


def local_paths(keys_below: Sequence[str], sizes: Sequence[int], *, under: str | None = None) -> list[LocalPath]:
    """Return the places of some objects, one at least: as `local_path` of each, and quick where all are ordinary."""
    paths = keys_below if under is None else [f"{under}/{key}" for key in keys_below]
    if not all_ordinary(paths):
        return [local_path(key, size, under=under) for key, size in zip(keys_below, sizes, strict=True)]
    # No ordinary key has a NUL.
    return [LocalPath(tuple(raw.split(b"/")), False, False) for raw in encoded("\0".join(paths)).split(b"\0")]


def place_of(text: str) -> LocalPath:
    """Return the place of a path as it is recorded; a directory marker's ends with a slash."""
    return LocalPath(tuple(encoded(text.removesuffix("/")).split(b"/")), escaped=False, directory=text.endswith("/"))


def encoded(text: str) -> bytes:
    """Return the bytes of a key or a name: UTF-8 whatever the locale says, so this is not os.fsencode."""
    return text.encode("utf-8", "surrogateescape")


def all_ordinary(keys: Sequence[str]) -> bool:
    """Whether every key (one at least), cut at its slashes, is its path: quick for many, and no where in doubt."""
    joined = "\n".join(["", *keys, ""])
    longest = _NAME_MAX if joined.isascii() else _NAME_MAX // 4  # a character has at most four bytes
    return max(map(len, keys)) <= longest and not any(map(joined.__contains__, _IN_ODD_KEYS))


def beside_directory(path: LocalPath) -> LocalPath:
    """Return where the file of `path` goes when that very name is needed for a directory."""
    if path.directory or not path.segments:
        msg = f"not a file: {path}"
        raise ValueError(msg)
    return LocalPath((*path.segments[:-1], _fitted(path.segments[-1] + b"%file")), True, False)


def ancestor_key(key_below: str, depth: int, *, under: str | None = None) -> str | None:
    """Return the key whose file would stand where directory number `depth` of this key's path stands.

    `depth` counts file names from the destination, from 1, as `Blocked.depth` does; `under` as for
    `local_path`. None for the bucket's own directory, where no object's file can stand.
    """
    depth -= under is not None
    return "/".join(key_below.split("/")[:depth]) if depth else None


def _name(segment: bytes, *, first: bool) -> bytes:
    """Map one segment of a key to one file name; `first`: directly in the destination."""
    if segment in _ALWAYS_ESCAPED:
        return _ALWAYS_ESCAPED[segment]
    if (b"%" in segment and _LOOKS_ESCAPED.search(segment)) or (first and _is_own(segment)):
        segment += b"%literal"
    return _fitted(segment)


def _is_own(segment: bytes) -> bool:
    return segment[:1] == b"." and segment.decode("utf-8", "replace").casefold() == _OWN_DIRECTORY


def _fitted(name: bytes) -> bytes:
    """Return the name, or its beginning and its digest where no file can be called so."""
    if len(name) <= _NAME_MAX and b"\0" not in name:
        return name
    beginning = name[: _character_boundary(name, _BEGINNING)].replace(b"\0", b"_")
    return beginning + _DIGEST_MARK + hashlib.sha256(name).hexdigest().encode()


def _character_boundary(data: bytes, limit: int) -> int:
    """Return the greatest length up to `limit` that cuts no UTF-8 character in two."""
    if len(data) <= limit:
        return len(data)
    for end in range(limit, limit - 4, -1):  # a character has at most four bytes
        if data[end] & 0xC0 != 0x80:  # not a continuation byte
            return end
    return limit  # not UTF-8 here: any cut is as good


class Clashes:
    """Finds, among keys that come in UTF-8 order, the files whose own name is needed for a directory.

    All keys that begin with `a` come in a row in that order, so only the keys that the present one begins with have
    to be remembered: 1,024 at the most, as a key has no more bytes. In any other order some are missed.
    """

    def __init__(self) -> None:
        self._open: list[tuple[str, bool]] = []

    def count_all(self, keys: Sequence[str], sizes: Sequence[int]) -> int:
        """Take the next keys: the same as `count` of each, and quick where none of them begins like another."""
        none_open = not (self._open and keys and keys[0].startswith(self._open[0][0]))
        if not keys or not none_open or any(map(str.startswith, keys[1:], keys)):
            return sum(map(self.count, keys, sizes))
        self._open.clear()
        return self.count(keys[-1], sizes[-1])

    def unmet(self) -> list[str]:
        """Return the keys, some of the last, that clash if what comes next goes on with one of them and a slash."""
        return [key for key, clashes in self._open if not clashes and not local_path(key, 1).escaped]

    def count(self, key: str, size: int) -> int:
        """Take the next key, and return how many earlier ones turn out to clash because of it."""
        while self._open and not key.startswith(self._open[-1][0]):
            self._open.pop()
        found = 0
        for index, (earlier, clashes) in enumerate(self._open):
            if not clashes and key.startswith(earlier + "/"):
                self._open[index] = (earlier, True)
                found += not local_path(earlier, 1).escaped
        if size or not key.endswith("/"):
            self._open.append((key, False))
        return found
