"""State the constraints of training and research, one function each, named by the sentence it enforces.

Comes in: a :class:`~offtake.plan.variables.Model` whose variables are declared. Goes out: rows in its blocks, as in
``constraints.py``. Symbols: training w[s,t,b,j,n], trained chip-hours, missed ones, host[j,i], runs, goes, research z.
This module knows no solver and no money. Each function has a golden program in the tests.
"""

from __future__ import annotations

import numpy as np

from offtake.plan.blocks import Index, Span
from offtake.plan.problem import Bools
from offtake.plan.variables import Model, research_speed


def training_done_is_what_its_chips_do(model: Model) -> None:
    """Count the chip-hours a job gets in a period: trained[s,t,j] ≤ Σ_{b,n} hours·share·speed[j,n]·w."""
    problem, jobs, trained = model.problem, model.problem.jobs, model["trained"]
    span = Span(-np.inf, 0.0, trained.ids >= 0, trained.span.unit)
    rows = model.blocks.rows("training_done_is_what_its_chips_do", trained.axes, span).ids
    hours = (problem.period_hours[:, None] * problem.block_share)[:, :, None, None]
    model.blocks.put(rows, trained.ids, 1.0)
    model.blocks.put(rows[:, :, None, :, None], model["training"].ids, -hours * jobs.speed)


def training_is_done_by_its_deadline_or_missed(model: Model) -> None:
    """Do a job's chip-hours in its window: Σ_t trained[s,t,j] + missed[s,j] ≥ size[j]."""
    jobs, missed = model.problem.jobs, model["missed"]
    span = Span(jobs.chip_hours, np.inf, unit=missed.span.unit)
    rows = model.blocks.rows("training_is_done_by_its_deadline_or_missed", missed.axes, span).ids
    model.blocks.put(rows[:, None, :], model["trained"].ids, 1.0)
    model.blocks.put(rows, missed.ids, 1.0)


def a_single_site_job_stays_at_its_host(model: Model) -> None:
    """Run a single-site job at one site: Σ_i host[j,i] ≤ 1, Σ_{n∈i} w ≤ most[j,i]·host[j,i]."""
    problem, hosts, training = model.problem, model["hosts"].ids, model["training"].ids
    one = model.blocks.rows(
        "a_single_site_job_stays_at_its_host (one)", ("job",), Span(-np.inf, 1.0, problem.jobs.single_site)
    )
    model.blocks.put(one.ids[:, None], hosts, 1.0)
    most = _most_chips(model)  # [J, I]
    chips = float(model.units.chips[~problem.cells.is_api].max(initial=1.0))
    where = np.zeros((*training.shape[:4], hosts.shape[1]), dtype=np.bool_)
    for site in range(hosts.shape[1]):
        cells = problem.cells.site == site
        where[..., site] = (training[..., cells] >= 0).any(axis=-1) & problem.jobs.single_site
    axes = ("scenario", "period", "block", "job", "site")
    rows = model.blocks.rows("a_single_site_job_stays_at_its_host", axes, Span(-np.inf, 0.0, where, chips)).ids
    model.blocks.put(rows[..., problem.cells.site], training, 1.0)
    model.blocks.put(rows, hosts, -most)


def a_gang_runs_whole_or_not_at_all(model: Model) -> None:
    """Run a gang of G[j] chips only where so many are there: Σ_n w ≤ G·runs[s,t,j], chips at its site(s) ≥ G·runs.

    One gang runs at a time; w is its chips averaged over the block. For a single-site job the chips are those
    of its host: chips at i ≥ G·(runs + host[j,i] − 1).
    """
    problem, jobs, runs = model.problem, model.problem.jobs, model["runs"].ids
    name, training = "a_gang_runs_whole_or_not_at_all", model["training"].ids
    gang = jobs.gang_chips
    unit = float(model.units.chips[~problem.cells.is_api].max(initial=1.0))
    axes = ("scenario", "period", "block", "job")
    rows = model.blocks.rows(name, axes, Span(-np.inf, 0.0, (runs >= 0)[:, :, None], unit)).ids
    model.blocks.put(rows[..., None], training, 1.0)
    model.blocks.put(rows, runs[:, :, None], -gang)
    single = jobs.single_site
    there = model.blocks.rows(
        f"{name} (there)", ("scenario", "period", "job"), Span(0.0, np.inf, (runs >= 0) & ~single, unit)
    ).ids
    model.blocks.put(there, runs, -gang)
    hosts = model["hosts"].ids
    span = Span(-gang[:, None], np.inf, (runs >= 0)[..., None] & (hosts >= 0), unit)
    host = model.blocks.rows(f"{name} (at its host)", ("scenario", "period", "job", "site"), span).ids
    model.blocks.put(host, runs[..., None], -gang[:, None])
    model.blocks.put(host, hosts, -gang[:, None])
    for job in np.flatnonzero(gang > 0):
        _count_chips(model, int(job), there[:, :, job, None] if not single[job] else host[:, :, job])


def a_job_that_may_not_pause_trains_alike_in_all_blocks(model: Model) -> None:
    """Train with as many chips in every block of a week: Σ_n w[s,t,b,j,n] = Σ_n w[s,t,0,j,n] where j may not pause."""
    training, goes = model["training"].ids, model["goes"].ids
    where = np.broadcast_to((goes >= 0)[:, :, None], training.shape[:4]).copy()
    where[:, :, :1] = False
    span = Span(0.0, 0.0, where, _chip_unit(model))
    name = "a_job_that_may_not_pause_trains_alike_in_all_blocks"
    rows = model.blocks.rows(name, ("scenario", "period", "block", "job"), span).ids
    model.blocks.put(rows[..., None], training, 1.0)
    model.blocks.put(rows[..., None], training[:, :, :1], -1.0)


def a_job_that_may_not_pause_goes_on_once_it_has_begun(model: Model) -> None:
    """Begin once and go on until done: Σ_n w ≤ most·goes, goes[t] ≤ goes[t−1] + begins[t], Σ_t begins[t] ≤ 1.

    While it goes on it does no less than before: trained[t]/hours[t] ≥ trained[t−1]/hours[t−1] − most rate·(1 −
    goes[t+1]). A gang trains whole between its first and its last period: trained[t] ≥ hours[t]·G·slowest·(goes[t−1] +
    goes[t] + goes[t+1] − 2).
    """
    problem, goes, begins = model.problem, model["goes"].ids, model["begins"].ids
    name, unit = "a_job_that_may_not_pause_goes_on_once_it_has_begun", _chip_unit(model)
    most = _most_chips(model).sum(axis=1)
    axes = ("scenario", "period", "job")
    rows = model.blocks.rows(name, axes, Span(-np.inf, 0.0, goes >= 0, unit)).ids
    model.blocks.put(rows[..., None], model["training"].ids[:, :, 0], 1.0)
    model.blocks.put(rows, goes, -most)
    rows = model.blocks.rows(f"{name} (begins)", axes, Span(-np.inf, 0.0, goes >= 0)).ids
    model.blocks.put(rows, goes, 1.0)
    model.blocks.put(rows, _shifted(goes, 1), -1.0)
    model.blocks.put(rows, begins, -1.0)
    once = Span(-np.inf, 1.0, np.any(begins >= 0, axis=1))
    rows = model.blocks.rows(f"{name} (once)", ("scenario", "job"), once).ids
    model.blocks.put(rows[:, None, :], begins, 1.0)
    before, after = _shifted(goes, 1), _shifted(goes, -1)
    between: Bools = np.asarray((goes >= 0) & (before >= 0) & (after >= 0))
    trained, per_hour = model["trained"].ids, 1.0 / problem.period_hours[:, None]
    rate = most * problem.jobs.speed.max(axis=1, initial=0.0)
    rows = model.blocks.rows(f"{name} (no less)", axes, Span(-rate, np.inf, between, unit)).ids
    model.blocks.put(rows, trained, per_hour)
    model.blocks.put(rows, _shifted(trained, 1), -np.roll(per_hour, 1, axis=0))
    model.blocks.put(rows, after, -rate)
    whole = problem.jobs.gang_chips * _slowest(problem.jobs.speed)
    span = Span(-2 * whole, np.inf, np.asarray(between & (whole > 0), dtype=np.bool_), unit)
    rows = model.blocks.rows(f"{name} (whole gang)", axes, span).ids
    model.blocks.put(rows, trained, per_hour)
    for other in (before, goes, after):
        model.blocks.put(rows, other, -whole)


def research_keeps_its_floor(model: Model) -> None:
    """Keep a floor for research in every block: Σ_n speed·z + Σ_{j,n} speed[j,n]·w ≥ floor[t]."""
    problem, floor = model.problem, model.problem.jobs.floor_chips
    unit = float(model.units.chips[~problem.cells.is_api].max(initial=1.0))
    span = Span(floor[:, None], np.inf, (floor > 0)[:, None], unit)
    rows = model.blocks.rows("research_keeps_its_floor", ("scenario", "period", "block"), span).ids
    model.blocks.put(rows[..., None], model["research"].ids[:, :, None, :], research_speed(problem))
    model.blocks.put(rows[..., None, None], model["training"].ids, problem.jobs.speed)


ALL = (
    training_done_is_what_its_chips_do,
    training_is_done_by_its_deadline_or_missed,
    a_single_site_job_stays_at_its_host,
    a_gang_runs_whole_or_not_at_all,
    a_job_that_may_not_pause_trains_alike_in_all_blocks,
    a_job_that_may_not_pause_goes_on_once_it_has_begun,
    research_keeps_its_floor,
)


def _most_chips(model: Model) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Give the most chips a job could ever find at a site [J, I]; a gang needs no more than its size."""
    problem, deliveries = model.problem, model.problem.deliveries
    total = np.zeros(model.owned.shape)
    chips = deliveries.chips * problem.vintages.units_max[deliveries.vintage]
    np.add.at(total, (deliveries.scenario, deliveries.period, deliveries.cell), chips)
    at_site = np.zeros((*model.owned.shape[:2], len(problem.axes.sites)))
    for cell in np.flatnonzero(~problem.cells.is_api):
        at_site[:, :, problem.cells.site[cell]] += total[:, :, cell]
    most = at_site.max(axis=(0, 1), initial=0.0)
    gang = np.where(problem.jobs.gang_chips > 0, problem.jobs.gang_chips, np.inf)
    fewest: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.minimum(most[None, :], gang[:, None])
    return fewest


def _count_chips(model: Model, job: int, rows: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> None:
    """Add the chips a job may use, fixed and elastic, to ``rows [S, T, sites or 1]``."""
    problem, cells, deliveries = model.problem, model.problem.cells, model.problem.deliveries
    allowed = (problem.jobs.speed[job] > 0) & ~cells.is_api
    site = cells.site if rows.shape[2] > 1 else np.zeros_like(cells.site)
    row = np.where(allowed, rows[:, :, site], -1)
    model.blocks.put(row, model["capacity"].ids, 1.0)
    at = np.flatnonzero(deliveries.elastic)
    there = row[deliveries.scenario[at], deliveries.period[at], deliveries.cell[at]]
    model.blocks.put(there, model.kept[deliveries.unit][at], deliveries.chips[at])


def _chip_unit(model: Model) -> float:
    """Give the solver's unit of chips that train."""
    return float(model.units.chips[~model.problem.cells.is_api].max(initial=1.0))


def _shifted(ids: Index, periods: int) -> Index:
    """Give the columns of ``ids [S, T, J]`` some periods before (−1: none)."""
    moved = np.roll(ids, periods, axis=1)
    moved[:, 0 if periods > 0 else -1] = -1
    return moved


def _slowest(speed: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Give the speed of each job on the slowest chip that it may use [J]; 0 where there is none."""
    least = np.where(speed > 0, speed, np.inf).min(axis=1, initial=np.inf)
    slowest: np.ndarray[tuple[int], np.dtype[np.float64]] = np.where(np.isfinite(least), least, 0.0)
    return slowest
