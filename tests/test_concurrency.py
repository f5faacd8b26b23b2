from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from benchmarks.concurrency.model import Scenario, simulate
from benchmarks.concurrency.rules import Fixed, auto
from benchmarks.concurrency.scenarios import SCENARIOS
from hypothesis import given
from hypothesis import strategies as st

from sealift.concurrency import FAILED, HIGHEST, INITIAL, LONGEST, LOOK, REFUSED, SHRINK, Concurrency, Share, Totals

# Seconds passed, GETs answered, GETs refused, bytes received, share of the limit under way, share of the CPU used.
stretches = st.tuples(
    st.floats(0, 3),
    st.integers(0, 5000),
    st.integers(0, 200),
    st.integers(0, 10**9),
    st.floats(0, 3),
    st.floats(0, 1),
)
histories = st.lists(stretches, max_size=200)

SEEDS = [1, 2]
ONE_OR_ALL = pytest.mark.parametrize("seeds", [SEEDS[:1], pytest.param(SEEDS, marks=pytest.mark.stress)], ids=len)
"""In the fast suite one, of simulations that take a second each."""


def scenario(name: str) -> Scenario:
    return next(each for each in SCENARIOS if each.name == name)


class Run:
    """Totals that grow as told, and the controller that sees them."""

    def __init__(self, limits: Concurrency) -> None:
        self.limits = limits
        self.now = 0.0
        self.totals = Totals(received=0, answered=0, refused=0, under_way=0, cpu=0.0)
        limits.look(self.totals, self.now)

    def goes_on(
        self,
        seconds: float,
        *,
        answered: int = 0,
        refused: int = 0,
        failed: int = 0,
        received: int = 0,
        full: float = 1.0,
        busy: float = 0.0,
    ) -> int:
        """Let time pass, and return the limit after it. `full` is the share of the limit that is under way."""
        self.now += seconds
        self.totals = Totals(
            received=self.totals.received + received,
            answered=self.totals.answered + answered,
            refused=self.totals.refused + refused,
            failed=self.totals.failed + failed,
            under_way=int(full * self.limits.limit),
            cpu=self.totals.cpu + busy * seconds,
        )
        return self.limits.look(self.totals, self.now)


def started(highest: int = HIGHEST, initial: int = INITIAL) -> Run:
    return Run(Concurrency(highest=highest, initial=initial, now=0.0))


@given(st.integers(1, 3000), st.integers(1, 3000), histories)
def test_the_limit_is_at_least_one_and_at_most_the_highest_whatever_happens(
    highest: int, initial: int, history: list[tuple[float, int, int, int, float, float]]
) -> None:
    run = started(highest, initial)
    for seconds, answered, refused, received, full, busy in history:
        limit = run.goes_on(seconds, answered=answered, refused=refused, received=received, full=full, busy=busy)
        assert 1 <= limit <= highest


@given(st.integers(1, HIGHEST), histories, st.floats(0, 0.89))
def test_a_run_that_does_not_need_its_limit_never_sees_it_grow(
    initial: int, history: list[tuple[float, int, int, int, float, float]], full: float
) -> None:
    run = started(initial=initial)
    before = initial
    for seconds, answered, refused, received, _, busy in history:
        limit = run.goes_on(seconds, answered=answered, refused=refused, received=received, full=full, busy=busy)
        assert limit <= before
        before = limit


@given(histories, st.floats(0.02, 1.0))
def test_lasting_refusals_bring_any_limit_down_to_one(
    history: list[tuple[float, int, int, int, float, float]], share: float
) -> None:
    run = started()
    for seconds, answered, refused, received, full, busy in history:
        run.goes_on(seconds, answered=answered, refused=refused, received=received, full=full, busy=busy)
    reached = run.limits.limit
    for _ in range(60):
        limit = run.goes_on(LONGEST, answered=int(10_000 * (1 - share)), refused=int(10_000 * share))
        assert limit <= reached
        reached = limit
    assert reached == 1


@given(st.floats(0.06, 1.0), st.integers(1, HIGHEST))
def test_failures_that_fewer_connections_do_not_relieve_leave_the_limit_alone(share: float, initial: int) -> None:
    run = Run(Concurrency(highest=HIGHEST, initial=initial, now=0.0, proven=True))
    limits = [
        run.goes_on(LONGEST, answered=int(9000 * (1 - share)), failed=int(9000 * share), full=0.5) for _ in range(100)
    ]
    assert sum(limit < initial for limit in limits) <= 4, "it was tried twice, for two rounds"
    assert limits[-1] == initial


@given(st.integers(2, HIGHEST), st.integers(2, HIGHEST))
def test_a_server_that_fails_beyond_so_many_connections_gets_no_more_than_it_can_serve(most: int, initial: int) -> None:
    run = Run(Concurrency(highest=HIGHEST, initial=initial, now=0.0, proven=True))
    for _ in range(60):
        limit = run.limits.limit
        failed = int(9000 * max(0, limit - most) / limit)
        run.goes_on(LONGEST, answered=9000 - failed, failed=failed, full=0.5)
    assert run.limits.limit <= most / (1 - FAILED) + 1
    assert run.limits.limit >= min(initial, int(most * SHRINK)) - 1


def test_a_few_failures_are_no_overload() -> None:
    run = Run(Concurrency(highest=HIGHEST, initial=64, now=0.0, proven=True))
    for _ in range(50):
        assert run.goes_on(LONGEST, answered=960, failed=40, full=0.5) == 64


@given(histories)
def test_refusals_that_are_an_accident_shrink_nothing(history: list[tuple[float, int, int, int, float, float]]) -> None:
    """The same run with and without a few 503s, in rounds that end by time: by GETs, one can end before the other."""
    with_accidents, without = started(), started()
    for seconds, answered, _, received, full, busy in history:
        few = int(answered * REFUSED / 2)
        longer = LONGEST * 1.01 + seconds  # floats add up to a little less
        one = with_accidents.goes_on(
            longer, answered=answered - few, refused=few, received=received, full=full, busy=busy
        )
        other = without.goes_on(longer, answered=answered - few, received=received, full=full, busy=busy)
        assert one == other


def test_looks_before_one_is_due_change_nothing() -> None:
    run = started()
    run.goes_on(LOOK)
    due = run.limits.due
    assert run.goes_on(LOOK / 2, answered=10**6) == INITIAL
    assert run.limits.due == due


def test_the_start_doubles_while_that_brings_a_quarter_more() -> None:
    run = started(initial=8)
    assert run.goes_on(0.03, answered=8) == 16
    assert run.goes_on(0.03, answered=16) == 32
    assert run.goes_on(0.03, answered=32) == 64


def test_a_share_of_what_was_found_out_is_not_doubled() -> None:
    run = Run(Concurrency(highest=HIGHEST, initial=8, now=0.0, proven=True))
    assert all(run.goes_on(0.3, answered=1000) <= 8 for _ in range(3))


def test_a_share_is_doubled_still_until_the_start_is_over() -> None:
    run = started(initial=8)
    run.goes_on(0.1, answered=100)
    assert run.limits.share(1, 2) == Share(8, proven=False)
    while run.limits.limit != 8:
        run.goes_on(0.1, answered=100)
    assert run.limits.share(1, 2) == Share(4, proven=True)


@given(st.integers(1, 3000), histories, st.integers(1, 64), st.integers(1, 64))
def test_shares_are_at_least_one_and_together_no_more_than_the_limit_if_that_suffices(
    initial: int, history: list[tuple[float, int, int, int, float, float]], part: int, others: int
) -> None:
    run = started(initial=initial)
    for seconds, answered, refused, received, full, busy in history:
        run.goes_on(seconds, answered=answered, refused=refused, received=received, full=full, busy=busy)
    whole = part + others
    shares = run.limits.share(part, whole).limit + run.limits.share(others, whole).limit
    assert 2 <= shares <= max(run.limits.limit, 2) + 1


def test_what_a_settling_limit_brings_first_is_anothers() -> None:
    run = Run(Concurrency(highest=HIGHEST, initial=8, now=0.0, settling=True))
    limits = [run.goes_on(0.1, answered=answered) for answered in (200, 100, 200)]
    assert limits == [8, 16, 32], "without it, the 100 would be no growth"


def test_the_start_ends_at_the_best_limit_seen() -> None:
    run = started(initial=8)
    rates = {8: 1000, 16: 1900, 32: 2000}
    limits = [run.goes_on(0.1, answered=rates[run.limits.limit] // 10) for _ in range(4)]
    assert limits == [16, 32, 32, 16]


def test_bytes_that_come_without_an_end_of_a_get_are_goodput_too() -> None:
    run = started(initial=8)
    assert run.goes_on(LONGEST, received=100 * 2**20) == 16
    assert run.goes_on(LONGEST, received=200 * 2**20) == 32


def test_a_saturated_cpu_ends_the_growth() -> None:
    run = started()
    assert all(run.goes_on(0.3, answered=1000 * step, busy=1.0) <= INITIAL for step in range(1, 100))


def knee(limit: int) -> int:
    """The GETs that a quarter of a second brings where eight at once are as good as more."""
    return 25 * min(limit, 8)


def until_the_step_up() -> Run:
    """Return a run at the knee that is just trying eleven after eight."""
    run = started(initial=8)
    while run.limits.limit != 11:
        run.goes_on(0.25, answered=knee(run.limits.limit))
    return run


def test_at_the_knee_a_step_down_and_a_step_up_are_tried_and_rests_grow() -> None:
    run = started(initial=8)
    limits = [run.goes_on(0.25, answered=knee(run.limits.limit)) for _ in range(60)]
    assert limits[:4] == [16, 16, 8, 8]
    assert limits[4:10] == [5, 5, 8, 8, 11, 11]
    tried = [index for index, limit in enumerate(limits) if limit == 5]
    rests = [later - index for index, later in itertools.pairwise(tried) if later - index > 1]
    assert len(rests) >= 2
    assert rests == sorted(set(rests))


def test_a_step_up_that_is_refused_is_taken_back_and_no_more() -> None:
    run = until_the_step_up()
    run.goes_on(0.25, answered=200)
    assert run.goes_on(0.25, answered=190, refused=10) == 8


def test_a_step_is_not_taken_when_the_goodput_grew_by_itself() -> None:
    run = until_the_step_up()
    limits = [run.goes_on(0.25, answered=answered) for answered in (220, 240, 260, 280, 300)]
    assert limits == [11, 11, 8, 8, 8]


def test_a_step_is_taken_that_was_better_than_before_and_than_after() -> None:
    run = until_the_step_up()
    limits = [run.goes_on(0.25, answered=answered) for answered in (260, 260, 260, 200, 200)]
    assert limits == [11, 11, 8, 8, 11]


@pytest.mark.parametrize(("rounds", "then"), [((400, 200), 8), ((200, 400), 8), ((400, 400), 5), ((80, 80), 5)])
def test_two_odd_rounds_end_a_rest_and_one_does_not(rounds: tuple[int, int], then: int) -> None:
    run = until_the_step_up()
    assert [run.goes_on(0.25, answered=200) for _ in range(3)] == [11, 8, 8]
    assert [run.goes_on(0.25, answered=answered) for answered in rounds] == [8, then]


def test_doubling_stops_at_the_highest() -> None:
    assert started(highest=12, initial=8).goes_on(0.03, answered=8) == 12


def test_refusals_at_the_start_take_the_last_doubling_back() -> None:
    run = started(initial=8)
    run.goes_on(0.03, answered=8)
    run.goes_on(0.03, answered=16)
    assert run.goes_on(0.03, answered=28, refused=4) == 16


def test_a_change_is_judged_only_when_the_gets_of_before_are_gone() -> None:
    run = started(initial=8)
    run.goes_on(0.03, answered=8)
    assert run.goes_on(0.03, answered=10, refused=6) == 8
    assert run.goes_on(0.3, answered=10, refused=6) == 8
    assert run.goes_on(0.3, answered=10, refused=6) == 5


@pytest.mark.parametrize(("highest", "initial"), [(0, INITIAL), (8, 0)])
def test_a_limit_below_one_is_refused(highest: int, initial: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Concurrency(now=0.0, highest=highest, initial=initial)


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("laptop: 50 Mb/s, 40 ms, 8 MiB parts", 4),
        ("2 cores, loopback, 16 KiB", 12),
        ("2 cores, loopback, 8 MiB", 4),
        ("10 Gb/s, 30 ms, 16 KiB", 384),
        ("100 Gb/s, 100 ms, 8 MiB parts", 256),
        ("S3 refuses beyond 3,500 GETs/s, 40 ms", 128),
        ("1 Gb/s halves and recovers, 30 ms, 1 MiB", 32),
        ("log-normal sizes, 5 Gb/s, 60 ms", 256),
        ("a disk that stalls, 2 Gb/s, 30 ms, 1 MiB", 64),
    ],
)
@ONE_OR_ALL
def test_after_the_start_no_fixed_limit_does_much_better(name: str, best: int, seeds: list[int]) -> None:
    """`best` is what the sweep of benchmarks/concurrency found; work is compared over the second half of the time."""
    there = scenario(name)
    ours = sum(simulate(there, auto(there), seed).late for seed in seeds)
    fixed = sum(simulate(there, Fixed(best), seed).late for seed in seeds)
    assert ours >= 0.9 * fixed


def test_a_short_run_does_not_spend_its_time_growing() -> None:
    there = scenario("2,000 × 16 KiB, 30 ms")
    ours = simulate(there, auto(there))
    s5cmds = simulate(there, Fixed(256))
    assert ours.seconds <= 1.25 * s5cmds.seconds


@pytest.mark.parametrize(("name", "best"), [("3 GiB in 8 MiB parts, 30 ms", 32), ("3 GiB in 8 MiB parts, 100 ms", 64)])
def test_a_short_run_of_large_gets_fills_its_connections_at_once(name: str, best: int) -> None:
    there = scenario(name)
    ours = sum(simulate(there, auto(there), seed).seconds for seed in SEEDS)
    fixed = sum(simulate(there, Fixed(best), seed).seconds for seed in SEEDS)
    assert ours <= 1.2 * fixed


def test_the_highest_limit_is_enough_or_all_there_is() -> None:
    there = replace(scenario("10 Gb/s, 30 ms, 16 KiB"), seconds=2.0)
    result = simulate(there, auto(there, highest=48))
    assert max(limit for _, limit in result.limits) == 48
