"""`sealift`, from its argv to its exit status: against a server, and when it breaks."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealift.cli import main
from tests.support.faultserver import Answer, FaultServer, Generated
from tests.support.running import tree
from tests.support.sandbox import require_sandbox

BODIES = {"p/a.txt": b"one", "p/deep/b.bin": b"two"}


@pytest.fixture
def server(server: FaultServer) -> FaultServer:
    """With objects of all kinds."""
    for key, body in BODIES.items():
        server.put("bucket", key, body)
    server.put("bucket", "large", Generated(300_000, seed=1))
    server.put("bucket", "odd\x1b[2J", b"a key that commands a terminal")
    server.put("closed", "k", b"")
    server.fault(op="get", bucket="closed", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    return server


# ── The verbs ───────────────────────────────────────────────────────────────────────────────────────


def test_mirror_mirrors_and_a_dry_run_does_not(
    server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = str(tmp_path / "dest")
    assert main(["mirror", "--dry-run", "s3://bucket/p", dest]) == 0
    assert "s3://bucket/p/deep/b.bin -> deep/b.bin" in capsys.readouterr().out
    assert not (tmp_path / "dest").exists()
    assert main(["mirror", "s3://bucket/p", dest]) == 0
    assert tree(tmp_path / "dest") == {"a.txt": b"one", "deep/b.bin": b"two"}
    assert "downloaded    2" in capsys.readouterr().out
    assert main(["mirror", "--json", "s3://bucket/p", dest]) == 0
    assert json.loads(capsys.readouterr().out)["up_to_date"] == 2


def test_options_reach_the_run(server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mirror", "s3://bucket", str(tmp_path), "--exclude", "*", "--include", "p/*", "--part-size=8M", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["listed"] == 2
    assert set(tree(tmp_path)) == set(BODIES)


def test_plan_says_what_mirror_would_do(
    server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "s3://bucket", str(tmp_path), "--json"]) == 0
    forecast = json.loads(capsys.readouterr().out)
    assert (forecast["to_download"], forecast["get_requests"]) == (4, 4)
    assert main(["plan", "s3://bucket", str(tmp_path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_get_writes_a_file(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["get", "s3://bucket/p/a.txt", str(tmp_path / "here")]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["get", "s3://bucket/p/deep/b.bin"]) == 0
    assert tree(tmp_path) == {"here": b"one", "b.bin": b"two"}
    assert "listed        1\n" in capsys.readouterr().out


def test_metrics_are_of_mirrors_alone(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = tmp_path / "sealift.prom"
    monkeypatch.setenv("SEALIFT_METRICS", str(metrics))
    assert main(["mirror", "s3://bucket/p", str(tmp_path / "dest")]) == 0
    told = metrics.read_text()
    assert "sealift_last_success_timestamp_seconds" in told
    assert main(["get", "s3://bucket/missing", str(tmp_path)]) == 1
    assert main(["get", "s3://bucket/p/a.txt", str(tmp_path)]) == 0
    assert main(["verify", str(tmp_path / "dest")]) == 0
    assert metrics.read_text() == told


def test_a_destination_that_is_not_called_in_utf_8_has_metrics(server: FaultServer, tmp_path: Path) -> None:
    metrics = tmp_path / "sealift.prom"
    dest = os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9")
    assert main(["mirror", "s3://bucket/p", dest, "--metrics", str(metrics)]) == 0
    assert f'sealift_run_exit_status{{dest="{tmp_path}/caf\\\\udce9"}} 0.0\n' in metrics.read_text()


def test_lines_of_json_tell_how_grave_it_is(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def levels(*words: str) -> list[str]:
        main([*words, "--log-format", "json"])
        return [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()]

    dest = str(tmp_path / "dest")
    assert levels("mirror", "s3://bucket/nothing/", dest) == ["warning"]
    assert levels("mirror", "s3://bucket/p", dest) == []
    (tmp_path / "dest" / "a.txt").unlink()
    assert levels("verify", dest) == ["error"]
    assert levels("mirror", "s3://closed", dest) == ["error", "error", "info", "error"]
    monkeypatch.setenv("SEALIFT_CONCURRENCY", "many")
    assert levels("mirror", "s3://bucket/p", dest) == ["error"]
    monkeypatch.delenv("SEALIFT_CONCURRENCY")
    monkeypatch.setenv("SEALIFT_LOG_FORMAT", "json")
    assert main(["doctor", "s3://closed/k"]) == 3
    *_, verdict = map(json.loads, capsys.readouterr().err.splitlines())
    assert verdict["level"] == "error"


def test_get_writes_to_standard_output_and_nothing_else_does(
    server: FaultServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["get", "s3://bucket/large", "-"]) == 0
    assert capfdbinary.readouterr() == (Generated(300_000, seed=1).read(0, 300_000), b"")


def test_an_object_that_is_missing_or_refused_has_its_status(
    server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["get", "s3://bucket/missing", str(tmp_path)]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["get", "s3://closed/k", str(tmp_path)]) == 3
    assert capsys.readouterr().err.count("'k' is refused") == 1
    assert main(["mirror", "s3://closed", str(tmp_path / "dest")]) == 3
    shown = capsys.readouterr()
    assert "sealift: nothing could be read: the one object was refused\n" in shown.err
    assert "refused:\n  AccessDenied: 1 object of s3://closed" in shown.out
    assert (shown.out + shown.err).count("'k' is refused") == 1
    assert main(["mirror", "s3://nowhere", str(tmp_path / "dest")]) == 5
    assert main(["get", "s3://nowhere/k", str(tmp_path)]) == 5
    assert tree(tmp_path / "dest") == {}


@pytest.fixture
def unread_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("target", ["-", "/proc/self/fd/1"])
def test_getting_into_a_pipe_that_nobody_reads_ends_quietly_with_141(
    server: FaultServer, unread_pipe: int, target: str
) -> None:
    command = [sys.executable, "-m", "sealift", "get", "s3://bucket/large", target]
    done = subprocess.run(command, stdout=unread_pipe, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (141, b"")


def test_getting_to_standard_output_that_is_closed_is_a_mistake(server: FaultServer) -> None:
    command = f"{sys.executable} -m sealift get s3://bucket/large - >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (2, b"sealift: standard output is closed: name a file instead of -\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_mirror_needs_no_standard_streams(server: FaultServer, tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m sealift mirror s3://bucket/p {tmp_path} {closed}"
    assert subprocess.run(["/bin/sh", "-c", command], stdout=subprocess.DEVNULL, timeout=60).returncode == 0
    assert tree(tmp_path) == {"a.txt": b"one", "deep/b.bin": b"two"}


# ── When it breaks ──────────────────────────────────────────────────────────────────────────────────


class Broken(io.StringIO):
    """A standard output on which something happens."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BrokenPipeError(), 141, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "sealift: standard output cannot be written: No space"),
        (KeyboardInterrupt(), 130, ""),
        (RuntimeError("odd"), 1, "sealift: RuntimeError: odd (a bug in Sealift"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_happens_there_is_a_status_and_at_most_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(error))
    assert main(["--version"]) == status
    complained = capsys.readouterr().err
    assert complained.startswith(said)
    assert complained.count("\n") == bool(said)


def test_argv_is_the_processes_own_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sealift", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("sealift ")


# ── The sandbox's verbs ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.sandbox
@pytest.mark.parametrize(("verb", "words", "status"), [("sandbox", ["--tls"], 0), ("demo", [], 130)])
def test_ctrl_c_ends_a_sandbox_well_and_interrupts_a_demo(verb: str, words: list[str], status: int) -> None:
    require_sandbox()
    command = [sys.executable, "-m", "sealift", verb, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=20)
    assert first.startswith(b"# S3 at https://127.0.0.1:" if verb == "sandbox" else b"Starting OpenBao")
    assert (process.returncode, complained) == (status, b"")


@pytest.mark.sandbox
def test_a_sandbox_that_cannot_start_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_sandbox()
    (tmp_path / "file").touch()
    assert main(["sandbox", "--data", str(tmp_path / "file")]) == 4
    assert "the sandbox's directory cannot be made" in capsys.readouterr().err
