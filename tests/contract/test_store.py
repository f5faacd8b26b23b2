"""What `sealift.s3.store` promises, held against every store: a fake, and the wire and the SDK on two servers."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
from anyio.from_thread import start_blocking_portal

from sealift.config import ConnectionSettings, TransportChoice
from sealift.errors import Changed, Permanent, SourceError
from sealift.model import ByteRange, Part
from sealift.s3.store import ObjectStore, Page, PageRequest
from sealift.s3.transport import Transport
from tests.support.fakestore import FakeStore
from tests.support.faultserver import FaultServer

pytestmark = pytest.mark.anyio

SECOND = 1_000_000_000
KIB = 1024
LARGE = b"".join(sha256(b"%d" % number).digest() for number in range(24_576))
"""768 KiB, of which no two stretches are alike: several reads, whatever a store hands over at once."""


@dataclass(frozen=True)
class Backend:
    """A store, and a way to fill the bucket behind it."""

    store: ObjectStore
    bucket: str
    put: Callable[[str, bytes], Awaitable[None]]
    delete: Callable[[str], Awaitable[None]]
    odd_keys: bool
    """Keys that SeaweedFS does not keep as they are: it stores them as paths, and its tokens are XML."""
    ordered: bool
    """Listings are in UTF-8 order, as those of S3's general-purpose buckets; SeaweedFS's are not."""


STORES = ["fake", "SDK and the fault server", "wire and the fault server"]
SANDBOXED = ["SDK and the sandbox", "wire and the sandbox"]


@pytest.fixture(
    params=[
        *(pytest.param((name, loop), id=f"{name}, {loop}") for name in STORES for loop in ("asyncio", "uvloop")),
        *(pytest.param((name, "uvloop"), id=name, marks=pytest.mark.sandbox) for name in SANDBOXED),
    ]
)
def setting(request):
    """Every store in turn, and the event loop that it runs on. Another one is one more `if`."""
    return request.param


@pytest.fixture
def anyio_backend(setting):
    return ("asyncio", {"use_uvloop": setting[1] == "uvloop"})


@pytest.fixture(scope="module")
def sandboxed_bucket(sandbox):
    """One for all of them, each of which empties it: SeaweedFS takes 0.2 s over the first object of a bucket."""

    async def make(bucket):
        async with sandbox.client() as s3:
            await s3.create_bucket(Bucket=bucket)

    with start_blocking_portal() as portal:
        portal.call(make, "contract")
    return "contract"


@pytest.fixture
async def backend(request, setting, monkeypatch):
    name = setting[0]
    choice = TransportChoice.WIRE if name.startswith("wire") else TransportChoice.SDK

    def opened(settings):
        return Transport(replace(settings, transport=choice), connections=2, noted=pytest.fail)

    if name == "fake":
        fake = FakeStore()
        fake.bucket("bucket")

        async def put(key, body):
            fake.put("bucket", key, body)

        async def delete(key):
            fake.delete("bucket", key)

        yield Backend(fake, "bucket", put, delete, odd_keys=True, ordered=True)
    elif name.endswith("the fault server"):
        async with FaultServer() as server:
            server.bucket("bucket")

            async def put(key, body):
                server.put("bucket", key, body)

            async def delete(key):
                del server.objects["bucket", key]

            async with opened(ConnectionSettings(endpoint_url=server.url)) as store:
                yield Backend(store, "bucket", put, delete, odd_keys=True, ordered=True)
    else:
        sandbox, bucket = request.getfixturevalue("sandbox"), request.getfixturevalue("sandboxed_bucket")
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        async with sandbox.client() as s3, opened(ConnectionSettings()) as store:

            async def put(key, body):
                await s3.put_object(
                    Bucket=bucket, Key=key, Body=body, ServerSideEncryption="aws:kms", SSEKMSKeyId=sandbox.keys[0]
                )

            async def delete(key):
                await s3.delete_object(Bucket=bucket, Key=key)

            yield Backend(store, bucket, put, delete, odd_keys=False, ordered=False)
            left = [
                remote.key
                for page in await listed(Backend(store, bucket, put, delete, False, False))
                for remote in page.objects
            ]
            for key in left:
                await delete(key)


async def listed(backend, prefix="", most=1000):
    """Every page of a listing."""
    pages, token = [], None
    while True:
        pages.append(await backend.store.list_page(PageRequest(backend.bucket, prefix, token=token, most=most)))
        token = pages[-1].next_token
        if token is None:
            return pages


async def fetched(backend, remote, start=None, stop=None):
    """The bytes of a part; whole without a range. What is read is copied: it is valid until the next read only."""
    part = Part(ByteRange(start or 0, remote.size if stop is None else stop), whole=start is None)
    data = bytearray()
    async with backend.store.open(remote, part) as body:
        while chunk := await body.read():
            data += chunk
        assert not await body.read(), "the end stays the end"
    return bytes(data)


async def only(backend, key):
    """The one object of that key, as a listing describes it."""
    [remote] = [remote for page in await listed(backend) for remote in page.objects if remote.key == key]
    return remote


async def test_whoever_asks_is_told_once_that_a_request_goes_out(backend):
    await backend.put("k", b"body")
    remote, told = await only(backend, "k"), []
    async with backend.store.open(remote, Part(ByteRange(0, 4), whole=True), lambda: told.append("get")) as body:
        assert told == ["get"]
        while await body.read():
            pass
    await backend.store.checksum(remote, lambda: told.append("head"))
    assert told == ["get", "head"]


# ── Listing ─────────────────────────────────────────────────────────────────────────────────────────


async def test_pages_follow_each_other_and_name_each_object_once(backend):
    keys = [f"k{number}" for number in range(7)]
    for key in keys:
        await backend.put(key, key.encode())
    pages = await listed(backend, most=3)
    assert all(len(page.objects) <= 3 for page in pages)
    assert len(pages) >= 3
    found = [remote.key for page in pages for remote in page.objects]
    assert sorted(found) == keys
    assert found == keys or not backend.ordered


async def test_only_what_lies_under_the_prefix_is_listed(backend):
    for key in ("a/1", "a/2", "a-b", "ab/1", "b"):
        await backend.put(key, b"x")
    [page] = await listed(backend, "a/")
    assert {remote.key for remote in page.objects} == {"a/1", "a/2"}
    assert [page.objects for page in await listed(backend, "nothing/")] == [()]


async def test_a_listing_begins_behind_the_key_that_it_is_to_start_after(backend):
    for key in ("p/a", "p/b", "p/c", "p/d", "q"):
        await backend.put(key, b"x")
    for start_after, expected in (("p/b", ["p/c", "p/d"]), ("p/bb", ["p/c", "p/d"]), ("p/d", []), ("", list("abcd"))):
        pages: list[Page] = []
        token = None
        while not pages or token is not None:
            page = await backend.store.list_page(
                PageRequest(backend.bucket, "p/", token=token, start_after=start_after or None, most=1)
            )
            pages.append(page)
            token = page.next_token
        found = [remote.key for page in pages for remote in page.objects]
        assert [key[-1] for key in found] == [key[-1] for key in expected]


async def test_what_goes_on_behind_a_delimiter_is_a_common_prefix(backend):
    for key in ("p/a", "p/b/1", "p/b/2", "p/c d+/1", "p/e", "q/1"):
        await backend.put(key, b"x")
    prefixes, keys, token = [], [], None
    while True:
        page = await backend.store.list_page(PageRequest(backend.bucket, "p/", token=token, delimiter="/", most=2))
        assert len(page.objects) + len(page.common_prefixes) <= 2
        prefixes += page.common_prefixes
        keys += [remote.key for remote in page.objects]
        token = page.next_token
        if token is None:
            break
    assert (sorted(keys), sorted(prefixes)) == (["p/a", "p/e"], ["p/b/", "p/c d+/"])


async def test_an_object_is_described_with_size_etag_and_time(backend):
    before = time.time_ns()
    await backend.put("k", LARGE)
    remote = await only(backend, "k")
    assert (remote.bucket, remote.size, remote.storage_class) == (backend.bucket, len(LARGE), "STANDARD")
    assert remote.etag.startswith('"')
    assert remote.etag.endswith('"')
    assert 0 < remote.last_modified_ns < before + 60 * SECOND
    assert not remote.restored


ORDINARY_KEYS = ["a b", "a+b", "100%", "%41", "ünïcödé/日本", "'\"&<>", "q?a=1#x", "~-_.!*()", "🔒/𝔸"]
ODD_KEYS = ["a//b", "/lead", "dir/", "../up", "./dot", "tab\there", "line\nfeed", "back\\slash", "\x7f"]


async def test_a_key_comes_back_as_it_is_and_leads_to_its_object(backend):
    for key in [*ORDINARY_KEYS, *(ODD_KEYS if backend.odd_keys else [])]:
        body = key.encode()
        await backend.put(key, body)
        remote = await only(backend, key)
        assert await fetched(backend, remote) == body
        assert (await backend.store.head(backend.bucket, key)).etag == remote.etag
        await backend.delete(key)


async def test_a_missing_bucket_is_the_sources_error(backend):
    with pytest.raises(SourceError, match="no bucket") as caught:
        await backend.store.list_page(PageRequest("no-such-bucket", ""))
    assert caught.value.code == "NoSuchBucket"


# ── HEAD ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_head_says_what_the_listing_says(backend):
    await backend.put("k", b"body")
    remote, head = await only(backend, "k"), await backend.store.head(backend.bucket, "k")
    assert (head.bucket, head.key, head.size, head.etag) == (backend.bucket, "k", 4, remote.etag)
    # A HEAD's Last-Modified is an HTTP date, of whole seconds.
    assert head.last_modified_ns == remote.last_modified_ns // SECOND * SECOND


async def test_the_head_of_a_missing_key_names_it(backend):
    with pytest.raises(Permanent, match="'nope'") as caught:
        await backend.store.head(backend.bucket, "nope")
    assert (caught.value.code, caught.value.bucket, caught.value.key) == ("NoSuchKey", backend.bucket, "nope")


async def test_an_objects_encryption_is_told_and_that_of_none_is_an_error(backend):
    await backend.put("k", b"body")
    encryption = await backend.store.encryption(backend.bucket, "k")
    assert (encryption.sse, encryption.bucket_key, encryption.charged) == ("aws:kms", False, True)
    assert encryption.kms_key_id
    with pytest.raises(Permanent):
        await backend.store.encryption(backend.bucket, "nope")


# ── GET ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_whole_object_is_its_bytes(backend):
    for body in [b"", b"x", LARGE]:
        await backend.put("k", body)
        assert await fetched(backend, await only(backend, "k")) == body


class Half:
    """A sink that is ready every other time."""

    def __init__(self):
        self.taken = bytearray()
        self._ready = False

    @property
    def ready(self):
        self._ready = not self._ready
        return self._ready

    def take(self, data):
        self.taken += data


@pytest.mark.parametrize("body", [b"", b"x", LARGE], ids=["empty", "one byte", "many reads"])
async def test_what_is_poured_is_what_is_read(backend, body):
    await backend.put("k", body)
    remote = await only(backend, "k")
    sink = Half()
    async with backend.store.open(remote, Part(ByteRange(0, remote.size), whole=True)) as opened:
        if opened.take_what_came(sink):
            assert sink.taken == body
        while data := await opened.pour(sink):
            sink.taken += data
        assert not await opened.pour(sink), "the end stays the end"
    assert sink.taken == body


async def test_a_range_is_the_bytes_from_its_start_up_to_its_stop(backend):
    await backend.put("k", LARGE)
    remote, end = await only(backend, "k"), len(LARGE)
    for start, stop in [(0, 1), (1, 2), (0, end), (end - 1, end), (100_001, 700_001)]:
        assert await fetched(backend, remote, start, stop) == LARGE[start:stop]


@pytest.mark.parametrize("start", [None, 0], ids=["whole", "range"])
async def test_another_version_than_the_one_that_was_listed_is_never_read(backend, start):
    await backend.put("k", b"old one")
    remote = await only(backend, "k")
    await backend.put("k", b"new one")
    with pytest.raises(Changed) as caught:
        await fetched(backend, remote, start)
    assert (caught.value.bucket, caught.value.key) == (backend.bucket, "k")


async def test_an_object_that_is_gone_is_named(backend):
    await backend.put("k", b"body")
    remote = await only(backend, "k")
    await backend.delete("k")
    with pytest.raises(Permanent) as caught:
        await fetched(backend, remote)
    assert (caught.value.code, caught.value.key) == ("NoSuchKey", "k")


async def interrupted(backend, remote, part):
    async with backend.store.open(remote, part) as body:
        assert await body.read()
        raise ZeroDivisionError


async def test_a_body_that_is_left_in_the_middle_harms_no_other(backend):
    await backend.put("k", LARGE)
    remote = await only(backend, "k")
    whole = Part(ByteRange(0, remote.size), whole=True)
    for _ in range(5):  # more than there are connections
        async with backend.store.open(remote, whole) as body:
            assert len(await body.read()) < len(LARGE)
        with pytest.raises(ZeroDivisionError):
            await interrupted(backend, remote, whole)
    assert await fetched(backend, remote) == LARGE
