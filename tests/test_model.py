"""What an object's description says of it."""

import pytest

from tests.support.keys import remote


@pytest.mark.parametrize(
    ("storage_class", "restored", "cold"),
    [
        ("GLACIER", False, True),
        ("DEEP_ARCHIVE", False, True),
        ("GLACIER", True, False),
        ("DEEP_ARCHIVE", True, False),
        ("GLACIER_IR", False, False),
        ("INTELLIGENT_TIERING", False, False),
        ("STANDARD", False, False),
    ],
)
def test_an_archived_object_is_cold_until_a_copy_of_it_is_restored(storage_class, restored, cold):
    assert remote("k", storage_class=storage_class, restored=restored).cold is cold
