"""Of many objects at once, those are told that are plainly in place: in most runs that is nearly all of them.

A look-up takes a whole stretch of the ledger, and each file an lstat. What is out of the ordinary in any way (another
path than the key says, no record, another version, a file with another size or time) is left to `sealift.diff`, which
looks at one object after the other, at four times the price. Everything here blocks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from sealift.destination import Destination, Segments
from sealift.ledger import Entry, Ledger
from sealift.localpath import all_ordinary, encoded
from sealift.model import ARCHIVED, RemoteObject


class Unchanged:
    """Holds objects against a ledger and the files of a destination."""

    def __init__(self, destination: Destination, ledger: Ledger) -> None:
        self._destination = destination
        self._ledger = ledger

    def among(self, remotes: Sequence[RemoteObject], paths: Sequence[str]) -> list[bool]:
        """Say of each object of one bucket, whose path is its own if that is an ordinary one, whether it is in place.

        They are best in the order of their keys. Raises LocalStorageError.
        """
        entries = self._ledger.entries(paths)
        if not entries:
            return [False] * len(remotes)
        ordinary = all_ordinary(paths)
        seals = self._ledger.seals_of(remotes[0].bucket)
        if ordinary and _all_recorded(remotes, paths, entries, seals) and self._all_untouched(paths, entries):
            return [True] * len(remotes)
        in_place = [False] * len(remotes)
        directories: defaultdict[str, list[tuple[int, Entry]]] = defaultdict(list)
        by_path = {entry[0]: entry for entry in entries}
        for number, (remote, path) in enumerate(zip(remotes, paths, strict=True)):
            entry = by_path.get(path)
            if entry and _all_recorded([remote], [path], [entry], seals) and (ordinary or all_ordinary([path])):
                directories[path.rpartition("/")[0]].append((number, entry))
        for directory, found in directories.items():
            beginning = len(directory) + 1 if directory else 0
            files = self._destination.files(_segments(directory), [encoded(entry[0][beginning:]) for _, entry in found])
            for (number, entry), file in zip(found, files, strict=True):
                in_place[number] = file == entry[6:]
        return in_place

    def _all_untouched(self, paths: Sequence[str], entries: Sequence[Entry]) -> bool:
        """Whether all these ordinary paths are files of one directory, and still as they were recorded."""
        directory = paths[0].rpartition("/")[0]
        beginning = len(directory) + 1 if directory else 0
        names = "\0".join([path[beginning:] for path in paths])
        if "/" in names or {path[:beginning] for path in paths} != {paths[0][:beginning]}:
            return False
        files = self._destination.files(_segments(directory), encoded(names).split(b"\0"))
        return files == [entry[6:] for entry in entries]


def _all_recorded(
    remotes: Sequence[RemoteObject], paths: Sequence[str], entries: Sequence[Entry], seals: AbstractSet[int]
) -> bool:
    """Whether the entries are those of the paths, and of the objects' listed versions, which can be read."""
    return (
        [entry[0] for entry in entries] == paths
        and [entry[2:5] for entry in entries] == [remote[1:4] for remote in remotes]  # key, size, ETag
        and {entry[1] for entry in entries} <= seals
        and ARCHIVED.isdisjoint([remote[6] for remote in remotes])
        and all(remote[5] == entry[5] for remote, entry in zip(remotes, entries, strict=True) if remote[5] is not None)
    )


def _segments(directory: str) -> Segments:
    return tuple(encoded(directory).split(b"/")) if directory else ()
