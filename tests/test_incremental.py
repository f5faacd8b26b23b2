"""Runs that follow each other: only what has changed is fetched, whoever put there what is there."""

import itertools
import json
import os
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import anyio
import pytest

import sealift
from sealift import LocalStorageError
from sealift.cli import main
from sealift.config import Check, StorageSettings, TransferSettings, TransportChoice
from sealift.ledger import LEDGER, Ledger
from tests.support.faultserver import DEFAULT_KMS_KEY, FaultServer, FaultServerThread, Hold, OverwriteNow, ResetAfter
from tests.support.running import Watcher, fill, recorded, settings_for, tree
from tests.support.smalldisk import small_tmpfs

pytestmark = pytest.mark.anyio

BODIES = {"a.csv": b"a", "d/b.csv": b"bb", "d/e/c.csv": b"ccc", "empty/": b"", "x//y": b"odd"}
FILES = {"a.csv": b"a", "d/b.csv": b"bb", "d/e/c.csv": b"ccc", "empty/": b"", "x/%empty/y": b"odd"}


@pytest.fixture
def anyio_backend():
    """One loop is enough: what is tried here is what comes of runs, and not how they wait."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
async def server():
    async with FaultServer() as server:
        fill(server, BODIES)
        yield server


async def mirror(server, dest, *sources, observer=None, **storage):
    settings = settings_for(server, storage=StorageSettings(**storage))
    return await sealift.mirror(sources or ["s3://bucket"], dest, settings, observer=observer)


def stamp(path, modified):
    os.utime(path, ns=(modified, modified))


def modified_ns(stored):
    return int(stored.last_modified.timestamp()) * 10**9


async def test_every_file_is_recorded_and_the_next_run_asks_for_none(server, tmp_path):
    first = await mirror(server, tmp_path)
    rows = recorded(tmp_path)
    again = await mirror(server, tmp_path)

    assert (first.downloaded, again.up_to_date, again.get_requests) == (5, 5, 0)
    assert set(rows) == {"a.csv", "d/b.csv", "d/e/c.csv", "empty/", "x/%empty/y"}
    row, stored = rows["x/%empty/y"], server.find("bucket", "x//y")
    assert (row.key, row.size, row.etag, row.seal.bucket, row.adopted) == ("x//y", 3, stored.etag, "bucket", False)
    assert (row.local_size, row.mtime_ns) == (3, (tmp_path / "x/%empty/y").stat().st_mtime_ns)
    assert recorded(tmp_path) == rows


@pytest.mark.parametrize("transport", list(TransportChoice)[1:], ids=str)
@pytest.mark.parametrize("processes", [1, 2])
async def test_the_ledger_says_how_each_object_is_encrypted(server, tmp_path, transport, processes):
    server.put("bucket", "dual.csv", b"d" * 300_000, bucket_key=True)
    server.put("bucket", "plain.csv", b"p", kms_key=None)
    transfer = TransferSettings(processes=processes, part_size=64 * 1024)
    settings = settings_for(server, transfer=transfer, transport=transport)
    await sealift.mirror(["s3://bucket"], tmp_path, settings)

    sealed, plain = ("bucket", "aws:kms", DEFAULT_KMS_KEY), ("bucket", "AES256", "")
    rows = recorded(tmp_path)
    assert {path: tuple(row.seal) for path, row in rows.items() if path != "empty/"} == {
        "a.csv": sealed, "d/b.csv": sealed, "d/e/c.csv": sealed, "x/%empty/y": sealed, "dual.csv": sealed,
        "plain.csv": plain,
    }  # fmt: skip
    again = await sealift.mirror(["s3://bucket"], tmp_path, settings)
    assert (again.up_to_date, again.get_requests) == (7, 0)


async def test_an_overwrite_within_the_same_second_and_of_the_same_size_is_fetched(server, tmp_path):
    await mirror(server, tmp_path)
    old = server.find("bucket", "a.csv")
    server.put("bucket", "a.csv", b"A", last_modified=old.last_modified)

    again = await mirror(server, tmp_path)

    assert (again.downloaded, tree(tmp_path)["a.csv"]) == (1, b"A")
    assert recorded(tmp_path)["a.csv"].etag == server.find("bucket", "a.csv").etag


async def test_by_size_and_time_alone_it_is_not_seen_and_what_the_ledger_knows_stays(server, tmp_path):
    await mirror(server, tmp_path)
    rows = recorded(tmp_path)
    server.put("bucket", "a.csv", b"A", last_modified=server.find("bucket", "a.csv").last_modified)

    again = await mirror(server, tmp_path, check=Check.SIZE_MTIME)

    assert again.up_to_date == 5
    assert recorded(tmp_path) == rows


async def test_a_file_that_somebody_has_changed_is_fetched_again(server, tmp_path):
    await mirror(server, tmp_path)
    (tmp_path / "d/b.csv").write_bytes(b"xx")

    again = await mirror(server, tmp_path)

    assert (again.downloaded, tree(tmp_path)) == (1, FILES)


async def test_with_force_everything_is_fetched(server, tmp_path):
    await mirror(server, tmp_path)

    again = await mirror(server, tmp_path, force=True)

    assert (again.downloaded, again.up_to_date, again.get_requests) == (4, 1, 4)  # a directory is there or not
    assert tree(tmp_path) == FILES


async def test_what_another_tool_has_fetched_is_adopted_by_size_and_time(server, tmp_path):
    for key, body in [("a.csv", b"a"), ("d/b.csv", b"bb"), ("d/e/c.csv", b"other")]:
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        stamp(path, modified_ns(server.find("bucket", key)))

    first = await mirror(server, tmp_path)
    rows = recorded(tmp_path)
    stamp(tmp_path / "a.csv", 10**18)
    again = await mirror(server, tmp_path)

    assert (first.up_to_date, first.downloaded) == (2, 3)
    assert {path for path, row in rows.items() if row.adopted} == {"a.csv", "d/b.csv"}
    assert (again.up_to_date, again.downloaded) == (4, 1)
    assert not recorded(tmp_path)["a.csv"].adopted


async def test_a_file_that_gives_way_to_a_directory_keeps_its_record(server, tmp_path):
    fill(server, {"k": b"file"})
    await mirror(server, tmp_path)
    before = recorded(tmp_path)["k"]
    fill(server, {"k/below": b"x"})
    await mirror(server, tmp_path)
    rows = recorded(tmp_path)

    assert "k" not in rows
    assert rows["k%file"] == before._replace(path="k%file")
    del server.objects["bucket", "k/below"]
    (tmp_path / "k" / "below").unlink()
    (tmp_path / "k").rmdir()
    again = await mirror(server, tmp_path)
    assert again.get_requests == 0
    assert recorded(tmp_path)["k"] == before


async def test_a_bucket_can_be_mirrored_from_its_copy_and_is_known_by_the_new_name(server, tmp_path):
    await mirror(server, tmp_path)
    for key in BODIES:
        old = server.find("bucket", key)
        later = old.last_modified + timedelta(days=1)
        server.put("copy", key, old.body, etag=old.etag, last_modified=later)

    again = await mirror(server, tmp_path, "s3://copy")

    assert again.get_requests == 0
    assert {row.seal.bucket for path, row in recorded(tmp_path).items() if path != "empty/"} == {"copy"}


@pytest.mark.parametrize("order", ["key", "shuffled"])
async def test_listings_in_any_order_and_by_several_listers_find_every_record(server, tmp_path, order):
    server.listing_order, server.page_size = order, 7
    fill(server, {f"many/{n % 7}/{n}{' x' if n % 3 else ''}": b"x" for n in range(100)})
    await mirror(server, tmp_path)

    again = await mirror(server, tmp_path)

    assert (again.up_to_date, again.get_requests) == (105, 0)
    assert len(recorded(tmp_path)) == 105


async def test_a_lost_or_damaged_ledger_costs_nothing_but_what_it_knew(server, tmp_path):
    await mirror(server, tmp_path)
    ledger = tmp_path / ".sealift" / LEDGER
    ledger.write_bytes(b"\xff" * 5000)
    watcher = Watcher()
    second = await mirror(server, tmp_path, observer=watcher)
    for path in (tmp_path / ".sealift").glob("ledger.db*"):
        path.unlink()
    third = await mirror(server, tmp_path)

    assert second.get_requests == third.get_requests == 0
    assert any("was damaged" in note for note in watcher.notes)
    assert {path: row.etag for path, row in recorded(tmp_path).items() if path != "empty/"} == {
        path: server.find("bucket", key).etag for key, path in zip(BODIES, FILES, strict=True) if path != "empty/"
    }


@pytest.mark.parametrize("left", [1, 100, 4096, 6000, -4096, -1])
async def test_a_ledger_that_was_cut_short_costs_nothing_but_what_it_knew(server, tmp_path, left):
    fill(server, {f"more/{number:03d}": b"x" for number in range(200)})
    await mirror(server, tmp_path)
    ledger = tmp_path / ".sealift" / LEDGER
    ledger.write_bytes(ledger.read_bytes()[:left])

    second = await mirror(server, tmp_path)
    third = await mirror(server, tmp_path)

    assert (second.get_requests, second.up_to_date, third.get_requests, third.up_to_date) == (0, 205, 0, 205)
    assert recorded(tmp_path).keys() | {"empty/"} == tree(tmp_path).keys()


async def test_what_was_changed_while_there_was_no_ledger_is_told_by_size_and_time(server, tmp_path):
    await mirror(server, tmp_path)
    (tmp_path / ".sealift" / LEDGER).write_bytes(b"\xff" * 5000)
    server.put("bucket", "a.csv", b"A")
    (tmp_path / "d/b.csv").write_bytes(b"edited")

    again = await mirror(server, tmp_path)

    assert (again.downloaded, again.up_to_date) == (2, 3)
    assert tree(tmp_path) == FILES | {"a.csv": b"A"}


async def test_a_newer_ledger_ends_the_run_unless_none_is_needed(server, tmp_path):
    await mirror(server, tmp_path)
    newer = sqlite3.connect(tmp_path / ".sealift" / LEDGER)
    newer.executescript("PRAGMA user_version = 99")
    newer.close()
    watcher = Watcher()

    with pytest.raises(LocalStorageError) as raised:
        await mirror(server, tmp_path)
    without = await mirror(server, tmp_path, check=Check.SIZE_MTIME, observer=watcher)

    assert raised.value.code == "LedgerTooNew"
    assert without.up_to_date == 5
    assert any("goes on without" in note for note in watcher.notes)


async def test_ledger_and_logs_can_be_kept_elsewhere(server, tmp_path):
    dest, state = tmp_path / "dest", tmp_path / "state" / "bucket"
    await mirror(server, dest, state=state)
    again = await mirror(server, dest, state=state)

    assert again.get_requests == 0
    assert len(recorded(dest, state)) == 5
    assert len(list((state / "runs").iterdir())) == 2
    assert sorted(path.name for path in (dest / ".sealift").iterdir()) == ["lock", "partial"]


async def test_two_runs_at_once_with_one_state_are_refused_whatever_their_destinations(server, tmp_path):
    state, released = tmp_path / "state", anyio.Event()
    held = server.fault(op="get", key="a.csv", do=Hold(released))

    async def run():
        await mirror(server, tmp_path / "one", state=state)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await held.reached()
        says = rf"another sealift run is writing to {state} \(process {os.getpid()} on"
        with pytest.raises(LocalStorageError, match=says) as refused:
            await mirror(server, tmp_path / "other", state=state)
        released.set()

    assert (refused.value.code, refused.value.exit_status) == ("DestinationLocked", 4)
    assert tree(tmp_path / "other") == {}
    assert (await mirror(server, tmp_path / "other", state=state)).failed == 0
    assert tree(tmp_path / "other") == tree(tmp_path / "one") == FILES


async def test_a_state_that_is_the_destinations_own_is_not_locked_twice(server, tmp_path):
    await mirror(server, tmp_path)
    (tmp_path / "link").symlink_to(".sealift")
    for state in (tmp_path / ".sealift", tmp_path / "link"):
        assert (await mirror(server, tmp_path, state=state)).up_to_date == 5


async def test_the_destination_can_be_moved(server, tmp_path):
    await mirror(server, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    server.put("bucket", "a.csv", b"A", last_modified=server.find("bucket", "a.csv").last_modified)

    again = await mirror(server, tmp_path / "there")

    assert (again.downloaded, again.up_to_date) == (1, 4)


async def test_a_plan_reads_the_ledger_and_leaves_everything_as_it_is(server, tmp_path):
    await mirror(server, tmp_path)
    server.put("bucket", "a.csv", b"A", last_modified=server.find("bucket", "a.csv").last_modified)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    forecast = await sealift.plan(["s3://bucket"], tmp_path, settings_for(server))

    assert (forecast.to_download, forecast.up_to_date) == (1, 4)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


async def test_a_disk_that_gets_full_in_a_batch_of_records_costs_records_and_no_file(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sealift.recording.LONGEST_WAIT", 600.0)  # one batch, however slow the machine is
    fill(server, {f"{number:04d}" + 200 * "x": b"x" for number in range(800)})
    dest = tmp_path / "dest"
    with small_tmpfs(tmp_path / "state", options="size=256k") as small:
        with pytest.raises(LocalStorageError) as raised:
            await mirror(server, dest, state=small)
        with Ledger.open(small, pytest.fail) as ledger:
            assert ledger.records() == []  # a batch is written whole or not at all
    complete = tree(dest)
    again = await mirror(server, dest)

    assert raised.value.code == "DiskFull"
    assert len(complete) > 1
    assert again.get_requests == 804 - len(complete.keys() - {"empty/"})
    assert recorded(dest).keys() | {"empty/"} == tree(dest).keys()


async def test_a_disk_that_files_have_filled_up_has_room_for_no_record_of_what_is_not_there(server, tmp_path):
    fill(server, {f"many/{number:04d}": b"x" * 9000 for number in range(400)})
    with small_tmpfs(tmp_path / "disk", options="size=2m") as disk:
        with pytest.raises(LocalStorageError):
            await mirror(server, disk)
        there = tree(disk)
        rows = recorded(disk)
        assert set(rows) - {"empty/"} <= there.keys()
        assert all(len(body) == 9000 for path, body in there.items() if path.startswith("many/"))
        for path in there:
            if path.startswith("many/"):
                (disk / path).unlink()
        for number in range(300):
            del server.objects["bucket", f"many/{number:04d}"]
        again = await mirror(server, disk)

        assert (again.failed, again.pending) == (0, 0)
        assert len(tree(disk)) == 105


async def test_a_plan_beside_a_mirror_disturbs_it_in_nothing(server, tmp_path):
    released = anyio.Event()
    held = server.fault(op="get", key="a.csv", do=Hold(released))
    summaries = []

    async def run():
        summaries.append(await mirror(server, tmp_path))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await held.reached()
        forecast = await sealift.plan(["s3://bucket"], tmp_path, settings_for(server))
        with pytest.raises(LocalStorageError, match="another sealift run"):
            await mirror(server, tmp_path)
        released.set()

    assert forecast.to_download >= 1
    assert summaries[0].downloaded == 5
    assert len(recorded(tmp_path)) == 5


async def test_an_object_that_is_overwritten_between_listing_and_get_is_recorded_as_what_came(server, tmp_path):
    server.fault(op="get", key="a.csv", do=OverwriteNow(b"later"))

    first = await mirror(server, tmp_path)
    again = await mirror(server, tmp_path)

    assert (first.downloaded, first.failed, again.get_requests) == (5, 0, 0)
    assert tree(tmp_path) == FILES | {"a.csv": b"later"}
    row, stored = recorded(tmp_path)["a.csv"], server.find("bucket", "a.csv")
    assert (row.etag, row.size, row.mtime_ns) == (stored.etag, 5, (tmp_path / "a.csv").stat().st_mtime_ns)


@pytest.mark.parametrize("check", list(Check))
async def test_an_overwrite_by_a_clock_that_was_set_back_is_fetched(server, tmp_path, check):
    await mirror(server, tmp_path)
    server.put("bucket", "a.csv", b"A", last_modified=datetime(2001, 1, 1, tzinfo=UTC))

    again = await mirror(server, tmp_path, check=check)

    assert (again.downloaded, tree(tmp_path)["a.csv"]) == (1, b"A")


@pytest.mark.parametrize("year", [1971, 2199])
async def test_a_file_that_was_touched_by_a_clock_that_is_wrong_is_not_trusted(server, tmp_path, year):
    await mirror(server, tmp_path)
    stamp(tmp_path / "a.csv", int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**9)

    again = await mirror(server, tmp_path)

    assert (again.downloaded, again.up_to_date) == (1, 4)


async def test_clocks_that_are_wrong_change_nothing(server, tmp_path):
    server.put("bucket", "later", b"x", last_modified=datetime(2199, 1, 1, tzinfo=UTC))
    server.put("bucket", "earlier", b"x", last_modified=datetime(1970, 1, 1, tzinfo=UTC))
    await mirror(server, tmp_path)

    again = await mirror(server, tmp_path)

    assert again.get_requests == 0


async def test_a_clock_that_jumps_while_a_run_goes_on_changes_nothing(server, tmp_path, monkeypatch):
    server.put("bucket", "large", bytes(300_000), checksum="CRC32")
    lost = server.fault(op="get", key="large", do=ResetAfter(1000), times=3)
    real, jumps = time.time, itertools.cycle([0, 400 * 86_400, -400 * 86_400, 3600])
    settings = settings_for(server, transfer=sealift.TransferSettings(part_size=64 * 1024))
    with monkeypatch.context() as jumping:
        jumping.setattr(time, "time", lambda: real() + next(jumps))
        first = await sealift.mirror(["s3://bucket"], tmp_path, settings)
        again = await sealift.mirror(["s3://bucket"], tmp_path, settings)

    assert lost.hits == 3
    assert (first.downloaded, first.verified, again.up_to_date, again.get_requests) == (6, 1, 6, 0)
    assert tree(tmp_path) == FILES | {"large": bytes(300_000)}
    assert first.seconds < 3600


async def test_a_time_that_neither_ledger_nor_file_system_can_hold_ends_no_run(server, tmp_path):
    server.put("bucket", "later", b"x", last_modified=datetime(2999, 1, 1, tzinfo=UTC))

    summary = await mirror(server, tmp_path)

    assert summary.failed == 0
    assert recorded(tmp_path)["later"].mtime_ns == 2**63 - 1


def test_the_command_lines_options_do_what_they_say(tmp_path, monkeypatch, capsys):
    with FaultServerThread() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        fill(server, BODIES)

        def run(*options):
            status = main(["mirror", "s3://bucket", str(tmp_path / "dest"), "--json", *options])
            shown = capsys.readouterr()
            assert status == 0, shown.err
            return json.loads(shown.out)

        state = ["--state", str(tmp_path / "state")]
        assert run(*state)["downloaded"] == 5
        assert run(*state)["get_requests"] == 0
        assert run(*state, "--check", "size-mtime")["get_requests"] == 0
        assert run(*state, "--force")["get_requests"] == 4
        assert (tmp_path / "state" / LEDGER).exists()
