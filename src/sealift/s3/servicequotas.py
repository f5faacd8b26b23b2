"""What Service Quotas says of the account's KMS quota: through the SDK, once a run at the most."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from sealift.config import ConnectionSettings
from sealift.errors import SourceError
from sealift.s3.plainhttp import refuse_plain_http
from sealift.s3.sdkerrors import first_line
from sealift.s3.sdksession import verified_by

SERVICE, SYMMETRIC_OPERATIONS = "kms", "L-6E3AF000"
"""Service Quotas' codes for "Cryptographic operations (symmetric) request rate"."""

PATIENCE = 5.0
"""Seconds to a connection, and to an answer: a run that waits longer for a number that it can do without is held up."""


async def account_quota(settings: ConnectionSettings, region: str) -> float:
    """Return how many symmetric operations a second the caller's account has in a Region.

    Raises SourceError, which says why that cannot be told, and ConfigError where it would go over plain HTTP.
    """
    if not settings.sign:
        raise SourceError("Service Quotas tells nobody without credentials")
    import aioboto3
    from aiobotocore.config import AioConfig
    from aiohttp import ClientError as AiohttpError
    from botocore.exceptions import BotoCoreError, ClientError

    config = AioConfig(
        connect_timeout=PATIENCE, read_timeout=PATIENCE, retries={"mode": "standard", "total_max_attempts": 2}
    )
    bundle = settings.ca_bundle or os.environ.get("AWS_CA_BUNDLE")
    try:
        async with AsyncExitStack() as stack:
            session = aioboto3.Session(profile_name=settings.profile, region_name=region)
            client = await stack.enter_async_context(
                session.client("service-quotas", verify=verified_by(bundle), config=config)
            )
            refuse_plain_http(client.meta.endpoint_url, allowed=settings.allow_http)
            quota = await _asked(client)
        return _rate(quota)
    except (BotoCoreError, ClientError, AiohttpError, OSError, ValueError, LookupError) as error:
        raise SourceError(f"Service Quotas does not tell ({first_line(error)})") from error


async def _asked(client: Any) -> Mapping[str, Any]:
    """Return the quota that was applied to the account; where none was, the default."""
    which = {"ServiceCode": SERVICE, "QuotaCode": SYMMETRIC_OPERATIONS}
    try:
        answer = await client.get_service_quota(**which)
    except client.exceptions.NoSuchResourceException:
        answer = await client.get_aws_default_service_quota(**which)
    quota: Mapping[str, Any] = answer["Quota"]
    return quota


def _rate(quota: Mapping[str, Any]) -> float:
    """Return the quota by the second. Raises ValueError where it is none."""
    units = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600}
    period = quota.get("Period", {})
    rate: float = float(quota["Value"]) / (period.get("PeriodValue", 1) * units[period.get("PeriodUnit", "SECOND")])
    if rate <= 0:
        raise ValueError(f"a quota of {quota['Value']}")
    return rate
