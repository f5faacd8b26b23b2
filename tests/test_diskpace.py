"""Who does file work: the event loop, or threads while the disk is slow."""

import resource
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.diskpace import LONGEST, SHORTEST, STALL, DiskPace, DiskWork


def test_the_loop_works_until_it_has_to_wait_for_the_disk() -> None:
    pace = DiskPace()
    assert pace.inline(0.0)
    pace.took(STALL, now=1.0, waited=True)
    assert not pace.inline(1.0 + SHORTEST / 2)
    assert pace.inline(1.0 + SHORTEST)


def test_losing_its_turn_is_not_waiting() -> None:
    pace = DiskPace()
    pace.took(10 * STALL, now=1.0, waited=False)
    assert pace.inline(1.0)


@given(times=st.lists(st.floats(0.001, 1.0), max_size=30))
def test_each_further_stall_is_avoided_for_longer_up_to_a_limit(times: list[float]) -> None:
    pace, now, longest = DiskPace(), 0.0, SHORTEST
    for wait in times:
        now += LONGEST + wait
        pace.took(STALL, now, waited=True)
        assert not pace.inline(now + longest * 0.99)
        assert pace.inline(now + longest)
        longest = min(LONGEST, longest * 2)


@pytest.mark.anyio
async def test_work_is_done_here_or_in_a_thread_as_the_pace_says():
    disk = DiskWork()
    assert await disk.perform(threading.get_ident) == threading.get_ident()
    disk._pace._until = float("inf")
    assert await disk.perform(threading.get_ident) != threading.get_ident()


def test_a_system_that_does_not_count_a_threads_waits_has_the_processs_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(resource, "RUSAGE_THREAD", raising=False)
    assert DiskWork().perform_inline(lambda: 1) == 1
