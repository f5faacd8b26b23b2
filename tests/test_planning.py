from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.model import ByteRange, Part, RemoteObject
from sealift.planning import (
    FILLING,
    LARGEST_PART,
    LARGEST_PART_UNDER_QUOTA,
    MIB,
    SMALLEST_PART,
    count_parts,
    grain_of,
    part_size_for,
    part_size_of,
    part_size_under_quota,
    parts,
)

TIB = 1024**4
LARGEST_OBJECT = 5 * TIB

small_ranges = st.tuples(st.integers(0, 120), st.integers(0, 40)).map(lambda pair: ByteRange(pair[0], sum(pair)))
done_ranges = st.lists(small_ranges, max_size=8)
any_size = st.integers(0, LARGEST_OBJECT)


def bytes_of(ranges: list[ByteRange]) -> set[int]:
    return {place for item in ranges for place in range(item.start, item.stop)}


@given(st.integers(0, 150), st.integers(1, 200), done_ranges)
def test_parts_tile_exactly_what_is_missing(size: int, part_size: int, done: list[ByteRange]) -> None:
    tiles = list(parts(size, part_size, done))
    covered = [place for tile in tiles for place in range(tile.range.start, tile.range.stop)]
    assert covered == sorted(set(range(size)) - bytes_of(done))
    assert all(len(tile.range) <= part_size for tile in tiles)
    assert count_parts(size, part_size, done) == len(tiles)


@given(st.integers(0, 150), st.integers(1, 200), done_ranges)
def test_only_an_object_in_one_get_is_sent_without_a_range(size: int, part_size: int, done: list[ByteRange]) -> None:
    for tile in parts(size, part_size, done):
        assert tile.whole == (size <= part_size and not done)
        assert tile.whole or len(tile.range), "a Range header cannot name no bytes"


def test_an_empty_object_is_one_part_of_no_bytes() -> None:
    assert list(parts(0, SMALLEST_PART)) == [Part(ByteRange(0, 0), whole=True)]
    assert count_parts(0, SMALLEST_PART) == 1


def test_an_object_of_just_the_part_size_is_one_get() -> None:
    assert list(parts(8, 8)) == [Part(ByteRange(0, 8), whole=True)]
    assert list(parts(9, 8)) == [Part(ByteRange(0, 8), whole=False), Part(ByteRange(8, 9), whole=False)]


def test_a_finished_object_has_no_parts() -> None:
    assert list(parts(100, 10, [ByteRange(0, 60), ByteRange(50, 100)])) == []
    assert count_parts(100, 10, [ByteRange(0, 100)]) == 0


def test_an_object_of_five_tib_is_counted_and_begun_without_making_its_parts() -> None:
    size = part_size_for(LARGEST_OBJECT)
    assert size == LARGEST_PART
    assert count_parts(LARGEST_OBJECT, size) == LARGEST_OBJECT // LARGEST_PART == 81_920
    assert count_parts(LARGEST_OBJECT, 1) == LARGEST_OBJECT
    first, second = islice(parts(LARGEST_OBJECT, 1), 2)
    assert (first.range, second.range) == (ByteRange(0, 1), ByteRange(1, 2))


@given(any_size)
def test_automatic_part_sizes_are_powers_of_two_between_8_and_64_mib(size: int) -> None:
    part_size = part_size_for(size)
    assert part_size in {8 * MIB, 16 * MIB, 32 * MIB, 64 * MIB}


@given(any_size, any_size)
def test_part_sizes_grow_with_the_object(one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    assert part_size_for(smaller) <= part_size_for(larger)


@given(st.integers(0, 64 * 1024**3))
def test_up_to_64_gib_an_object_has_at_most_1024_parts(size: int) -> None:
    assert count_parts(size, part_size_for(size)) <= 1024


@given(any_size)
def test_under_a_quota_parts_are_as_few_as_fill_the_link(left: int) -> None:
    usual = part_size_for(left)
    grown = part_size_under_quota(left, usual)
    assert usual <= grown <= max(usual, LARGEST_PART_UNDER_QUOTA)
    count = count_parts(left, grown)
    assert count <= count_parts(left, usual)
    if grown > usual:
        assert count >= FILLING
    if grown < LARGEST_PART_UNDER_QUOTA:
        assert count <= FILLING


def test_under_a_quota_of_kms_a_gib_takes_an_eighth_of_the_decrypts() -> None:
    size = part_size_under_quota(1024 * MIB, SMALLEST_PART)
    assert (count_parts(1024 * MIB, SMALLEST_PART), count_parts(1024 * MIB, size)) == (128, 16)


@given(st.integers(1, 150), st.integers(1, 20), done_ranges, st.lists(st.integers(0, 60)))
def test_parts_that_grow_on_the_way_tile_the_same(
    size: int, part_size: int, done: list[ByteRange], growths: list[int]
) -> None:
    now = 0

    def grown() -> int:
        nonlocal now
        now = max(now, growths.pop()) if growths else now
        return now

    tiles = list(parts(size, part_size, done, grown=grown))
    covered = [place for tile in tiles for place in range(tile.range.start, tile.range.stop)]
    assert covered == sorted(set(range(size)) - bytes_of(done))
    assert all(len(tile.range) <= max(part_size, now) for tile in tiles)


@given(any_size, st.integers(1, TIB))
def test_a_part_size_that_was_chosen_is_used(size: int, chosen: int) -> None:
    assert part_size_for(size, chosen) == chosen
    assert part_size_of(uploaded(size, 8 * MIB), chosen) == chosen


def uploaded(size: int, part: int, algorithm: str = "SHA256") -> RemoteObject:
    """An object with a checksum of its parts' hashes, as a listing has it."""
    return RemoteObject("bucket", "k", size, f'"e-{-(-size // part)}"', 0, checksum_algorithm=algorithm)


@given(any_size, st.sampled_from([5, 8, 10, 16, 17, 32, 50, 64, 100, 512]))
def test_parts_along_those_of_an_upload_are_no_more_and_still_enough(size: int, part: int) -> None:
    remote = uploaded(size, part * MIB)
    usual, along = part_size_for(size), part_size_of(remote)
    assert usual <= along <= LARGEST_PART
    count = count_parts(size, along)
    assert count <= count_parts(size, usual)
    if along > usual:
        assert along % grain_of(remote, along) == 0
        assert count >= min(FILLING, count_parts(size, usual) // 2)


def test_each_get_brings_whole_parts_of_an_upload_of_the_usual_tools() -> None:
    def sizes(size: int, part: int) -> tuple[int, int]:
        remote = uploaded(size * MIB, part * MIB)
        along = part_size_of(remote)
        return along // MIB, grain_of(remote, along) // MIB

    assert sizes(100, 8) == (8, 8)
    assert sizes(100, 16) == (16, 16)
    assert sizes(101, 5) == (10, 5)
    assert sizes(20_000, 8) == (32, 8)
    assert sizes(20_000, 5) == (35, 5)
    assert sizes(801, 50) == (50, 50)
    assert sizes(799, 50) == (8, 0), "one that is alone would not fill the link"
    assert sizes(100_000, 100) == (64, 0)


@pytest.mark.parametrize("algorithm", ["", "CRC64NVME", "CRC32"])
def test_other_checksums_say_nothing_of_the_parts(algorithm: str) -> None:
    remote = uploaded(101 * MIB, 5 * MIB, algorithm)
    assert (part_size_of(remote), grain_of(remote, 10 * MIB)) == (8 * MIB, 0)


@given(st.integers(0, 150), st.integers(1, 8), st.integers(1, 20), done_ranges, st.integers(0, 60))
def test_parts_end_where_those_of_the_upload_do(
    size: int, several: int, grain: int, done: list[ByteRange], grown: int
) -> None:
    part_size = several * grain
    tiles = list(parts(size, part_size, done, grain=grain))
    assert count_parts(size, part_size, done, grain=grain) == len(tiles)
    for tiling in (tiles, list(parts(size, part_size, done, grain=grain, grown=lambda: grown))):
        covered = [place for tile in tiling for place in range(tile.range.start, tile.range.stop)]
        assert covered == sorted(set(range(size)) - bytes_of(done))
        ends = {0, size} | {gap for item in done for gap in (item.start, item.stop)}
        assert all(tile.range.stop % grain == 0 or tile.range.stop in ends for tile in tiling)
        assert all(len(tile.range) < max(part_size, grown) + grain for tile in tiling)
