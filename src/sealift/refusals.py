"""What was refused of a run, by reason: a prefix of a million objects has a handful of reasons. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sealift.denial import Denial
from sealift.errors import ObjectError, Permanent, Refused
from sealift.model import RefusedObjects, RemoteObject

MOST = 100
"""Reasons that are told apart: a bucket has a few keys, and AWS's words are few."""

_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_UNUSABLE = {
    "KMS.DisabledException": "the key is disabled",
    "KMS.KMSInvalidStateException": "the key is pending deletion, or has no key material",
    "KMS.InvalidStateException": "the key is pending deletion, or has no key material",
    "KMS.NotFoundException": "the key is gone",
    "KMS.InvalidKeyUsageException": "the key is not for encryption",
    "KMS.KMSInvalidKeyUsageException": "the key is not for encryption",
}


def is_refusal(error: ObjectError) -> bool:
    """Whether trying again helps nobody until somebody grants something, or makes a key usable."""
    return isinstance(error, Refused) or (isinstance(error, Permanent) and error.code in _UNUSABLE)


class Refusals:
    """Counts refused objects by why they were."""

    __slots__ = ("_counted", "_examples")

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str, str, str], int] = {}
        self._examples: dict[tuple[str, str, str, str], RemoteObject] = {}

    def __iter__(self) -> Iterator[RefusedObjects]:
        for reason, number in sorted(self._counted.items(), key=lambda item: -item[1]):
            example = self._examples[reason]
            yield RefusedObjects(number, *reason, example.bucket, example.key)

    def add(self, remote: RemoteObject, error: ObjectError) -> None:
        """Count an object that failed, if it was refused."""
        if not is_refusal(error):
            return
        reason = _reason(remote, error)
        if reason not in self._counted and len(self._counted) >= MOST:
            reason = next(iter(self._counted))
        self._counted[reason] = self._counted.get(reason, 0) + 1
        self._examples.setdefault(reason, remote)


def _reason(remote: RemoteObject, error: ObjectError) -> tuple[str, str, str, str]:
    if not isinstance(error, Refused):
        key = _KEY.search(error.message)
        return error.code, "kms:Decrypt", key[0] if key else "", _UNUSABLE.get(error.code, "")
    denial = error.denial
    if denial.action.startswith("kms:"):
        return error.code, denial.action, denial.resource, _said(denial)
    return error.code, denial.action, f"s3://{remote.bucket}", _said(denial)


def _said(denial: Denial) -> str:
    if denial.plain:
        return "S3 does not say why"
    if denial.foreign:
        return "the key's policy does not allow it, or denies it, or there is no such key"
    if denial.effect == "explicit":
        article = "an" if denial.kind[:1] in "aeiou" else "a"
        return f"a Deny in {article} {denial.kind}" if denial.kind else "a Deny"
    return f"no {denial.kind} allows it" if denial.kind else "AWS does not say why"
