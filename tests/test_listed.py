"""What was listed is remembered, whatever it is called and in whatever order it came."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift import LocalStorageError
from sealift.listed import AT_ONCE, Listed
from tests.support.smalldisk import small_tmpfs

KEYS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"), max_size=5)


@given(st.sets(KEYS), st.sets(KEYS), st.randoms(use_true_random=False))
def test_those_that_were_taken_down_are_told_from_others(there, asked, chance):
    keys = [*there, *there]
    chance.shuffle(keys)
    with Listed.begin(None) as listed:
        for start in range(0, len(keys), 3):
            listed.add("bucket", keys[start : start + 3])
        names = [("bucket", key) for key in asked]
        assert listed.among(names) == {("bucket", key) for key in there & asked}
        assert listed.among([("other", key) for key in asked]) == set()


def test_many_at_once_and_from_several_threads(tmp_path):
    with Listed.begin(tmp_path) as listed, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: listed.add(f"b{n}", [f"k{m}" for m in range(2 * AT_ONCE + 1)]), range(4)))
        for n in range(4):
            names = [(f"b{n}", f"k{m}") for m in range(2 * AT_ONCE - 1, 3 * AT_ONCE - 1)]
            assert listed.among(names) == set(names[:2])


def test_its_file_has_no_name_and_its_room_is_free_again(tmp_path):
    (tmp_path / "listed.db").write_bytes(b"of a run that was killed")
    with Listed.begin(tmp_path) as listed:
        listed.add("bucket", ["k"])
        assert list(tmp_path.iterdir()) == []
        assert listed.among([("bucket", "k")])
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_takes_no_file_is_named(tmp_path):
    with pytest.raises(LocalStorageError, match="what the run needs to remember cannot be kept"):
        Listed.begin(tmp_path / "missing")


def test_a_disk_that_is_full_is_named(tmp_path):
    with small_tmpfs(tmp_path / "disk", options="size=2m") as disk, Listed.begin(disk) as listed:
        keys = [f"{n % 100}/{n}" + "x" * 400 for n in range(200_000)]
        with pytest.raises(LocalStorageError, match="no space left") as raised:
            listed.add("bucket", keys)
        assert raised.value.code == "DiskFull"
