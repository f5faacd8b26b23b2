"""What happens to an object whose place is taken: by the mirror's own files and directories, or by somebody's."""

import os
from functools import partial as bind

import pytest

from sealift.attempt import Spot
from sealift.config import Durability
from sealift.destination import Destination
from sealift.errors import Integrity, Permanent, Refused
from sealift.fetch import Job
from sealift.localpath import beside_directory, local_path
from sealift.model import ByteRange, Ending, Outcome
from sealift.partial import Blocked, Kind, PartialFile, partial_name
from sealift.placing import SMALL, Place, TreeLanding, WayMaker
from sealift.selection import Filter, Ownership, Selection, parse_sources
from sealift.tally import Tally, Unobserved
from tests.support.keys import Keys, remote
from tests.support.running import partials, tree

pytestmark = pytest.mark.anyio


class World:
    """A destination, a bucket that is mirrored into it, and a way maker between the two."""

    def __init__(self, dest, *keys, sources=("s3://bucket",), filters=(), strict=False, dry=False, kind=Destination):
        self.store = Keys(keys, page_size=1)
        self.sources = parse_sources(sources)
        self.tally = Tally(Unobserved(), 0.0)
        self.destination = kind.open(dest, create=True)
        ownership = Ownership(self.sources, Selection(filters))
        self.way = WayMaker(self.store, self.destination, ownership, self.tally, strict=strict, dry=dry)
        self.landing = TreeLanding(self.destination, self.way, Durability.FILE)

    def place(self, key):
        """Where the object of `key` belongs."""
        several = len(self.sources) > 1
        base, under = ("", "bucket") if several else (self.sources[0].prefix, None)
        below = key.removeprefix(base)
        return Place(self.sources[0], base, below, local_path(below, 4, under=under), under)

    async def make_way(self, key, depth, kind, place=None):
        place = place or self.place(key)
        text = b"/".join(place.path.segments[:depth]).decode()
        return await self.way.make_way(remote(key), place, Blocked(text, depth=depth, kind=kind))

    def complete(self, job):
        """The partial file with all bytes of a job."""
        partial = self.landing.begin(job)
        partial.write(0, b"body")
        return partial

    def job(self, key, **more):
        return Job(remote(key), 8 << 20, target=self.place(key), **more)


@pytest.fixture
def world(tmp_path):
    worlds = []

    def make(*keys, **more):
        worlds.append(World(tmp_path, *keys, **more))
        return worlds[-1]

    yield make
    for each in worlds:
        each.destination.close()


# ── A directory stands at an object's own name ──────────────────────────────────────────────────────


async def test_a_directory_of_the_mirrors_own_sends_the_file_beside_it(world):
    place = await (w := world("a", "a/b")).make_way("a", 1, Kind.DIRECTORY)
    assert place.path.text == "a%file"
    assert place.beside
    assert w.way.outcome(remote("a"), place.path, Ending.DOWNLOADED).escaped


async def test_the_mirrors_own_is_what_some_page_of_the_listing_has_an_object_below(world):
    filters = [Filter("exclude", "a/*"), Filter("include", "a/z")]
    place = await (w := world("a", "a/b", "a/c", "a/z", filters=filters)).make_way("a", 1, Kind.DIRECTORY)
    assert place.beside
    assert w.store.asked == [("list", "a/")] * 3


@pytest.mark.parametrize("filters", [[], [Filter("exclude", "a/*")]], ids=["nothing below it", "nothing that is meant"])
async def test_somebody_elses_directory_is_left_alone(world, filters):
    keys = ["a", "a/b"] if filters else ["a", "ab"]
    with pytest.raises(Blocked):
        await world(*keys, filters=filters).make_way("a", 1, Kind.DIRECTORY)


async def test_with_strict_keys_no_file_goes_beside_its_directory(world):
    with pytest.raises(Permanent) as caught:
        await world("a", "a/b", strict=True).make_way("a", 1, Kind.DIRECTORY)
    assert caught.value.code == "KeyNotRepresentable"


async def test_a_directory_beside_the_directory_is_somebody_elses(world):
    w = world("a", "a/b")
    beside = await w.make_way("a", 1, Kind.DIRECTORY)
    with pytest.raises(Blocked):
        await w.make_way("a", 1, Kind.DIRECTORY, beside)


# ── Something stands where a directory is needed ────────────────────────────────────────────────────


async def test_an_objects_file_moves_beside_and_is_counted_as_escaped_once(world, tmp_path):
    w = world("p/a", "p/a/b", sources=["s3://bucket/p"])
    (tmp_path / "a").write_bytes(b"file")
    place = w.place("p/a/b")
    assert await w.make_way("p/a/b", 1, Kind.FILE) == place
    assert tree(tmp_path) == {"a%file": b"file"}
    assert w.store.asked == [("head", "p/a")]
    assert w.tally.escaped == 1
    again = w.way.outcome(remote("p/a"), beside_directory(w.place("p/a").path), Ending.UP_TO_DATE)
    assert not again.escaped, "it was counted when it was moved"


async def test_a_file_that_another_worker_has_moved_already_is_not_counted_twice(world, tmp_path):
    w = world("a", "a/b")
    (tmp_path / "a").write_bytes(b"file")
    for _ in range(2):
        await w.make_way("a/b", 1, Kind.FILE)
    assert w.tally.escaped == 1


async def test_a_file_with_an_escaped_name_was_counted_before(world, tmp_path):
    w = world("..", "../x")
    (tmp_path / "%dotdot").write_bytes(b"file")
    await w.make_way("../x", 1, Kind.FILE)
    assert tree(tmp_path) == {"%dotdot%file": b"file"}
    assert w.tally.escaped == 0


async def test_what_an_earlier_run_had_put_beside_is_replaced_by_the_newer_file(world, tmp_path):
    w = world("a", "a/b")
    (tmp_path / "a%file").write_bytes(b"old")
    (tmp_path / "a").write_bytes(b"new")
    await w.make_way("a/b", 1, Kind.FILE)
    assert tree(tmp_path) == {"a%file": b"new"}


async def test_somebody_elses_directory_beside_is_not_replaced(world, tmp_path):
    w = world("a", "a/b")
    (tmp_path / "a%file" / "precious").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"file")
    with pytest.raises(Blocked) as caught:
        await w.make_way("a/b", 1, Kind.FILE)
    assert (caught.value.path, caught.value.kind) == ("a%file", Kind.DIRECTORY)
    assert tree(tmp_path) == {"a": b"file", "a%file/precious/": b""}


@pytest.mark.parametrize(
    ("keys", "filters", "asked"),
    [(["a/b"], [], [("head", "a")]), (["a", "a/b"], [Filter("exclude", "a")], [])],
    ids=["no object has that key", "that object is not meant"],
)
async def test_somebody_elses_file_is_left_alone(world, tmp_path, keys, filters, asked):
    w = world(*keys, filters=filters)
    (tmp_path / "a").write_bytes(b"precious")
    with pytest.raises(Blocked):
        await w.make_way("a/b", 1, Kind.FILE)
    assert tree(tmp_path) == {"a": b"precious"}
    assert w.store.asked == asked


async def test_where_the_store_does_not_tell_whose_file_it_is_nothing_is_moved(world, tmp_path):
    w = world("a", "a/b")
    w.store.refusals["a"] = Refused("no", code="AccessDenied")
    (tmp_path / "a").write_bytes(b"maybe precious")
    with pytest.raises(Refused):
        await w.make_way("a/b", 1, Kind.FILE)
    assert tree(tmp_path) == {"a": b"maybe precious"}


async def test_no_object_stands_where_the_buckets_own_directory_is_needed(world):
    w = world("a", sources=["s3://bucket", "s3://other"])
    with pytest.raises(Blocked):
        await w.make_way("a", 1, Kind.FILE)
    assert w.store.asked == []


@pytest.mark.parametrize("kind", [Kind.SYMLINK, Kind.FIFO, Kind.SOCKET, Kind.DEVICE])
async def test_what_sealift_never_makes_is_never_moved(world, kind):
    w = world("a", "a/b")
    for key in ("a", "a/b"):
        with pytest.raises(Blocked):
            await w.make_way(key, 1, kind)
    assert w.store.asked == []


@pytest.mark.parametrize(("strict", "dry"), [(True, False), (False, True)])
async def test_a_strict_run_and_a_dry_one_move_nothing(world, tmp_path, strict, dry):
    w = world("a", "a/b", strict=strict, dry=dry)
    (tmp_path / "a").write_bytes(b"file")
    if strict:
        with pytest.raises(Permanent, match="without --strict-keys"):
            await w.make_way("a/b", 1, Kind.FILE)
    else:
        assert await w.make_way("a/b", 1, Kind.FILE) == w.place("a/b")
    assert tree(tmp_path) == {"a": b"file"}
    assert w.tally.escaped == 0


# ── Landing ─────────────────────────────────────────────────────────────────────────────────────────


async def test_an_object_lands_with_its_time(world, tmp_path):
    w = world("a/b")
    job = w.job("a/b")
    outcome = await w.landing.land(job, w.complete(job))
    assert outcome == Outcome(Ending.DOWNLOADED, "bucket", "a/b", 4, "a/b")
    assert tree(tmp_path) == {"a/b": b"body"}
    assert (tmp_path / "a" / "b").stat().st_mtime_ns == remote("a/b").last_modified_ns
    assert partials(tmp_path) == []


async def test_an_object_whose_place_is_taken_lands_beside(world, tmp_path):
    w = world("a", "a/b")
    (tmp_path / "a").mkdir()
    job = w.job("a")
    outcome = await w.landing.land(job, w.complete(job))
    assert (outcome.path, outcome.escaped) == ("a%file", True)
    assert tree(tmp_path) == {"a/": b"", "a%file": b"body"}


async def test_a_small_object_has_a_spot_with_its_time_and_a_larger_one_is_landed(world):
    w = world("a/b")
    job = w.job("a/b")
    assert w.landing.spot(job) == Spot((b"a", b"b"), remote("a/b").last_modified_ns)
    assert w.landing.placed(job) == Outcome(Ending.DOWNLOADED, "bucket", "a/b", 4, "a/b")
    large = Job(remote("a/b")._replace(size=SMALL + 1), 8 << 20, target=w.place("a/b"))
    assert w.landing.spot(large) is None


async def test_what_another_hand_began_is_opened_again(world, tmp_path):
    w = world("k")
    job = w.job("k")
    with w.landing.begin(job) as begun:
        begun.write(0, b"bo")
    again = w.landing.reopen(job)
    again.write(2, b"dy")
    await w.landing.land(job, again)
    assert tree(tmp_path) == {"k": b"body"}
    with pytest.raises(Integrity, match="vanished"):
        w.landing.reopen(job)


async def test_a_partial_file_is_continued_where_it_stands(world, tmp_path):
    w = world("k")
    with PartialFile.create(w.destination.partial_fd, partial_name(remote("k")), 4, preallocate=False) as begun:
        begun.write(0, b"bo")
        begun.record([ByteRange(0, 2)])
    job = w.job("k", done=[ByteRange(0, 2)])
    partial = w.landing.begin(job)
    partial.write(2, b"dy")
    await w.landing.land(job, partial)
    assert tree(tmp_path) == {"k": b"body"}


async def test_a_partial_file_that_has_vanished_is_worth_another_run(world):
    w = world("k")
    with pytest.raises(Integrity) as caught:
        w.landing.begin(w.job("k", done=[ByteRange(0, 2)]))
    assert caught.value.code == "PartialFileLost"


class Haunted(Destination):
    """A destination in which somebody puts a file back wherever one was moved away."""

    def move_beside(self, path):
        moved = super().move_beside(path)
        where = os.path.join(self.path, path.text)  # noqa: PTH118 - bytes of any kind
        with open(where, "xb") as file:  # noqa: PTH123
            file.write(b"boo")
        return moved


async def test_there_is_an_end_to_it_if_someone_keeps_putting_files_in_the_way(world, tmp_path):
    w = world("a", "a/b", kind=Haunted)
    (tmp_path / "a").write_bytes(b"file")
    job = w.job("a/b")
    waiting = w.complete(job)
    with pytest.raises(Blocked, match="a file is in the way at a"):
        await w.landing.land(job, waiting)
    waiting.discard()


async def test_a_job_of_something_else_is_a_bug(world):
    w = world("k")
    job = Job(remote("k"), 8 << 20)
    with pytest.raises(TypeError):
        w.landing.spot(job)
    with pytest.raises(TypeError):
        await bind(w.landing.land, job)(w.landing.begin(job))
