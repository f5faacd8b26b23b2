"""Which GETs may be sent now."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import time

import pytest
from benchmarks.kms.fleet import Kind, server
from benchmarks.kms.quota import Timetable
from benchmarks.kms.simulation import Run, simulate
from hypothesis import given
from hypothesis import strategies as st

from sealift.admission import Admission, Way
from sealift.config import KmsSettings
from sealift.model import RemoteObject
from sealift.neighbours import ENOUGH
from sealift.pacing import Permit
from sealift.timetable import Slot

REGIONS = {"here": "eu-central-1", "beside": "eu-central-1", "far": "us-east-1"}


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now


@dataclass
class Wish:
    """An object that is wanted."""

    remote: RemoteObject
    to_open: bool = False
    charged: bool = True
    refused: bool = False


def wish(bucket: str = "here", key: str = "d/k", **facts: bool) -> Wish:
    return Wish(RemoteObject(bucket, key, 1, '"e"', 0), **facts)


def sent(leave: Way | None) -> Permit | None:
    """Send something with leave that was taken."""
    permit = None if leave is None else leave.permit()
    if permit is not None:
        permit.sent()
    return permit


def admitted(admission: Admission, wanted: Wish) -> bool:
    """Ask for leave, and use it if there is any."""
    leave = admission.leave(wanted)
    if leave is not None and leave.take():
        return False
    sent(leave)
    return True


@dataclass
class Story:
    """Paces, and a clock to go with them."""

    kms: KmsSettings = field(default_factory=KmsSettings)
    caps: dict[str, float] = field(default_factory=dict)
    regions: dict[str, str] = field(default_factory=lambda: dict(REGIONS))
    hour: time = time(7)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.admission = Admission(
            self.kms,
            lambda bucket: self.regions.get(bucket, ""),
            self.caps,
            clock=self.clock.time,
            wall=lambda: self.hour,
        )

    def granted(self, wanted: Wish, count: int = 1, *, charged: bool = True) -> None:
        for _ in range(count):
            leave = self.admission.leave(wanted)
            if leave is not None:
                assert leave.take() == 0.0
            self.admission.answered(wanted, sent(leave), self.clock.now, charged=charged)
            self.clock.now += 0.01

    def refused_by_kms(self, wanted: Wish, count: int = 5, *, key_store: bool = False) -> None:
        for _ in range(count):
            admitted(self.admission, wanted)
            self.admission.refused(wanted, self.clock.now, key_store=key_store)
            self.clock.now += 0.001


def test_nothing_needs_leave_before_somebody_refuses_something() -> None:
    story = Story()
    assert story.admission.leave(wish()) is None
    assert story.admission.leave(wish("far", charged=False)) is None


def test_requests_are_paced_under_a_cap_and_from_the_first_refusal_on() -> None:
    story = Story()
    assert admitted(story.admission, wish())
    before = story.admission.paced
    story.refused_by_kms(wish())
    assert (before, story.admission.paced) == (False, True)

    slowed = Story()
    slowed.admission.slowed(wish(), slowed.clock.now)
    assert slowed.admission.paced

    assert Story(KmsSettings(rps=10.0)).admission.paced, "before anything was asked for"
    assert Story(KmsSettings(timetable=(Slot(time(8), time(18), 10.0),))).admission.paced
    assert Story(caps={"eu-central-1": 10.0}).admission.paced


def test_what_is_not_to_be_asked_for_yet_needs_no_leave() -> None:
    story = Story(KmsSettings(rps=1))
    assert story.admission.leave(wish(to_open=True)) is None
    assert story.admission.leave(wish()) is not None


def test_a_refusal_of_kms_holds_back_its_region_and_nothing_else() -> None:
    story = Story()
    story.granted(wish(), 50)
    story.granted(wish("far"), 50)
    story.refused_by_kms(wish())
    assert not admitted(story.admission, wish())
    assert not admitted(story.admission, wish("beside")), "it is the quota of the account in this Region"
    for _ in range(1000):
        assert admitted(story.admission, wish("far"))
        assert admitted(story.admission, wish(charged=False))


def test_a_refusal_of_s3_holds_back_its_bucket_whether_kms_is_asked_or_not() -> None:
    story = Story()
    story.granted(wish(), 60)
    story.admission.tick()
    for _ in range(5):
        admitted(story.admission, wish())
        story.admission.slowed(wish(), story.clock.now)
        story.clock.now += 0.001
    assert not admitted(story.admission, wish())
    assert not admitted(story.admission, wish(charged=False))
    assert admitted(story.admission, wish("beside"))
    assert story.admission.s3_rate is not None
    assert [pace.rate for pace in story.admission.paces] == [None]


def test_the_pace_of_s3_begins_with_what_it_has_answered_lately() -> None:
    story = Story()
    story.granted(wish(), 100)
    story.admission.tick()
    story.admission.slowed(wish(), story.clock.now)
    rate = story.admission.bucket("here").s3.quota
    assert rate is not None
    assert 50 <= rate <= 101


def test_a_custom_key_store_has_a_pace_of_its_own_from_when_it_is_known_to_be_one() -> None:
    story = Story()
    story.granted(wish(), 50)
    story.refused_by_kms(wish(), key_store=True)
    assert not admitted(story.admission, wish())
    assert all(admitted(story.admission, wish("beside")) for _ in range(1000))
    assert len(story.admission.paces) == 2


def test_what_was_found_out_before_a_region_was_known_holds_for_it() -> None:
    story = Story(regions={})
    story.granted(wish(), 50)
    story.refused_by_kms(wish())
    story.regions["here"] = "eu-central-1"
    assert not admitted(story.admission, wish())
    assert len(story.admission.paces) == 1
    story.regions["far"] = "us-east-1"
    assert all(admitted(story.admission, wish("far")) for _ in range(1000))


def test_objects_beside_free_ones_need_no_leave_while_kms_is_at_its_limit() -> None:
    story = Story()
    story.granted(wish(key="sealed/k"), 50)
    story.refused_by_kms(wish(key="sealed/k"))
    for number in range(ENOUGH):
        story.clock.now += 1
        story.granted(wish(key=f"free/{number}"), charged=False)
    assert story.admission.leave(wish(key="free/next")) is None
    assert story.admission.leave(wish(key="sealed/next")) is not None
    assert story.admission.leave(wish(key="free/next", refused=True)) is not None, "a refusal is believed"
    story.refused_by_kms(wish(key="free/next"), 1)
    assert story.admission.leave(wish(key="free/another")) is not None


def test_a_permit_that_was_not_needed_is_there_for_the_next() -> None:
    story = Story(KmsSettings(rps=1))
    for _ in range(100):
        leave = story.admission.leave(wish(key=f"{_}/k"))
        assert leave is not None
        assert leave.take() == 0.0
        story.admission.answered(wish(key=f"{_}/k"), sent(leave), story.clock.now, charged=False)


def test_under_a_cap_what_has_not_gone_yet_takes_room_however_long_that_takes() -> None:
    """Connections come about all at once, of those who wait for one: no second may have more than the cap for that."""
    story = Story(KmsSettings(rps=3))
    leaves = []
    for _ in range(3):
        story.clock.now += 1
        leave = story.admission.leave(wish())
        assert leave is not None
        assert leave.take() == 0.0
        leaves.append(leave)
    story.clock.now += 60
    assert not admitted(story.admission, wish())
    for leave in leaves:
        sent(leave)
    assert not admitted(story.admission, wish())
    story.clock.now += 1.02
    assert admitted(story.admission, wish())


def test_under_a_cap_what_is_expected_to_be_free_goes_at_once_as_often_as_the_cap_allows() -> None:
    story = Story(KmsSettings(rps=50))
    for number in range(ENOUGH):
        story.clock.now += 1
        story.granted(wish(key=f"free/{number}"), charged=False)
    story.clock.now += 2
    leaves = [story.admission.leave(wish(key="free/next")) for _ in range(51)]
    assert all(isinstance(leave, Way) for leave in leaves)
    assert [leave.take() > 0.0 for leave in leaves if leave is not None] == [False] * 50 + [True]
    story.admission.answered(wish(key="free/next"), sent(leaves[0]), story.clock.now, charged=False)
    assert admitted(story.admission, wish(key="free/next"))
    assert not admitted(story.admission, wish(key="free/next"))


@given(
    st.lists(
        st.tuples(st.sampled_from(["here", "beside", "far"]), st.sampled_from(["sealed", "free"]), st.floats(0, 0.2)),
        max_size=300,
    ),
    st.integers(1, 30),
)
def test_no_second_has_more_requests_to_kms_than_the_cap_wherever_they_go_and_whatever_is_expected(
    gets: list[tuple[str, str, float]], rps: int
) -> None:
    story = Story(KmsSettings(rps=rps), caps={"eu-central-1": 2.0 * rps, "us-east-1": 20.0})
    asked: list[float] = []
    free = 0
    for bucket, kind, pause in gets:
        story.clock.now += pause
        # Of the free directory, every twentieth is sealed all the same.
        free += kind == "free"
        charged = kind == "sealed" or free % 20 == 19
        wanted = wish(bucket, f"{kind}/k")
        leave = story.admission.leave(wanted)
        if leave is None or leave.take() == 0.0:
            story.admission.answered(wanted, sent(leave), story.clock.now, charged=charged)
            if charged:
                asked.append(story.clock.now)
    assert all(later - sooner >= 1 for sooner, later in zip(asked, asked[rps:], strict=False))


def test_the_cap_of_all_regions_follows_its_timetable() -> None:
    """From 08:00 it is 10 a second, before and after as --kms-rps says, or none."""

    def within_a_second(story: Story) -> int:
        story.clock.now += 2.0
        story.admission.tick()
        went = 0
        for number in range(1000):
            story.clock.now += 0.001
            went += admitted(story.admission, wish(("here", "far")[number % 2]))
        return went

    slot = Slot(time(8), time(18), 10.0)
    for rps, by_night in ((None, 1000), (100.0, 100)):
        story = Story(KmsSettings(rps=rps, timetable=(slot,)))
        for hour, cap in ((time(7), by_night), (time(8), 10), (time(18), by_night)):
            story.hour = hour
            assert 0.9 * cap <= within_a_second(story) <= cap


class AtS3:
    """A run's GETs of one bucket for which KMS is not asked: a rule of the simulation."""

    def __init__(self) -> None:
        self.now = self.ticked = 0.0
        self.wanted = wish(charged=False)
        self.admission = Admission(KmsSettings(), lambda _: "us-east-1", {}, clock=lambda: self.now)

    @property
    def rate(self) -> float | None:
        return self.admission.s3_rate

    def take(self, now: float, most: int) -> int:
        self.pass_to(now)
        return next((count for count in range(most) if not admitted(self.admission, self.wanted)), most)

    def wait(self, now: float) -> float:
        return self.admission.bucket("here").s3.wait(now)

    def succeeded(self, now: float, sent: float) -> None:
        self.pass_to(now)
        self.admission.answered(self.wanted, None, sent, charged=False)

    def refused(self, now: float, sent: float) -> None:
        self.pass_to(now)
        self.admission.slowed(self.wanted, sent)

    def pass_to(self, now: float) -> None:
        self.now = now
        if now >= self.ticked + 1:
            self.ticked = now
            self.admission.tick()


@pytest.mark.parametrize("kind", ["bucket", "windows"])
@pytest.mark.parametrize(("limit", "objects"), [(5_500.0, 40_000), (800.0, 8_000)])
def test_what_s3_allows_of_a_bucket_is_used_and_hardly_exceeded(limit: float, objects: int, kind: Kind) -> None:
    """5,500 a second are a partition's; KMS has no part in it, and its pace stays free."""
    rule = AtS3()
    run = Run(rule, lanes=1024, trip=0.03, objects=objects)
    simulate(server(kind, Timetable((limit,)), 1), [run], 2 * objects / limit)
    assert run.ends <= 1.1 * objects / limit
    assert run.refused_later <= 0.025 * objects
    assert [pace.rate for pace in rule.admission.paces] == [None]
