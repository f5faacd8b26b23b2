"""The store on the SDK, where the SDK alone would do something else."""

import asyncio
import ssl

import pytest

from sealift.config import ConnectionSettings
from sealift.errors import ConfigError, SourceError
from sealift.s3.sdksession import SdkSession
from sealift.s3.store import PageRequest
from sealift.sandbox.certificate import make_certificate
from tests.support.sdk import sdk_store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def https_url(tmp_path, monkeypatch):
    """A server whose certificate nobody vouches for. What it hears would be a request in the clear."""
    certificate = make_certificate()
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate.chain + certificate.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("missing", [True, False])
async def test_certificates_that_cannot_be_read_are_a_wrong_setting(https_url, tmp_path, missing):
    bundle = tmp_path / "none.pem"
    if not missing:
        bundle.write_text("no certificate\n")
    with pytest.raises(ConfigError, match=r"none\.pem cannot be used .*--ca-bundle"):
        async with SdkSession(ConnectionSettings(endpoint_url=https_url, ca_bundle=bundle), connections=1):
            pass


def by_an_empty_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CA_BUNDLE", "")


def by_an_empty_setting(monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[default]\nca_bundle =\n")


@pytest.mark.parametrize("emptied", [by_an_empty_variable, by_an_empty_setting])
async def test_no_empty_setting_switches_certificates_off(https_url, monkeypatch, tmp_path, emptied):
    emptied(monkeypatch, tmp_path)
    async with sdk_store(ConnectionSettings(endpoint_url=https_url)) as store:
        with pytest.raises(SourceError) as caught:
            await store.list_page(PageRequest("bucket", ""))
    assert caught.value.code == "TLSError"
