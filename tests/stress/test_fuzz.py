"""What reads a server's answers is fed arbitrary bytes for a while (atheris, where there is one for this Python)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

SECONDS = 15
"""For each target: some 100,000 inputs."""

SEEDS = {
    "heads": [
        b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "e"\r\n\r\nhello',
        b"HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 503 Slow Down\r\n\r\n",
    ],
    "chunks": [b"\x055\r\nhello\r\n0\r\n\r\n", b"\x08a;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\n"],
    "pages": [
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a%%20b</Key><ETag>e</ETag><Size>5</Size>%b</Contents>"
        % b"<LastModified>2026-11-25T12:00:00.000Z</LastModified>"
        + b"</ListBucketResult>"
    ],
}


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="there is no atheris for this Python")
@pytest.mark.parametrize("target", SEEDS)
def test_arbitrary_bytes_are_taken_or_refused_in_the_parsers_own_words(target: str, tmp_path: Path) -> None:
    for number, seed in enumerate(SEEDS[target]):
        (tmp_path / f"seed{number}").write_bytes(seed)
    command = [sys.executable, "-m", "tests.stress.fuzz", target, f"-max_total_time={SECONDS}", "-max_len=4096"]
    done = subprocess.run([*command, f"-artifact_prefix={tmp_path}/", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DONE" in done.stderr or "Done" in done.stderr, done.stderr[-3000:]
