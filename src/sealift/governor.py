"""How many KMS-charged requests may be sent a second: a pure controller, with time passed in.

KMS allows an account so many requests a second, shared with whatever else the account runs, and tells nobody how many
are left: it refuses. `Governor` finds out. Seconds are of one clock that never goes back.

1. Nothing is held back until the first refusal, but for the cap that the user set.
2. A refusal is an event when its request was sent after the last one: then the pace is set a little below the success
   rate that was measured. What was sent before belongs to the last event, and says nothing new.
3. Brake: the pace is halved with every further refusal, down to a few probes a second, until what is sent is granted
   again. So a second whose quota is used up costs some refusals, not a quota's worth.
4. Search, once, after the first event: the pace doubles until the next. What was granted before the first refusal may
   have been a small burst, which says little of the rate.
5. Growth, ever after: creeping at first, then steeply, along a sixth power. A quota that stayed is met gently, within
   a few percent; one that has doubled is found within seconds, and sooner where so much was allowed before.

Whoever has less grows faster, and whoever sends more is refused more often: so runs that share a quota come to share it
evenly, without knowing of each other. docs/design.md has the simulation that chose the rule and its numbers.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque

JITTER = 0.01
"""Seconds by which the network may push requests together: what is to hold in any second for the server is kept for
any second and a hundredth here, so a cap is used to 99 %."""
LEAST_WAIT = 1e-4
"""Seconds after which it is asked again at the earliest: rounding may make it seem that there is room already."""
CATCH_UP = 0.1
"""Seconds of permits that may be made up for at once: event loops wake up late, on a busy machine by a tenth of a
second, and what the pace allowed meanwhile would be lost. A bucket that holds no more has gathered as much."""
WINDOW = 1.0
"""Seconds: KMS's quotas are per second, so no less tells a rate."""
BIN = 0.05
"""Seconds that are counted together: a twentieth of a window."""
SPAN = 4.0
"""Seconds over which successes are counted at the most."""
ENOUGH = 100
"""Successes that tell a rate to the percent; with fewer a second the counting goes back further, as far as SPAN."""
BACKOFF = 0.03
"""What an event takes off. From 0.015 to 0.03 small paces are refused less, and little else changes; with more, what
begins anew each second is used less."""
CREEP = 0.003
"""Growth a second at first, as a share: as much as BACKOFF in 10 s."""
PATIENCE = 3.3
"""Seconds after an event in which the pace doubles if nothing is refused, where it is SLOW or less. A quota that has
doubled is followed in about as much, and one that stays is met in half of it."""
SLOW = 60.0
"""Requests a second from which patience grows with the pace, as its cube root, so that the smaller of two runs under a
quota overtakes. Without that, two runs at one-second windows stayed as unequal as they began."""
MOST_PATIENCE = 3.0
"""How much longer patience becomes by that: a single run at 10,000/s has to notice a change, too."""
COST = 32.0
"""How much an event's refusals lengthen patience: by so many times the seconds of the pace that they would have been.
The dearer an event, the rarer: it is what keeps small paces, long ways and late refusals within bounds."""
MOST_COST = 4.0
"""How much longer patience becomes by that."""
FLOOD = 0.2
"""Seconds after the first refusal for which others say little: 96 GETs on new connections are answered within 0.1 s on
two busy cores, and meanwhile leave no token for a probe."""
FIRST_BRAKE = 0.25
"""What the first refusal leaves of the pace: it comes with a crowd of others."""
SEARCH = 0.15
"""Seconds in which a search doubles the pace: from a tenth of the quota within half a second."""
TRIPS = 6.0
"""Round trips that doubling takes at least: refusals are heard a trip late, after 12 % of growth."""
SOON = 0.02
"""Seconds, or four times what a refusal takes, within which a further event is the same one and only brakes again: what
was granted since was sent before, or while the pace was braked."""
LEAST_LEFT = 0.9
"""What an event within a second of the last leaves of the pace, at the least: little time tells little, and a server
that stood still for a moment refuses what it finds then."""
HOPE = 0.4
"""How much shorter patience becomes at the most where more was allowed lately: what another tenant has taken it gives
back. From half of what was, all of it is found in 3 s instead of 6."""
DROP = 1.2
"""By what factor more must have been allowed, for that: successes vary by a tenth by themselves."""
MEMORY = 60.0
"""Seconds in which the memory of what was allowed fades by half."""
LOW = 16.0
"""Requests a second below which patience shrinks with the pace, to a fifth: no quota is so small, so it is a bad start
beside somebody who was quicker. 512 runs at 10,000/s have more."""
LEAST_PATIENCE = 0.2
"""What is left of patience by that, at the least."""
PROBES = 10.0
"""Probes a second while everything is refused, at the most: a tenth of a second is lost where a one-second window ends,
and ten requests are refused in one."""
PROBING = 0.15
"""The share of the pace that is probed with where that is less, but for LEAST."""
LEAST = 4.0
"""Requests a second that are always tried: less finds out nothing within a second."""
MOST = 1e6
"""Requests a second beyond which nothing is searched for: ten times the largest quota of any Region."""
TOLD = 1.1
"""By what factor a growing pace must have changed to be told."""

_BINS = int(SPAN / BIN)
_NEVER = float("-inf")


class Cap:
    """Never more than `rate` in any second, whichever paces share it. ValueError unless that is above zero.

    What is `held` has leave to go and has not gone yet, as its connection is still to come: it takes room as if it went
    just now, for as long as that lasts. So nothing that goes late meets a second that is full without it.
    """

    __slots__ = ("_each", "_held", "_log", "_most", "fastest", "rate", "users")

    def __init__(self, rate: float) -> None:
        self._log: deque[float] = deque()
        self._held = 0
        self.users: list[Permits] = []
        """Who keeps to it."""
        self.change(rate)

    def change(self, rate: float) -> None:
        """Be another cap from now on. What went within the last second counts against it. ValueError as above."""
        if rate <= 0:
            msg = "cap must be above zero"
            raise ValueError(msg)
        self.rate = rate
        self._most = max(1, int(rate))
        self._each = (WINDOW if rate >= 1 else 1 / rate) + JITTER
        self.fastest = self._most / self._each
        """The even pace that just keeps to it."""
        for permits in self.users:
            permits.look()

    def room(self, now: float) -> int:
        """Return how many may go at time `now`."""
        log, begin = self._log, now - self._each
        while log and log[0] <= begin:
            log.popleft()
        return max(0, self._most - len(log) - self._held)  # they may have gone under a higher one

    def note(self, now: float, count: int, *, held: bool = False) -> None:
        """Take down that so many go, now or, while they are `held`, later."""
        if held:
            self._held += count
        else:
            self._log.extend([now] * count)

    def sent(self, now: float, before: float | None) -> None:
        """Hear that one that was held goes now; or one that went at `before`, and had been for nothing."""
        if before is None:
            self._held -= 1
        else:
            self.give_back(before)
        self._log.append(now)

    def unsent(self) -> None:
        """Hear that one that was held never goes."""
        self._held -= 1

    def wait(self, now: float) -> float:
        """Return the seconds until one may go, if no other does before."""
        left = self._most - self._held
        if left < 1:  # even if one of those goes at once
            return self._each
        return 0.0 if len(self._log) < left else max(0.0, self._log[-left] + self._each - now)

    def give_back(self, sent: float) -> None:
        """Hear that one was not needed that went by `sent`."""
        # Were it always the oldest, those that were not needed would take room from the others, of which the log had
        # only the latest.
        log = self._log
        place = bisect_right(log, sent) - 1
        if place >= 0:
            del log[place]


class Permits:
    """Evenly spaced permits that keep to all of some caps."""

    __slots__ = ("_at", "_caps", "_fastest", "_level", "cap", "lost")

    def __init__(self, *caps: Cap) -> None:
        self._caps = caps
        for cap in caps:
            cap.users.append(self)
        self.look()
        self._level = 1.0
        self._at = _NEVER
        self.lost = False
        """Whether permits had lapsed before the last taking, as nobody took them."""

    def look(self) -> None:
        """Hear that a cap has changed."""
        self._fastest = min((cap.fastest for cap in self._caps), default=math.inf)
        self.cap = min((cap.rate for cap in self._caps), default=None)
        """The lowest cap, in requests a second; None where there is none."""

    def take(self, now: float, most: int, rate: float, *, held: bool = False) -> int:
        """Return how many of `most` requests may go at time `now`, `rate` a second; see `Cap` for those `held`."""
        self._level = self._due(now, rate)
        self.lost = self._level >= _full(rate)
        self._at = max(self._at, now)
        count = min(most, int(self._level + 1e-9))
        for cap in self._caps:
            count = min(count, cap.room(now))
        for cap in self._caps:
            cap.note(now, count, held=held)
        self._level -= count
        return count

    def wait(self, now: float, rate: float) -> float:
        """Return the seconds until one may go."""
        wait = max(0.0, (1 - 1e-9 - self._due(now, rate)) / min(rate, self._fastest))
        return max(wait, *(cap.wait(now) for cap in self._caps)) if self._caps else wait

    def lapse(self, now: float) -> None:
        """Forget what was kept for whoever comes late: it would go out at once."""
        self._level, self._at = min(1.0, self._level), max(self._at, now)

    def reserve(self, now: float, *, held: bool = False) -> float:
        """Count one against the caps alone and return 0.0, or return the seconds until there is room for it."""
        for cap in self._caps:
            if cap.room(now) < 1:
                return max(LEAST_WAIT, cap.wait(now))
        for cap in self._caps:
            cap.note(now, 1, held=held)
        return 0.0

    def sent(self, now: float, before: float | None) -> None:
        """See `Cap.sent`."""
        for cap in self._caps:
            cap.sent(now, before)

    def unsent(self, rate: float) -> None:
        """Take back one that is held. It is kept for whoever comes late: connections fail by the dozen."""
        self._level = min(self._level + 1, max(self._level, _full(rate)))
        self.unreserve()

    def unreserve(self) -> None:
        """Take back one that is reserved and held."""
        for cap in self._caps:
            cap.unsent()

    def give_back(self, sent: float) -> None:
        """Take back one that was taken by `sent`."""
        self._level += 1
        self.free(sent)

    def free(self, sent: float) -> None:
        """Take back one that was reserved by `sent`."""
        for cap in self._caps:
            cap.give_back(sent)

    def _due(self, now: float, rate: float) -> float:
        if self._at == _NEVER:
            return self._level
        grown = self._level + max(0.0, now - self._at) * min(rate, self._fastest)
        return min(max(_full(rate), self._level), grown)


def _full(rate: float) -> float:
    """Return how many permits are kept for whoever comes late."""
    return 1.0 + max(1.0, rate * CATCH_UP)


class Meter:
    """Counts what happened within the last seconds, in bins."""

    __slots__ = ("_bin", "_counts")

    def __init__(self) -> None:
        self._counts = [0] * _BINS
        self._bin = 0

    def add(self, now: float, count: int = 1) -> None:
        """Count so many."""
        there = int(now / BIN)
        if there > self._bin:
            self._turn(there)
        self._counts[self._bin % _BINS] += count

    def rate(self, now: float, seconds: float = WINDOW) -> float:
        """Return how many there were a second, of the last `seconds` (at most SPAN)."""
        self._turn(int(now / BIN))
        bins = max(1, min(_BINS, int(seconds / BIN)))
        return sum(self._counts[(self._bin - back) % _BINS] for back in range(bins)) / (bins * BIN)

    def _turn(self, there: int) -> None:
        for passed in range(max(self._bin + 1, there - _BINS + 1), there + 1):
            self._counts[passed % _BINS] = 0
        self._bin = max(self._bin, there)


class Governor:
    """The pace of one KMS quota: requests a second, and never more than `cap` in any second."""

    __slots__ = (
        "_allowed", "_answered", "_best", "_brake", "_braking", "_delay", "_event", "_first", "_granted",
        "_grown", "_judged", "_meter", "_pace", "_permits", "_refused", "_searching", "_seen", "_told", "changes",
    )  # fmt: skip

    def __init__(self, cap: float | None = None, *, common: Cap | None = None) -> None:
        """`cap` is in requests a second, refused ones included; ValueError unless it is above zero.

        `common` is one that is shared with other paces.
        """
        caps = [*([] if cap is None else [Cap(cap)]), *([] if common is None else [common])]
        self._permits = Permits(*caps)
        self._meter = Meter()
        self._allowed = 0.0
        self._pace: float | None = None
        self._brake = 1.0
        self._braking = 0  # refusals since the brake was put on
        self._searching = True
        self._judged = _NEVER  # what was sent until then says nothing new
        self._event = self._first = _NEVER
        self._best = LEAST  # the most that was allowed of late, as of `_seen`
        self._seen = _NEVER
        self._granted = 0  # successes since the last event
        self._refused = 0  # refusals of the last event
        self._grown = 0.0  # seconds of growth that were used
        self._answered = self._delay = 0.0  # seconds that a grant and a refusal take
        self._told = 0.0
        self.changes = 0
        """Grows whenever the pace was cut or freed, and whenever it has grown by a tenth since."""

    @property
    def rate(self) -> float | None:
        """Permits a second as of the last call; None is unlimited."""
        pace, cap = self._pace, self._permits.cap
        if pace is None:
            return cap
        if self._brake < 1.0:
            pace = max(pace * self._brake, min(pace, PROBES, max(LEAST, pace * PROBING)))
        return pace if cap is None else min(pace, cap)

    @property
    def quota(self) -> float | None:
        """Requests a second that were granted when some were refused last; None while none were."""
        return None if self._pace is None else self._allowed

    def take(self, now: float, most: int, *, held: bool = False) -> int:
        """Return how many of `most` requests may be sent now. They count as sent, or as `held` until they are `sent`.

        Who holds permits says of each what becomes of it: `sent` or `unsent`.
        """
        rate = self.rate
        if rate is None:
            return most
        count = self._permits.take(now, most, rate, held=held)
        if self._pace is not None and count and self._brake == 1.0 and not self._permits.lost and self._pace <= rate:
            self._grow(count / rate)
        return count

    def wait(self, now: float) -> float:
        """Return the seconds until `take` gives at least one."""
        rate = self.rate
        return 0.0 if rate is None else self._permits.wait(now, rate)

    def give_back(self, sent: float) -> None:
        """Take back the permit, taken by `sent`, of a request that KMS was not asked for."""
        if self.rate is not None:
            self._permits.give_back(sent)

    @property
    def capped(self) -> bool:
        """Whether there is a cap, whatever is granted."""
        return self._permits.cap is not None

    def sent(self, now: float, before: float | None = None) -> None:
        """Hear that a request goes out now whose permit was held, or was used at `before` for nothing."""
        self._permits.sent(now, before)

    def unsent(self, *, reserved: bool = False) -> None:
        """Take back a permit that is held, or `reserved` and held, as its request never went out."""
        rate = self.rate
        if reserved:
            self._permits.unreserve()
        elif rate is not None:
            self._permits.unsent(rate)

    def reserve(self, now: float, *, held: bool = False) -> float:
        """Count a request against the caps that most likely needs no permit: return 0.0, or the seconds to wait."""
        return self._permits.reserve(now, held=held)

    def free(self, sent: float) -> None:
        """Hear that a request that was reserved for by `sent` needed no permit."""
        self._permits.free(sent)

    def begin(self, now: float, granted: int) -> None:
        """Hear that so many requests were granted within the last second: for a pace that was not asked before."""
        self._meter.add(now, granted)

    def succeeded(self, now: float, sent: float) -> None:
        """Hear that a charged request, sent at `sent`, was granted; best as soon as the answer begins."""
        self._meter.add(now)
        self._granted += 1
        self._answered += (now - sent - self._answered) / 8
        if self._brake < 1.0:
            if self._searching:  # answers to what was sent before the first refusal still come
                self._settle(max(self._allowed, self._meter.rate(now)))
            if sent > self._judged:
                self._brake = 1.0
                self._judged = now
                self.changes += 1

    def refused(self, now: float, sent: float) -> None:
        """Hear that a charged request, sent at `sent`, was refused by KMS."""
        self._refused += 1
        self._delay += (now - sent - self._delay) / 8
        if sent <= self._judged:
            return
        self._judged = now
        self.changes += 1
        if self._brake == 1.0:
            self._braking = 0
            self._brake = 0.5
            self._permits.lapse(now)
            if not self._searching and now - self._event < max(SOON, 4 * self._delay):
                return
            if self._pace is None:
                self._brake = FIRST_BRAKE
                seconds = min(SPAN, WINDOW + now - sent)
                self._settle(max(self._meter.rate(now), self._meter.rate(now, seconds)))  # it may have just begun
                self._first = now
            else:
                found = self._measured(now, self._pace)
                if not self._searching and now - self._event >= WINDOW:
                    self._best = max(found, self._best * math.pow(2, (self._seen - now) / MEMORY))
                    self._seen = now
                self._settle(found)
                self._searching = self._searching and self._flooded(now)
            self._event = now
            self._granted = 0
            self._refused = 1
            return
        self._brake /= 2
        self._braking += 1
        if self._braking >= 2 and now - self._event < WINDOW and not self._flooded(now):
            # No bucket refuses two probes: it is a second's quota that is used up, and that second tells the rate.
            self._settle(min(self._allowed, self._meter.rate(now) + 1))
            self._searching = self._searching and self._allowed < LOW

    def _flooded(self, now: float) -> bool:
        """Whether what was sent before the first refusal may still be on its way: that, too, empties a bucket."""
        return now - self._first < max(FLOOD, 2 * self._delay)

    def _measured(self, now: float, pace: float) -> float:
        """Return what the success rate of late says of the quota; the pace itself, if it says nothing against it."""
        if self._searching:  # the counting lags behind the doubling
            return min(pace, math.sqrt(pace * self._meter.rate(now)))
        if now - self._event < WINDOW:
            return min(pace, max(LEAST_LEFT * pace, (self._granted + 1) / (now - self._event)))
        seconds = min(SPAN, now - self._event, max(WINDOW, ENOUGH / pace))
        return min(pace, self._meter.rate(now, seconds) + 1 / seconds)

    def _settle(self, allowed: float) -> None:
        self._allowed = max(LEAST, allowed)
        self._grown = 0.0
        self._pace = self._told = self._curve()

    def _grow(self, seconds: float) -> None:
        self._grown += seconds
        self._pace = self._curve()
        if self._pace >= TOLD * self._told:
            self._told = self._pace
            self.changes += 1

    def _curve(self) -> float:
        allowed, seconds = self._allowed, self._grown
        if self._searching:
            doubled = seconds / max(SEARCH, TRIPS * max(self._answered, self._delay))
            return min(MOST, allowed * (1 - BACKOFF) * math.pow(2, min(doubled, 60.0)))
        return min(MOST, allowed * (1 - BACKOFF + CREEP * seconds + (seconds / self._patience(allowed)) ** 6))

    def _patience(self, allowed: float) -> float:
        patience = PATIENCE * min(MOST_COST, 1 + COST * self._refused / allowed)
        if allowed < LOW:
            return patience * max(LEAST_PATIENCE, allowed / LOW)
        if allowed > SLOW:
            patience *= min(MOST_PATIENCE, math.cbrt(allowed / SLOW))
            patience *= max(HOPE, min(1.0, DROP * allowed / self._best) ** 2)
        return patience
