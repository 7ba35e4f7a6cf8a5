"""Check a finished rehearsal against laws that no mistake in the engine can keep by luck.

Requests and tokens are conserved; Little's law L = λW holds at every pool, with L from an integral that the engine
keeps while it runs and W from the ends of requests; so does its twin for the places in service; no replica holds memory
it does not have or works more than the time there was; no pool gives more tokens than its roofline. Comes in: an
engine at rest and the tally of its ends. Goes out: what was checked, as sentences, or ``VerificationError``. This
module must never mend anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from offtake.errors import VerificationError
from offtake.performance.compiled import Rows
from offtake.rehearse.state import Engine
from offtake.rehearse.tally import Tally, ends_of, requests_in
from offtake.units import NS_PER_S

TOLERANCE = 1e-9  #: of sums of ns kept as float64


class Ledger(NamedTuple):
    """Hold the tally of one rehearsal, the counters of its pools and replicas, and where its books stand."""

    tally: Tally
    book: Any
    slots: int
    pools: Any
    rows: Any
    pool_of_replica: Any
    limits: Any
    horizon_ns: int


def ledger_of(engine: Engine, tally: Tally) -> Ledger:
    """Return what the checks look at."""
    plant = engine.plant
    limits = plant.tables.limits[plant.replicas.deployment]
    horizon_ns = int(max(engine.pools["last_ns"].max(initial=0), engine.book["last_ns"][0], 1))
    rows = plant.replicas.rows
    return Ledger(tally, engine.book, len(engine.flow), engine.pools, rows, engine.pool_of_replica, limits, horizon_ns)


def verify(ledger: Ledger, roofline_tokens_per_s: Mapping[int, float] | None = None) -> list[str]:
    """Return the checks that hold.

    Parameters
    ----------
    ledger
        A rehearsal that ran to its end.
    roofline_tokens_per_s
        By pool index: output tokens per second that no pool of its size can exceed.

    Raises
    ------
    VerificationError
        With every law that is broken.
    """
    found = [
        *_requests(ledger),
        *_order(ledger),
        *_tokens(ledger),
        *_little(ledger),
        *_service(ledger),
        *_limits(ledger),
        *_roofline(ledger, roofline_tokens_per_s or {}),
    ]
    broken = [sentence for holds, sentence in found if not holds]
    if broken:
        raise VerificationError("The rehearsal broke its own checks: " + "; ".join(broken))
    return [sentence for _, sentence in found]


Found = list[tuple[bool, str]]


def _requests(ledger: Ledger) -> Found:
    """Check that every request has one end, and that no pool keeps or invents one."""
    pools, cells, known = ledger.pools, ledger.tally.cells, int(ledger.book["known"][0])
    ended = sum(int(cells[name].sum()) for name in ("served", "refused", "failed"))
    here = np.bincount(ledger.pool_of_replica, weights=ledger.rows["in_flight"], minlength=len(pools))
    empty = (pools["present"] == 0) & (here == 0) & (pools["arrived"] == pools["left"])
    free = int(ledger.book["free"][0])
    whole = ended == known == requests_in(ledger.tally) and free == ledger.slots
    return [
        (whole, f"{ended} of {known} requests were served, refused or failed"),
        (bool(empty.all()), f"{int(empty.sum())} of {len(pools)} pools let out as many requests as came in"),
    ]


def _order(ledger: Ledger) -> Found:
    """Check that no served request is admitted before it came, or answers before it is admitted."""
    wrong = int(ledger.tally.cells["backwards"].sum())
    return [(wrong == 0, f"{wrong} served requests run backwards in time")]


def _tokens(ledger: Ledger) -> Found:
    """Check that the tokens which replicas counted step by step are those that requests asked for and got."""
    chips, tally, pools = ledger.pools["deployment"] >= 0, ledger.tally, ledger.pools
    asked = int(ends_of(tally, "input_tokens")[chips].sum() + pools["failed_read"].sum())
    asked += sum(int(ledger.rows[name].sum()) for name in ("prefill_lost", "prefill_again"))
    asked -= int(ledger.rows["hit_tokens"].sum())
    given = int((ends_of(tally, "output_tokens") - ends_of(tally, "served"))[chips].sum() + pools["failed_wrote"].sum())
    read, wrote = int(ledger.rows["prefill_tokens"].sum()), int(ledger.rows["decode_tokens"].sum())
    return [
        (read == asked, f"replicas read {read} prompt tokens of {asked}"),
        (wrote == given, f"replicas wrote {wrote} answer tokens of {given}, beside the first of each"),
    ]


def _little(ledger: Ledger) -> Found:
    """Check L = λW at every pool: the integral of requests present is the sum of their stays."""
    stay_ns = ends_of(ledger.tally, "stay_ns") + ledger.pools["evicted_ns"]
    gap = _gap(ledger.pools["present_ns"], stay_ns)
    return [(gap <= TOLERANCE, f"Little's law holds at every pool to {gap:.1e}")]


def _service(ledger: Ledger) -> Found:
    """Check that the integral of requests in service at each pool is the sum of their service times."""
    chips = ledger.pools["deployment"] >= 0
    running_ns = np.bincount(ledger.pool_of_replica, weights=ledger.rows["running_ns"], minlength=len(ledger.pools))
    service_ns = ends_of(ledger.tally, "service_ns") + ledger.pools["evicted_service_ns"]
    gap = _gap(running_ns[chips], service_ns[chips])
    return [(gap <= TOLERANCE, f"Little's law holds for the places in service to {gap:.1e}")]


def _gap(a: Rows, b: Rows) -> float:
    """Return the largest relative difference."""
    scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), 1.0)
    return float(np.max(np.abs(a - b) / scale, initial=0.0))


def _limits(ledger: Ledger) -> Found:
    """Check that no replica holds more than it has, or works longer than there was time."""
    rows, limits = ledger.rows, ledger.limits
    memory = bool((rows["kv_free_min"] >= 0).all() and (rows["kv_free"] == limits["kv_blocks"]).all())
    busy = float(np.max(rows["busy_ns"] / ledger.horizon_ns, initial=0.0))
    places = rows["running_ns"] / (limits["batch_max"] * float(ledger.horizon_ns))
    return [
        (memory, "KV blocks are never negative and all come back"),
        (busy <= 1.0, f"the busiest replica works {busy:.4f} of the time"),
        (
            float(places.max(initial=0.0)) <= 1.0,
            f"the fullest replica has {places.max(initial=0.0):.4f} of its places taken",
        ),
    ]


def _roofline(ledger: Ledger, roofline_tokens_per_s: Mapping[int, float]) -> Found:
    """Check that no pool gives more answer tokens a second than physics allows."""
    given = ends_of(ledger.tally, "output_tokens") / ledger.horizon_ns * NS_PER_S
    return [
        (given[index] <= limit, f"pool {index} gives {given[index]:.0f} tokens/s, under its roofline of {limit:.0f}")
        for index, limit in roofline_tokens_per_s.items()
    ]
