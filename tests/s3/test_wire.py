"""What only the wire does: races with a server that closes, other Regions, credentials that change, TLS sessions."""

import asyncio

import anyio
import pytest

from sealift.config import ConnectionSettings
from sealift.errors import CredentialsError, Integrity, SourceError, Transient
from sealift.model import ByteRange, Part
from sealift.s3.route import Route
from sealift.s3.signing import Credentials
from sealift.s3.wire import WireStore
from tests.support.faultserver import Answer, FaultServer

pytestmark = pytest.mark.anyio

WHOLE = Part(ByteRange(0, 4), whole=True)


class Known:
    """An `Access` to whatever a server has."""

    ca_bundle = None

    def __init__(self, url, region="us-east-1"):
        self.url = url
        self.region = region
        self.keys = ["FIRST"]
        self.asked = 0

    async def route(self, bucket):
        return Route.to(f"{self.url}/{bucket}", self.region)

    async def credentials(self):
        self.asked += 1
        return Credentials(self.keys[-1], "secret")

    async def renew(self):
        self.keys.append("NEXT")
        return len(self.keys) == 2


@pytest.fixture
async def server():
    async with FaultServer() as server:
        server.bucket("bucket")
        server.put("bucket", "k", b"body")
        yield server


@pytest.fixture
async def store(server):
    async with WireStore(Known(server.url), ConnectionSettings()) as store:
        yield store


async def fetched(store, remote):
    data = bytearray()
    async with store.open(remote, WHOLE) as body:
        while piece := await body.read():
            data += piece
    return bytes(data)


async def remote_of(store):
    [remote] = (await store.list_page("bucket", "")).objects
    return remote


async def test_one_connection_serves_one_request_after_the_other(store, server):
    remote = await remote_of(store)
    for _ in range(5):
        assert await fetched(store, remote) == b"body"
    assert {request.connection for request in server.requests} == {1}


class Closing:
    """A server that answers each connection's first request, and closes when the next one has come."""

    def __init__(self, *, spoil=b""):
        self.spoil = spoil
        self.connections = 0
        self.requests = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 4\r\n\r\nbody')
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            writer.write(self.spoil)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def remote_with(etag='"e"'):
    from sealift.model import RemoteObject

    return RemoteObject("bucket", "k", 4, etag, 0)


async def test_a_request_that_meets_a_closing_connection_goes_out_again_on_a_fresh_one():
    async with Closing() as server, WireStore(Known(server.url), ConnectionSettings()) as store:
        for _ in range(3):
            assert await fetched(store, remote_with()) == b"body"
    assert server.connections == 3
    assert server.requests == 5


async def test_an_answer_that_had_begun_is_an_attempt_that_failed():
    async with Closing(spoil=b"HTTP/1.1 2") as server, WireStore(Known(server.url), ConnectionSettings()) as store:
        assert await fetched(store, remote_with()) == b"body"
        with pytest.raises(Transient) as caught:
            await fetched(store, remote_with())
        assert (caught.value.code, caught.value.key) == ("ConnectionLost", "k")
    assert server.connections == 1


async def test_a_fresh_connection_that_is_closed_without_an_answer_is_an_attempt_that_failed():
    async def close(_, writer):
        writer.close()

    listener = await asyncio.start_server(close, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with WireStore(Known(url), ConnectionSettings()) as store:
        with anyio.fail_after(30), pytest.raises(Transient):
            await fetched(store, remote_with())
    listener.close()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(301, "PermanentRedirect", "Elsewhere.", headers={"x-amz-bucket-region": "eu-west-1"}),
        Answer(307, "TemporaryRedirect", "Elsewhere.", headers={"x-amz-bucket-region": "eu-west-1"}),
        Answer(400, "AuthorizationHeaderMalformed", "Wrong.", headers={"x-amz-bucket-region": "eu-west-1"}),
    ],
    ids=["301", "307", "400"],
)
async def test_a_bucket_in_another_region_is_asked_there(store, server, answer):
    server.fault(op="list", do=answer)
    remote = await remote_of(store)
    assert await fetched(store, remote) == b"body"
    scopes = [request.headers["authorization"].split("/")[2] for request in server.requests]
    assert scopes == ["us-east-1", "eu-west-1", "eu-west-1"]


async def test_a_bucket_that_is_nowhere_is_not_asked_for_ever(store, server):
    server.fault(
        op="list", times=None, do=Answer(301, "PermanentRedirect", "No.", headers={"x-amz-bucket-region": "eu-west-1"})
    )
    with pytest.raises(SourceError):
        await store.list_page("bucket", "")
    assert server.lists == 2


async def test_renewed_credentials_sign_the_next_request(store, server):
    remote = await remote_of(store)
    assert await store.renew()
    await fetched(store, remote)
    assert not await store.renew()
    assert [request.access_key for request in server.requests] == ["FIRST", "NEXT"]


async def test_credentials_are_asked_for_now_and_then(server, monkeypatch):
    access = Known(server.url)
    async with WireStore(access, ConnectionSettings()) as store:
        remote = await remote_of(store)
        await fetched(store, remote)
        assert access.asked == 1
        access.keys.append("LATER")
        monkeypatch.setattr(store, "_ask_at", 0.0)
        await fetched(store, remote)
    assert [request.access_key for request in server.requests] == ["FIRST", "FIRST", "LATER"]


async def test_refused_credentials_are_the_runs_error(store, server):
    server.require_access_key = {"OTHER"}
    with pytest.raises(CredentialsError):
        await store.list_page("bucket", "")


async def test_a_requester_who_pays_says_so_in_each_request(server):
    async with WireStore(Known(server.url), ConnectionSettings(request_payer=True)) as store:
        await fetched(store, await remote_of(store))
        await store.head("bucket", "k")
    assert {request.headers["x-amz-request-payer"] for request in server.requests} == {"requester"}


async def test_an_error_document_with_status_200_is_never_a_body(store, server):
    remote = await remote_of(store)
    from tests.support.faultserver import ErrorDocumentAs200

    server.fault(op="get", do=ErrorDocumentAs200())
    with pytest.raises((Integrity, Transient)):
        await fetched(store, remote)
