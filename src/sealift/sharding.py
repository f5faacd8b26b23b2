"""Which of several machines an object is for, and which of them this one is. Pure.

An object belongs to the shard that its key's digest names: whoever lists it, whenever, comes to the same one. So
shards are disjoint and complete, and as large as chance makes them: of N objects each, a few times the square root of N
more or less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from sealift.errors import ConfigError
from sealift.model import RemoteObject

MOST: Final = 10_000
"""Shards, at the most: a Slurm array has 1,001 tasks by default, and an array job of AWS Batch 10,000."""

_NAME = re.compile(r"([1-9][0-9]{0,4})-of-([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """Shard number `index`, counted from 1, of `count`."""

    index: int
    count: int

    @property
    def name(self) -> str:
        """What files of it are called."""
        return f"{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, key: str) -> bool:
        """Say whether an object is this shard's."""
        return shard_of(key, self.count) == self.index

    def among(self, remotes: Sequence[RemoteObject]) -> list[RemoteObject]:
        """Return those of the objects that are this shard's."""
        return [remote for remote in remotes if self.has(remote.key)]


def shard_of(key: str, count: int) -> int:
    """Return which of so many shards a key's object belongs to, from 1. Must never change: ledgers rest on it."""
    digest = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count + 1


def named(name: str) -> Shard | None:
    """Return the shard of that `name`, or None."""
    match = _NAME.fullmatch(name)
    if match is None or not int(match[1]) <= int(match[2]) <= MOST:
        return None
    return Shard(int(match[1]), int(match[2]))


def parse_shard(text: str, environ: Mapping[str, str]) -> Shard | None:
    """Read `I/N`, `auto` or `auto/N`; None for the only one of one. Raises ConfigError."""
    match = re.fullmatch(r"(?:([0-9]{1,5})|(auto))(?:/([0-9]{1,5}))?", text.strip())
    if match is None or (match[1] and not match[3]):
        raise ConfigError(f"{text!r} is not a shard: write I/N, as in 3/8, or auto, or auto/N")
    count = int(match[3]) if match[3] else None
    shard = Shard(int(match[1]), count or 0) if match[1] else _from_scheduler(environ, count)
    if not 1 <= shard.index <= shard.count <= MOST:
        raise ConfigError(f"there is no shard {shard}: they are counted from 1, and {MOST:,} are the most")
    return None if shard.count == 1 else shard


def _from_scheduler(environ: Mapping[str, str], count: int | None) -> Shard:
    """Return the shard that this task of an array job is."""
    if "SLURM_ARRAY_TASK_ID" in environ:
        return _checked(_of_slurm(environ), count, "Slurm's array")
    if "AWS_BATCH_JOB_ARRAY_INDEX" in environ:
        index = _number(environ, "AWS_BATCH_JOB_ARRAY_INDEX") + 1
        if "AWS_BATCH_JOB_ARRAY_SIZE" not in environ and count is not None:
            return Shard(index, count)
        return _checked(Shard(index, _number(environ, "AWS_BATCH_JOB_ARRAY_SIZE")), count, "AWS Batch's array job")
    if "JOB_COMPLETION_INDEX" in environ:
        if count is None:
            raise ConfigError(
                "--shard auto: Kubernetes says which index of a job this is, and not how many there are: write "
                "--shard auto/N, with the job's completions for N"
            )
        return Shard(_number(environ, "JOB_COMPLETION_INDEX") + 1, count)
    raise ConfigError(
        "--shard auto: this is no task of an array job (there is no SLURM_ARRAY_TASK_ID, AWS_BATCH_JOB_ARRAY_INDEX or "
        "JOB_COMPLETION_INDEX): write --shard I/N"
    )


def _of_slurm(environ: Mapping[str, str]) -> Shard:
    task, first, last = (_number(environ, f"SLURM_ARRAY_TASK_{what}") for what in ("ID", "MIN", "MAX"))
    step = _number(environ, "SLURM_ARRAY_TASK_STEP") if "SLURM_ARRAY_TASK_STEP" in environ else 1
    tasks = (last - first) // step + 1 if step else 0
    gaps = "SLURM_ARRAY_TASK_COUNT" in environ and _number(environ, "SLURM_ARRAY_TASK_COUNT") != tasks
    if gaps or not step or not first <= task <= last or (task - first) % step:
        raise ConfigError(
            "--shard auto: the tasks of Slurm's array are not evenly spaced, so that they do not say which shard this "
            "is: use --array=1-N, or write --shard I/N"
        )
    return Shard((task - first) // step + 1, tasks)


def _checked(shard: Shard, count: int | None, whose: str) -> Shard:
    if count is not None and shard.count != count:
        raise ConfigError(f"--shard auto/{count}: {whose} has {shard.count} tasks")
    return shard


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"--shard auto: {name} is {text!r}, and should be a number")
    return int(text)
