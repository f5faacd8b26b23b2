from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.localpath import (
    Clashes,
    LocalPath,
    all_ordinary,
    ancestor_key,
    beside_directory,
    local_path,
    local_paths,
    place_of,
)

# The pieces that the rules are about, in every combination, and bytes that are no UTF-8.
PIECES = [
    b"/", b".", b"..", b"%", b"%empty", b"%dot", b"%dotdot", b"%file", b"%literal", b"%sha256-",
    b"%sha256-" + b"0" * 64, b".sealift", b".SeaLift", b"sealift", b"a", b"b", b"\0", b"\\", b" ", b":",
    b"\n", b"\x1b[2J", b"\xff", b"\xc3\xa9", b"\xf0\x9f\x9a\xa2", b"x" * 60, b"x" * 120, b"x" * 249, b"x" * 255,
]  # fmt: skip
hostile_bytes = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join) | st.binary(max_size=20)
hostile_keys = hostile_bytes.map(lambda data: data.decode("utf-8", "surrogateescape"))
buckets = st.none() | st.sampled_from(["bucket", ".sealift", "..", "a"])


def names(key: str, size: int = 1) -> list[bytes]:
    return list(local_path(key, size).segments)


@given(hostile_keys, st.sampled_from([0, 1]), buckets)
def test_no_key_leaves_the_destination(key: str, size: int, under: str | None) -> None:
    path = local_path(key, size, under=under)
    variants = [path] if path.directory else [path, beside_directory(path)]
    for variant in variants:
        for name in variant.segments:
            assert name not in {b"", b".", b".."}
            assert b"/" not in name
            assert b"\0" not in name
            assert len(name) <= 255
        if variant.segments:
            assert variant.segments[0].decode("utf-8", "replace").casefold() != ".sealift"
        assert variant.segments or variant.directory


@given(st.sets(hostile_keys, min_size=2), buckets)
def test_no_two_files_meet_beside_a_directory_or_not(keys: set[str], under: str | None) -> None:
    # With the keys that look like where the others went, at one remove and at two.
    for _ in range(2):
        paths = [local_path(key, 1) for key in keys]
        keys = keys | {path.text for path in paths} | {beside_directory(path).text for path in paths}
    files = [local_path(key, 1, under=under) for key in keys]
    everywhere = [path.segments for path in files]
    everywhere += [beside_directory(path).segments for path in files]
    assert len(set(everywhere)) == len(everywhere)


@given(st.sets(hostile_keys, min_size=1), buckets)
def test_no_file_beside_a_directory_stands_where_a_directory_is_needed(keys: set[str], under: str | None) -> None:
    beside = {beside_directory(local_path(key, 1, under=under)).segments for key in keys}
    paths = [local_path(key, 1, under=under) for key in keys]
    needed = {path.segments[:depth] for path in paths for depth in range(len(path.segments))}
    needed |= {local_path(key + "/", 0, under=under).segments for key in keys}
    assert not beside & needed


@given(st.sets(hostile_keys, min_size=2), buckets)
def test_no_two_markers_make_the_same_directory(keys: set[str], under: str | None) -> None:
    paths = [local_path(key + "/", 0, under=under) for key in keys]
    assert all(path.directory for path in paths)
    assert len({path.segments for path in paths}) == len(paths)


@given(hostile_keys, hostile_keys)
def test_keys_that_share_directories_share_them_on_disk(above: str, key: str) -> None:
    directory = local_path(above + "/", 0)
    depth = len(directory.segments)
    assert local_path(f"{above}/{key}", 1).segments[:depth] == directory.segments


@given(st.binary(max_size=1100).filter(lambda data: b"\0" not in data and b"%" not in data))
def test_a_plain_key_is_its_own_path(data: bytes) -> None:
    segments = data.split(b"/")
    key = data.decode("utf-8", "surrogateescape")
    path = local_path(key, 1)
    plain = (
        not {b"", b".", b".."} & set(segments) and segments[0].lower() != b".sealift" and max(map(len, segments)) <= 255
    )
    assert (path.segments == tuple(segments)) == plain
    assert path.escaped == (not plain)
    if plain:
        assert path.text == key


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b", "a/b"),
        ("a//b", "a/%empty/b"),
        ("/etc/passwd", "%empty/etc/passwd"),
        ("../../x", "%dotdot/%dotdot/x"),
        ("./x", "%dot/x"),
        ("...", "..."),
        ("C:\\Windows", "C:\\Windows"),
        ("a b+c%20d?", "a b+c%20d?"),
        (".sealift/ledger.db", ".sealift%literal/ledger.db"),
        (".SEALIFT", ".SEALIFT%literal"),
        (".\u017fealift", ".\u017fealift%literal"),  # long s, an s to a file system that folds case
        ("a/.sealift", "a/.sealift"),
        (".sealift2", ".sealift2"),
        ("%empty", "%empty%literal"),
        ("x%file", "x%file%literal"),
        ("x%file%literal", "x%file%literal%literal"),
        ("%filex", "%filex"),
        ("a/", "a/%empty"),
        ("", "%empty"),
        ("/", "%empty/%empty"),
    ],
)
def test_a_file_is_called(key: str, path: str) -> None:
    found = local_path(key, 1)
    assert found.text == path
    assert found.escaped == (path != key)
    assert not found.directory


@pytest.mark.parametrize(
    ("key", "path", "escaped"),
    [("a/", "a", False), ("a//", "a/%empty", True), ("/", "%empty", True), ("", "", False)],
)
def test_an_empty_object_whose_key_ends_in_a_slash_is_a_directory(key: str, path: str, escaped: bool) -> None:
    assert local_path(key, 0) == LocalPath(tuple(path.encode().split(b"/")) if path else (), escaped, directory=True)


def test_an_empty_object_with_a_name_is_a_file() -> None:
    assert local_path("a/b", 0) == LocalPath((b"a", b"b"), escaped=False, directory=False)


def test_a_long_segment_keeps_its_beginning_and_gets_a_digest() -> None:
    key = "x" * 256
    [name] = names(key)
    assert name == b"x" * 183 + b"%sha256-" + hashlib.sha256(key.encode()).hexdigest().encode()
    assert len(name) == 255


def test_a_long_segment_is_cut_between_characters() -> None:
    for shift in range(4):
        [name] = names("x" * shift + "\N{SHIP}" * 100)
        name.decode("utf-8")
        assert 252 <= len(name) <= 255


def test_a_long_segment_of_foreign_bytes_is_cut_anywhere() -> None:
    [name] = names((b"\x80" * 300).decode("utf-8", "surrogateescape"))
    assert len(name) == 255


def test_a_nul_is_shown_as_an_underscore() -> None:
    assert re.fullmatch(rb"a_b%sha256-[0-9a-f]{64}", names("a\0b")[0])


def test_a_name_with_no_room_for_its_ending_gets_a_digest() -> None:
    path = local_path("x" * 251, 1)
    assert not path.escaped
    assert re.fullmatch(rb"x{183}%sha256-[0-9a-f]{64}", beside_directory(path).segments[0])
    assert beside_directory(path) != local_path("x" * 251 + "%file", 1)


def test_beside_a_directory_a_file_says_so() -> None:
    assert beside_directory(local_path("d/a", 1)) == LocalPath((b"d", b"a%file"), True, False)
    with pytest.raises(ValueError, match="not a file"):
        beside_directory(local_path("d/", 0))


def test_with_several_sources_the_bucket_is_the_first_directory() -> None:
    assert local_path(".sealift/x", 1, under="b").text == "b/.sealift/x"
    assert local_path("", 0, under="b").text == "b"
    assert local_path("x", 1, under=".sealift").text == ".sealift%literal/x"


def test_the_ancestor_of_a_key_is_the_one_whose_file_is_in_the_way() -> None:
    assert ancestor_key("a/b/c", 1) == "a"
    assert ancestor_key("a/b/c", 2) == "a/b"
    assert ancestor_key("a//b", 2) == "a/"
    assert ancestor_key("/b", 1) == ""
    assert ancestor_key("a/b", 2, under="bucket") == "a"
    assert ancestor_key("a/b", 1, under="bucket") is None


@given(hostile_keys, st.data())
def test_the_ancestors_file_stands_where_the_keys_directory_does(key: str, data: st.DataObject) -> None:
    path = local_path(key, 1, under="b")
    if len(path.segments) > 2:
        depth = data.draw(st.integers(2, len(path.segments) - 1))
        ancestor = ancestor_key(key, depth, under="b")
        assert ancestor is not None
        assert local_path(ancestor, 1, under="b").segments == path.segments[:depth]


def test_a_string_that_is_no_key_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        local_path("\ud800", 1)


@given(st.lists(hostile_keys | st.text("ab/.\n", min_size=1), min_size=1))
def test_keys_that_are_all_ordinary_are_their_paths(keys: list[str]) -> None:
    if all_ordinary(keys):
        for key in keys:
            assert local_path(key, 0) == (tuple(key.encode("utf-8", "surrogateescape").split(b"/")), False, False)


@given(
    st.lists(st.tuples(hostile_keys | st.text("ab/.\n\udcff\udcc3\udca9"), st.sampled_from([0, 1])), min_size=1),
    buckets,
)
def test_the_places_of_many_are_those_of_each(objects: list[tuple[str, int]], under: str | None) -> None:
    keys, sizes = [key for key, _ in objects], [size for _, size in objects]
    assert local_paths(keys, sizes, under=under) == [local_path(key, size, under=under) for key, size in objects]


def test_most_keys_are_ordinary() -> None:
    assert all_ordinary(["2024/05/17/part-0001.csv", "a b/ünïcödé"])
    assert all_ordinary(["x" * 255])
    assert not all_ordinary(["x" * 256])
    assert not all_ordinary(["a", "../b"])


SORTED_KEYS = st.sets(st.text("ab/- ", min_size=1, max_size=5), min_size=1, max_size=30).map(sorted)


def clashing(keys: list[str]) -> int:
    """The files whose own name is a directory of another key, found the plain way."""
    files = [key for key in keys if not key.endswith("/")]
    return sum(any(other.startswith(key + "/") for other in keys) and not local_path(key, 1).escaped for key in files)


@given(SORTED_KEYS, st.integers(1, 10))
def test_clashes_are_counted_page_by_page(keys: list[str], page: int) -> None:
    clashes, found = Clashes(), 0
    for start in range(0, len(keys), page):
        found += clashes.count_all(keys[start : start + page], [0] * len(keys[start : start + page]))
    assert found == clashing(keys)


@given(SORTED_KEYS, st.data())
def test_what_clashes_with_what_comes_later_is_among_the_unmet(keys: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(keys)))
    before, after = Clashes(), Clashes()
    found = before.count_all(keys[:cut], [0] * cut) + after.count_all(keys[cut:], [0] * (len(keys) - cut))
    across = sum(any(other.startswith(key + "/") for other in keys[cut:]) for key in before.unmet())
    assert found + across == clashing(keys)


@given(st.text(st.characters(max_codepoint=0x7F) | st.sampled_from("\udcffü/"), min_size=1, max_size=8), st.booleans())
def test_a_recorded_path_leads_to_its_place(key: str, empty: bool) -> None:
    path = local_path(key, 0 if empty else 1)
    if path.segments:
        recorded = f"{path.text}/" if path.directory else path.text
        assert place_of(recorded) == path._replace(escaped=False)
