"""Know which upstreams are well: breakers with half-open tries, ejection of those that fail more than others.

Comes in: how each attempt went, and the time. Goes out: the upstream that an attempt should take, and the share of a
pool's upstreams that are up. A client's own mistake says nothing about an upstream. An upstream that says it is busy is
left alone for as long as it says, and no longer; one that fails is left alone for twice as long each time, and then
tried with one request. Nothing here reads a clock or draws at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

from offtake.route.config import Breaker
from offtake.route.seams import NOTHING, Dialect, Failure, Upstream
from offtake.units import NS_PER_S

OPEN_MAX_NS = 30 * NS_PER_S  #: longest that an upstream is left alone between two tries (assumption)
DOUBLINGS_MAX = 16  #: so that a number stays a number
SMOOTHING = 0.05  #: weight of one attempt in an upstream's share of failures (assumption)
EJECT_SHARE = 0.5  #: of failed attempts, above which one among several is left alone (assumption)
BOUND = 1.25  #: times the mean load, beyond which a session's own upstream is passed over (Mirrokni et al., 2018)
LEARNED = (
    "failed_share",
    "failures",
    "in_flight",
    "open_until_ns",
    "opened",
    "trying",
    "unwell",
)  #: of an upstream, kept
BUSY_NS = NS_PER_S  #: how long an upstream that says it is busy, but not for how long, is left alone (assumption)


class Patient:
    """Hold what is known of one upstream."""

    __slots__ = (
        "failed_share",
        "failures",
        "in_flight",
        "open_until_ns",
        "opened",
        "seed",
        "trying",
        "unwell",
        "upstream",
    )

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.in_flight = 0
        self.failures = 0  #: in a row
        self.opened = 0  #: times in a row that it was left alone
        self.open_until_ns = NOTHING  #: left alone until then
        self.trying = False  #: a single request is on its way to see whether it is well again
        self.unwell = False  #: its health path says so
        self.failed_share = 0.0
        self.seed = blake2b(upstream.name.encode(), digest_size=8).digest()

    def well(self, now_ns: int) -> bool:
        """Tell whether it may be sent a request now."""
        if self.unwell:
            return False
        return self.open_until_ns == NOTHING or (now_ns >= self.open_until_ns and not self.trying)


class Health:
    """Hold the upstreams of every pool, and choose among those of one."""

    def __init__(self, upstreams: Iterable[Upstream], rules: Breaker) -> None:
        self.rules = rules
        self.by_name = {upstream.name: Patient(upstream) for upstream in upstreams}
        self.of_pool: dict[int, list[Patient]] = {}
        for patient in self.by_name.values():
            self.of_pool.setdefault(patient.upstream.pool, []).append(patient)

    def take_over(self, old: Health) -> None:
        """Go on from what is known of the upstreams that stay, by their names."""
        for name, patient in self.by_name.items():
            before = old.by_name.get(name)
            if before is not None:
                for slot in LEARNED:
                    setattr(patient, slot, getattr(before, slot))

    def pick(self, pool: int, session: int, now_ns: int, without: Sequence[str] = ()) -> Upstream | None:
        """Return the upstream of ``pool`` for a request: its session's own while that is not overfull, else the idlest.

        Rendezvous hashing with bounded loads: every router finds the same one, and an upstream that goes takes only
        its own sessions with it.
        """
        able = [one for one in self.of_pool.get(pool, ()) if one.well(now_ns) and one.upstream.name not in without]
        if len(able) > 1:
            if session == NOTHING:
                return min(able, key=lambda one: one.in_flight).upstream
            bound = BOUND * (sum(one.in_flight for one in able) + 1) / len(able)
            named = session.to_bytes(8)
            room = [one for one in able if one.in_flight + 1 <= bound] or able
            return max(room, key=lambda one: blake2b(named, digest_size=8, key=one.seed).digest()).upstream
        return able[0].upstream if able else None

    def speakers(self, dialect: Dialect) -> set[int]:
        """Return the pools that are reached, all or in part, in a dialect."""
        return {one.upstream.pool for one in self.by_name.values() if one.upstream.dialect is dialect}

    def began(self, upstream: Upstream, now_ns: int) -> bool:
        """Learn that a request was sent; if its upstream was left alone until now, it is a trial: True."""
        patient = self.by_name[upstream.name]
        patient.in_flight += 1
        trial = patient.open_until_ns != NOTHING and now_ns >= patient.open_until_ns
        patient.trying |= trial
        return trial

    def left(self, upstream: Upstream, *, trial: bool) -> None:
        """Learn that a request is no longer there, however it ended; a trial that told nothing is over too."""
        patient = self.by_name.get(upstream.name)
        if patient is not None:  # it may be gone from the fleet by now
            patient.in_flight -= 1
            patient.trying &= not trial

    def succeeded(self, upstream: Upstream) -> None:
        """Learn that it answered, be it that the client was at fault."""
        patient = self.by_name.get(upstream.name)
        if patient is not None:
            patient.failures = patient.opened = 0
            patient.open_until_ns, patient.trying = NOTHING, False
            patient.failed_share -= SMOOTHING * patient.failed_share

    def failed(self, upstream: Upstream, failure: Failure, now_ns: int) -> bool:
        """Learn that it failed; return whether it is left alone from now on."""
        patient = self.by_name.get(upstream.name)
        if patient is None:
            return False
        patient.failures += 1
        patient.failed_share += SMOOTHING * (1.0 - patient.failed_share)
        dead = failure is Failure.UNREACHABLE
        if not (dead or patient.trying or patient.failures >= self.rules.failures or self._outlier(patient, now_ns)):
            return False
        patient.trying = False
        longer = min(int(self.rules.open_s * NS_PER_S) << min(patient.opened, DOUBLINGS_MAX), OPEN_MAX_NS)
        patient.opened += 1
        patient.open_until_ns = now_ns + longer
        return True

    def busy(self, upstream: Upstream, retry_ns: int, now_ns: int) -> None:
        """Learn that it has no room for now, and perhaps for how long; that is no failure."""
        patient = self.by_name.get(upstream.name)
        if patient is None:
            return
        patient.trying = False
        patient.open_until_ns = now_ns + (retry_ns if retry_ns > 0 else BUSY_NS)

    def probed(self, upstream: Upstream, *, well: bool, now_ns: int) -> bool:
        """Learn what a look at its health path told; return whether that changed anything.

        Once it is well again it is tried with one request at once, if requests had failed there.
        """
        patient = self.by_name.get(upstream.name)
        if patient is None or patient.unwell is not well:
            return False
        patient.unwell = not well
        if well and patient.opened:
            patient.open_until_ns = min(patient.open_until_ns, now_ns)
        return True

    def up_share(self, pool: int, now_ns: int) -> float:
        """Return the share of the upstreams of a pool that may be sent a request, or are being tried."""
        patients = self.of_pool.get(pool, [])
        return sum(one.well(now_ns) or one.trying for one in patients) / len(patients) if patients else 0.0

    def to_probe(self, now_ns: int) -> Iterator[Upstream]:
        """Yield the upstreams that are left alone, so that they can be looked at before a request tries them."""
        for one in self.by_name.values():
            if one.open_until_ns != NOTHING and not one.trying and now_ns >= one.open_until_ns:
                yield one.upstream

    def _outlier(self, patient: Patient, now_ns: int) -> bool:
        """Tell whether it fails more than it should while most of its pool is well."""
        others = [one for one in self.of_pool[patient.upstream.pool] if one is not patient]
        most_well = bool(others) and 2 * sum(one.well(now_ns) for one in others) >= len(others) + 1
        return patient.failed_share > EJECT_SHARE and most_well


class RetryBudget:
    """Say whether an attempt may be made again, so that retries never multiply an overload.

    Every request earns ``share`` of a retry; unspent ones are kept up to those of ``KEPT`` requests, and one is earned
    every second whatever the traffic.
    """

    KEPT = 100

    def __init__(self, share: float) -> None:
        self.share = share
        self.left = self.most = 1.0 + share * self.KEPT
        self.last_ns = 0

    def request(self) -> None:
        """Learn that a request arrived."""
        self.left = min(self.left + self.share, self.most)

    def take(self, now_ns: int) -> bool:
        """Take one retry; False if none is left."""
        self.left = min(self.left + (now_ns - self.last_ns) / NS_PER_S, self.most)
        self.last_ns = now_ns
        if self.left < 1.0 or self.share <= 0.0:
            return False
        self.left -= 1.0
        return True
