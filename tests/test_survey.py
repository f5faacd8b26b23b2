"""Some objects from all over a prefix."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import Permanent, SourceError
from sealift.survey import BRANCHES, evenly, look, spread
from tests.support.fakestore import FakeStore
from tests.support.keys import remote

pytestmark = pytest.mark.anyio


class Counting(FakeStore):
    """Counts listings."""

    pages = 0

    async def list_page(self, request):
        self.pages += 1
        return await super().list_page(request)


def store_of(keys) -> Counting:
    store = Counting()
    store.bucket("bucket")
    for key in keys:
        store.put("bucket", key, b"x")
    return store


async def test_of_a_small_prefix_all_objects_are_found():
    store = store_of(["p/a", "p/b/c", "p/b/d/e", "p/f/g", "other/x"])
    found = await spread(store, "bucket", "p/")
    assert [each.key for each in found.objects] == ["p/a", "p/b/c", "p/b/d/e", "p/f/g"]
    assert found.whole


async def test_nothing_is_found_under_a_prefix_that_has_nothing():
    found = await spread(store_of([]), "bucket", "p/")
    assert (found.objects, found.whole) == ((), True)


async def test_of_many_directories_some_are_looked_into_from_the_first_to_the_last():
    store = store_of(f"p/{day:03}/{number}" for day in range(200) for number in range(3))
    found = await spread(store, "bucket", "p/")
    days = {each.key.split("/")[1] for each in found.objects}
    assert len(days) == BRANCHES
    assert {"000", "199"} <= days
    assert not found.whole
    assert store.pages == 1 + BRANCHES


async def test_of_a_directory_with_many_objects_it_is_known_that_there_are_more():
    found = await spread(store_of(f"p/a/{number:04}" for number in range(500)), "bucket", "p/")
    assert not found.whole


@pytest.mark.parametrize("form", ["{:06}", "2026-{:06}.log", "{:x}"])
async def test_of_a_flat_prefix_objects_are_found_up_to_near_its_end(form):
    keys = sorted(f"a-very-long-prefix-indeed/{form.format(number)}" for number in range(20_000))
    store = store_of(keys)
    found = await spread(store, "bucket", "a-very-long-prefix-indeed/")
    places = sorted(keys.index(each.key) for each in found.objects)
    assert places[-1] > 15_000
    assert not found.whole
    assert store.pages <= 1 + BRANCHES


@given(st.integers(0, 50), st.integers(1, 20))
def test_evenly_spread_items_are_as_many_as_asked_for_in_order_and_with_both_ends(number, most):
    items = list(range(number))
    chosen = evenly(items, most)
    assert len(chosen) == min(number, most)
    assert chosen == sorted(set(chosen))
    if most > 1 and items:
        assert {chosen[0], chosen[-1]} == {0, number - 1}


async def test_each_object_is_looked_at_and_what_its_head_met_is_kept():
    keys = [f"{number}" for number in range(40)]
    random.Random(1).shuffle(keys)
    store = store_of(keys[1:])
    looked = await look(store, [remote(key) for key in keys])
    assert [each.remote.key for each in looked] == keys
    assert looked[0].encryption is None
    assert isinstance(looked[0].error, Permanent)
    assert all(each.encryption.sse == "aws:kms" and each.error is None for each in looked[1:])


async def test_what_ends_a_run_is_raised():
    with pytest.raises(SourceError):
        await look(FakeStore(), [remote("a")])
