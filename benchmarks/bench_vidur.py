"""Compare one replica with Vidur: the same requests and step times, request by request, and CPU seconds.

Llama 3 8B on one A100, Sarathi with chunks of 512 tokens, at most 128 requests at once, requests like Azure's
conversations at 25, 60, 85 and 95% of saturation. Vidur looks its step times up in its own tables, which its random
forests predict from a stated profile: what is compared is scheduling, queueing and speed, not an A100. Two ways:

- *same curve*: prefill attention is A(end) - A(begin) in both, all else comes from Vidur's own tables. The answer must
  be the same: equal iterations, and every request's times to a microsecond.
- *Vidur's own tables*: prefill attention too, a staircase over a chunk's end and length (``StepTable.chunk_ns``).

Memory is never short: Vidur 0.0.26 stops with an assertion at its first preemption (``Request.restart`` leaves the
tokens of the stage as they were). Vidur is installed in an environment of its own (``environment.py``).
"""

from __future__ import annotations

import csv
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.environment import Environment
from benchmarks.harness import Figure, Measure
from benchmarks.scenes import lengths
from benchmarks.vidur.tables import table_of, with_own_chunks
from offtake.demand.request import Requests, requests_of
from offtake.performance.dense import Tables, prepare
from offtake.performance.replica import simulate_prepared
from offtake.performance.steps import ReplicaLimits
from offtake.units import NS_PER_S

VIDUR = Environment("Vidur", ("vidur==0.0.26",), "OFFTAKE_VIDUR_PYTHON")
SCRIPT = Path(__file__).parent / "vidur" / "simulate.py"
LOADS, REQUESTS, TURNS = (0.25, 0.60, 0.85, 0.95), 2_000, 20
TOKENS_MAX, STEP_TOKENS, BATCH_MAX, BLOCK_TOKENS, BLOCKS = 8_192, 512, 128, 16, 30_208  # as in simulate.py
WATERMARK = 0.01  # Vidur keeps 1% of the blocks free at an admission
ERROR_BAR, SPEED_BAR, SPEED_LOAD = 0.1, 5_000_000 / 1_500, 0.85  # the goals: 0.1%; 5 M against Vidur's 1,500
SAME_NS = 1_000


class Run(NamedTuple):
    """Hold what both made of one set of requests: times to first token and to the end [request], in seconds."""

    load: float
    ours: tuple[Any, Any]
    vidurs: tuple[Any, Any]
    iterations: tuple[int, int]
    cpu_s: tuple[float, float]

    def error(self, index: int) -> float:
        """Return how far our mean is from Vidur's, relative."""
        return float(self.ours[index].mean() / self.vidurs[index].mean() - 1.0)


def requests_at(rate_rps: float) -> Requests:
    """Return Poisson requests that fit into the 8,192 tokens of Vidur's tables."""
    rng = np.random.default_rng(2023)
    arrival_ns = np.cumsum(rng.exponential(NS_PER_S / rate_rps, REQUESTS)).astype(np.int64)
    inputs = np.minimum(lengths(rng, 1155.0, 0.9, REQUESTS), 7_000)
    return requests_of(arrival_ns, inputs, np.minimum(lengths(rng, 211.0, 0.75, REQUESTS), 1_000))


def write_requests(path: Path, load: Requests) -> None:
    """Write requests as the trace that Vidur replays."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Date", "Time", "PromptTokenCount", "CompletionTokenCount"])
        for at_ns, inputs, outputs in zip(*(column.tolist() for column in load[:3]), strict=True):
            writer.writerow(["day", repr(at_ns / NS_PER_S), inputs, outputs])


def compare_one(tables: Tables, load: float, requests: Requests, vidurs: Any) -> Run:  # noqa: ANN401  # an archive of arrays
    """Run ours on the requests that Vidur ran, and check that both did the same work."""
    start = time.process_time()
    for _ in range(TURNS):
        outcome = simulate_prepared(tables, requests.arrival_ns, requests.input_tokens, requests.output_tokens)
    cpu_s = (time.process_time() - start) / TURNS
    assert (outcome.finish_ns > 0).sum() == (vidurs["finish_s"] > 0).sum() == REQUESTS, "both serve every request"
    ours = [(end - requests.arrival_ns) / NS_PER_S for end in (outcome.first_token_ns, outcome.finish_ns)]
    theirs = [vidurs[name] - requests.arrival_ns / NS_PER_S for name in ("first_s", "finish_s")]
    iterations = int(outcome.row.steps), int(vidurs["iterations"])
    return Run(load, (ours[0], ours[1]), (theirs[0], theirs[1]), iterations, (cpu_s, float(vidurs["cpu_s"])))


def prepared(arrays: Any) -> dict[str, Tables]:  # noqa: ANN401  # an archive of arrays
    """Return Vidur's tables and limits as ours, with the stated curve of prefill attention and with Vidur's own."""
    limits = ReplicaLimits(BLOCKS, BLOCK_TOKENS, BATCH_MAX, STEP_TOKENS, TOKENS_MAX, prefix_cache=0)
    limits = limits._replace(watermark_blocks=int(WATERMARK * BLOCKS))
    table = table_of(arrays, STEP_TOKENS)
    return {"additive": prepare([(table, limits)]), "own": prepare([(with_own_chunks(table, arrays), limits)])}


def runs(folder: Path) -> dict[str, list[Run]]:
    """Let Vidur write its tables, make requests by the saturation they give, and run both."""
    VIDUR.call(str(SCRIPT), str(folder))
    with np.load(folder / "tables.npz") as arrays:
        tables = prepared(arrays)
    burst = requests_at(1e9)
    full = simulate_prepared(tables["own"], burst.arrival_ns, burst.input_tokens, burst.output_tokens)
    peak_rps = REQUESTS / full.finish_ns.max() * NS_PER_S
    sets = {load: requests_at(load * peak_rps) for load in LOADS}
    for load, requests in sets.items():
        write_requests(folder / f"requests-{load}.csv", requests)
    VIDUR.call(str(SCRIPT), str(folder))
    found: dict[str, list[Run]] = {"additive": [], "own": []}
    for kind, (load, requests) in itertools.product(found, sets.items()):
        with np.load(folder / f"{kind}-{load}.npz") as vidurs:
            assert (int(vidurs["blocks"]), int(vidurs["restarts"])) == (BLOCKS, 0), "the same memory, never short"
            found[kind].append(compare_one(tables[kind], load, requests, vidurs))
    return found


def figures(same: Run, own: Run) -> list[Figure]:
    """Return how far the means are from Vidur's, at one load, in percent."""
    assert same.iterations[0] == same.iterations[1], f"iterations differ: {same.iterations}"
    worst_ns = max(float(np.abs(a - b).max()) for a, b in zip(same.ours, same.vidurs, strict=True)) * NS_PER_S
    assert worst_ns <= SAME_NS, f"a request differs by {worst_ns:.0f} ns"
    work = f"({same.iterations[0]:,} iterations in both, worst request {worst_ns:.0f} ns apart)"
    kinds = (("same curve", work, same), ("Vidur's own tables", "", own))
    return [
        Figure(
            f"{kind}, mean {name} at {found.load:.0%} load {work}", 100 * abs(found.error(index)), "% off", ERROR_BAR
        )
        for kind, work, found in kinds
        for index, name in enumerate(("TTFT", "E2E"))
    ]


def run() -> list[Measure | Figure]:
    """Return the distance from Vidur's answer at each load, and the ratio of CPU seconds for the same requests."""
    with tempfile.TemporaryDirectory() as name:
        found = runs(Path(name))
    lines: list[Measure | Figure] = []
    for same, own in zip(found["additive"], found["own"], strict=True):
        lines += figures(same, own)
        name = f"one replica at {own.load:.0%} load"
        bar = SPEED_BAR if own.load == SPEED_LOAD else None
        lines.append(Measure(name, *own.cpu_s, "Vidur's simulation loop", REQUESTS, bar))
    return lines
