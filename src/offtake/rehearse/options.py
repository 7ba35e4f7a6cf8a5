"""Say how a rehearsal is run: policy, seed, thinning, events, and where the week begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from offtake.performance.library import StoredTable
from offtake.policy.view import Policy
from offtake.rehearse.timeline import Retries, Timeline

KEEP_MOST = 5_000_000  #: requests whose ends are written down one by one; above it only their sums are (assumption)


@dataclass(frozen=True, slots=True)
class Options:
    """Hold the choices of one rehearsal.

    ``thin`` runs 1 in ``thin`` replicas and requests; with ``thinned_load`` the requests that are given were made
    thinned already, which keeps their bunching; ``timeline`` is what happens, ``scenario`` the plan's
    future that it comes from, if any; ``start_hour`` is the hour of the week (from Monday 00:00 UTC) at
    ns 0; ``batch`` requests are simulated between two calls of ``progress`` and may be interrupted there; ``span_s``
    is how long the load lasts, if that is known, for ``progress``. Above ``keep_most`` requests the table of their
    ends is not kept. With ``measure_thinning`` a thinned load is also run thinned twice as far, to state the error.
    Where ``stored`` says on which chip a pool's steps were measured, its roofline bounds the pool.
    ``retries`` makes clients ask again; a request's time to first token counts from its last
    try.
    """

    policy: Policy = Policy.BID_PRICE
    seed: int = 0
    thin: int = 1
    thinned_load: bool = False
    start_hour: float = 0.0
    timeline: Timeline = field(default_factory=Timeline)
    scenario: str = ""
    batch: int = 65_536
    span_s: float = 0.0
    keep_most: int = KEEP_MOST
    retries: tuple[Retries, ...] = ()
    measure_thinning: bool = True
    stored: Mapping[str, StoredTable] = field(default_factory=dict)
