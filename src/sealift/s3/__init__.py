"""S3, seen from here: the only room that imports the SDK or speaks HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sealift.config import Settings
from sealift.s3.persistent import PersistentStore
from sealift.tally import Tally


@asynccontextmanager
async def connected(settings: Settings, tally: Tally) -> AsyncIterator[PersistentStore]:
    """Open the object store that `settings` describe, with one connection a worker and one a listing beside them.

    Raises ConfigError, CredentialsError.
    """
    from sealift.s3.transport import Transport

    def noted(text: str) -> None:
        tally.observer.noted("info", text)

    connections = settings.transfer.workers + LISTINGS
    async with Transport(settings.connection, connections=connections, noted=noted) as store:
        yield PersistentStore(store, settings.retry, told=tally.retry, access_for=store.access_for)


LISTINGS = 8
"""Connections for listings and heads, which are few: sources beyond these wait for each other, not for bodies."""
