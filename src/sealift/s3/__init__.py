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
        yield PersistentStore(store, settings.retry, told=tally.retry, access_for=store.access_for, guard=store.guard)


LISTINGS = 32
"""Connections for listings and heads, beside those for bodies, and listers of all sources together. A page of 1,000
keys takes S3 100 to 200 ms, so these list about 200,000 keys a second, which is what one core can take in. They are a
twentieth of the 5,500 requests a second that S3 answers for each prefix ("Best practices design patterns")."""
