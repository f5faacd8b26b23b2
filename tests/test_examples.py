"""What lies in config/ is what it says: it is loaded, and held against the tools that it is for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
from datetime import time
from pathlib import Path

import pytest

from sealift.cli.arguments import parse
from sealift.cli.jobfile import _FIELDS, _OPTIONS, read_jobs
from sealift.cli.metrics import write
from sealift.config import MaxDelete
from sealift.model import KmsUse, Summary
from sealift.selection import Filter

CONFIG = Path(__file__).parents[1] / "config"
NIGHTLY = CONFIG.parent / "docs" / "nightly.md"
SEALIFT = "/usr/local/bin/sealift"


def test_the_example_jobs_are_what_they_say() -> None:
    file = read_jobs(CONFIG / "jobs.toml", {"DATA": "/srv/sealift", "BUCKET": "b"})
    assert file.parallel == 1
    reports, archive = file.jobs
    assert (reports.name, reports.sources, reports.dest) == (
        "reports",
        ("s3://b/reports/",),
        Path("/srv/sealift/reports"),
    )
    assert (reports.deadline, reports.max_duration) == (time(5, 30), None)
    assert reports.on_failure == ("tee", "-a", "/srv/sealift/failures.jsonl")
    assert reports.metrics == Path("/srv/sealift/reports.prom")
    storage = reports.settings.storage
    assert (storage.delete, storage.max_delete) == (True, MaxDelete(25, percent=True))
    assert archive.settings.storage.delete is False
    assert archive.settings.selection.filters == (Filter("exclude", "*.tmp"), Filter("exclude", "scratch/*"))


def test_what_the_example_jobs_leave_out_can_be_taken_in(tmp_path: Path) -> None:
    text = (CONFIG / "jobs.toml").read_text(encoding="utf-8")
    text = re.sub(r"^on_failure = .*\n", "", text, flags=re.MULTILINE)
    uncommented = re.sub(r"^# ([a-z_-]+ = )", r"\1", text, flags=re.MULTILINE)
    assert uncommented.count("\n# ") < text.count("\n# ")
    path = tmp_path / "jobs.toml"
    path.write_text(uncommented, encoding="utf-8")
    assert len(read_jobs(path, {"DATA": "/srv/sealift", "BUCKET": "b"}).jobs) == 2


def test_the_document_on_nights_names_every_key_and_every_metric(tmp_path: Path) -> None:
    text = NIGHTLY.read_text(encoding="utf-8")
    own = {name for name in _FIELDS if name.replace("_", "-") not in _OPTIONS}
    rows = "".join(re.findall(r"^\| (`.*)$", text, re.MULTILINE))
    assert {name for name in own if re.search(rf"`{name}\b", rows)} == own
    write(tmp_path / "m.prom", tmp_path, 0, Summary(kms=KmsUse(quota=1.0)))
    written = set(re.findall(r"^# TYPE (\w+)", (tmp_path / "m.prom").read_text(), re.MULTILINE))
    assert set(re.findall(r"\b(sealift_\w+)", text)) == written
    (smallest,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "jobs.toml").write_text(smallest)
    assert read_jobs(tmp_path / "jobs.toml", {}).jobs[0].name == "reports"


@pytest.mark.parametrize("name", ["systemd/sealift.service", "crontab"])
def test_the_commands_of_unit_and_crontab_are_right(name: str) -> None:
    text = (CONFIG / name).read_text(encoding="utf-8")
    (words,) = re.findall(rf"{SEALIFT} (.*)$", text, re.MULTILINE)
    command = parse(words.split())
    assert (command.verb, command.words) == ("run", ("/etc/sealift/jobs.toml",))


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # it shall be read, not fail
            warnings.warn("the systemd units were not verified: there is no systemd-analyze", stacklevel=1)
        pytest.skip("there is no systemd-analyze")
    command = Path(sysconfig.get_path("scripts")) / "sealift"
    for unit in (CONFIG / "systemd").iterdir():
        text = unit.read_text(encoding="utf-8").replace(SEALIFT, str(command)).replace("User=sealift\n", "")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True)
    about_these = [line for line in done.stderr.splitlines() if "sealift" in line]
    assert (done.returncode, about_these) == (0, []), sys.platform
