"""What a file or an inventory names becomes pages of objects, each with its source, as a listing's are.

1. Names of other shards are left out, and so is what was named before: an object is fetched once.
2. A file's names that lie under no source have failed; an inventory may well have others than those that are meant.
3. What is not said of an object is looked up (`sealift.naming`). What there is not has failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from anyio.to_thread import run_sync

from sealift.errors import ConfigError, ObjectError, Permanent, SourceError
from sealift.inventory import Inventory
from sealift.listed import AT_ONCE, Listed
from sealift.manifest import Named
from sealift.model import RemoteObject
from sealift.naming import Names, look_up
from sealift.s3.store import ObjectStore
from sealift.selection import Ownership, Source
from sealift.sharding import Shard
from sealift.tally import Tally

Page = dict[Source, list[RemoteObject]]
"""Objects by their sources."""


class Intake:
    """Takes in what is named, and counts it."""

    def __init__(
        self, ownership: Ownership, tally: Tally, *, shard: Shard | None, named: Listed | None, versions: Listed | None
    ) -> None:
        """`named` takes down which objects were named, and `versions` which versions of them were found."""
        self._ownership = ownership
        self._tally = tally
        self._shard = shard
        self._named = named
        self._versions = versions
        self._buckets = {source.bucket for _, source in ownership.sources}
        self._again = 0

    async def pages(
        self, store: ObjectStore, names: Names | Inventory, take: Callable[[Page], Awaitable[None]]
    ) -> bool:
        """Let `take` have all that is named, and return whether that is anything.

        Raises ConfigError; SourceError, once something was taken.
        """
        batches, of_a_file = 0, isinstance(names, Names)
        while batch := await self._next(names, first=not batches):
            batches += 1
            await take(await self._known(store, batch, of_a_file=of_a_file))
        for remark in names.remarks():
            self._tally.observer.noted("warning" if of_a_file else "info", remark)
        if self._again:
            self._warn(f"objects that {names.name} names again are mirrored once: {self._again:,}")
        if not self._tally.listed:
            self._warn(f"{names.name} names nothing{' under the SOURCEs' if batches else ''}")
        return self._tally.listed > 0

    def in_vain(self, remote: RemoteObject, error: ObjectError) -> None:
        """Count an object that was named and cannot be had, if it is meant at all."""
        meant = self._shard is None or self._shard.has(remote.key)
        if meant and self._ownership.covers(remote.bucket, remote.key):
            self._failed(remote, error)

    async def new_among(self, bucket: str, remotes: Sequence[RemoteObject]) -> Sequence[RemoteObject]:
        """Return those of some listed objects that were not named as they are."""
        known: set[tuple[str, str]] = set()
        if self._versions is not None:
            for start in range(0, len(remotes), AT_ONCE):
                some = [(bucket, _version(remote)) for remote in remotes[start : start + AT_ONCE]]
                known |= await run_sync(self._versions.among, some)
        return [remote for remote in remotes if (bucket, _version(remote)) not in known]

    async def _next(self, names: Names | Inventory, *, first: bool) -> list[Named]:
        try:
            batch = await names.batch()
            if len(self._buckets) > 1:
                _refuse_bare(names.name, batch)
        except ConfigError as error:
            if first:
                raise
            raise SourceError(f"{error.message}; nothing from there on was mirrored", code="BadManifest") from error
        return batch

    async def _known(self, store: ObjectStore, batch: Sequence[Named], *, of_a_file: bool) -> Page:
        """Return the objects that some names stand for. Those that there are not have failed then."""
        wanted = []
        for (bucket, key), named in (await self._fresh(batch)).items():
            if self._ownership.covers(bucket, key):
                wanted.append(named._replace(bucket=bucket))
            elif of_a_file and not self._ownership.contains(bucket, key):
                self._failed(RemoteObject(bucket, key, 0, "", 0), _outside(bucket, key))
        page: Page = {}
        for remote in await look_up(store, wanted, self._failed):
            if source := self._ownership.source_of(remote.bucket, remote.key):
                page.setdefault(source, []).append(remote)
        if self._versions is not None:
            for source, remotes in page.items():
                await run_sync(self._versions.add, source.bucket, list(map(_version, remotes)))
        self._tally.list(sum(map(len, page.values())))
        return page

    async def _fresh(self, batch: Sequence[Named]) -> dict[tuple[str, str], Named]:
        """Return what of a batch is this shard's, and was not named before, by bucket and key."""
        bucket = next(iter(self._buckets))
        if self._shard is not None:
            batch = [named for named in batch if self._shard.has(named.key)]
        fresh: dict[tuple[str, str], Named] = {}
        for named in batch:
            fresh.setdefault((named.bucket or bucket, named.key), named)
        if self._named is not None:
            objects = list(fresh)
            for start in range(0, len(objects), AT_ONCE):
                for again in await run_sync(self._named.among, objects[start : start + AT_ONCE]):
                    del fresh[again]
            for where in {where for where, _ in fresh}:
                await run_sync(self._named.add, where, [key for there, key in fresh if there == where])
        self._again += len(batch) - len(fresh)
        return fresh

    def _failed(self, remote: RemoteObject, error: ObjectError) -> None:
        self._tally.list(1)
        self._tally.fail(remote, error)

    def _warn(self, text: str) -> None:
        self._tally.observer.noted("warning", text)


def _version(remote: RemoteObject) -> str:
    """Return what tells one version of one object from all others of its bucket. No ETag has a NUL."""
    return f"{remote.etag}\0{remote.key}"


def _refuse_bare(name: str, batch: Sequence[Named]) -> None:
    for named in batch:
        if not named.bucket:
            raise ConfigError(
                f"{name}, line {named.line}: {named.key!r} does not say in which bucket, and the SOURCEs are in "
                "several: write s3://BUCKET/KEY"
            )


def _outside(bucket: str, key: str) -> Permanent:
    return Permanent(
        f"s3://{bucket}/{key} lies under no SOURCE: name one under which it does",
        bucket=bucket,
        key=key,
        code="OutsideSource",
    )
