"""When worker processes pay."""

from hypothesis import given
from hypothesis import strategies as st

from sealift.crew.rule import BUSY, LOOKS, MOST, CrewRule


def auto(cores: int = 2, lanes: int = 1024) -> CrewRule:
    return CrewRule(chosen=None, cores=cores, lanes=lanes)


def looks(rule: CrewRule, *cpu: float) -> list[bool]:
    """Whether it is time after each look of a second with so much CPU."""
    found = []
    for seconds in cpu:
        rule.look(seconds, 1.0)
        found.append(rule.due)
    return found


def test_a_loop_that_is_busy_for_some_looks_gets_help() -> None:
    assert looks(auto(), *[1.0] * LOOKS) == [False] * (LOOKS - 1) + [True]


def test_one_look_at_a_loop_that_waits_begins_the_count_anew() -> None:
    assert not any(looks(auto(), *[1.0] * (LOOKS - 1), 0.1, *[1.0] * (LOOKS - 1)))


@given(shares=st.lists(st.floats(0, BUSY - 0.01), max_size=50))
def test_a_loop_that_waits_for_others_never_does(shares: list[float]) -> None:
    assert not any(looks(auto(64), *shares))


@given(cores=st.integers(1, 1000))
def test_auto_is_one_process_a_core_up_to_what_a_parent_feeds_and_none_on_a_single_core(cores: int) -> None:
    assert auto(cores).processes == (0 if cores == 1 else min(cores, MOST))


@given(cores=st.integers(1, 64), chosen=st.integers(2, 100))
def test_what_was_chosen_is_what_is_started_at_once(cores: int, chosen: int) -> None:
    rule = CrewRule(chosen=chosen, cores=cores, lanes=1024)
    assert (rule.processes, rule.due) == (chosen, True)


def test_one_process_is_this_one_alone() -> None:
    assert CrewRule(chosen=1, cores=64, lanes=1024).processes == 0


@given(chosen=st.none() | st.integers(2, 100), lanes=st.integers(1, 1000))
def test_each_process_has_a_lane_at_least(chosen: int | None, lanes: int) -> None:
    assert CrewRule(chosen=chosen, cores=64, lanes=lanes).processes in range(lanes + 1)
