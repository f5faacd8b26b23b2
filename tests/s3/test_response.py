from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import Changed, Integrity
from sealift.model import ByteRange, Encryption, Part, RemoteObject
from sealift.s3.response import check_head, encryption_of

OBJECT = RemoteObject("bucket", "data/object", 1000, '"0123456789abcdef0123456789abcdef-2"', 0)
WHOLE = Part(ByteRange(0, 1000), whole=True)
MIDDLE = Part(ByteRange(100, 300), whole=False)

WHOLE_HEAD: dict[str, Any] = {
    "status": 200,
    "content_length": 1000,
    "content_range": None,
    "etag": OBJECT.etag,
}
MIDDLE_HEAD: dict[str, Any] = {
    "status": 206,
    "content_length": 200,
    "content_range": "bytes 100-299/1000",
    "etag": OBJECT.etag,
}


@given(st.integers(0, 5 * 1024**4), st.data())
def test_the_head_of_exactly_what_was_asked_for_passes(size: int, data: st.DataObject) -> None:
    remote = OBJECT._replace(size=size)
    check_head(remote, Part(ByteRange(0, size), whole=True), **WHOLE_HEAD | {"content_length": size})
    if size:
        start = data.draw(st.integers(0, size - 1))
        stop = data.draw(st.integers(start + 1, size))
        head = MIDDLE_HEAD | {"content_length": stop - start, "content_range": f"bytes {start}-{stop - 1}/{size}"}
        check_head(remote, Part(ByteRange(start, stop), whole=False), **head)


@pytest.mark.parametrize(("part", "head"), [(WHOLE, WHOLE_HEAD), (MIDDLE, MIDDLE_HEAD)])
def test_a_chunked_body_announces_no_length(part: Part, head: dict[str, Any]) -> None:
    check_head(OBJECT, part, **head | {"content_length": None})


def test_an_object_that_was_listed_without_an_etag_is_not_held_against_one() -> None:
    check_head(OBJECT._replace(etag=""), WHOLE, **WHOLE_HEAD | {"etag": '"any"'})
    check_head(OBJECT._replace(etag=""), WHOLE, **WHOLE_HEAD | {"etag": None})


@pytest.mark.parametrize(("part", "head"), [(WHOLE, WHOLE_HEAD)])
def test_an_answer_without_an_etag_proves_no_version(part: Part, head: dict[str, Any]) -> None:
    with pytest.raises(Integrity, match="no ETag"):
        check_head(OBJECT, part, **head | {"etag": None})


@pytest.mark.parametrize("etag", ['"another"', "", OBJECT.etag.strip('"'), "W/" + OBJECT.etag])
@pytest.mark.parametrize(("part", "head"), [(WHOLE, WHOLE_HEAD), (MIDDLE, MIDDLE_HEAD)])
def test_another_etag_is_another_version(part: Part, head: dict[str, Any], etag: str | None) -> None:
    with pytest.raises(Changed, match="data/object") as caught:
        check_head(OBJECT, part, **head | {"etag": etag})
    assert caught.value.code == "PreconditionFailed"
    assert (caught.value.bucket, caught.value.key) == ("bucket", "data/object")


@pytest.mark.parametrize(
    ("part", "wrong", "code"),
    [
        (WHOLE, {"status": 206}, "StatusMismatch"),
        (WHOLE, {"status": 204}, "StatusMismatch"),
        (WHOLE, {"status": 304}, "StatusMismatch"),
        (WHOLE, {"status": 500}, "StatusMismatch"),
        (WHOLE, {"content_length": 999}, "LengthMismatch"),
        (WHOLE, {"content_length": 1001}, "LengthMismatch"),
        (WHOLE, {"content_length": 0}, "LengthMismatch"),
        # The whole object where a range was asked for: a server or proxy that does not know ranges.
        (MIDDLE, WHOLE_HEAD, "RangeMismatch"),
        (MIDDLE, {"status": 200}, "RangeMismatch"),
        (MIDDLE, {"content_range": None}, "RangeMismatch"),
        (MIDDLE, {"content_range": ""}, "RangeMismatch"),
        (MIDDLE, {"content_range": "bytes 0-199/1000"}, "RangeMismatch"),
        (MIDDLE, {"content_range": "bytes 100-298/1000"}, "RangeMismatch"),
        (MIDDLE, {"content_range": "bytes 100-300/1000"}, "RangeMismatch"),
        (MIDDLE, {"content_range": "bytes 100-299/1001"}, "RangeMismatch"),
        (MIDDLE, {"content_range": "bytes 100-299/*"}, "RangeMismatch"),
        (MIDDLE, {"content_range": "bytes */1000"}, "RangeMismatch"),
        (MIDDLE, {"content_length": 199}, "LengthMismatch"),
        (MIDDLE, {"content_length": 1000}, "LengthMismatch"),
    ],
)
def test_an_answer_to_another_question_is_not_read(part: Part, wrong: dict[str, Any], code: str) -> None:
    head = (WHOLE_HEAD if part.whole else MIDDLE_HEAD) | wrong
    with pytest.raises(Integrity, match="nothing of it was written") as caught:
        check_head(OBJECT, part, **head)
    assert caught.value.code == code
    assert (caught.value.bucket, caught.value.key) == ("bucket", "data/object")


@given(st.integers(1, 2000), st.integers(0, 2000), st.integers(1, 2000), st.integers(0, 3000))
def test_no_range_but_the_one_that_was_asked_for_passes(length: int, start: int, size: int, announced: int) -> None:
    head = MIDDLE_HEAD | {
        "content_range": f"bytes {start}-{start + length - 1}/{size}",
        "content_length": announced,
    }
    if (start, length, size, announced) == (100, 200, 1000, 200):
        check_head(OBJECT, MIDDLE, **head)
    else:
        with pytest.raises(Integrity):
            check_head(OBJECT, MIDDLE, **head)


def test_control_characters_of_a_key_are_shown_escaped() -> None:
    with pytest.raises(Integrity) as caught:
        check_head(OBJECT._replace(key="a\x1b[2Jb"), WHOLE, **WHOLE_HEAD | {"status": 206})
    assert "\x1b" not in caught.value.message


def test_an_answers_headers_tell_the_encryption():
    headers = {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu-west-1:111122223333:key/k",
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
    }
    assert encryption_of(headers) == Encryption("aws:kms", "arn:aws:kms:eu-west-1:111122223333:key/k", bucket_key=True)
    assert encryption_of({}) == Encryption()
