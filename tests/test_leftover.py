"""Of what earlier runs left, the listed versions are continued, and the rest is known to be of no use."""

import pytest

from sealift.leftover import LeftOver
from sealift.model import RemoteObject
from sealift.partial import partial_name


def name(key: str, etag: str = '"e"') -> str:
    return partial_name(RemoteObject("bucket", key, 5, etag, 0))


@pytest.fixture
def left() -> LeftOver:
    return LeftOver([name("a"), name("b", '"old"'), name("b", '"older"'), name("c"), name("c", '"old"')])


def test_a_listed_version_is_found_and_is_nobody_elses(left: LeftOver) -> None:
    assert left.claim(name("a")) == (True, frozenset())
    assert name("a") not in left.unclaimed()


def test_other_versions_of_a_listed_object_are_of_no_use(left: LeftOver) -> None:
    assert left.claim(name("b")) == (False, frozenset({name("b", '"old"'), name("b", '"older"')}))
    assert left.claim(name("c")) == (True, frozenset({name("c", '"old"')}))


def test_each_is_told_of_once(left: LeftOver) -> None:
    left.claim(name("b"))
    assert left.claim(name("b", '"old"')) == (False, frozenset())
    assert left.unclaimed() == {name("a"), name("c"), name("c", '"old"')}
    assert left.unclaimed() == frozenset()
    assert not left


def test_of_an_object_that_left_nothing_there_is_nothing(left: LeftOver) -> None:
    assert left.claim(name("d")) == (False, frozenset())
