"""Asking S3 for a checksum, as far as it takes no server."""

import time
from contextlib import asynccontextmanager

import pytest

from sealift import outage
from sealift.checking import Checker
from sealift.checksum import Algorithm, Checksum
from sealift.errors import NotSent, ServerFailed, SourceError
from sealift.pacing import Pace
from sealift.retry import RetrySettings
from sealift.tally import Tally
from tests.support.fakestore import FakeBody, FakeStore
from tests.support.keys import remote
from tests.support.running import Watcher

pytestmark = pytest.mark.anyio

TOLD = Checksum(Algorithm.CRC32, b"abcd")
TWO_ATTEMPTS = RetrySettings(max_attempts=2, base=0.0)


class FailingStore(FakeStore):
    """Fails as long as KMS is down: so many requests."""

    def __init__(self, failures, code="KMS.KMSInternalException"):
        super().__init__()
        self.left = failures
        self.code = code

    def fail(self):
        if self.left:
            self.left -= 1
            raise ServerFailed("it failed", code=self.code)

    async def checksum(self, remote, going=None):
        self.fail()
        return TOLD

    @asynccontextmanager
    async def open(self, remote, part, going=None):
        self.fail()
        body = FakeBody(b"")
        body.checksum = TOLD
        yield body


@pytest.fixture
def watcher():
    return Watcher()


def checker(store, pace, watcher):
    return Checker(store, lambda _: pace, Tally(watcher, 0.0), TWO_ATTEMPTS)


async def test_an_outage_of_kms_costs_no_attempts(watcher, monkeypatch):
    monkeypatch.setattr(outage, "FIRST", 0.001)
    pace = Pace(None, patience=900.0)
    assert pace.failed(since=time.monotonic())
    assert await checker(FailingStore(4), pace, watcher).ask(remote("k"), charged=True) == TOLD
    assert [note for note in watcher.notes if "KMS is back" in note]
    assert not pace.outage.on


class Unheard(FailingStore):
    """Its requests do not go out at first."""

    def fail(self):
        if self.left:
            self.left -= 1
            raise NotSent("not yet", service="kms")


async def test_what_did_not_go_out_is_no_request_to_kms_and_no_refusal(watcher):
    pace, tally = Pace(1.0), Tally(watcher, 0.0)
    assert await Checker(Unheard(5), lambda _: pace, tally, TWO_ATTEMPTS).ask(remote("k"), charged=True) == TOLD
    assert (tally.kms_requests, tally.kms_throttled, tally.get_requests) == (1, 0, 0)
    assert (pace.quota, pace.waited) == (None, 0.0)


async def test_an_outage_is_noticed_where_kms_is_named(watcher, monkeypatch):
    monkeypatch.setattr(outage, "FIRST", 0.001)
    assert await checker(FailingStore(4), Pace(None, patience=900.0), watcher).ask(remote("k"), charged=True) == TOLD
    pausing, back = watcher.notes
    assert "pausing" in pausing
    assert "KMS is back" in back


async def test_an_outage_that_outlasts_the_patience_ends_the_run(watcher, monkeypatch):
    monkeypatch.setattr(outage, "FIRST", 0.001)
    with pytest.raises(SourceError, match="--kms-patience"):
        await checker(FailingStore(1000), Pace(None, patience=0.01), watcher).ask(remote("k"), charged=True)


async def test_without_an_outage_attempts_come_to_an_end(watcher):
    store = FailingStore(4, code="InternalError")
    with pytest.raises(ServerFailed):
        await checker(store, Pace(None), watcher).ask(remote("k"), charged=True)
    assert store.left == 2
