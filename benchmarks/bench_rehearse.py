"""Time the rehearsal of requests like Azure's conversations (mean 1,155 in, 211 out) at 83% of saturation.

One replica against its plain twin; then fleets of 64 and 1,000 replicas under each policy against that one replica on
as many requests, in CPU seconds. The work is the number of requests served, and every rehearsal is verified before it
is timed.
"""

from __future__ import annotations

import time

from benchmarks.harness import Figure, Measure, Side, compare
from benchmarks.scenes import DEPLOYMENT, LOAD, deployments, fleet_of, requests_at, saturation_rps
from offtake.demand.request import part
from offtake.performance.dense import prepare
from offtake.performance.replica import simulate_prepared
from offtake.policy.view import Policy
from offtake.rehearse.options import Options
from offtake.rehearse.run import Drive, cut
from offtake.rehearse.run import run as drive
from offtake.rehearse.state import new_engine
from offtake.rehearse.tally import new_tally
from offtake.rehearse.verify import ledger_of, verify
from tests.performance.replica_twin import Request, walk

REQUESTS, TWIN_REQUESTS, TURNS = 400_000, 1_500, 3
REPLICA_BAR, FLEET_BAR = 5.0, 1.0  # the goals: millions of requests per CPU-second
FLEETS = ((64, 8), (64, 64), (1_000, 20))  # replicas, pools


def rehearsal(replicas: int, pools: int, policy: Policy, peak_rps: float) -> Side:
    """Return the work of one fleet under one policy."""
    fleet, load = fleet_of(replicas, pools, LOAD * peak_rps), requests_at(LOAD * peak_rps * replicas, REQUESTS)
    options, stored = Options(policy=policy), deployments()

    def work() -> int:
        course = Drive(new_engine(fleet, stored, options), new_tally(fleet, int(load.arrival_ns[0])))
        drive(course, cut([load], options.batch), [], options.seed, lambda _now_ns: None)
        if "verified" not in seen:
            seen.add("verified")
            verify(ledger_of(course.engine, course.tally))
        return int((course.tally.cells["served"] + course.tally.cells["refused"]).sum())

    seen: set[str] = set()
    return Side(f"{replicas:,} replicas in {pools} pools, {policy.name.lower()}", work)


def one_replica(count: int, peak_rps: float) -> Side:
    """Return the work of one replica."""
    load = part(requests_at(LOAD * peak_rps, REQUESTS), 0, count)
    tables = prepare([deployments()[DEPLOYMENT]])

    def work() -> int:
        outcome = simulate_prepared(tables, load.arrival_ns, load.input_tokens, load.output_tokens)
        return int((outcome.finish_ns > 0).sum())

    return Side("one replica", work)


def twin(count: int, peak_rps: float) -> Side:
    """Return the work of the plain twin."""
    table, limits = deployments()[DEPLOYMENT]
    load = part(requests_at(LOAD * peak_rps, REQUESTS), 0, count)
    asked = [load.arrival_ns.tolist(), load.input_tokens.tolist(), load.output_tokens.tolist()]

    def work() -> int:
        requests = [Request(*each) for each in zip(*asked, strict=True)]
        walk(table, limits, requests)
        return sum(request.finish_ns > 0 for request in requests)

    return Side("plain twin, every iteration", work)


def speed(name: str, work: int, seconds: float, bar: float) -> Figure:
    """Return millions of requests per CPU-second beside the goal."""
    return Figure(name, work / seconds / 1e6, "M requests per CPU-second", bar, at_least=True)


def run() -> list[Measure | Figure]:
    """Compare one replica with its twin, and fleets with one replica."""
    peak_rps = saturation_rps()
    lines: list[Measure | Figure] = [
        compare(one_replica(TWIN_REQUESTS, peak_rps), twin(TWIN_REQUESTS, peak_rps), turns=1, clock=time.process_time)
    ]
    yardstick = one_replica(REQUESTS, peak_rps)
    for replicas, pools in FLEETS:
        for policy in Policy:
            side = rehearsal(replicas, pools, policy, peak_rps)
            found = compare(side, yardstick, turns=TURNS, clock=time.process_time)
            if len(lines) == 1:
                lines.append(speed("one replica", found.work, found.yardstick_s, REPLICA_BAR))
            lines += [found, speed(found.name, found.work, found.ours_s, FLEET_BAR)]
    return lines
