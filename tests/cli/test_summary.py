from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.cli.forecast import fetch_line, totals
from sealift.cli.summary import advice, as_json, doctor_for, table
from sealift.errors import AccessError
from sealift.model import Failure, Forecast, KmsUse, RefusedObjects, RemoteObject, Summary

FAILURES = (
    Failure("b", "one", "NoSuchKey", "it is gone"),
    Failure("b", "two", "AccessDenied", "ask for kms:Decrypt"),
    Failure("b", "three", "AccessDenied", "ask for kms:Decrypt"),
)
SUMMARY = Summary(
    listed=20_000,
    downloaded=12_345,
    up_to_date=7_650,
    failed=3,
    pending=2,
    verified=12_000,
    bytes=3 * 1024**3,
    get_requests=12_500,
    kms_throttled=40,
    seconds=30.0,
    kms=KmsUse(requests=12_385, wait_seconds=29.25, quota=411.6),
    complete=False,
    failures=FAILURES,
)


def test_the_table_lines_up_and_groups_what_failed() -> None:
    assert table(SUMMARY) == [
        "listed        20,000  and more: the listing did not reach its end",
        "downloaded    12,345  12,000 verified by S3's checksums",
        "up to date     7,650",
        "failed             3",
        "not reached        2",
        "GET requests  12,500  3.0 GiB in 30.0 s, 102.4 MiB/s",
        "KMS requests  12,385  40 refused, waited for 29.2 s, KMS allows about 412/s",
        "",
        "failed:",
        "  AccessDenied: 2 objects, for example s3://b/two",
        "    ask for kms:Decrypt",
        "  NoSuchKey: 1 object, for example s3://b/one",
        "    it is gone",
    ]


def test_refusals_are_told_by_reason_and_counted_beyond_the_failures_that_are_kept() -> None:
    under_key = RefusedObjects(4112, "AccessDenied", "kms:Decrypt", "arn:aws:kms:…", "no … allows it", "b", "two")
    of_bucket = RefusedObjects(1, "AccessDenied", "", "s3://b", "S3 does not say why", "b", "gone")
    lines = table(dataclasses.replace(SUMMARY, refusals=(under_key, of_bucket)))
    assert lines[lines.index("refused:") :] == [
        "refused:",
        "  AccessDenied: 4,112 objects under key arn:aws:kms:…: kms:Decrypt refused (no … allows it), for example s3://b/two",
        "    ask for kms:Decrypt",
        "  AccessDenied: 1 object of s3://b: refused (S3 does not say why), for example s3://b/gone",
        "",
        "failed:",
        "  NoSuchKey: 1 object, for example s3://b/one",
        "    it is gone",
    ]


def test_why_a_single_object_failed_was_told_when_it_did() -> None:
    refused = RefusedObjects(1, "AccessDenied", "kms:Decrypt", "", "nobody allows it", "b", "two")
    for failure, refusals, line in (
        (FAILURES[0], (), "  NoSuchKey: 1 object, for example s3://b/one"),
        (
            FAILURES[1],
            (refused,),
            "  AccessDenied: 1 object: kms:Decrypt refused (nobody allows it), for example s3://b/two",
        ),
    ):
        lines = table(dataclasses.replace(SUMMARY, failed=1, failures=(failure,), refusals=refusals))
        assert lines[-1] == line


def test_what_was_refused_comes_with_the_command_that_explains_it() -> None:
    refused = Summary(refusals=(RefusedObjects(1, "AccessDenied", "", "", "", "b", "it's"),))
    assert doctor_for(refused, None, "s3://b/") == "sealift doctor 's3://b/it'\"'\"'s'"
    assert doctor_for(Summary(), AccessError("may not be listed"), "s3://b/p/") == "sealift doctor s3://b/p/"
    assert doctor_for(Summary(), None, "s3://b/p/") == ""
    assert doctor_for(Forecast(), AccessError("may not be listed"), "s3://b/p/") == "sealift doctor s3://b/p/"


@pytest.mark.parametrize(
    ("downloaded", "verified", "remark"),
    [(0, 0, ""), (2, 2, "  all verified by S3's checksums"), (2, 0, "  0 verified by S3's checksums")],
)
def test_the_table_says_how_many_objects_were_verified(downloaded, verified, remark) -> None:
    assert table(Summary(downloaded=downloaded, verified=verified))[1] == f"downloaded    {downloaded}{remark}"


def test_a_run_that_did_nothing_has_a_table_too() -> None:
    assert table(Summary(complete=True))[0] == "listed        0"


def test_json_has_the_fields_in_the_order_of_its_document() -> None:
    document = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    transfer, plan, *_ = [json.loads(block) for block in re.findall("```json\n(.*?)```", document, re.DOTALL)]
    assert list(json.loads(as_json(SUMMARY))) == list(transfer)
    assert list(json.loads(as_json(Forecast()))) == list(plan)
    assert list(json.loads(as_json(SUMMARY))["kms"]) == list(transfer["kms"])
    assert list(json.loads(as_json(Forecast()))["kms"]) == list(plan["kms"])
    assert list(json.loads(as_json(SUMMARY))["failures"][0]) == list(transfer["failures"][0])
    assert [each.name for each in dataclasses.fields(RefusedObjects)] == list(transfer["refusals"][0])


@given(st.binary())
def test_any_key_comes_through_json_byte_for_byte(raw: bytes) -> None:
    line = as_json(Summary(failures=(Failure("b", os.fsdecode(raw), "E", "m"),)))
    assert line.isascii()
    assert line.isprintable()
    assert os.fsencode(json.loads(line)["failures"][0]["key"]) == raw


@pytest.mark.parametrize("status", [1, 3, 4, 5, 130])
@pytest.mark.parametrize("verb", ["mirror", "get", "plan"])
def test_every_bad_end_comes_with_advice(verb: str, status: int) -> None:
    result = Forecast() if verb == "plan" else SUMMARY
    text = advice(verb, status, result)
    assert text
    assert "\n" not in text


def test_the_advice_after_an_interruption_is_to_run_it_again() -> None:
    assert advice("mirror", 130, SUMMARY) == (
        "interrupted; what is complete is kept: run the same command again to continue"
    )
    assert advice("mirror", 1, SUMMARY).startswith("5 objects of 20,000 not in place; what is complete is kept: ")


def test_where_only_too_much_would_be_deleted_nothing_else_is_said_to_be_missing() -> None:
    whole = Summary(listed=4, up_to_date=4, complete=True)
    assert advice("mirror", 1, whole) == "everything that is listed is in place"
    assert advice("mirror", 1, Summary(listed=4, up_to_date=4)).startswith("not everything was listed")
    assert advice("plan", 1, Forecast(listed=4, to_delete=3, complete=True)) == (
        "a mirror would fetch what is named above, and delete nothing"
    )


def test_a_plan_names_sizes_and_requests() -> None:
    remote = RemoteObject("b", "p/k", 0, '"e"', 0)
    assert fetch_line(remote, "k", 12_897_485, 2) == "fetch    12.3 MiB     2 GETs  s3://b/p/k -> k"
    forecast = Forecast(listed=5, to_download=2, up_to_date=2, failed=1, bytes=1024, get_requests=2, complete=True)
    assert totals(forecast) == [
        "listed              5",
        "to fetch            2  1.0 KiB in 2 GETs",
        "up to date          2",
        "cannot be mirrored  1",
        "KMS requests        0  no object is encrypted with SSE-KMS without a Bucket Key",
    ]
