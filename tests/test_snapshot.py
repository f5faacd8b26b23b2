"""A versioned bucket is mirrored as it was at one moment, whatever has happened since."""

import time
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealift
from sealift import ConfigError, SelectionSettings, SourceError, StorageSettings, TransportChoice
from sealift.errors import Permanent
from sealift.model import RemoteObject
from sealift.s3.store import PageRequest, Version, VersionsPage
from sealift.snapshot import Snapshot, beginning
from tests.support.faultserver import Call, FaultServerThread
from tests.support.running import Watcher, settings_for, tree

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECOND = 1_000_000_000


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def put(server, key, body, seconds, version_id):
    server.put("bucket", key, body, last_modified=at(seconds), version_id=version_id)


def settings(server, as_of, transport=TransportChoice.AUTO, **storage):
    selection = SelectionSettings(as_of=as_of)
    return settings_for(server, selection=selection, storage=StorageSettings(**storage), transport=transport)


async def mirror(server, dest, as_of, *, observer=None, **more):
    return await sealift.mirror(["s3://bucket/p"], dest, settings(server, as_of, **more), observer=observer)


# ── Of each key, the version that was there ─────────────────────────────────────────────────────────


class Versions:
    """A bucket's versions, some on a page: what S3 would tell of them."""

    def __init__(self, history, size):
        self._all = [version for key in sorted(history) for version in history[key]]
        self._size = size

    async def list_versions(self, request):
        key_marker, version_marker = request.key_marker, request.version_marker
        left = [version for version in self._all if version.remote.key.startswith(request.prefix)]
        if version_marker is not None:
            marks = [(version.remote.key, version.remote.version_id) for version in left]
            left = left[marks.index((key_marker, version_marker)) + 1 :]
        elif key_marker is not None:
            left = [version for version in left if version.remote.key > key_marker]
        page, rest = left[: self._size], left[self._size :]
        last = page[-1].remote if rest else None
        return VersionsPage(tuple(page), last and last.key, last and last.version_id)


HISTORIES = st.dictionaries(
    st.sampled_from(["p/a", "p/a/b", "p/b", "p/c"]),
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=6),
)


def versions_of(history):
    """Of each key, from when each version is and whether it deletes, the newest first."""
    return {
        key: [
            Version(RemoteObject("bucket", key, 0, "", seconds * SECOND, f"{key} {number}"), deletes)
            for number, (seconds, deletes) in enumerate(sorted(events, reverse=True))
        ]
        for key, events in history.items()
    }


@given(HISTORIES, st.integers(-1, 10), st.integers(1, 5))
async def test_whatever_lies_on_whichever_page_of_each_key_the_newest_counts_that_is_not_later(history, moment, size):
    versions = versions_of(history)
    bucket = Versions(versions, size)
    snapshot = Snapshot(bucket, datetime.fromtimestamp(moment, UTC))  # type: ignore[arg-type]  # asks nothing else of it
    found, token, pages = [], None, 0
    while token is not None or not pages:
        page = await snapshot.list_page(PageRequest("bucket", "p/", token=token))
        pages, token = pages + 1, page.next_token
        found += [remote.version_id for remote in page.objects]
        assert page.objects or token is None

    expected = []
    for key in sorted(versions):
        then = [version for version in versions[key] if version.remote.last_modified_ns <= moment * SECOND]
        expected += [version.remote.version_id for version in then[:1] if not version.delete_marker]
    assert found == expected
    for key in versions:
        there = [version_id for version_id in expected if version_id.split(" ")[0] == key]
        if there:
            assert (await snapshot.head("bucket", key)).version_id == there[0]
        else:
            with pytest.raises(Permanent, match="was not there"):
                await snapshot.head("bucket", key)


def test_a_run_begins_with_a_second_that_is_over():
    assert beginning(at(7.5)) == at(6)


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("transport", [TransportChoice.WIRE, TransportChoice.SDK])
async def test_the_mirror_is_what_was_there_then(server, tmp_path, transport):
    put(server, "p/kept", b"1", 0, "k1")
    put(server, "p/overwritten", b"old", 0, "o1")
    put(server, "p/deleted", b"gone since", 1, "d1")
    put(server, "p/came and went", b"gone by then", 0, "w1")
    server.delete("bucket", "p/came and went", last_modified=at(2))
    put(server, "p/overwritten", b"new one", 6, "o2")
    server.delete("bucket", "p/deleted", last_modified=at(6))
    put(server, "p/later", b"not yet", 7, "l1")
    put(server, "q/elsewhere", b"x", 0, "e1")
    server.page_size = 2

    summary = await mirror(server, tmp_path, at(5), transport=transport)
    then = {"kept": b"1", "overwritten": b"old", "deleted": b"gone since"}
    assert tree(tmp_path) == then
    assert (summary.listed, summary.downloaded, summary.failed) == (3, 3, 0)
    assert (await mirror(server, tmp_path, at(5), transport=transport)).up_to_date == 3

    summary = await mirror(server, tmp_path, at(8), delete=True, transport=transport)
    assert tree(tmp_path) == {"kept": b"1", "overwritten": b"new one", "later": b"not yet"}
    assert (summary.up_to_date, summary.downloaded, summary.deleted) == (1, 2, 1)


async def test_as_of_start_is_one_state_whatever_happens_meanwhile(server, tmp_path):
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    for number in range(6):
        server.put("bucket", f"p/{number}", b"before", last_modified=long_ago, version_id=f"{number}-1")

    async def change(exchange):
        now = datetime.now(UTC)
        for number in range(6):
            if ("bucket", f"p/{number}") in server.objects:
                server.put("bucket", f"p/{number}", b"since", last_modified=now, version_id=f"{number}-2")
        server.delete("bucket", "p/5", last_modified=now)
        await exchange.send(exchange.response())

    server.fault(op="list", do=Call(change))
    watcher = Watcher()
    summary = await mirror(server, tmp_path, "start", observer=watcher)
    assert tree(tmp_path) == {str(number): b"before" for number in range(6)}
    assert (summary.downloaded, summary.failed) == (6, 0)
    assert any("mirrored is what was there at" in note for note in watcher.notes)


async def test_a_thousand_objects_are_listed_by_several_at_once_and_none_is_lost(server, tmp_path):
    server.page_size = 50
    for number in range(1000):
        put(server, f"p/{number:05d}", b"x", number % 10, f"v{number}")
    summary = await mirror(server, tmp_path, at(4))
    assert summary.downloaded == 500
    assert set(tree(tmp_path)) == {f"{number:05d}" for number in range(1000) if number % 10 <= 4}


async def test_a_bucket_without_versions_is_worth_a_warning(server, tmp_path):
    server.put("bucket", "p/a", b"a", last_modified=at(0))
    watcher = Watcher()
    assert (await mirror(server, tmp_path, at(5), observer=watcher)).downloaded == 1
    assert any("no object has a version" in note for note in watcher.notes)


async def test_a_plan_is_of_the_moment_as_well(server, tmp_path):
    put(server, "p/a", b"old", 0, "a1")
    put(server, "p/a", b"newest", 9, "a2")
    forecast = await sealift.plan(["s3://bucket/p"], tmp_path, settings(server, at(5)))
    assert (forecast.to_download, forecast.bytes) == (1, 3)


async def test_the_future_is_refused_and_so_are_names(server, tmp_path):
    with pytest.raises(ConfigError, match="lies in the future"):
        await mirror(server, tmp_path, datetime.now(UTC) + timedelta(hours=1))
    both = settings_for(server, selection=SelectionSettings(as_of="start", files_from="-"))
    with pytest.raises(ConfigError, match="exclude each other"):
        await sealift.mirror(["s3://bucket"], tmp_path, both)


async def test_no_such_bucket_is_no_such_bucket(server, tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        await sealift.mirror(["s3://nowhere"], tmp_path, settings(server, at(0)))


# ── One version of one object ───────────────────────────────────────────────────────────────────────


async def test_get_fetches_the_version_that_is_asked_for(server, tmp_path):
    put(server, "p/a", b"old", 0, "a1")
    put(server, "p/a", b"newest", 9, "a2")
    chosen = settings_for(server)
    await sealift.get("s3://bucket/p/a", tmp_path / "old", chosen, version_id="a1")
    await sealift.get("s3://bucket/p/a", tmp_path / "new", chosen)
    assert ((tmp_path / "old").read_bytes(), (tmp_path / "new").read_bytes()) == (b"old", b"newest")
    summary = await sealift.get("s3://bucket/p/a", tmp_path / "none", chosen, version_id="a3")
    assert summary.failed == 1


def test_the_command_gets_a_version_to_standard_output_and_mirrors_a_moment(tmp_path, capfdbinary):
    from sealift.cli.entry import main

    with FaultServerThread() as server:
        put(server, "p/a", b"old", 0, "a1")
        put(server, "p/a", b"newest", 9, "a2")
        common = ["--endpoint-url", server.url, "-q"]
        assert main(["get", "s3://bucket/p/a", "-", "--version-id", "a1", *common]) == 0
        assert capfdbinary.readouterr().out == b"old"
        moment = at(5).isoformat()
        assert main(["mirror", "s3://bucket/p", str(tmp_path / "dest"), "--as-of", moment, *common]) == 0
    assert tree(tmp_path / "dest") == {"a": b"old"}


# ── Against real servers ────────────────────────────────────────────────────────────────────────────


@pytest.mark.sandbox
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_a_real_bucket_with_versions_is_mirrored_as_it_was(sandbox, tmp_path, monkeypatch):
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"versions-{time.time_ns()}"
    key = {"Bucket": bucket, "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": sandbox.keys[0]}
    async with sandbox.client() as s3:
        await s3.create_bucket(Bucket=bucket)
        await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for name in ("kept", "deep/er/overwritten", "deleted"):
            first = await s3.put_object(**key, Key=f"p/{name}", Body=f"first {name}".encode())
        then = (await s3.head_object(Bucket=bucket, Key="p/deleted"))["LastModified"]
        while (now := datetime.now(UTC)) < then + timedelta(seconds=1):  # LastModified has whole seconds
            await anyio.sleep((then + timedelta(seconds=1) - now).total_seconds())
        await s3.put_object(**key, Key="p/deep/er/overwritten", Body=b"second")
        await s3.delete_object(Bucket=bucket, Key="p/deleted")
        await s3.put_object(**key, Key="p/later", Body=b"later")

        async def mirrored(as_of, dest):
            chosen = sealift.Settings(selection=SelectionSettings(as_of=as_of))
            summary = await sealift.mirror([f"s3://{bucket}/p"], dest, chosen)
            assert summary.failed == 0
            return tree(dest)

        assert await mirrored(then, tmp_path / "then") == {
            name: f"first {name}".encode() for name in ("kept", "deep/er/overwritten", "deleted")
        }
        assert await mirrored(None, tmp_path / "now") == {
            "kept": b"first kept",
            "deep/er/overwritten": b"second",
            "later": b"later",
        }
        await sealift.get(f"s3://{bucket}/p/deleted", tmp_path / "got", version_id=first["VersionId"])
        assert (tmp_path / "got").read_bytes() == b"first deleted"
        everything = await s3.list_object_versions(Bucket=bucket)
        for version in [*everything["Versions"], *everything["DeleteMarkers"]]:
            await s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
        await s3.delete_bucket(Bucket=bucket)  # the server has room for some dozens
