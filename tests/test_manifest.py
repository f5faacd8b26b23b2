"""Files that name objects are understood as they were meant, or refused with the number of their line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import ConfigError
from sealift.manifest import LONGEST, Manifest, Named

SECOND = 1_000_000_000
KEYS = st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def read(*pieces, null=False):
    manifest = Manifest("names.txt", null=null)
    names = [named for piece in pieces for named in manifest.feed(piece)]
    return [*names, *manifest.finish()]


def keys(*pieces, null=False):
    return [(named.bucket, named.key) for named in read(*pieces, null=null)]


def refusal(*pieces, null=False):
    with pytest.raises(ConfigError) as caught:
        read(*pieces, null=null)
    return caught.value.message


def test_a_line_is_a_key_with_or_without_its_bucket():
    assert keys(b"a/b c\ns3://bucket/d\r\n\n  spaced\nlast") == [
        ("", "a/b c"),
        ("bucket", "d"),
        ("", "  spaced"),
        ("", "last"),
    ]


def test_access_points_are_buckets():
    point = "arn:aws:s3:eu-west-1:111122223333:accesspoint/name"
    assert keys(f"s3://{point}/a/b\n".encode()) == [(point, "a/b")]


@given(st.lists(KEYS.filter(lambda key: "\0" not in key and not key.startswith("s3://"))), st.integers(1, 7))
def test_between_nul_bytes_a_key_may_be_anything_and_come_in_any_pieces(names, step):
    data = "".join(f"{key}\0" for key in names).encode("utf-8", "surrogateescape")
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    assert keys(*pieces, null=True) == [("", key) for key in names]


@given(st.lists(KEYS, min_size=1))
def test_json_lines_take_every_key_of_any_bytes(names):
    data = b"".join(json.dumps({"key": key}).encode() + b"\n" for key in names)
    assert keys(data) == [("", key) for key in names]


def test_json_lines_say_as_much_of_an_object_as_is_known():
    line = (
        '{"bucket": "b", "key": "k", "version": "v1", "etag": "x", "size": 7, "last_modified": "2024-05-17T08:30:00Z"}'
    )
    [named] = read(line.encode())
    assert named == Named("b", "k", "v1", '"x"', 7, 1_715_934_600 * SECOND, "STANDARD", 1)
    assert named.whole


def test_what_s3_and_the_log_of_a_run_print_is_understood_as_well():
    listed = json.dumps(
        {
            "Key": "k",
            "LastModified": "2024-05-17T10:30:00+02:00",
            "ETag": '"abc"',
            "Size": 0,
            "StorageClass": "GLACIER",
            "VersionId": "v",
        }
    )
    failed = '{"event": "failed", "bucket": "b", "key": "k", "size": 7, "error": "Timeout", "message": "…"}'
    assert read(listed.encode()) == [Named("", "k", "v", '"abc"', 0, 1_715_934_600 * SECOND, "GLACIER", 1)]
    [again] = read(failed.encode())
    assert (again.bucket, again.key, again.size, again.whole) == ("b", "k", 7, False)


def test_a_file_for_s5cmd_that_copies_from_s3_names_what_it_copies():
    text = b"""# nightly
cp s3://bucket/a.csv out/a.csv
s5cmd cp -n --concurrency 8 's3://bucket/b c.csv' out/

cp --version-id v1 --raw "s3://bucket/d*.csv" . # the star is a star
"""
    assert [(named.key, named.version_id, named.line) for named in read(text)] == [
        ("a.csv", None, 2),
        ("b c.csv", None, 3),
        ("d*.csv", "v1", 5),
    ]


def test_keys_that_look_like_comments_are_keys_where_nothing_else_looks_like_commands():
    assert keys(b"#1\n#2\nthird\n") == [("", "#1"), ("", "#2"), ("", "third")]
    assert keys(b"#1\n#2") == [("", "#1"), ("", "#2")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"key": "a"}\n{"key": \n', "names.txt, line 2: no JSON"),
        (b'{"key": "a"}\n[1]\n', "line 2: no JSON object"),
        (b'{"size": 1}\n', "line 1: there is no key"),
        (b'{"key": 1}\n', "line 1: key is no text"),
        (b'{"key": "\\ud800"}\n', "a surrogate that stands for no byte"),
        (b'{"key": "a", "size": "1"}\n', "no size"),
        (b'{"key": "a", "size": true}\n', "no size"),
        (b'{"key": "a", "size": -1}\n', "no size"),
        (b'{"key": "a", "last_modified": "yesterday"}\n', "'yesterday' is no time"),
        (b"s3://bucket\n", "names no object"),
        (b"cp s3://b/k .\nrm s3://b/k\n", "line 2: rm does not copy"),
        (b"rm s3://b/k\n", "line 1: rm does not copy"),
        (b"cp s3://b/* .\n", "is a pattern"),
        (b"cp s3://b/k s3://c/k\n", "does not copy from S3 to this machine"),
        (b"cp s3://b/k . \ncp a s3://b/k\n", "line 2"),
        (b"cp s3://b/k\n", "line 1"),
        (b"cp 's3://b/k .\n", "No closing quotation"),
        (b"x" * (LONGEST + 1), "the line does not end"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(text, why):
    assert why in refusal(text)
