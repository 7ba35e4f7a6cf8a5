"""Time the router's decisions as Python calls them, and tell what a worker that holds them takes.

A life is all that the decider is told of a request: a choice, that it was sent, its first token, its end. Pools are
equal, and every one may serve every request; 2,000 requests are in flight. The worker is a new process that reads a
fleet, loads the policy's machine code and decides once; its code was compiled before.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np

from benchmarks.harness import Figure
from benchmarks.process import Spent, in_new_process
from offtake.fleet import Fleet, read_fleet, write_fleet
from offtake.policy.view import Policy, Request
from offtake.route.decider import Decider, Sent, Settings, Used

DECISION_US_BAR, READY_S_BAR, WORKER_MB_BAR = 20.0, 0.5, 50.0  # the goals
POOLS, REPLICAS, GOODPUT_RPS = (4, 20, 64), 20, 8.0
REQUESTS, HELD, TURNS = 20_000, 2_000, 5
SPACING_NS, BEGUN_NS = 300_000, 1_780_000_000_000_000_000
ANSWER = Used(1_155, 0, 211)


def fleet(pools: int) -> Fleet:
    """Return a fleet of equal pools."""
    from benchmarks.scenes import fleet_of  # noqa: PLC0415  # it loads the compiler, which a worker must not

    return fleet_of(pools * REPLICAS, pools, GOODPUT_RPS)


def asked() -> list[Request]:
    """Return requests of random length."""
    tokens = np.random.default_rng(8).integers(200, 2_000, REQUESTS).tolist()
    return [Request(0, 0, length, 0, length + 400, -1, -1) for length in tokens]


def decisions_s(decider: Decider, requests: list[Request]) -> float:
    """Return the CPU seconds of deciding on all of them, one after another."""
    begin = process_time()
    served = sum(decider.choose(request, SPACING_NS * index).pool >= 0 for index, request in enumerate(requests))
    spent_s = process_time() - begin
    assert served == REQUESTS, "pools this empty take every request"
    return spent_s


def lives_s(decider: Decider, requests: list[Request]) -> float:
    """Return the CPU seconds of all that is told of them, choices included."""
    held = deque[Sent]()
    begin = process_time()
    for index, request in enumerate(requests):
        now_ns = SPACING_NS * index
        held.append(decider.routed(request, decider.choose(request, now_ns).pool, now_ns))
        if len(held) > HELD:
            sent = held.popleft()
            decider.first_token(sent, now_ns)
            decider.finished(sent, ANSWER, now_ns)
    spent_s = process_time() - begin
    assert len(decider.sent) == HELD, "what has ended is not in flight"
    return spent_s


def worker(path: str) -> Any:  # noqa: ANN401  # whatever a JSON document holds
    """Be a worker that has just become ready; return the memory that is its own, MB."""
    decider = Decider(read_fleet(Path(path)), Settings(BEGUN_NS, policy=Policy.BID_PRICE))
    assert decider.choose(asked()[0], 0).pool >= 0
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    kept = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return (kept["Private_Clean"] + kept["Private_Dirty"]) * 1_024 / 1e6


def run() -> list[Figure]:
    """Return what decisions take at several numbers of pools, and what a worker takes."""
    requests, found = asked(), []
    for pools in POOLS:
        seen = fleet(pools)
        decision = min(decisions_s(Decider(seen, Settings(BEGUN_NS)), requests) for _ in range(TURNS))
        life = min(lives_s(Decider(seen, Settings(BEGUN_NS)), requests) for _ in range(TURNS))
        found.append(Figure(f"a live decision among {pools} pools", decision / REQUESTS * 1e6, "µs", DECISION_US_BAR))
        found.append(Figure(f"all that is told of a request, {pools} pools", life / REQUESTS * 1e6, "µs"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.json"
        write_fleet(fleet(POOLS[-1]), path)
        workers = [in_new_process("bench_decider", "worker", str(path)) for _ in range(TURNS)]
    best: Spent = min(workers, key=lambda spent: spent.cpu_s)
    return [
        *found,
        Figure("a worker's start until it has decided, CPU", best.cpu_s, "s", READY_S_BAR),
        Figure("most memory of a worker that only decides", best.memory_mb, "MB", WORKER_MB_BAR),
        Figure("of it, its own", float(best.returned), "MB"),
    ]
