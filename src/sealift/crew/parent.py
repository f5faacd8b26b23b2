"""The parent's side of workers: it has them started, shares work out, hears of it, and replaces those that die.

A worker is handed more than it has lanes for, so that it never waits for the parent. Not so while requests are paced:
what is handed out has leave by then to be sent in this moment, and would be sent later, together with what has leave
then. A worker so gets one attempt for each time that a lane of its has come for one; and what it has beyond that when
pacing begins, it gives back.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio.to_thread import run_sync

from sealift.attempt import Attempt, Decider, Ended
from sealift.bell import Bell
from sealift.crew.channel import Channel, Message, packed_attempt, unpacked_end
from sealift.crew.worker import Orders
from sealift.errors import LocalStorageError, SealiftError, WorkerDied
from sealift.model import Encryption
from sealift.planning import MIB
from sealift.s3.route import Access, OffTheWireError

AHEAD = 512
"""Attempts that a worker has beyond its lanes: 0.1 s of small objects, as a parent that fetches as well may take some
time to hand out more. Of two cores 14 % were idle with 128 of them, 10 % with 256, 8 % with 512."""

BYTES_AHEAD = 32 * MIB
"""… and bytes of them: some 30 ms at 1 GB/s, for which a parent that writes large bodies does not get round to handing
out. A worker that was given more would still be at it when the others have nothing left."""

HANDING_OUT = 4
"""Attempts that are on their way to the workers at once: making a large file on a busy disk takes up to 0.5 s."""

PATIENCE = 5.0
"""Seconds that a worker gets to end by itself: it has only to name a last batch of files."""

MOST_DEATHS = 10
"""Workers that may die in a run: more are no accident."""


class PacedDecider(Decider, Protocol):
    """A decider whose attempts may need leave, such as a permit of KMS's."""

    @property
    def paced(self) -> bool:
        """Whether what is taken has leave to be sent now: it must not wait to be."""
        ...


class Started(Protocol):
    """A worker, wherever it runs. It ends when its channel does."""

    async def finish(self) -> str:
        """See to its end, and return how that was."""
        ...


Start = Callable[[], Awaitable[tuple[Started, Channel]]]
"""Starts a worker that is to be told its orders yet. May be cancelled. Raises RunError."""


class _Process:
    """A worker that is a process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    async def finish(self) -> str:
        """See `Started.finish`. One that does not end by itself is killed."""
        process = self._process
        if process.poll() is None:
            try:
                await run_sync(process.wait, PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                await run_sync(process.wait)
        return f"a worker process ended with status {process.returncode}"


async def start_process(inherited: Sequence[int] = ()) -> tuple[Started, Channel]:
    """Start a worker process: see `Start`.

    It inherits the descriptors `inherited`: while any worker lives, the destination is locked.
    """
    with anyio.CancelScope(shield=True):  # a process that is half started would be nobody's
        return await _start_process(inherited)
    raise AssertionError  # nothing cancels that scope


async def _start_process(inherited: Sequence[int]) -> tuple[Started, Channel]:
    ours, theirs = socket.socketpair()
    try:
        command = [sys.executable, "-m", "sealift.crew", str(theirs.fileno())]
        process = await run_sync(
            lambda: subprocess.Popen(  # noqa: S603 (ourselves)
                command,
                pass_fds=[theirs.fileno(), *inherited],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        )
    except OSError as error:
        ours.close()
        raise LocalStorageError(
            f"no worker process can be started ({error.strerror}); run with --processes 1", code="NoProcess"
        ) from error
    finally:
        theirs.close()
    return _Process(process), await Channel.over(ours)


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker, and what it was handed."""

    started: Started
    channel: Channel
    lanes: int
    """GETs that it may have under way now."""
    ready: bool = False
    wanted: int = 0
    """Attempts that its lanes have come for, as of its last news."""
    given: int = 0
    """… and those that it was handed; while requests are paced that is no more."""
    promised: int = 0
    """Lanes for which an attempt is being taken."""
    handed: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By an attempt's number: the offset that it has reached, and how many bytes it is."""
    bytes: int = 0
    to_send: list[Message] = field(default_factory=list)


class Crew:
    """So many worker processes. `run` them; `call_off` single attempts."""

    def __init__(
        self,
        *,
        decider: PacedDecider,
        access: Access | None,
        orders: Orders,
        processes: int,
        make_room: Callable[[], Awaitable[None]],
        start: Start = start_process,
        gathering: float = 0.0,
        bytes_ahead: int = BYTES_AHEAD,
    ) -> None:
        """`make_room` is awaited when the first worker is ready, before anything is handed out.

        `gathering` is for how many seconds the first one waits for the others, and `bytes_ahead` how many bytes a
        worker is given beyond its lanes.
        """
        self._bytes_ahead = bytes_ahead
        self._gathering = gathering
        self._start_one = start
        self._decider = decider
        self._access = access
        self._orders = orders
        self._processes = processes
        self._make_room = make_room
        self._workers: list[_Worker] = []
        self._room = Bell()
        self._over = False
        self._paced = False
        self._deaths = 0

    async def run(self) -> None:
        """Carry out attempts until there are no more. Raises RunError."""
        async with anyio.create_task_group() as crew:
            for _ in range(self._processes):
                crew.start_soon(self._employ)
            await self._has_room()
            await self._gathered()
            await self._make_room()
            async with anyio.create_task_group() as handing_out:
                for _ in range(HANDING_OUT):
                    handing_out.start_soon(self._hand_out)
            self._over = True
            for worker in self._workers:
                worker.channel.send(("end",))

    def call_off(self, number: int) -> None:
        """End an attempt that is under way; it is `ended` without an error."""
        for worker in self._workers:
            if number in worker.handed:
                worker.channel.send(("call off", number))

    async def _hand_out(self) -> None:
        while (attempt := await self._take()) is not None:
            worker = await self._has_room()
            worker.given += 1
            start, stop = attempt.part.range.start, attempt.part.range.stop
            worker.handed[attempt.number] = (start, stop - start)
            worker.bytes += stop - start
            if not worker.to_send:
                asyncio.get_running_loop().call_soon(self._send, worker)
            worker.to_send.append(packed_attempt(attempt))

    async def _take(self) -> Attempt | None:
        """Take an attempt when somebody has room for it: leave that it has would be spent on waiting."""
        worker = await self._has_room()
        worker.promised += 1
        try:
            attempt = await self._decider.take()
        finally:
            worker.promised -= 1
        if attempt is None:
            self._room.ring()  # what was promised here is the others', who are to see that it is over
        return attempt

    async def _gathered(self) -> None:
        """Wait for the others, where that was asked for: who comes first would be handed all there is."""
        with anyio.move_on_after(self._gathering):
            while sum(worker.ready for worker in self._workers) < self._processes:
                await self._room.wait()

    async def _has_room(self) -> _Worker:
        while (worker := self._with_room()) is None:
            await self._room.wait()
        return worker

    def _send(self, worker: _Worker) -> None:
        worker.channel.send(("attempts", worker.to_send))
        worker.to_send = []

    def _with_room(self) -> _Worker | None:
        best: _Worker | None = None
        paced = self._is_paced()
        for worker in self._workers:
            many = len(worker.handed)
            if paced:
                has_room = worker.given + worker.promised < worker.wanted
            else:
                ahead = many - worker.lanes  # of bytes as of attempts, at the mean
                has_room = ahead < 0 or (ahead < AHEAD and worker.bytes * ahead <= self._bytes_ahead * many)
            if worker.ready and has_room and (best is None or many < len(best.handed)):
                best = worker
        return best

    def _is_paced(self) -> bool:
        """Whether requests are paced. When that begins, workers give back what they have no lane for."""
        before, self._paced = self._paced, self._decider.paced
        if self._paced and not before:
            for worker in self._workers:
                self._send(worker)
                worker.channel.send(("give back",))
        return self._paced

    async def _employ(self) -> None:
        """See to it that there is a worker, until there is no more to do."""
        while not self._over:
            worker = await self._start()
            how = ""
            try:
                await self._hear(worker)
            finally:
                with anyio.CancelScope(shield=True):
                    how = await self._dismiss(worker)
            if not self._over:
                self._bury(worker, how)

    async def _start(self) -> _Worker:
        started, channel = await self._start_one()
        channel.send(("orders", pickle.dumps(self._orders)))
        orders = self._orders
        worker = _Worker(started, channel, orders.lanes if orders.initial is None else orders.initial.limit)
        self._workers.append(worker)
        return worker

    async def _hear(self, worker: _Worker) -> None:
        """Hear a worker out, until it hangs up."""
        async with anyio.create_task_group() as answers:
            while (message := await worker.channel.receive()) is not None:
                if message[0] == "news":
                    self._note(worker, message)
                elif message[0] == "question":
                    answers.start_soon(self._answer, worker, *message[1:])
                elif message[0] == "failed":
                    raise pickle.loads(message[1])  # noqa: S301 (our own child's)
                elif message[0] == "ready":
                    worker.ready = True
                    self._room.ring()
                    if self._over:
                        worker.channel.send(("end",))
            answers.cancel_scope.cancel()

    def _note(self, worker: _Worker, message: Message) -> None:
        _, worker.lanes, wanted, sent, answered, received, reached, ends = message
        decider = self._decider
        for number in sent:
            if number in worker.handed:
                decider.sent(number)
        for number, *encryption in answered:
            if number in worker.handed:
                decider.answered(number, Encryption(*encryption))
        if received:
            decider.received(received)
        for number, offset in reached:
            if number in worker.handed:
                worker.handed[number] = (offset, worker.handed[number][1])
                decider.reached(number, offset)
        for packed in ends:
            end = unpacked_end(packed)
            worker.bytes -= worker.handed.pop(end.number)[1]
            decider.ended(end)
        self._is_paced()
        if ends or wanted > worker.wanted:
            worker.wanted = wanted
            self._room.ring()

    async def _answer(self, worker: _Worker, number: int, what: str, about: str) -> None:
        answer: object
        access = self._access
        if access is None:
            raise ValueError("a worker that reaches S3 as itself has nothing to ask")
        try:
            if what == "route":
                answer = await access.route(about)
            elif what == "credentials":
                answer = await access.credentials()
            else:
                answer = await access.renew()
        except (SealiftError, OffTheWireError) as error:
            answer = error
        worker.channel.send(("answer", number, pickle.dumps(answer)))

    async def _dismiss(self, worker: _Worker) -> str:
        """Let a worker end: it names what is complete, and tells of it. Returns how it ended."""
        worker.channel.send(("stop",))
        with anyio.move_on_after(PATIENCE):
            while (message := await worker.channel.receive()) is not None:
                if message[0] == "news":
                    self._note(worker, message)
        worker.channel.close()
        self._workers.remove(worker)
        return await worker.started.finish()

    def _bury(self, worker: _Worker, how: str) -> None:
        """Let what a dead worker was handed go back in line. Raises LocalStorageError if that happens all the time."""
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise LocalStorageError(
                f"{how}, and {self._deaths - 1} before it: look into the system's log (out of memory?), or run with "
                "--processes 1",
                code="WorkersDie",
            )
        for number, (reached, _) in worker.handed.items():
            self._decider.ended(Ended(number, reached, placed=False, error=WorkerDied(how)))
        worker.handed.clear()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
