"""What a worker process does: lanes, as in a run without workers, whose decider is at the other end of a channel."""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import ssl
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import anyio

from sealift.attempt import Attempt, Ended
from sealift.bandwidth import Bandwidth
from sealift.bell import Bell
from sealift.concurrency import Share
from sealift.config import ConnectionSettings, Durability
from sealift.crew.channel import Channel, Message, packed_end, unpacked_attempt
from sealift.crew.sharing import refuse_unshared
from sealift.destination import Destination
from sealift.errors import NotSent, SealiftError
from sealift.garbage import collect_less_often
from sealift.lanes import Lanes
from sealift.model import Encryption
from sealift.retry import RetrySettings
from sealift.s3.persistent import PersistentStore
from sealift.s3.route import Route
from sealift.s3.signing import Credentials
from sealift.s3.transport import Transport
from sealift.s3.wire import WireStore
from sealift.taskgroups import ungrouped
from sealift.timetable import Timetable
from sealift.writing import Writer

TELL_AFTER = 0.002
"""Seconds for which ends are gathered: a message costs 20 µs at both ends, an object's end in it 2."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker has to know before it begins."""

    path: Path
    """The destination, locked by the parent."""
    mark: bytes | None
    """For a worker elsewhere: what tells that the destination there is the same one. It reaches S3 as itself then."""
    shard: str | None
    """The name of the run's shard, if it is one: where files in flight are."""
    connection: ConnectionSettings
    durability: Durability
    lanes: int
    """The most that it may have at once."""
    initial: Share | None
    """How many it begins with, where their number is found out."""
    bandwidth: Timetable
    """In bytes a second, its share."""
    ca_bundle: Path | None


class _Parent:
    """The parent, as the lanes' `Decider` and the store's `Access`."""

    def __init__(self, channel: Channel, orders: Orders) -> None:
        self._channel = channel
        self._orders = orders
        self._attempts: deque[Attempt] = deque()
        self._wanted = self._told_wanted = 0  # attempts that lanes have come for up to now, and as the parent knows it
        self._over = False
        self._arrived = Bell()
        self._received = 0
        self._sent: list[int] = []
        self._answered: list[tuple[int, str, str, bool]] = []
        self._reached: dict[int, int] = {}
        self._ends: list[Message] = []
        self._telling: asyncio.TimerHandle | None = None
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._asked = 0
        self._known: Credentials | None = None
        self.lanes: Lanes | None = None
        """Whoever carries out what comes."""

    # ── Decider ─────────────────────────────────────────────────────────────────────────────────────

    async def take(self) -> Attempt | None:
        """See `Decider.take`."""
        self._wanted += 1
        if not self._attempts:
            self._tell_soon()
        while not self._attempts:
            if self._over:
                return None
            await self._arrived.wait()
        return self._attempts.popleft()

    def sent(self, number: int) -> None:
        """See `Decider.sent`."""
        self._sent.append(number)
        self._tell_soon()

    def answered(self, number: int, encryption: Encryption) -> None:
        """See `Decider.answered`."""
        self._answered.append((number, *encryption))
        self._tell_soon()

    def received(self, size: int) -> None:
        """See `Decider.received`."""
        self._received += size
        self._tell_soon()

    def reached(self, number: int, offset: int) -> None:
        """See `Decider.reached`."""
        self._reached[number] = offset
        self._tell_soon()

    def ended(self, end: Ended) -> None:
        """See `Decider.ended`."""
        self._reached.pop(end.number, None)
        self._ends.append(packed_end(end))
        self._tell_soon()

    # ── Access ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def ca_bundle(self) -> Path | None:
        """See `Access.ca_bundle`."""
        return self._orders.ca_bundle

    async def route(self, bucket: str) -> Route:
        """See `Access.route`."""
        route = await self._ask("route", bucket)
        if not isinstance(route, Route):
            raise TypeError(route)
        return route

    async def credentials(self) -> Credentials | None:
        """See `Access.credentials`."""
        credentials = await self._ask("credentials", "")
        if not isinstance(credentials, Credentials | None):
            raise TypeError(credentials)
        self._known = credentials
        return credentials

    async def renew(self) -> bool:
        """See `Access.renew`."""
        before = self._known
        renewed = await self._ask("renew", "")
        return bool(renewed) or await self.credentials() != before  # another worker may have been quicker

    # ── Both ────────────────────────────────────────────────────────────────────────────────────────

    async def listen(self, lanes: Lanes, scope: anyio.CancelScope) -> None:
        """Hear the parent out: until it hangs up, or says that there is no more to do."""
        while (message := await self._channel.receive()) is not None:
            kind = message[0]
            if kind == "attempts":
                self._attempts.extend([unpacked_attempt(packed) for packed in message[1]])
            elif kind == "give back":
                self._give_back()
            elif kind == "call off":
                lanes.call_off(message[1])
            elif kind == "answer":
                self._questions.pop(message[1]).set_result(message[2])
            elif kind == "end":
                self._over = True
            elif kind == "stop":
                break
            self._arrived.ring()
        scope.cancel()

    def tell(self) -> None:
        """Tell the parent what has come about."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        news = self._sent or self._answered or self._received or self._reached or self._ends
        if news or self._wanted > self._told_wanted:
            limit, reached = 0 if self.lanes is None else self.lanes.limit, list(self._reached.items())
            self._channel.send(
                ("news", limit, self._wanted, self._sent, self._answered, self._received, reached, self._ends)
            )
            self._sent, self._answered, self._received, self._reached, self._ends = [], [], 0, {}, []
            self._told_wanted = self._wanted

    def _give_back(self) -> None:
        """Give back what no lane has taken yet: it needs leave by now, and has none."""
        attempts, self._attempts = self._attempts, deque()
        self._wanted += len(attempts)
        for attempt in attempts:
            error = NotSent(
                "requests are paced by now: this one did not go out",
                service="kms",
                bucket=attempt.remote.bucket,
                key=attempt.remote.key,
            )
            self.ended(Ended(attempt.number, attempt.part.range.start, placed=False, error=error))

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_AFTER, self._tell_now)

    def _tell_now(self) -> None:
        self._telling = None
        self.tell()

    async def _ask(self, what: str, about: str) -> object:
        self._asked += 1
        number = self._asked
        answer = self._questions[number] = asyncio.get_running_loop().create_future()
        self._channel.send(("question", number, what, about))
        try:
            reply = pickle.loads(await answer)  # noqa: S301 (our own parent's)
        finally:
            self._questions.pop(number, None)
        if isinstance(reply, Exception):
            raise reply
        return reply


async def work(end: socket.socket, token: bytes = b"", context: ssl.SSLContext | None = None) -> None:
    """Carry out what comes over `end`, until the other end hangs up.

    Over a network, with a `token` that proves that this is who was sent, and TLS where there is a `context`.
    """
    channel = await Channel.over(end, token=token, context=context)
    first = await channel.receive()
    if first is None:
        return
    orders: Orders = pickle.loads(first[1])  # noqa: S301 (our own parent's)
    parent = _Parent(channel, orders)
    try:
        with ungrouped():
            await _carry_out(parent, channel, orders)
    except SealiftError as error:
        channel.send(("failed", pickle.dumps(error)))
    finally:
        parent.tell()
        channel.close()
        await asyncio.sleep(0)


async def _carry_out(parent: _Parent, channel: Channel, orders: Orders) -> None:
    if orders.mark is not None:
        refuse_unshared(orders.path, orders.mark)
    store: WireStore | Transport = WireStore(parent, orders.connection)
    if orders.mark is not None:
        store = Transport(orders.connection, connections=orders.lanes, noted=_unnoted)
    with Destination.open(orders.path, create=True, shard=orders.shard) as destination:
        async with store as reached, anyio.create_task_group() as beside:
            lanes = Lanes(
                store=PersistentStore(reached, RetrySettings(), told=_unheard),
                decider=parent,
                writer=Writer(destination, destination.partial_fd, orders.durability),
                bandwidth=Bandwidth(orders.bandwidth),
                most=orders.lanes,
                found_out=orders.initial is not None,
                initial=orders.initial,
            )
            parent.lanes = lanes
            beside.start_soon(parent.listen, lanes, beside.cancel_scope)
            channel.send(("ready",))
            await lanes.run()
            beside.cancel_scope.cancel()


def _unnoted(text: str) -> None:
    """Hear how a bucket is reached: the client says so itself."""


def _unheard(error: Exception) -> None:
    """Hear of a listing that is tried again: a worker lists nothing."""


def main() -> None:
    """Run a worker: the descriptor of its end of the channel is its only argument."""
    # A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group: the parent says what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    collect_less_often()
    anyio.run(work, socket.socket(fileno=int(sys.argv[1])), backend_options={"use_uvloop": True})
