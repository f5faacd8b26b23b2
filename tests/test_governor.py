from __future__ import annotations

import itertools
from collections import deque

import pytest
from benchmarks.kms.fleet import Kind, Single, shared, single
from benchmarks.kms.quota import Timetable
from benchmarks.kms.simulation import Run, simulate
from hypothesis import given
from hypothesis import strategies as st

from sealift.governor import CATCH_UP, JITTER, LEAST, MOST, PATIENCE, PROBES, WINDOW, Cap, Governor

# Seconds passed, requests wanted, of those under way: how many succeed and how many are refused, how many never go out.
steps = st.lists(
    st.tuples(st.floats(0, 3), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 5)),
    max_size=80,
)
caps = st.one_of(st.integers(1, 500).map(float), st.floats(0.1, 500))


def sends(governor: Governor, history: list[tuple[float, int, int, int, int]]) -> list[float]:
    """Let the history happen; return when requests went out."""
    now, went_out, under_way, unsent = 0.0, [], [], 0
    for pause, most, succeed, refuse, back in history:
        taken, now = now, now + pause
        for _ in range(unsent):
            governor.give_back(taken)
        count = governor.take(now, most)
        assert 0 <= count <= most
        unsent = min(back, count)
        went_out += [now] * (count - unsent)
        under_way += [now] * (count - unsent)
        for _ in range(min(succeed, len(under_way))):
            governor.succeeded(now, under_way.pop(0))
        for _ in range(min(refuse, len(under_way))):
            governor.refused(now, under_way.pop(0))
    return went_out


@given(caps, steps)
def test_a_cap_is_never_exceeded_in_any_second_whatever_happens(
    cap: float, history: list[tuple[float, int, int, int, int]]
) -> None:
    went_out = sends(Governor(cap), history)
    most = max(1, int(cap))
    for first, after in zip(went_out, went_out[most:], strict=False):
        assert after - first >= WINDOW


@given(st.one_of(st.none(), caps), steps)
def test_whoever_waits_as_long_as_told_gets_a_permit(
    cap: float | None, history: list[tuple[float, int, int, int, int]]
) -> None:
    governor = Governor(cap)
    sends(governor, history)
    now = sum(pause for pause, *_ in history)
    wait = governor.wait(now)
    assert 0 <= wait < float("inf")
    assert governor.take(now + wait + 1e-6, 1) == 1


@given(st.one_of(st.none(), caps), steps)
def test_the_pace_is_never_above_the_cap_and_never_at_a_standstill(
    cap: float | None, history: list[tuple[float, int, int, int, int]]
) -> None:
    governor = Governor(cap)
    sends(governor, history)
    rate = governor.rate
    assert rate is None or rate > 0
    assert cap is None or (rate is not None and rate <= cap)


@given(steps)
def test_without_a_cap_nothing_waits_before_the_first_refusal(history: list[tuple[float, int, int, int, int]]) -> None:
    governor = Governor()
    now = 0.0
    for pause, most, *_ in history:
        now += pause
        assert governor.take(now, most) == most
        governor.succeeded(now, now)
        assert governor.wait(now) == 0.0
    assert governor.rate is None
    assert governor.quota is None


@given(caps, st.lists(st.tuples(st.floats(0, 2), st.integers(0, 400), st.integers(0, 4), st.booleans()), max_size=80))
def test_a_cap_is_never_exceeded_by_what_goes_out_late(cap: float, history: list[tuple[float, int, int, bool]]) -> None:
    """Permits are held as long as it takes; some requests are sent elsewhere first, and count by the second time."""
    governor, now, held, went_out = Governor(cap), 0.0, 0, list[float]()
    for pause, most, go, again in history:
        now += pause
        held += governor.take(now, most, held=True)
        if again and went_out and now - went_out[-1] <= WINDOW:
            governor.sent(now, went_out.pop())
            went_out.append(now)
        for _ in range(min(go, held)):
            governor.sent(now)
            went_out.append(now)
            held -= 1
    assert held <= max(1, int(cap))
    most = max(1, int(cap))
    for first, after in zip(went_out, went_out[most:], strict=False):
        assert after - first >= WINDOW


@given(caps, st.integers(1, 100))
def test_what_is_held_by_somebody_is_waited_for_until_it_has_gone(cap: float, seconds: int) -> None:
    governor = Governor(cap)
    most = max(1, int(cap))
    for number in range(most):
        assert governor.take(3.0 * number / min(cap, 1), 1, held=True) == 1
    now = 3.0 * most / min(cap, 1) + seconds
    assert governor.take(now, 1, held=True) == 0
    now += governor.wait(now)
    assert governor.take(now, 1, held=True) == 0
    for _ in range(most):
        governor.sent(now)
    assert governor.take(now, 1) == 0
    now += governor.wait(now) + 1e-6
    assert governor.take(now, 1) == 1


def test_what_never_goes_out_leaves_its_place_to_the_next_at_once() -> None:
    governor = Governor(2.0)
    assert governor.take(0.0, 1, held=True) == 1
    assert governor.reserve(0.0, held=True) == 0.0
    governor.unsent()
    governor.unsent(reserved=True)
    assert governor.take(0.0, 1) == 1
    assert governor.reserve(0.0) == 0.0
    assert governor.reserve(0.0) > 0.0


def test_permits_of_what_never_went_out_do_not_pile_up() -> None:
    """A network that fails gives back many at a time, which were taken over a while: they would all go at once."""
    governor = steady(100)
    now, taken = 2.1, 0
    while taken < 90:
        taken += governor.take(now, 1, held=True)
        now += 0.01
    for _ in range(taken):
        governor.unsent()
    assert 1 <= governor.take(now, 1000) <= 2 + CATCH_UP * (governor.rate or 0.0)


def throttled(successes: int) -> Governor:
    """Return a governor that had so many successes in its first second, then a refusal, and a success."""
    governor = Governor()
    governor.take(0.0, successes + 1)
    for index in range(successes):
        governor.succeeded(index / successes, 0.0)
    governor.refused(0.99, 0.98)
    governor.take(0.99, 1)
    governor.succeeded(1.0, 0.995)
    return governor


def steady(successes: int) -> Governor:
    """Return a governor that has searched, and found at 2.0 that so many a second are what is allowed."""
    governor = throttled(successes)
    for tick in range(100):
        for _ in range(successes // 100):
            governor.succeeded(1 + tick / 100, 1 + tick / 100 - 0.01)
    governor.refused(2.0, 1.99)
    governor.succeeded(2.01, 2.005)
    return governor


def paces(governor: Governor, begin: float, seconds: float) -> list[float]:
    """Let everything that is allowed be sent and succeed; return the pace ten times a second."""
    found = []
    for tick in range(int(seconds * 100)):
        now = begin + tick / 100
        for _ in range(governor.take(now, 10_000)):
            governor.succeeded(now, now - 0.001)
        if tick % 10 == 0:
            found.append(governor.rate or 0.0)
    return found


def test_the_first_refusal_sets_the_pace_a_little_below_what_was_granted() -> None:
    governor = throttled(300)
    assert governor.quota == pytest.approx(300, rel=0.06)
    assert 0.9 * 300 <= (governor.rate or 0.0) < 300


def test_a_first_refusal_that_comes_late_finds_what_was_granted_before() -> None:
    governor = Governor()
    for index in range(200):
        governor.succeeded(10 + index / 200, 10.0)
    governor.refused(11.5, 10.5)
    assert governor.quota == pytest.approx(100, rel=0.1)


def test_what_was_sent_before_an_event_is_refused_for_the_same_reason() -> None:
    governor = throttled(300)
    before = (governor.rate, governor.quota, governor.changes)
    for _ in range(500):
        governor.refused(1.05, 0.9)
    assert (governor.rate, governor.quota, governor.changes) == before


def test_an_event_brakes_until_what_was_sent_since_is_granted() -> None:
    governor = steady(300)
    governor.refused(2.1, 2.09)
    braked = governor.rate or 0.0
    governor.succeeded(2.11, 2.095)
    assert governor.rate == braked
    governor.succeeded(2.12, 2.105)
    assert (governor.rate or 0.0) == pytest.approx(2 * braked)


def test_while_everything_is_refused_a_few_probes_go_out_and_a_success_ends_that() -> None:
    governor = steady(3000)
    now, refused = 2.02, 0
    while now < 2.8:
        for _ in range(governor.take(now, 1000)):
            governor.refused(now + 0.001, now)
            refused += 1
        now += 0.002
    assert refused <= 10 + PROBES + 2 * 3000 * CATCH_UP
    assert governor.rate == pytest.approx(PROBES)
    governor.succeeded(now + 0.02, now + 0.01)
    assert (governor.rate or 0.0) > 10 * PROBES


def test_soon_after_an_event_what_was_granted_since_tells_the_rate() -> None:
    """A bucket is empty at both: what it granted between them is its rate, however little time that was."""
    governor = steady(300)  # the last event was at 2.0, and one was granted since
    for tick in range(24):
        governor.succeeded(2.02 + tick / 400, 2.02 + tick / 400 - 0.001)
    governor.refused(2.1, 2.09)
    assert governor.quota == pytest.approx(260)


def goes_on(governor: Governor, begin: float, granted: int) -> None:
    """Let so many be granted in the second from `begin` on, then one be refused, and one granted again."""
    for tick in range(granted):
        governor.succeeded(begin + tick / granted, begin + tick / granted - 0.001)
    governor.refused(begin + 1.01, begin + 1.0)
    governor.succeeded(begin + 1.02, begin + 1.015)


def test_what_was_allowed_lately_is_hoped_for() -> None:
    """One of two had twice as much before, and is the first to look for it again."""
    before, never = steady(400), steady(200)
    for governor, granted in ((before, 400), (never, 200)):
        goes_on(governor, 2.02, granted)
        goes_on(governor, 3.05, 200)
    assert before.quota == pytest.approx(never.quota, rel=0.1)
    assert paces(before, 4.1, PATIENCE)[-1] > 1.2 * paces(never, 4.1, PATIENCE)[-1]


def test_a_pace_of_a_few_a_second_doubles_soon() -> None:
    """It is no quota: somebody else was quicker."""
    few, more = steady(100), steady(100)
    for governor, granted in ((few, 5), (more, 40)):
        goes_on(governor, 3.0, granted)
    shares = [paces(each, 4.05, PATIENCE)[-1] / (each.quota or 1.0) for each in (few, more)]
    assert shares[0] > shares[1]


def test_after_the_first_event_the_pace_doubles_and_only_until_the_second() -> None:
    governor = throttled(300)
    assert paces(governor, 1.0, 0.7)[-1] > 2 * 300
    governor.refused(1.75, 1.749)
    governor.succeeded(1.76, 1.755)
    found = paces(governor, 1.8, 0.7)
    assert found[-1] < 1.05 * found[0]


def test_a_search_that_nobody_answers_ends() -> None:
    governor = throttled(300)
    for tick in range(10_000):
        governor.take(1 + tick / 100, 10**9)
    assert governor.rate == MOST


def test_the_pace_grows_gently_around_what_was_granted_and_steeply_beyond() -> None:
    governor = steady(300)
    allowed = governor.quota or 0.0
    grown = paces(governor, 2.02, 3 * PATIENCE)
    assert grown == sorted(grown)
    assert grown[15] < allowed
    assert grown[-1] > 2 * allowed
    assert grown[int(5 * PATIENCE)] < 1.05 * allowed


def test_the_smaller_of_two_paces_grows_faster() -> None:
    small, large = steady(100), steady(1000)
    shares = [paces(each, 2.02, 2 * PATIENCE)[-1] / (each.quota or 1.0) for each in (small, large)]
    assert shares[0] > shares[1]


def test_an_event_that_cost_many_refusals_makes_the_next_one_rarer() -> None:
    cheap, dear = steady(300), steady(300)
    for _ in range(30):
        dear.refused(2.02, 1.9)
    assert paces(cheap, 2.05, 2 * PATIENCE)[-1] > paces(dear, 2.05, 2 * PATIENCE)[-1]


def test_a_pace_that_nobody_uses_does_not_grow() -> None:
    governor = steady(300)
    before = governor.rate
    for tick in range(1000):
        governor.take(3 + tick / 10, 1)
    assert governor.rate == before


def test_a_growing_pace_is_seen_as_changes() -> None:
    governor = steady(300)
    before = governor.changes
    paces(governor, 2.02, 3 * PATIENCE)
    assert governor.changes > before


def test_little_is_tried_whatever_was_refused() -> None:
    governor = Governor()
    for index in range(50):
        governor.refused(float(index), index - 0.5)
    assert (governor.rate or 0.0) >= LEAST / 2


def test_a_cap_is_used_to_the_last_percents_and_evenly() -> None:
    governor = Governor(100.0)
    now, went_out = 0.0, []
    while now < 60:
        went_out += [now] * governor.take(now, 1000)
        now += max(0.001, governor.wait(now))
    assert len(went_out) >= 0.98 * 100 * 60
    assert max(after - before for before, after in itertools.pairwise(went_out)) <= 0.013


def test_a_loop_that_wakes_up_late_makes_up_for_it() -> None:
    governor = Governor(1000.0)
    sent = sum(governor.take(tick * 0.015, 1000) for tick in range(200))
    assert sent >= 0.98 * 1000 * 199 * 0.015 / (1 + JITTER)


def test_a_permit_that_was_given_back_can_be_taken_again() -> None:
    governor = Governor(1.0)
    assert governor.take(0.0, 5) == 1
    assert governor.take(0.0, 5) == 0
    governor.give_back(0.0)
    assert governor.take(0.0, 5) == 1


def test_a_permit_that_is_given_back_late_lets_no_more_through_than_the_cap() -> None:
    governor = Governor(2.0)
    assert governor.take(0.0, 1) == 1
    assert governor.take(0.52, 1) == 1
    governor.give_back(0.1)  # the first one
    assert governor.take(0.6, 1) == 1
    assert governor.take(1.1, 5) == 0, "two have gone out since 0.52"
    assert governor.take(1.6, 5) >= 1


def test_permits_that_are_not_needed_take_no_room_from_those_that_are() -> None:
    """Of 200 requests a second half turn out to need none, 50 ms later: a cap of 100 holds little back."""
    governor, late, needed = Governor(100.0), deque[float](), 0
    for tick in range(2000):
        now = tick * 0.005
        while late and late[0] <= now - 0.05:
            governor.give_back(late.popleft())
        if governor.take(now, 1):
            if tick % 2:
                needed += 1
            else:
                late.append(now)
    assert needed >= 0.9 * 100 * 2000 * 0.005


def test_a_cap_is_shared_by_all_paces_that_have_it_in_common() -> None:
    common = Cap(10.0)
    one, other = Governor(common=common), Governor(8.0, common=common)
    went_out = []
    for tick in range(500):
        now = tick * 0.01
        went_out += [now] * (one.take(now, 1) + other.take(now, 1))
    assert all(after - first >= WINDOW for first, after in zip(went_out, went_out[10:], strict=False))
    assert len(went_out) >= 0.95 * 10 * 5


def test_what_most_likely_needs_no_permit_counts_against_the_cap_until_it_is_known() -> None:
    governor = Governor(3.0)
    assert [governor.reserve(0.0) > 0 for _ in range(4)] == [False, False, False, True]
    assert governor.take(0.0, 1) == 0
    governor.free(0.0)
    assert governor.take(0.1, 1) == 1
    assert governor.reserve(0.2) > 0
    assert governor.reserve(1.2) == 0
    assert Governor().reserve(0.0) == 0


@pytest.mark.parametrize("cap", [0.0, -1.0])
def test_a_cap_that_allows_nothing_is_refused(cap: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Governor(cap)


@pytest.mark.parametrize(
    ("rates", "objects", "kind", "slowest", "refused"),
    [
        ((300.0,), 6000, "bucket", 1.0, 0.01),
        ((300.0,), 6000, "small bucket", 1.05, 0.01),
        ((300.0,), 6000, "windows", 1.02, 0.01),
        ((3000.0,), 6000, "windows", 1.05, 0.02),
        ((300.0, 150.0), 4500, "bucket", 1.08, 0.02),
    ],
)
def test_a_run_by_itself_takes_little_more_than_the_quota_demands(
    rates: tuple[float, ...], objects: int, kind: Kind, slowest: float, refused: float
) -> None:
    """Short scenarios of benchmarks/kms/fleet.py; the refused ones are a share of the objects."""
    time, share = single(Governor, Single("", kind, Timetable(rates, 10.0), objects), 1)
    assert time <= slowest
    assert share <= refused


def test_two_runs_share_evenly_and_leave_others_what_is_theirs() -> None:
    found = shared(Governor, "bucket", seed=2, seconds=300)
    assert found.ratio <= 1.3
    assert found.background <= 0.01
    assert found.used >= 0.95


def test_a_cap_is_kept_where_the_network_is_uneven() -> None:
    """What the server sees: 5 ms there and back, a fifth of that more or less."""
    seen: list[float] = []

    class Everything:
        def grants(self, now: float) -> bool:
            seen.append(now)
            return True

    simulate(Everything(), [Run(Governor(100.0), trip=0.005)], 20)
    assert len(seen) >= 0.98 * 100 * 20
    seen.sort()
    assert all(after - first >= WINDOW for first, after in zip(seen, seen[100:], strict=False))


def test_refusals_beside_the_first_flood_do_not_end_the_search() -> None:
    """What was sent before the first refusal empties a bucket, and so refuses what is sent after it."""
    governor = Governor()
    assert governor.take(0.0, 96) == 96
    for _ in range(40):
        governor.succeeded(0.02, 0.0)
    governor.refused(0.03, 0.0)
    governor.succeeded(0.05, 0.04)
    governor.refused(0.07, 0.06)
    for tick in range(40, 250):
        now = tick / 100
        for _ in range(governor.take(now, 100)):
            governor.succeeded(now, now)
    rate = governor.rate
    assert rate is not None
    assert rate > 300


def test_an_event_soon_after_another_is_the_same_one() -> None:
    governor = steady(3000)
    governor.refused(2.1, 2.099)
    found = governor.quota
    for tick in range(5):
        governor.succeeded(2.102 + tick / 500, 2.101 + tick / 500)
        governor.refused(2.1035 + tick / 500, 2.103 + tick / 500)
    assert governor.quota == found


def test_what_a_late_loop_could_make_up_for_lapses_with_a_refusal() -> None:
    governor = steady(3000)
    assert governor.take(2.2, 1) == 1
    governor.refused(2.5, 2.4)
    assert governor.take(2.5, 1000) == 1


def test_a_search_ends_with_the_next_event_however_slowly_refusals_come() -> None:
    governor = throttled(100)
    governor.take(1.0, 1)
    for _ in range(8):
        governor.refused(1.2, 0.5)  # sent before the first event, and 0.7 s late
    paces(governor, 1.21, 1.0)
    governor.refused(2.3, 2.295)
    governor.succeeded(2.31, 2.305)
    found = paces(governor, 2.32, 1.0)
    assert found[-1] < 1.1 * found[0]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 30))
def test_a_cap_that_changes_is_kept_from_then_on(caps: list[int], tries: int) -> None:
    """In any second no more go than are allowed now, what went under the caps before included."""
    common = Cap(caps[0])
    governor, now = Governor(common=common), 100.0
    sent: list[tuple[float, int]] = []
    for cap in caps:
        common.change(cap)
        assert governor.rate == cap
        for _ in range(tries):
            now += 0.05
            count = governor.take(now, 10)
            lately = sum(number for moment, number in sent if moment > now - WINDOW)
            assert count == 0 or 0 < count <= cap - lately
            sent.append((now, count))
