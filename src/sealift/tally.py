"""What a run has done so far: the counters behind the summary, and whoever watches them grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from sealift.errors import Integrity, ObjectError, Refused, RunError, Throttled, Transient
from sealift.model import (
    Ending,
    Failure,
    Finding,
    Forecast,
    KmsForecast,
    KmsUse,
    Outcome,
    PaceSample,
    RemoteObject,
    Summary,
    Verification,
)
from sealift.refusals import Refusals, is_refusal

FAILURES_IN_SUMMARY = 1000
"""The summary's `failures` are at most these; the run's log has all of them."""


class Observer(Protocol):
    """Hears of everything that a run does. Called on the event loop, and never waited for: be quick."""

    def listed(self, objects: int) -> None:
        """So many more objects were listed."""

    def planned(self, remote: RemoteObject, path: str, size: int, gets: int) -> None:
        """An object is to be fetched: `size` bytes of it are missing, which takes `gets` GETs."""

    def advanced(self, size: int) -> None:
        """So many body bytes came."""

    def restarted(self, size: int, received: int) -> None:
        """An object was overwritten and is `planned` anew; of the `size` bytes of the old one `received` had come."""

    def ended(self, outcome: Outcome) -> None:
        """An object came to its end."""

    def in_place(self, objects: int, outcomes: Callable[[], Iterator[Outcome]]) -> None:
        """So many objects are up to date. Takes the place of `ended` of each, whose argument `outcomes` gives."""

    def retrying(self, error: ObjectError) -> None:
        """An attempt failed, and another one follows."""

    def measured(self, sample: PaceSample) -> None:
        """Another second has passed while objects are fetched; the last stretch may be shorter."""

    def noted(self, level: Literal["info", "warning"], text: str) -> None:
        """Something that a person may want to know. One line."""

    def finished(self, summary: Summary) -> None:
        """The run is over, for good or ill."""


class Unobserved:
    """An observer that looks away; a base for those who watch only some things."""

    def listed(self, objects: int) -> None:
        """See `Observer.listed`."""

    def planned(self, remote: RemoteObject, path: str, size: int, gets: int) -> None:
        """See `Observer.planned`."""

    def advanced(self, size: int) -> None:
        """See `Observer.advanced`."""

    def restarted(self, size: int, received: int) -> None:
        """See `Observer.restarted`."""

    def ended(self, outcome: Outcome) -> None:
        """See `Observer.ended`."""

    def in_place(self, objects: int, outcomes: Callable[[], Iterator[Outcome]]) -> None:
        """See `Observer.in_place`: `ended` hears of each."""
        del objects
        for outcome in outcomes():
            self.ended(outcome)

    def retrying(self, error: ObjectError) -> None:
        """See `Observer.retrying`."""

    def measured(self, sample: PaceSample) -> None:
        """See `Observer.measured`."""

    def noted(self, level: Literal["info", "warning"], text: str) -> None:
        """See `Observer.noted`."""

    def finished(self, summary: Summary) -> None:
        """See `Observer.finished`."""


class Onlooker(Unobserved):
    """What hears of a verification as well; it looks away."""

    def expected(self, files: int, size: int) -> None:
        """So many more files are to be looked at, of so many bytes."""

    def looked_at(self, files: int, size: int) -> None:
        """So many of them were."""

    def found(self, finding: Finding) -> None:
        """A file is not what it should be, or unknown."""

    def verified(self, verification: Verification) -> None:
        """All were looked at, or that ended early."""


class Observers(Unobserved):
    """Several observers as one."""

    def __init__(self, *observers: Observer | None) -> None:
        """None is nobody."""
        self.members: list[Observer] = []
        """All of them, one by one."""
        # What comes with each object or piece is told only to those who do not look away: a call each costs what tells.
        self._planned: list[Callable[[RemoteObject, str, int, int], None]] = []
        self._advanced: list[Callable[[int], None]] = []
        self._ended: list[Callable[[Outcome], None]] = []
        for observer in observers:
            if observer is not None:
                self.add(observer)

    def add(self, observer: Observer) -> None:
        """Let one more observer hear from now on; or several, who are as many by now."""
        if isinstance(observer, Observers):
            for each in observer.members:
                self.add(each)
            return
        self.members.append(observer)
        kind = type(observer)
        if getattr(kind, "planned", None) is not Unobserved.planned:
            self._planned.append(observer.planned)
        if getattr(kind, "advanced", None) is not Unobserved.advanced:
            self._advanced.append(observer.advanced)
        if getattr(kind, "ended", None) is not Unobserved.ended:
            self._ended.append(observer.ended)

    def listed(self, objects: int) -> None:
        """See `Observer.listed`."""
        for observer in self.members:
            observer.listed(objects)

    def planned(self, remote: RemoteObject, path: str, size: int, gets: int) -> None:
        """See `Observer.planned`."""
        for planned in self._planned:
            planned(remote, path, size, gets)

    def advanced(self, size: int) -> None:
        """See `Observer.advanced`."""
        for advanced in self._advanced:
            advanced(size)

    def restarted(self, size: int, received: int) -> None:
        """See `Observer.restarted`."""
        for observer in self.members:
            observer.restarted(size, received)

    def ended(self, outcome: Outcome) -> None:
        """See `Observer.ended`."""
        for ended in self._ended:
            ended(outcome)

    def in_place(self, objects: int, outcomes: Callable[[], Iterator[Outcome]]) -> None:
        """See `Observer.in_place`."""
        for observer in self.members:
            observer.in_place(objects, outcomes)

    def retrying(self, error: ObjectError) -> None:
        """See `Observer.retrying`."""
        for observer in self.members:
            observer.retrying(error)

    def measured(self, sample: PaceSample) -> None:
        """See `Observer.measured`."""
        for observer in self.members:
            observer.measured(sample)

    def noted(self, level: Literal["info", "warning"], text: str) -> None:
        """See `Observer.noted`."""
        for observer in self.members:
            observer.noted(level, text)

    def finished(self, summary: Summary) -> None:
        """See `Observer.finished`."""
        for observer in self.members:
            observer.finished(summary)


@dataclass(slots=True)
class Tally:
    """Counts what happens and passes it on to the observer. One a run."""

    observer: Observer
    started: float
    """When the run began, in the seconds of a monotonic clock."""
    listed: int = 0
    endings: dict[Ending, int] = field(default_factory=lambda: dict.fromkeys(Ending, 0))
    verified: int = 0
    escaped: int = 0
    bytes: int = 0
    get_requests: int = 0
    kms_requests: int = 0
    kms_throttled: int = 0
    s3_throttled: int = 0
    retries: int = 0
    kms_wait: float = 0.0
    """Seconds in which GETs waited for leave to ask KMS, as of the last sample."""
    kms_quota: float | None = None
    failures: list[Failure] = field(default_factory=list)
    forgives_missing: bool = False
    """What does not exist any more is skipped: whoever named it is known to be of an earlier time."""
    refused: int = 0
    """Failures that are refusals: if there is nothing else, nothing could be read at all."""
    turned_away: int = 0
    """The same, with those whose key nobody can use."""
    turned_away_again: Callable[[], None] = lambda: None
    """Hears of each of those."""
    refusals: Refusals = field(default_factory=Refusals)

    def list(self, objects: int) -> None:
        """Count objects that were listed."""
        self.listed += objects
        self.observer.listed(objects)

    def receive(self, size: int) -> None:
        """Count body bytes."""
        self.bytes += size
        self.observer.advanced(size)

    def retry(self, error: ObjectError) -> None:
        """Count an attempt that failed and is followed by another."""
        if isinstance(error, Throttled):
            if error.service == "kms":
                self.kms_throttled += 1
                self.kms_requests += 1
            else:
                self.s3_throttled += 1
        elif isinstance(error, (Transient, Integrity)):
            self.retries += 1
        self.observer.retrying(error)

    def end(self, outcome: Outcome) -> None:
        """Count an object that came to its end."""
        self.endings[outcome.ending] += 1
        self.escaped += outcome.escaped
        self.observer.ended(outcome)

    def settle(self, objects: int, outcomes: Callable[[], Iterator[Outcome]]) -> None:
        """Count objects that are up to date, and lie where their keys say; `outcomes` gives the outcome of each."""
        self.endings[Ending.UP_TO_DATE] += objects
        self.observer.in_place(objects, outcomes)

    @property
    def pending(self) -> int:
        """How many listed objects have not come to their end."""
        return self.listed - sum(self.endings.values()) + self.endings[Ending.DELETED]

    def fail(self, remote: RemoteObject, error: ObjectError) -> None:
        """Count an object that failed, and remember why."""
        if self.forgives_missing and error.code == "NoSuchKey":
            message = "deleted since it was listed"
            self.end(Outcome(Ending.SKIPPED, remote.bucket, remote.key, remote.size, message=message))
            return
        self.refused += isinstance(error, Refused)
        if is_refusal(error):
            self.turned_away += 1
            self.refusals.add(remote, error)
            self.turned_away_again()
        if len(self.failures) < FAILURES_IN_SUMMARY:
            self.failures.append(Failure(remote.bucket, remote.key, error.code, error.message))
        self.end(
            Outcome(Ending.FAILED, remote.bucket, remote.key, remote.size, error=error.code, message=error.message)
        )

    @property
    def in_place(self) -> int:
        """How many objects are where they should be."""
        return self.endings[Ending.DOWNLOADED] + self.endings[Ending.UP_TO_DATE]

    def summary(self, now: float, *, complete: bool) -> Summary:
        """Return the summary as of `now`; `complete` says that every listing reached its end."""
        return Summary(
            listed=self.listed,
            downloaded=self.endings[Ending.DOWNLOADED],
            up_to_date=self.endings[Ending.UP_TO_DATE],
            skipped=self.endings[Ending.SKIPPED],
            failed=self.endings[Ending.FAILED],
            pending=self.pending,
            deleted=self.endings[Ending.DELETED],
            verified=self.verified,
            escaped=self.escaped,
            bytes=self.bytes,
            get_requests=self.get_requests,
            kms_throttled=self.kms_throttled,
            s3_throttled=self.s3_throttled,
            retries=self.retries,
            seconds=round(now - self.started, 3),
            complete=complete,
            failures=tuple(self.failures),
            kms=KmsUse(
                requests=self.kms_requests,
                wait_seconds=round(self.kms_wait, 3),
                quota=None if self.kms_quota is None else round(self.kms_quota, 1),
            ),
            refusals=tuple(self.refusals),
        )


@contextmanager
def reported(observer: Observer, summary: Callable[[], Summary]) -> Iterator[None]:
    """Report on the way out, and let a RunError tell what was done until then."""
    try:
        yield
    except RunError as error:
        error.summary = summary()
        raise
    finally:
        observer.finished(summary())


def forecast(sofar: Summary, *, objects: int, size: int, gets: int, kms: KmsForecast, escaped: int = 0) -> Forecast:
    """Return what a plan that came as far as `sofar` says: `objects`, of `size` bytes, would be fetched in `gets` GETs.

    Directory markers, which take no GET, are among `sofar.downloaded`.
    """
    return Forecast(
        listed=sofar.listed,
        to_download=objects + sofar.downloaded,
        up_to_date=sofar.up_to_date,
        skipped=sofar.skipped,
        failed=sofar.failed,
        to_delete=sofar.deleted,
        escaped=escaped,
        bytes=size,
        get_requests=gets,
        seconds=sofar.seconds,
        complete=sofar.complete,
        failures=sofar.failures,
        kms=kms,
    )
