"""Caps on requests to KMS: shares of a quota, and parts of a shard."""

import pytest

import sealift
from sealift import KmsSettings, SelectionSettings
from sealift.capping import settled_caps
from sealift.s3 import connected
from sealift.sharding import Shard
from sealift.tally import Observers, Tally
from tests.support.running import Watcher, fill, mirror, settings_for
from tests.support.servicequotas import applied, refused, service_quotas

pytestmark = pytest.mark.anyio


async def test_a_share_is_one_of_the_quota_that_service_quotas_tells(server, tmp_path, monkeypatch):
    fill(server, {"a": b"x"})
    async with service_quotas(GetServiceQuota=applied(5_000)) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", service.url)
        shares = [KmsSettings(share=10), KmsSettings(share=10, rps=7)]
        plans = [await sealift.plan(["s3://bucket"], tmp_path, settings_for(server, kms=kms)) for kms in shares]
        summary = await mirror(server, tmp_path, kms=KmsSettings(share=10))
    assert [plan.kms.rate for plan in plans] == [500, 7]
    assert summary.downloaded == 1
    assert len(service.asked) == 3


async def test_where_service_quotas_does_not_tell_the_share_is_one_of_the_default_and_that_is_said(
    server, tmp_path, monkeypatch
):
    fill(server, {"a": b"x"})
    watcher = Watcher()
    async with service_quotas(GetServiceQuota=refused("AccessDeniedException", "no")) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", service.url)
        settings = settings_for(server, kms=KmsSettings(share=10), region="eu-west-2")
        forecast = await sealift.plan(["s3://bucket"], tmp_path, settings, observer=watcher)
    assert (forecast.kms.rate, forecast.kms.rate_source) == (2_000, "cap")
    assert any("default quota of eu-west-2, 20,000/s" in note and "AccessDenied" in note for note in watcher.notes)


async def test_the_cap_on_kms_is_for_all_shards_together(server):
    for shard, cap in ((Shard(1, 3), 1000), (None, 3000)):
        chosen = settings_for(server, selection=SelectionSettings(shard=shard), kms=KmsSettings(rps=3000))
        tally = Tally(Observers(), 0.0)
        async with connected(chosen, tally) as store:
            kms, caps = await settled_caps(store, chosen, ["bucket"], tally.observer)
        assert (kms.rps, caps) == (cap, {})
