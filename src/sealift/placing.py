"""Where objects come down on disk, and what happens when something else is there.

Of `a` and `a/b`, the file `a` goes to another name (`localpath.beside_directory`), whichever of the two comes first:
the store is asked whether what is in the way is an object's. Of an object that is gone, the ledger still knows the file
or directory for Sealift's own: the rule is the same, and `--delete` then deletes it. Anything else that is in the way
is somebody's own: it is never touched, and the object fails.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

import anyio
from anyio.to_thread import run_sync

from sealift.attempt import Spot
from sealift.config import Durability
from sealift.destination import Destination, File
from sealift.errors import Integrity, ObjectError, Permanent
from sealift.fetch import Job
from sealift.kmscost import requests_for
from sealift.ledger import LATEST, Ledger, Record, Seal
from sealift.localpath import LocalPath, ancestor_key, beside_directory, local_path
from sealift.model import UNTOLD, Encryption, Ending, Outcome, RemoteObject
from sealift.partial import Blocked, Kind, PartialFile, partial_name
from sealift.planning import SMALLEST_PART
from sealift.recording import Recorder
from sealift.s3.store import ObjectStore, PageRequest
from sealift.selection import Ownership, Source
from sealift.standing import fits
from sealift.tally import Tally

SMALL = SMALLEST_PART
"""Bytes of the objects that are put in place by whoever fetches them: those that are one GET at any part size."""

MOST_MOVES = 1024
"""How many things may be found in the way of one object: the levels that a key of 1,024 bytes can have, and an end
to it if someone keeps putting files there."""


class Place(NamedTuple):
    """Where an object belongs."""

    source: Source
    base: str
    """What of the key does not show in the path: the source's prefix, or nothing where there are several sources."""
    key_below: str
    path: LocalPath
    under: str | None
    """The bucket's own directory, where there are several sources."""
    beside: bool = False
    """The path is not the key's own any more: a directory needs that."""


class WayMaker:
    """Clears the way for an object, or finds it another place. One a run."""

    def __init__(
        self,
        store: ObjectStore,
        destination: Destination,
        ownership: Ownership,
        tally: Tally,
        *,
        strict: bool,
        dry: bool,
        ledger: Ledger | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """`strict` fails objects instead of giving them another name; `dry` looks, and moves nothing.

        `ledger` tells what is Sealift's own, and `recorder` hears of what was moved.
        """
        self._store = store
        self._destination = destination
        self._ownership = ownership
        self._tally = tally
        self._strict = strict
        self._dry = dry
        self._ledger = ledger
        self._recorder = recorder
        self._moved: set[tuple[bytes, ...]] = set()
        self._moving = anyio.Lock()

    async def make_way(self, remote: RemoteObject, place: Place, blocked: Blocked) -> Place:
        """Return where `remote` can go now that `blocked` was seen. Raises Permanent where it cannot go anywhere."""
        final = blocked.depth == len(place.path.segments) and not place.path.directory
        if blocked.kind is Kind.DIRECTORY and final and not place.beside:
            if not await self._has_objects_below(place):
                if self._strict or not await run_sync(self._is_own_directory, place.path):
                    raise blocked
            elif self._strict:
                raise not_representable(remote)
            return place._replace(path=beside_directory(place.path), beside=True)
        if blocked.kind is not Kind.FILE or final:
            raise blocked
        key_below = ancestor_key(place.key_below, blocked.depth, under=place.under)
        if key_below is None:
            raise blocked
        path = local_path(key_below, 1, under=place.under)
        if not await self._is_an_object(place.source.bucket, place.base + key_below):
            if self._strict or not await run_sync(self._is_own_file, path):
                raise blocked
        elif self._strict:
            raise not_representable(remote)
        if not self._dry:
            await self._move(path)
        return place

    def outcome(
        self,
        remote: RemoteObject,
        path: LocalPath,
        ending: Ending,
        *,
        seconds: float = 0.0,
        replaced: bool = False,
    ) -> Outcome:
        """Return the outcome of an object that is in place at `path`.

        An object is counted as escaped once: here, or when its file was moved.
        """
        escaped = path.escaped and path.segments not in self._moved
        return Outcome(
            ending, remote.bucket, remote.key, remote.size, path.text, escaped, seconds=seconds, replaced=replaced
        )

    async def _has_objects_below(self, place: Place) -> bool:
        """Say whether the directory at an object's own name is the mirror's."""
        bucket, token = place.source.bucket, None
        while True:
            page = await self._store.list_page(PageRequest(bucket, f"{place.base}{place.key_below}/", token=token))
            if any(self._ownership.covers(bucket, item.key) for item in page.objects):
                return True
            token = page.next_token
            if token is None:
                return False

    async def _is_an_object(self, bucket: str, key: str) -> bool:
        """Say whether the file where a directory is needed is the mirror's."""
        if not self._ownership.covers(bucket, key):
            return False
        try:
            await self._store.head(bucket, key)
        except ObjectError as error:
            if error.code == "NoSuchKey":
                return False
            raise
        return True

    def _is_own_directory(self, path: LocalPath) -> bool:
        return self._ledger is not None and path.text in self._ledger.made([path.text])

    def _is_own_file(self, path: LocalPath) -> bool:
        """Say whether Sealift has written a file, and nobody has changed it."""
        record = None if self._ledger is None else self._ledger.known(path.text)
        if record is None or record.adopted:
            return False
        facts = self._destination.facts(path)
        return isinstance(facts, File) and fits(facts, record)

    async def _move(self, path: LocalPath) -> None:
        async with self._moving:
            if await run_sync(self._beside, path):
                beside = beside_directory(path)
                self._moved.add(beside.segments)
                if self._recorder is not None:
                    self._recorder.moved(path.text, beside.text)
                self._tally.escaped += not path.escaped

    def _beside(self, path: LocalPath) -> bool:
        try:
            return self._destination.move_beside(path)
        except Blocked as blocked:
            if blocked.kind is not Kind.FILE:
                raise
            # No key has that name of its own: it is the same object's, from a time when `a/b` was there before.
            self._destination.remove_file(beside_directory(path))
            return self._destination.move_beside(path)


def not_representable(remote: RemoteObject) -> Permanent:
    """Return the error of a key that would need another name, where --strict-keys forbids that."""
    return Permanent(
        f"{remote.key!r} cannot be a path as it is (a file system has no such name, or a file and a directory would "
        "have to share one); run without --strict-keys to store it under another name",
        bucket=remote.bucket,
        key=remote.key,
        code="KeyNotRepresentable",
    )


class TreeLanding:
    """The mirror's `Landing`: a tree below the destination. Each job's target is its `Place`."""

    def __init__(
        self, destination: Destination, way: WayMaker, durability: Durability, recorder: Recorder | None = None
    ) -> None:
        """`recorder` hears of each file that has come to its place."""
        self._destination = destination
        self._way = way
        self._recorder = recorder
        self._sync = durability is not Durability.NONE

    def name(self, job: Job) -> str:
        """See `Landing.name`."""
        return partial_name(job.remote)

    def spot(self, job: Job) -> Spot | None:
        """See `Landing.spot`."""
        if job.remote.size > SMALL:
            return None
        return Spot(_place(job).path.segments, job.remote.last_modified_ns)

    def begin(self, job: Job) -> PartialFile:
        """See `Landing.begin`."""
        remote, directory_fd = job.remote, self._destination.partial_fd
        name = partial_name(remote)
        if job.done:
            resumed = PartialFile.resume(directory_fd, name, remote.size)
            if resumed is None:
                raise Integrity(f"the partial file of {remote.key!r} has vanished; run again", code="PartialFileLost")
            return resumed[0]
        return PartialFile.create(directory_fd, name, remote.size, preallocate=remote.size > job.part_size)

    def reopen(self, job: Job) -> PartialFile:
        """See `Landing.reopen`."""
        return PartialFile.reopen(self._destination.partial_fd, partial_name(job.remote), job.remote.size)

    async def land(self, job: Job, partial: PartialFile) -> Outcome:
        """See `Landing.land`."""
        place, moves = _place(job), 0
        while True:
            try:
                await run_sync(self._commit, job, place, partial)
            except Blocked as blocked:
                moves += 1
                if moves > MOST_MOVES:
                    raise
                place = await self._way.make_way(job.remote, place, blocked)
            else:
                return self._in_place(job, place)

    def placed(self, job: Job) -> Outcome:
        """See `Landing.placed`."""
        return self._in_place(job, _place(job))

    def _in_place(self, job: Job, place: Place) -> Outcome:
        remote = job.remote
        seconds = time.monotonic() - job.began if job.began else 0.0
        outcome = self._way.outcome(remote, place.path, Ending.DOWNLOADED, seconds=seconds, replaced=job.replaces)
        if self._recorder is not None:
            checksum = job.checksum or None
            self._recorder.record(
                recorded(remote, outcome.path, remote.last_modified_ns, checksum, encryption=job.encryption)
            )
            if job.began:  # else nothing has told how it is encrypted
                requests = requests_for(remote, job.due, -(-job.due // job.part_size))
                self._recorder.asked(place.source.bucket, place.source.prefix, requests, charged=job.charged)
        return outcome

    def _commit(self, job: Job, place: Place, partial: PartialFile) -> None:
        self._destination.place(partial, place.path, job.remote.last_modified_ns, sync=self._sync)


def origin(record: Record) -> tuple[Source, bool]:
    """Return the source that brings an object where its record says, and whether it is one of several.

    Raises Permanent where none does.
    """
    source, key = Source.parse(f"s3://{record.seal.bucket}"), record.key
    if leads_to(record, key, source.directory):
        return source, True
    for start in (0, *(index + 1 for index, letter in enumerate(key) if letter == "/")):
        if leads_to(record, key[start:], None):
            return replace(source, prefix=key[:start]), False
    raise Permanent(
        f"{key!r} does not belong at {record.path}: mirror it anew",
        bucket=source.bucket,
        key=key,
        code="PlaceUnknown",
    )


def leads_to(record: Record, key_below: str, under: str | None) -> bool:
    """Say whether an object's key, cut so, brings it where its record says."""
    path = local_path(key_below, record.size, under=under)
    if path.directory:
        return record.path == f"{path.text}/"
    return record.path in {path.text, beside_directory(path).text}


def recorded(
    remote: RemoteObject, path: str, mtime_ns: int, checksum: str | None = None, *, encryption: Encryption = UNTOLD
) -> Record:
    """Return the record of a file that is an object, as far as its listing, the file's bytes and a GET's head tell."""
    size = remote.size
    return Record(
        path,
        Seal(remote.bucket, encryption.sse, encryption.kms_key_id),
        remote.key,
        size,
        remote.etag,
        remote.version_id,
        checksum,
        size,
        min(mtime_ns, LATEST),
    )


def _place(job: Job) -> Place:
    if not isinstance(job.target, Place):
        msg = "the job is not one of a mirror"
        raise TypeError(msg)
    return job.target
