"""Pages of a listing: both readers say the same, and neither is taken in."""

import os
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import SourceError, Transient
from sealift.model import RemoteObject
from sealift.s3.pagexml import (
    _quick,
    _quick_versions,
    _strict,
    _strict_versions,
    parse_page,
    parse_versions,
)
from sealift.s3.store import Version, VersionsPage
from tests.support.faultserver.listing import url_encode

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
URL = "<EncodingType>url</EncodingType>"
TIME = "2024-05-17T08:30:00.000Z"
TIME_NS = 1_715_934_600_000_000_000
XML_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1)


def item(key, *, time=TIME, etag="&quot;e-1&quot;", size="1", more="<StorageClass>STANDARD</StorageClass>"):
    return (
        f"<Contents><Key>{key}</Key><LastModified>{time}</LastModified>"
        f"<ETag>{etag}</ETag><Size>{size}</Size>{more}</Contents>"
    )


def document(*inside, encoded=True):
    return "".join([HEAD, URL if encoded else "", *inside, "</ListBucketResult>"]).encode("utf-8", "surrogateescape")


def parse(data, token=None):
    return parse_page(data, bucket="bucket", prefix="p/", token=token)


def only(data):
    [remote] = parse(data).objects
    return remote


def test_a_page_as_s3_writes_it_is_read_quickly():
    more = "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>7</Size>"
    first = item("a%3D1/b+c").replace("<Size>1</Size>", more)
    data = document(
        "<IsTruncated>true</IsTruncated><NextContinuationToken>t=</NextContinuationToken>", first, item("d")
    )
    assert _quick(data, "bucket") is not None
    page = parse(data)
    assert page.objects == (
        RemoteObject("bucket", "a=1/b c", 7, '"e-1"', TIME_NS, checksum_algorithm="CRC64NVME"),
        RemoteObject("bucket", "d", 1, '"e-1"', TIME_NS),
    )
    assert (page.next_token, page.common_prefixes) == ("t=", ())


@given(st.binary(min_size=1, max_size=1024))
def test_any_key_comes_out_of_its_url_encoding_byte_for_byte(raw):
    key = raw.decode("utf-8", "surrogateescape")
    assert only(document(item(url_encode(key)))).key == key


@given(XML_TEXT)
def test_a_key_of_a_server_that_does_not_encode_is_taken_as_it_is(key):
    assert only(document(item(escape(key)), encoded=False)).key == key


def test_keys_are_utf8_in_every_locale():
    script = (
        "from sealift.s3.pagexml import parse_page; "
        f"print(ascii(parse_page({document(item('%C3%A9'))!r}, bucket='b', prefix='').objects[0].key))"
    )
    environment = {"PATH": os.defpath, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert done.stdout == b"'\\xe9'\n"


RESTORED = "<IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>x</RestoreExpiryDate>"
KEYS = st.one_of(
    st.text("ab/%+0A2F &;<>\"'\n\t\r\x7f=é🔒", min_size=1, max_size=12),
    XML_TEXT,
)
SECONDS = st.sampled_from(["00", "59", "60", "61", "07.5", "07.123456789", "07.1234567891", "7", ""])
TIMES = st.one_of(
    SECONDS.flatmap(
        lambda second: st.sampled_from([f"2024-05-17T08:30:{second}{zone}" for zone in ("Z", "", "+02:00")])
    ),
    st.sampled_from(["2024-13-01T00:00:00Z", "0000-01-01T00:00:00Z", "yesterday", "", TIME, f" {TIME} "]),
)
ETAGS = st.sampled_from(
    ["&quot;e-1&quot;", "&#34;e&#34;", '"e"', "e", "&quot;&quot;", "", '"e&amp;&lt;"', '"é"', '"e&quot;x']
)
SIZES = st.sampled_from(["0", "5497558138880", "007", "-1", "1_0", " 1 ", "", "9" * 30, "１"])
EXTRAS = st.sampled_from(
    [
        "",
        "<StorageClass>GLACIER</StorageClass>",
        "<StorageClass/>",
        "<Owner><ID>i</ID></Owner><StorageClass>STANDARD</StorageClass>",
        "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>",
        f"<RestoreStatus>{RESTORED}</RestoreStatus>",
        "<Key>again</Key>",
    ]
)
AROUND = st.sampled_from(
    [
        "",
        "\n  ",
        "<!-- no object -->",
        "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
        "<CommonPrefixes><Prefix>a+b%2F/</Prefix></CommonPrefixes>",
        "<![CDATA[x]]>",
        "<Contents/>",
        "<Else>",
        "</Else>",
        "text",
    ]
)


@st.composite
def items(draw):
    encode = draw(st.sampled_from([url_encode, escape, str]))
    return item(
        encode(draw(KEYS)),
        time=draw(st.one_of(st.just(TIME), TIMES)),
        etag=draw(st.one_of(st.just("&quot;e&quot;"), ETAGS)),
        size=draw(st.one_of(st.just("1"), SIZES)),
        more=draw(EXTRAS),
    )


def read_strictly(data):
    try:
        answer = _strict(data, "bucket")
    except (ValueError, ExpatError):
        return None
    return answer.objects, answer.common_prefixes, answer.truncated, answer.next_token


@given(st.lists(st.one_of(items(), AROUND), max_size=6), st.booleans())
def test_whatever_the_quick_reader_takes_the_strict_one_reads_alike(inside, encoded):
    data = document(*inside, encoded=encoded)
    try:
        quick = _quick(data, "bucket")
    except ValueError:
        assert read_strictly(data) is None
        return
    if quick is not None:
        assert read_strictly(data) == (quick.objects, quick.common_prefixes, quick.truncated, quick.next_token)


@given(st.lists(st.builds(lambda key: item(url_encode(key)), KEYS), min_size=1, max_size=6))
def test_the_quick_reader_takes_every_page_of_the_usual_form(inside):
    assert _quick(document(*inside), "bucket") is not None


@given(st.integers(0, 10**17))
def test_a_time_is_read_to_the_nanosecond(nanoseconds):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=nanoseconds // 10**9)
    text = f"{moment.replace(tzinfo=None).isoformat()}.{nanoseconds % 10**9:09d}Z"
    assert only(document(item("k", time=text))).last_modified_ns == nanoseconds
    assert only(document(item("<![CDATA[k]]>", time=text))).last_modified_ns == nanoseconds


@pytest.mark.parametrize("time", ["2024-05-17T08:30:00Z", "2024-05-17T08:30:00", "2024-05-17T10:30:00+02:00"])
def test_a_time_may_have_a_zone_or_none(time):
    assert only(document(item("k", time=time))).last_modified_ns == TIME_NS


def test_what_is_missing_has_its_default_and_the_order_does_not_matter():
    data = document(f"<Contents><Size>3</Size><LastModified>{TIME}</LastModified><Key>k</Key></Contents>")
    assert only(data) == RemoteObject("bucket", "k", 3, "", TIME_NS, None, "STANDARD", False)


@pytest.mark.parametrize(
    ("status", "restored"),
    [
        (RESTORED, True),
        ("<IsRestoreInProgress>true</IsRestoreInProgress>", False),
        ("<IsRestoreInProgress>false</IsRestoreInProgress>", False),
    ],
)
def test_an_archived_object_is_restored_once_a_copy_is_there(status, restored):
    archived = item("k", more=f"<StorageClass>GLACIER</StorageClass><RestoreStatus>{status}</RestoreStatus>")
    remote = only(document(archived))
    assert (remote.storage_class, remote.restored) == ("GLACIER", restored)


def test_common_prefixes_are_decoded_as_keys_are():
    page = parse(document("<CommonPrefixes><Prefix>a+b%2B/</Prefix></CommonPrefixes>", item("k")))
    assert page.common_prefixes == ("a b+/",)


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>same</NextContinuationToken>"])
def test_a_listing_that_goes_on_nowhere_is_the_sources_error(token):
    with pytest.raises(SourceError, match="does not go on"):
        parse(document("<IsTruncated>true</IsTruncated>", token), token="same")


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no XML",
        b"<html></html>",
        b"<Error><Code>SlowDown</Code></Error>",
        document(item("k"))[:-20],
        document(item("k")) + b"<more/>",
        document(item("k"))
        .replace(b"<ListBucketResult", BOMB.encode() + b"<ListBucketResult")
        .replace(b">k<", b">&b;<"),
        document("<Deep>" * 100, "</Deep>" * 100),
        document(item("k", time="then")),
        document(item("k", size="-1")),
        document("<Contents><Size>1</Size></Contents>"),
        document(item("&unknown;")),
        document(item("k")).replace(b"</ListBucketResult>", b"\xff</ListBucketResult>"),
        document("<!--", item("k")).replace(b'"UTF-8"', b'"no-such-encoding"'),
    ],
    ids=lambda data: data[-24:].decode(errors="replace"),
)
def test_anything_else_makes_no_sense_and_is_worth_another_try(data):
    with pytest.raises(Transient, match="makes no sense") as caught:
        parse(data)
    assert caught.value.code == "BadAnswer"


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_at_all_raise_anything_but_our_own_errors(garbage, place):
    whole = document("<IsTruncated>false</IsTruncated>", item("k"), item("l"))
    for data in (garbage, whole[:place], whole[:place] + garbage + whole[place:]):
        with suppress(Transient, SourceError):
            parse(data)


# ── Versions ────────────────────────────────────────────────────────────────────────────────────────


def version(key, version_id, *, marker=False, time=TIME):
    inside = f"<Key>{key}</Key><VersionId>{version_id}</VersionId><LastModified>{time}</LastModified>"
    if marker:
        return f"<DeleteMarker>{inside}</DeleteMarker>"
    return f"<Version>{inside}<ETag>&quot;e&quot;</ETag><Size>7</Size></Version>"


def versions(*inside, marker=(None, None)):
    data = "".join(["<ListVersionsResult><EncodingType>url</EncodingType>", *inside, "</ListVersionsResult>"])
    return parse_versions(data.encode(), bucket="bucket", prefix="p/", marker=marker)


def test_versions_and_delete_markers_come_in_the_order_in_which_they_are_listed():
    more = (
        "<IsTruncated>true</IsTruncated><NextKeyMarker>a+b</NextKeyMarker><NextVersionIdMarker>2</NextVersionIdMarker>"
    )
    prefix = "<CommonPrefixes><Prefix>c%2B/</Prefix></CommonPrefixes>"
    page = versions(more, version("a+b", "3", marker=True), version("a+b", "2"), version("%FF", "null"), prefix)
    assert page == VersionsPage(
        (
            Version(RemoteObject("bucket", "a b", 0, "", TIME_NS, "3"), delete_marker=True),
            Version(RemoteObject("bucket", "a b", 7, '"e"', TIME_NS, "2"), delete_marker=False),
            Version(RemoteObject("bucket", "\udcff", 7, '"e"', TIME_NS, "null"), delete_marker=False),
        ),
        "a b",
        "2",
        ("c+/",),
    )
    assert versions() == VersionsPage((), None)


@pytest.mark.parametrize(
    "inside",
    [version("", "1"), version("", "1", marker=True), version("a", "1", time="then", marker=True), "<Version>"],
)
def test_versions_that_make_no_sense_are_worth_another_attempt(inside):
    with pytest.raises(Transient, match="makes no sense"):
        versions(inside)


def test_a_listing_of_versions_that_does_not_go_on_ends_with_an_error():
    more = "<IsTruncated>true</IsTruncated>"
    same = f"{more}<NextKeyMarker>a</NextKeyMarker><NextVersionIdMarker>1</NextVersionIdMarker>"
    for inside, marker in ((more, (None, None)), (same, ("a", "1"))):
        with pytest.raises(SourceError, match="does not go on"):
            versions(inside, marker=marker)
    assert versions(same, marker=("a", "2")).next_version == "1"


PARTS = st.sampled_from(
    [
        version("a+b", "1").replace("<LastModified>", "<IsLatest>true</IsLatest><LastModified>"),
        version("a", "null", marker=True).replace("<LastModified>", "<IsLatest>false</IsLatest><LastModified>"),
        version("a", "2"),
        version("a", "3", marker=True, time="2024-05-17T08:30:00.123456789Z"),
        "<Version><Key>a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest></Version>",
        (
            "<Version><Key>%FF</Key><VersionId></VersionId><IsLatest>true</IsLatest><LastModified>2024-05-17T08:30:00.000Z"
            "</LastModified><ETag>&quot;e-1&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>7</Size>"
            "<StorageClass>GLACIER</StorageClass><Owner><ID>0a</ID><DisplayName>x y</DisplayName></Owner></Version>"
        ),
        (
            "<DeleteMarker><Key>a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest><LastModified>2024-05-17T08:30:61Z"
            "</LastModified><Owner><ID>0a</ID></Owner></DeleteMarker>"
        ),
        (
            "<DeleteMarker><Key>a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest><LastModified>2024-05-17T08:30:00Z"
            "</LastModified><ETag>&quot;e&quot;</ETag><Size>7</Size></DeleteMarker>"
        ),
        "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>",
        "<Around>",
        "</Around>",
        "<IsTruncated>true</IsTruncated>",
        "<!-- -->",
    ]
)


@given(st.lists(PARTS, max_size=6), st.booleans())
def test_whatever_the_quick_reader_of_versions_takes_the_strict_one_reads_alike(inside, encoded):
    text = "".join(["<ListVersionsResult>", URL if encoded else "", *inside, "</ListVersionsResult>"])
    quick = strict = None
    with suppress(ValueError, ExpatError):
        quick = _quick_versions(text.encode(), "bucket")
    with suppress(ValueError, ExpatError):
        strict = _strict_versions(text.encode(), "bucket")
    if quick is not None:
        assert strict is not None
        assert quick[1] == strict[1]
        assert all(type(read) is Version and type(read.remote) is RemoteObject for read in quick[1])
        for name in ("IsTruncated", "EncodingType", "NextKeyMarker"):
            assert quick[0].text(name) == strict[0].text(name)


def test_the_quick_reader_takes_versions_of_the_usual_form():
    usual = version("a+b", "1").replace("<LastModified>", "<IsLatest>true</IsLatest><LastModified>")
    marker = version("a", "2", marker=True).replace("<LastModified>", "<IsLatest>false</IsLatest><LastModified>")
    text = f"<ListVersionsResult>{URL}{usual}{marker}{usual}</ListVersionsResult>"
    assert _quick_versions(text.encode(), "bucket") is not None
