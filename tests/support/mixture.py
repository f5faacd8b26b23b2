"""Objects of all kinds, their next versions, and what a mirror of them looks like. Everything follows from seeds."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from tests.support.faultserver import FaultServer, Generated
from tests.support.faultserver.dialect import FIRST_PUT
from tests.support.running import tree

KIB = 1024
PART = 32 * KIB
"""Bytes of a part, with which the large objects have two dozen."""

Bodies = Mapping[str, Generated]


def mixture(seed: int, *, small: int = 60, large: int = 3) -> Bodies:
    """Return so many objects of up to 4 KiB in some directories, and so many of about 700 KiB."""
    chance = random.Random(seed)
    bodies = {f"d{number % 7}/{number:03}": chance.randint(0, 4 * KIB) for number in range(small)}
    bodies |= {f"large/{number}": chance.randint(600 * KIB, 800 * KIB) for number in range(large)}
    keys = list(bodies)
    chance.shuffle(keys)
    return {key: Generated(bodies[key], seed=chance.getrandbits(32)) for key in keys}


def next_versions(bodies: Bodies, seed: int, *, share: float = 0.35) -> Bodies:
    """Return the same objects some time later: a share overwritten, half of these by as many bytes, a few gone, a few
    new."""
    chance = random.Random(seed)
    later = dict(bodies)
    for key, body in bodies.items():
        fate = chance.random()
        if fate < share:
            later[key] = Generated(body.size + chance.choice([0, 1]), seed=chance.getrandbits(32))
        elif fate > 0.9:
            del later[key]
    for number in range(4):
        later[f"new/{seed}/{number}"] = Generated(chance.randint(1, 9000), seed=chance.getrandbits(32))
    return later


def serve(server: FaultServer, bodies: Bodies) -> None:
    """Let the server have these objects, and no others. The same body always has the same version and time."""
    server.objects.clear()
    for key, body in bodies.items():
        server.put("bucket", key, body, last_modified=FIRST_PUT + timedelta(seconds=int(body.seed) % 10**7))


def contents(bodies: Bodies) -> dict[str, bytes]:
    """Return what their files hold."""
    return {key: body.read(0, body.size) for key, body in bodies.items()}


def total(bodies: Bodies) -> int:
    """Return how many bytes they are."""
    return sum(body.size for body in bodies.values())


def damage(dest: Path, *versions: Mapping[str, bytes]) -> list[str]:
    """Return the names of final files that hold anything but all bytes of one of these versions."""
    return [
        path
        for path, found in tree(dest).items()
        if not path.endswith("/") and not any(version.get(path) == found for version in versions)
    ]
