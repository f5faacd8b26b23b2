from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import ConfigError
from sealift.selection import Filter, Location, Ownership, Selection, Source, parse_location, parse_sources

ACCOUNT = "123456789012"
POINTS = [
    (f"arn:aws:s3:eu-central-1:{ACCOUNT}:accesspoint/pull", "pull"),
    (f"arn:aws:s3:eu-central-1:{ACCOUNT}:accesspoint:pull", "pull"),
    (f"arn:aws-us-gov:s3:us-gov-west-1:{ACCOUNT}:accesspoint/pull-2", "pull-2"),
    (f"arn:aws-cn:s3:cn-north-1:{ACCOUNT}:accesspoint/pull", "pull"),
    # a multi-Region access point has no Region, and an alias for a name
    (f"arn:aws:s3::{ACCOUNT}:accesspoint/mfzwi23gnjvgw.mrap", "mfzwi23gnjvgw.mrap"),
    (f"arn:aws:s3::{ACCOUNT}:accesspoint:mfzwi23gnjvgw.mrap", "mfzwi23gnjvgw.mrap"),
    (f"arn:aws:s3-object-lambda:eu-central-1:{ACCOUNT}:accesspoint/redact", "redact"),
    (f"arn:aws:s3-outposts:eu-central-1:{ACCOUNT}:outpost/op-01ac5d28a6a232904/accesspoint/rack", "rack"),
    (f"arn:aws:s3-outposts:eu-central-1:{ACCOUNT}:outpost:op-01ac5d28a6a232904:accesspoint:rack", "rack"),
]

keys = st.text(st.sampled_from("ab/.*?[]!-\n é\udcff"), max_size=12)
globs = st.text(st.sampled_from("ab/.*?[]!-\n"), max_size=8)
kinds: st.SearchStrategy[Literal["include", "exclude"]] = st.sampled_from(["include", "exclude"])
filters = st.lists(st.builds(Filter, kinds, globs), max_size=5)


# Locations


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/p", "b", "p"),
        ("s3://b/p/", "b", "p/"),
        ("s3://b//p", "b", "/p"),
        ("s3://b/p//", "b", "p//"),
        ("s3://b/a b/ü%20+?#x", "b", "a b/ü%20+?#x"),
        ("s3://b/s3://c/d", "b", "s3://c/d"),
        ("s3://my.bucket-1/p", "my.bucket-1", "p"),
        ("s3://Old_Bucket/p", "Old_Bucket", "p"),
        ("s3://b/a\nb", "b", "a\nb"),
        ("s3://b/\udcff", "b", "\udcff"),
    ],
)
def test_a_location_is_a_bucket_and_what_follows_the_first_slash(text: str, bucket: str, key: str) -> None:
    assert parse_location(text) == Location(bucket, key)
    assert parse_location(text).directory == bucket


@pytest.mark.parametrize("scheme", ["", "s3://"])
@pytest.mark.parametrize("rest", ["", "/", "/p", "/p/", "/a/b c", "/p//q", "/accesspoint/x", "/a\nb"])
@pytest.mark.parametrize(("arn", "name"), POINTS)
def test_an_access_point_stands_in_place_of_a_bucket(scheme: str, arn: str, name: str, rest: str) -> None:
    location = parse_location(f"{scheme}{arn}{rest}")
    assert location == Location(arn, rest[1:])
    assert location.directory == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "b/p",
        "/srv/data",
        "s3:",
        "s3:/b",
        "s3://",
        "s3:///p",
        "S3://b",
        "http://b/p",
        "https://b.s3.amazonaws.com/p",
        "s3://b b/p",
        "s3://b\n/p",
        "s3://b:80/p",
        "s3://bü/p",
        f"s3://{'b' * 256}",
        "arn:aws:s3:::bucket/p",
        "s3://arn:aws:s3:::bucket/p",
        f"arn:aws:s3:eu-central-1:{ACCOUNT}:accesspoint/",
        f"arn:aws:s3:eu-central-1:{ACCOUNT}:accesspoint",
        "arn:aws:s3:eu-central-1:12345:accesspoint/pull",
        f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd",
        f"arn:aws:s3:eu-central-1:{ACCOUNT}:accesspoint/a_b/p",
    ],
)
def test_what_is_no_location_is_refused_with_the_form_that_is(text: str) -> None:
    with pytest.raises(ConfigError, match="s3://BUCKET/PREFIX/"):
        parse_location(text)


@given(st.text(max_size=40))
def test_any_text_is_a_location_or_a_config_error(text: str) -> None:
    for candidate in (text, "s3://" + text, f"{POINTS[0][0]}{text}"):
        try:
            location = parse_location(candidate)
        except ConfigError:
            continue
        assert candidate.removeprefix("s3://") in {
            f"{location.bucket}/{location.key}",
            location.bucket,
        }


@given(st.sampled_from(["b", "my-bucket", *(arn for arn, _ in POINTS)]), keys)
def test_a_location_reads_back_as_it_is_written(bucket: str, key: str) -> None:
    assert parse_location(str(Location(bucket, key))) == Location(bucket, key)


# Sources


@pytest.mark.parametrize(
    ("text", "prefix", "exact_key"),
    [
        ("s3://b", "", ""),
        ("s3://b/", "", ""),
        ("s3://b/p/", "p/", ""),
        ("s3://b/p", "p/", "p"),
        ("s3://b/p/q", "p/q/", "p/q"),
        ("s3://b//", "/", ""),
        (POINTS[0][0], "", ""),
        (POINTS[0][0] + "/p", "p/", "p"),
        ("s3://" + POINTS[1][0] + "/p/", "p/", ""),
    ],
)
def test_a_source_is_what_lies_under_its_prefix(text: str, prefix: str, exact_key: str) -> None:
    source = Source.parse(text)
    assert (source.prefix, source.exact_key, source.written) == (prefix, exact_key, text)


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no SOURCE"):
        parse_sources([])


def test_two_access_points_of_one_name_do_not_share_a_directory() -> None:
    here, there = (f"arn:aws:s3:{region}:{ACCOUNT}:accesspoint/pull" for region in ("eu-west-1", "eu-west-2"))
    with pytest.raises(ConfigError, match="DEST/pull"):
        parse_sources([here + "/p/", there + "/p/"])
    assert len(parse_sources([here + "/p/", here + "/q/", "s3://b"])) == 3


def test_a_bucket_and_an_access_point_of_its_name_do_not_share_a_directory() -> None:
    with pytest.raises(ConfigError, match="two destinations"):
        parse_sources(["s3://pull", POINTS[0][0]])


# Filters


def naively_included(filters: Sequence[Filter], key: str) -> bool:
    included = True
    for item in filters:
        if fnmatch.fnmatchcase(key, item.glob):
            included = item.kind == "include"
    return included


@given(filters, keys)
def test_the_last_filter_that_matches_wins(filters: list[Filter], key: str) -> None:
    assert Selection(filters).includes(key) == naively_included(filters, key)


@pytest.mark.parametrize(
    ("glob", "key", "matches"),
    [
        ("*.log", "a.log", True),
        ("*.log", "2024/05/a.log", True),
        ("2024/*", "2024/05/a.log", True),
        ("2024/*", "2024/", True),
        ("2024/*", "x/2024/05", False),
        ("*/05/*", "2024/05/a.log", True),
        ("?.log", "a.log", True),
        ("?.log", "ab.log", False),
        ("a?b", "a/b", True),
        ("[ab].log", "b.log", True),
        ("[!ab].log", "b.log", False),
        ("a.log", "a-log", False),
        ("a.log", "xa.log", False),
        ("a", "a\n", False),
        ("a*", "a\nb", True),
        ("A", "a", False),
        ("*", "\udcff", True),
        ("", "", True),
    ],
)
def test_a_glob_matches_whole_keys_and_its_star_crosses_slashes(glob: str, key: str, *, matches: bool) -> None:
    assert Selection([Filter("exclude", glob)]).includes(key) is not matches


def test_only_what_is_asked_for_by_excluding_the_rest_first() -> None:
    selection = Selection([Filter("exclude", "*"), Filter("include", "*.parquet"), Filter("exclude", "tmp/*")])
    assert selection.includes("a/b.parquet")
    assert not selection.includes("a/b.csv")
    assert not selection.includes("tmp/b.parquet")


# Who has what


prefixes = st.lists(st.sampled_from(["a", "b", "aa"]), max_size=3).map("/".join)
source_texts = st.builds("s3://{}/{}".format, st.sampled_from(["x", "y"]), prefixes)
keys_below = st.lists(st.sampled_from(["a", "b", "aa", "c.log"]), min_size=1, max_size=5).map("/".join)
simple_filters = st.lists(
    st.builds(Filter, kinds, st.sampled_from(["*", "a*", "*.log", "b/*", "a/b", "*a*", "c.log"])), max_size=3
)


def owners(ownership: Ownership, bucket: str, key: str) -> list[int]:
    return [
        index
        for index, source in ownership.sources
        if source.bucket == bucket and key.startswith(source.prefix) and ownership.owns(index, key)
    ]


@given(st.lists(source_texts, min_size=1, max_size=6), simple_filters, st.sampled_from(["x", "y"]), keys_below)
def test_a_key_that_any_source_includes_has_exactly_one_owner(
    texts: list[str], filters: list[Filter], bucket: str, key: str
) -> None:
    sources, selection = parse_sources(texts), Selection(filters)
    wanted = [
        index
        for index, source in enumerate(sources)
        if source.bucket == bucket
        and key.startswith(source.prefix)
        and naively_included(filters, key[len(source.prefix) :])
    ]
    ownership = Ownership(sources, selection)
    found = owners(ownership, bucket, key)
    assert len(found) == bool(wanted)
    assert set(found) <= set(wanted)
    assert ownership.covers(bucket, key) == bool(wanted)
    if found:
        assert found == [min(wanted, key=lambda index: (len(sources[index].prefix), index))]


@given(st.lists(source_texts, min_size=1, max_size=6))
def test_without_filters_no_source_is_listed_twice(texts: list[str]) -> None:
    ownership = Ownership(parse_sources(texts), Selection())
    listed = [(source.bucket, source.prefix) for _, source in ownership.sources]
    assert not [
        (one, other)
        for number, one in enumerate(listed)
        for position, other in enumerate(listed)
        if number != position and one[0] == other[0] and one[1].startswith(other[1])
    ]


def test_a_neighbour_whose_name_begins_alike_is_another_source() -> None:
    ownership = Ownership(parse_sources(["s3://b/p", "s3://b/p-other"]), Selection())
    assert [source.prefix for _, source in ownership.sources] == ["p/", "p-other/"]


def test_what_the_wider_source_excludes_falls_to_the_narrower_one() -> None:
    sources = parse_sources(["s3://b/", "s3://b/logs/"])
    ownership = Ownership(sources, Selection([Filter("exclude", "logs/*")]))
    assert owners(ownership, "b", "data/x") == [0]
    assert owners(ownership, "b", "logs/x") == [1]
    assert owners(ownership, "b", "logs/logs/x") == []
