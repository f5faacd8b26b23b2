"""Jobs of a file, run against a server: what each comes to, who is told, and what the exit status is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sealift.cli import main
from sealift.mirroring import mirror
from sealift.model import Summary
from tests.support.faultserver import Answer, Call, Exchange, FaultServer, Hold, Stall
from tests.support.running import tree

Captured = pytest.CaptureFixture[str]

TOLD = [sys.executable, "-c", "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"]
"""A command that writes down what it is told."""


@pytest.fixture
def server(server: FaultServer) -> FaultServer:
    """With what the jobs mirror."""
    for name in ("a", "b", "c"):
        server.put("bucket", f"{name}/{name}.txt", name.encode())
    return server


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three jobs, each with a command that is told how it ended."""
    monkeypatch.setenv("HERE", str(tmp_path))
    commands = "".join(
        f"{when} = {json.dumps([*TOLD, '${HERE}/${JOB}.' + when])}\n" for when in ("on_success", "on_failure")
    )
    jobs = "".join(f'[jobs.{name}]\nsources = ["s3://bucket/{name}/"]\n' for name in ("a", "b", "c"))
    path = tmp_path / "jobs.toml"
    path.write_text(f'parallel = 1\n[defaults]\ndest = "${{HERE}}/${{JOB}}"\n{commands}{jobs}')
    return path


def told(tmp_path: Path) -> dict[str, Any]:
    """What the commands were told, by job and kind."""
    return {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.on_*")}


def test_jobs_run_in_their_order_and_say_what_they_did(server: FaultServer, file: Path, capsys: Captured) -> None:
    assert main(["run", str(file)]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        f"{name}: exit status 0" for name in "abc"
    ]
    assert out.count("  downloaded    1") == 3
    assert [tree(file.parent / name) for name in "abc"] == [{f"{name}.txt": name.encode()} for name in "abc"]
    keys = [request.key for request in server.requests if request.key]
    assert keys == ["a/a.txt", "b/b.txt", "c/c.txt"]


def test_a_job_that_is_refused_names_the_command_that_explains_it(
    server: FaultServer, file: Path, capsys: Captured
) -> None:
    server.fault(op="get", key="b/b.txt", do=Answer(403, "AccessDenied", "Access Denied"), times=None)
    assert main(["run", str(file), "b"]) == 3
    assert "b: what has to be granted, and in which policy" in (said := capsys.readouterr().err)
    assert "sealift doctor s3://bucket/b/b.txt\n" in said


def test_only_those_that_are_named_run(server: FaultServer, file: Path, capsys: Captured) -> None:
    assert main(["run", str(file), "c", "a", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [job["job"] for job in result["jobs"]] == ["c", "a"]
    assert not (file.parent / "b").exists()
    assert main(["run", str(file), "bb"]) == 2
    assert capsys.readouterr().err == "sealift: there is no job 'bb', did you mean b?; there are a, b, c\n"


def test_one_that_fails_stops_no_other_and_the_greatest_status_is_the_runs(
    server: FaultServer, file: Path, capsys: Captured
) -> None:
    missing = Answer(404, "NoSuchBucket", "There is none")
    server.fault(op="list", when=lambda request: request.query["prefix"] == "a/", do=missing, times=None)
    server.fault(op="get", key="b/b.txt", do=Answer(400, "KMS.DisabledException", "It is disabled"), times=None)
    assert main(["run", str(file), "--json", "-q"]) == 5
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert result["status"] == 5
    assert [(job["job"], job["status"], job["downloaded"]) for job in result["jobs"]] == [
        ("a", 5, 0),
        ("b", 1, 0),
        ("c", 0, 1),
    ]
    assert shown.err.startswith("a: ")
    assert {name: job["status"] for name, job in told(file.parent).items()} == {
        "a.on_failure": 5,
        "b.on_failure": 1,
        "c.on_success": 0,
    }


def test_a_command_is_told_what_json_tells(server: FaultServer, file: Path, capsys: Captured) -> None:
    assert main(["run", str(file), "a", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["jobs"]
    assert told(file.parent) == {"a.on_success": result}
    assert (result["sources"], result["dest"]) == (["s3://bucket/a/"], str(file.parent / "a"))
    assert (result["downloaded"], result["cut"], result["error"], result["complete"]) == (1, "", "", True)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-c", "import sys; sys.exit(7)"], f"{sys.executable} ended with status 7"),
        (["/no/such/command"], "/no/such/command cannot be run: No such file or directory"),
    ],
)
def test_a_command_that_fails_is_said_and_makes_the_status_1(
    server: FaultServer, tmp_path: Path, capsys: Captured, command: list[str], said: str
) -> None:
    path = tmp_path / "jobs.toml"
    path.write_text(
        f'[jobs.a]\nsources = "s3://bucket/a/"\ndest = "{tmp_path}/a"\non_success = {json.dumps(command)}\n'
    )
    assert main(["run", str(path), "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["jobs"][0]["status"] == 0
    assert f"a: warning: {said}\n" in shown.err


def test_a_command_writes_to_standard_error_and_knows_the_job(server: FaultServer, tmp_path: Path) -> None:
    script = "import os; print(os.environ['SEALIFT_JOB'], os.environ['SEALIFT_STATUS'])"
    path = tmp_path / "jobs.toml"
    command = json.dumps([sys.executable, "-c", script])
    path.write_text(f'[jobs.a]\nsources = "s3://bucket/a/"\ndest = "{tmp_path}/a"\non_success = {command}\n')
    done = subprocess.run([sys.executable, "-m", "sealift", "run", str(path), "--json"], capture_output=True, text=True)
    assert done.stderr == "a 0\n"
    assert json.loads(done.stdout)["status"] == 0


def test_a_job_whose_time_is_up_keeps_what_it_has_and_counts_the_rest(
    server: FaultServer, file: Path, capsys: Captured
) -> None:
    server.put("bucket", "a/more.txt", b"more")
    stalled = server.fault(op="get", key="a/more.txt", do=Stall(), times=None)
    text = file.read_text().replace("[jobs.a]\n", '[jobs.a]\nmax_duration = "1s"\n')
    file.write_text(text)
    assert main(["run", str(file), "a", "b", "--json"]) == 1
    shown = capsys.readouterr()
    first, second = json.loads(shown.out)["jobs"]
    assert (first["status"], first["cut"]) == (1, "deadline")
    assert first["pending"] > 0 or not first["complete"], "a second may be short"
    assert first["downloaded"] < 2
    assert second["status"] == 0
    assert "a: its time was up; what is complete is kept, and the next run continues\n" in shown.err
    assert told(file.parent)["a.on_failure"] == first
    stalled.remove()
    assert main(["run", str(file), "a", "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)["jobs"]
    assert (again["downloaded"] + again["up_to_date"], again["pending"]) == (2, 0)
    assert again["up_to_date"] == first["downloaded"]


def test_jobs_run_at_once_where_the_file_says_so(server: FaultServer, file: Path, capsys: Captured) -> None:
    other_came = threading.Event()

    async def set_other(exchange: Exchange) -> None:
        other_came.set()

    server.fault(op="get", key="a/a.txt", do=Hold(other_came))
    server.fault(op="get", key="b/b.txt", do=Call(set_other))
    file.write_text(file.read_text().replace("parallel = 1", "parallel = 2"))
    assert main(["run", str(file), "a", "b"]) == 0
    assert [tree(file.parent / name) for name in "ab"] == [{f"{name}.txt": name.encode()} for name in "ab"]


def test_a_signal_ends_the_run_and_what_was_done_is_told(server: FaultServer, file: Path) -> None:
    stalled = server.fault(op="get", key="b/b.txt", do=Stall(), times=None)
    process = subprocess.Popen(
        [sys.executable, "-m", "sealift", "run", str(file), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    stalled.wait()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode == 130
    result = json.loads(out)
    assert [(job["job"], job["status"], job["cut"]) for job in result["jobs"]] == [("a", 0, ""), ("b", 130, "signal")]
    assert result["jobs"][1]["pending"] == 1
    assert set(told(file.parent)) == {"a.on_success"}


def test_checking_a_file_runs_nothing(server: FaultServer, file: Path, capsys: Captured) -> None:
    assert main(["run", "--check-config", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: nothing is wrong with it; it has a, b, c\n"
    assert server.requests == []


def test_a_file_that_is_wrong_runs_nothing(server: FaultServer, file: Path, capsys: Captured) -> None:
    file.write_text(file.read_text() + "delte = true\nforce = 1\n")
    lines = len(file.read_text().splitlines())
    for words in (["run", str(file), "a"], ["run", str(file), "--check-config"]):
        assert main(words) == 2
        assert capsys.readouterr().err.splitlines() == [
            f"sealift: {file}:{lines - 1}: jobs.c.delte: there is no such setting, did you mean delete?",
            f"sealift: {file}:{lines}: jobs.c.force: write true or false",
        ]
    assert server.requests == []
    assert list(file.parent.iterdir()) == [file]


def test_a_file_may_be_a_pipe(file: Path) -> None:
    text = f"{file.read_text()}delte = true\n"
    done = subprocess.run(
        [sys.executable, "-m", "sealift", "run", "--check-config", "/dev/stdin"],
        input=text,
        capture_output=True,
        text=True,
    )
    line = text.count("\n")
    said = f"sealift: /dev/stdin:{line}: jobs.c.delte: there is no such setting, did you mean delete?\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_the_settings_file_may_be_a_pipe_and_every_job_has_what_it_says(server: FaultServer, file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sealift", "run", str(file)],
        env={**os.environ, "SEALIFT_CONFIG": "/dev/stdin"},
        input='exclude = ["b.*"]\n',
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [tree(file.parent / name) for name in "abc"] == [{"a.txt": b"a"}, {}, {"c.txt": b"c"}]


def test_each_job_may_have_metrics(server: FaultServer, file: Path, capsys: Captured) -> None:
    file.write_text(file.read_text().replace("[defaults]\n", '[defaults]\nmetrics = "${HERE}/${JOB}.prom"\n'))
    assert main(["run", str(file), "a", "b"]) == 0
    for name in "ab":
        text = (file.parent / f"{name}.prom").read_text()
        assert f'sealift_run_objects{{dest="{file.parent}/{name}",result="downloaded"}} 1.0\n' in text
    assert (
        main(["mirror", "s3://bucket/c", str(file.parent / "c"), "--metrics", str(file.parent / "no" / "c.prom")]) == 0
    )
    assert "c.prom cannot be written: No such file or directory" in capsys.readouterr().err


def test_all_that_jobs_say_may_be_json(server: FaultServer, file: Path, capsys: Captured) -> None:
    server.fault(op="get", key="b/b.txt", do=Answer(400, "KMS.DisabledException", "It is disabled"), times=None)
    assert main(["run", str(file), "b", "--log-format", "json"]) == 1
    failed, explained, advice = map(json.loads, capsys.readouterr().err.splitlines())
    assert "sealift doctor s3://bucket/b/b.txt" in explained["message"]
    assert failed.items() >= {"job": "b", "level": "error", "key": "b/b.txt", "error": "KMS.DisabledException"}.items()
    assert (explained["level"], advice["level"], advice["job"]) == ("info", "error", "b")
    file.write_text("jobs = 1\n")
    assert main(["run", str(file), "--log-format", "json"]) == 2
    assert json.loads(capsys.readouterr().err)["level"] == "error"


def test_a_bug_ends_its_job_and_tells_no_secret(
    server: FaultServer, file: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(sources: Sequence[str], *rest: Any, **more: Any) -> Summary:
        if sources == ("s3://bucket/b/",):
            raise RuntimeError("odd: hunter2")
        return await mirror(sources, *rest, **more)

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setattr("sealift.cli.jobs.mirror", broken)
    assert main(["run", str(file), "--json"]) == 1
    shown = capsys.readouterr()
    results = json.loads(shown.out)["jobs"]
    assert [job["status"] for job in results] == [0, 1, 0]
    assert results[1] == told(file.parent)["b.on_failure"]
    assert results[1]["error"] == "RuntimeError: odd: [secret]"
    assert "b: RuntimeError: odd: [secret] (a bug in Sealift" in shown.err
