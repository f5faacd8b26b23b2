"""What a file is to the object in whose place it is."""

from hypothesis import given
from hypothesis import strategies as st

from sealift.destination import File
from sealift.ledger import Record, Seal
from sealift.model import RemoteObject
from sealift.standing import Standing, Trust
from sealift.standing import standing as standing_by

NOON = 1_700_000_000_123_000_000
REMOTE = RemoteObject("bucket", "key", 5, '"e"', NOON)
RECORD = Record("key", Seal("bucket"), "key", 5, '"e"', None, None, 5, NOON)
FILE = File(5, NOON)
VERIFYING, READING = Trust(found=False), Trust(recorded=False, found=False)


def standing(file, record, remote, trust=Trust()):  # noqa: B008 (frozen)
    return standing_by(file, record, remote, trust)


def test_what_the_ledger_says_of_an_untouched_file_decides():
    assert standing(FILE, RECORD, REMOTE) is Standing.IN_PLACE
    assert standing(FILE, RECORD, REMOTE._replace(etag='"f"')) is Standing.OUTDATED
    assert standing(FILE, RECORD._replace(size=6), REMOTE) is Standing.OUTDATED


def test_a_file_need_not_have_the_objects_time_when_the_ledger_knows_it():
    another = NOON + 10**12
    record = RECORD._replace(mtime_ns=another)

    assert standing(File(5, another), record, REMOTE) is Standing.IN_PLACE


def test_versions_are_compared_where_both_are_known():
    first = RECORD._replace(version_id="1")

    assert standing(FILE, first, REMOTE) is Standing.IN_PLACE
    assert standing(FILE, first, REMOTE._replace(version_id="1")) is Standing.IN_PLACE
    assert standing(FILE, first, REMOTE._replace(version_id="2")) is Standing.OUTDATED
    assert standing(FILE, RECORD, REMOTE._replace(version_id="2")) is Standing.IN_PLACE


def test_a_bucket_may_be_mirrored_through_an_access_point_from_now_on():
    assert standing(FILE, RECORD, REMOTE._replace(bucket="arn:…:accesspoint/name")) is Standing.IN_PLACE


def test_a_file_that_the_ledger_does_not_know_is_known_by_size_and_time():
    assert standing(FILE, None, REMOTE) is Standing.ADOPTED
    assert standing(File(6, NOON), None, REMOTE) is Standing.OUTDATED
    assert standing(File(5, NOON + 10**9), None, REMOTE) is Standing.OUTDATED


def test_so_is_one_that_was_changed_since_it_was_recorded():
    older = RECORD._replace(etag='"d"', mtime_ns=NOON - 10**12)

    assert standing(FILE, older, REMOTE) is Standing.ADOPTED
    assert standing(File(5, NOON - 10**9), older, REMOTE) is Standing.OUTDATED


def test_where_its_time_is_not_to_be_trusted_what_is_as_long_as_the_object_has_to_be_read():
    assert standing(FILE, RECORD, REMOTE, VERIFYING) is Standing.IN_PLACE
    assert standing(FILE, RECORD, REMOTE, READING) is Standing.UNTOLD
    for trust in (VERIFYING, READING):
        assert standing(FILE, None, REMOTE, trust) is Standing.UNTOLD
        assert standing(File(5, 1), RECORD, REMOTE, trust) is Standing.UNTOLD
        assert standing(File(6, NOON), RECORD, REMOTE, trust) is Standing.OUTDATED
        assert standing(FILE, RECORD, REMOTE._replace(etag='"f"'), trust) is Standing.OUTDATED


SIZES, TIMES, ETAGS = st.integers(0, 2), st.sampled_from([NOON, NOON + 1000, NOON + 10**10]), st.sampled_from("de")


@given(SIZES, TIMES, SIZES, TIMES, ETAGS, SIZES, TIMES, ETAGS, st.booleans())
def test_nothing_is_in_place_that_differs_in_size_or_is_neither_recorded_nor_as_old(
    size, mtime, recorded_size, recorded_time, recorded_etag, listed_size, modified, etag, known
):
    file, remote = File(size, mtime), RemoteObject("b", "k", listed_size, etag, modified)
    record = Record("k", Seal("b"), "k", recorded_size, recorded_etag, None, None, recorded_size, recorded_time)

    found = standing(file, record if known else None, remote)

    if found is not Standing.OUTDATED:
        assert size == listed_size
    if found is Standing.IN_PLACE:
        assert known
        assert (recorded_etag, recorded_time) == (etag, mtime)
    if found is Standing.ADOPTED:
        assert modified == mtime
    if known and (size, mtime) == (recorded_size, recorded_time) and etag != recorded_etag:
        assert found is Standing.OUTDATED
