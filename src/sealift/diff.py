"""Each listed object is held against what is on disk: fetch it, leave it, or say why it cannot be mirrored.

An object is up to date when the file in its place has its size and its time. Objects are compared some at once, as
that is quick; only where something is in the way (`sealift.placing`) an object is looked at alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import anyio.lowlevel
from anyio.to_thread import run_sync

from sealift.config import Settings
from sealift.destination import Destination, Directory, File, Missing, Other, Segments
from sealift.diskpace import DiskWork
from sealift.errors import ObjectError
from sealift.fetch import Job
from sealift.localpath import LocalPath, all_ordinary, beside_directory, local_path
from sealift.model import ByteRange, Ending, Outcome, RemoteObject
from sealift.partial import Blocked, Kind, PartialFile, partial_name
from sealift.placing import MOST_MOVES, Place, WayMaker, not_representable
from sealift.planning import SMALLEST_PART, count_parts, part_size_for
from sealift.s3.translate import ARCHIVED, archived
from sealift.selection import Source
from sealift.tally import Tally

SLICE = 50
"""Objects that are compared in one go: 20 µs each, a millisecond for which the event loop does nothing else."""

Finding = Job | Outcome | ObjectError
"""What a look at an object's place says: fetch it, it has ended, or something is in the way or wrong."""


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
    ) -> None:
        """`several`: each bucket has a directory of its own. `dry`: nothing on disk is changed."""
        self._destination = destination
        self._way = way
        self._settings = settings
        self._tally = tally
        self._several = several
        self._dry = dry
        self._partials = destination.partials()
        self._disk = DiskWork()

    async def jobs(self, source: Source, remotes: Sequence[RemoteObject], *, restarts: int = 0) -> list[Job]:
        """Return a job for each object that has to be fetched; end the others. Raises RunError.

        `restarts` is how often the objects were started over already.
        """
        jobs = []
        for start in range(0, len(remotes), SLICE):
            slice_ = remotes[start : start + SLICE]
            for remote, place, finding in await self._disk.perform(partial(self._compare, source, slice_)):
                job = finding if isinstance(finding, Job) else await self._resolve(remote, place, finding)
                if job is not None:
                    job.restarts = restarts
                    jobs.append(job)
            await anyio.lowlevel.checkpoint()
        return jobs

    async def need(self, source: Source, remotes: Sequence[RemoteObject]) -> Need:
        """Sum up what `jobs` would return, for a dry run; end the others. Raises RunError.

        An object costs a fifth of what it does there, where nothing is on disk.
        """
        need = await self._disk.perform(lambda: self._weigh(source, remotes))
        if need is not None:
            return need
        jobs = await self.jobs(source, remotes)
        under, base = (source.directory, "") if self._several else (None, source.prefix)
        return Need(
            len(jobs),
            sum(job.due for job in jobs),
            sum(count_parts(job.remote.size, job.part_size, job.done) for job in jobs),
            sum(local_path(remote.key[len(base) :], remote.size, under=under).escaped for remote in remotes),
        )

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
            finding = self._job(remote, place) if cleared else await run_sync(self._look, remote, place)
        if isinstance(finding, Job):
            return finding
        if isinstance(finding, Outcome):
            self._tally.end(finding)
        else:
            self._tally.fail(remote, finding)
        return None

    def _compare(self, source: Source, remotes: Sequence[RemoteObject]) -> list[tuple[RemoteObject, Place, Finding]]:
        """Look at the places of some objects."""
        under, base = (source.directory, "") if self._several else (None, source.prefix)
        findings = []
        nothing_in = _Missing(self._destination)
        for remote in remotes:
            key_below = remote.key[len(base) :]
            path = local_path(key_below, remote.size, under=under)
            place = Place(source, base, key_below, path, under)
            findings.append((remote, place, self._look(remote, place, absent=nothing_in[path.segments[:-1]])))
        return findings

    def _weigh(self, source: Source, remotes: Sequence[RemoteObject]) -> Need | None:
        """Sum up a page of which nothing is there; None for any other."""
        under, base = (source.directory, "") if self._several else (None, source.prefix)
        paths = [remote.key[len(base) :] for remote in remotes]
        if under is not None:
            paths = [f"{under}/{path}" for path in paths]
        if any(remote.storage_class in ARCHIVED for remote in remotes) or not self._all_missing(paths):
            return None
        fixed, planned = self._settings.transfer.part_size, self._tally.observer.planned
        size = gets = 0
        for remote, path in zip(remotes, paths, strict=True):
            due = remote.size
            parts = 1 if due <= SMALLEST_PART and fixed is None else count_parts(due, part_size_for(due, fixed))
            size += due
            gets += parts
            planned(remote, path, due, parts)
        return Need(len(remotes), size, gets, 0)

    def _all_missing(self, paths: Sequence[str]) -> bool:
        """Whether all these paths are as their keys say, and in directories that do not exist."""
        if not all_ordinary(paths):
            return False
        nothing_in = _Missing(self._destination)
        one_in_each = {path.rpartition("/")[0]: path for path in paths}.values()
        return all(nothing_in[local_path(path, 1).segments[:-1]] for path in one_in_each)

    def _look(self, remote: RemoteObject, place: Place, *, absent: bool = False) -> Finding:
        """Look at one object's place; `absent`: nothing is in its directory."""
        path = place.path
        if path.escaped and self._settings.selection.strict_keys:
            return not_representable(remote)
        if remote.storage_class in ARCHIVED and not remote.restored:
            return archived(remote.bucket, remote.key, remote.storage_class)
        if absent and not path.directory:
            return self._job(remote, place)
        try:
            return self._look_for_directory(remote, path) if path.directory else self._look_for_file(remote, place)
        except ObjectError as error:
            return error

    def _look_for_directory(self, remote: RemoteObject, path: LocalPath) -> Finding:
        if self._dry:
            made = isinstance(self._destination.facts(path), Missing)
        else:
            made = self._destination.make_directory(path.segments)
        return self._way.outcome(remote, path, Ending.DOWNLOADED if made else Ending.UP_TO_DATE)

    def _look_for_file(self, remote: RemoteObject, place: Place) -> Finding:
        path, strict = place.path, self._settings.selection.strict_keys
        facts, facts_beside = self._destination.facts_and_beside(path)
        if isinstance(facts, File):
            if self._destination.up_to_date(facts, remote):
                return self._way.outcome(remote, path, Ending.UP_TO_DATE)
        elif isinstance(facts, Directory):
            if not strict and self._destination.up_to_date(facts_beside, remote):
                return self._way.outcome(remote, beside_directory(path), Ending.UP_TO_DATE)
            return Blocked(path.text, depth=len(path.segments), kind=Kind.DIRECTORY)
        elif isinstance(facts, Missing):
            if self._destination.up_to_date(facts_beside, remote):
                # The directory that needed the name is gone.
                if not self._dry:
                    self._destination.move_back(path)
                return self._way.outcome(remote, path, Ending.UP_TO_DATE)
        elif isinstance(facts, Other):
            return Blocked(path.text, depth=len(path.segments), kind=facts.kind)
        else:
            in_the_way = LocalPath(path.segments[: facts.depth], escaped=False, directory=False)
            return Blocked(in_the_way.text, depth=facts.depth, kind=facts.kind)
        return self._job(remote, place)

    def _job(self, remote: RemoteObject, place: Place) -> Job:
        size = part_size_for(remote.size, self._settings.transfer.part_size)
        job = Job(remote, size, target=place, done=self._left_over(remote))
        self._tally.observer.planned(remote, place.path.text, job.due, count_parts(remote.size, size, job.done))
        return job

    def _left_over(self, remote: RemoteObject) -> list[ByteRange]:
        """Return what an earlier run left of exactly this version."""
        if not self._partials or (name := partial_name(remote)) not in self._partials:
            return []
        resumed = PartialFile.resume(self._destination.partial_fd, name, remote.size)
        if resumed is None:
            return []
        partial_file, done = resumed
        partial_file.close()
        return list(done)


class _Missing(dict[Segments, bool]):
    """Which directories do not exist, each looked up once: for one page, whose objects have a place each.

    What appears in one of them meanwhile is another object's.
    """

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
