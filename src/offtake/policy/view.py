"""Hold what a policy may look at: the pools as arrays, the request, and what happens to them.

Comes in: nothing; these are the shapes. Axes run block, pool, workload, region. What belongs to one pool is one row, so
that a decision touches two cache lines per pool. ``update`` changes a view in place; ``admit`` and ``choose`` only
read it. A view holds what a live
router can know: it never holds a request's true output length, the future, or a random number.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.units import NS_PER_S, S_PER_MINUTE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_POOL = -1
PRIME = 2**31 - 1  #: hashes of sessions stay below it, so that their squares are whole in 64 bits
BUCKET_NS = S_PER_MINUTE * NS_PER_S  #: an API's limit is per minute, so a minute's tokens may be taken at once
NO_RETRY_NS = -1  #: there is no time at which trying again would help


class Policy(IntEnum):
    """Name the built-in policies; kernels take the number, because a function as argument is never cached."""

    BID_PRICE = 0
    LEAST_LOADED = 1
    ROUND_ROBIN = 2
    WEIGHTED = 3
    POWER_OF_TWO = 4
    CHEAPEST_FIRST = 5
    LATENCY_FIRST = 6
    PREFIX_AFFINITY = 7


class Reason(IntEnum):
    """Say why a request was not served."""

    NONE = 0
    NO_FIT = 1  # no pool has its model where residency and security class allow
    TOO_LONG = 2  # it is longer than any fitting pool can hold
    NO_CAPACITY = 3  # every fitting pool is down
    BELOW_BID = 4  # its value is below the bid price of the capacity it would take, and it does not wait
    SITE_LOST = 5  # its site was lost after the first token
    CONTROL_PLANE = 6  # nothing can be routed while the control plane is down


class EventKind(IntEnum):
    """Name what a policy learns about a pool; ``Event`` says which fields count."""

    ROUTED = 0  # one request of ``workload`` sent: ``tokens`` of prompt
    ADMITTED = 1  # ``size`` requests began to run
    FIRST_TOKEN = 2  # ``size`` requests gave a first token: ``tokens`` of prompt
    FINISHED = (
        3  # ``size`` requests finished, of them ``tokens`` ``late_by_load``: ``sum_ns`` of service; also ``GONE``
    )
    CAPACITY = 4  # ``size`` replicas take requests from now on
    GONE = 5  # one request of ``workload`` left, finished or not: ``tokens`` of its prompt if without a first token,
    # ``size`` 1 if it had not begun to run
    DECLINED = 6  # one request of ``workload`` turned away or put off, at no pool
    ELSEWHERE = 7  # others sent ``size`` requests of ``workload`` more (fewer), ``tokens`` of prompt not yet read
    TAKEN = 8  # ``tokens`` of an API's rate limit used (below 0: given back)


class Request(NamedTuple):
    """Hold what is known of a request on arrival.

    ``output_tokens_max`` is the most it may be given, 0 if unknown; ``context_tokens`` is the room it asks for, prompt
    included, which a pool must have; ``session`` is -1 if it stands alone; ``last_ns`` is the last time at which it
    may still be put off, before now if it may not.
    """

    workload: int
    region: int
    input_tokens: int
    output_tokens_max: int
    context_tokens: int
    session: int
    last_ns: int


class Event(NamedTuple):
    """Hold one thing that happened at a pool at ``now_ns``."""

    kind: int
    pool: int
    workload: int
    size: int
    tokens: int
    sum_ns: int
    now_ns: int


class Answer(NamedTuple):
    """Hold how fast an answer was, as its user saw it; ``tokens`` are those of its prompt that had to be read."""

    workload: int
    tokens: int
    rtt_ns: int
    ttft_ns: int
    tpot_ns: float


class Choice(NamedTuple):
    """Hold a decision: the pool or ``NO_POOL`` with a reason, and when trying again would help."""

    pool: int
    reason: int
    margin_usd: float
    retry_after_ns: int


#: One row per pool. What every decision reads comes first, in two cache lines.
POOL_VIEW = np.dtype(
    [
        ("replicas_up", "i8"),
        ("context_tokens_max", "i8"),
        ("is_api", "i8"),
        ("price_usd", "f8"),  # of a unit of need, now; of an API the plan's, see ``price.api_near``
        ("caution_usd", "f8"),  # by how much more it is shunned while another pool can serve
        ("wait_ns", "f8"),  # predicted, of a request sent now; of an API see ``free_ns``
        ("tpot_now_ns", "f8"),  # predicted, of a request sent now
        ("pressure", "f8"),  # load over the load at which the pool just keeps its service level
        ("usd_per_chip_s_used", "f8"),  # paid only when used, as the next two
        ("usd_per_input_token", "f8"),
        ("usd_per_output_token", "f8"),
        ("own_ns", "f8"),  # to a first token on top of wait, prompt and round trip: a decode step; the TTFT of an API
        ("read_ns_per_token", "f8"),  # of a prompt at a replica, to which each token adds
        ("read_ns_per_token2", "f8"),  # times the tokens of the prompt, because each looks back on those before it
        ("prefill_ns_per_token", "f8"),  # of a replica, in a prompt of mean length
        ("ttft_ns", "f8"),  # of an API
        ("free_ns", "i8"),  # when an API's rate limit is next free; BUCKET_NS in the past is a full bucket
        ("density_usd", "f8"),  # most worth per unit of need among what it serves
        ("token_ns", "f8"),  # of an API's rate limit
        ("tpot_ns", "f8"),  # with one request in flight
        ("slots", "f8"),  # requests that run at once on a replica within the SLO; for an API, those of a minute
        ("places", "f8"),  # requests that a replica can hold at once, whatever their TPOT
        ("chips", "f8"),  # of a replica
        ("in_flight", "i8"),
        ("waiting", "i8"),  # of them, not yet running
        ("queued_tokens", "i8"),  # prompts without a first token
        ("service_ns", "f8"),  # smoothed
        ("work_ns", "i8"),  # what the requests in flight add to the TPOT of one replica, summed over replicas
        ("tpot_rate", "f8"),  # 1 / the least room for that among the workloads in flight, 1/ns
        ("ttft_rate", "f8"),  # 1 / the least TTFT limit among the workloads in flight, 1/ns
        ("reach", "f8"),  # measured: how much more load the pool takes than predicted before it is late
    ],
    align=True,
)

#: One row per workload; ``cursor`` is the pool whose turn it is, ``owed`` the admissions its floor is still owed.
WORKLOAD_VIEW = np.dtype(
    [
        ("worth_usd", "f8"),
        ("slo_ttft_ns", "f8"),
        ("slo_tpot_ns", "f8"),
        ("output_tokens_mean", "f8"),
        ("defer_ns", "f8"),
        ("admit_share_min", "f8"),
        ("owed", "f8"),
        ("cursor", "i8"),
        ("fits", "i8"),  # pools that may serve it
    ],
    align=True,
)


class View(NamedTuple):
    """Hold the pools as a policy sees them.

    ``pools [pool]`` are rows of ``POOL_VIEW``, ``workloads [workload]`` of ``WORKLOAD_VIEW``. ``allowed [pool,
    workload]`` tells where model, residency, security and goodput agree, and ``fit [workload, rank]`` lists those
    pools; ``rtt_ns [pool, region]``, the engine's front end included;
    ``chip_s_per_token [pool, workload, 2]`` for prompt and answer; ``need [pool,
    workload, 2]`` the same, and for an API tokens of its limit; ``load_ns [pool, workload]`` is what one request in
    flight adds to the TPOT of its replica, ``rate [pool, workload, 2]`` 1 over the room for that and over the longest
    wait; ``running [pool, workload]`` requests in flight; ``weight [block, pool, workload]`` what the plan places
    there; ``bid_usd [block, pool]`` per unit of need; ``block_of_hour [168]``; ``clock_ns [1]`` is the time of the
    week at ns 0.
    """

    pools: Any
    workloads: Any
    allowed: Bools
    fit: Ints
    rtt_ns: Ints
    chip_s_per_token: Floats
    need: Floats
    load_ns: Ints
    rate: Floats
    running: Ints
    weight: Floats
    bid_usd: Floats
    block_of_hour: Ints
    clock_ns: Ints
