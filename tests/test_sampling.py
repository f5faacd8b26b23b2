"""Looking at how objects are encrypted."""

import pytest

from sealift.errors import Permanent
from sealift.kmscost import Seen
from sealift.model import Encryption
from sealift.sampling import HEADS, look_at
from tests.support.fakestore import FakeStore
from tests.support.keys import remote

pytestmark = pytest.mark.anyio


async def test_each_chosen_object_is_looked_at_once_and_a_refusal_is_no_error():
    store = FakeStore()
    store.bucket("bucket")
    keys = [f"{number}" for number in range(3 * HEADS)]
    for key in keys[1:]:
        store.put("bucket", key, b"x")
    with pytest.raises(Permanent):
        await store.encryption("bucket", keys[0])
    sealed = Encryption("aws:kms", "arn:aws:kms:us-east-1:111122223333:key/fake")
    seen = await look_at(store, [(remote(key), number) for number, key in enumerate(keys)])
    assert sorted(seen) == sorted([Seen(0, None), *(Seen(number, sealed) for number in range(1, len(keys)))])


async def test_nobody_is_asked_where_nothing_was_chosen():
    assert await look_at(FakeStore(), []) == []
