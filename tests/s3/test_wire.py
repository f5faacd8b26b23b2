"""The store on the wire, where the wire alone would do something else."""

import asyncio
import re
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from sealift.config import ConnectionSettings
from sealift.errors import (
    Changed,
    CredentialsError,
    Integrity,
    NotSent,
    Permanent,
    Refused,
    SourceError,
    Throttled,
    Transient,
    Unreachable,
)
from sealift.model import ByteRange, Part, RemoteObject
from sealift.s3 import wire as wire_room
from sealift.s3.connection import Connection
from sealift.s3.pool import Pool
from sealift.s3.refusal import LARGEST_DOCUMENT
from sealift.s3.route import Route
from sealift.s3.signing import Credentials
from sealift.s3.store import PageRequest
from sealift.s3.wire import WireStore
from sealift.sandbox.certificate import make_certificate
from tests.support.faultserver import (
    Answer,
    ErrorDocumentAs200,
    FaultServer,
    Raw,
    ResetAfter,
    ResetBeforeHead,
    TruncateAfter,
)
from tests.support.peer import listening
from tests.support.pooling import on_a_loop_that_resolves

pytestmark = pytest.mark.anyio

REMOTE = RemoteObject("bucket", "k", 4, '"e"', 0)
WHOLE = Part(ByteRange(0, 4), whole=True)
HEAD = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 4\r\n\r\n'
CHUNKED = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n'
ANSWER = HEAD + b"body"


@dataclass
class Known:
    """An `Access` that knows one endpoint, and credentials that are handed out one after the other."""

    url: str
    keys: list[str] = field(default_factory=lambda: ["AKIDFIRST"])
    renewable: bool = False
    asked: int = 0
    ca_bundle = None

    async def route(self, bucket):
        return Route.to(f"{self.url}/{bucket}", "us-east-1")

    async def credentials(self):
        self.asked += 1
        return Credentials(self.keys[min(self.asked, len(self.keys)) - 1], "a secret")

    async def renew(self):
        return self.renewable


@asynccontextmanager
async def opened(peer, **known):
    async with WireStore(Known(f"http://{peer.host}:{peer.port}", **known), ConnectionSettings()) as store:
        yield store


async def body_of(store, remote=REMOTE, part=WHOLE):
    async with store.open(remote, part) as body:
        data = bytearray()
        while chunk := await body.read():
            data += chunk
        return bytes(data)


def scope(request):
    """As whom, and for which Region, a request is signed."""
    text = request if isinstance(request, str) else request.decode()
    match = re.search(r"Credential=([^/]+)/\d{8}/([^/]+)/s3/aws4_request", text)
    return match.groups() if match else None


@pytest.fixture
async def peer():
    async with listening() as peer:
        yield peer


@pytest.fixture
async def server():
    async with FaultServer() as server:
        server.put("bucket", "k", b"body")
        yield server


def store_at(server, **settings):
    return WireStore(Known(server.url), replace(ConnectionSettings(), **settings))


async def only(store):
    [remote] = (await store.list_page(PageRequest("bucket", ""))).objects
    return remote


# ── A connection that the server had just closed ────────────────────────────────────────────────────


@asynccontextmanager
async def with_a_warm_connection(peer):
    """A store that has one connection, which was used; and its other side."""
    async with opened(peer) as store:
        asking = asyncio.create_task(body_of(store))
        side = await peer.accept()
        await side.answers(ANSWER)
        await asking
        yield store, side


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_request_on_a_connection_that_just_went_goes_out_again_on_a_fresh_one(peer, how):
    async with with_a_warm_connection(peer) as (store, side):
        asking = asyncio.create_task(body_of(store))
        first = await side.request()
        getattr(side, how)()
        second = await (await peer.accept()).answers(ANSWER)
        assert await asking == b"body"
        assert first.split(b"\r\n")[0] == second.split(b"\r\n")[0]
        assert peer.count == 2


async def test_a_connection_that_went_while_it_was_idle_is_not_tried(peer):
    async with with_a_warm_connection(peer) as (store, side):
        side.close()
        asking = asyncio.create_task(body_of(store))
        await (await peer.accept()).answers(ANSWER)
        assert await asking == b"body"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_it_goes_out_again_only_once_though_others_are_idle(peer, how):
    async with with_a_warm_connection(peer) as (store, first):
        asking = [asyncio.create_task(body_of(store)) for _ in range(2)]
        second = await peer.accept()
        for side in (first, second):
            await side.answers(ANSWER)
        await asyncio.gather(*asking)
        again = asyncio.create_task(body_of(store))
        used = [asyncio.create_task(side.request()) for side in (first, second)]
        [done], _ = await asyncio.wait(used, return_when=asyncio.FIRST_COMPLETED)
        getattr((first, second)[used.index(done)], how)()
        third = await peer.accept()
        await third.request()
        getattr(third, how)()
        with pytest.raises(Transient) as caught:
            await again
        assert caught.value.code == "ConnectionLost"
        assert peer.count == 3
        for task in used:
            task.cancel()
        await asyncio.gather(*used, return_exceptions=True)


async def test_what_waits_for_its_connection_when_kms_begins_to_refuse_does_not_go_out(peer, monkeypatch):
    connect, refused = Pool._connect, asyncio.Event()

    async def slowly(pool, address):
        connection = await connect(pool, address)
        if pool.dialled:
            await refused.wait()
        return connection

    document = b"<Error><Code>KMS.ThrottlingException</Code><Message>You have exceeded the rate.</Message></Error>"
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(document)
    monkeypatch.setattr(Pool, "_connect", slowly)
    async with opened(peer) as store:
        first = asyncio.create_task(body_of(store))
        side = await peer.accept()
        await side.request()
        second = asyncio.create_task(body_of(store))
        other = await peer.accept()
        await side.send(head + document)
        with pytest.raises(Throttled):
            await first
        refused.set()
        with pytest.raises(NotSent):
            await second
        assert await other.gone()
        third = asyncio.create_task(body_of(store))
        await side.answers(ANSWER)
        assert await third == b"body"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_what_is_counted_goes_out_again_only_with_a_permit_of_its_own(peer, how):
    told = []
    async with with_a_warm_connection(peer) as (store, side):
        opening = store.open(REMOTE, WHOLE, lambda: told.append("get"))
        asking = asyncio.create_task(opening.__aenter__())
        await side.request()
        getattr(side, how)()
        with pytest.raises(NotSent):
            await asking
        assert (told, peer.count) == (["get"], 1)


async def test_a_request_is_told_of_when_its_connection_is_there_and_it_was_written(peer, monkeypatch):
    """An event loop writes when it has been round, which may take it a while."""
    connect, dialling, there = Pool._connect, asyncio.Event(), asyncio.Event()
    exchange, told_before = Connection.exchange, []

    async def slowly(pool, address):
        connection = await connect(pool, address)
        dialling.set()
        await there.wait()
        return connection

    def exchanges(connection, *request):
        told_before.extend(told)
        return exchange(connection, *request)

    told = []
    monkeypatch.setattr(Pool, "_connect", slowly)
    monkeypatch.setattr(Connection, "exchange", exchanges)
    async with opened(peer) as store:
        asking = asyncio.create_task(store.open(REMOTE, WHOLE, lambda: told.append("get")).__aenter__())
        side = await peer.accept()
        await dialling.wait()
        assert told == []
        there.set()
        await side.answers(ANSWER)
        await asking
        assert (told_before, told) == ([], ["get"])


async def test_a_fresh_connection_that_is_lost_is_a_failed_attempt(peer):
    async with opened(peer) as store:
        asking = asyncio.create_task(body_of(store))
        side = await peer.accept()
        await side.request()
        side.close()
        with pytest.raises(Transient) as caught:
            await asking
        assert (caught.value.code, caught.value.key, peer.count) == ("ConnectionLost", "k", 1)


def test_an_address_whose_fresh_connection_is_lost_is_left_alone():
    async def work(_):
        async with listening("127.0.0.1") as bad, listening("127.0.0.2", bad.port) as good:
            async with WireStore(Known(f"http://many.test:{bad.port}"), ConnectionSettings()) as store:
                asking = asyncio.create_task(body_of(store))
                side = await bad.accept()
                await side.request()
                side.close()
                with pytest.raises(Transient):
                    await asking
                together = [asyncio.create_task(body_of(store)) for _ in range(3)]
                for _ in together:
                    await (await good.accept()).answers(ANSWER)
                await asyncio.gather(*together)
                assert (bad.count, good.count) == (1, 3)

    on_a_loop_that_resolves(work, "127.0.0.1", "127.0.0.2")


@pytest.mark.parametrize("begun", [b"H", HEAD[:-2], b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"bo"])
async def test_once_a_byte_of_the_answer_has_come_nothing_goes_out_again_by_itself(peer, begun):
    async with with_a_warm_connection(peer) as (store, side):
        asking = asyncio.create_task(body_of(store))
        await side.answers(begun)
        side.close()
        with pytest.raises(Transient) as caught:
            await asking
        assert caught.value.code == "ConnectionLost"
        assert peer.count == 1


# ── Another Region ──────────────────────────────────────────────────────────────────────────────────

REGION = "<Region>eu-west-1</Region>"
IN_A_HEADER = {"x-amz-bucket-region": "eu-west-1"}
ELSEWHERE = [
    Answer(301, "PermanentRedirect", headers=IN_A_HEADER),
    Answer(307, "TemporaryRedirect", headers=IN_A_HEADER),
    Answer(400, "AuthorizationHeaderMalformed", extra_xml=REGION),
    Answer(400, "AuthorizationHeaderMalformed", extra_xml=REGION, chunked=False),
    Answer(400, "IllegalLocationConstraintException", headers=IN_A_HEADER),
]


@pytest.mark.parametrize("answer", ELSEWHERE, ids=lambda answer: answer.code)
@pytest.mark.parametrize("operation", ["list", "head", "get"])
async def test_a_bucket_in_another_region_is_asked_there_once_and_from_then_on(server, answer, operation):
    if operation == "head" and not answer.headers:
        answer = Answer(400, answer.code, headers=IN_A_HEADER)  # a HEAD's answer has no document
    redirect = server.fault(
        op="any", do=answer, when=lambda request: "eu-west-1" not in request.headers["authorization"]
    )
    remote = RemoteObject("bucket", "k", 4, server.objects["bucket", "k"].etag, 0)
    async with store_at(server) as store:
        for _ in range(2):
            if operation == "list":
                await only(store)
            elif operation == "head":
                assert (await store.head("bucket", "k")).size == 4
            else:
                assert await body_of(store, remote) == b"body"
    assert redirect.hits == 1
    regions = [scope(request.headers["authorization"])[1] for request in server.requests]
    assert regions == ["us-east-1", "eu-west-1", "eu-west-1"]


async def test_everybody_whose_request_was_under_way_is_sent_on(peer):
    moved = b"HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n"
    async with opened(peer) as store:
        asking = [asyncio.create_task(body_of(store)) for _ in range(3)]
        sides = [await peer.accept() for _ in asking]
        for side in sides:
            assert scope(await side.request())[1] == "us-east-1"
        for side in sides:  # one after the other: the later ones find that the bucket has moved already
            await side.send(moved)
            assert scope(await side.answers(ANSWER))[1] == "eu-west-1"
        assert await asyncio.gather(*asking) == [b"body"] * 3


async def test_a_region_that_sends_on_as_well_is_not_followed(server):
    server.fault(op="any", do=ELSEWHERE[0], times=1)
    server.fault(
        op="any", do=Answer(301, "PermanentRedirect", headers={"x-amz-bucket-region": "us-west-2"}), times=None
    )
    async with store_at(server) as store:
        with pytest.raises(SourceError, match="us-west-2") as caught:
            await store.list_page(PageRequest("bucket", ""))
    assert caught.value.code == "PermanentRedirect"
    assert len(server.requests) == 2


async def test_an_answer_that_names_no_other_region_is_not_followed(server):
    server.fault(
        op="any", do=Answer(301, "PermanentRedirect", headers={"x-amz-bucket-region": "us-east-1"}), times=None
    )
    async with store_at(server) as store:
        with pytest.raises(SourceError):
            await store.list_page(PageRequest("bucket", ""))
    assert len(server.requests) == 1


# ── As whom ─────────────────────────────────────────────────────────────────────────────────────────


async def test_credentials_are_asked_for_again_after_a_while(server):
    access = Known(server.url, keys=["AKIDFIRST", "AKIDSECOND"])
    async with WireStore(access, ConnectionSettings()) as store:
        for passed in (0.0, wire_room.ASK_AGAIN_AFTER - 5.0, 5.0):
            store._ask_at -= passed
            await store.list_page(PageRequest("bucket", ""))
    assert [request.access_key for request in server.requests] == ["AKIDFIRST", "AKIDFIRST", "AKIDSECOND"]
    assert server.connections == 1, "the connection is good for whoever asks"


async def test_renewed_credentials_are_used_at_once(server):
    server.require_access_key = {"AKIDSECOND"}
    access = Known(server.url, keys=["AKIDFIRST", "AKIDSECOND"], renewable=True)
    async with WireStore(access, ConnectionSettings()) as store:
        with pytest.raises(CredentialsError):
            await store.list_page(PageRequest("bucket", ""))
        assert await store.renew()
        assert await body_of(store, await only(store)) == b"body"


async def test_where_nothing_can_be_renewed_that_is_said(server):
    async with store_at(server) as store:
        assert not await store.renew()


async def test_every_request_says_who_pays(server):
    async with store_at(server, request_payer=True) as store:
        remote = await only(store)
        await store.head("bucket", "k")
        await body_of(store, remote)
    assert [request.headers["x-amz-request-payer"] for request in server.requests] == ["requester"] * 3


async def test_a_version_is_asked_for_by_its_name(peer):
    remote = REMOTE._replace(version_id="a+b/c=")
    async with opened(peer) as store:
        asking = asyncio.create_task(body_of(store, remote))
        side = await peer.accept()
        got = await side.answers(ANSWER)
        assert await asking == b"body"
        heading = asyncio.create_task(store.head("bucket", "k", "a+b/c="))
        last_modified = b"Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
        headed = await side.answers(HEAD[:-2] + last_modified + b"\r\n")
        assert (await heading).version_id == "a+b/c="
    for request in (got, headed):
        target = request.split(b" ")[1].decode()
        assert parse_qs(urlsplit(target).query, strict_parsing=True) == {"versionId": ["a+b/c="]}


# ── Answers that are refusals, or none ──────────────────────────────────────────────────────────────


async def test_where_a_head_fails_a_get_of_one_byte_tells_why(server):
    server.fault(op="head", do=Answer(403, "Forbidden"), times=None)
    denial = Answer(403, "AccessDenied", "User: u is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:x")
    server.fault(op="get", do=denial)
    async with store_at(server) as store:
        with pytest.raises(Refused, match="kms:Decrypt"):
            await store.head("bucket", "k")
    assert server.requests[-1].headers["range"] == "bytes=0-0"


async def test_where_the_get_succeeds_the_heads_own_error_stands(server):
    server.fault(op="head", do=Answer(403, "Forbidden"), times=None)
    async with store_at(server) as store:
        with pytest.raises(Refused) as caught:
            await store.head("bucket", "k")
        server.put("bucket", "empty", b"")  # has no first byte: 416
        with pytest.raises(Refused) as of_an_empty_one:
            await store.head("bucket", "empty")
    assert (caught.value.key, of_an_empty_one.value.key) == ("k", "empty")


async def test_a_head_without_any_answer_is_not_asked_about(server):
    server.fault(op="head", do=ResetBeforeHead())
    async with store_at(server) as store:
        with pytest.raises(Transient):
            await store.head("bucket", "k")
    assert server.gets == 0


async def test_of_an_endless_error_document_only_the_beginning_is_read(peer):
    said = b"<Error><Code>InternalError</Code><Message>" + b"x" * (4 * LARGEST_DOCUMENT)
    async with opened(peer) as store:
        asking = asyncio.create_task(body_of(store))
        side = await peer.accept()
        length = 1_000 * LARGEST_DOCUMENT  # which never comes
        await side.answers(b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\n\r\n" % length + said)
        with pytest.raises(Transient):
            await asking
        await side.gone()


async def test_a_refusal_whose_document_breaks_off_is_known_by_its_status(server):
    server.fault(op="get", do=Raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 500\r\n\r\n<Error><Co"))
    async with store_at(server) as store:
        with pytest.raises(Permanent):
            await body_of(store, await only(store))


@pytest.mark.parametrize(
    "chunks", [b"3\r\nbod\r\n0\r\n\r\n", b"5\r\nbody+\r\n0\r\n\r\n", b"4\r\nbody\r\n1\r\n+\r\n0\r\n\r\n", b"0\r\n\r\n"]
)
async def test_a_chunked_body_that_is_too_long_or_too_short_is_not_taken_for_the_object(peer, chunks):
    async with opened(peer) as store:
        asking = asyncio.create_task(body_of(store))
        await (await peer.accept()).answers(CHUNKED + chunks)
        with pytest.raises(Transient) as caught:
            await asking
        assert (caught.value.code, caught.value.key) == ("IncompleteBody", "k")


@pytest.mark.parametrize("answer", [CHUNKED + b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", ANSWER])
async def test_a_body_of_the_right_length_leaves_the_connection_to_the_next(peer, answer):
    async with opened(peer) as store:
        side = None
        for _ in range(3):
            asking = asyncio.create_task(body_of(store))
            side = side or await peer.accept()
            await side.answers(answer)
            assert await asking == b"body"
        assert peer.count == 1


async def test_a_body_may_end_with_the_connection(peer):
    async with opened(peer) as store:
        asking = asyncio.create_task(body_of(store))
        side = await peer.accept()
        await side.answers(b'HTTP/1.1 200 OK\r\nETag: "e"\r\n\r\nbody')
        side.close()
        assert await asking == b"body"


@pytest.mark.parametrize("fault", [TruncateAfter(2), ResetAfter(2)])
async def test_a_body_that_breaks_off_is_lost(server, fault):
    server.fault(op="get", do=fault)
    async with store_at(server) as store:
        remote = await only(store)
        with pytest.raises(Transient) as caught:
            await body_of(store, remote)
        assert caught.value.code == "ConnectionLost"
        assert await body_of(store, remote) == b"body"


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b'HTTP/1.1 200 OK\r\nETag: "other"\r\nContent-Length: 4\r\n\r\n', Changed),
        (b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\n\r\n', Integrity),
        (b'HTTP/1.1 206 OK\r\nETag: "e"\r\nContent-Length: 4\r\n\r\n', Integrity),
    ],
)
async def test_an_answer_that_does_not_fit_takes_its_connection_along(peer, head, error):
    async with opened(peer) as store:
        asking = asyncio.create_task(body_of(store))
        side = await peer.accept()
        await side.answers(head)
        with pytest.raises(error):
            await asking
        assert await side.gone()


async def test_an_error_document_with_status_200_is_never_a_body(server):
    async with store_at(server) as store:
        remote = await only(store)
        server.fault(op="get", do=ErrorDocumentAs200())
        with pytest.raises(Integrity):
            await body_of(store, remote)


async def test_what_is_no_http_is_said_to_make_no_sense(server):
    server.fault(op="list", do=Raw(b"SSH-2.0-OpenSSH_9.2\r\n"))
    async with store_at(server) as store:
        with pytest.raises(Transient, match="makes no sense") as caught:
            await store.list_page(PageRequest("bucket", ""))
    assert caught.value.code == "BadAnswer"


PAGE = (
    "<ListBucketResult><IsTruncated>true</IsTruncated>"
    "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
)


async def test_a_listing_whose_next_page_is_the_same_one_does_not_go_round(server):
    page = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE.encode()
    server.fault(op="list", do=Raw(page, close=False), times=None)
    async with store_at(server) as store:
        assert (await store.list_page(PageRequest("bucket", ""))).next_token == "t"
        with pytest.raises((SourceError, Transient)):
            await store.list_page(PageRequest("bucket", "", token="t"))


async def test_a_page_that_breaks_off_is_no_page(server):
    server.fault(op="list", do=Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n<ListBucketResult>"))
    async with store_at(server) as store:
        with pytest.raises(Transient) as caught:
            await store.list_page(PageRequest("bucket", ""))
    assert (caught.value.code, caught.value.bucket) == ("ConnectionLost", "bucket")


async def test_an_endpoint_that_nobody_answers_at_is_out_of_reach(server):
    async with store_at(server) as store:
        await server.close()
        with pytest.raises(Unreachable, match="cannot be reached"):
            await store.list_page(PageRequest("bucket", ""))


async def test_an_endpoint_that_is_not_trusted_ends_the_run(tmp_path):
    made = make_certificate()
    (tmp_path / "chain.pem").write_bytes(made.chain + made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    async with listening(context=context) as distrusted:
        async with WireStore(Known(f"https://127.0.0.1:{distrusted.port}"), ConnectionSettings()) as store:
            with pytest.raises(SourceError, match="--ca-bundle") as caught:
                await body_of(store)
    assert caught.value.code == "TLSError"


async def test_whoever_is_cancelled_takes_the_connection_along(peer):
    async with opened(peer) as store:
        async with anyio.create_task_group() as group:
            group.start_soon(body_of, store)
            side = await peer.accept()
            await side.request()
            group.cancel_scope.cancel()
        assert await side.gone()
