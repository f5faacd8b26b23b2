"""The mirror against the real servers: every byte against what was uploaded, and a KMS that says no for a while."""

import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

import sealift
from sealift import (
    ConnectionSettings,
    Durability,
    RetrySettings,
    Settings,
    SourceError,
    StorageSettings,
    TransferSettings,
)
from sealift.planning import MIB
from sealift.sandbox.demo import compare
from sealift.sandbox.filling import demo_objects, fill, survey
from sealift.sandbox.servers import Sandbox
from tests.support.loops import ONE_LOOP
from tests.support.running import Watcher, partials, tree
from tests.support.sandbox import require_sandbox

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.anyio,
    ONE_LOOP,
]

PREFIX = "end-to-end/"

FILES = 120
LARGE = 20 * MIB
"""Bytes: more than a part of the upload (16 MiB), so that it is a real multipart object, stored in chunks of 4 MiB."""

PATIENT = RetrySettings(max_attempts=1000, base=0.01, cap=0.1)
"""Attempts are not what is tried here, and the machine may be slow."""


async def fill_with_demo(sandbox, prefix, *, files=FILES):
    """Upload what the demo uploads, only less of it; return what was sent by its key below `prefix`."""
    root = Path(sysconfig.get_path("purelib"))
    objects = demo_objects(root, survey(root, most=files), sandbox.keys[1], large=LARGE)
    async with sandbox.client() as s3:
        sent = await fill(s3, sandbox.bucket, [replace(each, key=prefix + each.key) for each in objects])
    below = {key.removeprefix(prefix): uploaded for key, uploaded in sent.items()}
    return {key: replace(uploaded, key=key) for key, uploaded in below.items()}


@pytest.fixture(scope="module")
def objects(sandbox):
    with start_blocking_portal() as portal:
        return portal.call(fill_with_demo, sandbox, PREFIX)


@pytest.fixture
def mirror(sandbox, monkeypatch, tmp_path):
    """Mirror the demo's objects to tmp_path, as the reader."""
    return mirroring(sandbox, monkeypatch, tmp_path)


def mirroring(sandbox, monkeypatch, dest, source=PREFIX):
    for name, value in sandbox.environment(sandbox.reader).items():
        monkeypatch.setenv(name, value)
    connection = ConnectionSettings(endpoint_url=sandbox.endpoint_url, ca_bundle=sandbox.ca_bundle)

    async def run(observer=None, retry=PATIENT, **transfer):
        settings = Settings(
            connection=connection,
            retry=retry,
            transfer=TransferSettings(part_size=8 * MIB, **transfer),
            storage=StorageSettings(
                durability=Durability.FILE
            ),  # objects end one by one, so that a lever can be pulled between
        )
        return await sealift.mirror([f"s3://{sandbox.bucket}/{source}"], dest, settings, observer=observer)

    return run


def assert_everything_is_in_place(dest, objects):
    found = compare(dest, objects)
    assert found.complaints == []
    assert set(found.elsewhere) == {"names/clash"}
    assert partials(dest) == []


class Puller(Watcher):
    """Pulls levers when something happens that often, and lets nothing else happen meanwhile."""

    def __init__(self, **levers):
        """`ended=(20, sandbox.seal)`: after 20 objects."""
        super().__init__()
        self.levers = levers

    def ended(self, outcome):
        super().ended(outcome)
        self.pull("ended", len(self.outcomes))

    def retrying(self, error):
        super().retrying(error)
        self.pull("retrying", len(self.retried))

    def pull(self, event, count):
        due, lever = self.levers.get(event, (0, None))
        if count == due:
            with start_blocking_portal() as portal:
                portal.call(lever)


async def test_every_object_of_the_demo_comes_down_as_it_was_uploaded(sandbox, objects, mirror, tmp_path):
    before = await sandbox.decrypts()

    first = await mirror()

    assert_everything_is_in_place(tmp_path, objects)
    assert (first.listed, first.downloaded, first.failed, first.complete) == (len(objects), len(objects), 0, True)
    assert first.bytes == sum(uploaded.size for uploaded in objects.values())
    assert first.retries == 0
    asked = await sandbox.decrypts()
    assert asked - before >= sum(not key.endswith("/") for key in objects), "the KMS unsealed each, empty ones too"

    again = await mirror()

    assert (again.up_to_date, again.get_requests, again.escaped) == (len(objects), 0, first.escaped)
    assert await sandbox.decrypts() == asked, "what is in place needs no KMS"
    assert_everything_is_in_place(tmp_path, objects)


async def test_the_same_over_tls_with_a_certificate_that_the_bundle_vouches_for(monkeypatch, tmp_path):
    require_sandbox()
    async with Sandbox(tls=True) as sandbox:
        objects = await fill_with_demo(sandbox, "", files=10)
        run = mirroring(sandbox, monkeypatch, tmp_path, "")
        summary = await run()
        assert_everything_is_in_place(tmp_path, objects)
        assert (summary.downloaded, summary.failed) == (len(objects), 0)

        monkeypatch.delenv("AWS_CA_BUNDLE")
        sandbox.ca_bundle = None
        with pytest.raises(SourceError, match="--ca-bundle") as caught:
            await mirroring(sandbox, monkeypatch, tmp_path / "other", "")()
        assert caught.value.code == "TLSError"
        assert tree(tmp_path / "other") == {}


async def test_a_kms_that_is_sealed_in_mid_run_and_comes_back_is_waited_for(levers, objects, mirror, tmp_path):
    puller = Puller(ended=(50, levers.seal), retrying=(30, levers.unseal))

    summary = await mirror(puller, concurrency=8)

    assert_everything_is_in_place(tmp_path, objects)
    assert (summary.downloaded, summary.failed) == (len(objects), 0)
    assert summary.retries == len(puller.retried) >= 30
    assert {error.code for error in puller.retried} <= {"InternalError", "IncompleteBody", "ConnectionLost"}


async def test_a_kms_that_stays_sealed_fails_what_it_seals_and_a_rerun_continues(levers, objects, mirror, tmp_path):
    once = RetrySettings(max_attempts=2, base=0.001)

    summary = await mirror(Puller(ended=(50, levers.seal)), retry=once, concurrency=8)

    assert summary.failed > 0
    assert summary.downloaded + summary.failed == len(objects)
    assert {failure.error for failure in summary.failures} <= {"InternalError", "IncompleteBody", "ConnectionLost"}
    await levers.unseal()
    again = await mirror(retry=once)
    assert (again.downloaded, again.up_to_date, again.failed) == (summary.failed, summary.downloaded, 0)
    assert_everything_is_in_place(tmp_path, objects)


async def test_a_throttled_kms_slows_the_run_which_finishes(levers, objects, mirror, tmp_path):
    rate = 80
    await levers.throttle(rate)

    summary = await mirror()

    assert_everything_is_in_place(tmp_path, objects)
    assert (summary.downloaded, summary.failed) == (len(objects), 0)
    granted = rate * (1 + summary.seconds)
    assert summary.retries > 0 or granted >= len(objects), "some were refused, unless the machine itself was that slow"


async def test_a_denied_key_fails_exactly_its_objects_by_name(levers, objects, mirror, tmp_path):
    await levers.deny(levers.keys[1])
    sealed = {key for key, uploaded in objects.items() if uploaded.kms_key == levers.keys[1]}
    once = RetrySettings(max_attempts=2, base=0.001)

    summary = await mirror(retry=once)

    assert {failure.key.removeprefix(PREFIX) for failure in summary.failures} == sealed
    assert (summary.failed, summary.downloaded) == (len(sealed), len(objects) - len(sealed))
    in_place = {key: uploaded for key, uploaded in objects.items() if key not in sealed}
    assert_everything_is_in_place(tmp_path, in_place)

    await levers.allow(levers.keys[1])
    again = await mirror(retry=once)
    assert (again.downloaded, again.up_to_date) == (len(sealed), len(in_place))
    assert_everything_is_in_place(tmp_path, objects)
