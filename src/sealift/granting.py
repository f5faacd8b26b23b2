"""Find out which policies have to say what so that a principal can read what lies under sources.

1. The sources become scopes, the principal's ARN a principal.
2. Keys that nobody named are found by HEADs of a sample of the objects.
3. `policy.documents` says what each policy needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio

from sealift.arn import account_of
from sealift.config import Settings
from sealift.errors import AccessError, Refused, SourceError
from sealift.model import Encryption, RemoteObject
from sealift.policy.documents import Document, Extra, Request, checked_key, documents
from sealift.policy.principal import Principal, remark_on
from sealift.policy.statements import BucketKeys, Scope
from sealift.s3 import connected
from sealift.s3.store import ObjectStore
from sealift.selection import Location, parse_location
from sealift.survey import SAMPLE, evenly, look, spread
from sealift.tally import Observer, Observers, Tally
from sealift.taskgroups import insulated


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the policies are to allow, as somebody has written it."""

    principal: str
    keys: Sequence[str] = ()
    """The keys' ARNs; none: to be found out."""
    bucket_account: str = ""
    behind: str = ""
    """The name of the bucket behind an access point."""
    strict: bool = False
    bucket_keys: BucketKeys = "both"
    extras: frozenset[Extra] = frozenset()
    sample: int = SAMPLE


@dataclass(frozen=True, slots=True)
class Granted:
    """The statements that are needed, and what somebody should know who pastes them."""

    principal: Principal
    documents: tuple[Document, ...]
    notes: tuple[str, ...]


@insulated
async def policies(
    sources: Sequence[str], wishes: Wishes, settings: Settings | None = None, *, observer: Observer | None = None
) -> Granted:
    """Return what policies need so that `wishes.principal` can read what lies under `sources`.

    Without keys, S3 is asked for those of a sample, by whoever runs this. Raises ConfigError, and what S3 raises:
    AccessError, CredentialsError, SourceError.
    """
    principal = Principal.parse(wishes.principal)
    scopes = [Scope.parse(source, partition=principal.partition, behind=wishes.behind) for source in sources]
    notes = [
        remark_on(principal),
        *(_about_scope(source, scope) for source, scope in zip(sources, scopes, strict=True)),
    ]
    keys: dict[str, Sequence[Scope]] = {checked_key(key): scopes for key in wishes.keys}
    if not keys:
        settings = settings or Settings()
        tally = Tally(Observers(observer), anyio.current_time())
        async with connected(settings, tally) as store:
            looked, found = await _found_keys(store, sources, scopes, wishes.sample)
        notes.append(_about_keys(found, looked))
        keys = {checked_key(key): where for key, where in found.items()}
    request = Request(
        principal=principal,
        scopes=scopes,
        keys=keys,
        bucket_account=wishes.bucket_account or _account_of_points(scopes),
        strict=wishes.strict,
        bucket_keys=wishes.bucket_keys,
        extras=wishes.extras,
    )
    if not request.bucket_account:
        notes.append(
            f"the bucket is taken to be {principal.account}'s, as the principal is: if it is another account's, say so "
            "with --bucket-account"
        )
    wanted = documents(request)
    notes += [_TOO_LARGE for document in wanted if document.too_large]
    return Granted(principal, tuple(wanted), tuple(note for note in notes if note))


_TOO_LARGE = (
    "the IAM policy is larger than a managed policy may be (6,144 characters): attach it inline to a role, or divide it"
)


async def _found_keys(
    store: ObjectStore, sources: Sequence[str], scopes: Sequence[Scope], most: int
) -> tuple[int, dict[str, list[Scope]]]:
    """Return how many objects were looked at, and the keys that they are encrypted with."""
    keys: dict[str, list[Scope]] = {}
    number = 0
    for source, scope in zip(sources, scopes, strict=True):
        seen = await _encryption(store, parse_location(source), most)
        number += len(seen)
        for encryption in seen:
            if encryption.sse.startswith("aws:kms") and encryption.kms_key_id:
                where = keys.setdefault(encryption.kms_key_id, [])
                where += [] if scope in where else [scope]
    return number, keys


async def _encryption(store: ObjectStore, location: Location, most: int) -> list[Encryption]:
    """Return the encryption of some of the objects that a location means. Raises RunError where none can be told."""
    objects: list[RemoteObject] = []
    prefix = location.key
    if location.key and not location.key.endswith("/"):
        objects.append(RemoteObject(location.bucket, location.key, 0, "", 0))  # if there is such an object
        prefix += "/"
    objects += evenly((await spread(store, location.bucket, prefix)).objects, most)
    looked = await look(store, objects)
    seen = [each.encryption for each in looked if each.encryption is not None]
    errors = [each.error for each in looked if each.error is not None and each.error.code != "NoSuchKey"]
    if errors and not seen:
        first = errors[0]
        kind = AccessError if isinstance(first, Refused) else SourceError
        raise kind(
            f"no object's key can be found out: name the keys with --key ({first.message})", code=first.code
        ) from first
    return seen


def _about_scope(source: str, scope: Scope) -> str:
    if scope.what != "either":
        return ""
    return f"{source} may be an object or a prefix, and both are granted: write a slash at its end if it is a prefix"


def _about_keys(found: Mapping[str, Sequence[Scope]], looked: int) -> str:
    if not looked:
        return "there is no object whose key could be found out: the keys are left out; name them with --key"
    seen = f"{looked:,} objects that were looked at" if looked > 1 else "the object that was looked at"
    if not found:
        return f"no key is named: nothing of {seen} is encrypted with SSE-KMS"
    return f"keys found: {len(found):,}, by {seen}; if there are objects under others, name all keys with --key"


def _account_of_points(scopes: Sequence[Scope]) -> str:
    """Return the account of the access points: most are their bucket's."""
    accounts = {account_of(scope.access_point) for scope in scopes if scope.access_point}
    return accounts.pop() if len(accounts) == 1 else ""
