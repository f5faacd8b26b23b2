"""Bodies that are spoilt on the way by a seeded chance, and mirrors that have to bear it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sealift
from sealift.config import TransportChoice
from sealift.errors import ChecksumMismatch
from tests.support.faultserver import Fault, FaultServer, ResetAfter, TruncateAfter, WrongLength
from tests.support.faultserver.content import InMemory
from tests.support.faultserver.exchange import Exchange
from tests.support.mixture import damage
from tests.support.running import Watcher, partials, settings_for, tree

KIB = 1024
ALGORITHMS = ("CRC64NVME", "CRC32C", "CRC32", "SHA1", "SHA256")
PART = 64 * KIB
"""Bytes of a part: of the large objects' uploads, of most of them, and of a GET, of some of the runs."""

Parts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, with whatever checksum S3 may have of it."""

    body: bytes
    checksum: str
    parts: Parts
    composite: bool
    listed: bool


class Spoiler:
    """Spoils a share of the answers to GETs. Which and how follows from the seed, whatever order they come in."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.share = 0.0
        """Of all GETs."""
        self.silent: Counter[str] = Counter()
        """By key, how many answers came to their end with other bytes."""
        self.loud = 0
        """How many broke off, or were longer or shorter than what was asked for."""
        self._asked: Counter[tuple[str, tuple[int, int] | None]] = Counter()

    async def __call__(self, exchange: Exchange) -> None:
        """Answer an exchange."""
        request, response = exchange.request, exchange.response()
        which = (request.key, request.range)
        self._asked[which] += 1
        chance = random.Random(f"{self.seed} {which} {self._asked[which]}")
        size = response.content.size if response.status in {200, 206} else 0
        if not size or chance.random() >= self.share:
            await exchange.send(response)
        elif chance.random() < 0.3:
            self.loud += 1
            at = chance.randrange(size)
            faults: Sequence[Fault] = [ResetAfter(at), TruncateAfter(at), WrongLength(-1 - at), WrongLength(1 + at)]
            await chance.choice(faults)(exchange)
        else:
            right = response.content.read(0, size)
            spoilt = chance.choice([flipped, shifted, elsewhere])(right, exchange, chance)
            self.silent[request.key] += spoilt != right
            response.content = InMemory(spoilt)
            await exchange.send(response)


def flipped(right: bytes, _: Exchange, chance: random.Random) -> bytes:
    """Up to three bits are others."""
    spoilt = bytearray(right)
    for _time in range(chance.randint(1, 3)):
        spoilt[chance.randrange(len(right))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def shifted(right: bytes, _: Exchange, chance: random.Random) -> bytes:
    """What belongs to the end comes first."""
    at = chance.randrange(len(right))
    return right[at:] + right[:at]


def elsewhere(right: bytes, exchange: Exchange, chance: random.Random) -> bytes:
    """The bytes of another range of the object, or of another object, as many as were asked for."""
    another = chance.choice(list(exchange.server.objects.values()))
    other = another.content.read(0, another.size)
    if len(other) < len(right):
        return shifted(right, exchange, chance)
    start = chance.randint(0, len(other) - len(right))
    return other[start : start + len(right)]


def stored(seed: int, *, small: int = 40, large: int = 5) -> Mapping[str, Stored]:
    """Return objects of all sizes: of up to 8 KiB, and of 300 to 500 KiB."""
    chance = random.Random(seed)
    sizes = {f"d{number % 5}/{number:02}": chance.randint(1, 8 * KIB) for number in range(small)}
    sizes |= {f"large/{number}": chance.randint(300 * KIB, 500 * KIB) for number in range(large)}
    return {key: _stored(size, chance) for key, size in sizes.items()}


def _stored(size: int, chance: random.Random) -> Stored:
    algorithm = chance.choice(ALGORITHMS)
    parts: Parts = ()
    if size > PART and chance.random() < 0.7:
        parts = _cut(size, PART if chance.random() < 0.7 else chance.randint(40 * KIB, 150 * KIB))
    composite = bool(parts) and algorithm != "CRC64NVME" and chance.random() < 0.7
    return Stored(chance.randbytes(size), algorithm, parts, composite, listed=chance.random() < 0.8)


def _cut(size: int, part: int) -> Parts:
    return tuple(min(part, size - start) for start in range(0, size, part))


@dataclass(frozen=True, slots=True)
class Told:
    """What was spoilt, and what was told of it."""

    seed: int
    shares: Sequence[float]
    silent: Counter[str]
    loud: int
    mismatches: Counter[str]
    others: int
    """Attempts that were told to have failed otherwise."""

    def __str__(self) -> str:
        shares = ", ".join(f"{share:.1%}" for share in self.shares)
        return (
            f"seed {self.seed}: of the GETs of its runs {shares} were spoilt, {self.silent.total()} silently; "
            f"{self.mismatches.total()} mismatches and {self.others} other failures told"
        )


async def spoilt_to_the_end(server: FaultServer, dest: Path, seed: int, *, runs: int = 4) -> Told:
    """Mirror objects by runs of which a share of the bodies is spoilt, and by one more in the end. Check it all.

    Before each run but the last a share of the objects is overwritten.
    """
    chance = random.Random(seed)
    objects = dict[str, Stored]()
    versions: list[Mapping[str, bytes]] = []
    server.objects.clear()
    spoiler = Spoiler(seed)
    rule = server.fault(op="get", do=spoiler, times=None)
    shares = [*(chance.choice([0.03, 0.1, 0.3, 0.6]) for _ in range(runs)), 0.0]
    mismatches, others = Counter[str](), 0
    for number, spoiler.share in enumerate(shares):
        context = f"seed {seed}, run {number}, of which {spoiler.share:.0%} were spoilt"
        if spoiler.share:
            later = {key: each for key, each in stored(seed + number).items() if not objects or chance.random() < 0.4}
            objects |= later
            _put(server, later)
            versions.append({key: each.body for key, each in objects.items()})
        watcher = Watcher()
        summary = await sealift.mirror(["s3://bucket"], dest, _settings(server, chance), observer=watcher)
        failed = [failure.key for failure in summary.failures]
        there = tree(dest)
        assert damage(dest, *versions) == [], context
        assert {key for key, body in versions[-1].items() if there.get(key) != body} == set(failed), context
        assert {failure.error for failure in summary.failures} <= {"ChecksumMismatch"}, context
        retried = [error.key for error in watcher.retried if isinstance(error, ChecksumMismatch)]
        others += len(watcher.retried) - len(retried)
        mismatches.update([*retried, *failed])
    rule.remove()
    told = Told(seed, shares[:-1], +spoiler.silent, spoiler.loud, mismatches, others)
    assert told.mismatches.keys() == told.silent.keys(), told
    assert all(told.mismatches[key] <= count for key, count in told.silent.items()), told
    assert told.others == told.loud, told
    assert tree(dest) == versions[-1], told
    assert partials(dest) == [], told
    verified = await sealift.verify(dest)
    assert (verified.intact, verified.unknown) == (len(objects), 0), told
    return told


def _put(server: FaultServer, objects: Mapping[str, Stored]) -> None:
    for key, each in objects.items():
        server.put(
            "bucket",
            key,
            each.body,
            checksum=each.checksum,
            parts=each.parts,
            composite=each.composite,
            listed=each.listed,
        )


def _settings(server: FaultServer, chance: random.Random) -> sealift.Settings:
    transfer = sealift.TransferSettings(
        part_size=chance.choice([PART, PART, 2 * PART, 48 * KIB, 1024 * KIB]),
        concurrency=8,
        processes=2 if chance.random() < 0.1 else 1,
    )
    storage = sealift.StorageSettings(durability=chance.choice(list(sealift.Durability)))
    transport = chance.choice(list(TransportChoice)[1:])
    return settings_for(server, transfer=transfer, storage=storage, transport=transport)
