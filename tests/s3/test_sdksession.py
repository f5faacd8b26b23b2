"""The SDK's session: who asks, as the SDK finds it, and what it says and reads of itself."""

import os
import re
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from sealift.config import ConnectionSettings
from sealift.errors import ConfigError, CredentialsError
from sealift.model import ByteRange, Part
from sealift.s3.sdksession import SdkSession, parse_moment
from sealift.s3.store import PageRequest
from tests.support.sdk import store_at

pytestmark = pytest.mark.anyio


async def test_an_endpoint_from_the_environment_is_not_asked_over_plain_http_either(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.com")
    with pytest.raises(ConfigError, match=r"http://s3\.example\.com"):
        await SdkSession(ConnectionSettings(), connections=1).__aenter__()
    async with SdkSession(ConnectionSettings(allow_http=True), connections=1):
        pass


async def test_every_request_says_what_asks_it(server):
    async with store_at(server) as store:
        await store.list_page(PageRequest("bucket", ""))
    [request] = server.requests
    assert re.fullmatch(
        r"sealift/\S+ aiobotocore/\S+ Python/\S+ \S+ awscrt/\S+ botocore/\S+", request.headers["user-agent"]
    )


async def test_without_signing_there_is_no_signature_and_nothing_to_renew(server, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    server.put("bucket", "k", b"body")
    async with store_at(server, sign=False) as store:
        assert (await store.head("bucket", "k")).size == 4
        assert not await store.renew()
    assert "authorization" not in server.requests[0].headers


async def test_a_session_that_is_not_open_says_so():
    session = SdkSession(ConnectionSettings(endpoint_url="http://localhost:9"), connections=1)
    with pytest.raises(RuntimeError, match="not open"):
        await session.credentials()


# ── Times ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-17T08:30:00.000Z",
        "2024-05-17T08:30:00Z",
        "2024-05-17T08:30:00.123456Z",
        "2024-05-17T08:30:00+02:00",
        "20240517T083000Z",
        "Fri, 17 May 2024 08:30:00 GMT",
        "Friday, 17-May-24 08:30:00 GMT",
        "Fri, 17 May 2024 10:30:00 +0200",
        "1715934600",
        1715934600,  # in JSON, from other services of the same session
        1715934600.5,
    ],
)
def test_times_are_what_the_sdk_makes_of_them(text):
    assert parse_moment(text) == parse_timestamp(text)


@given(st.integers(0, 10**17))
def test_any_time_is_read_with_the_precision_it_was_written_with(microseconds):
    exact = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert parse_moment(exact.isoformat().replace("+00:00", "Z")) == exact
    assert parse_moment(exact.strftime("%a, %d %b %Y %H:%M:%S GMT")) == exact.replace(microsecond=0)


@pytest.mark.parametrize("text", ["2024-05-17T08:30:00", "Fri May 17 08:30:00 2024"])
def test_a_time_without_a_zone_is_utc(text):
    assert parse_moment(text) == datetime(2024, 5, 17, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01T00:00:00Z"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the SDK's own, which the seam makes one of ours
        parse_moment(text)


# ── Who asks ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def keys(monkeypatch, tmp_path):
    """Put an access key id into a shared credentials file, as a tool that rotates them does."""
    path = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    def write(access_key, *more):
        lines = ["[default]", f"aws_access_key_id = {access_key}", "aws_secret_access_key = hunter2", *more]
        path.write_text("\n".join(lines))

    return write


async def test_rotated_credentials_are_found_and_used_from_then_on(server, keys):
    keys("OLD")
    server.put("bucket", "k", b"body")
    async with store_at(server) as store:
        await store.head("bucket", "k")
        assert not await store.renew(), "nothing has changed yet"
        keys("NEW")
        assert await store.renew()
        await store.head("bucket", "k")
        keys("NEW", "aws_session_token = another")
        assert await store.renew(), "a fresh token is as good as a fresh key"
    assert [request.access_key for request in server.requests] == ["OLD", "NEW"]


async def test_a_profile_of_the_settings_goes_before_the_environments(server, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_PROFILE", "one")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    lines = [f"[{name}]\naws_access_key_id = {name.upper()}\naws_secret_access_key = s\n" for name in ("one", "two")]
    (tmp_path / "credentials").write_text("".join(lines))
    for profile in (None, "two"):
        async with store_at(server, profile=profile) as store:
            await store.list_page(PageRequest("bucket", ""))
    assert [request.access_key for request in server.requests] == ["ONE", "TWO"]


async def test_many_that_find_their_credentials_stale_renew_them_once(server, keys):
    keys("OLD")
    renewed = []
    async with store_at(server) as store:
        keys("NEW")

        async def renew():
            renewed.append(await store.renew())

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(renew)
        assert renewed == [True] * 5
        assert not await store.renew()


async def test_a_body_under_way_outlives_the_renewal_of_the_credentials(server, keys):
    keys("OLD")
    stored = server.put("bucket", "k", os.urandom(3_000_000))
    async with store_at(server) as store:
        remote = await store.head("bucket", "k")
        async with store.open(remote, Part(ByteRange(0, remote.size), whole=True)) as body:
            data = bytearray(await body.read())
            keys("NEW")
            assert await store.renew()
            while chunk := await body.read():
                data += chunk
    assert data == stored.body


@pytest.mark.parametrize(
    ("profile", "lines", "code", "error"),
    [
        (None, "", "NoCredentials", CredentialsError),
        (None, "[default]\naws_access_key_id = A", "PartialCredentialsError", CredentialsError),
        (None, "[default]\ncredential_process = /bin/false", "CredentialRetrievalError", CredentialsError),
        ("nobody", "[default]\naws_access_key_id = A\naws_secret_access_key = B", "ConfigError", ConfigError),
        (None, "no profile here", "ConfigError", ConfigError),
    ],
    ids=["none", "half", "a process that fails", "another profile", "no credentials file"],
)
async def test_credentials_that_cannot_be_had_end_it_before_it_begins(
    server, monkeypatch, tmp_path, profile, lines, code, error
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "file"))
    (tmp_path / "file").write_text(lines)
    with pytest.raises(error) as caught:
        await store_at(server, profile=profile).__aenter__()
    assert caught.value.code == code
    assert server.requests == []


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "something else"])
@pytest.mark.parametrize("named", ["in the settings", "in the environment"])
async def test_a_ca_bundle_that_is_none_is_told_at_once(server, monkeypatch, tmp_path, content, named):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    if named == "in the environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(ConfigError, match=r"bundle\.pem cannot be used"):
        await store_at(server, ca_bundle=bundle if named == "in the settings" else None).__aenter__()
