"""A plain SDK client for everything that is not a mirror: filling the sandbox, tests, oracles."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, TypeAlias

S3Client: TypeAlias = Any
"""An SDK client: made at run time from a service's description, so there is no type to name."""


def open_client(
    *,
    endpoint_url: str,
    access_key: str,
    secret_key: str,
    region: str,
    ca_bundle: Path | None = None,
    addressing_style: Literal["path", "virtual", "auto"] = "path",
    connections: int = 32,
) -> AbstractAsyncContextManager[S3Client]:
    """Return an aioboto3 S3 client, to be entered; it hears nothing of AWS's own files, profiles and proxies.

    The SDK's retries are off, so that every request is one request to count.
    """
    import aioboto3
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    # For each variable of a session: its name in a profile, the environment's, its value, a conversion.
    nowhere = (None, None, os.devnull, None)
    quiet_variables = {"profile": (None,) * 4, "config_file": nowhere, "credentials_file": nowhere}
    quiet = AioSession(session_vars=quiet_variables)
    session = aioboto3.Session(
        botocore_session=quiet, aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name=region
    )
    config = AioConfig(
        s3={"addressing_style": addressing_style},
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={},
    )
    verify = None if ca_bundle is None else os.fspath(ca_bundle)
    client: AbstractAsyncContextManager[S3Client] = session.client(
        "s3", endpoint_url=endpoint_url, verify=verify, config=config
    )
    return client
