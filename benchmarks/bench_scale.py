"""Tell what one more request costs in fleets of 24 to 24,000 replicas that are already full.

Every fleet serves requests like Azure's conversations at 83% of saturation, in 20 pools (4 for 24 replicas), under the
least loaded policy. Until as many are in the system as will be (ten seconds of traffic, a little more than a request
stays), nothing is timed; then as many further requests arrive as in the smallest fleet. The work is what arrives.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.harness import Figure
from benchmarks.scenes import LOAD, deployments, fleet_of, requests_at, saturation_rps
from offtake.demand.request import part
from offtake.policy.view import Policy
from offtake.rehearse.options import Options
from offtake.rehearse.run import Drive, feed_of
from offtake.rehearse.state import new_engine
from offtake.rehearse.tally import new_tally, requests_in

REPLICAS_POOLS = ((24, 4), (240, 20), (2_400, 20), (24_000, 20))
REQUESTS, WARM_S, TURNS = 1_000_000, 12.0, 3
FLAT_BAR = 1.5  # the goal: 24,000 replicas against 24


def ns_per_request(replicas: int, pools: int, peak_rps: float) -> float:
    """Return the CPU time of one request in a full fleet, ns: the best of some turns."""
    rate_rps = LOAD * peak_rps * replicas
    warm = int(rate_rps * WARM_S)
    load = requests_at(rate_rps, warm + TURNS * REQUESTS)
    fleet, options = fleet_of(replicas, pools, LOAD * peak_rps), Options(policy=Policy.LEAST_LOADED)
    rng = np.random.default_rng(0)
    course = Drive(new_engine(fleet, deployments(), options), new_tally(fleet, 0))
    course.advance(feed_of(part(load, 0, warm), rng), warm, 0)
    seconds = []
    for turn in range(TURNS):
        feed = feed_of(part(load, warm + turn * REQUESTS, warm + (turn + 1) * REQUESTS), rng)
        known = int(course.engine.book["known"][0])
        start = time.process_time()
        course.advance(feed, REQUESTS, 0)
        seconds.append(time.process_time() - start)
        assert int(course.engine.book["known"][0]) - known == REQUESTS, "every request arrived"
    course.count()
    assert requests_in(course.tally) > TURNS * REQUESTS // 2, "requests end as well"
    return min(seconds) / REQUESTS * 1e9


def run() -> list[Figure]:
    """Return the time of a request by size of the fleet, and the ratio that must be flat."""
    peak_rps = saturation_rps()
    ns_per_request(*REPLICAS_POOLS[0], peak_rps)
    found = [ns_per_request(replicas, pools, peak_rps) for replicas, pools in REPLICAS_POOLS]
    lines = [
        Figure(f"{replicas:,} replicas in {pools} pools", ns, "CPU ns per request")
        for (replicas, pools), ns in zip(REPLICAS_POOLS, found, strict=True)
    ]
    return [*lines, Figure("24,000 replicas against 24, time of a request", found[-1] / found[0], "×", FLAT_BAR)]
