"""What the sources hold, as runs find it against a server that speaks AWS's dialect and misbehaves on demand."""

from xml.sax.saxutils import escape

import anyio
import pytest

import sealift
from sealift import AccessError, ConfigError, SourceError, splitting
from sealift.ledger import Ledger
from sealift.listing import list_prefix
from tests.support.faultserver import Answer, Hold
from tests.support.faultserver.wire import xml_response
from tests.support.running import Watcher, fill, mirror, recorded, settings_for, tree

pytestmark = pytest.mark.anyio


async def test_nothing_under_a_source_is_a_warning(server, tmp_path):
    watcher = Watcher()
    summary = await mirror(server, tmp_path, "s3://bucket/nothing", observer=watcher)
    assert summary.complete
    assert summary.listed == 0
    assert watcher.notes == ["nothing lies under s3://bucket/nothing"]


async def test_an_object_in_place_of_a_prefix_is_a_mistake_with_a_hint_at_get(server, tmp_path):
    fill(server, {"data/file.bin": b"x"})
    with pytest.raises(ConfigError, match=r"sealift get s3://bucket/data/file\.bin"):
        await mirror(server, tmp_path, "s3://bucket/data/file.bin")


@pytest.fixture
def split(server, monkeypatch):
    """Small pages, and a listing that is split wherever it can be."""
    server.page_size = 5
    monkeypatch.setattr(splitting, "WORTH_SPLITTING", 2)


@pytest.mark.usefixtures("split")
async def test_a_listing_in_many_stretches_mirrors_every_object_once(server, tmp_path):
    files = {f"{number % 7}/{number:04d}": b"%d" % number for number in range(300)}
    fill(server, files)
    summary = await mirror(server, tmp_path)
    assert (summary.listed, summary.downloaded, summary.complete) == (300, 300, True)
    assert tree(tmp_path) == files
    assert server.gets == 300
    assert any("start-after" in request.query for request in server.requests)


@pytest.mark.usefixtures("split")
async def test_what_a_server_lists_by_names_and_leaves_out_by_bytes_is_found_by_every_run(server, tmp_path):
    server.listing_order = lambda names: sorted(names, key=lambda name: name.split("/"))
    files = {f"{rest}{number:03d}": b"x" for number in range(100) for rest in ("a", "b-", "b/", "b.", "c/d/", "c/d-")}
    fill(server, files)
    assert (await mirror(server, tmp_path)).downloaded == 600
    for _ in range(3):  # it is split by what the last one left
        assert (await mirror(server, tmp_path)).up_to_date == 600
    assert tree(tmp_path) == files


@pytest.mark.usefixtures("split")
async def test_a_plan_counts_objects_that_need_another_name_also_between_two_stretches(server, tmp_path):
    pairs = {f"{number:03d}{rest}": b"x" for number in range(100) for rest in ("", "/a", " b")}
    fill(server, pairs)
    forecast = await sealift.plan(["s3://bucket"], tmp_path / "dest", settings_for(server))
    assert (forecast.listed, forecast.escaped) == (300, 100)


@pytest.mark.usefixtures("split")
async def test_a_stretch_that_cannot_be_listed_makes_the_listing_incomplete(server, tmp_path):
    fill(server, {f"{number:04d}": b"x" for number in range(300)})
    denied = Answer(403, "AccessDenied", "Access Denied")
    server.fault(op="list", do=denied, when=lambda request: request.query.get("start-after", "") > "0150", times=None)
    summary = await mirror(server, tmp_path)
    assert not summary.complete
    assert 0 < summary.listed == summary.downloaded < 300


async def test_a_listing_that_is_refused_ends_the_run(server, tmp_path):
    server.fault(op="list", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    with pytest.raises(AccessError, match="s3:ListBucket"):
        await mirror(server, tmp_path)


async def test_a_missing_bucket_ends_the_run(server, tmp_path):
    with pytest.raises(SourceError, match="no bucket 'nowhere'") as caught:
        await mirror(server, tmp_path, "s3://nowhere/p")
    assert not caught.value.summary.complete


async def test_of_several_sources_only_the_broken_one_ends(server, tmp_path):
    fill(server, {"a": b"x"})
    with pytest.raises(SourceError) as caught:
        await mirror(server, tmp_path, "s3://bucket", "s3://nowhere")
    assert tree(tmp_path) == {"bucket/a": b"x"}
    assert caught.value.summary.downloaded == 1
    assert not caught.value.summary.complete


async def test_of_several_sources_a_refused_listing_leaves_the_run_incomplete(server, tmp_path):
    fill(server, {"a": b"x"})
    server.put("closed", "b", b"y")
    server.fault(op="list", bucket="closed", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    summary = await mirror(server, tmp_path, "s3://bucket", "s3://closed")
    assert (summary.downloaded, summary.complete) == (1, False)


async def test_a_listing_that_breaks_in_the_middle_keeps_what_it_had_listed(server, tmp_path):
    fill(server, {f"k{number}": b"x" for number in range(4)})
    server.page_size = 2
    server.fault(op="list", do=Answer(500, "InternalError", "We failed."), after=1, times=None)
    with pytest.raises(SourceError, match="cannot be listed") as caught:
        await mirror(server, tmp_path)
    assert set(tree(tmp_path)) == {"k0", "k1"}
    assert (caught.value.summary.downloaded, caught.value.summary.complete) == (2, False)


async def test_a_listing_that_names_what_does_not_lie_there_ends_the_run(server, tmp_path):
    page = "<ListBucketResult><Contents><Key>etc/passwd</Key><Size>1</Size><LastModified>2024-01-01T00:00:00Z"

    async def answer(exchange):
        await exchange.send(xml_response(f"{page}</LastModified></Contents></ListBucketResult>"))

    server.fault(op="list", do=answer)
    with pytest.raises(SourceError, match="'etc/passwd', which does not lie there"):
        await mirror(server, tmp_path, "s3://bucket/p")
    assert server.gets == 0


@pytest.mark.parametrize("body", [b"small", bytes(range(256)) * 36_000], ids=["small", "large"])
async def test_what_a_server_lists_again_while_it_is_under_way_is_fetched_once(server, tmp_path, body):
    keys = ["a", "d/b", "d/c"]
    fill(server, dict.fromkeys(keys, body))
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(body)}</Size><ETag>{escape(server.objects['bucket', key].etag)}</ETag>"
        "<LastModified>2024-01-01T00:00:00Z</LastModified></Contents>" * 2
        for key in keys
    )
    released = anyio.Event()

    async def twice(exchange):
        """Answer with each object twice on a page, and that page twice."""
        more = "<IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken>"
        if "continuation-token" in exchange.request.query:
            released.set()
            more = ""
        await exchange.send(xml_response(f"<ListBucketResult>{contents}{more}</ListBucketResult>"))

    server.fault(op="list", do=twice, when=lambda request: "delimiter" not in request.query, times=None)
    server.fault(op="get", do=Hold(released), times=None)
    summary = await mirror(server, tmp_path)
    assert tree(tmp_path) == dict.fromkeys(keys, body)
    assert (summary.listed, summary.downloaded, summary.up_to_date) == (12, 3, 9)
    assert (summary.failed, summary.pending, summary.complete) == (0, 0, True)
    assert all(record.checksum and not record.adopted for record in recorded(tmp_path).values())


async def test_a_plan_whose_listing_is_refused_is_no_plan(server, tmp_path):
    server.fault(op="list", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    with pytest.raises(AccessError, match="s3:ListBucket") as caught:
        await sealift.plan(["s3://bucket"], tmp_path, settings_for(server))
    assert not caught.value.summary.complete


async def test_a_listing_leaves_landmarks_at_which_the_next_one_is_split(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sealift.splitting.WORTH_REMEMBERING", 1)
    hinted = []

    async def watched(*asked, hints, **more):
        hinted.append(list(hints))
        await list_prefix(*asked, hints=hints, **more)

    monkeypatch.setattr("sealift.finding.list_prefix", watched)
    fill(server, dict.fromkeys(["a.csv", "d/b.csv", "d/e/c.csv", "e.csv", "z.csv"], b"x"))
    await mirror(server, tmp_path)
    assert (await mirror(server, tmp_path)).up_to_date == 5
    await sealift.plan(["s3://bucket"], tmp_path, settings_for(server))
    await mirror(server, tmp_path, "s3://bucket/d/")
    assert hinted == [[], ["a.csv"], ["a.csv"], []]
    with Ledger.open_to_read(tmp_path / ".sealift", pytest.fail) as ledger:
        assert ledger.landmarks("bucket", "") == ["a.csv"]
        assert ledger.landmarks("bucket", "d/") == ["d/b.csv"]
