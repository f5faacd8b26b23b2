"""Each listed object is held against what is on disk: fetch it, leave it, or say why it cannot be mirrored.

1. Of what the ledger knows and nobody has touched, which of most runs is nearly all, some hundred at once are found to
   be in place: by a look-up of a stretch of the ledger, and an lstat each.
2. Of a first run, nearly all belong into directories that held nothing when the run came to them. They are fetched
   without a look: what is in there by now is another object's, or somebody has put it there since.
3. The file in any other object's place is held against the object by itself (`sealift.standing`).
4. Where only its bytes can tell, it is read (`sealift.proving`): with `--check checksum` and `--adopt verify`.
5. Only where something is in the way (`sealift.placing`) other objects are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import compress
from operator import not_
from typing import NamedTuple

import anyio.lowlevel
from anyio.to_thread import run_sync

from sealift.config import Adopt, Check, Settings, StorageSettings
from sealift.destination import Destination, Directory, File, Local, Missing, Other, Segments
from sealift.diskpace import DiskWork
from sealift.errors import ObjectError
from sealift.fetch import Job
from sealift.ledger import Changes, Ledger, Record
from sealift.leftover import LeftOver
from sealift.localpath import LocalPath, all_ordinary, beside_directory, local_path, local_paths
from sealift.model import ARCHIVED, ByteRange, Ending, Outcome, RemoteObject
from sealift.partial import Blocked, Kind, PartialFile, partial_name
from sealift.placing import MOST_MOVES, Place, WayMaker, not_representable, recorded
from sealift.planning import SMALLEST_PART, count_parts, part_size_of
from sealift.proving import Prover, Question
from sealift.recording import Recorder
from sealift.s3.translate import archived
from sealift.selection import Source
from sealift.standing import Standing, Trust, fits, names, standing
from sealift.tally import Tally
from sealift.unchanged import Unchanged

STRETCH = 200
"""Objects that may be found in place in one go: 4 µs each, a millisecond for which the event loop does nothing else."""

SLICE = 50
"""Objects that are compared one by one in one go: 20 µs each, a millisecond as well."""

MOST_VACANT = 10_000
"""Directories that are remembered to have held nothing: some MB. Where one is forgotten, its files are looked for."""

_TOP: Segments = ()


class Doubt(NamedTuple):
    """A file of which only its bytes tell whether it is the object."""

    file: File
    path: LocalPath
    record: Record | None
    """What the ledger says of it."""
    in_the_way: Blocked | None = None
    """The directory that has the object's own name, if the file lies beside it."""


Finding = Job | Outcome | ObjectError
"""What a look at an object's place says: fetch it, it has ended, or something is in the way or wrong."""


_Look = tuple[RemoteObject, Place, Finding | Doubt]


class Need(NamedTuple):
    """What would be fetched of some objects."""

    objects: int
    size: int
    """Bytes."""
    gets: int
    escaped: int
    """How many objects, also of those that are not to be fetched, get another path than their key says."""


class Diff:
    """Turns listed objects into outcomes and jobs."""

    def __init__(
        self,
        *,
        destination: Destination,
        way: WayMaker,
        settings: Settings,
        tally: Tally,
        several: bool,
        dry: bool,
        ledger: Ledger | None = None,
        recorder: Recorder | None = None,
        prover: Prover | None = None,
    ) -> None:
        """`several`: each bucket has a directory of its own. `dry`: nothing on disk is changed.

        `recorder` hears what is found out that the `ledger` does not say yet. `prover` is for settings by which files
        have to be read.
        """
        self._destination = destination
        self._way = way
        self._settings = settings
        self._tally = tally
        self._several = several
        self._dry = dry
        self._left = LeftOver(destination.partials())
        self._disk = DiskWork()
        storage = settings.storage
        consulted = storage.check is not Check.SIZE_MTIME and not storage.force
        self._trust = trust(storage)
        self._prover = prover
        self._written = ledger if consulted else None
        self._ledger = ledger if ledger is not None and consulted and not ledger.empty else None
        self._unchanged = None
        if self._ledger is not None and self._trust.recorded:
            self._unchanged = Unchanged(destination, self._ledger)
        self._recorder = recorder
        self._adopts = consulted and recorder is not None
        self._forced = storage.force
        self._found = Changes()
        # An inventory may name an object twice, and by the second time it may be in its place.
        self._once = dry or settings.selection.inventory is None
        self._vacant: set[Segments] = {_TOP} if destination.is_vacant() else set()

    async def jobs(
        self, source: Source, remotes: Sequence[RemoteObject], *, restarts: int = 0, again: bool = False
    ) -> list[Job]:
        """Return a job for each object that has to be fetched; end the others. Raises RunError.

        `restarts` is how often the objects were started over already; `again`: they have come before.
        """
        jobs = []
        if self._unchanged is not None:
            remotes = await self._pass_over(self._unchanged, source, remotes)
        for start in range(0, len(remotes), SLICE):
            slice_ = remotes[start : start + SLICE]
            looks = await self._disk.perform(partial(self._compare, source, slice_, again=again or restarts > 0))
            for remote, place, finding in await self._settle_all(looks):
                job = finding if isinstance(finding, Job) else await self._resolve(remote, place, finding)
                if job is not None:
                    job.restarts = restarts
                    jobs.append(job)
            if self._recorder is not None:
                found, self._found = self._found, Changes()
                self._recorder.add(found)
            await anyio.lowlevel.checkpoint()
        return jobs

    async def _settle_all(self, looks: Sequence[_Look]) -> list[tuple[RemoteObject, Place, Finding]]:
        """Let the bytes of those files tell of which nothing else does. Raises RunError."""
        doubts = [(remote, look) for remote, _, look in looks if isinstance(look, Doubt)]
        questions = [Question(remote, doubt.path, doubt.file, _checksum(doubt, remote)) for remote, doubt in doubts]
        answers = iter(await self._prover.prove(questions) if questions and self._prover is not None else ())
        return [
            (remote, place, await self._settle(remote, place, look, next(answers)) if isinstance(look, Doubt) else look)
            for remote, place, look in looks
        ]

    async def _settle(self, remote: RemoteObject, place: Place, doubt: Doubt, checksum: str | None) -> Finding:
        """Draw the conclusion from a file's `checksum`, None where it is not the object."""
        if checksum is None:
            return doubt.in_the_way or self._job(remote, place)
        if self._adopts:
            self._take_down(remote, doubt, checksum)
        if doubt.in_the_way is not None:
            return self._way.outcome(remote, doubt.path, Ending.UP_TO_DATE)
        if doubt.path != place.path:
            await run_sync(self._move_back, place.path)
        return self._way.outcome(remote, place.path, Ending.UP_TO_DATE)

    def _take_down(self, remote: RemoteObject, doubt: Doubt, checksum: str) -> None:
        """Take down what a file has turned out to be."""
        record = doubt.record
        fresh = recorded(remote, doubt.path.text, doubt.file.mtime_ns, checksum)._replace(adopted=True)
        if record is not None and names(record, remote) and fits(doubt.file, record):
            seal = record.seal._replace(bucket=remote.bucket)
            fresh = fresh._replace(seal=seal, mtime_ns=record.mtime_ns, adopted=record.adopted)
        if fresh != record:
            self._found.records.append(fresh)

    async def need(self, source: Source, remotes: Sequence[RemoteObject]) -> Need:
        """Sum up what `jobs` would return, for a dry run; end the others. Raises RunError.

        An object costs a fifth of what it does there, where nothing is on disk.
        """
        need = await self._disk.perform(lambda: self._weigh(source, remotes))
        if need is not None:
            return need
        jobs = await self.jobs(source, remotes)
        return Need(
            len(jobs),
            sum(job.due for job in jobs),
            sum(job.gets for job in jobs),
            self._count_escaped(source, remotes),
        )

    async def _pass_over(
        self, unchanged: Unchanged, source: Source, remotes: Sequence[RemoteObject]
    ) -> list[RemoteObject]:
        """End those of the objects that are plainly in place, and return the others."""
        left: list[RemoteObject] = []
        for start in range(0, len(remotes), STRETCH):
            stretch = remotes[start : start + STRETCH]
            paths = self._plain_paths(source, stretch)
            in_place = await self._disk.perform(partial(unchanged.among, stretch, paths))
            if objects := in_place.count(True):
                self._tally.settle(objects, partial(_up_to_date, stretch, paths, in_place))
            left += compress(stretch, map(not_, in_place))
            await anyio.lowlevel.checkpoint()
        return left

    def _plain_paths(self, source: Source, remotes: Sequence[RemoteObject]) -> list[str]:
        """Return the paths of objects, as far as they are as their keys say."""
        if self._several:
            return [f"{source.directory}/{remote.key}" for remote in remotes]
        base = len(source.prefix)
        return [remote.key[base:] for remote in remotes]

    async def _resolve(self, remote: RemoteObject, place: Place, finding: Finding) -> Job | None:
        for _ in range(MOST_MOVES):
            if not isinstance(finding, Blocked):
                break
            try:
                place = await self._way.make_way(remote, place, finding)
            except ObjectError as error:
                finding = error
                break
            # A dry run has not cleared the way that a real one would have cleared.
            cleared = self._dry and finding.kind is Kind.FILE
            if cleared:
                finding = self._job(remote, place)
            else:
                look = await run_sync(self._look_anew, remote, place)
                [(_, _, finding)] = await self._settle_all([(remote, place, look)])
        if isinstance(finding, Job):
            return finding
        if isinstance(finding, Outcome):
            self._tally.end(finding)
        else:
            self._tally.fail(remote, finding)
        return None

    def _compare(self, source: Source, remotes: Sequence[RemoteObject], *, again: bool = False) -> list[_Look]:
        """Look at the places of some objects; `again`: a file of theirs may be there from earlier in this run."""
        under, base = source.on_disk(several=self._several)
        looks = []
        keys_below = [remote.key[len(base) :] for remote in remotes]
        paths = local_paths(keys_below, [remote.size for remote in remotes], under=under)
        ledger = self._written if again else self._ledger
        records = {} if ledger is None else ledger.look_up([path.text for path in paths])
        missing = _Missing(self._destination)
        if not self._once:
            self._vacant.clear()
        for remote, key_below, path in zip(remotes, keys_below, paths, strict=True):
            place = Place(source, base, key_below, path, under)
            directory = path.segments[:-1]
            absent = directory in self._vacant and not again
            if not absent and missing[directory]:
                absent = True
                self._will_make(directory, missing)
            record = records.get(path.text) if records else None
            looks.append((remote, place, self._look(remote, place, record, absent=absent)))
        return looks

    def _will_make(self, directory: Segments, missing: _Missing) -> None:
        """Take down which directories are going to be made on the way to this one, which does not exist."""
        while directory and directory not in self._vacant and missing[directory]:
            self._hold_for_vacant(directory)
            if self._recorder is not None:
                self._found.directories.append(LocalPath(directory, escaped=False, directory=True).text)
            directory = directory[:-1]

    def _hold_for_vacant(self, directory: Segments) -> None:
        """Remember that nothing is in a directory but what this run puts there, and others from now on."""
        if len(self._vacant) >= MOST_VACANT:
            self._vacant &= {_TOP}
        self._vacant.add(directory)

    def _count_escaped(self, source: Source, remotes: Sequence[RemoteObject]) -> int:
        if all_ordinary(self._plain_paths(source, remotes)):
            return 0
        under, base = source.on_disk(several=self._several)
        return sum(local_path(remote.key[len(base) :], remote.size, under=under).escaped for remote in remotes)

    def _weigh(self, source: Source, remotes: Sequence[RemoteObject]) -> Need | None:
        """Sum up a page of which nothing is there; None for any other."""
        paths = self._plain_paths(source, remotes)
        if any(remote.storage_class in ARCHIVED for remote in remotes) or not self._all_missing(paths):
            return None
        fixed, planned = self._settings.transfer.part_size, self._tally.observer.planned
        size = gets = 0
        for remote, path in zip(remotes, paths, strict=True):
            due = remote.size
            parts = 1 if due <= SMALLEST_PART and fixed is None else count_parts(due, part_size_of(remote, fixed))
            size += due
            gets += parts
            planned(remote, path, due, parts)
        return Need(len(remotes), size, gets, 0)

    def _all_missing(self, paths: Sequence[str]) -> bool:
        """Whether all these paths are as their keys say, and in directories that hold nothing."""
        if not all_ordinary(paths):
            return False
        missing = _Missing(self._destination)
        one_in_each = {path.rpartition("/")[0]: path for path in paths}.values()
        directories = {local_path(path, 1).segments[:-1] for path in one_in_each}
        return all(missing[directory] for directory in directories - self._vacant)

    def _look_anew(self, remote: RemoteObject, place: Place) -> Finding | Doubt:
        return self._look(remote, place, self._recorded(place.path))

    def _recorded(self, path: LocalPath) -> Record | None:
        return None if self._ledger is None else self._ledger.look_up([path.text]).get(path.text)

    def _look(
        self, remote: RemoteObject, place: Place, record: Record | None, *, absent: bool = False
    ) -> Finding | Doubt:
        """Look at one object's place, of which the ledger says `record`; `absent`: nothing is in its directory."""
        path = place.path
        if path.escaped and self._settings.selection.strict_keys:
            return not_representable(remote)
        if remote.cold:
            return archived(remote.bucket, remote.key, remote.storage_class)
        if absent and not path.directory:
            return self._job(remote, place)
        try:
            if path.directory:
                return self._look_for_directory(remote, path)
            return self._look_for_file(remote, place, record)
        except ObjectError as error:
            return error

    def _look_for_directory(self, remote: RemoteObject, path: LocalPath) -> Finding:
        if self._dry:
            made = isinstance(self._destination.facts(path), Missing)
        else:
            made = self._destination.make_directory(path.segments)
            if made:
                self._hold_for_vacant(path.segments)
            if made and self._recorder is not None:
                self._found.directories.append(path.text)
                self._found.records.append(recorded(remote, f"{path.text}/", 0))
        return self._way.outcome(remote, path, Ending.DOWNLOADED if made else Ending.UP_TO_DATE)

    def _look_for_file(self, remote: RemoteObject, place: Place, record: Record | None) -> Finding | Doubt:
        path, strict = place.path, self._settings.selection.strict_keys
        facts, facts_beside = self._destination.facts_and_beside(path)
        if isinstance(facts, File):
            found = self._standing(facts, remote, path, record)
            if found is Standing.UNTOLD:
                return Doubt(facts, path, record)
            if found is not Standing.OUTDATED and not self._forced:
                return self._way.outcome(remote, path, Ending.UP_TO_DATE)
        elif isinstance(facts, Directory):
            blocked = Blocked(path.text, depth=len(path.segments), kind=Kind.DIRECTORY)
            if strict:
                return blocked
            return self._look_beside(facts_beside, remote, path, record, blocked) or blocked
        elif isinstance(facts, Missing):
            if finding := self._look_beside(facts_beside, remote, path, record, None):
                return finding
        elif isinstance(facts, Other):
            return Blocked(path.text, depth=len(path.segments), kind=facts.kind)
        else:
            in_the_way = LocalPath(path.segments[: facts.depth], escaped=False, directory=False)
            return Blocked(in_the_way.text, depth=facts.depth, kind=facts.kind)
        return self._job(remote, place, replaces=isinstance(facts, File))

    def _look_beside(
        self, facts: Local, remote: RemoteObject, path: LocalPath, own: Record | None, blocked: Blocked | None
    ) -> Outcome | Doubt | None:
        """Look at what is beside an object's own name, which a directory has (`blocked`), or nothing.

        None where that is not the object. `own` is what the ledger says of the name.
        """
        if not isinstance(facts, File):
            return None
        beside = beside_directory(path)
        record = self._recorded(beside)
        if record is None and own is not None and fits(facts, own):  # another shard moved it, and could not say so here
            record = own._replace(path=beside.text)
            if self._adopts:
                self._found.moves.append((path.text, beside.text))
        found = self._standing(facts, remote, beside, record)
        if found is Standing.UNTOLD:
            return Doubt(facts, beside, record, blocked)
        if found is Standing.OUTDATED:
            return None
        if blocked is None:
            self._move_back(path)
        return None if self._forced else self._way.outcome(remote, beside if blocked else path, Ending.UP_TO_DATE)

    def _move_back(self, path: LocalPath) -> None:
        """Let the file beside a place have its name again: the directory that needed it is gone."""
        if not self._dry:
            self._destination.move_back(path)
            if self._recorder is not None:
                self._found.moves.append((beside_directory(path).text, path.text))

    def _standing(self, file: File, remote: RemoteObject, path: LocalPath, record: Record | None) -> Standing:
        """Return what a file is to the object; what the ledger does not say of it is taken down."""
        found = standing(file, record, remote, self._trust)
        if not self._adopts:
            pass
        elif found is Standing.ADOPTED:
            self._found.records.append(recorded(remote, path.text, file.mtime_ns)._replace(adopted=True))
        elif found is Standing.IN_PLACE and record is not None and not _of(record, remote):
            seal = record.seal._replace(bucket=remote.bucket)
            self._found.records.append(record._replace(seal=seal, key=remote.key))
        return found

    def _job(self, remote: RemoteObject, place: Place, *, replaces: bool = False) -> Job:
        size = part_size_of(remote, self._settings.transfer.part_size)
        job = Job(remote, size, target=place, done=self._left_over(remote), replaces=replaces)
        self._tally.observer.planned(remote, place.path.text, job.due, job.gets)
        return job

    def _left_over(self, remote: RemoteObject) -> list[ByteRange]:
        """Return what an earlier run left of exactly this version; what it left of others is dropped."""
        if not self._left:
            return []
        name = partial_name(remote)
        found, useless = self._left.claim(name)
        if found:
            resumed = PartialFile.resume(self._destination.partial_fd, name, remote.size)
            if resumed is not None:
                self._destination.abandon(useless)
                partial_file, done = resumed
                partial_file.close()
                return list(done)
        self._destination.abandon(useless | {name} if found else useless)
        return []

    def drop_useless(self) -> None:
        """Drop what earlier runs left of objects that are not to be fetched, when all are known. Blocks."""
        self._destination.abandon(self._left.unclaimed())


def _up_to_date(remotes: Sequence[RemoteObject], paths: Sequence[str], chosen: Sequence[bool]) -> Iterator[Outcome]:
    for remote, path in compress(zip(remotes, paths, strict=True), chosen):
        yield Outcome(Ending.UP_TO_DATE, remote.bucket, remote.key, remote.size, path)


def _checksum(doubt: Doubt, remote: RemoteObject) -> str | None:
    """Return what the bytes of this version have for a checksum, as far as the ledger says."""
    return doubt.record.checksum if doubt.record is not None and names(doubt.record, remote) else None


def trust(storage: StorageSettings) -> Trust:
    """Return what the settings take a file's size and time for."""
    if storage.force or storage.check is Check.SIZE_MTIME:
        return Trust()
    reads = storage.check is Check.CHECKSUM
    return Trust(recorded=not reads, found=not reads and storage.adopt is Adopt.SIZE_MTIME)


def _of(record: Record, remote: RemoteObject) -> bool:
    return record.key == remote.key and record.seal.bucket == remote.bucket


class _Missing(dict[Segments, bool]):
    """Which directories do not exist, each looked up once: for some objects that are compared in one go."""

    def __init__(self, destination: Destination) -> None:
        super().__init__()
        self._destination = destination

    def __missing__(self, directory: Segments) -> bool:
        try:
            missing = self._destination.is_missing(directory)
        except ObjectError:  # it will be told of each object
            missing = False
        self[directory] = missing
        return missing
