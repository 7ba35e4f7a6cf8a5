"""Two mistakes that published simulators make, made on purpose here: our own checks catch both.

*Capacity counted twice.* A fleet simulator reports one P99 of 167.4 ms for 2 GPUs and for 24, where a queue that holds
a place until the answer ends gives 2,771 s and 0.104 s. *A short run of an overloaded system.* A tutorial finds in
five seconds that 8 instances meet 200 requests per second; with 20,000 requests the same command needs 16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offtake.demand.request import Requests, requests_of
from offtake.errors import VerificationError
from offtake.fleet import Fleet
from offtake.performance.library import load_shipped
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.policy.view import Policy
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import rehearse
from offtake.rehearse.run import Drive, run
from offtake.rehearse.state import new_engine
from offtake.rehearse.summary import Summary
from offtake.rehearse.tally import new_tally
from offtake.rehearse.verify import Ledger, ledger_of, verify
from offtake.units import NS_PER_MS, NS_PER_S
from tests.rehearse.fleets import constant_table, fleet, pool, workload

PLACES, STEP_MS, TOKENS = 8, 10, 50  # a request takes half a second, so a replica serves 16 a second
RATE_RPS, COUNT = 150.0, 15_000  # nearly five times what 2 replicas can serve, two fifths of what 24 can
DEPLOYMENT = "llama-3.1-70b-h100-tp4"  # serves 13.0 of Azure's conversations a second when it always has work


def one_pool(replicas: int) -> Fleet:
    """Return a fleet of one pool."""
    chat = workload("chat", ttft_ms_p95=500.0, tpot_ms_p95=200.0, region_share=[1.0, 0.0])
    return fleet([pool("a", "A", replicas=replicas, goodput_rps=[12.0])], workloads=[chat])


def fixed_requests() -> Requests:
    """Return Poisson requests that all take half a second."""
    arrival_ns = np.cumsum(np.random.default_rng(2).exponential(NS_PER_S / RATE_RPS, COUNT)).astype(np.int64)
    return requests_of(arrival_ns, np.full(COUNT, 16, np.int32), np.full(COUNT, TOKENS, np.int32))


def with_places(places: int, step_ms: float) -> dict[str, tuple[StepTable, ReplicaLimits]]:
    """Return replicas with so many places and steps of so many ms."""
    return {"one": (constant_table(step_ms * NS_PER_MS), ReplicaLimits(100_000, 16, places, 4_096, 10_000))}


def run_with(replicas: int, places: int, step_ms: float = STEP_MS) -> tuple[Ledger, float]:
    """Run the requests through replicas with so many places; return the ledger, and the P99 of the TTFT in ms."""
    ends: list[Any] = []
    engine = new_engine(one_pool(replicas), with_places(places, step_ms), Options(Policy.LEAST_LOADED))
    drive = Drive(engine, new_tally(one_pool(replicas), 0), lambda rows: ends.append(rows.copy()))
    assert run(drive, [fixed_requests()], [], 0, lambda _now_ns: None)
    found = np.concatenate(ends)
    ttft_ns = found["first_token_ns"] - found["arrival_ns"]
    return ledger_of(drive.engine, drive.tally), float(np.percentile(ttft_ns, 99)) / NS_PER_MS


# ── capacity counted twice ──────────────────────────────────────────────────────────────────────────────────────────
def test_with_every_place_counted_eight_times_2_and_24_replicas_have_one_p99_and_the_checks_say_so() -> None:
    (found, small_ms), (_, large_ms) = run_with(2, PLACES * PLACES), run_with(24, PLACES * PLACES)
    assert small_ms == pytest.approx(large_ms, rel=0.01)  # the published mistake
    stated = found.limits.copy()
    stated["batch_max"] = PLACES
    with pytest.raises(VerificationError, match=r"the fullest replica has 4\.\d+ of its places taken"):
        verify(found._replace(limits=stated))


def test_a_place_that_is_freed_before_the_answer_ends_breaks_littles_law() -> None:
    """The places turn over twice as fast as the answers that are reported."""
    found, _ = run_with(2, PLACES, STEP_MS / 4)
    found.tally.cells["service_ns"] *= 2
    with pytest.raises(VerificationError, match="Little's law holds for the places in service"):
        verify(found)


def test_in_ours_2_replicas_have_no_p99_and_24_have_one_near_two_steps() -> None:
    few, many = (
        rehearse(one_pool(n), with_places(PLACES, STEP_MS), fixed_requests(), Options(Policy.LEAST_LOADED)).summary
        for n in (2, 24)
    )
    assert (few.status, few.total.ttft_ms_p99) == ("not stationary", None)
    assert many.status == "stationary"
    assert many.total.ttft_ms_p99 is not None
    assert STEP_MS < many.total.ttft_ms_p99 - 10.0 < 3 * STEP_MS  # less the round trip of site A


# ── a short run of an overloaded fleet ──────────────────────────────────────────────────────────────────────────────
def at_200_rps(replicas: int, count: int) -> Summary:
    """Rehearse so many of Azure's conversations at 200 requests per second (mean 1,155 tokens in, 211 out)."""
    rng = np.random.default_rng(3)
    arrival_ns = np.cumsum(rng.exponential(NS_PER_S / 200.0, count)).astype(np.int64)
    inputs, outputs = (
        np.clip(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, count), 1, 8_000).astype(np.int32)
        for mean, sigma in ((1155.0, 0.9), (211.0, 0.75))
    )
    stored = load_shipped(DEPLOYMENT)
    deployments = {"one": (stored.table, stored.limits)}
    options = Options(Policy.LEAST_LOADED)
    return rehearse(one_pool(replicas), deployments, requests_of(arrival_ns, inputs, outputs), options).summary


@pytest.mark.parametrize("count", [1_000, 20_000])
@pytest.mark.parametrize("replicas", [8, 12, 14])
def test_too_few_replicas_never_meet_an_slo_however_short_the_run(replicas: int, count: int) -> None:
    summary = at_200_rps(replicas, count)
    assert summary.status in {"too short", "not stationary"}
    assert summary.total.ttft_ms_p99 is None
    assert summary.total.e2e_ms_p95 is None


def test_in_a_long_run_8_and_12_replicas_are_called_not_stationary_and_24_suffice() -> None:
    assert at_200_rps(8, 40_000).status == at_200_rps(12, 40_000).status == "not stationary"
    enough = at_200_rps(24, 60_000)
    assert enough.status == "stationary"
    assert enough.total.ttft_ms_p99 is not None
    assert enough.total.ttft_ms_p99 < 1_000.0
