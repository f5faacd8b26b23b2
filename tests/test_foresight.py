"""Objects that need another name are counted as the listing passes, however it is split."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sealift.foresight import Foresight
from sealift.model import RemoteObject

KEYS = st.sets(st.lists(st.sampled_from(["a", "b", "a b"]), min_size=1, max_size=3).map("/".join), min_size=1)


@given(keys=KEYS, data=st.data())
def test_each_object_is_counted_once_whose_own_name_is_needed_for_a_directory(
    keys: set[str], data: st.DataObject
) -> None:
    """Whatever stretches the listing has; between two of them it takes a look behind those keys that may clash."""
    listed = sorted(keys)
    stretches = data.draw(st.lists(st.integers(1, len(listed)), unique=True, max_size=3).map(sorted))
    foresight, found = Foresight(), 0
    for number, (start, stop) in enumerate(zip([0, *stretches], [*stretches, len(listed)], strict=True)):
        page = [RemoteObject("bucket", f"p/{key}", 1, '"e"', 0) for key in listed[start:stop]]
        found += foresight.count(number, page, "p/")
    for key in foresight.between():
        found += any(other.startswith(f"{key}/") for other in listed)
    assert found == sum(any(other.startswith(f"{key}/") for other in listed) for key in listed)
