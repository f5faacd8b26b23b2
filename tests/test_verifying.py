"""Mirrored files are held against the ledger, and fetched again where that is asked for."""

import errno
import json
import os
import random
import subprocess
import sys
from functools import partial

import pytest
from anyio.to_thread import run_sync
from hypothesis import given
from hypothesis import strategies as st

import sealift
from sealift import (
    ConfigError,
    Flaw,
    LocalStorageError,
    MaxDelete,
    Onlooker,
    SelectionSettings,
    StorageSettings,
    verifying,
)
from sealift.ledger import LEDGER, Changes, Ledger, Seal
from sealift.localpath import beside_directory, local_path
from sealift.placing import origin, recorded
from sealift.reading import Reading
from sealift.sharding import Shard, parse_shard
from tests.support.faultserver import Answer, FaultServer, Generated
from tests.support.keys import remote
from tests.support.running import fill, mirror, settings_for, tree

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
BODIES = {
    "a.csv": b"a",
    "d/b.csv": b"bb",
    "d/e/c.csv": b"ccc",
    "empty/": b"",
    "none": b"",
    "x//y": b"odd",
    "z": b"last",
}
FILES = {
    "a.csv": b"a",
    "d/b.csv": b"bb",
    "d/e/c.csv": b"ccc",
    "empty/": b"",
    "none": b"",
    "x/%empty/y": b"odd",
    "z": b"last",
}


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
async def server():
    async with FaultServer() as server:
        fill(server, BODIES)
        yield server


@pytest.fixture
async def dest(server, tmp_path):
    await mirror(server, tmp_path)
    return tmp_path


async def verify(dest, *prefixes, server=None, repair=False, settings=None, observer=None):
    """Verify; without a server there is none that could be asked."""
    settings = settings or (sealift.Settings() if server is None else settings_for(server))
    return await sealift.verify(dest, prefixes, settings, repair=repair, observer=observer)


def found(result):
    return {finding.path: finding.flaw for finding in result.findings}


def flip(path, at=0):
    """Change a bit, and nothing that tells so."""
    before = path.stat()
    body = bytearray(path.read_bytes())
    body[at] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def spoil(dest):
    """One of each."""
    flip(dest / "a.csv")
    (dest / "d" / "b.csv").write_bytes(b"edited")
    (dest / "d" / "e" / "c.csv").unlink()
    (dest / "d" / "new").write_bytes(b"mine")


SPOILT = {"a.csv": Flaw.DAMAGED, "d/b.csv": Flaw.CHANGED, "d/e/c.csv": Flaw.MISSING, "d/new": Flaw.UNKNOWN}


# ── What is found ───────────────────────────────────────────────────────────────────────────────────


async def test_a_mirror_that_nobody_touched_is_intact_and_nobody_is_asked(server, dest):
    before = len(server.requests)
    result = await verify(dest)
    assert (result.files, result.intact, result.findings, result.complete) == (7, 7, (), True)
    assert result.bytes == sum(map(len, BODIES.values()))
    assert len(server.requests) == before


async def test_missing_changed_damaged_and_unknown_files_are_told_apart(dest):
    spoil(dest)
    before = tree(dest)
    result = await verify(dest)
    assert found(result) == SPOILT
    assert (result.files, result.intact) == (7, 4)
    assert (result.missing, result.changed, result.damaged, result.unknown) == (1, 1, 1, 1)
    by_path = {finding.path: finding for finding in result.findings}
    assert (by_path["d/b.csv"].bucket, by_path["d/b.csv"].key) == ("bucket", "d/b.csv")
    assert list(by_path)[-1] == "d/new"
    assert tree(dest) == before


async def test_a_file_of_another_time_and_the_same_bytes_is_intact(dest):
    os.utime(dest / "z", (1, 1))
    assert (await verify(dest)).intact == 7


async def test_the_same_length_at_another_time_is_a_change_and_not_damage(dest):
    (dest / "z").write_bytes(b"tsal")
    assert found(await verify(dest)) == {"z": Flaw.CHANGED}


async def test_what_has_no_checksum_is_judged_by_size_and_time(server, dest):
    for name in ("z", "a.csv"):
        drop_checksum(dest, name)
    flip(dest / "z")
    (dest / "a.csv").write_bytes(b"aa")
    result = await verify(dest)
    assert (result.unchecked, found(result)) == (1, {"a.csv": Flaw.CHANGED})


def drop_checksum(dest, path):
    with Ledger.open(dest / ".sealift", pytest.fail) as ledger:
        ledger.write(Changes(records=[ledger.look_up([path])[path]._replace(checksum=None)]))


@pytest.mark.parametrize("thing", ["directory", "link", "pipe"])
async def test_what_is_no_file_is_a_change_and_never_followed(dest, thing):
    (dest / "z").unlink()
    if thing == "directory":
        (dest / "z").mkdir()
    elif thing == "link":
        (dest / "z").symlink_to(dest / "a.csv")
    else:
        os.mkfifo(dest / "z")
    assert found(await verify(dest)) == {"z": Flaw.CHANGED}


async def test_a_directory_that_a_marker_made_is_looked_for(dest):
    (dest / "empty").rmdir()
    assert found(await verify(dest)) == {"empty/": Flaw.MISSING}


async def test_a_file_that_the_disk_does_not_give_is_damaged(dest, monkeypatch):
    genuine = os.preadv

    def preadv(descriptor, buffers, offset):
        if os.fstat(descriptor).st_size == len(b"odd"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return genuine(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    result = await verify(dest)
    assert found(result) == {"d/e/c.csv": Flaw.DAMAGED, "x/%empty/y": Flaw.DAMAGED}
    assert "cannot be read" in result.findings[0].message


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32", "SHA256"])
@pytest.mark.parametrize("at", [None, 0, 2 * MIB + 5, 5 * MIB - 1])
async def test_large_files_are_read_in_stretches(server, tmp_path, monkeypatch, algorithm, at):
    monkeypatch.setattr(verifying, "STRETCH", MIB)
    server.objects.clear()
    server.put("bucket", "large", random.Random(1).randbytes(5 * MIB), checksum=algorithm)
    await mirror(server, tmp_path)
    if at is not None:
        flip(tmp_path / "large", at)
    result = await verify(tmp_path)
    assert found(result) == ({} if at is None else {"large": Flaw.DAMAGED})
    assert result.bytes == 5 * MIB


async def test_a_large_file_that_is_cut_off_while_it_is_read_is_no_longer_right(server, tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "STRETCH", MIB)
    server.objects.clear()
    server.put("bucket", "large", Generated(5 * MIB))
    await mirror(server, tmp_path)
    genuine = Reading.read_into

    def read_into(file, offset, buffer):
        os.truncate(tmp_path / "large", MIB)
        return genuine(file, offset, buffer)

    monkeypatch.setattr(Reading, "read_into", read_into)
    [finding] = (await verify(tmp_path)).findings
    assert finding.flaw is Flaw.DAMAGED
    assert "shorter" in finding.message


@pytest.mark.parametrize(
    ("prefixes", "paths"),
    [
        (["d"], {"d/b.csv", "d/e/c.csv", "d/new"}),
        (["d/"], {"d/b.csv", "d/e/c.csv", "d/new"}),
        (["./d/e", "d/e/c.csv", "d/new"], {"d/e/c.csv", "d/new"}),
        (["a.csv", "d"], {"a.csv", "d/b.csv", "d/e/c.csv", "d/new"}),
        (["a"], set()),
        (["x", "nowhere", "z/below"], set()),
        (["."], set(SPOILT)),
    ],
)
async def test_prefixes_are_files_and_directories_below_the_destination(dest, prefixes, paths):
    spoil(dest)
    result = await verify(dest, *prefixes)
    assert set(found(result)) == paths
    assert result.complete


@pytest.mark.parametrize("prefix", ["/etc", "../x", "d/../../x"])
async def test_a_prefix_that_leads_out_is_refused(dest, prefix):
    with pytest.raises(ConfigError):
        await verify(dest, prefix)


async def test_many_files_in_many_directories_are_all_looked_at(server, tmp_path):
    server.objects.clear()
    keys = [
        f"{number % 7}/d{number % 11}/\udcff{number}" if number % 5 == 0 else f"{number % 7}/{number}"
        for number in range(700)
    ]
    for key in keys:
        server.put("bucket", key, key.encode("utf-8", "surrogateescape"))
    await mirror(server, tmp_path)
    for path in (tmp_path / "3").iterdir():
        if path.is_file():
            flip(path)
    (tmp_path / "4" / "\udcfe").write_bytes(b"")
    spoilt = {key for key in keys if key.startswith("3/") and key.count("/") == 1}
    result = await verify(tmp_path)
    assert found(result) == dict.fromkeys(spoilt, Flaw.DAMAGED) | {"4/\udcfe": Flaw.UNKNOWN}
    assert result.files == 700
    part = await verify(tmp_path, "3", "5/d1")
    assert set(found(part)) == spoilt
    assert part.files == sum(key.startswith(("3/", "5/d1/")) for key in keys)


async def test_only_the_first_findings_are_told_and_unknown_ones_last(server, tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "FAILURES_IN_SUMMARY", 20)
    server.objects.clear()
    fill(server, {f"k{number}": b"x" for number in range(15)})
    await mirror(server, tmp_path)
    for path in tmp_path.glob("k*"):
        path.rename(path.with_name(f"other-{path.name}"))
    result = await verify(tmp_path)
    assert (result.missing, result.unknown) == (15, 15)
    assert [finding.flaw for finding in result.findings] == [Flaw.MISSING] * 15 + [Flaw.UNKNOWN] * 5


# ── The ledger ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("repair", [False, True])
async def test_without_a_ledger_nothing_is_known(server, tmp_path, repair):
    with pytest.raises(LocalStorageError, match="no ledger") as caught:
        await verify(tmp_path / "nowhere", server=server, repair=repair)
    assert caught.value.code == "LedgerMissing"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("where", ["head", "pages"])
async def test_a_damaged_ledger_vouches_for_nothing(server, tmp_path, where, repair):
    server.objects.clear()
    fill(server, {f"{number:05}-{'x' * 100}": b"x" for number in range(600)})
    await mirror(server, tmp_path)
    path = tmp_path / ".sealift" / LEDGER
    data = bytearray(path.read_bytes())
    if where == "head":
        data[:100] = bytes(100)
    else:
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    with pytest.raises(LocalStorageError, match="damaged") as caught:
        await verify(tmp_path, server=server, repair=repair)
    assert caught.value.code == "LedgerDamaged"


async def test_a_ledger_elsewhere_is_found(server, tmp_path):
    state = StorageSettings(state=tmp_path / "state")
    await mirror(server, tmp_path / "dest", storage=state)
    flip(tmp_path / "dest" / "z")
    result = await verify(tmp_path / "dest", settings=sealift.Settings(storage=state))
    assert found(result) == {"z": Flaw.DAMAGED}


async def test_what_shards_have_mirrored_is_looked_at_and_repaired_as_one(server, dest):
    server.put("bucket", "z", b"newer", checksum="CRC32")
    await mirror_by_two_shards(server, dest)
    assert (await verify(dest)).intact == 7  # the part that has it knows of the newer z, and the whole of the older one
    spoil(dest)
    flip(dest / "z")
    spoilt = SPOILT | {"z": Flaw.DAMAGED}
    assert found(await verify(dest)) == spoilt
    assert found(await verify(dest, "z")) == {"z": Flaw.DAMAGED}
    result = await verify(dest, server=server, repair=True)
    assert (found(result), result.repair.downloaded) == (spoilt, 4)
    assert tree(dest) == FILES | {"d/new": b"mine", "z": b"newer"}


async def test_what_a_shard_has_deleted_is_known_no_more_whatever_is_known_from_before_there_were_shards(server, dest):
    await mirror_by_two_shards(server, dest)
    del server.objects["bucket", "z"]
    await mirror_by_two_shards(
        server, dest, storage=StorageSettings(delete=True, max_delete=MaxDelete(100, percent=True))
    )
    (dest / "z").write_bytes(b"mine")
    assert found(await verify(dest)) == {"z": Flaw.UNKNOWN}


async def test_a_file_that_is_another_shards_by_now_is_judged_by_what_that_one_says(server, tmp_path):
    first, last = Shard(1, 2), Shard(2, 2)
    names = [f"k{number}" for number in range(40)]
    for one, other in ((first, last), (last, first)):
        [name, *_] = [name for name in names if one.has(f"p/{name}") and other.has(f"q/{name}")]
        for prefix, body in (("p/", b"one"), ("q/", b"other")):
            server.objects.clear()
            server.put("bucket", f"{prefix}{name}", body)
            await mirror_by_two_shards(server, tmp_path / name, f"s3://bucket/{prefix}")
        assert found(await verify(tmp_path / name)) == {}
        flip(tmp_path / name / name)
        assert list(found(await verify(tmp_path / name))) == [name]


async def mirror_by_two_shards(server, dest, *sources, **more):
    for text in ("1/2", "2/2"):
        await mirror(server, dest, *sources, selection=SelectionSettings(shard=parse_shard(text, {})), **more)


async def test_it_looks_beside_a_run_and_says_so(server, dest):
    class Listening(Onlooker):
        def __init__(self):
            self.notes = []

        def noted(self, level, text):
            self.notes.append(text)

    listening = Listening()
    with sealift.destination.Destination.open(dest, create=True) as destination:
        destination.lock()
        assert (await verify(dest, observer=listening)).intact == 7
    assert [note for note in listening.notes if "a run is writing here" in note]
    with sealift.destination.Destination.open(dest, create=True) as destination:
        destination.lock()
        with pytest.raises(LocalStorageError, match="another sealift run"):
            await verify(dest, server=server, repair=True)


async def test_what_a_run_replaces_meanwhile_is_looked_at_once_more(dest, monkeypatch):
    """The file is the new one by now, and so is what the ledger says."""
    genuine = Ledger.records_below

    def records_below(ledger, *where):
        page = genuine(ledger, *where)
        with Ledger.open(dest / ".sealift", pytest.fail) as writing:
            writing.write(Changes(gone=["a.csv"]))
        return [replace_record(record) if record.path == "z" else record for record in page]

    def replace_record(record):
        return record._replace(etag='"old"', checksum="CRC32:AAAAAA==", local_size=1)

    (dest / "a.csv").unlink()
    monkeypatch.setattr(Ledger, "records_below", records_below)
    result = await verify(dest)
    assert (result.intact, result.findings) == (6, ())


# ── Repair ──────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_not_right_is_fetched_again_and_nothing_else(server, dest):
    spoil(dest)
    before = server.gets
    result = await verify(dest, server=server, repair=True)
    assert found(result) == SPOILT
    assert (result.repair.downloaded, result.repair.failed, server.gets - before) == (3, 0, 3)
    assert tree(dest) == FILES | {"d/new": b"mine"}
    assert (await verify(dest)).intact == 7
    await mirror(server, dest)
    assert server.gets - before == 3


async def test_an_object_with_two_files_is_fetched_for_each_of_them(server, dest):
    body = bytes(range(256)) * 36_000
    server.put("bucket", "d/e/large.bin", body)
    await mirror(server, dest)
    await mirror(server, dest, "s3://bucket/d/e")
    files = [dest / "large.bin", dest / "d" / "e" / "large.bin"]
    for file in [*files, dest / "c.csv", dest / "d" / "e" / "c.csv"]:
        file.unlink()
    result = await verify(dest, server=server, repair=True)
    assert (result.repair.listed, result.repair.downloaded, result.repair.failed) == (4, 4, 0)
    assert [file.read_bytes() == body for file in files] == [True, True]
    assert (await verify(dest)).findings == ()


async def test_nothing_to_repair_reaches_no_server(dest):
    unreachable = sealift.Settings(connection=sealift.ConnectionSettings(endpoint_url="http://127.0.0.1:9"))
    result = await verify(dest, repair=True, settings=unreachable)
    assert (result.intact, result.repair.listed, result.repair.complete) == (7, 0, True)


async def test_an_object_that_has_changed_is_fetched_as_it_is_now(server, dest):
    flip(dest / "z")
    server.put("bucket", "z", b"newer", checksum="CRC32")
    assert (await verify(dest, server=server, repair=True)).repair.downloaded == 1
    assert (dest / "z").read_bytes() == b"newer"


async def test_an_object_that_is_gone_cannot_be_repaired(server, dest):
    flip(dest / "z")
    flip(dest / "a.csv")
    del server.objects["bucket", "z"]
    result = await verify(dest, server=server, repair=True)
    assert (result.repair.downloaded, [failure.error for failure in result.repair.failures]) == (1, ["NoSuchKey"])
    assert (dest / "a.csv").read_bytes() == b"a"


async def test_what_has_an_odd_place_comes_back_to_it(server, tmp_path):
    server.objects.clear()
    bodies = {"p/a": b"file", "p/a/b": b"below", "p//c/../d": b"odd", "p/e/": b"", "p/" + "long" * 100: b"long"}
    fill(server, bodies)
    for dest, *sources in [("one", "s3://bucket/p"), ("several", "s3://bucket/p/a", "s3://bucket")]:
        await mirror(server, tmp_path / dest, *sources)
        before = tree(tmp_path / dest)
        for path in before:
            if not path.endswith("/"):
                (tmp_path / dest / path).unlink()
            else:
                (tmp_path / dest / path).rmdir()
        result = await verify(tmp_path / dest, server=server, repair=True)
        assert (result.missing, result.repair.downloaded, result.repair.failures) == (5, 5, ())
        assert tree(tmp_path / dest) == before


async def test_a_repair_that_s3_refuses_says_so_and_keeps_what_was_found(server, dest):
    flip(dest / "z")
    server.fault(op="head", do=Answer(403, "AccessDenied"), times=None)
    server.fault(op="get", do=Answer(403, "AccessDenied"), times=None)
    seen = []

    class Listening(Onlooker):
        def verified(self, verification):
            seen.append(verification)

    with pytest.raises(sealift.AccessError):
        await verify(dest, server=server, repair=True, observer=Listening())
    [result] = seen
    assert (result.damaged, result.repair.failed) == (1, 1)


async def test_more_damage_than_waits_in_line_is_repaired(server, tmp_path):
    server.objects.clear()
    bodies = {f"k{number}": b"x" * (number + 1) for number in range(60)}
    fill(server, bodies)
    await mirror(server, tmp_path)
    for path in tmp_path.glob("k*"):
        flip(path)
    result = await verify(tmp_path, server=server, repair=True)
    assert (result.damaged, result.repair.downloaded) == (60, 60)
    assert tree(tmp_path) == bodies


# ── The command ─────────────────────────────────────────────────────────────────────────────────────


def sealift_verify(*words, server=None):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
    if server is not None:
        environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": server.url}
    return subprocess.run(
        [sys.executable, "-m", "sealift", "verify", *map(str, words)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_command_finds_and_mends_and_its_status_says_so(server, dest):
    good = await run_sync(sealift_verify, dest)
    assert (good.returncode, good.stderr) == (0, "")
    spoil(dest)

    bad = await run_sync(sealift_verify, dest, "d", "--json")
    assert bad.returncode == 1
    told = json.loads(bad.stdout)
    assert (told["files"], told["intact"], told["missing"], told["changed"], told["unknown"]) == (2, 0, 1, 1, 1)
    assert {finding["path"]: finding["flaw"] for finding in told["findings"]} == {
        path: flaw for path, flaw in SPOILT.items() if path.startswith("d/")
    }
    assert told["repair"] is None

    mended = await run_sync(partial(sealift_verify, dest, "--repair", server=server))
    assert mended.returncode == 0
    lines = mended.stdout.splitlines()
    assert "missing  d/e/c.csv: there is no such file" in lines
    assert lines[-1].split() == ["repaired", "3"]
    assert tree(dest) == FILES | {"d/new": b"mine"}


def test_the_command_without_a_ledger_ends_with_the_status_of_local_storage(tmp_path):
    ended = sealift_verify(tmp_path, "--json")
    assert ended.returncode == 4
    assert json.loads(ended.stdout)["complete"] is False
    assert "there is no ledger" in ended.stderr


segments = st.sampled_from(["a", "b", "", ".", "..", "%dot", "a%file", ".sealift", "bucket", "x" * 300, "é"])


@given(st.lists(segments, min_size=1, max_size=5), st.integers(0, 5), st.booleans(), st.booleans(), st.booleans())
def test_the_source_of_a_record_leads_to_its_place(names, cut, several, beside, empty):
    key = "/".join(names) or "k"
    base = "" if several else "".join(f"{name}/" for name in names[: min(cut, len(names) - 1)])
    if base == key:
        base = ""
    size = 0 if empty else 1
    path = local_path(key[len(base) :], size, under="bucket" if several else None)
    if not path.segments:
        return
    if beside and not path.directory:
        path = beside_directory(path)
    there = recorded(remote(key, size=size), f"{path.text}/" if path.directory else path.text, 0)
    source, among = origin(there._replace(seal=Seal("bucket")))
    again = local_path(key[len(source.prefix) :], size, under=source.directory if among else None)
    assert path in {again, again if again.directory else beside_directory(again)} or path.text == again.text
