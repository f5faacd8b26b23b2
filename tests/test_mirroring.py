"""The mirror against a server that speaks AWS's dialect and misbehaves on demand."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import pytest
from benchmarks.kms.figures import fullest_second

import sealift
from sealift import (
    AccessError,
    ConfigError,
    CredentialsError,
    Filter,
    KmsSettings,
    LocalStorageError,
    RetrySettings,
    SelectionSettings,
    SourceError,
    TransferSettings,
    fetch,
    governor,
    outage,
    planning,
)
from sealift.config import TransportChoice
from sealift.destination import Destination
from sealift.model import ByteRange
from sealift.partial import PartialFile, partial_name, record_all
from sealift.s3 import connected
from sealift.s3.pool import Pool, UnreachableError
from sealift.s3.store import PageRequest
from sealift.tally import Tally
from tests.support.awserrors import AWS_ERRORS, KEY_ARN, PRINCIPAL
from tests.support.faultserver import (
    Answer,
    ErrorDocumentAs200,
    FaultServer,
    FaultServerThread,
    Generated,
    Hold,
    IgnoreRange,
    OtherETag,
    OverwriteNow,
    Raw,
    ResetAfter,
    ResetBeforeHead,
    Restore,
    Stall,
    TruncateAfter,
    WrongContentRange,
    WrongLength,
)
from tests.support.loops import ONE_LOOP
from tests.support.running import Watcher, fill, kms_log, mirror, partials, settings_for, tree
from tests.support.smalldisk import small_tmpfs

pytestmark = pytest.mark.anyio

KIB, MIB = 1024, 1024 * 1024
SMALL_PARTS = TransferSettings(part_size=64 * KIB, concurrency=8)


KMS_SLOW_DOWN = Answer(503, "SlowDown", "Please reduce your request rate for operations involving AWS KMS.")


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """The pace goes on quickly also where KMS refuses everything, so that many refusals take no time."""
    monkeypatch.setattr(governor, "LEAST", 2000.0)
    monkeypatch.setattr(governor, "PROBES", 100.0)


# ── What a mirror is ────────────────────────────────────────────────────────────────────────────────


async def test_a_prefix_is_mirrored_with_its_bytes_times_and_permissions(server, tmp_path):
    bodies = {"p/a.txt": b"one", "p/deep/er/b.bin": os.urandom(300 * KIB), "p/empty": b"", "q/other": b"no"}
    fill(server, bodies)
    server.put("bucket", "p/dir/", b"")

    summary = await mirror(server, tmp_path / "made" / "dest", "s3://bucket/p")

    dest = tmp_path / "made" / "dest"
    assert tree(dest) == {
        "a.txt": b"one",
        "deep/er/b.bin": bodies["p/deep/er/b.bin"],
        "empty": b"",
        "dir/": b"",
    }
    assert (summary.listed, summary.downloaded, summary.failed, summary.pending) == (4, 4, 0, 0)
    assert summary.complete
    assert summary.bytes == sum(len(body) for key, body in bodies.items() if key.startswith("p/"))
    assert summary.get_requests == server.gets == 3, "a directory marker needs no GET"
    modified = server.objects["bucket", "p/a.txt"].last_modified
    assert datetime.fromtimestamp((dest / "a.txt").stat().st_mtime, UTC) == modified
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((dest / "a.txt").stat().st_mode) == 0o666 & ~umask


async def test_a_rerun_fetches_only_what_changed(server, tmp_path):
    fill(server, {"a": b"one", "b": b"two", "c/": b""})
    await mirror(server, tmp_path)
    server.put("bucket", "b", b"TWO", last_modified=datetime(2031, 1, 1, tzinfo=UTC))
    before = server.gets

    summary = await mirror(server, tmp_path)

    assert (summary.downloaded, summary.up_to_date) == (1, 2)
    assert server.gets == before + 1
    assert tree(tmp_path) == {"a": b"one", "b": b"TWO", "c/": b""}


async def test_several_sources_go_to_a_directory_for_each_bucket_and_overlaps_are_fetched_once(server, tmp_path):
    fill(server, {"p/x": b"x", "p/q/y": b"y", "r/z": b"z"})
    server.put("other", "p/x", b"other x")

    summary = await mirror(server, tmp_path, "s3://bucket/p/", "s3://bucket/p/q", "s3://other", "s3://bucket/r")

    assert tree(tmp_path) == {
        "bucket/p/x": b"x",
        "bucket/p/q/y": b"y",
        "bucket/r/z": b"z",
        "other/p/x": b"other x",
    }
    assert summary.listed == summary.downloaded == server.gets == 4


async def test_filters_look_at_the_key_below_the_prefix_and_the_last_match_wins(server, tmp_path):
    fill(server, {"p/a.log": b"1", "p/deep/b.log": b"2", "p/keep.log": b"3", "p/c.txt": b"4"})
    selection = SelectionSettings(filters=(Filter("exclude", "*.log"), Filter("include", "keep*")))

    summary = await mirror(server, tmp_path, "s3://bucket/p", selection=selection)

    assert set(tree(tmp_path)) == {"keep.log", "c.txt"}
    assert summary.listed == 2, "what is excluded is in no count"


async def test_a_large_object_is_fetched_as_pinned_ranges(server, tmp_path):
    server.put("bucket", "large", Generated(1000 * KIB + 17, seed=1))
    released = anyio.Event()
    held = server.fault(op="get", do=Hold(released), times=8)
    summaries = []

    async def run():
        summaries.append(await mirror(server, tmp_path, transfer=SMALL_PARTS))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await held.reached(8)
        assert server.most_gets_at_once == 8, "as many at once as there are workers"
        released.set()

    stored = server.objects["bucket", "large"]
    assert (tmp_path / "large").read_bytes() == stored.content.read(0, stored.size)
    gets = [request for request in server.requests if request.method == "GET" and request.key]
    assert summaries[0].get_requests == len(gets) == 16
    assert all(request.headers["if-match"] == stored.etag for request in gets)
    assert sorted(request.range for request in gets)[:2] == [(0, 65536), (65536, 131072)]


async def test_downloading_starts_with_the_first_page(server, tmp_path):
    fill(server, {f"k{number}": b"x" for number in range(4)})
    server.page_size = 2
    released = anyio.Event()
    second_page = server.fault(op="list", do=Hold(released), when=lambda request: "continuation-token" in request.query)
    async with anyio.create_task_group() as group:
        group.start_soon(mirror, server, tmp_path)
        with anyio.fail_after(20):
            while not ((tmp_path / "k0").exists() and (tmp_path / "k1").exists()):
                await anyio.sleep(0.01)
        assert second_page.hits == 1
        released.set()
    assert set(tree(tmp_path)) == {"k0", "k1", "k2", "k3"}


@pytest.mark.parametrize("order", ["key", "shuffled"])
async def test_the_tree_depends_only_on_the_set_of_keys(server, tmp_path, order):
    bodies = {
        key: key.encode()
        for key in ("a", "a/b", "a//c", "../x", ".", "//", ".sealift/lock", "n" * 300, "sp ace+%25", "é\t'\"")
    }
    fill(server, bodies | {"m": b"file", "m/": b"", "full/": b"not empty"})
    server.listing_order = order
    server.page_size = 3

    summary = await mirror(server, tmp_path)
    again = await mirror(server, tmp_path)

    files = {path: data for path, data in tree(tmp_path).items() if not path.endswith("/")}
    assert sorted(files.values()) == sorted([*bodies.values(), b"file", b"not empty"])
    assert (tmp_path / "a" / "b").read_bytes() == b"a/b"
    assert summary.escaped == again.escaped == 9
    assert (again.downloaded, again.up_to_date) == (0, len(bodies) + 3)
    assert not (tmp_path.parent / "x").exists()
    assert {path for path in files if "a" in path.split("/")[0] and path[0] != "n"} == {
        "a%file", "a/b", "a/%empty/c", "sp ace+%25", ".sealift%literal/lock"
    }  # fmt: skip


async def test_a_file_makes_way_for_a_directory_that_turns_up_later_and_moves_back(server, tmp_path):
    fill(server, {"a": b"file"})
    await mirror(server, tmp_path)
    server.put("bucket", "a/b", b"below")

    second = await mirror(server, tmp_path)

    assert tree(tmp_path) == {"a%file": b"file", "a/b": b"below"}
    assert (second.downloaded, second.up_to_date, second.escaped) == (1, 1, 1)

    del server.objects["bucket", "a/b"]
    (tmp_path / "a" / "b").unlink()
    (tmp_path / "a").rmdir()
    third = await mirror(server, tmp_path)
    assert tree(tmp_path) == {"a": b"file"}
    assert (third.downloaded, third.up_to_date, third.escaped) == (0, 1, 0)


async def test_strict_keys_fail_what_would_get_another_name(server, tmp_path):
    fill(server, {"fine": b"1", "a//b": b"2", "..": b"3"})

    summary = await mirror(server, tmp_path, selection=SelectionSettings(strict_keys=True))

    assert tree(tmp_path) == {"fine": b"1"}
    assert {failure.key for failure in summary.failures} == {"a//b", ".."}
    assert all(failure.error == "KeyNotRepresentable" for failure in summary.failures)
    assert summary.escaped == 0


async def test_plan_says_what_mirror_would_do_and_writes_nothing(server, tmp_path):
    fill(server, {"a": b"x" * 10, "a/b": b"y", "c//d": b"z", "same": b"same", "dir/": b""})
    server.put("bucket", "large", Generated(200 * KIB, seed=3))
    server.put("bucket", "cold", b"x", storage_class="GLACIER")
    dest = tmp_path / "dest"
    settings = settings_for(server, transfer=SMALL_PARTS)

    forecast = await sealift.plan(["s3://bucket"], dest, settings)

    assert not dest.exists()
    assert server.gets == 0
    summary = await sealift.mirror(["s3://bucket"], dest, settings)
    assert forecast.listed == summary.listed == 7
    assert forecast.to_download == summary.downloaded == 6
    assert (forecast.bytes, forecast.get_requests) == (summary.bytes, summary.get_requests)
    assert (forecast.failed, forecast.escaped) == (summary.failed, summary.escaped) == (1, 2)
    assert forecast.failures == summary.failures
    after = await sealift.plan(["s3://bucket"], dest, settings)
    assert (after.to_download, after.up_to_date, after.get_requests) == (0, 6, 0)


async def test_a_plan_says_how_many_requests_to_kms_the_mirror_makes_and_makes_none_itself(server, tmp_path):
    server.put("bucket", "plain", Generated(200 * KIB, seed=3))
    server.put("bucket", "bucket-key", Generated(200 * KIB, seed=4), bucket_key=True)
    server.put("bucket", "s3", b"x", kms_key=None)
    settings = settings_for(server, transfer=SMALL_PARTS)
    forecast = await sealift.plan(["s3://bucket"], tmp_path, settings)
    assert (forecast.kms.basis, forecast.kms.sampled, forecast.kms.rate) == ("objects", 3, 100_000)
    assert server.kms_calls == 0
    await sealift.mirror(["s3://bucket"], tmp_path, settings)
    assert forecast.kms.requests == server.kms_calls > 1


async def test_a_plan_over_what_was_mirrored_knows_from_that_what_kms_will_be_asked(server, tmp_path):
    for number in range(90):
        server.put("bucket", f"p/plain-{number}", b"x")
        server.put("bucket", f"p/bucket-key-{number}", b"x", bucket_key=True)
    server.put("bucket", "p/large", Generated(200 * KIB, seed=3))
    settings = settings_for(server, transfer=SMALL_PARTS)
    await sealift.mirror(["s3://bucket/p/"], tmp_path, settings)
    for number in range(370):
        server.put("bucket", f"p/new-{number}", b"x")
    heads = server.heads
    forecast = await sealift.plan(["s3://bucket/p/"], tmp_path, settings)
    assert (forecast.kms.basis, forecast.kms.sampled, forecast.kms.rate) == ("earlier_runs", 0, 100_000)
    assert forecast.kms.requests == round(370 * 95 / 185)
    assert server.heads == heads
    server.put("bucket", "q/k", b"x")
    elsewhere = await sealift.plan(["s3://bucket/q/"], tmp_path, settings)
    assert elsewhere.kms.basis == "objects", "nothing is known of that source"


async def test_a_plan_after_a_small_run_looks_for_itself(server, tmp_path):
    fill(server, {f"{number}": b"x" for number in range(99)})
    await mirror(server, tmp_path)
    fill(server, {"new": b"x"})
    forecast = await sealift.plan(["s3://bucket"], tmp_path, settings_for(server))
    assert (forecast.kms.basis, forecast.kms.requests) == ("objects", 1)


async def test_a_plan_without_leave_to_look_counts_every_get(server, tmp_path):
    fill(server, {"a": b"x", "b": b"y"})
    server.fault(op="head", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    forecast = await sealift.plan(["s3://bucket"], tmp_path, settings_for(server))
    assert (forecast.kms.basis, forecast.kms.requests) == ("upper_bound", forecast.get_requests)
    assert server.gets == 0


# ── A KMS quota ─────────────────────────────────────────────────────────────────────────────────────


@ONE_LOOP
async def test_parts_that_kms_refuses_are_joined_and_the_next_ones_grow(server, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "SMALLEST_PART", 8 * KIB)
    body = Generated(1024 * KIB, seed=7)
    server.put("bucket", "k", body)
    server.fault(op="get", do=KMS_SLOW_DOWN, times=100)
    summary = await mirror(server, tmp_path)
    assert tree(tmp_path) == {"k": body.read(0, body.size)}
    assert summary.kms_throttled == 100
    assert summary.get_requests - 100 < 128 / 2, "of 128 parts of 8 KiB"


async def test_parts_that_wait_for_a_permit_are_joined_though_kms_has_refused_none(server, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "SMALLEST_PART", 8 * KIB)
    body = Generated(1024 * KIB, seed=7)
    server.put("bucket", "k", body)
    summary = await mirror(server, tmp_path, kms=KmsSettings(rps=200))
    assert tree(tmp_path) == {"k": body.read(0, body.size)}
    assert summary.kms_throttled == 0
    assert summary.get_requests < 128 / 2, "of 128 parts of 8 KiB"


async def test_when_kms_begins_to_refuse_the_gets_that_are_told_of_are_those_that_went_out(
    server, tmp_path, monkeypatch
):
    connect = Pool._connect

    async def connect_after_the_refusal(pool, address):
        connection = await connect(pool, address)
        if pool.dialled > 1:  # the listing's, and the first GET's
            while not server.gets:
                await anyio.lowlevel.checkpoint()
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
        return connection

    monkeypatch.setattr(Pool, "_connect", connect_after_the_refusal)
    fill(server, {f"{number}": b"x" for number in range(40)})
    server.fault(op="get", do=KMS_SLOW_DOWN, times=1)
    summary = await mirror(server, tmp_path)
    assert (summary.downloaded, summary.kms_throttled, summary.retries) == (40, 1, 0)
    assert summary.get_requests == server.gets == 41


@ONE_LOOP
async def test_a_part_size_that_was_chosen_stays_whatever_kms_refuses(server, tmp_path):
    server.put("bucket", "k", Generated(1024 * KIB, seed=7))
    server.fault(op="get", do=KMS_SLOW_DOWN, times=100)
    summary = await mirror(server, tmp_path, transfer=TransferSettings(part_size=8 * KIB))
    assert summary.get_requests - 100 == 128


async def test_objects_that_need_no_kms_call_wait_for_no_cap(server, tmp_path):
    """At one a second, the 40 that ask KMS for nothing would take the better part of a minute."""
    for number in range(20):
        server.put("bucket", f"bucket-key-{number}", b"x", bucket_key=True)
        server.put("bucket", f"s3-{number}", b"x", kms_key=None)
    with anyio.fail_after(20):
        summary = await mirror(server, tmp_path, kms=KmsSettings(rps=1))
    assert (summary.downloaded, server.kms_calls) == (40, 0)


@ONE_LOOP
async def test_under_a_cap_it_counts_when_a_get_goes_out_and_not_when_it_is_answered(server, tmp_path):
    """Were they counted until they are answered, no more than 20 would ever be under way."""
    fill(server, {f"k{number:02}": b"x" for number in range(22)})
    here = anyio.Event()
    held = server.fault(op="get", do=Hold(here), times=None)
    run = partial(mirror, server, tmp_path, transfer=TransferSettings(concurrency=22), kms=KmsSettings(rps=20))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await held.reached(22)
            here.set()
    assert len(tree(tmp_path)) == 22


@ONE_LOOP
@pytest.mark.parametrize("transport", [TransportChoice.WIRE, TransportChoice.SDK])
async def test_under_a_cap_the_gets_that_say_why_heads_fail_keep_to_it_as_well(server, tmp_path, transport):
    """The last object is fetched meanwhile."""
    keys = [f"k{number:02}" for number in range(25)]
    fill(server, dict.fromkeys(keys, b"x"))
    names, times = tmp_path / "names", kms_log(server)
    names.write_text("".join(f"{key}\n" for key in keys))
    for op in ("head", "get"):
        denied = Answer(403, "AccessDenied", "Access Denied")
        server.fault(op=op, do=denied, times=None, when=lambda request: request.key != keys[-1])
    selection = SelectionSettings(files_from=str(names))
    summary = await mirror(server, tmp_path / "to", transport=transport, selection=selection, kms=KmsSettings(rps=20))
    assert (summary.downloaded, summary.failed, len(times)) == (1, 24, 25)
    assert fullest_second(times) <= 20


async def test_a_get_that_found_no_connection_leaves_its_permit_to_the_next_and_asks_kms_nothing(
    server, tmp_path, monkeypatch
):
    take_fresh, failures = Pool.take_fresh, 3

    async def sometimes(pool):
        nonlocal failures
        if server.lists and failures:
            failures -= 1
            raise UnreachableError("nobody there")
        return await take_fresh(pool)

    fill(server, {"k": b"x"})
    monkeypatch.setattr(Pool, "take_fresh", sometimes)
    monkeypatch.setattr(Pool, "take_idle", lambda _pool: None)
    summary = await mirror(server, tmp_path, kms=KmsSettings(rps=1))
    assert (summary.downloaded, summary.retries, summary.kms.requests, summary.kms.wait_seconds) == (1, 3, 1, 0.0)


# ── An outage of KMS ────────────────────────────────────────────────────────────────────────────────

KMS_FAILED = Answer(500, "KMS.KMSInternalException", "The request was rejected because an internal error occurred.")
TWO_ATTEMPTS = RetrySettings(max_attempts=2, base=0.0001, cap=0.001)


@pytest.fixture
def quick_tries(monkeypatch):
    monkeypatch.setattr(outage, "FIRST", 0.01)
    monkeypatch.setattr(fetch, "UNNAMED_SECONDS", 0.0)


class Mender(Watcher):
    """Ends a fault when the run says that it pauses."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def noted(self, level, text):
        super().noted(level, text)
        if "pausing" in text:
            self.fault.remove()


@pytest.mark.usefixtures("quick_tries")
@pytest.mark.parametrize(
    "answer", [KMS_FAILED, Answer(500, "InternalError", "We encountered an internal error. Please try again.")]
)
async def test_an_outage_of_kms_costs_no_object_any_of_its_attempts(server, tmp_path, answer):
    fill(server, {f"k{number}": b"x" for number in range(40)})
    mender = Mender(server.fault(op="get", do=answer, times=None))
    summary = await mirror(server, tmp_path, observer=mender, transfer=TransferSettings(concurrency=20))
    assert (summary.downloaded, summary.failed, summary.retries) == (40, 0, mender.fault.hits)
    pausing, back = mender.notes
    assert "--kms-patience" in pausing
    assert "KMS is back" in back


@pytest.mark.usefixtures("quick_tries")
async def test_an_outage_that_outlasts_the_patience_ends_the_run_and_the_next_one_continues(server, tmp_path):
    fill(server, {f"k{number}": b"x" for number in range(20)})
    down = server.fault(op="get", do=KMS_FAILED, after=5, times=None)
    settings = settings_for(server, retry=TWO_ATTEMPTS, kms=KmsSettings(patience=0.1))
    with pytest.raises(SourceError, match="KMS has been down for longer than --kms-patience") as caught:
        await sealift.mirror(["s3://bucket"], tmp_path, settings)
    assert caught.value.summary.failed == 0
    assert caught.value.summary.pending + caught.value.summary.downloaded == 20
    before = len(tree(tmp_path))
    down.remove()
    summary = await sealift.mirror(["s3://bucket"], tmp_path, settings)
    assert (summary.downloaded, summary.up_to_date) == (20 - before, before)


async def test_one_object_that_s3_always_fails_on_is_no_outage(server, tmp_path):
    fill(server, {f"k{number}": b"x" for number in range(20)})
    server.fault(op="get", key="k7", do=Answer(500, "InternalError", "Please try again."), times=None)
    summary = await mirror(server, tmp_path, retry=TWO_ATTEMPTS)
    assert (summary.downloaded, summary.failed) == (19, 1)


@ONE_LOOP
async def test_objects_that_need_no_kms_call_go_past_those_that_wait_for_one(server, tmp_path):
    for number in range(6):
        server.put("bucket", f"a/sealed-{number}", b"x")
    for number in range(60):
        server.put("bucket", f"z/free-{number}", b"x", bucket_key=True)
    watcher = Watcher()
    summary = await mirror(server, tmp_path, observer=watcher, kms=KmsSettings(rps=12))
    keys = [outcome.key for outcome in watcher.outcomes]
    assert (summary.downloaded, server.kms_calls) == (66, 6)
    last_sealed = max(place for place, key in enumerate(keys) if key.startswith("a/"))
    assert any(key.startswith("z/") for key in keys[:last_sealed]), "though those were first in line"
    assert summary.kms.wait_seconds > 0


async def test_what_s3_refuses_is_paced_by_itself_and_kms_is_not(server, tmp_path):
    for number in range(40):
        server.put("bucket", f"sealed-{number}", b"x")
        server.put("bucket", f"open-{number}", b"x", kms_key=None)
    server.fault(op="get", do=Answer(503, "SlowDown", "Please reduce your request rate."), times=10)
    watcher = Watcher()
    summary = await mirror(server, tmp_path, observer=watcher)
    assert (summary.downloaded, summary.s3_throttled, summary.kms_throttled) == (80, 10, 0)
    assert watcher.samples[-1].s3_rate is not None
    assert (summary.kms.quota, summary.kms.wait_seconds) == (None, 0.0)


async def test_a_key_store_that_cannot_keep_up_fails_nothing(server, tmp_path):
    fill(server, {"k": b"x", "other": b"y"})
    for error in AWS_ERRORS:
        if error.name.startswith("kms_key_store"):
            server.fault(op="get", key="k", do=error.answer(), times=3)
    summary = await mirror(server, tmp_path)
    assert (summary.downloaded, summary.kms_throttled, summary.retries) == (2, 3, 3)


async def test_a_refusal_is_believed_over_a_header(server, tmp_path):
    server.put("bucket", "k", Generated(64 * KIB, seed=1), bucket_key=True)
    server.fault(op="get", do=KMS_SLOW_DOWN, times=1)
    summary = await mirror(server, tmp_path, transfer=SMALL_PARTS)
    assert (summary.downloaded, summary.kms_throttled) == (1, 1)


async def test_a_run_tells_what_kms_was_asked_and_what_it_granted(server, tmp_path):
    for number in range(30):
        server.put("bucket", f"sealed-{number}", b"x")
        server.put("bucket", f"open-{number}", b"x", kms_key=None)
    server.fault(op="get", key="sealed-7", do=KMS_SLOW_DOWN, times=2)
    watcher = Watcher()
    summary = await mirror(server, tmp_path, observer=watcher)
    assert summary.kms.requests == server.kms_calls + 2 == 32
    assert summary.kms.quota is not None
    assert sum(sample.kms_requests for sample in watcher.samples) == 32
    assert sum(sample.objects for sample in watcher.samples) == summary.downloaded == 60
    assert watcher.samples[-1].connections == 0


async def test_a_plan_takes_the_cap_for_the_rate(server, tmp_path):
    fill(server, {"a": b"x"})
    forecast = await sealift.plan(["s3://bucket"], tmp_path, settings_for(server, kms=KmsSettings(rps=7)))
    assert (forecast.kms.rate, forecast.kms.rate_source) == (7, "cap")


# ── Failing well: bodies and heads ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [300 * KIB, 3 * MIB])
@pytest.mark.parametrize("fault", [ResetAfter, TruncateAfter], ids=["reset", "early end"])
async def test_a_body_that_breaks_off_is_continued_from_the_byte_reached(server, tmp_path, fault, size):
    server.put("bucket", "k", Generated(size, seed=1))
    server.fault(op="get", do=fault(100_000), times=2)

    summary = await mirror(server, tmp_path)

    stored = server.objects["bucket", "k"]
    assert (tmp_path / "k").read_bytes() == stored.content.read(0, size)
    assert summary.retries == 2
    assert summary.bytes == size, "no byte came twice"
    ranges = [request.range for request in server.requests if request.key]
    assert ranges == [None, (100_000, size), (200_000, size)]


async def test_a_stall_between_bytes_times_out_and_is_continued(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sealift.s3.pool.WATCH_EVERY", 0.1)
    server.put("bucket", "k", Generated(200 * KIB, seed=2))
    server.fault(op="get", do=Stall(1000))
    summary = await mirror(server, tmp_path, read_timeout=0.3)
    assert (summary.downloaded, summary.retries) == (1, 1)
    assert server.requests[-1].range == (1000, 200 * KIB)


async def test_a_stall_before_the_head_times_out_and_is_tried_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sealift.s3.pool.WATCH_EVERY", 0.1)
    server.put("bucket", "k", b"x" * 1000)
    server.fault(op="get", do=Stall("head"))
    summary = await mirror(server, tmp_path, read_timeout=0.3)
    assert (summary.downloaded, summary.retries) == (1, 1)


@pytest.mark.parametrize(
    "fault",
    [
        ResetBeforeHead(),
        WrongContentRange(),
        WrongLength(+5),
        WrongLength(-5),
        IgnoreRange(),
        ErrorDocumentAs200(),
        Raw(b"HTTP/1.1 200 OK\r\ngarbage"),
        Answer(500, "InternalError", "We encountered an internal error. Please try again."),
        Answer(503, "ServiceUnavailable", "Service is unable to handle request."),
        Answer(400, "RequestTimeout", "Your socket connection to the server was not read from."),
    ],
    ids=lambda fault: type(fault).__name__ + str(getattr(fault, "code", getattr(fault, "delta", ""))),
)
async def test_an_answer_that_is_not_what_was_asked_is_never_written_and_tried_again(server, tmp_path, fault):
    server.put("bucket", "k", Generated(200 * KIB, seed=3))
    spoilt = server.fault(op="get", do=fault, times=3)

    summary = await mirror(server, tmp_path, transfer=SMALL_PARTS)

    assert spoilt.hits == 3
    assert (summary.downloaded, summary.failed) == (1, 0)
    stored = server.objects["bucket", "k"]
    assert tree(tmp_path) == {"k": stored.content.read(0, stored.size)}


async def test_through_the_sdk_every_get_that_goes_out_is_counted(server, tmp_path):
    server.put("bucket", "k", b"x" * 1000)
    server.fault(op="get", do=ResetBeforeHead(), times=2)
    summary = await mirror(server, tmp_path, transport=TransportChoice.SDK)
    assert (summary.downloaded, summary.retries) == (1, 2)
    assert summary.get_requests == server.gets == 3


async def test_attempts_come_to_an_end_and_the_object_is_named(server, tmp_path):
    fill(server, {"bad": b"x" * 100, "good": b"fine"})
    broken = server.fault(op="get", key="bad", do=Answer(500, "InternalError", "We failed."), times=None)

    summary = await mirror(server, tmp_path, retry=RetrySettings(max_attempts=4, base=0.001))

    assert broken.hits == 4
    assert tree(tmp_path) == {"good": b"fine"}
    [failure] = summary.failures
    assert (failure.bucket, failure.key, failure.error) == ("bucket", "bad", "InternalError")
    assert partials(tmp_path) == []


async def test_what_a_failed_object_has_is_kept_and_continued_by_a_rerun(server, tmp_path):
    size = 600 * KIB
    server.put("bucket", "k", Generated(size, seed=4))
    server.fault(op="get", do=ResetBeforeHead(), after=3, times=None)

    first = await mirror(
        server,
        tmp_path,
        transfer=TransferSettings(part_size=64 * KIB, concurrency=1),
        retry=RetrySettings(max_attempts=2, base=0.001),
    )
    assert (first.failed, tree(tmp_path)) == (1, {})
    assert len(partials(tmp_path)) == 2, "the bytes, and the note of what is in them"

    server._rules.clear()
    before = server.body_bytes
    second = await mirror(server, tmp_path, transfer=TransferSettings(part_size=100 * KIB))
    assert second.downloaded == 1
    assert server.body_bytes - before == second.bytes == size - 3 * 64 * KIB
    stored = server.objects["bucket", "k"]
    assert tree(tmp_path) == {"k": stored.content.read(0, size)}
    assert partials(tmp_path) == []


async def test_an_object_that_is_all_there_and_was_not_placed_needs_no_get(server, tmp_path):
    server.put("bucket", "k", Generated(200 * KIB, seed=4))
    settings = settings_for(server)
    async with connected(settings, Tally(Watcher(), 0.0)) as store:
        [listed] = (await store.list_page(PageRequest("bucket", ""))).objects
    with Destination.open(tmp_path, create=True) as before:
        with PartialFile.create(before.partial_fd, partial_name(listed), listed.size, preallocate=False) as killed:
            killed.write(0, server.objects["bucket", "k"].content.read(0, listed.size))
            killed.record([ByteRange(0, listed.size)])

    summary = await sealift.mirror(["s3://bucket"], tmp_path, settings)

    assert (summary.downloaded, summary.get_requests, summary.bytes) == (1, 0, 0)
    assert tree(tmp_path) == {"k": Generated(200 * KIB, seed=4).read(0, 200 * KIB)}
    assert partials(tmp_path) == []


async def test_what_a_large_object_has_is_recorded_while_it_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sealift.fetch.RECORD_EVERY", 128 * KIB)
    server.put("bucket", "k", Generated(640 * KIB, seed=4))
    released = anyio.Event()
    held = server.fault(op="get", do=Hold(released), after=9)
    async with anyio.create_task_group() as group:

        async def run():
            await mirror(server, tmp_path, transfer=TransferSettings(part_size=64 * KIB, concurrency=1))

        group.start_soon(run)
        await held.reached()
        noted: list[list[int]] = []
        with anyio.fail_after(30):  # it is recorded beside the fetching
            while not noted or noted[0][1] < 512 * KIB:  # a killed run would lose one part of nine
                await anyio.sleep(0)
                for name in partials(tmp_path):
                    if name.endswith(".json"):
                        noted = json.loads((tmp_path / ".sealift" / "partial" / name).read_text())["done"]
        released.set()
    assert set(tree(tmp_path)) == {"k"}


async def test_objects_are_recorded_together_and_no_more_is_fetched_than_may_be_lost(server, tmp_path, monkeypatch):
    """What a killed run fetches twice is bounded over all objects, also where the disk does not keep up."""
    lanes = 8
    monkeypatch.setattr("sealift.fetch.RECORD_EVERY", 512 * KIB)
    monkeypatch.setattr("sealift.fetch.MOST_UNRECORDED", 4 * MIB)
    for number in range(16):
        server.put("bucket", f"k{number:02}", Generated(2 * MIB, seed=number))
    # No object comes to its end before some were recorded.
    released = anyio.Event()
    held = server.fault(op="get", do=Hold(released), times=None, when=lambda request: request.range == (MIB, 2 * MIB))
    recorded, disk = [], threading.Event()

    def slowly(several, *, sync):
        assert disk.wait(30)
        recorded.append(len(several))
        record_all(several, sync=sync)

    monkeypatch.setattr("sealift.fetch.record_all", slowly)
    async with anyio.create_task_group() as group:

        async def run():
            await mirror(server, tmp_path, transfer=TransferSettings(part_size=MIB, concurrency=lanes))

        group.start_soon(run)
        fetched, looks = -1, 0
        with anyio.fail_after(30):
            while looks < 50:  # until nothing more comes
                looks = 0 if fetched < server.body_bytes or fetched < 4 * MIB else looks + 1
                fetched = server.body_bytes
                await anyio.sleep(0.01)
            assert fetched <= 4 * MIB + lanes * MIB
            disk.set()
            while len(recorded) < 2:
                await anyio.sleep(0.01)
            assert held.hits
        released.set()
    assert max(recorded) > 1
    assert tree(tmp_path) == {f"k{number:02}": Generated(2 * MIB, seed=number).read(0, 2 * MIB) for number in range(16)}


def test_a_killed_run_loses_no_more_of_a_part_than_what_was_not_yet_recorded(tmp_path):
    size, reached = 96 * MIB, 80 * MIB
    with FaultServerThread() as server:
        server.put("bucket", "k", Generated(size, seed=4))
        stalled = server.fault(op="get", do=Stall(reached), times=1)
        command = [
            "mirror",
            "s3://bucket",
            str(tmp_path),
            "--endpoint-url",
            server.url,
            "--part-size",
            "96MiB",
            "--json",
        ]
        killed = subprocess.Popen([sys.executable, "-m", "sealift", *command], stdout=subprocess.DEVNULL)
        try:
            stalled.wait()
            deadline = time.monotonic() + 30
            while not any(tmp_path.glob(".sealift/partial/*.json")):
                assert time.monotonic() < deadline, "nothing was recorded in the middle of a part"
                time.sleep(0.01)  # another process: there is nothing to await
        finally:
            killed.kill()
            killed.wait()

        [note] = tmp_path.glob(".sealift/partial/*.json")
        noted = sum(stop - start for start, stop in json.loads(note.read_bytes())["done"])
        again = subprocess.run([sys.executable, "-m", "sealift", *command], capture_output=True, check=True)

    assert noted > 0
    assert json.loads(again.stdout)["bytes"] == size - noted
    assert (tmp_path / "k").read_bytes() == Generated(size, seed=4).read(0, size)


async def test_partial_files_of_a_version_that_is_gone_are_cleaned(server, tmp_path):
    server.put("bucket", "k", Generated(200 * KIB, seed=4))
    server.fault(op="get", do=ResetBeforeHead(), after=1, times=None)
    await mirror(
        server,
        tmp_path,
        transfer=TransferSettings(part_size=64 * KIB, concurrency=1),
        retry=RetrySettings(max_attempts=2, base=0.001),
    )
    assert partials(tmp_path)
    server._rules.clear()
    server.put("bucket", "k", b"new")

    summary = await mirror(server, tmp_path)

    assert (summary.bytes, tree(tmp_path), partials(tmp_path)) == (3, {"k": b"new"}, [])


# ── Failing well: objects that change, go, or cannot be read ────────────────────────────────────────


@pytest.mark.parametrize("new", [b"short", Generated(500 * KIB, seed=9)], ids=["smaller", "larger"])
async def test_an_object_overwritten_in_mid_fetch_is_started_over(server, tmp_path, new):
    server.put("bucket", "k", Generated(300 * KIB, seed=5))
    server.fault(op="get", do=OverwriteNow(new), after=2)
    watcher = Watcher()

    summary = await mirror(server, tmp_path, transfer=SMALL_PARTS, observer=watcher)

    stored = server.objects["bucket", "k"]
    assert tree(tmp_path) == {"k": stored.content.read(0, stored.size)}
    assert (summary.downloaded, summary.failed, partials(tmp_path)) == (1, 0, [])
    again = await mirror(server, tmp_path)
    assert again.up_to_date == 1
    assert watcher.due == watcher.position == stored.size, "the old version is taken back from the progress"


async def test_an_object_that_changes_too_often_fails_by_name(server, tmp_path):
    fill(server, {"k": b"0", "other": b"x"})
    for number in range(1, 5):
        server.fault(op="get", key="k", do=OverwriteNow(f"version {number}".encode()))
    summary = await mirror(server, tmp_path)
    [failure] = summary.failures
    assert (failure.key, failure.error) == ("k", "ChangedTooOften")
    assert tree(tmp_path) == {"other": b"x"}


async def test_a_server_that_ignores_if_match_is_caught_by_its_etag(server, tmp_path):
    server.put("bucket", "k", Generated(300 * KIB, seed=5))
    server.fault(op="get", do=OtherETag(), after=1)
    summary = await mirror(server, tmp_path, transfer=SMALL_PARTS)
    stored = server.objects["bucket", "k"]
    assert summary.downloaded == 1
    assert tree(tmp_path) == {"k": stored.content.read(0, stored.size)}


async def test_an_object_overwritten_and_then_deleted_fails_by_name(server, tmp_path):
    server.put("bucket", "k", Generated(300 * KIB, seed=5))
    server.fault(op="get", do=OverwriteNow(b"new"), after=1)
    gone = Answer(404, "NoSuchKey", "The specified key does not exist.")
    server.fault(op="head", do=gone, times=None)
    server.fault(op="get", do=gone, after=2, times=None, when=lambda request: request.range == (0, 1))
    summary = await mirror(server, tmp_path, transfer=TransferSettings(part_size=64 * KIB, concurrency=1))
    [failure] = summary.failures
    assert (failure.key, failure.error) == ("k", "NoSuchKey")
    assert (tree(tmp_path), partials(tmp_path)) == ({}, [])


async def test_an_object_deleted_since_it_was_listed_fails_by_name(server, tmp_path):
    fill(server, {"gone": b"x", "here": b"y"})
    server.fault(op="get", key="gone", do=Answer(404, "NoSuchKey", "The specified key does not exist."), times=None)
    summary = await mirror(server, tmp_path)
    [failure] = summary.failures
    assert (failure.key, failure.error) == ("gone", "NoSuchKey")
    assert "deleted" in failure.message
    assert tree(tmp_path) == {"here": b"y"}


async def test_archived_objects_fail_with_the_restore_command_and_without_a_get(server, tmp_path):
    server.put("bucket", "cold", b"x", storage_class="GLACIER")
    server.put("bucket", "frozen it's", b"x", storage_class="DEEP_ARCHIVE")
    server.put("bucket", "instant", b"i", storage_class="GLACIER_IR")
    server.put("bucket", "thawed", b"t", storage_class="GLACIER")
    server.objects["bucket", "thawed"].restore = Restore(False, datetime(2040, 1, 1, tzinfo=UTC))

    summary = await mirror(server, tmp_path)

    assert tree(tmp_path) == {"instant": b"i", "thawed": b"t"}
    assert server.gets == 2
    messages = {failure.key: failure.message for failure in summary.failures}
    assert set(messages) == {"cold", "frozen it's"}
    assert "aws s3api restore-object --bucket bucket --key cold" in messages["cold"]
    assert "--key 'frozen it'\"'\"'s'" in messages["frozen it's"]


@pytest.mark.parametrize("error", AWS_ERRORS, ids=lambda error: error.name)
async def test_every_known_refusal_of_a_get_does_what_it_means(server, tmp_path, error):
    fill(server, {"data/object": b"sealed", "data/other": b"open"})
    answered = server.fault(op="get", key="data/object", do=error.answer(), times=2)
    settings = settings_for(server, retry=RetrySettings(max_attempts=5, base=0.001))

    if error.meaning in {"credentials", "region"}:
        with pytest.raises(CredentialsError if error.meaning == "credentials" else SourceError) as caught:
            await sealift.mirror(["s3://bucket/data"], tmp_path, settings)
        assert caught.value.summary.failed == 0
        assert "run" in caught.value.message or "check" in caught.value.message or "clock" in caught.value.message
        assert "object" not in tree(tmp_path)
        return

    summary = await sealift.mirror(["s3://bucket/data"], tmp_path, settings)
    assert answered.hits >= 1
    files = tree(tmp_path)
    assert files.pop("other") == b"open"
    if error.meaning in {"kms throttle", "s3 throttle", "server", "changed"}:
        assert files == {"object": b"sealed"}
        assert summary.kms_throttled == (2 if error.meaning == "kms throttle" else 0)
        assert summary.s3_throttled == (2 if error.meaning == "s3 throttle" else 0)
    else:
        assert files == {}, "an error document was never written"
        [failure] = summary.failures
        assert (failure.key, failure.error) == ("data/object", error.code)


async def test_throttling_outlasts_any_number_of_attempts(server, tmp_path):
    fill(server, {"k": b"x"})
    server.fault(
        op="get",
        do=Answer(503, "SlowDown", "Please reduce your request rate for operations involving AWS KMS."),
        times=15,
    )
    summary = await mirror(server, tmp_path, retry=RetrySettings(max_attempts=2, base=0.0001, cap=0.001))
    assert (summary.downloaded, summary.failed, summary.kms_throttled, summary.retries) == (1, 0, 15, 0)


async def test_a_throttled_listing_and_head_wait_as_well(server, tmp_path):
    fill(server, {"k": b"x"})
    server.fault(op="list", do=Answer(503, "SlowDown", "Please reduce your request rate."), times=20)
    summary = await mirror(server, tmp_path, retry=RetrySettings(max_attempts=2, base=0.0001, cap=0.001))
    assert (summary.downloaded, summary.s3_throttled) == (1, 20)


async def test_a_refused_decrypt_names_who_what_and_which_policy(server, tmp_path):
    fill(server, {"k": b"x", "readable": b"y"})
    refusal = next(
        e
        for e in AWS_ERRORS
        if "identity-based" in e.message and "kms:Decrypt" in e.message and "deny" not in e.message
    )
    server.fault(op="get", key="k", do=refusal.answer(), times=None)
    summary = await mirror(server, tmp_path)
    [failure] = summary.failures
    for fact in (PRINCIPAL, "kms:Decrypt", KEY_ARN, "IAM policy"):
        assert fact in failure.message


# ── Failing well: the whole run ─────────────────────────────────────────────────────────────────────


async def test_when_everything_is_refused_the_run_says_so(server, tmp_path):
    fill(server, {"a": b"x", "b": b"y"})
    server.fault(op="get", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    with pytest.raises(AccessError, match="all 2 objects were refused") as caught:
        await mirror(server, tmp_path)
    assert caught.value.summary.failed == 2
    assert len(caught.value.summary.failures) == 2


async def test_an_endpoint_that_nobody_answers_at_ends_the_run(tmp_path):
    async with FaultServer() as server:
        pass
    with pytest.raises(SourceError, match="cannot be reached"):
        await mirror(server, tmp_path)


async def test_an_endpoint_that_goes_away_ends_the_run_and_keeps_what_is_complete(tmp_path):
    server = FaultServer()
    await server.open()
    fill(server, {f"k{number}": b"x" for number in range(20)})
    async with anyio.create_task_group() as group:
        server.fault(op="get", do=Stall("head"), after=3, times=None)

        async def close_after_three():
            with anyio.fail_after(20):
                while len(tree(tmp_path)) < 3 or server.gets < 3 + 4:
                    await anyio.sleep(0.01)
            await server.close()

        group.start_soon(close_after_three)
        with pytest.raises(SourceError, match="nothing has answered"):
            await mirror(
                server,
                tmp_path,
                transfer=TransferSettings(concurrency=4),
                retry=RetrySettings(max_attempts=3, base=0.001),
            )
    assert len(tree(tmp_path)) == 3


async def test_credentials_that_expire_are_renewed_in_mid_run(server, tmp_path, monkeypatch):
    keys = tmp_path / "keys"
    keys.write_text("OLD")
    config = tmp_path / "config"
    program = f'echo "{{\\"Version\\": 1, \\"AccessKeyId\\": \\"$(cat {keys})\\", \\"SecretAccessKey\\": \\"s\\"}}"'
    script = tmp_path / "credentials"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o700)
    config.write_text(f"[default]\ncredential_process = {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fill(server, {f"k{number:02}": b"x" for number in range(20)})
    server.require_access_key = {"OLD"}

    async def rotate(exchange):
        keys.write_text("NEW")
        server.require_access_key = {"NEW"}
        await Answer(400, "ExpiredToken", "The provided token has expired.")(exchange)

    server.fault(op="get", do=rotate, after=5)
    summary = await mirror(server, tmp_path / "dest", transfer=TransferSettings(concurrency=4))

    assert (summary.downloaded, summary.failed) == (20, 0)
    assert {request.access_key for request in server.requests} == {"OLD", "NEW"}


async def test_credentials_that_cannot_be_renewed_stop_the_run_and_a_rerun_continues(server, tmp_path):
    fill(server, {f"k{number:02}": b"x" for number in range(20)})
    server.fault(op="get", do=Answer(400, "ExpiredToken", "The provided token has expired."), after=5, times=None)
    with pytest.raises(CredentialsError, match="sign in again") as caught:
        await mirror(server, tmp_path, transfer=TransferSettings(concurrency=1))
    assert caught.value.summary.downloaded == len(tree(tmp_path)) == 5
    assert caught.value.summary.pending == 15
    server._rules.clear()
    assert (await mirror(server, tmp_path)).downloaded == 15


async def test_plain_http_is_refused_for_anything_but_loopback(server, tmp_path):
    with pytest.raises(ConfigError, match="--allow-http"):
        await mirror(server, tmp_path, endpoint_url="http://s3.example.com")


# ── Failing well: the disk ──────────────────────────────────────────────────────────────────────────


async def test_a_second_run_into_the_same_destination_is_refused(server, tmp_path):
    fill(server, {"k": b"x"})
    released = anyio.Event()
    held = server.fault(op="get", do=Hold(released))
    async with anyio.create_task_group() as group:
        group.start_soon(mirror, server, tmp_path)
        await held.reached()
        with pytest.raises(LocalStorageError, match="another sealift run"):
            await mirror(server, tmp_path)
        released.set()
    assert tree(tmp_path) == {"k": b"x"}


async def test_a_directory_in_the_way_fails_only_its_object(server, tmp_path):
    fill(server, {"a": b"file", "b": b"fine"})
    (tmp_path / "a" / "precious").mkdir(parents=True)
    summary = await mirror(server, tmp_path)
    [failure] = summary.failures
    assert (failure.key, failure.error) == ("a", "PathBlocked")
    assert (tmp_path / "a" / "precious").is_dir()
    assert (tmp_path / "b").read_bytes() == b"fine"


async def test_a_directory_in_the_way_of_a_large_object_leaves_no_partial_file(server, tmp_path):
    server.put("bucket", "a", Generated(200 * KIB, seed=1))
    released = anyio.Event()
    held = server.fault(op="get", do=Hold(released))
    async with anyio.create_task_group() as group:
        summaries = []

        async def run():
            summaries.append(await mirror(server, tmp_path, transfer=SMALL_PARTS))

        group.start_soon(run)
        await held.reached()
        (tmp_path / "a" / "precious").mkdir(parents=True)
        released.set()
    [failure] = summaries[0].failures
    assert (failure.key, failure.error) == ("a", "PathBlocked")
    assert (tree(tmp_path), partials(tmp_path)) == ({"a/precious/": b""}, [])


async def test_a_file_of_somebody_elses_in_the_way_fails_only_its_objects(server, tmp_path):
    fill(server, {"a/b": b"1", "a/c/d": b"2", "e": b"3"})
    (tmp_path / "a").write_bytes(b"precious")
    summary = await mirror(server, tmp_path)
    assert {failure.key for failure in summary.failures} == {"a/b", "a/c/d"}
    assert tree(tmp_path) == {"a": b"precious", "e": b"3"}


async def test_a_symbolic_link_is_never_followed(server, tmp_path):
    dest, outside = tmp_path / "dest", tmp_path / "outside"
    dest.mkdir()
    outside.mkdir()
    (outside / "victim").write_bytes(b"precious")
    (dest / "way").symlink_to(outside)
    (dest / "victim").symlink_to(outside / "victim")
    fill(server, {"way/in": b"1", "victim": b"2", "fine": b"3"})

    summary = await mirror(server, dest)

    assert {failure.key for failure in summary.failures} == {"way/in", "victim"}
    assert all("symbolic link" in failure.message for failure in summary.failures)
    assert tree(outside) == {"victim": b"precious"}
    assert (dest / "fine").read_bytes() == b"3"


async def test_a_destination_that_is_a_file_ends_the_run(server, tmp_path):
    (tmp_path / "dest").write_bytes(b"")
    with pytest.raises(LocalStorageError, match="something else is there"):
        await mirror(server, tmp_path / "dest")


@pytest.fixture
def small_disk(tmp_path):
    with small_tmpfs(tmp_path / "disk", options="size=2m") as mount:
        yield mount


async def test_a_full_disk_ends_the_run_with_everything_complete_kept(server, small_disk):
    for number in range(40):
        server.put("bucket", f"k{number:02}", Generated(100 * KIB, seed=number))

    with pytest.raises(LocalStorageError, match=r"no space left.*\(it was for 'k\d\d'\)") as caught:
        await mirror(server, small_disk, transfer=TransferSettings(concurrency=4))

    files = tree(small_disk)
    assert 5 < len(files) == caught.value.summary.downloaded < 25
    for name, data in files.items():
        assert data == Generated(100 * KIB, seed=int(name[1:])).read(0, 100 * KIB)
    for number in range(10, 40):
        del server.objects["bucket", f"k{number:02}"]
    for name in files:
        if int(name[1:]) >= 10:
            (small_disk / name).unlink()
    again = await mirror(server, small_disk)
    assert again.up_to_date + again.downloaded == 10


async def test_a_large_object_finds_a_full_disk_before_its_bytes_are_fetched(server, small_disk):
    server.put("bucket", "large", Generated(5 * MIB, seed=1))
    with pytest.raises(LocalStorageError, match=r"no space left.*\(it was for 'large'\)"):
        await mirror(server, small_disk, transfer=TransferSettings(part_size=MIB))
    assert server.body_bytes < 5 * MIB
    assert tree(small_disk) == {}


async def test_what_is_left_of_an_older_version_does_not_take_the_new_ones_room(server, small_disk):
    server.put("bucket", "large", Generated(1200 * KIB, seed=1))
    server.fault(op="get", do=ResetBeforeHead(), after=2, times=None)
    one_at_a_time = TransferSettings(part_size=64 * KIB, concurrency=1)
    hopeless = RetrySettings(max_attempts=1, base=0.001)
    first = await mirror(server, small_disk, transfer=one_at_a_time, retry=hopeless)
    assert (first.failed, len(partials(small_disk))) == (1, 2)

    server._rules.clear()
    server.put("bucket", "large", Generated(1300 * KIB, seed=2))
    second = await mirror(server, small_disk, transfer=one_at_a_time)

    assert (second.downloaded, partials(small_disk)) == (1, [])
    assert tree(small_disk) == {"large": Generated(1300 * KIB, seed=2).read(0, 1300 * KIB)}


# ── Being stopped ───────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_run_keeps_what_is_complete_and_a_rerun_continues(server, tmp_path):
    size = 640 * KIB
    server.put("bucket", "a", b"small")
    server.put("bucket", "large", Generated(size, seed=1))
    server.put("bucket", "z", b"not yet")
    held = server.fault(op="get", key="large", do=Stall(10 * KIB), after=4, times=None)
    finished = []

    class Last(Watcher):
        def finished(self, summary):
            finished.append(summary)

    async with anyio.create_task_group() as group:

        async def run():
            await mirror(
                server, tmp_path, transfer=TransferSettings(part_size=64 * KIB, concurrency=1), observer=Last()
            )

        group.start_soon(run)
        await held.reached()
        group.cancel_scope.cancel()

    [summary] = finished
    assert tree(tmp_path) == {"a": b"small"}
    assert (summary.listed, summary.downloaded, summary.pending) == (3, 1, 2)

    server._rules.clear()
    before = server.body_bytes
    again = await mirror(server, tmp_path, transfer=TransferSettings(part_size=64 * KIB))
    assert (again.downloaded, again.up_to_date) == (2, 1)
    assert server.body_bytes - before <= size - 4 * 64 * KIB + len(b"not yet")
    assert tree(tmp_path)["large"] == Generated(size, seed=1).read(0, size)


def test_the_first_line_of_the_module_says_what_it_does():
    """The room opens with its algorithm, as docs/design.md promises."""
    text = (Path(sealift.__file__).parent / "mirroring.py").read_text()
    assert [f"\n{step}. **" in text for step in range(1, 6)] == [True] * 5
