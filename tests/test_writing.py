"""What those who carry out attempts do on disk, and when a file gets its name."""

import os
from pathlib import Path

import anyio
import pytest

from sealift import partial as partial_room
from sealift import writing
from sealift.attempt import Attempt, Spot
from sealift.checksum import Checked
from sealift.config import Durability
from sealift.destination import Destination
from sealift.errors import Integrity, LocalStorageError
from sealift.model import ByteRange, Part, RemoteObject
from sealift.partial import FEW, Blocked, PartialFile, partial_name
from sealift.writing import AT_ONCE, AT_ONCE_BYTES, Writer
from tests.support.running import partials, tree

pytestmark = pytest.mark.anyio

CHECKED = Checked("CRC32:y/Q5Jg==", verified=True)


class World:
    """A destination, and small objects that are written into it."""

    def __init__(self, destination, durability):
        self.destination = destination
        self.writer = Writer(destination, destination.partial_fd, durability)
        self.ends = {}

    def attempt(self, number, key, body=b"body"):
        remote = RemoteObject("bucket", key, len(body), '"e"', 1_700_000_000_000_000_000)
        spot = Spot(tuple(key.encode().split(b"/")), remote.last_modified_ns)
        return Attempt(number, remote, Part(ByteRange(0, len(body)), whole=True), partial_name(remote), spot)

    async def write(self, number, key, *pieces):
        attempt = self.attempt(number, key, b"".join(pieces))
        filling = self.writer.fill(attempt)
        for piece in pieces:
            await filling.write(piece)
        try:
            return await filling.place(attempt.spot, CHECKED)
        finally:
            filling.close()

    def ended(self, end):
        self.ends[end.number] = end


@pytest.fixture
def world(tmp_path):
    with Destination.open(tmp_path, create=True) as destination:
        yield lambda durability: World(destination, durability)


@pytest.mark.parametrize("durability", Durability)
@pytest.mark.parametrize("pieces", [(), (b"body",), (b"bo", b"d", b"y")])
async def test_a_complete_object_is_in_its_place_at_once_or_with_its_batch(world, tmp_path, durability, pieces):
    w = world(durability)
    assert await w.write(1, "a/b", *pieces) == (durability is Durability.FILE)
    await w.writer.name_batch(w.ended)
    assert tree(tmp_path) == {"a/b": b"".join(pieces)}
    assert (tmp_path / "a/b").stat().st_mtime_ns == 1_700_000_000_000_000_000
    assert partials(tmp_path) == []


@pytest.mark.parametrize("files", [1, FEW, FEW + 1, 40])
async def test_a_batch_has_no_names_before_all_of_it_was_synced(world, tmp_path, monkeypatch, files):
    w = world(Durability.BATCH)
    seen = []
    for room, name in ((os, "fsync"), (partial_room, "sync_file_system")):
        real = getattr(room, name)

        def watched(fd, real=real):
            seen.append(len(tree(tmp_path)))
            real(fd)

        monkeypatch.setattr(room, name, watched)
    monkeypatch.setattr(writing, "sync_file_system", partial_room.sync_file_system)
    for number in range(files):
        assert not await w.write(number, f"k{number}", b"body")
    assert tree(tmp_path) == {}
    await w.writer.name_batch(w.ended)
    assert seen == [0] * (files if files <= FEW else 1)
    assert tree(tmp_path) == {f"k{number}": b"body" for number in range(files)}
    assert all(end.placed and end.reached == 4 for end in w.ends.values())
    assert len(w.ends) == files


@pytest.mark.parametrize(("room", "name"), [(os, "fsync"), (partial_room, "_sync"), (writing, "sync_file_system")])
async def test_without_durability_nothing_is_synced(world, tmp_path, monkeypatch, room, name):
    def synced(*_):
        pytest.fail("something was synced")

    monkeypatch.setattr(room, name, synced)
    w = world(Durability.NONE)
    for number in range(FEW + 1):
        await w.write(number, f"k{number}", b"body")
        await w.writer.name_batch(w.ended)
    for number in range(FEW + 1):
        await w.write(number, f"l{number}", b"body")
    await w.writer.name_batch(w.ended)
    assert len(tree(tmp_path)) == 2 * (FEW + 1)


@pytest.mark.parametrize("durability", [Durability.BATCH, Durability.NONE])
async def test_what_stands_in_ones_way_is_only_that_ones_end(world, tmp_path, durability):
    w = world(durability)
    (tmp_path / "b").mkdir()
    for number, key in enumerate(["a", "b", "c"]):
        await w.write(number, key, b"body")
    await w.writer.name_batch(w.ended)
    assert [w.ends[number].placed for number in range(3)] == [True, False, True]
    assert isinstance(w.ends[1].error, Blocked)
    assert tree(tmp_path) == {"a": b"body", "b/": b"", "c": b"body"}
    assert partials(tmp_path) == [partial_name(w.attempt(1, "b").remote)], "it is complete, and waits"


async def test_a_batch_is_named_when_nothing_more_is_to_come(world, tmp_path):
    w = world(Durability.BATCH)
    idle = False
    async with anyio.create_task_group() as beside:
        beside.start_soon(w.writer.name_batches, w.ended, lambda: idle)
        await w.write(1, "a", b"body")
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert w.ends == {}
        idle = True
        with anyio.fail_after(30):
            while not w.ends:
                await anyio.sleep(0.001)
        beside.cancel_scope.cancel()
    assert tree(tmp_path) == {"a": b"body"}


async def test_a_full_batch_is_named_whatever_is_to_come(world, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MOST_FILES", 5)
    w = world(Durability.BATCH)
    async with anyio.create_task_group() as beside:
        beside.start_soon(w.writer.name_batches, w.ended, lambda: False)
        with anyio.fail_after(30):
            for number in range(12):
                await w.write(number, f"k{number}", b"body")
            while len(w.ends) < 10:
                await anyio.sleep(0.001)
        beside.cancel_scope.cancel()
    await w.writer.name_batch(w.ended)
    assert len(tree(tmp_path)) == 12


async def test_where_nothing_is_synced_small_batches_are_named_whatever_is_to_come(world, tmp_path):
    w = world(Durability.NONE)
    async with anyio.create_task_group() as beside:
        beside.start_soon(w.writer.name_batches, w.ended, lambda: False)
        with anyio.fail_after(30):
            for number in range(AT_ONCE):
                await w.write(number, f"d{number % 3}/k{number}", b"body")
            while len(w.ends) < AT_ONCE:
                await anyio.lowlevel.checkpoint()
            await w.write(AT_ONCE, "large", b"x" * AT_ONCE_BYTES)
            while len(w.ends) < AT_ONCE + 1:
                await anyio.lowlevel.checkpoint()
        beside.cancel_scope.cancel()
    assert sum(path.endswith("/") for path in tree(tmp_path)) == 0
    assert len(tree(tmp_path)) == AT_ONCE + 1


@pytest.mark.parametrize(
    ("durability", "due", "other"),
    [(Durability.BATCH, "LONGEST_WAIT", "SHORTEST_WAIT"), (Durability.NONE, "SHORTEST_WAIT", "LONGEST_WAIT")],
)
async def test_a_batch_that_does_not_fill_up_is_named_after_a_while(
    world, tmp_path, monkeypatch, durability, due, other
):
    monkeypatch.setattr(writing, due, 0.0)
    monkeypatch.setattr(writing, other, 1e9)
    w = world(durability)
    async with anyio.create_task_group() as beside:
        beside.start_soon(w.writer.name_batches, w.ended, lambda: False)
        with anyio.fail_after(30):
            await w.write(1, "a", b"body")
            while not w.ends:
                await anyio.sleep(0.001)
        beside.cancel_scope.cancel()
    assert tree(tmp_path) == {"a": b"body"}


async def test_what_a_disk_cannot_sync_gets_no_name(world, tmp_path, monkeypatch):
    def broken(_):
        raise LocalStorageError("the disk is broken", code="DiskError")

    monkeypatch.setattr(writing, "sync_file_system", broken)
    w = world(Durability.BATCH)
    for number in range(FEW + 1):
        await w.write(number, f"k{number}", b"body")
    await w.writer.name_batch(w.ended)
    assert [(end.placed, end.error.code) for end in w.ends.values()] == [(False, "DiskError")] * (FEW + 1)
    assert tree(tmp_path) == {}


async def test_a_part_is_written_into_the_file_that_is_there(world, tmp_path):
    w = world(Durability.NONE)
    whole = w.attempt(1, "large", b"0123456789")
    PartialFile.create(w.destination.partial_fd, whole.name, 10, preallocate=True).close()
    attempt = whole._replace(part=Part(ByteRange(4, 8), whole=False), spot=None)
    filling = w.writer.fill(attempt)
    await filling.write(b"45")
    assert filling.reached == 6
    await filling.write(memoryview(b"67"))
    filling.close()
    assert (tmp_path / ".sealift/partial" / whole.name).read_bytes() == b"\0\0\0\0" + b"4567" + b"\0\0"


async def test_a_file_that_has_vanished_is_said(world):
    w = world(Durability.NONE)
    attempt = w.attempt(1, "k")._replace(spot=None)
    with pytest.raises(Integrity, match="vanished"):
        w.writer.fill(attempt)


async def test_nothing_is_placed_without_a_destination(tmp_path):
    with Destination.open(tmp_path, create=True) as destination:
        w = World(destination, Durability.NONE)
        w.writer = Writer(None, destination.partial_fd, Durability.NONE)
        await w.write(1, "k", b"body")
        with pytest.raises(TypeError):
            await w.writer.name_batch(w.ended)
    assert [path for path in Path(tmp_path).iterdir() if path.name != ".sealift"] == []
