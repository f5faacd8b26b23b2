"""Locks keep other runs out, and who only asks is told."""

import os
import subprocess
import sys

import pytest

from sealift import locks
from sealift.errors import LocalStorageError


@pytest.fixture
def directory_fd(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_who_asks_is_told_and_keeps_nobody_out(directory_fd, tmp_path):
    lock = tmp_path / "lock"
    assert not locks.is_held(lock)
    descriptor = locks.take(directory_fd, lock, tmp_path)
    assert locks.is_held(lock)
    assert locks.take_if_free(directory_fd, lock, tmp_path) is None
    locks.let_go(descriptor)
    assert not locks.is_held(lock)
    assert lock.exists()


def test_shared_locks_keep_out_only_what_wants_it_alone(directory_fd, tmp_path):
    lock = tmp_path / "lock"
    held = [locks.take(directory_fd, lock, tmp_path, shared=True) for _ in range(2)]
    with pytest.raises(LocalStorageError, match=f"another sealift run is writing to {tmp_path}"):
        locks.take(directory_fd, lock, tmp_path)
    for descriptor in held:
        locks.let_go(descriptor)
    locks.let_go(locks.take(directory_fd, lock, tmp_path))


@pytest.mark.parametrize("linux", [True, False])
def test_what_is_no_lock_of_ours_is_held_by_nobody(tmp_path, monkeypatch, linux):
    monkeypatch.setattr(locks, "LINUX", linux)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text('{"pid": 1, "host": "here", "started": "now"}')
    (tmp_path / "empty").touch()
    for name in ("fifo", "link", "empty", "missing"):
        assert not locks.is_held(tmp_path / name)


def test_where_the_system_has_no_table_the_process_tells(directory_fd, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LINUX", False)
    script = (
        "import os, sys; from pathlib import Path; from sealift import locks\n"
        "path = Path(sys.argv[1]); locks.take(os.open(path.parent, os.O_RDONLY), path, path.parent)\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", script, lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        assert locks.is_held(lock)
        process.kill()
        process.wait()
    assert not locks.is_held(lock)


TABLE = """\
1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF
1: -> FLOCK  ADVISORY  WRITE 99 08:01:131 0 EOF
2: POSIX  ADVISORY  READ  77 fd:0a:4711 128 128
"""


@pytest.mark.parametrize(
    ("device", "inode", "process", "held"),
    [
        ((8, 1), 131, None, True),
        ((8, 1), 31, None, False),
        ((0xFD, 10), 4711, 1234, True),
        ((8, 2), 131, 1, False),  # another file system's file, which has the same number by chance
        ((0, 42), 131, 1234, True),  # the table knows a btrfs by another device
    ],
)
def test_the_systems_table_names_files_by_device_and_number(device, inode, process, held):
    assert locks.has_one_on(TABLE, os.makedev(*device), inode, process) is held
    assert not locks.has_one_on("", os.makedev(*device), inode, process)
