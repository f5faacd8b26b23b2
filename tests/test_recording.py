"""Records are written behind the run's back, some at once, and behind a sync of the names that they speak of."""

import os

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift import recording
from sealift.errors import LocalStorageError
from sealift.kmscost import ENOUGH
from sealift.ledger import Changes, Decrypts, Ledger, Record, Seal
from sealift.partial import sync_file_system
from sealift.recording import Recorder, blended

pytestmark = pytest.mark.anyio


def record(path, **more):
    return Record(path, Seal("bucket"), path, 5, '"e"', None, None, 5, 1)._replace(**more)


class Watched(Ledger):
    """A ledger that tells of what is written."""

    events: list[object]

    def write(self, changes):
        self.events.append(len(changes))
        super().write(changes)


@pytest.fixture
def events(monkeypatch):
    events: list[object] = []

    def sync(descriptor):
        events.append("sync")
        sync_file_system(descriptor)

    monkeypatch.setattr("sealift.recording.sync_file_system", sync)
    return events


@pytest.fixture
def ledger(tmp_path, events):
    opened = Watched.open(tmp_path, pytest.fail)
    assert isinstance(opened, Watched)
    opened.events = events
    with opened:
        yield opened


@pytest.fixture
def directory_fd(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@given(*[st.integers(0, 10**6)] * 4)
def test_what_kms_was_asked_is_that_of_the_last_run_and_of_those_before_it_as_far_as_that_says_too_little(
    charged, free, charged_before, free_before
):
    before, now = Decrypts(charged_before, free_before), Decrypts(charged, free)
    known = blended(before, now)
    assert known.charged >= charged
    assert known.free >= free
    assert known.total == max(now.total, min(ENOUGH, now.total + before.total))
    if before.total:
        kept = known.total - now.total
        assert abs((known.charged - charged) - kept * charged_before / before.total) <= 0.5


async def test_what_kms_was_asked_is_written_at_the_end(ledger, directory_fd):
    recorder = Recorder(ledger, directory_fd, sync=False)
    recorder.asked("bucket", "p/", 40, charged=True)
    recorder.asked("bucket", "p/", 60, charged=False)
    recorder.asked("bucket", "q/", 1, charged=True)
    await recorder.keep_asked()
    assert ledger.all_decrypts() == {("bucket", "p/"): Decrypts(40, 60), ("bucket", "q/"): Decrypts(1, 0)}
    await recorder.keep_asked()
    assert ledger.decrypts("bucket", "q/") == Decrypts(1, 0), "once"


async def test_names_are_synced_before_anything_is_said_of_them(ledger, directory_fd, events):
    recorder = Recorder(ledger, directory_fd, sync=True)
    for path in "abc":
        recorder.record(record(path))

    await recorder.flush()

    assert events == ["sync", 3]
    assert set(ledger.look_up(["a", "b", "c"])) == {"a", "b", "c"}


async def test_what_was_only_found_needs_no_sync_nor_does_a_run_that_wants_none(ledger, directory_fd, events):
    recorder = Recorder(ledger, directory_fd, sync=True)
    recorder.add(Changes(records=[record("a", adopted=True)], directories=["d"]))
    await recorder.flush()
    hurried = Recorder(ledger, directory_fd, sync=False)
    hurried.record(record("b"))
    await hurried.flush()
    await hurried.flush()

    assert events == [2, 1]


async def test_a_full_batch_is_written_at_once_and_a_small_one_soon(ledger, directory_fd, events, monkeypatch):
    monkeypatch.setattr(recording, "MOST", 10)
    monkeypatch.setattr(recording, "LONGEST_WAIT", 1e9)
    recorder = Recorder(ledger, directory_fd, sync=False)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recorder.keep_up)
            for number in range(10):
                recorder.record(record(str(number)))
            while not events:
                await anyio.lowlevel.checkpoint()
            monkeypatch.setattr(recording, "LONGEST_WAIT", 0.0)
            recorder.record(record("last"))
            while len(events) < 2:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert events == [10, 1]


async def test_whoever_finds_out_more_than_the_disk_takes_waits(ledger, directory_fd, monkeypatch):
    monkeypatch.setattr(recording, "MOST_WAITING", 3)
    recorder = Recorder(ledger, directory_fd, sync=False)
    await recorder.has_room()
    for path in "abc":
        recorder.record(record(path))

    waited = anyio.Event()

    async def wait():
        await recorder.has_room()
        waited.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not waited.is_set()
        await recorder.flush()


async def test_a_run_without_a_ledger_records_nothing_and_waits_for_nothing(directory_fd, events, monkeypatch):
    monkeypatch.setattr(recording, "MOST_WAITING", 1)
    recorder = Recorder(None, directory_fd, sync=True)
    recorder.record(record("a"))
    recorder.moved("a", "b")
    recorder.add(Changes(directories=["d"]))

    await recorder.has_room()
    await recorder.flush()

    assert events == []


async def test_a_ledger_that_cannot_be_written_ends_whoever_keeps_up_with_it(ledger, directory_fd):
    recorder = Recorder(ledger, directory_fd, sync=False)
    recorder.record(record("a", size=None))
    recorder._many.set()

    with pytest.raises(ExceptionGroup) as raised:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recorder.keep_up)
    assert isinstance(raised.value.exceptions[0], LocalStorageError)
