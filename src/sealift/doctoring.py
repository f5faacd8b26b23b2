"""Find out why somebody may not read what lies under a prefix, or an object.

1. Whose the credentials are; whether the endpoint can be reached; what the bucket is.
2. A listing, or the one object that is meant.
3. Of a sample of the objects the encryption, by HEADs; of some of each kind a byte, which takes a Decrypt.
4. What the keys are that were found, and the account's quota.
5. `diagnosis.conclusion` says what all that means.

Nothing is changed, and each look that is not permitted is a fact like others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime

import anyio

from sealift.arn import account_of, region_of
from sealift.config import Settings
from sealift.diagnosis.conclusion import conclude
from sealift.diagnosis.facts import Caller, Examined, Facts, Question, Unseen
from sealift.diagnosis.findings import Diagnosis, Name
from sealift.errors import (
    AccessError,
    CredentialsError,
    ObjectError,
    Permanent,
    RunError,
    SealiftError,
)
from sealift.model import ByteRange, Part, RemoteObject
from sealift.planning import count_parts, part_size_of
from sealift.s3 import connected
from sealift.s3.looks import Looks, SdkLooks
from sealift.s3.store import ObjectStore
from sealift.s3.translate import Refusal, translate
from sealift.survey import SAMPLE, Looked, evenly, look, spread
from sealift.tally import Observer, Observers, Tally
from sealift.taskgroups import insulated

READS = 3
"""Objects of each kind of which a byte is read: first, last and one in between, as policies go by prefixes."""

OpenStore = Callable[[], AbstractAsyncContextManager[ObjectStore]]


@insulated
async def doctor(
    source: str,
    settings: Settings | None = None,
    *,
    sample: int = SAMPLE,
    bucket_account: str = "",
    behind: str = "",
    observer: Observer | None = None,
) -> Diagnosis:
    """Say why reading `source`, a prefix or an object, is or would be refused, and what would have to change.

    `sample` is how many objects are looked at; `bucket_account` whose the bucket is, if that is known; `behind` the
    name of the bucket behind an access point. What AWS refuses is in the diagnosis. Raises ConfigError.
    """
    settings = settings or Settings()
    question = Question(
        source=source, bucket_account=bucket_account, behind=behind, pays=settings.connection.request_payer
    )
    tally = Tally(Observers(observer), anyio.current_time())
    async with SdkLooks(settings.connection) as looks:
        facts = await examine(question, looks, lambda: connected(settings, tally), sample=sample)
    return conclude(facts, now=datetime.now(UTC))


async def examine(question: Question, looks: Looks, open_store: OpenStore, *, sample: int = SAMPLE) -> Facts:
    """Look at everything that the question is about, as far as it can be come to. Raises ConfigError."""
    examination = _Examination(question, looks, sample)
    try:
        await examination.place()
        async with open_store() as store:
            await examination.objects(store)
        await examination.keys()
    except (RunError, ObjectError) as error:
        examination.end(error)
    return examination.facts


class _Examination:
    def __init__(self, question: Question, looks: Looks, sample: int) -> None:
        self.facts = Facts(question=question)
        self._looks = looks
        self._sample = sample
        self._at: Name = "credentials"

    def end(self, error: SealiftError) -> None:
        """Take down what ended it."""
        self.facts = replace(self.facts, broken=error, broken_at=self._at)

    async def place(self) -> None:
        """Who, and where. Raises CredentialsError, SourceError, ConfigError."""
        bucket = self.facts.question.location.bucket
        identity = await self._looks.identity()
        self.facts = replace(self.facts, identity=identity)
        caller = identity.caller
        if isinstance(caller, Unseen):
            _refuse_credentials(caller)
        self._at = "endpoint"
        self.facts = replace(self.facts, endpoint=await self._looks.endpoint(bucket))
        self._at = "bucket"
        account = caller.account if isinstance(caller, Caller) else ""
        seen = await self._looks.bucket(bucket, _below(self.facts.question.location.key), account)
        self.facts = replace(self.facts, bucket=seen)
        reached = seen.reached
        if reached is not None and reached.code in {"404", "NoSuchBucket", "NoSuchAccessPoint"}:
            raise translate(Refusal(404, "NoSuchBucket", reached.message, "list", bucket))

    async def objects(self, store: ObjectStore) -> None:
        """List, look at a sample, read a byte of some. Raises RunError, ObjectError."""
        self._at = "listing"
        found = await self._find(store)
        self._at = "bucket"
        looked = await look(store, evenly(found, self._sample))
        to_read = {looked.remote.key for looked in _some_of_each_kind(looked)}
        examined = []
        for each in looked:
            head = each.error
            tried = each.remote.key in to_read and not (head is not None and head.code == "NoSuchKey")
            get = await _read_a_byte(store, each.remote) if tried else None
            examined.append(Examined(remote=each.remote, encryption=each.encryption, head=head, tried=tried, get=get))
        self.facts = replace(self.facts, objects=tuple(examined))

    async def _find(self, store: ObjectStore) -> list[RemoteObject]:
        """Return the objects that are meant, as far as they can be seen."""
        location = self.facts.question.location
        bucket, key = location.bucket, location.key
        exact = await _one(store, bucket, key) if key and not key.endswith("/") else None
        known = exact is not None and exact.etag != ""
        prefix = _below(key)
        try:
            seen = await spread(store, bucket, prefix)
        except AccessError as error:
            self.facts = replace(self.facts, listing=error, exact=known, whole=known, gets=int(known))
            return [] if exact is None else [exact]
        below = list(seen.objects)
        mine = [exact] if exact is not None and (known or not below) else []
        found = [*mine, *below]
        gets = sum(count_parts(each.size, part_size_of(each)) for each in found)
        self.facts = replace(self.facts, exact=known, listed=len(below), whole=seen.whole, gets=gets)
        return found

    async def keys(self) -> None:
        """Look at the keys, and ask for the quota in the first one's Region."""
        self._at = "key"
        arns = dict.fromkeys(
            each.encryption.kms_key_id
            for each in self.facts.objects
            if each.encryption is not None and account_of(each.encryption.kms_key_id)
        )
        keys = {arn: await self._looks.key(arn) for arn in arns}
        quota = await self._looks.quota(region_of(next(iter(arns)))) if arns else None
        self.facts = replace(self.facts, keys=keys, quota=quota)


def _below(key: str) -> str:
    """Return the prefix that a key or a prefix stands for."""
    return f"{key}/" if key and not key.endswith("/") else key


async def _one(store: ObjectStore, bucket: str, key: str) -> RemoteObject | None:
    """Return the object, without an ETag where it cannot be looked at; None where there is none of that key."""
    try:
        return await store.head(bucket, key)
    except Permanent as error:
        return None if error.code == "NoSuchKey" else RemoteObject(bucket, key, 0, "", 0)


async def _read_a_byte(store: ObjectStore, remote: RemoteObject) -> SealiftError | None:
    """Return why the object's first byte is not given, or None. Raises RunError."""
    empty = remote.size == 0 and remote.etag != ""
    try:
        async with store.open(remote, Part(ByteRange(0, 0 if empty else 1), whole=empty)) as body:
            while await body.read():
                pass
    except ObjectError as error:
        return error
    return None


def _some_of_each_kind(looked: Sequence[Looked]) -> list[Looked]:
    """Return some of each key, with a Bucket Key and without, and of what HEADs told nothing of; no archived one."""
    kinds: dict[object, list[Looked]] = {}
    for each in looked:
        if not each.remote.cold:
            kinds.setdefault(each.encryption or type(each.error), []).append(each)
    return [each for kind in kinds.values() for each in evenly(kind, READS)]


def _refuse_credentials(said: Unseen) -> None:
    """Raise CredentialsError where STS says that the credentials are no good. Any other silence is borne."""
    if said.code == "NoCredentials":
        raise CredentialsError(
            f"no AWS credentials can be had ({said.message}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose "
            "a --profile, sign in with aws sso login, or use --no-sign-request for a public bucket",
            code="NoCredentials",
        )
    error = translate(Refusal(403, said.code, said.message, "list", ""))
    if isinstance(error, CredentialsError):
        raise error
