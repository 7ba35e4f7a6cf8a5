"""Compile the kernels of a rehearsal before it is asked for, in processes of their own, while a plan is worked out.

Comes in: nothing. Goes out: processes to wait for; what they compile lies on disk, where the rehearsal finds it. A
machine that has compiled the kernels before loses two seconds of another core. It must never know a portfolio: kernels
are compiled for types, and the engine of an empty fleet has those of any other.
"""

from __future__ import annotations

from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

import numpy as np

from offtake.demand.request import no_requests
from offtake.fleet import FORMAT, Fleet, Pool, Site, Workload
from offtake.rehearse.actions import apply
from offtake.rehearse.engine import advance
from offtake.rehearse.options import Options
from offtake.rehearse.run import feed_of
from offtake.rehearse.state import Engine, new_engine
from offtake.rehearse.tally import add, new_tally
from offtake.rehearse.timeline import Action, Kind
from offtake.units import HOURS_PER_WEEK


def compile_ahead() -> list[BaseProcess]:
    """Begin to compile, and return the processes to ``join``; they end with this one."""
    context = get_context("spawn")
    processes = [context.Process(target=target, daemon=True) for target in (serve_nothing, let_nothing_happen)]
    for process in processes:
        process.start()
    return list(processes)


def serve_nothing() -> None:
    """Serve no request, which compiles what serves any."""
    with suppress(KeyboardInterrupt):
        advance(idle_engine(), feed_of(no_requests(), np.random.default_rng(0)), 0, 0)


def let_nothing_happen() -> None:
    """Let an event happen that changes nothing, and count no request, which compiles both for any."""
    with suppress(KeyboardInterrupt):
        engine = idle_engine()
        add(new_tally(EMPTY, 0), engine.ended, 0)
        apply(engine, Action(0, Kind.CONTROL, 0, 0.0))


def idle_engine() -> Engine:
    """Return the engine of a fleet in which nothing runs."""
    return new_engine(EMPTY, {}, Options(), slots=1)


EMPTY = Fleet(
    format=FORMAT,
    name="empty",
    week="",
    seed=0,
    version="",
    portfolio_hash="",
    regions=["nowhere"],
    block_of_hour=[0] * HOURS_PER_WEEK,
    block_share=[1.0],
    sites=[Site(name="nowhere", residency="", security=0, power_kw_max=0.0, rtt_ms=[0.0])],
    workloads=[
        Workload(
            name="nothing",
            model="none",
            kind="batch",
            profile="none",
            rate_rps=0.0,
            level=[1.0],
            region_share=[1.0],
            input_tokens_mean=1.0,
            output_tokens_mean=1.0,
            ttft_ms_p95=1.0,
            tpot_ms_p95=1.0,
            value_usd_per_request=0.0,
            refusal_usd_per_request=0.0,
        )
    ],
    pools=[
        Pool(
            name="none",
            kind="api",
            provider="nobody",
            site="nowhere",
            chip="",
            model="none",
            deployment="",
            replicas=0,
            chips_per_replica=0,
            offers=[],
            goodput_rps=[0.0],
            allotment_rps=[[0.0]],
            bid_usd_per_chip_s=[0.0],
        )
    ],
)
