"""Which stretch has which keys, and where one is split."""

from hypothesis import assume, given
from hypothesis import strategies as st

from sealift.splitting import LANDMARKS, WORTH_REMEMBERING, KeySpace, Landmarks, middle

KEYS = [f"k{number:04d}" for number in range(5000)]


def begun(upto=1000):
    """A listing of which the first page came, and the first guess, which is not answered yet."""
    space = KeySpace()
    assert space.take(space.first, KEYS[:upto], more=True) == upto
    space.hint(["k3000"])
    guess = space.split()
    assert guess.start_after == "k3000"
    return space, guess


def test_a_guess_is_accepted_with_its_first_page():
    space, guess = begun()
    assert space.take(guess, KEYS[3001:4001], more=True) == 1000
    assert guess.begun
    assert not guess.ended


def test_a_stretch_ends_where_it_meets_another():
    space, guess = begun()
    space.take(guess, KEYS[3001:4001], more=True)
    assert space.take(space.first, KEYS[1000:2000], more=True) == 1000
    first = space.first
    assert space.take(first, KEYS[2900:3900], more=True) == 101
    assert first.ended
    assert space.first is guess, "what was listed in front of it is its own now"


def test_a_guess_that_was_overtaken_is_given_up():
    space, guess = begun()
    assert space.take(space.first, KEYS[1000:3500], more=True) == 2500
    assert space.take(guess, KEYS[3001:4001], more=True) == 0
    assert guess.ended


def test_a_guess_that_finds_only_what_the_next_one_has_is_given_up():
    space, guess = begun()
    space.hint(["k2000"])
    between = space.split()
    assert between.start_after == "k2000"
    space.take(guess, KEYS[3001:4001], more=True)
    assert space.take(between, KEYS[4001:5000], more=False) == 0
    assert between.ended


def test_after_a_page_out_of_order_nothing_is_split_and_no_guess_is_accepted():
    space, guess = begun()
    assert space.take(space.first, KEYS[2000:1000:-1], more=True) == 1000
    assert not space.ordered
    assert space.take(guess, KEYS[3001:4001], more=True) == 0
    assert space.split() is None


def test_who_gets_past_the_next_beginning_asks_whether_it_is_there_still():
    space, guess = begun()
    space.take(guess, KEYS[3001:3101], more=True)
    past = [*KEYS[2500:3001], *KEYS[3101:3200]]
    assert space.doubt(space.first, past) == "k3001"
    space.settle("k3001", exists=False)
    assert space.doubt(space.first, past) is None
    assert space.take(space.first, past, more=True) == 501

    space, guess = begun()
    space.take(guess, KEYS[3001:3101], more=True)
    space.settle("k3001", exists=True)
    assert not space.ordered
    assert space.take(space.first, past, more=True) == len(past)


def test_what_is_nearly_over_is_not_split():
    space = KeySpace()
    space.take(space.first, KEYS[:10], more=False)
    assert space.split() is None


ALPHABET = "".join(sorted("-./0123456789abcdefghij"))
TEXTS = st.text(ALPHABET, max_size=12)


@given(TEXTS, st.none() | st.text(max_size=12))
def test_the_middle_lies_strictly_between(low, high):
    assume(high is None or low < high)
    between = middle(low, high, ALPHABET)
    if between is not None:
        assert low < between
        assert high is None or between < high


def test_the_middle_is_about_half_way():
    assert middle("part-0000", "part-9999", "-0123456789prt") == "part-4"
    assert middle("a", None, "abcdefghijklmnopqrstuvwxyz") == "m"
    assert middle("a", "a\0", "abc") is None


@given(pages=st.integers(WORTH_REMEMBERING, 20 * LANDMARKS), chance=st.randoms(use_true_random=True))
def test_landmarks_are_spread_evenly_whatever_order_the_pages_come_in(pages, chance):
    numbers = list(range(pages))
    chance.shuffle(numbers)
    passed = Landmarks()
    for number in numbers:
        passed.pass_by(f"{number:06d}")
    found = [int(key) for key in passed.chosen()]
    assert found == sorted(set(found))
    assert min(pages, LANDMARKS) / 4 <= len(found) <= LANDMARKS
    half = sum(number < pages / 2 for number in found)
    assert pages < 64 or 0.25 <= half / len(found) <= 0.75


def test_a_short_listing_has_no_landmarks():
    passed = Landmarks()
    for number in range(WORTH_REMEMBERING - 1):
        passed.pass_by(f"{number}")
    assert passed.chosen() == []


def test_a_key_that_no_request_can_spell_is_no_landmark():
    passed = Landmarks()
    for key in ("a", "\udcff", "b", "c"):
        passed.pass_by(key)
    assert passed.chosen() == ["a", "b", "c"]
