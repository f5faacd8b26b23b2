"""Whether to try again, and when: pure decisions, randomness passed in.

One policy for everything (the SDK's own retries are off): exponential backoff with full jitter (M. Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015). An attempt that brought bytes is progress and
starts the count afresh; a throttle never counts, nor does a worker process that died: of hundreds that it had been
handed, none or one is to blame, and how many may die is bounded by the run (`crew.parent.MOST_DEATHS`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sealift.errors import Integrity, ObjectError, Throttled, Transient, WorkerDied


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """How often and how patiently a part is tried again."""

    max_attempts: int = 10
    """Attempts in a row without a byte of progress. With the delays below, ten of them span about half a
    minute, which outlasts the restart of a load balancer."""
    base: float = 0.2
    """Seconds: the widest first delay, the order of one small-object round trip on S3 (100–200 ms)."""
    cap: float = 20.0
    """Seconds: the widest delay of all; the cap of the AWS SDKs' standard retry mode."""
    restarts: int = 3
    """How often an object that is overwritten while it is fetched is started over."""


def backoff(failures: int, settings: RetrySettings, chance: float) -> float:
    """Return the seconds to wait after `failures` (≥ 1) failures in a row; `chance` is uniform in [0, 1)."""
    # 2**60 is past every cap; the bound keeps the power from growing into a big integer.
    return chance * min(settings.cap, settings.base * 2.0 ** min(failures - 1, 60))


@dataclass(frozen=True, slots=True)
class Attempts:
    """What a part has been through so far."""

    failures: int = 0
    throttles: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """Try again `delay` seconds from now."""

    attempts: Attempts
    delay: float


def after(
    error: ObjectError,
    attempts: Attempts,
    settings: RetrySettings,
    *,
    progressed: bool,
    chance: float,
) -> Again | None:
    """Decide what follows an attempt that ended in `error`; None means that the object has failed."""
    if isinstance(error, Throttled):
        before = Attempts() if progressed else attempts
        again = replace(before, throttles=before.throttles + 1)
        return Again(again, backoff(again.throttles, settings, chance))
    if isinstance(error, WorkerDied):
        return Again(Attempts() if progressed else attempts, 0.0)
    if not isinstance(error, (Transient, Integrity)):
        return None
    failures = 1 if progressed else attempts.failures + 1
    if failures >= settings.max_attempts:
        return None
    return Again(Attempts(failures, 0), backoff(failures, settings, chance))
