"""What a plan says of KMS: whom it looks at, and what follows from what it sees."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.kmscost import Foretold, Sample, Seen, predict, requests_for
from sealift.model import Encryption
from sealift.quota import Quota
from tests.support.keys import remote

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"
PLAIN = Encryption("aws:kms", ARN)
BUCKET_KEY = Encryption("aws:kms", ARN, bucket_key=True)
ENCRYPTIONS = [PLAIN, BUCKET_KEY, Encryption("AES256"), Encryption(), None]
SEEN = st.lists(st.builds(Seen, st.integers(1, 2000), st.sampled_from(ENCRYPTIONS)), max_size=100)


@pytest.mark.parametrize(
    ("encryption", "charged"),
    [
        (PLAIN, True),
        (BUCKET_KEY, False),
        (Encryption("aws:kms:dsse", ARN), True),
        (Encryption("aws:kms:dsse", ARN, bucket_key=True), True),
        (Encryption("AES256"), False),
        (Encryption("AES256", bucket_key=True), False),
        (Encryption(), False),
    ],
)
def test_kms_is_asked_for_what_it_sealed_unless_a_bucket_key_stands_in(encryption, charged):
    assert encryption.charged is charged


# ── The sample ──────────────────────────────────────────────────────────────────────────────────────


def sampled(gets, most=100, seed=1):
    sample = Sample(most, random.Random(seed).random)
    for number, each in enumerate(gets):
        sample.planned(remote(f"{number:06d}"), "", 4, each)
    return sample


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 20))
def test_a_sample_is_some_of_the_objects_that_take_gets_and_all_if_they_are_few(gets, most):
    sample = sampled(gets, most)
    needing = [each for each in gets if each]
    assert len(sample.chosen) == min(most, len(needing))
    assert sample.whole == (len(needing) <= most)
    assert sample.requests == sum(each + (each > 1) for each in gets)
    assert len({chosen.key for chosen, _ in sample.chosen}) == len(sample.chosen)
    assert all(each == gets[int(chosen.key)] + (each > 1) for chosen, each in sample.chosen)


@pytest.mark.parametrize(("size", "gets", "requests"), [(4, 1, 1), (4, 2, 3), (3, 1, 2), (2, 2, 3)])
def test_of_an_object_in_parts_or_half_there_kms_is_asked_once_more_for_its_checksum(size, gets, requests):
    assert requests_for(remote("k"), size, gets) == requests


def test_every_request_has_the_same_chance_to_be_for_a_chosen_object():
    """Half of the requests are for one in a hundred objects: half of the sample are such."""
    sample = sampled([98 if number % 100 == 0 else 1 for number in range(40_000)])
    large = sum(requests == 99 for _, requests in sample.chosen)
    assert 35 <= large <= 65


# ── The prediction ──────────────────────────────────────────────────────────────────────────────────


def test_all_objects_looked_at_make_it_exact():
    seen = [Seen(10, PLAIN), Seen(5, BUCKET_KEY), Seen(1, Encryption("AES256"))]
    kms = predict(16, seen, whole=True)
    assert (kms.requests, kms.basis, kms.sampled) == (10, "objects", 3)
    assert (kms.rate, kms.rate_source, kms.seconds) == (20_000, "region", 0.001)


def test_a_sample_speaks_for_the_others():
    kms = predict(1_000_000, [Seen(1, PLAIN), Seen(1, BUCKET_KEY), Seen(1, None)], whole=False)
    assert (kms.requests, kms.basis, kms.sampled) == (500_000, "sample", 2)


def test_what_could_not_be_looked_at_is_estimated_too():
    kms = predict(4, [Seen(1, PLAIN), Seen(3, None)], whole=True)
    assert (kms.requests, kms.basis, kms.sampled) == (4, "sample", 1)


def test_where_nothing_could_be_looked_at_every_get_counts():
    kms = predict(7, [Seen(3, None)], whole=False)
    assert (kms.requests, kms.basis, kms.sampled, kms.rate) == (7, "upper_bound", 0, 10_000)


def test_what_earlier_runs_tell_of_is_not_looked_at():
    sample = Sample()
    sample.earlier = lambda remote: 0.25 if remote.key < "2" else None
    for key in ("1a", "1b", "2"):
        sample.planned(remote(key), "", 4, 2)
    assert [(chosen.key, requests) for chosen, requests in sample.chosen] == [("2", 3)]
    assert (sample.requests, sample.foretold, sample.whole) == (3, Foretold(6, 1.5), True)


def test_what_earlier_runs_tell_is_told_of_as_such():
    kms = predict(0, [], whole=True, foretold=Foretold(400, 100.0), regions={"us-east-1", ""})
    assert (kms.requests, kms.basis, kms.sampled, kms.rate) == (100, "earlier_runs", 0, 100_000)


def test_what_earlier_runs_do_not_tell_is_looked_at_besides():
    kms = predict(10, [Seen(5, PLAIN)], whole=False, foretold=Foretold(400, 100.0), regions={"us-east-1"})
    assert (kms.requests, kms.basis, kms.sampled, kms.rate) == (110, "earlier_runs", 1, 20_000)
    kms = predict(10, [Seen(5, None)], whole=False, foretold=Foretold(400, 100.0))
    assert (kms.requests, kms.basis) == (110, "upper_bound")


def test_nothing_to_fetch_asks_nothing():
    assert (predict(0, [], whole=True).requests, predict(0, [], whole=True).basis) == (0, "objects")


def test_time_and_price_are_those_of_aws():
    kms = predict(1_204_331, [], whole=False, quota=Quota(10_000, "cap"))
    assert (kms.seconds, kms.rate_source) == (120.433, "cap")
    assert round(kms.usd, 2) == 3.61
    assert kms.requests_with_bucket_keys == 12_044


@given(SEEN, st.integers(0, 10**9), st.booleans())
def test_a_prediction_lies_between_what_was_seen_and_all_gets(seen, others, whole):
    others = 0 if whole else others
    gets = sum(each.requests for each in seen) + others
    kms = predict(gets, seen, whole=whole)
    sure = sum(each.requests for each in seen if each.encryption is not None and each.encryption.charged)
    free = sum(each.requests for each in seen if each.encryption is not None and not each.encryption.charged)
    assert sure <= kms.requests <= gets - free
    assert kms.requests_with_bucket_keys <= kms.requests
