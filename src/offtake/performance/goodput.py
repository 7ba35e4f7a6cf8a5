"""Find the goodput of one replica: the highest steady rate at which its service level still holds.

Comes in: a step table with its limits, a sample of request lengths, and the TTFT and TPOT that 95% of requests must
meet. Goes out: requests/s, tokens/s, the load they mean and what stopped them. The replica's own kernel is run on
Poisson arrivals at rates found by bisection; every rate sees the same requests and the same gaps, only closer together
(common random numbers), so that the answer is the same each time and comparable across chips. Each rate is judged on
the middle of the run: the first quarter warms up, the last tenth drains. A rate counts only if the run is
*stationary* (``stationary``: the requests inside do not grow over its second half). The rate of saturation is measured
apart, with all requests waiting from the start. A disaggregated replica is searched in the same way. Kernels, and with
them the compiler, are loaded only where a goodput is not known yet. This module must never know a fleet, a price or a
clock.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.errors import Fault, InputError
from offtake.performance.dense import prepare
from offtake.performance.deployment import Deployment, known_hardware
from offtake.performance.library import content_hash
from offtake.performance.roofline import Claim, Shape, refuse_implausible, refuse_impossible, verify_possible
from offtake.performance.stationary import Stationarity, stationarity
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.units import NS_PER_MS, NS_PER_S

VERSION = 2  #: of the method; a change makes old cached answers void
REQUESTS = 32_000
WARM_SHARE = 0.25
DRAIN_SHARE = 0.10
FINE_WINDOWS = 400  #: in which requests are counted for the test of stationarity
LOAD_MAX = 0.98  #: of the rate of saturation; nearer to it no run of this length is stationary
QUANTILE = 0.95
IDLE_LOAD = 1e-3  #: of the rate of saturation, at which a replica that can never meet its times is found out
PRECISION = 0.005
SPEED_SPAN = 16.0  #: a fitted speed is sought between a 16th and 16 times that of the table

Ints = npt.NDArray[np.int64]


class Lengths(NamedTuple):
    """Hold a sample of request lengths: ``input_tokens [request]``, ``output_tokens [request]``."""

    input_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]


class Workers(NamedTuple):
    """Hold one of the two kinds of worker of a disaggregated replica, and how many there are of it."""

    table: StepTable
    limits: ReplicaLimits
    workers: int


class Pair(NamedTuple):
    """Hold a disaggregated replica; the two times are those of ``disaggregated.Disaggregation``."""

    prefill: Workers
    decode: Workers
    transfer_ns_per_token: float
    transfer_ns: int = 0


class Slo(NamedTuple):
    """Hold the times that 95% of requests must meet; infinite where there is no such limit."""

    ttft_ms_p95: float
    tpot_ms_p95: float


class Case(NamedTuple):
    """Hold one workload as a replica sees it."""

    lengths: Lengths
    slo: Slo
    seed: int = 0


class Goodput(NamedTuple):
    """Hold the goodput of one replica.

    ``rho`` is the rate as a share of the rate of saturation. ``stopped_by``: ``ttft``, ``tpot``, ``saturated``, or
    ``length`` when more than 5% of the requests are longer than the replica can hold. The two P95 are at that rate.
    """

    requests_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    rho: float
    stopped_by: str
    ttft_ms_p95: float
    tpot_ms_p95: float
    too_long_share: float


class _System(NamedTuple):
    """Hold what is searched: a run of it (first tokens and finishes, ns), its limits, and what a front end takes, ns.

    The front end takes it of every request, as if each came to the scheduler so much later.
    """

    run: Callable[[Ints, Lengths], tuple[Ints, Ints]]
    limits: list[ReplicaLimits]
    front_ns: int


class _Trial(NamedTuple):
    """Hold the requests of a search: gaps of mean 1, lengths, and the quantile that must meet the limits."""

    system: _System
    arrivals: npt.NDArray[np.float64]
    lengths: Lengths
    slo: Slo
    quantile: float


class _Verdict(NamedTuple):
    """Say whether a rate holds, what broke first (nothing: empty), and the two percentiles, ms."""

    rate_rps: float
    broke: str
    ttft_ms: float
    tpot_ms: float


def find_goodput(table: StepTable, limits: ReplicaLimits, case: Case, cache: Path | None = None) -> Goodput:
    """Find the goodput of one replica for one workload.

    ``cache``: a folder in which answers are kept by the hash of all that goes in; None keeps nothing.

    Raises
    ------
    InputError
        If the sample is empty or holds a request without tokens.
    """
    return _kept(content_hash(table, limits), case, cache, lambda: _search(_alone(table, limits), case))


def find_goodput_disaggregated(pair: Pair, case: Case, cache: Path | None = None) -> Goodput:
    """Find the goodput of one disaggregated replica, all its workers together, for one workload.

    Raises
    ------
    InputError
        As ``find_goodput``.
    """
    prefill, decode = pair.prefill, pair.decode
    said = [content_hash(each.table, each.limits) for each in (prefill, decode)]
    times = (pair.transfer_ns_per_token, pair.transfer_ns)
    name = f"{said} {prefill.workers} {decode.workers} {times}"
    return _kept(name, case, cache, lambda: _search(_together(pair), case))


def _kept(name: str, case: Case, cache: Path | None, search: Callable[[], Goodput]) -> Goodput:
    """Return the answer that is kept under all that goes into it, or search, and keep what is found."""
    if case.lengths.input_tokens.size == 0:
        raise InputError([Fault("lengths", "the sample of request lengths is empty", "Give at least one request.")])
    kept = None if cache is None else cache / f"goodput-{_key(name, case)}.json"
    if kept is not None and kept.exists():
        return Goodput(**json.loads(kept.read_text(encoding="utf-8")))
    found = search()
    if kept is not None:
        _keep(kept, found)
    return found


def evaluate(
    deployment: Deployment, cases: Mapping[str, Case], cache: Path | None = None
) -> tuple[Deployment, dict[str, Goodput]]:
    """Find the goodput of each workload on a deployment, every one checked against the roofline.

    Where the user measured goodputs, those are taken as they are and the step times are scaled until they give the
    same on (geometric) average; the deployment so fitted is returned.

    Raises
    ------
    InputError
        If a measured goodput, or one that follows from a stated ratio, is above the roofline.
    VerificationError
        If one that follows from a measured table is.
    """
    known = {name: case for name, case in cases.items() if name in deployment.measured_rps}
    for name, case in known.items():
        claim = Claim(deployment.measured_rps[name], "user table", name, "goodput_rps")
        refuse_impossible(claim, deployment.served, deployment.hardware, shape_of(case.lengths))
    if not deployment.fitted and known:
        deployment = _fit(deployment, known, cache)
    table, limits = deployment.stored.table, deployment.stored.limits
    found = {name: find_goodput(table, limits, case, cache) for name, case in cases.items()}
    for name, goodput in found.items():
        check = verify_possible if deployment.stated is None else refuse_impossible
        claim = (deployment.stated or Claim(0.0, f"goodput of {name}"))._replace(requests_per_s=goodput.requests_per_s)
        check(claim, deployment.served, deployment.hardware, shape_of(cases[name].lengths))
    return deployment, {name: _measured(goodput, deployment.measured_rps.get(name)) for name, goodput in found.items()}


def shape_of(lengths: Lengths) -> Shape:
    """Return the mean lengths of a sample, tokens."""
    return Shape(float(lengths.input_tokens.mean()), float(lengths.output_tokens.mean()))


def _alone(table: StepTable, limits: ReplicaLimits) -> _System:
    """Return one replica to be searched."""
    from offtake.performance.replica import simulate_prepared

    tables = prepare([(table, limits)])

    def run(arrival_ns: Ints, lengths: Lengths) -> tuple[Ints, Ints]:
        outcome = simulate_prepared(tables, arrival_ns, *lengths)
        return outcome.first_token_ns, outcome.finish_ns

    return _System(run, [limits], int(tables.limits[0].request_ns))


def _together(pair: Pair) -> _System:
    """Return a disaggregated replica to be searched, all its workers together."""
    from offtake.performance.disaggregated import Disaggregation, simulate_disaggregated

    both = (pair.prefill, pair.decode)
    prefill, decode = (prepare([(each.table, each.limits)]) for each in both)
    times = (pair.transfer_ns_per_token, pair.transfer_ns)
    replica = Disaggregation(prefill, decode, pair.prefill.workers, pair.decode.workers, *times)

    def run(arrival_ns: Ints, lengths: Lengths) -> tuple[Ints, Ints]:
        outcome = simulate_disaggregated(replica, arrival_ns, *lengths)
        return outcome.first_token_ns, outcome.finish_ns

    return _System(run, [each.limits for each in both], int(prefill.limits[0].request_ns))


def _search(system: _System, case: Case) -> Goodput:
    """Bisect for the highest rate that holds; a request must fit every kind of worker."""
    lengths, too_long = _fitting(system.limits, case.lengths)
    allowed = 1 - QUANTILE
    if too_long > allowed:
        return Goodput(0.0, 0.0, 0.0, 0.0, "length", math.inf, math.inf, too_long)
    trial = _trial(system, lengths, case, 1 - (allowed - too_long) / (1 - too_long))
    saturation = _saturation_rps(trial)
    held, stopped = _bisect(trial, saturation)
    shape = shape_of(trial.lengths)
    rate = held.rate_rps
    tokens_in, tokens_out = rate * shape.input_tokens_mean, rate * shape.output_tokens_mean
    return Goodput(rate, tokens_in, tokens_out, rate / saturation, stopped, held.ttft_ms, held.tpot_ms, too_long)


def _bisect(trial: _Trial, saturation_rps: float) -> tuple[_Verdict, str]:
    """Return the verdict at the highest rate that holds (0 when none does), and what broke just above it."""
    best = _judge(trial, saturation_rps * IDLE_LOAD)
    if best.broke:
        return best._replace(rate_rps=0.0), best.broke
    top = _judge(trial, saturation_rps * LOAD_MAX)
    if not top.broke:
        return top, "saturated"
    while top.rate_rps - best.rate_rps > PRECISION * top.rate_rps:
        verdict = _judge(trial, (best.rate_rps + top.rate_rps) / 2)
        if verdict.broke:
            top = verdict
        else:
            best = verdict
    return best, top.broke


def _fitting(limits: list[ReplicaLimits], lengths: Lengths) -> tuple[Lengths, float]:
    """Return the requests that a replica can hold, and the share that it cannot."""
    room = min(min(each.context_tokens_max, each.kv_blocks * each.block_tokens) for each in limits)
    fits = lengths.input_tokens.astype(np.int64) + lengths.output_tokens <= room
    return Lengths(lengths.input_tokens[fits], lengths.output_tokens[fits]), float(1 - fits.mean())


def _trial(system: _System, lengths: Lengths, case: Case, quantile: float) -> _Trial:
    """Draw the gaps, and as many requests as a run has, from the sample; both from the case's seed."""
    gaps = np.random.default_rng([case.seed, 1]).exponential(size=REQUESTS)
    order = np.random.default_rng([case.seed, 2]).integers(lengths.input_tokens.size, size=REQUESTS)
    drawn = Lengths(lengths.input_tokens[order], lengths.output_tokens[order])
    return _Trial(system, np.cumsum(gaps), drawn, case.slo, quantile)


def _saturation_rps(trial: _Trial) -> float:
    """Return the rate at which a replica finishes requests when all wait from the start."""
    start = np.zeros(REQUESTS, np.int64)
    finish_ns = np.sort(trial.system.run(start, trial.lengths)[1])
    first, last = int(WARM_SHARE * REQUESTS), int((1 - WARM_SHARE) * REQUESTS)
    return (last - first) * NS_PER_S / max(1, int(finish_ns[last] - finish_ns[first]))


def _settled(arrival_ns: Ints, finish_ns: Ints) -> bool:
    """Tell whether a run was stationary."""
    begin_ns, span_ns = int(arrival_ns[0]), max(1, int(arrival_ns[-1] - arrival_ns[0]))
    span = (begin_ns, begin_ns + span_ns)
    counts = [np.histogram(times, FINE_WINDOWS, span)[0].astype(np.uint32) for times in (arrival_ns, finish_ns)]
    stay = float(np.mean(finish_ns - arrival_ns)) / span_ns * FINE_WINDOWS
    return stationarity(counts[0], counts[1], FINE_WINDOWS, stay) == Stationarity.STATIONARY


def _judge(trial: _Trial, rate_rps: float) -> _Verdict:
    """Run one rate and say what broke, if anything: ``saturated`` comes before ``ttft``, and that before ``tpot``."""
    arrival_ns = (trial.arrivals * (NS_PER_S / rate_rps)).astype(np.int64)
    firsts_ns, finishes_ns = trial.system.run(arrival_ns, trial.lengths)
    window = slice(int(WARM_SHARE * REQUESTS), int((1 - DRAIN_SHARE) * REQUESTS))
    first_ns, finish_ns = firsts_ns[window], finishes_ns[window]
    more = trial.lengths.output_tokens[window].astype(np.int64) - 1
    ttft_ms = (_quantile(first_ns - arrival_ns[window], trial.quantile) + trial.system.front_ns) / NS_PER_MS
    spread = (finish_ns - first_ns)[more > 0] / more[more > 0]
    tpot_ms = _quantile(spread, trial.quantile) / NS_PER_MS if spread.size else 0.0
    if not _settled(arrival_ns, finishes_ns):
        return _Verdict(rate_rps, "saturated", ttft_ms, tpot_ms)
    if ttft_ms > trial.slo.ttft_ms_p95:
        return _Verdict(rate_rps, "ttft", ttft_ms, tpot_ms)
    return _Verdict(rate_rps, "tpot" if tpot_ms > trial.slo.tpot_ms_p95 else "", ttft_ms, tpot_ms)


def _quantile(values: npt.NDArray[np.generic], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not pass."""
    rank = min(values.size - 1, max(0, math.ceil(share * values.size) - 1))
    return float(np.partition(values, rank)[rank])


def _fit(deployment: Deployment, cases: Mapping[str, Case], cache: Path | None) -> Deployment:
    """Scale the step times until the goodputs of the measured workloads agree on (geometric) average, by bisection."""
    low, high = -math.log(SPEED_SPAN), math.log(SPEED_SPAN)
    while high - low > PRECISION:
        middle = (low + high) / 2
        if _surplus(deployment.faster(math.exp(middle)), cases, cache) < 0:
            low = middle
        else:
            high = middle
    speed = math.exp((low + high) / 2)
    where = deployment.stated or Claim(0.0, "user table")
    refuse_implausible(speed, deployment.hardware, known_hardware(deployment), where)
    return replace(deployment.faster(speed), fitted=True)


def _surplus(deployment: Deployment, cases: Mapping[str, Case], cache: Path | None) -> float:
    """Return the mean logarithm of goodput found over goodput measured."""
    total = 0.0
    for name, case in cases.items():
        rate = find_goodput(deployment.stored.table, deployment.stored.limits, case, cache).requests_per_s
        total += math.log(rate / deployment.measured_rps[name]) if rate > 0 else -math.inf
    return total / len(cases)


def _measured(goodput: Goodput, rate_rps: float | None) -> Goodput:
    """Put a measured rate in the place of the one that was found."""
    if rate_rps is None or goodput.requests_per_s <= 0:
        return goodput
    ratio = rate_rps / goodput.requests_per_s
    tokens_in, tokens_out = goodput.input_tokens_per_s * ratio, goodput.output_tokens_per_s * ratio
    return goodput._replace(
        requests_per_s=rate_rps, input_tokens_per_s=tokens_in, output_tokens_per_s=tokens_out, stopped_by="measured"
    )


def _key(name: str, case: Case) -> str:
    """Return the hash of all that goes into an answer."""
    digest = hashlib.sha256(f"{VERSION} {REQUESTS} {case.seed} {tuple(case.slo)}".encode())
    digest.update(name.encode())
    for array in case.lengths:
        digest.update(np.ascontiguousarray(array, dtype="<i4").tobytes())
    return digest.hexdigest()


def _keep(path: Path, found: Goodput) -> None:
    """Write an answer, whole or not at all; a folder that cannot be written is no fault."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(found._asdict()), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return
