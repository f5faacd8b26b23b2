"""Files whose object is gone are deleted where that is asked for, and nothing else ever is."""

import json
import os
import random
from typing import NamedTuple

import anyio
import pytest

import sealift
from sealift import (
    AccessError,
    ConfigError,
    Filter,
    MaxDelete,
    SelectionSettings,
    StorageSettings,
    TooManyDeletions,
)
from sealift.cli import main
from sealift.config import Check
from sealift.ledger import LEDGER
from sealift.listed import AT_ONCE
from sealift.model import Ending
from tests.support.faultserver import Answer, FaultServer, FaultServerThread, Hold
from tests.support.running import Watcher, fill, recorded, settings_for, tree

pytestmark = pytest.mark.anyio

BODIES = {"a.csv": b"a", "d/b.csv": b"bb", "d/e/c.csv": b"ccc", "empty/": b"", "x//y": b"odd", "z": b"stays"}
FILES = {"a.csv": b"a", "d/b.csv": b"bb", "d/e/c.csv": b"ccc", "empty/": b"", "x/%empty/y": b"odd", "z": b"stays"}
ALL = MaxDelete(100, percent=True)


@pytest.fixture
def anyio_backend():
    """One loop is enough: what is tried here is what comes of runs, and not how they wait."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
async def server():
    async with FaultServer() as server:
        fill(server, BODIES)
        yield server


def settings(server, *, filters=(), strict_keys=False, **storage):
    selection = SelectionSettings(filters=filters, strict_keys=strict_keys)
    return settings_for(server, selection=selection, storage=StorageSettings(**storage))


async def mirror(server, dest, *sources, observer=None, **more):
    return await sealift.mirror(sources or ["s3://bucket"], dest, settings(server, **more), observer=observer)


async def delete(server, dest, *sources, max_delete=ALL, **more):
    return await mirror(server, dest, *sources, delete=True, max_delete=max_delete, **more)


def remove(server, *keys, bucket="bucket"):
    for key in keys:
        del server.objects[bucket, key]


def without(*paths):
    return {path: body for path, body in FILES.items() if path not in paths}


# ── What goes ───────────────────────────────────────────────────────────────────────────────────────


async def test_files_whose_object_is_gone_go_with_the_directories_that_sealift_made_for_them(server, tmp_path):
    await mirror(server, tmp_path)
    remove(server, "a.csv", "d/e/c.csv", "d/b.csv", "x//y")
    watcher = Watcher()

    summary = await delete(server, tmp_path, observer=watcher)

    assert tree(tmp_path) == {"empty/": b"", "z": b"stays"}
    assert (summary.deleted, summary.up_to_date, summary.listed, summary.pending) == (4, 2, 2, 0)
    assert summary.complete
    assert {(outcome.key, outcome.path) for outcome in watcher.outcomes if outcome.ending is Ending.DELETED} == {
        ("a.csv", "a.csv"),
        ("d/b.csv", "d/b.csv"),
        ("d/e/c.csv", "d/e/c.csv"),
        ("x//y", "x/%empty/y"),
    }
    assert recorded(tmp_path).keys() == {"empty/", "z"}


async def test_without_the_option_nothing_is_deleted_and_a_later_run_with_it_makes_up_for_that(server, tmp_path):
    await mirror(server, tmp_path)
    remove(server, "a.csv")

    assert (await mirror(server, tmp_path)).deleted == 0
    assert tree(tmp_path) == FILES
    assert (await delete(server, tmp_path)).deleted == 1
    assert tree(tmp_path) == without("a.csv")
    assert (await delete(server, tmp_path)).deleted == 0


async def test_the_directory_of_a_marker_that_is_gone_goes_once_it_is_empty(server, tmp_path):
    fill(server, {"full/": b"", "full/x": b"x"})
    await mirror(server, tmp_path)
    remove(server, "empty/", "full/")

    assert (await delete(server, tmp_path)).deleted == 0
    assert tree(tmp_path) == without("empty/") | {"full/x": b"x"}
    remove(server, "full/x")
    await delete(server, tmp_path)
    assert tree(tmp_path) == without("empty/")


async def test_a_directory_whose_marker_is_listed_stays_when_all_in_it_is_gone(server, tmp_path):
    fill(server, {"kept/": b"", "kept/x": b"x"})
    await mirror(server, tmp_path)
    remove(server, "kept/x")

    await delete(server, tmp_path)

    assert tree(tmp_path) == FILES | {"kept/": b""}


@pytest.mark.parametrize("order", ["key", "shuffled"])
async def test_whatever_the_order_of_the_listing_and_of_the_ledger_just_those_go(
    server, tmp_path, tmp_path_factory, order
):
    server.listing_order, server.page_size = order, 9
    keys = [f"many/{n % 7}/{n}{'//' * (n % 3)}x\N{SNOWMAN}" for n in range(AT_ONCE + 100)]
    fill(server, dict.fromkeys(keys, b"x"))
    await mirror(server, tmp_path)
    gone = random.Random(5).sample(keys, 250)
    remove(server, *gone)

    summary = await delete(server, tmp_path)

    assert (summary.deleted, summary.failed) == (250, 0)
    fresh = tmp_path_factory.mktemp("fresh")
    await mirror(server, fresh)
    assert tree(tmp_path) == tree(fresh)


async def test_with_several_sources_each_file_is_held_against_its_own_bucket(server, tmp_path):
    for key, body in BODIES.items():
        server.put("other", key, body)
    await mirror(server, tmp_path, "s3://bucket/d/", "s3://other")
    remove(server, "d/b.csv")
    remove(server, "d/e/c.csv", "a.csv", bucket="other")

    summary = await delete(server, tmp_path, "s3://bucket/d/", "s3://other")

    assert summary.deleted == 3
    assert set(tree(tmp_path)) == {"bucket/d/e/c.csv", *(f"other/{path}" for path in without("d/e/c.csv", "a.csv"))}


async def test_a_key_in_bytes_that_are_no_utf_8_is_told_from_others(server, tmp_path):
    fill(server, dict.fromkeys(["caf\udce9", "caf\udce8", "café"], b"x"))
    await mirror(server, tmp_path)
    remove(server, "caf\udce9")

    assert (await delete(server, tmp_path)).deleted == 1
    assert {path.name for path in tmp_path.glob("caf*")} == {"caf\udce8", "café"}


# ── What stays ──────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_not_sealifts_or_not_its_alone_any_more_stays(server, tmp_path):
    await mirror(server, tmp_path)
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "d" / "mine").mkdir()
    (tmp_path / "a.csv").write_bytes(b"changed")
    (tmp_path / "x" / "%empty" / "y").unlink()
    (tmp_path / "x" / "%empty" / "y").symlink_to(tmp_path / "mine")
    remove(server, "a.csv", "d/b.csv", "d/e/c.csv", "x//y")
    watcher = Watcher()

    summary = await delete(server, tmp_path, observer=watcher)

    assert summary.deleted == 2
    assert tree(tmp_path) == {
        "a.csv": b"changed",
        "d/mine/": b"",
        "empty/": b"",
        "mine": b"mine",
        "x/%empty/y": b"mine",
        "z": b"stays",
    }
    assert watcher.notes == ["files whose object is gone, but which were changed here, are kept: 2"]


async def test_a_directory_of_somebody_elses_stays_when_it_is_empty(server, tmp_path):
    (tmp_path / "d").mkdir()
    await mirror(server, tmp_path)
    remove(server, "d/b.csv", "d/e/c.csv")

    await delete(server, tmp_path)

    assert tree(tmp_path) == without("d/b.csv", "d/e/c.csv") | {"d/": b""}


async def test_a_file_that_was_found_there_and_adopted_stays(server, tmp_path):
    stored = server.find("bucket", "a.csv")
    (tmp_path / "a.csv").write_bytes(b"a")
    os.utime(tmp_path / "a.csv", ns=(0, int(stored.last_modified.timestamp()) * 10**9))
    assert (await mirror(server, tmp_path)).up_to_date == 1
    remove(server, "a.csv")
    watcher = Watcher()

    assert (await delete(server, tmp_path, observer=watcher)).deleted == 0
    assert tree(tmp_path) == FILES
    assert watcher.notes == ["files whose object is gone, but which were not written by Sealift, are kept: 1"]


async def test_after_a_lost_ledger_every_file_is_as_one_that_was_found_there(server, tmp_path):
    await mirror(server, tmp_path)
    for path in (tmp_path / ".sealift").glob(f"{LEDGER}*"):
        path.unlink()
    await mirror(server, tmp_path)
    remove(server, "a.csv")

    assert (await delete(server, tmp_path)).deleted == 0
    assert tree(tmp_path) == FILES


async def test_after_a_damaged_ledger_too(server, tmp_path):
    await mirror(server, tmp_path)
    (tmp_path / ".sealift" / LEDGER).write_bytes(b"\xff" * 5000)
    remove(server, "a.csv")
    watcher = Watcher()

    assert (await delete(server, tmp_path, observer=watcher)).deleted == 0
    assert tree(tmp_path) == FILES
    assert any("was damaged" in note for note in watcher.notes)


async def test_what_filters_exclude_and_what_other_sources_brought_stays(server, tmp_path):
    fill(server, {"p/1": b"1", "q/2": b"2"})
    await mirror(server, tmp_path, "s3://bucket/p/")
    await mirror(server, tmp_path)
    remove(server, "p/1", "a.csv", "d/b.csv", "d/e/c.csv")

    assert (await delete(server, tmp_path, "s3://bucket/q/")).deleted == 0
    summary = await delete(server, tmp_path, filters=(Filter("exclude", "*.csv"), Filter("include", "d/e/*")))

    assert summary.deleted == 2
    assert tree(tmp_path) == without("d/e/c.csv") | {"1": b"1", "2": b"2", "q/2": b"2"}


async def test_an_object_that_is_listed_and_cannot_be_fetched_keeps_its_older_file(server, tmp_path):
    await mirror(server, tmp_path)
    server.put("bucket", "a.csv", b"new")
    server.fault(op="get", key="a.csv", do=Answer(403, "AccessDenied", "no"))
    remove(server, "z")

    summary = await delete(server, tmp_path)

    assert (summary.failed, summary.deleted) == (1, 1)
    assert tree(tmp_path) == without("z")


# ── Runs that delete nothing ────────────────────────────────────────────────────────────────────────


async def test_a_source_under_which_there_is_nothing_deletes_nothing(server, tmp_path):
    server.put("other", "k", b"k")
    await mirror(server, tmp_path, "s3://bucket/d/", "s3://other")
    remove(server, "d/b.csv", "d/e/c.csv")
    remove(server, "k", bucket="other")
    server.put("other", "l", b"l")
    watcher = Watcher()

    summary = await delete(server, tmp_path, "s3://bucket/d/", "s3://other", observer=watcher)

    assert summary.deleted == 0
    assert (tmp_path / "other" / "k").exists()
    assert watcher.notes[-1] == "nothing is deleted: nothing lies under one of the sources"


async def test_a_listing_that_breaks_off_deletes_nothing(server, tmp_path):
    server.page_size = 2
    await mirror(server, tmp_path)
    remove(server, "a.csv")
    broken = Answer(403, "AccessDenied", "no more")
    server.fault(op="list", times=None, do=broken, when=lambda request: "continuation-token" in request.query)
    watcher = Watcher()

    summary = await delete(server, tmp_path, observer=watcher)

    assert (summary.deleted, summary.complete) == (0, False)
    assert tree(tmp_path) == FILES
    assert "nothing is deleted: not every listing has reached its end" in watcher.notes


async def test_neither_does_one_of_which_another_source_fails(server, tmp_path):
    server.put("other", "k", b"k")
    await mirror(server, tmp_path, "s3://bucket", "s3://other")
    remove(server, "a.csv")
    server.fault(op="list", bucket="other", times=None, do=Answer(403, "AccessDenied", "no"))

    summary = await delete(server, tmp_path, "s3://bucket", "s3://other")

    assert (summary.deleted, summary.complete) == (0, False)
    assert (tmp_path / "bucket" / "a.csv").exists()


async def test_nor_one_that_is_refused_everything(server, tmp_path):
    await mirror(server, tmp_path)
    remove(server, *(set(BODIES) - {"a.csv"}))
    server.put("bucket", "a.csv", b"new")
    server.fault(op="get", do=Answer(403, "AccessDenied", "no"))

    with pytest.raises(AccessError):
        await delete(server, tmp_path)
    assert tree(tmp_path) == FILES


async def test_nor_one_that_is_interrupted(server, tmp_path):
    await mirror(server, tmp_path)
    remove(server, "a.csv")
    fill(server, {"new": b"new"})
    held = server.fault(op="get", do=Hold(anyio.Event()))
    async with anyio.create_task_group() as group:
        group.start_soon(delete, server, tmp_path)
        await held.reached()
        group.cancel_scope.cancel()

    assert tree(tmp_path) == FILES


async def test_nor_one_without_a_ledger(server, tmp_path, monkeypatch):
    await mirror(server, tmp_path)
    monkeypatch.setattr("sealift.ledger._VERSION", 0)
    remove(server, "a.csv")
    watcher = Watcher()

    assert (await delete(server, tmp_path, check=Check.SIZE_MTIME, observer=watcher)).deleted == 0
    assert tree(tmp_path) == FILES
    assert watcher.notes[-1] == "nothing is deleted: there is no ledger that would say which files are Sealift's own"


# ── How many ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("most", [MaxDelete(2, percent=False), MaxDelete(49, percent=True)])
async def test_more_than_may_be_are_not_deleted_not_even_some(server, tmp_path, most):
    await mirror(server, tmp_path)
    remove(server, "a.csv", "d/b.csv", "d/e/c.csv", "empty/")
    fill(server, {"new": b"new"})

    with pytest.raises(TooManyDeletions, match=r"3 of 6 files would be deleted.*--max-delete") as raised:
        await delete(server, tmp_path, max_delete=most)

    assert tree(tmp_path) == FILES | {"new": b"new"}
    assert raised.value.exit_status == 1
    assert (raised.value.summary.deleted, raised.value.summary.downloaded) == (0, 1)
    assert "a.csv" in recorded(tmp_path)


@pytest.mark.parametrize("most", [MaxDelete(3, percent=False), StorageSettings().max_delete])
async def test_as_many_as_may_be_are_deleted(server, tmp_path, most):
    await mirror(server, tmp_path)
    remove(server, "a.csv", "d/b.csv", "d/e/c.csv", "empty/")
    fill(server, {"new": b"new"})

    assert (await delete(server, tmp_path, max_delete=most)).deleted == 3


async def test_a_plan_names_each_and_says_when_they_are_too_many(server, tmp_path):
    await mirror(server, tmp_path)
    remove(server, "a.csv", "x//y")
    before = tree(tmp_path)
    watcher = Watcher()

    forecast = await sealift.plan(
        ["s3://bucket"], tmp_path, settings(server, delete=True, max_delete=ALL), observer=watcher
    )
    few = settings(server, delete=True, max_delete=MaxDelete(1, percent=False))
    with pytest.raises(TooManyDeletions):
        await sealift.plan(["s3://bucket"], tmp_path, few, observer=watcher)

    named = [outcome.path for outcome in watcher.outcomes if outcome.ending is Ending.DELETED]
    assert named == ["a.csv", "x/%empty/y"] * 2
    assert forecast.to_delete == 2
    assert (tree(tmp_path), len(recorded(tmp_path))) == (before, len(BODIES))


async def test_a_plan_for_where_nothing_is_yet_has_nothing_to_say_about_it(server, tmp_path):
    watcher = Watcher()

    forecast = await sealift.plan(["s3://bucket"], tmp_path / "new", settings(server, delete=True), observer=watcher)

    assert (forecast.to_delete, watcher.notes) == (0, [])


# ── Files and directories that take each other's place ──────────────────────────────────────────────


async def test_a_file_that_had_given_way_to_a_directory_gets_its_name_back(server, tmp_path):
    fill(server, {"k": b"file", "k/below": b"x"})
    await mirror(server, tmp_path)
    remove(server, "k/below")

    await delete(server, tmp_path)
    again = await delete(server, tmp_path)

    assert tree(tmp_path) == FILES | {"k": b"file"}
    assert (again.get_requests, again.escaped, again.deleted) == (0, 1, 0)  # x//y is
    assert "k" in recorded(tmp_path)


async def test_a_file_that_has_given_way_to_a_directory_goes_as_any_other(server, tmp_path):
    fill(server, {"k": b"file", "k/below": b"x"})
    await mirror(server, tmp_path)
    remove(server, "k")

    assert (await delete(server, tmp_path)).deleted == 1
    assert tree(tmp_path) == FILES | {"k/below": b"x"}


async def test_an_object_that_was_replaced_by_a_directory_of_objects_makes_room_in_the_same_run(server, tmp_path):
    fill(server, {"k": b"file"})
    await mirror(server, tmp_path)
    remove(server, "k")
    fill(server, {"k/below/x": b"x"})

    summary = await delete(server, tmp_path)

    assert (summary.downloaded, summary.deleted, summary.failed) == (1, 1, 0)
    assert tree(tmp_path) == FILES | {"k/below/x": b"x"}
    assert (await delete(server, tmp_path)).get_requests == 0


@pytest.mark.parametrize("size", [1, 9 << 20])
async def test_a_directory_of_objects_that_was_replaced_by_one_makes_room_in_the_same_run(server, tmp_path, size):
    fill(server, {"k/below/x": b"x", "k/y": b"y"})
    await mirror(server, tmp_path)
    remove(server, "k/below/x", "k/y")
    fill(server, {"k": b"f" * size})

    summary = await delete(server, tmp_path)

    assert (summary.downloaded, summary.deleted, summary.failed) == (1, 2, 0)
    assert tree(tmp_path) == FILES | {"k": b"f" * size}
    assert (await delete(server, tmp_path)).get_requests == 0


async def test_without_delete_both_are_there_and_neither_is_in_the_others_way(server, tmp_path):
    fill(server, {"k": b"file", "l/below": b"x"})
    await mirror(server, tmp_path)
    remove(server, "k", "l/below")
    fill(server, {"k/below": b"y", "l": b"file"})

    first, second = await mirror(server, tmp_path), await mirror(server, tmp_path)

    assert (first.failed, second.failed, second.get_requests) == (0, 0, 0)
    assert tree(tmp_path) == FILES | {"k%file": b"file", "k/below": b"y", "l%file": b"file", "l/below": b"x"}
    assert (await delete(server, tmp_path)).deleted == 2
    assert tree(tmp_path) == FILES | {"k/below": b"y", "l": b"file"}


@pytest.mark.parametrize("touch", [lambda path: path.write_bytes(b"mine"), lambda path: os.utime(path, (1, 1))])
async def test_a_file_that_somebody_has_changed_gives_way_to_nothing(server, tmp_path, touch):
    fill(server, {"k": b"file"})
    await mirror(server, tmp_path)
    touch(tmp_path / "k")
    remove(server, "k")
    fill(server, {"k/below": b"y"})

    summary = await delete(server, tmp_path)

    assert [failure.error for failure in summary.failures] == ["PathBlocked"]
    assert (tmp_path / "k").is_file()


async def test_where_keys_must_stay_as_they_are_the_run_after_the_one_that_deletes_finds_room(server, tmp_path):
    remove(server, "x//y")
    fill(server, {"k": b"file", "l/below": b"x"})
    await mirror(server, tmp_path, strict_keys=True)
    remove(server, "k", "l/below")
    fill(server, {"k/below": b"y", "l": b"file"})

    first = await delete(server, tmp_path, strict_keys=True)
    second = await delete(server, tmp_path, strict_keys=True)

    assert {failure.error for failure in first.failures} == {"PathBlocked"}
    assert (first.deleted, second.downloaded, second.failed) == (2, 2, 0)


# ── On the disk ─────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_run_that_was_killed_had_deleted_is_no_riddle_to_the_next(server, tmp_path):
    await mirror(server, tmp_path)
    ledger = (tmp_path / ".sealift" / LEDGER).read_bytes()
    remove(server, "d/b.csv", "d/e/c.csv")
    await delete(server, tmp_path)
    (tmp_path / ".sealift" / LEDGER).write_bytes(ledger)  # it had not come to that
    (tmp_path / "d" / "e").mkdir(parents=True)

    assert (await delete(server, tmp_path)).deleted == 0
    assert tree(tmp_path) == without("d/b.csv", "d/e/c.csv")
    assert recorded(tmp_path).keys() == {"a.csv", "empty/", "x/%empty/y", "z"}


async def test_nothing_is_left_of_what_the_run_had_to_remember(server, tmp_path):
    await delete(server, tmp_path)

    assert sorted(path.name for path in (tmp_path / ".sealift").iterdir()) == [LEDGER, "lock", "partial", "runs"]


async def test_a_location_that_is_an_object_deletes_nothing(server, tmp_path):
    fill(server, {"k/x": b"x"})
    await mirror(server, tmp_path, "s3://bucket/k")
    remove(server, "k/x")
    fill(server, {"k": b"file"})

    with pytest.raises(ConfigError):
        await delete(server, tmp_path, "s3://bucket/k")
    assert tree(tmp_path) == {"x": b"x"}


# ── From the command line ───────────────────────────────────────────────────────────────────────────


class Ran(NamedTuple):
    status: int
    stdout: str
    stderr: str


def test_the_command_line_says_what_goes_and_why_nothing_does(tmp_path, monkeypatch, capsys):
    with FaultServerThread() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        fill(server, BODIES)
        dest = tmp_path / "dest"

        def run(verb, *options):
            status = main([verb, "s3://bucket", str(dest), "--delete", *options])
            return Ran(status, *capsys.readouterr())

        assert run("mirror").status == 0
        for key in ("a.csv", "x//y"):
            del server.objects["bucket", key]

        plan = run("plan")
        too_many = run("mirror", "--max-delete", "1", "--json")
        too_many_planned = run("plan", "--max-delete", "1")
        nonsense = run("mirror", "--max-delete", "101%")
        assert tree(dest) == FILES
        done = run("mirror", "--max-delete", "2", "--json")

    gone = [("a.csv", "a.csv"), ("x//y", "x/%empty/y")]
    named = [f"delete {path} (there is no s3://bucket/{key} any more)" for key, path in gone]
    assert [line for line in plan.stdout.splitlines() if line.startswith("delete")] == named
    assert "to delete           2" in plan.stdout
    assert plan.status == 0
    for refused in (too_many, too_many_planned):
        assert refused.status == 1
        assert "2 of 5 files would be deleted" in refused.stderr
    assert (json.loads(too_many.stdout)["deleted"], json.loads(too_many.stdout)["complete"]) == (0, True)
    assert too_many_planned.stdout == plan.stdout
    assert nonsense.status == 2
    assert done.status == 0
    assert json.loads(done.stdout)["deleted"] == 2
    assert tree(dest) == without("a.csv", "x/%empty/y")
