"""Hold the state of a rehearsal as arrays, and make it from a fleet.

A request lives in a *slot*, one row of ``plant.work`` and of ``flow``, from when it becomes known until it ends; then
its end is written to ``ended`` and its slot is free again. So memory grows with the requests that are in the system at
once, never with how many there are. Comes in: a fleet and the step tables of its deployments. Goes out: an ``Engine``
before the first event. Axes run pool, replica, slot. This module must never advance time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.fleet import Fleet
from offtake.performance.compiled import Rows
from offtake.performance.dense import nothing, prepare
from offtake.performance.lines import zeros_in_lines
from offtake.performance.replica import NEVER_NS, NONE, WORK, Plant, new_replicas
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.policy.build import view_of
from offtake.policy.view import View
from offtake.rehearse.capacity import Capacity, new_capacity
from offtake.rehearse.options import Options
from offtake.rehearse.queues import Timers, leaves_for, nodes_for, raise_all
from offtake.rehearse.schedule import retries_of
from offtake.rehearse.sessions import Sessions, new_sessions
from offtake.units import NS_PER_HOUR, NS_PER_MS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]

SLOTS = 4_096  #: slots to begin with, at least; they double when they run out
REPLICA_SLOTS = 256  #: to begin with for each replica (assumption); one that is never used takes no memory
ENDED_ROWS = 8_192  #: ends that are kept before they are counted
PROMPTS_CACHED = 2**18  #: that all prefix caches together can remember (assumption; 32 bytes each)
TIMER_LEAF = 0  #: leaf of the timers in the tree of what happens next
FIRST_LEAF = 1  #: leaf of the first replica


#: Class of a kind of workload in a replica's queue, 0 the most urgent.
PRIORITY = {"interactive": 0, "agentic": 1, "internal": 2, "batch": 3}


class Status(IntEnum):
    """Say what has become of a request."""

    PENDING = 0  # has not arrived yet
    RUNNING = 1  # at a pool
    DEFERRED = 2  # waits for a time when it pays
    SERVED = 3
    REFUSED = 4
    MOVED = 5  # taken from a lost site, to be routed again at the same instant
    FAILED = 6  # lost after its first token: it cannot be tried again unseen
    WAITING = 7  # for the end of the request before it in its session
    RETRYING = 8  # refused or failed; its client will ask again


class Replica(IntEnum):
    """Say what a replica is doing."""

    UP = 0
    DRAINING = 1  # takes no request, and is down when it has none left
    LOADING = 2  # its model comes over the link and warms up; up at ``ready_ns``
    DOWN = 3


#: One row per pool: where its replicas and its tree lie, and what the engine counts by itself to check the kernels.
POOL = np.dtype(
    [
        ("first", "i8"),  # its first replica
        ("replicas", "i8"),
        ("tree_at", "i8"),
        ("leaves", "i8"),  # where the leaves of its tree begin in it
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
        ("failed_read", "i8"),  # prompt tokens of requests that failed here
        ("failed_wrote", "i8"),  # answer tokens they had been given, beside the first of each
    ],
    align=True,
)

#: One row per slot: what the engine knows of a request beside the kernel's work.
FLOW = np.dtype(
    [
        ("serial", "i8"),  # requests are numbered as they become known; breaks ties
        ("arrival_ns", "i8"),
        ("entered_ns", "i8"),  # when it came to its last pool
        ("retry_after_ns", "i8"),
        ("think_ns", "i8"),  # between the end of the request before it in its session and its arrival
        ("rtt_ns", "i8"),  # between its user and its last pool, with the front end of the engine there
        ("u", "f8"),  # breaks ties
        ("follower", "i8"),  # slot of the request that waits for its end
        ("session", "i4"),
        ("pool", "i4"),
        ("asked_tokens", "i4"),  # the answer it would have at full length
        ("given_tokens", "i4"),  # of the answer, when it failed
        ("workload", "i2"),
        ("region", "i2"),
        ("tenant", "i2"),
        ("attempts", "i2"),  # times it was offered to the policy
        ("tries", "i2"),  # times its client asked again
        ("status", "i1"),
        ("reason", "i1"),
    ],
    align=True,
)

#: One row per request that has ended, until it is counted. Times are -1 where there is none.
ENDED = np.dtype(
    [
        (name, "i8")
        for name in (
            "serial",
            "arrival_ns",
            "released_ns",  # arrival, or the end of a deferral
            "entered_ns",
            "start_ns",
            "first_token_ns",
            "finish_ns",
            "retry_after_ns",
            "rtt_ns",
        )
    ]
    + [(name, "i4") for name in ("input_tokens", "output_tokens", "asked_tokens", "cached_tokens", "pool")]
    + [(name, "i2") for name in ("workload", "region", "tenant", "attempts", "tries")]
    + [(name, "i1") for name in ("status", "reason")],
    align=True,
)

#: One row: where the engine stands.
BOOK = np.dtype(
    [
        (name, "i8")
        for name in (
            "free",  # free slots; those that were never used are the last ones
            "given_back",  # of them, used before: they lie on the stack
            "ended",  # rows of ``ended`` in use
            "ended_most",  # rows in use after which one more step might not fit
            "known",  # requests that have become known
            "offered",  # requests as the policy's clients count them: each try of each client
            "last_ns",  # when the last request arrived
            "control",  # 1 while the control plane is up; at 0 nothing can be routed
        )
    ],
    align=True,
)

#: One row per time in which clients ask again when they are refused or their answer breaks off (``Retries``).
STORM = np.dtype(
    [(name, "i8") for name in ("start_ns", "end_ns", "attempts_max", "backoff_ns")] + [("share", "f8")], align=True
)


class Engine(NamedTuple):
    """Hold everything a rehearsal works on.

    ``pools`` are rows of ``POOL``, ``flow [slot]`` of ``FLOW``, ``ended`` of ``ENDED``, ``book [1]`` of ``BOOK``,
    ``storms`` of ``STORM``; ``capacity`` says what may run; ``free [slot]`` is a stack of slots given back;
    ``replica_state [replica]`` holds values of ``Replica``, ``ready_ns [replica]`` when one that is loading will be up;
    ``defer_ns``, ``priority [workload]``.
    """

    plant: Plant
    seen: View
    pools: Any
    flow: Any
    ended: Any
    book: Any
    storms: Any
    capacity: Capacity
    free: Ints
    sessions: Sessions
    pool_of_replica: Ints
    replica_state: Bytes
    ready_ns: Ints
    tree: Ints
    leaves: int
    pool_tree: Ints
    timers: Timers
    defer_ns: Ints
    priority: Ints
    policy: int


class Feed(NamedTuple):
    """Hold a batch of requests for the engine: columns of ``Requests``, ``u`` that breaks ties; ``at [1]`` is next."""

    arrival_ns: Ints
    input_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    workload: npt.NDArray[np.int16]
    region: npt.NDArray[np.int16]
    tenant: npt.NDArray[np.int16]
    session: npt.NDArray[np.int32]
    shared_tokens: npt.NDArray[np.int32]
    think_ns: Ints
    u: Floats
    at: Ints


def new_engine(
    fleet: Fleet, deployments: Mapping[str, tuple[StepTable, ReplicaLimits]], options: Options, slots: int = 0
) -> Engine:
    """Return the engine of ``fleet`` before the first event.

    ``deployments`` by the names that its pools use; ``slots`` to begin with, 0 for what most loads will need.
    """
    names = sorted({pool.deployment for pool in fleet.pools if pool.kind == "chips"})
    tables = prepare([deployments[name] for name in names] or [nothing()])
    deployment = np.array([names.index(p.deployment) if p.kind == "chips" else NONE for p in fleet.pools], np.int64)
    size = np.array([pool.replicas if pool.kind == "chips" else 0 for pool in fleet.pools], np.int64)
    pool_of_replica = np.repeat(np.arange(len(size)), size)
    pools, pool_tree = _pools(fleet, size, deployment)
    tree = zeros_in_lines((nodes_for(len(pool_of_replica) + FIRST_LEAF),), np.dtype(np.int64))
    tree[:] = NEVER_NS
    batch_max = int(tables.limits["batch_max"].max())
    seen = view_of(fleet, tables, deployment, options.start_hour)
    slots = slots or max(SLOTS, REPLICA_SLOTS * len(pool_of_replica))
    return Engine(
        plant=Plant(
            tables,
            new_replicas(tables, deployment[pool_of_replica], PROMPTS_CACHED),
            zeros_in_lines((slots,), WORK).view(np.recarray),
        ),
        seen=seen,
        pools=pools,
        flow=zeros_in_lines((slots,), FLOW).view(np.recarray),
        ended=np.zeros(ENDED_ROWS + batch_max, ENDED).view(np.recarray),
        book=_book(slots),
        storms=_storms(options),
        capacity=new_capacity(fleet, options.timeline, options.thin, seen.rtt_ns),
        free=np.zeros(slots, np.int64),
        sessions=new_sessions(),
        pool_of_replica=pool_of_replica,
        replica_state=np.zeros(len(pool_of_replica), np.int8),
        ready_ns=np.full(len(pool_of_replica), NEVER_NS, np.int64),
        tree=tree,
        leaves=leaves_for(len(pool_of_replica) + FIRST_LEAF),
        pool_tree=pool_tree,
        timers=_timers(slots),
        defer_ns=np.array([round(w.deferral_hours * NS_PER_HOUR) for w in fleet.workloads], np.int64),
        priority=np.array([PRIORITY[workload.kind] for workload in fleet.workloads], np.int64),
        policy=int(options.policy),
    )


def with_more_slots(engine: Engine) -> Engine:
    """Return ``engine`` with twice as many slots; what it held stays where it was."""
    plant, flow, timers = engine.plant, engine.flow, engine.timers
    slots = len(flow)
    engine.book["free"] += slots
    return engine._replace(
        plant=plant._replace(work=_twice(plant.work, slots)),
        flow=_twice(flow, slots),
        free=_twice(engine.free, int(engine.book["given_back"][0])),
        timers=Timers._make([*(_twice(held, int(timers.size[0])) for held in timers[:3]), timers.size]),
    )


def _twice(held: Rows, used: int) -> Rows:
    """Return twice as many rows, the first ``used`` of them as they were."""
    more = zeros_in_lines((2 * len(held),), held.dtype)
    more[:used] = held[:used]
    return more.view(type(held))


def with_room_to_end(engine: Engine) -> Engine:
    """Return ``engine`` with room to end every request at once, as an event may; its ends have been counted."""
    rows = max(len(engine.flow), ENDED_ROWS) + int(engine.plant.tables.limits["batch_max"].max())
    if len(engine.ended) >= rows:
        return engine
    return engine._replace(ended=np.zeros(rows, ENDED).view(np.recarray))


def _timers(slots: int) -> Timers:
    """Return an empty heap with room for a timer of every slot."""
    return Timers._make(np.zeros(size, np.int64) for size in (slots + 1, slots + 1, slots + 1, 1))


def _book(slots: int) -> Rows:
    """Return the books before the first request."""
    book = np.zeros(1, BOOK).view(np.recarray)
    book["free"], book["control"], book["ended_most"] = slots, 1, ENDED_ROWS - 2
    return book


def _storms(options: Options) -> Rows:
    """Return when clients ask again, and how."""
    retries = [*options.retries, *retries_of(options.timeline)]
    rows = [(each.start_ns, each.end_ns, each.attempts_max, each.backoff_ns, each.share) for each in retries]
    return np.array(rows, STORM).view(np.recarray)


def _pools(fleet: Fleet, size: Ints, deployment: Ints) -> tuple[Any, Ints]:
    """Return the pools, and the trees of requests in flight at their replicas."""
    site_names = [site.name for site in fleet.sites]
    pools = np.zeros(len(size), POOL).view(np.recarray)
    pools["replicas"], pools["deployment"] = size, deployment
    pools["first"] = np.cumsum(size) - size
    pools["leaves"] = [leaves_for(int(count)) for count in size]
    nodes = np.array([nodes_for(int(count)) for count in size], np.int64)
    pools["tree_at"] = np.cumsum(nodes) - nodes
    pools["site"] = [site_names.index(pool.site) for pool in fleet.pools]
    pools["tpot_ns"] = [pool.tpot_ms * NS_PER_MS for pool in fleet.pools]
    trees = zeros_in_lines((int(nodes.sum()),), np.dtype(np.int64))
    trees[:] = NEVER_NS
    for pool, count in zip(pools, nodes, strict=True):
        tree = trees[pool.tree_at : pool.tree_at + count]
        tree[pool.leaves : pool.leaves + pool.replicas] = 0
        raise_all(tree, int(pool.leaves))
    return pools, trees
