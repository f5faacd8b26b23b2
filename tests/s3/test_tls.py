"""TLS: whom it trusts, what it resumes, and when a stream has come to its end."""

import asyncio
import os
import ssl
import subprocess
import sys

import anyio
import pytest

from sealift.errors import ConfigError
from sealift.s3.connection import LostError
from sealift.s3.pool import UnreachableError
from sealift.s3.tls import tls_context
from sealift.sandbox.certificate import make_certificate
from tests.support.peer import Side, listening
from tests.support.pooling import REQUEST, on_a_loop_that_resolves, origin_of, pooled, used

pytestmark = pytest.mark.anyio

versions = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_that_the_bundle_vouches_for_is_trusted(certificate, host):
    context, authority = certificate
    async with listening(context=context) as peer:
        async with pooled(origin_of(peer, host, "https"), context=tls_context(authority)) as pool:
            connection = await pool.take_fresh()
            await used(connection, await peer.accept())
            assert connection.tls.version() in {"TLSv1.2", "TLSv1.3"}
            assert connection.reusable


async def test_a_certificate_of_another_authority_is_refused(certificate, tmp_path):
    context, _ = certificate
    (tmp_path / "other.pem").write_bytes(make_certificate().authority)
    async with listening(context=context) as peer:
        ours = tls_context(tmp_path / "other.pem")
        async with pooled(origin_of(peer, scheme="https"), context=ours) as pool:
            with pytest.raises(UnreachableError, match=r"certificate|issuer|signature") as caught:
                await pool.take_fresh()
            assert caught.value.certificate
            assert pool.dialled == 0


def test_a_certificate_for_another_name_is_refused(certificate):
    context, authority = certificate

    async def work(loop):
        async with listening(context=context) as peer:
            async with pooled(origin_of(peer, "many.test", "https"), context=tls_context(authority)) as pool:
                with pytest.raises(UnreachableError, match=r"many\.test") as caught:
                    await pool.take_fresh()
                assert caught.value.certificate

    on_a_loop_that_resolves(work, "127.0.0.1")


async def test_a_peer_that_speaks_no_tls_is_refused(certificate):
    async with listening() as peer:
        async with pooled(origin_of(peer, scheme="https"), context=tls_context(certificate[1])) as pool:
            async with anyio.create_task_group() as group:

                async def serve():
                    side = await peer.accept()
                    await side.reader.read(1)
                    await side.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

                group.start_soon(serve)
                with pytest.raises(UnreachableError) as caught:
                    await pool.take_fresh()
            assert caught.value.certificate


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_peer_that_goes_in_the_handshake_is_out_of_reach_and_not_distrusted(certificate, how):
    async with listening() as peer:
        async with pooled(origin_of(peer, scheme="https"), context=tls_context(certificate[1])) as pool:
            async with anyio.create_task_group() as group:

                async def serve():
                    side = await peer.accept()
                    await side.reader.read(1)
                    getattr(side, how)()

                group.start_soon(serve)
                with pytest.raises(UnreachableError) as caught:
                    await pool.take_fresh()
            assert not caught.value.certificate


@versions
async def test_the_second_connection_resumes_the_session_of_the_first(certificate, version, tmp_path):
    context, authority = certificate
    ours = tls_context(authority)
    ours.maximum_version = version
    async with listening(context=context) as peer:
        async with pooled(origin_of(peer, scheme="https"), context=ours) as pool:
            resumed = []
            for _ in range(2):
                connection = await pool.take_fresh()
                side = await peer.accept()
                await used(connection, side)
                ours.remember(peer.host, connection.tls)
                resumed.append(side.writer.get_extra_info("ssl_object").session_reused)
            assert resumed == [False, True]


async def test_a_large_body_over_tls_comes_whole_to_a_reader_that_is_late(certificate):
    context, authority = certificate
    body = bytes(range(251)) * 8_192
    async with listening(context=context) as peer:
        async with pooled(origin_of(peer, scheme="https"), context=tls_context(authority)) as pool:
            connection = await pool.take_fresh()
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


ANSWERS = {
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    "in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
    "until it closes": b"HTTP/1.1 200 OK\r\n\r\nhello world",
}


async def body_of(certificate, version, answer, end):
    """What is read over TLS of an answer behind which the peer brings the stream to an `end`."""
    context, authority = certificate
    ours = tls_context(authority)
    ours.maximum_version = version
    body = bytearray()
    async with listening(context=context) as peer:
        async with pooled(origin_of(peer, scheme="https"), context=ours) as pool:
            connection = await pool.take_fresh()
            side = await peer.accept()

            async def serve():
                await side.answers(answer)
                end(side)

            serving = asyncio.create_task(serve())
            with anyio.fail_after(20):
                await connection.exchange(REQUEST)
                while piece := await connection.read():
                    body += piece
            await serving
    return bytes(body)


@versions
@pytest.mark.parametrize("answer", [answer[:-2] for answer in ANSWERS.values()], ids=ANSWERS)
async def test_a_body_whose_stream_was_cut_below_tls_is_never_taken_for_complete(certificate, version, answer):
    with pytest.raises(LostError):
        await body_of(certificate, version, answer, Side.cut)


@versions
async def test_a_body_without_a_length_ends_with_the_peers_word_for_it(certificate, version):
    answer = ANSWERS["until it closes"]
    assert await body_of(certificate, version, answer, Side.close) == b"hello world"
    with pytest.raises(LostError):
        await body_of(certificate, version, answer, Side.cut)


@versions
@pytest.mark.parametrize("framing", ["with a length", "in chunks"])
async def test_a_body_that_says_where_it_ends_needs_no_other_end(certificate, version, framing):
    assert await body_of(certificate, version, ANSWERS[framing], Side.cut) == b"hello world"


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
        "import sys; from sealift.s3.tls import tls_context\n"
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
