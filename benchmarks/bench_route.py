"""Measure the router beside others on the same upstream: processor time, added latency, streams, and memory.

Every router is alone on one core, the upstream and the load are on another; they are asked in turn, and every answer is
checked. Processor time is what the kernel has booked for the router's whole process tree, so it says the same on a busy
machine; latencies do not, and are shown beside those of asking the upstream itself in the same turn.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.environment import ROOT
from benchmarks.harness import Figure, Skipped
from benchmarks.route.account import cpu_s, memory_mb
from benchmarks.route.peers import OURS, OURS_BARE, PEERS, Peer, Place, environment

TURNS = int(os.environ.get("OFFTAKE_ROUTE_TURNS", "3"))
#: So that nobody else is served first (as root, on a machine that is shared): latencies say something then.
REALTIME = ("chrt", "-r", "1") if os.environ.get("OFFTAKE_ROUTE_REALTIME") else ()
READY_S_MAX, LOAD_S_MAX = 90.0, 240.0
CONNECTIONS, REQUESTS, REQUESTS_SLOW = 64, 15_000, 150
STEADY_RPS, STEADY = 1_000, 4_000
STREAMS, EACH, STREAMS_SLOW = 100, 3, 8
HELD, FLOODED = 5_000, 100
READY_S_BAR, WORKER_MB_BAR = 0.5, 50.0  # the goals
P50_US_BAR, P99_US_BAR = 150.0, 500.0
BARS = {("request", "Envoy"): 1.0, ("request", "nginx"): 0.5, ("request", "LiteLLM"): 100.0}
BARS |= {("chunk", "Envoy"): 1.0, ("chunk", "LiteLLM"): 20.0}
US_PER_S = 1e6


class Running(NamedTuple):
    """Hold a router that serves."""

    peer: Peer
    process: subprocess.Popen[bytes]
    port: int
    ready_s: float
    memory_mb: float


def free_port() -> int:
    """Return a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def begun(command: list[str], core: int) -> subprocess.Popen[bytes]:
    """Begin a process on one core."""
    return subprocess.Popen(
        [*REALTIME, "taskset", "-c", str(core), *command],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process; it is given some seconds."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def awaited(process: subprocess.Popen[bytes], port: int) -> float:
    """Return after how long a process listens; raise Skipped if it does not."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < READY_S_MAX and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.01)
        else:
            return time.perf_counter() - begin
    raise Skipped("it did not begin to listen")


def load(port: int, kind: str, peer: Peer, *numbers: int) -> dict[str, float]:
    """Put a load on a port and return what was found; every answer was checked."""
    words = [str(port), kind, str(int(peer.verbatim)), *(str(number) for number in numbers)]
    done = subprocess.run(
        [*REALTIME, "taskset", "-c", "1", sys.executable, "-m", "benchmarks.route.load", *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=LOAD_S_MAX,
    )
    if done.returncode:
        message = f"{kind}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        raise Skipped(message)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def serving(peer: Peer, upstream_port: int) -> Iterator[Running]:
    """Hold a router that serves, alone on the first core."""
    with tempfile.TemporaryDirectory(prefix="offtake-route-") as folder:
        port = free_port()
        process = begun(peer.command(Place(Path(folder), port, upstream_port)), 0)
        try:
            ready_s = awaited(process, port)
            load(port, "closed", peer, 1, 20 if peer.slow else 200)
            yield Running(peer, process, port, ready_s, memory_mb(process.pid))
        finally:
            end(process)


Found = dict[str, dict[str, list[float]]]  #: by router, by measure: one number of each turn


def ask(running: Running, found: dict[str, list[float]]) -> None:
    """Measure what a request costs."""
    count = REQUESTS_SLOW if running.peer.slow else REQUESTS
    before_s = cpu_s(running.process.pid)
    answered = load(running.port, "closed", running.peer, 4 if running.peer.slow else CONNECTIONS, count)["answered"]
    assert answered == count, "every request is answered"
    found["request"].append((cpu_s(running.process.pid) - before_s) / answered * US_PER_S)


def stream(running: Running, found: dict[str, list[float]]) -> None:
    """Measure what a piece of a stream costs, its share of the request with it."""
    connections, each = (STREAMS_SLOW, 1) if running.peer.slow else (STREAMS, EACH)
    before_s = cpu_s(running.process.pid)
    told = load(running.port, "streams", running.peer, connections, each)
    found["chunk"].append((cpu_s(running.process.pid) - before_s) / told["chunks"] * US_PER_S)
    found["pieces that came alone"].append(told["reads"] / told["chunks"])


def pace(running: Running, found: dict[str, list[float]], upstream_port: int) -> None:
    """Measure what a router adds to the latency of the upstream itself."""
    if running.peer.slow:
        return
    direct, through = (load(port, "steady", running.peer, STEADY_RPS, STEADY) for port in (upstream_port, running.port))
    for name in ("p50_us", "p99_us"):
        found[name].append(through[name] - direct[name])


def hold(running: Running, kind: str, count: int) -> float:
    """Return how much more memory a router holds with so many open answers, MB."""
    before_mb = memory_mb(running.process.pid)
    words = [str(running.port), kind, "1", str(count), "0"]
    command = ["taskset", "-c", "1", sys.executable, "-m", "benchmarks.route.load", *words]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        opened = process.stdout.readline().strip() == "open"
        held_mb = memory_mb(running.process.pid) - before_mb
        process.communicate("\n", LOAD_S_MAX)
    if not opened or process.returncode:
        raise Skipped("not every stream was held open")
    return held_mb


def measured(upstream_port: int) -> tuple[Found, list[Running]]:
    """Measure every router that is there, in turn."""
    found: Found = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        there = []
        for peer in PEERS:
            try:
                there.append(stack.enter_context(serving(peer, upstream_port)))
            except Skipped as reason:
                print(f"{peer.name}: left out: {reason}", flush=True)
        for _ in range(TURNS):
            for running in there:
                mine = found[running.peer.name]
                ask(running, mine)
                stream(running, mine)
                pace(running, mine, upstream_port)
        for running in there:
            if not running.peer.slow:
                found[running.peer.name]["held_mb"].append(hold(running, "hold", HELD))
                found[running.peer.name]["flooded_mb"].append(hold(running, "flood", FLOODED))
    return found, there


def figures_of(name: str, mine: dict[str, list[float]], running: Running) -> Iterator[Figure]:
    """Yield what was measured of one router, bars beside our own."""
    ours = running.peer is OURS
    yield Figure(f"{name}: processor time of a request", median(mine["request"]), "µs")
    yield Figure(f"{name}: processor time of a piece of a stream", median(mine["chunk"]), "µs")
    yield Figure(f"{name}: reads of the client for each piece", median(mine["pieces that came alone"]), "")
    if mine["p50_us"]:
        bars = (P50_US_BAR, P99_US_BAR) if ours else (None, None)
        yield Figure(f"{name}: added at 1,000 requests/s, median", min(mine["p50_us"]), "µs", bars[0])
        yield Figure(f"{name}: added at 1,000 requests/s, 99 of 100", min(mine["p99_us"]), "µs", bars[1])
    if mine["held_mb"]:
        yield Figure(f"{name}: memory of an open stream", mine["held_mb"][0] * 1e3 / HELD, "kB")
        yield Figure(
            f"{name}: memory of a stream whose reader stands still", mine["flooded_mb"][0] * 1e3 / FLOODED, "kB"
        )
    yield Figure(f"{name}: until it listens", running.ready_s, "s", READY_S_BAR if ours else None)
    yield Figure(f"{name}: memory after 200 requests", running.memory_mb, "MB", WORKER_MB_BAR if ours else None)


def ratios(found: Found) -> Iterator[Figure]:
    """Yield how many times as much the others take as we do."""
    for what, label in (("request", "requests"), ("chunk", "pieces of streams")):
        for name, theirs in found.items():
            if name not in {OURS.name, OURS_BARE.name}:
                ratio = median(theirs[what]) / median(found[OURS.name][what])
                bar = BARS.get((what, name))
                yield Figure(f"{label} of a processor second, of {name}'s", ratio, "×", bar, at_least=True)


def run() -> list[Figure]:
    """Return what each router takes, and how ours compares."""
    if not Path("/proc/self/schedstat").exists() or not {0, 1} <= os.sched_getaffinity(0):
        raise Skipped("it needs two cores, and a kernel that books processor time by thread")
    port = free_port()
    upstream = begun([sys.executable, "-m", "benchmarks.route.mock", str(port)], 1)
    try:
        awaited(upstream, port)
        found, there = measured(port)
    finally:
        end(upstream)
    figures = [one for running in there for one in figures_of(running.peer.name, found[running.peer.name], running)]
    return [*figures, *(ratios(found) if OURS.name in found else ())]
