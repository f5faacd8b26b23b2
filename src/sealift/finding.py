"""What the sources of a run hold, page by page: listed, or named by a file or an inventory.

1. Every source is listed at once, each by several listers (`sealift.listing`), which begin where the last listing has
   shown that it can be split; a page goes on as it comes. Or a file names the objects (`sealift.naming`), or an
   inventory does (`sealift.inventory`), and nothing is listed; or only what is new since.
2. An object that several sources cover is that of one of them, and what is another shard's is left out.
3. A listing that fails ends alone, and its failure is kept: what it had listed is worth fetching.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from anyio.to_thread import run_sync

from sealift.config import SelectionSettings
from sealift.errors import AccessError, ConfigError, ObjectError, SealiftError, SourceError
from sealift.foresight import Foresight
from sealift.intake import Intake, Page
from sealift.inventory import Inventory
from sealift.ledger import Ledger
from sealift.listed import Listed
from sealift.listing import list_prefix
from sealift.localpath import encoded
from sealift.model import RemoteObject
from sealift.naming import Names
from sealift.retry import RetrySettings
from sealift.s3 import LISTINGS
from sealift.s3.store import Leave, ObjectStore, PageRequest
from sealift.selection import Ownership, Selection, Source
from sealift.snapshot import Snapshot
from sealift.splitting import Landmarks
from sealift.tally import Tally

PAGES_AHEAD = 4
"""Listed pages that wait to be compared: enough to hide a page's round trip, 4,000 objects at the most."""

Take = Callable[[Source, Sequence[RemoteObject]], Awaitable[None]]
"""Takes some objects of a source."""
_Found = tuple[Source, Sequence[RemoteObject]]


class Finder:
    """Finds what is to be mirrored. Say what to `use`; then `find` it."""

    def __init__(
        self, sources: Sequence[Source], chosen: SelectionSettings, tally: Tally, *, dry: bool = False
    ) -> None:
        """`dry`: nothing is remembered, and clashes are counted instead of being met on the disk."""
        self._chosen = chosen
        self._tally = tally
        self._dry = dry
        self.several = len(sources) > 1
        """Each bucket has a directory of its own."""
        self.ownership = Ownership(sources, Selection(chosen.filters))
        named = chosen.files_from is not None or chosen.inventory is not None
        self.to_list = named + (0 if named and not chosen.then_list else len(self.ownership.sources))
        """Listings that have not come to their end."""
        self.errors: list[SealiftError] = []
        """What ended some of them."""
        self.nothing_under_some = False
        """A source holds nothing."""
        self.escaped = 0
        """Objects whose own name is needed for a directory, as far as that was foreseen."""
        self._names: Names | Inventory | None = None
        self._intake = Intake(self.ownership, tally, shard=chosen.shard, named=None, versions=None)
        self._ledger: Ledger | None = None
        self._listed: Listed | None = None

    @property
    def all_listed(self) -> bool:
        """Whether everything was listed: what no listing has shown is not there."""
        return not self.to_list and self._names is None

    def use(self, ledger: Ledger | None, listed: Listed | None, names: Names | None) -> None:
        """Split listings where the `ledger` says, let `listed` take down what there is, and a file name the objects."""
        self._ledger, self._listed = ledger, listed
        if names is not None:
            self._names = names
            self._intake = Intake(self.ownership, self._tally, shard=self._chosen.shard, named=listed, versions=None)

    @asynccontextmanager
    async def inventory(
        self, store: ObjectStore, directory: Path | None, retry: RetrySettings, leave: Leave
    ) -> AsyncIterator[None]:
        """Open the inventory that names the objects, if one does; files are put into `directory`, or a temporary one.

        They are fetched with `leave` to.
        Raises ConfigError, SourceError, LocalStorageError.
        """
        chosen = self._chosen
        if chosen.inventory is None:
            yield
            return
        begun = await run_sync(Listed.begin, directory) if chosen.then_list else nullcontext()
        with begun as versions:
            self._intake = Intake(self.ownership, self._tally, shard=chosen.shard, named=None, versions=versions)
            with await Inventory.open(
                store,
                chosen.inventory,
                retry=retry,
                directory=directory,
                buckets={source.bucket for _, source in self.ownership.sources},
                pinned=not chosen.then_list,
                failed=self._intake.in_vain,
                leave=leave,
            ) as names:
                moment = names.report.moment
                if moment is not None:
                    self._tally.observer.noted("info", f"the inventory is of {moment.isoformat(timespec='seconds')}")
                self._names, self._tally.forgives_missing = names, True
                yield

    async def find(self, store: ObjectStore, take: Take) -> None:
        """List all sources at once, or read what names the objects, and let `take` have their pages as they come."""
        send, receive = anyio.create_memory_object_stream[_Found](PAGES_AHEAD)
        async with receive, anyio.create_task_group() as listing:  # held open here: see docs/design.md, "Streams"
            async with send:
                if self._names is not None:
                    listing.start_soon(self._take_names, store, self._names, send.clone())
                else:
                    for index, source in self.ownership.sources:
                        listing.start_soon(self._list, store, index, source, send.clone())
            async for source, remotes in receive:
                await take(source, remotes)
        if isinstance(store, Snapshot) and self._tally.listed and not store.versioned:
            self._warn(
                "no object has a version: the bucket keeps none, and what was overwritten or deleted since is left out"
            )

    async def find_what_is_new(self, store: ObjectStore, take: Take) -> None:
        """List all sources, after their inventory: what that has named as it is now is left out."""
        self._names, self._tally.forgives_missing = None, False
        await self.find(store, take)

    def _warn(self, text: str) -> None:
        self._tally.observer.noted("warning", text)

    async def _list(
        self, store: ObjectStore, index: int, source: Source, found: MemoryObjectSendStream[_Found]
    ) -> None:
        """List one source. Its failure is kept for the end: what was listed is worth fetching."""
        async with found:
            with self._listing(f"{source.written} cannot be listed"):
                hints, passed = await self._recall(source), Landmarks()
                await self._pages(store, index, source, found, hints, passed)
                await self._remember(source, passed.chosen())

    @contextmanager
    def _listing(self, failed: str) -> Iterator[None]:
        """Count a listing that comes to its end, and keep the failure of one that does not; `failed` says which."""
        try:
            yield
        except (ObjectError, SourceError, AccessError, ConfigError) as error:
            if isinstance(error, ObjectError):
                failure: SealiftError = SourceError(f"{failed}: {error.message}", code=error.code)
                failure.__cause__ = error
            else:
                failure = error
            self.errors.append(failure)
            if self.several:
                self._warn(failure.message)
        else:
            self.to_list -= 1

    async def _recall(self, source: Source) -> list[str]:
        """Return where the last listing of a source has shown that it can be split."""
        if self._ledger is None:
            return []
        return await run_sync(self._ledger.landmarks, source.bucket, source.prefix)

    async def _remember(self, source: Source, keys: list[str]) -> None:
        """Remember what a listing that came to its end has shown. Raises LocalStorageError."""
        if self._ledger is not None and not self._dry:
            await run_sync(self._ledger.keep_landmarks, source.bucket, source.prefix, keys)

    async def _take_names(
        self, store: ObjectStore, names: Names | Inventory, found: MemoryObjectSendStream[_Found]
    ) -> None:
        """Take in what is named. What was named before it failed is worth fetching."""
        foresight, pages = Foresight(), 0

        async def take(page: Page) -> None:
            nonlocal pages
            pages += 1
            for source, mine in page.items():
                if self._dry:
                    in_order = sorted(mine, key=lambda remote: encoded(remote.key))
                    self.escaped += foresight.count(pages, in_order, self._base(source))
                await found.send((source, mine))

        async with found:
            with self._listing(f"what {names.name} names cannot be looked up"):
                self.nothing_under_some |= not await self._intake.pages(store, names, take)

    async def _pages(
        self,
        store: ObjectStore,
        index: int,
        source: Source,
        found: MemoryObjectSendStream[_Found],
        hints: Sequence[str],
        passed: Landmarks,
    ) -> None:
        anything = False
        foresight = Foresight()

        async def take(stretch: int, objects: Sequence[RemoteObject]) -> None:
            nonlocal anything
            anything = True
            passed.pass_by(objects[0].key)
            for remote in objects:
                if not remote.key.startswith(source.prefix):
                    raise SourceError(
                        f"{source.written} cannot be listed: the server names {remote.key!r}, which does not lie there"
                    )
            mine = await self._to_mirror(source, self.ownership.owned(index, objects))
            if self._dry:
                self.escaped += foresight.count(stretch, mine, self._base(source))
            if mine:
                self._tally.list(len(mine))
                await found.send((source, mine))

        listers = max(1, LISTINGS // len(self.ownership.sources))
        await list_prefix(store, source.bucket, source.prefix, take, listers=listers, hints=hints)
        if not anything:
            await self._nothing_under(store, source)
        for key in foresight.between():
            page = await store.list_page(PageRequest(source.bucket, f"{self._base(source)}{key}/"))
            self.escaped += any(self.ownership.covers(source.bucket, remote.key) for remote in page.objects)

    async def _to_mirror(self, source: Source, listed: Sequence[RemoteObject]) -> Sequence[RemoteObject]:
        """Return those of a source's listed objects that are this run's, and still to be mirrored."""
        chosen, mine = self._chosen, listed
        if chosen.shard is not None:
            mine = chosen.shard.among(mine)
        if self._listed is not None and listed:
            keys = [remote.key for remote in mine]
            if chosen.shard is not None:  # directories that are empty in this shard may be another's
                keys += [remote.key for remote in listed if remote.key.endswith("/")]
            await run_sync(self._listed.add, source.bucket, keys)
        return await self._intake.new_among(source.bucket, mine) if chosen.then_list else mine

    def _base(self, source: Source) -> str:
        """Return what of the source's keys does not show in their paths."""
        return "" if self.several else source.prefix

    async def _nothing_under(self, store: ObjectStore, source: Source) -> None:
        """Warn that there is nothing to mirror; raise ConfigError where an object of exactly that key was meant."""
        if source.exact_key:
            try:
                await store.head(source.bucket, source.exact_key)
            except ObjectError:
                pass
            else:
                raise ConfigError(
                    f"{source.written} is an object, not a prefix: run sealift get {source.written} instead"
                )
        self.nothing_under_some = True
        self._warn(f"nothing lies under {source.written}")
