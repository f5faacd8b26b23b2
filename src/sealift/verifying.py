"""Mirrored files are held against the ledger: what is missing, changed, damaged, or not known at all.

1. The ledger's records go to a few readers, some small files or one large one at a time.
2. Each file is looked at and read (`sealift.inspection`). What is not as recorded is looked at once more if the ledger
   says something else of it by now: a run may be going on.
3. Then the tree is walked, for files of which the ledger knows nothing.
4. With a repair, what is missing, changed or damaged is fetched again (`sealift.repairing`) as it is found.

Without a repair S3 is not asked for anything, and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from functools import partial as bind
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from anyio.to_thread import run_sync

from sealift.checksum import Sums, crc_bytes, running_checksum
from sealift.config import Settings
from sealift.destination import OWN_DIRECTORY, Destination, File, Other, Segments
from sealift.errors import ConfigError, Integrity, LocalStorageError, RunError
from sealift.inspection import Open, Verdict, begin, inspect, judged, unreadable
from sealift.ledger import LEDGER, Ledger, Record
from sealift.localpath import LocalPath, place_of
from sealift.model import ByteRange, Finding, Flaw, Summary, Verification
from sealift.planning import MIB
from sealift.reading import sum_up
from sealift.repairing import repair as repaired
from sealift.shards import open_to_read, present
from sealift.tally import FAILURES_IN_SUMMARY, Onlooker
from sealift.taskgroups import insulated, ungrouped

READERS = 16
"""Files, or stretches of one, that are read at once: what a solid-state disk wants to be asked for at once, and few
enough for one with heads to put in order."""

STRETCH = 32 * MIB
"""Bytes that are read in one go, which cannot be called off: a third of a second of a slow disk's time. A file of up to
as many is a small one; of small ones, so many bytes are read in one go."""

BATCH = 64
"""Small files in one go at the most: a millisecond's work for the processor, beside what the disk takes."""

AT_ONCE = 500
"""Names that the ledger is asked about at once."""

Mend = Callable[[Record], Awaitable[None]]
Batch = list[Record]
T = TypeVar("T")


@insulated
async def verify(
    dest: str | os.PathLike[str],
    prefixes: Sequence[str] = (),
    settings: Settings | None = None,
    *,
    repair: bool = False,
    observer: Onlooker | None = None,
) -> Verification:
    """Hold the files below the directory `dest` against its ledger; fetch again what is not right with `repair`.

    `prefixes` are files and directories below `dest`; without any, all are meant. Cancelling is safe at any time.
    Raises ConfigError, LocalStorageError; with `repair` what `mirror` raises.
    """
    settings = settings or Settings()
    checkup = Checkup(_prefixes(prefixes), settings, observer or Onlooker())
    path = Path(dest)
    state = settings.storage.state or path / OWN_DIRECTORY
    try:
        if not await run_sync(_has_ledger, state):
            raise LocalStorageError(
                f"there is no ledger in {state}: nothing is known of the files in {path}; sealift mirror makes one",
                code="LedgerMissing",
            )
        if repair:
            checkup.repair = await repaired(checkup.run, path, settings, observer=checkup.observer)
        else:
            await checkup.look(path, state)
    except RunError as error:
        checkup.repair = error.summary if repair else None
        raise
    finally:
        checkup.observer.verified(checkup.so_far())
    return checkup.so_far()


def _prefixes(given: Sequence[str]) -> list[str]:
    """Return what of the tree is meant, none of it twice; the destination itself is nothing. Raises ConfigError."""
    chosen: set[tuple[str, ...]] = set()
    for text in given:
        names = [name for name in text.split("/") if name not in {"", "."}]
        if text.startswith("/") or ".." in names:
            raise ConfigError(f"{text!r} is no place below DEST: write it as it is seen from there")
        chosen.add(tuple(names))
    tops = [names for names in chosen if not any(names[:depth] in chosen for depth in range(len(names)))]
    return ["/".join(names) for names in sorted(tops)] or [""]


class Checkup:
    """One look at all there is."""

    def __init__(self, prefixes: Sequence[str], settings: Settings, observer: Onlooker) -> None:
        self.observer = observer
        self.repair: Summary | None = None
        self._prefixes = prefixes
        self._readers = settings.transfer.concurrency or READERS
        self._began = anyio.current_time()
        self._threads = anyio.CapacityLimiter(self._readers)
        self._counts = dict.fromkeys(Flaw, 0)
        self._intact = self._unchecked = self._bytes = 0
        self._complete = False
        self._findings: list[Finding] = []
        self._unknown: list[Finding] = []
        self._mend: Mend | None = None

    def so_far(self) -> Verification:
        """Return what was found up to now."""
        counts = {flaw.value: number for flaw, number in self._counts.items()}
        known = sum(self._counts.values()) - self._counts[Flaw.UNKNOWN]
        return Verification(
            files=known + self._intact + self._unchecked,
            intact=self._intact,
            unchecked=self._unchecked,
            bytes=self._bytes,
            seconds=round(anyio.current_time() - self._began, 3),
            complete=self._complete,
            findings=tuple((self._findings + self._unknown)[:FAILURES_IN_SUMMARY]),
            repair=self.repair,
            **counts,
        )

    async def look(self, path: Path, state: Path) -> None:
        """Look, and change nothing. Raises LocalStorageError."""
        with await run_sync(bind(Destination.open, path, create=False)) as destination:
            if await run_sync(lambda: destination.in_use):
                self.observer.noted(
                    "warning", "a run is writing here: of what it replaces just now, some may seem to be changed"
                )
            damage: list[str] = []
            with await run_sync(bind(open_to_read, state, None, damage.append, shared=True)) or nullcontext() as ledger:
                if ledger is None or damage:
                    raise _damaged(state)
                await self._look(destination, ledger)

    async def run(self, destination: Destination, ledger: Ledger, mend: Mend) -> None:
        """Look at everything; `mend` hears of what is not right. Raises LocalStorageError."""
        self._mend = mend
        await self._look(destination, ledger)

    async def _look(self, destination: Destination, ledger: Ledger) -> None:
        totals = [await run_sync(ledger.totals, prefix) for prefix in self._prefixes]
        self.observer.expected(sum(files for files, _ in totals), sum(size for _, size in totals))
        send, receive = anyio.create_memory_object_stream[Batch](0)
        with ungrouped():
            async with receive, anyio.create_task_group() as readers, send:  # see docs/design.md, "Streams"
                for _ in range(self._readers):
                    readers.start_soon(self._read_all, destination, ledger, receive.clone())
                for prefix in self._prefixes:
                    await self._hand_out(ledger, prefix, send)
        for prefix in self._prefixes:
            if not ledger.damaged:
                await self._find_unknown(destination, ledger, prefix)
        if ledger.damaged:
            raise _damaged(destination.path)
        self._complete = True

    async def _hand_out(self, ledger: Ledger, prefix: str, batches: MemoryObjectSendStream[Batch]) -> None:
        """Send the records of what is at or below a prefix, in batches that are read in one go."""
        batch: Batch = []
        size = 0
        pages = _pages(ledger, prefix)
        while (page := await run_sync(next, pages, None)) is not None:
            for record in page:
                if batch and (len(batch) == BATCH or size + record.local_size > STRETCH):
                    await batches.send(batch)
                    batch, size = [], 0
                batch.append(record)
                size += record.local_size
        if batch:
            await batches.send(batch)

    async def _read_all(
        self, destination: Destination, ledger: Ledger, batches: MemoryObjectReceiveStream[Batch]
    ) -> None:
        async with batches:
            async for batch in batches:
                if batch[0].local_size > STRETCH:
                    verdicts = [await self._read_large(destination, batch[0])]
                else:
                    verdicts = await self._in_thread(_inspect_all, destination, batch)
                for record, verdict in zip(batch, verdicts, strict=True):
                    await self._settle(destination, ledger, record, verdict)

    async def _read_large(self, destination: Destination, record: Record) -> Verdict:
        """Look at a large file. Stretches of it are read at once, where their checksums make that of the whole."""
        file = await self._in_thread(begin, destination, record)
        if isinstance(file, Verdict):
            return file
        try:
            if file.checksum.algorithm.is_crc:
                digest = await self._combined(file)
            else:
                running = running_checksum(file.checksum.algorithm)
                for stretch in _stretches(file):
                    await self._in_thread(sum_up, file.reading, stretch, running)
                digest = running.digest()
        except Integrity as error:
            return unreadable(error)
        finally:
            file.reading.close()
        return judged(file, digest)

    async def _combined(self, file: Open) -> bytes:
        sums = Sums(file.checksum.algorithm)
        stretches = _stretches(file)

        async def read_some() -> None:
            for stretch in stretches:  # shared: each goes to one of the tasks
                running = sums.stretches(stretch.start)
                await self._in_thread(sum_up, file.reading, stretch, running)
                for piece in running.so_far():
                    sums.add(*piece)

        with ungrouped():
            async with anyio.create_task_group() as together:
                for _ in range(self._readers):
                    together.start_soon(read_some)
        return crc_bytes(sums.algorithm, sums.of(0, file.file.size) or 0)

    async def _settle(self, destination: Destination, ledger: Ledger, record: Record, verdict: Verdict) -> None:
        """Count what a file is. Of what is not as it was recorded, the ledger may say something else by now."""
        self._bytes += verdict.read
        self.observer.looked_at(1, record.local_size)
        if verdict.flaw is not None and self._mend is None:
            now = await run_sync(ledger.said_of, record.path)
            if not now and not ledger.damaged:
                return  # a run has deleted it, or given it another name
            if now and record not in now:
                record, verdict = now[0], await self._in_thread(inspect, destination, now[0])
            if verdict.flaw is not None and await self._is_anothers(destination, record, now):
                return
        if verdict.flaw is None:
            self._unchecked += verdict.unchecked
            self._intact += not verdict.unchecked
            return
        self._find(Finding(record.path, verdict.flaw, verdict.message, record.seal.bucket, record.key))
        if self._mend is not None:
            await self._mend(record)

    async def _is_anothers(self, destination: Destination, record: Record, now: Sequence[Record]) -> bool:
        """Whether another of the records that there are `now` of a file's path tells what has become of it."""
        if record not in now[:1]:
            return len(now) > 0
        for other in now[1:]:
            if (await self._in_thread(inspect, destination, other)).flaw is None:
                return True
        return False

    def _find(self, finding: Finding) -> None:
        self._counts[finding.flaw] += 1
        kept = self._unknown if finding.flaw is Flaw.UNKNOWN else self._findings
        if len(kept) < FAILURES_IN_SUMMARY:
            kept.append(finding)
        self.observer.found(finding)

    async def _find_unknown(self, destination: Destination, ledger: Ledger, prefix: str) -> None:
        with closing(_strays(destination, ledger, prefix)) as strays:
            while (paths := await self._in_thread(next, strays, None)) is not None:
                for path in paths:
                    self._find(Finding(path, Flaw.UNKNOWN, "the ledger knows nothing of it"))

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await run_sync(work, *args, limiter=self._threads)


def _pages(ledger: Ledger, prefix: str) -> Iterator[list[Record]]:
    """Yield the records of what is at or below a prefix."""
    if prefix and (records := ledger.said_of(prefix)):
        yield records
    yield from ledger.pages(prefix)


def _has_ledger(state: Path) -> bool:
    return (state / LEDGER).exists() or bool(present(state))


def _inspect_all(destination: Destination, batch: Batch) -> list[Verdict]:
    return [inspect(destination, record) for record in batch]


def _stretches(file: Open) -> Iterator[ByteRange]:
    size = file.file.size
    return (ByteRange(start, min(start + STRETCH, size)) for start in range(0, size, STRETCH))


def _strays(destination: Destination, ledger: Ledger, prefix: str) -> Generator[list[str], None, None]:
    """Yield the files at or below a prefix of which the ledger knows nothing, some at a time."""
    top = place_of(prefix).segments if prefix else ()
    if top and isinstance(destination.facts(place_of(prefix)), File | Other):
        yield _unknown(ledger, [prefix])
    left: list[Segments] = [top]
    while left:
        directory = left.pop()
        names: list[str] = []
        for name, leads_on in destination.names(directory):
            if leads_on:
                if directory or name != os.fsencode(OWN_DIRECTORY):
                    left.append((*directory, name))
                continue
            names.append(LocalPath((*directory, name), escaped=False, directory=False).text)
            if len(names) == AT_ONCE:
                yield _unknown(ledger, names)
                names = []
        if names:
            yield _unknown(ledger, names)


def _unknown(ledger: Ledger, paths: Sequence[str]) -> list[str]:
    known = ledger.recorded(paths)
    return [path for path in paths if path not in known]


def _damaged(where: Path) -> LocalStorageError:
    return LocalStorageError(
        f"the ledger of {where} is damaged: nothing can be said of the files that it knew. Run sealift mirror, which "
        "makes a new one",
        code="LedgerDamaged",
    )
