from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as SdkCredentials
from botocore.utils import percent_encode
from hypothesis import given
from hypothesis import strategies as st

from sealift.s3.signing import EMPTY_SHA256, Credentials, Signer, encoded_path, encoded_query

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
TEMPORARY = Credentials(EXAMPLE.access_key, EXAMPLE.secret_key, "AQoDYXdzEPT//////////wEXAMPLE%token==")
FRIDAY = datetime(2013, 5, 24, tzinfo=UTC).timestamp()


def taken_apart(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    """The request line and the headers of a head, which has to be whole."""
    text = head.decode()
    assert text.endswith("\r\n\r\n")
    line, *rest = text.removesuffix("\r\n\r\n").split("\r\n")
    return line, [(name, value) for name, _, value in (header.partition(": ") for header in rest)]


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        ("/test.txt", [], [("range", "bytes=0-9")], "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("/", [("lifecycle", "")], [], "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/",
            [("max-keys", "2"), ("prefix", "J")],
            [],
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["GET Object", "GET Bucket Lifecycle", "GET Bucket (List Objects)"],
)
def test_the_published_examples_come_out_as_published(
    path: str, query: list[tuple[str, str]], headers: list[tuple[str, str]], signature: str
) -> None:
    """S3 API reference, "Examples: Signature Calculations in AWS Signature Version 4"."""
    signer = Signer(EXAMPLE, "us-east-1")
    host = "examplebucket.s3.amazonaws.com"
    line, sent = taken_apart(signer.head("GET", host, path, encoded_query(query), headers, FRIDAY))
    assert line == f"GET {path}{'?' if query else ''}{encoded_query(query)} HTTP/1.1"
    assert dict(sent)["x-amz-date"] == "20130524T000000Z"
    signed = ";".join(["host", *(name for name, _ in headers), "x-amz-content-sha256", "x-amz-date"])
    assert dict(sent)["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders={signed}, Signature={signature}"
    )


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(
    "ab/.%+ ~&=?#*\u00e9\u4e2d", max_size=12
)
HOSTS = st.sampled_from(
    [
        "bucket.s3.eu-west-1.amazonaws.com",
        "s3.amazonaws.com",
        "localhost:8333",
        "127.0.0.1:9000",
        "[::1]:9000",
        "a-b.example",
    ]
)
NAMES = st.sampled_from(["range", "if-match", "x-amz-request-payer", "accept-encoding", "zz", "a"])
VALUES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20)
MOMENTS = st.integers(0, 4_102_444_799)  # to the end of 2099


@given(
    st.sampled_from(["GET", "HEAD"]),
    HOSTS,
    KEYS,
    st.lists(
        st.tuples(st.sampled_from(["prefix", "list-type", "start-after", "versionId", "x-id"]) | KEYS, KEYS), max_size=4
    ),
    st.lists(st.tuples(NAMES, VALUES), unique_by=lambda header: header[0], max_size=4),
    MOMENTS,
    st.builds(
        Credentials,
        st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567%", min_size=1, max_size=20),
        st.text(min_size=1, max_size=80).filter(str.isprintable),
        st.none() | st.text("abcXYZ019/+=%", min_size=1, max_size=60),
    ),
    st.sampled_from(["us-east-1", "eu-central-1", "garage"]),
)
def test_a_signature_is_the_sdks(
    method: str,
    host: str,
    key: str,
    parameters: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    moment: int,
    credentials: Credentials,
    region: str,
) -> None:
    path, query = encoded_path(f"/{key}"), encoded_query(parameters)
    request = AWSRequest(method=method, url=f"http://{host}{path}{'?' if query else ''}{query}", headers=dict(headers))
    now = datetime.fromtimestamp(moment, UTC).replace(tzinfo=None)
    theirs = SdkCredentials(credentials.access_key, credentials.secret_key, credentials.token)
    with patch("botocore.auth.get_current_datetime", return_value=now):
        S3SigV4Auth(theirs, "s3", region).add_auth(request)

    line, sent = taken_apart(Signer(credentials, region).head(method, host, path, query, headers, moment + 0.25))
    assert line == f"{method} {request.url.removeprefix(f'http://{host}')} HTTP/1.1"
    assert len(dict(sent)) == len(sent)
    assert dict(sent).pop("host") == host
    ours = {name: value for name, value in sent if name != "host"}
    assert ours == {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}


@given(st.lists(st.tuples(MOMENTS, st.sampled_from([(), ("range",), ("range", "if-match"), ("if-match", "range")]))))
def test_what_a_signer_remembers_does_not_change_what_it_signs(heads: list[tuple[int, tuple[str, ...]]]) -> None:
    signer = Signer(TEMPORARY, "eu-west-1")
    for moment, names in heads:
        arguments = ("GET", "host", "/key", "", [(name, "value") for name in names], moment)
        assert signer.head(*arguments) == Signer(TEMPORARY, "eu-west-1").head(*arguments)


def test_the_key_is_another_one_from_midnight_on() -> None:
    signer = Signer(EXAMPLE, "us-east-1")
    before = signer.head("GET", "host", "/", "", [], FRIDAY - 0.5)
    after = signer.head("GET", "host", "/", "", [], FRIDAY)
    assert b"/20130523/" in before
    assert b"/20130524/" in after
    assert after == Signer(EXAMPLE, "us-east-1").head("GET", "host", "/", "", [], FRIDAY)


def test_a_line_feed_in_a_value_begins_no_header() -> None:
    for signer in (Signer(EXAMPLE, "us-east-1"), Signer(None, "us-east-1")):
        head = signer.head("GET", "host", "/", "", [("if-match", '"a"\r\nx-injected: 1\n\n')], FRIDAY)
        assert dict(taken_apart(head)[1])["if-match"] == '"a" x-injected: 1'


@pytest.mark.parametrize(
    "headers",
    [
        [("Range", "bytes=0-9")],
        [("range:", "x")],
        [("a\r\nb", "x")],
        [("", "x")],
        [("host", "x")],
        [("x-amz-date", "x")],
        [("authorization", "x")],
        [("x-amz-security-token", "x")],
        [("x-amz-content-sha256", "x")],
        [("range", "bytes=0-9"), ("range", "bytes=0-9")],
    ],
)
def test_headers_that_cannot_be_signed_are_refused(headers: list[tuple[str, str]]) -> None:
    for signer in (Signer(EXAMPLE, "us-east-1"), Signer(None, "us-east-1")):
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot be signed"):
                signer.head("GET", "host", "/", "", headers, FRIDAY)


def test_without_credentials_nothing_is_signed() -> None:
    signer = Signer(None, "us-east-1", unsigned=[("user-agent", "sealift/1 100%")])
    head = signer.head("GET", "bucket.example", "/100%25", "list-type=2", [("range", "bytes=0-9")], FRIDAY)
    assert taken_apart(head) == (
        "GET /100%25?list-type=2 HTTP/1.1",
        [("host", "bucket.example"), ("range", "bytes=0-9"), ("user-agent", "sealift/1 100%")],
    )


def test_unsigned_headers_are_sent_and_change_no_signature() -> None:
    plain = taken_apart(Signer(TEMPORARY, "us-east-1").head("GET", "host", "/", "", [], FRIDAY))
    signer = Signer(TEMPORARY, "us-east-1", unsigned=[("user-agent", "sealift/1 100%")])
    line, sent = taken_apart(signer.head("GET", "host", "/", "", [], FRIDAY))
    assert ("user-agent", "sealift/1 100%") in sent
    assert (line, [header for header in sent if header[0] != "user-agent"]) == plain


def test_secrets_are_not_shown() -> None:
    assert TEMPORARY.secret_key not in repr(TEMPORARY)
    assert "token" not in repr(TEMPORARY)
    assert EMPTY_SHA256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(KEYS)
def test_a_path_is_encoded_as_the_sdk_does(key: str) -> None:
    assert encoded_path(f"/{key}") == percent_encode(f"/{key}", safe="/~")


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("/bucket//a/../b/./c", "/bucket//a/../b/./c"),
        ("//", "//"),
        ("/a b+c%20", "/a%20b%2Bc%2520"),
        ("/\u00fc~*'()", "/%C3%BC~%2A%27%28%29"),
        ("/\udcff\udc80", "/%FF%80"),
    ],
)
def test_a_path_is_not_normalized(path: str, encoded: str) -> None:
    assert encoded_path(path) == encoded


def test_a_query_is_sorted_by_what_is_sent() -> None:
    assert encoded_query([("b", "1"), ("a~", "2"), ("a b", "/"), ("a", "&"), ("\udcff", "")]) == (
        "%FF=&a=%26&a%20b=%2F&a~=2&b=1"
    )
    assert encoded_query([]) == ""
