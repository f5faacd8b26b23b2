from __future__ import annotations

import dataclasses
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.concurrency import HIGHEST
from sealift.config import (
    LANE_MEMORY,
    SDK_CONCURRENCY,
    SPARE_DESCRIPTORS,
    Durability,
    MaxDelete,
    Settings,
    TransferSettings,
    one_of,
    or_auto,
    parse_count,
    parse_duration,
    parse_max_delete,
    parse_percent,
    parse_rate,
    parse_size,
)
from sealift.errors import ConfigError
from sealift.timetable import Timetable

UNITS = {
    "": 1,
    "B": 1,
    "k": 1024,
    "K": 1024,
    "M": 1024**2,
    "G": 1024**3,
    "T": 1024**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
    "Mi": 1024**2,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
}


@given(st.integers(1, 9999), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_a_size_is_a_number_of_its_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * UNITS[unit]


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("1.5GiB", 3 * 512 * 1024**2), ("0.5k", 512), (" 8MiB ", 8 * 1024**2), ("1.5", 1)],
)
def test_fractions_and_spaces_are_fine(text: str, size: int) -> None:
    assert parse_size(text) == size


NO_NUMBERS = ["", " ", "M", "auto", "inf", "nan", "-1", "+1", "1e6", "1_000", "8,5M", "1.M", ".5M", "٣M", "8\0"]
NO_UNITS = ["8XB", "8 M B", "8MiBB", "8i", "8iB"]
TOO_SMALL_OR_LARGE = ["0", "0M", "0.1", "9" * 400, "9" * 400 + "T"]


@pytest.mark.parametrize("text", [*NO_NUMBERS, *NO_UNITS, *TOO_SMALL_OR_LARGE])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["100Mb", "8kb", "1b", "1Gib"])
def test_bits_are_not_taken_for_bytes(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text)


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_a_config_error(text: str) -> None:
    for parse in (parse_size, parse_rate, parse_count, parse_duration, parse_percent):
        with suppress(ConfigError):
            assert parse(text) > 0


@pytest.mark.parametrize(("text", "rate"), [("50MB/s", 5e7), ("50MBps", 5e7), ("8MiB", 2.0**23), ("1000", 1000.0)])
def test_a_rate_is_a_size_a_second(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["100Mb/s", "100Mbps", "100Mbit/s", "0/s", "/s", "fast", "8MB/min"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_rate(text)


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("32", 32), ("007", 7), ("999999999", 999_999_999)])
def test_a_count_is_a_whole_number(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1e3", " 1", "1\n", "٣", "1" * 10, "many"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="whole number of at least 1"):
        parse_count(text)


@pytest.mark.parametrize("text", ["0", "1000", "0%", "50%", "100%", " 5% "])
def test_how_much_may_be_deleted_is_a_number_or_a_share(text: str) -> None:
    assert str(parse_max_delete(text)) == text.strip()


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "1.5", "0.5%", "50 %", "all", "1" * 19, "1\n%"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="neither a number of files nor a percentage"):
        parse_max_delete(text)


@given(st.integers(0, 100), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_share_allows_what_is_not_more_than_it(percent: int, deleted: int, of: int) -> None:
    assert MaxDelete(percent, percent=True).allows(deleted, of) == (deleted <= Fraction(percent, 100) * of)
    assert MaxDelete(deleted, percent=False).allows(deleted, of)
    assert not MaxDelete(deleted, percent=False).allows(deleted + 1, of)


def test_auto_is_none_and_everything_else_is_read() -> None:
    read = or_auto(parse_count)
    assert read("auto") is None
    assert read("3") == 3
    with pytest.raises(ConfigError):
        read("automatic")


def test_the_number_of_workers_is_the_users_or_a_default() -> None:
    assert TransferSettings().workers == SDK_CONCURRENCY
    assert TransferSettings(concurrency=3).workers == 3


@given(
    memory=st.integers(1, 1 << 40),
    descriptors=st.integers(0, 1 << 20),
    concurrency=st.none() | st.integers(1, 10_000),
)
def test_there_is_a_lane_at_least_and_no_more_than_memory_and_descriptors_allow(
    memory: int, descriptors: int, concurrency: int | None
) -> None:
    lanes = TransferSettings(memory=memory, concurrency=concurrency).lanes(descriptors)
    assert 1 <= lanes <= max(1, concurrency or HIGHEST)
    assert lanes == 1 or lanes * LANE_MEMORY <= memory
    assert lanes == 1 or lanes + SPARE_DESCRIPTORS <= descriptors


def test_bandwidth_is_shared_out_among_processes() -> None:
    assert TransferSettings(max_bandwidth=100.0).share_of_bandwidth(4) == Timetable(25.0)
    assert TransferSettings().share_of_bandwidth(4) == Timetable()


def test_a_word_is_one_of_those_there_are() -> None:
    read = one_of(Durability)
    assert read("batch") is Durability.BATCH
    with pytest.raises(ConfigError, match="'lots' is not one of none, batch and file"):
        read("lots")


def test_settings_are_frozen_and_complete_without_arguments() -> None:
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.retry = settings.retry  # type: ignore[misc]
    assert settings == Settings()


@pytest.mark.parametrize(("text", "percent"), [("50", 50), ("12.5%", 12.5), ("100", 100), ("1%", 1)])
def test_a_share_is_a_percentage(text, percent):
    assert parse_percent(text) == percent


@pytest.mark.parametrize("text", ["0", "0.0%", "101", "100.1", "-5", "half", "", "1e1"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ConfigError, match="is not a share"):
        parse_percent(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("15 min", 900), ("2h", 7200), ("1h30m", 5400), ("1h 1m 1s", 3661)],
)
def test_a_duration_is_hours_minutes_and_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "soon", "-5m", "1.5h", "5 days", "m", "30m1h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="is not a duration"):
        parse_duration(text)
