"""Which address a new connection goes to."""

from hypothesis import given
from hypothesis import strategies as st

from sealift.s3.addresses import KNOWN_FOR, LEFT_ALONE_FOR, Addresses


def test_all_addresses_take_their_turns() -> None:
    addresses = Addresses()
    addresses.found(["a", "b", "c"], now=0.0)
    assert [addresses.choose(0.0) for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_one_that_failed_is_left_alone_for_a_while_and_then_tried_again() -> None:
    addresses = Addresses()
    addresses.found(["a", "b"], now=0.0)
    addresses.failed("a", now=1.0)
    assert {addresses.choose(1.0 + step) for step in range(5)} == {"b"}
    assert "a" in {addresses.choose(1.0 + LEFT_ALONE_FOR) for _ in range(2)}


def test_where_all_have_failed_one_of_them_is_tried_all_the_same() -> None:
    addresses = Addresses()
    addresses.found(["a"], now=0.0)
    addresses.failed("a", now=0.0)
    assert addresses.choose(0.0) == "a"
    assert addresses.choose(0.0, besides=["a"]) is None


def test_a_look_up_is_good_for_a_while_and_for_none_after_a_failure() -> None:
    addresses = Addresses()
    assert addresses.stale(0.0)
    addresses.found(["a"], now=0.0)
    assert not addresses.stale(KNOWN_FOR - 1)
    assert addresses.stale(KNOWN_FOR)
    addresses.found(["a"], now=10.0)
    addresses.failed("a", now=10.0)
    assert addresses.stale(10.0)


@given(
    known=st.lists(st.sampled_from("abcdef"), min_size=1),
    failed=st.sets(st.sampled_from("abcdef")),
    tried=st.sets(st.sampled_from("abcdef")),
)
def test_the_choice_is_a_known_one_that_was_not_tried_and_a_good_one_if_there_is_any(
    known: list[str], failed: set[str], tried: set[str]
) -> None:
    addresses = Addresses()
    addresses.found(known, now=0.0)
    for address in failed:
        addresses.failed(address, now=0.0)
    chosen = addresses.choose(1.0, besides=tried)
    left = set(known) - tried
    if not left:
        assert chosen is None
    else:
        assert chosen in (left - failed or left)
