"""The destination: a tree of directories that is only ever entered through directory descriptors.

    DEST/…                   the mirrored files
    DEST/.sealift/lock       held by the run that writes here, or shared by the shards that do
    DEST/.sealift/partial/   files in flight; a shard's are in a directory of its own there
    DEST/.sealift/shards/    a lock for each shard

DEST itself may be a symbolic link. Below it every directory is opened by one name in the directory
before it, with O_NOFOLLOW: no symbolic link is followed whoever put it there, nothing outside DEST is
reached, and a path may be longer than PATH_MAX. What is in the way is named (Blocked) and left alone.

Directories stay open for the next file (least recently used first out). One that was deleted meanwhile
is noticed and entered again from the top. One that somebody moves away during a run takes the files that
are being written to it along.

Everything here blocks, belongs into worker threads, and may be called from several at once.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path
from typing import Final, Self, TypeVar

from sealift import locks
from sealift.errors import LocalStorageError, ObjectError, Permanent, SealiftError
from sealift.localpath import LocalPath, beside_directory
from sealift.partial import (
    NOTE,
    NOTE_IN_WRITING,
    Blocked,
    Kind,
    PartialFile,
    discard,
    kind_of,
    rename_new,
    translated,
    unusable,
)
from sealift.reading import Reading

OWN_DIRECTORY: Final = ".sealift"

_KEPT_OPEN = 128
"""Directories. An eighth of the 1,024 descriptors that a process commonly gets; the rest is for connections."""

_SECOND = 1_000_000_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: a fifo of that name must not hold the run up.
_TO_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PARTIAL = re.compile(rf"([0-9a-f]{{32}})(?:{re.escape(NOTE)}|{re.escape(NOTE_IN_WRITING)})?")

_T = TypeVar("_T")
Segments = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """There is nothing of that name."""


@dataclass(frozen=True, slots=True)
class File:
    """A regular file."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory."""


@dataclass(frozen=True, slots=True)
class Other:
    """Something that Sealift never makes, follows or replaces."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class BlockedBy:
    """The first `depth` names lead to a `kind` where a directory is needed; a file may be one of ours."""

    depth: int
    kind: Kind


Local = Missing | File | Directory | Other | BlockedBy

_MISSING = Missing()
_IS_DIRECTORY = Directory()


class Destination:
    """An open destination. `open` it, `lock` it before writing, and close it (or use `with`)."""

    def __init__(self, path: Path, root_fd: int | None, own_fd: int | None, partial_fd: int | None) -> None:
        self.path = path
        self._directories = None if root_fd is None else _Directories(root_fd)
        self._own_fd = own_fd
        self._partial_fd = partial_fd
        self._lock_fds: list[int] = []
        self._state: tuple[int, Path] | None = None

    @classmethod
    def open(cls, path: Path, *, create: bool, shard: str | None = None) -> Destination:
        """Open the directory at `path`, making it and its parents with `create`; for a `shard` of that name, if any.

        Without `create` nothing is written, and where nothing exists every look says so (a dry run).
        Raises LocalStorageError.
        """
        try:
            if create:
                path.mkdir(parents=True, exist_ok=True)
            root_fd = os.open(path, _DIRECTORY)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not create:
                return cls(path, None, None, None)
            raise unusable(error, path) from error
        if not create:
            return cls(path, root_fd, None, None)
        try:
            return cls(path, root_fd, *_own_directories(root_fd, path, shard))
        except BaseException:
            os.close(root_fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor and let go of the lock."""
        if self._directories is not None:
            self._directories.close()
        for descriptor in self._lock_fds:
            locks.let_go(descriptor)
        for fd in (self._partial_fd, self._own_fd, *(() if self._state is None else self._state[:1])):
            if fd is not None:
                os.close(fd)
        self._partial_fd = self._own_fd = self._state = None
        self._lock_fds = []

    @property
    def partial_fd(self) -> int:
        """The directory for files in flight. It stays the destination's to close."""
        return _needed(self._partial_fd)

    @property
    def lock_fds(self) -> list[int]:
        """The locks' descriptors. Whoever inherits them keeps the locks until it ends, or until this is closed."""
        return list(self._lock_fds)

    def own_directory(self, *names: str) -> int:
        """Return a new descriptor, the caller's to close, of a directory in .sealift, made if need be."""
        return _own_directory_below(_needed(self._own_fd), names, self.path / OWN_DIRECTORY)

    def lock(self, shard: str | None = None) -> None:
        """Keep every other run out until `close`, or until this process ends in whatever way.

        With the name of a `shard` that is every run of this shard, and every one without a shard. LocalStorageError,
        naming the other run, if there is one; the workers of one that was killed are waited for. Child processes hold
        it as well if they are given `lock_fds`.
        """
        if not self._lock_fds:
            [own] = self._locked_directories()
            self._lock(own, self.path, shard)

    def lock_state(self, state: Path, shard: str | None = None) -> None:
        """As `lock`, of the directory of ledger and logs, which a run to another destination may have as well.

        That may be the destination's own, which is locked already.
        """
        try:
            state_fd = os.open(state, _DIRECTORY)
        except OSError as error:
            raise unusable(error, state) from error
        if os.path.samestat(os.fstat(state_fd), os.fstat(_needed(self._own_fd))):
            os.close(state_fd)
            return
        self._state = state_fd, state
        self._lock(self._state, state, shard)

    def _lock(self, place: tuple[int, Path], whose: Path, shard: str | None) -> None:
        directory_fd, directory = place
        taken = locks.take(directory_fd, directory / locks.LOCK, whose, shared=shard is not None, wait=True)
        self._lock_fds.append(taken)
        if shard is not None:
            self._lock_fds.append(_of_shards(place, whose, shard, bind(locks.take, wait=True)))

    def _locked_directories(self) -> list[tuple[int, Path]]:
        """Return the directories that have locks of this run's."""
        own = _needed(self._own_fd), self.path / OWN_DIRECTORY
        return [own] if self._state is None else [own, self._state]

    @property
    def in_use(self) -> bool:
        """Whether a run is writing here now, as far as the system tells who only asks."""
        return locks.is_held(self.path / OWN_DIRECTORY / locks.LOCK)

    def is_locked_by(self, shard: str) -> bool:
        """Say whether a run of the shard of that name is under way."""
        for place in self._locked_directories():
            taken = _of_shards(place, self.path, shard, locks.take_if_free)
            if taken is None:
                return True
            locks.let_go(taken)
        return False

    def begin_arranging(self) -> list[int] | None:
        """Keep other shards from arranging their ledgers, until `end_arranging`; None where one is at it."""
        held: list[int] = []
        for place in self._locked_directories():
            taken = _of_shards(place, self.path, "arranging", locks.take_if_free)
            if taken is None:
                self.end_arranging(held)
                return None
            held.append(taken)
        return held

    def end_arranging(self, held: Sequence[int]) -> None:
        """Let others arrange theirs."""
        for descriptor in held:
            locks.let_go(descriptor)

    def unite_partials(self, shard: str) -> None:
        """Let the files in flight that a shard has left be everybody's. Raises LocalStorageError."""
        directory_fd, shard_fd = self.own_directory("partial"), self.own_directory("partial", shard)
        try:
            with os.scandir(shard_fd) as entries:
                for entry in entries:
                    os.rename(entry.name, entry.name, src_dir_fd=shard_fd, dst_dir_fd=directory_fd)
            os.rmdir(shard, dir_fd=directory_fd)
        except OSError as error:
            raise unusable(error, self.path / OWN_DIRECTORY / "partial") from error
        finally:
            os.close(shard_fd)
            os.close(directory_fd)

    def facts(self, path: LocalPath) -> Local:
        """Return what is at `path` now: one lstat where its directory is open already."""
        if self._directories is None:
            return _MISSING
        if not path.segments:
            return _IS_DIRECTORY
        *parents, name = path.segments
        try:
            return self._in_directory(tuple(parents), lambda fd: _look(fd, name), path)
        except FileNotFoundError:
            return _MISSING
        except Blocked as blocked:
            return BlockedBy(blocked.depth, blocked.kind)

    def facts_and_beside(self, path: LocalPath) -> tuple[Local, Local]:
        """Return what is at the `path` of a file, and, where that is no file, what is at `beside_directory(path)`.

        As `facts` of both, at half the price: that of most new objects beside older ones.
        """
        if self._directories is None:
            return _MISSING, _MISSING
        *parents, name = _file_segments(path)
        beside = beside_directory(path).segments[-1]
        try:
            return self._in_directory(tuple(parents), lambda fd: _look_at_both(fd, name, beside), path)
        except FileNotFoundError:
            return _MISSING, _MISSING
        except Blocked as blocked:
            return BlockedBy(blocked.depth, blocked.kind), _MISSING

    def files(self, directory: Segments, names: Sequence[bytes]) -> list[tuple[int, int] | None]:
        """Return sizes and modification times (ns) of those of these names in a directory that are regular files.

        None of the others, whatever they are: `facts` says. As `facts` of each, at half the price.
        """
        if self._directories is None:
            return [None] * len(names)
        where = LocalPath(directory, escaped=False, directory=True)
        try:
            return self._in_directory(directory, lambda fd: _files(fd, names), where)
        except (FileNotFoundError, ObjectError):
            return [None] * len(names)

    def is_missing(self, directory: Segments) -> bool:
        """Whether there is no such directory, and so nothing in it. False where something else is in its place."""
        if self._directories is None:
            return True
        try:
            return self._in_directory(directory, lambda _fd: False, LocalPath(directory, escaped=False, directory=True))
        except FileNotFoundError:
            return True
        except Blocked:
            return False

    def is_vacant(self) -> bool:
        """Whether it was seen that nothing is in the destination besides Sealift's own directory."""
        if self._directories is None:
            return True
        try:
            return self._in_directory((), _has_only_our_own, LocalPath((), escaped=False, directory=True))
        except (FileNotFoundError, SealiftError):
            return False

    def read(self, path: LocalPath) -> Reading:
        """Open a file to be read. Blocked when it is anything but a regular file; FileNotFoundError.

        Raises Permanent where that is not allowed.
        """
        *parents, name = _file_segments(path)

        def read(fd: int) -> Reading:
            try:
                descriptor = os.open(name, _TO_READ, dir_fd=fd)
            except PermissionError as error:
                raise Permanent(f"{self.path / path.text} may not be read") from error
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENXIO}:  # a symbolic link, a socket
                    raise
                kind = kind_of(os.lstat(name, dir_fd=fd).st_mode)
                raise Blocked(path.text, depth=len(path.segments), kind=kind) from error
            reading = Reading(descriptor, path.text)
            kind = kind_of(os.fstat(descriptor).st_mode)
            if kind is not Kind.FILE:
                reading.close()
                raise Blocked(path.text, depth=len(path.segments), kind=kind)
            return reading

        return self._in_directory(tuple(parents), read, path)

    def names(self, directory: Segments) -> Iterator[tuple[bytes, bool]]:
        """Yield the names in a directory, each with whether it is one of a directory; none where there is none.

        Raises LocalStorageError.
        """
        where = LocalPath(directory, escaped=False, directory=True)
        try:
            descriptor = self._in_directory(directory, lambda fd: os.open(".", _BELOW, dir_fd=fd), where)
        except (FileNotFoundError, ObjectError):
            return
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    yield os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)
        except OSError as error:
            raise translated(error, str(self.path / where.text)) from error
        finally:
            os.close(descriptor)

    def make_directory(self, segments: Segments, *, sync: bool = False) -> bool:
        """Make a directory and those above it; whether it is new. Blocked by anything else there."""
        if not segments:
            return False
        *parents, name = segments
        where = LocalPath(segments, escaped=False, directory=True)

        def make(fd: int) -> bool:
            made = _make(fd, name, sync=sync)
            kind = kind_of(os.lstat(name, dir_fd=fd).st_mode)
            if kind is not Kind.DIRECTORY:
                raise Blocked(where.text, depth=len(segments), kind=kind)
            return made

        return self._in_directory(tuple(parents), make, where, make=True, sync=sync)

    def place(self, partial: PartialFile, path: LocalPath, mtime_ns: int, *, sync: bool = False) -> None:
        """Commit: make the directories, set the time, and rename the partial file to its final name.

        A regular file there is replaced in one step. Blocked when anything else is there, or when a
        directory on the way is something else: the partial file can then be placed elsewhere. With
        `sync` bytes and name are on the disk when this returns.
        """
        *parents, name = _file_segments(path)

        def commit(fd: int) -> None:
            text, depth = path.text, len(path.segments)
            partial.commit(fd, name, mtime_ns, sync=sync, path=text, depth=depth)

        self._in_directory(tuple(parents), commit, path, make=True, sync=sync)

    def place_all(
        self, directory: Segments, files: Sequence[tuple[PartialFile, bytes, int]]
    ) -> Sequence[SealiftError | None]:
        """Place files in one directory, each under its name and with its time (ns), as `place` does without `sync`.

        Return what went wrong with each; None of those that are there. At half the price of `place`.
        """
        where = LocalPath(directory, escaped=False, directory=True)
        try:
            there = self._in_directory(directory, lambda fd: [_commit(fd, *file) for file in files], where, make=True)
        except SealiftError:
            there = [False] * len(files)
        return [None if done else self._failure(directory, *file) for done, file in zip(there, files, strict=True)]

    def _failure(self, directory: Segments, partial: PartialFile, name: bytes, mtime_ns: int) -> SealiftError | None:
        """Place a file by itself; return what went wrong, if anything does this time."""
        try:
            self.place(partial, LocalPath((*directory, name), escaped=False, directory=False), mtime_ns)
        except SealiftError as error:
            return error
        return None

    def move_beside(self, path: LocalPath) -> bool:
        """Rename file `a` to `a%file`, as directory `a` is needed; whether there was a file to rename.

        Nothing is ever overwritten: Blocked when there is an `a%file` already, or when `a` is neither a
        file nor a directory. When another thread was faster there is nothing left to do.
        """
        return self._move(path, beside_directory(path))

    def move_back(self, path: LocalPath) -> bool:
        """Rename file `a%file` to `a`, as directory `a` is gone; whether there was a file to rename.

        Nothing is ever overwritten: Blocked when there is an `a`.
        """
        return self._move(beside_directory(path), path)

    def remove_file(self, path: LocalPath) -> bool:
        """Delete a file; whether there was one. Blocked when it is anything but a regular file."""
        *parents, name = _file_segments(path)

        def remove(fd: int) -> bool:
            if _only_a_file(fd, name, path):
                os.unlink(name, dir_fd=fd)
                return True
            return False

        try:
            return self._in_directory(tuple(parents), remove, path)
        except FileNotFoundError:
            return False

    def remove_directory(self, segments: Segments) -> bool:
        """Delete an empty directory; whether it was there, and empty. Anything else stays."""
        *parents, name = segments

        def remove(fd: int) -> bool:
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY}:
                    raise
                return False
            return True

        try:
            return self._in_directory(tuple(parents), remove, LocalPath(segments, escaped=False, directory=True))
        except (FileNotFoundError, Blocked):
            return False

    def partials(self) -> frozenset[str]:
        """Return the names of the partial files (`partial_name`) that are there, or of their notes."""
        if self._partial_fd is None:
            return frozenset()
        with os.scandir(self._partial_fd) as entries:
            found = (_PARTIAL.fullmatch(entry.name) for entry in entries)
            return frozenset(match[1] for match in found if match)

    def abandon(self, names: Iterable[str]) -> None:
        """Delete these partial files and their notes: nobody goes on with them. What is no file of ours stays."""
        for name in names:
            with suppress(ObjectError):
                discard(self.partial_fd, name)

    def _move(self, source: LocalPath, target: LocalPath) -> bool:
        *parents, name = _file_segments(source)
        new = target.segments[-1]

        def move(fd: int) -> bool:
            if not _only_a_file(fd, name, source, or_directory=True):
                return False
            try:
                rename_new(fd, name, fd, new)
            except FileNotFoundError:
                return False
            except FileExistsError:
                if not _only_a_file(fd, name, source, or_directory=True):
                    return False
                kind = kind_of(os.lstat(new, dir_fd=fd).st_mode)
                raise Blocked(target.text, depth=len(target.segments), kind=kind) from None
            return True

        try:
            return self._in_directory(tuple(parents), move, source)
        except FileNotFoundError:
            return False

    def _in_directory(
        self,
        segments: Segments,
        act: Callable[[int], _T],
        path: LocalPath,
        *,
        make: bool = False,
        sync: bool = False,
    ) -> _T:
        """Return act(descriptor of the directory), the directories made with `make`.

        FileNotFoundError is the caller's unless `make`; other OSErrors become ours.
        """
        directories = self._directories
        if directories is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            try:
                directory = directories.enter(segments, make=make, sync=sync)
                try:
                    return act(directory.descriptor)
                finally:
                    directories.leave(directory)
            except FileNotFoundError:
                # A directory that is kept open may have been deleted: once more, from the top.
                if not directories.forget(segments, only_deleted=not make):
                    raise
                directory = directories.enter(segments, make=make, sync=sync)
                try:
                    return act(directory.descriptor)
                finally:
                    directories.leave(directory)
        except FileNotFoundError as error:
            if not make:
                raise
            raise LocalStorageError(
                f"{self.path / path.text}: deleted by somebody else while this run writes to it; run again",
                code="Vanished",
            ) from error
        except OSError as error:
            raise translated(error, str(self.path / path.text)) from error


class _Directories:
    """Open directories by path, the least recently used closed first, none while it is in use."""

    def __init__(self, root_fd: int) -> None:
        self._root = _Entered(root_fd)
        self._kept: OrderedDict[Segments, _Entered] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def enter(self, segments: Segments, *, make: bool, sync: bool) -> _Entered:
        """Lend a directory below the root, entered name by name; `leave` it afterwards.

        With `make`, missing ones are made. Blocked when one is something else; FileNotFoundError.
        """
        depth, directory = self._nearest(segments)
        try:
            while depth < len(segments):
                depth += 1
                descriptor = self._enter(directory.descriptor, segments[:depth], make, sync)
                below = self._keep(segments[:depth], descriptor)
                self.leave(directory)
                directory = below
        except BaseException:
            self.leave(directory)
            raise
        return directory

    def forget(self, segments: Segments, *, only_deleted: bool) -> bool:
        """Keep the directories on this path no longer, or those of them that were deleted.

        Returns whether there were any.
        """
        forgotten = []
        with self._lock:
            for depth in range(1, len(segments) + 1):
                kept = self._kept.get(segments[:depth])
                if kept and not (only_deleted and os.fstat(kept.descriptor).st_nlink):
                    forgotten.append(self._kept.pop(segments[:depth]))
            self._drop(forgotten)
        return bool(forgotten)

    def close(self) -> None:
        """Close them all; those in use when they are left."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._drop([self._root, *self._kept.values()])
                self._kept.clear()

    def _nearest(self, segments: Segments) -> tuple[int, _Entered]:
        """Return the deepest directory on the path that is open, now in use, and its depth."""
        with self._lock:
            if self._closed:
                msg = "the destination is closed"
                raise ValueError(msg)
            depth, found = 0, self._root
            for tried in range(len(segments), 0, -1):
                kept = self._kept.get(segments[:tried])
                if kept is not None:
                    depth, found = tried, kept
                    self._kept.move_to_end(segments[:tried])
                    break
            found.users += 1
            return depth, found

    def _keep(self, segments: Segments, descriptor: int) -> _Entered:
        with self._lock:
            entered = self._kept.get(segments)
            if entered is not None:  # another thread came first
                os.close(descriptor)
            else:
                entered = _Entered(descriptor)
                if self._closed:
                    entered.kept = False
                else:
                    self._kept[segments] = entered
            entered.users += 1
            while len(self._kept) > _KEPT_OPEN:
                self._drop([self._kept.popitem(last=False)[1]])
            return entered

    def leave(self, directory: _Entered) -> None:
        """Give a directory back."""
        with self._lock:
            directory.users -= 1
            if not directory.kept and not directory.users:
                os.close(directory.descriptor)

    def _drop(self, directories: list[_Entered]) -> None:
        for directory in directories:
            directory.kept = False
            if not directory.users:
                os.close(directory.descriptor)

    @staticmethod
    def _enter(parent_fd: int, segments: Segments, make: bool, sync: bool) -> int:
        name = segments[-1]
        while True:
            try:
                return os.open(name, _BELOW, dir_fd=parent_fd)
            except FileNotFoundError:
                if not make:
                    raise
                _make(parent_fd, name, sync=sync)
            except OSError as error:
                if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                    raise
                # It may just have changed. A directory by now is entered, one that is gone is made.
                with suppress(FileNotFoundError):
                    kind = kind_of(os.lstat(name, dir_fd=parent_fd).st_mode)
                    if kind is not Kind.DIRECTORY:
                        text = LocalPath(segments, escaped=False, directory=True).text
                        raise Blocked(text, depth=len(segments), kind=kind) from error


class _Entered:
    """An open directory, how many threads use it, and whether it is kept for the next."""

    __slots__ = ("descriptor", "kept", "users")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 0
        self.kept = True


def same_time(one: int, other: int) -> bool:
    """Whether two modification times (nanoseconds) are the same.

    Some file systems, and the Last-Modified of a HEAD, keep whole seconds only: where either has no fraction, the
    seconds decide.
    """
    if one % _SECOND and other % _SECOND:
        return one == other
    return one // _SECOND == other // _SECOND


def _own_directories(root_fd: int, path: Path, shard: str | None) -> tuple[int, int]:
    """Make .sealift and the directory of partial files in it; return the descriptors of both."""
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=root_fd):
        read_only = os.fstatvfs(root_fd).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise translated(OSError(number, os.strerror(number)), str(path))
    own_fd = _own_directory(root_fd, OWN_DIRECTORY, path / OWN_DIRECTORY)
    try:
        names = ("partial",) if shard is None else ("partial", shard)
        return own_fd, _own_directory_below(own_fd, names, path / OWN_DIRECTORY)
    except BaseException:
        os.close(own_fd)
        raise


def _own_directory(parent_fd: int, name: str, path: Path) -> int:
    try:
        _make(parent_fd, os.fsencode(name), sync=False)
        return os.open(name, _BELOW, dir_fd=parent_fd)
    except OSError as error:
        raise unusable(error, path) from error


def _own_directory_below(own_fd: int, names: Sequence[str], path: Path) -> int:
    """Return the descriptor of a directory below one of ours at `path`; made, with those above it, if need be."""
    descriptor = os.dup(own_fd)
    for name in names:
        path /= name
        above = descriptor
        try:
            descriptor = _own_directory(above, name, path)
        finally:
            os.close(above)
    return descriptor


def _of_shards(place: tuple[int, Path], whose: Path, name: str, take: Callable[[int, Path, Path], _T]) -> _T:
    """Return what comes of taking the lock of that name among those of a directory's shards."""
    above_fd, above = place
    directory_fd = _own_directory_below(above_fd, ("shards",), above)
    try:
        return take(directory_fd, above / "shards" / f"{name}.lock", whose)
    finally:
        os.close(directory_fd)


def _needed(descriptor: int | None) -> int:
    if descriptor is None:
        msg = "the destination is closed or was not opened for writing"
        raise ValueError(msg)
    return descriptor


def _make(parent_fd: int, name: bytes, *, sync: bool) -> bool:
    """Make a directory unless there is something of that name; whether it was made."""
    try:
        os.mkdir(name, 0o777, dir_fd=parent_fd)
    except FileExistsError:
        return False
    if sync:
        os.fsync(parent_fd)
    return True


def _commit(directory_fd: int, partial: PartialFile, name: bytes, mtime_ns: int) -> bool:
    """Whether a file has come to its place. Where it has not, nothing has happened, and it is placed by itself."""
    try:
        partial.commit(directory_fd, name, mtime_ns, sync=False, path="")
    except (OSError, SealiftError):
        return False
    return True


def _look(directory_fd: int, name: bytes) -> Local:
    found = _look_once(directory_fd, name)
    if found is _MISSING:
        _check_deleted(directory_fd)
    return found


def _look_at_both(directory_fd: int, name: bytes, beside: bytes) -> tuple[Local, Local]:
    found = _look_once(directory_fd, name)
    if isinstance(found, File):
        return found, _MISSING
    other = _look_once(directory_fd, beside)
    if found is _MISSING:
        _check_deleted(directory_fd)
    return found, other


def _has_only_our_own(directory_fd: int) -> bool:
    descriptor = os.open(".", _BELOW, dir_fd=directory_fd)
    try:
        with os.scandir(descriptor) as entries:
            return all(entry.name == OWN_DIRECTORY for entry in entries)
    finally:
        os.close(descriptor)


def _check_deleted(directory_fd: int) -> None:
    """Raise FileNotFoundError where the directory itself was deleted: there may be another of its name."""
    if not os.fstat(directory_fd).st_nlink:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _files(directory_fd: int, names: Sequence[bytes]) -> list[tuple[int, int] | None]:
    try:
        found = [os.lstat(name, dir_fd=directory_fd) for name in names]
    except OSError:
        return [_file(directory_fd, name) for name in names]
    regular, kind = stat.S_IFREG, stat.S_IFMT
    return [(about.st_size, about.st_mtime_ns) if kind(about.st_mode) == regular else None for about in found]


def _file(directory_fd: int, name: bytes) -> tuple[int, int] | None:
    with suppress(OSError):
        about = os.lstat(name, dir_fd=directory_fd)
        if stat.S_ISREG(about.st_mode):
            return about.st_size, about.st_mtime_ns
    return None


def _look_once(directory_fd: int, name: bytes) -> Local:
    try:
        about = os.lstat(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return _MISSING
    if stat.S_ISREG(about.st_mode):
        return File(about.st_size, about.st_mtime_ns)
    kind = kind_of(about.st_mode)
    return _IS_DIRECTORY if kind is Kind.DIRECTORY else Other(kind)


def _only_a_file(directory_fd: int, name: bytes, path: LocalPath, *, or_directory: bool = False) -> bool:
    """Whether a file is there; Blocked when it is something else. `or_directory`: then just False."""
    try:
        kind = kind_of(os.lstat(name, dir_fd=directory_fd).st_mode)
    except FileNotFoundError:
        return False
    if kind is Kind.FILE:
        return True
    if or_directory and kind is Kind.DIRECTORY:
        return False
    raise Blocked(path.text, depth=len(path.segments), kind=kind)


def _file_segments(path: LocalPath) -> Segments:
    if path.directory or not path.segments:
        msg = f"not a file: {path}"
        raise ValueError(msg)
    return path.segments
