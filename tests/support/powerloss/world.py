"""Runs of Sealift whose power is lost: each is recorded once, and looked at after as many losses as there are seeds."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sealift
from sealift import Durability, StorageSettings, TransferSettings
from sealift.config import MaxDelete
from sealift.model import RemoteObject
from sealift.partial import NOTE, partial_name
from tests.support.faultserver import FaultServer
from tests.support.mixture import PART, Bodies, contents, damage, serve
from tests.support.powerloss.disk import Chance, Disk
from tests.support.powerloss.recording import Recording, record
from tests.support.running import partials, settings_for, tree
from tests.support.smallbatches import environment

OPTIONS = ["--part-size", str(PART), "--concurrency", "4", "--delete", "--max-delete", "100%", "--json"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run that was recorded, and what it began with."""

    recording: Recording
    disk: Disk
    before: Mapping[str, bytes]
    """What lay there."""
    now: Bodies
    """What the server has."""


def run(server: FaultServer, dest: Path, bodies: Bodies, *options: str, kill: int | None = None) -> Recorded:
    """Mirror these objects into `dest`, which is there, and record how."""
    serve(server, bodies)
    before, disk = tree(dest), Disk(dest)
    command = [sys.executable, "-m", "sealift", "mirror", "s3://bucket", str(dest), *OPTIONS]
    recording = record(
        [*command, *options], dest, dest.parent / "ops", env=environment() | {"AWS_ENDPOINT_URL": server.url}, kill=kill
    )
    assert recording.status == (0 if kill is None else -9), recording.err.decode()
    return Recorded(recording, disk, before, bodies)


@dataclass(frozen=True, slots=True)
class Found:
    """What a power loss has left, and what a run that followed it did."""

    chance: Chance
    damaged: list[str]
    """Final names that hold anything but the complete bytes of one version."""
    wrong: list[str]
    """Final names that hold anything else than what the server has, or are missing, after the run that followed."""
    left: list[str]
    """Partial files, and ledgers that were taken for damaged, after that run."""
    fetched: int
    """Bytes that it has fetched."""
    missing: int
    """Bytes that were in no file of the listed version, and in no note."""

    def __str__(self) -> str:
        return (
            f"{self.chance}: damaged {self.damaged}, then wrong {self.wrong}, left {self.left}; "
            f"{self.fetched:,} bytes were fetched where {self.missing:,} were missing"
        )

    @property
    def is_well(self) -> bool:
        """Whether everything is as promised."""
        return not (self.damaged or self.wrong or self.left) and self.fetched <= self.missing


async def look(server: FaultServer, recorded: Recorded, chance: Chance, dest: Path) -> Found:
    """Lose the power, see what is there, and run Sealift in `dest`, which is made and deleted."""
    recorded.disk.after(recorded.recording.operations, chance).put(dest)
    try:
        now = contents(recorded.now)
        damaged = damage(dest, recorded.before, now)
        missing = _missing(server, dest, now)
        sent = server.body_bytes
        storage = StorageSettings(durability=Durability.NONE, delete=True, max_delete=MaxDelete(100, percent=True))
        settings = settings_for(server, storage=storage, transfer=TransferSettings(part_size=PART))
        await sealift.mirror(["s3://bucket"], dest, settings)
        found = tree(dest)
        wrong = sorted(path for path in found.keys() | now.keys() if found.get(path) != now.get(path))
        ledgers = [path.name for path in (dest / ".sealift").glob("*.damaged-*")]
        return Found(chance, damaged, wrong, partials(dest) + ledgers, server.body_bytes - sent, missing)
    finally:
        shutil.rmtree(dest)


def _missing(server: FaultServer, dest: Path, now: Mapping[str, bytes]) -> int:
    """Return how many bytes a run has to fetch that makes use of everything that is there."""
    there, missing = tree(dest), 0
    for (bucket, key), stored in server.objects.items():
        if there.get(key) == now[key]:
            continue
        modified_ns = int(stored.last_modified.timestamp()) * 1_000_000_000
        remote = RemoteObject(bucket, key, stored.size, stored.etag, modified_ns, stored.version_id)
        begun = dest / ".sealift" / "partial" / partial_name(remote)
        note = begun.with_name(begun.name + NOTE)
        done = json.loads(note.read_bytes())["done"] if note.exists() and begun.exists() else []
        missing += stored.size - sum(stop - start for start, stop in done)
    return missing
