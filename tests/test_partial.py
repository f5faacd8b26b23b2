from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift import partial as partial_room
from sealift.errors import Integrity, LocalStorageError, ObjectError, Permanent, SealiftError
from sealift.model import ByteRange, RemoteObject
from sealift.partial import (
    FEW,
    MOST_AT_ONCE,
    Blocked,
    Kind,
    PartialFile,
    allocate,
    discard,
    of_the_object,
    on_tmpfs,
    partial_name,
    record_all,
    rename_new,
    this_boot,
    translated,
)
from tests.support.smalldisk import small_tmpfs

NAME = "0123456789abcdef0123456789abcdef"
NOON = 1_700_000_000_123_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[int]:
    with small_tmpfs(tmp_path / "small", options="size=1m,nr_inodes=100") as mount:
        descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
        yield descriptor
        os.close(descriptor)


def names_in(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries)


def begun(directory: int, size: int = 10, *, preallocate: bool = False) -> PartialFile:
    return PartialFile.create(directory, NAME, size, preallocate=preallocate)


def an_object(**changed: Any) -> RemoteObject:
    fields: dict[str, Any] = {"bucket": "b", "key": "k", "size": 1, "etag": '"e"', "last_modified_ns": 0}
    return RemoteObject(**(fields | changed))


def test_parts_may_arrive_in_any_order(directory: int, tmp_path: Path) -> None:
    with begun(directory) as partial:
        partial.write(5, b"world")
        partial.write(0, memoryview(b"hello"))
        partial.commit(directory, b"final", NOON, sync=False, path="final")
    assert (tmp_path / "final").read_bytes() == b"helloworld"
    assert (tmp_path / "final").stat().st_mtime_ns == NOON
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_what_is_too_much_for_one_write_arrives_in_several(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        lengths.append(len(data))
        return really(descriptor, data, offset)

    really = os.pwrite
    monkeypatch.setattr(os, "pwrite", pwrite)
    data = os.urandom(2 * MOST_AT_ONCE + 7)
    with begun(directory, len(data) + 3) as partial:
        partial.write(0, b"abc")
        partial.write(3, data)
    assert (tmp_path / NAME).read_bytes() == b"abc" + data
    assert lengths == [3, MOST_AT_ONCE, MOST_AT_ONCE, 7]


def test_a_commit_can_wait_for_the_disk(directory: int, tmp_path: Path) -> None:
    with begun(directory, 2) as partial:
        partial.write(0, b"ab")
        partial.commit(directory, b"final", NOON, sync=True, path="final")
    assert (tmp_path / "final").read_bytes() == b"ab"


def test_permissions_come_from_the_umask(directory: int, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        begun(directory, 0).commit(directory, b"final", NOON, sync=False, path="final")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "final").stat().st_mode) == 0o640


def test_bytes_outside_the_object_are_refused(directory: int) -> None:
    with begun(directory, 10) as partial:
        with pytest.raises(ValueError, match="do not lie in an object of 10"):
            partial.write(6, b"world")
        with pytest.raises(ValueError, match="do not lie in an object of 10"):
            partial.write(-1, b"x")


def test_a_file_that_is_too_short_gets_no_name(directory: int, tmp_path: Path) -> None:
    with begun(directory, 10) as partial:
        partial.write(0, b"hello")
        with pytest.raises(Integrity, match="5 of 10 bytes"):
            partial.commit(directory, b"final", NOON, sync=False, path="final")
    assert not (tmp_path / "final").exists()


def test_a_file_that_was_closed_before_it_was_finished_gets_no_name(directory: int, tmp_path: Path) -> None:
    partial = begun(directory, 10)
    partial.close()
    with pytest.raises(ValueError, match="closed"):
        partial.commit(directory, b"final", NOON, sync=False, path="final")
    assert not (tmp_path / "final").exists()


def test_a_regular_file_is_replaced(directory: int, tmp_path: Path) -> None:
    (tmp_path / "final").write_bytes(b"old and longer")
    with begun(directory, 3) as partial:
        partial.write(0, b"new")
        partial.commit(directory, b"final", NOON, sync=False, path="final")
    assert (tmp_path / "final").read_bytes() == b"new"


def test_nothing_else_is_replaced_and_the_bytes_can_go_elsewhere(directory: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with begun(directory, 3) as partial:
        partial.write(0, b"new")
        kinds = {b"link": Kind.SYMLINK, b"directory": Kind.DIRECTORY, b"fifo": Kind.FIFO}
        for name, kind in kinds.items():
            with pytest.raises(Blocked) as blocked:
                partial.commit(directory, name, NOON, sync=False, path=f"d/{name!r}", depth=2)
            assert (blocked.value.kind, blocked.value.depth) == (kind, 2)
            assert f"a {kind} is in the way at d/" in blocked.value.message
        partial.commit(directory, b"final", NOON, sync=False, path="final")
    assert (tmp_path / "final").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "target").exists()


def test_a_new_file_takes_nothing_over_from_what_was_there(directory: int, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    (tmp_path / NAME).symlink_to(elsewhere)
    with begun(directory, 3) as partial:
        partial.write(0, b"new")
    assert elsewhere.read_bytes() == b"precious"
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).hardlink_to(elsewhere)
    with begun(directory, 3) as partial:
        partial.write(0, b"new")
    assert elsewhere.read_bytes() == b"precious"


def test_preallocated_is_as_long_as_the_object_and_takes_its_blocks(directory: int, tmp_path: Path) -> None:
    if on_tmpfs(directory):
        pytest.skip("the temporary directory is a tmpfs: that blocks are taken elsewhere stays untested")
    with begun(directory, 1 << 20, preallocate=True):
        about = (tmp_path / NAME).stat()
        assert about.st_size == 1 << 20
        assert about.st_blocks * 512 >= 1 << 20


@pytest.mark.parametrize("size", ["1m", "0"], ids=["that is just large enough", "without a limit"])
def test_on_a_tmpfs_pages_are_taken_when_their_bytes_come(tmp_path: Path, size: str) -> None:
    with small_tmpfs(tmp_path / "memory", options=f"size={size}") as mount:
        descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with begun(descriptor, 1 << 20, preallocate=True) as partial:
                about = (mount / NAME).stat()
                assert (about.st_size, about.st_blocks) == (1 << 20, 0)
                partial.write(0, bytes(1 << 20))
        finally:
            os.close(descriptor)


def test_an_empty_object_needs_no_blocks(directory: int, tmp_path: Path) -> None:
    with begun(directory, 0, preallocate=True) as partial:
        partial.commit(directory, b"final", NOON, sync=False, path="final")
    assert (tmp_path / "final").stat().st_size == 0


def test_a_descriptor_that_cannot_be_preallocated_is_no_full_disk() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            allocate(writing, 1)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_full_disk_is_found_before_the_bytes_are(small_disk: int) -> None:
    with pytest.raises(LocalStorageError, match=r"needed and [\d,]+ are free; free [\d,]+ and run") as full:
        begun(small_disk, 2 << 20, preallocate=True)
    assert full.value.code == "DiskFull"
    assert isinstance(full.value.__cause__, OSError)
    assert names_in(small_disk) == []


def test_a_disk_that_fills_up_says_so_and_keeps_what_was_recorded(small_disk: int) -> None:
    with begun(small_disk, 2 << 20) as partial:
        partial.write(0, bytes(512 << 10))
        partial.record([ByteRange(0, 512 << 10)])
        with pytest.raises(LocalStorageError, match="no space left on the disk of"):
            partial.write(512 << 10, bytes(1 << 20))
    resumed = PartialFile.resume(small_disk, NAME, 2 << 20)
    assert resumed is not None
    assert resumed[1] == (ByteRange(0, 512 << 10),)
    resumed[0].close()


def test_a_disk_without_inodes_says_so(small_disk: int) -> None:
    def fill() -> None:
        for number in range(200):
            PartialFile.create(small_disk, f"{number:032x}", 1, preallocate=False).close()

    with pytest.raises(LocalStorageError, match="no inode left"):
        fill()


def test_what_was_recorded_is_there_for_the_next_run(directory: int, tmp_path: Path) -> None:
    with begun(directory, 100) as partial:
        partial.write(20, b"b" * 10)
        partial.write(30, b"c" * 10)
        partial.write(0, b"a" * 5)
        partial.record([ByteRange(30, 40), ByteRange(0, 5), ByteRange(20, 30)])
    resumed = PartialFile.resume(directory, NAME, 100)
    assert resumed is not None
    partial, done = resumed
    assert done == (ByteRange(0, 5), ByteRange(20, 40))
    with partial:
        partial.write(5, bytes(15))
        partial.write(40, bytes(60))
        partial.commit(directory, b"final", NOON, sync=False, path="final")
    assert (tmp_path / "final").read_bytes() == (b"a" * 5 + bytes(15) + b"b" * 10 + b"c" * 10 + bytes(60))
    assert names_in(directory) == ["final"]


def test_the_last_record_counts(directory: int) -> None:
    with begun(directory, 100, preallocate=True) as partial:
        partial.record([ByteRange(0, 5)])
        partial.record([ByteRange(0, 5), ByteRange(5, 50)])
    resumed = PartialFile.resume(directory, NAME, 100)
    assert resumed is not None
    resumed[0].close()
    assert resumed[1] == (ByteRange(0, 50),)


def test_without_a_record_there_is_nothing_to_resume(directory: int) -> None:
    begun(directory, preallocate=True).close()
    assert PartialFile.resume(directory, NAME, 10) is None
    discard(directory, NAME)
    assert PartialFile.resume(directory, NAME, 10) is None


def test_a_record_of_an_earlier_file_is_not_taken_for_one_of_this(directory: int, tmp_path: Path) -> None:
    with begun(directory, preallocate=True) as partial:
        partial.record([ByteRange(0, 10)])
    (tmp_path / NAME).unlink()
    begun(directory, preallocate=True).close()
    assert PartialFile.resume(directory, NAME, 10) is None


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"version": 2, "size": 10, "done": []}',
        b'{"version": 1, "size": 11, "done": []}',
        b'{"version": 1, "size": 10}',
        b'{"version": 1, "size": 10, "done": {"0": 1}}',
        b'{"version": 1, "size": 10, "done": [5]}',
        b'{"version": 1, "size": 10, "done": [[0, 5, 6]]}',
        b'{"version": 1, "size": 10, "done": [[0, 5.0]]}',
        b'{"version": 1, "size": 10, "done": [[false, true]]}',
        b'{"version": 1, "size": 10, "done": [[-1, 5]]}',
        b'{"version": 1, "size": 10, "done": [[5, 5]]}',
        b'{"version": 1, "size": 10, "done": [[0, 11]]}',
        b'{"version": 1, "size": 10, "done": [[0, 6], [5, 7]]}',
        b'{"version": 1, "size": 10, "done": [[6, 7], [0, 5]]}',
    ],
)
def test_a_damaged_note_means_starting_over(directory: int, tmp_path: Path, note: bytes) -> None:
    begun(directory, preallocate=True).close()
    (tmp_path / f"{NAME}.json").write_bytes(note)
    assert PartialFile.resume(directory, NAME, 10) is None


def test_a_file_of_the_wrong_length_means_starting_over(directory: int, tmp_path: Path) -> None:
    with begun(directory) as partial:
        partial.write(0, b"hello")
        partial.record([ByteRange(0, 5)])
    for length in (4, 11):
        os.truncate(tmp_path / NAME, length)
        assert PartialFile.resume(directory, NAME, 10) is None
    os.truncate(tmp_path / NAME, 10)
    resumed = PartialFile.resume(directory, NAME, 10)
    assert resumed is not None
    resumed[0].close()


@pytest.mark.parametrize(
    ("ending", "trap"),
    [(ending, trap) for ending in ("", ".json") for trap in ("symlink", "fifo", "directory")] + [("", "hard link")],
)
def test_only_files_of_our_own_are_resumed(directory: int, tmp_path: Path, trap: str, ending: str) -> None:
    with begun(directory, preallocate=True) as partial:
        partial.record([ByteRange(0, 10)])
    real = tmp_path / f"{NAME}{ending}"
    moved = real.rename(tmp_path / "moved")
    if trap == "symlink":
        real.symlink_to(moved)
    elif trap == "fifo":
        os.mkfifo(real)
    elif trap == "directory":
        real.mkdir()
    else:
        real.hardlink_to(moved)
    assert PartialFile.resume(directory, NAME, 10) is None


def test_recording_from_several_threads_leaves_one_whole_note(directory: int, tmp_path: Path) -> None:
    with begun(directory, 1000, preallocate=True) as partial:

        def fill(number: int) -> None:
            partial.write(number * 100, bytes([number]) * 100)
            partial.record([ByteRange(number * 100, number * 100 + 100)])

        threads = [threading.Thread(target=fill, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    note = json.loads((tmp_path / f"{NAME}.json").read_bytes())
    assert len(note["done"]) == 1
    assert names_in(directory) == [NAME, f"{NAME}.json"]


@pytest.mark.parametrize("files", [1, FEW, FEW + 1])
def test_several_files_are_recorded_behind_barriers_that_they_share(
    directory: int, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """The bytes are on the disk before any note is written, and the notes before any of them counts."""
    seen: list[tuple[str, int, int]] = []

    def watch(room: Any, name: str) -> None:
        real = getattr(room, name)

        def watched(descriptor: int) -> None:
            names = names_in(directory)
            new, put = (sum(name.endswith(ending) for name in names) for ending in (".json.new", ".json"))
            seen.append((name, new, put))
            real(descriptor)

        monkeypatch.setattr(room, name, watched)

    watch(os, "fsync")
    watch(partial_room, "_sync")
    watch(partial_room, "sync_file_system")
    names = [f"{number:032x}" for number in range(files)]
    begun = [PartialFile.create(directory, name, 10, preallocate=True) for name in names]
    for partial in begun:
        partial.write(0, b"hello")
    record_all([(partial, [ByteRange(0, 5)]) for partial in begun])
    if files <= FEW:
        expected = [("_sync", 0, 0)] * files + [("_sync", number + 1, 0) for number in range(files)]
    else:
        expected = [("sync_file_system", 0, 0), ("sync_file_system", files, 0)]
    assert seen == [*expected, ("fsync", 0, files)]
    for partial in begun:
        partial.close()
        resumed = PartialFile.resume(directory, partial.name, 10)
        assert resumed is not None
        resumed[0].close()
        assert resumed[1] == (ByteRange(0, 5),)


def test_a_note_that_was_not_synced_holds_until_the_system_is_booted_again(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, name in ((os, "fsync"), (partial_room, "_sync"), (partial_room, "sync_file_system")):
        monkeypatch.setattr(room, name, lambda _: pytest.fail("synced"))
    monkeypatch.setattr(partial_room, "this_boot", lambda: "one")
    with begun(directory, preallocate=True) as partial:
        record_all([(partial, [ByteRange(0, 5)])], sync=False)
    resumed = PartialFile.resume(directory, NAME, 10)
    assert resumed is not None
    resumed[0].close()
    assert resumed[1] == (ByteRange(0, 5),)
    monkeypatch.setattr(partial_room, "this_boot", lambda: "another")
    assert PartialFile.resume(directory, NAME, 10) is None


def test_where_boots_cannot_be_told_apart_every_note_is_synced(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_room, "this_boot", lambda: "")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with begun(directory, preallocate=True) as partial:
        record_all([(partial, [])], sync=False)
    assert synced == [directory]
    assert PartialFile.resume(directory, NAME, 10) is not None


def test_a_boot_is_told_from_another() -> None:
    assert this_boot() == this_boot()
    assert bool(this_boot()) == Path("/proc/sys/kernel/random/boot_id").exists()


def test_of_nothing_nothing_is_recorded() -> None:
    record_all([])


def test_a_note_outlives_the_rename(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends in between has the file either in its place, or with the note of what is in it."""
    partial = begun(directory, 2)
    partial.write(0, b"ab")
    partial.record([ByteRange(0, 2)])
    seen: list[list[str]] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        seen.append(names_in(directory))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    partial.commit(directory, b"final", NOON, sync=True, path="final")
    assert seen == [[NAME, f"{NAME}.json"], [f"{NAME}.json", "final"]]
    assert names_in(directory) == ["final"]


def test_a_note_that_a_killed_run_was_writing_is_gone_when_the_file_has_its_name(
    directory: int, tmp_path: Path
) -> None:
    with begun(directory) as partial:
        partial.write(0, b"helloworld")
        partial.record([ByteRange(0, 10)])
    (tmp_path / f"{NAME}.json.new").write_bytes(b"{")
    resumed = PartialFile.resume(directory, NAME, 10)
    assert resumed is not None
    resumed[0].commit(directory, b"final", NOON, sync=True, path="final")
    assert names_in(directory) == ["final"]


@pytest.mark.parametrize("way", ["begun anew", "discarded"])
def test_a_note_is_gone_from_the_disk_before_its_name_is_used_again(
    directory: int, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with begun(directory) as partial:
        partial.record([])
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(names_in(directory)))
    if way == "discarded":
        discard(directory, NAME)
    else:
        begun(directory, preallocate=True).close()
    assert seen == [[NAME]]


def test_discarding_leaves_nothing(directory: int) -> None:
    partial = begun(directory)
    partial.record([])
    partial.discard()
    partial.discard()
    assert names_in(directory) == []


def test_another_version_has_another_partial_file() -> None:
    names = {
        partial_name(obj)
        for obj in (
            an_object(),
            an_object(bucket="bk", key=""),
            an_object(bucket="", key="bk"),
            an_object(etag='"f"'),
            an_object(version_id="1"),
            an_object(size=11),
            an_object(key="k\udcff"),
        )
    }
    assert len(names) == 7
    assert len(set(map(of_the_object, names))) == 4, "those of one object are told apart from all others"
    assert partial_name(an_object()) == partial_name(an_object(last_modified_ns=5))
    assert all(len(name) == 32 for name in names)


@pytest.mark.parametrize("without", ["renameat2", "renameat2 and hard links"])
def test_a_rename_never_replaces_anything_on_any_file_system(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    monkeypatch.setattr("sealift.partial._renameat2", None)
    if without == "renameat2 and hard links":

        def refuse(*_arguments: object, **_options: object) -> None:
            raise PermissionError(errno.EPERM, "no hard links here")  # as vfat answers

        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "link").symlink_to("nowhere")
    for target in (b"old", b"link"):
        with pytest.raises(FileExistsError):
            rename_new(directory, b"new", directory, target)
    rename_new(directory, b"new", directory, b"moved")
    assert names_in(directory) == ["link", "moved", "old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("number", "kind", "code", "says"),
    [
        (errno.ENOSPC, LocalStorageError, "DiskFull", "free some and run again"),
        (errno.EDQUOT, LocalStorageError, "QuotaExceeded", "quota"),
        (errno.EROFS, LocalStorageError, "ReadOnlyFileSystem", "mount it for writing"),
        (errno.EACCES, LocalStorageError, "NotWritable", "permission denied"),
        (errno.EPERM, LocalStorageError, "NotWritable", "not permitted"),
        (errno.EIO, LocalStorageError, "DiskError", "system log"),
        (errno.EMFILE, LocalStorageError, "TooManyOpenFiles", "ulimit -n"),
        (errno.ENFILE, LocalStorageError, "TooManyOpenFiles", "file-max"),
        (errno.ESTALE, LocalStorageError, "ESTALE", "Stale file handle"),
        (errno.ENAMETOOLONG, Permanent, "NameTooLong", "name this long"),
        (errno.ELOOP, Permanent, "PathBlocked", "symbolic link"),
        (errno.ENOTDIR, Permanent, "PathBlocked", "a directory is needed"),
        (errno.EISDIR, Permanent, "PathBlocked", "a directory stands"),
        (errno.EFBIG, Permanent, "FileTooLarge", "this large"),
        (errno.EXDEV, Permanent, "OtherFileSystem", "another file system"),
    ],
)
def test_what_the_system_says_is_translated(
    number: int, kind: type[SealiftError], code: str, says: str, tmp_path: Path
) -> None:
    failure = translated(OSError(number, os.strerror(number)), str(tmp_path / "there"))
    assert isinstance(failure, kind)
    assert isinstance(failure, ObjectError) == (kind is Permanent)
    assert failure.code == code
    assert says in failure.message
    assert str(tmp_path / "there") in failure.message
