"""Who lists which stretch of a prefix, and where a stretch can be split. Pure.

A listing is a sequence of keys, and both a continuation token and start-after name a place in it. A stretch begins at
such a place and goes on by tokens:

1. The first stretch begins where the listing does: plain pagination, and all there is where nothing can be split.
2. Another begins behind a key that is guessed, somewhere in the middle of the largest stretch. It is **accepted** with
   its first page: when it begins behind all that the stretch before has listed, and before the next one.
3. A stretch **ends** where it meets a key of another's first page, or with the listing.

So the stretches are what lies between their beginnings, each key is in one of them, and that does not rest on the order
of the keys. Only rule 2 does: guesses make sense in UTF-8 byte order, which S3 lists in. Where a page is not in that
order, or a stretch gets past the beginning of the next without meeting it (`doubt`), nothing is split any more, guesses
under way are not accepted, and what was accepted goes on to its end: nothing is lost or doubled, it only gets slower.

It does rest on start-after and tokens being places in the same sequence. Where start-after goes by bytes and the order
by the names in a path, they are not: `sealift.listing` finds that out before it lets a guess be accepted (`torn`).

Guesses come from what somebody knows of the keys (`hint`: the last listing's `Landmarks`, or common prefixes that were
looked up), else from the middle between two keys, both taken as numbers whose digits are the characters that the keys
were seen to have.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

WORTH_SPLITTING = 2000
"""Keys that a stretch must be expected to have left: two pages, so that both halves have one to fetch."""

SPARE_GUESSES = 16
"""Guesses behind which there may be nothing, beyond one for each page that had something: at most about half of all
requests find nothing, and at the beginning, where the keys' end is unknown, a row of them can."""

LANDMARKS = 256
"""Keys that are remembered of a listing for the next one: eight for each of 32 listers, so that what has changed since
leaves enough of them in the right places."""

WORTH_REMEMBERING = 4
"""Pages from which a listing has landmarks: fewer are listed in as many round trips anyway."""

_DIGITS = 24
"""Characters behind what two keys have in common that count when they are compared as numbers. A page of 1,000 keys
differs well before that."""

_SAMPLED = 50
"""One of so many keys of a page is looked at for the characters that keys are made of."""


@dataclass(slots=True, eq=False)
class Stretch:
    """Pages that follow each other by continuation tokens."""

    start_after: str | None
    """The guess behind which it begins; None: where the listing begins."""
    bound: str | None
    """About where the next one begins: for guesses only."""
    begun: bool = False
    """It was accepted, or is the first one."""
    ended: bool = False
    first_key: str = ""
    """Where it begins; where the one before began, once that one has met it: the two are one then."""
    first_page: frozenset[str] = frozenset()
    """The keys of the page that begins there; none for what begins where the listing does."""
    place: str = ""
    """The last key that it has listed."""
    listed: int = 0
    gone: bool = False
    """Its first key was deleted since, so that nobody can meet it: the order decides where the one before ends."""
    dense: str = ""
    """What the keys of its last page begin with, without the digits that end it."""
    climbed: bool = False
    """What lies behind all keys that begin like `dense` was guessed at."""

    @property
    def low(self) -> str:
        """Return the key that all it has left lies behind."""
        return self.place or self.start_after or ""


@dataclass(slots=True)
class KeySpace:
    """The stretches of one listing."""

    first: Stretch = field(default_factory=lambda: Stretch(None, None, begun=True))
    """The one that begins where the listing does."""
    ordered: bool = True
    """All pages so far came in UTF-8 byte order, so that guesses make sense."""
    _stretches: list[Stretch] = field(default_factory=list)
    """Those that nobody has met and that were not given up, by where they began, in byte order."""
    _beginnings: dict[str, Stretch] = field(default_factory=dict)
    """The keys of all their first pages."""
    _hints: list[str] = field(default_factory=list)
    _characters: set[str] = field(default_factory=set)
    _alphabet: str = ""
    _full: int = 0
    _vain: int = 0

    def __post_init__(self) -> None:
        self._stretches.append(self.first)

    @property
    def answers(self) -> int:
        """How many pages came."""
        return self._full + self._vain

    def doubt(self, stretch: Stretch, keys: Sequence[str]) -> str | None:
        """Return the key of which to find out whether it exists still, and to `settle` that, before `keys` are taken.

        It begins the next stretch, and `keys` get past it without meeting anything of that one's first page: it was
        deleted, or the listing is not in the order of its keys' bytes.
        """
        following = self._next(stretch)
        if not (self.ordered and keys and following and not following.gone):
            return None
        if keys[-1] < following.first_key or not _ascending(stretch.low, keys):
            return None
        if not (stretch.begun or self._acceptable(stretch, keys[0])):
            return None
        met = any(self._beginnings.get(key) is following for key in keys)
        return None if met else following.first_key

    def settle(self, key: str, *, exists: bool) -> None:
        """Take note of whether the key of a `doubt` exists."""
        if exists:
            self.ordered = False
        elif key in self._beginnings:
            self._beginnings[key].gone = True

    def take(self, stretch: Stretch, keys: Sequence[str], *, more: bool) -> int:
        """Return how many of `keys`, from the first on, are the stretch's own: none where it was not accepted.

        `keys` are its next page; `more` says that it was not the last one. `stretch.ended` is then up to date.
        """
        ascending = _ascending(stretch.low, keys)
        if not stretch.begun:
            if not (keys and ascending and self._acceptable(stretch, keys[0])):
                self._give_up(stretch, not keys or keys[0] > stretch.low)
                return 0
        elif not ascending:
            self.ordered = False
        own, met = self._own(stretch, keys, ascending)
        stretch.ended = met is not None or not more
        if own:
            self._note(stretch, keys[:own])
        if met is not None:
            self._join(stretch, met)
        self._full += 1
        return own

    def give_up(self, stretch: Stretch) -> None:
        """Let go of a guess that the server does not answer: it cannot begin where it is told to."""
        self.ordered = False
        self._give_up(stretch, False)

    def hint(self, keys: Iterable[str]) -> None:
        """Note keys at which it makes sense to split."""
        for key in keys:
            insort(self._hints, key)

    def split(self) -> Stretch | None:
        """Guess where the largest stretch can be split, and return the new one; None where it is not worth it."""
        begun = [stretch for stretch in self._stretches if stretch.begun]
        if not self.ordered or self._vain + len(self._stretches) - len(begun) > self._full + SPARE_GUESSES:
            return None
        candidates = [(self._left(stretch), stretch) for stretch in begun if not stretch.ended]
        for left, stretch in sorted(candidates, key=lambda candidate: -candidate[0]):
            if left < WORTH_SPLITTING:
                break
            guess = self._guess(stretch)
            if guess is not None:
                new = Stretch(guess, self._bound(stretch))
                stretch.bound = guess
                self._stretches.insert(self._stretches.index(stretch) + 1, new)
                return new
        return None

    def _next(self, stretch: Stretch) -> Stretch | None:
        """Return the accepted stretch behind this one, in byte order."""
        following = self._stretches[self._stretches.index(stretch) + 1 :]
        return next((other for other in following if other.begun), None)

    def _acceptable(self, stretch: Stretch, first_key: str) -> bool:
        index = self._stretches.index(stretch)
        before = next((other for other in reversed(self._stretches[:index]) if other.begun), None)
        following = self._next(stretch)
        return (
            self.ordered
            and first_key not in self._beginnings
            and (before is None or first_key > before.place)
            and (following is None or first_key < following.first_key)
        )

    def _give_up(self, stretch: Stretch, nothing_between: bool) -> None:
        """Take a guess back; `nothing_between`: there was no key behind it that was not another's."""
        self._vain += 1
        stretch.ended = True
        index = self._stretches.index(stretch)
        before = self._stretches[index - 1] if index else None
        if before is not None and (before.low >= stretch.low or not nothing_between):  # it was overtaken
            before.bound = stretch.bound
        del self._stretches[index]

    def _own(self, stretch: Stretch, keys: Sequence[str], ascending: bool) -> tuple[int, Stretch | None]:
        """Return how many keys come before the first that another stretch begins with, and which one that is."""
        following = self._next(stretch)
        if self.ordered and ascending:
            # All that others begin with lies behind the next one's first key.
            if following is None or not keys or keys[-1] < following.first_key:
                return len(keys), None
            if following.gone:
                return bisect_left(keys, following.first_key), following
        for number, key in enumerate(keys):
            other = self._beginnings.get(key)
            if other is not None and other is not stretch:
                return number, other
        return len(keys), None

    def _join(self, stretch: Stretch, other: Stretch) -> None:
        """Let `other` stand for both, as `stretch` has ended where it begins."""
        for key in other.first_page:
            del self._beginnings[key]
        self._beginnings |= dict.fromkeys(stretch.first_page, other)
        other.first_key, other.first_page, other.gone = stretch.first_key, stretch.first_page, stretch.gone
        other.listed += stretch.listed
        self._stretches.remove(stretch)
        if stretch is self.first:
            self.first = other

    def _note(self, stretch: Stretch, keys: Sequence[str]) -> None:
        if not stretch.listed:
            stretch.begun = True
            stretch.first_key = keys[0]
            if stretch is not self.first:
                stretch.first_page = frozenset(keys)
                self._beginnings |= dict.fromkeys(keys, stretch)
        stretch.place = keys[-1]
        stretch.listed += len(keys)
        stretch.dense = keys[0][: _shared(keys[0], keys[-1])].rstrip("0123456789")
        seen = set().union(*keys[::_SAMPLED])
        if not seen <= self._characters:
            self._characters |= seen
            self._alphabet = "".join(sorted(filter(str.isprintable, self._characters)))

    def _bound(self, stretch: Stretch) -> str | None:
        if stretch.bound is not None and stretch.low < stretch.bound:
            return stretch.bound
        following = self._next(stretch)
        return None if following is None else following.first_key

    def _hints_between(self, low: str, bound: str | None) -> tuple[int, int]:
        return bisect_right(self._hints, low), len(self._hints) if bound is None else bisect_left(self._hints, bound)

    def _left(self, stretch: Stretch) -> float:
        """Estimate how many keys a stretch has left: as densely as up to now."""
        bound = self._bound(stretch)
        if bound is None and not stretch.climbed:
            return math.inf
        start, stop = self._hints_between(stretch.place, bound)
        if start < stop:
            passed = start - bisect_right(self._hints, stretch.first_key)
            return stretch.listed * (stop - start + 1) / (passed + 1)
        low, _, there = _as_numbers(stretch.first_key, bound, self._alphabet, stretch.place)
        _, high, _ = _as_numbers(stretch.first_key, bound, self._alphabet, stretch.place)
        return stretch.listed * max(high - there, 0) / max(there - low, 1)

    def _guess(self, stretch: Stretch) -> str | None:
        """Return a key about in the middle of what a stretch has left; None where there is none that can be said."""
        low, bound = stretch.low, self._bound(stretch)
        start, stop = self._hints_between(low, bound)
        guess: str | None
        if start < stop:
            guess = self._hints[(start + stop) // 2]
        elif not stretch.climbed and (above := _behind_all(stretch.dense)) > low and (bound is None or above < bound):
            stretch.climbed = True
            guess = above
        else:
            guess = middle(low, bound, self._alphabet)
        return guess if guess is not None and _can_be_sent(guess) else None


class Landmarks:
    """Keys that are spread evenly over a listing, where the next one can be split: the first ones of some pages."""

    def __init__(self) -> None:
        self._pages = 0
        self._every = 1
        self._keys: list[str] = []

    def pass_by(self, first_key: str) -> None:
        """Hear of a page, in whatever order they come."""
        self._pages += 1
        if self._pages % self._every == 0 and _can_be_sent(first_key):
            self._keys.append(first_key)
            if len(self._keys) >= 2 * LANDMARKS:
                self._keys = sorted(self._keys)[::2]
                self._every *= 2

    def chosen(self) -> list[str]:
        """Return so many of them at the most; none of a short listing."""
        if self._pages < WORTH_REMEMBERING:
            return []
        keys = sorted(set(self._keys))
        return keys[:: math.ceil(len(keys) / LANDMARKS)] if keys else []


def middle(low: str, high: str | None, alphabet: str) -> str | None:
    """Return a short text strictly between `low` and `high`, about half-way for keys of `alphabet`'s characters.

    `high` None is the end of all texts; `alphabet` is sorted. None where there is no such text.
    """
    bottom, top, _ = _as_numbers(low, high, alphabet, low)
    number, digits = (bottom + top) // 2, []
    for _ in range(_DIGITS):
        number, digit = divmod(number, len(alphabet) + 1)
        digits.append(digit)
    shared = 0 if high is None else _shared(low, high)
    text = low[:shared]
    for digit in reversed(digits):
        if not digit:  # the end of the text
            break
        text += alphabet[digit - 1]
        if text > low and (high is None or text < high):
            return text
    return None


def _as_numbers(low: str, high: str | None, alphabet: str, other: str) -> tuple[int, int, int]:
    """Return `low`, `high` and `other`, which lies between them, as numbers, without what low and high have in common.

    A character is a digit, from 1 on, and the end of the text a 0. What is not in the alphabet is taken for the
    character before it, in `high` for the one behind it.
    """
    shared = 0 if high is None else _shared(low, high)
    base = len(alphabet) + 1

    def number(text: str) -> int:
        value = 0
        for character in text[shared : shared + _DIGITS]:
            value = value * base + bisect_right(alphabet, character)
        return int(value * base ** (_DIGITS - len(text[shared : shared + _DIGITS])))

    if high is None:
        return number(low), int(base**_DIGITS) - 1, number(other)
    value, length = 0, 0
    for character in high[shared : shared + _DIGITS]:
        digit = bisect_left(alphabet, character) + 1
        value, length = value * base + digit, length + 1
        if alphabet[digit - 1 : digit] != character:
            break
    return number(low), int(value * base ** (_DIGITS - length)), number(other)


def directories(key: str, prefix: str) -> list[tuple[str, str]]:
    """Return each directory above a key and below `prefix`, without its slash, behind the one above it."""
    found, above = [], prefix
    for place in range(len(prefix), len(key)):
        if key[place] == "/" and _can_be_sent(key[:place]):
            found.append((above, key[:place]))
            above = key[: place + 1]
    return found


def torn(names: Iterable[str]) -> str | None:
    """Return a `b` of which there is a `b/` and, by bytes between the two, a `b-1`; None where there is none."""
    ascending = sorted(names)
    for name, following in pairwise(ascending):
        if following.endswith("/") and following[:-1] < name:
            return following[:-1]
    return None


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts have in common from the first on."""
    for number, (character, there) in enumerate(zip(one, other, strict=False)):
        if character != there:
            return number
    return min(len(one), len(other))


def _behind_all(beginning: str) -> str:
    """Return a text behind nearly all that begin so: the next of the same length. Empty where there is none."""
    if not beginning or beginning[-1] == "\U0010ffff":
        return ""
    following = ord(beginning[-1]) + 1
    return beginning[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)


def _can_be_sent(text: str) -> bool:
    # Surrogates stand for bytes that are not UTF-8 (PEP 383), which no request can spell.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _ascending(before: str, keys: Sequence[str]) -> bool:
    """Say whether the keys ascend, from behind `before`. By code points, which for UTF-8 is the order of the bytes."""
    if not keys:
        return True
    return keys[0] > before and all(map(str.__lt__, keys, keys[1:]))
