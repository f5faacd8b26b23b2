"""Running Sealift in a test: quick retries, and looking at what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sealift
from sealift import (
    ConnectionSettings,
    KmsSettings,
    Observer,
    RetrySettings,
    SelectionSettings,
    Settings,
    StorageSettings,
    Summary,
    TransferSettings,
)
from sealift.errors import ObjectError
from sealift.ledger import Ledger, Record
from sealift.model import Outcome, PaceSample
from sealift.tally import Unobserved
from tests.support.faultserver import Answer, FaultServer, Request

QUICK = RetrySettings(base=0.001, cap=0.01)
"""The usual number of attempts, without the usual waiting."""


def settings_for(
    server: FaultServer,
    *,
    transfer: TransferSettings | None = None,
    selection: SelectionSettings | None = None,
    storage: StorageSettings | None = None,
    kms: KmsSettings | None = None,
    retry: RetrySettings = QUICK,
    **connection: Any,
) -> Settings:
    """Settings that reach `server`, with quick retries."""
    reached = replace(ConnectionSettings(endpoint_url=server.url), **connection)
    return Settings(
        connection=reached,
        transfer=transfer or TransferSettings(),
        selection=selection or SelectionSettings(),
        storage=storage or StorageSettings(),
        kms=kms or KmsSettings(),
        retry=retry,
    )


def fill(server: FaultServer, bodies: Mapping[str, bytes], bucket: str = "bucket") -> None:
    """Put objects into a bucket."""
    for key, body in bodies.items():
        server.put(bucket, key, body)


async def mirror(
    server: FaultServer, dest: Path, *sources: str, observer: Observer | None = None, **settings: Any
) -> Summary:
    """Mirror the whole bucket, or some sources."""
    return await sealift.mirror(sources or ["s3://bucket"], dest, settings_for(server, **settings), observer=observer)


def recorded(dest: Path, state: Path | None = None) -> dict[str, Record]:
    """What the ledger of a destination says, by path."""
    with Ledger.open_to_read(state or dest / ".sealift", pytest.fail) as ledger:
        return {record.path: record for page in ledger.pages() for record in page}


def kms_log(server: FaultServer) -> list[float]:
    """Return the list that takes down when each GET of an object reaches `server`."""
    times: list[float] = []

    def seen(_: Request) -> bool:
        times.append(time.monotonic())
        return False

    server.fault(op="get", do=Answer(500, "InternalError"), times=None, when=seen)
    return times


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` with its bytes, without Sealift's own directory. Empty directories end with a slash."""
    found = {}
    for directory, names, files in os.walk(root):
        here = Path(directory)
        if here == root:
            names[:] = [name for name in names if name != ".sealift"]
        if not names and not files and here != root:
            found[f"{here.relative_to(root)}/"] = b""
        for name in files:
            found[str((here / name).relative_to(root))] = (here / name).read_bytes()
    return found


def partials(root: Path) -> list[str]:
    """What lies in flight."""
    return sorted(path.name for path in (root / ".sealift" / "partial").iterdir())


class Watcher(Unobserved):
    """Remembers what an observer hears."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.retried: list[ObjectError] = []
        self.notes: list[str] = []
        self.samples: list[PaceSample] = []
        self.position = 0
        self.due = 0

    def planned(self, remote, path, size, gets) -> None:
        self.due += size

    def advanced(self, size) -> None:
        self.position += size

    def restarted(self, size, received) -> None:
        self.due -= size
        self.position -= received

    def measured(self, sample) -> None:
        self.samples.append(sample)

    def ended(self, outcome) -> None:
        self.outcomes.append(outcome)

    def retrying(self, error) -> None:
        self.retried.append(error)

    def noted(self, level, text) -> None:
        self.notes.append(text)
