"""Cancellation at each await: no descriptor, no reservation, no lock and no wrong bytes are left, and a rerun ends it.

Each test runs the real thing again and again, and cancels it at its first await, at its second, and so on, until it
has run to its end. The store is opened once for all of them, as that takes longer than everything else; what opening
and closing leave is looked at apart.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial as bind
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import pytest

import sealift
from sealift import RetrySettings, TransferSettings, governor
from sealift.config import TransportChoice
from sealift.destination import Destination
from sealift.fetch import Fetcher
from sealift.getting import get_to_stream
from sealift.memory import Memory
from sealift.s3.persistent import PersistentStore
from sealift.s3.transport import Transport
from sealift.tally import Unobserved
from sealift.writing import Writer
from tests.support.faultserver import Answer, FaultServerThread, Generated, ResetAfter
from tests.support.running import settings_for, tree
from tests.support.sockets import connections_to
from tests.support.stepping import stopped_at

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """The pace goes on quickly also where KMS refuses everything: a step is not to take a second."""
    monkeypatch.setattr(governor, "LEAST", 2000.0)
    monkeypatch.setattr(governor, "PROBES", 2000.0)


KIB = 1024
SIZE = 160 * KIB
LARGE = Generated(SIZE, seed=1).read(0, SIZE)
BODIES = {"a": b"file", "a/b": b"below", "d/": b"", "e": b"", "f": b"throttled", "large": LARGE}
TREE = {"a%file": b"file", "a/b": b"below", "d/": b"", "e": b"", "f": b"throttled", "large": LARGE}
BY_SIZE = {len(body): body for body in BODIES.values()}
ON_THE_WAY = TREE | {"a": b"file", "a/": b""}
"""What may be found at a final name at any time: `a` stands there until the directory needs its name."""

FOREIGN = ("anon_inode:", "pipe:", "socket:", "/proc/", "/dev/null")

SLOW_DOWN = Answer(503, "SlowDown", "Please reduce your request rate for operations involving AWS KMS.")
SOON = RetrySettings(base=0.0001, cap=0.001)


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop, as anyio cancels"),
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio, as asyncio cancels"),
    ]
)
def anyio_backend(request):
    """Two of four combinations: they differ in both respects, and each takes seconds."""
    return request.param


@pytest.fixture
def scoped(anyio_backend):
    """Whether it is an anyio scope that is cancelled, rather than an asyncio task."""
    return anyio_backend[1]["use_uvloop"]


@pytest.fixture
def server():
    """Small pages, in an order that makes a file give way to a directory. Its awaits do not count."""
    with FaultServerThread() as server:
        server.page_size = 3
        for key, body in BODIES.items():
            server.put("bucket", key, Generated(SIZE, seed=1) if body is LARGE else body)
        yield server


@pytest.fixture
def settings(server):
    return settings_for(server, transfer=TransferSettings(part_size=64 * KIB, concurrency=2), retry=SOON)


@pytest.fixture
async def open_store(settings, scoped, monkeypatch):
    """Every run of the test goes to one store: the wire, or the SDK with room for what a run needs, so that a leak
    starves the next one.
    """
    choice = TransportChoice.WIRE if scoped else TransportChoice.SDK
    reached = replace(settings.connection, transport=choice)
    async with Transport(reached, connections=4, noted=print) as store:

        @asynccontextmanager
        async def connected(settings, tally):
            yield PersistentStore(store, settings.retry, told=tally.retry)

        monkeypatch.setattr("sealift.mirroring.connected", connected)
        monkeypatch.setattr("sealift.getting.connected", connected)
        yield
        wire = store._wire
        assert wire is None or not any(pool._busy for pool in wire._pools.values()), "a connection was not given back"


@pytest.fixture(autouse=True)
def reservations(monkeypatch):
    """Every memory budget that was made."""
    made = []

    class Remembered(Memory):
        def __init__(self, limit):
            super().__init__(limit)
            made.append(self)

    monkeypatch.setattr("sealift.getting.Memory", Remembered)
    return made


def misbehave(server):
    """Break a body off and throttle a GET, once each, so that waiting to try again is among the awaits."""
    server._rules.clear()
    server.fault(op="get", key="large", do=ResetAfter(10 * KIB), after=1)
    server.fault(op="get", key="f", do=SLOW_DOWN)


def behave(server):
    server._rules.clear()


def descriptors(*, pipe=None):
    """What this process has open: files and directories, and both ends of `pipe`.

    Not the event loop's own (libuv has pipes and a spare /dev/null, from when it first needs them), and no sockets:
    the store stays open.
    """
    found = []
    ours = None if pipe is None else str(Path(f"/proc/self/fd/{pipe}").readlink())
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # the listing's own
            continue
        if target == ours or not target.startswith(FOREIGN):
            found.append(target)
    return sorted(found)


def noted(directory):
    """Return how many bytes the partial files' notes say are there; every partial file has one, or it is useless."""
    total = 0
    names = {path.name for path in directory.iterdir()} - {"lock"}
    for name in names:
        if name.endswith(".json"):
            assert name.removesuffix(".json") in names
            note = json.loads((directory / name).read_text())
            there = (directory / name.removesuffix(".json")).read_bytes()
            for start, stop in note["done"]:
                assert there[start:stop] == BY_SIZE[note["size"]][start:stop]
                total += stop - start
        else:
            assert f"{name}.json" in names, "nobody would ever go on with it"
    return total


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.stress)])
async def test_a_mirror_may_be_cancelled_at_any_await(
    server, settings, open_store, reservations, tmp_path, scoped, stride
):
    """At each in `make stress`; in the fast suite at every third, which are others in the other of the two loops."""
    step, stops, resumed = min(stride, 1 if scoped else 2) - stride, 0, 0
    while True:
        step += stride
        dest = tmp_path / str(step)
        misbehave(server)
        before = descriptors()

        run = await stopped_at(step, bind(sealift.mirror, ["s3://bucket"], dest, settings), scoped=scoped)

        assert descriptors() == before
        assert all(memory.reserved == 0 for memory in reservations)
        found = tree(dest) if dest.exists() else {}
        assert found.items() <= ON_THE_WAY.items()
        kept = noted(dest / ".sealift" / "partial") if (dest / ".sealift" / "partial").exists() else 0
        behave(server)
        again = await sealift.mirror(["s3://bucket"], dest, settings)
        assert tree(dest) == TREE
        assert noted(dest / ".sealift" / "partial") == 0
        assert again.downloaded + again.up_to_date == again.listed == len(BODIES)
        assert again.bytes == sum(map(len, BODIES.values())) - sum(map(len, found.values())) - kept
        stops += run.stopped
        resumed += kept > 0
        if run.steps < step:
            break
        assert run.stopped or found == TREE, "it ended as if nothing had happened"
    assert stops > 50 / stride
    assert resumed > 5 / stride, "some runs left something to go on with"


async def test_get_to_a_file_may_be_cancelled_at_any_await(
    server, settings, open_store, reservations, tmp_path, scoped
):
    step, stops, resumed = 0, 0, 0
    while True:
        step += 1
        directory = tmp_path / str(step)
        directory.mkdir()
        target = directory / "file"
        target.write_bytes(b"before")
        misbehave(server)
        before = descriptors()

        run = await stopped_at(step, bind(sealift.get, "s3://bucket/large", target, settings), scoped=scoped)

        assert descriptors() == before
        assert all(memory.reserved == 0 for memory in reservations)
        assert target.read_bytes() in {b"before", LARGE}
        target_is_there = target.read_bytes() == LARGE
        target.rename(tmp_path / "aside")
        kept = noted(directory)
        (tmp_path / "aside").rename(target)
        behave(server)
        again = await sealift.get("s3://bucket/large", target, settings)
        assert (again.downloaded, again.bytes) == (1, SIZE - kept)
        assert target.read_bytes() == LARGE
        assert [path.name for path in directory.iterdir()] == ["file"]
        stops += run.stopped
        resumed += kept > 0
        if run.steps < step:
            break
        assert run.stopped or target_is_there, "it ended as if nothing had happened"
    assert stops > 20
    assert resumed > 5


async def test_get_to_a_pipe_may_be_cancelled_at_any_await(server, settings, open_store, reservations, scoped):
    step, stops = 0, 0
    while True:
        step += 1
        misbehave(server)
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 2 * SIZE)  # it takes everything without a reader
        before = descriptors(pipe=writer)

        run = await stopped_at(step, bind(get_to_stream, "s3://bucket/large", writer, settings), scoped=scoped)

        assert descriptors(pipe=writer) == before
        assert all(memory.reserved == 0 for memory in reservations)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            written = pipe.read()
        assert LARGE.startswith(written)
        stops += run.stopped
        if run.steps < step:
            break
        assert run.stopped or written == LARGE, "it ended as if nothing had happened"
    assert stops > 20
    assert written == LARGE


@pytest.mark.parametrize("stride", [12, pytest.param(5, marks=pytest.mark.stress)])
async def test_a_store_that_was_opened_is_closed_wherever_a_run_is_cancelled(
    server, settings, tmp_path, scoped, stride
):
    """A store is opened without an await: some of the awaits are spread over all that it does."""
    most, port = 0, urlsplit(server.url).port

    class Watcher(Unobserved):
        def ended(self, outcome):
            nonlocal most
            most = max(most, connections_to(port))

    step, stops = 1, 0
    while True:
        misbehave(server)
        mirror = bind(sealift.mirror, ["s3://bucket"], tmp_path / str(step), settings, observer=Watcher())

        run = await stopped_at(step, mirror, scoped=scoped)

        with anyio.fail_after(20):
            while connections_to(port):  # the event loop closes a socket a turn after it was told to
                await anyio.lowlevel.checkpoint()
        stops += run.stopped
        if run.steps < step:
            break
        step += stride
    assert stops > 50 / stride
    assert most > 1, "they would have been seen"


@pytest.mark.parametrize(
    ("where", "name"),
    [(Destination, "open"), (Destination, "lock"), (Writer, "_sync"), (Fetcher, "keep")],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_a_thread_that_is_at_work_is_waited_for_however_the_run_is_cancelled(
    server, settings, tmp_path, monkeypatch, scoped, where, name
):
    """It would go on with descriptors that are closed, and somebody else's by then."""
    entered, released, left = anyio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()
    original = getattr(where, name)

    def slow(*args, **kwargs):
        loop.call_soon_threadsafe(entered.set)
        assert released.wait(20)
        try:
            return original(*args, **kwargs)
        finally:
            left.append(name)

    before = descriptors()
    monkeypatch.setattr(where, name, slow)
    scope = anyio.CancelScope()

    async def run():
        with scope:
            try:
                await sealift.mirror(["s3://bucket"], tmp_path, settings)
            finally:
                assert left, "the run ended before its thread"

    task = loop.create_task(run())
    with anyio.fail_after(20):
        await entered.wait()
        for _ in range(3):  # whoever is impatient cancels again
            if scoped:
                scope.cancel()
            else:
                task.cancel()
            await anyio.lowlevel.checkpoint()
        assert not task.done()
        released.set()
        await asyncio.wait({task})
    assert task.cancelled() or scope.cancelled_caught
    assert descriptors() == before
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    assert (await sealift.mirror(["s3://bucket"], tmp_path, settings)).failed == 0
    assert tree(tmp_path) == TREE
