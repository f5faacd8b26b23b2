"""From what was found to what it means: link by link, and what mends those that are broken. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sealift.arn import account_of, region_of
from sealift.denial import Denial
from sealift.diagnosis.cures import Case, cure, requester_has_to_pay
from sealift.diagnosis.facts import Caller, Examined, Facts, KeySeen, Unseen
from sealift.diagnosis.findings import Cure, Diagnosis, KeyFound, Link, Name, State
from sealift.errors import ConfigError, CredentialsError, Permanent, Refused, SealiftError, SourceError, Transient
from sealift.kmscost import Seen, predict
from sealift.model import Encryption, KmsForecast
from sealift.policy.principal import Principal, remark_on
from sealift.policy.reading import Reading, read_policy
from sealift.policy.statements import Scope, via_service
from sealift.quota import Quota

REFUSED = CredentialsError.exit_status
"""The exit status where something is refused, as of a mirror of which everything is."""

SKEWED = 300.0
"""Seconds. S3 refuses requests from clocks that are more than 900 off; a clock that drifts is told of before."""

SOON = 900.0
"""Seconds. Credentials that end sooner end within a larger mirror."""

A_MILLION = 1_000_000
"""GETs that the forecast is for, where not all objects were seen."""


def conclude(facts: Facts, *, now: datetime) -> Diagnosis:
    """Return what the facts mean. Raises ConfigError for a source that is none."""
    conclusion = _Conclusion(facts)
    conclusion.credentials(now)
    conclusion.place()
    conclusion.listing()
    conclusion.objects()
    conclusion.keys()
    conclusion.broken()
    return conclusion.diagnosis()


class _Conclusion:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._links: list[Link] = []
        self._cures: list[Cure] = []
        identity = facts.identity
        caller = identity.caller if identity is not None and isinstance(identity.caller, Caller) else None
        self._caller = caller.arn if caller is not None else _caller_by_refusals(facts)
        self._account = caller.account if caller is not None else account_of(self._caller)
        self._principal = _principal(self._caller)
        self._scope = self._scope_of(facts)

    def _note(self, name: Name, state: State, found: str, todo: str = "") -> None:
        self._links.append(Link(name=name, state=state, found=found, todo=todo))

    def _scope_of(self, facts: Facts) -> Scope:
        """Return what is meant, and no more: the object or the prefix, where that is known."""
        partition = self._principal.partition if self._principal is not None else "aws"
        scope = Scope.parse(facts.question.source, partition=partition, behind=facts.question.behind)
        if scope.what == "either" and facts.exact and not facts.listed:
            return replace(scope, what="object")
        if scope.what == "either" and facts.listed and not facts.exact:
            return replace(scope, what="prefix", key=f"{scope.key}/")
        return scope

    # Whose the bucket is.

    @property
    def _bucket_account(self) -> str:
        """The bucket's account; nothing where it is not known."""
        given = self._facts.question.bucket_account or account_of(self._scope.access_point)
        return given or (self._account if self._facts.bucket is not None and self._facts.bucket.mine else "")

    @property
    def _bucket_is_mine(self) -> bool | None:
        """Whether the bucket is the caller's account's own."""
        if self._bucket_account and self._account:
            return self._bucket_account == self._account
        return self._facts.bucket.mine if self._facts.bucket is not None else None

    # Links.

    def credentials(self, now: datetime) -> None:
        """Whose the credentials are, how long they hold, and the clock."""
        identity = self._facts.identity
        if identity is None:
            return
        parts = [f"from {identity.provider}"] if identity.provider else []
        left = None if identity.expires is None else (identity.expires - now).total_seconds()
        soon = left is not None and left < SOON
        parts += [] if left is None else [f"for another {_about(left)}" if left > 0 else "expired"]
        todo = "they end soon: a larger mirror needs credentials that the SDK can renew (a role, SSO)" if soon else ""
        if isinstance(identity.caller, Caller):
            parts.insert(0, f"{identity.caller.arn}, account {identity.caller.account}")
            self._note("credentials", "warning" if soon else "ok", ", ".join(parts), todo)
        elif not isinstance(self._facts.broken, CredentialsError):
            parts.append(f"whose they are is not known ({_said(identity.caller)})")
            self._note("credentials", "unseen", ", ".join(parts), todo)
        if identity.skew is not None and abs(identity.skew) > SKEWED:
            way = "ahead of" if identity.skew > 0 else "behind"
            found = f"this machine's clock is {_about(abs(identity.skew))} {way} AWS's"
            todo = "set it (timedatectl set-ntp true): from 15 minutes on, requests are refused"
            self._note("clock", "warning", found, todo)

    def place(self) -> None:
        """The endpoint, and the bucket."""
        endpoint, bucket = self._facts.endpoint, self._facts.bucket
        if endpoint is not None:
            plural = "" if endpoint.addresses == 1 else "es"
            how = "through a proxy" if endpoint.proxy else f"{endpoint.addresses} address{plural}"
            self._note("endpoint", "ok", ", ".join(part for part in (endpoint.host, how, endpoint.tls) if part))
        if bucket is None:
            return
        parts = [f"in {bucket.region}"] if bucket.region else []
        if self._bucket_is_mine is not None:
            account = f" ({self._bucket_account})" if self._bucket_account else ""
            parts.append("the caller's account's own" if self._bucket_is_mine else f"another account's{account}")
        if bucket.reached is not None:
            parts.append(f"HeadBucket is refused ({_said(bucket.reached)})")
        if not isinstance(bucket.encryption, Unseen):
            parts.append(f"encrypts new objects with {_default(bucket.encryption)}")
        if bucket.requester_pays is True:
            parts.append("Requester Pays")
        looks = {
            "s3:GetEncryptionConfiguration": bucket.encryption,
            "s3:GetBucketRequestPayment": bucket.requester_pays,
            "s3:GetBucketPolicy": bucket.policy,
        }
        self._note("bucket", "ok" if bucket.reached is None else "unseen", _joined(parts, looks))

    def listing(self) -> None:
        """What was listed, or why not."""
        facts = self._facts
        location = facts.question.location
        if facts.listing is not None and facts.exact:
            what = "an object, and what may lie below it cannot be listed, which the object itself does not need"
            self._note("listing", "unseen", f"{facts.question.source} is {what}")
        elif facts.listing is not None:
            self._note("listing", "refused", f"s3://{location.bucket}/{location.key} may not be listed")
            denial = facts.listing.denial
            self._cure(denial, self._case("listing", "s3:ListBucket", denial))
        elif facts.listed:
            more = "" if facts.whole else ", and there are more"
            self._note("listing", "ok", f"{_count(facts.listed, 'object')} seen{more}")
        elif facts.exact:
            self._note("listing", "ok", f"{location.key!r} is one object")
        elif facts.bucket is not None and facts.broken is None and not facts.objects:
            todo = "check the prefix: upper and lower case count, and each slash does"
            self._note("listing", "warning", f"nothing lies under {facts.question.source}", todo)

    def objects(self) -> None:
        """The sample: how it is encrypted, what could be read of it, and why not."""
        objects = self._facts.objects
        if not objects:
            return
        tried = [each for each in objects if each.tried]
        refused = [each for each in tried if each.get is not None]
        kinds = Counter(each.encryption for each in objects if each.encryption is not None)
        parts = [f"{number:,} with {_sealed(encryption)}" for encryption, number in kinds.most_common()]
        blind = sum(1 for each in objects if each.encryption is None)
        parts += [f"{blind:,} that HEAD tells nothing of"] if blind else []
        read = f"; a byte was read of {len(tried) - len(refused):,} of {len(tried):,} that were tried" if tried else ""
        found = f"{_count(len(objects), 'object')} looked at: {'; '.join(parts)}{read}"
        self._note("object", "refused" if refused else "ok", found)
        archived = [each for each in objects if each.remote.cold]
        if archived:
            found = f"{len(archived):,} of {len(objects):,} are archived ({archived[0].remote.storage_class})"
            todo = "they have to be restored before they can be read: sealift get prints the command for each"
            self._note("object", "refused", found, todo)
        for each in refused:
            self._explain(each)

    def _explain(self, examined: Examined) -> None:
        """Say what stood in the way of one object, unless it was said of another."""
        error, encryption = examined.get, examined.encryption
        if error is None:
            return
        if isinstance(error, Refused):
            of_key = encryption is not None and encryption.sse.startswith("aws:kms")
            # A HEAD asks nothing of KMS: where it is refused as well, it is S3 that refuses.
            link: tuple[Name, str] = ("key", "kms:Decrypt") if of_key else ("object", "s3:GetObject")
            case = self._case(*link, error.denial, examined)
            if case.requester_pays and error.denial.plain and not of_key:
                self._add(requester_has_to_pay(case))
            else:
                self._cure(error.denial, case)
        elif error.code == "InvalidRequest" and encryption is None:
            todo = (
                "only those can read it who send that key with each request, which Sealift does not do: have it copied "
                "under SSE-KMS"
            )
            self._once("object", "encrypted with a key of the customer's own (SSE-C), which S3 does not keep", todo)
        elif error.code.startswith("KMS.") and isinstance(error, Permanent):
            self._once("key", _without_key(error))
        elif isinstance(error, Permanent):
            self._once("object", error.message)
        else:
            state: State = "refused" if self._down else "warning"
            self._note_once("object", state, error.message, "that tells nothing of permissions: run it again")

    @property
    def _down(self) -> bool:
        """Whether S3 or KMS failed at whatever was tried."""
        tried = [each for each in self._facts.objects if each.tried]
        return bool(tried) and all(isinstance(each.get, Transient) for each in tried)

    def _once(self, name: Name, found: str, todo: str = "") -> None:
        self._note_once(name, "refused", found, todo)

    def _note_once(self, name: Name, state: State, found: str, todo: str) -> None:
        link = Link(name=name, state=state, found=found, todo=todo)
        if link not in self._links:
            self._links.append(link)

    def keys(self) -> None:
        """The keys that the sample is encrypted with."""
        self._found: list[KeyFound] = []
        for arn in dict.fromkeys(
            each.encryption.kms_key_id
            for each in self._facts.objects
            if each.encryption is not None and each.encryption.kms_key_id
        ):
            self._key(arn)
        quota, region = self._facts.quota, region_of(self._found[0].arn) if self._found else ""
        if isinstance(quota, float):
            self._note("quota", "ok", f"KMS allows the account {quota:,.10g} symmetric requests a second in {region}")
        elif quota is not None:
            self._note("quota", "unseen", f"{_said(quota)}: the default quota of {region or 'most Regions'} is taken")

    def _key(self, arn: str) -> None:
        mine = [each for each in self._facts.objects if each.encryption and each.encryption.kms_key_id == arn]
        tried = [each for each in mine if each.tried]
        readable = all(each.get is None for each in tried) if tried else None
        owner = account_of(arn)
        same = owner == self._account if owner and self._account else None
        parts = [f"{len(mine):,} of {len(self._facts.objects):,} objects"]
        if same is not None:
            parts.append("the caller's account's own" if same else f"another account's ({owner})")
        seen = self._facts.keys.get(arn)
        state = manager = ""
        looks: dict[str, object] = {}
        if seen is not None:
            looks = {"kms:DescribeKey": seen.described, "kms:GetKeyPolicy": seen.policy, "kms:ListGrants": seen.grants}
            if not isinstance(seen.described, Unseen):
                state, manager = str(seen.described.get("KeyState", "")), str(seen.described.get("KeyManager", ""))
                parts += _described(seen.described, foreign=same is False)
            reading = self._reading_of_key(arn, mine[0])
            parts += [_as_read(reading)] if reading is not None else []
            parts += self._grants(seen)
        self._found.append(
            KeyFound(
                arn=arn,
                account=owner,
                objects=len(mine),
                readable=readable,
                same_account=same,
                state=state,
                manager=manager,
            )
        )
        grade: State = "refused" if readable is False else "unseen" if readable is None else "ok"
        self._note("key", grade, f"{arn}: {_joined(parts, looks)}")

    def _grants(self, seen: KeySeen) -> list[str]:
        if isinstance(seen.grants, Unseen):
            return []
        names = {self._caller, self._principal.arn if self._principal is not None else ""} - {""}
        mine = [
            grant
            for grant in seen.grants
            if grant.get("GranteePrincipal") in names and "Decrypt" in grant.get("Operations", ())
        ]
        bound = sum(1 for grant in mine if grant.get("Constraints"))
        within = f", {bound:,} of them for certain encryption contexts only" if bound else ""
        return [f"{_count(len(mine), 'grant')} to decrypt for the caller{within}"] if mine else []

    def broken(self) -> None:
        """What ended the examination."""
        error = self._facts.broken
        if error is None:
            return
        at = "credentials" if isinstance(error, CredentialsError) else self._facts.broken_at
        self._note(at, "refused", error.message)

    # What mends it.

    def _case(self, link: Name, action: str, denial: Denial, examined: Examined | None = None) -> Case:
        bucket = self._facts.bucket
        encryption = examined.encryption if examined is not None else None
        pays = bucket.requester_pays if bucket is not None else None
        return Case(
            link=link,
            action=action,
            caller=self._caller,
            principal=self._principal,
            scope=self._scope,
            key=encryption.kms_key_id if encryption is not None else "",
            bucket_account=self._bucket_account,
            of_key=self._reading_of_key(encryption.kms_key_id, examined) if encryption and examined else None,
            of_bucket=self._reading_of_bucket(denial.action or action, examined),
            bucket_key=encryption is not None and encryption.bucket_key,
            perhaps_missing=self._facts.listing is not None and link == "object",
            requester_pays=False if self._facts.question.pays else None if isinstance(pays, Unseen) else pays,
        )

    def _reading_of_key(self, arn: str, examined: Examined) -> Reading | None:
        seen = self._facts.keys.get(arn)
        if seen is None or isinstance(seen.policy, Unseen) or self._principal is None:
            return None
        encryption = examined.encryption
        bucket = self._scope.bucket_arn
        context = {
            "kms:encryptioncontext:aws:s3:arn": bucket
            if encryption is not None and encryption.bucket_key
            else f"{bucket}/{examined.remote.key}",
            "kms:calleraccount": self._account,
        }
        if service := via_service(arn):
            context["kms:viaservice"] = service
        return self._read(seen.policy, "kms:Decrypt", arn, context)

    def _reading_of_bucket(self, action: str, examined: Examined | None) -> Reading | None:
        seen = self._facts.bucket
        if seen is None or isinstance(seen.policy, Unseen) or self._principal is None or self._scope.access_point:
            return None
        bucket = self._scope.bucket_arn
        resource = bucket if examined is None else f"{bucket}/{examined.remote.key}"
        return self._read(seen.policy, action, resource, {})

    def _read(self, policy: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> Reading:
        principal = self._principal.arn if self._principal is not None else ""
        context = {**context, "aws:principalarn": principal, "aws:principalaccount": self._account}
        return read_policy(policy, principal=principal, action=action, resource=resource, context=context)

    def _cure(self, denial: Denial, case: Case) -> None:
        if denial.action.startswith("s3:Get"):  # of each object its own ARN, for all of which it is the same
            denial = denial._replace(resource="")
        self._add(cure(denial, case))

    def _add(self, found: Cure) -> None:
        if found not in self._cures:
            self._cures.append(found)

    # What it amounts to.

    def diagnosis(self) -> Diagnosis:
        """Return all of it."""
        facts = self._facts
        at_source = self._down or (facts.broken is not None and not isinstance(facts.broken, CredentialsError))
        refused = bool(self._cures) or any(link.state == "refused" for link in self._links)
        return Diagnosis(
            source=facts.question.source,
            exit_status=SourceError.exit_status if at_source else REFUSED if refused else 0,
            caller=self._caller,
            caller_account=self._account,
            bucket_account=self._bucket_account,
            bucket_same_account=self._bucket_is_mine,
            links=tuple(self._links),
            cures=tuple(self._cures),
            keys=tuple(self._found),
            kms=self._forecast(),
            kms_whole=facts.whole,
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        pasted = any(remedy.statements for found in self._cures for remedy in found.remedies)
        remark = remark_on(self._principal) if pasted and self._principal is not None else ""
        return (remark,) if remark else ()

    def _forecast(self) -> KmsForecast | None:
        facts = self._facts
        seen = [Seen(1, each.encryption) for each in facts.objects]
        if not any(each.encryption is not None for each in facts.objects):
            return None
        quota = Quota(facts.quota, "account") if isinstance(facts.quota, float) else None
        gets = facts.gets if facts.whole else A_MILLION
        return predict(gets, seen, whole=facts.whole and facts.gets == len(seen), quota=quota)


def _principal(caller: str) -> Principal | None:
    try:
        return Principal.parse(caller)
    except ConfigError:  # not known, or somebody that no policy is written for, such as a federated user
        return None


def _caller_by_refusals(facts: Facts) -> str:
    """Return whom AWS's refusals name, where STS does not tell."""
    errors: list[SealiftError | None] = [facts.listing, *(each.get for each in facts.objects)]
    denials = [getattr(error, "denial", None) for error in errors]
    return next((denial.principal for denial in denials if denial is not None and denial.principal), "")


def _sealed(encryption: Encryption) -> str:
    names = {"aws:kms": "SSE-KMS", "aws:kms:dsse": "DSSE-KMS", "AES256": "SSE-S3"}
    name = names.get(encryption.sse, encryption.sse or "no encryption that S3 tells of")
    return f"{name} and a Bucket Key" if encryption.bucket_key else name


def _default(encryption: Mapping[str, Any]) -> str:
    algorithm = str(encryption.get("SSEAlgorithm", "nothing"))
    key = encryption.get("KMSMasterKeyID")
    bucket_key = encryption.get("BucketKeyEnabled")
    name = _sealed(Encryption(algorithm, "", bool(bucket_key) and algorithm.startswith("aws:kms")))
    return f"{name} under {key}" if key else name


def _described(metadata: Mapping[str, Any], *, foreign: bool) -> list[str]:
    state = str(metadata.get("KeyState", "")) or "in a state that is not told"
    parts = [state[0].lower() + state[1:]]
    if metadata.get("KeyManager") == "AWS":
        closed = ": nobody in another account can use it, and the objects have to be copied under another key"
        parts.append(f"AWS's own, whose policy cannot be changed{closed if foreign else ''}")
    parts += ["multi-Region"] if metadata.get("MultiRegion") else []
    return parts


def _as_read(reading: Reading) -> str:
    if reading.denies != "no":
        return "its policy denies Decrypt" if reading.denies == "yes" else "its policy may deny Decrypt, by a condition"
    if reading.allows == "yes":
        return f"its policy {'allows Decrypt' if reading.itself else 'leaves Decrypt to IAM policies'}"
    return (
        "its policy may allow Decrypt, by a condition"
        if reading.allows == "perhaps"
        else "its policy allows no Decrypt"
    )


def _joined(parts: Sequence[str], looks: Mapping[str, object]) -> str:
    """Return what was found, and at what nobody may look."""
    hidden = [name for name, answer in looks.items() if isinstance(answer, Unseen)]
    blind = [f"not permitted to look with {', '.join(hidden)}"] if hidden else []
    return "; ".join([*parts, *blind]) or "it is there"


def _without_key(error: Permanent) -> str:
    """Return what is said of a key, without the object where that was met."""
    return error.message.removeprefix(f"{error.key!r} cannot be read: ")


def _said(unseen: Unseen) -> str:
    return unseen.message or unseen.code


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
