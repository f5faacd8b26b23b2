"""The fault server: what aioboto3 makes of it when it behaves, and what is on the wire when it does not."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from xml.etree import ElementTree as ET

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.awserrors import AWS_ERRORS, AwsError
from tests.support.faultserver import (
    DEFAULT_KMS_KEY,
    Answer,
    Call,
    ErrorDocumentAs200,
    Exchange,
    FaultServer,
    FaultServerProcess,
    FaultServerThread,
    FlipBit,
    Generated,
    Hold,
    IgnoreRange,
    OtherETag,
    OverwriteNow,
    Raw,
    ResetAfter,
    ResetBeforeHead,
    Restore,
    Stall,
    TruncateAfter,
    WrongContentRange,
    WrongLength,
)
from tests.support.faultserver.dialect import FIRST_PUT

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 4


@asynccontextmanager
async def sdk(server: FaultServer, access_key: str = "AKIAIOSFODNN7EXAMPLE") -> AsyncIterator[Any]:
    """An aioboto3 S3 client without retries."""
    import aioboto3
    from aiobotocore.config import AioConfig

    session = aioboto3.Session(aws_access_key_id=access_key, aws_secret_access_key="secret", region_name="us-east-1")
    config = AioConfig(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    async with session.client("s3", endpoint_url=server.url, config=config) as client:
        yield client


async def refusal_of(call: Any) -> tuple[int, str, str]:
    """Status, code and message of a call that must fail."""
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError) as caught:
        await call
    answer: Any = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"].get("Message", "")


class Wire:
    """A raw connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, target: str, *headers: str, method: str = "GET") -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *headers]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    async def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        return int(first.split(" ")[1]), dict(line.lower().split(": ", 1) for line in lines)

    async def get(self, target: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
        """Ask, and read an answer that has a Content-Length, or one chunk."""
        self.ask(target, *headers)
        status, got = await self.head()
        if "content-length" in got:
            return status, got, await self.reader.readexactly(int(got["content-length"]))
        body = await self.reader.readexactly(int(await self.reader.readline(), 16))
        assert await self.reader.readexactly(7) == b"\r\n0\r\n\r\n"
        return status, got, body


@asynccontextmanager
async def wire(server: FaultServer) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


# -- S3 as it should be, seen by the SDK ---------------------------------------------------------------------------


async def test_the_sdk_gets_an_object_with_its_encryption_headers() -> None:
    async with FaultServer() as server, sdk(server) as client:
        stored = server.put("bucket", "a key", BODY, bucket_key=True, version_id="v1", headers={"x-amz-meta-a": "b"})
        got = await client.get_object(Bucket="bucket", Key="a key")
        assert await got["Body"].read() == BODY
        assert (got["ETag"], got["VersionId"]) == (stored.etag, "v1")
        assert got["LastModified"] == stored.last_modified
        assert (got["ServerSideEncryption"], got["SSEKMSKeyId"]) == ("aws:kms", DEFAULT_KMS_KEY)
        assert got["BucketKeyEnabled"] is True
        assert got["Metadata"] == {"a": "b"}


async def test_the_sdk_gets_ranges_of_an_object() -> None:
    async with FaultServer() as server, sdk(server) as client:
        server.put("bucket", "key", BODY)
        for asked, start, stop in [
            ("bytes=0-0", 0, 1),
            ("bytes=1000-", 1000, 1024),
            ("bytes=-7", 1017, 1024),
            ("bytes=1000-9999", 1000, 1024),
        ]:
            got = await client.get_object(Bucket="bucket", Key="key", Range=asked)
            assert got["ContentRange"] == f"bytes {start}-{stop - 1}/1024"
            assert await got["Body"].read() == BODY[start:stop]
        assert [request.range for request in server.requests] == [(0, 1), (1000, 1024), (1017, 1024), (1000, 10000)]


async def test_a_range_behind_the_end_is_refused_with_the_size() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        server.put("bucket", "empty", b"")
        status, headers, body = await connection.get("/bucket/key", "Range: bytes=1024-")
        assert (status, headers["content-range"]) == (416, "bytes */1024")
        assert ET.fromstring(body).findtext("Code") == "InvalidRange"
        assert (await connection.get("/bucket/empty", "Range: bytes=0-0"))[0] == 416
        assert (await connection.get("/bucket/empty", "Range: bytes=-5"))[0] == 416


async def test_a_range_that_makes_no_sense_is_ignored() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        for header in ["bytes=5-2", "bytes=-", "bytes=0-1,4-5", "lines=0-1"]:
            status, _, body = await connection.get("/bucket/key", f"Range: {header}")
            assert (status, body) == (200, BODY)


async def test_a_head_has_the_objects_headers_and_no_body() -> None:
    async with FaultServer() as server, sdk(server) as client:
        stored = server.put("bucket", "key", BODY, storage_class="GLACIER", restore=Restore(in_progress=True))
        got = await client.head_object(Bucket="bucket", Key="key")
        assert (got["ContentLength"], got["ETag"], got["StorageClass"]) == (1024, stored.etag, "GLACIER")
        assert got["Restore"] == 'ongoing-request="true"'
        assert (await refusal_of(client.head_object(Bucket="bucket", Key="none")))[0] == 404
        assert (server.heads, server.gets, server.body_bytes) == (2, 0, 0)


async def test_an_archived_object_is_served_only_while_it_is_restored() -> None:
    async with FaultServer() as server, sdk(server) as client:
        stored = server.put("bucket", "key", BODY, storage_class="DEEP_ARCHIVE")
        status, code, _ = await refusal_of(client.get_object(Bucket="bucket", Key="key"))
        assert (status, code) == (403, "InvalidObjectState")
        stored.restore = Restore(in_progress=False, expiry=FIRST_PUT)
        got = await client.get_object(Bucket="bucket", Key="key")
        assert await got["Body"].read() == BODY
        assert got["Restore"] == 'ongoing-request="false", expiry-date="Fri, 17 May 2024 08:30:00 GMT"'


async def test_if_match_pins_the_version_that_was_listed() -> None:
    async with FaultServer() as server, sdk(server) as client:
        etag = server.put("bucket", "key", BODY).etag
        got = await client.get_object(Bucket="bucket", Key="key", IfMatch=etag)
        await got["Body"].read()
        assert server.overwrite("bucket", "key", BODY).etag != etag
        status, code, message = await refusal_of(client.get_object(Bucket="bucket", Key="key", IfMatch=etag))
        assert (status, code) == (412, "PreconditionFailed")
        assert message == "At least one of the pre-conditions you specified did not hold"


async def test_old_versions_are_served_by_their_ids() -> None:
    async with FaultServer() as server, sdk(server) as client:
        server.put("bucket", "key", b"old", version_id="v1")
        server.put("bucket", "key", b"new", version_id="v2")
        assert await (await client.get_object(Bucket="bucket", Key="key"))["Body"].read() == b"new"
        assert await (await client.get_object(Bucket="bucket", Key="key", VersionId="v1"))["Body"].read() == b"old"
        refused = await refusal_of(client.get_object(Bucket="bucket", Key="key", VersionId="v3"))
        assert refused[:2] == (404, "NoSuchVersion")


async def test_checksums_come_only_with_whole_objects_that_were_asked_for_with_them() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY, headers={"x-amz-checksum-crc32": "AAAAAA=="})
        mode = "x-amz-checksum-mode: ENABLED"
        assert "x-amz-checksum-crc32" in (await connection.get("/bucket/key", mode))[1]
        assert "x-amz-checksum-crc32" not in (await connection.get("/bucket/key"))[1]
        assert "x-amz-checksum-crc32" not in (await connection.get("/bucket/key", mode, "Range: bytes=0-3"))[1]


async def test_what_is_missing_is_named_as_s3_names_it() -> None:
    async with FaultServer() as server, sdk(server) as client:
        server.bucket("bucket")
        assert await refusal_of(client.get_object(Bucket="bucket", Key="none")) == (
            404,
            "NoSuchKey",
            "The specified key does not exist.",
        )
        assert (await refusal_of(client.get_object(Bucket="none", Key="none")))[1] == "NoSuchBucket"
        assert (await refusal_of(client.list_objects_v2(Bucket="none")))[1] == "NoSuchBucket"
        assert (await refusal_of(client.head_bucket(Bucket="none")))[0] == 404
        assert (await refusal_of(client.delete_object(Bucket="bucket", Key="none")))[1] == "NotImplemented"


async def test_a_bucket_tells_its_region() -> None:
    async with FaultServer() as server, sdk(server) as client:
        server.bucket("here")
        server.bucket("there", region="eu-central-1")
        assert (await client.head_bucket(Bucket="there"))["BucketRegion"] == "eu-central-1"
        assert (await client.get_bucket_location(Bucket="there"))["LocationConstraint"] == "eu-central-1"
        assert (await client.get_bucket_location(Bucket="here")).get("LocationConstraint") is None


# -- listings ------------------------------------------------------------------------------------------------------

ODD_KEYS = [
    "a b",
    "a+b",
    "a%20b",
    "ä/ü",
    "quote\"'&<>",
    "line\nbreak",
    "bell\x07",
    "~tilde*",
    "a/b/c",
    "a//b",
    "𝄞",
    "ﬀ",
]


async def listed(client: Any, **options: Any) -> list[str]:
    """All keys, page after page."""
    keys: list[str] = []
    async for page in client.get_paginator("list_objects_v2").paginate(**options):
        keys += [line["Key"] for line in page.get("Contents", [])]
    return keys


async def test_odd_keys_come_back_from_listings_in_utf8_order_and_can_be_got() -> None:
    async with FaultServer() as server, sdk(server) as client:
        for key in ODD_KEYS:
            server.put("bucket", key, key.encode())
        server.page_size = 5
        assert await listed(client, Bucket="bucket") == sorted(ODD_KEYS, key=str.encode)
        assert server.lists == 3
        for key in ODD_KEYS:
            assert await (await client.get_object(Bucket="bucket", Key=key))["Body"].read() == key.encode()


async def test_the_url_encoding_of_a_listing_is_s3s_own() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "p/a b+c(1)~ä\x01*", b"")
        _, _, body = await connection.get("/bucket?list-type=2&encoding-type=url&prefix=p%2Fa+b")
        assert b"<Key>p/a+b%2Bc%281%29%7E%C3%A4%01*</Key>" in body
        assert b"<Prefix>p/a+b</Prefix>" in body
        _, _, body = await connection.get("/bucket?list-type=2")
        assert "<Key>p/a b+c(1)~ä&#x1;*</Key>".encode() in body


async def test_a_key_that_is_not_utf8_can_be_listed_and_got() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", b"\xff\xfe".decode("utf-8", "surrogateescape"), b"odd")
        _, _, body = await connection.get("/bucket?list-type=2&encoding-type=url")
        assert b"<Key>%FF%FE</Key>" in body
        assert (await connection.get("/bucket/%ff%fe"))[2] == b"odd"


async def test_a_line_of_a_listing_has_all_that_s3_tells() -> None:
    async with FaultServer() as server, wire(server) as connection:
        restore = Restore(in_progress=False, expiry=FIRST_PUT)
        server.put("bucket", "key", BODY, etag='"e"', storage_class="GLACIER", restore=restore)
        line = (
            b"<Contents><Key>key</Key><LastModified>2024-05-17T08:30:00.000Z</LastModified>"
            b"<ETag>&quot;e&quot;</ETag><Size>1024</Size><StorageClass>GLACIER</StorageClass>"
        )
        _, _, body = await connection.get("/bucket?list-type=2")
        assert line + b"</Contents>" in body
        _, _, body = await connection.get("/bucket?list-type=2", "x-amz-optional-object-attributes: RestoreStatus")
        restored = b"<IsRestoreInProgress>false</IsRestoreInProgress>"
        expires = b"<RestoreExpiryDate>2024-05-17T08:30:00.000Z</RestoreExpiryDate>"
        assert line + b"<RestoreStatus>" + restored + expires + b"</RestoreStatus></Contents>" in body


async def test_a_delimiter_rolls_keys_up_across_pages() -> None:
    async with FaultServer() as server, sdk(server) as client:
        for key in ["a", "b/1", "b/2", "b/3", "c", "d/e/f", "d/g", "other"]:
            server.put("bucket", key, b"")
        server.generate_listing("bucket", "m/", 5000, 1)
        server.page_size = 1
        names: list[str] = []
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Delimiter="/"):
            names += [line["Key"] for line in page.get("Contents", [])]
            names += [line["Prefix"] for line in page.get("CommonPrefixes", [])]
        assert names == ["a", "b/", "c", "d/", "m/", "other"]
        assert await listed(client, Bucket="bucket", Delimiter="/", Prefix="d/") == ["d/g"]


async def test_prefix_start_after_and_max_keys_narrow_a_listing() -> None:
    async with FaultServer() as server, sdk(server) as client:
        for key in ["a/1", "a/2", "a/3", "a-other", "b"]:
            server.put("bucket", key, b"")
        assert await listed(client, Bucket="bucket", Prefix="a/", StartAfter="a/1") == ["a/2", "a/3"]
        page = await client.list_objects_v2(Bucket="bucket", MaxKeys=2)
        assert (page["KeyCount"], page["MaxKeys"], page["IsTruncated"]) == (2, 2, True)
        page = await client.list_objects_v2(Bucket="bucket", MaxKeys=0)
        assert (page["KeyCount"], page["IsTruncated"]) == (0, False)
        assert (await refusal_of(client.list_objects_v2(Bucket="bucket", MaxKeys=-1)))[:2] == (400, "InvalidArgument")


async def test_only_tokens_that_the_server_gave_out_are_honoured() -> None:
    async with FaultServer() as server, sdk(server) as client:
        server.generate_listing("bucket", "a/", 10, 1)
        page = await client.list_objects_v2(Bucket="bucket", Prefix="a/", MaxKeys=5)
        token = page["NextContinuationToken"]
        rest = await client.list_objects_v2(Bucket="bucket", Prefix="a/", ContinuationToken=token)
        assert [line["Key"] for line in rest["Contents"]] == [f"a/{i:09d}" for i in range(5, 10)]
        for wrong in [{"ContinuationToken": "5"}, {"ContinuationToken": token[:-4] + "AAAA"}]:
            refused = await refusal_of(client.list_objects_v2(Bucket="bucket", Prefix="a/", **wrong))
            assert refused == (400, "InvalidArgument", "The continuation token provided is incorrect")
        refused = await refusal_of(client.list_objects_v2(Bucket="bucket", Prefix="b/", ContinuationToken=token))
        assert refused[0] == 400


@pytest.mark.parametrize("order", ["shuffled", "reversed"])
async def test_listings_come_in_any_order_and_still_complete(order: str) -> None:
    async with FaultServer() as server, sdk(server) as client:
        keys = [f"{i:03d}" for i in range(100)]
        for key in keys:
            server.put("bucket", key, b"")
        server.page_size = 7
        server.listing_order = "shuffled" if order == "shuffled" else lambda names: names[::-1]
        got = await listed(client, Bucket="bucket")
        assert got != keys
        assert sorted(got) == keys


async def test_a_generated_listing_is_listed_and_got_like_stored_objects() -> None:
    async with FaultServer() as server, sdk(server) as client:
        server.generate_listing("bucket", "many/", 1_000_000, lambda i: i, key_for=lambda i: f"{i:07d}.bin")
        server.put("bucket", "many/0000001.bin", b"put over it")
        server.put("bucket", "many/0000001.bin.more", b"between")
        page = await client.list_objects_v2(Bucket="bucket", Prefix="many/", MaxKeys=4)
        lines = [(line["Key"], line["Size"]) for line in page["Contents"]]
        assert lines == [
            ("many/0000000.bin", 0),
            ("many/0000001.bin", 11),
            ("many/0000001.bin.more", 7),
            ("many/0000002.bin", 2),
        ]
        page = await client.list_objects_v2(Bucket="bucket", StartAfter="many/0999998.bin")
        (last,) = page["Contents"]
        got = await client.get_object(Bucket="bucket", Key=last["Key"], IfMatch=last["ETag"])
        assert len(await got["Body"].read()) == last["Size"] == 999_999
        assert (await refusal_of(client.get_object(Bucket="bucket", Key="many/1000000.bin")))[1] == "NoSuchKey"


@given(st.integers(0, 300_000), st.integers(0, 300_000), st.integers(0, 300_000))
def test_a_generated_body_is_the_same_in_any_ranges(size: int, one: int, other: int) -> None:
    body = Generated(size, 7)
    whole = body.read(0, size)
    start, stop = sorted([min(one, size), min(other, size)])
    assert len(whole) == size
    assert body.read(start, stop) == whole[start:stop]


def test_generated_bodies_differ_by_seed_and_place() -> None:
    assert len({Generated(16, seed).read(0, 16) for seed in range(1000)}) == 1000
    huge = Generated(5 << 40, "seed")
    assert len({huge.read(start, start + 64) for start in range(0, 5 << 40, 64 << 30)}) == 80


# -- credentials and KMS -------------------------------------------------------------------------------------------


async def test_only_the_required_access_keys_are_let_in() -> None:
    async with FaultServer() as server, sdk(server, "OLD") as old, sdk(server, "NEW") as new:
        server.put("bucket", "key", BODY)
        server.require_access_key = {"NEW"}
        refused = await refusal_of(old.get_object(Bucket="bucket", Key="key"))
        assert refused == (400, "ExpiredToken", "The provided token has expired.")
        server.access_key_refusal = "InvalidAccessKeyId"
        assert (await refusal_of(old.list_objects_v2(Bucket="bucket")))[:2] == (403, "InvalidAccessKeyId")
        assert await (await new.get_object(Bucket="bucket", Key="key"))["Body"].read() == BODY
        assert [request.access_key for request in server.requests] == ["OLD", "OLD", "NEW"]
        async with wire(server) as connection:
            assert (await connection.get("/bucket/key"))[0] == 403


@pytest.mark.parametrize(("form", "status"), [("KMS.ThrottlingException", 400), ("SlowDown", 503)])
async def test_the_kms_quota_refuses_what_is_over_it_until_the_next_second(form: Any, status: int) -> None:
    now = 0.0
    async with FaultServer() as server, sdk(server) as client:
        server.clock = lambda: now
        server.kms_rps, server.kms_form = 2, form
        server.put("bucket", "key", BODY)
        server.put("bucket", "cheap", BODY, bucket_key=True)

        async def get(key: str = "key") -> None:
            await (await client.get_object(Bucket="bucket", Key=key))["Body"].read()

        await get()
        await get()
        refused = await refusal_of(get())
        assert refused[:2] == (status, form)
        assert "KMS" in refused[2]
        await get("cheap")
        await client.head_object(Bucket="bucket", Key="key")
        async with wire(server) as connection:  # the SDK repeats a HEAD that is answered 400
            connection.ask("/bucket/key", "x-amz-checksum-mode: ENABLED", method="HEAD")
            assert (await connection.head())[0] == status
        now = 1.0
        await get()
        assert (server.kms_calls, server.kms_refused) == (3, 2)


# -- faults, seen on the wire --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", AWS_ERRORS, ids=lambda error: error.name)
async def test_the_sdk_reads_every_error_of_aws_as_it_is_written(error: AwsError) -> None:
    async with FaultServer() as server, sdk(server) as client:
        server.put("bucket", "key", BODY)
        # times=None: the SDK follows the two answers about the Region on its own, once.
        rule = server.fault(op="get", times=None, do=error.answer())
        refused = await refusal_of(client.get_object(Bucket="bucket", Key="key"))
        assert refused == (error.status, error.code, error.message)
        assert rule.hits == (2 if error.meaning == "region" else 1)
    async with FaultServer() as server, wire(server) as connection:
        server.fault(op="any", do=error.answer())
        status, headers, body = await connection.get("/bucket/key")
        assert status == error.status
        assert headers.items() >= {name.lower(): value.lower() for name, value in error.headers.items()}.items()
        assert body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>')
        document = ET.fromstring(body)
        assert (document.findtext("Code"), document.findtext("Message")) == (error.code, error.message)
        assert document.findtext("Key") == "key"
        assert document.findtext("RequestId", "").lower() == headers["x-amz-request-id"]
        assert document.findtext("HostId", "").lower() == headers["x-amz-id-2"]
        assert error.extra_xml.encode() in body


def test_every_error_of_aws_has_a_name_of_its_own() -> None:
    assert len({error.name for error in AWS_ERRORS}) == len(AWS_ERRORS)


async def test_a_head_that_is_refused_has_no_body_and_keeps_the_connection() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        server.fault(op="head", do=Answer(403, "AccessDenied", "Access Denied"))
        connection.ask("/bucket/key", method="HEAD")
        assert (await connection.head())[0] == 403
        assert (await connection.get("/bucket/key"))[2] == BODY
        assert (len(server.requests), server.connections) == (2, 1)


async def test_a_connection_is_kept_until_one_side_wants_to_close_it() -> None:
    async with FaultServer() as server:
        server.put("bucket", "key", BODY)
        async with wire(server) as connection:
            for _ in range(3):
                assert (await connection.get("/bucket/key"))[2] == BODY
            assert (await connection.get("/bucket/key", "Connection: close"))[2] == BODY
            assert await connection.reader.read() == b""
        async with wire(server) as connection:
            server.fault(op="get", do=Answer(400, "RequestTimeout", headers={"Connection": "close"}))
            assert (await connection.get("/bucket/key"))[0] == 400
            assert await connection.reader.read() == b""
        assert [request.connection for request in server.requests] == [1, 1, 1, 1, 2]


async def test_requests_that_are_sent_ahead_are_answered_in_order() -> None:
    async with FaultServer() as server, wire(server) as connection:
        for key in ["a", "b"]:
            server.put("bucket", key, key.encode())
            connection.ask(f"/bucket/{key}")
        for expected in [b"a", b"b"]:
            assert (await connection.head())[0] == 200
            assert await connection.reader.readexactly(1) == expected


async def test_a_head_that_is_no_http_is_refused() -> None:
    async with FaultServer() as server:
        for nonsense in [b"hello\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"]:
            async with wire(server) as connection:
                connection.writer.write(nonsense)
                assert (await connection.reader.read()).startswith(b"HTTP/1.1 400 ")
        assert server.requests == []


async def test_raw_bytes_are_sent_as_they_are() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.fault(op="any", do=Raw(b"HTTP/1.1 999 \xff\n\n", close=False))
        server.fault(op="any", do=Raw(b"more"))
        connection.ask("/bucket/key")
        assert await connection.reader.readexactly(16) == b"HTTP/1.1 999 \xff\n\n"
        connection.ask("/bucket/key")
        assert await connection.reader.read() == b"more"


async def test_a_reset_before_the_head_leaves_nothing_to_read() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.fault(op="any", do=ResetBeforeHead())
        connection.ask("/bucket/key")
        with pytest.raises(ConnectionResetError):
            await connection.reader.read()


@pytest.mark.parametrize("count", [0, 1, 5_000_000])
async def test_a_reset_after_n_bytes_lets_exactly_these_arrive(count: int) -> None:
    async with FaultServer() as server, wire(server) as connection:
        body = Generated(6_000_000, "reset")
        server.put("bucket", "key", body)
        server.fault(op="get", do=ResetAfter(count))
        connection.ask("/bucket/key")
        _, headers = await connection.head()
        assert headers["content-length"] == "6000000"
        assert await connection.reader.readexactly(count) == body.read(0, count)
        with pytest.raises(ConnectionResetError):
            await connection.reader.read()
        assert server.body_bytes == count


async def test_a_truncated_body_ends_in_order_and_early() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        server.fault(op="get", do=TruncateAfter(100))
        connection.ask("/bucket/key")
        _, headers = await connection.head()
        assert headers["content-length"] == "1024"
        assert await connection.reader.read() == BODY[:100]


async def test_a_truncated_listing_lacks_its_last_chunk() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.bucket("bucket")
        server.fault(op="list", do=TruncateAfter(10))
        connection.ask("/bucket?list-type=2")
        await connection.head()
        assert len(await connection.reader.read()) == 10


@pytest.mark.parametrize("before", ["head", 0, 10])
async def test_a_stall_lasts_until_the_client_goes_away(before: Any) -> None:
    gone = anyio.Event()

    async def watch(exchange: Exchange) -> None:
        await Stall(before)(exchange)
        gone.set()

    async with FaultServer() as server:
        server.put("bucket", "key", BODY)
        rule = server.fault(op="get", do=watch)
        async with wire(server) as connection:
            connection.ask("/bucket/key")
            await rule.reached()
            if before != "head":
                await connection.head()
                assert await connection.reader.readexactly(before) == BODY[:before]
            assert not gone.is_set()
        await gone.wait()


async def test_leaving_the_server_ends_stalls_holds_and_clients_that_do_not_read() -> None:
    async with FaultServer() as server, wire(server) as one, wire(server) as two, wire(server) as three:
        server.put("bucket", "huge", Generated(1 << 40, 1))
        stalled = server.fault(op="get", key="stall", do=Stall())
        held = server.fault(op="get", key="hold", do=Hold(anyio.Event()))
        one.ask("/bucket/stall")
        two.ask("/bucket/hold")
        three.ask("/bucket/huge")
        await stalled.reached()
        await held.reached()
        await three.head()
        assert (server.gets_now, server.most_gets_at_once) == (3, 3)
        await server.close()
        assert server.gets_now == 0
        assert await one.reader.read() == b""


@pytest.mark.parametrize(
    ("value", "asked", "expected"),
    [
        (None, "bytes=10-19", "bytes 11-20/21"),
        (None, None, "bytes 1-1024/1025"),
        ("bytes 0-9/*", "bytes=10-19", "bytes 0-9/*"),
        ("", "bytes=10-19", None),
    ],
)
async def test_a_content_range_can_be_wrong(value: str | None, asked: str | None, expected: str | None) -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        server.fault(op="get", do=WrongContentRange(value))
        status, headers, body = await connection.get("/bucket/key", *([f"Range: {asked}"] if asked else []))
        assert (status, headers.get("content-range")) == (206, expected)
        assert body == (BODY[10:20] if asked else BODY)


@pytest.mark.parametrize(("delta", "expected"), [(-3, BODY[10:17]), (2, BODY[10:20] + b"\0\0"), (-99, b"")])
async def test_a_body_can_have_another_length_than_its_range(delta: int, expected: bytes) -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        server.fault(op="get", do=WrongLength(delta))
        _, headers, body = await connection.get("/bucket/key", "Range: bytes=10-19")
        assert headers["content-range"] == "bytes 10-19/1024"
        assert body == expected


async def test_another_version_can_be_served_in_spite_of_if_match() -> None:
    async with FaultServer() as server, wire(server) as connection:
        stored = server.put("bucket", "key", BODY)
        server.fault(op="get", do=OtherETag())
        server.fault(op="get", do=OtherETag(b"0123456789", '"other"'))
        pin = f"If-Match: {stored.etag}"
        status, headers, body = await connection.get("/bucket/key", pin)
        assert (status, len(body)) == (200, len(BODY))
        assert headers["etag"] != stored.etag
        assert body != BODY
        status, headers, body = await connection.get("/bucket/key", pin, "Range: bytes=2-99")
        assert (status, headers["etag"], headers["content-range"]) == (206, '"other"', "bytes 2-9/10")
        assert body == b"23456789"
        assert (await connection.get("/bucket/key", pin))[2] == BODY


async def test_an_object_can_be_overwritten_just_before_it_is_got() -> None:
    async with FaultServer() as server, sdk(server) as client:
        old = server.put("bucket", "key", BODY, version_id="v1")
        server.fault(op="get", do=OverwriteNow(b"new"))
        for _ in range(2):
            refused = await refusal_of(client.get_object(Bucket="bucket", Key="key", IfMatch=old.etag))
            assert refused[:2] == (412, "PreconditionFailed")
        got = await client.get_object(Bucket="bucket", Key="key")
        assert await got["Body"].read() == b"new"
        assert got["LastModified"] > old.last_modified
        assert got["VersionId"] != "v1"


async def test_an_error_document_can_come_as_200() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        server.fault(op="get", do=ErrorDocumentAs200())
        status, _, body = await connection.get("/bucket/key", "Range: bytes=0-9")
        assert status == 200
        assert ET.fromstring(body).findtext("Code") == "InternalError"


async def test_one_bit_of_a_body_can_be_wrong() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        server.fault(op="get", do=FlipBit(3))
        _, _, body = await connection.get("/bucket/key", "Range: bytes=10-19")
        assert body == BODY[10:13] + bytes([BODY[13] ^ 1]) + BODY[14:20]


async def test_a_range_can_be_ignored() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        server.fault(op="get", do=IgnoreRange())
        status, headers, body = await connection.get("/bucket/key", "Range: bytes=10-19")
        assert (status, body) == (200, BODY)
        assert "content-range" not in headers


async def test_a_hook_runs_before_the_answer() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.bucket("bucket")

        async def put_it(exchange: Exchange) -> None:
            exchange.server.put("bucket", exchange.request.key, b"just in time")

        server.fault(op="get", do=Call(put_it))
        assert (await connection.get("/bucket/key"))[2] == b"just in time"


async def test_a_held_answer_waits_for_its_event() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        event = asyncio.Event()
        rule = server.fault(op="get", do=Hold(event, then=TruncateAfter(1)))
        connection.ask("/bucket/key")
        await rule.reached()
        assert server.gets_now == 1
        event.set()
        await connection.head()
        assert await connection.reader.read() == BODY[:1]


async def fail(_: Exchange) -> None:
    raise ValueError("a mistake in the script")


async def test_a_failing_hook_is_raised_when_the_server_is_left() -> None:
    async def run() -> None:
        async with FaultServer() as server, wire(server) as connection:
            server.fault(op="any", do=Call(fail))
            connection.ask("/bucket/key")
            assert await connection.reader.read() == b""

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert isinstance(caught.value.exceptions[0], ValueError)


# -- the script ----------------------------------------------------------------------------------------------------


async def test_a_rule_takes_the_requests_that_it_is_about() -> None:
    async with FaultServer() as server, wire(server) as connection:
        server.put("bucket", "a", BODY)
        server.put("bucket", "b", BODY)
        spare_one = server.fault(op="get", key="a", after=1, times=2, do=Answer(500, "InternalError"))
        big = server.fault(
            op="get", times=None, when=lambda request: request.range == (0, 8), do=Answer(503, "SlowDown")
        )
        assert [(await connection.get("/bucket/a"))[0] for _ in range(5)] == [200, 500, 500, 200, 200]
        assert (spare_one.seen, spare_one.hits) == (3, 2)
        ranged = "Range: bytes=0-7"
        assert [(await connection.get(f"/bucket/{key}", ranged))[0] for key in "aab"] == [503, 503, 503]
        big.remove()
        assert (await connection.get("/bucket/a", ranged))[0] == 206
        assert big.hits == 3


async def test_the_first_rule_that_takes_a_request_answers_it() -> None:
    async with FaultServer() as server, wire(server) as connection:
        first = server.fault(op="any", do=Answer(500, "InternalError"))
        second = server.fault(op="get", do=Answer(503, "SlowDown"))
        assert [(await connection.get("/bucket/a"))[0] for _ in range(3)] == [500, 503, 404]
        assert (first.hits, second.hits, second.seen) == (1, 1, 1)


async def test_requests_are_counted_without_being_remembered() -> None:
    async with FaultServer(remember=False) as server, wire(server) as connection:
        server.put("bucket", "key", BODY)
        await connection.get("/bucket/key")
        await connection.get("/bucket?list-type=2")
        assert server.requests == []
        assert (server.gets, server.lists, server.heads, server.body_bytes) == (1, 1, 0, 1024)


async def test_a_server_that_was_closed_refuses_connections_until_it_opens_again() -> None:
    async with FaultServer() as server:
        server.put("bucket", "key", BODY)
        url = server.url
        await server.close()
        with pytest.raises(ConnectionRefusedError):
            async with wire(server):
                pass
        await server.open()
        assert server.url == url
        async with wire(server) as connection:
            assert (await connection.get("/bucket/key"))[2] == BODY


# -- in a thread ---------------------------------------------------------------------------------------------------


def get_blocking(url: str, target: str) -> bytes:
    """All that a connection brings, from a test without a loop."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            return stream.read()


def test_a_server_in_a_thread_is_scripted_from_the_test() -> None:
    with FaultServerThread() as server:
        server.put("bucket", "key", BODY)
        event = threading.Event()
        rule = server.fault(op="get", do=Hold(event))
        got: list[bytes] = []
        client = threading.Thread(target=lambda: got.append(get_blocking(server.url, "/bucket/key")))
        client.start()
        rule.wait()
        event.set()
        client.join()
        assert got[0].endswith(BODY)
        server.fault(op="get", do=TruncateAfter(1))
        assert get_blocking(server.url, "/bucket/key").endswith(b"\r\n\r\n" + BODY[:1])


def test_a_server_in_a_thread_can_go_away_and_come_back() -> None:
    thread = FaultServerThread()
    with thread as server:
        server.put("bucket", "key", BODY)
        thread.call(server.close())
        with pytest.raises(ConnectionRefusedError):
            get_blocking(server.url, "/bucket/key")
        thread.call(server.open())
        assert get_blocking(server.url, "/bucket/key").endswith(BODY)


def test_a_mistake_in_the_script_of_a_thread_fails_the_test() -> None:
    thread = FaultServerThread()
    thread.__enter__().fault(op="any", do=fail)
    assert get_blocking(thread.server.url, "/bucket/key") == b""
    with pytest.raises(ExceptionGroup):
        thread.__exit__(None, None, None)


def test_a_server_in_a_process_serves_its_listing_and_tells_what_it_served() -> None:
    with FaultServerProcess("bucket", "many/", 1002) as server:
        last = server.listing.at(1001)
        assert last.key == "many/000001/001.bin"
        assert get_blocking(server.url, f"/bucket/{last.key}").endswith(last.content.read(0, last.size))
        assert b"<Key>many/000000/000.bin</Key>" in get_blocking(server.url, "/bucket?list-type=2")
        served = server.stop()
    assert (served.gets, served.lists, served.body_bytes, served.connections) == (1, 1, last.size, 2)
    assert served.cpu_seconds > 0
    with pytest.raises(ConnectionRefusedError):
        get_blocking(server.url, "/bucket?list-type=2")


def test_a_server_in_a_process_ends_with_its_block() -> None:
    with pytest.raises(KeyError), FaultServerProcess("bucket", "many/", 1) as server:
        raise KeyError
    with pytest.raises(ConnectionRefusedError):
        get_blocking(server.url, "/bucket?list-type=2")
