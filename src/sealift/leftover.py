"""What earlier runs left in flight, and what of it is of no use to anybody any more. Pure.

Each name of a partial file tells which others are of the same object. Of an object that is fetched, the file of the
listed version is continued, and those of its other versions are dropped before a byte is fetched, as the disk may have
no room for both. What no listed object has claimed is dropped when every listing has reached its end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sealift.partial import of_the_object


class LeftOver:
    """The partial files that a run has found."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        for name in names:
            self._names[of_the_object(name)].add(name)

    def __bool__(self) -> bool:
        return bool(self._names)

    def claim(self, name: str) -> tuple[bool, frozenset[str]]:
        """Say whether there is a file of this name, and which are of other versions of its object; of each once."""
        names = self._names.pop(of_the_object(name), set())
        return name in names, frozenset(names - {name})

    def unclaimed(self) -> frozenset[str]:
        """Return what nobody has claimed up to now, and tell of it no more."""
        names, self._names = self._names, defaultdict(set)
        return frozenset().union(*names.values())
