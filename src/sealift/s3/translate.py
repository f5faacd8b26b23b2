"""AWS's errors become Sealift's: what happened, to which object, why, and what to do about it. Pure.

The codes and wordings are those of the S3 API reference ("Error responses"), the KMS API reference ("Common
errors", Decrypt) and the IAM User Guide ("Troubleshoot access denied error messages").
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sealift.denial import Denial, read_denial, with_article
from sealift.errors import (
    AccessError,
    Changed,
    CredentialsError,
    Permanent,
    Refused,
    SealiftError,
    ServerFailed,
    SourceError,
    Throttled,
)

RENEWABLE = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
"""Codes that say that credentials were good and are no longer: fresh ones may be had."""

_CREDENTIALS: dict[str, str] = {
    "ExpiredToken": "sign in again (aws sso login, or renew the role's credentials) and run the same command; "
    "it continues where it stopped",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID, or the profile that --profile or AWS_PROFILE names",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, and that no proxy on the way rewrites requests",
    "InvalidToken": "check AWS_SESSION_TOKEN: it belongs to other keys, or to another partition or Region",
    "RequestTimeTooSkewed": "this machine's clock is more than 15 minutes off: set it (timedatectl set-ntp true)",
}
_SAME_CREDENTIALS = {
    "ExpiredTokenException": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "InvalidClientTokenId": "InvalidAccessKeyId",
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "AuthFailure": "SignatureDoesNotMatch",
}

_KMS: dict[str, str] = {
    "KMS.DisabledException": "the key is disabled; its owner can run: aws kms enable-key --key-id {key}",
    "KMS.KMSInvalidStateException": "the key cannot be used as it is (pending deletion or import); its owner can "
    "look with: aws kms describe-key --key-id {key} and, if deletion is pending, run: "
    "aws kms cancel-key-deletion --key-id {key}",
    "KMS.NotFoundException": "the key that sealed it is gone, and the object cannot be read without it; "
    "restore the object from a copy under another key",
    "KMS.InvalidKeyUsageException": "the key that the object names is not one for encryption and decryption; ask "
    "the bucket's owner which key was meant",
}
_SAME_KMS = {
    "KMS.InvalidStateException": "KMS.KMSInvalidStateException",
    "KMS.KMSInvalidKeyUsageException": "KMS.InvalidKeyUsageException",
}

_S3_SLOW = frozenset({"SlowDown", "TooManyRequests", "RequestLimitExceeded", "BandwidthLimitExceeded", "Throttling"})
_KMS_SLOW = frozenset({"KMS.ThrottlingException", "ThrottlingException", "KMS.LimitExceededException"})
_KEY_STORE = re.compile(r"(?:custom|external|CloudHSM) key store", re.IGNORECASE)
_STORE_SLOW = re.compile(r"very high request rate")
_STORE_FAILED = re.compile(r"Retry the request|transient")
"""What KMS says of an external key store that cannot keep up, or that may answer the next time (KMS Developer Guide,
"Monitoring external key stores", "Troubleshooting external key stores"): its code is that of a key that is unusable."""
_TRY_AGAIN = frozenset(
    {
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
        "Busy",
        # Those of Decrypt's errors of which the KMS API reference says that the request can be retried.
        "KMS.DependencyTimeoutException",
        "KMS.KeyUnavailableException",
        "KMS.KMSInternalException",
    }
)

_KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_:-]+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of S3's that is not the one hoped for. `headers` have lower-case names."""

    status: int
    code: str
    message: str
    operation: Literal["list", "head", "get"]
    bucket: str
    key: str = ""
    region: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def translate(refusal: Refusal) -> SealiftError:
    """Return the error that `refusal` is. An object's error where it concerns one, a run's where it concerns all."""
    code = refusal.code
    credentials = _SAME_CREDENTIALS.get(code, code)
    if credentials in _CREDENTIALS:
        return CredentialsError(
            f"S3 does not accept the credentials ({code}: {_plain(refusal.message)}): {_CREDENTIALS[credentials]}",
            code=code,
        )
    slow = _throttled(refusal)
    if slow is not None:
        return slow
    kms = _SAME_KMS.get(code, code)
    if kms == "KMS.KMSInvalidStateException" and _STORE_FAILED.search(refusal.message):
        return _failed(refusal)
    if kms in _KMS:
        advice = _KMS[kms].format(key=_key_in(refusal.message))
        return _permanent(refusal, f"its KMS key is unusable ({_plain(refusal.message) or code}): {advice}")
    gone = refusal.status == 404 and refusal.operation == "list"
    if gone or code in {"NoSuchBucket", "InvalidBucketName", "NoSuchAccessPoint"}:
        what = "access point" if code == "NoSuchAccessPoint" else "bucket"
        return SourceError(
            f"there is no {what} {refusal.bucket!r}: check the name, the account and the endpoint", code=code
        )
    if code in {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }:
        return _elsewhere(refusal)
    if code == "AccessDenied" or (refusal.status == 403 and code in {"403", "Forbidden", "AllAccessDisabled"}):
        return _denied(refusal)
    return _for_one_object(refusal)


def _for_one_object(refusal: Refusal) -> SealiftError:
    code, status = refusal.code, refusal.status
    if code == "InvalidObjectState":
        return archived(refusal.bucket, refusal.key, refusal.headers.get("x-amz-storage-class", "an archive class"))
    if code == "PreconditionFailed" or status in {412, 416}:
        return Changed(
            f"{refusal.key!r} was overwritten since it was listed",
            bucket=refusal.bucket,
            key=refusal.key,
            code=code,
        )
    if code in {"NoSuchKey", "NoSuchVersion"} or status == 404:
        return _permanent(
            refusal, "it does not exist: check the key; if a listing named it, it was deleted since", "NoSuchKey"
        )
    if status >= 500 or status == 408 or code in _TRY_AGAIN:
        return _failed(refusal)
    return _permanent(refusal, f"S3 refuses it ({status} {code}: {_plain(refusal.message)})")


def _failed(refusal: Refusal) -> ServerFailed:
    return ServerFailed(
        f"S3 failed on {_named(refusal)} ({refusal.status} {refusal.code}: {_plain(refusal.message)})",
        bucket=refusal.bucket,
        key=refusal.key,
        code=refusal.code,
    )


def archived(bucket: str, key: str, storage_class: str) -> Permanent:
    """Return the error of an object that has to be restored from `storage_class` before it can be read."""
    tier = "Bulk" if storage_class == "DEEP_ARCHIVE" else "Standard"
    # Intelligent-Tiering moves the object itself and takes no number of days.
    days = "" if storage_class == "INTELLIGENT_TIERING" else '"Days":7,'
    request = f'{{{days}"GlacierJobParameters":{{"Tier":"{tier}"}}}}'
    command = shlex.join(
        ["aws", "s3api", "restore-object", "--bucket", bucket, "--key", key, "--restore-request", request]
    )
    return Permanent(
        f"{key!r} is archived ({storage_class}); restore it, then run again: {command}",
        bucket=bucket,
        key=key,
        code="InvalidObjectState",
    )


def _throttled(refusal: Refusal) -> Throttled | None:
    """Tell a request for fewer requests, and whose it is: both KMS forms, S3's own, and a bare 429."""
    service: Literal["kms", "s3"]
    of_store = refusal.code.startswith("KMS.") and _STORE_SLOW.search(refusal.message) is not None
    if (
        of_store
        or refusal.code in _KMS_SLOW
        or (refusal.code in _S3_SLOW and re.search(r"\bKMS\b", refusal.message) is not None)
    ):
        service = "kms"
    elif refusal.code in _S3_SLOW or refusal.status == 429:
        service = "s3"
    else:
        return None
    return Throttled(
        f"{service.upper()} asks for fewer requests ({refusal.status} {refusal.code})",
        service=service,
        bucket=refusal.bucket,
        key=refusal.key,
        code=refusal.code,
        key_store=service == "kms" and (of_store or _KEY_STORE.search(refusal.message) is not None),
    )


def _elsewhere(refusal: Refusal) -> SourceError:
    region = refusal.region or refusal.headers.get("x-amz-bucket-region", "")
    if not region:
        match = re.search(r"expecting '([a-z0-9-]+)'", refusal.message)
        region = match[1] if match else ""
    advice = f"it is in {region}: run with --region {region}" if region else "run with the bucket's own --region"
    return SourceError(
        f"the bucket {refusal.bucket!r} cannot be reached through this Region or endpoint ({refusal.code}): {advice}",
        code=refusal.code,
    )


def _denied(refusal: Refusal) -> SealiftError:
    denial = read_denial(refusal.message)
    text = _candidates(refusal) if denial.plain else _explained(denial)
    if refusal.operation == "list":
        return AccessError(f"s3://{refusal.bucket} may not be listed: {text}", code="AccessDenied", denial=denial)
    return Refused(
        f"{refusal.key!r} is refused: {text}",
        bucket=refusal.bucket,
        key=refusal.key,
        code="AccessDenied",
        denial=denial,
    )


def _explained(denial: Denial) -> str:
    """Say who lacks which permission on what, and which policy grants it."""
    resource = denial.resource or "the object's KMS key"
    return f"{denial.principal or 'the caller'} lacks {denial.action} on {resource}: {_remedy(denial, resource)}"


def _remedy(denial: Denial, resource: str) -> str:
    """Name the policy to change, from the reason that IAM gives."""
    principal, action, kind = denial.principal, denial.action, denial.kind
    of_resource = f"the key policy of {resource}" if action.startswith("kms:") else "the bucket policy"
    places = {
        "resource-based policy": of_resource,
        "resource control policy": f"a resource control policy of the organization that owns {resource}",
        "service control policy": f"a service control policy of the organization of {principal}",
        "VPC endpoint policy": "the policy of the VPC endpoint that the requests go through",
    }
    if denial.foreign:
        return (
            f"allow {action} for it in {of_resource} (or lift a Deny there), in the account that owns it; "
            "if that is another account than the caller's, the caller's IAM policy must allow it as well; "
            "and check that the key still exists in this Region"
        )
    if denial.effect == "explicit":
        kind = kind or "policy that applies"
        where = places.get(kind, f"{with_article(kind)} of {principal}")
        return f"there is an explicit Deny in {where}; no Allow overrides it, so the Deny has to be narrowed"
    if kind == "resource-based policy":
        return f"allow {action} for {principal} in {of_resource}"
    if kind == "identity-based policy":
        return (
            f"allow {action} on {resource} in an IAM policy of {principal}, and see that {of_resource} "
            "lets IAM policies of its account grant it"
            if action.startswith("kms:")
            else f"allow {action} on {resource} in an IAM policy of {principal}"
        )
    if kind:
        return f"allow {action} on {resource} in {places.get(kind, f'{with_article(kind)} of {principal}')}"
    return f"allow {action} on {resource} in an IAM policy of {principal}, and in {of_resource}"


def _candidates(refusal: Refusal) -> str:
    """List what a plain "Access Denied" can mean: S3 does not say more outside the bucket's organization."""
    below = refusal.bucket if refusal.bucket.startswith("arn:") else f"arn:aws:s3:::{refusal.bucket}"
    said = f"S3 says only {_plain(refusal.message) or 'Access Denied'!r}"
    if refusal.operation == "list":
        return (
            f"{said}; allow s3:ListBucket on {below} in an IAM policy of the caller, and in the bucket policy if the "
            "bucket is another account's"
        )
    return (
        f"{said}; one of these is missing: s3:GetObject on {below}/* (IAM policy of the caller; bucket policy, too, if "
        "the bucket is another account's), kms:Decrypt on the object's KMS key (IAM policy of the caller and the key "
        "policy, both if the key is another account's), or the object itself (without s3:ListBucket a missing key is "
        "refused as well)"
    )


def _permanent(refusal: Refusal, text: str, code: str | None = None) -> Permanent:
    return Permanent(
        f"{_named(refusal)} cannot be read: {text}",
        bucket=refusal.bucket,
        key=refusal.key,
        code=code or refusal.code,
    )


def _named(refusal: Refusal) -> str:
    return repr(refusal.key) if refusal.key else f"s3://{refusal.bucket}"


def _key_in(message: str) -> str:
    match = _KEY_ARN.search(message)
    return match[0] if match else "KEY-ARN"


def _plain(message: str) -> str:
    """Return `message` on one line, and not all of an endless one (400 characters hold every message known)."""
    return " ".join(message.split())[:400].rstrip(".")
