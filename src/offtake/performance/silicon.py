"""Build step tables from ``aiconfigurator_core``, NVIDIA's file of measured kernels (the extra ``offtake[silicon]``).

Comes in: a :class:`SiliconChoice` (model, system, backend, version, parallelism). Goes out: a ``library.StoredTable``,
the small arrays of ``steps`` with their provenance, built in about half a second and kept in the user's cache.

What the arrays mean, in aiconfigurator's terms (``mixed_step_breakdown`` = total, rest, prefill attention A, decode
attention; all with ``osl=2``, which makes ``isl`` the mean context): ``token_ns`` is the rest plus the
floor A(1), paid once in each step that prefills; ``prefill_ns`` is A(p) - A(1). Where a model's attention is measured
as one fused block (DeepSeek in FP8), A(p) is the block at one prompt of p less the block at prompts of 512 tokens, and
the decode attention of a mixed step is what context adds to a pure decode step. Points are asked for only where a
straight line between the last ones would miss by more than the tolerance; what that leaves is measured against direct
calls and told in the provenance. This module must never know a price.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from importlib.metadata import version as package_version
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from offtake.errors import Fault, InputError
from offtake.performance.library import StoredTable, load_table, save_table
from offtake.performance.overhead import Layers, engine_on, host_of, notes_of, with_host
from offtake.performance.silicon_engine import (
    PACKAGE,
    Engine,
    SiliconChoice,
    data_sheet,
    limits_of,
    nearest_available,
    open_engine,
)
from offtake.performance.steps import Floats, StepTable, prefill_attention_ns, step_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["SiliconChoice", "build_table", "cached_table", "direct_step_ns", "nearest_available", "sparse_grid"]

VERSION = 3  #: of the method; a change makes cached tables void
LICENCE = "Apache-2.0"
GRID_TOLERANCE = 0.004
CONTEXT_TOLERANCE = 0.008
CHECK_SAMPLES = 200
CHECK_SEED = 20_260_501
SHORT_PROMPT_TOKENS = 512


class Precision(NamedTuple):
    """Say how closely a table follows direct calls.

    ``error_max``: by how much straight lines between the points may miss them (99th percentile). ``points``: spread in
    ratio, from which a grid is refined. ``batches``: asked for one by one, because few tokens change the kernel.
    """

    error_max: float
    points: int
    batches: int


FINE = Precision(0.03, 128, 64)
#: For a score, which needs hundreds of tables; fused attention is split into parts with up to 5%, and the tokens of
#: drafts are counted at one rate in a mixed step. The check draws batches up to 1,024 and prompts from 16 tokens, where
#: no run goes: Llama in static FP8 has a step at 513 to 625 requests (33%), drafts one beside prompts of some 100
#: tokens (39%); half of the points miss by less than 0.4%.
COARSE = Precision(0.4, 32, 0)


def build_table(name: str, choice: SiliconChoice, precision: Precision = FINE) -> StoredTable:
    """Build the step table and limits of one deployment, to be called ``name``, from measured kernels.

    The host's share is kept in fields of its own (``overhead``).

    Raises
    ------
    InputError
        If the extra is not installed, there is no data for the combination (the nearest that exist are named), the
        weights do not fit, or the error is above ``precision.error_max``.
    """
    engine = open_engine(choice)
    table = _table(engine, choice, precision)
    check = _check(engine, choice, table)
    if check["error_p99"] > precision.error_max:
        problem = f"{name}: straight lines miss direct calls by {check['error_p99']:.1%} (99th percentile)"
        raise InputError([Fault(PACKAGE, problem, f"Use another combination; {precision.error_max:.0%} is allowed.")])
    costs = engine_on(choice.backend, choice.system)
    host = host_of(costs, Layers(engine.layers, engine.sparse, engine.latent), choice.chips)
    notes = _provenance(engine, choice) | {"interpolation_check": check, "host": notes_of(costs, host)}
    return StoredTable(name, with_host(table, host), limits_of(choice), notes)


def cached_table(choice: SiliconChoice, cache: Path | None) -> StoredTable:
    """Return the coarse table of ``choice`` from the folder ``cache``, built and kept there when it is not yet.

    Its name holds a hash of the choice, the package's release and the method. None keeps nothing.
    """
    digest = hashlib.sha256(json.dumps([VERSION, package_version(PACKAGE), choice]).encode()).hexdigest()[:16]
    name = f"{choice.model.rsplit('/', 1)[-1].lower()}-{choice.system}-{choice.backend}-{digest}"
    if cache is None:
        return build_table(name, choice, COARSE)
    folder = cache / "tables"
    if not (folder / f"{name}.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_table(build_table(name, choice, COARSE), folder)
    return load_table(folder, name)


def sparse_grid(x: Floats, y: Floats, scale: Floats, tolerance: float = GRID_TOLERANCE) -> tuple[Floats, Floats]:
    """Return the few points of ``y [x]`` between which straight lines stay within ``tolerance * scale``.

    The point with the greatest error is kept and each side is treated likewise (Douglas and Peucker 1973).
    """
    keep = np.zeros(x.size, dtype=bool)
    keep[[0, -1]] = True
    pending = [(0, x.size - 1)]
    while pending:
        first, last = pending.pop()
        if last - first <= 1:
            continue
        inside = slice(first + 1, last)
        slope = (y[last] - y[first]) / (x[last] - x[first])
        error = np.abs(y[first] + slope * (x[inside] - x[first]) - y[inside]) / scale[inside]
        worst = first + 1 + int(np.argmax(error))
        if error.max() > tolerance:
            keep[worst] = True
            pending += [(first, worst), (worst, last)]
    return x[keep], y[keep]


def refined(ask: Callable[[int], float], points: Iterable[int], tolerance: float, floor: float = 0.0) -> _Curve:
    """Return whole points x and values y of ``ask``, halved until the middle of each gap is within ``tolerance``.

    An error counts relative to the value plus ``floor``.
    """
    known = {point: ask(point) for point in sorted(set(points))}
    order = sorted(known)
    pending = list(pairwise(order))
    while pending:
        low, high = pending.pop()
        if high - low < 2:  # noqa: PLR2004 - no whole number lies between
            continue
        middle = (low + high) // 2
        known[middle] = value = ask(middle)
        line = known[low] + (known[high] - known[low]) * (middle - low) / (high - low)
        if abs(value - line) > tolerance * (value + floor):
            pending += [(low, middle), (middle, high)]
    x = np.array(sorted(known), dtype=np.float64)
    return x, np.array([known[int(point)] for point in x])


_Curve = tuple[Floats, Floats]


def direct_step_ns(choice: SiliconChoice) -> Callable[[int, int, int], float]:
    """Return the function that asks aiconfigurator itself for a step, to check a table against.

    ``ask(prompt_tokens, batch, context_tokens)``: a whole prompt of ``prompt_tokens`` (0 for none) beside ``batch``
    requests decoding at ``context_tokens``. A mixed answer counts decode attention at the decoding requests' context.
    """
    return _asking(open_engine(choice))


def _asking(engine: Engine) -> Callable[[int, int, int], float]:
    """Return the direct answer of an engine."""

    def ask(prompt_tokens: int, batch: int, context_tokens: int) -> float:
        if prompt_tokens == 0:
            return engine.decode_step(batch, context_tokens)
        decode_ns = 0.0
        if batch and engine.fused:
            decode_ns = max(0.0, engine.decode_step(batch, context_tokens) - engine.decode_step(batch, 1))
        elif batch:
            decode_ns = engine.decode_attention(batch, context_tokens)
        return engine.prompt_beside(prompt_tokens, batch) + decode_ns

    return ask


def _table(engine: Engine, choice: SiliconChoice, precision: Precision) -> StepTable:
    """Return the arrays of one deployment, chip times alone."""
    floor_ns = _prefill_attention(engine, 1)
    points = _spread(choice.step_tokens_max, precision.points)
    token_grid, rest_ns = refined(lambda count: _rest(engine, count), points, GRID_TOLERANCE)
    first_ns = float(rest_ns[0]) + floor_ns
    points = _spread(choice.context_tokens_max, precision.points)
    tokens, attention_ns = refined(lambda count: _prefill_attention(engine, count), points, GRID_TOLERANCE, first_ns)
    above_ns = np.maximum.accumulate(attention_ns - attention_ns[0])
    prefill_grid, prefill_ns = sparse_grid(*_from_zero(tokens, above_ns), _from_zero(tokens, above_ns + first_ns)[1])
    batch_grid, context_grid = _decode_grids(engine, choice, precision)
    steps_ns = np.array([[engine.decode_step(int(b), int(c)) for c in context_grid] for b in batch_grid])
    if engine.fused:
        inside_ns = np.maximum(0.0, steps_ns - steps_ns[:, :1])
    else:
        inside_ns = np.array([[engine.decode_attention(int(b), int(c)) for c in context_grid] for b in batch_grid])
    if choice.drafts:
        most = int(token_grid[-1])
        per_token_ns = (_rest(engine, most) - _rest(engine, most // 4)) / (most - most // 4)
        inside_ns = inside_ns + choice.drafts * per_token_ns * batch_grid[:, None]
    token = sparse_grid(token_grid, rest_ns + floor_ns, rest_ns + floor_ns)
    return StepTable(*token, prefill_grid, prefill_ns, batch_grid, context_grid, inside_ns, steps_ns, 0.0)


def _spread(most: int, count: int) -> list[int]:
    """Return up to ``count`` whole points from 1 to ``most``, spread in ratio."""
    return [int(point) for point in np.unique(np.geomspace(1, most, count).round())]


def _from_zero(x: Floats, y: Floats) -> _Curve:
    """Put the point (0, first value or 0) before a curve."""
    return np.concatenate([[0.0], x]), np.concatenate([[y[0]], y])


def _rest(engine: Engine, tokens: int) -> float:
    """Return everything but attention in a step of ``tokens``, ns."""
    return engine.rest(tokens) - (_fused_attention(engine, tokens) if engine.fused else 0.0)


def _prefill_attention(engine: Engine, tokens: int) -> float:
    """Return the attention of a whole prompt of ``tokens``, ns."""
    return _fused_attention(engine, tokens) if engine.fused else engine.prefill_attention(tokens)


def _fused_attention(engine: Engine, tokens: int) -> float:
    """Return what one prompt of ``tokens`` costs above the same tokens in prompts of 512, ns."""
    if tokens <= SHORT_PROMPT_TOKENS:
        return 0.0
    count = tokens // SHORT_PROMPT_TOKENS
    short_ns = engine.fused_block(count, SHORT_PROMPT_TOKENS) * tokens / (count * SHORT_PROMPT_TOKENS)
    return max(0.0, engine.fused_block(1, tokens) - short_ns)


def _decode_grids(engine: Engine, choice: SiliconChoice, precision: Precision) -> tuple[Floats, Floats]:
    """Return the batches and contexts at which a pure decode step bends."""
    bends: set[float] = set()
    for context in (256, 2048, min(16_384, choice.context_tokens_max)):
        points = {*(2**power for power in range(12) if 2**power < choice.batch_max), choice.batch_max}
        if precision.batches:
            points |= set(range(1, min(precision.batches, choice.batch_max)))
            points |= set(_spread(choice.batch_max, precision.points))
        x, y = refined(partial(_step_by_batch, engine, context), points, GRID_TOLERANCE)
        bends |= set(sparse_grid(x, y, y)[0].tolist())
    turns: set[float] = set()
    for batch in {1, min(16, choice.batch_max), min(128, choice.batch_max), min(512, choice.batch_max)}:
        points = {1, *(2**power for power in range(5, 18) if 2**power < choice.context_tokens_max)}
        points.add(choice.context_tokens_max)
        if precision.batches:
            points |= set(_spread(choice.context_tokens_max, precision.points))
        x, y = refined(partial(engine.decode_step, batch), points, CONTEXT_TOLERANCE)
        turns |= set(sparse_grid(x, y, y, CONTEXT_TOLERANCE)[0].tolist())
    return np.array(sorted(bends | {1.0, 2.0})), np.array(sorted(turns))


def _step_by_batch(engine: Engine, context: int, batch: int) -> float:
    """Return a pure decode step at a context, ns."""
    return engine.decode_step(batch, context)


def _check(engine: Engine, choice: SiliconChoice, table: StepTable) -> dict[str, float]:
    """Return how far the table misses direct calls at random points, half of them mixed, spread in ratio."""
    rng = np.random.default_rng([CHECK_SEED, 1])
    ask, error = _asking(engine), []
    for index in range(CHECK_SAMPLES):
        batch = int(np.exp(rng.uniform(0, np.log(choice.batch_max))))
        context = int(np.exp(rng.uniform(np.log(32), np.log(choice.context_tokens_max))))
        longest = max(17, min(choice.step_tokens_max - batch, choice.context_tokens_max))
        prompt = int(np.exp(rng.uniform(np.log(16), np.log(longest)))) * (index % 2)
        attention_ns = prefill_attention_ns(table, 0.0, float(prompt))
        found = step_ns(table, float(prompt), attention_ns, float(batch), float(context))
        error.append(abs(found / ask(prompt, batch, context) - 1))
    p50, p99 = (round(float(np.quantile(error, share)), 5) for share in (0.5, 0.99))
    return {"samples": CHECK_SAMPLES, "error_p50": p50, "error_p99": p99}


def _provenance(engine: Engine, choice: SiliconChoice) -> dict[str, Any]:
    """Return what a reader must know to trust or rebuild the table."""
    kind = "measured kernels and the package's own estimates" if choice.estimated else "measured kernels"
    return {
        "source": f"{PACKAGE} {package_version(PACKAGE)} (NVIDIA), {kind} composed into steps",
        "licence": LICENCE,
        "stand_in": choice.stand_in,
        "checkpoint": choice.model,
        "weight_bits": choice.weight_bits,
        "kv_bits": choice.kv_bits,
        "system": choice.system,
        "backend": f"{choice.backend} {choice.backend_version}",
        "tensor_parallel": choice.tensor_parallel,
        "expert_parallel": choice.expert_parallel,
        "attention_ranks": choice.attention_ranks,
        "layers": engine.layers,
        "sparse": engine.sparse,
        "latent": engine.latent,
        "fused_attention": engine.fused,
        "step_time_share_by_source": _shares(engine),
        "choice": choice._asdict(),
        "chip": data_sheet(choice),
        "confidence": "assumption" if choice.estimated else "estimate",
    }


def _shares(engine: Engine) -> dict[str, float]:
    """Return the share of a step (512 prompt tokens beside 64 decodes) by the package's own mark of its source."""
    totals: dict[str, float] = {}
    for part in engine.handle.mixed_step_breakdown_per_op(512, 64, 1024, 2):
        for operation in part:
            totals[operation[3]] = totals.get(operation[3], 0.0) + float(operation[1])
    whole = sum(totals.values())
    return {name: round(time / whole, 3) for name, time in sorted(totals.items()) if time > 0}
