"""What is tried again, how often, and with which credentials."""

from contextlib import asynccontextmanager

import anyio
import pytest

from sealift.errors import (
    AccessError,
    Changed,
    CredentialsError,
    Integrity,
    Permanent,
    SourceError,
    Throttled,
    Transient,
    Unreachable,
)
from sealift.model import ByteRange, Part, RemoteObject
from sealift.retry import RetrySettings
from sealift.s3.persistent import FIRST_CONTACT_ATTEMPTS, PersistentStore
from sealift.s3.store import Page, PageRequest, VersionsPage, VersionsRequest
from sealift.s3.translate import RENEWABLE

pytestmark = pytest.mark.anyio

AT_ONCE = RetrySettings(max_attempts=4, base=0.0)
"""Without waiting."""

REMOTE = RemoteObject("bucket", "k", 4, '"e"', 0)
PART = Part(ByteRange(0, 4), whole=True)
FIRST = PageRequest("bucket", "")
PAGE = Page((REMOTE,), None)
EXPIRED = CredentialsError("expired", code="ExpiredToken")
LOST = Transient("lost")
AWAY = Unreachable("nobody there")
SLOW = Throttled("slow", service="kms")


class Scripted:
    """A store whose next answers are written down: an error is raised, anything else returned."""

    def __init__(self, *answers: object, renewable: bool = False) -> None:
        self.answers = list(answers)
        self.renewable = renewable
        self.asked: list[tuple[object, ...]] = []
        self.renewals = 0
        self.open_now = 0

    def region(self, bucket):
        return "eu-central-1"

    async def list_page(self, request):
        return self._answer("list", request)

    async def list_versions(self, request):
        return self._answer("versions", request)

    async def head(self, bucket, key, version_id=None):
        return self._answer("head", bucket, key, version_id)

    async def encryption(self, bucket, key):
        return self._answer("encryption", bucket, key)

    async def checksum(self, remote, going=None):
        return self._answer("checksum", remote)

    async def part_size(self, remote, number):
        return self._answer("part size", remote, number)

    @asynccontextmanager
    async def open(self, remote, part, going=None):
        body = self._answer("open", remote, part)
        self.open_now += 1
        try:
            yield body
        finally:
            self.open_now -= 1

    async def renew(self):
        self.renewals += 1
        return self.renewable

    def _answer(self, *asked):
        self.asked.append(asked)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def persistent(scripted, settings=AT_ONCE):
    told: list[Exception] = []
    return PersistentStore(scripted, settings, told=told.append), told


async def test_questions_and_answers_go_through_as_they_are():
    scripted = Scripted(PAGE, REMOTE)
    store, told = persistent(scripted)
    request = PageRequest("bucket", "p/", token="token", start_after="p/a", delimiter="/", most=7)
    assert await store.list_page(request) is PAGE
    assert await store.head("bucket", "k", "version") is REMOTE
    assert scripted.asked == [("list", request), ("head", "bucket", "k", "version")]
    assert told == []


@pytest.mark.parametrize("error", [LOST, Integrity("another range"), AWAY], ids=lambda error: type(error).__name__)
async def test_what_is_worth_another_try_gets_one_and_is_told(error):
    scripted = Scripted(error, error, PAGE)
    store, told = persistent(scripted)
    assert await store.list_page(FIRST) is PAGE
    assert told == [error, error]


async def test_attempts_come_to_an_end_and_the_last_error_is_raised():
    last = Transient("lost for good")
    scripted = Scripted(LOST, LOST, LOST, last, PAGE)
    store, told = persistent(scripted)
    with pytest.raises(Transient) as caught:
        await store.head("bucket", "k")
    assert caught.value is last
    assert told == [LOST] * 3, "told is what another attempt follows"


async def test_a_throttle_costs_no_attempt():
    scripted = Scripted(*[SLOW] * 50, LOST, *[SLOW] * 50, LOST, LOST, PAGE)
    store, told = persistent(scripted)
    assert await store.list_page(FIRST) is PAGE
    assert len(told) == 103


@pytest.mark.parametrize(
    "error",
    [Permanent("gone"), Changed("overwritten"), SourceError("no bucket"), AccessError("no"), KeyError("a bug")],
    ids=lambda error: type(error).__name__,
)
async def test_what_no_attempt_would_help_is_raised_at_once(error):
    store, told = persistent(Scripted(error, PAGE))
    with pytest.raises(type(error)) as caught:
        await store.list_page(FIRST)
    assert caught.value is error
    assert told == []


async def test_an_endpoint_that_never_answered_is_given_up_soon():
    patient = RetrySettings(max_attempts=100, base=0.0)
    scripted = Scripted(*[AWAY] * 100)
    store, told = persistent(scripted, patient)
    with pytest.raises(Unreachable):
        await store.list_page(FIRST)
    assert len(scripted.asked) == len(told) + 1 == FIRST_CONTACT_ATTEMPTS


@pytest.mark.parametrize("answer", [PAGE, LOST, Permanent("gone")], ids=lambda answer: type(answer).__name__)
async def test_one_that_has_answered_whatever_it_was_is_given_all_the_attempts(answer):
    patient = RetrySettings(max_attempts=20, base=0.0)
    scripted = Scripted(answer, *[AWAY] * 18, PAGE)
    store, _ = persistent(scripted, patient)
    if isinstance(answer, Permanent):
        with pytest.raises(Permanent):
            await store.list_page(FIRST)
    while scripted.answers:
        assert await store.list_page(FIRST) is PAGE


@pytest.mark.parametrize("code", sorted(RENEWABLE))
async def test_credentials_that_expired_are_renewed_once_and_the_question_asked_again(code):
    scripted = Scripted(CredentialsError("expired", code=code), PAGE, renewable=True)
    store, told = persistent(scripted)
    assert await store.list_page(FIRST) is PAGE
    assert scripted.renewals == 1
    assert told == [], "no attempt was lost"


@pytest.mark.parametrize(
    ("answers", "renewable", "renewals"),
    [
        ([EXPIRED], False, 1),
        ([EXPIRED, EXPIRED], True, 1),
        ([CredentialsError("wrong", code="InvalidAccessKeyId")], True, 0),
    ],
    ids=["cannot be renewed", "renewed ones have expired as well", "were never good"],
)
async def test_credentials_that_stay_bad_end_it(answers, renewable, renewals):
    for ask in (
        lambda store: store.list_page(FIRST),
        lambda store: store.head("bucket", "k"),
        lambda store: store.open(REMOTE, PART).__aenter__(),
    ):
        scripted = Scripted(*answers, PAGE, renewable=renewable)
        store, _ = persistent(scripted)
        with pytest.raises(CredentialsError) as caught:
            await ask(store)
        assert caught.value is answers[-1]
        assert scripted.renewals == renewals


async def test_credentials_may_expire_again_later():
    scripted = Scripted(EXPIRED, PAGE, EXPIRED, REMOTE, renewable=True)
    store, _ = persistent(scripted)
    await store.list_page(FIRST)
    await store.head("bucket", "k")
    assert scripted.renewals == 2


async def test_a_part_is_opened_once_more_with_renewed_credentials_and_closed_once():
    scripted = Scripted(EXPIRED, "body", renewable=True)
    store, _ = persistent(scripted)
    async with store.open(REMOTE, PART) as body:
        assert body == "body"
        assert scripted.open_now == 1
    assert scripted.open_now == 0
    assert scripted.asked == [("open", REMOTE, PART)] * 2


async def test_versions_are_asked_for_again_like_a_page():
    page = VersionsPage((), None)
    scripted = Scripted(LOST, page)
    store, told = persistent(scripted)
    request = VersionsRequest("bucket", "p/", key_marker="p/a", version_marker="v", delimiter="/", most=7)
    assert await store.list_versions(request) is page
    assert scripted.asked == [("versions", request)] * 2
    assert told == [LOST]


@pytest.mark.parametrize("error", [LOST, SLOW, AWAY], ids=lambda error: type(error).__name__)
async def test_a_part_is_not_tried_again_here(error):
    scripted = Scripted(error, "body")
    store, told = persistent(scripted)
    with pytest.raises(type(error)):
        await store.open(REMOTE, PART).__aenter__()
    assert len(scripted.asked) == 1
    assert told == []


@pytest.mark.parametrize("error", [LOST, EXPIRED], ids=lambda error: type(error).__name__)
async def test_what_happens_to_a_body_is_its_readers_business(error):
    scripted = Scripted("body", renewable=True)
    store, _ = persistent(scripted)
    with pytest.raises(type(error)) as caught:
        async with store.open(REMOTE, PART):
            raise error
    assert caught.value is error
    assert (scripted.open_now, scripted.renewals) == (0, 0)


async def test_a_wait_for_the_next_attempt_can_be_cancelled():
    told = anyio.Event()
    store = PersistentStore(
        Scripted(LOST), RetrySettings(base=1e6, cap=1e6), told=lambda _: told.set()
    )  # a wait of days, as good as certainly
    async with anyio.create_task_group() as group:
        group.start_soon(store.list_page, FIRST)
        await told.wait()
        group.cancel_scope.cancel()
    assert group.cancel_scope.cancelled_caught
