"""The parts of a ledger: each shard has one of its own, and together they are the destination's.

    STATE/ledger.db                    what is known from runs without shards
    STATE/shards/3-of-8/ledger.db      what shard 3 of 8 knows: it has the last word on its keys, once it is there
    STATE/shards/3-of-8/runs/          the logs of its runs

1. A shard's part begins as a copy of what the whole knows of its keys (`begin_part`), so nothing is fetched again.
2. A run without shards, or with another number of them, first makes the parts one again (`unite`). Of a path
   that two of them know, what fits the file counts. Whenever it is killed, the next one goes on: a part is dropped when
   all it says is in the whole.
3. Who only reads, reads the whole (`open_to_read`).

Everything here blocks, and rests on the destination's locks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from sealift.errors import LocalStorageError
from sealift.ledger import LEDGER, Changes, Decrypts, Entry, Ledger, Record, text_of
from sealift.partial import unusable
from sealift.sharding import Shard, named, shard_of

SHARDS: Final = "shards"

_PAGE: Final = 5000
"""Records that are copied at once: 25 ms of SQLite's work, and 5 MB."""

_AT_ONCE: Final = 500
"""Paths in one look-up."""

_SEALS: Final = 2**32
"""More than any ledger has seals, each of which is a bucket with an encryption."""

_UNFINISHED: Final = "begun"
"""Where a part is written that is not a shard's word yet."""

Noted = Callable[[str], None]


def part_of(state: Path, shard: Shard) -> Path:
    """Return the directory of a shard's part."""
    return state / SHARDS / shard.name


def present(state: Path) -> list[Shard]:
    """Return the shards that have a part, in their order."""
    try:
        names = [path.name for path in (state / SHARDS).iterdir() if (path / LEDGER).exists()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unusable(error, state / SHARDS) from error
    return sorted(shard for name in names if (shard := named(name)) is not None)


def missing(shards: Collection[Shard]) -> list[Shard]:
    """Return the shards that belong to those that are there, and have never run."""
    counts = {shard.count for shard in shards}
    return [
        shard
        for count in sorted(counts)
        for shard in map(Shard, range(1, count + 1), [count] * count)
        if shard not in shards
    ]


class Part(Ledger):
    """A shard's ledger, which also asks the others' what only they can know: whose a file or a directory is."""

    whole: Path
    """The directory of the whole. Set by `open_part`."""

    def made(self, directories: Sequence[str]) -> set[str]:
        """See `Ledger.made`: any shard may have made it."""
        found = super().made(directories)
        for ledger in self._others():
            if len(found) == len(directories):
                break
            found |= ledger.made([path for path in directories if path not in found])
        return found

    def known(self, path: str) -> Record | None:
        """See `Ledger.known`."""
        record = super().known(path)
        others = iter(()) if record else self._others()
        return record or next((found for ledger in others if (found := ledger.known(path))), None)

    def _others(self) -> Iterator[Ledger]:
        """Yield the others, open to be read. One that cannot be read says nothing."""
        for directory in (*(part_of(self.whole, shard) for shard in present(self.whole)), self.whole):
            if directory != self.directory:
                with suppress(LocalStorageError), ExitStack() as stack:
                    if ledger := Ledger.open_to_read(directory, _nobody):
                        yield stack.enter_context(ledger)


def open_part(state: Path, shard: Shard, noted: Noted) -> Part:
    """Open a shard's ledger. Raises LocalStorageError."""
    part = Part.open(part_of(state, shard), noted)
    part.whole = state
    return part


class Whole(Ledger):
    """All parts as one, to be read, and of the whole what no part has a word on. Each look-up is one in every part."""

    def __init__(self, directory: Path, noted: Noted, parts: dict[Shard, Ledger], whole: Ledger | None) -> None:
        """The ledgers are its own from now on, all of them open to be read."""
        super().__init__(directory, noted)
        self._ledgers = [*parts.values(), *([] if whole is None else [whole])]
        self._indices = _indices(parts)
        all_there = any(len(there) == count for count, there in self._indices.items())
        self._asked = list(parts.values()) if all_there else self._ledgers
        """Those that have a word on any file."""
        self.empty = all(ledger.empty for ledger in self._asked)

    @property
    def damaged(self) -> bool:
        """See `Ledger.damaged`."""
        return any(ledger.damaged for ledger in self._ledgers)

    def close(self) -> None:
        """See `Ledger.close`."""
        for ledger in self._ledgers:
            ledger.close()

    def look_up(self, paths: Sequence[str]) -> dict[str, Record]:
        """See `Ledger.look_up`."""
        found: dict[str, Record] = {}
        for ledger in self._asked:
            records = ledger.look_up(paths)
            found |= {path: record for path, record in records.items() if self._counts(ledger, record.key)}
        return found

    def said_of(self, path: str) -> list[Record]:
        """See `Ledger.said_of`."""
        said = ((ledger, record) for ledger in self._asked for record in ledger.said_of(path))
        return [record for ledger, record in said if self._counts(ledger, record.key)]

    def entries(self, paths: Sequence[str]) -> list[Entry]:
        """See `Ledger.entries`."""
        rows: list[Entry] = []
        for number, ledger in enumerate(self._asked):
            rows += [
                (row[0], row[1] + number * _SEALS, row[2], row[3], row[4], row[5], row[6], row[7])
                for row in ledger.entries(paths)
                if self._counts(ledger, text_of(row[2]))
            ]
        return sorted(rows)

    def seals_of(self, bucket: str) -> frozenset[int]:
        """See `Ledger.seals_of`."""
        return frozenset(
            seal + number * _SEALS for number, ledger in enumerate(self._asked) for seal in ledger.seals_of(bucket)
        )

    def pages(self, directory: str = "", most: int = 1000) -> Iterator[list[Record]]:
        """See `Ledger.pages`: one ledger after the other."""
        for ledger in self._asked:
            for page in ledger.pages(directory, most):
                yield [record for record in page if self._counts(ledger, record.key)]

    def recorded(self, paths: Sequence[str]) -> dict[str, str]:
        """See `Ledger.recorded`."""
        found: dict[str, str] = {}
        for ledger in self._asked:
            found |= {path: key for path, key in ledger.recorded(paths).items() if self._counts(ledger, key)}
        return found

    def totals(self, directory: str = "") -> tuple[int, int]:
        """See `Ledger.totals`: as long as a shard has never run, what another has had from the whole counts twice."""
        all_totals = [ledger.totals(directory) for ledger in self._asked]
        return sum(files for files, _ in all_totals), sum(size for _, size in all_totals)

    def made(self, directories: Sequence[str]) -> set[str]:
        """See `Ledger.made`."""
        return set().union(*(ledger.made(directories) for ledger in self._ledgers))

    def landmarks(self, bucket: str, prefix: str) -> list[str]:
        """See `Ledger.landmarks`: any shard has listed it all."""
        return next((keys for ledger in self._ledgers if (keys := ledger.landmarks(bucket, prefix))), [])

    def all_decrypts(self) -> dict[tuple[str, str], Decrypts]:
        """See `Ledger.all_decrypts`: each shard knows of its own requests."""
        found: dict[tuple[str, str], Decrypts] = {}
        for ledger in self._ledgers:
            for where, (charged, free) in ledger.all_decrypts().items():
                before = found.get(where, Decrypts())
                found[where] = Decrypts(before.charged + charged, before.free + free)
        return found

    def _counts(self, ledger: Ledger, key: str) -> bool:
        """Whether a ledger has a word on a key: the whole has none on those of the shards that have a part."""
        return ledger.directory != self.directory or not _is_of(key, self._indices)


def open_to_read(state: Path, shard: Shard | None, noted: Noted, *, shared: bool = False) -> Ledger | None:
    """Open what is known of all files, or of this `shard`'s once it has a part, to be read; None if nothing is.

    What is damaged is left out; `noted` hears of it. `shared` is as in `Ledger.open_to_read`. Raises LocalStorageError.
    """
    shards = present(state)
    if shard is not None and shard in shards:
        return Ledger.open_to_read(part_of(state, shard), noted, shared=shared)
    with ExitStack() as opened:
        if whole := Ledger.open_to_read(state, noted, shared=shared):
            opened.enter_context(whole)
        parts: dict[Shard, Ledger] = {}
        for each in shards:
            if part := Ledger.open_to_read(part_of(state, each), noted, shared=shared):
                parts[each] = opened.enter_context(part)
        opened.pop_all()
    return Whole(state, noted, parts, whole) if shards else whole


def begin_part(state: Path, shard: Shard, noted: Noted) -> Generator[None, None, None]:
    """Begin a shard's part with what the whole knows of its keys, some at a time. Raises LocalStorageError."""
    directory = part_of(state, shard)
    if (directory / LEDGER).exists():
        return
    begun = directory / _UNFINISHED
    try:
        begun.mkdir(parents=True, exist_ok=True)
        for path in begun.iterdir():
            path.unlink()
    except OSError as error:
        raise unusable(error, begun) from error
    _drop(directory)  # a log that was left there would be taken for the new one's
    whole = Ledger.open_to_read(state, noted)
    if whole is not None:
        with whole, Ledger.open(begun, noted) as part:
            for page in whole.pages(most=_PAGE):
                part.write(Changes(records=[record for record in page if shard.has(record.key)]))
                yield
        try:
            (begun / LEDGER).replace(directory / LEDGER)  # its log went into it when it was closed
        except OSError as error:
            raise unusable(error, directory / LEDGER) from error
    with suppress(OSError):
        begun.rmdir()


def unite(
    state: Path, shards: Sequence[Shard], noted: Noted, in_place: Callable[[Record], bool]
) -> Generator[None, None, None]:
    """Put what these shards' parts say into the whole, some at a time, and drop them. Raises LocalStorageError.

    Objects of two shards may have had one path, from sources that were given one after the other: `in_place` says
    whether a file is still as it was recorded.
    """
    if not shards:
        return
    with Ledger.open(state, noted) as whole:
        indices = _indices(shards)
        for page in whole.pages(most=_PAGE):
            whole.write(Changes(gone=[record.path for record in page if _is_of(record.key, indices)]))
            yield
        for shard in shards:
            directory = part_of(state, shard)
            with Ledger.open(directory, noted) as part:
                for page in part.pages(most=_PAGE):
                    whole.write(Changes(records=_outweighing(page, whole, in_place)))
                    yield
                after = ""
                while made := part.directories(after, _PAGE):
                    after = made[-1]
                    whole.write(Changes(directories=made))
                    yield
                for (bucket, prefix), decrypts in part.all_decrypts().items():  # one shard's objects are like another's
                    whole.keep_decrypts(bucket, prefix, decrypts)
            _drop(directory)


def _outweighing(records: Sequence[Record], whole: Ledger, in_place: Callable[[Record], bool]) -> list[Record]:
    """Return those of the records that say no less of their files than what the `whole` says."""
    said: dict[str, Record] = {}
    for start in range(0, len(records), _AT_ONCE):
        said |= whole.look_up([record.path for record in records[start : start + _AT_ONCE]])

    def weight(record: Record) -> tuple[bool, bool, bool, int]:
        return in_place(record), not record.adopted, record.checksum is not None, record.mtime_ns

    return [
        record
        for record in records
        if (other := said.get(record.path)) is None or record == other or weight(record) >= weight(other)
    ]


def _indices(shards: Iterable[Shard]) -> dict[int, set[int]]:
    """Return the shards' indices by how many there are of them."""
    indices: dict[int, set[int]] = {}
    for shard in shards:
        indices.setdefault(shard.count, set()).add(shard.index)
    return indices


def _is_of(key: str, indices: dict[int, set[int]]) -> bool:
    return any(shard_of(key, count) in some for count, some in indices.items())


def _drop(directory: Path) -> None:
    """Delete a ledger, and then its log."""
    try:
        for ending in ("", "-wal", "-shm"):
            (directory / f"{LEDGER}{ending}").unlink(missing_ok=True)
    except OSError as error:
        raise unusable(error, directory / LEDGER) from error


def _nobody(text: str) -> None:
    """Say it to nobody: whoever's ledger it is says so itself."""
