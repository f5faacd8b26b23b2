"""A run of which nothing can be read ends early; one of which anything can be, does not."""

from __future__ import annotations

import pytest
from benchmarks.kms.figures import fullest_second

from sealift import KmsSettings, SelectionSettings, TransferSettings, hopeless, mirror
from sealift.errors import AccessError
from sealift.selection import Filter
from sealift.survey import SAMPLE
from tests.support.awserrors import AWS_ERRORS
from tests.support.faultserver import Answer, FaultServer, Request
from tests.support.loops import ONE_LOOP
from tests.support.running import kms_log, settings_for, tree

pytestmark = pytest.mark.anyio

SAID = {error.name: error for error in AWS_ERRORS}
ENOUGH = 100
"""In place of a thousand."""
MANY = 10 * ENOUGH
FEW = TransferSettings(concurrency=2, processes=1)


@pytest.fixture(autouse=True)
def sooner(monkeypatch):
    monkeypatch.setattr(hopeless, "ENOUGH", ENOUGH)


def filled(server: FaultServer, number: int = MANY) -> None:
    server.generate_listing("bucket", "p/a", number, 10)


@pytest.mark.parametrize("name", ["decrypt_not_in_key_policy", "plain_access_denied", "key_disabled"])
async def test_where_everything_is_refused_it_stops_at_a_thousand_and_says_so(tmp_path, name):
    async with FaultServer(remember=False) as server:
        filled(server)
        server.fault(op="get", do=SAID[name].answer(), times=None)
        with pytest.raises(AccessError, match=r"nothing can be read: 1.* a sample from all over") as raised:
            await mirror(["s3://bucket/p/"], tmp_path, settings_for(server, transfer=FEW))
    summary = raised.value.summary
    assert summary is not None
    assert ENOUGH <= summary.failed < MANY
    assert summary.listed == summary.failed + summary.pending
    assert server.gets < MANY
    assert sum(each.objects for each in summary.refusals) == summary.failed


@pytest.mark.parametrize("readable", ["last", "first"])
async def test_where_one_of_them_can_be_read_it_goes_on_to_the_end(tmp_path, readable):
    async with FaultServer(remember=False) as server:
        filled(server, 3 * ENOUGH)
        key = "p/z" if readable == "last" else "p/"  # the sample has the first and the last of a prefix
        server.put("bucket", f"{key}!", b"legible")

        def sealed(request: Request) -> bool:
            return not request.key.endswith("!")

        server.fault(op="get", do=SAID["plain_access_denied"].answer(), times=None, when=sealed)
        summary = await mirror(["s3://bucket/p/"], tmp_path, settings_for(server, transfer=FEW))
    assert (summary.downloaded, summary.failed, summary.pending) == (1, 3 * ENOUGH, 0)
    assert list(tree(tmp_path).values()) == [b"legible"]


async def test_the_sample_is_of_what_the_run_is_about(tmp_path):
    """What is excluded may be read, and helps nobody."""
    async with FaultServer(remember=False) as server:
        filled(server)
        server.put("bucket", "p/z!", b"legible")
        server.fault(
            op="get", do=SAID["plain_access_denied"].answer(), times=None, when=lambda request: request.key[-1] != "!"
        )
        selection = SelectionSettings(filters=(Filter("exclude", "*!"),))
        with pytest.raises(AccessError, match="nothing can be read"):
            await mirror(["s3://bucket/p/"], tmp_path, settings_for(server, selection=selection, transfer=FEW))


@ONE_LOOP
async def test_under_a_cap_the_sample_keeps_to_it_as_well(tmp_path):
    """KMS may be what refuses, and is asked for each."""
    cap = 3 * (ENOUGH + SAMPLE) // 4
    async with FaultServer(remember=False) as server:
        filled(server)
        times = kms_log(server)
        server.fault(op="get", do=SAID["decrypt_not_in_key_policy"].answer(), times=None)
        settings = settings_for(server, transfer=FEW, kms=KmsSettings(rps=cap))
        with pytest.raises(AccessError, match="nothing can be read"):
            await mirror(["s3://bucket/p/"], tmp_path, settings)
    assert len(times) >= ENOUGH + SAMPLE
    assert fullest_second(times) <= cap


async def test_what_fails_for_another_reason_is_no_reason_to_stop(tmp_path):
    async with FaultServer(remember=False) as server:
        filled(server, 2 * ENOUGH)
        server.fault(op="get", do=Answer(404, "NoSuchKey", "The specified key does not exist."), times=None)
        summary = await mirror(["s3://bucket/p/"], tmp_path, settings_for(server, transfer=FEW))
    assert summary.failed == 2 * ENOUGH
    assert summary.refusals == ()


async def test_a_run_that_has_fetched_something_is_never_stopped(tmp_path):
    async with FaultServer(remember=False) as server:
        filled(server, 2 * ENOUGH)
        server.fault(op="get", do=SAID["plain_access_denied"].answer(), times=None, after=1)
        one = TransferSettings(concurrency=1, processes=1)
        summary = await mirror(["s3://bucket/p/"], tmp_path, settings_for(server, transfer=one))
    assert (summary.downloaded, summary.failed) == (1, 2 * ENOUGH - 1)
