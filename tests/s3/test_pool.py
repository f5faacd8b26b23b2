"""Connections to one origin: which are used again, and where new ones go."""

import asyncio
import contextlib
import socket

import anyio
import pytest

from sealift.s3 import pool as pool_room
from sealift.s3.connection import Connection, LostError, SilentError
from sealift.s3.pool import Origin, Pool, UnreachableError
from sealift.s3.tls import tls_context
from tests.support.peer import listening
from tests.support.pooling import OK, REQUEST, on_a_loop_that_resolves, origin_of, pooled, used
from tests.support.sockets import connections_to

pytestmark = pytest.mark.anyio


async def taken_from(pool):
    """An idle connection, or a new one: as the wire takes them."""
    return pool.take_idle() or await pool.take_fresh()


# ── Used again ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_connection_that_was_used_last_is_used_next():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        first, second = await taken_from(pool), await taken_from(pool)
        for connection in (first, second):
            await used(connection, await peer.accept())
        pool.give_back(first)
        pool.give_back(second)
        assert [await taken_from(pool), await taken_from(pool)] == [second, first]
        assert (pool.dialled, peer.count) == (2, 2)


async def test_a_connection_is_lent_to_one_at_a_time():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        taken = [await taken_from(pool) for _ in range(3)]
        assert len(set(map(id, taken))) == pool.dialled == 3


async def test_what_was_not_read_to_its_end_is_closed_and_not_used_again():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        connection = await taken_from(pool)
        side = await peer.accept()
        asking = asyncio.create_task(connection.exchange(REQUEST))
        await side.answers(OK)
        await asking
        pool.give_back(connection)
        assert await side.gone()
        assert await taken_from(pool) is not connection


async def test_one_that_the_peer_closed_while_nobody_used_it_is_dropped():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        connection = await taken_from(pool)
        side = await peer.accept()
        await used(connection, side)
        pool.give_back(connection)
        side.close()
        while not connection.closed:
            await asyncio.sleep(0)
        assert await taken_from(pool) is not connection
        assert pool.dialled == 2


async def test_a_fresh_one_is_dialled_though_others_are_idle():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        connection = await taken_from(pool)
        await used(connection, await peer.accept())
        pool.give_back(connection)
        fresh = await pool.take_fresh()
        assert fresh is not connection
        assert await taken_from(pool) is connection


async def test_closing_the_pool_closes_idle_and_busy_ones():
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        idle, busy = await taken_from(pool), await taken_from(pool)
        sides = [await peer.accept(), await peer.accept()]
        await used(idle, sides[0])
        pool.give_back(idle)
        asking = asyncio.create_task(busy.exchange(REQUEST))
        await sides[1].request()
        pool.close()
        with pytest.raises(LostError):
            await asking
        assert all([await side.gone() for side in sides])


# ── Silence ─────────────────────────────────────────────────────────────────────────────────────────


async def test_silence_ends_whoever_waits_for_the_peer_and_nobody_else(monkeypatch):
    monkeypatch.setattr(pool_room, "WATCH_EVERY", 0.01)
    async with listening() as peer, pooled(origin_of(peer), read_timeout=0.05) as pool:
        before_head, in_body, unread, idle = [await taken_from(pool) for _ in range(4)]
        sides = [await peer.accept() for _ in range(4)]
        await used(idle, sides[3])
        pool.give_back(idle)
        for connection, side in ((in_body, sides[1]), (unread, sides[2])):
            asking = asyncio.create_task(connection.exchange(REQUEST))
            await side.answers(OK[:-1])
            await asking
            await connection.read()  # what there is

        async def silent(wait):
            with pytest.raises(SilentError, match=r"0\.05 s"):
                await wait

        async with anyio.create_task_group() as group:
            group.start_soon(silent, before_head.exchange(REQUEST))
            group.start_soon(silent, in_body.read())
        assert before_head.closed
        assert in_body.closed
        assert not unread.closed, "its reader is busy with something else"
        assert not idle.closed
        await sides[2].send(b"k")
        assert bytes(await unread.read()) == b"k"


async def test_nobody_looks_when_no_connection_is_in_use(monkeypatch):
    monkeypatch.setattr(pool_room, "WATCH_EVERY", 0.0)
    async with listening() as peer, pooled(origin_of(peer)) as pool:
        connection = await taken_from(pool)
        await used(connection, await peer.accept())
        assert pool._watch is not None
        pool.give_back(connection)
        while pool._watch is not None:
            await asyncio.sleep(0)


# ── Addresses ───────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def a_port_that_refuses():
    """A port that nobody listens at, and nobody else gets."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_where_nobody_listens_there_is_no_connection_and_the_reason_is_said():
    with a_port_that_refuses() as port:
        async with pooled(Origin("http", "127.0.0.1", port)) as pool:
            with pytest.raises(UnreachableError, match=rf"127\.0\.0\.1:{port}: .*(refused|failed)") as caught:
                await taken_from(pool)
            assert not caught.value.certificate
            assert pool.dialled == 0


async def test_a_name_that_means_nothing_is_said():
    async with pooled(Origin("http", "no-such-host.invalid", 80)) as pool:
        with pytest.raises(UnreachableError, match=r"no-such-host\.invalid: "):
            await taken_from(pool)


async def test_an_address_of_ip_version_6_is_reached():
    try:
        async with listening("::1") as peer, pooled(origin_of(peer)) as pool:
            await used(await taken_from(pool), await peer.accept())
    except OSError:
        pytest.skip("there is no IPv6 here")


def test_an_address_that_refuses_is_passed_over_for_one_that_does_not():
    async def work(loop):
        async with listening("127.0.0.2") as peer, pooled(origin_of(peer, "many.test")) as pool:
            for _ in range(3):
                connection = await taken_from(pool)
                await used(connection, await peer.accept())
            assert (pool.dialled, peer.count) == (3, 3)
            assert loop.asked == 2, "looked up again after the failure, and then known"

    on_a_loop_that_resolves(work, "127.0.0.1", "127.0.0.2")


def test_an_address_at_which_nobody_answers_is_passed_over_for_another():
    async def work(loop):
        async with listening("127.0.0.1") as one, listening("127.0.0.2", one.port) as two:
            async with pooled(origin_of(one, "many.test")) as pool:
                pool.distrust(await taken_from(pool))
                for _ in range(3):
                    await taken_from(pool)
                assert (one.count, two.count) == (1, 3)

    on_a_loop_that_resolves(work, "127.0.0.1", "127.0.0.2")


def test_while_the_name_server_fails_the_addresses_that_are_known_are_used():
    async def work(loop):
        async with listening("127.0.0.2") as peer, pooled(origin_of(peer, "many.test")) as pool:
            await taken_from(pool)  # 127.0.0.1 refuses, and the host is to be looked up again
            loop.addresses = ()
            await taken_from(pool)
            await taken_from(pool)
            assert (peer.count, loop.asked) == (3, 2)

    on_a_loop_that_resolves(work, "127.0.0.1", "127.0.0.2")


def test_connections_go_to_all_addresses_of_the_host():
    async def work(loop):
        async with listening("127.0.0.1") as one, listening("127.0.0.2", one.port) as two:
            async with pooled(origin_of(one, "many.test")) as pool:
                for _ in range(4):
                    await taken_from(pool)
                assert (one.count, two.count, loop.asked) == (2, 2, 1)

    on_a_loop_that_resolves(work, "127.0.0.1", "127.0.0.2")


async def test_a_connection_that_does_not_come_about_in_time_is_given_up():
    # The queue of a listener that accepts nothing is full after two; what comes then gets no answer.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as waiting:
        for _ in range(3):
            queued = waiting.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(deaf.getsockname())
        async with pooled(Origin("http", *deaf.getsockname()), connect_timeout=0.05) as pool:
            with pytest.raises(UnreachableError, match="no answer in time"):
                await taken_from(pool)


async def test_a_tls_handshake_that_does_not_end_counts_as_no_connection():
    async with listening() as peer:
        origin = origin_of(peer, scheme="https")
        async with pooled(origin, context=tls_context(None), connect_timeout=0.05) as pool:
            with pytest.raises(UnreachableError, match="no answer in time") as caught:
                await taken_from(pool)
            assert not caught.value.certificate


# ── Cancellation ────────────────────────────────────────────────────────────────────────────────────


async def ended(task):
    """Wait for a task that may be cancelled, and for the event loop to close what it was told to, a turn later."""
    await asyncio.wait({task})
    for _ in range(2):
        await asyncio.sleep(0)


@pytest.fixture(params=[True, False], ids=["as anyio cancels", "as asyncio cancels"])
def scoped(request):
    return request.param


@pytest.fixture(params=["http", "https"])
async def dialling(request, scoped):
    """A way to take a connection from a new pool in a task that can be cancelled, and the port that it leads to.

    Whatever happens, the event loop has nothing to report in the end.
    """
    context, authority = request.getfixturevalue("certificate") if request.param == "https" else (None, None)
    loop, reported, pools = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, report: reported.append(report["message"]))
    async with listening(context=context, deaf=True) as peer:

        def dial():
            ours = None if authority is None else tls_context(authority)
            origin = origin_of(peer, scheme=request.param)
            pools.append(Pool(origin, context=ours, connect_timeout=10.0, read_timeout=60.0))
            scope = anyio.CancelScope()

            async def take():
                with scope:
                    await pools[-1].take_fresh()

            task = loop.create_task(take())
            return task, scope.cancel if scoped else task.cancel, pools[-1]

        yield dial, peer.port
        for pool in pools:
            pool.close()
        await asyncio.sleep(0)
    assert reported == []


async def test_a_connection_may_be_called_off_in_any_turn_of_the_loop_and_leaves_no_socket(dialling):
    dial, port = dialling
    turns, stopped, in_time = 0, 0, True
    while in_time:
        turns += 1
        task, cancel, pool = dial()
        for _ in range(turns):
            await asyncio.sleep(0)
        in_time = not task.done()
        cancel()
        await ended(task)
        assert connections_to(port) == pool.dialled, f"in turn {turns}"
        stopped += not pool.dialled
        pool.close()
        await asyncio.sleep(0)
    assert stopped > 2


async def test_a_connection_may_be_called_off_in_the_very_turn_in_which_it_comes_about(dialling, monkeypatch):
    dial, port = dialling

    class Watched(Connection):
        def connection_made(self, transport):
            super().connection_made(transport)
            cancel()

    monkeypatch.setattr(pool_room, "Connection", Watched)
    task, cancel, pool = dial()
    await ended(task)
    assert connections_to(port) == pool.dialled
