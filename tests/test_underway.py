"""Of no object two jobs are under way, and what comes again is looked at when the first one has ended."""

import pytest

from sealift.fetch import Job
from sealift.model import RemoteObject
from sealift.underway import UnderWay


def remote(key: str, etag: str = '"e"', bucket: str = "bucket") -> RemoteObject:
    return RemoteObject(bucket, key, 5, etag, 0)


@pytest.fixture
def first() -> Job:
    return Job(remote("a"), 8)


@pytest.fixture
def under_way(first: Job) -> UnderWay[str]:
    """One in which an object is under way."""
    under_way = UnderWay[str]()
    assert under_way.begin([first], "") == ([first], ())
    return under_way


def test_what_comes_again_waits_for_the_first_to_end_whatever_its_version(under_way: UnderWay[str], first: Job) -> None:
    others = [remote("b"), remote("a", bucket="other")]
    again = [remote("a"), remote("a", '"other"')]
    assert under_way.put_off([*again, *others], "page") == others
    assert (under_way.waiting, under_way.freed()) == (2, {})
    under_way.over(first)
    assert (under_way.waiting, under_way.freed(), under_way.freed()) == (0, {"page": again}, {})
    assert under_way.put_off(again, "page") == again


def test_of_what_comes_twice_at_once_the_second_one_waits(under_way: UnderWay[str]) -> None:
    one, two = Job(remote("b"), 8), Job(remote("b"), 8)
    assert under_way.begin([one, two], "page") == ([one], [two])
    assert under_way.waiting == 1
    under_way.over(one)
    assert under_way.freed() == {"page": [two.remote]}


def test_one_that_is_started_over_is_still_under_way(under_way: UnderWay[str], first: Job) -> None:
    second = Job(remote("a", '"other"'), 8)
    under_way.put_off([remote("a")], "page")
    under_way.go_on(second)
    under_way.over(first)
    assert (under_way.waiting, under_way.freed()) == (1, {})
    under_way.over(second)
    assert under_way.freed() == {"page": [remote("a")]}


def test_nothing_is_kept_of_what_has_ended(under_way: UnderWay[str], first: Job) -> None:
    under_way.over(first)
    assert under_way.put_off([remote("a")], "") == [remote("a")]
    assert (under_way._jobs, under_way._waiting) == ({}, {})
