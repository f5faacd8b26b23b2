"""Connections to one origin: which are used again, where new ones go, and whom TLS trusts."""

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager

import anyio
import pytest

from sealift.errors import ConfigError
from sealift.s3 import pool as pool_room
from sealift.s3.connection import LostError, SilentError
from sealift.s3.pool import Origin, Pool, TlsSessions, UnreachableError, tls_context
from sealift.sandbox.certificate import make_certificate
from tests.support.peer import listening

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def pooled(origin, *, context=None, connect_timeout=10.0, read_timeout=60.0):
    pool = Pool(origin, context=context, connect_timeout=connect_timeout, read_timeout=read_timeout)
    try:
        yield pool
    finally:
        pool.close()
        await asyncio.sleep(0)


def origin_of(peer, host=None, scheme="http"):
    return Origin(scheme, host or peer.host, peer.port)


async def used(connection, side):
    """Carry out an exchange, to its end."""
    asking = asyncio.create_task(connection.exchange(REQUEST))
    await side.answers(OK)
    await asking
    while await connection.read():
        pass


# ── Used again ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_connection_that_was_used_last_is_used_next():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        first, second = await pool.take(), await pool.take()
        for connection in (first, second):
            await used(connection, await peer.accept())
        pool.give_back(first)
        pool.give_back(second)
        assert [await pool.take(), await pool.take()] == [second, first]
        assert (pool.dialled, peer.count) == (2, 2)


async def test_a_connection_is_lent_to_one_at_a_time():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        taken = [await pool.take() for _ in range(3)]
        assert len(set(map(id, taken))) == pool.dialled == 3


async def test_what_was_not_read_to_its_end_is_closed_and_not_used_again():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        connection = await pool.take()
        side = await peer.accept()
        asking = asyncio.create_task(connection.exchange(REQUEST))
        await side.answers(OK)
        await asking
        pool.give_back(connection)
        assert await side.gone()
        assert await pool.take() is not connection


async def test_one_that_the_peer_closed_while_nobody_used_it_is_dropped():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        connection = await pool.take()
        side = await peer.accept()
        await used(connection, side)
        pool.give_back(connection)
        side.close()
        while not connection.closed:
            await asyncio.sleep(0)
        assert await pool.take() is not connection
        assert pool.dialled == 2


async def test_a_fresh_one_is_dialled_though_others_are_idle():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        connection = await pool.take()
        await used(connection, await peer.accept())
        pool.give_back(connection)
        fresh = await pool.take(fresh=True)
        assert fresh is not connection
        assert await pool.take() is connection


async def test_closing_the_pool_closes_idle_and_busy_ones():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        idle, busy = await pool.take(), await pool.take()
        sides = [await peer.accept(), await peer.accept()]
        await used(idle, sides[0])
        pool.give_back(idle)
        asking = asyncio.create_task(busy.exchange(REQUEST))
        await sides[1].request()
        pool.close()
        with pytest.raises(LostError):
            await asking
        assert all([await side.gone() for side in sides])


# ── Silence ─────────────────────────────────────────────────────────────────────────────────────────


async def test_silence_ends_whoever_waits_for_the_peer_and_nobody_else(monkeypatch):
    monkeypatch.setattr(pool_room, "WATCH_EVERY", 0.01)
    async with listening() as peer, pooled(origin_of(peer), read_timeout=0.05) as pool:
        before_head, in_body, unread, idle = [await pool.take() for _ in range(4)]
        sides = [await peer.accept() for _ in range(4)]
        await used(idle, sides[3])
        pool.give_back(idle)
        for connection, side in ((in_body, sides[1]), (unread, sides[2])):
            asking = asyncio.create_task(connection.exchange(REQUEST))
            await side.answers(OK[:-1])
            await asking
            await connection.read()  # what there is

        async def silent(wait):
            with pytest.raises(SilentError, match=r"0\.05 s"):
                await wait

        async with anyio.create_task_group() as group:
            group.start_soon(silent, before_head.exchange(REQUEST))
            group.start_soon(silent, in_body.read())
        assert before_head.closed
        assert in_body.closed
        assert not unread.closed, "its reader is busy with something else"
        assert not idle.closed
        await sides[2].send(b"k")
        assert bytes(await unread.read()) == b"k"


async def test_nobody_looks_when_no_connection_is_in_use(monkeypatch):
    monkeypatch.setattr(pool_room, "WATCH_EVERY", 0.0)
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        connection = await pool.take()
        await used(connection, await peer.accept())
        assert pool._watch is not None
        pool.give_back(connection)
        while pool._watch is not None:
            await asyncio.sleep(0)


# ── Addresses ───────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def a_port_that_refuses():
    """A port that nobody listens at, and nobody else gets."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_where_nobody_listens_there_is_no_connection_and_the_reason_is_said():
    with a_port_that_refuses() as port:
        async with pooled(Origin("http", "127.0.0.1", port)) as pool:
            with pytest.raises(UnreachableError, match=rf"127\.0\.0\.1:{port}: .*(refused|failed)") as caught:
                await pool.take()
            assert not caught.value.certificate
            assert pool.dialled == 0


async def test_a_name_that_means_nothing_is_said():
    async with pooled(Origin("http", "no-such-host.invalid", 80)) as pool:
        with pytest.raises(UnreachableError, match=r"no-such-host\.invalid: "):
            await pool.take()


async def test_an_address_of_ip_version_6_is_reached():
    try:
        async with listening("::1") as peer, pooled(origin_of(peer)) as pool:
            await used(await pool.take(), await peer.accept())
    except OSError:
        pytest.skip("there is no IPv6 here")


class Resolving(asyncio.SelectorEventLoop):
    """A loop whose resolver knows one more name; uvloop's cannot be told."""

    def __init__(self, *addresses):
        super().__init__()
        self.addresses, self.asked = addresses, 0

    async def getaddrinfo(self, host, port, **how):
        if host != "many.test":
            return await super().getaddrinfo(host, port, **how)
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


def on_a_loop_that_resolves(work, *addresses):
    loop = Resolving(*addresses)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work(loop))


def test_an_address_that_refuses_is_passed_over_for_one_that_does_not():
    async def work(loop):
        async with listening("127.0.0.2") as peer, pooled(origin_of(peer, "many.test")) as pool:
            for _ in range(3):
                connection = await pool.take()
                await used(connection, await peer.accept())
            assert (pool.dialled, peer.count) == (3, 3)
            assert loop.asked == 2, "looked up again after the failure, and then known"

    on_a_loop_that_resolves(work, "127.0.0.1", "127.0.0.2")


def test_connections_go_to_all_addresses_of_the_host():
    async def work(loop):
        async with listening("127.0.0.1") as one, listening("127.0.0.2", one.port) as two:
            async with pooled(origin_of(one, "many.test")) as pool:
                for _ in range(4):
                    await pool.take()
                assert (one.count, two.count, loop.asked) == (2, 2, 1)

    on_a_loop_that_resolves(work, "127.0.0.1", "127.0.0.2")


async def test_a_connection_that_does_not_come_about_in_time_is_given_up():
    # The queue of a listener that accepts nothing is full after two; what comes then gets no answer.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as waiting:
        for _ in range(3):
            queued = waiting.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(deaf.getsockname())
        async with pooled(Origin("http", *deaf.getsockname()), connect_timeout=0.05) as pool:
            with pytest.raises(UnreachableError, match="no answer in time"):
                await pool.take()


async def test_a_tls_handshake_that_does_not_end_counts_as_no_connection():
    async with listening() as peer:
        origin = origin_of(peer, scheme="https")
        async with pooled(origin, context=TlsSessions(None).context, connect_timeout=0.05) as pool:
            with pytest.raises(UnreachableError, match="no answer in time") as caught:
                await pool.take()
            assert not caught.value.certificate


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A server's context, and the file with the authority that vouches for it."""
    made = make_certificate()
    place = tmp_path_factory.mktemp("tls")
    (place / "chain.pem").write_bytes(made.chain + made.key)
    (place / "authority.pem").write_bytes(made.authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "chain.pem")
    return context, place / "authority.pem"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_that_the_bundle_vouches_for_is_trusted(certificate, host):
    context, authority = certificate
    async with listening(context=context) as peer:
        async with pooled(origin_of(peer, host, "https"), context=TlsSessions(authority).context) as pool:
            connection = await pool.take()
            await used(connection, await peer.accept())
            assert connection.tls.version() in {"TLSv1.2", "TLSv1.3"}
            assert connection.reusable


async def test_a_certificate_of_another_authority_is_refused(certificate, tmp_path):
    context, _ = certificate
    (tmp_path / "other.pem").write_bytes(make_certificate().authority)
    async with listening(context=context) as peer:
        sessions = TlsSessions(tmp_path / "other.pem")
        async with pooled(origin_of(peer, scheme="https"), context=sessions.context) as pool:
            with pytest.raises(UnreachableError, match=r"certificate|issuer|signature") as caught:
                await pool.take()
            assert caught.value.certificate
            assert pool.dialled == 0


def test_a_certificate_for_another_name_is_refused(certificate):
    context, authority = certificate

    async def work(loop):
        async with listening(context=context) as peer:
            async with pooled(origin_of(peer, "many.test", "https"), context=TlsSessions(authority).context) as pool:
                with pytest.raises(UnreachableError, match=r"many\.test") as caught:
                    await pool.take()
                assert caught.value.certificate

    on_a_loop_that_resolves(work, "127.0.0.1")


async def test_a_peer_that_speaks_no_tls_is_refused(certificate):
    async with listening() as peer:
        async with pooled(origin_of(peer, scheme="https"), context=TlsSessions(certificate[1]).context) as pool:
            async with anyio.create_task_group() as group:

                async def serve():
                    side = await peer.accept()
                    await side.reader.read(1)
                    await side.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

                group.start_soon(serve)
                with pytest.raises(UnreachableError) as caught:
                    await pool.take()
            assert caught.value.certificate


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_peer_that_goes_in_the_handshake_is_out_of_reach_and_not_distrusted(certificate, how):
    async with listening() as peer:
        async with pooled(origin_of(peer, scheme="https"), context=TlsSessions(certificate[1]).context) as pool:
            async with anyio.create_task_group() as group:

                async def serve():
                    side = await peer.accept()
                    await side.reader.read(1)
                    getattr(side, how)()

                group.start_soon(serve)
                with pytest.raises(UnreachableError) as caught:
                    await pool.take()
            assert not caught.value.certificate


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_second_connection_resumes_the_session_of_the_first(certificate, version, tmp_path):
    context, authority = certificate
    sessions = TlsSessions(authority)
    sessions.context.maximum_version = version
    async with listening(context=context) as peer:
        async with pooled(origin_of(peer, scheme="https"), context=sessions.context) as pool:
            resumed = []
            for _ in range(2):
                connection = await pool.take()
                side = await peer.accept()
                await used(connection, side)
                sessions.remember(peer.host, connection)
                resumed.append(side.writer.get_extra_info("ssl_object").session_reused)
            assert resumed == [False, True]


async def test_a_large_body_over_tls_comes_whole_to_a_reader_that_is_late(certificate):
    context, authority = certificate
    body = bytes(range(251)) * 8_192
    async with listening(context=context) as peer:
        async with pooled(origin_of(peer, scheme="https"), context=TlsSessions(authority).context) as pool:
            connection = await pool.take()
            side = await peer.accept()

            async def serve():
                await side.answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                side.close()

            async with anyio.create_task_group() as group:
                group.start_soon(serve)
                await connection.exchange(REQUEST)
                while not connection._paused:
                    await asyncio.sleep(0)
                received = bytearray()
                while piece := await connection.read():
                    received += piece
            assert received == body


@pytest.mark.parametrize("content", [None, "", "no certificate\n"])
def test_a_bundle_without_certificates_is_a_wrong_setting(tmp_path, content):
    bundle = tmp_path / "none.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(ConfigError, match=r"none\.pem cannot be used .*--ca-bundle"):
        tls_context(bundle)


def authorities(environment):
    """How many authorities a process trusts that has this environment, and whether it imported the SDK for that."""
    program = (
        "import sys; from sealift.s3.pool import tls_context\n"
        "print(tls_context(None).cert_store_stats()['x509_ca'], 'botocore' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    count, imported = said.stdout.split()
    return int(count), imported == "True"


def test_where_the_system_has_no_certificates_the_sdks_are_trusted(tmp_path):
    count, imported = authorities({"SSL_CERT_FILE": str(tmp_path / "none"), "SSL_CERT_DIR": str(tmp_path)})
    assert count > 100
    assert not imported


def test_where_the_system_has_some_only_those_are_trusted(certificate, tmp_path):
    assert authorities({"SSL_CERT_FILE": str(certificate[1]), "SSL_CERT_DIR": str(tmp_path)}) == (1, False)
    (tmp_path / "0123abcd.0").write_bytes(certificate[1].read_bytes())
    assert authorities({"SSL_CERT_FILE": str(tmp_path / "none"), "SSL_CERT_DIR": str(tmp_path)}) == (0, False)
