from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sealift.line import Leave, Line, Queue, Ticket
from sealift.model import ByteRange, Part

both_loops = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@dataclass(eq=False)
class Errand:
    """A job of so many parts."""

    count: int
    over: bool = False
    leave: Leave | None = None
    parts: Iterator[Part] = field(init=False)

    def __post_init__(self) -> None:
        self.parts = (Part(ByteRange(place, place + 1), whole=False) for place in range(self.count))


def place_of(ticket: Ticket[Errand]) -> tuple[Errand, int]:
    return ticket.job, ticket.part.range.start


# The queue


class QueueAgainstAModel(RuleBasedStateMachine):
    """The queue does what a list of all parts and a list of the returned ones do."""

    @initialize(most_returned=st.integers(1, 4))
    def begin(self, most_returned: int) -> None:
        self.queue: Queue[Errand] = Queue(most_returned)
        self.most_returned = most_returned
        self.now = 0.0
        self.untaken: list[tuple[Errand, int]] = []
        self.returned: list[tuple[float, Ticket[Errand]]] = []
        self.held: list[Ticket[Errand]] = []
        self.all: list[Errand] = []

    @rule(count=st.integers(1, 4))
    def add(self, count: int) -> None:
        job = Errand(count)
        self.all.append(job)
        self.untaken += [(job, place) for place in range(count)]
        self.queue.add(job)

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.held)
    @rule(data=st.data(), delay=st.integers(0, 4))
    def put_back(self, data: st.DataObject, delay: int) -> None:
        ticket = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.returned.append((self.now + delay, ticket))
        self.queue.put_back(ticket, self.now + delay)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.all))
        job.over = True
        self.untaken = [(owner, place) for owner, place in self.untaken if owner is not job]

    @precondition(lambda self: self.returned)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        dropped = data.draw(st.lists(st.sampled_from([ticket for _, ticket in self.returned]), max_size=3))
        self.returned = [item for item in self.returned if item[1] not in dropped]
        self.queue.drop(dropped)

    @rule()
    def take(self) -> None:
        found = self.queue.take(self.now)
        first = min(self.returned, key=lambda item: item[0], default=None)
        if first is not None and first[0] <= self.now:
            assert found is first[1]
            self.returned.remove(first)
            self.held.append(first[1])
        elif self.untaken and len(self.returned) < self.most_returned:
            expected = self.untaken.pop(0)
            assert isinstance(found, Ticket)
            assert place_of(found) == expected
            assert found.start == expected[1]
            assert found.last == all(owner is not found.job for owner, _ in self.untaken)
            self.held.append(found)
        else:
            assert found == (None if first is None else first[0])

    @invariant()
    def counts_the_jobs_with_parts(self) -> None:
        if hasattr(self, "queue"):
            waiting = {id(owner) for owner, _ in self.untaken}
            assert len(waiting) <= len(self.queue) <= len(waiting) + sum(job.over for job in self.all)


TestQueueAgainstAModel = QueueAgainstAModel.TestCase
TestQueueAgainstAModel.settings = settings(deadline=None, stateful_step_count=60)


def test_parts_come_in_the_order_of_jobs_and_offsets() -> None:
    queue: Queue[Errand] = Queue(1)
    one, two = Errand(2), Errand(1)
    queue.add(one)
    queue.add(two)
    taken = [queue.take(0.0) for _ in range(3)]
    assert [place_of(item) for item in taken if isinstance(item, Ticket)] == [(one, 0), (one, 1), (two, 0)]
    assert [item.last for item in taken if isinstance(item, Ticket)] == [False, True, True]
    assert queue.take(0.0) is None


def test_a_refused_part_goes_back_in_line_until_its_time() -> None:
    queue: Queue[Errand] = Queue(2)
    queue.add(Errand(1))
    ticket = queue.take(0.0)
    assert isinstance(ticket, Ticket)
    queue.put_back(ticket, 5.0)
    assert queue.take(4.999) == 5.0
    assert queue.take(5.0) is ticket


def test_nothing_new_is_handed_out_while_too_many_parts_wait() -> None:
    queue: Queue[Errand] = Queue(2)
    queue.add(Errand(3))
    held = [queue.take(0.0), queue.take(0.0)]
    for ticket in held:
        assert isinstance(ticket, Ticket)
        queue.put_back(ticket, 7.0)
    assert queue.take(1.0) == 7.0
    assert queue.take(7.0) is held[0]
    third = queue.take(6.0)
    assert isinstance(third, Ticket)
    assert third.part.range.start == 2


class Tokens:
    """A leave of which there are so many."""

    rank = 1

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.taken = 0

    def take(self) -> float:
        if self.taken == self.tokens:
            return 2.5
        self.taken += 1
        return 0.0

    def give_back(self) -> None:
        self.taken -= 1


def gated(most_aside: int = 100) -> Queue[Errand]:
    queue: Queue[Errand] = Queue(2, most_aside=most_aside)
    queue.guard(lambda errand: errand.leave)
    return queue


def taken(queue: Queue[Errand], now: float = 0.0) -> Ticket[Errand]:
    ticket = queue.take(now)
    assert isinstance(ticket, Ticket)
    return ticket


def test_what_needs_no_leave_goes_past_what_waits_for_it() -> None:
    queue, tokens = gated(), Tokens(1)
    sealed, free, more = Errand(2, leave=tokens), Errand(1), Errand(1, leave=tokens)
    for errand in (sealed, free, more):
        queue.add(errand)
    first = taken(queue)
    assert (place_of(first), first.leave) == ((sealed, 0), tokens)
    second = taken(queue)
    assert (place_of(second), second.leave) == ((free, 0), None)
    assert queue.take(10.0) == 12.5, "when leave is to be asked for again"
    assert len(queue) == 0
    assert list(queue) == [sealed, more]
    tokens.tokens = 3
    assert [place_of(taken(queue)) for _ in range(2)] == [(sealed, 1), (more, 0)]
    assert queue.take(0.0) is None


def test_a_part_that_comes_back_without_leave_goes_before_the_jobs_that_wait_for_the_same() -> None:
    queue, tokens = gated(), Tokens(1)
    one, two = Errand(1, leave=tokens), Errand(1, leave=tokens)
    queue.add(one)
    queue.add(two)
    ticket = taken(queue)
    assert queue.take(0.0) == 2.5
    queue.put_back(ticket, 0.0)
    assert queue.take(0.0) == 2.5
    tokens.tokens = 3
    assert taken(queue) is ticket
    assert place_of(taken(queue)) == (two, 0)


def test_each_kind_of_leave_has_its_turn() -> None:
    queue, one, other = gated(), Tokens(0), Tokens(0)
    for _ in range(3):
        queue.add(Errand(1, leave=one))
        queue.add(Errand(1, leave=other))
    assert queue.take(0.0) == 2.5
    one.tokens = other.tokens = 3
    assert [taken(queue).leave for _ in range(6)] == [one, other] * 3


def test_those_who_wait_for_leave_of_a_lower_rank_go_first() -> None:
    queue, one, other = gated(), Tokens(0), Tokens(0)
    other.rank = 0
    for _ in range(2):
        queue.add(Errand(1, leave=one))
        queue.add(Errand(1, leave=other))
    assert queue.take(0.0) == 2.5
    one.tokens = other.tokens = 3
    assert [taken(queue).leave for _ in range(4)] == [other, other, one, one]


def test_a_job_that_needs_no_leave_any_more_is_called_in() -> None:
    queue, tokens = gated(), Tokens(1)
    waiting, sealed = Errand(1, leave=tokens), Errand(3, leave=tokens)
    queue.add(sealed)
    back = taken(queue)
    queue.add(waiting)
    assert queue.take(0.0) == 2.5
    queue.put_back(back, 0.0)
    assert queue.take(0.0) == 2.5
    sealed.leave = None
    queue.call_in(sealed)
    assert taken(queue) is back
    assert [place_of(taken(queue)) for _ in range(2)] == [(sealed, 1), (sealed, 2)]
    assert queue.take(0.0) == 2.5, "the other one still waits"


def test_those_who_stand_aside_and_turn_out_to_need_other_leave_or_none_get_it_when_their_turn_comes() -> None:
    queue, tokens, others = gated(), Tokens(0), Tokens(1)
    changed, freed = Errand(2, leave=tokens), Errand(1, leave=tokens)
    queue.add(changed)
    queue.add(freed)
    assert queue.take(0.0) == 2.5
    changed.leave, freed.leave = others, None
    first, second = taken(queue), taken(queue)
    assert {place_of(first), place_of(second)} == {(changed, 0), (freed, 0)}
    assert {first.leave, second.leave} == {others, None}
    assert (tokens.taken, others.taken) == (0, 1)
    assert queue.take(0.0) == 2.5


def test_nobody_looks_past_more_than_so_many_that_stand_aside() -> None:
    queue, tokens = gated(most_aside=2), Tokens(0)
    for _ in range(3):
        queue.add(Errand(1, leave=tokens))
    free = Errand(1)
    queue.add(free)
    assert queue.take(0.0) == 2.5
    tokens.tokens = 1
    assert taken(queue).leave is tokens
    assert place_of(taken(queue)) == (free, 0)


def test_a_failed_job_that_stands_aside_vanishes_and_takes_no_leave() -> None:
    queue, tokens = gated(), Tokens(0)
    failed, good = Errand(2, leave=tokens), Errand(1, leave=tokens)
    queue.add(failed)
    queue.add(good)
    assert queue.take(0.0) == 2.5
    failed.over = True
    tokens.tokens = 1
    assert place_of(taken(queue)) == (good, 0)
    assert tokens.taken == 1
    assert queue.take(0.0) is None


def test_parts_that_stand_aside_can_be_dropped() -> None:
    queue, tokens = gated(), Tokens(2)
    errand = Errand(2, leave=tokens)
    queue.add(errand)
    parts = [taken(queue), taken(queue)]
    for part in parts:
        queue.put_back(part, 0.0)
    assert queue.take(0.0) == 2.5
    queue.drop(parts)
    assert queue.take(0.0) is None


class Rehearsal:
    """A queue whose jobs need leave, and what came of its parts."""

    def __init__(self, kinds: list[tuple[int, int | None]], chance: random.Random) -> None:
        self.chance = chance
        self.leaves = [Tokens(1), Tokens(1)]
        self.errands = [Errand(count, leave=None if kind is None else self.leaves[kind]) for count, kind in kinds]
        self.queue = gated(most_aside=3)
        for errand in self.errands:
            self.queue.add(errand)
        self.out: list[Ticket[Errand]] = []
        self.done: list[tuple[Errand, int]] = []
        self.given_out = [0, 0]

    def take(self) -> bool:
        found = self.queue.take(0.0)
        if not isinstance(found, Ticket):
            return found is not None
        assert found.leave is found.job.leave
        for index, leave in enumerate(self.leaves):
            self.given_out[index] += found.leave is leave
        self.out.append(found)
        return True

    def put_back(self) -> None:
        if self.out:
            self.queue.put_back(self.out.pop(0), 0.0)

    def finish(self) -> None:
        if self.out:
            self.done.append(place_of(self.out.pop(0)))

    def let_go(self, more: int = 1) -> None:
        for leave in self.leaves:
            leave.tokens += more

    def change(self) -> None:
        if self.errands:
            self.chance.choice(self.errands).leave = self.chance.choice([None, *self.leaves])


@given(
    kinds=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([None, 0, 1])), max_size=12),
    steps=st.lists(
        st.sampled_from(
            [*[Rehearsal.take] * 3, Rehearsal.put_back, Rehearsal.finish, Rehearsal.let_go, Rehearsal.change]
        ),
        max_size=80,
    ),
    chance=st.randoms(use_true_random=False),
)
def test_every_part_is_handed_out_with_its_leave_and_finished_once(
    kinds: list[tuple[int, int | None]], steps: list[Callable[[Rehearsal], object]], chance: random.Random
) -> None:
    rehearsal = Rehearsal(kinds, chance)
    for step in steps:
        step(rehearsal)
        assert rehearsal.given_out == [leave.taken for leave in rehearsal.leaves]
    rehearsal.let_go(200)
    while rehearsal.take() or rehearsal.out:
        rehearsal.finish()
    assert Counter(rehearsal.done) == Counter(
        (errand, place) for errand in rehearsal.errands for place in range(errand.count)
    )


def test_the_remaining_parts_of_a_failed_job_vanish() -> None:
    queue: Queue[Errand] = Queue(1)
    failed, other = Errand(1000), Errand(1)
    queue.add(failed)
    queue.add(other)
    assert isinstance(queue.take(0.0), Ticket)
    failed.over = True
    ticket = queue.take(0.0)
    assert isinstance(ticket, Ticket)
    assert ticket.job is other
    assert queue.take(0.0) is None


def test_a_job_without_parts_is_passed_over() -> None:
    queue: Queue[Errand] = Queue(1)
    queue.add(Errand(0))
    assert queue.take(0.0) is None
    assert len(queue) == 0


# The line


@pytest.mark.anyio
async def test_a_line_that_is_closed_and_empty_is_at_its_end() -> None:
    line: Line[Errand] = Line(10, most_returned=1)
    line.close()
    with anyio.fail_after(5):
        assert await line.take() is None


@pytest.mark.anyio
async def test_closing_ends_the_wait_of_everyone() -> None:
    line: Line[Errand] = Line(10, most_returned=1)
    found: list[object] = []

    async def work() -> None:
        found.append(await line.take())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as workers:
            for _ in range(5):
                workers.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            line.close()
    assert found == [None] * 5


@pytest.mark.anyio
async def test_the_line_does_not_end_while_a_part_is_under_way() -> None:
    line: Line[Errand] = Line(10, most_returned=1)
    line.add_again(Errand(1))
    line.close()
    ticket = await line.take()
    assert ticket is not None
    found: list[Ticket[Errand] | None] = []

    async def work() -> None:
        found.append(await line.take())
        line.done()
        found.append(await line.take())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as workers:
            workers.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            assert found == []
            line.put_back(ticket, 0.0)
    assert found == [ticket, None]


@pytest.mark.anyio
async def test_everyone_hears_of_the_end_that_one_of_them_finds() -> None:
    """What still waits for its time when nothing is under way is one's to take, and the end is everybody's."""
    line: Line[Errand] = Line(2)
    for _ in range(2):
        await line.add(Errand(1))
    line.close()
    first, second = await line.take(), await line.take()
    assert first
    assert second
    line.put_back(second, 0.01)
    taken: list[Ticket[Errand]] = []

    async def take_all() -> None:
        while (ticket := await line.take()) is not None:
            taken.append(ticket)
            line.done()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as takers:
            for _ in range(3):
                takers.start_soon(take_all)
            await anyio.wait_all_tasks_blocked()
            line.done()
    assert taken == [second]


class Every:
    """Leave that there is every so many seconds of the clock that those who wait go by."""

    rank = 1

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = 0.0
        self.asked = 0

    def take(self) -> float:
        self.asked += 1
        now = time.monotonic()
        if now < self._due:
            return self._due - now
        self._due = now + self._seconds
        return 0.0

    def give_back(self) -> None:
        raise AssertionError("nobody takes it for nothing")


@pytest.mark.anyio
async def test_a_permit_lets_one_of_many_look_and_one_more_who_finds_that_it_was_the_only_one() -> None:
    """However many wait, come round, come to an end, or are added meanwhile."""
    jobs, leave = 30, Every(0.004)
    line: Line[Errand] = Line(100)
    line.guard(lambda job: job.leave)
    came_round = 0

    async def work() -> None:
        nonlocal came_round
        while await line.take() is not None:
            await checkpoint()
            line.done()
            came_round += 1

    with anyio.fail_after(30):
        async with anyio.create_task_group() as workers:
            for _ in range(20):
                workers.start_soon(work)
            for _ in range(jobs):
                await line.add(Errand(1, leave=leave))
            line.close()
    assert came_round == jobs
    assert leave.asked <= 2 * jobs + 20, "once for each that looks in vain at the start, at the most"


@pytest.mark.anyio
async def test_a_line_of_which_only_failed_jobs_are_left_does_not_wait_for_their_leave() -> None:
    line: Line[Errand] = Line(10)
    line.guard(lambda job: job.leave)
    under_way, waiting = Errand(1), Errand(1, leave=Every(3600.0))
    assert waiting.leave
    waiting.leave.take()
    line.add_again(under_way)
    line.add_again(waiting)
    line.close()
    assert await line.take() is not None
    with anyio.fail_after(5):
        async with anyio.create_task_group() as workers:
            workers.start_soon(line.take)
            await anyio.wait_all_tasks_blocked()
            waiting.over = True
            line.done()


@pytest.mark.anyio
async def test_a_job_that_is_started_over_after_closing_is_still_handed_out() -> None:
    line: Line[Errand] = Line(1, most_returned=1)
    line.add_again(Errand(1))
    line.close()
    assert await line.take() is not None
    found: list[Ticket[Errand] | None] = []

    async def work() -> None:
        found.append(await line.take())

    again = Errand(1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as workers:
            workers.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            line.add_again(again)
            line.done()
    assert found[0] is not None
    assert found[0].job is again


@pytest.mark.anyio
async def test_a_part_that_was_put_back_is_taken_by_a_waiting_worker_not_before_its_time() -> None:
    line: Line[Errand] = Line(1, most_returned=4)
    line.add_again(Errand(2))
    first, second = await line.take(), await line.take()
    assert first is not None
    assert second is not None
    taken: list[tuple[Ticket[Errand] | None, float]] = []

    async def work() -> None:
        taken.append((await line.take(), anyio.current_time()))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as workers:
            workers.start_soon(work)
            workers.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            begun = anyio.current_time()
            line.put_back(first, 0.04)
            await anyio.wait_all_tasks_blocked()
            line.put_back(second, 0.02)
    assert [ticket for ticket, _ in taken] == [second, first]
    assert taken[0][1] >= begun + 0.02
    assert taken[1][1] >= begun + 0.04


@pytest.mark.anyio
async def test_adding_waits_while_the_line_is_full() -> None:
    line: Line[Errand] = Line(2, most_returned=1)
    added: list[int] = []

    async def add() -> None:
        for number in range(4):
            await line.add(Errand(2))
            added.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(add)
            await anyio.wait_all_tasks_blocked()
            assert added == [0, 1]
            await line.take()
            await anyio.wait_all_tasks_blocked()
            assert added == [0, 1], "the first job still has a part that nobody took"
            await line.take()
            await anyio.wait_all_tasks_blocked()
            assert added == [0, 1, 2]
            await line.take()
            await line.take()
    assert added == [0, 1, 2, 3]


@pytest.mark.anyio
async def test_one_free_place_lets_one_of_many_add() -> None:
    line: Line[Errand] = Line(1, most_returned=1)
    line.add_again(Errand(1))
    added: list[int] = []

    async def add(number: int) -> None:
        await line.add(Errand(1))
        added.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(add, number)
            for count in range(3):
                await anyio.wait_all_tasks_blocked()
                assert len(added) == count
                await line.take()
    assert sorted(added) == [0, 1, 2]


@pytest.mark.anyio
async def test_failed_jobs_make_room_for_others() -> None:
    line: Line[Errand] = Line(2, most_returned=1)
    jobs = [Errand(5), Errand(5)]
    for job in jobs:
        line.add_again(job)
        job.over = True
    fresh = Errand(1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(line.add, fresh)
            await anyio.wait_all_tasks_blocked()
            ticket = await line.take()
    assert ticket is not None
    assert ticket.job is fresh


@pytest.mark.anyio
async def test_a_cancelled_add_adds_nothing() -> None:
    line: Line[Errand] = Line(1, most_returned=1)
    only = Errand(1)
    line.add_again(only)
    with anyio.move_on_after(0) as scope:
        await line.add(Errand(1))
    assert scope.cancelled_caught
    line.close()
    ticket = await line.take()
    assert ticket is not None
    assert ticket.job is only
    line.done()
    with anyio.fail_after(5):
        assert await line.take() is None


class Crew:
    """Workers that put parts back and are called off while they wait, as the dice say."""

    def __init__(self, line: Line[Errand], size: int, dice: random.Random) -> None:
        self.finished: Counter[tuple[Errand, int]] = Counter()
        self.gone = 0
        self._line = line
        self._dice = dice
        self._size = size
        self._waits: dict[int, anyio.CancelScope] = {}

    async def run(self, jobs: list[Errand]) -> None:
        async with anyio.create_task_group() as group:
            for number in range(self._size):
                group.start_soon(self._work, number)
            group.start_soon(self._disturb)
            for job in jobs:
                await self._line.add(job)
                if self._dice.random() < 0.5:
                    await checkpoint()
            self._line.close()

    async def _work(self, number: int) -> None:
        while (ticket := await self._take(number)) is not None:
            for _ in range(self._dice.randrange(3)):
                await checkpoint()
            if self._dice.random() < 0.3:
                self._line.put_back(ticket, self._dice.choice([0.0, 0.0, 0.001]))
            else:
                self.finished[place_of(ticket)] += 1
                self._line.done()
        self.gone += 1

    async def _take(self, number: int) -> Ticket[Errand] | None:
        while True:
            with anyio.CancelScope() as self._waits[number]:
                return await self._line.take()

    async def _disturb(self) -> None:
        for _ in range(30):
            await checkpoint()
            if self._waits:
                self._dice.choice(list(self._waits.values())).cancel()


@pytest.mark.anyio
@both_loops
@given(
    st.lists(st.integers(1, 6), max_size=12),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(),
)
async def test_every_part_is_finished_exactly_once_whoever_is_cancelled_and_whatever_is_put_back(
    counts: list[int], workers: int, limit: int, most_returned: int, seed: int
) -> None:
    jobs = [Errand(count) for count in counts]
    crew = Crew(Line(limit, most_returned=most_returned), workers, random.Random(seed))
    with anyio.fail_after(20):  # a lost wake-up would wait for ever
        await crew.run(jobs)
    assert crew.gone == workers
    assert crew.finished == Counter((job, place) for job in jobs for place in range(job.count))
