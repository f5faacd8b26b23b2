"""status and report: what they say of runs that were."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sealift.cli import main
from sealift.cli.reporting import table
from sealift.destination import Destination
from sealift.errors import SourceError
from sealift.model import Summary
from tests.support.faultserver import Answer, FaultServer, Generated, Stall
from tests.support.nights import SECOND, logged, two_nights

Captured = pytest.CaptureFixture[str]

LONG_AGO = datetime(2000, 2, 29, 1, 15, tzinfo=UTC)


# ── status ──────────────────────────────────────────────────────────────────────────────────────────


def test_status_tells_of_the_last_runs_and_of_what_is_next(tmp_path: Path, capsys: Captured) -> None:
    two_nights(tmp_path)
    assert main(["status", str(tmp_path)]) == 1
    heading, last, first, _, *following = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        "began",
        "took",
        "status",
        "downloaded",
        "failed",
        "not",
        "reached",
        "deleted",
        "received",
    ]
    assert last.split()[2:] == ["3.0", "s", "1", "3", "2", "0", "1", "2.9", "MiB", "2", "failed"]
    assert first.split()[2:] == ["3.0", "s", "1", "2", "2", "0", "0", "0", "B", "2", "failed"]
    assert following == [
        "next:",
        "  try 1 object again that failed with AccessDenied, as s3://bucket/both",
        "  try 1 object again that failed with KMS.DisabledException, as s3://bucket/fresh",
    ]


def test_a_narrow_terminal_shows_how_runs_ended_below_their_numbers() -> None:
    rows = [["began", "took", "failed", ""], ["2026-11-25 02:15", "3.0 s", "2", "2 failed"]]
    wide = ["began              took  failed", "2026-11-25 02:15  3.0 s       2  2 failed"]
    assert table(rows) == wide
    assert table(rows, 41) == wide
    assert table(rows, 40) == ["began             took failed", "2026-11-25 02:15 3.0 s      2", "  2 failed"]


def test_status_has_the_exit_status_of_the_last_run(tmp_path: Path, capsys: Captured) -> None:
    two_nights(tmp_path)
    with logged(tmp_path, SECOND.replace(hour=5), Summary(), SourceError("there is no such bucket")):
        pass
    assert main(["status", str(tmp_path)]) == 5
    out = capsys.readouterr().out
    assert "there is no such bucket" in out
    assert "list what the last run did not come to list" in out


def test_status_knows_what_is_unfinished_and_who_is_under_way(
    server: FaultServer, tmp_path: Path, capsys: Captured
) -> None:
    server.put("bucket", "p/large", Generated(30_000_000, seed=1))
    server.put("bucket", "p/small", b"small")
    stalled = server.fault(op="get", key="p/large", do=Stall(9_000_000), times=None)
    dest = str(tmp_path / "dest")
    command = [
        sys.executable,
        "-m",
        "sealift",
        "mirror",
        "s3://bucket/p/",
        dest,
        "--part-size",
        "10MB",
        "--concurrency",
        "4",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stalled.wait(3)
    assert main(["status", dest, "--json"]) == 0
    during = json.loads(capsys.readouterr().out)
    assert (during["running"], during["runs"][0]["how"]) == (True, "running")
    process.terminate()
    assert process.wait() == 130
    assert main(["status", dest]) == 1
    out = capsys.readouterr().out
    assert "stopped by its deadline or a signal: 1 not reached" in out
    assert "  go on with 1 object of which a part is there: " in out
    assert "  fetch 1 object that the last run did not reach\n" in out
    stalled.remove()
    assert main(["mirror", "s3://bucket/p/", dest, "-q", "--delete"]) == 0
    assert main(["status", dest, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert (after["running"], after["files"], after["bytes"]) == (False, 2, 30_000_005)
    assert after["unfinished"] == {"objects": 0, "bytes": 0, "size": 0}
    assert after["next"] == ["list, and fetch what has changed"]


def test_a_lock_that_nobody_holds_is_no_run(tmp_path: Path, capsys: Captured) -> None:
    with Destination.open(tmp_path, create=True) as destination:
        destination.lock()
        assert main(["status", str(tmp_path)]) == 0
        assert "a run is under way" in capsys.readouterr().out
    assert main(["status", str(tmp_path)]) == 1
    assert "a run is under way" not in capsys.readouterr().out


def test_status_of_what_was_never_mirrored_to_is_a_mistake(tmp_path: Path, capsys: Captured) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "nothing was ever mirrored to" in capsys.readouterr().err


def test_status_finds_the_logs_where_they_are_kept(server: FaultServer, tmp_path: Path, capsys: Captured) -> None:
    server.put("bucket", "p/a", b"a")
    words = [str(tmp_path / "dest"), "--state", str(tmp_path / "state")]
    assert main(["mirror", "s3://bucket/p/", *words, "-q"]) == 0
    assert main(["status", *words]) == 0
    assert "everything is in place" in capsys.readouterr().out


def test_status_says_that_the_last_run_has_left_no_log(server: FaultServer, tmp_path: Path, capsys: Captured) -> None:
    server.put("bucket", "p/a", b"a")
    dest, elsewhere = str(tmp_path / "dest"), str(tmp_path / "state")
    runs = tmp_path / "dest" / ".sealift" / "runs"
    assert main(["mirror", "s3://bucket/p/", dest, "--state", elsewhere, "-q"]) == 0
    for command in (["status", dest], ["status", dest, "--json"]):
        assert main(command) == 1
    said, told = capsys.readouterr().out.split("\n\nnext:\n  list, and fetch what has changed\n")
    began = json.loads(told)["unlogged"][0]["began"]
    minute = f"{datetime.fromisoformat(began).astimezone():%Y-%m-%d %H:%M}"
    lost = f"has left no log in {runs}: it was deleted, or is where the --state of that run said"
    assert said == f"the last run, of {minute}, {lost}"
    assert main(["report", dest]) == 2
    assert capsys.readouterr().err == f"sealift: the last run, of {minute}, {lost}\n"

    with logged(tmp_path / "dest", LONG_AGO, Summary(complete=True)):
        pass
    assert main(["status", dest]) == 1
    out = capsys.readouterr().out
    assert "everything is in place" in out
    assert lost in out
    assert main(["report", dest, "-o", str(tmp_path / "page.html")]) == 0
    assert f"{lost}; this report is on the last one that has" in capsys.readouterr().err

    assert main(["mirror", "s3://bucket/p/", dest, "-q"]) == 0
    assert main(["status", dest]) == 0
    assert "has left no log" not in capsys.readouterr().out


def test_a_run_that_is_under_way_elsewhere_is_not_taken_for_one_that_has_ended(
    tmp_path: Path, capsys: Captured
) -> None:
    with logged(tmp_path, LONG_AGO, Summary(failed=1)):
        pass
    with Destination.open(tmp_path, create=True) as destination:
        destination.lock()
        assert main(["status", str(tmp_path), "--json"]) == 1
        assert [run["how"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["ended"]
        main(["status", str(tmp_path)])
        assert "the run that is under way has no log in" in capsys.readouterr().out


def test_a_shard_without_a_log_is_named(server: FaultServer, tmp_path: Path, capsys: Captured) -> None:
    server.put("bucket", "p/a", b"a")
    for shard in ("1/2", "2/2"):
        assert main(["mirror", "s3://bucket/p/", str(tmp_path), "-q", "--shard", shard]) == 0
    assert main(["status", str(tmp_path)]) == 0
    (log,) = (tmp_path / ".sealift").glob("shards/1-of-2/runs/*.jsonl")
    log.unlink()
    capsys.readouterr()
    assert main(["status", str(tmp_path)]) == 1
    assert f"the last run of shard 1/2 has left no log in {log.parent}: " in capsys.readouterr().out


def test_status_sees_shards_as_one_and_names_those_that_are_missing(
    server: FaultServer, tmp_path: Path, capsys: Captured
) -> None:
    for number in range(40):
        server.put("bucket", f"p/{number}", b"body")
    words = ["s3://bucket/p/", str(tmp_path), "-q"]
    assert main(["mirror", *words, "--shard", "1/3"]) == 0
    broken = server.fault(op="get", do=Answer(400, "KMS.DisabledException", "It is disabled"), times=1)
    assert main(["mirror", *words, "--shard", "3/3"]) == 1
    assert broken.hits == 1
    assert main(["status", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "  run shards that have never run: 2/3\n" in out
    assert "  try 1 object again that failed with KMS.DisabledException" in out
    assert main(["mirror", *words, "--shard", "2/3"]) == 0
    assert main(["mirror", *words, "--shard", "3/3"]) == 0
    assert main(["status", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["shards"], told["missing_shards"]) == (["1/3", "2/3", "3/3"], [])
    assert (told["files"], told["bytes"]) == (40, 160)
    assert [run["shard"] for run in told["runs"]] == ["3/3", "2/3", "3/3", "1/3"]
    assert told["next"] == ["list, and fetch what has changed"]
    assert "<b>Exit status 0</b>" in reported(tmp_path, str(tmp_path)), "it is on the last run"
    assert main(["mirror", *words]) == 0
    assert main(["status", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["shards"] == []


# ── report ──────────────────────────────────────────────────────────────────────────────────────────


def reported(tmp_path: Path, *words: str) -> str:
    output = tmp_path / "out.html"
    assert main(["report", *words, "-o", str(output)]) == 0
    return output.read_text(encoding="utf-8")


def test_a_report_says_what_happened_and_what_changed(tmp_path: Path) -> None:
    two_nights(tmp_path)
    page = reported(tmp_path, str(tmp_path))
    for said in (
        "<b>Exit status 1</b>: 2 failed",
        "<dt>downloaded</dt><dd>3</dd><small>last run 2</small>",
        "<dt>KMS quota</dt><dd>200/s</dd><small>last run not met</small>",
        "Since the last run: 1 more; 1 of these failed then as well.",
        "1 object that failed in the last run did not fail in this one.",
        "<code>KMS.DisabledException</code>",
        "the key is disabled",
        "2 objects new, 68.4 KiB",
        "1 object replaced, 8.8 KiB",
        "1 object deleted, 4.9 KiB",
        "KMS is back after 2 s: going on",
        "a quota of 200/s was found out; GETs waited for KMS for 1 s; KMS was down around 2 s",
        "50 by KMS, 0 by S3, 1 retries",
        "s3://bucket/new/&lt;2&gt;",
    ):
        assert said in page, said
    assert page.count("<img ") == 6


def test_a_report_needs_nothing_else_and_believes_no_key(tmp_path: Path) -> None:
    page = reported(tmp_path, str(two_nights(tmp_path)[1]))
    assert "<2>" not in page
    assert "\x1b" not in page
    assert "<script" not in page
    for scheme in ("http:", "https:", "//cdn"):
        assert scheme not in page.replace("s3://", "")


def test_the_log_of_an_earlier_run_is_a_run_as_well(tmp_path: Path) -> None:
    first, _ = two_nights(tmp_path)
    page = reported(tmp_path, str(first))
    assert "<dt>downloaded</dt><dd>2</dd></div>" in page, "there is none before it"


def test_a_run_in_which_nothing_happened_has_a_report(tmp_path: Path) -> None:
    with logged(tmp_path, SECOND, Summary(complete=True)):
        pass
    page = reported(tmp_path, str(tmp_path))
    assert "everything is in place" in page
    assert "<img " not in page


def test_what_there_is_no_report_on_is_said(tmp_path: Path, capsys: Captured) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "neither a destination nor the log of a run" in capsys.readouterr().err
    two_nights(tmp_path)
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "no" / "page.html")]) == 4
    assert "cannot be written" in capsys.readouterr().err


FRAMES = """<!doctype html><title>frames</title>
<iframe id="wide" style="width: 1280px; height: 2000px" src="out.html"></iframe>
<iframe id="narrow" style="width: 480px; height: 2000px" src="out.html"></iframe>
<script>
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, root = page.documentElement;
    const plots = [...page.images].map(each => [each.complete && each.naturalWidth, each.getBoundingClientRect()]);
    found[frame.id] = {
      title: page.title,
      drawn: plots.filter(([width, box]) => width > 0 && box.width > 200 && box.height > 50).length,
      columns: new Set(plots.map(([_, box]) => Math.round(box.left))).size,
      overflow: root.scrollWidth - root.clientWidth,
    };
  }
  document.body.dataset.found = JSON.stringify(found);
});
</script>"""


def test_a_browser_shows_all_of_it_at_two_widths(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # it shall be read, not fail
            warnings.warn("no browser has seen the report: there is no chromium", stacklevel=1)
        pytest.skip("there is no chromium")
    two_nights(tmp_path)
    reported(tmp_path, str(tmp_path))
    (tmp_path / "frames.html").write_text(FRAMES)
    done = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"),
            f"--user-data-dir={tmp_path}/profile",
            (tmp_path / "frames.html").as_uri(),
        ],
        capture_output=True,
        text=True,
    )
    (text,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    found = json.loads(html.unescape(text))
    title = f"Sealift: {tmp_path}, {SECOND.astimezone():%Y-%m-%d %H:%M}"
    assert found == {
        "wide": {"title": title, "drawn": 6, "columns": 2, "overflow": 0},
        "narrow": {"title": title, "drawn": 6, "columns": 1, "overflow": 0},
    }
