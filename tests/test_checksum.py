"""Checksums as S3 has them: held against their definitions, and against each other in whatever pieces bytes come."""

import base64
import hashlib
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.checksum import (
    OWN,
    Algorithm,
    Checksum,
    Pieces,
    Stretches,
    Sums,
    combine_function,
    composite,
    crc_checksum,
    crc_function,
    digest,
    hashed,
    parts_of_etag,
    running_checksum,
    stretches_of,
    usual_part_size,
)
from sealift.model import ByteRange, RemoteObject

MIB = 1024 * 1024
CRCS = [Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.CRC32]
CHECK = b"123456789"
# The check values of the CRC catalogue (R. Cocking), and the polynomials, least significant bit first.
CATALOGUE = {
    Algorithm.CRC64NVME: (64, 0x9A6C9329AC4BC9B5, 0xAE8B14860A799888),
    Algorithm.CRC32C: (32, 0x82F63B78, 0xE3069283),
    Algorithm.CRC32: (32, 0xEDB88320, 0xCBF43926),
}
bodies = st.binary(max_size=300)


def by_definition(algorithm: Algorithm, data: bytes) -> int:
    """A CRC bit by bit, from its polynomial."""
    width, polynomial, _ = CATALOGUE[algorithm]
    ones = value = (1 << width) - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return value ^ ones


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Some bytes in pieces, which may be empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@pytest.mark.parametrize("algorithm", CRCS)
def test_the_definition_gives_the_catalogues_check_value(algorithm):
    assert by_definition(algorithm, CHECK) == CATALOGUE[algorithm][2]


@pytest.mark.parametrize("algorithm", CRCS)
@given(bodies)
def test_a_crc_is_what_its_definition_says(algorithm, data):
    assert crc_function(algorithm)(data, 0) == by_definition(algorithm, data)


@pytest.mark.parametrize("algorithm", CRCS)
@given(bodies, bodies)
def test_crcs_of_two_stretches_make_that_of_both(algorithm, one, other):
    crc = crc_function(algorithm)
    assert combine_function(algorithm)(crc(one, 0), crc(other, 0), len(other)) == crc(one + other, 0)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@given(bodies, st.lists(st.integers(0, 400), max_size=5))
def test_a_checksum_does_not_depend_on_the_pieces_in_which_the_bytes_come(algorithm, data, places):
    running = running_checksum(algorithm)
    for piece in cut(data, places):
        running.update(memoryview(piece))
    assert running.digest() == digest(algorithm, data)
    if not algorithm.is_crc:
        assert running.digest() == hashlib.new(algorithm.name.lower(), data).digest()


@pytest.mark.parametrize("algorithm", list(Algorithm))
@given(data=bodies, places=st.lists(st.integers(0, 400), max_size=5), grain=st.integers(1, 320))
def test_parts_are_summed_up_each_by_itself_in_whatever_pieces_they_come(algorithm, data, places, grain):
    running = running_checksum(algorithm, grain)
    for piece in cut(data, places):
        running.update(piece)
    parts = [data[start : start + grain] for start in range(0, len(data), grain)] or [b""]
    assert running.parts() == [digest(algorithm, part) for part in parts]
    if algorithm.is_crc:
        assert running.digest() == digest(algorithm, data)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 80), st.data())
def test_hashes_are_taken_of_the_parts_that_lie_wholly_in_a_stretch(body, grain, data):
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(body))] * 2)))
    pieces = Pieces(Algorithm.SHA256, grain, len(body), ByteRange(start, stop))
    for some in cut(body[start:stop], data.draw(st.lists(st.integers(0, 200), max_size=4))):
        pieces.update(memoryview(some))
    wholly = [at for at in range(0, len(body), grain) if start <= at and min(at + grain, len(body)) <= stop]
    assert pieces.so_far() == tuple((at // grain, hashlib.sha256(body[at : at + grain]).digest()) for at in wholly)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 80), st.integers(0, 200))
def test_a_stretch_that_breaks_off_has_the_hashes_of_what_came_whole(body, grain, came):
    pieces = Pieces(Algorithm.SHA1, grain, len(body), ByteRange(0, len(body)))
    pieces.update(body[:came])
    ends = [min(at + grain, len(body)) for at in range(0, len(body), grain)]
    assert [number for number, _ in pieces.so_far()] == [number for number, end in enumerate(ends) if end <= came]


@pytest.mark.parametrize("algorithm", CRCS)
@given(st.data())
def test_stretches_in_any_order_make_the_objects_crc_and_its_parts(algorithm, data):
    body = data.draw(st.binary(min_size=1, max_size=300))
    grain = data.draw(st.sampled_from([0, 7, 64, 100]))
    edges = sorted({0, len(body), *data.draw(st.lists(st.integers(0, len(body)), max_size=6))})
    spans = data.draw(st.permutations(list(pairwise(edges))))
    sums = Sums(algorithm, grain)
    for start, stop in spans:
        assert sums.of(0, len(body)) is None
        assert sums.missing(len(body))
        stretches = Stretches(algorithm, start, grain)
        stretches.update(body[start:stop])
        for stretch in stretches.so_far():
            sums.add(*stretch)
    assert sums.missing(len(body)) == []
    assert crc_checksum(algorithm, sums.of(0, len(body)) or 0).value == digest(algorithm, body)
    for start in range(0, len(body) if grain else 0, grain or 1):
        stop = min(start + grain, len(body))
        assert sums.of(start, stop) == crc_function(algorithm)(body[start:stop], 0)


def test_what_is_not_known_of_an_object_is_told_and_has_no_crc():
    sums = Sums(OWN)
    sums.add(10, 20, 1)
    sums.add(30, 40, 2)
    assert sums.missing(50) == [ByteRange(0, 10), ByteRange(20, 30), ByteRange(40, 50)]
    assert sums.of(10, 20) == 1
    assert [sums.of(10, 15), sums.of(15, 20), sums.of(10, 40), sums.of(0, 10)] == [None] * 4


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12), st.sampled_from([0, 16]))
def test_stretches_that_overlap_never_make_a_wrong_crc(spans, grain):
    body = bytes(range(60))
    crc, sums = crc_function(OWN), Sums(OWN, grain)
    for one, other in spans:
        start, stop = sorted((one, other))
        sums.add(start, stop, crc(body[start:stop], 0))
    for start in range(0, 60, 5):
        for stop in range(start, 61, 5):
            assert sums.of(start, stop) in {None, crc(body[start:stop], 0)}


# ── What S3 says ────────────────────────────────────────────────────────────────────────────────────

checksums = st.sampled_from(list(Algorithm)).flatmap(
    lambda algorithm: st.builds(
        Checksum, st.just(algorithm), st.binary().map(lambda data: digest(algorithm, data)), st.integers(0, 10_000)
    )
)


@given(checksums)
def test_a_checksum_is_read_as_it_was_written(checksum):
    assert Checksum.parse(str(checksum)) == checksum


@given(checksums)
def test_a_header_tells_a_checksum(checksum):
    value = base64.b64encode(checksum.value).decode() + (f"-{checksum.parts}" if checksum.parts else "")
    kind = "COMPOSITE" if checksum.parts else "FULL_OBJECT"
    headers = {f"x-amz-checksum-{checksum.algorithm.name.lower()}": value, "x-amz-checksum-type": kind, "etag": '"x"'}
    assert Checksum.told(headers) == checksum
    del headers["x-amz-checksum-type"]  # S3 has it since December 2024
    assert Checksum.told(headers) == checksum


def test_a_header_is_the_number_in_base64_most_significant_byte_first():
    told = Checksum.told({"x-amz-checksum-crc64nvme": "rosUhgp5mIg=", "x-amz-checksum-type": "FULL_OBJECT"})
    assert told == crc_checksum(Algorithm.CRC64NVME, CATALOGUE[Algorithm.CRC64NVME][2])
    assert str(told) == "CRC64NVME:rosUhgp5mIg="


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-amz-checksum-type": "FULL_OBJECT"},
        {"x-amz-checksum-crc99": "AAAA"},
        {"x-amz-checksum-crc32": ""},
        {"x-amz-checksum-crc32": "y/Q5Jg"},
        {"x-amz-checksum-crc32": "y/Q5J!=="},
        {"x-amz-checksum-crc32": "rosUhgp5mIg="},
        {"x-amz-checksum-crc32": "y/Q5Jg==-"},
        {"x-amz-checksum-crc32": "y/Q5Jg==-x"},
        {"x-amz-checksum-crc32": "y/Q5Jg==-0"},
        {"x-amz-checksum-crc32": "y/Q5Jg==-٣"},
        {"x-amz-checksum-crc32": "y/Q5Jg==", "x-amz-checksum-type": "COMPOSITE"},
    ],
)
def test_headers_that_tell_no_checksum_tell_none(headers):
    assert Checksum.told(headers) is None


@pytest.mark.parametrize(
    "text", ["", "CRC32", "CRC32:", "CRC99:y/Q5Jg==", "crc32:y/Q5Jg==", "CRC32:y/Q5Jg==-", "MD5:AAAA"]
)
def test_other_texts_are_no_checksums(text):
    assert Checksum.parse(text) is None


@pytest.mark.parametrize("algorithm", [Algorithm.CRC32, Algorithm.SHA256])
def test_a_composite_checksum_is_that_of_the_parts_checksums_and_says_how_many(algorithm):
    parts = [digest(algorithm, part) for part in (b"one", b"two", b"three")]
    assert composite(algorithm, parts) == Checksum(algorithm, digest(algorithm, b"".join(parts)), 3)


# ── Where parts begin ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("part", [8 * MIB, 16 * MIB, 5 * MIB, 50 * MIB, 17 * MIB, 128 * MIB])
def test_the_part_size_of_the_usual_tools_is_guessed(part):
    for count in (2, 7, 100, 1000):
        size = (count - 1) * part + 1234
        guess = usual_part_size(size, count)
        assert -(-size // guess) == count
        assert guess == part or count < 100


@given(st.integers(1, 10**13), st.integers(1, 10_000))
def test_a_guess_makes_as_many_parts_as_there_are_or_is_none(size, count):
    guess = usual_part_size(size, count)
    assert guess == 0 or -(-size // guess) == count


def test_where_nothing_is_to_be_cut_there_is_no_guess():
    assert [usual_part_size(0, 1), usual_part_size(5, 0), usual_part_size(3, 5)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("etag", "parts"),
    [
        ('"d41d8cd98f00b204e9800998ecf8427e-12"', 12),
        ('"d41d8cd98f00b204e9800998ecf8427e"', 0),
        ("", 0),
        ('"65536000-4000"', 4000),
    ],
)
def test_an_etag_tells_the_number_of_parts(etag, parts):
    assert parts_of_etag(etag) == parts


@pytest.mark.parametrize(
    ("algorithm", "etag", "by"),
    [
        ("SHA256", '"e-3"', (Algorithm.SHA256, 8 * MIB)),
        ("SHA1", '"e-5"', (Algorithm.SHA1, 5 * MIB)),
        ("SHA256", '"e"', None),
        ("SHA256", '"e-1"', None),
        ("CRC32", '"e-3"', None),
        ("CRC64NVME", '"e-3"', None),
        ("XXHASH3", '"e-3"', None),
        ("", '"e-3"', None),
    ],
)
def test_only_where_s3s_checksum_is_one_of_hashes_are_parts_hashed_as_they_come(algorithm, etag, by):
    assert hashed(RemoteObject("bucket", "k", 21 * MIB, etag, 0, checksum_algorithm=algorithm)) == by


def test_parts_lie_one_behind_the_other():
    assert stretches_of([3, 0, 2]) == [ByteRange(0, 3), ByteRange(3, 3), ByteRange(3, 5)]


def test_nothing_but_a_checksum_loads_the_library_that_takes_it():
    program = "import sys, sealift.cli, sealift.checksum, sealift.mirroring; print('awscrt' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
