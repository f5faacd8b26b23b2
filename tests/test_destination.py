from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.destination import BlockedBy, Destination, Directory, File, Missing, Other, same_time
from sealift.errors import LocalStorageError, Permanent, RunError, SealiftError
from sealift.localpath import LocalPath, ancestor_key, beside_directory, local_path
from sealift.model import ByteRange
from sealift.partial import Blocked, Kind, PartialFile
from tests.support.smalldisk import small_tmpfs

SECOND = 1_000_000_000
NOON = 1_700_000_000 * SECOND + 123_000_000


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "dest"


@pytest.fixture
def destination(dest: Path) -> Iterator[Destination]:
    with Destination.open(dest, create=True) as opened:
        yield opened


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    with small_tmpfs(tmp_path / "mount", options="size=1m") as path:
        yield path


def put(destination: Destination, key: str, body: bytes = b"x", *, at: LocalPath | None = None) -> None:
    """Write one object as the pipeline does; `at` instead of the key's own path."""
    name = f"{threading.get_ident():032x}"
    with PartialFile.create(destination.partial_fd, name, len(body), preallocate=False) as partial:
        partial.write(0, body)
        try:
            destination.place(partial, at or local_path(key, 1), NOON)
        except RunError:
            raise
        except Permanent:
            partial.discard()
            raise


def tree(path: Path) -> dict[str, bytes | None]:
    """Everything below, without .sealift; None for a directory. Symbolic links as what they say."""
    found: dict[str, bytes | None] = {}
    for child in path.rglob("*"):
        name = str(child.relative_to(path))
        if name == ".sealift" or name.startswith(".sealift/"):
            continue
        if child.is_symlink():
            found[name] = b"-> " + os.fsencode(child.readlink())
        else:
            found[name] = child.read_bytes() if child.is_file() else None
    return found


# ── DEST ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_destination_is_made_with_its_parents(tmp_path: Path) -> None:
    with Destination.open(tmp_path / "a" / "b", create=True) as destination:
        put(destination, "x/y", b"body")
    assert tree(tmp_path / "a" / "b") == {"x": None, "x/y": b"body"}
    assert (tmp_path / "a" / "b" / "x" / "y").stat().st_mtime_ns == NOON


def test_a_destination_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Destination.open(tmp_path / "link", create=True) as destination:
        put(destination, "x", b"body")
    assert tree(tmp_path / "real") == {"x": b"body"}


@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_no_destination(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(LocalStorageError, match="choose another destination") as failure:
            Destination.open(path, create=create)
        assert failure.value.exit_status == 4
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_dangling_link_is_no_destination(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(LocalStorageError, match="choose another destination"):
        Destination.open(tmp_path / "link", create=True)


@pytest.mark.parametrize("name", [".sealift", ".sealift/partial", ".sealift/lock"])
def test_a_link_in_place_of_our_own_files_is_not_followed(tmp_path: Path, dest: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (dest / name).parent.mkdir(parents=True)
    (dest / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalStorageError, match="something else is there"):
        lock_and_close(dest)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def lock_and_close(dest: Path) -> None:
    with Destination.open(dest, create=True) as destination:
        destination.lock()


def test_a_fifo_in_place_of_the_lock_holds_nobody_up(dest: Path) -> None:
    (dest / ".sealift").mkdir(parents=True)
    os.mkfifo(dest / ".sealift" / "lock")
    with pytest.raises(LocalStorageError, match="not a regular file"):
        lock_and_close(dest)


def test_a_dry_run_writes_nothing(tmp_path: Path, dest: Path) -> None:
    with Destination.open(dest, create=False) as destination:
        assert destination.facts(local_path("a/b", 1)) == Missing()
        assert destination.partials() == frozenset()
        with pytest.raises(ValueError, match="not opened for writing"):
            destination.lock()
    assert list(tmp_path.iterdir()) == []
    dest.mkdir()
    (dest / "a").write_bytes(b"123")
    os.utime(dest / "a", ns=(NOON, NOON))
    with Destination.open(dest, create=False) as destination:
        assert destination.facts(local_path("a", 1)) == File(3, NOON)
        assert destination.facts(local_path("b", 1)) == Missing()
    assert list(dest.iterdir()) == [dest / "a"]


def test_a_read_only_file_system_is_named(mount: Path) -> None:
    with Destination.open(mount, create=True) as destination:
        put(destination, "a", b"1")
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
    with pytest.raises(LocalStorageError, match="read-only; mount it for writing"):
        Destination.open(mount, create=True)
    with pytest.raises(LocalStorageError, match="read-only; mount it for writing"):
        Destination.open(mount / "new", create=True)
    with Destination.open(mount, create=False) as destination:
        assert isinstance(destination.facts(local_path("a", 1)), File)


def test_a_file_system_that_turns_read_only_ends_the_run_and_loses_nothing(mount: Path) -> None:
    with Destination.open(mount, create=True) as destination:
        put(destination, "a", b"old")
        name = "0" * 32
        with PartialFile.create(destination.partial_fd, name, 3, preallocate=True) as partial:
            partial.write(0, b"new")
            partial.close()
            subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
            with pytest.raises(LocalStorageError, match="read-only"):
                put(destination, "b", b"2")
            with pytest.raises(LocalStorageError, match="read-only"):
                destination.make_directory((b"c",))
    assert tree(mount) == {"a": b"old"}


def test_a_full_disk_ends_the_run_and_loses_nothing(mount: Path) -> None:
    with Destination.open(mount, create=True) as destination:
        put(destination, "a", b"old")
        with pytest.raises(LocalStorageError, match="no space left on the disk of"):
            put(destination, "a", bytes(2 << 20))
        assert tree(mount) == {"a": b"old"}
        destination.abandon(destination.partials())
        put(destination, "a", b"new")
    assert tree(mount) == {"a": b"new"}


def test_another_file_system_inside_the_destination_fails_only_what_goes_there(tmp_path: Path, mount: Path) -> None:
    with Destination.open(tmp_path, create=True) as destination:
        put(destination, "a")
        with pytest.raises(Permanent, match="another file system") as failure:
            put(destination, "mount/b")
        assert failure.value.code == "OtherFileSystem"
    assert list(mount.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_destination_of_somebody_else_is_refused(dest: Path) -> None:
    dest.mkdir(mode=0o755)
    for above in (dest, *dest.parents):
        above.chmod(above.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    # Threads share the effective user of the C library's seteuid, so a process of its own asks.
    code = (
        "import os, sys; from pathlib import Path; from sealift.destination import Destination\n"
        "from sealift.errors import LocalStorageError\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "for path in (Path(sys.argv[1]), Path(sys.argv[1]) / 'below'):\n"
        "    try: Destination.open(path, create=True)\n"
        "    except LocalStorageError as failure: print(failure.code, failure)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(dest)], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        f"NotWritable {path}: permission denied; let the user of this run write there"
        for path in (dest, dest / "below")
    ]


def test_everything_is_closed_at_the_end(dest: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  (no path is wanted)
    destination = Destination.open(dest, create=True)
    destination.lock()
    for number in range(200):
        put(destination, f"{number}/{number}/x")
    destination.close()
    destination.close()
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    with pytest.raises(ValueError, match="closed"):
        destination.facts(local_path("1/1/x", 1))
    with pytest.raises(ValueError, match="closed"):
        put(destination, "x")


# ── The lock ──────────────────────────────────────────────────────────────────────────────────────

LOCKED_UNTIL_INPUT_ENDS = (
    "import sys; from pathlib import Path; from sealift.destination import Destination\n"
    "destination = Destination.open(Path(sys.argv[1]), create=True); destination.lock()\n"
    "print('locked', flush=True); sys.stdin.read()\n"
)


def test_a_second_run_is_refused_by_name_until_the_first_is_killed(dest: Path) -> None:
    command = [sys.executable, "-c", LOCKED_UNTIL_INPUT_ENDS, str(dest)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        try:
            assert first.stdout.readline() == b"locked\n"
            with Destination.open(dest, create=True) as second:
                says = f"process {first.pid} on {socket.gethostname()}, started 20"
                with pytest.raises(LocalStorageError, match=says) as refused:
                    second.lock()
                assert refused.value.code == "DestinationLocked"
                os.kill(first.pid, signal.SIGKILL)
                first.wait()
                second.lock()
        finally:
            first.kill()
    assert (dest / ".sealift" / "lock").exists()


def test_two_runs_in_one_process_exclude_each_other(dest: Path, destination: Destination) -> None:
    destination.lock()
    destination.lock()
    with pytest.raises(LocalStorageError, match=f"process {os.getpid()} on"):
        lock_and_close(dest)
    destination.close()
    lock_and_close(dest)


def test_a_child_does_not_keep_the_lock(dest: Path, destination: Destination) -> None:
    destination.lock()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        close_fds=False,
    ):
        destination.close()
        lock_and_close(dest)


def test_a_lock_file_that_says_nothing_is_a_lock_all_the_same(dest: Path, destination: Destination) -> None:
    destination.lock()
    (dest / ".sealift" / "lock").write_bytes(b"[1]")
    with pytest.raises(LocalStorageError, match="which has not said who it is"):
        lock_and_close(dest)


# ── Facts ─────────────────────────────────────────────────────────────────────────────────────────


def test_facts_are_what_is_there(dest: Path, destination: Destination) -> None:
    put(destination, "d/file", b"123")
    (dest / "link").symlink_to("d")
    (dest / "d" / "link").symlink_to("file")
    os.mkfifo(dest / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        here = Path.cwd()
        os.chdir(dest)  # the address of a socket has room for 107 bytes
        try:
            unix.bind("socket")
        finally:
            os.chdir(here)

    expected = {
        "d/file": File(3, NOON),
        "d": Directory(),
        "d/missing": Missing(),
        "missing/below": Missing(),
        "link": Other(Kind.SYMLINK),
        "d/link": Other(Kind.SYMLINK),
        "fifo": Other(Kind.FIFO),
        "socket": Other(Kind.SOCKET),
        "d/file/below/it": BlockedBy(2, Kind.FILE),
        "link/file": BlockedBy(1, Kind.SYMLINK),
        "fifo/x": BlockedBy(1, Kind.FIFO),
    }
    assert {key: destination.facts(local_path(key, 1)) for key in expected} == expected
    assert destination.facts(local_path("", 0)) == Directory()


@pytest.mark.parametrize(
    ("mtime_ns", "modified_ns", "same"),
    [
        (NOON, NOON, True),
        (NOON, NOON + 1_000_000, False),
        (NOON // SECOND * SECOND, NOON, True),
        (NOON, NOON // SECOND * SECOND, True),
        (NOON // SECOND * SECOND, NOON + SECOND, False),
        (NOON + SECOND, NOON, False),
    ],
)
def test_times_are_the_same_to_the_precision_that_both_have(mtime_ns: int, modified_ns: int, same: bool) -> None:
    assert same_time(mtime_ns, modified_ns) == same


# ── Placing ───────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_replaced_in_one_step(dest: Path, destination: Destination) -> None:
    put(destination, "a", b"old")
    with (dest / "a").open("rb") as reader:
        put(destination, "a", b"new")
        assert reader.read() == b"old"
    assert tree(dest) == {"a": b"new"}
    assert destination.partials() == frozenset()


def test_placing_can_wait_for_the_disk(dest: Path, destination: Destination) -> None:
    with PartialFile.create(destination.partial_fd, "0" * 32, 1, preallocate=False) as partial:
        partial.write(0, b"x")
        destination.place(partial, local_path("a/b/c", 1), NOON, sync=True)
    assert destination.make_directory((b"a", b"d"), sync=True)
    assert tree(dest) == {"a": None, "a/b": None, "a/b/c": b"x", "a/d": None}


def place_all(
    destination: Destination, directory: str, *names: str, lost: Sequence[str] = ()
) -> Sequence[SealiftError | None]:
    """Place a file of each of these names; the partial files of those that are `lost` somebody has deleted."""
    with ExitStack() as opened:
        files = []
        for number, name in enumerate(names):
            partial = PartialFile.create(destination.partial_fd, f"{number:032}", 3, preallocate=False)
            opened.enter_context(partial).write(0, b"new")
            if name in lost:
                os.unlink(partial.name, dir_fd=destination.partial_fd)
            files.append((partial, name.encode(), NOON))
        return destination.place_all(local_path(directory, 1).segments if directory else (), files)


@pytest.mark.parametrize("directory", ["", "d", "d/e"])
def test_files_of_a_directory_are_placed_together(dest: Path, destination: Destination, directory: str) -> None:
    put(destination, "d/b", b"old")
    assert place_all(destination, directory, "a", "b", "c") == [None] * 3
    found = {path: body for path, body in tree(dest).items() if body is not None}
    below = f"{directory}/" if directory else ""
    assert found == {"d/b": b"old"} | dict.fromkeys((below + name for name in "abc"), b"new")
    assert (dest / below / "b").stat().st_mtime_ns == NOON
    assert destination.partials() == frozenset()


def test_what_stands_in_the_way_of_one_file_of_a_directory_is_named(dest: Path, destination: Destination) -> None:
    (dest / "d" / "b").mkdir(parents=True)
    (dest / "d" / "c").symlink_to("a")
    first, second, third, fourth = place_all(destination, "d", "a", "b", "c", "d")
    assert first is fourth is None
    assert [(type(error), str(error)) for error in (second, third)] == [
        (Blocked, str(Blocked("d/b", depth=2, kind=Kind.DIRECTORY))),
        (Blocked, str(Blocked("d/c", depth=2, kind=Kind.SYMLINK))),
    ]
    assert destination.partials() == {f"{1:032}", f"{2:032}"}, "they can be placed elsewhere"


def test_what_stands_in_the_way_of_a_directory_is_told_of_each_of_its_files(
    dest: Path, destination: Destination
) -> None:
    put(destination, "d", b"file")
    errors = place_all(destination, "d/e", "a", "b")
    assert [(error.path, error.depth, error.kind) for error in errors if isinstance(error, Blocked)] == [
        ("d", 1, Kind.FILE)
    ] * 2
    assert tree(dest) == {"d": b"file"}


def test_files_of_a_directory_that_was_deleted_meanwhile_are_placed_in_a_new_one(
    dest: Path, destination: Destination
) -> None:
    put(destination, "d/e/old")
    shutil.rmtree(dest / "d")
    assert place_all(destination, "d/e", "a", "b") == [None, None]
    assert tree(dest) == {"d": None, "d/e": None, "d/e/a": b"new", "d/e/b": b"new"}


def test_a_partial_file_that_somebody_has_deleted_fails_alone(dest: Path, destination: Destination) -> None:
    first, second = place_all(destination, "d", "a", "b", lost=["a"])
    assert isinstance(first, LocalStorageError)
    assert second is None
    assert tree(dest) == {"d": None, "d/b": b"new"}


@pytest.mark.parametrize("target", ["outside", "dest", "nowhere", "/"])
def test_links_in_the_destination_are_neither_followed_nor_replaced(
    tmp_path: Path, dest: Path, destination: Destination, target: str
) -> None:
    (tmp_path / "outside").mkdir()
    (dest / "d").mkdir()
    for name in ("link", "d/link"):
        (dest / name).symlink_to(tmp_path / target)
    before = tree(dest)
    for key, depth in {"link": 1, "link/x": 1, "d/link": 2, "d/link/x/y": 2}.items():
        with pytest.raises(Blocked) as blocked:
            put(destination, key)
        assert (blocked.value.kind, blocked.value.depth) == (Kind.SYMLINK, depth)
        assert blocked.value.path == "/".join(key.split("/")[:depth])
        with pytest.raises(Blocked):
            destination.make_directory(local_path(key + "/", 0).segments)
        with pytest.raises(Blocked):
            destination.remove_file(local_path(key, 1))
    with pytest.raises(Blocked):
        destination.move_beside(local_path("link", 1))
    assert tree(dest) == before
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_directory_in_the_way_loses_nothing(dest: Path, destination: Destination) -> None:
    put(destination, "a/b", b"kept")
    with PartialFile.create(destination.partial_fd, "0" * 32, 1, preallocate=False) as partial:
        partial.write(0, b"x")
        path = local_path("a", 1)
        with pytest.raises(Blocked) as blocked:
            destination.place(partial, path, NOON)
        assert blocked.value.kind is Kind.DIRECTORY
        destination.place(partial, beside_directory(path), NOON)
    assert tree(dest) == {"a": None, "a/b": b"kept", "a%file": b"x"}


def test_a_file_in_the_way_is_moved_beside_and_back(dest: Path, destination: Destination) -> None:
    put(destination, "a", b"file")
    with pytest.raises(Blocked) as blocked:
        put(destination, "a/b/c", b"below")
    assert (blocked.value.kind, blocked.value.depth) == (Kind.FILE, 1)
    path = local_path("a", 1)
    assert destination.move_beside(path)
    assert not destination.move_beside(path)
    put(destination, "a/b/c", b"below")
    assert not destination.move_beside(path)
    assert tree(dest) == {"a": None, "a/b": None, "a/b/c": b"below", "a%file": b"file"}
    with pytest.raises(Blocked, match="a directory is in the way at a;"):
        destination.move_back(path)
    assert destination.remove_file(local_path("a/b/c", 1))
    (dest / "a" / "b").rmdir()
    (dest / "a").rmdir()
    assert destination.move_back(path)
    assert not destination.move_back(path)
    assert tree(dest) == {"a": b"file"}


def test_moving_beside_overwrites_nothing(dest: Path, destination: Destination) -> None:
    put(destination, "a", b"file")
    put(destination, "", b"other", at=beside_directory(local_path("a", 1)))
    with pytest.raises(Blocked, match="a file is in the way at a%file"):
        destination.move_beside(local_path("a", 1))
    assert tree(dest) == {"a": b"file", "a%file": b"other"}


def test_only_files_are_removed(destination: Destination) -> None:
    put(destination, "d/a")
    assert destination.remove_file(local_path("d/a", 1))
    assert not destination.remove_file(local_path("d/a", 1))
    assert not destination.remove_file(local_path("missing/a", 1))
    with pytest.raises(Blocked, match="a directory is in the way at d;"):
        destination.remove_file(local_path("d", 1))
    with pytest.raises(ValueError, match="not a file"):
        destination.remove_file(local_path("d/", 0))


def test_only_empty_directories_are_removed(dest: Path, destination: Destination) -> None:
    put(destination, "d/e/a")
    put(destination, "f")
    (dest / "link").symlink_to(dest / "d")
    for segments in [(b"d",), (b"d", b"e"), (b"f",), (b"link",), (b"link", b"e"), (b"f", b"x"), (b"missing", b"x")]:
        assert not destination.remove_directory(segments)
    assert tree(dest).keys() == {"d", "d/e", "d/e/a", "f", "link"}
    assert destination.remove_file(local_path("d/e/a", 1))
    assert destination.remove_directory((b"d", b"e"))
    assert destination.remove_directory((b"d",))
    assert not destination.remove_directory((b"d",))
    put(destination, "d/e/a")
    assert "d/e/a" in tree(dest)


def test_a_directory_is_new_once(destination: Destination) -> None:
    assert destination.make_directory((b"a", b"b"))
    assert not destination.make_directory((b"a", b"b"))
    assert not destination.make_directory(())
    put(destination, "f")
    with pytest.raises(Blocked) as blocked:
        destination.make_directory((b"f",))
    assert (blocked.value.kind, blocked.value.depth) == (Kind.FILE, 1)


def test_a_path_may_be_longer_than_the_system_allows_in_one_call(dest: Path, destination: Destination) -> None:
    key = "/" * 1023 + "x"  # the longest key, in the deepest tree that it can ask for
    path = local_path(key, 1)
    assert len(path.text) > 7000
    put(destination, key, b"deep")
    assert destination.facts(path) == File(4, NOON)
    assert destination.remove_file(path)
    subprocess.run(["rm", "-rf", str(dest)], check=True)


def test_a_name_that_the_file_system_does_not_take_fails_only_its_object(destination: Destination) -> None:
    with pytest.raises(Permanent, match="does not take a name this long") as failure:
        put(destination, "", at=LocalPath((b"x" * 256,), False, False))
    assert failure.value.code == "NameTooLong"
    assert isinstance(failure.value.__cause__, OSError)


# ── Directories that are kept open ────────────────────────────────────────────────────────────────


def test_a_destination_is_vacant_as_long_as_nothing_but_sealifts_own_is_in_it(dest: Path) -> None:
    with Destination.open(dest, create=False) as nowhere:
        assert nowhere.is_vacant()
    with Destination.open(dest, create=True) as destination:
        assert destination.is_vacant()
        (dest / "link").symlink_to("nowhere")
        assert not destination.is_vacant()
        (dest / "link").rename(dest / ".sealift" / "link")
        assert destination.is_vacant()
        put(destination, "d/a")
        assert not destination.is_vacant()


def test_a_directory_that_was_deleted_meanwhile_is_made_again(dest: Path, destination: Destination) -> None:
    put(destination, "a/b/x", b"1")
    subprocess.run(["rm", "-r", str(dest / "a")], check=True)
    assert destination.facts(local_path("a/b/x", 1)) == Missing()
    put(destination, "a/b/x", b"2")
    subprocess.run(["rm", "-r", str(dest / "a")], check=True)
    put(destination, "a/b/y", b"3")
    subprocess.run(["rm", "-r", str(dest / "a")], check=True)
    assert destination.make_directory((b"a", b"b", b"c"))
    assert tree(dest) == {"a": None, "a/b": None, "a/b/c": None}


def test_a_directory_that_was_replaced_meanwhile_is_entered_again(
    tmp_path: Path, dest: Path, destination: Destination
) -> None:
    put(destination, "a/b/x", b"1")
    subprocess.run(["rm", "-r", str(dest / "a" / "b")], check=True)
    (dest / "a" / "b").mkdir()
    (dest / "a" / "b" / "x").write_bytes(b"theirs")
    facts = destination.facts(local_path("a/b/x", 1))
    assert isinstance(facts, File)
    assert facts.size == 6
    subprocess.run(["rm", "-r", str(dest / "a" / "b")], check=True)
    (dest / "a" / "b").symlink_to(tmp_path)
    with pytest.raises(Blocked):
        put(destination, "a/b/y")
    assert destination.facts(local_path("a/b/x", 1)) == BlockedBy(2, Kind.SYMLINK)
    assert not (tmp_path / "y").exists()


def test_a_destination_that_was_deleted_ends_the_run(dest: Path, destination: Destination) -> None:
    subprocess.run(["rm", "-r", str(dest)], check=True)
    assert destination.facts(local_path("a", 1)) == Missing()
    with pytest.raises(LocalStorageError, match="deleted by somebody else"):
        destination.make_directory((b"a",))
    with pytest.raises(LocalStorageError):
        put(destination, "a")


def test_many_threads_may_use_more_directories_than_are_kept_open(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealift.destination._KEPT_OPEN", 5)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # as many changes of thread in the middle of something as can be had
    try:
        with Destination.open(dest, create=True) as destination:

            def work(thread: int) -> None:
                for number in range(150):
                    # The file says where it belongs: a descriptor that was closed under another
                    # thread, and given away again, would put it elsewhere or fail.
                    key = f"d{(number * 7 + thread) % 23}/e{number % 3}/{thread}-{number}"
                    put(destination, key, key.encode())
                    assert isinstance(destination.facts(local_path(key, 1)), File)
                    assert destination.facts(local_path(key + "-not", 1)) == Missing()

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(interval)
    files = {name: body for name, body in tree(dest).items() if body is not None}
    assert len(files) == 8 * 150
    assert all(name.encode() == body for name, body in files.items())
    assert sorted(os.listdir("/proc/self/fd")) == sorted(before)  # noqa: PTH208


def test_threads_and_a_deleter_never_leave_a_file_outside(tmp_path: Path, dest: Path, destination: Destination) -> None:
    """Directories vanish all the time: every file is either placed or the run says why not."""
    stop = threading.Event()

    def delete() -> None:
        while not stop.is_set():
            subprocess.run(["rm", "-rf", str(dest / "a")], stderr=subprocess.DEVNULL)

    def work(thread: int) -> int:
        placed = 0
        for number in range(100):
            try:
                put(destination, f"a/{number % 3}/{thread}-{number}")
                placed += 1
            except LocalStorageError as error:
                assert error.code == "Vanished"  # noqa: PT017  (either is right)
        return placed

    deleter = threading.Thread(target=delete)
    deleter.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(work, range(4))) > 0
    finally:
        stop.set()
        deleter.join()
    assert list(tmp_path.iterdir()) == [dest]


# ── Files in flight ───────────────────────────────────────────────────────────────────────────────


def test_leftovers_are_listed_and_abandoned(dest: Path, destination: Destination) -> None:
    kept, gone, noted = ("0" * 32, "1" * 32, "2" * 32)
    for name in (kept, gone, noted):
        with PartialFile.create(destination.partial_fd, name, 9, preallocate=True) as partial:
            partial.record([ByteRange(0, 4)])
    partial_directory = dest / ".sealift" / "partial"
    (partial_directory / noted).unlink()
    (partial_directory / f"{gone}.json.new").write_bytes(b"{")
    (partial_directory / "README").write_bytes(b"not ours")
    assert destination.partials() == {kept, gone, noted}
    destination.abandon(destination.partials() - {kept})
    assert destination.partials() == {kept}
    assert sorted(path.name for path in partial_directory.iterdir()) == [
        kept,
        f"{kept}.json",
        "README",
    ]


# ── Any set of keys, in any order, gives one tree ─────────────────────────────────────────────────

pieces = st.sampled_from(["a", "b", "/", "//", ".", "..", "%file", "%empty", "%literal", ".sealift", "\0"])
listings = st.dictionaries(st.lists(pieces, min_size=1, max_size=5).map("".join), st.integers(0, 1), max_size=7)


def arrive(destination: Destination, objects: dict[str, int], key: str) -> None:
    """Bring one object to its place, by the rule that the pipeline follows."""
    path = local_path(key, objects[key])
    while True:
        try:
            if path.directory:
                destination.make_directory(path.segments)
            else:
                put(destination, key, key.encode() if objects[key] else b"", at=path)
        except Blocked as blocked:
            if blocked.kind is Kind.DIRECTORY:
                path = beside_directory(path)
            else:
                ancestor = ancestor_key(key, blocked.depth)
                if blocked.kind is not Kind.FILE or ancestor not in objects:
                    raise  # nothing of that kind is ever there
                destination.move_beside(local_path(ancestor, 1))
        else:
            return


def expected_tree(objects: dict[str, int]) -> dict[str, bytes | None]:
    """The same from the set alone: directories first, then every file where there is room."""
    paths = {key: local_path(key, size) for key, size in objects.items()}
    directories = {
        path.segments[:depth] for path in paths.values() for depth in range(1, len(path.segments) + path.directory)
    }
    found: dict[str, bytes | None] = {LocalPath(segments, False, True).text: None for segments in directories}
    for key, path in paths.items():
        if not path.directory:
            place = beside_directory(path) if path.segments in directories else path
            assert place.text not in found
            found[place.text] = key.encode() if objects[key] else b""
    return found


@settings(max_examples=150, deadline=None)
@given(listings, st.randoms(use_true_random=False))
def test_the_tree_depends_only_on_the_set_of_keys(objects: dict[str, int], random: Random) -> None:
    order = list(objects)
    random.shuffle(order)
    with tempfile.TemporaryDirectory() as directory:
        with Destination.open(Path(directory), create=True) as destination:
            for key in order:
                arrive(destination, objects, key)
            for key in order:  # and a second run changes nothing
                arrive(destination, objects, key)
        assert tree(Path(directory)) == expected_tree(objects)


def test_threads_that_bring_a_and_what_lies_below_it_agree(dest: Path) -> None:
    objects = {"a": 1, **{f"a/b{number % 4}/c{number}": 1 for number in range(40)}}
    objects |= {f"a/b{number}": 1 for number in range(4)}
    for _ in range(20):
        with Destination.open(dest, create=True) as destination, ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda key: arrive(destination, objects, key), objects))
        assert tree(dest) == expected_tree(objects)
        subprocess.run(["rm", "-r", str(dest)], check=True)


def test_running_out_of_descriptors_ends_the_run_with_advice(destination: Destination) -> None:
    def fill() -> None:
        for number in range(1000):
            destination.make_directory((b"%d" % number, b"x"))

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (destination.partial_fd + 1, hard))
    try:
        with pytest.raises(LocalStorageError, match="ulimit -n") as failure:
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(failure.value.__cause__, OSError)
    assert failure.value.__cause__.errno == errno.EMFILE
