from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sealift.model import ByteRange
from sealift.ranges import merged, missing
from tests.test_planning import bytes_of, done_ranges


@given(done_ranges)
def test_merging_keeps_the_bytes_and_leaves_ranges_apart_and_in_order(ranges: list[ByteRange]) -> None:
    result = merged(ranges)
    assert bytes_of(result) == bytes_of(ranges)
    assert all(len(item) for item in result)
    assert all(earlier.stop < later.start for earlier, later in pairwise(result))


@given(st.integers(0, 150), done_ranges)
def test_what_is_missing_is_exactly_what_is_not_done(size: int, done: list[ByteRange]) -> None:
    gaps = missing(size, done)
    assert bytes_of(gaps) == set(range(size)) - bytes_of(done)
    assert all(len(item) for item in gaps)


def test_what_was_recorded_beyond_the_end_is_ignored() -> None:
    assert missing(10, [ByteRange(8, 30), ByteRange(40, 50)]) == [ByteRange(0, 8)]
