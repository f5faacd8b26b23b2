"""What was damaged on the way never gets a name: by every kind of checksum, over both transports, however fetched."""

import os
import random
from base64 import b64encode

import pytest

import sealift
from sealift import TransferSettings
from sealift.config import StorageSettings, TransportChoice
from sealift.fetch import Fetcher
from sealift.ledger import Ledger
from sealift.model import ByteRange
from sealift.partial import PartialFile
from sealift.planning import MIB
from sealift.ranges import merged
from tests.support.faultserver import (
    Answer,
    Call,
    FaultServer,
    FlipBit,
    Generated,
    OtherRange,
    OverwriteNow,
    ResetAfter,
)
from tests.support.faultserver.sums import checksum_of
from tests.support.loops import ONE_LOOP
from tests.support.running import Watcher, mirror, partials, settings_for, tree

pytestmark = pytest.mark.anyio

KIB = 1024
BODY = random.Random(5).randbytes(300 * KIB)
PARTS = TransferSettings(part_size=64 * KIB, concurrency=4)
CRCS = ["CRC64NVME", "CRC32C", "CRC32"]
HASHES = ["SHA1", "SHA256", "SHA512", "MD5"]
EVEN, ODD = (100 * KIB,) * 3, (120 * KIB, 70 * KIB, 110 * KIB)


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
async def server():
    async with FaultServer() as server:
        yield server


@pytest.fixture(params=list(TransportChoice)[1:], ids=str)
def transport(request):
    return request.param


def recorded(dest, path):
    with Ledger.open_to_read(dest / ".sealift", pytest.fail) as ledger:
        return ledger.look_up([path])[path].checksum


def own(algorithm, body):
    """A checksum as the ledger has it, by other code than that which took it."""
    return f"{algorithm}:{b64encode(checksum_of(algorithm, body)).decode()}"


# ── Objects that come whole ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", [*CRCS, *HASHES])
async def test_a_whole_object_is_held_against_its_checksum_and_recorded(server, tmp_path, transport, algorithm):
    server.put("bucket", "k", BODY, checksum=algorithm)
    summary = await mirror(server, tmp_path, transport=transport)
    assert (summary.downloaded, summary.verified, server.heads) == (1, 1, 0)
    assert recorded(tmp_path, "k") == own(algorithm, BODY)


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32", "SHA256"])
@pytest.mark.parametrize("size", [1, 16 * KIB, 300 * KIB])
async def test_a_flipped_bit_is_fetched_again(server, tmp_path, transport, algorithm, size):
    server.put("bucket", "k", BODY[:size], checksum=algorithm)
    flip = server.fault(op="get", key="k", do=FlipBit(size // 2))
    watcher = Watcher()
    summary = await mirror(server, tmp_path, transport=transport, observer=watcher)
    assert (summary.downloaded, summary.verified, summary.retries, flip.hits) == (1, 1, 1, 1)
    assert [error.code for error in watcher.retried] == ["ChecksumMismatch"]
    assert tree(tmp_path) == {"k": BODY[:size]}
    assert watcher.position == watcher.due == size


@pytest.mark.parametrize("durability", list(sealift.Durability))
async def test_what_stays_damaged_fails_by_name_and_leaves_nothing(server, tmp_path, transport, durability):
    server.put("bucket", "bad", BODY, checksum="CRC32")
    server.put("bucket", "good", b"good", checksum="CRC32")
    flips = server.fault(op="get", key="bad", do=FlipBit(200_000), times=None)
    storage = StorageSettings(durability=durability)
    summary = await mirror(server, tmp_path, transport=transport, storage=storage)
    assert (summary.downloaded, summary.failed, flips.hits) == (1, 1, 2)
    [failure] = summary.failures
    assert (failure.key, failure.error) == ("bad", "ChecksumMismatch")
    assert "S3's checksum is CRC32:" in failure.message
    assert tree(tmp_path) == {"good": b"good"}
    assert partials(tmp_path) == []


async def test_a_file_that_is_there_stays_when_its_new_version_comes_damaged(server, tmp_path):
    server.put("bucket", "k", b"old", checksum="CRC32")
    await mirror(server, tmp_path)
    server.put("bucket", "k", b"new one", checksum="CRC32")
    server.fault(op="get", do=FlipBit(3), times=None)
    assert (await mirror(server, tmp_path)).failed == 1
    assert tree(tmp_path) == {"k": b"old"}


async def test_where_s3_has_no_checksum_the_files_own_is_recorded(server, tmp_path, transport):
    for key, body in {"none": BODY, "empty": b"", "unknown": b"?"}.items():
        headers = {"x-amz-checksum-xxhash3": "AAAA"} if key == "unknown" else {}
        server.put("bucket", key, body, headers=headers)
    summary = await mirror(server, tmp_path, transport=transport)
    assert (summary.downloaded, summary.verified) == (3, 0)
    assert recorded(tmp_path, "none") == own("CRC64NVME", BODY)
    assert recorded(tmp_path, "empty") == own("CRC64NVME", b"")


async def test_an_etag_is_never_taken_for_an_md5(server, tmp_path):
    server.put("bucket", "k", BODY, etag='"d41d8cd98f00b204e9800998ecf8427e"')
    assert (await mirror(server, tmp_path)).downloaded == 1


async def test_a_body_that_broke_off_is_held_against_the_checksum_that_its_first_answer_told(server, tmp_path):
    server.put("bucket", "k", BODY, checksum="CRC32C")
    server.fault(op="get", do=ResetAfter(100_000))
    flip = server.fault(op="get", do=FlipBit(5), when=lambda request: request.range is not None)
    summary = await mirror(server, tmp_path)
    assert (summary.downloaded, summary.verified, flip.hits, server.heads) == (1, 1, 1, 1)  # one HEAD to start over
    assert tree(tmp_path) == {"k": BODY}


@pytest.mark.parametrize("composite", [True, False])
@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
@pytest.mark.parametrize("parts", [(300 * KIB,), EVEN, ODD], ids=["one part", "even parts", "odd parts"])
async def test_a_whole_object_that_was_uploaded_in_parts(server, tmp_path, algorithm, parts, composite):
    server.put("bucket", "k", BODY, checksum=algorithm, parts=parts, composite=composite)
    flip = server.fault(op="get", do=FlipBit(150_000))
    summary = await mirror(server, tmp_path)
    assert (summary.downloaded, summary.verified, flip.hits, summary.retries) == (1, 1, 1, 1)
    assert tree(tmp_path) == {"k": BODY}
    written = recorded(tmp_path, "k")
    assert written == own(written.partition(":")[0], BODY)


# ── Objects that come in parts ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("algorithm", [*CRCS, "SHA256"])
async def test_an_object_in_parts_is_held_against_its_checksum_for_one_head(
    server, tmp_path, transport, algorithm, listed
):
    server.put("bucket", "k", BODY, checksum=algorithm, listed=listed)
    summary = await mirror(server, tmp_path, transfer=PARTS, transport=transport)
    assert (summary.downloaded, summary.verified, server.gets, server.heads) == (1, 1, 5, 1)
    assert recorded(tmp_path, "k") == own(algorithm, BODY)


DAMAGES = {"a bit flips": FlipBit(100), "another range's bytes": OtherRange(64 * KIB)}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32", "SHA1"])
async def test_a_damaged_part_is_noticed_and_all_is_fetched_again(server, tmp_path, transport, algorithm, damage):
    server.put("bucket", "k", BODY, checksum=algorithm)
    fault = server.fault(
        op="get", do=DAMAGES[damage], when=lambda request: request.range is not None and request.range[0] == 128 * KIB
    )
    summary = await mirror(server, tmp_path, transfer=PARTS, transport=transport)
    assert (summary.downloaded, summary.verified, summary.retries, fault.hits) == (1, 1, 1, 1)
    assert tree(tmp_path) == {"k": BODY}


async def test_two_ranges_that_are_swapped_are_noticed(server, tmp_path, transport):
    server.put("bucket", "k", BODY, checksum="CRC64NVME")
    for one, other in [(0, 64 * KIB), (64 * KIB, 0)]:
        server.fault(
            op="get", do=OtherRange(other), when=lambda request, start=one: request.range[0] == start, times=None
        )
    summary = await mirror(server, tmp_path, transfer=PARTS, transport=transport)
    assert [failure.error for failure in summary.failures] == ["ChecksumMismatch"]
    assert tree(tmp_path) == {}
    assert partials(tmp_path) == []


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("parts", [(300 * KIB,), EVEN, ODD], ids=["one part", "even parts", "odd parts"])
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA256"])
async def test_a_composite_checksum_is_told_along_the_parts_of_the_upload(
    server, tmp_path, transport, algorithm, parts, listed
):
    server.put("bucket", "k", BODY, checksum=algorithm, parts=parts, composite=True, listed=listed)
    flip = server.fault(op="get", do=FlipBit(100), after=2)
    summary = await mirror(server, tmp_path, transfer=PARTS, transport=transport)
    assert (summary.downloaded, summary.verified, summary.retries, flip.hits) == (1, 1, 1, 1)
    assert tree(tmp_path) == {"k": BODY}


LARGE = random.Random(1).randbytes(20 * MIB)
EIGHTS, FIVES = (8 * MIB, 8 * MIB, 4 * MIB), (5 * MIB,) * 4


@pytest.fixture
def read_back(monkeypatch):
    """The stretches of partial files that are read again."""
    stretches, read_into = [], PartialFile.read_into

    def watched(partial, offset, buffer):
        size = read_into(partial, offset, buffer)
        stretches.append(ByteRange(offset, offset + size))
        return size

    monkeypatch.setattr(PartialFile, "read_into", watched)
    return stretches


async def test_the_usual_parts_of_an_upload_cost_no_further_request(server, tmp_path, read_back):
    server.put("bucket", "k", LARGE, checksum="CRC32", parts=EIGHTS, composite=True)
    summary = await mirror(server, tmp_path, transfer=TransferSettings(part_size=3 * MIB))
    assert (summary.verified, server.heads, read_back) == (1, 1, [])
    assert recorded(tmp_path, "k") == own("CRC32", LARGE)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("parts", "gets"), [(EIGHTS, 3), (FIVES, 2)], ids=["8 MiB", "5 MiB"])
async def test_hashes_of_the_parts_of_an_upload_are_taken_as_they_come(
    server, tmp_path, transport, read_back, parts, gets, processes
):
    server.put("bucket", "k", LARGE, checksum="SHA256", parts=parts, composite=True)
    summary = await mirror(server, tmp_path, transport=transport, transfer=TransferSettings(processes=processes))
    assert (summary.downloaded, summary.verified, server.gets, server.heads) == (1, 1, gets, 1)
    assert read_back == []
    assert recorded(tmp_path, "k") == own("CRC64NVME", LARGE)


@pytest.mark.parametrize(("parts", "by"), [((), "SHA256"), (EIGHTS, "CRC64NVME")], ids=["of all", "of the parts"])
async def test_a_hash_of_what_one_get_brings_takes_no_head_and_no_reading(
    server, tmp_path, transport, read_back, parts, by
):
    server.put("bucket", "k", LARGE, checksum="SHA256", parts=parts, composite=bool(parts))
    transfer = TransferSettings(part_size=32 * MIB)
    summary = await mirror(server, tmp_path, transport=transport, transfer=transfer)
    assert (summary.verified, server.gets, server.heads, read_back) == (1, 1, 0, [])
    assert recorded(tmp_path, "k") == own(by, LARGE)
    flip = server.fault(op="get", do=FlipBit(4 * MIB))
    settings = settings_for(server, transfer=transfer, transport=transport)
    summary = await sealift.get("s3://bucket/k", tmp_path / "file", settings)
    assert (summary.verified, summary.retries, server.gets, flip.hits) == (1, 1, 3, 1)
    assert tree(tmp_path) == {"k": LARGE, "file": LARGE}


async def test_a_hash_of_a_part_that_did_not_come_in_one_go_is_taken_from_the_file(server, tmp_path, read_back):
    server.put("bucket", "k", LARGE, checksum="SHA1", parts=EIGHTS, composite=True)
    server.fault(op="get", do=ResetAfter(MIB), when=lambda request: request.range[0] == 8 * MIB)
    summary = await mirror(server, tmp_path)
    assert (summary.verified, server.gets, server.heads) == (1, 4, 1)
    assert merged(read_back) == [ByteRange(8 * MIB, 16 * MIB)]
    assert recorded(tmp_path, "k") == own("CRC64NVME", LARGE)


async def test_hashes_of_parts_that_an_earlier_run_left_are_taken_from_the_file(server, tmp_path, read_back):
    server.put("bucket", "k", LARGE, checksum="SHA256", parts=EIGHTS, composite=True)
    refusal = Answer(500, "InternalError")
    refused = server.fault(op="get", do=refusal, when=lambda request: request.range[0] == 8 * MIB, times=None)
    retry, one_by_one = sealift.RetrySettings(max_attempts=1), TransferSettings(concurrency=1)
    first = await mirror(server, tmp_path, retry=retry, transfer=one_by_one)
    assert (first.failed, first.bytes, read_back) == (1, 8 * MIB, [])
    refused.remove()
    again = await mirror(server, tmp_path)
    assert (again.verified, again.bytes) == (1, 12 * MIB)
    assert merged(read_back) == [ByteRange(0, 8 * MIB)]
    assert recorded(tmp_path, "k") == own("CRC64NVME", LARGE)


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_damaged_part_has_another_hash(server, tmp_path, processes):
    server.put("bucket", "k", LARGE, checksum="SHA256", parts=EIGHTS, composite=True)
    flip = server.fault(op="get", do=FlipBit(4 * MIB), when=lambda request: request.range[0] == 8 * MIB)
    summary = await mirror(server, tmp_path, transfer=TransferSettings(processes=processes))
    assert (summary.verified, summary.retries, flip.hits) == (1, 1, 1)
    assert tree(tmp_path) == {"k": LARGE}


async def test_a_composite_checksum_of_parts_that_nobody_tells_proves_nothing(server, tmp_path):
    server.put("bucket", "k", BODY, checksum="CRC32", parts=ODD, composite=True)
    server.fault(
        op="head", do=Answer(403, "AccessDenied"), when=lambda request: "partNumber" in request.query, times=None
    )
    summary = await mirror(server, tmp_path, transfer=PARTS)
    assert (summary.downloaded, summary.verified) == (1, 0)
    assert recorded(tmp_path, "k") == own("CRC64NVME", BODY)


@pytest.mark.parametrize("damaged", [False, True])
async def test_what_an_earlier_run_left_is_read_back(server, tmp_path, damaged):
    server.put("bucket", "k", BODY, checksum="CRC32C")
    lost = server.fault(op="get", do=ResetAfter(5), when=lambda request: request.range[0] >= 192 * KIB, times=None)
    first = await mirror(server, tmp_path, transfer=PARTS, retry=sealift.RetrySettings(max_attempts=1))
    assert first.failed == 1
    lost.remove()
    if damaged:
        [name] = [name for name in partials(tmp_path) if not name.endswith(".json")]
        with (tmp_path / ".sealift/partial" / name).open("r+b") as file:
            file.seek(100)
            file.write(bytes([BODY[100] ^ 1]))

    again = await mirror(server, tmp_path, transfer=PARTS)

    assert (again.downloaded, again.verified, again.retries) == (1, 1, int(damaged))
    assert tree(tmp_path) == {"k": BODY}


async def test_an_object_in_parts_without_a_checksum_has_the_files_own(server, tmp_path):
    server.put("bucket", "k", BODY)
    summary = await mirror(server, tmp_path, transfer=PARTS)
    assert (summary.downloaded, summary.verified, server.heads) == (1, 0, 1)
    assert recorded(tmp_path, "k") == own("CRC64NVME", BODY)


REFUSALS = {
    "denied": Answer(403, "AccessDenied"),
    "a status alone": Answer(400, "BadRequest"),
    "5xx": Answer(500, "InternalError"),
}


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
async def test_where_no_head_is_answered_the_checksum_is_asked_for_by_a_get_that_is_given_up(
    server, tmp_path, transport, answer
):
    server.put("bucket", "k", BODY, checksum="CRC32")
    server.fault(op="head", do=answer, times=None)
    summary = await mirror(server, tmp_path, transfer=PARTS, transport=transport)
    assert (summary.downloaded, summary.verified, server.gets) == (1, 1, 6)
    assert summary.get_requests == 6


@pytest.mark.parametrize(("answer", "gets"), [(Answer(400, "BadRequest"), 5), (Answer(500, "InternalError"), 0)])
async def test_an_object_whose_checksum_is_never_told_gets_no_name(server, tmp_path, answer, gets):
    server.put("bucket", "k", BODY, checksum="CRC32")
    faults = [
        server.fault(op="head", do=answer, times=None),
        server.fault(op="get", do=answer, when=lambda request: request.range is None, times=None),
    ]
    retry = sealift.RetrySettings(max_attempts=2, base=0.0)
    summary = await mirror(server, tmp_path, transfer=PARTS, retry=retry)
    assert (summary.failed, summary.failures[0].error) == (1, answer.code)
    assert tree(tmp_path) == {}

    for fault in faults:
        fault.remove()
    again = await mirror(server, tmp_path, transfer=PARTS)
    assert (again.downloaded, again.verified, again.get_requests) == (1, 1, gets)  # what may pass has kept its bytes
    assert tree(tmp_path) == {"k": BODY}


@pytest.mark.parametrize("answer", [Answer(400, "KMS.ThrottlingException"), Answer(503, "SlowDown")])
@ONE_LOOP
async def test_a_checksum_that_kms_refuses_to_unseal_now_is_asked_for_again(server, tmp_path, answer):
    server.put("bucket", "k", BODY, checksum="CRC32")
    server.fault(op="head", do=answer)
    server.fault(op="get", do=answer, when=lambda request: request.range is None, times=3)
    retry = sealift.RetrySettings(max_attempts=2, base=0.0)
    summary = await mirror(server, tmp_path, transfer=PARTS, retry=retry)
    assert (summary.downloaded, summary.verified, summary.retries) == (1, 1, 0)
    assert summary.kms_throttled + summary.s3_throttled == 4


async def test_an_object_that_is_overwritten_before_its_checksum_is_told_is_started_over(server, tmp_path):
    server.put("bucket", "k", BODY, checksum="CRC32")

    async def overwrite(exchange):
        exchange.server.put("bucket", "k", BODY[::-1], checksum="CRC32")

    server.fault(op="head", do=Call(overwrite))
    summary = await mirror(server, tmp_path, transfer=PARTS)
    assert (summary.downloaded, summary.verified) == (1, 1)
    assert tree(tmp_path) == {"k": BODY[::-1]}


ENDINGS = {
    "damaged": FlipBit(100),
    "overwritten": OverwriteNow(BODY[::-1]),
    "gone": Answer(404, "NoSuchKey"),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_what_came_of_an_object_is_not_recorded_while_it_is_dropped(server, tmp_path, monkeypatch, ending):
    locked, drop = [], Fetcher._drop

    def watched(fetcher, job):
        locked.append(job.filing.locked())  # whoever records what is there takes that lock
        drop(fetcher, job)

    monkeypatch.setattr(Fetcher, "_drop", watched)
    server.put("bucket", "k", BODY, checksum="CRC32")
    server.fault(op="get", do=ENDINGS[ending], after=3)
    await mirror(server, tmp_path, transfer=PARTS)
    assert set(locked) == {True}
    assert partials(tmp_path) == []


async def test_worker_processes_verify_as_well(server, tmp_path):
    expected = {}
    for number in range(40):
        body = random.Random(number).randbytes(200 * KIB if number % 10 == 0 else 100)
        expected[f"k{number}"] = body
        server.put("bucket", f"k{number}", body, checksum=["CRC64NVME", "CRC32", "SHA256"][number % 3])
    flips = server.fault(op="get", do=FlipBit(50), after=3, times=3)
    bad = server.fault(op="get", key="k7", do=FlipBit(1), times=None)
    summary = await mirror(server, tmp_path, transfer=TransferSettings(part_size=64 * KIB, processes=2))
    assert (flips.hits, bad.hits) == (3, 2)
    assert [failure.key for failure in summary.failures] == ["k7"]
    assert (summary.downloaded, summary.verified) == (39, 39)
    del expected["k7"]
    assert tree(tmp_path) == expected
    assert recorded(tmp_path, "k10") == own("CRC32", expected["k10"])


# ── get ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("transfer", [None, PARTS], ids=["whole", "in parts"])
@pytest.mark.parametrize("algorithm", ["CRC64NVME", "SHA256"])
async def test_get_to_a_file_fetches_again_what_was_damaged(server, tmp_path, transport, algorithm, transfer):
    server.put("bucket", "k", BODY, checksum=algorithm)
    server.fault(op="get", do=FlipBit(7))
    settings = settings_for(server, transfer=transfer, transport=transport)
    summary = await sealift.get("s3://bucket/k", tmp_path / "file", settings)
    assert (summary.downloaded, summary.verified, summary.retries) == (1, 1, 1)
    assert tree(tmp_path) == {"file": BODY}


@pytest.mark.parametrize("transfer", [None, PARTS], ids=["whole", "in parts"])
async def test_get_to_a_file_that_stays_damaged_leaves_nothing(server, tmp_path, transfer):
    server.put("bucket", "k", BODY, checksum="CRC32")
    server.fault(op="get", do=FlipBit(7), times=None)
    summary = await sealift.get("s3://bucket/k", tmp_path / "file", settings_for(server, transfer=transfer))
    assert [failure.error for failure in summary.failures] == ["ChecksumMismatch"]
    assert tree(tmp_path) == {}


async def streamed(server, transfer=None, **how):
    """What `get` writes to a pipe, and its summary."""
    reading, writing = os.pipe()
    try:
        summary = await sealift.get_to_stream("s3://bucket/k", writing, settings_for(server, transfer=transfer, **how))
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return summary, pipe.read()


SHORT = BODY[: 50 * KIB]
SHORT_PARTS = TransferSettings(part_size=8 * KIB, concurrency=3)


async def test_a_stream_of_one_part_is_checked_before_anything_is_written(server, transport):
    server.put("bucket", "k", SHORT, checksum="SHA256")
    flip = server.fault(op="get", do=FlipBit(7))
    summary, data = await streamed(server, transport=transport)
    assert (summary.downloaded, summary.verified, summary.retries, flip.hits) == (1, 1, 1, 1)
    assert data == SHORT

    server.fault(op="get", do=FlipBit(7), times=None)
    summary, data = await streamed(server, transport=transport)
    assert [failure.error for failure in summary.failures] == ["ChecksumMismatch"]
    assert data == b""


STREAMED = {
    "a CRC": {"checksum": "CRC64NVME"},
    "a hash": {"checksum": "SHA256"},
    "of even parts": {"checksum": "CRC32", "parts": (20 * KIB, 20 * KIB, 10 * KIB), "composite": True},
    "hashes of even parts": {"checksum": "SHA256", "parts": (20 * KIB, 20 * KIB, 10 * KIB), "composite": True},
}


@pytest.mark.parametrize("stored", STREAMED.values(), ids=STREAMED)
@pytest.mark.parametrize("damaged", [False, True])
async def test_a_stream_of_several_parts_is_checked_at_its_end(server, stored, damaged, monkeypatch):
    monkeypatch.setattr("sealift.checksum._USUAL", (20 * KIB,))
    server.put("bucket", "k", SHORT, **stored)
    if damaged:
        server.fault(op="get", do=FlipBit(7), after=2)
    summary, data = await streamed(server, SHORT_PARTS)
    assert (summary.downloaded, summary.verified) == ((0, 0) if damaged else (1, 1))
    assert len(data) == len(SHORT)
    if damaged:
        [failure] = summary.failures
        assert failure.error == "ChecksumMismatch"
        assert "what was written is of no use" in failure.message


async def test_a_stream_of_parts_that_were_uploaded_in_odd_pieces_is_not_called_damaged(server):
    server.put("bucket", "k", SHORT, checksum="CRC32", parts=(30 * KIB, 5 * KIB, 15 * KIB), composite=True)
    summary, data = await streamed(server, SHORT_PARTS)
    assert (summary.downloaded, summary.verified, data) == (1, 0, SHORT)


async def test_a_generated_object_of_many_parts_has_one_sum(server, tmp_path):
    server.put("bucket", "k", Generated(20 * MIB))
    summary = await mirror(server, tmp_path, transfer=TransferSettings(part_size=MIB))
    assert summary.downloaded == 1
    assert recorded(tmp_path, "k") == own("CRC64NVME", Generated(20 * MIB).read(0, 20 * MIB))
