from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sealift.neighbours import DOUBT, ENOUGH, MOST, Neighbours


def of(directory: str, count: int, *, charged: bool, neighbours: Neighbours) -> None:
    for number in range(count):
        neighbours.learn(f"{directory}/{number}", charged=charged)


def test_after_enough_free_objects_of_a_directory_the_next_one_is_expected_to_be_free() -> None:
    neighbours = Neighbours()
    of("logs/2026", ENOUGH - 1, charged=False, neighbours=neighbours)
    assert neighbours.charged("logs/2026/next") is None
    neighbours.learn("logs/2026/last", charged=False)
    assert neighbours.charged("logs/2026/next") is False


def test_a_directory_of_which_nothing_is_known_is_like_its_bucket() -> None:
    neighbours = Neighbours()
    for number in range(ENOUGH):
        neighbours.learn(f"{number}/data", charged=False)
    assert neighbours.charged("another/data") is False
    neighbours.learn("sealed/data", charged=True)
    assert neighbours.charged("another/data") is None
    assert neighbours.charged("sealed/more")


def test_one_that_is_charged_throws_doubt_on_its_directory_and_on_no_other() -> None:
    neighbours = Neighbours()
    of("a", ENOUGH, charged=False, neighbours=neighbours)
    of("b", ENOUGH, charged=False, neighbours=neighbours)
    neighbours.learn("a/sealed", charged=True)
    assert (neighbours.charged("a/next"), neighbours.charged("b/next")) == (True, False)
    of("a", (DOUBT + 1) * ENOUGH - 1, charged=False, neighbours=neighbours)
    assert neighbours.charged("a/next") is None
    of("a", 1, charged=False, neighbours=neighbours)
    assert neighbours.charged("a/next") is False


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200))
def test_nothing_is_expected_to_be_free_right_after_one_of_its_directory_was_charged(
    found: list[tuple[str, bool]],
) -> None:
    neighbours = Neighbours()
    for directory, charged in found:
        neighbours.learn(f"{directory}/k", charged=charged)
        if charged:
            assert neighbours.charged(f"{directory}/k")
            assert neighbours.charged("unknown/k") is None


def test_only_so_many_directories_are_remembered() -> None:
    neighbours = Neighbours()
    of("first", ENOUGH, charged=False, neighbours=neighbours)
    neighbours.learn("second/sealed", charged=True)
    for number in range(MOST - 2):
        neighbours.learn(f"{number}/k", charged=True)
    assert neighbours.charged("first/k") is False
    neighbours.learn("one more/k", charged=True)
    assert neighbours.charged("first/k") is None
