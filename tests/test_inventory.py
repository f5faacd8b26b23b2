"""An S3 Inventory report is a listing of yesterday: what it names is mirrored, and what is newer can be listed."""

import csv
import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
import tempfile
from datetime import UTC, datetime

import anyio
import pyarrow as pa
import pytest
from benchmarks.kms.figures import fullest_second
from pyarrow import orc, parquet

import sealift
from sealift import (
    ConfigError,
    Durability,
    Filter,
    KmsSettings,
    LocalStorageError,
    MaxDelete,
    RetrySettings,
    SelectionSettings,
    SourceError,
    StorageSettings,
    inventory,
    running,
)
from sealift.inventory import parse_report
from sealift.sharding import Shard
from tests.support.faultserver import Answer, FaultServer, Hold, ResetAfter, Restore
from tests.support.faultserver.listing import url_encode
from tests.support.loops import ONE_LOOP
from tests.support.running import Watcher, kms_log, recorded, settings_for, tree
from tests.support.smalldisk import small_tmpfs

pytestmark = pytest.mark.anyio

MANIFEST = "reports/2026-11-24T01-00Z/manifest.json"
WHERE = f"s3://inventory/{MANIFEST}"
COLUMNS = (
    "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass, EncryptionStatus"
)
TYPES = {
    **dict.fromkeys(("bucket", "key", "version_id", "e_tag", "storage_class", "encryption_status"), pa.string()),
    **dict.fromkeys(("is_latest", "is_delete_marker"), pa.bool_()),
    "size": pa.int64(),
    "last_modified_date": pa.timestamp("ms"),
}
FORMATS = ["CSV", "Parquet", "ORC"]
BODIES = {"p/a": b"a", "p/ü +%41&b": b"odd", "p/d/e": b"ccc", "q/elsewhere": b"no"}
EVERYTHING = MaxDelete(100, percent=True)


@pytest.fixture
async def server():
    async with FaultServer() as server:
        for key, body in BODIES.items():
            server.put("bucket", key, body)
        server.bucket("inventory")
        yield server


class Report:
    """A report of what is in the bucket, as S3 writes one; rows may be changed before it is put."""

    def __init__(self, server, kind="CSV", bucket="bucket"):
        self.server = server
        self.kind = kind
        self.bucket = bucket
        self.rows = [
            {
                "bucket": bucket,
                "key": stored.key,
                "version_id": stored.version_id,
                "is_latest": True,
                "is_delete_marker": False,
                "size": stored.size,
                "last_modified_date": stored.last_modified,
                "e_tag": stored.etag.strip('"'),
                "storage_class": stored.storage_class,
                "encryption_status": "SSE-KMS",
            }
            for (name, _), stored in server.objects.items()
            if name == bucket
        ]

    def row(self, key):
        [found] = [row for row in self.rows if row["key"] == key]
        return found

    def without(self, *columns):
        for row in self.rows:
            for column in columns:
                del row[column]
        return self

    def put(self, *, files=1, columns=COLUMNS, md5=None):
        """Put the report, and return where its manifest is."""
        share = -(-len(self.rows) // files)
        listed = []
        for number in range(files):
            data = self._data(self.rows[number * share : (number + 1) * share])
            key = f"reports/data/{number}.{self.kind.lower()}"
            self.server.put("inventory", key, data)
            digest = md5 or hashlib.md5(data).hexdigest()
            listed.append({"key": key, "size": len(data), "MD5checksum": digest})
        manifest = {
            "sourceBucket": self.bucket,
            "destinationBucket": "arn:aws:s3:::inventory",
            "version": "2016-11-30",
            "creationTimestamp": "1764032400000",
            "fileFormat": self.kind,
            "fileSchema": columns if self.kind == "CSV" else "message s3.inventory { … }",
            "files": listed,
        }
        self.server.put("inventory", MANIFEST, json.dumps(manifest).encode())
        return WHERE

    def _data(self, rows):
        if self.kind == "CSV":
            text = io.StringIO()
            writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
            for row in rows:
                said = dict(row)
                said["key"] = url_encode(row["key"])
                if "last_modified_date" in row:
                    said["last_modified_date"] = row["last_modified_date"].strftime("%Y-%m-%dT%H:%M:%S.000Z")
                writer.writerow(
                    "" if value is None else str(value).lower() if isinstance(value, bool) else value
                    for value in said.values()
                )
            return gzip.compress(text.getvalue().encode())
        columns = {name: kind for name, kind in TYPES.items() if name in rows[0]}
        # Moments without a zone, as the reports have them.
        plain = [
            row | {"last_modified_date": row["last_modified_date"].replace(tzinfo=None)}
            if "last_modified_date" in row
            else row
            for row in rows
        ]
        table = pa.Table.from_pylist(plain, schema=pa.schema(columns))
        file = io.BytesIO()
        if self.kind == "Parquet":
            parquet.write_table(table, file)
        else:
            orc.write_table(table, file)
        return file.getvalue()


def settings(server, *, then_list=False, filters=(), shard=None, **storage):
    selection = SelectionSettings(inventory=WHERE, then_list=then_list, filters=filters, shard=shard)
    return settings_for(server, selection=selection, storage=StorageSettings(max_delete=EVERYTHING, **storage))


async def mirror(server, dest, *sources, observer=None, **more):
    return await sealift.mirror(sources or ["s3://bucket/p"], dest, settings(server, **more), observer=observer)


# ── Reports ─────────────────────────────────────────────────────────────────────────────────────────


@ONE_LOOP
async def test_under_a_cap_the_reports_keep_to_it_as_well(server, tmp_path):
    """They may be encrypted as what they name is."""
    where, times = Report(server).put(files=4), kms_log(server)
    selection = SelectionSettings(inventory=where)
    await sealift.mirror(["s3://bucket"], tmp_path, settings_for(server, selection=selection, kms=KmsSettings(rps=6)))
    assert len(times) == 1 + 4 + len(BODIES)
    assert fullest_second(times) <= 6


@pytest.mark.parametrize("kind", FORMATS)
async def test_what_a_report_lists_is_mirrored_and_nothing_is_listed(server, tmp_path, kind):
    Report(server, kind).put(files=2)
    watcher = Watcher()
    summary = await mirror(server, tmp_path, observer=watcher)

    assert tree(tmp_path) == {"a": b"a", "ü +%41&b": b"odd", "d/e": b"ccc"}
    assert (summary.listed, summary.downloaded, summary.failed, summary.complete) == (3, 3, 0, True)
    assert server.lists == 0
    assert server.heads == 3  # of the manifest and its files, and of no object
    modified = server.objects["bucket", "p/a"].last_modified
    assert (tmp_path / "a").stat().st_mtime == modified.timestamp()
    assert "the inventory is of 2025-11-25T01:00:00+00:00" in watcher.notes
    assert "encrypted, by the inventory: 4 SSE-KMS" in watcher.notes
    assert (await mirror(server, tmp_path)).up_to_date == 3


@pytest.mark.parametrize("kind", FORMATS)
async def test_of_versions_the_latest_count_and_what_was_deleted_does_not(server, tmp_path, kind):
    server.put("bucket", "p/v", b"old", version_id="v1")
    old = Report(server, kind).row("p/v")
    server.put("bucket", "p/v", b"new one", version_id="v2")
    report = Report(server, kind)
    report.rows += [old | {"is_latest": False}, old | {"key": "p/gone", "is_delete_marker": True, "size": None}]
    report.put()
    server.put("bucket", "p/v", b"newer than the report", version_id="v3")

    assert (await mirror(server, tmp_path, filters=(Filter("include", "v"), Filter("exclude", "[!v]*")))).failed == 0
    assert tree(tmp_path) == {"v": b"new one"}


@pytest.mark.parametrize("kind", FORMATS)
async def test_what_a_report_leaves_out_is_looked_up(server, tmp_path, kind):
    report = Report(server, kind).without("e_tag", "last_modified_date", "storage_class", "encryption_status")
    report.put(columns="Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size")
    assert (await mirror(server, tmp_path)).downloaded == 3
    assert server.heads == 2 + 3


@pytest.mark.parametrize("kind", FORMATS)
async def test_more_rows_than_a_batch_come_from_many_row_groups(server, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(inventory, "BATCH", 7)
    for number in range(40):
        server.put("bucket", f"p/many/{number:02d}", b"x")
    Report(server, kind).put(files=3)
    assert (await mirror(server, tmp_path)).downloaded == 43


class Opens(Watcher):
    """Sets an event when so many objects were listed, or have ended."""

    def __init__(self, *, listed=0, ended=0):
        super().__init__()
        self.released = anyio.Event()
        self._missing = {"listed": listed, "ended": ended}

    def listed(self, objects):
        self._count("listed", objects)

    def ended(self, outcome):
        super().ended(outcome)
        self._count("ended", 1)

    def _count(self, what, objects):
        self._missing[what] -= objects
        if max(self._missing.values()) <= 0:
            self.released.set()


def left_of(dest):
    return list((dest / ".sealift" / "partial").iterdir())


@pytest.mark.parametrize("size", [3, 9_000_000], ids=["small", "large"])
@pytest.mark.parametrize("durability", Durability)
async def test_what_a_report_names_again_while_it_is_under_way_is_fetched_once(
    server, tmp_path, monkeypatch, size, durability
):
    monkeypatch.setattr(inventory, "BATCH", 1)
    bodies = {f"again/{number}": bytes([number]) * size for number in range(3)}
    for key, body in bodies.items():
        server.put("bucket", f"p/{key}", body)
    report = Report(server)
    report.rows *= 3
    report.put(files=3)
    watcher = Opens(listed=18)
    server.fault(op="get", bucket="bucket", do=Hold(watcher.released), times=None)
    summary = await mirror(server, tmp_path, observer=watcher, durability=durability)

    assert (summary.listed, summary.downloaded, summary.up_to_date) == (18, 6, 12)
    assert (summary.failed, summary.pending, summary.complete) == (0, 0, True)
    assert summary.get_requests == (6 if size == 3 else 3 + 3 * 2)
    assert watcher.due == watcher.position == sum(map(len, tree(tmp_path).values()))
    assert {key: body for key, body in tree(tmp_path).items() if key in bodies} == bodies
    assert not left_of(tmp_path)
    ledger = recorded(tmp_path)
    assert len(ledger) == 6
    assert all(record.checksum and not record.adopted for record in ledger.values())


async def test_what_a_report_names_again_when_it_has_ended_stays_recorded_as_fetched(server, tmp_path):
    report = Report(server)
    report.rows *= 2
    report.put(files=2)
    watcher = Opens(ended=3)
    server.fault(op="get", bucket="inventory", key="reports/data/1.csv", do=Hold(watcher.released))
    summary = await mirror(server, tmp_path, observer=watcher)

    assert (summary.listed, summary.downloaded, summary.up_to_date) == (6, 3, 3)
    ledger = recorded(tmp_path)
    assert len(ledger) == 3
    assert all(record.checksum and record.seal.sse and not record.adopted for record in ledger.values())


async def test_no_more_names_wait_for_their_first_to_end_than_may(server, tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "BATCH", 1)
    monkeypatch.setattr(running, "MOST_WAITING", 2)
    report = Report(server)
    report.rows *= 20
    report.put()
    summary = await mirror(server, tmp_path)
    assert (summary.listed, summary.failed, summary.pending) == (60, 0, 0)
    assert (summary.downloaded, summary.up_to_date) == (3, 57)


class OpensAtTheEndOf(Watcher):
    """Sets an event when an object has ended."""

    def __init__(self, key):
        super().__init__()
        self.released = anyio.Event()
        self._key = key

    def ended(self, outcome):
        if outcome.key == self._key:
            self.released.set()


async def test_of_two_versions_that_are_named_in_a_row_the_later_one_stays(server, tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "BATCH", 1)
    old = b"old" * 3_000_000
    server.put("bucket", "p/v", old, version_id="v1")
    rows = [Report(server).row("p/v")]
    server.put("bucket", "p/v", b"new one", version_id="v2")
    rows.append(Report(server).row("p/v"))
    for named in (rows, rows[::-1]):
        report = Report(server)
        report.rows = [*named, report.row("p/a"), report.row("p/d/e")]
        report.put(files=4)
        watcher = OpensAtTheEndOf("p/d/e")
        first = named[0]["version_id"]
        server.fault(
            op="get",
            key="p/v",
            do=Hold(watcher.released),
            when=lambda request, first=first: request.query["versionId"] == first,
            times=None,
        )
        summary = await mirror(server, tmp_path, observer=watcher, force=True)
        assert (summary.listed, summary.downloaded, summary.failed) == (4, 4, 0)
        body = b"new one" if named is rows else old
        assert tree(tmp_path) == {"v": body, "a": b"a", "d/e": b"ccc"}
        assert recorded(tmp_path)["v"].size == len(body)
        assert not left_of(tmp_path)


async def test_what_is_named_again_has_another_chance_when_it_has_failed(server, tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "BATCH", 1)
    report = Report(server)
    report.rows *= 2
    report.put(files=2)
    watcher = Opens(listed=6)
    refused = Hold(watcher.released, then=Answer(403, "AccessDenied", "Access Denied"))
    server.fault(op="get", bucket="bucket", key="p/a", do=refused)
    summary = await mirror(server, tmp_path, observer=watcher)
    assert (summary.listed, summary.failed, summary.downloaded, summary.up_to_date) == (6, 1, 3, 2)
    assert tree(tmp_path)["a"] == b"a"


async def test_an_archived_object_is_looked_up_as_it_may_have_been_restored(server, tmp_path):
    expiry = datetime(2030, 1, 1, tzinfo=UTC)
    server.put("bucket", "p/thawed", b"t", storage_class="GLACIER", restore=Restore(in_progress=False, expiry=expiry))
    server.put("bucket", "p/frozen", b"f", storage_class="GLACIER")
    Report(server).put()
    summary = await mirror(server, tmp_path)
    assert [failure.key for failure in summary.failures] == ["p/frozen"]
    assert tree(tmp_path)["thawed"] == b"t"


async def test_an_object_under_a_customers_own_key_fails_without_being_asked_for(server, tmp_path):
    report = Report(server)
    report.row("p/a")["encryption_status"] = report.row("q/elsewhere")["encryption_status"] = "SSE-C"
    report.put()
    before = server.gets
    summary = await mirror(server, tmp_path)
    assert [(failure.key, failure.error) for failure in summary.failures] == [("p/a", "CustomerKey")]
    assert (summary.downloaded, server.gets - before) == (2, 2 + 2)


async def test_an_object_that_was_deleted_since_is_skipped(server, tmp_path):
    Report(server).put()
    del server.objects["bucket", "p/a"]
    summary = await mirror(server, tmp_path)
    assert (summary.listed, summary.downloaded, summary.skipped, summary.failed) == (3, 2, 1, 0)


async def test_shards_split_a_report(server, tmp_path):
    for number in range(30):
        server.put("bucket", f"p/{number}", b"x")
    Report(server).put()
    listed = [(await mirror(server, tmp_path, shard=Shard(index, 3))).listed for index in (1, 2, 3)]
    assert (sum(listed), len(tree(tmp_path)), all(listed)) == (33, 33, True)


async def test_a_plan_reads_a_report(server, tmp_path):
    Report(server).put()
    forecast = await sealift.plan(["s3://bucket/p"], tmp_path, settings(server))
    assert (forecast.to_download, forecast.complete) == (3, True)
    forecast = await sealift.plan(["s3://bucket/p"], tmp_path, settings(server, then_list=True))
    assert (forecast.to_download, forecast.complete) == (3, True)


# ── Listing as well ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("recorded", [False, True], ids=["with no ledger yet", "with a ledger"])
async def test_then_list_finds_what_the_report_is_too_old_to_know(server, tmp_path, recorded):
    if recorded:
        await sealift.mirror(["s3://bucket/p"], tmp_path, settings_for(server))
    Report(server).put()
    server.put("bucket", "p/new", b"since")
    server.overwrite("bucket", "p/d/e", b"overwritten")
    del server.objects["bucket", "p/a"]

    summary = await mirror(server, tmp_path, then_list=True, delete=True)

    now = {"new": b"since", "d/e": b"overwritten", "ü +%41&b": b"odd"}
    assert tree(tmp_path) == now
    assert (summary.failed, summary.pending, summary.complete) == (0, 0, True)
    assert summary.deleted == recorded
    server.delete("bucket", "p/new")
    await mirror(server, tmp_path, then_list=True, delete=True)
    assert tree(tmp_path) == {path: body for path, body in now.items() if path != "new"}


async def test_what_exclude_each_other_is_refused(server, tmp_path):
    for selection, why in (
        (SelectionSettings(inventory=WHERE, files_from="-"), "--inventory and --files-from"),
        (SelectionSettings(inventory=WHERE, as_of="start"), "--inventory and --as-of"),
        (SelectionSettings(then_list=True), "--then-list is of --inventory"),
    ):
        with pytest.raises(ConfigError, match=why):
            await sealift.mirror(["s3://bucket"], tmp_path, settings_for(server, selection=selection))
    with pytest.raises(ConfigError, match="without --then-list"):
        await mirror(server, tmp_path, delete=True)


# ── Reports that cannot be used ─────────────────────────────────────────────────────────────────────


async def test_nothing_of_a_file_whose_checksum_is_another_is_used(server, tmp_path):
    Report(server).put(md5="0" * 32)
    with pytest.raises(SourceError, match="its MD5 is another one") as caught:
        await mirror(server, tmp_path)
    assert (caught.value.code, caught.value.summary.listed) == ("BadInventory", 0)


async def test_a_file_that_breaks_off_is_continued(server, tmp_path):
    Report(server).put()
    broken = server.fault(op="get", bucket="inventory", key="reports/data/0.csv", do=ResetAfter(10), times=2)
    assert (await mirror(server, tmp_path)).downloaded == 3
    assert broken.hits == 2


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_file_that_makes_no_sense_ends_the_run(server, tmp_path, kind):
    report = Report(server, kind)
    report.put()
    junk = b"no such file"
    server.put("inventory", f"reports/data/0.{kind.lower()}", junk)
    manifest = json.loads(server.objects["inventory", MANIFEST].body)
    manifest["files"][0] |= {"size": len(junk), "MD5checksum": hashlib.md5(junk).hexdigest()}
    server.put("inventory", MANIFEST, json.dumps(manifest).encode())
    with pytest.raises(SourceError, match="makes no sense"):
        await mirror(server, tmp_path)


async def test_a_disk_without_room_for_a_report_ends_the_run_and_loses_nothing(server, tmp_path):
    Report(server).put()
    with small_tmpfs(tmp_path / "disk", options="size=512k") as disk:
        await mirror(server, disk)
        before = tree(disk)
        chance = random.Random(1)
        for _ in range(800):
            server.put("bucket", f"q/{chance.randbytes(500).hex()}", b"")
        Report(server).put()
        with pytest.raises(
            LocalStorageError, match=r"has to be stored .* bytes are needed and [0-9,]+ are free"
        ) as ended:
            await mirror(server, disk)
        assert (ended.value.code, ended.value.exit_status) == ("DiskFull", 4)
        assert tree(disk) == before
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert (await mirror(server, disk)).up_to_date == 3


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_plan_without_room_for_temporary_files_says_so(server, tmp_path, monkeypatch, kind):
    Report(server, kind).put()
    with small_tmpfs(tmp_path / "tmp", options="size=16k") as full:
        (full / "filler").write_bytes(bytes(16384))
        monkeypatch.setattr(tempfile, "tempdir", str(full))
        with pytest.raises(LocalStorageError, match=rf"no space left on the disk of {full}") as ended:
            await sealift.plan(["s3://bucket/p"], tmp_path / "dest", settings(server))
    assert ended.value.code == "DiskFull"


async def test_a_manifest_that_is_not_there_or_of_another_bucket_is_refused(server, tmp_path):
    with pytest.raises(SourceError, match=r"the inventory .* cannot be read"):
        await mirror(server, tmp_path)
    Report(server).put()
    with pytest.raises(ConfigError, match="no SOURCE is in that bucket"):
        await mirror(server, tmp_path, "s3://other/p")
    server.fault(op="get", bucket="inventory", do=Answer(500, "InternalError", "We encountered an error"), times=None)
    hasty = RetrySettings(max_attempts=2, base=0.001, cap=0.001)
    selection = SelectionSettings(inventory=WHERE)
    with pytest.raises(SourceError, match="cannot be read"):
        await sealift.mirror(["s3://bucket"], tmp_path, settings_for(server, selection=selection, retry=hasty))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"{", "no manifest"),
        (b"[]", "no manifest"),
        (b"{}", "no manifest"),
        (b'{"sourceBucket": "b", "fileFormat": "XLS", "fileSchema": "", "files": []}', "'XLS' are not known"),
        (b'{"sourceBucket": "b", "fileFormat": "CSV", "fileSchema": "Bucket", "files": []}', "has no keys"),
        (b'{"sourceBucket": "b", "fileFormat": "CSV", "fileSchema": "Key", "files": [1]}', "no manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(said, why):
    with pytest.raises(ConfigError, match=why):
        parse_report(said, WHERE)


async def test_without_pyarrow_a_report_in_parquet_is_refused_with_the_extras_name(server, tmp_path, monkeypatch):
    Report(server, "Parquet").put()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'sealift\[inventory\]'"):
        await mirror(server, tmp_path)


async def test_a_report_of_nothing_that_is_meant_is_worth_a_warning(server, tmp_path):
    Report(server).put()
    watcher = Watcher()
    assert (await mirror(server, tmp_path, "s3://bucket/none", observer=watcher)).listed == 0
    assert any("names nothing under the SOURCEs" in note for note in watcher.notes)
