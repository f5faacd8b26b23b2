"""One object: to a file, atomically and continued; to a stream, in order and with bounded memory."""

import errno
import fcntl
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

import sealift
from sealift import (
    AccessError,
    ConfigError,
    KmsSettings,
    LocalStorageError,
    RetrySettings,
    SourceError,
    TransferSettings,
    outage,
)
from sealift.taskgroups import ungrouped
from tests.support.faultserver import (
    Answer,
    FaultServer,
    Generated,
    Hold,
    OverwriteNow,
    ResetAfter,
    ResetBeforeHead,
    Restore,
    Stall,
)
from tests.support.loops import ONE_LOOP
from tests.support.running import Watcher, settings_for

pytestmark = pytest.mark.anyio

KIB, MIB = 1024, 1024 * 1024
SIZE = 1000 * KIB + 17
SMALL_PARTS = TransferSettings(part_size=64 * KIB, concurrency=4)
KMS_SLOW_DOWN = Answer(503, "SlowDown", "Please reduce your request rate for operations involving AWS KMS.")


@pytest.fixture
async def server():
    async with FaultServer() as server:
        server.put("bucket", "p/k", b"body")
        server.put("bucket", "large", Generated(SIZE, seed=1))
        yield server


LARGE = Generated(SIZE, seed=1).read(0, SIZE)


async def get(server, source, target, observer=None, **settings):
    return await sealift.get(source, target, settings_for(server, **settings), observer=observer)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


class Pipe:
    """A pipe into which an object is got, and its reader."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.data = b""

    async def read_all(self):
        def read():
            pieces = []
            while piece := os.read(self.reader, MIB):
                pieces.append(piece)
            return b"".join(pieces)

        self.data = await run_sync(read)
        os.close(self.reader)

    async def receive(self, server, source="s3://bucket/large", observer=None, **settings):
        """Get into it, read it to its end, and return the summary."""
        with ungrouped():
            async with anyio.create_task_group() as group:
                group.start_soon(self.read_all)
                try:
                    return await sealift.get_to_stream(
                        source, self.writer, settings_for(server, **settings), observer=observer
                    )
                finally:
                    os.close(self.writer)


# ── To a file ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_gets_the_bytes_the_time_and_the_permissions_of_the_umask(server, tmp_path):
    target = tmp_path / "made" / "here"
    summary = await get(server, "s3://bucket/p/k", target)
    assert target.read_bytes() == b"body"
    modified = server.objects["bucket", "p/k"].last_modified
    assert datetime.fromtimestamp(target.stat().st_mtime, UTC) == modified
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    assert (summary.listed, summary.downloaded, summary.bytes, summary.complete) == (1, 1, 4, True)
    assert names(target.parent) == ["here"], "no lock and no partial file is left"


async def test_without_a_name_the_file_is_called_like_the_keys_last_segment(server, tmp_path, monkeypatch):
    server.put("bucket", "p/..", b"an odd one")
    await get(server, "s3://bucket/p/k", tmp_path)
    await get(server, "s3://bucket/p/..", f"{tmp_path}/new/")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k").rename(tmp_path / "moved")
    await get(server, "s3://bucket/p/k", None)
    assert (tmp_path / "k").read_bytes() == (tmp_path / "moved").read_bytes() == b"body"
    assert (tmp_path / "new" / "%dotdot").read_bytes() == b"an odd one"


async def test_a_file_that_is_there_is_replaced_in_one_step_also_through_a_link(server, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    await get(server, "s3://bucket/p/k", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"body"


async def test_a_large_object_is_fetched_as_pinned_ranges(server, tmp_path):
    watcher = Watcher()
    summary = await get(server, "s3://bucket/large", tmp_path / "file", observer=watcher, transfer=SMALL_PARTS)
    assert (tmp_path / "file").read_bytes() == LARGE
    gets = [request for request in server.requests if request.op == "get"]
    assert summary.get_requests == len(gets) == 16
    assert {request.headers["if-match"] for request in gets} == {server.objects["bucket", "large"].etag}
    assert watcher.due == watcher.position == SIZE


async def test_no_byte_comes_twice_when_bodies_break_off(server, tmp_path):
    server.fault(op="get", do=ResetAfter(10_000), times=5)
    summary = await get(server, "s3://bucket/large", tmp_path / "file", transfer=SMALL_PARTS)
    assert (tmp_path / "file").read_bytes() == LARGE
    assert (summary.bytes, summary.retries) == (SIZE, 5)


async def test_an_interrupted_get_is_continued_by_the_next(server, tmp_path):
    held = server.fault(op="get", do=Stall(0), after=5, times=None)
    one_at_a_time = TransferSettings(part_size=64 * KIB, concurrency=1)
    async with anyio.create_task_group() as group:

        async def run():
            await get(server, "s3://bucket/large", tmp_path / "file", transfer=one_at_a_time)

        group.start_soon(run)
        await held.reached()
        group.cancel_scope.cancel()
    assert not (tmp_path / "file").exists()
    assert all(name.startswith(".") and not name.endswith(".lock") for name in names(tmp_path))

    held.remove()
    summary = await get(server, "s3://bucket/large", tmp_path / "file", transfer=one_at_a_time)
    assert summary.bytes == SIZE - 5 * 64 * KIB
    assert (tmp_path / "file").read_bytes() == LARGE
    assert names(tmp_path) == ["file"]


async def test_what_an_interrupted_get_left_of_an_older_version_is_dropped(server, tmp_path):
    server.fault(op="get", do=ResetBeforeHead(), after=5, times=None)
    hopeless = RetrySettings(max_attempts=1, base=0.001)
    one_at_a_time = TransferSettings(part_size=64 * KIB, concurrency=1)
    await get(server, "s3://bucket/large", tmp_path / "file", transfer=one_at_a_time, retry=hopeless)
    left = names(tmp_path)
    assert len(left) == 2
    others = [".0123456789abcdef0123456789abcdef.sealift", f"x{left[0]}"]
    for other in others:
        (tmp_path / other).write_bytes(b"")
    server.put("bucket", "large", b"new")
    server._rules.clear()

    await get(server, "s3://bucket/large", tmp_path / "file", transfer=SMALL_PARTS)

    assert names(tmp_path) == [others[0], "file", others[1]]


async def test_an_object_overwritten_meanwhile_is_started_over(server, tmp_path):
    server.fault(op="get", do=OverwriteNow(Generated(SIZE + 5, seed=2)), after=3)
    summary = await get(server, "s3://bucket/large", tmp_path / "file", transfer=SMALL_PARTS)
    assert (tmp_path / "file").read_bytes() == Generated(SIZE + 5, seed=2).read(0, SIZE + 5)
    assert (summary.downloaded, names(tmp_path)) == (1, ["file"])


async def test_two_at_once_into_the_same_file_do_not_mix(server, tmp_path):
    released = anyio.Event()
    held = server.fault(op="get", do=Hold(released))
    async with anyio.create_task_group() as group:

        async def run():
            await get(server, "s3://bucket/large", tmp_path / "file")

        group.start_soon(run)
        await held.reached()
        with pytest.raises(LocalStorageError, match="another sealift get"):
            await get(server, "s3://bucket/large", tmp_path / "file")
        released.set()
    assert (tmp_path / "file").read_bytes() == LARGE
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EACCES, errno.EROFS, errno.ENOSYS])
async def test_a_file_system_without_file_locks_is_named(server, tmp_path, monkeypatch, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    message = rf"sealift\.lock cannot be locked \({os.strerror(number)}\); .*/file must be on a file system that has"
    with pytest.raises(LocalStorageError, match=message) as caught:
        await get(server, "s3://bucket/large", tmp_path / "file")
    assert caught.value.code == "CannotLock"
    assert caught.value.summary.listed == 1
    descriptors = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    assert not [path for path in descriptors if path.startswith(str(tmp_path))], "the lock's file is closed"


async def test_a_lock_that_cannot_be_deleted_is_left_and_locks_nothing(server, tmp_path):
    released = anyio.Event()
    held = server.fault(op="get", do=Hold(released))
    async with anyio.create_task_group() as group:
        group.start_soon(get, server, "s3://bucket/large", tmp_path / "file")
        await held.reached()
        [lock] = [path for path in tmp_path.iterdir() if path.suffix == ".lock"]
        lock.unlink()
        lock.mkdir()
        released.set()
    lock.rmdir()
    assert (tmp_path / "file").read_bytes() == LARGE
    assert (await get(server, "s3://bucket/large", tmp_path / "file")).downloaded == 1


async def test_what_cannot_be_got_is_a_failure_by_name(server, tmp_path):
    server.put("bucket", "cold", b"x", storage_class="GLACIER")
    missing = await get(server, "s3://bucket/missing", tmp_path)
    cold = await get(server, "s3://bucket/cold", tmp_path)
    assert [failure.error for failure in missing.failures] == ["NoSuchKey"]
    assert "restore-object" in cold.failures[0].message
    assert (missing.listed, missing.failed, missing.complete) == (1, 1, False)
    assert names(tmp_path) == []
    assert server.gets == 1, "none but the one that told why the HEAD of the missing one failed"


async def test_a_restored_object_can_be_got(server, tmp_path):
    server.put("bucket", "thawed", b"x", storage_class="GLACIER")
    server.objects["bucket", "thawed"].restore = Restore(False, datetime(2040, 1, 1, tzinfo=UTC))
    assert (await get(server, "s3://bucket/thawed", tmp_path)).downloaded == 1


async def test_a_refusal_and_a_missing_bucket_end_it(server, tmp_path):
    with pytest.raises(SourceError, match="no bucket 'nowhere'"):
        await get(server, "s3://nowhere/k", tmp_path)
    server.fault(op="any", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    with pytest.raises(AccessError, match="kms:Decrypt") as caught:
        await get(server, "s3://bucket/p/k", tmp_path)
    assert caught.value.summary.failed == 1


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("s3://bucket", "file", "names no object"),
        ("bucket/key", "file", "not an S3 location"),
        ("s3://bucket/dir/", ".", "name the file to write"),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anything_is_asked(server, tmp_path, source, target, message):
    with pytest.raises(ConfigError, match=message):
        await get(server, source, tmp_path / target if target != "." else tmp_path)
    assert server.requests == []


async def test_a_path_through_a_file_is_refused(server, tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(LocalStorageError, match="name another path"):
        await get(server, "s3://bucket/p/k", tmp_path / "file" / "below")
    assert (tmp_path / "file").read_bytes() == b"precious"


async def test_attempts_come_to_an_end_and_what_came_is_kept(server, tmp_path):
    server.fault(op="get", do=ResetBeforeHead(), after=2, times=None)
    summary = await get(
        server,
        "s3://bucket/large",
        tmp_path / "file",
        transfer=TransferSettings(part_size=64 * KIB, concurrency=1),
        retry=RetrySettings(max_attempts=2, base=0.0),
    )
    [failure] = summary.failures
    assert (failure.key, failure.error) == ("large", "ConnectionLost")
    assert not (tmp_path / "file").exists()
    server._rules.clear()
    assert (await get(server, "s3://bucket/large", tmp_path / "file")).bytes == SIZE - 2 * 64 * KIB


# ── To a stream ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_stream_gets_the_bytes_in_order_whatever_comes_first(server):
    released = anyio.Event()
    first = server.fault(op="get", do=Hold(released), when=lambda request: request.range == (0, 64 * KIB))
    pipe = Pipe()

    async def release():
        await first.reached()
        while server.gets < 4:
            await anyio.sleep(0.001)
        released.set()

    async with anyio.create_task_group() as group:
        group.start_soon(release)
        summary = await pipe.receive(server, transfer=SMALL_PARTS)
    assert pipe.data == LARGE
    assert (summary.downloaded, summary.get_requests) == (1, 16)


async def test_a_slow_part_holds_the_others_back_within_the_memory(server):
    released = anyio.Event()
    server.fault(op="get", do=Hold(released), when=lambda request: request.range == (0, 64 * KIB))
    pipe, watcher = Pipe(), Watcher()
    async with anyio.create_task_group() as group:

        async def run():
            transfer = TransferSettings(part_size=64 * KIB, concurrency=8, memory=256 * KIB)
            await pipe.receive(server, observer=watcher, transfer=transfer)

        group.start_soon(run)
        with anyio.fail_after(20):
            while watcher.position < 3 * 64 * KIB:
                await anyio.sleep(0.001)
        assert server.gets == 4, "as many parts as the memory holds, and no worker has more"
        released.set()
    assert pipe.data == LARGE


async def test_a_body_that_breaks_off_is_continued_and_nothing_is_written_twice(server):
    server.fault(op="get", do=ResetAfter(10_000), times=5)
    pipe = Pipe()
    summary = await pipe.receive(server, transfer=SMALL_PARTS)
    assert pipe.data == LARGE
    assert (summary.bytes, summary.retries) == (SIZE, 5)


async def test_what_kms_refuses_of_a_stream_is_asked_for_again_at_the_pace_that_it_allows(server):
    server.fault(op="get", do=KMS_SLOW_DOWN, times=5)
    pipe, watcher = Pipe(), Watcher()
    summary = await pipe.receive(server, observer=watcher, transfer=SMALL_PARTS)
    assert pipe.data == LARGE
    assert (summary.kms_throttled, summary.retries) == (5, 0)
    assert summary.kms.requests == server.kms_calls + 5
    assert summary.kms.quota is not None
    assert watcher.samples[-1].kms_rate is not None


KMS_FAILED = Answer(500, "KMS.KMSInternalException", "The request was rejected because an internal error occurred.")
TWO_ATTEMPTS = RetrySettings(max_attempts=2, base=0.0001, cap=0.001)


@pytest.mark.parametrize("whole", [False, True], ids=["parts", "head and parts"])
async def test_a_stream_waits_while_kms_is_down_and_goes_on_when_it_is_back(server, monkeypatch, whole):
    monkeypatch.setattr(outage, "FIRST", 0.01)
    down = [server.fault(op="get", do=KMS_FAILED, after=0 if whole else 3, times=None)]
    if whole:  # the first HEAD asks nothing of KMS, the second is for the checksum
        down.append(server.fault(op="head", do=KMS_FAILED, after=1, times=None))

    class Mender(Watcher):
        def noted(self, level, text):
            super().noted(level, text)
            if "pausing" in text:
                for fault in down:
                    fault.remove()

    pipe, mender = Pipe(), Mender()
    summary = await pipe.receive(server, observer=mender, transfer=SMALL_PARTS, retry=TWO_ATTEMPTS)
    assert pipe.data == LARGE
    assert (summary.downloaded, summary.failed, summary.kms_throttled) == (1, 0, 0)
    assert summary.retries == sum(fault.hits for fault in down)
    pausing, back = mender.notes
    assert "--kms-patience" in pausing
    assert "KMS is back" in back


@pytest.mark.parametrize("after", [0, 3])
async def test_an_outage_that_outlasts_the_patience_ends_a_stream(server, monkeypatch, after):
    monkeypatch.setattr(outage, "FIRST", 0.01)
    server.fault(op="get", do=KMS_FAILED, after=after, times=None)
    if not after:
        server.fault(op="head", do=KMS_FAILED, after=1, times=None)
    pipe = Pipe()
    with pytest.raises(SourceError, match="KMS has been down for longer than --kms-patience") as caught:
        await pipe.receive(server, transfer=SMALL_PARTS, retry=TWO_ATTEMPTS, kms=KmsSettings(patience=0.05))
    assert (caught.value.summary.failed, caught.value.summary.pending) == (0, 1)
    assert LARGE.startswith(pipe.data)


async def test_a_stream_whose_part_s3_always_fails_on_is_no_outage(server):
    server.fault(op="get", do=Answer(500, "InternalError", "Please try again."), after=3, times=None)
    pipe, watcher = Pipe(), Watcher()
    summary = await pipe.receive(server, observer=watcher, transfer=SMALL_PARTS, retry=TWO_ATTEMPTS)
    assert (summary.failed, watcher.notes) == (1, [])


async def test_a_stream_keeps_to_a_cap_as_well(server):
    pipe = Pipe()
    summary = await pipe.receive(server, transfer=SMALL_PARTS, kms=KmsSettings(rps=60))
    assert pipe.data == LARGE
    assert summary.kms.requests == server.kms_calls == 17, "16 parts, and a HEAD for the checksum"
    assert summary.kms.wait_seconds > 0


@ONE_LOOP
async def test_a_stream_of_what_needs_no_kms_call_waits_for_no_cap(server):
    server.put("bucket", "large", Generated(SIZE, seed=1), kms_key=None)
    pipe = Pipe()
    with anyio.fail_after(20):  # if they did, they would take half a minute
        await pipe.receive(server, transfer=SMALL_PARTS, kms=KmsSettings(rps=0.5))
    assert pipe.data == LARGE
    assert server.kms_calls == 0


async def test_an_empty_object_is_an_empty_stream(server):
    server.put("bucket", "empty", b"")
    pipe = Pipe()
    summary = await pipe.receive(server, "s3://bucket/empty")
    assert (pipe.data, summary.downloaded, summary.failed) == (b"", 1, 0)


async def test_before_the_first_byte_an_overwritten_object_is_started_over(server):
    server.fault(op="get", do=OverwriteNow(b"new"))
    pipe = Pipe()
    summary = await pipe.receive(server, transfer=SMALL_PARTS)
    assert (pipe.data, summary.downloaded) == (b"new", 1)


async def test_after_the_first_byte_an_overwritten_object_fails(server):
    server.fault(op="get", do=OverwriteNow(b"new"), after=3)
    pipe = Pipe()
    summary = await pipe.receive(server, transfer=TransferSettings(part_size=64 * KIB, concurrency=1))
    assert pipe.data == LARGE[: 3 * 64 * KIB]
    [failure] = summary.failures
    assert failure.error == "PreconditionFailed"
    assert "196,608 of its bytes had been written out" in failure.message


async def test_an_object_that_is_overwritten_again_and_again_fails(server):
    for number in range(4):
        server.fault(op="get", do=OverwriteNow(b"new %d" % number))
    pipe = Pipe()
    summary = await pipe.receive(server, "s3://bucket/p/k")
    assert (pipe.data, summary.failed) == (b"", 1)
    assert (await Pipe().receive(server, "s3://bucket/p/k")).downloaded == 1, "the fifth time it stood still"


async def test_attempts_at_a_stream_come_to_an_end(server):
    server.fault(op="get", do=Answer(500, "InternalError", "We failed."), times=None)
    pipe = Pipe()
    summary = await pipe.receive(server, retry=RetrySettings(max_attempts=3, base=0.0))
    assert (pipe.data, summary.failures[0].error, summary.retries) == (b"", "InternalError", 2)


async def test_a_reader_that_leaves_ends_it(server):
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        await sealift.get_to_stream("s3://bucket/large", writer, settings_for(server))
    os.close(writer)


async def test_what_is_no_regular_file_is_written_in_order(server, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    pipe = Pipe()
    os.close(pipe.reader)
    os.close(pipe.writer)
    pipe.reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(pipe.reader, True)
    keeps_it_open = os.open(tmp_path / "fifo", os.O_WRONLY)
    async with anyio.create_task_group() as group:
        group.start_soon(pipe.read_all)
        summary = await get(server, "s3://bucket/large", tmp_path / "fifo", transfer=SMALL_PARTS)
        os.close(keeps_it_open)
    assert (pipe.data, summary.downloaded) == (LARGE, 1)
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode), "it was not replaced"
