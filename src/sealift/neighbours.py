"""Which objects KMS is most likely not asked for, by what was found of those beside them. Pure.

Nothing but its own GET or HEAD says whether an object has a Bucket Key. But buckets and prefixes are written in one way
for long stretches of time, so objects of one directory are mostly alike.
"""

from __future__ import annotations

ENOUGH = 16
"""Objects in a row for which KMS was not asked, from which on the next one is expected to be the same: by chance, as in
a directory where half of the objects are, there is such a row in one of 65,536 places."""
DOUBT = 3
"""How many times as many it takes where there was another kind before."""
MOST = 10_000
"""Directories that are remembered: 2 MB. Older ones are judged by their bucket."""


class Neighbours:
    """What was found of the objects of one bucket."""

    __slots__ = ("_bucket", "_directories")

    def __init__(self) -> None:
        self._bucket = 0
        self._directories: dict[str, int] = {}

    def learn(self, key: str, *, charged: bool) -> None:
        """Hear whether KMS was asked for the object `key`."""
        directories, directory = self._directories, key.rpartition("/")[0]
        before = directories.get(directory)
        if before is None:
            if len(directories) >= MOST:
                del directories[next(iter(directories))]
            before = 0
        directories[directory] = -DOUBT * ENOUGH if charged else before + 1
        self._bucket = -DOUBT * ENOUGH if charged else self._bucket + 1

    def charged(self, key: str) -> bool | None:
        """Say whether KMS will be asked for the object `key`, most likely; None where there is no telling."""
        row = self._directories.get(key.rpartition("/")[0], 0)
        if row < 0:
            return True
        return False if row >= ENOUGH or self._bucket >= ENOUGH else None
