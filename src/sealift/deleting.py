"""Files whose object is gone are deleted: only those that are known to be Sealift's own, and nobody's since.

1. What the listings name is taken down (`sealift.listed`).
2. When every listing has reached its end, the ledger's files of this run's sources that none has named are counted, and
   looked at. More than `MaxDelete` allows, and none is touched.
3. Then they are deleted, and those directories that are empty now and were made by Sealift.

A file that was found and adopted, or that somebody has changed, is kept. So is all that is not covered by this run's
sources and filters, or does not lie where this run would put it: there it may be another object's by now.
Everything here blocks but `delete`, which is what a run does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from anyio.to_thread import run_sync

from sealift.config import MaxDelete
from sealift.destination import Destination, File, Missing
from sealift.errors import ObjectError, TooManyDeletions
from sealift.ledger import Changes, Ledger, Record
from sealift.listed import AT_ONCE, Listed
from sealift.localpath import LocalPath, all_ordinary, beside_directory, place_of
from sealift.model import Ending, Outcome
from sealift.placing import leads_to
from sealift.recording import Recorder
from sealift.selection import Ownership, Source
from sealift.standing import fits
from sealift.tally import Tally


@dataclass(slots=True)
class Verdict:
    """What is to be done about the files whose object is gone."""

    gone: int = 0
    """Files and directory markers of which the ledger speaks, and the listings do not. The others are some of them."""
    to_delete: int = 0
    of: int = 0
    """How many files the ledger has of this run's sources."""
    changed: int = 0
    """Kept: they are not what Sealift wrote."""
    adopted: int = 0
    """Kept: Sealift did not write them."""


@dataclass(slots=True)
class Step:
    """Some files that were deleted, or would be, and what of that the ledger does not say yet."""

    records: list[Record] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)


class Deletion:
    """Decides about the files of a run's sources, and carries it out."""

    def __init__(
        self, destination: Destination, ledger: Ledger, listed: Listed, ownership: Ownership, *, several: bool
    ) -> None:
        """`several`: each bucket has a directory of its own."""
        self._destination = destination
        self._ledger = ledger
        self._listed = listed
        self._ownership = ownership
        self._several = several

    def judge(self) -> Iterator[Verdict]:
        """Count, and yield the sum so far after some files each time. Changes nothing."""
        verdict = Verdict()
        for page in self._pages():
            verdict.of += sum(not _is_marker(record) for record in page)
            for record in self._gone(page):
                verdict.gone += 1
                if _is_marker(record):
                    continue
                if record.adopted:
                    verdict.adopted += 1
                elif self._is_unchanged(record):
                    verdict.to_delete += 1
                elif self._exists(record):
                    verdict.changed += 1
            yield verdict

    def foresee(self) -> Iterator[Step]:
        """Yield what would be deleted, some at a time."""
        for page in self._pages():
            gone = [record for record in self._gone(page) if not record.adopted and not _is_marker(record)]
            yield Step([record for record in gone if self._is_unchanged(record)])

    def carry_out(self) -> Iterator[Step]:
        """Delete, and yield what was deleted, some at a time. Raises LocalStorageError."""
        for page in self._pages():
            step = Step()
            emptied: dict[str, tuple[str, str]] = {}
            for record in self._gone(page):
                if record.adopted:
                    continue
                # A changed file is somebody's own from now on: of that the ledger knows nothing.
                step.changes.gone.append(record.path)
                if not _is_marker(record) and self._is_unchanged(record) and self._remove(record):
                    step.records.append(record)
                # Also where the file is gone already: a run may have been killed before it came to the directories.
                emptied |= _directories(record)
            self._remove_empty(emptied, step.changes)
            yield step

    def _pages(self) -> Iterator[list[Record]]:
        """Yield the records of files that are where this run would put an object of that key."""
        for page in self._ledger.pages(most=AT_ONCE):
            yield self._belonging(page)

    def _belonging(self, page: Sequence[Record]) -> list[Record]:
        source_of = self._ownership.source_of
        found = [(record, source_of(record.seal.bucket, record.key)) for record in page]
        mine = [(record, source) for record, source in found if source is not None]
        plain = [record.path for record, source in mine if record.path == self._plain_path(record, source)]
        ordinary = frozenset(plain) if plain and all_ordinary(plain) else frozenset()
        return [record for record, source in mine if record.path in ordinary or self._belongs(record, source)]

    def _plain_path(self, record: Record, source: Source) -> str:
        """Return the path of a file whose key shows in it as it is; nothing for what is no file."""
        if _is_marker(record):
            return ""
        return f"{source.directory}/{record.key}" if self._several else record.key[len(source.prefix) :]

    def _belongs(self, record: Record, source: Source) -> bool:
        under, base = source.on_disk(several=self._several)
        return leads_to(record, record.key[len(base) :], under)

    def _gone(self, page: Sequence[Record]) -> list[Record]:
        """Return those of the records whose objects were not listed."""
        there = self._listed.among([(record.seal.bucket, record.key) for record in page])
        return [record for record in page if (record.seal.bucket, record.key) not in there]

    def _is_unchanged(self, record: Record) -> bool:
        """Whether what is there is what was recorded."""
        try:
            facts = self._destination.facts(place_of(record.path))
        except ObjectError:
            return False
        return isinstance(facts, File) and fits(facts, record)

    def _exists(self, record: Record) -> bool:
        try:
            return not isinstance(self._destination.facts(place_of(record.path)), Missing)
        except ObjectError:
            return True

    def _remove(self, record: Record) -> bool:
        try:
            return self._destination.remove_file(place_of(record.path))
        except ObjectError:  # replaced by something else in this very moment
            return False

    def _remove_empty(self, directories: dict[str, tuple[str, str]], changes: Changes) -> None:
        """Delete those directories that are empty, Sealift's own making, and no listed marker's."""
        made = self._ledger.made(list(directories))
        for path in sorted(made, key=lambda path: path.count("/"), reverse=True):
            if self._listed.among([directories[path]]):
                continue
            if self._destination.remove_directory(place_of(path).segments):
                changes.removed.append(path)
                self._move_back(place_of(path), changes)

    def _move_back(self, path: LocalPath, changes: Changes) -> None:
        """Let a file that had given way to a directory have its name again."""
        beside = beside_directory(path).text
        for record in self._ledger.look_up([beside]).values():
            listed = self._listed.among([(record.seal.bucket, record.key)])
            with suppress(ObjectError):  # something else is there in this very moment
                if listed and self._destination.move_back(path):
                    changes.moves.append((beside, path.text))


async def delete(deletion: Deletion, most: MaxDelete, tally: Tally, recorder: Recorder | None) -> None:
    """Delete the files whose object is gone; without a `recorder`, say which. A run may be stopped in between.

    Raises LocalStorageError, TooManyDeletions.
    """
    verdict, judging = Verdict(), deletion.judge()
    while (sofar := await run_sync(next, judging, None)) is not None:
        verdict = sofar
    for number, what in ((verdict.changed, "changed here"), (verdict.adopted, "not written by Sealift")):
        if number:
            tally.observer.noted("warning", f"files whose object is gone, but which were {what}, are kept: {number:,}")
    if recorder is not None:
        check(verdict, most)
    if verdict.gone:
        steps = deletion.foresee() if recorder is None else deletion.carry_out()
        while (step := await run_sync(next, steps, None)) is not None:
            for record in step.records:
                key, size = record.key, record.local_size
                tally.end(Outcome(Ending.DELETED, record.seal.bucket, key, size, record.path))
            if recorder is not None:
                recorder.add(step.changes, fresh=True)
                await recorder.has_room()
    check(verdict, most)  # of a dry run, when all were named


def check(verdict: Verdict, most: MaxDelete) -> None:
    """Raise TooManyDeletions where more would be deleted than is allowed."""
    if not most.allows(verdict.to_delete, verdict.of):
        raise TooManyDeletions(
            f"{verdict.to_delete:,} of {verdict.of:,} files would be deleted, as their objects are gone, and "
            f"--max-delete {most} does not allow that: none is deleted. If it is meant, run again with a higher "
            "--max-delete",
            code="TooManyDeletions",
        )


def _is_marker(record: Record) -> bool:
    """Whether it is a directory's, made for a directory marker."""
    return record.path.endswith("/")


def _directories(record: Record) -> dict[str, tuple[str, str]]:
    """Return the directories above a file, or of a marker and above it, each with its marker's bucket and key."""
    path, key, found = record.path, record.key, {}
    while "/" in path:
        path, key = path.rpartition("/")[0], key.rpartition("/")[0]
        found[path] = (record.seal.bucket, f"{key}/")
    return found
