"""Hold the state of a rehearsal as arrays, and make it from a fleet and its requests.

Comes in: a fleet, the step tables of its deployments, and requests. Goes out: an ``Engine`` before the first event.
Axes run pool, replica, request. This module must never advance time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.demand.request import Requests
from offtake.fleet import Fleet
from offtake.performance.dense import prepare
from offtake.performance.replica import NEVER_NS, NONE, Plant, new_replicas, new_work
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.policy.build import view_of
from offtake.policy.view import NO_RETRY_NS, View
from offtake.rehearse.options import Options
from offtake.rehearse.queues import Timers, leaves_for
from offtake.units import NS_PER_HOUR, NS_PER_MS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TIMER_LEAF = 0  #: leaf of the timers in the tree of what happens next
FIRST_LEAF = 1  #: leaf of the first replica
TIE_STREAM = 1  #: stream of random numbers that break ties


class Status(IntEnum):
    """Say what has become of a request."""

    PENDING = 0  # has not arrived yet
    RUNNING = 1  # at a pool
    DEFERRED = 2  # waits for a time when it pays
    SERVED = 3
    REFUSED = 4
    MOVED = 5  # taken from a lost site, to be routed again at the same instant
    FAILED = 6  # lost after its first token: it cannot be tried again unseen


#: One row per pool: where its replicas and its tree lie, and what the engine counts by itself to check the kernels.
POOL = np.dtype(
    [
        ("first", "i8"),  # its first replica
        ("replicas", "i8"),
        ("tree_at", "i8"),
        ("leaves", "i8"),
        ("site", "i8"),
        ("deployment", "i8"),
        ("tpot_ns", "f8"),  # of an API
        ("turn", "i8"),
        ("arrived", "i8"),
        ("left", "i8"),
        ("present", "i8"),
        ("last_ns", "i8"),
        ("present_ns", "f8"),  # ∫ present dt up to last_ns
        ("evicted_ns", "f8"),  # time spent here by requests that an event took away
        ("evicted_service_ns", "f8"),  # of it, in service
    ],
    align=True,
)

#: One row per request: what the engine knows beside the kernel's work.
FLOW = np.dtype(
    [
        ("arrival_ns", "i8"),
        ("entered_ns", "i8"),  # when it came to its last pool
        ("retry_after_ns", "i8"),
        ("u", "f8"),  # breaks ties
        ("pool", "i4"),
        ("given_tokens", "i4"),  # of the answer, when it failed
        ("workload", "i2"),
        ("region", "i2"),
        ("attempts", "i2"),
        ("status", "i1"),
        ("reason", "i1"),
    ],
    align=True,
)


class Engine(NamedTuple):
    """Hold everything a rehearsal works on: ``pools`` are rows of ``POOL``, ``flow`` of ``FLOW``."""

    plant: Plant
    seen: View
    pools: Any
    flow: Any
    pool_of_replica: Ints
    tree: Ints
    pool_tree: Ints
    timers: Timers
    defer_ns: Ints
    policy: int


def new_engine(
    fleet: Fleet,
    deployments: Mapping[str, tuple[StepTable, ReplicaLimits]],
    requests: Requests,
    options: Options,
) -> Engine:
    """Return the engine of ``fleet`` before the first event (``deployments`` by the names its pools use)."""
    names = sorted({pool.deployment for pool in fleet.pools if pool.kind == "chips"})
    tables = prepare([deployments[name] for name in names] or [_nothing()])
    deployment = np.array([names.index(p.deployment) if p.kind == "chips" else NONE for p in fleet.pools], np.int64)
    size = np.array([pool.replicas if pool.kind == "chips" else 0 for pool in fleet.pools], np.int64)
    pool_of_replica = np.repeat(np.arange(len(size)), size)
    pools, pool_tree = _pools(fleet, size, deployment)
    leaves = leaves_for(len(pool_of_replica) + FIRST_LEAF)
    tree = np.full(2 * leaves, NEVER_NS, np.int64)
    return Engine(
        plant=Plant(
            tables,
            new_replicas(tables, deployment[pool_of_replica]),
            new_work(requests.arrival_ns.copy(), requests.input_tokens, requests.output_tokens),
        ),
        seen=view_of(fleet, tables, deployment, options.start_hour),
        pools=pools,
        flow=_flow(requests, options.seed),
        pool_of_replica=pool_of_replica,
        tree=tree,
        pool_tree=pool_tree,
        timers=Timers(*(np.zeros(count, np.int64) for count in (len(requests.arrival_ns) + 1,) * 2 + (1,))),
        defer_ns=np.array([round(w.deferral_hours * NS_PER_HOUR) for w in fleet.workloads], np.int64),
        policy=int(options.policy),
    )


def _pools(fleet: Fleet, size: Ints, deployment: Ints) -> tuple[Any, Ints]:
    """Return the pools, and the trees of requests in flight at their replicas."""
    site_names = [site.name for site in fleet.sites]
    pools = np.zeros(len(size), POOL).view(np.recarray)
    pools["replicas"], pools["deployment"] = size, deployment
    pools["first"] = np.cumsum(size) - size
    pools["leaves"] = [leaves_for(int(count)) for count in size]
    pools["tree_at"] = np.cumsum(2 * pools["leaves"]) - 2 * pools["leaves"]
    pools["site"] = [site_names.index(pool.site) for pool in fleet.pools]
    pools["tpot_ns"] = [pool.tpot_ms * NS_PER_MS for pool in fleet.pools]
    trees = np.full(2 * int(pools["leaves"].sum()), NEVER_NS, np.int64)
    for pool in pools:
        tree = trees[pool.tree_at : pool.tree_at + 2 * pool.leaves]
        tree[pool.leaves : pool.leaves + pool.replicas] = 0
        for leaf in range(pool.replicas):
            _raise_path(tree, int(pool.leaves) + leaf)
    return pools, trees


def _raise_path(tree: Ints, node: int) -> None:
    """Set every ancestor of ``node`` to the least of its children."""
    while node > 1:
        node >>= 1
        tree[node] = min(tree[2 * node], tree[2 * node + 1])


def _flow(requests: Requests, seed: int) -> Any:  # noqa: ANN401  # rows of FLOW
    """Return requests of which nothing is known yet; ties are broken by numbers drawn here, once."""
    flow = np.zeros(len(requests.arrival_ns), FLOW).view(np.recarray)
    flow["arrival_ns"], flow["workload"], flow["region"] = requests.arrival_ns, requests.workload, requests.region
    flow["pool"] = flow["entered_ns"] = NONE
    flow["retry_after_ns"] = NO_RETRY_NS
    flow["u"] = np.random.default_rng([seed, TIE_STREAM]).random(len(flow))
    return flow


def _nothing() -> tuple[StepTable, ReplicaLimits]:
    """Return a table for fleets of token-priced APIs alone, in which nothing ever runs."""
    pair, square = np.array([1.0, 2.0]), np.ones((2, 2))
    return StepTable(pair, pair, pair, pair, pair, pair, square, square, 0.0), ReplicaLimits(1, 1, 1, 1, 1)
