from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import (
    Changed,
    Integrity,
    ObjectError,
    Permanent,
    Refused,
    Throttled,
    Transient,
    Unreachable,
    WorkerDied,
)
from sealift.retry import Again, Attempts, RetrySettings, after, backoff

chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    RetrySettings,
    max_attempts=st.integers(1, 20),
    base=st.floats(0.001, 10),
    cap=st.floats(0.001, 100),
)

KMS = Throttled("slow down", service="kms")
S3 = Throttled("slow down", service="s3")
LOST = Transient("the connection was lost")


def follow(errors: list[tuple[ObjectError, bool]], settings: RetrySettings) -> Attempts | None:
    """Let a part go through these errors, each with whether bytes had come; None if it fails on the way."""
    attempts = Attempts()
    for error, progressed in errors:
        again = after(error, attempts, settings, progressed=progressed, chance=0.5)
        if again is None:
            return None
        attempts = again.attempts
    return attempts


@given(st.integers(1, 10**9), policies, chances)
def test_a_delay_is_never_negative_and_never_above_the_cap(
    failures: int, settings: RetrySettings, chance: float
) -> None:
    assert 0 <= backoff(failures, settings, chance) <= settings.cap


@given(st.integers(1, 80), policies, chances)
def test_the_width_of_a_delay_doubles_until_it_meets_the_cap(
    failures: int, settings: RetrySettings, chance: float
) -> None:
    width = min(settings.cap, settings.base * 2 ** (failures - 1))
    assert backoff(failures, settings, chance) == pytest.approx(chance * width)


@given(st.lists(st.sampled_from([KMS, S3]), min_size=1, max_size=500), policies, chances)
def test_no_number_of_throttles_fails_an_object(
    throttles: list[Throttled], settings: RetrySettings, chance: float
) -> None:
    attempts = Attempts()
    for error in throttles:
        again = after(error, attempts, settings, progressed=False, chance=chance)
        assert again is not None
        assert 0 <= again.delay <= settings.cap
        assert again.attempts.failures == 0
        attempts = again.attempts


@given(st.lists(st.sampled_from([KMS, S3, LOST]), max_size=200), policies)
def test_throttles_between_failures_neither_cost_nor_give_attempts(
    errors: list[ObjectError], settings: RetrySettings
) -> None:
    failures = errors.count(LOST)
    assert (follow([(error, False) for error in errors], settings) is None) == (failures >= settings.max_attempts)


@given(policies, st.sampled_from([LOST, Unreachable("no route"), Integrity("too short")]))
def test_an_object_gets_exactly_its_attempts(settings: RetrySettings, error: ObjectError) -> None:
    allowed = settings.max_attempts - 1
    assert follow([(error, False)] * allowed, settings) == Attempts(failures=allowed)
    assert follow([(error, False)] * (allowed + 1), settings) is None


@given(st.integers(0, 100), policies)
def test_no_number_of_workers_that_die_costs_an_object_an_attempt(deaths: int, settings: RetrySettings) -> None:
    allowed = settings.max_attempts - 1
    errors: list[ObjectError] = [*[LOST] * allowed, *[WorkerDied("ended with status -9")] * deaths]
    assert follow([(error, False) for error in errors], settings) == Attempts(failures=allowed)


@given(st.lists(st.tuples(st.just(LOST), st.booleans()), max_size=100), st.integers(2, 20))
def test_progress_starts_the_count_afresh(history: list[tuple[ObjectError, bool]], max_attempts: int) -> None:
    settings = RetrySettings(max_attempts=max_attempts)
    longest = run = 0
    for _, progressed in history:
        run = 1 if progressed else run + 1
        longest = max(longest, run)
    assert (follow(history, settings) is None) == (longest >= max_attempts)


def test_a_throttle_after_progress_starts_both_counts_afresh() -> None:
    settings = RetrySettings()
    again = after(KMS, Attempts(failures=7, throttles=5), settings, progressed=True, chance=0.5)
    assert again == Again(Attempts(failures=0, throttles=1), 0.5 * settings.base)


def test_throttles_in_a_row_wait_longer_and_longer() -> None:
    settings = RetrySettings(base=1, cap=8)
    attempts, delays = Attempts(), []
    for _ in range(6):
        again = after(KMS, attempts, settings, progressed=False, chance=0.5)
        assert again is not None
        attempts = again.attempts
        delays.append(again.delay)
    assert delays == [0.5, 1, 2, 4, 4, 4]


def test_an_answer_that_is_no_throttle_ends_a_row_of_throttles() -> None:
    again = after(LOST, Attempts(failures=1, throttles=5), RetrySettings(), progressed=False, chance=0.5)
    assert again is not None
    assert again.attempts == Attempts(failures=2, throttles=0)


@pytest.mark.parametrize("error", [Permanent("gone"), Refused("no"), Changed("another one"), ObjectError("odd")])
def test_what_no_attempt_would_help_is_not_tried_again(error: ObjectError) -> None:
    assert after(error, Attempts(), RetrySettings(), progressed=True, chance=0.0) is None
