"""The whole thing in one go: a sandbox, filled, mirrored by the real command line, compared, mirrored again.

What is expected on disk is worked out from what was uploaded, not by Sealift's own rules: an ordinary object is the
file of its key's name. Only an object whose name the file system needs for a directory may lie elsewhere, and then
exactly its bytes must be there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from sealift.errors import LocalStorageError
from sealift.planning import MIB
from sealift.sandbox.filling import (
    LARGE_OBJECT,
    LARGEST_FILE,
    MOST_FILES,
    Uploaded,
    ancestors,
    demo_objects,
    fill,
    survey,
)
from sealift.sandbox.servers import Sandbox

ROOM = 1024 * MIB
"""Bytes of disk: 320 MiB of objects on the server, the same again as files, and what both need beside them."""


async def demo(
    *,
    announce: Callable[[str], None],
    data: Path | None = None,
    files: int = MOST_FILES,
    large: int = LARGE_OBJECT,
) -> int:
    """Show it all and return 0, or 1 after saying what was not as it should be.

    `announce` gets what a person reads; the progress bar comes from the command line itself, on standard error. `data`
    keeps the filled bucket for a `sealift sandbox --data` afterwards. Raises ConfigError, LocalStorageError,
    SourceError. `files` (at most, of the tree) and `large` (bytes of one object) make it shorter.
    """
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < ROOM:
        raise LocalStorageError(
            f"{tempfile.gettempdir()} has {free // MIB} MiB left and the demo needs {ROOM // MIB}: "
            "name another directory in TMPDIR"
        )
    with tempfile.TemporaryDirectory(prefix="sealift-demo-") as scratch:
        announce("Starting OpenBao (the KMS) and SeaweedFS (the S3 server) …")
        began = time.monotonic()
        async with Sandbox(data) as sandbox:
            announce(
                f"  up after {time.monotonic() - began:.1f} s: {sandbox.endpoint_url}\n"
                f"  s3://{sandbox.bucket} encrypts with SSE-KMS under the key {sandbox.keys[0]!r} by default\n"
            )
            objects = await _fill(sandbox, announce, files, large)
            await _show_encryption(sandbox, objects, announce)
            complaints = await _mirror_twice(sandbox, objects, Path(scratch) / "copy", announce)
    if complaints:
        announce("NOT as it should be:\n" + "\n".join(f"  {complaint}" for complaint in complaints))
        return 1
    announce(_onward(sandbox, data))
    return 0


async def _fill(sandbox: Sandbox, announce: Callable[[str], None], files: int, large: int) -> dict[str, Uploaded]:
    root = Path(sysconfig.get_path("purelib"))
    tree = await anyio.to_thread.run_sync(lambda: survey(root, most=files))
    announce(f"Filling it with {root} and more …")
    if tree.too_large:
        names = ", ".join(path.name for path in tree.too_large)
        announce(f"  left out, being over {LARGEST_FILE // MIB} MiB: {names}")
    if tree.too_many:
        announce(f"  left out, to keep this short: {tree.too_many:,} files of {tree.too_many + len(tree.files):,}")
    began = time.monotonic()
    async with sandbox.client() as s3:
        objects = await fill(
            s3, sandbox.bucket, demo_objects(root, tree, sandbox.keys[1], large=large), announce=announce
        )
    sizes = [uploaded.size for uploaded in objects.values()]
    announce(
        f"  {len(sizes):,} objects, {sum(sizes) / MIB:,.0f} MiB, in {time.monotonic() - began:.1f} s: the largest in a "
        f"multipart upload of {max(sizes) // MIB} MiB, {sizes.count(0)} empty ones, 3 directory markers\n"
    )
    return objects


async def _show_encryption(sandbox: Sandbox, objects: Mapping[str, Uploaded], announce: Callable[[str], None]) -> None:
    """Say of one object of each directory what its headers say."""
    announce("What the server says it is encrypted with (HEAD, as the reader):")
    examples = {key.partition("/")[0]: key for key in sorted(objects, reverse=True) if not key.endswith("/")}
    async with sandbox.client(sandbox.reader) as s3:
        for key in sorted(examples.values()):
            head = await s3.head_object(Bucket=sandbox.bucket, Key=key)
            how = f"{head.get('ServerSideEncryption', 'not encrypted')}, key {head.get('SSEKMSKeyId', 'none')}"
            announce(f"  {how:<32} {key}")
    announce("")


async def _mirror_twice(
    sandbox: Sandbox, objects: Mapping[str, Uploaded], destination: Path, announce: Callable[[str], None]
) -> list[str]:
    first = await _mirror(sandbox, destination, announce)
    complaints = first.complaints(listed=len(objects), downloaded=len(objects))
    if first.summary and not complaints:
        announce("Comparing every file with what was uploaded …")
        found = await anyio.to_thread.run_sync(compare, destination, objects)
        complaints += found.complaints
        elsewhere = len(found.elsewhere)
        if elsewhere != first.summary["escaped"]:
            complaints.append(
                f"{elsewhere} files have another name than their key, and the summary says {first.summary['escaped']}"
            )
        announce(f"  {found.identical:,} files are the objects' own bytes (SHA-256 taken while uploading)")
        for key, path in found.elsewhere.items():
            announce(f"  {key!r} is in {path!r}: its own name is needed for a directory")
        announce("")
    if complaints:
        return complaints
    second = await _mirror(sandbox, destination, announce)
    complaints = second.complaints(listed=len(objects), up_to_date=len(objects), downloaded=0, get_requests=0, bytes=0)
    if second.decrypts:
        complaints.append(f"with nothing to fetch, the KMS still counted {second.decrypts} decrypts")
    return complaints


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run of the command line left behind."""

    status: int
    summary: dict[str, Any]
    """`--json`'s object, empty where there was none."""
    decrypts: int

    def complaints(self, **expected: int) -> list[str]:
        """Say where the run is not a success with these numbers."""
        if self.status or not self.summary:
            return [f"sealift mirror ended with exit status {self.status}"]
        numbers = expected | {"failed": 0, "pending": 0, "complete": True}
        return [
            f"the summary says {name} = {self.summary.get(name)} instead of {number}"
            for name, number in numbers.items()
            if self.summary.get(name) != number
        ]


async def _mirror(sandbox: Sandbox, destination: Path, announce: Callable[[str], None]) -> _Run:
    """Run the real command line, as the reader, and show its summary and what the KMS counted meanwhile."""
    words = ["mirror", f"s3://{sandbox.bucket}", os.fspath(destination)]
    announce(f"$ sealift {shlex.join(words)}")
    before = await sandbox.decrypts()
    ended = await anyio.run_process(
        [sys.executable, "-m", "sealift", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=None,  # the person sees the progress
        env=clean_environment(os.environ) | sandbox.environment(sandbox.reader),
        check=False,
    )
    decrypts = await sandbox.decrypts() - before
    try:
        summary: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:
        summary = {}
    announce("\n".join(_table(summary, decrypts)) + "\n")
    return _Run(ended.returncode, summary, decrypts)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return it without settings and proxies that are meant for other servers than the sandbox's."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("AWS_", "SEALIFT_")) and not name.lower().endswith("_proxy")
    }
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return kept | nowhere | {"AWS_EC2_METADATA_DISABLED": "true"}


def _table(summary: Mapping[str, Any], decrypts: int) -> list[str]:
    rows: list[tuple[str, str]] = [
        (name.replace("_", " "), f"{summary[name]:,}")
        for name in ("listed", "downloaded", "up_to_date", "failed", "escaped", "get_requests", "retries")
        if name in summary
    ]
    if "bytes" in summary and "seconds" in summary:
        rows.append(("received", f"{summary['bytes'] / MIB:,.1f} MiB in {summary['seconds']:.1f} s"))
    rows.append(("KMS decrypts", f"{decrypts:,}, says OpenBao (one for each 4 MiB stored in parts)"))
    lines = [f"  {name:<13} {value}" for name, value in rows]
    return lines + [f"  {failure['key']!r}: {failure['message']}" for failure in summary.get("failures", [])[:10]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a mirrored tree compares with what was uploaded."""

    identical: int
    elsewhere: dict[str, str]
    """Key → path, of objects whose names the file system needed for directories."""
    complaints: list[str]


def compare(destination: Path, objects: Mapping[str, Uploaded]) -> Comparison:
    """Hold every file below `destination`, apart from Sealift's own directory, against what was uploaded."""
    files, directories = _walk(destination)
    complaints: list[str] = []
    identical = 0
    displaced: list[Uploaded] = []
    wanted = {ancestor for key in objects for ancestor in ancestors(key)}
    for key, uploaded in objects.items():
        if key.endswith("/"):
            if key.rstrip("/") not in directories:
                complaints.append(f"there is no directory for the marker {key!r}")
        elif key in wanted:
            displaced.append(uploaded)
        elif key not in files:
            complaints.append(f"{key!r} is missing")
        elif _digest(destination / files.pop(key)) != uploaded.sha256:
            complaints.append(f"{key!r} has other bytes than were uploaded")
        else:
            identical += 1
    left = {path: _digest(destination / path) for path in sorted(files)}
    elsewhere: dict[str, str] = {}
    for uploaded in displaced:
        path = next((path for path, digest in left.items() if digest == uploaded.sha256), None)
        if path is None:
            complaints.append(f"{uploaded.key!r} is nowhere")
        else:
            del left[path]
            elsewhere[uploaded.key] = path
    complaints += [f"{path!r} is no object's" for path in left]
    complaints += [f"the directory {path!r} is no object's" for path in sorted(directories - wanted)]
    return Comparison(identical + len(elsewhere), elsewhere, complaints)


def _walk(destination: Path) -> tuple[dict[str, str], set[str]]:
    """Return the files (anything that is not a directory) and the directories, by their paths below."""
    files: dict[str, str] = {}
    directories: set[str] = set()
    for where, names, here in os.walk(destination):
        below = "" if Path(where) == destination else f"{Path(where).relative_to(destination)}/"
        if not below:
            names[:] = [name for name in names if name != ".sealift"]
        directories.update(below + name for name in names)
        files.update((below + name, below + name) for name in here)
    return files, directories


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "not a regular file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _onward(sandbox: Sandbox, data: Path | None) -> str:
    sealift, kept = own_command(os.environ.get("PATH", "")), shlex.quote(os.fspath(data or "sandbox"))
    rows = [] if data else [(f"{sealift} demo --data {kept}", "all of this again, and the filled bucket is kept")]
    rows += [
        (f"{sealift} sandbox --data {kept}", "prints the environment to paste into the other terminal"),
        (f"{sealift} plan s3://{sandbox.bucket} copy", "what would be fetched"),
        (f"{sealift} mirror s3://{sandbox.bucket} copy", "press Ctrl-C in the middle, and run it again"),
        (f"{sealift} get s3://{sandbox.bucket}/large/256-mib.bin - | sha256sum", "one object, to standard output"),
    ]
    width = max(len(command) for command, _ in rows)
    lines = [f"  {command:<{width}}  # {what}" for command, what in rows]
    return "\n".join(["Everything is in place, byte for byte. To go on by hand, in two terminals:", *lines])


def own_command(search: str) -> str:
    """Return how a shell that looks in `search` for its commands can run this very Sealift."""
    own = Path(sys.executable).with_name("sealift")
    found = shutil.which("sealift", path=search)
    if found and Path(found).absolute() == own:
        return "sealift"
    if not own.exists():
        return f"{shlex.quote(sys.executable)} -m sealift"
    return shlex.quote(os.fspath(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))
