"""Which caps on requests to KMS hold for a run: shares of quotas become rates, and a shard has its part of each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from sealift.config import KmsSettings, Settings
from sealift.errors import SourceError
from sealift.quota import default_quota
from sealift.s3.persistent import PersistentStore
from sealift.s3.servicequotas import account_quota
from sealift.tally import Observer
from sealift.timetable import Timetable


async def settled_caps(
    store: PersistentStore, settings: Settings, buckets: Iterable[str], observer: Observer
) -> tuple[KmsSettings, dict[str, float]]:
    """Return what is set for this run's part, and the caps of single Regions. Raises ConfigError.

    `observer` hears what the account's quotas are.
    """
    kms, shard = settings.kms, settings.selection.shard
    caps = await _shares(store, settings, buckets, observer)
    if shard is not None:
        caps = {region: cap / shard.count for region, cap in caps.items()}
        hours = Timetable(kms.rps, kms.timetable).shared(shard.count)
        kms = replace(kms, rps=hours.most, timetable=hours.slots)
    return kms, caps


async def _shares(
    store: PersistentStore, settings: Settings, buckets: Iterable[str], observer: Observer
) -> dict[str, float]:
    """Return what the share of the account's quota is, for each Region."""
    share, caps = settings.kms.share, dict[str, float]()
    if share is None:
        return caps
    for region in sorted({await _region(store, settings, bucket) for bucket in set(buckets)}):
        try:
            rate = await account_quota(settings.connection, region)
        except SourceError as error:
            rate = default_quota([region]).rate
            observer.noted(
                "warning", f"--kms-share is taken of the default quota of {region}, {rate:,.10g}/s: {error.message}"
            )
        else:
            observer.noted("info", f"the account's KMS quota in {region} is {rate:,.10g}/s")
        caps[region] = rate * share / 100
    return caps


async def _region(store: PersistentStore, settings: Settings, bucket: str) -> str:
    """Return the Region of a bucket, where its keys are."""
    access = await store.access_for([bucket])
    if access is not None:
        return (await access.route(bucket)).region
    environ = os.environ.get
    return settings.connection.region or environ("AWS_REGION") or environ("AWS_DEFAULT_REGION") or "us-east-1"
