"""State every constraint of the plan, one function each, named by the sentence it enforces.

Comes in: a :class:`~offtake.plan.variables.Model` whose variables are declared. Goes out: rows in its blocks, in
the user's units, in families named after the function. Symbols: signed x[v], kept u[v,t], capacity A[s,t,n],
served y[s,t,b,l] at goodput g[l,s], refused r, deferred q, training w[s,t,b,j,n], research z, elastic use e. Training
is in ``training.py``. This module knows no solver and no money (see ``objective.py``). Each function has a golden
program in the tests.
"""

from __future__ import annotations

import numpy as np

from offtake.plan import training
from offtake.plan.blocks import Span
from offtake.plan.variables import Model, first_like, firsts, lots

BELOW_ZERO = Span(lower=-np.inf, upper=0.0)
ZERO = Span(upper=0.0)


def an_order_is_within_its_size(model: Model) -> None:
    """Keep an order that is placed at all between its least and greatest size: min[v]·c[v] ≤ x[v] ≤ max[v]·c[v]."""
    vintages, signed, chosen = model.problem.vintages, model["signed"], model["chosen"].ids
    span = Span(lower=-np.inf, upper=0.0, where=chosen >= 0)
    least = model.blocks.rows("an_order_is_within_its_size (least)", signed.axes, span)
    most = model.blocks.rows("an_order_is_within_its_size (greatest)", signed.axes, span)
    model.blocks.put(least.ids, chosen, vintages.units_min[:, None])
    model.blocks.put(least.ids, signed.ids, -1.0)
    model.blocks.put(most.ids, signed.ids, 1.0)
    model.blocks.put(most.ids, chosen, -vintages.units_max[:, None])


def an_offer_is_signed_at_most_in_full(model: Model) -> None:
    """Limit an offer's units over all its signing dates to its size: Σ_{v∈o} x[v] ≤ max[o]."""
    vintages = model.problem.vintages
    size = np.zeros(len(model.problem.axes.offers))
    np.maximum.at(size, vintages.offer, vintages.units_max)
    several = np.zeros((size.size, len(model.problem.axes.scenarios)), dtype=np.bool_)
    for offer in np.flatnonzero(np.bincount(vintages.offer, minlength=size.size) > 1):
        several[offer] = firsts(model.offer_like([int(offer)]))
    span = Span(lower=-np.inf, upper=size[:, None], where=several, unit=np.maximum(size, 1.0)[:, None])
    rows = model.blocks.rows("an_offer_is_signed_at_most_in_full", ("offer", "scenario"), span)
    model.blocks.put(rows.ids[vintages.offer], model.signed, 1.0)


def at_most_one_of_exclusive_offers(model: Model) -> None:
    """Sign at most one offer of an exclusive set: x[v] ≤ max[v]·taken[o(v)], Σ_{o∈set} taken[o] ≤ 1."""
    vintages, taken = model.problem.vintages, model["taken"].ids
    size = vintages.units_max[:, None]
    span = Span(lower=-np.inf, upper=0.0, where=taken[vintages.offer] >= 0, unit=np.maximum(size, 1.0))
    use = model.blocks.rows("at_most_one_of_exclusive_offers (use)", ("vintage", "scenario"), span)
    model.blocks.put(use.ids, model.signed, 1.0)
    model.blocks.put(use.ids, taken[vintages.offer], -size)
    sets = [sorted(set(some)) for some in model.problem.exclusive]
    where = np.zeros((len(sets), taken.shape[1]), dtype=np.bool_)
    for index, some in enumerate(sets):
        where[index] = firsts(model.offer_like(some))
    span = Span(lower=-np.inf, upper=1.0, where=where)
    one = model.blocks.rows("at_most_one_of_exclusive_offers", ("exclusion", "scenario"), span)
    for index, some in enumerate(sets):
        for offer in some:
            model.blocks.put(one.ids[index], taken[offer, model.offer_like([offer])], 1.0)


def what_is_signed_is_kept_until_notice_can_end_it(model: Model) -> None:
    """Keep what is signed while it is locked: u[v,s,t] = x[v,s] for t < lock_until."""
    vintages, kept = model.problem.vintages, model["kept"]
    period = np.arange(kept.ids.shape[2])
    locked = (kept.ids >= 0) & (period < vintages.lock_until[:, None, None])
    rows = model.blocks.rows(
        "what_is_signed_is_kept_until_notice_can_end_it",
        kept.axes,
        Span(upper=0.0, where=locked, unit=lots(model.problem)[:, None, None]),
    )
    model.blocks.put(rows.ids, kept.ids, 1.0)
    model.blocks.put(rows.ids, model.signed[..., None], -1.0)


def what_is_given_up_is_gone(model: Model) -> None:
    """Never let kept units rise after the lock: u[v,s,t] ≤ u[v,s,t−1], with x[v,s] before the first period.

    What is kept through a period was decided a notice earlier, on what was known then: scenarios of one node then
    share the column, so that nobody cancels on news that comes after the notice.
    """
    vintages, kept = model.problem.vintages, model["kept"]
    period = np.arange(kept.ids.shape[2])
    after = (kept.ids >= 0) & (period >= vintages.lock_until[:, None, None])
    unit = kept.span.unit
    span = Span(lower=-np.inf, upper=0.0, where=after, unit=unit)
    rows = model.blocks.rows("what_is_given_up_is_gone", kept.axes, span)
    model.blocks.put(rows.ids, kept.ids, 1.0)
    model.blocks.put(rows.ids, model.kept_before, -1.0)


def a_renewal_is_kept_to_its_end(model: Model) -> None:
    """Keep what is renewed for the renewal's length: u[v,s,t] ≥ u[v,s,t−1] while one runs that began before t."""
    vintages, kept = model.problem.vintages, model["kept"]
    runs = (kept.ids >= 0) & vintages.renewed[:, None, :]
    runs &= np.arange(kept.ids.shape[2]) >= vintages.lock_until[:, None, None]
    span = Span(lower=0.0, upper=np.inf, where=runs, unit=kept.span.unit)
    rows = model.blocks.rows("a_renewal_is_kept_to_its_end", kept.axes, span)
    model.blocks.put(rows.ids, kept.ids, 1.0)
    model.blocks.put(rows.ids, model.kept_before, -1.0)


def capacity_is_what_kept_units_deliver(model: Model) -> None:
    """Count the fixed chips in a cell: A[s,t,n] = Σ_v chips[s,v,t,n]·u[v,t] over deliveries that are not elastic."""
    deliveries, capacity = model.problem.deliveries, model["capacity"]
    span = Span(upper=0.0, where=capacity.ids >= 0, unit=model.units.chips)
    rows = model.blocks.rows("capacity_is_what_kept_units_deliver", capacity.axes, span)
    at = ~deliveries.elastic
    row = rows.ids[deliveries.scenario[at], deliveries.period[at], deliveries.cell[at]]
    model.blocks.put(rows.ids, capacity.ids, 1.0)
    model.blocks.put(row, model.kept[deliveries.unit][at], -deliveries.chips[at])


def elastic_use_is_within_what_is_delivered(model: Model) -> None:
    """Use no more elastic chips than kept units deliver: e[d,b] ≤ chips[d]·u[v,t]."""
    deliveries, used = model.problem.deliveries, model["used"]
    span = Span(-np.inf, 0.0, used.ids >= 0, model.units.chips[deliveries.cell][:, None])
    rows = model.blocks.rows("elastic_use_is_within_what_is_delivered", used.axes, span)
    model.blocks.put(rows.ids, used.ids, 1.0)
    model.blocks.put(rows.ids, model.kept[deliveries.unit][:, None], -deliveries.chips[:, None])


def every_request_is_served_refused_or_deferred(model: Model) -> None:
    """Balance demand: Σ_{l∈k} y + r + q = demand[s,t,b,k]."""
    problem, refused = model.problem, model["refused"]
    span = Span(problem.demand_rps, problem.demand_rps, refused.ids >= 0, model.units.demand_rps)
    rows = model.blocks.rows("every_request_is_served_refused_or_deferred", refused.axes, span)
    model.blocks.put(rows.ids[..., problem.lanes.workload], model["served"].ids, 1.0)
    model.blocks.put(rows.ids, refused.ids, 1.0)
    model.blocks.put(rows.ids, model["deferred"].ids, 1.0)


def deferred_work_is_done_within_the_week(model: Model) -> None:
    """Move work between blocks of a week only: Σ_b share[b]·q[s,t,b,k] = 0."""
    problem, deferred = model.problem, model["deferred"]
    axes = ("scenario", "period", "workload")
    span = Span(upper=0.0, where=problem.deferrable, unit=model.units.demand_rps)
    rows = model.blocks.rows("deferred_work_is_done_within_the_week", axes, span)
    model.blocks.put(rows.ids[:, :, None, :], deferred.ids, problem.block_share[:, None])


def work_fits_the_chips_of_a_cell(model: Model) -> None:
    """Fit work into chips: Σ_{l∈n} y/g[l,s] + Σ_j w + z ≤ A[s,t,n] + Σ_{d∈n} e[d,b]  (its dual is the bid price)."""
    problem, deliveries = model.problem, model.problem.deliveries
    there = (model.owned | model.rented)[:, :, None, :]
    span = Span(lower=-np.inf, upper=0.0, where=there, unit=model.units.chips)
    rows = model.blocks.rows("work_fits_the_chips_of_a_cell", ("scenario", "period", "block", "cell"), span).ids
    model.blocks.put(rows[..., problem.lanes.cell], model["served"].ids, _chips_per_rps(model))
    model.blocks.put(rows[:, :, :, None, :], model["training"].ids, 1.0)
    model.blocks.put(rows, model["research"].ids[:, :, None, :], 1.0)
    model.blocks.put(rows, model["capacity"].ids[:, :, None, :], -1.0)
    at = np.flatnonzero(deliveries.elastic)
    row = rows[deliveries.scenario[at], deliveries.period[at], :, deliveries.cell[at]]
    model.blocks.put(row, model["used"].ids[at], -1.0)


def power_of_a_site_carries_busy_and_idle_chips(model: Model) -> None:
    """Fit a site's load into its power: Σ_n kW[n]·(busy + idle[n]·rest) ≤ power[t,i].

    busy = Σ y/g + Σ_j w + z; rest = A + Σ e − busy. ``power[t,i]`` is the greatest over scenarios and blocks;
    in a block with less (curtailed, or late) idle chips are switched off: see the next constraint.
    """
    cells, power = model.problem.cells, model.problem.power_kw
    most = np.broadcast_to(power.max(axis=(0, 2), keepdims=True), power.shape)
    name = "power_of_a_site_carries_busy_and_idle_chips"
    idle = cells.kw_per_chip * cells.idle_share
    _load(model, name, Span(-np.inf, most, np.isfinite(most), model.units.kw), idle)


def busy_chips_fit_the_power_left_by_curtailment(model: Model) -> None:
    """Fit busy chips alone into what power is left where it is below its greatest: Σ_n kW[n]·busy ≤ power[s,t,b,i]."""
    power = model.problem.power_kw
    less = power < power.max(axis=(0, 2), keepdims=True)
    name = "busy_chips_fit_the_power_left_by_curtailment"
    _load(model, name, Span(-np.inf, power, less, model.units.kw), np.zeros(model.units.chips.size))


def traffic_fits_the_link_of_a_site(model: Model) -> None:
    """Fit traffic into a site's link: Σ_{l∈i} bytes[l]·y ≤ bandwidth[i]."""
    problem = model.problem
    limit = problem.link_bytes_per_s
    carried = np.zeros(limit.size, dtype=np.bool_)
    site = problem.cells.site[problem.lanes.cell]
    carried[site[problem.lanes.bytes_per_request > 0]] = True
    span = Span(-np.inf, limit, np.isfinite(limit) & carried, model.units.bytes_per_s)
    rows = model.blocks.rows("traffic_fits_the_link_of_a_site", ("scenario", "period", "block", "site"), span)
    model.blocks.put(rows.ids[..., site], model["served"].ids, problem.lanes.bytes_per_request)


def no_group_holds_more_than_its_share_of_firm_power(model: Model) -> None:
    """Limit concentration in every node: Σ_v kW[v,t,g]·u ≤ cap[g]·Σ_v kW[v,t]·u from the period the cap starts.

    kW[v,t,g] is the part of a unit's firm power that lies in the group.
    """
    vintages, limits, kept = model.problem.vintages, model.problem.limits, model.kept
    period = np.arange(kept.shape[2])[:, None]
    capped = (limits.group_cap < 1) & (period >= limits.group_cap_from)
    span = Span(-np.inf, 0.0, capped & firsts(model.kept_like)[..., None], model.units.kw)
    rows = model.blocks.rows("no_group_holds_more_than_its_share_of_firm_power", ("scenario", "period", "group"), span)
    beyond_kw = vintages.group_kw - limits.group_cap * vintages.firm_kw[:, :, None]  # [V, T, G]
    model.blocks.put(rows.ids, kept[..., None], beyond_kw[:, None])


def critical_work_survives_the_loss_of_any_one_group(model: Model) -> None:
    """Serve critical work without any one group (N−1): Σ_{l∈k} f[g,t,l] ≥ share·demand, Σ f/g ≤ chips of the others.

    Demand, deliveries and goodput are means over the scenarios of a node, in the block where critical demand is
    highest; other work gives way. Power and links are not counted again.
    """
    problem, limits = model.problem, model.problem.limits
    fallback, lanes, like = model["fallback"].ids, problem.lanes, model.kept_like
    share = _share_of_node(model)
    peak = _peak_of_node(model, share)  # [S, T, K]
    period = np.arange(peak.shape[1])
    guarded = limits.survive_group[:, None] & (period >= limits.group_cap_from[:, None])
    guarded = guarded & firsts(like)[:, None, :]  # [S, G, T]
    span = Span(
        limits.survive_share * peak[:, None], np.inf, guarded[..., None] & (peak[:, None] > 0), model.units.demand_rps
    )
    name = "critical_work_survives_the_loss_of_any_one_group"
    served = model.blocks.rows(f"{name} (work)", ("scenario", "group", "period", "workload"), span).ids
    model.blocks.put(served[..., lanes.workload], fallback, 1.0)
    span = Span(-np.inf, 0.0, guarded[..., None], model.units.chips)
    fits = model.blocks.rows(f"{name} (chips)", ("scenario", "group", "period", "cell"), span).ids
    goodput = lanes.goodput_rps_per_chip @ problem.probability
    model.blocks.put(fits[..., lanes.cell], fallback, 1.0 / goodput)
    deliveries = problem.deliveries
    chips = share[deliveries.scenario, deliveries.period] * deliveries.chips
    others = ~deliveries.group_member  # [E, G]
    row = fits[like[deliveries.scenario, deliveries.period], :, deliveries.period, deliveries.cell]  # [E, G]
    model.blocks.put(row, model.kept[deliveries.unit][:, None], -chips[:, None] * others)


def a_years_spend_is_within_its_budget(model: Model) -> None:
    """Spend no more than a year's budget in any scenario: Σ_{t∈year} (committed + operating)[s,t] ≤ budget[year]."""
    limits = model.problem.limits
    span = Span(-np.inf, limits.budget_usd, np.isfinite(limits.budget_usd), model.units.usd)
    rows = model.blocks.rows("a_years_spend_is_within_its_budget", ("scenario", "year"), span)
    model.blocks.put(rows.ids[:, limits.period_year], model["committed"].ids, 1.0)
    model.blocks.put(rows.ids[:, limits.period_year], model["operating"].ids, 1.0)


def prepayment_is_within_its_limit(model: Model) -> None:
    """Prepay no more than the limit in all: Σ_v prepay[v]·x[v,s] ≤ limit."""
    limit = model.problem.limits.prepay_usd_max
    span = Span(-np.inf, limit, np.isfinite(limit) & firsts(first_like(model.signed)), model.units.usd)
    rows = model.blocks.rows("prepayment_is_within_its_limit", ("scenario",), span)
    model.blocks.put(rows.ids, model.signed, model.problem.vintages.prepay_usd[:, None])


ALL = (
    an_order_is_within_its_size,
    an_offer_is_signed_at_most_in_full,
    at_most_one_of_exclusive_offers,
    what_is_signed_is_kept_until_notice_can_end_it,
    what_is_given_up_is_gone,
    a_renewal_is_kept_to_its_end,
    capacity_is_what_kept_units_deliver,
    elastic_use_is_within_what_is_delivered,
    every_request_is_served_refused_or_deferred,
    deferred_work_is_done_within_the_week,
    work_fits_the_chips_of_a_cell,
    power_of_a_site_carries_busy_and_idle_chips,
    busy_chips_fit_the_power_left_by_curtailment,
    traffic_fits_the_link_of_a_site,
    no_group_holds_more_than_its_share_of_firm_power,
    critical_work_survives_the_loss_of_any_one_group,
    a_years_spend_is_within_its_budget,
    prepayment_is_within_its_limit,
    *training.ALL,
)


def _share_of_node(model: Model) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Give the probability of each scenario within its node [S, T]."""
    like, probability = model.kept_like, model.problem.probability
    whole = np.zeros(like.shape)
    periods = np.broadcast_to(np.arange(like.shape[1]), like.shape)
    np.add.at(whole, (like, periods), np.broadcast_to(probability[:, None], like.shape))
    share: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = probability[:, None] / whole[like, periods]
    return share


def _peak_of_node(
    model: Model, share: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Give the mean critical demand of a node in its highest block [S, T, K], at the node's first scenario."""
    problem, like = model.problem, model.kept_like
    mean = np.zeros(problem.demand_rps.shape)
    periods = np.broadcast_to(np.arange(like.shape[1]), like.shape)
    np.add.at(mean, (like, periods), share[..., None, None] * problem.demand_rps * problem.limits.critical)
    block = mean.sum(axis=3).argmax(axis=2)
    peak: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.take_along_axis(mean, block[..., None, None], axis=2)
    return peak[:, :, 0]


def _chips_per_rps(model: Model) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Give chips busy per request/s [S, 1, 1, L]."""
    chips: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = 1.0 / model.problem.lanes.goodput_rps_per_chip.T
    return chips[:, None, None, :]


def _load(model: Model, name: str, span: Span, idle_kw: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Add rows over sites: Σ_n (kW − idle kW)·busy + idle kW·(A + Σ e) ≤ power, where chips can be."""
    cells, lanes, deliveries = model.problem.cells, model.problem.lanes, model.problem.deliveries
    drawn = np.zeros((*model.owned.shape[:2], len(model.problem.axes.sites)), dtype=np.bool_)
    powered = (model.owned | model.rented) & (cells.kw_per_chip > 0)
    for cell, site in enumerate(cells.site):
        drawn[:, :, site] |= powered[:, :, cell]
    where = np.asarray(span.where) & drawn[:, :, None, :]
    axes = ("scenario", "period", "block", "site")
    rows = model.blocks.rows(name, axes, Span(span.lower, span.upper, where, span.unit)).ids[..., cells.site]
    busy_kw = cells.kw_per_chip - idle_kw
    model.blocks.put(rows[..., lanes.cell], model["served"].ids, _chips_per_rps(model) * busy_kw[lanes.cell])
    model.blocks.put(rows[:, :, :, None, :], model["training"].ids, busy_kw)
    model.blocks.put(rows, model["research"].ids[:, :, None, :], busy_kw)
    if not idle_kw.any():
        return
    model.blocks.put(rows, model["capacity"].ids[:, :, None, :], idle_kw)
    at = np.flatnonzero(deliveries.elastic)
    row = rows[deliveries.scenario[at], deliveries.period[at], :, deliveries.cell[at]]
    model.blocks.put(row, model["used"].ids[at], idle_kw[deliveries.cell[at]][:, None])
