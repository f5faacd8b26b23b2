"""A certificate for the servers of these tests."""

import ssl

import pytest

from sealift.sandbox.certificate import make_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A server's context, and the file with the authority that vouches for it."""
    made = make_certificate()
    place = tmp_path_factory.mktemp("tls")
    (place / "chain.pem").write_bytes(made.chain + made.key)
    (place / "authority.pem").write_bytes(made.authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "chain.pem")
    return context, place / "authority.pem"
