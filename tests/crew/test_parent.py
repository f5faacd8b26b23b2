"""Worker processes, carrying out what a scripted decider hands out; and whole runs with them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

import sealift
from sealift import Durability, KmsSettings, RetrySettings, TransferSettings
from sealift.attempt import Attempt, Spot
from sealift.config import ConnectionSettings
from sealift.crew.parent import MOST_DEATHS, Crew, start_process
from sealift.crew.worker import Orders
from sealift.destination import Destination
from sealift.errors import LocalStorageError, NotSent, Refused, Throttled, WorkerDied
from sealift.model import ByteRange, Part
from sealift.partial import PartialFile, partial_name
from sealift.s3.route import Route
from sealift.s3.signing import Credentials
from sealift.s3.store import PageRequest
from sealift.timetable import Timetable
from tests.support.awserrors import KEY_ARN, PRINCIPAL
from tests.support.faultserver import Answer, FaultServer, FaultServerThread, Generated, Hold, Stall
from tests.support.running import Watcher, partials, settings_for, tree

pytestmark = pytest.mark.anyio

KIB = 1024


@pytest.fixture
def anyio_backend():
    """Workers run on uvloop whatever the parent's loop is."""
    return ("asyncio", {"use_uvloop": True})


class Everything:
    """A decider that hands out some attempts, and remembers what becomes of them; an `Access` to one bucket."""

    ca_bundle = None
    paced = False

    def __init__(self, server, *attempts):
        self.url = server.url
        self.attempts = list(attempts)
        self.waiting = len(attempts)
        self.ends = {}
        self.bytes = 0
        self.offsets = {}
        self.sent_ones = []
        self.key = "OLD"
        self.renewals = 0
        self.all_sent = anyio.Event()
        self.over = anyio.Event()
        self.news = anyio.Event()

    async def take(self):
        if self.attempts:
            return self.attempts.pop(0)
        await self.over.wait()
        return None

    def sent(self, number):
        self.sent_ones.append(number)
        if len(self.sent_ones) == self.waiting:
            self.all_sent.set()

    def answered(self, number, encryption):
        assert encryption.charged

    def received(self, size):
        self.bytes += size

    def reached(self, number, offset):
        self.offsets[number] = offset
        self.news.set()

    def ended(self, end):
        assert end.number not in self.ends, "an attempt ends once"
        self.ends[end.number] = end
        if isinstance(end.error, LocalStorageError):
            raise end.error
        if len(self.ends) == self.waiting:
            self.over.set()

    async def route(self, bucket):
        return Route.to(f"{self.url}/{bucket}", "us-east-1")

    async def credentials(self):
        return Credentials(self.key, "secret")

    async def renew(self):
        self.renewals += 1
        renewed, self.key = self.key != "NEW", "NEW"
        return renewed


async def listed(server, tmp_path):
    """The bucket's objects by their key, as a listing describes them."""
    from sealift.s3 import connected
    from sealift.tally import Tally

    async with connected(settings_for(server), Tally(Watcher(), 0.0)) as store:
        return {remote.key: remote for remote in (await store.list_page(PageRequest("bucket", ""))).objects}


def whole(number, remote):
    spot = Spot((os.fsencode(remote.key),), remote.last_modified_ns)
    return Attempt(number, remote, Part(ByteRange(0, remote.size), whole=True), partial_name(remote), spot)


def part(number, remote, start, stop):
    return Attempt(number, remote, Part(ByteRange(start, stop), whole=False), partial_name(remote), None)


async def there_is_room():
    """No lanes are at work in this process."""


def crew_for(everything, dest, *, processes=2, lanes=4, durability=Durability.BATCH, make_room=there_is_room):
    orders = Orders(dest, None, None, ConnectionSettings(), durability, lanes, None, Timetable(), None)
    return Crew(decider=everything, access=everything, orders=orders, processes=processes, make_room=make_room)


def ended(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("durability", list(Durability))
async def test_workers_put_small_objects_in_their_place_and_tell_of_each(server, tmp_path, durability):
    bodies = {f"k{number:03}": b"%d" % number * 100 for number in range(300)}
    for key, body in bodies.items():
        server.put("bucket", key, body)
    remotes = await listed(server, tmp_path)
    everything = Everything(server, *(whole(number, remote) for number, remote in enumerate(remotes.values())))
    with anyio.fail_after(60):
        await crew_for(everything, tmp_path, durability=durability).run()
    assert tree(tmp_path) == bodies
    assert all(end.placed and end.error is None for end in everything.ends.values())
    assert everything.bytes == sum(map(len, bodies.values()))
    assert (tmp_path / "k007").stat().st_mtime_ns == remotes["k007"].last_modified_ns
    assert partials(tmp_path) == []


async def test_workers_write_parts_of_one_object_into_its_file(server, tmp_path):
    content = Generated(640 * KIB, seed=3)
    server.put("bucket", "large", content)
    remote = (await listed(server, tmp_path))["large"]
    with Destination.open(tmp_path, create=True) as destination:
        PartialFile.create(destination.partial_fd, partial_name(remote), remote.size, preallocate=True).close()
        starts = range(0, remote.size, 64 * KIB)
        everything = Everything(server, *(part(n, remote, at, at + 64 * KIB) for n, at in enumerate(starts)))
        with anyio.fail_after(60):
            await crew_for(everything, tmp_path).run()
    assert (tmp_path / ".sealift" / "partial" / partial_name(remote)).read_bytes() == content.read(0, remote.size)
    assert {end.number: end.reached for end in everything.ends.values()} == {
        number: at + 64 * KIB for number, at in enumerate(starts)
    }


async def test_an_error_comes_as_it_is_from_the_other_process(server, tmp_path):
    server.put("bucket", "denied", b"x")
    server.put("bucket", "slow", b"x")
    message = (
        f"User: {PRINCIPAL} is not authorized to perform: kms:Decrypt on resource: {KEY_ARN} because no "
        "identity-based policy allows the kms:Decrypt action"
    )
    server.fault(op="get", key="denied", do=Answer(403, "AccessDenied", message))
    server.fault(op="get", key="slow", do=Answer(400, "KMS.ThrottlingException", "You have exceeded the rate"))
    remotes = await listed(server, tmp_path)
    everything = Everything(server, whole(1, remotes["denied"]), whole(2, remotes["slow"]))
    with anyio.fail_after(60):
        await crew_for(everything, tmp_path).run()
    denied, slow = everything.ends[1].error, everything.ends[2].error
    assert isinstance(denied, Refused)
    assert (denied.code, denied.bucket, denied.key) == ("AccessDenied", "bucket", "denied")
    assert PRINCIPAL in str(denied)
    assert isinstance(slow, Throttled)
    assert slow.service == "kms"
    assert tree(tmp_path) == {}


async def test_what_a_killed_worker_was_handed_comes_back_and_another_takes_its_place(server, tmp_path):
    for number in range(6):
        server.put("bucket", f"k{number}", b"body")
    released = anyio.Event()
    held = server.fault(op="get", do=Hold(released), times=4)
    remotes = await listed(server, tmp_path)
    everything = Everything(server, *(whole(number, remote) for number, remote in enumerate(remotes.values())))
    crew = crew_for(everything, tmp_path, processes=1, lanes=4)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(crew.run)
            await held.reached(4)
            first = crew._workers[0].started.pid
            os.kill(first, signal.SIGKILL)
            while crew._deaths == 0:
                await anyio.sleep(0.01)
            released.set()
            lost = [number for number, end in everything.ends.items() if end.error is not None]
            everything.waiting += len(lost)
            for number in lost:
                again = whole(number + 100, remotes[f"k{number}"])
                everything.attempts.append(again)
            everything.over.set()
            group.cancel_scope.cancel()
    assert len(lost) >= 4
    assert all(isinstance(everything.ends[number].error, WorkerDied) for number in lost)
    assert ended(first)


async def test_a_run_survives_the_death_of_its_workers_and_no_object_pays_for_it(tmp_path):
    bodies = {f"k{number:03}": b"%d" % number * 1000 for number in range(200)}
    async with FaultServer() as server:
        for key, body in bodies.items():
            server.put("bucket", key, body)
        released = anyio.Event()
        held = server.fault(op="get", do=Hold(released), after=50, times=8)
        crews = []

        class Remembered(Crew):
            def __init__(self, **asked):
                super().__init__(**asked)
                crews.append(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sealift.employing.Crew", Remembered)
            transfer, retry = TransferSettings(processes=2, concurrency=8), RetrySettings(max_attempts=1)
            async with anyio.create_task_group() as group:
                summaries = []

                async def run():
                    summaries.append(
                        await sealift.mirror(
                            ["s3://bucket"], tmp_path, settings_for(server, transfer=transfer, retry=retry)
                        )
                    )

                group.start_soon(run)
                await held.reached(8)
                while not (crews and all(worker.ready for worker in crews[0]._workers) and crews[0]._workers):
                    await anyio.sleep(0.01)
                for worker in list(crews[0]._workers):
                    os.kill(worker.started.pid, signal.SIGKILL)  # type: ignore[attr-defined]
                released.set()
    assert (summaries[0].downloaded, summaries[0].failed) == (200, 0)
    assert tree(tmp_path) == bodies
    assert partials(tmp_path) == []


async def test_credentials_that_expired_are_renewed_by_the_parent(server, tmp_path):
    for number in range(20):
        server.put("bucket", f"k{number}", b"body")
    remotes = await listed(server, tmp_path)
    server.require_access_key = {"OLD"}

    async def rotate(exchange):
        server.require_access_key = {"NEW"}
        await Answer(400, "ExpiredToken", "The provided token has expired.")(exchange)

    server.fault(op="get", do=rotate, after=5)
    everything = Everything(server, *(whole(number, remote) for number, remote in enumerate(remotes.values())))
    with anyio.fail_after(60):
        await crew_for(everything, tmp_path, lanes=1).run()
    refused = [end for end in everything.ends.values() if end.error is not None]
    assert refused == []
    assert everything.renewals >= 1
    assert len(tree(tmp_path)) == 20


async def test_a_full_disk_in_a_worker_ends_the_crew(server, tmp_path):
    server.put("bucket", "k", b"body")
    remote = (await listed(server, tmp_path))["k"]
    spot = Spot((b"x" * 10,), 0)

    class Full(Everything):
        def ended(self, end):
            raise LocalStorageError("no space left", code="DiskFull")

    everything = Full(server, whole(1, remote)._replace(spot=spot))
    crew = crew_for(everything, tmp_path)
    with anyio.fail_after(60), pytest.raises(ExceptionGroup) as caught:
        await crew.run()
    assert caught.group_contains(LocalStorageError, depth=2) or caught.group_contains(LocalStorageError)
    assert crew._workers == []


async def test_workers_tell_when_a_get_goes_out(server, tmp_path):
    for number in range(6):
        server.put("bucket", f"k{number}", b"x")
    here = anyio.Event()
    server.fault(op="get", do=Hold(here), times=None)
    remotes = (await listed(server, tmp_path)).values()
    attempts = [whole(number, remote)._replace(counted=True) for number, remote in enumerate(remotes)]
    everything = Everything(server, *attempts)
    with Destination.open(tmp_path, create=True), anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(crew_for(everything, tmp_path, lanes=6).run)
            await everything.all_sent.wait()
            assert not everything.ends
            here.set()
    assert sorted(everything.sent_ones) == sorted(everything.ends)


async def test_a_cancelled_crew_leaves_no_process_and_tells_what_is_complete(server, tmp_path):
    server.put("bucket", "a", b"small")
    server.put("bucket", "large", Generated(640 * KIB, seed=1))
    remotes = await listed(server, tmp_path)
    stalled = server.fault(op="get", key="large", do=Stall(100 * KIB))
    with Destination.open(tmp_path, create=True) as destination:
        large = remotes["large"]
        PartialFile.create(destination.partial_fd, partial_name(large), large.size, preallocate=True).close()
        everything = Everything(server, whole(1, remotes["a"]), part(2, large, 0, large.size))
        crew = crew_for(everything, tmp_path)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(crew.run)
                await stalled.reached()
                while everything.offsets.get(2, 0) < 100 * KIB:
                    everything.news = anyio.Event()
                    await everything.news.wait()
                processes = [worker.started.pid for worker in crew._workers]
                group.cancel_scope.cancel()
    assert everything.ends[1].placed
    assert 2 not in everything.ends
    assert everything.offsets[2] == 100 * KIB
    assert tree(tmp_path) == {"a": b"small"}
    assert len(processes) == 2
    assert all(map(ended, processes))


async def test_an_attempt_that_is_called_off_ends_without_an_error(server, tmp_path):
    server.put("bucket", "large", Generated(640 * KIB, seed=1))
    remote = (await listed(server, tmp_path))["large"]
    stalled = server.fault(op="get", do=Stall(10 * KIB))
    with Destination.open(tmp_path, create=True) as destination:
        PartialFile.create(destination.partial_fd, partial_name(remote), remote.size, preallocate=True).close()
        everything = Everything(server, part(1, remote, 0, remote.size))
        crew = crew_for(everything, tmp_path)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(crew.run)
                await stalled.reached()
                crew.call_off(1)
    end = everything.ends[1]
    assert (end.placed, end.error) == (False, None)


async def test_workers_that_die_all_the_time_end_the_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sealift.crew.parent.MOST_DEATHS", 2)
    assert MOST_DEATHS > 2
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    crew = crew_for(Everything(server), tmp_path, processes=1)
    with anyio.fail_after(60), pytest.raises(ExceptionGroup) as caught:
        await crew.run()
    assert caught.group_contains(LocalStorageError, match="ended with status 1, and 2 before it")


async def test_a_worker_that_cannot_use_the_destination_says_why(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    crew = crew_for(Everything(server), tmp_path / "file" / "below")
    with anyio.fail_after(60), pytest.raises(ExceptionGroup) as caught:
        await crew.run()
    assert caught.group_contains(LocalStorageError, match=r"\(Not a directory\)")
    assert crew._deaths == 0


async def test_nothing_is_handed_to_workers_before_the_lanes_of_this_process_have_made_room(server, tmp_path):
    server.put("bucket", "k", b"body")
    remote = (await listed(server, tmp_path))["k"]
    everything = Everything(server, whole(1, remote))
    asked, ended = anyio.Event(), anyio.Event()

    async def make_room():
        asked.set()
        await ended.wait()

    crew = crew_for(everything, tmp_path, make_room=make_room)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(crew.run)
            await asked.wait()
            assert everything.attempts
            ended.set()
    assert everything.ends[1].placed


async def test_while_requests_are_paced_no_worker_is_handed_more_than_it_has_lanes_for(server, tmp_path):
    for number in range(60):
        server.put("bucket", f"k{number:02}", b"body")

    class Paced(Everything):
        paced = True
        most = 0

        async def take(self):
            attempt = await super().take()
            self.most = max(self.most, self.waiting - len(self.attempts) - len(self.ends))
            return attempt

    remotes = await listed(server, tmp_path)
    everything = Paced(server, *(whole(number, remote) for number, remote in enumerate(remotes.values())))
    crew = crew_for(everything, tmp_path, processes=2, lanes=3, durability=Durability.FILE)
    with anyio.fail_after(60):
        await crew.run()
    assert len(tree(tmp_path)) == 60
    assert everything.most <= 2 * 3


async def test_when_requests_begin_to_be_paced_a_worker_gives_back_what_it_has_no_lane_for(server, tmp_path):
    for number in range(20):
        server.put("bucket", f"k{number:02}", b"body")
    first, others = anyio.Event(), anyio.Event()
    server.fault(op="get", key="k00", do=Hold(first))
    held = server.fault(op="get", do=Hold(others), times=None)

    class Returned(Everything):
        def ended(self, end):
            super().ended(end)
            if sum(isinstance(other.error, NotSent) for other in self.ends.values()) == 17:
                others.set()

    remotes = await listed(server, tmp_path)
    everything = Returned(server, *(whole(number, remote) for number, remote in enumerate(remotes.values())))
    crew = crew_for(everything, tmp_path, processes=1, lanes=2, durability=Durability.NONE)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(crew.run)
            await held.reached()
            while everything.attempts:
                await anyio.sleep(0.01)
            everything.paced = True
            first.set()
    assert server.gets == 3, "what went out before, and what the first lane took next, while nobody had heard of it"
    assert len(tree(tmp_path)) == 3


async def test_permits_of_a_cap_are_not_spent_on_what_waits_for_a_lane(server, tmp_path):
    for number in range(35):
        server.put("bucket", f"k{number:02}", b"body")
    released = anyio.Event()
    server.fault(op="get", do=Hold(released), after=5, times=2)

    class Patient(Watcher):
        """Keeps both lanes busy for more than a second, in which the cap allows all the others."""

        def measured(self, sample):
            super().measured(sample)
            if len(self.samples) == 2:
                released.set()

    settings = settings_for(server, transfer=TransferSettings(processes=2, concurrency=2), kms=KmsSettings(rps=20))
    summary = await sealift.mirror(["s3://bucket"], tmp_path, settings, observer=Patient())
    assert (summary.downloaded, summary.get_requests) == (35, 35)
    sent = sorted(request.time for request in server.requests if request.op == "get")
    assert max(sum(start <= moment < start + 0.9 for moment in sent) for start in sent) <= 20  # whatever the jitter


async def test_a_run_with_worker_processes_is_like_one_without(server, tmp_path):
    bodies = {f"d{number % 7}/k{number:03}": b"%d" % number * 50 for number in range(400)}
    bodies |= {"large": Generated(900 * KIB, seed=5).read(0, 900 * KIB), "empty": b""}
    for key, body in bodies.items():
        server.put("bucket", key, body)
    transfer = TransferSettings(processes=2, concurrency=8, part_size=64 * KIB)
    settings = settings_for(server, transfer=transfer)
    summary = await sealift.mirror(["s3://bucket"], tmp_path, settings)
    assert (summary.downloaded, summary.failed, summary.pending) == (len(bodies), 0, 0)
    assert summary.get_requests == server.gets
    assert tree(tmp_path) == bodies
    again = await sealift.mirror(["s3://bucket"], tmp_path, settings)
    assert (again.up_to_date, again.get_requests) == (len(bodies), 0)


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_workers_and_lanes_together_keep_to_the_concurrency_that_was_chosen(server, tmp_path, concurrency):
    for number in range(600):
        server.put("bucket", f"k{number:03}", b"body")
    transfer = TransferSettings(processes=4, concurrency=concurrency)
    summary = await sealift.mirror(["s3://bucket"], tmp_path, settings_for(server, transfer=transfer))
    assert summary.downloaded == 600
    assert server.most_gets_at_once <= concurrency


def test_an_interrupted_command_ends_its_workers(tmp_path):
    with FaultServerThread() as server:
        for number in range(2000):
            server.put("bucket", f"k{number:04}", b"body")
        held = server.fault(op="get", do=Stall(1), after=1000, times=None)
        command = [sys.executable, "-m", "sealift", "mirror", "s3://bucket", str(tmp_path), "--processes", "2"]
        command += ["--endpoint-url", server.url, "--concurrency", "4"]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                held.wait(4)
                children = _children(process.pid)
                os.killpg(process.pid, signal.SIGINT)
                assert process.wait(60) == 130
            finally:
                process.kill()
    assert children
    assert all(map(ended, children))


def test_a_run_that_follows_a_killed_one_waits_for_its_workers(tmp_path, monkeypatch):
    """They may be about to name a batch of files, which the next run must not write meanwhile."""
    with FaultServerThread() as server:
        for number in range(2000):
            server.put("bucket", f"k{number:04}", b"body")
        held = server.fault(op="get", do=Stall(1), after=1000, times=None)
        command = [sys.executable, "-m", "sealift", "mirror", "s3://bucket", str(tmp_path), "--processes", "2"]
        command += ["--endpoint-url", server.url, "--concurrency", "4"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            held.wait(4)
            children = _children(process.pid)
            assert children
            for child in children:
                os.kill(child, signal.SIGSTOP)
            process.kill()
        waits = []

        def sleep(seconds):
            waits.append(seconds)
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGCONT)
            os.sched_yield()

        monkeypatch.setattr(time, "sleep", sleep)
        with Destination.open(tmp_path, create=True) as second:
            with monkeypatch.context() as hurried:
                hurried.setattr("sealift.locks._WORKERS_PATIENCE", 0.0)
                with pytest.raises(LocalStorageError, match="another sealift run"):
                    second.lock()
            assert waits == []
            second.lock()
        assert waits


def _children(parent):
    """Those of all its threads."""
    return [int(pid) for each in Path(f"/proc/{parent}/task").glob("*/children") for pid in each.read_text().split()]


async def test_a_worker_is_seen_in_the_list_of_processes_as_what_it_is():
    started, channel = await start_process()
    command = Path(f"/proc/{started.pid}/cmdline")  # type: ignore[attr-defined]
    try:
        while not command.read_bytes():  # Linux closes descriptors first, and then says what runs
            await anyio.sleep(0.01)
        assert command.read_bytes().split(b"\0")[1:3] == [b"-m", b"sealift.crew"]
    finally:
        channel.close()
        await started.finish()


def test_a_worker_starts_without_the_sdk():
    code = "import sys, sealift.crew.__main__; assert not {'botocore', 'aioboto3', 'aiohttp'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
