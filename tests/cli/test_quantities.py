from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.cli import quantities


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (12_897_485, "12.3 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5,000.0 TiB"),
    ],
)
def test_sizes_have_the_unit_that_fits(number: int, text: str) -> None:
    assert quantities.size(number) == text


@given(st.integers(min_value=0, max_value=2**62))
def test_no_size_reads_as_1024_of_a_smaller_unit(number: int) -> None:
    assert not re.match(r"1024(\.0)? [BKMG]", quantities.size(number))


@pytest.mark.parametrize(
    ("requests", "text"), [(0.0, "0.0/s"), (3.72, "3.7/s"), (9.96, "10/s"), (286.6, "287/s"), (9_600.0, "9,600/s")]
)
def test_requests_a_second_have_as_many_digits_as_count(requests: float, text: str) -> None:
    assert quantities.per_second(requests) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (59.94, "59.9 s"), (59.96, "0:01:00"), (3723.4, "1:02:03"), (1e6, "277:46:40")],
)
def test_durations_are_seconds_or_a_clock(seconds: float, text: str) -> None:
    assert quantities.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (120.4, "2 min"), (3 * 3600, "3 h"), (4 * 86_400, "4 days"), (1e9, "11,574 days")],
)
def test_what_is_only_about_right_has_no_more_digits_than_that(seconds: float, text: str) -> None:
    assert quantities.about(seconds) == text


def test_money_and_rounded_numbers() -> None:
    assert quantities.dollars(3.613) == "$3.61"
    assert quantities.dollars(0.002) == "less than $0.01"
    assert [quantities.rounded(number) for number in (0, 7, 12_044, 995)] == [0, 7, 12_000, 1_000]


def test_one_is_not_many() -> None:
    assert quantities.objects(1) == "1 object"
    assert quantities.objects(12345) == "12,345 objects"
    assert quantities.gets(1) == "1 GET"
    assert quantities.gets(2) == "2 GETs"
