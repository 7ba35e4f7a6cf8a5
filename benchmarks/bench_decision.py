"""Time one decision among 8 and 64 pools, under each policy, in a compiled loop.

What is timed is what a rehearsal does before it sends a request on: ``admit`` and ``choose``, for requests that differ,
on pools that are at work. The work is how often each pool was named and what the decisions were worth together: were
only their number kept, the compiler would leave the deciding out.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.harness import Figure
from benchmarks.scenes import deployments, fleet_of, requests_at
from offtake.performance.compiled import entry
from offtake.policy.admit import admit
from offtake.policy.choose import choose
from offtake.policy.view import NO_POOL, Policy, Reason, Request, View
from offtake.rehearse.options import Options
from offtake.rehearse.run import Drive, feed_of
from offtake.rehearse.state import Feed, new_engine
from offtake.rehearse.tally import new_tally

POOLS, DECISIONS, TURNS = (8, 64), 200_000, 5
REPLICAS_PER_POOL, BUSY_REQUESTS = 4, 20_000
NS_BAR = 1_000.0  # the goal, at 64 pools


@entry
def decide(policy: int, view: View, feed: Feed, now_ns: int, named: Any) -> float:  # noqa: ANN401  # an array
    """Decide on each request at one moment; return the margins' sum. ``named [pools + 1]`` counts pools, first none."""
    margin_usd = 0.0
    for i in range(feed.input_tokens.shape[0]):
        inputs = int(feed.input_tokens[i])
        asked = Request(0, 0, inputs, 0, inputs + 1, -1, -1)
        if admit(view, asked, now_ns) == Reason.NONE:
            choice = choose(policy, view, asked, now_ns, feed.u[i])
            named[choice.pool - NO_POOL] += 1
            margin_usd += choice.margin_usd
    return margin_usd


def ns_per_decision(policy: Policy, pools: int) -> float:
    """Return the CPU time of one decision among pools that serve at 80% of saturation, ns."""
    rate_rps = 0.8 * 13.6 * REPLICAS_PER_POOL * pools
    fleet, options = fleet_of(REPLICAS_PER_POOL * pools, pools, 11.0), Options(policy=policy)
    course = Drive(new_engine(fleet, deployments(), options), new_tally(fleet, 0))
    busy, rng = requests_at(rate_rps, BUSY_REQUESTS), np.random.default_rng(0)
    course.advance(feed_of(busy, rng), BUSY_REQUESTS, 0)
    now_ns, feed = int(busy.arrival_ns[-1]), feed_of(requests_at(rate_rps, DECISIONS), rng)
    seconds = []
    for _ in range(TURNS):
        named = np.zeros(pools + 1, np.int64)
        start = time.process_time()
        decide(int(policy), course.engine.seen, feed, now_ns, named)
        seconds.append(time.process_time() - start)
        assert int(named.sum()) == DECISIONS, "every request is decided on"
        assert np.count_nonzero(named[1:]) > 0, "some are given a pool"
    return min(seconds) / DECISIONS * 1e9


def run() -> list[Figure]:
    """Return the time of a decision under each policy."""
    return [
        Figure(f"{policy.name.lower()}, {pools} pools", ns_per_decision(policy, pools), "CPU ns a decision", NS_BAR)
        for pools in POOLS
        for policy in Policy
    ]
