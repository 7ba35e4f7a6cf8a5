"""Score simulated serving against measured runs: replay every row of the file and tell how far off it was.

Comes in: the measured runs that ``aiconfigurator_core`` ships (``silicon_rows``). Goes out: a :class:`ScoreReport` with
one :class:`Replay` per run and the errors of TTFT, TPOT and throughput by group, beside aiconfigurator's own prediction
of the same rows. Each run is a closed loop at its concurrency, all clients starting at once, with ten prompts for each;
lengths are whole numbers drawn evenly from 0.8 to 1.0 of the nominal (``benchmark_lib.sh`` and ``benchmark_serving.py``
of SemiAnalysisAI/InferenceX), or the nominal ones in NVIDIA's own sweeps. TTFT and TPOT are means over the prompts: the
measured TTFT behaves as a mean. Throughput is clients / (TTFT + TPOT · (answer - 1)), for both alike.

Nothing here is calibrated on a row it reports as held out: the host's constants rest on the models of
``overhead.FITTED`` alone, and ``held out`` leaves those out. This module must never change a table to fit a row.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from offtake.errors import InputError
from offtake.performance.closed_loop import run_closed_loop
from offtake.performance.dense import prepare
from offtake.performance.overhead import FITTED, Layers, host_of, with_host
from offtake.performance.silicon import cached_table
from offtake.performance.silicon_engine import limits_of
from offtake.performance.silicon_own import Own, own_prediction
from offtake.performance.silicon_ranks import folded
from offtake.performance.silicon_rows import MeasuredRun, read_runs
from offtake.performance.silicon_serving import choices_of, door_of, engine_of
from offtake.units import MS_PER_S, NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from offtake.performance.library import StoredTable
    from offtake.performance.replica_state import Ints32
    from offtake.performance.silicon_engine import SiliconChoice
    from offtake.performance.steps import ReplicaLimits

PROMPTS_PER_CLIENT = 10
SHORTEST = 0.8  #: of the nominal length
SEED = 20_260_427
BUDGETS = (8_192, 16_384, 32_768)  #: of tokens a step, for which tables are built
BATCH_MAX = 1_024
CONTEXT_TOKENS_MAX = 18_432
#: Tokens that a step gives with 1 or 3 drafts: 85% of first drafts are right (85–90%: DeepSeek-V3, arXiv 2412.19437,
#: §5.4.3); of 3, 2.16 times the speed was measured (TensorRT-LLM tech blog 2), at a step about a tenth longer.
TOKENS_PER_STEP = {0: 1.0, 1: 1.85, 3: 2.4}
MEASURES = ("ttft", "tpot", "throughput")


class Options(NamedTuple):
    """Say what to score: the file (None: the package's), where tables are kept, every ``every``-th run, own ones."""

    path: Path | None = None
    cache: Path | None = None
    every: int = 1
    estimated: bool = True
    own: bool = True


class Replay(NamedTuple):
    """Hold one run beside what was simulated and what aiconfigurator says itself (NaN where there is nothing).

    ``source``: ``measured``, ``estimated`` (the package's own estimates fill gaps) or ``experts spread`` (whole experts
    per chip in the place of cut ones). ``reason``: why it is not covered. ``fitted``: its model was used for constants.
    """

    run: MeasuredRun
    source: str
    reason: str
    ttft_ms: float
    tpot_ms: float
    throughput_rps: float
    own: Own
    fitted: bool

    @property
    def covered(self) -> bool:
        """Say whether the run was simulated."""
        return not self.reason


class Spread(NamedTuple):
    """Hold absolute relative errors: median, 90th percentile, and the median of predicted over measured."""

    median: float
    p90: float
    bias: float


class Group(NamedTuple):
    """Hold the errors of a group of runs; ``errors`` and ``own`` by measure (``MEASURES``)."""

    kind: str
    name: str
    runs: int
    covered: int
    errors: dict[str, Spread]
    own_covered: int
    own: dict[str, Spread]


class ScoreReport(NamedTuple):
    """Hold every replay, the rows dropped as duplicates, the reasons for what is not covered, and the groups."""

    replays: list[Replay]
    dropped: int
    reasons: dict[str, int]
    groups: list[Group]


def score(options: Options | None = None, progress: Callable[[int, int, str], None] | None = None) -> ScoreReport:
    """Replay the measured runs and report the errors by group.

    Parameters
    ----------
    options
        What to score.
    progress
        Called with (runs done, runs in all, what is being done).

    Raises
    ------
    InputError
        If the extra is not installed or the file cannot be read.
    """
    options = Options() if options is None else options
    runs, dropped = read_runs(options.path)
    runs = runs[:: options.every]
    tables: dict[SiliconChoice, StoredTable | str] = {}
    replays = []
    for number, run in enumerate(runs):
        if progress is not None:
            progress(number, len(runs), f"{run.model} on {run.chips} × {run.system} with {run.backend}")
        replays.append(_replayed(run, options, tables))
    reasons: dict[str, int] = {}
    for replay in replays:
        if replay.reason:
            reasons[replay.reason] = reasons.get(replay.reason, 0) + 1
    return ScoreReport(replays, dropped, reasons, groups_of(replays))


def groups_of(replays: Sequence[Replay]) -> list[Group]:
    """Return the errors of all runs, of those held out and fitted, and by system, backend, model and version."""
    keys: list[tuple[str, Callable[[Replay], str]]] = [
        ("all", lambda _: "all"),
        ("constants", lambda one: "fitted" if one.fitted else "held out"),
        ("system", lambda one: one.run.system),
        ("backend", lambda one: one.run.backend),
        ("system, backend", lambda one: f"{one.run.system} {one.run.backend}"),
        ("model", lambda one: one.run.model),
        ("source", lambda one: one.source or "not covered"),
        ("version", lambda one: f"{one.run.backend} {one.run.version or '?'}"),
    ]
    groups = []
    for kind, key in keys:
        names = dict.fromkeys(sorted(key(one) for one in replays))
        groups += [_group(kind, name, [one for one in replays if key(one) == name]) for name in names]
    return groups


def record_of(report: ScoreReport, every: int, *, replays: bool = True) -> dict[str, Any]:
    """Return a report as it is written down, with every replay or the groups alone; NaN becomes null."""
    rows = [one._asdict() | {"run": one.run._asdict(), "own": one.own._asdict()} for one in report.replays]
    spreads = ("errors", "own")
    groups = [
        one._asdict() | {name: {key: value._asdict() for key, value in getattr(one, name).items()} for name in spreads}
        for one in report.groups
    ]
    whole = {"dropped": report.dropped, "every": every, "reasons": report.reasons, "groups": groups}
    return whole | ({"replays": rows} if replays else {})


def throughput_rps(run: MeasuredRun, ttft_ms: float, tpot_ms: float) -> float:
    """Return requests/s of a closed loop: clients over the time of one request of mean length."""
    answer = run.output_tokens * (1.0 if run.internal else (1 + SHORTEST) / 2)
    return MS_PER_S * run.clients / (ttft_ms + tpot_ms * (answer - 1))


def lengths_of(run: MeasuredRun) -> tuple[Ints32, Ints32]:
    """Draw the prompt and answer lengths of a run, tokens."""
    count = PROMPTS_PER_CLIENT * run.clients
    if run.internal:
        return np.full(count, run.input_tokens, np.int32), np.full(count, run.output_tokens, np.int32)
    rng = np.random.default_rng([SEED, run.input_tokens, run.output_tokens])
    pair = (rng.integers(int(SHORTEST * most), most + 1, count) for most in (run.input_tokens, run.output_tokens))
    first, second = (drawn.astype(np.int32) for drawn in pair)
    return first, second


def hosted(run: MeasuredRun, stored: StoredTable) -> StoredTable:
    """Return a table with the share of the host of a run's engine; the door of the run has the front end's."""
    notes = stored.provenance
    layers = Layers(int(notes["layers"]), bool(notes["sparse"]), bool(notes["latent"]))
    host = host_of(engine_of(run), layers, run.chips)
    return stored._replace(table=with_host(stored.table, host._replace(request_ns=0.0)))


def simulated(run: MeasuredRun, stored: StoredTable) -> tuple[float, float]:
    """Return the mean TTFT and TPOT of a run on a table with its host's share (``hosted``) and the run's limits, ms.

    With drafts a request takes fewer steps, each giving ``TOKENS_PER_STEP`` tokens.
    """
    door = door_of(run)
    limits = stored.limits._replace(batch_max=min(stored.limits.batch_max, run.clients), prefix_cache=0)
    together = door.gather_steps > 0 and run.attention_ranks > 1
    table, limits = folded(stored.table, limits, run.attention_ranks, run.input_tokens, together=together)
    inputs, outputs = lengths_of(run)
    gain = TOKENS_PER_STEP[run.drafts]
    steps = np.maximum(1, np.ceil(1 + (outputs - 1) / gain)).astype(np.int32)
    found = run_closed_loop(prepare([(table, limits)]), inputs, steps, run.clients, door)
    first_ns, finish_ns = found.outcome.first_token_ns, found.outcome.finish_ns
    ttft_ms = (float(np.mean(first_ns - found.sent_ns)) + stored.table.request_ns) / NS_PER_MS
    tpot_ms = float(np.mean((finish_ns - first_ns) / np.maximum(1, outputs - 1))) / NS_PER_MS
    return ttft_ms, tpot_ms


def _replayed(run: MeasuredRun, options: Options, tables: dict[SiliconChoice, StoredTable | str]) -> Replay:
    """Replay one run, or say why it cannot be."""
    fitted = any(name in run.model for name in FITTED)
    own = own_prediction(run) if options.own else Own(math.nan, math.nan, "not asked")
    nothing = Replay(run, "", run.reason, math.nan, math.nan, math.nan, own, fitted)
    if run.reason:
        return nothing
    choices = [one for one in choices_of(run) if options.estimated or not one.estimated]
    reason = "no step times"
    for choice in choices:
        stored = table_of(choice, options.cache, tables)
        if isinstance(stored, str):
            reason = stored
            continue
        try:
            ttft_ms, tpot_ms = simulated(run, hosted(run, stored)._replace(limits=limits_of_run(choice)))
        except InputError as error:
            return nothing._replace(reason=error.faults[0].problem)
        source = "estimated" if choice.estimated else "measured"
        if choice.expert_parallel != run.expert_parallel:
            source = "experts spread"
        return Replay(run, source, "", ttft_ms, tpot_ms, throughput_rps(run, ttft_ms, tpot_ms), own, fitted)
    return nothing._replace(reason=reason)


def _wide(choice: SiliconChoice) -> SiliconChoice:
    """Return a choice whose table serves every budget, batch and length of the file, so that few are built."""
    budget = next(size for size in BUDGETS if size >= choice.step_tokens_max)
    return choice._replace(step_tokens_max=budget, batch_max=BATCH_MAX, context_tokens_max=CONTEXT_TOKENS_MAX)


def table_of(
    choice: SiliconChoice, cache: Path | None, tables: dict[SiliconChoice, StoredTable | str]
) -> StoredTable | str:
    """Return a table that serves every run of the file, built once, or why there is none."""
    choice = _wide(choice)
    if choice not in tables:
        try:
            tables[choice] = cached_table(choice, cache)  # one for all budgets: each run has limits of its own
        except InputError as error:
            fits = "does not fit" not in error.faults[0].problem
            if not fits and choice.memory_fraction < 1.0:  # its limits are not used
                tables[choice] = table_of(choice._replace(memory_fraction=1.0), cache, tables)
                return tables[choice]
            tables[choice] = "no step times for the combination" if fits else "the weights do not fit the chips"
    return tables[choice]


@functools.cache
def limits_of_run(choice: SiliconChoice) -> ReplicaLimits:
    """Return the limits of a run's own choice, not of the wide one, whose larger steps leave less room for the cache.

    A measured run did fit: where the package's memory model has no room for it, it may take all of the chip's memory.
    """
    try:
        return limits_of(choice)
    except InputError:
        return limits_of(choice._replace(memory_fraction=1.0))


def _group(kind: str, name: str, replays: Sequence[Replay]) -> Group:
    """Return the errors of some replays."""
    ours = [one for one in replays if one.covered]
    theirs = [one for one in replays if math.isfinite(one.own.ttft_ms)]
    errors = _errors((one.run, one.ttft_ms, one.tpot_ms) for one in ours)
    own = _errors((one.run, one.own.ttft_ms, one.own.tpot_ms) for one in theirs)
    return Group(kind, name, len(replays), len(ours), errors, len(theirs), own)


def _errors(predictions: Iterable[tuple[MeasuredRun, float, float]]) -> dict[str, Spread]:
    """Return the spread of each measure over (run, TTFT, TPOT)."""
    ratios: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    for run, ttft_ms, tpot_ms in predictions:
        ratios["ttft"].append(ttft_ms / run.ttft_ms)
        ratios["tpot"].append(tpot_ms / run.tpot_ms)
        measured = throughput_rps(run, run.ttft_ms, run.tpot_ms)
        ratios["throughput"].append(throughput_rps(run, ttft_ms, tpot_ms) / measured)
    return {measure: spread_of(found) for measure, found in ratios.items() if found}


def spread_of(ratios: Sequence[float]) -> Spread:
    """Return median and 90th percentile of |ratio - 1|, and the median ratio."""
    array = np.array(ratios)
    error = np.abs(array - 1)
    return Spread(float(np.median(error)), float(np.quantile(error, 0.9)), float(np.median(array)))
