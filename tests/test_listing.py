"""Many listers, one prefix: every key once, whatever the keys, the pages and the order."""

import random
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift import Settings, splitting
from sealift.errors import AccessError, Permanent, Transient
from sealift.listing import LOOKS, list_prefix
from sealift.s3 import connected
from sealift.tally import Tally, Unobserved
from tests.support.sequence import Filtering, Sequence, as_tree, utf8

pytestmark = pytest.mark.anyio


async def listed(store, *, listers=8, prefix="", found=None, hints=()):
    keys: list[str] = []

    async def take(stretch, objects):
        keys.extend(remote.key for remote in objects)
        await anyio.lowlevel.checkpoint()

    await list_prefix(store, "bucket", prefix, found or take, listers=listers, hints=hints)
    return keys


def _is_a_key(text):
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == text
    except UnicodeEncodeError:
        return False


NAMES = st.one_of(
    st.text("abc/ -.0159é🔒", min_size=1, max_size=8),
    st.builds("long/shared/prefix-{:04d}".format, st.integers(0, 2000)),
    st.builds("{:02d}/{}".format, st.integers(0, 20), st.integers(0, 100)),
    st.text(st.characters(exclude_categories=[]), min_size=1, max_size=3).filter(_is_a_key),
    st.binary(min_size=1, max_size=3).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@pytest.fixture(scope="module", autouse=True)
def eager():
    """Splitting is worth it for any two keys: else it would take many thousands to see one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "WORTH_SPLITTING", 2)
        yield


def random_order(key):
    return random.Random(repr(key)).random()


def late_disorder(key):
    """In order but for what lies under `b`."""
    return (utf8(key)[:1], random_order(key) if key.startswith("b") else 0, utf8(key))


@pytest.mark.parametrize("order", [utf8, as_tree, random_order, late_disorder])
@given(
    keys=st.sets(NAMES, max_size=150),
    page_size=st.integers(1, 20),
    listers=st.integers(1, 12),
    pace=st.randoms(use_true_random=True),
    hints=st.lists(NAMES, max_size=8),
)
def test_every_key_is_listed_once(order, keys, page_size, listers, pace, hints):
    store = Sequence(keys, order=order, page_size=page_size, pace=pace)
    assert Counter(anyio.run(partial(listed, store, listers=listers, hints=hints))) == Counter(keys)
    assert store.most_at_once <= listers + 1


BESIDE = st.builds(
    "{}{}{:03d}".format,
    st.sampled_from(["", "b/", "b/c/"]),
    st.sampled_from(["a", "b-", "b/", "b.", "b/c/", "b/c ", "z"]),
    st.integers(0, 999),
)


@pytest.mark.parametrize("order", [utf8, as_tree])
@given(
    keys=st.sets(BESIDE, min_size=100, max_size=300),
    page_size=st.integers(1, 20),
    listers=st.integers(2, 12),
    pace=st.randoms(use_true_random=True),
    hints=st.lists(BESIDE, max_size=8),
)
def test_where_start_after_goes_by_bytes_and_the_order_by_names_every_key_is_listed_once_too(
    order, keys, page_size, listers, pace, hints
):
    store = Filtering(keys, order=order, page_size=page_size, pace=pace)
    assert Counter(anyio.run(partial(listed, store, listers=listers, hints=hints))) == Counter(keys)


async def test_where_names_have_shown_that_the_order_is_that_of_bytes_no_more_of_them_are_looked_at():
    keys = [f"{top:03d}/{number:03d}" for top in range(60) for number in range(20)]
    store = Sequence(["000-", *keys], page_size=10)
    assert len(await listed(store, hints=keys[::50])) == len(keys) + 1
    assert store.looks <= 8


FLAT = [f"part-{number:06d}.bin" for number in range(600)]
DEEP = [
    f"year={year}/month={month:02d}/{number:03d}"
    for year in (2023, 2024)
    for month in range(1, 13)
    for number in range(25)
]


@pytest.mark.parametrize("keys", [FLAT, DEEP, [f"{number * 7919 % 100_003:x}" for number in range(600)]])
async def test_a_prefix_is_split_whether_flat_or_deep(keys):
    store = Sequence(keys, page_size=10)
    assert Counter(await listed(store, listers=8)) == Counter(keys)
    assert store.most_at_once >= 6
    assert store.pages < 3 * len(keys) / 10, (
        "at most about half of the requests find nothing, and a few are partly in vain"
    )


@pytest.mark.parametrize("keys", [FLAT, DEEP])
async def test_what_the_last_listing_left_is_where_this_one_is_split(keys):
    keys, passed = sorted(keys, key=utf8), splitting.Landmarks()
    for start in range(0, len(keys), 10):
        passed.pass_by(keys[start])
    store = Sequence(keys, page_size=10)
    assert Counter(await listed(store, listers=8, hints=passed.chosen())) == Counter(keys)
    assert store.most_at_once == 8, "nobody looks around"
    pages = store.pages - store.looks
    assert pages < 1.3 * len(keys) / 10, "no request finds nothing, and some are partly in vain"
    assert store.looks <= len({above for key in keys for above, _ in splitting.directories(key, "")}), "each once"


async def test_one_lister_goes_through_it_page_by_page():
    store = Sequence(FLAT, page_size=10)
    assert await listed(store, listers=1) == FLAT
    assert (store.pages, store.most_at_once) == (60, 1)


async def test_a_single_page_takes_a_single_request():
    store = Sequence(FLAT[:10], page_size=10)
    assert await listed(store) == FLAT[:10]
    assert store.pages == 1


async def test_an_empty_prefix_has_nothing_to_find():
    store = Sequence(["elsewhere"])
    assert await listed(store, prefix="p/") == []


class NoStartAfter(Sequence):
    """A server that begins every listing where it begins."""

    async def list_page(self, request):
        return await super().list_page(replace(request, start_after=None))


class RefusesStartAfter(Sequence):
    """A server that does not know the parameter."""

    async def list_page(self, request):
        if request.start_after is not None:
            raise Permanent("NotImplemented", bucket=request.bucket, key="")
        return await super().list_page(request)


class NoDelimiter(Sequence):
    """A bucket of which one prefix only may be listed."""

    async def list_page(self, request):
        if request.delimiter is not None:
            raise AccessError("may not be listed")
        return await super().list_page(request)


@pytest.mark.parametrize("kind", [NoStartAfter, RefusesStartAfter, NoDelimiter])
@pytest.mark.parametrize("keys", [FLAT, DEEP], ids=["flat", "deep"])
async def test_where_a_server_cannot_split_it_is_listed_all_the_same(kind, keys):
    assert Counter(await listed(kind(keys, page_size=10))) == Counter(keys)


@given(deleted_from=st.integers(0, 200), every=st.integers(1, 40), pace=st.randoms(use_true_random=True))
def test_what_is_deleted_meanwhile_makes_nothing_else_come_twice_or_not_at_all(deleted_from, every, pace):
    store = Sequence(FLAT, page_size=5, pace=pace)
    doomed = FLAT[deleted_from : deleted_from + 350]

    def delete():
        if doomed and store.pages % every == 0:
            for _ in range(25):
                if doomed:
                    store.keys.remove(doomed.pop())

    store.after_page = delete
    counted = Counter(anyio.run(partial(listed, store)))
    assert max(counted.values()) == 1
    assert set(store.keys) <= set(counted)


@given(pace=st.randoms(use_true_random=True))
def test_what_is_added_meanwhile_makes_nothing_come_twice_or_not_at_all(pace):
    store = Sequence(FLAT[::2], page_size=5, pace=pace)
    to_come = list(FLAT[1::2])

    def add():
        if to_come:
            store.keys = sorted([*store.keys, to_come.pop(pace.randrange(len(to_come)))])

    store.after_page = add
    counted = Counter(anyio.run(partial(listed, store)))
    assert max(counted.values()) == 1
    assert set(FLAT[::2]) <= set(counted)


@pytest.mark.parametrize("page", [1, 2, 7, 20])
async def test_a_page_that_fails_fails_the_listing(page):
    store = Sequence(FLAT, page_size=10)

    def fail():
        if store.pages >= page:
            raise Transient("lost", code="ConnectionLost")

    store.after_page = fail
    with pytest.raises(Transient, match="lost"):
        await listed(store)
    assert store.now == 0


async def test_nothing_is_under_way_once_it_was_cancelled():
    store, seen = Sequence(FLAT, page_size=10), []

    async def take(stretch, objects):
        seen.extend(objects)
        if len(seen) > 200:
            scope.cancel()
        await anyio.lowlevel.checkpoint()

    with anyio.CancelScope() as scope:
        await listed(store, found=take)
    assert scope.cancelled_caught
    assert store.now == 0


async def test_while_nobody_takes_what_was_found_no_more_is_fetched():
    store, full = Sequence(FLAT, page_size=10), anyio.Event()

    async def take(stretch, objects):
        if store.pages > 30:
            full.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(partial(listed, store, listers=4, found=take))
        await full.wait()
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert store.pages <= 30 + 4 + splitting.SPARE_GUESSES + LOOKS
        group.cancel_scope.cancel()


@pytest.mark.sandbox
async def test_the_sandbox_whose_order_is_another_loses_and_doubles_nothing(sandbox, monkeypatch):
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    keys = [f"{top}{rest}" for top in "abc" for rest in ("/1", "/2/x", "/2 y", " 1", "-1", ".txt", "/2/z", "0")]
    keys = [f"listing-{time.time_ns()}/{key}" for key in keys]
    prefix = keys[0].partition("/")[0] + "/"
    keys = [prefix + key.partition("/")[2] for key in keys]
    async with sandbox.client() as s3:
        for key in keys:
            await s3.put_object(Bucket=sandbox.bucket, Key=key, Body=b"x")
    async with connected(Settings(), Tally(Unobserved(), 0.0)) as store:
        found: list[str] = []

        async def take(stretch, objects):
            found.extend(remote.key for remote in objects)

        for page_size in (1, 2, 3, 5):
            found.clear()
            await list_prefix(SmallPages(store, page_size), sandbox.bucket, prefix, take, listers=6)
            assert Counter(found) == Counter(keys)


class SmallPages:
    """A store that never gives many keys at once."""

    def __init__(self, store, page_size):
        self._store = store
        self._page_size = page_size
        self.head = store.head
        self.encryption = store.encryption
        self.checksum = store.checksum
        self.part_size = store.part_size
        self.open = store.open

    async def list_page(self, request):
        return await self._store.list_page(replace(request, most=self._page_size))
