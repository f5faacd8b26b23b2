from __future__ import annotations

from typing import Any

import pytest
from botocore.parsers import RestXMLParser
from hypothesis import given
from hypothesis import strategies as st

from sealift.s3.refusal import LARGEST_DOCUMENT, refusal_of
from sealift.s3.translate import Refusal

DENIED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>User: arn:aws:sts::111122223333:assumed-role/r/s is not authorized to \
perform: kms:Decrypt on the resource &amp; more</Message><RequestId>x</RequestId><HostId>x</HostId></Error>"""
REDIRECT = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'us-east-1' is wrong; expecting 'eu-west-1'\
</Message><Region>eu-west-1</Region><RequestId>4442587FB7D0A2F9</RequestId></Error>"""


def read(body: bytes, status: int = 403, **headers: str) -> Refusal:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal_of(status, named, body, operation="get", bucket="bucket", key="key")


def read_by_the_sdk(body: bytes, status: int) -> tuple[str, str, str]:
    response = {"body": body, "status_code": status, "headers": {}}
    error: dict[str, Any] = RestXMLParser().parse(response, None)["Error"]
    return str(error.get("Code", "")), str(error.get("Message", "")), str(error.get("Region", ""))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, DENIED),
        (400, REDIRECT),
        (404, b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"),
        (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
        (500, b"<Error><Code>InternalError</Code></Error>"),
        (403, b"<Error><Code>AccessDenied</Code><Message>a<![CDATA[ <b> ]]>c</Message></Error>"),
        (403, b"<ErrorResponse><Error><Code>X</Code><Message>y</Message></Error><RequestId/></ErrorResponse>"),
        (403, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>X</Code><Message>\u00fc</Message></Error>".encode()),
        (403, "<?xml version='1.0' encoding='latin-1'?><Error><Code>\u00fc</Code></Error>".encode("latin-1")),
        (404, b""),
        (412, b""),
        (416, b""),
        (503, b""),
        (599, b""),
        (502, b"<html><body>Bad Gateway</body></html>"),
        (502, b"Bad Gateway"),
        (403, b"<Error><Code>AccessDenied</Code><Message>cut of"),
        (403, b"{}"),
        (403, b"\x00\xff"),
    ],
)
def test_a_refusal_says_what_the_sdk_says(status: int, body: bytes) -> None:
    refusal = read(body, status)
    assert (refusal.code, refusal.message, refusal.region) == read_by_the_sdk(body, status)


def test_who_asked_for_what_is_passed_on() -> None:
    headers = {"x-amz-storage-class": "GLACIER"}
    refusal = refusal_of(404, headers, b"", operation="head", bucket="bucket", key="key")
    assert refusal == Refusal(404, "404", "Not Found", "head", "bucket", "key", headers=headers)


def test_the_region_comes_from_the_document_or_from_the_header() -> None:
    assert read(REDIRECT, x_amz_bucket_region="ap-south-1").region == "eu-west-1"
    assert read(DENIED, x_amz_bucket_region="ap-south-1").region == "ap-south-1"
    assert read(b"", 301, x_amz_bucket_region="ap-south-1").region == "ap-south-1"
    assert read(DENIED).region == ""


@pytest.mark.parametrize(
    "body",
    [
        b"<html><head><Code>AccessDenied</Code></head></html>",
        b"<Other><Error><Code>AccessDenied</Code></Error></Other>",
        b"<!DOCTYPE html><html></html>",
        b"<!DOCTYPE Error [<!ENTITY a 'aaaa'>]><Error><Code>&a;&a;</Code></Error>",
        b"<!DOCTYPE Error SYSTEM 'file:///etc/passwd'><Error><Code>AccessDenied</Code></Error>",
        b"<Error><Code>AccessDenied</Code></Error><Error/>",
        b"<Error>" + b"<a>" * 10_000,
        b"<Error><Code>AccessDenied</Code><Message>" + b"m" * LARGEST_DOCUMENT + b"</Message></Error>",
    ],
)
def test_what_is_no_error_of_s3s_has_its_status_for_a_code(body: bytes) -> None:
    refusal = read(body)
    assert (refusal.code, refusal.message) == ("403", "Forbidden")


def test_only_the_fields_of_the_error_itself_are_read() -> None:
    refusal = read(
        b"<s:Error xmlns:s='x'><Details><Code>No</Code></Details><s:Code>Yes</s:Code><Code>Late</Code></s:Error>"
    )
    assert refusal.code == "Yes"


TAGS = st.sampled_from([b"<Error>", b"</Error>", b"<Code>", b"</Code>", b"x", b"&lt;", b"<!--", b"<?xml", b"<!DOCTYPE"])


@given(st.binary(max_size=200) | st.lists(TAGS).map(b"".join), st.integers(300, 599))
def test_no_body_is_too_strange(body: bytes, status: int) -> None:
    assert read(body, status).code
