"""Which of an endpoint's addresses a new connection goes to. Pure: times are passed in.

S3 answers each DNS query with some of its many addresses, and recommends to use all of them and to ask again
("Performance guidelines for Amazon S3": "Use multiple connections", "retry slow requests on new connections with
fresh DNS"). An address that failed is left alone for a while, unless there is no other.
"""

from __future__ import annotations

from collections.abc import Iterable

KNOWN_FOR = 5.0
"""Seconds for which the addresses of one look-up are used: the time to live of S3's own records."""

LEFT_ALONE_FOR = 30.0
"""Seconds for which an address that failed gets no new connection: longer than a retry's longest delay."""


class Addresses:
    """The addresses of one host, and what became of connections to them. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._known: list[str] = []
        self._asked: float | None = None
        self._used: dict[str, int] = {}
        self._failed: dict[str, float] = {}
        self._uses = 0

    def stale(self, now: float) -> bool:
        """Whether the host should be looked up (again)."""
        return self._asked is None or now - self._asked >= KNOWN_FOR

    def found(self, addresses: Iterable[str], now: float) -> None:
        """Take the answer of a look-up. Earlier addresses are forgotten."""
        self._known = list(dict.fromkeys(addresses))
        self._asked = now
        self._used = {address: self._used.get(address, 0) for address in self._known}
        self._failed = {address: at for address, at in self._failed.items() if now - at < LEFT_ALONE_FOR}

    def keep(self, now: float) -> bool:
        """Go on with the last answer, as a look-up has failed; say whether there was any."""
        if self._known:
            self._asked = now
        return bool(self._known)

    def failed(self, address: str, now: float) -> None:
        """Note that no connection to `address` came about, or that nobody answers there."""
        self._failed[address] = now
        self._asked = None

    def choose(self, now: float, *, besides: Iterable[str] = ()) -> str | None:
        """Return the address for the next connection: the one not used for longest among the good ones.

        None when there is none `besides` those.
        """
        tried = set(besides)
        candidates = [address for address in self._known if address not in tried]
        if not candidates:
            return None
        good = [address for address in candidates if not self._left_alone(address, now)]
        chosen = min(good or candidates, key=lambda address: self._used[address])
        self._uses += 1
        self._used[chosen] = self._uses
        return chosen

    def _left_alone(self, address: str, now: float) -> bool:
        failed = self._failed.get(address)
        return failed is not None and now - failed < LEFT_ALONE_FOR
