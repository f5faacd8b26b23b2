"""The store on the SDK: what it sends, and what it makes of what comes back."""

import os

import anyio
import pytest

from sealift.errors import Permanent, Refused, SourceError, Throttled, Transient
from sealift.model import ByteRange, Part, RemoteObject
from sealift.s3.store import PageRequest
from tests.support.faultserver import Answer, Call, ResetBeforeHead, Stall
from tests.support.faultserver.content import InMemory, Resized
from tests.support.faultserver.wire import xml_response
from tests.support.sdk import store_at

pytestmark = pytest.mark.anyio

REMOTE = RemoteObject("bucket", "k", 4, '"e"', 0)


def whole(remote):
    return Part(ByteRange(0, remote.size), whole=True)


async def body_of(store, remote, part=None):
    async with store.open(remote, part or whole(remote)) as body:
        data = bytearray()
        while chunk := await body.read():
            data += chunk
        return bytes(data)


# ── What is sent ────────────────────────────────────────────────────────────────────────────────────


async def test_every_request_says_who_pays(server):
    server.put("bucket", "k", b"body")
    async with store_at(server, request_payer=True) as store:
        [remote] = (await store.list_page(PageRequest("bucket", ""))).objects
        await store.head("bucket", "k")
        await body_of(store, remote)
    assert [request.headers["x-amz-request-payer"] for request in server.requests] == ["requester"] * 3


async def test_a_version_is_asked_for_where_it_is_known(server):
    server.put("bucket", "k", b"old", version_id="1")
    server.put("bucket", "k", b"newer", version_id="2")
    async with store_at(server) as store:
        old = await store.head("bucket", "k", "1")
        assert (old.size, old.version_id) == (3, "1")
        assert await body_of(store, old) == b"old"
        assert (await store.head("bucket", "k")).size == 5


async def test_a_body_that_was_read_to_its_end_leaves_its_connection_for_the_next(server):
    stored = server.put("bucket", "k", os.urandom(1_000_000))
    async with store_at(server) as store:
        remote = await store.head("bucket", "k")
        for _ in range(3):
            assert await body_of(store, remote) == stored.body
        assert server.connections == 1
        for _ in range(2):
            async with store.open(remote, whole(remote)) as body:
                await body.read()
    assert server.connections == 2, "a connection with bytes that nobody read is of no more use"


async def hang_up(exchange):
    """End the connection in order, without an answer."""
    await exchange.finish()


@pytest.mark.parametrize("lose", [ResetBeforeHead(), Call(hang_up)], ids=["reset", "closed"])
@pytest.mark.parametrize("used_before", [False, True])
@pytest.mark.parametrize("op", ["list", "head", "get"])
async def test_a_request_whose_connection_is_lost_goes_out_once(server, op, used_before, lose):
    server.put("bucket", "k", b"body")
    server.fault(op=op, do=lose)
    async with store_at(server) as store:
        if used_before:
            await store.encryption("bucket", "k") if op != "head" else await store.list_page(PageRequest("bucket", ""))
        asks = {
            "list": lambda: store.list_page(PageRequest("bucket", "")),
            "head": lambda: store.encryption("bucket", "k"),
            "get": lambda: body_of(store, REMOTE._replace(etag="")),
        }
        with pytest.raises(Transient) as caught:
            await asks[op]()
    assert caught.value.code == "ConnectionLost"
    assert [request.op for request in server.requests].count(op) == 1


# ── Listings ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>same</NextContinuationToken>"])
async def test_a_listing_that_goes_on_nowhere_is_an_error_and_no_endless_loop(server, token):
    page = f"<ListBucketResult><IsTruncated>true</IsTruncated>{token}</ListBucketResult>"

    async def answer(exchange):
        await exchange.send(xml_response(page))

    server.fault(op="list", do=Call(answer))
    async with store_at(server) as store:
        with pytest.raises(SourceError, match="does not go on"):
            await store.list_page(PageRequest("bucket", "", token="same"))


async def test_an_answer_that_makes_no_sense_is_worth_another_try(server):
    page = "<ListBucketResult><Contents><Key>k</Key><LastModified>then</LastModified></Contents></ListBucketResult>"

    async def answer(exchange):
        await exchange.send(xml_response(page))

    server.fault(op="list", do=Call(answer))
    async with store_at(server) as store:
        with pytest.raises(Transient, match="makes no sense"):
            await store.list_page(PageRequest("bucket", ""))


async def test_an_error_document_with_status_200_is_the_error_that_it_says(server):
    async def answer(exchange):
        await exchange.send(xml_response("<Error><Code>SlowDown</Code><Message>Please reduce</Message></Error>"))

    server.fault(op="list", do=Call(answer))
    async with store_at(server) as store:
        with pytest.raises(Throttled):
            await store.list_page(PageRequest("bucket", ""))


# ── Heads ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_head_that_is_refused_without_a_word_is_explained_by_a_get(server):
    server.put("bucket", "k", b"body")
    denied = Answer(403, "AccessDenied", "User: arn:aws:iam::1:user/u is not authorized to perform: kms:Decrypt on x")
    server.fault(op="any", do=denied, times=None)
    async with store_at(server) as store:
        with pytest.raises(Refused, match="kms:Decrypt"):
            await store.head("bucket", "k")
    assert [request.op for request in server.requests] == ["head", "get"]
    assert server.requests[1].range == (0, 1)


@pytest.mark.parametrize("body", [b"body", b""], ids=["with bytes", "empty"])
async def test_a_head_that_fails_where_a_get_would_not_is_that_failure(server, body):
    server.put("bucket", "k", body)
    server.fault(op="head", do=Answer(429, "TooManyRequests", "Please reduce your request rate."))
    async with store_at(server) as store:
        with pytest.raises(Throttled):
            await store.head("bucket", "k")
        assert (await store.head("bucket", "k")).size == len(body)


async def test_a_head_that_nobody_answers_is_not_asked_why(server):
    server.put("bucket", "k", b"body")
    server.fault(op="head", do=ResetBeforeHead())
    async with store_at(server) as store:
        with pytest.raises(Transient) as caught:
            await store.head("bucket", "k")
    assert caught.value.code == "ConnectionLost"
    assert server.gets == 0


async def test_a_key_that_is_not_utf8_is_refused_before_anything_is_sent(server):
    remote = REMOTE._replace(key="\udcff")
    async with store_at(server) as store:
        for ask in (store.head("bucket", remote.key), body_of(store, remote)):
            with pytest.raises(Permanent, match="not UTF-8") as caught:
                await ask
            assert (caught.value.code, caught.value.key) == ("InvalidKey", "\udcff")
    assert server.requests == []


# ── Bodies ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [3, 5])
async def test_a_chunked_body_of_another_length_is_no_body(server, size):
    server.put("bucket", "k", b"body")

    async def answer(exchange):
        response = exchange.response()
        response.content, response.chunked = Resized(InMemory(b"body"), size), True
        await exchange.send(response)

    async with store_at(server) as store:
        remote = await store.head("bucket", "k")
        server.fault(op="get", do=Call(answer))
        with pytest.raises(Transient) as caught:
            await body_of(store, remote)
        assert caught.value.code == "IncompleteBody"
        assert await body_of(store, remote) == b"body"


async def test_cancellation_goes_through_as_it_is(server):
    server.put("bucket", "k", b"body")
    held = server.fault(op="get", do=Stall("head"))
    async with store_at(server) as store:
        remote = await store.head("bucket", "k")
        async with anyio.create_task_group() as group:
            group.start_soon(body_of, store, remote)
            await held.reached()
            group.cancel_scope.cancel()
        assert await body_of(store, remote) == b"body", "the store is as good as new"
