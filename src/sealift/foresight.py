"""Which objects of a listing need another name, before there are any files: those whose own name a directory needs.

Pure. Unlike a run, a forecast has no files to find in the way.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence

from sealift.localpath import Clashes
from sealift.model import RemoteObject


class Foresight:
    """Counts those of one source."""

    def __init__(self) -> None:
        self._clashes: defaultdict[int, Clashes] = defaultdict(Clashes)
        self._first_keys: list[str] = []

    def count(self, stretch: int, remotes: Sequence[RemoteObject], base: str) -> int:
        """Take the next objects of a stretch of the listing, and return how many earlier ones clash because of them.

        `base` is what of their keys does not show in their paths.
        """
        keys = [remote.key[len(base) :] for remote in remotes]
        if keys and stretch not in self._clashes:
            insort(self._first_keys, keys[0])
        return self._clashes[stretch].count_all(keys, [remote.size for remote in remotes])

    def between(self) -> Iterator[str]:
        """Yield the keys that may clash with what another stretch begins with: at most a few."""
        for clashes in self._clashes.values():
            for key in clashes.unmet():
                after = bisect_right(self._first_keys, key)
                if after < len(self._first_keys) and self._first_keys[after].startswith(key):
                    yield key
