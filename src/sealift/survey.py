"""Some objects spread over a prefix, and how each of them is encrypted: in about twenty requests, whatever its size.

1. A page with a delimiter says what lies at the top: objects, and the beginnings that they have in common.
2. Of each of some beginnings, evenly spread, the first objects are listed.
3. Of a flat prefix of many pages, some keys behind guessed ones, up to its end.
4. Of all that was found some are chosen, evenly spread, and HEADs tell of their encryption.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sealift.errors import RunError, SealiftError
from sealift.model import Encryption, RemoteObject
from sealift.s3.store import ObjectStore, PageRequest
from sealift.sampling import HEADS
from sealift.splitting import middle
from sealift.taskgroups import share_out

T = TypeVar("T")

SAMPLE = 100
"""Objects that stand for all. What is so with one of twenty is missed by them once in 170 times (0.95¹⁰⁰)."""

BRANCHES = 16
"""Beginnings that are looked behind, and guesses at the most: two round trips of eight requests."""
AT_ONCE = 8
_LAST = "\U0010ffff"
"""No key goes on with what comes behind it."""
A_BRANCH = SAMPLE
"""Objects that are asked of each: one alone fills a sample, if the others hold little."""
_RECENT = 50
"""Keys by whose characters the next one is guessed: those found last, as they lie nearest to it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Objects from all over a prefix, in the order of their keys."""

    objects: tuple[RemoteObject, ...]
    whole: bool
    """There are no others."""


@dataclass(frozen=True, slots=True)
class Looked:
    """An object that a HEAD was sent for: what it said, or why it did not."""

    remote: RemoteObject
    encryption: Encryption | None
    error: SealiftError | None = None


async def spread(store: ObjectStore, bucket: str, prefix: str) -> Spread:
    """Return objects from all over `prefix`. Raises SourceError, AccessError, CredentialsError, ObjectError."""
    top = await store.list_page(PageRequest(bucket, prefix, delimiter="/"))
    found = list(top.objects)
    whole = top.next_token is None
    beginnings = evenly(top.common_prefixes, BRANCHES)

    async def look_behind(left: Iterator[str]) -> None:
        nonlocal whole
        for beginning in left:
            page = await store.list_page(PageRequest(bucket, beginning, most=A_BRANCH))
            found.extend(page.objects)
            whole = whole and page.next_token is None

    if beginnings:
        whole = whole and len(beginnings) == len(top.common_prefixes)
        await share_out(look_behind, beginnings, at_once=AT_ONCE)
    elif not whole:
        await _look_ahead(store, bucket, prefix, found)
    return Spread(tuple(sorted(set(found), key=lambda remote: remote.key)), whole)


async def _look_ahead(store: ObjectStore, bucket: str, prefix: str, found: list[RemoteObject]) -> None:
    """Find objects of a flat prefix ever nearer to its end, which nobody knows."""

    async def behind(place: str) -> str:
        """Return the last of the keys behind `place`, if there are any."""
        page = await store.list_page(PageRequest(bucket, prefix, start_after=place, most=A_BRANCH))
        found.extend(page.objects)
        return page.objects[-1].key if page.objects else ""

    # As a rule all keys begin alike, but for numbers.
    alike = os.path.commonprefix([found[0].key, found[-1].key]).rstrip("0123456789")  # noqa: RUF071
    last, high = found[-1].key, None
    if alike > prefix and (beyond := await behind(alike + _LAST)):
        alike, last = prefix, max(last, beyond)
    for _ in range(BRANCHES - 1):
        alphabet = "".join(sorted({character for remote in found[-_RECENT:] for character in remote.key[len(alike) :]}))
        guess = middle(last[len(alike) :], high, alphabet)
        if guess is None:
            return
        if beyond := await behind(alike + guess):
            last = max(last, beyond)
        else:
            high = guess
        if high is not None and last[len(alike) :] >= high:  # another order than that of the keys' bytes
            return


async def look(store: ObjectStore, objects: Sequence[RemoteObject]) -> list[Looked]:
    """Send a HEAD for each object, and return what they said in the objects' order. Raises RunError of the source's."""
    looked: dict[int, Looked] = {}

    async def work(left: Iterator[tuple[int, RemoteObject]]) -> None:
        for number, remote in left:
            try:
                looked[number] = Looked(remote, await store.encryption(remote.bucket, remote.key))
            except RunError:
                raise
            except SealiftError as error:
                looked[number] = Looked(remote, None, error)

    await share_out(work, list(enumerate(objects)), at_once=HEADS)
    return [looked[number] for number in range(len(objects))]


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return `most` of the items at the most, the first and the last among them, evenly spread."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[len(items) // 2]]
    return [items[number * (len(items) - 1) // (most - 1)] for number in range(most)]
