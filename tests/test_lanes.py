"""Lanes, carrying out what a scripted decider hands out."""

import time
from contextlib import asynccontextmanager

import anyio
import pytest

from sealift import concurrency
from sealift.attempt import Attempt, Spot
from sealift.bandwidth import Bandwidth
from sealift.concurrency import INITIAL_LARGE, Share
from sealift.config import Durability
from sealift.destination import Destination
from sealift.errors import Changed, Permanent, ServerFailed
from sealift.lanes import Lanes
from sealift.model import ByteRange, Part
from sealift.partial import PartialFile, partial_name
from sealift.timetable import Timetable
from sealift.writing import Writer
from tests.support.fakestore import FakeStore
from tests.support.running import partials, tree

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 1024


class Held(FakeStore):
    """A store whose GETs wait to be let go, and which knows how many are under way."""

    def __init__(self):
        super().__init__()
        self.go = anyio.Event()
        self.under_way = self.most = 0
        self.news = anyio.Event()

    @asynccontextmanager
    async def open(self, remote, part, going=None):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.news.set()
        self.news = anyio.Event()
        try:
            await self.go.wait()
            async with super().open(remote, part, going) as body:
                yield body
        finally:
            self.under_way -= 1

    async def holds(self, number):
        while self.under_way < number:
            await self.news.wait()


class Script:
    """A decider that hands out some attempts, and remembers what becomes of them."""

    def __init__(self, *attempts):
        self.attempts = list(attempts)
        self.bytes = 0
        self.offsets = {}
        self.ends = {}
        self.sent_ones = []

    async def take(self):
        await anyio.lowlevel.checkpoint()
        return self.attempts.pop(0) if self.attempts else None

    def sent(self, number):
        self.sent_ones.append(number)

    def answered(self, number, encryption):
        assert encryption.charged

    def received(self, size):
        self.bytes += size

    def reached(self, number, offset):
        assert offset > self.offsets.get(number, -1)
        self.offsets[number] = offset

    def ended(self, end):
        assert end.number not in self.ends, "an attempt ends once"
        self.ends[end.number] = end


class World:
    def __init__(self, destination, store):
        self.destination = destination
        self.store = store
        store.bucket("bucket")
        self.writer = Writer(destination, destination.partial_fd, Durability.NONE)

    async def whole(self, number, key, body=b"body"):
        self.store.put("bucket", key, body)
        remote = await self.store.head("bucket", key)
        spot = Spot((key.encode(),), remote.last_modified_ns)
        return Attempt(number, remote, Part(ByteRange(0, remote.size), whole=True), partial_name(remote), spot)

    async def part(self, number, start, stop):
        remote = await self.store.head("bucket", "large")
        return Attempt(number, remote, Part(ByteRange(start, stop), whole=False), partial_name(remote), None)

    async def large(self):
        """Put the object whose parts are fetched, and make its file; return that file's name."""
        self.store.put("bucket", "large", BODY)
        name = partial_name(await self.store.head("bucket", "large"))
        PartialFile.create(self.destination.partial_fd, name, len(BODY), preallocate=True).close()
        return name

    def lanes(self, script, *, most=4, rate=None, found_out=False):
        bandwidth = Bandwidth(Timetable(rate))
        return Lanes(
            store=self.store, decider=script, writer=self.writer, bandwidth=bandwidth, most=most, found_out=found_out
        )


@pytest.fixture
def world(tmp_path):
    with Destination.open(tmp_path, create=True) as destination:
        yield lambda store: World(destination, store)


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_small_objects_are_put_in_their_place(world, tmp_path):
    here = world(FakeStore())
    script = Script(*[await here.whole(number, f"k{number}", b"%d" % number * 9) for number in range(20)])
    lanes = here.lanes(script)
    await lanes.run()
    assert tree(tmp_path) == {f"k{number}": b"%d" % number * 9 for number in range(20)}
    assert all(end.placed and end.error is None for end in script.ends.values())
    assert len(script.ends) == 20
    assert lanes.finished.is_set()
    assert lanes.done >= 20


@pytest.mark.parametrize("slow", [False, True], ids=["the disk keeps up", "it does not"])
@pytest.mark.parametrize("rate", [None, 1e12], ids=["any rate", "a rate"])
async def test_parts_are_written_into_their_objects_file_on_every_way(world, tmp_path, slow, rate):
    here = world(FakeStore())
    name = await here.large()
    half = len(BODY) // 2
    script = Script(await here.part(1, 0, half), await here.part(2, half, len(BODY)))
    if slow:
        here.writer.disk._pace.took(60.0, time.monotonic(), waited=True)
    await here.lanes(script, rate=rate).run()
    assert (tmp_path / ".sealift" / "partial" / name).read_bytes() == BODY
    assert {number: (end.reached, end.placed, end.error) for number, end in script.ends.items()} == {
        1: (half, False, None),
        2: (len(BODY), False, None),
    }
    assert script.bytes == len(BODY)


async def test_what_goes_wrong_is_how_an_attempt_ends(world, tmp_path):
    here = world(FakeStore())
    gone, changed = await here.whole(1, "gone"), await here.whole(2, "changed")
    here.store.delete("bucket", "gone")
    here.store.put("bucket", "changed", b"other")
    script = Script(gone, changed, await here.whole(3, "fine"))
    await here.lanes(script).run()
    assert isinstance(script.ends[1].error, Permanent)
    assert isinstance(script.ends[2].error, Changed)
    assert script.ends[3].placed
    assert tree(tmp_path) == {"fine": b"body"}
    assert partials(tmp_path) == []


async def test_there_are_no_more_gets_at_once_than_lanes(world):
    here = world(Held())
    script = Script(*[await here.whole(number, f"k{number}") for number in range(10)])
    async with anyio.create_task_group() as group:
        group.start_soon(here.lanes(script, most=3).run)
        await here.store.holds(3)
        here.store.go.set()
    assert here.store.most == 3
    assert len(script.ends) == 10


async def test_lanes_that_make_room_come_down_to_their_share(world):
    here = world(Held())
    script = Script(*[await here.whole(number, f"k{number}") for number in range(30)])
    lanes, room = here.lanes(script, most=8), anyio.Event()

    async def make_room():
        await lanes.make_room(most=2, bandwidth=Timetable())
        here.store.most = here.store.under_way
        room.set()

    async with anyio.create_task_group() as group:
        group.start_soon(lanes.run)
        await here.store.holds(8)
        group.start_soon(make_room)
        await anyio.wait_all_tasks_blocked()
        assert not room.is_set(), "there is none before enough have ended"
        here.store.go.set()
        await room.wait()
    assert here.store.most <= 2
    assert len(script.ends) == 30


async def test_lanes_that_leave_everything_to_others_end(world):
    here = world(Held())
    script = Script(*[await here.whole(number, f"k{number}") for number in range(30)])
    lanes = here.lanes(script, most=4)
    async with anyio.create_task_group() as group:
        group.start_soon(lanes.run)
        await here.store.holds(4)
        here.store.go.set()
        await lanes.make_room(most=0, bandwidth=Timetable())
        await lanes.finished.wait()
    assert script.attempts, "they were left"
    assert len(script.ends) + len(script.attempts) == 30


async def test_what_was_found_out_is_shared_in_proportion(world):
    here = world(FakeStore())
    script = Script(*[await here.whole(number, f"k{number}") for number in range(3)])
    lanes = here.lanes(script, most=200, found_out=True)
    await lanes.run()
    before = lanes.limit
    await lanes.make_room(most=50, bandwidth=Timetable())
    assert lanes.limit == before // 4
    assert not lanes.share(1).proven, "three GETs find nothing out"


@pytest.mark.parametrize(("shares", "each"), [(1, INITIAL_LARGE), (2, INITIAL_LARGE // 2), (10_000, 1)])
async def test_lanes_that_have_not_begun_leave_others_to_find_out(world, shares, each):
    lanes = world(FakeStore()).lanes(Script(), most=200, found_out=True)
    assert lanes.share(shares) == Share(each, proven=False)


async def test_an_attempt_that_is_called_off_ends_without_an_error(world):
    here = world(Held())
    await here.large()
    script = Script(await here.part(1, 0, 100))
    lanes = here.lanes(script)
    async with anyio.create_task_group() as group:
        group.start_soon(lanes.run)
        await here.store.holds(1)
        lanes.call_off(1)
    assert (script.ends[1].reached, script.ends[1].error) == (0, None)


class Failing(FakeStore):
    """A store that fails as long as it is busy."""

    busy = True

    @asynccontextmanager
    async def open(self, remote, part, going=None):
        await anyio.lowlevel.checkpoint()
        if self.busy:
            raise ServerFailed("too busy", bucket=remote.bucket, key=remote.key, code="InternalError")
        async with super().open(remote, part, going) as body:
            yield body


async def test_where_the_store_fails_fewer_lanes_are_tried(world, monkeypatch):
    monkeypatch.setattr(concurrency, "LOOK", 0.0)
    monkeypatch.setattr(concurrency, "SHORTEST", 0.0)
    here = world(Failing())
    first = await here.whole(0, "k")
    limits = []

    class Watching(Script):
        def ended(self, end):
            limits.append(lanes.limit)
            super().ended(end)

    lanes = here.lanes(Watching(*(first._replace(number=number) for number in range(500))), most=64, found_out=True)
    await lanes.run()
    assert (max(limits), min(limits)) == (64, 1), limits
