"""Time a decision: admit, choose and every update of a request's life, at 64 pools, against the least loaded pool.

Requests of two workloads come to 64 pools of 20 replicas and stay until 6,000 others have come, so that pools are
two thirds full. The work is the number of requests that were served; the goal is a microsecond for each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Measure, Side, compare
from benchmarks.scenes import DEPLOYMENT, fleet_of
from offtake.performance.compiled import entry
from offtake.performance.dense import prepare
from offtake.performance.library import load_shipped
from offtake.policy.admit import admit
from offtake.policy.build import view_of
from offtake.policy.choose import choose
from offtake.policy.update import update
from offtake.policy.view import NO_POOL, Event, EventKind, Policy, Reason, Request, View

POOLS, REPLICAS, GOODPUT_RPS = 64, 20, 8.0
DECISIONS, HELD = 200_000, 6_000
SPACING_NS, SERVICE_NS = 100_000, 5_000_000_000
BAR = 0.5  #: of the speed of the least loaded pool


@entry
def decide(policy: int, view: View, ties: npt.NDArray[np.float64], at: npt.NDArray[np.int64]) -> int:
    """Decide on a request for each of ``ties``, and tell the view of its whole life; return how many were served."""
    served, held = 0, at.shape[0]
    for serial in range(ties.shape[0]):
        now_ns = serial * SPACING_NS
        old = at[serial % held]
        if old != NO_POOL:
            update(view, Event(EventKind.FIRST_TOKEN, old, 0, 1, 1_155, 0, now_ns))
            update(view, Event(EventKind.GONE, old, 0, 0, 0, 0, now_ns))
            update(view, Event(EventKind.FINISHED, old, 0, 1, 0, SERVICE_NS, now_ns))
        request = Request(0, 0, 1_155, 0, 1_366, -1, -1)
        pool = NO_POOL
        if admit(view, request, now_ns) == Reason.NONE:
            pool = choose(policy, view, request, now_ns, ties[serial]).pool
        at[serial % held] = pool
        if pool != NO_POOL:
            update(view, Event(EventKind.ROUTED, pool, 0, 1, 1_155, 0, now_ns))
            update(view, Event(EventKind.ADMITTED, pool, 0, 1, 0, 0, now_ns))
            served += 1
    return served


def deciding(policy: Policy) -> Side:
    """Return the work of one policy."""
    stored = load_shipped(DEPLOYMENT)
    fleet = fleet_of(POOLS * REPLICAS, POOLS, GOODPUT_RPS)
    tables, deployment = prepare([(stored.table, stored.limits)]), np.zeros(POOLS, np.int64)
    ties = np.random.default_rng(5).random(DECISIONS)

    def work() -> int:
        view = view_of(fleet, tables, deployment)
        return int(decide(int(policy), view, ties, np.full(HELD, NO_POOL, np.int64)))

    return Side(f"{policy.name.lower()} at {POOLS} pools", work)


def run() -> list[Measure]:
    """Compare bid price with the least loaded pool."""
    return [compare(deciding(Policy.BID_PRICE), deciding(Policy.LEAST_LOADED))._replace(bar=BAR)]
