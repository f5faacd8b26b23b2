"""Whether files are objects, as their bytes tell: they are read, and held against checksums.

1. Where the ledger knows a file as this version of the object, its checksum is the ledger's, and nobody is asked.
   Otherwise it is S3's, for one HEAD, which KMS is asked for as for a GET. Of what has no checksum nothing is proven.
2. Small files are read some at once, as a thread's call costs as much as reading one. Large ones, and those whose
   checksum is one of the parts that the object was uploaded in, are read one by one (`sealift.checking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import anyio
from anyio.to_thread import run_sync

from sealift.checking import Checker
from sealift.checksum import Checksum, Sums, running_checksum, summed_up
from sealift.destination import Destination, File
from sealift.errors import ObjectError
from sealift.localpath import LocalPath
from sealift.model import RemoteObject
from sealift.taskgroups import ungrouped

AT_ONCE = 8
"""Threads that read: enough to keep a solid-state disk busy, and few enough for one with heads to move."""

SMALL = 1024 * 1024
"""Bytes up to which a file is read in one go: 1 ms."""


class Question(NamedTuple):
    """Is this file the object?"""

    remote: RemoteObject
    path: LocalPath
    file: File
    recorded: str | None
    """The checksum that the bytes of this version have, as the ledger says, if it does."""


_Told = tuple[int, Question, Checksum]


class Prover:
    """Reads files. One a run."""

    def __init__(self, destination: Destination, checker: Checker) -> None:
        self._destination = destination
        self._checker = checker
        self._turns = anyio.Semaphore(AT_ONCE)

    async def prove(self, questions: Sequence[Question]) -> list[str | None]:
        """Return the checksum, as the ledger has it, of each of the files that is its object; None for the others.

        Raises LocalStorageError, RunError.
        """
        told = await self._told(questions)
        answers: list[str | None] = [None] * len(questions)
        small: list[_Told] = []
        large: list[_Told] = []
        for number, (question, checksum) in enumerate(zip(questions, told, strict=True)):
            if checksum is not None:
                at_once = question.file.size <= SMALL and not checksum.parts
                (small if at_once else large).append((number, question, checksum))

        async def read_some(some: Sequence[_Told]) -> None:
            async with self._turns:
                for (number, _, _), answer in zip(some, await run_sync(self._read_all, some), strict=True):
                    answers[number] = answer

        async def read_one(number: int, question: Question, checksum: Checksum) -> None:
            async with self._turns:
                answers[number] = await self._read_by_parts(question, checksum)

        batch = -(-len(small) // AT_ONCE)
        with ungrouped():
            async with anyio.create_task_group() as together:
                for start in range(0, len(small), batch or 1):
                    together.start_soon(read_some, small[start : start + batch])
                for number, question, checksum in large:
                    together.start_soon(read_one, number, question, checksum)
        return answers

    async def _told(self, questions: Sequence[Question]) -> list[Checksum | None]:
        """Return the checksum that each of the files has to have."""
        told = [None if each.recorded is None else Checksum.parse(each.recorded) for each in questions]

        async def ask(number: int, remote: RemoteObject) -> None:
            try:
                told[number] = await self._checker.ask(remote, charged=True)
            except ObjectError:  # the GET that follows says what is the matter
                return

        with ungrouped():
            async with anyio.create_task_group() as together:
                for number, question in enumerate(questions):
                    if told[number] is None:
                        together.start_soon(ask, number, question.remote)
        return told

    def _read_all(self, some: Sequence[_Told]) -> list[str | None]:
        return [self._read(question, checksum) for _, question, checksum in some]

    def _read(self, question: Question, checksum: Checksum) -> str | None:
        """Read a small file."""
        size, running = question.file.size, running_checksum(checksum.algorithm)
        buffer = memoryview(bytearray(size))
        try:
            with self._destination.read(question.path) as reading:
                whole = reading.read_into(0, buffer) == size and reading.facts() == _facts(question.file)
        except (ObjectError, FileNotFoundError):  # something else is in its place by now, or it cannot be read
            return None
        running.update(buffer)
        return str(checksum) if whole and running.digest() == checksum.value else None

    async def _read_by_parts(self, question: Question, checksum: Checksum) -> str | None:
        remote, path, file, _ = question
        try:
            with await run_sync(self._destination.read, path) as reading:
                sums = Sums(*summed_up(remote))
                checked = await self._checker.check(
                    remote, reading, sums, checksum, asked=True, charged=False, pieces={}
                )
                unchanged = await run_sync(reading.facts) == _facts(file)
        except (ObjectError, FileNotFoundError):  # also: other bytes, or another version by now
            return None
        return checked.checksum if checked.verified and unchanged else None


def _facts(file: File) -> tuple[int, int]:
    return file.size, file.mtime_ns
