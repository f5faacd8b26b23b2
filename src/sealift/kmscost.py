"""What a run would ask of KMS, what that costs and how long it takes: pure.

Without a Bucket Key, S3 asks KMS for a Decrypt whenever an object that is encrypted with SSE-KMS is requested (S3 User
Guide, "Reducing the cost of SSE-KMS with Amazon S3 Bucket Keys"): once for each GET, and once for the HEAD that tells
the checksum of an object that is fetched in parts. Listings do not say how objects are encrypted, other HEADs do, and
ask nothing of KMS. What earlier runs have fetched from the same place tells how most of it is encrypted; else some
objects are looked at, chosen in such a way that each request has the same chance to be for one of them, whatever the
sizes; what they say is taken for all.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Sequence
from heapq import heappush, heapreplace
from typing import NamedTuple

from sealift.arn import region_of
from sealift.model import Basis, Encryption, KmsForecast, RemoteObject
from sealift.quota import Quota, default_quota
from sealift.tally import Unobserved

SAMPLE = 100
"""Objects that are looked at: of a share, that tells within ten points (two standard deviations, at the worst)."""

ENOUGH = SAMPLE
"""Requests of earlier runs that tell as much as a sample does; fewer objects than that are looked at all."""

USD_A_REQUEST = 0.03 / 10_000
"""AWS KMS pricing. 20,000 a month are free, for all that the account does; they are not taken off."""

BUCKET_KEY_SHARE = 0.01
"""What is left of the requests with Bucket Keys, which save up to 99 % of them (S3 User Guide, as above)."""


class Seen(NamedTuple):
    """An object that was looked at, or was to be."""

    requests: int
    """For which KMS is asked if it is encrypted with SSE-KMS."""
    encryption: Encryption | None
    """None where it could not be found out."""


class Foretold(NamedTuple):
    """What earlier runs tell of a plan."""

    requests: int = 0
    """For objects of which they do."""
    charged: float = 0.0
    """For how many of those KMS will be asked."""


NOTHING = Foretold()


def _unknown(_: RemoteObject) -> None:
    """Know of no earlier run."""


def requests_for(remote: RemoteObject, size: int, gets: int) -> int:
    """Return how often KMS is asked for an object of which `size` bytes are fetched in `gets` GETs."""
    whole = gets == 1 and size == remote.size
    return gets if whole else gets + 1


class Sample(Unobserved):
    """Chooses objects of a plan by chance, one of twice as many requests twice as probably; all if they are few.

    Weighted reservoir sampling (Efraimidis and Spirakis, 2006): those stay whose random number, to the power of one by
    their weight, is greatest.
    """

    def __init__(self, most: int = SAMPLE, chance: Callable[[], float] = random.random) -> None:
        self.requests = 0
        """Of all objects of which earlier runs do not tell, if all are encrypted with SSE-KMS."""
        self.foretold = NOTHING
        """… and of the others."""
        self.earlier: Callable[[RemoteObject], float | None] = _unknown
        """Says for which share of the requests KMS was asked where an object lies, as far as earlier runs tell."""
        self._most = most
        self._chance = chance
        self._objects = 0
        self._chosen: list[tuple[float, int, RemoteObject, int]] = []

    @property
    def chosen(self) -> list[tuple[RemoteObject, int]]:
        """The chosen objects, and the requests that each takes."""
        return [(remote, requests) for _, _, remote, requests in self._chosen]

    @property
    def whole(self) -> bool:
        """Whether there are no others."""
        return self._objects == len(self._chosen)

    def planned(self, remote: RemoteObject, path: str, size: int, gets: int) -> None:
        """See `Observer.planned`."""
        del path
        if not gets:
            return
        requests = requests_for(remote, size, gets)
        share = self.earlier(remote)
        if share is not None:
            all_of_them, charged = self.foretold
            self.foretold = Foretold(all_of_them + requests, charged + share * requests)
            return
        self.requests += requests
        self._objects += 1
        mark = self._chance() ** (1 / requests)
        if len(self._chosen) < self._most:
            heappush(self._chosen, (mark, self._objects, remote, requests))
        elif mark > self._chosen[0][0]:
            heapreplace(self._chosen, (mark, self._objects, remote, requests))


def predict(
    requests: int,
    seen: Sequence[Seen],
    *,
    whole: bool,
    quota: Quota | None = None,
    foretold: Foretold = NOTHING,
    regions: Collection[str] = (),
) -> KmsForecast:
    """Return which of so many requests would ask KMS. Of their objects some were `seen`: the `whole`, if no others.

    Those are besides what was `foretold`. Without a `quota`, that of the keys' Regions is taken, or of these `regions`
    if nobody names a key.
    """
    known = [(each.requests, each.encryption) for each in seen if each.encryption is not None]
    if quota is None:
        named = {region for _, encryption in known if (region := region_of(encryption.kms_key_id))}
        quota = default_quota(named or {region for region in regions if region})
    earlier = round(foretold.charged)
    if requests and not known:
        return _priced(requests + earlier, quota, KmsForecast(basis="upper_bound"))
    charged = sum(each for each, encryption in known if encryption.charged)
    rest = requests - sum(each for each, _ in known)
    share = sum(encryption.charged for _, encryption in known) / len(known) if known else 0.0
    exact = whole and len(known) == len(seen)
    basis: Basis = "earlier_runs" if foretold.requests else "objects" if exact else "sample"
    sofar = KmsForecast(basis=basis, sampled=len(known))
    return _priced(earlier + charged + (0 if exact else round(rest * share)), quota, sofar)


def _priced(requests: int, quota: Quota, sofar: KmsForecast) -> KmsForecast:
    return KmsForecast(
        requests=requests,
        basis=sofar.basis,
        sampled=sofar.sampled,
        rate=quota.rate,
        rate_source=quota.source,
        seconds=round(requests / quota.rate, 3),
        usd=round(requests * USD_A_REQUEST, 6),
        requests_with_bucket_keys=math.ceil(requests * BUCKET_KEY_SHARE),
    )
