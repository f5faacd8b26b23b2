"""Which address comes next: all of them in turn, and those that failed not for a while."""

from hypothesis import given
from hypothesis import strategies as st

from sealift.s3.addresses import KNOWN_FOR, LEFT_ALONE_FOR, Addresses

HOSTS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True)
MOMENTS = st.floats(0, 1e6)


def known(addresses, now=0.0):
    found = Addresses()
    found.found(addresses, now)
    return found


def test_a_host_is_looked_up_before_its_first_use_and_again_after_a_while():
    addresses = Addresses()
    assert addresses.stale(0.0)
    assert addresses.choose(0.0) is None
    addresses.found(["a"], 100.0)
    assert not addresses.stale(100.0 + KNOWN_FOR - 0.001)
    assert addresses.stale(100.0 + KNOWN_FOR)


@given(HOSTS, st.integers(1, 4), MOMENTS)
def test_connections_are_spread_over_all_addresses_alike(hosts, rounds, now):
    addresses = known(hosts, now)
    for _ in range(rounds):
        assert {addresses.choose(now) for _ in hosts} == set(hosts)


@given(HOSTS, MOMENTS)
def test_no_address_is_tried_twice_for_one_connection(hosts, now):
    addresses = known(hosts, now)
    tried: list[str] = []
    while (address := addresses.choose(now, besides=tried)) is not None:
        tried.append(address)
    assert sorted(tried) == sorted(hosts)


@given(HOSTS, st.data(), st.floats(0, LEFT_ALONE_FOR - 0.001))
def test_an_address_that_failed_is_left_alone_while_there_is_another(hosts, data, later):
    bad = set(data.draw(st.lists(st.sampled_from(hosts), unique=True)))
    addresses = known(hosts)
    for address in bad:
        addresses.failed(address, 0.0)
    addresses.found(hosts, 0.0)
    chosen = {addresses.choose(later) for _ in range(2 * len(hosts))}
    assert chosen == (set(hosts) - bad or set(hosts))


@given(HOSTS, st.floats(0, 1000))
def test_after_a_while_it_is_used_again(hosts, extra):
    addresses = known(hosts)
    addresses.failed(hosts[0], 0.0)
    later = LEFT_ALONE_FOR + extra
    assert {addresses.choose(later) for _ in hosts} == set(hosts)


def test_a_failure_makes_the_host_be_looked_up_again():
    addresses = known(["a", "b"])
    addresses.failed("a", 1.0)
    assert addresses.stale(1.0)


def test_a_look_up_forgets_what_it_did_not_find_and_remembers_what_failed():
    addresses = known(["a", "b"])
    addresses.failed("b", 0.0)
    addresses.found(["b", "c", "c"], 1.0)
    assert [addresses.choose(1.0) for _ in range(2)] == ["c", "c"]
    addresses.found(["b"], 2.0)
    assert addresses.choose(2.0) == "b", "there is no other"


def test_an_address_that_is_new_is_used_next():
    addresses = known(["a", "b"])
    for _ in range(10):
        addresses.choose(0.0)
    addresses.found(["a", "b", "c"], 5.0)
    assert addresses.choose(5.0) == "c"


def test_a_look_up_that_fails_leaves_what_is_known_for_as_long_as_one_that_does_not():
    addresses = Addresses()
    assert not addresses.keep(0.0)
    addresses.found(["192.0.2.1"], 0.0)
    addresses.failed("192.0.2.1", 1.0)
    assert addresses.stale(1.0)
    assert addresses.keep(1.0)
    assert not addresses.stale(1.0 + KNOWN_FOR - 0.1)
    assert addresses.stale(1.0 + KNOWN_FOR)
    assert addresses.choose(2.0) == "192.0.2.1"
