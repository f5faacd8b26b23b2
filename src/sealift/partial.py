"""One object in flight: a file that has no final name yet, and the note of what is in it.

    <directory>/NAME           the bytes that have arrived, each at its own offset
    <directory>/NAME.json      {"version": 1, "size": …, "done": [[start, stop], …], "boot": …}
    <directory>/NAME.json.new  the next such note, while it is being written

The order of writing is the promise. A note names only ranges that are on the disk already, so what it says
holds after a power loss, too; or else it names the boot of the system during which it holds. It is gone from
the disk before another file of its name is begun, and one that is not well-formed, or does not fit its file,
means that the object starts over. A final name is given by rename, after the last byte, and takes the place of
a regular file or of nothing; a note is dropped after that.

This room also owns what the standard library lacks (fallocate, renameat2) and the one place where an
OSError becomes an error of ours.

Everything here blocks, and belongs into worker threads. Several threads may write to one PartialFile;
it is closed when none of them does any more.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import fcntl
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Self, cast

from sealift.errors import Integrity, LocalStorageError, Permanent, SealiftError
from sealift.model import ByteRange, RemoteObject
from sealift.ranges import merged

NOTE: Final = ".json"
NOTE_IN_WRITING: Final = ".json.new"
_OF_THE_OBJECT: Final = 16
"""How many digits of a partial file's name are the same for all versions of its object."""

_NOTE_VERSION = 1
_LARGEST_NOTE = 64 << 20
"""Bytes. 5 TiB in parts of 8 MiB, every other one done, is 655,360 / 2 ranges of at most 31 bytes: 10 MiB."""

FEW = 8
"""Files that are synced one by one: a sync of the whole file system also waits for what others wrote there."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a fifo under one of our names must not hold a thread; it means nothing to a regular file.
_OLD = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Kind(enum.StrEnum):
    """What a name in a directory can be."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    FIFO = "fifo"
    SOCKET = "socket"
    DEVICE = "device"


_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}


def kind_of(mode: int) -> Kind:
    """Return the kind that `st_mode` says."""
    return _KINDS.get(stat.S_IFMT(mode), Kind.DEVICE)


class Blocked(Permanent):
    """Something else stands at the final name or where a directory on the way to it has to be.

    `path` is what stands in the way, below the destination; `depth` is how many names lead to it, from
    1; `kind` is what it is. Nothing was changed, and the partial file is still there.
    """

    def __init__(self, path: str, *, depth: int, kind: Kind) -> None:
        super().__init__(
            f"a {kind} is in the way at {path}; it was neither followed nor replaced. Move it away and run again",
            code="PathBlocked",
        )
        self.path = path
        self.depth = depth
        self.kind = kind


def partial_name(obj: RemoteObject) -> str:
    """Return the file name for this version of this object: 32 hexadecimal digits, of which 16 are the object's.

    Another version, ETag or size gives another name, so bytes of two versions never meet in one file. The first half
    is the same for all versions of an object: whoever fetches one of them finds what was left of the others.
    """
    bucket, key, etag, version = obj.bucket, obj.key, obj.etag, obj.version_id or ""
    # The lengths keep fields from running together.
    whose = f"{len(bucket)} {bucket}{key}".encode("utf-8", "surrogateescape")
    which = f"{obj.size} {len(etag)} {len(version)} {etag}{version} ".encode("utf-8", "surrogateescape")
    version_digest = hashlib.sha256(which + whose).hexdigest()
    return hashlib.blake2b(whose, digest_size=_OF_THE_OBJECT // 2).hexdigest() + version_digest[:_OF_THE_OBJECT]


def of_the_object(name: str) -> str:
    """Return what the names of partial files of all versions of an object have in common, given one of them."""
    return name[:_OF_THE_OBJECT]


MOST_AT_ONCE = 512 * 1024
"""Bytes of one pwrite(2). ext4 keeps what comes in one write in as large a folio as it can (Linux 6.16 and later), and
those of 1 MiB are dear: 3 × 1.5 GiB cost 5.1 s of system time with them, and 3.7 s so. Smaller writes gain no more."""


class PartialFile:
    """A file that is being filled. `create` or `resume` it; then `write`, `record`, and `commit`.

    Leaving the `with` block closes it and keeps it on disk, for the next run to resume.
    """

    def __init__(self, descriptor: int, directory_fd: int, name: str, size: int) -> None:
        self._descriptor: int | None = descriptor
        self._finished = False
        self._noted = False
        self.recording = threading.Lock()
        """Held by whoever writes its note."""
        self.directory_fd = directory_fd
        self.name = name
        self.size = size

    @classmethod
    def create(cls, directory_fd: int, name: str, size: int, *, preallocate: bool) -> PartialFile:
        """Begin an object of `size` bytes from nothing; what was there under this name is dropped.

        `directory_fd` stays the caller's, and open for as long as this is used. With `preallocate` the
        blocks are taken now (see `allocate`), so that a disk that is too small says so before a byte was fetched
        (LocalStorageError; no file is left); where the file system cannot, it goes on without.
        """
        try:
            if preallocate:  # a note must never be taken for one about the new file, which has its length from now on
                _drop_note(directory_fd, name)
            try:
                descriptor = os.open(name, _NEW, 0o666, dir_fd=directory_fd)
            except FileExistsError:
                _drop_note(directory_fd, name)
                os.unlink(name, dir_fd=directory_fd)
                descriptor = os.open(name, _NEW, 0o666, dir_fd=directory_fd)
        except OSError as error:
            raise translated(error, _path(directory_fd)) from error
        partial = cls(descriptor, directory_fd, name, size)
        if preallocate and size:
            try:
                allocate(descriptor, size)
            except OSError as error:
                failure = translated(error, _path(directory_fd), needed=size)
                partial.discard()
                raise failure from error
        return partial

    @classmethod
    def resume(cls, directory_fd: int, name: str, size: int) -> tuple[PartialFile, tuple[ByteRange, ...]] | None:
        """Go on with what an earlier run left, and say which ranges are there (sorted, disjoint).

        None when there is nothing, or nothing that can be trusted: `discard` it before `create` starts over.
        """
        try:
            done = _read_note(directory_fd, name, size)
            if done is None:
                return None
            descriptor = os.open(name, os.O_RDWR | _OLD, dir_fd=directory_fd)
        except OSError as error:
            # Missing, or a symbolic link, or a directory: not what record() left behind.
            if error.errno in {errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO}:
                return None
            raise translated(error, _path(directory_fd)) from error
        about = os.fstat(descriptor)
        # Not preallocated, it is as long as the furthest byte so far.
        fits = max((part.stop for part in done), default=0) <= about.st_size <= size
        if not fits or not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
            os.close(descriptor)
            return None
        partial = cls(descriptor, directory_fd, name, size)
        partial._noted = True
        return partial, done

    @classmethod
    def reopen(cls, directory_fd: int, name: str, size: int) -> PartialFile:
        """Open a partial file of this run, for one more hand to write into it. Raises LocalStorageError, Integrity."""
        try:
            descriptor = os.open(name, os.O_RDWR | _OLD, dir_fd=directory_fd)
        except FileNotFoundError as error:
            raise Integrity(f"the partial file {name} has vanished; run again", code="PartialFileLost") from error
        except OSError as error:
            raise translated(error, _path(directory_fd)) from error
        return cls(descriptor, directory_fd, name, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put all of `data` at `offset` (bytes). LocalStorageError when the disk does not take it."""
        if offset < 0 or offset + len(data) > self.size:
            msg = f"{offset} + {len(data)} bytes do not lie in an object of {self.size}"
            raise ValueError(msg)
        descriptor = self._opened()
        try:
            written = os.pwrite(descriptor, data, offset) if len(data) <= MOST_AT_ONCE else 0
            while written < len(data):  # too much at once; or a signal, or the last free block
                view = memoryview(data)[written : written + MOST_AT_ONCE]
                written += os.pwrite(descriptor, view, offset + written)
        except OSError as error:
            raise translated(error, _path(self.directory_fd)) from error

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with what was written from `offset` on, and return how many bytes that is.

        Fewer only at the file's end. Raises LocalStorageError.
        """
        descriptor, size = self._opened(), 0
        try:
            while size < len(buffer) and (some := os.preadv(descriptor, [buffer[size:]], offset + size)):
                size += some
        except OSError as error:
            raise translated(error, _path(self.directory_fd)) from error
        return size

    def record(self, done: Iterable[ByteRange]) -> None:
        """See `record_all`."""
        record_all([(self, done)])

    def finish(self, mtime_ns: int, *, sync: bool) -> None:
        """Close the file for good: length checked, modification time set, on the disk with `sync`.

        Integrity when it is not as long as the object. Once finished, calling it again does nothing.
        """
        if self._finished:
            return
        descriptor = self._opened()
        try:
            length = os.lseek(descriptor, 0, os.SEEK_END)
            if length != self.size:
                msg = f"{length} of {self.size} bytes are in the partial file"
                raise Integrity(msg, code="WrongLength")
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            if sync:
                os.fsync(descriptor)  # the time as well, which fdatasync leaves out
            self.close()  # network file systems tell of a full disk here
        except OSError as error:
            raise translated(error, _path(self.directory_fd)) from error
        self._finished = True

    def commit(self, directory_fd: int, name: bytes, mtime_ns: int, *, sync: bool, path: str, depth: int = 1) -> None:
        """Finish, and give it its final name in one step: the last thing that happens to an object.

        A regular file of that name is replaced; anything else is Blocked (with `path` and `depth`) and
        nothing has happened but that this is finished: commit it elsewhere or discard it. An OSError
        of the rename itself is the caller's, who knows the final directory. With `sync` the name is
        on the disk, too, when this returns.
        """
        if not self._finished:
            self.finish(mtime_ns, sync=sync)
        source = os.fsencode(self.name)
        try:
            rename_new(self.directory_fd, source, directory_fd, name)
        except FileExistsError:
            kind = kind_of(os.lstat(name, dir_fd=directory_fd).st_mode)
            if kind is not Kind.FILE:
                raise Blocked(path, depth=depth, kind=kind) from None
            os.rename(source, name, src_dir_fd=self.directory_fd, dst_dir_fd=directory_fd)
        if sync:
            os.fsync(directory_fd)
        if self._noted:  # no earlier: a run that ends in between would have to fetch all of it again
            _unlink(self.directory_fd, self.name + NOTE_IN_WRITING)
            _unlink(self.directory_fd, self.name + NOTE)
            self._noted = False

    def sync(self) -> None:
        """Let its bytes reach the disk, finished or not. Raises LocalStorageError."""
        try:
            self._sync()
        except OSError as error:
            raise translated(error, _path(self.directory_fd)) from error

    def close(self) -> None:
        """Let go of the file and keep it on the disk."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def discard(self) -> None:
        """Close and delete it, with its note."""
        self.close()
        discard(self.directory_fd, self.name)

    def _opened(self) -> int:
        if self._descriptor is None:
            msg = "the partial file is closed"
            raise ValueError(msg)
        return self._descriptor

    def begin_note(self, done: Iterable[ByteRange], boot: str) -> int:
        """Write the next note, which nobody reads before `put_note`; its descriptor is the caller's to close."""
        ranges = [[part.start, part.stop] for part in merged(done)]
        content = {"version": _NOTE_VERSION, "size": self.size, "done": ranges}
        note = json.dumps(content | {"boot": boot} if boot else content).encode()
        new = self.name + NOTE_IN_WRITING
        _unlink(self.directory_fd, new)
        descriptor = os.open(new, _NEW, 0o666, dir_fd=self.directory_fd)
        try:
            while note:
                note = note[os.write(descriptor, note) :]
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def put_note(self) -> None:
        """Let the next note take the last one's place."""
        here = self.directory_fd
        os.rename(self.name + NOTE_IN_WRITING, self.name + NOTE, src_dir_fd=here, dst_dir_fd=here)
        self._noted = True

    def _sync(self) -> None:
        if not self._finished:
            _sync(self._opened())
            return
        descriptor = os.open(self.name, os.O_RDONLY | _OLD, dir_fd=self.directory_fd)
        try:
            os.fsync(descriptor)  # it syncs the file, whoever wrote it, and the time that it was given
        finally:
            os.close(descriptor)


def record_all(begun: Sequence[tuple[PartialFile, Iterable[ByteRange]]], *, sync: bool = True) -> None:
    """Note of files of one directory which ranges are there: all of them, not only those since the last time.

    Every one of them must have been written before the call. A finished file can be recorded as well: it may not come
    to its place. There are three barriers, for however many files: the bytes, the notes, the names of the notes.
    Without `sync` there are none, where the system can tell its boots apart: the notes hold until it is booted again,
    and so for a run that follows a killed one. Raises LocalStorageError.
    """
    boot = "" if sync else this_boot()
    sync = not boot
    partials = sorted((partial for partial, _ in begun), key=lambda partial: partial.name)
    if not partials:
        return
    here = partials[0].directory_fd
    few = len(partials) <= FEW
    with ExitStack() as recording:
        for partial in partials:
            recording.enter_context(partial.recording)
        try:
            if sync and few:
                for partial in partials:
                    partial.sync()
            elif sync:
                sync_file_system(here)
            for partial, done in begun:
                note = partial.begin_note(done, boot)
                try:
                    if sync and few:
                        _sync(note)
                finally:
                    os.close(note)
            if sync and not few:
                sync_file_system(here)
            for partial in partials:
                partial.put_note()
            if sync:
                os.fsync(here)
        except OSError as error:
            raise translated(error, _path(here)) from error


def discard(directory_fd: int, name: str) -> None:
    """Delete a partial file and its notes, as far as they are there."""
    try:
        _unlink(directory_fd, name + NOTE_IN_WRITING)
        _drop_note(directory_fd, name)
        _unlink(directory_fd, name)
    except OSError as error:
        raise translated(error, _path(directory_fd)) from error


@cache
def this_boot() -> str:
    """Return what tells this boot of the system from all others; nothing where there is no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _drop_note(directory_fd: int, name: str) -> None:
    """Delete a note for good: a power loss must not bring it back beside the next file of that name."""
    try:
        os.unlink(name + NOTE, dir_fd=directory_fd)
    except FileNotFoundError:
        return
    os.fsync(directory_fd)


def _read_note(directory_fd: int, name: str, size: int) -> tuple[ByteRange, ...] | None:
    """Return what the note says is there, or None when it is not one that record() wrote."""
    with os.fdopen(os.open(name + NOTE, os.O_RDONLY | _OLD, dir_fd=directory_fd), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        text = file.read(_LARGEST_NOTE + 1)
    try:
        note = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(note, dict) or (note.get("version"), note.get("size")) != (_NOTE_VERSION, size):
        return None
    if "boot" in note and note["boot"] != this_boot():  # its bytes may have been lost with the power
        return None
    return _ranges(note.get("done"), size)


def _ranges(pairs: object, size: int) -> tuple[ByteRange, ...] | None:
    """Return the pairs as ranges if they are sorted, disjoint, not empty and within `size`."""
    if not isinstance(pairs, list):
        return None
    ranges: list[ByteRange] = []
    reached = 0
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(at) is int for at in pair)):
            return None
        start, stop = pair
        if not reached <= start < stop <= size:
            return None
        ranges.append(ByteRange(start, stop))
        reached = stop
    return tuple(ranges)


def _unlink(directory_fd: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory_fd)


# macOS has no fdatasync in Python.
_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)

# ── What the standard library does not offer ────────────────────────────────────────────────────────

_LIBC = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1
"""From <linux/fs.h>."""


def _libc_function(*names: str, arguments: list[Any]) -> Callable[..., int] | None:
    """Return the first of these that the C library has, or None (macOS, an old musl)."""
    for name in names:
        function = getattr(_LIBC, name, None)
        if function is not None:
            function.argtypes = arguments
            function.restype = ctypes.c_int
            return cast("Callable[..., int]", function)
    return None


# The 64-bit name first: plain fallocate takes a 32-bit off_t on 32-bit systems.
_fallocate = _libc_function(
    "fallocate64",
    "fallocate",
    arguments=[ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64],
)
_renameat2 = _libc_function(
    "renameat2",
    arguments=[ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint],
)

_syncfs = _libc_function("syncfs", arguments=[ctypes.c_int])
_fstatfs = _libc_function("fstatfs64", "fstatfs", arguments=[ctypes.c_int, ctypes.POINTER(ctypes.c_uint32)])
_TMPFS_MAGIC = 0x01021994
"""From <linux/magic.h>."""


def _call(function: Callable[..., int], *arguments: int | bytes) -> None:
    while function(*arguments) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def sync_file_system(directory_fd: int) -> None:
    """Let everything reach the disk that was written to this directory's file system. Raises LocalStorageError."""
    try:
        if _syncfs is None:
            os.sync()
        else:
            _call(_syncfs, directory_fd)
    except OSError as error:
        raise translated(error, _path(directory_fd)) from error


def allocate(descriptor: int, size: int) -> None:
    """Take the blocks for `size` bytes with fallocate(2), and make the file that long.

    Does nothing where the system or the file system cannot. Not os.posix_fallocate: glibc emulates that
    by writing into every block. On tmpfs blocks are pages of memory: to take 3 GiB of them takes 0.8 s in which nothing
    is fetched, and saves the writes no more than that (measured). There it is only seen to that so much is free.
    """
    if _fallocate is None:
        return
    if on_tmpfs(descriptor):
        about = os.fstatvfs(descriptor)
        if about.f_blocks and about.f_bavail * about.f_frsize < size:  # no blocks: it has no limit
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(descriptor, size)
        return
    try:
        _call(_fallocate, descriptor, 0, 0, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
            raise


def on_tmpfs(descriptor: int) -> bool:
    """Say whether a file's file system is known to be a tmpfs."""
    about = (ctypes.c_uint32 * 64)()  # a struct statfs has 88 to 120 bytes, and begins with its f_type
    return _fstatfs is not None and _fstatfs(descriptor, about) == 0 and about[0] == _TMPFS_MAGIC


def rename_new(from_fd: int, source: bytes, to_fd: int, target: bytes) -> None:
    """Rename a file, never replacing anything: FileExistsError if there is something at `target`.

    One step with renameat2(2). Where the file system does not know the flag, a hard link and an unlink,
    and where there are no hard links either, a look and a rename.
    """
    if _renameat2 is not None:
        try:
            _call(_renameat2, from_fd, source, to_fd, target, _RENAME_NOREPLACE)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS}:
                raise
        else:
            return
    try:
        os.link(source, target, src_dir_fd=from_fd, dst_dir_fd=to_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        with suppress(FileNotFoundError):
            os.lstat(target, dir_fd=to_fd)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        os.rename(source, target, src_dir_fd=from_fd, dst_dir_fd=to_fd)
    else:
        os.unlink(source, dir_fd=from_fd)


# ── OSError → ours ──────────────────────────────────────────────────────────────────────────────────

_WHOLE_RUN = {
    errno.EROFS: ("ReadOnlyFileSystem", "the file system is read-only; mount it for writing"),
    errno.EACCES: ("NotWritable", "permission denied; let the user of this run write there"),
    errno.EPERM: ("NotWritable", "not permitted; let the user of this run write there"),
    errno.EDQUOT: ("QuotaExceeded", "the disk quota is used up; free some space or have it raised"),
    errno.EIO: ("DiskError", "the disk reports an input/output error; check it and the system log"),
    errno.EMFILE: (
        "TooManyOpenFiles",
        "this process has too many open files; raise the limit (ulimit -n) or lower --concurrency",
    ),
    errno.ENFILE: (
        "TooManyOpenFiles",
        "the whole system has too many open files; close some or raise fs.file-max",
    ),
}
_ONE_OBJECT = {
    errno.ENAMETOOLONG: ("NameTooLong", "the file system does not take a name this long"),
    errno.ELOOP: ("PathBlocked", "a symbolic link is in the way; move it away and run again"),
    errno.ENOTDIR: ("PathBlocked", "a directory is needed where there is none; move away what is there"),
    errno.EISDIR: ("PathBlocked", "a directory stands where a file should go; move it away"),
    errno.EEXIST: ("PathBlocked", "something else stands there; move it away and run again"),
    errno.EILSEQ: ("NameNotAllowed", "the file system does not take these characters in a name"),
    errno.EINVAL: ("NameNotAllowed", "the file system does not take this name"),
    errno.EFBIG: ("FileTooLarge", "the file system does not take a file this large"),
    errno.EXDEV: (
        "OtherFileSystem",
        "a file cannot be renamed to here from .sealift/partial, which is on another file system",
    ),
}


def translated(error: OSError, path: str, *, needed: int | None = None) -> SealiftError:
    """Return the error of ours for what the system said about `path`; the caller chains the cause.

    `needed` is how many bytes were asked for, where that is known.
    """
    number = error.errno or 0
    if number in _ONE_OBJECT:
        code, advice = _ONE_OBJECT[number]
        return Permanent(f"{path}: {advice}", code=code)
    if number == errno.ENOSPC:
        return LocalStorageError(_full(path, needed), code="DiskFull")
    code, advice = _WHOLE_RUN.get(
        number,
        (errno.errorcode.get(number, "OSError"), error.strerror or str(error)),
    )
    return LocalStorageError(f"{path}: {advice}", code=code)


def unusable(error: OSError, path: Path) -> LocalStorageError:
    """Return what is wrong with DEST, or with one of our own files or directories at `path`: that ends the run."""
    if error.errno in {errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        return LocalStorageError(
            f"{path} cannot be used: something else is there, or on the way to it, which is not what "
            f"Sealift makes ({error.strerror}); move it away or choose another destination",
            code="NotADirectory",
        )
    failure = translated(error, str(path))
    return failure if isinstance(failure, LocalStorageError) else LocalStorageError(failure.message, code=failure.code)


def _full(path: str, needed: int | None) -> str:
    message = f"no space left on the disk of {path}"
    try:
        about = os.statvfs(path)
    except OSError:
        return f"{message}; free some and run again"
    free = about.f_bavail * about.f_frsize
    if needed is not None and free < needed:
        return f"{message}: {needed:,} bytes are needed and {free:,} are free; free {needed - free:,} and run again"
    if not about.f_favail and about.f_files:
        return f"{message}: it has no inode left for another file; delete some files and run again"
    return f"{message}: {free:,} bytes are free; free some and run again"


def _path(directory_fd: int) -> str:
    """Return where an open directory is, for a message."""
    try:
        return str(Path(f"/proc/self/fd/{directory_fd}").readlink())
    except OSError:  # no procfs
        pass
    getpath = getattr(fcntl, "F_GETPATH", None)  # macOS
    if getpath is None:
        return "the destination"
    return os.fsdecode(fcntl.fcntl(directory_fd, getpath, bytes(1024)).rstrip(b"\0"))
