"""How many symmetric operations a second KMS allows an account, before anybody has asked it: pure.

Decrypts count against the quota of the caller's account in the key's Region, which everything in the account shares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

_HIGHER = {
    "us-east-1": 100_000.0,
    "us-west-2": 100_000.0,
    "eu-west-1": 100_000.0,
    "us-east-2": 20_000.0,
    "ap-southeast-1": 20_000.0,
    "ap-southeast-2": 20_000.0,
    "ap-northeast-1": 20_000.0,
    "eu-central-1": 20_000.0,
    "eu-west-2": 20_000.0,
}
_ELSEWHERE = 10_000.0
"""Requests a second (AWS KMS Developer Guide, "Request quotas"). Custom key stores have quotas of their own."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Symmetric operations a second, and whose word that is."""

    rate: float
    source: Literal["region", "account", "cap"]


def default_quota(regions: Iterable[str]) -> Quota:
    """Return the default quota of these Regions: of several the least, of none what it is in most."""
    return Quota(min((_HIGHER.get(region, _ELSEWHERE) for region in regions), default=_ELSEWHERE), "region")
