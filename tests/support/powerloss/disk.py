"""A disk that loses its power: what was synced is there, and of the rest what chance says."""

from __future__ import annotations

import enum
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.powerloss.recording import Kind, Operation

BLOCK = 4096
"""Bytes that a disk writes as a whole."""

_NAMES = frozenset({Kind.CREATE, Kind.MKDIR, Kind.RENAME, Kind.UNLINK, Kind.LINK})
_BARRIERS = frozenset({Kind.SYNC, Kind.SYNC_FS, Kind.SYNCED})


class Way(enum.Enum):
    """Which of the operations that no sync has covered reach the disk."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    """As after a kill: the memory of the system is not lost."""
    NAMES = "names and sizes, and no bytes"
    """As with delayed allocation, where names are rewritten in order and soon, and bytes in some seconds."""
    BYTES = "bytes, and no names"
    JOURNAL = "names up to some moment, in order, and any of the bytes"
    """As file systems do that have a journal."""
    ANY = "any of them"
    """What no order binds."""


class Chance:
    """A seeded choice of the moment, the way, and what is lost."""

    def __init__(
        self, seed: int, operations: Sequence[Operation], *, way: Way | None = None, moment: int | None = None
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.moment = self.random.randint(0, len(operations)) if moment is None else moment
        self.way = way or self.random.choice(list(Way))

    def __str__(self) -> str:
        return f"seed {self.seed}: power lost after operation {self.moment}, what was not synced: {self.way.value}"


@dataclass(slots=True, eq=False)
class _Inode:
    """A file or directory, whatever names it has."""

    is_directory: bool = False
    blocks: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    mtime_ns: int | None = None
    entries: dict[bytes, _Inode] = field(default_factory=dict)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes that lie in one block where they belong, whatever the size is."""
        number, start = divmod(offset, BLOCK)
        block = self.blocks.get(number, bytes(BLOCK))
        self.blocks[number] = block[:start] + data + block[start + len(data) :]

    def cut(self, size: int) -> None:
        self.size = size
        self.blocks = {number: block for number, block in self.blocks.items() if number * BLOCK < size}
        if size % BLOCK and (last := size // BLOCK) in self.blocks:
            self.blocks[last] = self.blocks[last][: size % BLOCK].ljust(BLOCK, b"\0")

    def content(self, fill: bytes) -> bytes:
        """Return what a reader sees; `fill` is in blocks that were never written."""
        blocks = [self.blocks.get(number, fill * BLOCK) for number in range(-(-self.size // BLOCK))]
        return b"".join(blocks)[: self.size]


@dataclass(frozen=True, slots=True)
class _Change:
    """What may reach the disk by itself: names, a size, a time, or some bytes of one block."""

    when: int
    kind: Kind
    inodes: tuple[_Inode, ...]
    """Whose sync covers it: directories for names, else the file."""
    names: tuple[tuple[_Inode, bytes, _Inode | None], ...] = ()
    """Directory, name, and what has that name now."""
    number: int = 0
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """The tree that a power loss has left."""

    root: _Inode
    fill: bytes

    def put(self, directory: Path) -> None:
        """Write it into a directory, which is made."""
        self._put(self.root, directory)

    def _put(self, inode: _Inode, path: Path) -> None:
        if inode.is_directory:
            path.mkdir()
            for name, below in inode.entries.items():
                self._put(below, path / os.fsdecode(name))
        else:
            path.write_bytes(inode.content(self.fill))
            if inode.mtime_ns is not None:
                os.utime(path, ns=(inode.mtime_ns, inode.mtime_ns))


class Disk:
    """A tree as it was, all of it on the disk, and what was done to it since."""

    def __init__(self, root: Path) -> None:
        """`root` is as it is now: a real directory, whose inodes' numbers the operations speak of."""
        self._root = root
        self._before: list[tuple[int, int | None, bytes, bytes, int, int]] = []
        self._take(root, None, b"")

    def _take(self, path: Path, parent: int | None, name: bytes) -> None:
        about = path.lstat()
        content = b"" if path.is_dir() else path.read_bytes()
        self._before.append((about.st_ino, parent, name, content, about.st_mode, about.st_mtime_ns))
        if path.is_dir():
            for below in sorted(path.iterdir()):
                self._take(below, about.st_ino, os.fsencode(below.name))

    def after(self, operations: Sequence[Operation], chance: Chance) -> Loss:
        """Return what is left when the power is lost after some of these operations."""
        root, changes, durable = self._changes(operations[: chance.moment])
        kept = _Choice(chance, changes)
        for change, synced in zip(changes, durable, strict=True):
            if synced or kept.keeps(change):
                _apply(change)
        return Loss(root, chance.random.choice([b"\0", b"\xdb"]))

    def _changes(self, operations: Sequence[Operation]) -> tuple[_Inode, list[_Change], list[bool]]:
        """Return the tree as it was, each change since, and whether a sync has covered it."""
        by_number: dict[int, _Inode] = {}
        for number, parent, name, content, mode, mtime_ns in self._before:
            inode = by_number[number] = _Inode(is_directory=bool(mode & 0o040000), mtime_ns=mtime_ns)
            for start in range(0, len(content), BLOCK):
                inode.write(start, content[start : start + BLOCK])
            inode.size = len(content)
            if parent is not None:
                by_number[parent].entries[name] = inode
        root = by_number[self._before[0][0]]
        changes: list[_Change] = []
        durable: list[bool] = []
        waiting: defaultdict[_Inode, list[int]] = defaultdict(list)
        syncs: dict[int, list[int]] = {}
        for when, operation in enumerate(operations):
            if operation.kind is Kind.SYNC:
                inode, times = by_number[operation.a], bool(operation.c)
                covered = waiting[inode]
                syncs[operation.b] = [n for n in covered if times or changes[n].kind is not Kind.UTIME]
            elif operation.kind is Kind.SYNC_FS:
                syncs[operation.b] = [number for some in waiting.values() for number in some]
            elif operation.kind is Kind.SYNCED:
                for number in syncs.pop(operation.b):
                    durable[number] = True
            else:
                for change in _changes_of(when, operation, by_number):
                    for inode in change.inodes:
                        waiting[inode].append(len(changes))
                    changes.append(change)
                    durable.append(False)
        return root, changes, durable


def _changes_of(when: int, operation: Operation, by_number: dict[int, _Inode]) -> list[_Change]:
    kind, a, b, c, data, other = operation
    if kind in {Kind.CREATE, Kind.MKDIR}:
        by_number[b] = _Inode(is_directory=kind is Kind.MKDIR)
    if kind in {Kind.CREATE, Kind.MKDIR, Kind.LINK}:
        where = by_number[a]
        return [_Change(when, kind, (where,), ((where, data, by_number[b]),))]
    if kind is Kind.UNLINK:
        where = by_number[a]
        return [_Change(when, kind, (where,), ((where, data, None),))]
    if kind is Kind.RENAME:
        here, there = by_number[a], by_number[b]
        names = ((here, data, None), (there, other, by_number[c]))
        return [_Change(when, kind, (here,) if here is there else (here, there), names)]
    inode = by_number[a]
    if kind is not Kind.WRITE:
        return [_Change(when, kind, (inode,), number=b)]
    changes, at = [], b
    while data:
        some = data[: BLOCK - at % BLOCK]
        changes.append(_Change(when, kind, (inode,), number=at, data=some))
        at, data = at + len(some), data[len(some) :]
    return [*changes, _Change(when, kind, (inode,), number=at)]  # and its size, which is another matter


def _apply(change: _Change) -> None:
    for directory, name, inode in change.names:
        if inode is None:
            directory.entries.pop(name, None)
        else:
            directory.entries[name] = inode
    if change.names:
        return
    (inode,) = change.inodes
    if change.kind is Kind.UTIME:
        inode.mtime_ns = change.number
    elif change.kind is Kind.TRUNCATE:
        inode.cut(change.number)
    elif change.data is not None:
        inode.write(change.number, change.data)
    else:
        inode.size = max(inode.size, change.number)


class _Choice:
    """Which of the changes that no sync has covered are kept."""

    def __init__(self, chance: Chance, changes: Sequence[_Change]) -> None:
        self._way = chance.way
        self._random = chance.random
        self._share = self._random.choice([0.05, 0.3, 0.7, 0.95])
        self._journal = self._random.randint(0, changes[-1].when) if changes else 0
        self._lost: set[tuple[_Inode, int]] = set()

    def keeps(self, change: _Change) -> bool:
        """Say of one change, in the order in which they were made."""
        is_bytes = change.data is not None
        match self._way:
            case Way.NOTHING:
                return False
            case Way.EVERYTHING:
                return True
            case Way.NAMES:
                return not is_bytes
            case Way.BYTES:
                return not change.names
            case Way.JOURNAL if not is_bytes:
                return change.when <= self._journal
            case _ if is_bytes:
                # A block goes to the disk as a whole: what was written to it last comes with all from before, or not.
                block = (change.inodes[0], change.number // BLOCK)
                if block not in self._lost and self._random.random() >= self._share:
                    self._lost.add(block)
                return block not in self._lost
            case _:
                return self._random.random() < self._share
