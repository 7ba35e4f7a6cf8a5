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
BUCKET_NS = S_PER_MINUTE * NS_PER_S  #: an API's limit is per minute, so a minute's tokens may be taken at once
NO_RETRY_NS = -1  #: there is no time at which trying again would help


class Policy(IntEnum):
    """Name the built-in policies; kernels take the number, because a function as argument is never cached."""

    BID_PRICE = 0
    LEAST_LOADED = 1
    ROUND_ROBIN = 2


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
    FIRST_TOKEN = 2  # ``size`` requests gave a first token: ``tokens`` of prompt, ``sum_ns`` from arrival
    FINISHED = 3  # ``size`` requests finished: ``sum_ns`` of service
    CAPACITY = 4  # ``size`` replicas take requests from now on
    GONE = 5  # one request of ``workload`` taken away unfinished: ``tokens`` of its prompt if without a first token,
    # ``size`` 1 if it had not begun to run


class Request(NamedTuple):
    """Hold what is known of a request on arrival; ``output_tokens_max`` is the most it may be given."""

    workload: int
    region: int
    input_tokens: int
    output_tokens_max: int


class Event(NamedTuple):
    """Hold one thing that happened at a pool at ``now_ns``."""

    kind: int
    pool: int
    workload: int
    size: int
    tokens: int
    sum_ns: int
    now_ns: int


class Choice(NamedTuple):
    """Hold a decision: the pool or ``NO_POOL`` with a reason, and when trying again would help."""

    pool: int
    reason: int
    margin_usd: float
    retry_after_ns: int


#: One row per pool. What never changes comes first.
POOL_VIEW = np.dtype(
    [
        ("is_api", "i8"),
        ("context_tokens_max", "i8"),
        ("usd_per_chip_s_used", "f8"),  # paid only when used, as the next two
        ("usd_per_input_token", "f8"),
        ("usd_per_output_token", "f8"),
        ("prefill_ns_per_token", "f8"),  # of a replica
        ("step_ns", "f8"),  # a decode step of a half full replica; the TPOT of an API
        ("ttft_ns", "f8"),  # of an API
        ("tpot_ns", "f8"),  # with one request in flight
        ("tpot_ns_per_request", "f8"),  # more for each further request in flight on the same replica
        ("token_ns", "f8"),  # of an API's rate limit
        ("slots", "f8"),  # requests that run at once on a replica within the SLO; for an API, those of a minute
        ("slo_ns", "f8"),  # the tightest TTFT it serves
        ("surge_usd", "f8"),  # unit of the online correction, per chip-second
        ("chips", "f8"),  # of a replica
        ("replicas_up", "i8"),
        ("in_flight", "i8"),
        ("waiting", "i8"),  # of them, not yet running
        ("queued_tokens", "i8"),  # prompts without a first token
        ("service_ns", "f8"),  # smoothed
        ("free_ns", "i8"),  # when an API's rate limit is next free; BUCKET_NS in the past is a full bucket
        ("surge_usd_per_chip_s", "f8"),  # the online correction at surge_at_ns
        ("surge_at_ns", "i8"),
        ("recent_chip_s", "f8"),  # chip-seconds routed here lately, fading, at recent_at_ns
        ("recent_at_ns", "i8"),
    ],
    align=True,
)

#: One row per workload; ``cursor`` is the pool whose turn it is.
WORKLOAD_VIEW = np.dtype(
    [("worth_usd", "f8"), ("slo_ttft_ns", "f8"), ("slo_tpot_ns", "f8"), ("output_tokens_mean", "f8"), ("cursor", "i8")],
    align=True,
)


class View(NamedTuple):
    """Hold the pools as a policy sees them.

    ``pools [pool]`` are rows of ``POOL_VIEW``, ``workloads [workload]`` of ``WORKLOAD_VIEW``. ``allowed [pool,
    workload]`` tells where model, residency, security and goodput agree; ``rtt_ns [pool, region]``;
    ``chip_s_per_token [pool, workload, 2]`` for prompt and answer; ``bid_usd [block, pool, 2]`` per chip-second and
    per token; ``block_of_hour [168]``; ``clock_ns [1]`` is the time of the week at ns 0.
    """

    pools: Any
    workloads: Any
    allowed: Bools
    rtt_ns: Ints
    chip_s_per_token: Floats
    bid_usd: Floats
    block_of_hour: Ints
    clock_ns: Ints
