"""Write down what became of every request, as one table.

Comes in: an engine at rest and its fleet. Goes out: a data frame, one row per request in order of arrival, written as
``outcome.parquet``. TTFT counts from arrival (or from the end of a deferral) and includes the round trip between user
and site. The cost of a request is what is paid because it was served, plus the chip-seconds it took at the price that
is paid for them whether used or not; what nobody took is idle cost, in ``summary``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from offtake.fleet import Fleet
from offtake.policy.view import Reason
from offtake.rehearse.state import Engine, Status
from offtake.units import NS_PER_MS, NS_PER_S, S_PER_HOUR

NOWHERE = "none"  #: pool and site of a request that was not served


def outcome_frame(engine: Engine, fleet: Fleet) -> pl.DataFrame:
    """Return one row per request; -1 stands for a time that there is none of.

    Columns
    -------
    arrival_ns
        Time from the first instant of the load.
    workload, kind, region
        What it is and where its user is.
    site, pool
        Where it was sent last; ``none`` if nowhere.
    status
        ``served``, ``refused`` or ``failed``.
    reason
        Why it was not served; see the policies.
    attempts
        Times it was offered to the policy.
    input_tokens, output_tokens
        Its lengths.
    deferred_ms
        Time it was put off before it entered a pool.
    queue_ms
        Time in the pool before it ran.
    ttft_ms
        Time to first token from arrival, or from the end of a deferral, round trip included.
    tpot_ms
        Time per output token after the first.
    e2e_ms
        Time from arrival to the last token, round trip included.
    entered_ns, finish_ns
        When it entered its pool, and when it left or was refused.
    within_ttft, within_tpot, within_slo
        Whether it was served with the first in time, the rest fast enough, and both.
    retry_after_ms
        When trying again would help, as the policy told it on refusing or deferring.
    value_usd
        Its value, if it was served.
    cost_usd
        What was paid because it was served, plus ``held_usd``.
    held_usd
        Fee of the chip time it took, of chips that are paid whether used or not.
    """
    flow, work = engine.flow, engine.plant.work
    served = flow["status"] == Status.SERVED
    pool, workload = flow["pool"].astype(np.int64), flow["workload"].astype(np.int64)
    ttft_ms, tpot_ms = _latencies(engine, served)
    within_ttft = served & (ttft_ms <= _of([w.ttft_ms_p95 for w in fleet.workloads], workload))
    within_tpot = served & (tpot_ms <= _of([w.tpot_ms_p95 for w in fleet.workloads], workload))
    released_ns = work["arrival_ns"].astype(np.int64)
    ended_ms = (work["finish_ns"] - flow["arrival_ns"]) / NS_PER_MS
    chip_s = _chip_seconds(engine, fleet, served)
    held_usd = _held_usd(engine, fleet, chip_s)
    return pl.DataFrame(
        {
            "arrival_ns": flow["arrival_ns"].astype(np.int64),
            "workload": _names([w.name for w in fleet.workloads], workload),
            "kind": _names([w.kind for w in fleet.workloads], workload),
            "region": _names(fleet.regions, flow["region"].astype(np.int64)),
            "site": _names([p.site for p in fleet.pools], pool),
            "pool": _names([p.name for p in fleet.pools], pool),
            "status": _names([status.name.lower() for status in Status], flow["status"].astype(np.int64)),
            "reason": _names([reason.name.lower() for reason in Reason], flow["reason"].astype(np.int64)),
            "attempts": flow["attempts"],
            "input_tokens": np.ascontiguousarray(work["input_tokens"]),
            "output_tokens": np.ascontiguousarray(work["output_tokens"]),
            "deferred_ms": (released_ns - flow["arrival_ns"]) / NS_PER_MS,
            "queue_ms": np.where(served, (work["start_ns"] - released_ns) / NS_PER_MS, -1.0),
            "ttft_ms": ttft_ms,
            "tpot_ms": tpot_ms,
            "e2e_ms": np.where(served, ended_ms + _rtt_ms(engine), -1.0),
            "entered_ns": np.ascontiguousarray(flow["entered_ns"]),
            "finish_ns": np.ascontiguousarray(work["finish_ns"]),
            "within_ttft": within_ttft,
            "within_tpot": within_tpot,
            "within_slo": within_ttft & within_tpot,
            "retry_after_ms": np.where(flow["retry_after_ns"] > 0, flow["retry_after_ns"] / NS_PER_MS, -1.0),
            "value_usd": _of([w.value_usd_per_request for w in fleet.workloads], workload) * served,
            "cost_usd": _used_usd(engine, served, chip_s) + held_usd,
            "held_usd": held_usd,
        }
    )


def _latencies(engine: Engine, served: Any) -> tuple[Any, Any]:  # noqa: ANN401  # arrays [request]
    """Return TTFT with the round trip, and TPOT, ms; -1 where not served."""
    work = engine.plant.work
    first_ms = (work["first_token_ns"] - work["arrival_ns"]) / NS_PER_MS + _rtt_ms(engine)
    gaps = np.maximum(work["output_tokens"] - 1, 1)
    tpot_ms = (work["finish_ns"] - work["first_token_ns"]) / gaps / NS_PER_MS
    return np.where(served, first_ms, -1.0), np.where(served, tpot_ms, -1.0)


def _rtt_ms(engine: Engine) -> Any:  # noqa: ANN401  # [request]
    """Return the round trip between each request's user and its site, ms; 0 where it has none."""
    pool = engine.flow["pool"].astype(np.int64)
    rtt_ms = engine.seen.rtt_ns[pool, engine.flow["region"].astype(np.int64)] / NS_PER_MS
    return np.where(pool >= 0, rtt_ms, 0.0)


def _chip_seconds(engine: Engine, fleet: Fleet, served: Any) -> Any:  # noqa: ANN401  # [request]
    """Return the chip-seconds each served request took, by the plan's figures.

    A pool that is driven beyond the plan's goodput serves more than its chip-seconds would allow; what it has is then
    shared out in proportion, so that nobody is charged for chips that are not there.
    """
    pool, workload = engine.flow["pool"].astype(np.int64), engine.flow["workload"].astype(np.int64)
    per_token = engine.seen.chip_s_per_token[pool, workload]
    work = engine.plant.work
    taken = served * (per_token[:, 0] * work["input_tokens"] + per_token[:, 1] * work["output_tokens"])
    span_s = float(np.ptp(engine.flow["arrival_ns"])) / NS_PER_S
    there = np.array([each.replicas * each.chips_per_replica * span_s for each in fleet.pools])
    total = np.bincount(pool[served], weights=taken[served], minlength=len(fleet.pools))
    share = np.minimum(1.0, np.divide(there, total, out=np.ones_like(total), where=total > 0))
    return taken * share[pool]


def _held_usd(engine: Engine, fleet: Fleet, chip_s: Any) -> Any:  # noqa: ANN401  # [request]
    """Return the chip-seconds of each served request at the price paid whether used or not, US dollars."""
    price = _of([pool.usd_per_chip_hour / S_PER_HOUR for pool in fleet.pools], engine.flow["pool"].astype(np.int64))
    return chip_s * price


def _used_usd(engine: Engine, served: Any, chip_s: Any) -> Any:  # noqa: ANN401  # [request]
    """Return what is paid only because each request was served: chip-seconds used, and tokens, US dollars."""
    pool = engine.flow["pool"].astype(np.int64)
    rows, work = engine.seen.pools, engine.plant.work
    chips = chip_s * rows["usd_per_chip_s_used"][pool]
    tokens = rows["usd_per_input_token"][pool] * work["input_tokens"]
    return chips + served * (tokens + rows["usd_per_output_token"][pool] * work["output_tokens"])


def _of(values: list[float], index: Any) -> Any:  # noqa: ANN401  # [request]
    """Return ``values`` by index; index -1 takes any, and is masked by the caller."""
    return np.array(values, np.float64)[index]


def _names(names: list[str], index: Any) -> pl.Series:  # noqa: ANN401  # [request]
    """Return a column of names, held as small integers; index -1 is nowhere."""
    kinds = list(dict.fromkeys([*names, NOWHERE]))
    code = np.array([kinds.index(name) for name in [*names, NOWHERE]], np.uint32)[index]
    return pl.Series(kinds, dtype=pl.Enum(kinds)).gather(pl.Series(code))
