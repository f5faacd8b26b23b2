"""What the demo uploads, and its uploading: a real tree, one large object, a second key, and keys with surprises.

`demo_objects` decides what, without a network; `fill` sends it and returns what every object must be afterwards, with
SHA-256 sums that are taken of the very bytes that are sent.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from sealift.model import ByteRange
from sealift.planning import MIB
from sealift.s3.client import S3Client

LARGEST_FILE = 4 * MIB
"""Bytes of the largest file of the tree that is taken: above are half a dozen binaries, OpenBao's 180 MB
among them, that would only make the demo longer."""

MOST_FILES = 4000
"""Files of the tree that are taken: ten seconds at the 400 uploads a second that were measured on two cores."""

LARGE_OBJECT = 256 * MIB
UPLOAD_PART = 16 * MIB
"""Bytes of a part of the multipart upload. S3's least is 5 MiB; 16 make as many parts as the mirror's own."""

UPLOADS = 16
"""Small uploads at once: more than keeps two cores busy."""

PART_UPLOADS = 4
"""Parts at once, each a buffer of `UPLOAD_PART`."""


@dataclass(frozen=True, slots=True)
class Noise:
    """So many pseudo-random bytes, the same each time for the same seed; any stretch of them can be had alone."""

    seed: str
    size: int

    def read(self, stretch: ByteRange) -> bytes:
        """Return these bytes."""
        first, last = stretch.start // MIB, -(-stretch.stop // MIB)
        blocks = b"".join(random.Random(f"{self.seed}:{block}").randbytes(MIB) for block in range(first, last))
        return blocks[stretch.start - first * MIB : stretch.stop - first * MIB]


@dataclass(frozen=True, slots=True)
class Planned:
    """An object that is to be uploaded, under `kms_key` or else the bucket's default."""

    key: str
    content: Path | bytes | Noise
    kms_key: str | None = None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an object was when it was sent."""

    key: str
    size: int
    sha256: str
    kms_key: str | None
    """The key it was sent under; None for the bucket's default."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What of a directory tree is taken, and what is left out."""

    files: tuple[Path, ...]
    """Relative to the root, in the order of their names."""
    too_large: tuple[Path, ...]
    too_many: int


def survey(root: Path, *, largest: int = LARGEST_FILE, most: int = MOST_FILES) -> Tree:
    """Choose the regular files below `root`.

    Left out are symlinks, what is larger than `largest`, and compiled Python, which changes while one looks. If there
    are more than `most`, those that are taken are spread evenly over all of them.
    """
    files: list[Path] = []
    too_large: list[Path] = []
    for directory, names, here in os.walk(root):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for name in here:
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file() or not _is_utf8(name):
                continue
            (files if path.stat().st_size <= largest else too_large).append(path.relative_to(root))
    files.sort()
    taken = files if len(files) <= most else [files[i * len(files) // most] for i in range(most)]
    return Tree(tuple(taken), tuple(sorted(too_large)), len(files) - len(taken))


def demo_objects(root: Path, tree: Tree, second_key: str, *, large: int = LARGE_OBJECT) -> Iterator[Planned]:
    """Yield everything that the demo uploads. No two keys are the same.

    Nothing here is a key that SeaweedFS stores as another (`x//y`, `/x`) or takes for the end of a listing (control
    characters): see `sealift.sandbox.servers`.
    """
    if large:
        yield Planned(f"large/{large // MIB}-mib.bin", Noise("large", large))
    for file in tree.files:
        yield Planned(f"site-packages/{file.as_posix()}", root / file)
    for number in range(20):
        yield Planned(f"second-key/{number:02}.bin", Noise(f"second {number}", number * 10_007), second_key)
    for name in ("nothing", "nothing.txt", "deep/er/nothing"):
        yield Planned(f"empty/{name}", b"")
    for name in ("alone/", "outer/", "outer/inner/"):
        yield Planned(f"markers/{name}", b"")
    yield Planned("markers/outer/inner/file.txt", b"below a marker\n")
    for name in SURPRISES:
        yield Planned(f"names/{name}", f"the object called {name}\n".encode())


SURPRISES = (
    "with space.txt",
    " leading and trailing ",
    "plus+plus.txt",
    "+",
    "100%.txt",
    "%41 is not A.txt",
    "%2F%2e%2e",
    "a=b&c=d;e?f#g",
    "umlaut ä ö ü ß.txt",
    "é, one code point",
    "e\u0301, two code points",
    "日本語/ファイル.txt",
    "Ελληνικά",
    "🦭 seal 🔒.txt",
    'double"quote.txt',
    "single'quote.txt",
    "`backtick` $(dollar) *star* [brackets] {braces} |pipe| <angle> !",
    "~tilde",
    "-dash",
    ".hidden",
    "...",
    "con.txt",
    "CASE",
    "case",
    "x" * 255,
    "clash",  # an object beside objects below its own name, which no file system can hold as it is
    "clash/below.txt",
)


async def fill(
    client: S3Client, bucket: str, objects: Iterable[Planned], *, announce: Callable[[str], None] = lambda _: None
) -> dict[str, Uploaded]:
    """Upload `objects`, which have different keys, some at a time, and return by key what was sent.

    Files that vanish before their turn are left out. `announce` hears how far it is, every thousand objects.
    """
    planned_by_key = {planned.key: planned for planned in objects}
    directories = {ancestor for key in planned_by_key for ancestor in ancestors(key)}
    # SeaweedFS makes a directory for `a/b`. Doing that while `a` or `a/` is uploaded can lose the latter (4.48).
    late = {key for key in planned_by_key if key.rstrip("/") in directories}
    first = iter([planned for key, planned in planned_by_key.items() if key not in late])
    done: dict[str, Uploaded] = {}

    async def upload_from(waiting: Iterator[Planned]) -> None:
        for planned in waiting:
            uploaded = await _upload(client, bucket, planned)
            if uploaded is not None:
                done[planned.key] = uploaded
                if len(done) % 1000 == 0:
                    announce(f"  {len(done):,} objects uploaded")

    async with anyio.create_task_group() as together:
        for _ in range(UPLOADS):
            together.start_soon(upload_from, first)  # shared: each object goes to one of the tasks
    await upload_from(iter([planned_by_key[key] for key in sorted(late)]))
    return done


def ancestors(key: str) -> list[str]:
    """Return the directories that a file of this key needs, without slashes at their ends."""
    segments = key.split("/")
    return ["/".join(segments[:depth]) for depth in range(1, len(segments))]


async def _upload(client: S3Client, bucket: str, planned: Planned) -> Uploaded | None:
    where = {"Bucket": bucket, "Key": planned.key}
    if planned.kms_key is not None:
        where |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": planned.kms_key}
    content = planned.content
    if isinstance(content, Noise) and content.size > UPLOAD_PART:
        return await _upload_in_parts(client, planned, content, where)
    if isinstance(content, Path):
        try:
            body = content.read_bytes()  # a few KiB from the page cache: a thread would cost more
        except FileNotFoundError:
            return None
    else:
        body = content.read(ByteRange(0, content.size)) if isinstance(content, Noise) else content
    await client.put_object(**where, Body=body)
    return Uploaded(planned.key, len(body), hashlib.sha256(body).hexdigest(), planned.kms_key)


async def _upload_in_parts(client: S3Client, planned: Planned, noise: Noise, where: dict[str, str]) -> Uploaded:
    """Upload with a real multipart upload; parts are made in order and travel side by side."""
    digest = hashlib.sha256()
    made = await client.create_multipart_upload(**where)
    target = {"Bucket": where["Bucket"], "Key": where["Key"], "UploadId": made["UploadId"]}
    etags: dict[int, str] = {}
    room = anyio.Semaphore(PART_UPLOADS)

    async def upload_part(number: int, body: bytes) -> None:
        try:
            etags[number] = (await client.upload_part(**target, PartNumber=number, Body=body))["ETag"]
        finally:
            room.release()

    def make(stretch: ByteRange) -> bytes:
        body = noise.read(stretch)
        digest.update(body)
        return body

    async with anyio.create_task_group() as together:
        for number, start in enumerate(range(0, noise.size, UPLOAD_PART), start=1):
            await room.acquire()
            stretch = ByteRange(start, min(start + UPLOAD_PART, noise.size))
            body = await anyio.to_thread.run_sync(make, stretch)
            together.start_soon(upload_part, number, body)
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
    await client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
    return Uploaded(planned.key, noise.size, digest.hexdigest(), planned.kms_key)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
