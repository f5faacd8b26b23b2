"""What is looked at through the SDK is what the account model says, and nothing is changed by looking."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from sealift.config import ConnectionSettings
from sealift.diagnosis.facts import Caller, Unseen
from sealift.errors import ConfigError, SourceError
from sealift.s3.looks import SdkLooks
from tests.support.accounts import BUCKET, ONE, PREFIX, TWO, AccountLooks, delegation, granted, statement
from tests.support.accountserver import AccountServer
from tests.support.faultserver import FaultServer

pytestmark = pytest.mark.anyio

LOOKING = [
    statement("Allow", ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListGrants"], ["*"]),
    statement("Allow", ["s3:GetBucketPolicy", "s3:GetEncryptionConfiguration", "s3:GetBucketRequestPayment"], ["*"]),
]


@pytest.mark.parametrize("looking", [False, True])
@pytest.mark.parametrize(("bucket", "key"), [(ONE, ONE), (TWO, TWO)])
async def test_bucket_and_key_look_the_same_over_the_network_as_in_the_model(monkeypatch, looking, bucket, key):
    accounts = granted(bucket=bucket, key=key, bucket_key=True)
    if looking:
        accounts.identity += LOOKING
        accounts.key_policy.append(delegation(key))
    model = AccountLooks(accounts)
    async with AccountServer(accounts) as server, SdkLooks(ConnectionSettings()) as looks:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        assert (await looks.identity()).caller == (await model.identity()).caller
        seen, expected = await looks.bucket(BUCKET, PREFIX, ONE), await model.bucket(BUCKET, PREFIX, ONE)
        assert (seen.reached, seen.region, seen.mine) == (expected.reached, expected.region, expected.mine)
        for found, modelled in (
            (seen.encryption, expected.encryption),
            (seen.requester_pays, expected.requester_pays),
            (seen.policy, expected.policy),
        ):
            assert isinstance(found, Unseen) == isinstance(modelled, Unseen) == (not looking or bucket != ONE)
            assert isinstance(found, Unseen) or _bare(found) == modelled
        of_key, of_model = await looks.key(accounts.key_arn), await model.key(accounts.key_arn)
        assert isinstance(of_key.described, Unseen) == isinstance(of_model.described, Unseen)
        assert isinstance(of_key.policy, Unseen) == isinstance(of_model.policy, Unseen)
        assert isinstance(of_key.grants, Unseen) == isinstance(of_model.grants, Unseen)
        assert isinstance(await looks.quota("eu-central-1"), Unseen)
    assert {request.method for request in server.requests if request.bucket} <= {"GET", "HEAD"}
    assert all(action.partition(":")[2].startswith(("Get", "List", "Describe")) for action in server.asked)


async def test_why_it_cannot_be_seen_leaves_out_what_is_secret_in_an_address():
    settings = ConnectionSettings(endpoint_url="http://user:hunter2@127.0.0.1:9", sign=False)
    async with SdkLooks(settings) as looks:
        reached = (await looks.bucket(BUCKET, PREFIX, "")).reached
    assert reached is not None
    assert "127.0.0.1:9" in reached.message
    assert "hunter2" not in reached.message


@pytest.mark.parametrize(("bucket", "mine"), [(ONE, True), (TWO, False)])
async def test_whose_a_bucket_is_can_be_told_by_those_who_may_list_one_prefix_of_it(monkeypatch, bucket, mine):
    accounts = granted(bucket=bucket, list_="absent", bucket_policy="absent")
    only = {"Condition": {"StringLike": {"s3:prefix": f"{PREFIX}*"}}}
    for policy, who in ((accounts.identity, ""), (accounts.bucket_policy, accounts.role)):
        policy.append(statement("Allow", ["s3:ListBucket"], [accounts.bucket_arn], who) | only)
    async with AccountServer(accounts) as server, SdkLooks(ConnectionSettings()) as looks:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        seen = await looks.bucket(BUCKET, PREFIX, ONE)
        assert isinstance(seen.reached, Unseen)
        assert seen.mine == mine
        assert (await looks.bucket(BUCKET, "other/", ONE)).mine is None


def _bare(found: object) -> object:
    return {name: value for name, value in found.items() if name != "Version"} if isinstance(found, dict) else found


async def test_the_clock_is_compared_with_that_of_sts(monkeypatch):
    async with AccountServer(granted()) as server, SdkLooks(ConnectionSettings()) as looks:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        skew = (await looks.identity()).skew
    assert skew is not None
    assert abs(skew) < 60


async def test_credentials_that_cannot_be_had_are_told_without_an_error(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with SdkLooks(ConnectionSettings()) as looks:
        caller = (await looks.identity()).caller
        assert isinstance(caller, Unseen)
        assert caller.code == "NoCredentials"


async def test_unsigned_requests_have_no_caller():
    async with SdkLooks(ConnectionSettings(sign=False)) as looks:
        caller = (await looks.identity()).caller
        assert isinstance(caller, Unseen)
        assert caller.code == "NotSigned"


async def test_credentials_that_end_say_when(monkeypatch):
    """As a container gets them, from an endpoint beside it."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    given = {
        "AccessKeyId": "AKIDEXAMPLE",
        "SecretAccessKey": "not-a-secret",
        "Token": "token",
        "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(given).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    async with await asyncio.start_server(give, "127.0.0.1", 0) as beside, AccountServer(granted()) as server:
        port = beside.sockets[0].getsockname()[1]
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/credentials")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        async with SdkLooks(ConnectionSettings()) as looks:
            identity = await looks.identity()
    assert (identity.provider, identity.expires) == ("container-role", ends)
    assert isinstance(identity.caller, Caller)


async def test_an_s3_of_ones_own_keeps_its_credentials_from_awss_other_services():
    settings = ConnectionSettings(endpoint_url="http://127.0.0.1:9")
    async with SdkLooks(settings) as looks:
        caller = (await looks.identity()).caller
        key = await looks.key("arn:aws:kms:us-east-1:111122223333:key/x")
        quota = await looks.quota("us-east-1")
    for answer in (caller, key.described, key.policy, key.grants, quota):
        assert isinstance(answer, Unseen)
        assert answer.code == "NotAws"


async def test_an_endpoint_that_nobody_answers_at_is_the_sources_fault():
    async with FaultServer() as gone:
        pass
    async with SdkLooks(ConnectionSettings(endpoint_url=gone.url.replace("http:", "https:"))) as looks:
        with pytest.raises(SourceError, match="cannot be reached"):
            await looks.endpoint(BUCKET)


async def test_tls_is_told_by_its_version_and_a_certificate_that_nobody_vouches_for_is_not_borne(certificate):
    context, authority = certificate
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with SdkLooks(ConnectionSettings(endpoint_url=url, ca_bundle=authority)) as looks:
            seen = await looks.endpoint(BUCKET)
            assert (seen.host, seen.addresses, seen.tls) == ("127.0.0.1", 1, "TLSv1.3")
        async with SdkLooks(ConnectionSettings(endpoint_url=url)) as looks:
            with pytest.raises(SourceError, match="--ca-bundle") as refused:
                await looks.endpoint(BUCKET)
    assert refused.value.code == "TLSError"


async def test_plain_http_is_refused_as_everywhere():
    async with SdkLooks(ConnectionSettings(endpoint_url="http://192.0.2.1")) as looks:
        with pytest.raises(ConfigError, match="not encrypted"):
            await looks.endpoint(BUCKET)


async def test_a_profile_that_there_is_not_is_a_matter_of_configuration():
    with pytest.raises(ConfigError, match="cannot be used"):
        async with SdkLooks(ConnectionSettings(profile="nobody")):
            pass
