"""Plain HTTP, and where it stays on this machine."""

import pytest

from sealift.errors import ConfigError
from sealift.s3.plainhttp import refuse_plain_http


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.example.com",
        "http://127.0.0.1:9000",
        "http://127.8.9.10",
        "http://[::1]:9000",
        "http://localhost:9000",
        "http://minio.localhost",
    ],
)
def test_what_stays_on_this_machine_or_is_encrypted_is_not_refused(endpoint):
    refuse_plain_http(endpoint, allowed=False)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://s3.example.com",
        "http://10.0.0.1:9000",
        "http://0.0.0.0:9000",
        "http://[fe80::1]",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "http://2130706433",
        "ftp://127.0.0.1.example.com",
        "http://",
    ],
)
def test_everything_else_is_refused_unless_it_was_asked_for(endpoint):
    with pytest.raises(ConfigError, match="--allow-http"):
        refuse_plain_http(endpoint, allowed=False)
    refuse_plain_http(endpoint, allowed=True)


def test_a_refused_address_does_not_tell_who_would_have_signed_in():
    with pytest.raises(ConfigError) as caught:
        refuse_plain_http("http://user:hunter2@s3.example.com/path", allowed=False)
    assert "http://s3.example.com is not encrypted" in caught.value.message
    assert "hunter2" not in caught.value.message
