"""What a file of jobs may say, and what is said of one that is wrong."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sealift.cli.jobfile import Job, JobFileError, read_jobs
from sealift.cli.options import OPTIONS, Layer
from sealift.config import MaxDelete, Settings
from sealift.errors import ConfigError
from sealift.selection import Filter
from sealift.timetable import Slot

SMALLEST = """
[jobs.nightly]
sources = ["s3://bucket/reports/"]
dest = "/data/reports"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "jobs.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaints(tmp_path: Path, text: str, **environ: str) -> list[str]:
    path = written(tmp_path, text)
    with pytest.raises(JobFileError) as caught:
        read_jobs(path, environ)
    return [line.removeprefix(f"{path}:") for line in caught.value.lines]


def complaint(tmp_path: Path, text: str, **environ: str) -> str:
    (only,) = complaints(tmp_path, text, **environ)
    return only


def job(tmp_path: Path, text: str, given: Layer = Layer(), **environ: str) -> Job:  # noqa: B008
    return read_jobs(written(tmp_path, text), environ, given).jobs[0]


def test_the_smallest_job_has_sources_and_a_destination(tmp_path: Path) -> None:
    assert job(tmp_path, SMALLEST) == Job(
        name="nightly", sources=("s3://bucket/reports/",), dest=Path("/data/reports"), settings=Settings()
    )


def test_a_job_takes_every_setting_of_a_mirror(tmp_path: Path) -> None:
    example = (Path(__file__).parents[2] / "config" / "sealift.toml").read_text(encoding="utf-8")
    values = dict(re.findall(r"^(?:# )?([a-z-]+) = ([^#\n]+)", example, re.MULTILINE))
    (tmp_path / "ca.pem").touch()
    values["ca-bundle"] = f'"{tmp_path}/ca.pem"'
    settings = [option.name for option in OPTIONS if option.place and "mirror" in option.verbs]
    mine = [name for name in settings if name not in {"progress", "json", "verbose", "quiet", "log-format"}]
    instead_of_listing = [["files-from", "null"], ["inventory", "then-list"], ["as-of"]]  # each excludes the others
    together = [name for name in mine if not any(name in some for some in instead_of_listing)]
    assert len(together) >= 24
    (tmp_path / "names").touch()
    values["files-from"] = f'"{tmp_path}/names"'
    for some in instead_of_listing:
        text = SMALLEST + "".join(f"{name} = {values[name]}\n" for name in [*together, *some])
        read = job(tmp_path, text)
        assert read.settings.transfer.max_bandwidth == 200e6
        assert read.metrics == Path("/var/lib/prometheus/node-exporter/sealift.prom")


def test_what_excludes_each_other_is_said_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "names").touch()
    text = f'{SMALLEST}delete = true\nfiles-from = "{tmp_path}/names"\n'
    assert "--delete and --files-from exclude each other" in complaint(tmp_path, text)


def test_what_jobs_share_is_written_once_and_a_jobs_own_word_goes_first(tmp_path: Path) -> None:
    text = """
    parallel = 2
    [defaults]
    dest = "/data/${JOB}"
    max_delete = "10%"
    delete = true
    exclude = ["*.tmp"]
    deadline = "05:30"
    on_failure = "mail -s 'not done' ops"
    [jobs.one]
    sources = "s3://bucket/one/"
    max-delete = 5
    include = ["keep.tmp"]
    [jobs.two]
    sources = ["s3://bucket/two/"]
    deadline = "none"
    max_duration = "1h30m"
    on_failure = []
    on_success = ["touch", "done $$"]
    """
    file = read_jobs(written(tmp_path, text), {})
    assert file.parallel == 2
    one, two = file.jobs
    assert (one.dest, two.dest) == (Path("/data/one"), Path("/data/two"))
    assert one.settings.storage.max_delete == MaxDelete(5, percent=False)
    assert two.settings.storage.max_delete == MaxDelete(10, percent=True)
    assert one.settings.selection.filters == (Filter("exclude", "*.tmp"), Filter("include", "keep.tmp"))
    assert (one.deadline, two.deadline) == (time(5, 30), None)
    assert (one.max_duration, two.max_duration) == (None, 5400)
    assert one.on_failure == ("mail", "-s", "not done", "ops")
    assert (two.on_failure, two.on_success) == ((), ("touch", "done $"))


def test_a_job_may_have_timetables(tmp_path: Path) -> None:
    text = (
        SMALLEST
        + """max-bandwidth = "200MB/s"
bandwidth = [
    {from = "08:00", to = "18:00", rate = "50MB/s"},
    {from = 22:00:00, to = 06:00:00, rate = 1000},
]
kms = [{from = "08:00", to = "18:00", rate = 500}]
"""
    )
    settings = job(tmp_path, text).settings
    day = (time(8), time(18))
    assert settings.transfer.max_bandwidth == 200e6
    assert settings.transfer.bandwidth == (Slot(*day, 50e6), Slot(time(22), time(6), 1000.0))
    assert settings.kms.timetable == (Slot(*day, 500.0),)


def test_values_may_hold_variables_and_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    text = '[jobs.a]\nsources = ["s3://${BUCKET}/$PREFIX/"]\ndest = "~/data"\nstate = "~/${STAGE}/state"'
    read = job(tmp_path, text, BUCKET="b", PREFIX="p", STAGE="live")
    assert read.sources == ("s3://b/p/",)
    assert read.dest == Path("/home/somebody/data")
    assert read.settings.storage.state == Path("/home/somebody/live/state")


def test_variables_of_sealift_go_before_the_file_and_options_before_those(tmp_path: Path) -> None:
    text = SMALLEST + "kms_rps = 5\nmax_attempts = 5\n"
    read = job(tmp_path, text, Layer({"max-attempts": 7}), SEALIFT_KMS_RPS="6", SEALIFT_MAX_ATTEMPTS="6")
    assert (read.settings.kms.rps, read.settings.retry.max_attempts) == (6, 7)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_durtion = '3h'", "there is no such setting, did you mean max_duration?"),
        ("kms-rsp = 5", "there is no such setting, did you mean kms_rps?"),
        ("xyzzy = 5", "there is no such setting"),
        ("json = true", "there is no such setting"),
        ("delete = 'yes'", "write true or false"),
        ("kms_rps = 0", "'0' is not a whole number of at least 1"),
        ("kms_rps = true", "write a whole number, as in 10"),
        ("exclude = '*'", 'write a list of patterns, as in ["*.tmp"]'),
        ("exclude = [1]", 'write a list of patterns, as in ["*.tmp"]'),
        ("deadline = '5:30'", 'write a time of day, as in "05:30"'),
        ("deadline = 530", 'write a time of day, as in "05:30"'),
        ("max_duration = 'long'", "'long' is not a duration: write for example 90s, 30m or 1h30m"),
        ("max_duration = true", 'write a duration, as in "3h"'),
        ('on_success = "it\'s"', '"it\'s" cannot be split into words: No closing quotation'),
        ("on_success = 5", 'write a command, as in "mail -s reports ops" or ["mail", "-s", "reports", "ops"]'),
        ("kms = [{from = '08:00', to = '18:00', rate = 0}]", "'0' is not a whole number of at least 1"),
        ("bandwidth = 5", 'write a list, as in [{from = "08:00", to = "18:00", rate = "50MB/s"}]'),
        (
            "bandwidth = [{from = '08:00', rate = 5}]",
            'each is a table of from, to and rate, as in {from = "08:00", to = "18:00", rate = "50MB/s"}',
        ),
        (
            "bandwidth = [{from = '08:00', to = '18:00', rate = true}]",
            'each is a table of from, to and rate, as in {from = "08:00", to = "18:00", rate = "50MB/s"}',
        ),
        ("bandwidth = [{from = '8', to = '18:00', rate = 5}]", 'write a time of day, as in "05:30"'),
        ("bandwidth = [{from = '08:00', to = '08:00', rate = 5}]", "from 08:00 to 08:00 is no time at all"),
        (
            "bandwidth = [{from = '08:00', to = '18:00', rate = 'x'}]",
            "'x' is not a size: write for example 8MiB or 64MB",
        ),
        ("state = '${NOWHERE}'", "there is no variable NOWHERE in the environment"),
        ("state = '5$'", "in '5$', a $ stands before no name: write ${NAME} for a variable, $$ for $"),
    ],
)
def test_what_is_wrong_is_said_with_line_name_and_remedy(tmp_path: Path, line: str, said: str) -> None:
    name = line.split(" ", maxsplit=1)[0]
    assert complaint(tmp_path, f"{SMALLEST}# a remark\n{line}\n") == f"6: jobs.nightly.{name}: {said}"


def test_all_that_is_wrong_is_said_at_once_and_shared_mistakes_once(tmp_path: Path) -> None:
    text = """[defaults]
delte = true
sources = ["s3://b"]
[jobs.a]
sources = ["b"]
[jobs."b c"]
[jobs.c]
kms_rps = 1
kms-rps = 1
"""
    assert complaints(tmp_path, text) == [
        "2: defaults.delte: there is no such setting, did you mean delete?",
        "3: defaults.sources: each job has its own: it has no place in [defaults]",
        "5: jobs.a.sources: 'b' is not an S3 location: write s3://BUCKET/PREFIX/",
        "6: jobs.b c: a job's name is of letters, digits, '-', '_' and '.'",
        "9: jobs.c.kms-rps: it is there twice, with - and with _",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: jobs: there is no job: write a table [jobs.NAME]"),
        ("jobs = {}", "1: jobs: there is no job: write a table [jobs.NAME]"),
        ("paralel = 2\n" + SMALLEST, "1: paralel: there is no such setting, did you mean parallel?"),
        ("parallel = 0\n" + SMALLEST, "1: parallel: Input should be greater than or equal to 1"),
        ("parallel = true\n" + SMALLEST, "1: parallel: Input should be a valid integer"),
        ("[jobs]\nnightly = 5\n", "2: jobs.nightly: Input should be a valid dictionary"),
        ('[jobs.a]\ndest = "/d"', "1: jobs.a: sources are missing"),
        ('[jobs.a]\nsources = "s3://b"', "1: jobs.a: dest is missing"),
        ('[jobs.a]\nsources = []\ndest = "d"', "2: jobs.a.sources: no SOURCE given: write s3://BUCKET/PREFIX/"),
        (
            '[jobs.a]\nsources = "s3://b"\ndest = "s3://c"',
            "3: jobs.a.dest: 's3://c' is not a local path: Sealift only downloads",
        ),
        (
            SMALLEST + "no-sign-request = true\nrequest-payer = true",
            "2: jobs.nightly: no-sign-request and request-payer exclude each other: only those who sign can pay",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text) == said


TWO = """
[jobs.a]
sources = "s3://b/1/"
dest = "{}"
state = "/state"
[jobs.b]
sources = "s3://b/2/"
dest = "/data/2"
state = "{}"
"""


def test_jobs_that_would_be_in_each_others_way_are_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path, "parallel = 2\n" + TWO.format("/data/2", "/state")).endswith(
        "jobs.b.dest: a has the same, and they run at once"
    )
    assert complaint(tmp_path, TWO.format("/data/1", "/state")) == (
        "9: jobs.b.state: a has the same, with another dest: one for each, as in …/${JOB}"
    )
    metrics = "[defaults]\nmetrics = '/m.prom'\n" + TWO.format("/data/1", "/state2")
    assert complaint(tmp_path, metrics) == "8: jobs.b.metrics: a has the same: one for each, as in …/${JOB}.prom"
    assert len(read_jobs(written(tmp_path, TWO.format("/data/2", "/state")), {}).jobs) == 2
    assert len(read_jobs(written(tmp_path, TWO.format("/data/1", "/state2")), {}).jobs) == 2


def test_what_is_no_toml_or_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"jobs\.toml: Invalid value \(at line 2, column 5\)"):
        read_jobs(written(tmp_path, "\na = ?"), {})
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        read_jobs(tmp_path / "none.toml", {})


# ── How long a job may take ─────────────────────────────────────────────────────────────────────────


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch):
    import time as clock

    monkeypatch.setenv("TZ", "Europe/Berlin")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


def left(began: datetime, now: datetime, **limits: Any) -> float | None:
    job = Job(name="a", sources=(), dest=Path(), settings=Settings(), **limits)
    return job.seconds_left(began, now)


@pytest.mark.usefixtures("in_berlin")
def test_a_deadline_is_the_next_one_after_the_run_began() -> None:
    evening = datetime(2026, 11, 25, 23, 0, tzinfo=BERLIN)
    assert left(evening, evening, deadline=time(5, 30)) == 6.5 * 3600
    assert left(evening, evening + timedelta(hours=7), deadline=time(5, 30)) == -1800
    assert left(evening, evening, deadline=time(23, 0)) == 24 * 3600
    assert left(evening, evening) is None


@pytest.mark.usefixtures("in_berlin")
def test_a_night_in_which_clocks_change_is_an_hour_shorter_or_longer() -> None:
    spring, autumn = datetime(2026, 3, 28, 23, 0, tzinfo=BERLIN), datetime(2026, 10, 24, 23, 0, tzinfo=BERLIN)
    assert left(spring, spring, deadline=time(5, 30)) == 5.5 * 3600
    assert left(autumn, autumn, deadline=time(5, 30)) == 7.5 * 3600


@pytest.mark.usefixtures("in_berlin")
def test_of_two_limits_the_nearer_one_holds() -> None:
    began = datetime(2026, 11, 25, 23, 0, tzinfo=BERLIN)
    assert left(began, began, deadline=time(5, 30), max_duration=3600.0) == 3600
    assert left(began, began + timedelta(hours=6), deadline=time(5, 30), max_duration=3600.0) == 1800
