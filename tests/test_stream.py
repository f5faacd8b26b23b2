from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType

import anyio
import pytest
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from sealift.errors import LocalStorageError
from sealift.stream import Stream

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 4096  # 1 MiB, sixteen times what a pipe holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_all(fd: int, size: int) -> bytes:
    """Read `size` bytes, or up to the end."""
    result = b""
    while len(result) < size and (chunk := os.read(fd, 4096 * 3 + 1)):
        result += chunk
    return result


@pytest.fixture
def others_pipe(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """A pipe that cannot be opened again, as another user's behind sudo cannot."""
    really = os.open

    def refusing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == f"/dev/fd/{pipe[1]}":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    return pipe


async def pass_through(reader: int, writer: int) -> bytes:
    stream = Stream(writer, "the output")
    received: list[bytes] = []

    async def read() -> None:
        received.append(await run_sync(read_all, reader, 2 * len(DATA)))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await stream.write(DATA)
            await stream.write(bytearray(reversed(DATA)))
    stream.close()
    return received[0]


async def cancel_in_a_full_one(writer: int) -> None:
    """Cancel a write to something full, which nobody reads: it comes back for no other reason."""
    stream = Stream(writer, "the output")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(stream.write, DATA)
            await fills_up(writer)
            group.cancel_scope.cancel()
    stream.close()


async def fills_up(writer: int) -> None:
    poll = select.poll()
    poll.register(writer, select.POLLOUT)
    while poll.poll(0):
        await checkpoint()


async def no_write_is_left() -> None:
    """Wait until abandoned writes have come back; hanging here is the failure."""
    with anyio.fail_after(20):
        while any(runs_a_write(frame) for frame in sys._current_frames().values()):
            await checkpoint()


def runs_a_write(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is Stream._write.__code__:
            return True
        frame = frame.f_back
    return False


async def test_a_pipe_gets_everything_in_order(pipe: tuple[int, int]) -> None:
    assert await pass_through(*pipe) == DATA + DATA[::-1]


async def test_another_users_pipe_gets_everything_in_order(others_pipe: tuple[int, int]) -> None:
    assert await pass_through(*others_pipe) == DATA + DATA[::-1]


async def test_a_socket_gets_everything_in_order() -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        assert await pass_through(reader.fileno(), writer.fileno()) == DATA + DATA[::-1]


async def test_a_file_gets_everything_behind_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with path.open("ab", buffering=0) as file:
        stream = Stream(file.fileno(), str(path))
        await stream.write(DATA)
        await stream.write(b"")
        await stream.write(b"after")
        stream.close()
        assert not file.closed
        assert os.fstat(file.fileno()).st_size == path.stat().st_size
    assert path.read_bytes() == b"before" + DATA + b"after"


async def test_a_write_to_a_full_pipe_is_cancelled_at_once(pipe: tuple[int, int]) -> None:
    await cancel_in_a_full_one(pipe[1])
    await no_write_is_left()


async def test_a_write_to_another_users_full_pipe_is_cancelled_at_once(others_pipe: tuple[int, int]) -> None:
    await cancel_in_a_full_one(others_pipe[1])
    await no_write_is_left()


async def test_a_write_to_a_full_socket_is_cancelled_at_once() -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        await cancel_in_a_full_one(writer.fileno())
        await no_write_is_left()


async def test_an_abandoned_write_never_writes_to_the_next_file_of_that_number(
    pipe: tuple[int, int], tmp_path: Path
) -> None:
    await cancel_in_a_full_one(pipe[1])
    with (tmp_path / "next").open("wb"):
        await run_sync(read_all, pipe[0], 4096)  # there is room for the abandoned write again
        await no_write_is_left()
    assert (tmp_path / "next").read_bytes() == b""


async def test_the_given_descriptor_stays_open_and_blocking(pipe: tuple[int, int]) -> None:
    stream = Stream(pipe[1], "the output")
    await stream.write(b"x")
    stream.close()
    stream.close()
    assert stat.S_ISFIFO(os.fstat(pipe[1]).st_mode)
    assert os.get_blocking(pipe[1])


@pytest.mark.parametrize("named", [True, False])
async def test_a_reader_that_is_gone_from_the_start_is_a_broken_pipe(tmp_path: Path, *, named: bool) -> None:
    if named:
        os.mkfifo(tmp_path / "fifo")
        reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    else:
        reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), closing(Stream(writer, "the output")) as stream:
        await stream.write(b"first")
    os.close(writer)


async def test_a_reader_that_goes_between_writes_is_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    stream = Stream(writer, "the output")
    await stream.write(b"first")
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        await stream.write(b"second")
    stream.close()
    os.close(writer)


async def test_a_reader_that_goes_while_a_write_waits_is_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    stream = Stream(writer, "the output")

    async def write() -> None:
        with pytest.raises(BrokenPipeError):
            await stream.write(DATA)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(write)
            await fills_up(writer)
            os.close(reader)
    stream.close()
    os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="NO /dev/full HERE: the full disk stays untested")
async def test_a_full_disk_is_an_error_of_local_storage() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(LocalStorageError, match="no space left on the disk of /dev/full") as caught:
        await Stream(full, "/dev/full").write(b"data")
    os.close(full)
    assert caught.value.code == "DiskFull"
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_descriptor_that_cannot_be_written_is_an_error_of_local_storage(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as file:
        stream = Stream(file.fileno(), str(path))
        with pytest.raises(LocalStorageError, match=str(path)):
            await stream.write(b"data")
        stream.close()
