"""Cut a problem down to the part that PyPSA can state without custom constraints.

Comes in: a problem. Goes out: the same demand, fees and deliveries without what PyPSA has no component for (ending what
is signed, offers of several cells, least orders, exclusive sets, jobs, deferral, concentration, N-1, budgets, the tail,
what is left at the end) or what would only be more of the same (whole units, several signing dates, power, links). Each
delivery of a vintage to a cell is an offer.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from offtake.plan.problem import Jobs, Problem, Vintages


def part_of(problem: Problem) -> Problem:
    """Return the part of a problem that is left."""
    vintages = one_cell_each(problem)
    names = [f"offer {v}" for v in range(vintages.offer.size)]
    axes, limits, cells = problem.axes, problem.limits, problem.cells
    _, vintage = pairs(problem)
    return replace(
        problem,
        axes=replace(axes, offers=names, vintages=names, jobs=[]),
        deferrable=np.zeros_like(problem.deferrable),
        power_kw=np.full_like(problem.power_kw, np.inf),
        link_bytes_per_s=np.full_like(problem.link_bytes_per_s, np.inf),
        cells=replace(cells, idle_share=np.zeros_like(cells.idle_share)),
        vintages=vintages,
        deliveries=replace(problem.deliveries, vintage=vintage),
        jobs=no_jobs(problem),
        limits=replace(
            limits,
            group_cap=np.ones_like(limits.group_cap),
            survive_group=np.zeros_like(limits.survive_group),
            budget_usd=np.full_like(limits.budget_usd, np.inf),
            prepay_usd_max=np.inf,
        ),
        risk_weight=0.0,
        exclusive=[],
    )


def pairs(
    problem: Problem,
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return the pairs of vintage and cell that are delivered [pair, 2], and that of each delivery."""
    deliveries = problem.deliveries
    both = np.stack([deliveries.vintage, deliveries.cell], axis=1)
    found, at = np.unique(both, axis=0, return_inverse=True)
    return found, at.ravel()


def one_cell_each(problem: Problem) -> Vintages:
    """Return a vintage for each pair of vintage and cell, kept to its end, its fees shared out evenly."""
    whole, old = problem.vintages, pairs(problem)[0][:, 0]
    share = 1.0 / np.bincount(old, minlength=whole.offer.size)[old]
    each = {field.name: getattr(whole, field.name)[old] for field in fields(whole)}
    return replace(
        Vintages(**each),
        offer=np.arange(old.size),
        units_min=np.zeros(old.size),
        whole_units=np.zeros(old.size, dtype=bool),
        all_or_nothing=np.zeros(old.size, dtype=bool),
        lock_until=whole.term_until[old],
        paid_usd=whole.paid_usd[old] * share[:, None, None],
        prepay_usd=whole.prepay_usd[old] * share,
        terminal_usd=np.zeros_like(whole.terminal_usd[old]),
    )


def no_jobs(problem: Problem) -> Jobs:
    """Return no jobs, and no floor for research."""
    none = np.zeros(0)
    return Jobs(
        chip_hours=none,
        first_period=none.astype(np.int64),
        last_period=none.astype(np.int64),
        single_site=none.astype(np.bool_),
        gang_chips=none,
        steady=none.astype(np.bool_),
        speed=np.zeros((0, problem.cells.site.size)),
        missed_usd=none,
        floor_chips=np.zeros(problem.period_hours.size),
    )
