"""A mirror whose fetching is spread over a Dask cluster of real processes, one of which dies in the middle."""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import threading

import pytest

import sealift
from sealift import ConfigError, LocalStorageError, TransferSettings
from sealift.crew import cluster as rooms
from sealift.crew.channel import Channel
from sealift.crew.sharing import mark_of, refuse_unshared
from sealift.destination import Destination
from tests.support.daskcluster import dask_cluster
from tests.support.faultserver import FaultServerThread, Generated, Hold
from tests.support.running import partials, recorded, settings_for, tree

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def cluster():
    with dask_cluster(workers=2) as running:
        yield running


@pytest.fixture
def thread():
    return FaultServerThread()


@pytest.fixture
def server(thread):
    with thread as running:
        running.bucket("bucket")
        yield running


def begun(server, cluster, dest, *options, environ=None):
    command = [sys.executable, "-m", "sealift", "mirror", "--dask", cluster.scheduler, "--endpoint-url", server.url]
    return subprocess.Popen(
        [*command, "--json", "--no-progress", *options, "s3://bucket", str(dest)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (environ or {}),
    )


def ended(run):
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    return json.loads(out)


def test_the_workers_fetch_and_the_client_keeps_the_ledger_and_one_that_is_killed_loses_nothing(
    server, thread, cluster, tmp_path
):
    bodies = {f"d{number % 7}/{number}": b"%d" % number * 50 for number in range(200)}
    for key, body in bodies.items():
        server.put("bucket", key, body)
    large = Generated(48 * MIB, seed=1)  # more than one worker is given ahead
    server.put("bucket", "large", large)
    released = threading.Event()
    held = server.fault(op="get", key="large", do=Hold(released), times=None)

    with begun(server, cluster, tmp_path, "--part-size", "1MiB", "--concurrency", "4") as run:
        try:
            thread.call(
                held.reached(8)
            )  # four GETs are the most of one worker: both have parts of the one large object
            cluster.kill(0)
        finally:
            released.set()
        summary = ended(run)

    assert (summary["downloaded"], summary["failed"], summary["pending"]) == (201, 0, 0)
    assert summary["retries"] >= 4, "what the dead worker had under way went back in line"
    assert tree(tmp_path) == bodies | {"large": large.read(0, large.size)}
    assert partials(tmp_path) == []
    assert recorded(tmp_path).keys() == tree(tmp_path).keys()
    assert ended(begun(server, cluster, tmp_path))["up_to_date"] == 201


def test_the_whole_cluster_stays_within_the_budget_for_kms(server, cluster, tmp_path):
    for number in range(40):
        server.put("bucket", str(number), b"x")
    assert ended(begun(server, cluster, tmp_path, "--kms-rps", "30"))["downloaded"] == 40
    sent = sorted(request.time for request in server.requests if request.op == "get")
    assert max(sum(start <= moment < start + 0.9 for moment in sent) for start in sent) <= 30  # whatever the jitter


def test_a_cluster_with_tls_is_spoken_to_in_tls(server, tmp_path):
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    server.put("bucket", "a", b"a")
    with dask_cluster(1, certificates) as cluster:
        assert cluster.scheduler.startswith("tls://")
        names = {"CA_FILE": "tls_ca_file", "CLIENT__CERT": "tls_client_cert", "CLIENT__KEY": "tls_client_key"}
        environ = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(certificates / file) for name, file in names.items()}
        assert ended(begun(server, cluster, tmp_path / "dest", environ=environ))["downloaded"] == 1


@pytest.mark.anyio
async def test_who_was_not_sent_is_not_heard():
    token = random.randbytes(32)
    arrived: list[Channel] = []
    listener = await asyncio.get_running_loop().create_server(
        lambda: rooms._Caller(token, arrived.append), "127.0.0.1", 0
    )
    try:
        where = listener.sockets[0].getsockname()
        stranger = await Channel.over(socket.create_connection(where), token=random.randbytes(32))
        stranger.send(("failed", b"never unpickled"))
        assert await stranger.receive() is None
        assert arrived == []
        ours = await Channel.over(socket.create_connection(where), token=token)
        ours.send(("ready",))
        while not arrived:
            await asyncio.sleep(0)
        assert await arrived[0].receive() == ("ready",)
        for end in (stranger, ours, arrived[0]):
            end.close()
        while await ours.receive() is not None or await arrived[0].receive() is not None:
            pass
    finally:
        listener.close()


def test_a_destination_that_is_not_shared_is_refused(tmp_path):
    for name in ("here", "there"):
        with Destination.open(tmp_path / name, create=True) as destination:
            destination.lock()
            mark = mark_of(tmp_path / "here")
    refuse_unshared(tmp_path / "here", mark)
    (tmp_path / "there" / ".sealift" / "lock").write_bytes(b"another run's")
    for name in ("there", "nowhere"):
        with pytest.raises(LocalStorageError) as caught:
            refuse_unshared(tmp_path / name, mark)
        assert caught.value.code == "NotShared"


@pytest.mark.anyio
async def test_without_a_scheduler_or_the_extra_nothing_begins(server, tmp_path, monkeypatch):
    chosen = settings_for(server, transfer=TransferSettings(dask="tcp://127.0.0.1:1"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'sealift\[dask\]'"):
        await sealift.mirror(["s3://bucket"], tmp_path, chosen)
