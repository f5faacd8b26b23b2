"""When worker processes pay."""

from hypothesis import given
from hypothesis import strategies as st

from sealift.crew.rule import BUSY, LOOKS, MOST, CrewRule


def test_a_loop_that_is_busy_for_some_looks_gets_help() -> None:
    rule = CrewRule(2)
    assert [rule.due(0.1, 0.1) for _ in range(LOOKS)] == [False] * (LOOKS - 1) + [True]


def test_one_look_at_a_loop_that_waits_begins_the_count_anew() -> None:
    rule = CrewRule(2)
    assert not any([rule.due(0.1, 0.1), rule.due(0.1, 0.1), rule.due(0.01, 0.1), rule.due(0.1, 0.1)])


@given(shares=st.lists(st.floats(0, BUSY - 0.01), max_size=50))
def test_a_loop_that_waits_for_others_never_does(shares: list[float]) -> None:
    rule = CrewRule(64)
    assert not any(rule.due(share, 1.0) for share in shares)


@given(cores=st.integers(1, 1000))
def test_auto_is_one_process_a_core_up_to_what_a_parent_feeds_and_none_on_a_single_core(cores: int) -> None:
    assert CrewRule(cores).processes(None) == (0 if cores == 1 else min(cores, MOST))


@given(cores=st.integers(1, 64), chosen=st.integers(2, 100))
def test_what_was_chosen_is_what_is_started_and_one_is_this_process_alone(cores: int, chosen: int) -> None:
    assert CrewRule(cores).processes(chosen) == chosen
    assert CrewRule(cores).processes(1) == 0
