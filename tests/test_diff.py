"""What a look at an object's place says: fetch it, leave it, or why it cannot be mirrored."""

import os
from itertools import permutations

import pytest

from sealift import diff
from sealift.config import Durability, SelectionSettings, Settings, TransferSettings
from sealift.destination import Destination
from sealift.diff import Diff
from sealift.model import ByteRange, Ending
from sealift.partial import Blocked, PartialFile, partial_name
from sealift.placing import TreeLanding, WayMaker
from sealift.selection import Ownership, Selection, parse_sources
from sealift.tally import Tally
from tests.support.keys import Keys, remote
from tests.support.loops import ONE_LOOP
from tests.support.running import Watcher, partials, tree
from tests.test_placing import Haunted

pytestmark = pytest.mark.anyio

MODIFIED = remote("k").last_modified_ns


class Comparing:
    """A diff of objects with what is in a directory."""

    def __init__(
        self, dest, *keys, sources=("s3://bucket",), strict=False, dry=False, kind=Destination, inventory=None
    ):
        self.sources = parse_sources(sources)
        self.watcher = Watcher()
        self.tally = Tally(self.watcher, 0.0)
        self.destination = kind.open(dest, create=not dry)
        settings = Settings(
            selection=SelectionSettings(strict_keys=strict, inventory=inventory),
            transfer=TransferSettings(part_size=1 << 20),
        )
        ownership = Ownership(self.sources, Selection())
        way = WayMaker(Keys(keys), self.destination, ownership, self.tally, strict=strict, dry=dry)
        self.diff = Diff(
            destination=self.destination,
            way=way,
            settings=settings,
            tally=self.tally,
            several=len(self.sources) > 1,
            dry=dry,
        )
        self.landing = TreeLanding(self.destination, way, Durability.NONE)

    async def land(self, job):
        """Put the object of a job in its place."""
        with self.landing.begin(job) as begun:
            begun.write(0, b"body"[: job.remote.size])
            return await self.landing.land(job, begun)

    async def jobs(self, *remotes, **more):
        return await self.diff.jobs(self.sources[0], remotes, **more)

    @property
    def endings(self):
        return [(outcome.ending, outcome.key, outcome.path) for outcome in self.watcher.outcomes]


@pytest.fixture
def comparing(tmp_path):
    made = []

    def make(*keys, **more):
        made.append(Comparing(tmp_path, *keys, **more))
        return made[-1]

    yield make
    for each in made:
        each.destination.close()


def path_of(job):
    return job.target.path.text


def put(path, data=b"body", modified=MODIFIED):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(modified, modified))


async def test_what_has_its_size_and_its_time_is_up_to_date_and_everything_else_is_fetched(comparing, tmp_path):
    put(tmp_path / "same")
    put(tmp_path / "longer", b"a body")
    put(tmp_path / "older", modified=MODIFIED - 10**9)
    c = comparing()
    jobs = await c.jobs(*map(remote, ["same", "longer", "older", "missing"]))
    assert [job.remote.key for job in jobs] == ["longer", "older", "missing"]
    assert c.endings == [(Ending.UP_TO_DATE, "same", "same")]
    assert c.watcher.due == 3 * 4


async def test_with_several_sources_each_bucket_has_its_directory(comparing, tmp_path):
    put(tmp_path / "bucket" / "p" / "k")
    c = comparing(sources=["s3://bucket/p", "s3://other"])
    [job] = await c.jobs(remote("p/k"), remote("p/l"))
    assert path_of(job) == "bucket/p/l"
    assert c.endings == [(Ending.UP_TO_DATE, "p/k", "bucket/p/k")]


async def test_jobs_know_how_often_they_were_started_over(comparing):
    assert [job.restarts for job in await comparing().jobs(remote("a"), remote("b"), restarts=2)] == [2, 2]


async def test_what_an_earlier_run_left_of_this_version_is_not_due(comparing):
    left = remote("k", 100)
    with (
        Destination.open(comparing().destination.path, create=True) as before,
        PartialFile.create(before.partial_fd, partial_name(left), 100, preallocate=False) as begun,
    ):
        begun.write(0, b"x" * 30)
        begun.record([ByteRange(0, 30)])
    c = comparing()
    continued, anew = await c.jobs(left, remote("k", 101))
    assert (continued.done, continued.due) == ([ByteRange(0, 30)], 70)
    assert (anew.done, anew.due) == ([], 101)
    assert c.watcher.due == 171


async def test_what_is_left_of_other_versions_is_dropped_when_the_object_is_listed(comparing, tmp_path):
    """The disk may have no room for both; what is left of objects that were not listed goes when all are known."""
    with Destination.open(comparing().destination.path, create=True) as before:
        for obj in (remote("k", 100), remote("k", 101), remote("gone", 5)):
            with PartialFile.create(before.partial_fd, partial_name(obj), obj.size, preallocate=True) as begun:
                begun.record([ByteRange(0, 3)])
    c = comparing()
    [job] = await c.jobs(remote("k", 101))
    assert job.done == [ByteRange(0, 3)]
    left = {partial_name(remote("k", 101)), partial_name(remote("gone", 5))}
    assert set(partials(tmp_path)) == left | {f"{name}.json" for name in left}
    c.diff.drop_useless()
    assert {name[:32] for name in partials(tmp_path)} == {partial_name(remote("k", 101))}


async def test_a_note_without_its_file_is_dropped(comparing, tmp_path):
    """It must not be taken for one about the file that is begun now."""
    left = remote("k", 100)
    comparing()
    note = tmp_path / ".sealift" / "partial" / f"{partial_name(left)}.json"
    note.write_text('{"version": 1, "size": 100, "done": [[0, 50]]}')
    [job] = await comparing().jobs(left)
    assert (job.done, partials(tmp_path)) == ([], [])


async def test_a_partial_file_whose_note_says_nothing_begins_anew(comparing, tmp_path):
    left = remote("k", 100)
    comparing()
    (tmp_path / ".sealift" / "partial" / partial_name(left)).write_bytes(b"x" * 30)
    [job] = await comparing().jobs(left)
    assert (job.done, job.due) == ([], 100)


@pytest.mark.parametrize("dry", [False, True])
async def test_a_file_beside_a_directory_that_is_gone_moves_back_unless_the_run_is_dry(comparing, tmp_path, dry):
    put(tmp_path / "a%file")
    c = comparing("a", dry=dry)
    assert await c.jobs(remote("a")) == []
    assert c.endings == [(Ending.UP_TO_DATE, "a", "a")]
    assert tree(tmp_path) == {"a%file" if dry else "a": b"body"}


@pytest.mark.parametrize("strict", [False, True])
async def test_a_file_beside_its_directory_is_up_to_date_where_keys_may_be_escaped(comparing, tmp_path, strict):
    put(tmp_path / "a%file")
    put(tmp_path / "a" / "b")
    c = comparing("a", "a/b", strict=strict)
    assert await c.jobs(remote("a")) == []
    [outcome] = c.watcher.outcomes
    if strict:
        assert (outcome.ending, outcome.error) == (Ending.FAILED, "KeyNotRepresentable")
    else:
        assert (outcome.ending, outcome.path, outcome.escaped) == (Ending.UP_TO_DATE, "a%file", True)


@pytest.mark.parametrize("dry", [False, True])
async def test_a_file_in_the_way_is_moved_and_its_objects_are_fetched_unless_the_run_is_dry(comparing, tmp_path, dry):
    put(tmp_path / "a")
    c = comparing("a", "a/b", dry=dry)
    [job] = await c.jobs(remote("a/b"))
    assert path_of(job) == "a/b"
    assert tree(tmp_path) == {"a" if dry else "a%file": b"body"}


@pytest.mark.parametrize("dry", [False, True])
async def test_a_directory_marker_is_made_without_a_get_unless_the_run_is_dry(comparing, tmp_path, dry):
    c = comparing(dry=dry)
    assert await c.jobs(remote("d/", 0)) == []
    assert c.endings == [(Ending.DOWNLOADED, "d/", "d")]
    assert (tmp_path / "d").is_dir() is not dry
    put(tmp_path / "d" / "k")
    await c.jobs(remote("d/", 0))
    assert c.endings[1:] == [(Ending.UP_TO_DATE, "d/", "d")]


@pytest.mark.parametrize(("restored", "jobs"), [(False, 0), (True, 1)])
async def test_archived_objects_are_fetched_where_they_were_restored(comparing, restored, jobs):
    c = comparing()
    assert len(await c.jobs(remote("k", storage_class="GLACIER", restored=restored))) == jobs
    assert [outcome.error for outcome in c.watcher.outcomes] == ["InvalidObjectState"] * (1 - jobs)


@pytest.mark.parametrize("dry", [False, True])
async def test_what_is_no_file_and_no_directory_fails_its_object(comparing, tmp_path, dry):
    os.mkfifo(tmp_path / "k")
    c = comparing(dry=dry)
    assert await c.jobs(remote("k"), remote("k/below")) == []
    assert [(outcome.key, outcome.error) for outcome in c.watcher.outcomes] == [
        ("k", "PathBlocked"),
        ("k/below", "PathBlocked"),
    ]
    assert "a fifo is in the way at k" in c.watcher.outcomes[1].message


async def test_there_is_an_end_to_it_if_someone_keeps_putting_files_in_the_way(comparing, tmp_path):
    put(tmp_path / "a")
    c = comparing("a", "a/b", kind=Haunted)
    assert await c.jobs(remote("a/b")) == []
    [outcome] = c.watcher.outcomes
    assert (outcome.ending, outcome.error) == (Ending.FAILED, "PathBlocked")


# ── Directories that held nothing when the run began with them ──────────────────────────────────────


@pytest.mark.parametrize("key", ["k", "d/k", "d/e/k"])
async def test_where_nothing_was_no_file_is_looked_for_on_any_later_page(comparing, tmp_path, key):
    """That is what a first run saves: what is there by now is another object's, or is replaced like any other file."""
    c = comparing()
    await c.jobs(remote(f"{key}1"))
    put(tmp_path / f"{key}2")
    [job] = await c.jobs(remote(f"{key}2"))
    assert not job.replaces
    assert (await c.land(job)).ending is Ending.DOWNLOADED


async def test_an_object_that_is_started_over_is_looked_for(comparing, tmp_path):
    """A worker may have put it in place before it was lost, and told nobody."""
    c = comparing()
    jobs = await c.jobs(remote("k"), remote("d/k"))
    for job in jobs:
        await c.land(job)
    assert await c.jobs(remote("k"), restarts=1) == await c.jobs(remote("d/k"), restarts=1) == []
    assert c.endings == [(Ending.UP_TO_DATE, "k", "k"), (Ending.UP_TO_DATE, "d/k", "d/k")]


async def test_an_object_that_an_inventory_names_again_is_looked_for(comparing):
    c = comparing(inventory="s3://inventories/manifest.json")
    for job in await c.jobs(remote("k"), remote("d/k"), remote("e/", 0), remote("e/k")):
        await c.land(job)
    assert await c.jobs(remote("k"), remote("d/k"), remote("e/k")) == []
    assert [key for _, key, _ in c.endings] == ["e/", "k", "d/k", "e/k"]


@pytest.mark.parametrize("there", ["other", ".sealift2", "d/other"])
async def test_where_something_was_every_file_is_looked_for(comparing, tmp_path, there):
    put(tmp_path / there)
    key = "d/k" if "/" in there else "k"
    c = comparing()
    await c.jobs(remote(f"{key}1"))
    put(tmp_path / f"{key}2")
    assert await c.jobs(remote(f"{key}2")) == []


async def test_a_directory_is_vacant_where_its_marker_has_made_it_and_not_where_it_was_there(comparing, tmp_path):
    put(tmp_path / "old" / "k")
    c = comparing()
    await c.jobs(remote("new/", 0), remote("old/", 0))
    put(tmp_path / "new" / "k")
    [job] = await c.jobs(remote("new/k"), remote("old/k"))
    assert job.remote.key == "new/k"


async def test_of_so_many_directories_some_are_forgotten_and_looked_into_again(comparing, tmp_path, monkeypatch):
    monkeypatch.setattr(diff, "MOST_VACANT", 3)
    c = comparing()
    for name in "abcdef":
        for job in await c.jobs(remote(f"{name}/k"), remote(f"{name}{name}/", 0)):
            await c.land(job)
    again = [remote(f"{name}/k") for name in "abcde"]
    assert await c.jobs(*again) == []
    put(tmp_path / "k")
    assert len(await c.jobs(remote("k"))) == 1, "the top is not among the forgotten"


@pytest.mark.parametrize("dry", [False, True])
async def test_a_link_where_a_directory_was_missing_is_not_a_directory_that_is_missing(comparing, tmp_path, dry):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    c = comparing(dry=dry)
    assert await c.jobs(remote("link/k"), remote("link/l")) == []
    assert [outcome.error for outcome in c.watcher.outcomes] == ["PathBlocked"] * 2


@pytest.mark.parametrize("kind", ["link", "directory"])
@pytest.mark.parametrize("where", ["d/k", "d", "k"])
async def test_what_somebody_puts_there_meanwhile_is_neither_followed_nor_replaced(comparing, tmp_path, kind, where):
    elsewhere = tmp_path / "elsewhere"
    c = comparing()
    await c.jobs(remote("d/j"), remote("j"))
    elsewhere.mkdir()
    thing = tmp_path / where
    thing.parent.mkdir(exist_ok=True)
    if kind == "link":
        thing.symlink_to(elsewhere, target_is_directory=True)
    else:
        put(thing / "theirs", b"theirs")
    blocked = []
    for job in await c.jobs(remote("d/k"), remote("k")):
        try:
            await c.land(job)
        except Blocked:
            blocked.append(job.remote.key)
    assert blocked == ["d/k" if where == "d" else where] if (kind, where) != ("directory", "d") else not blocked
    assert not list(elsewhere.iterdir())
    assert thing.is_symlink() if kind == "link" else (thing / "theirs").read_bytes() == b"theirs"


KEYS = ("a", "a/b", "a/b/c", "m", "m/")


@ONE_LOOP
@pytest.mark.parametrize("pages", [1, 2, 5])
@pytest.mark.parametrize("below", ["", "d/"])
async def test_files_make_way_for_directories_on_whatever_page_they_are_and_whoever_comes_first(tmp_path, pages, below):
    """Nothing is looked for here, so that it is for the commit to find out."""
    for number, order in enumerate(permutations(KEYS)):
        c = Comparing(tmp_path / str(number), *(below + key for key in KEYS))
        with c.destination:
            for start in range(0, len(KEYS), -(-len(KEYS) // pages)):
                page = order[start : start + -(-len(KEYS) // pages)]
                jobs = await c.jobs(*(remote(below + key, 0 if key.endswith("/") else 4) for key in page))
                for job in jobs:
                    await c.land(job)
        expected = {"a%file": b"body", "a/b%file": b"body", "a/b/c": b"body", "m%file": b"body", "m/": b""}
        assert tree(tmp_path / str(number)) == {below + path: data for path, data in expected.items()}, order


async def test_a_plan_for_an_empty_destination_asks_nothing_of_the_disk_and_finds_what_is_there(comparing, tmp_path):
    c = comparing(dry=True)
    need = await c.diff.need(c.sources[0], [remote("k"), remote("d/k"), remote("%file")])
    assert (need.objects, need.size, need.escaped) == (3, 12, 1)
    put(tmp_path / "there")
    c = comparing(dry=True)
    need = await c.diff.need(c.sources[0], [remote("there"), remote("d/k")])
    assert (need.objects, need.size) == (1, 4)
