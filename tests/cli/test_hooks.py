"""The commands that are told how a job ended, whatever they do and wherever they run."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealift.cli.hooks import tell
from tests.support.smalldisk import small_tmpfs


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    with small_tmpfs(tmp_path / "full", options="size=64k") as mount:
        (mount / "ballast").touch()
        with pytest.raises(OSError, match="No space left"):
            (mount / "ballast").write_bytes(bytes(128 * 1024))
        yield mount


def script(text: str, *words: str) -> list[str]:
    return [sys.executable, "-c", text, *words]


async def told(command: list[str], what: str) -> str:
    return await tell(command, what, dict(os.environ))


@pytest.mark.anyio
async def test_a_command_reads_what_it_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    text = "x" * 300_000  # more than a pipe holds
    assert not await told(script("import sys; open(sys.argv[1], 'w').write(sys.stdin.read())", str(copy)), text)
    assert copy.read_text() == f"{text}\n"


@pytest.mark.anyio
async def test_one_that_does_not_read_does_not_fail_for_that() -> None:
    assert not await told(script(""), "x" * 300_000)


@pytest.mark.anyio
async def test_a_full_disk_may_be_what_it_is_told(
    tmp_path: Path, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    copy = tmp_path / "copy"
    assert not await told(script("import sys; open(sys.argv[1], 'w').write(sys.stdin.read())", str(copy)), "full")
    assert copy.read_text() == "full\n"


@pytest.mark.anyio
async def test_what_keeps_it_from_running_is_said(tmp_path: Path) -> None:
    assert await told(script("raise SystemExit(7)"), "") == f"{sys.executable} ended with status 7"
    assert await told(["/no/such/command"], "") == "/no/such/command cannot be run: No such file or directory"
    assert await told([str(tmp_path)], "") == f"{tmp_path} cannot be run: Permission denied"
