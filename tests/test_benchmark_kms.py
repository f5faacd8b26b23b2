"""What the KMS benchmark's figures rest on: how its KMS counts, what its log is read for, and what it answers."""

import http.client
import json
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.kms.content import Kind, contents
from benchmarks.kms.figures import fullest_second, in_flight_at_the_first_refusal
from benchmarks.kms.origin import Call, Orders, Origin
from benchmarks.kms.quota import PHASE, Bucket, Timetable, Windows
from benchmarks.kms.report import measured_on, table
from benchmarks.kms.rows import ROWS
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import Throttled
from sealift.s3.refusal import refusal_of
from sealift.s3.translate import translate

RESULTS = Path(__file__).parents[1] / "benchmarks" / "kms" / "results"
WHENS = st.lists(st.floats(0, 30), max_size=200).map(sorted)
RATES = st.lists(st.integers(1, 20), min_size=1, max_size=3).map(tuple)


@given(WHENS, RATES)
def test_a_window_grants_its_rate_and_no_more(whens, rates):
    timetable = Timetable(rates, 10.0)
    windows = Windows(timetable)
    granted: dict[int, int] = {}
    asked: dict[int, int] = {}
    for when in whens:
        window = int(when + PHASE)
        asked[window] = asked.get(window, 0) + 1
        granted[window] = granted.get(window, 0) + windows.take(when)
    for window, count in granted.items():
        assert count == min(asked[window], timetable.at(max(0.0, window - PHASE)))


@given(WHENS, st.integers(1, 20))
def test_a_bucket_grants_its_burst_and_what_flowed_in(whens, rate):
    bucket = Bucket(Timetable((rate,)))
    granted = [when for when in whens if bucket.take(when)]
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            assert last - first + 1 <= max(1, rate / 10) + rate * (granted[last] - granted[first]) + 1e-6


@given(st.integers(0, 5000), RATES)
def test_the_ideal_time_is_that_in_which_the_timetable_allows_so_many(requests, rates):
    timetable = Timetable(rates, 10.0)
    ideal = timetable.ideal(requests)
    tenths = [timetable.at(tenth / 10) / 10 for tenth in range(int(ideal * 10))]
    assert sum(tenths) <= requests + 1e-6
    assert sum(tenths) + timetable.at(ideal) / 10 >= requests - 1e-6


@given(st.lists(st.integers(0, 256), min_size=1).map(sorted))
def test_the_fullest_second_is_found_wherever_it_begins(ticks):
    most = max(sum(begin <= tick < begin + 64 for tick in ticks) for begin in ticks)
    assert fullest_second([tick / 64 for tick in ticks]) == most


def calls(*entries):
    return [Call(at, "run", connection, verdict) for at, connection, verdict in entries]


def test_only_what_could_not_be_held_back_was_in_flight():
    """Answers take 0.05 s. Connection 3 sends another one after it has heard, and 4 much later."""
    asked = calls(
        (0.00, 1, "g"), (1.00, 1, "r"), (1.04, 2, "r"), (1.06, 3, "r"), (1.07, 3, "r"), (1.08, 5, "g"), (1.30, 4, "r"),
    )  # fmt: skip
    assert in_flight_at_the_first_refusal(asked, delay=0.05) == 3
    assert in_flight_at_the_first_refusal(asked[:1], delay=0.05) == 0


def test_no_two_objects_have_the_same_bytes_and_any_range_is_that_of_the_whole(tmp_path):
    one, other = contents((Kind(2, 100_000),))
    whole = b"".join(one.pieces(0, one.size))
    assert len(whole) == one.size
    assert whole != b"".join(other.pieces(0, other.size))
    for start, stop in pairwise([0, 1, 31, 32, 33, 70_000, 100_000]):
        assert b"".join(one.pieces(start, stop)) == whole[start:stop]
    (tmp_path / "copy").write_bytes(whole)
    assert one.is_in(tmp_path / "copy")
    assert not other.is_in(tmp_path / "copy")
    assert not one.is_in(tmp_path / "missing")


def test_every_row_has_a_name_of_its_own():
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("form", "status"), [("400", 400), ("503", 503)])
def test_the_origin_refuses_beyond_the_quota_as_aws_does_and_charges_no_bucket_key(tmp_path, form, status):
    kinds = (Kind(3, 1000), Kind(3, 1000, bucket_key=True))
    plain, free = ([each for each in contents(kinds) if each.bucket_key is bucket_key] for bucket_key in (False, True))
    with Origin(Orders(kinds, Timetable((1,)), way="bucket", form=form), tmp_path) as origin:
        connection = http.client.HTTPConnection(origin.url.removeprefix("http://"))

        def get(content, **headers):
            connection.request("GET", f"/bucket/{content.key}", headers=headers)
            answer = connection.getresponse()
            return answer, answer.read()

        answer, body = get(
            plain[0], Authorization="AWS4-HMAC-SHA256 Credential=run0/20261125/us-east-1/s3/aws4_request"
        )
        assert (answer.status, body) == (200, b"".join(plain[0].pieces(0, 1000)))
        assert answer.headers["x-amz-server-side-encryption"] == "aws:kms"
        answer, body = get(plain[1])
        assert answer.status == status
        headers = {name.lower(): value for name, value in answer.headers.items()}
        said = translate(refusal_of(status, headers, body, operation="get", bucket="bucket", key="key"))
        assert isinstance(said, Throttled)
        assert said.service == "kms"
        answer, body = get(free[0], Range="bytes=10-19")
        assert (answer.status, body) == (206, b"".join(free[0].pieces(10, 20)))
        assert answer.headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
        connection.close()
    assert [(call.client, call.verdict) for call in origin.log] == [("run0", "g"), ("", "r"), ("", "f")]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_tables_are_what_the_runs_have_shown(path):
    document = json.loads(path.read_text())
    written = table(document["about"], document["runs"])
    assert path.with_suffix(".md").read_text() == written
    assert "ideal 0.0" not in written


def test_the_tables_say_who_was_measured_on_which_day_where_there_are_several() -> None:
    earlier = [{"peer": name, "date": "2026-11-25"} for name in ("s5cmd", "rclone", "s5cmd")]
    ours = {"peer": "sealift", "date": "2026-11-29"}
    assert measured_on([*earlier, ours]) == "Measured on 2026-11-25: s5cmd, rclone; on 2026-11-29: sealift."
    assert measured_on(earlier) == ""
