"""One prefix is listed by several listers at once (`sealift.splitting` decides who lists what).

1. The first lister begins where the listing does, and what it finds goes downstream at once.
2. Each page that came lets one more lister begin, up to the limit: a small prefix is listed by few requests, and a
   large one has all its listers after a few round trips. One that has come to its end makes room for another.
3. Before a lister that begins somewhere is believed, one look tells whether the server lists by the names in a path
   (`_try_order`): what such a one leaves out there shows on no page.
4. Meanwhile one look at the tree finds common prefixes, at which a deep one is best split: unless the last listing
   left hints.

Memory is a page a lister, and a thousand keys for each stretch whose beginning nobody has met. All listers wait when
nobody takes what they find. A lister that fails ends the listing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio.abc import TaskGroup

from sealift.errors import AccessError, ObjectError, Permanent
from sealift.model import RemoteObject
from sealift.s3.store import ObjectStore, Page, PageRequest
from sealift.splitting import KeySpace, Stretch, directories, torn
from sealift.taskgroups import ungrouped

LOOKS = 64
"""Requests that look for common prefixes, at the most: two seconds' worth at 30 ms each."""

ENOUGH_HINTS = 1000
"""Common prefixes with which the look at the tree is over: one page of them, thirty for each lister."""

Found = Callable[[int, Sequence[RemoteObject]], Awaitable[None]]
"""Takes the number of a stretch and a page of it. The pages of one stretch come in their order, one after the other."""


async def list_prefix(
    store: ObjectStore, bucket: str, prefix: str, found: Found, *, listers: int, hints: Sequence[str] = ()
) -> None:
    """List what lies under `prefix`, each key once, by at most so many requests at once, and one that looks around.

    `found` is called with each page, for several stretches at a time. `hints` are keys at which it makes sense to
    split, whether they exist or not. Raises what `ObjectStore.list_page` does.
    """
    listing = _Listing(store, bucket, prefix, found, listers)
    listing.hint(hints)
    with ungrouped():
        async with anyio.create_task_group() as group:
            listing.begin(group)


class _Listing:
    def __init__(self, store: ObjectStore, bucket: str, prefix: str, found: Found, listers: int) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        self._found = found
        self._listers = listers
        self._active = self._begun = 0
        self._looks = 0
        self._looking = anyio.CancelScope()
        self._tried: dict[str, anyio.Event] = {}
        self._tried_whole: set[str] = set()
        self._in_byte_order = False
        self._space = KeySpace()

    def hint(self, keys: Sequence[str]) -> None:
        """Note keys at which to split, so that nobody needs to look around."""
        if keys:
            self._space.hint(keys)
            self._looks = LOOKS

    def begin(self, group: TaskGroup) -> None:
        """Let the first lister begin, and others as they make sense."""
        self._start(group, self._space.first)

    def _start(self, group: TaskGroup, stretch: Stretch) -> None:
        self._active += 1
        self._begun += 1
        group.start_soon(self._list, group, stretch, self._begun)

    async def _list(self, group: TaskGroup, stretch: Stretch, number: int) -> None:
        token = None
        while not stretch.ended:
            page = await self._page(stretch, token)
            if page is None:
                break
            token = page.next_token
            keys = [remote.key for remote in page.objects]
            if keys and not stretch.begun:
                await self._try_order(keys[0])
            while (key := self._space.doubt(stretch, keys)) is not None:
                self._space.settle(key, exists=await self._exists(key))
            own = self._space.take(stretch, keys, more=token is not None)
            self._split(group)
            if own:
                await self._found(number, page.objects[:own])
        # Not before its last page was taken: else ever more of them would wait for a slow taker.
        self._active -= 1
        self._split(group)
        if not self._active:
            self._looking.cancel()

    async def _page(self, stretch: Stretch, token: str | None) -> Page | None:
        """Return the next page of a stretch; None where the server cannot begin one there."""
        try:
            return await self._store.list_page(
                PageRequest(self._bucket, self._prefix, token=token, start_after=stretch.start_after)
            )
        except Permanent:
            if stretch.begun:
                raise
            self._space.give_up(stretch)
            return None

    async def _try_order(self, key: str) -> None:
        """Find out whether keys could be missing that are listed behind `key`, where somebody begins there.

        By the names in a path `b/1` comes before `b-1`, by bytes behind it. A server that lists in the former order,
        and leaves out by the latter what is not behind start-after, as gateways to file systems may, has `b-1` neither
        in front of `b/1` nor in a listing that begins there. So each directory above is looked at for such a `b-1`.
        """
        try:
            for above, directory in directories(key, self._prefix):
                if not await self._is_tried(above):  # it has too many names for one page
                    await self._is_tried(directory)
        except (ObjectError, AccessError):  # as below
            return

    async def _is_tried(self, prefix: str) -> bool:
        """Look at what begins so up to the next slash; return whether that was all of it, or is settled anyway."""
        tried = self._tried.get(prefix)
        if self._in_byte_order or not self._space.ordered:
            return True
        if tried is None:
            tried = self._tried[prefix] = anyio.Event()
            try:
                page = await self._store.list_page(PageRequest(self._bucket, prefix, delimiter="/"))
                await self._settle_order(prefix, page)
            finally:
                tried.set()
        await tried.wait()
        return prefix in self._tried_whole

    async def _settle_order(self, prefix: str, page: Page) -> None:
        """Ask, where a page with a delimiter has both a `b/` and a `b-1`, which of them the server lists first."""
        stem = torn([*(remote.key for remote in page.objects), *page.common_prefixes])
        if stem is not None and not self._in_byte_order:
            first = await self._store.list_page(PageRequest(self._bucket, stem, most=2))
            keys = [remote.key for remote in first.objects if remote.key != stem]
            self._in_byte_order = bool(keys) and keys[0] < f"{stem}/"
            self._space.ordered &= self._in_byte_order
        if page.next_token is None:
            self._tried_whole.add(prefix)

    def _split(self, group: TaskGroup) -> None:
        if not self._looks and self._listers > 1 and not self._space.first.ended:
            self._looks = 1
            group.start_soon(self._look_around)
        while self._active < min(self._listers, self._space.answers + 1):
            new = self._space.split()
            if new is None:
                break
            self._start(group, new)

    async def _look_around(self) -> None:
        """Find common prefixes, the shallow ones first."""
        hints, todo = 0, deque([self._prefix])
        with self._looking:
            while todo and self._looks <= LOOKS and hints < ENOUGH_HINTS and self._space.ordered:
                self._looks += 1
                try:
                    prefix = todo.popleft()
                    page = await self._store.list_page(PageRequest(self._bucket, prefix, delimiter="/"))
                    await self._settle_order(prefix, page)
                except (ObjectError, AccessError):  # a policy may allow this prefix only, or no delimiter
                    return
                hints += len(page.common_prefixes)
                self._space.hint(page.common_prefixes)
                todo += page.common_prefixes

    async def _exists(self, key: str) -> bool:
        try:
            await self._store.head(self._bucket, key)
        except ObjectError as error:
            return error.code != "NoSuchKey"
        return True
