"""Sealift lifts sealed objects in bulk: verified, resumable mirrors of SSE-KMS encrypted S3 prefixes.

>>> import anyio, sealift
>>> async def nightly() -> None:
...     summary = await sealift.mirror(["s3://bucket/prefix/"], "/data/mirror")
...     print(summary.downloaded, "downloaded,", summary.failed, "failed")
>>> anyio.run(nightly)  # doctest: +SKIP

Everything here is imported when it is first used, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealift.config import (
        Adopt,
        Check,
        ConnectionSettings,
        Durability,
        KmsSettings,
        MaxDelete,
        SelectionSettings,
        Settings,
        StorageSettings,
        TransferSettings,
        TransportChoice,
    )
    from sealift.diagnosis.findings import Diagnosis
    from sealift.doctoring import doctor
    from sealift.errors import (
        AccessError,
        ConfigError,
        CredentialsError,
        LocalStorageError,
        RunError,
        SealiftError,
        SourceError,
        TooManyDeletions,
    )
    from sealift.getting import get, get_to_stream
    from sealift.mirroring import mirror, plan
    from sealift.model import Failure, Finding, Flaw, Forecast, Outcome, Summary, Verification
    from sealift.retry import RetrySettings
    from sealift.selection import Filter
    from sealift.tally import Observer, Onlooker
    from sealift.timetable import Slot
    from sealift.verifying import verify

__version__ = "0.1.0"

_HOMES = {
    "mirroring": ("mirror", "plan"),
    "verifying": ("verify",),
    "getting": ("get", "get_to_stream"),
    "doctoring": ("doctor",),
    "diagnosis.findings": ("Diagnosis",),
    "config": (
        "Adopt",
        "Check",
        "ConnectionSettings",
        "Durability",
        "KmsSettings",
        "MaxDelete",
        "SelectionSettings",
        "Settings",
        "StorageSettings",
        "TransferSettings",
        "TransportChoice",
    ),
    "retry": ("RetrySettings",),
    "selection": ("Filter",),
    "tally": ("Observer", "Onlooker"),
    "timetable": ("Slot",),
    "model": ("Failure", "Finding", "Flaw", "Forecast", "Outcome", "Summary", "Verification"),
    "errors": (
        "AccessError",
        "ConfigError",
        "CredentialsError",
        "LocalStorageError",
        "RunError",
        "SealiftError",
        "SourceError",
        "TooManyDeletions",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AccessError",
    "Adopt",
    "Check",
    "ConfigError",
    "ConnectionSettings",
    "CredentialsError",
    "Diagnosis",
    "Durability",
    "Failure",
    "Filter",
    "Finding",
    "Flaw",
    "Forecast",
    "KmsSettings",
    "LocalStorageError",
    "MaxDelete",
    "Observer",
    "Onlooker",
    "Outcome",
    "RetrySettings",
    "RunError",
    "SealiftError",
    "SelectionSettings",
    "Settings",
    "Slot",
    "SourceError",
    "StorageSettings",
    "Summary",
    "TooManyDeletions",
    "TransferSettings",
    "TransportChoice",
    "Verification",
    "__version__",
    "doctor",
    "get",
    "get_to_stream",
    "mirror",
    "plan",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
