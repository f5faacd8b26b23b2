"""A mirror of what a file names lists nothing, and does with each object what a listing would have it do."""

import json
import os
import subprocess
import sys

import anyio
import pytest

import sealift
from sealift import ConfigError, Filter, SelectionSettings, SourceError, StorageSettings
from sealift.model import Ending
from sealift.naming import BATCH, Names
from tests.support.faultserver import FaultServer, FaultServerThread
from tests.support.running import Watcher, fill, partials, settings_for, tree

pytestmark = pytest.mark.anyio

BODIES = {"p/a": b"a", "p/b c": b"bb", "p/d/e": b"ccc", "q/f": b"dddd"}


@pytest.fixture
async def server():
    async with FaultServer() as server:
        fill(server, BODIES)
        yield server


def settings(server, path, *, filters=(), null=False, **storage):
    selection = SelectionSettings(filters=filters, files_from=str(path), null=null)
    return settings_for(server, selection=selection, storage=StorageSettings(**storage))


@pytest.fixture
def mirror(server, tmp_path):
    async def mirror(names, *sources, observer=None, **more):
        path = tmp_path / "names"
        path.write_bytes(names.encode("utf-8", "surrogateescape"))
        chosen = settings(server, path, **more)
        return await sealift.mirror(sources or ["s3://bucket/p"], tmp_path / "dest", chosen, observer=observer)

    return mirror


def described(server, key, **more):
    stored = server.objects["bucket", key]
    moment = stored.last_modified.isoformat()
    return json.dumps({"key": key, "etag": stored.etag, "size": stored.size, "last_modified": moment, **more}) + "\n"


async def test_what_a_file_names_is_mirrored_and_nothing_is_listed(server, mirror, tmp_path):
    summary = await mirror("p/a\ns3://bucket/p/b c\n")

    assert tree(tmp_path / "dest") == {"a": b"a", "b c": b"bb"}
    assert (summary.listed, summary.downloaded, summary.complete) == (2, 2, True)
    assert (server.lists, server.heads, server.gets) == (0, 2, 2)
    assert (tmp_path / "dest" / "a").stat().st_mtime == server.objects["bucket", "p/a"].last_modified.timestamp()
    again = await mirror("p/a\0p/b c\0p/d/e", null=True)
    assert (again.up_to_date, again.downloaded) == (2, 1)


async def test_of_an_object_that_is_all_described_nothing_is_asked(server, mirror, tmp_path):
    names = described(server, "p/a") + described(server, "p/d/e")
    assert (await mirror(names)).downloaded == 2
    assert (server.lists, server.heads, server.gets) == (0, 0, 2)
    assert (await mirror(names)).up_to_date == 2
    assert (server.heads, server.gets) == (0, 2)


async def test_the_version_that_is_named_is_the_one_that_comes(server, mirror, tmp_path):
    server.put("bucket", "p/v", b"old", version_id="v1")
    server.put("bucket", "p/v", b"new one", version_id="v2")

    await mirror('{"key": "p/v", "version": "v1"}\n')
    assert tree(tmp_path / "dest") == {"v": b"old"}
    await mirror(described(server, "p/v", version="v2"))
    assert tree(tmp_path / "dest") == {"v": b"new one"}
    summary = await mirror('{"key": "p/v", "version": "v3"}\n')
    assert [failure.error for failure in summary.failures] == ["NoSuchKey"]


async def test_what_is_not_there_and_what_lies_elsewhere_fails_by_name(mirror, tmp_path):
    watcher = Watcher()
    summary = await mirror("p/a\np/gone\nq/f\ns3://other/p/a\n", observer=watcher)

    assert {(failure.bucket, failure.key): failure.error for failure in summary.failures} == {
        ("bucket", "p/gone"): "NoSuchKey",
        ("bucket", "q/f"): "OutsideSource",
        ("other", "p/a"): "OutsideSource",
    }
    assert (summary.listed, summary.downloaded, summary.failed, summary.pending) == (4, 1, 3, 0)
    assert tree(tmp_path / "dest") == {"a": b"a"}
    assert sum(outcome.ending is Ending.FAILED for outcome in watcher.outcomes) == 3


async def test_filters_hold_and_what_is_excluded_is_in_no_count(mirror, tmp_path):
    summary = await mirror("p/a\np/d/e\n", filters=(Filter("exclude", "d/*"),))
    assert (summary.listed, summary.failed) == (1, 0)
    assert tree(tmp_path / "dest") == {"a": b"a"}


async def test_an_object_that_is_named_several_times_is_mirrored_once(server, mirror):
    watcher = Watcher()
    summary = await mirror("p/a\ns3://bucket/p/a\n" + "p/d/e\n" * (BATCH + 1), observer=watcher)
    assert (summary.listed, server.gets, server.heads) == (2, 2, 2)
    assert any("mirrored once: 1,001" in note for note in watcher.notes)


async def test_with_sources_in_several_buckets_each_name_says_which(server, mirror, tmp_path):
    server.put("other", "x", b"xx")
    sources = ["s3://bucket/p", "s3://other"]
    await mirror("s3://bucket/p/a\ns3://other/x\n", *sources)
    assert tree(tmp_path / "dest") == {"bucket/p/a": b"a", "other/x": b"xx"}
    with pytest.raises(ConfigError, match="line 2: 'x' does not say in which bucket"):
        await mirror("s3://other/x\nx\n", *sources)


async def test_more_names_than_a_batch_are_all_mirrored(server, mirror, tmp_path):
    server.generate_listing("bucket", "p/many/", BATCH + 10, 3)
    summary = await mirror("".join(f"p/many/{number:09d}\n" for number in range(BATCH + 10)))
    assert (summary.downloaded, len(tree(tmp_path / "dest"))) == (BATCH + 10, BATCH + 10)


async def test_a_line_that_makes_no_sense_ends_the_run_before_anything_is_fetched(server, mirror):
    with pytest.raises(ConfigError, match="line 2: no JSON"):
        await mirror('{"key": "p/a"}\n{\n')
    assert server.gets == 0


async def test_one_that_comes_late_leaves_what_was_named_before_it_in_place(server, mirror, tmp_path):
    server.generate_listing("bucket", "p/many/", BATCH, 3)
    good = "".join(json.dumps({"key": f"p/many/{number:09d}"}) + "\n" for number in range(BATCH))
    # The bad line has to be in another piece than the last good one, as lines are read by the piece.
    with pytest.raises(
        SourceError, match=rf"line {BATCH + 5000}: no JSON.*nothing from there on was mirrored"
    ) as caught:
        await mirror(good + '{"key": "p/a"}\n' * 4999 + "{\n")
    assert caught.value.summary.complete is False
    assert len(tree(tmp_path / "dest")) >= BATCH


async def test_an_empty_file_is_worth_a_warning(mirror):
    watcher = Watcher()
    summary = await mirror("\n\n", observer=watcher)
    assert (summary.listed, summary.complete) == (0, True)
    assert any("names nothing" in note for note in watcher.notes)


async def test_the_targets_of_a_file_for_s5cmd_are_not_heeded_and_that_is_said(mirror, tmp_path):
    watcher = Watcher()
    await mirror("cp s3://bucket/p/a elsewhere/x\n", observer=watcher)
    assert tree(tmp_path / "dest") == {"a": b"a"}
    assert any("is not heeded" in note for note in watcher.notes)


async def test_names_and_deleting_exclude_each_other(mirror):
    with pytest.raises(ConfigError, match="--delete and --files-from exclude each other"):
        await mirror("p/a\n", delete=True)


async def test_a_bucket_that_does_not_exist_ends_the_run(mirror):
    with pytest.raises(SourceError, match="nowhere"):
        await mirror("p/a\n", "s3://nowhere/p")


async def test_what_a_run_that_saw_everything_left_unfinished_is_kept(server, mirror, tmp_path):
    (tmp_path / "dest" / ".sealift" / "partial").mkdir(parents=True)
    left = tmp_path / "dest" / ".sealift" / "partial" / ("0" * 32)
    left.write_bytes(b"of another run")
    await mirror("p/a\n")
    assert partials(tmp_path / "dest") == [left.name]


async def test_a_plan_reads_names_too(server, tmp_path):
    path = tmp_path / "names"
    path.write_text("p/d/e\np/d\np/a\n")
    server.put("bucket", "p/d", b"a file whose name a directory needs")
    forecast = await sealift.plan(["s3://bucket/p"], tmp_path / "dest", settings(server, path))
    assert (forecast.to_download, forecast.escaped, forecast.complete) == (3, 1, True)
    assert not (tmp_path / "dest").exists()


async def test_a_file_that_is_not_there_is_refused(server, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        await sealift.mirror(["s3://bucket"], tmp_path / "dest", settings(server, tmp_path / "none"))


async def test_waiting_for_a_pipe_that_gives_nothing_can_be_cancelled():
    end, other = os.pipe()
    try:
        with Names(end, "a pipe", null=False, ours=True) as names:
            with anyio.move_on_after(0.01) as limit:
                await names.batch()
    finally:
        os.close(other)
    assert limit.cancelled_caught


def test_the_command_reads_names_from_standard_input(tmp_path):
    with FaultServerThread() as server:
        server.put("bucket", "p/a", b"a")
        server.put("bucket", "p/b", b"b")
        command = [
            sys.executable,
            "-m",
            "sealift",
            "mirror",
            "--endpoint-url",
            server.url,
            "--files-from",
            "-",
            "-0",
            "-q",
        ]
        done = subprocess.run(
            [*command, "s3://bucket/p", str(tmp_path / "dest")], input=b"p/a\0", capture_output=True, check=False
        )
        wrong = subprocess.run(
            [*command, "--delete", "s3://bucket/p", str(tmp_path / "dest")], input=b"", capture_output=True, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert tree(tmp_path / "dest") == {"a": b"a"}
    assert wrong.returncode == 2
