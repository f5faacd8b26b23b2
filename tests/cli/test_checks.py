from __future__ import annotations

import io

from sealift.cli.checks import Checks, finding_line, outlook, sums
from sealift.cli.console import Console
from sealift.cli.layers import Display
from sealift.model import Failure, Finding, Flaw, Summary, Verification

DAMAGED = Finding("d/k", Flaw.DAMAGED, "other bytes", "bucket", "p/d/k")
UNKNOWN = Finding("mine\n", Flaw.UNKNOWN, "the ledger knows nothing of it")


class Full(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


class Stops:
    count = 0

    def __call__(self) -> None:
        self.count += 1


def checks(out: io.StringIO, stops: Stops, *, lines: bool = True, verbose: bool = False) -> Checks:
    return Checks(Console(out, None), "none", stops, Display(verbose=verbose), lines=lines)


def test_what_is_not_right_is_a_line_as_it_is_found() -> None:
    out = io.StringIO()
    seen = checks(out, Stops())
    seen.found(DAMAGED)
    seen.found(UNKNOWN)
    assert out.getvalue() == "damaged  d/k: other bytes\n"


def test_unknown_files_are_named_by_who_wants_to_hear_more() -> None:
    out = io.StringIO()
    checks(out, Stops(), verbose=True).found(UNKNOWN)
    assert out.getvalue() == "unknown  mine\\x0a\n"


def test_with_json_there_are_no_lines() -> None:
    out = io.StringIO()
    checks(out, Stops(), lines=False).found(DAMAGED)
    assert out.getvalue() == ""


def test_it_stops_when_nobody_reads() -> None:
    stops = Stops()
    seen = checks(Full(), stops)
    seen.found(DAMAGED)
    seen.found(DAMAGED)
    assert stops.count == 1
    assert seen.error is not None


def test_it_says_how_far_it_is() -> None:
    seen = checks(io.StringIO(), Stops())
    seen.expected(4, 2048)
    seen.looked_at(1, 1024)
    assert seen.sentence(0.0).startswith("1 of 4 files, 1.0 KiB of 2.0 KiB")


def test_the_sum_names_what_there_is() -> None:
    result = Verification(files=5, intact=2, missing=1, damaged=1, unchecked=1, unknown=3, bytes=2048, seconds=2.0)
    assert sums(result) == [
        "files      5  2.0 KiB in 2.0 s, 1.0 KiB/s; not all of them",
        "intact     2",
        "missing    1",
        "changed    0",
        "damaged    1",
        "unchecked  1  the ledger has no checksum of them",
        "unknown    3  the ledger knows nothing of them",
    ]


def test_the_sum_says_what_was_repaired_and_what_was_not() -> None:
    failed = Failure("bucket", "k", "NoSuchKey", "it is gone")
    result = Verification(
        files=3, missing=3, complete=True, repair=Summary(listed=3, downloaded=2, failed=1, failures=(failed,))
    )
    assert (
        sums(result)[-5:]
        == [
            "repaired      2",
            "not repaired  1",
            "",
            "failed:",
            "  NoSuchKey: 1 object, for example s3://bucket/k",
            "    it is gone",
        ][-5:]
    )
    assert "repaired      2" in sums(result)


def test_what_to_do_depends_on_what_was_found() -> None:
    assert "--repair" in outlook(Verification(missing=1, damaged=1_000), interrupted=False)
    assert outlook(Verification(missing=1, damaged=1_000), interrupted=False).startswith("1 missing, 1,000 damaged:")
    assert "interrupted" in outlook(Verification(missing=1), interrupted=True)
    assert "not everything could be repaired" in outlook(Verification(repair=Summary()), interrupted=False)
    assert "not everything was looked at" in outlook(Verification(), interrupted=False)


def test_a_line_names_the_file_and_what_is_wrong() -> None:
    assert finding_line(DAMAGED) == "damaged  d/k: other bytes"
