"""The store on the SDK, on a session of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from sealift.config import ConnectionSettings
from sealift.s3.sdk import SdkStore
from sealift.s3.sdksession import SdkSession
from tests.support.faultserver import FaultServer


@asynccontextmanager
async def sdk_store(settings: ConnectionSettings, *, connections: int = 4) -> AsyncIterator[SdkStore]:
    """Open a session, and the store on it."""
    async with SdkSession(settings, connections=connections) as session:
        yield SdkStore(session, settings)


@asynccontextmanager
async def store_at(server: FaultServer, **connection: Any) -> AsyncIterator[SdkStore]:
    """Open the store on a server of the tests'."""
    async with sdk_store(replace(ConnectionSettings(endpoint_url=server.url), **connection)) as store:
        yield store
