from __future__ import annotations

import os
import signal

import anyio
import pytest

from sealift.cli.conduct import Ended, Interrupts, conduct
from sealift.errors import LocalStorageError


def unheard() -> None:
    pytest.fail("the process was about to end")


class Picture:
    """Something to draw that takes note of it."""

    interval = 0.0

    def __init__(self) -> None:
        self.drawn = 0
        self.seen = anyio.Event()
        self.closed = False

    def draw(self) -> None:
        self.drawn += 1
        self.seen.set()

    def close(self) -> None:
        self.closed = True


def test_work_that_cleans_up_is_not_cut_short_where_that_was_asked_for() -> None:
    cleaned = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep_forever()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            cleaned.append(True)

    with Interrupts(unheard, patient=True) as interrupts:
        assert conduct(work, interrupts) == Ended(interrupted=True)
    assert interrupts.heard
    assert cleaned == [True]


def test_a_signal_before_the_work_begins_keeps_it_from_beginning() -> None:
    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        pytest.fail("it began")

    with Interrupts(unheard) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert conduct(work, interrupts) == Ended(interrupted=True)


def test_work_that_is_done_was_not_interrupted_by_what_comes_then() -> None:
    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        os.kill(os.getpid(), signal.SIGTERM)

    with Interrupts(unheard) as interrupts:
        assert conduct(work, interrupts) == Ended(interrupted=False)
    assert interrupts.heard


def test_an_error_on_the_way_out_does_not_hide_the_signal() -> None:
    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep_forever()
        finally:
            raise LocalStorageError("it cannot be written down")

    with Interrupts(unheard) as interrupts:
        ended = conduct(work, interrupts)
    assert isinstance(ended.error, LocalStorageError)
    assert ended.interrupted


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(unheard) as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupts.heard
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_progress_is_drawn_while_the_work_goes_on_and_taken_away_after_it() -> None:
    picture = Picture()

    async def work() -> str:
        await picture.seen.wait()
        return "done"

    with Interrupts(unheard) as interrupts:
        assert conduct(work, interrupts, picture) == Ended("done")
    assert picture.drawn
    assert picture.closed


def test_the_loop_is_uvloop() -> None:
    async def work() -> str:
        import asyncio

        return type(asyncio.get_running_loop()).__module__

    with Interrupts(unheard) as interrupts:
        assert conduct(work, interrupts) == Ended("uvloop")
