"""Asking Service Quotas for the account's KMS quota."""

import pytest

from sealift.config import ConnectionSettings
from sealift.errors import ConfigError, SourceError
from sealift.s3.servicequotas import account_quota
from tests.support.servicequotas import applied, refused, service_quotas

pytestmark = pytest.mark.anyio
NONE_APPLIED = refused("NoSuchResourceException", "The request failed because the specified resource does not exist.")
DENIED = refused("AccessDeniedException", "User: arn:aws:iam::111122223333:user/u is not authorized")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


async def asked(service, monkeypatch, settings=None):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", service.url)
    return await account_quota(settings or ConnectionSettings(), "eu-central-1")


async def test_the_quota_that_was_applied_is_the_accounts(monkeypatch):
    async with service_quotas(GetServiceQuota=applied(15_000)) as service:
        assert await asked(service, monkeypatch) == 15_000
    assert service.asked == [("GetServiceQuota", {"ServiceCode": "kms", "QuotaCode": "L-6E3AF000"})]


async def test_where_none_was_applied_the_default_is(monkeypatch):
    async with service_quotas(GetServiceQuota=NONE_APPLIED, GetAWSDefaultServiceQuota=applied(20_000)) as service:
        assert await asked(service, monkeypatch) == 20_000


async def test_a_quota_by_the_minute_is_one_by_the_second(monkeypatch):
    period = {"PeriodValue": 5, "PeriodUnit": "MINUTE"}
    async with service_quotas(GetServiceQuota=applied(30_000, period)) as service:
        assert await asked(service, monkeypatch) == 100


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"GetServiceQuota": DENIED}, "AccessDeniedException"),
        ({"GetServiceQuota": NONE_APPLIED, "GetAWSDefaultServiceQuota": DENIED}, "AccessDeniedException"),
        ({"GetServiceQuota": applied(0)}, "a quota of 0"),
        ({"GetServiceQuota": applied(9, {"PeriodValue": 1, "PeriodUnit": "WEEK"})}, "WEEK"),
        ({"GetServiceQuota": (200, {})}, "Quota"),
    ],
)
async def test_whatever_else_it_says_is_why_it_does_not_tell(monkeypatch, answers, why):
    async with service_quotas(**answers) as service:
        with pytest.raises(SourceError, match=why):
            await asked(service, monkeypatch)


async def test_nobody_there_is_why_it_does_not_tell(monkeypatch):
    async with service_quotas() as service:
        pass
    with pytest.raises(SourceError, match="does not tell"):
        await asked(service, monkeypatch)


async def test_it_is_not_asked_without_credentials_nor_over_plain_http(monkeypatch):
    with pytest.raises(SourceError, match="without credentials"):
        await account_quota(ConnectionSettings(sign=False), "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", "http://quotas.example")
    with pytest.raises(ConfigError, match="not encrypted on the way"):
        await account_quota(ConnectionSettings(), "eu-central-1")
