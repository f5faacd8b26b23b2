"""What a plan prints while it is made, and what it amounts to if it ends early."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import pytest

from sealift.cli.console import Console, StandardOutputClosed
from sealift.cli.forecast import Foreseen, kms_remark, totals
from sealift.errors import LocalStorageError
from sealift.kmscost import Foretold, Seen, predict
from sealift.model import Encryption, Ending, Failure, Forecast, Outcome, RemoteObject, Summary

REMOTE = RemoteObject("b", "p/k", 2048, '"e"', 0)
FAILED = Outcome(Ending.FAILED, "b", "cold", message="it is archived")
IN_PLACE = Outcome(Ending.UP_TO_DATE, "b", "k", path="k")
GONE = Outcome(Ending.DELETED, "b", "p//old", path="%empty/old")


class Stops:
    """Counts how often the plan was stopped."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


def test_each_object_to_fetch_and_each_that_cannot_be_is_a_line() -> None:
    out, stops = io.StringIO(), Stops()
    foreseen = Foreseen(Console(out, None), stops, lines=True)
    foreseen.planned(REMOTE, "k", 2048, 1)
    foreseen.ended(FAILED)
    foreseen.ended(IN_PLACE)
    foreseen.ended(GONE)
    assert out.getvalue().splitlines() == [
        "fetch     2.0 KiB      1 GET  s3://b/p/k -> k",
        "fail   s3://b/cold: it is archived",
        "delete %empty/old (there is no s3://b/p//old any more)",
    ]
    assert (foreseen.error, stops.count) == (None, 0)


def test_without_lines_it_only_adds_up() -> None:
    out = io.StringIO()
    foreseen = Foreseen(Console(out, None), Stops(), lines=False)
    foreseen.planned(REMOTE, "k", 2000, 1)
    foreseen.planned(REMOTE, "k", 48, 2)
    foreseen.ended(FAILED)
    failures = (Failure("b", "cold", "InvalidObjectState", "it is archived"),)
    summary = Summary(
        listed=9, up_to_date=3, skipped=1, failed=1, escaped=2, seconds=1.5, complete=True, failures=failures
    )
    assert out.getvalue() == ""
    assert foreseen.so_far(summary) == Forecast(
        listed=9,
        to_download=2,
        up_to_date=3,
        skipped=1,
        failed=1,
        escaped=2,
        bytes=2048,
        get_requests=3,
        seconds=1.5,
        complete=False,
        failures=failures,
        kms=predict(5, (), whole=False),  # the GETs, and a HEAD for each object that is not one whole GET
    )


def test_a_plan_that_names_too_much_to_delete_is_whole_all_the_same() -> None:
    foreseen = Foreseen(Console(io.StringIO(), None), Stops(), lines=False)
    foreseen.planned(REMOTE, "k", 1024, 1)
    summary = Summary(listed=4, up_to_date=3, pending=1, deleted=7, complete=True)
    assert foreseen.so_far(summary).complete
    assert foreseen.so_far(summary).to_delete == 7
    assert "to delete           7" in totals(foreseen.so_far(summary))


def unread_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize(("opened", "kind"), [(unread_pipe, StandardOutputClosed), (full_disk, LocalStorageError)])
def test_a_plan_that_nobody_can_read_is_stopped_once(opened: Callable[[], int], kind: type[Exception]) -> None:
    stops = Stops()
    with open(opened(), "w", buffering=1) as stream:  # noqa: PTH123 - a descriptor
        foreseen = Foreseen(Console(stream, None), stops, lines=True)
        for _ in range(3):
            foreseen.planned(REMOTE, "k", 1, 1)
    assert isinstance(foreseen.error, kind)
    assert stops.count == 1
    assert foreseen.so_far(Summary()).to_download == 3, "what is known is known all the same"


def test_the_sum_names_what_is_out_of_the_ordinary_and_only_then() -> None:
    ordinary = totals(Forecast(listed=2, to_download=1, up_to_date=1, bytes=5, get_requests=1, complete=True))
    names = ["listed", "to fetch", "up to date", "cannot be mirrored", "KMS requests"]
    assert [line.split("  ")[0] for line in ordinary] == names
    odd = "\n".join(totals(Forecast(listed=5, skipped=2, escaped=3)))
    assert "skipped             2" in odd
    assert "escaped keys        3" in odd
    assert "the listing did not reach its end" in odd


def test_what_kms_is_asked_comes_with_its_time_its_price_and_how_sure_that_is() -> None:
    sealed = [Seen(1, Encryption("aws:kms", "arn:aws:kms:eu-north-1:111122223333:key/k"))] * 100
    plan = Forecast(listed=1, to_download=1, get_requests=1_204_331, kms=predict(1_204_331, sealed, whole=False))
    assert totals(plan)[-1].split("  ")[-2:] == [
        "1,204,331",
        (
            "≈ 2 min at 10,000/s (the Region's default quota), ≈ $3.61; with Bucket Keys ≈ 12,000; "
            "an estimate, from 100 objects"
        ),
    ]
    earlier = Foretold(4, 2.0)
    assert kms_remark(predict(0, (), whole=True, foretold=earlier)).endswith("; an estimate, from earlier runs")
    assert kms_remark(predict(100, sealed, whole=True, foretold=earlier)).endswith("earlier runs and 100 objects")
    assert "at the most" in kms_remark(predict(5, (), whole=False))
    assert kms_remark(predict(5, [Seen(5, Encryption("AES256"))], whole=True)) == (
        "no object is encrypted with SSE-KMS without a Bucket Key"
    )
