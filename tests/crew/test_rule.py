"""When worker processes pay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.crew.rule import BUSY, FEW_LOOKS, JOINS_IN, LOOKS, MOST, REPAYS, CrewRule


def auto(cores: int = 2, lanes: int = 1024) -> CrewRule:
    return CrewRule(chosen=None, cores=cores, lanes=lanes)


def looks(rule: CrewRule, *cpu: float, left: float = 0.0, more: bool = True) -> list[bool]:
    """Whether it is time after each look of a second with so much CPU."""
    found = []
    for seconds in cpu:
        rule.look(seconds, 1.0, left=lambda: left, more=more)
        found.append(rule.due)
    return found


def test_a_loop_that_is_busy_for_some_looks_gets_help() -> None:
    assert looks(auto(), *[1.0] * LOOKS) == [False] * (LOOKS - 1) + [True]


@pytest.mark.parametrize("more", [False, True])
def test_it_gets_help_sooner_where_it_is_known_that_enough_is_left(more: bool) -> None:
    assert looks(auto(), *[1.0] * FEW_LOOKS, left=REPAYS, more=more) == [False] * (FEW_LOOKS - 1) + [True]


def test_it_gets_none_for_a_short_rest() -> None:
    assert not any(looks(auto(), *[1.0] * 100, left=REPAYS - 0.1, more=False))


def test_one_look_at_a_loop_that_waits_changes_little_and_some_do() -> None:
    assert looks(auto(), *[1.0] * (LOOKS - 2), 0.5, 1.0)[-1]
    assert not any(looks(auto(), *[1.0] * (LOOKS - 4), 0.2, 0.2, 0.2, 1.0))


@given(shares=st.lists(st.floats(0, BUSY - 0.01), max_size=50), left=st.floats(0, 1e9))
def test_a_loop_that_waits_for_others_never_does(shares: list[float], left: float) -> None:
    assert not any(looks(auto(64), *shares, left=left))


def test_what_is_left_is_not_counted_for_a_loop_that_waits() -> None:
    """There may be ten thousand objects that stand aside, and twenty looks a second."""

    def left() -> float:
        raise AssertionError("counted for nothing")

    rule = auto()
    for _ in range(2 * LOOKS):
        rule.look(BUSY - 0.01, 1.0, left=left, more=True)
    assert not rule.due


@given(cores=st.integers(1, 1000))
def test_auto_is_one_process_a_core_up_to_what_a_parent_feeds(cores: int) -> None:
    assert auto(cores).shares == min(cores, MOST)


@given(chosen=st.none() | st.integers(1, 100), cores=st.integers(1, 64), lanes=st.integers(1, 1000))
def test_this_process_is_one_of_few_and_leaves_the_work_to_many(chosen: int | None, cores: int, lanes: int) -> None:
    rule = CrewRule(chosen=chosen, cores=cores, lanes=lanes)
    assert rule.workers == (rule.shares - 1 if rule.shares <= JOINS_IN else rule.shares)


@given(cores=st.integers(1, 64), chosen=st.integers(1, 100))
def test_what_was_chosen_is_what_is_started_at_once(cores: int, chosen: int) -> None:
    rule = CrewRule(chosen=chosen, cores=cores, lanes=1024)
    assert (rule.shares, rule.due) == (chosen, True)


def test_one_process_is_this_one_alone() -> None:
    assert CrewRule(chosen=1, cores=64, lanes=1024).workers == auto(1).workers == 0


@given(chosen=st.none() | st.integers(2, 100), lanes=st.integers(1, 1000))
def test_each_process_has_a_lane_at_least(chosen: int | None, lanes: int) -> None:
    assert CrewRule(chosen=chosen, cores=64, lanes=lanes).shares <= lanes
