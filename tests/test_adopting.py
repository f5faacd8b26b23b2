"""Where size and time are not to be trusted, bytes tell: `--adopt verify` and `--check checksum`."""

import os
import random
from datetime import UTC, datetime

import pytest

import sealift
from sealift import AccessError, Adopt, Check, KmsSettings, StorageSettings
from sealift.ledger import LEDGER
from tests.support.faultserver import Answer
from tests.support.running import recorded, settings_for, tree
from tests.test_incremental import modified_ns, stamp

pytestmark = pytest.mark.anyio

KIB = 1024
BODY = random.Random(7).randbytes(300 * KIB)
PARTS = (120 * KIB, 70 * KIB, 110 * KIB)
LATER = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 10**9
"""When another tool had fetched its files, which does not say when the objects are from."""

READ = {"verify": {"adopt": Adopt.VERIFY}, "checksum": {"check": Check.CHECKSUM}}


@pytest.fixture
def anyio_backend():
    """One loop is enough: what is tried here is what comes of runs, and not how they wait."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(params=READ)
def read(request):
    """Both ways of having files read that the ledger does not know."""
    return READ[request.param]


async def mirror(server, dest, *, observer=None, kms=None, **storage):
    settings = settings_for(server, storage=StorageSettings(**storage), kms=kms)
    return await sealift.mirror(["s3://bucket"], dest, settings, observer=observer)


def put(path, body, modified=LATER):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    stamp(path, modified)


# ── Files of another tool ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256"])
async def test_a_file_whose_time_says_nothing_is_adopted_by_its_checksum(server, tmp_path, read, algorithm):
    server.put("bucket", "d/k", BODY, checksum=algorithm)
    put(tmp_path / "d/k", BODY)

    first = await mirror(server, tmp_path, **read)
    again = await mirror(server, tmp_path)

    assert (first.up_to_date, first.get_requests, server.heads) == (1, 0, 1)
    assert (again.up_to_date, again.get_requests, server.heads) == (1, 0, 1)
    record = recorded(tmp_path)["d/k"]
    assert record.adopted
    assert record.checksum.startswith(f"{algorithm}:")
    assert record.mtime_ns == LATER == (tmp_path / "d/k").stat().st_mtime_ns


async def test_by_size_and_time_it_would_be_fetched(server, tmp_path):
    server.put("bucket", "k", b"body", checksum="CRC32")
    put(tmp_path / "k", b"body")
    assert (await mirror(server, tmp_path)).downloaded == 1


@pytest.mark.parametrize("composite", [True, False])
async def test_so_is_one_of_an_object_that_was_uploaded_in_parts(server, tmp_path, read, composite):
    server.put("bucket", "k", BODY, checksum="CRC32", parts=PARTS, composite=composite)
    put(tmp_path / "k", BODY)
    assert (await mirror(server, tmp_path, **read)).get_requests == 0
    assert recorded(tmp_path)["k"].adopted


async def test_a_file_with_other_bytes_is_fetched_also_if_its_time_fits(server, tmp_path, read):
    for key in ("time fits", "other time", "other size"):
        server.put("bucket", key, b"right", checksum="CRC32")
    put(tmp_path / "time fits", b"wrong", modified_ns(server.find("bucket", "time fits")))
    put(tmp_path / "other time", b"wrong")
    put(tmp_path / "other size", b"wrong!")

    summary = await mirror(server, tmp_path, **read)

    assert (summary.downloaded, summary.up_to_date, server.heads) == (3, 0, 2)
    assert set(tree(tmp_path).values()) == {b"right"}
    assert not any(record.adopted for record in recorded(tmp_path).values())


async def test_what_s3_has_no_checksum_of_is_fetched_and_can_be_told_from_then_on(server, tmp_path, read):
    server.put("bucket", "k", b"body")
    put(tmp_path / "k", b"body")

    first = await mirror(server, tmp_path, **read)
    again = await mirror(server, tmp_path, **read)

    assert (first.downloaded, again.up_to_date, again.get_requests, server.heads) == (1, 1, 0, 1)


async def test_where_s3_refuses_to_tell_the_object_is_fetched_or_fails_as_any_other(server, tmp_path, read):
    server.put("bucket", "k", b"body", checksum="CRC32")
    put(tmp_path / "k", b"body")
    server.fault(op="head", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    server.fault(op="get", do=Answer(403, "AccessDenied", "Access Denied"), times=None)

    with pytest.raises(AccessError):
        await mirror(server, tmp_path, **read)

    assert tree(tmp_path) == {"k": b"body"}


async def test_a_file_of_a_version_that_was_overwritten_since_the_listing_is_fetched(server, tmp_path, read):
    server.put("bucket", "k", b"older", checksum="CRC32")
    put(tmp_path / "k", b"older")
    server.fault(op="head", do=Answer(412, "PreconditionFailed", ""))
    assert (await mirror(server, tmp_path, **read)).downloaded == 1


async def test_what_may_not_be_read_or_is_no_file_is_not_adopted(server, tmp_path, read):
    for key in ("link", "elsewhere"):
        server.put("bucket", key, b"body", checksum="CRC32")
    put(tmp_path / "outside", b"body")
    dest = tmp_path / "dest"
    put(dest / "elsewhere", b"body")
    (dest / "link").symlink_to(tmp_path / "outside")

    summary = await mirror(server, dest, **read)

    assert (summary.up_to_date, [failure.key for failure in summary.failures]) == (1, ["link"])
    assert (tmp_path / "outside").read_bytes() == b"body"


async def test_an_adopted_file_is_never_deleted(server, tmp_path, read):
    server.put("bucket", "k", b"body", checksum="CRC32")
    server.put("bucket", "other", b"body")
    put(tmp_path / "k", b"body")
    await mirror(server, tmp_path, **read)
    del server.objects["bucket", "k"]

    summary = await mirror(server, tmp_path, delete=True)

    assert (summary.deleted, (tmp_path / "k").exists()) == (0, True)


async def test_a_file_beside_its_directory_is_read_there_and_moves_back_when_that_is_gone(server, tmp_path, read):
    for key in ("a", "a/b"):
        server.put("bucket", key, b"body", checksum="CRC32")
    put(tmp_path / "a%file", b"body")
    put(tmp_path / "a/b", b"body")
    beside = await mirror(server, tmp_path, **read)
    assert (beside.up_to_date, set(recorded(tmp_path))) == (2, {"a%file", "a/b"})

    del server.objects["bucket", "a/b"]
    (tmp_path / "a/b").unlink()
    (tmp_path / "a").rmdir()
    for left in (tmp_path / ".sealift").glob(f"{LEDGER}*"):
        left.unlink()
    back = await mirror(server, tmp_path, **read)

    assert (back.up_to_date, back.get_requests) == (1, 0)
    assert tree(tmp_path) == {"a": b"body"}
    assert set(recorded(tmp_path)) == {"a"}


async def test_a_plan_foresees_it_and_changes_nothing(server, tmp_path, read):
    for key in ("same", "other"):
        server.put("bucket", key, b"body", checksum="CRC32")
        put(tmp_path / key, b"body" if key == "same" else b"????")

    forecast = await sealift.plan(["s3://bucket"], tmp_path, settings_for(server, storage=StorageSettings(**read)))

    assert (forecast.up_to_date, forecast.to_download) == (1, 1)
    assert not (tmp_path / ".sealift").exists()


async def test_each_question_to_kms_takes_a_permit(server, tmp_path, read):
    for number in range(6):
        server.put(
            "bucket", f"{number}", b"body", checksum="CRC32", headers={"x-amz-server-side-encryption": "aws:kms"}
        )
        put(tmp_path / f"{number}", b"body" if number % 2 else b"????")

    summary = await mirror(server, tmp_path, kms=KmsSettings(rps=1000), **read)

    assert (summary.downloaded, summary.up_to_date) == (3, 3)
    assert (server.heads, server.gets) == (6, 3)


# ── Files that the ledger knows ─────────────────────────────────────────────────────────────────────


async def test_what_the_ledger_knows_is_read_and_nobody_is_asked(server, tmp_path):
    for key, checksum in {"a": "CRC32", "b": "SHA256", "c": ""}.items():
        server.put("bucket", key, BODY, checksum=checksum)
    await mirror(server, tmp_path)
    before, heads = recorded(tmp_path), server.heads

    again = await mirror(server, tmp_path, check=Check.CHECKSUM)

    assert (again.up_to_date, again.get_requests, server.heads) == (3, 0, heads)
    assert recorded(tmp_path) == before


async def test_damage_that_leaves_size_and_time_as_they_are_is_found_and_mended(server, tmp_path):
    for key in ("a", "b"):
        server.put("bucket", key, BODY, checksum="CRC32")
    await mirror(server, tmp_path)
    modified = (tmp_path / "a").stat().st_mtime_ns
    with (tmp_path / "a").open("r+b") as file:
        file.seek(150_000)
        file.write(bytes([BODY[150_000] ^ 1]))
    stamp(tmp_path / "a", modified)

    unseen = await mirror(server, tmp_path)
    mended = await mirror(server, tmp_path, check=Check.CHECKSUM)

    assert unseen.up_to_date == 2
    assert (mended.downloaded, mended.up_to_date) == (1, 1)
    assert tree(tmp_path) == {"a": BODY, "b": BODY}


async def test_a_file_that_was_only_touched_is_not_fetched_and_nobodys_but_its_owners_from_then_on(
    server, tmp_path, read
):
    server.put("bucket", "k", b"body", checksum="CRC32")
    await mirror(server, tmp_path)
    stamp(tmp_path / "k", LATER)

    touched = await mirror(server, tmp_path, **read)
    again = await mirror(server, tmp_path)

    assert (touched.get_requests, again.get_requests, server.heads) == (0, 0, 0)
    record = recorded(tmp_path)["k"]
    assert (record.mtime_ns, record.adopted) == (LATER, True)


async def test_a_newer_version_is_fetched_whatever_the_file_holds(server, tmp_path, read):
    server.put("bucket", "k", b"older", checksum="CRC32")
    await mirror(server, tmp_path)
    server.put("bucket", "k", b"newer", checksum="CRC32")
    assert (await mirror(server, tmp_path, **read)).downloaded == 1
    assert tree(tmp_path) == {"k": b"newer"}


async def test_a_record_without_a_checksum_gets_one(server, tmp_path):
    server.put("bucket", "k", b"body", checksum="CRC32")
    put(tmp_path / "k", b"body", modified_ns(server.find("bucket", "k")))
    await mirror(server, tmp_path)
    assert recorded(tmp_path)["k"].checksum is None

    assert (await mirror(server, tmp_path, check=Check.CHECKSUM)).get_requests == 0

    assert recorded(tmp_path)["k"].checksum.startswith("CRC32:")


async def test_with_force_nothing_is_read(server, tmp_path, read):
    server.put("bucket", "k", b"body", checksum="CRC32")
    put(tmp_path / "k", b"body")
    assert (await mirror(server, tmp_path, force=True, **read)).downloaded == 1
    assert server.heads == 0


async def test_by_size_and_time_alone_nothing_is_adopted(server, tmp_path):
    server.put("bucket", "k", b"body", checksum="CRC32")
    put(tmp_path / "k", b"body", modified_ns(server.find("bucket", "k")))
    summary = await mirror(server, tmp_path, check=Check.SIZE_MTIME, adopt=Adopt.VERIFY)
    assert (summary.up_to_date, server.heads, recorded(tmp_path)) == (1, 0, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="everything may be read by root")
async def test_what_may_not_be_read_is_fetched(server, tmp_path, read):
    server.put("bucket", "k", b"body", checksum="CRC32")
    put(tmp_path / "k", b"body")
    (tmp_path / "k").chmod(0)
    assert (await mirror(server, tmp_path, **read)).downloaded == 1
