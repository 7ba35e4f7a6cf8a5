"""Cut one week out of a solved plan: the fleet that rehearsal and router take over.

Comes in: an assembled problem and its solution. Goes out: a :class:`~offtake.fleet.Fleet`. The week is one of the
scenario of median demand in its period: what is there, what is placed and what is asked all belong to one
possible future. Bid prices are the plan's duals, which weigh every scenario: what a busy chip-second takes from other
work, in chips and in power, beyond what is paid for it only when used. It must never know a file.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offtake.fleet import FORMAT, Fleet, Pool, Site, Workload
from offtake.performance.model import weight_bytes
from offtake.plan.cuts import NOTHING, Cut
from offtake.plan.goodputs import Goodputs
from offtake.plan.prices import gb_per_chip_hour
from offtake.schema.columns import Confidence
from offtake.schema.marks import figures
from offtake.schema.settings import WorkloadRow
from offtake.supply.link import bandwidth_bytes_per_s
from offtake.units import BITS_PER_BYTE, BITS_PER_GBIT, BYTES_PER_GB, S_PER_HOUR, S_PER_MINUTE

Floats = npt.NDArray[np.float64]

API_SHARE_OF_SLO = 0.5  # assumption: an API answers in half the time its strictest workload allows


def fleet_of(cut: Cut, version: str, portfolio_hash: str) -> Fleet:
    """Return the fleet of a week."""
    assembled, load = cut.assembled, cut.assembled.inputs.load
    tables = assembled.inputs.portfolio.tables
    pools = [pool for pool in pools_of(cut) if pool.replicas > 0 or pool.kind == "api"]
    marks = [figure.confidence for figure in figures(tables)]
    return Fleet(
        format=FORMAT,
        name=tables.settings.name,
        week=cut.week.isoformat(),
        seed=tables.settings.seed,
        version=version,
        portfolio_hash=portfolio_hash,
        regions=[row.region for row in tables.regions],
        block_of_hour=load.block_of_hour,
        block_share=load.block_share.tolist(),
        sites=[site_of(cut, name) for name in assembled.problem.axes.sites if any(p.site == name for p in pools)],
        workloads=workloads_of(cut),
        pools=pools,
        assumption_share=marks.count(Confidence.ASSUMPTION) / max(len(marks), 1),
    )


def site_of(cut: Cut, name: str) -> Site:
    """Describe one site; a region without a link is put as far as the farthest that has one."""
    portfolio, problem = cut.assembled.inputs.portfolio, cut.assembled.problem
    row = portfolio.sites[name]
    known = {region: link.rtt_ms_median for (site, region), link in portfolio.links.items() if site == name}
    farthest = max(known.values(), default=0.0)
    index = problem.axes.sites.index(name)
    return Site(
        name=name,
        residency=row.residency,
        security=row.security,
        power_kw_max=float(problem.power_kw[cut.scenario, cut.period, :, index].max()),
        rtt_ms=[known.get(region.region, farthest) for region in portfolio.tables.regions],
        lat=row.lat,
        lon=row.lon,
        link_gbit_s=bandwidth_bytes_per_s(portfolio.links, name) * BITS_PER_BYTE / BITS_PER_GBIT,
        curtailment_hours_per_year=row.curtailment_hours_per_year,
        curtailment_share=row.curtailment_share if row.curtailment_hours_per_year > 0 else 0.0,
    )


def workloads_of(cut: Cut) -> list[Workload]:
    """Describe the streams of requests in the week."""
    load, tables = cut.assembled.inputs.load, cut.assembled.inputs.portfolio.tables
    return [
        Workload(
            name=row.workload,
            model=row.model,
            kind=row.kind,
            profile=row.profile,
            rate_rps=float(load.rate_rps[cut.scenario, cut.period, index]),
            level=load.level[:, index].tolist(),
            region_share=[row.regions.get(region.region, 0.0) for region in tables.regions],
            input_tokens_mean=float(load.input_tokens[index]),
            output_tokens_mean=float(load.output_tokens[index]),
            ttft_ms_p95=row.ttft_ms_p95,
            tpot_ms_p95=row.tpot_ms_p95,
            value_usd_per_request=row.value_usd_per_request,
            refusal_usd_per_request=row.refusal_usd_per_request,
            deferral_hours=row.deferral_hours,
            residency=row.residency,
            security=row.security,
        )
        for index, row in enumerate(tables.workloads)
    ]


def pools_of(cut: Cut) -> list[Pool]:
    """Return a pool for each cell that has chips and each model that may run there, and one for each API."""
    pools: list[Pool] = []
    for cell, place in enumerate(cut.assembled.cells):
        if cut.chips[:, cell].sum() <= NOTHING:
            continue
        lanes = [lane for lane, at in enumerate(cut.assembled.problem.lanes.cell) if at == cell]
        if place.is_api:
            pools += api_pools(cut, cell, lanes)
        else:
            pools += chip_pools(cut, cell, lanes)
    return pools


def chip_pools(cut: Cut, cell: int, lanes: list[int]) -> list[Pool]:
    """Split a cell's chips among the models that it serves, by the most that each needs in any block."""
    workloads = cut.assembled.inputs.portfolio.tables.workloads
    problem = cut.assembled.problem
    models = list(dict.fromkeys(workloads[problem.lanes.workload[lane]].model for lane in lanes))
    need = np.zeros(len(models))
    for place, model in enumerate(models):
        own = [lane for lane in lanes if workloads[problem.lanes.workload[lane]].model == model]
        served = cut.solution.served_rps[cut.scenario, cut.period][:, own]
        need[place] = (served / problem.lanes.goodput_rps_per_chip[own, cut.scenario]).sum(axis=1).max(initial=0.0)
    share = need / need.sum() if need.sum() > NOTHING else np.full(len(models), 1.0 / max(len(models), 1))
    serving = chips_for_serving(cut, cell)
    return [chip_pool(cut, cell, model, float(serving * part)) for model, part in zip(models, share, strict=True)]


def chips_for_serving(cut: Cut, cell: int) -> float:
    """Return the chips of a cell that can serve: fixed ones first, and every elastic one that kept units deliver.

    Fixed chips are those that training does not hold in the busiest block, and that have power to run. Elastic ones
    cost only when used, so a surge may rent more than the plan did: training is not taken off them. They run on what
    power the fixed ones leave when all of them are busy.
    """
    site = int(cut.assembled.problem.cells.site[cell])
    fixed = max(fixed_chips(cut, cell) - chips_held(cut, cell), 0.0)
    return fixed * powered_share(cut, site) + elastic_chips(cut, cell) * rented_share(cut, site)


def rented_share(cut: Cut, site: int) -> float:
    """Return the share of a site's elastic chips that its power can run beside all of its fixed ones, busy."""
    cells, problem = cut.assembled.problem.cells, cut.assembled.problem
    here = np.flatnonzero((cells.site == site) & ~cells.is_api)
    kw = cells.kw_per_chip[here]
    fixed, elastic = (np.array([count(cut, int(cell)) for cell in here]) for count in (fixed_chips, elastic_chips))
    left_kw = problem.power_kw[cut.scenario, cut.period, :, site].max() - float(kw @ fixed)
    asked_kw = float(kw @ elastic)
    return float(np.clip(left_kw / asked_kw, 0.0, 1.0)) if asked_kw > NOTHING else 1.0


def serving_chips(cut: Cut, cell: int) -> float:
    """Return the chips in use or fixed that neither training nor research holds in the busiest block."""
    return max(chips_there(cut, cell) - chips_held(cut, cell), 0.0)


def chips_there(cut: Cut, cell: int) -> float:
    """Return the chips of a cell that draw power: fixed ones, and elastic ones that the plan uses."""
    elastic = entries_at(cut, cell) & cut.assembled.problem.deliveries.elastic
    return fixed_chips(cut, cell) + float(cut.solution.used_chips[elastic].sum(axis=0).max(initial=0.0))


def fixed_chips(cut: Cut, cell: int) -> float:
    """Return the chips of a cell that kept units deliver and that are paid whether used or not."""
    return float(delivered(cut)[entries_at(cut, cell) & ~cut.assembled.problem.deliveries.elastic].sum())


def elastic_chips(cut: Cut, cell: int) -> float:
    """Return the chips of a cell that kept units deliver and that are paid in part or whole only when used."""
    return float(delivered(cut)[entries_at(cut, cell) & cut.assembled.problem.deliveries.elastic].sum())


def entries_at(cut: Cut, cell: int) -> npt.NDArray[np.bool_]:
    """Tell which deliveries come to a cell in the week [E]."""
    deliveries = cut.assembled.problem.deliveries
    now = (deliveries.scenario == cut.scenario) & (deliveries.period == cut.period)
    at: npt.NDArray[np.bool_] = now & (deliveries.cell == cell)
    return at


def delivered(cut: Cut) -> Floats:
    """Return the chips of kept units by delivery [E]."""
    deliveries = cut.assembled.problem.deliveries
    chips: Floats = deliveries.chips * cut.solution.kept[deliveries.unit]
    return chips


def chips_held(cut: Cut, cell: int) -> float:
    """Return the chips of a cell that training and research hold in the busiest block."""
    busiest = cut.assembled.inputs.load.busiest_first[0]
    training = cut.solution.training_chips[cut.scenario, cut.period, busiest, :, cell].sum()
    return float(training + cut.solution.research_chips[cut.scenario, cut.period, cell])


def powered_share(cut: Cut, site: int) -> float:
    """Return the share of a site's serving chips that its power can keep busy while the others idle."""
    cells, problem = cut.assembled.problem.cells, cut.assembled.problem
    here = np.flatnonzero((cells.site == site) & ~cells.is_api)
    idle_kw = cells.kw_per_chip[here] * cells.idle_share[here]
    more_kw = cells.kw_per_chip[here] - idle_kw
    there, held, serving = (
        np.array([count(cut, int(cell)) for cell in here]) for count in (chips_there, chips_held, serving_chips)
    )
    left_kw = problem.power_kw[cut.scenario, cut.period, :, site].max() - idle_kw @ there - more_kw @ held
    asked_kw = float(more_kw @ serving)
    return float(np.clip(left_kw / asked_kw, 0.0, 1.0)) if asked_kw > NOTHING else 1.0


def chip_pool(cut: Cut, cell: int, model: str, chips: float) -> Pool:
    """Return the pool of one model in one cell."""
    assembled = cut.assembled
    place, portfolio = assembled.cells[cell], assembled.inputs.portfolio
    row = portfolio.deployments[model, place.chip]
    goodputs = assembled.inputs.goodput_of
    speed = float(assembled.inputs.tree.throughput[model, place.chip][cut.scenario])
    fitted = goodputs.fitted(model, place.chip) if isinstance(goodputs, Goodputs) else None
    paid, used = usd_per_chip_hour(cut, cell)
    return Pool(
        name=f"{place.name}/{model}",
        kind="chips",
        provider=", ".join(dict.fromkeys(portfolio.offers[offer].row.provider for offer in offers_at(cut, cell))),
        site=place.site,
        chip=place.chip,
        model=model,
        deployment=fitted.faster(speed).name if fitted else row.performance,
        replicas=int((chips + NOTHING) // row.chips_per_replica),
        chips_per_replica=row.chips_per_replica,
        offers=offers_at(cut, cell),
        goodput_rps=lane_goodputs(cut, cell, model, float(row.chips_per_replica)),
        allotment_rps=allotments(cut, cell, model),
        bid_usd_per_chip_s=bids(cut, cell, used),
        usd_per_chip_hour=paid,
        usd_per_chip_hour_used=used,
        offer_share=offer_shares(cut, cell),
        weights_gb=weight_bytes(fitted.served) / BYTES_PER_GB if fitted else 0.0,
        kw_per_chip=float(assembled.problem.cells.kw_per_chip[cell]),
        extrapolated=fitted is not None and fitted.extrapolated,
        context_tokens_max=context_of(cut, model),
        late_remedy_share=late_remedy_share(cut, cell),
    )


def context_of(cut: Cut, model: str) -> int:
    """Return the longest context of a model, tokens."""
    rows = cut.assembled.inputs.portfolio.tables.models
    return next(row.context_tokens_max for row in rows if row.model == model)


def api_pools(cut: Cut, cell: int, lanes: list[int]) -> list[Pool]:
    """Return a pool of a token-priced API for each model that it serves.

    Its rate limit is shared by what the plan places there. Its latency is not known: see :func:`api_ttft_ms`.
    """
    assembled = cut.assembled
    problem, portfolio = assembled.problem, assembled.inputs.portfolio
    place = assembled.cells[cell]
    terms = portfolio.offers[place.api_offer]
    rows = [portfolio.tables.workloads[problem.lanes.workload[lane]] for lane in lanes]
    models = list(dict.fromkeys(row.model for row in rows))
    per_request = tokens_at(cut, cell)
    rps = float(cut.chips[:, cell].sum())
    bid = bids(cut, cell)
    return [
        Pool(
            name=f"{place.name}/{model}",
            kind="api",
            provider=terms.row.provider,
            site=place.site,
            chip="",
            model=model,
            deployment="",
            replicas=0,
            chips_per_replica=1,
            offers=[place.api_offer],
            goodput_rps=lane_goodputs(cut, cell, model, rps / len(models)),
            allotment_rps=allotments(cut, cell, model),
            bid_usd_per_chip_s=bid,
            usd_per_million_input_tokens=terms.row.fee_usd_per_million_input_tokens,
            usd_per_million_output_tokens=terms.row.fee_usd_per_million_output_tokens,
            tokens_per_minute_max=rps * per_request * S_PER_MINUTE / len(models),
            context_tokens_max=context_of(cut, model),
            bid_usd_per_token=[one / per_request for one in bid],
            ttft_ms=min(api_ttft_ms(cut, place.site, row) for row in rows if row.model == model),
            tpot_ms=API_SHARE_OF_SLO * min(row.tpot_ms_p95 for row in rows if row.model == model),
        )
        for model in models
    ]


def api_ttft_ms(cut: Cut, site: str, row: WorkloadRow) -> float:
    """Return the time to first token that an API is taken to have for a workload: half its limit, if none is too far.

    Half is an assumption (``API_SHARE_OF_SLO``). Where the longest round trip of its regions leaves less, it is that,
    and 0 where it leaves nothing.
    """
    links = cut.assembled.inputs.portfolio.links
    asking = [region for region, share in row.regions.items() if share > 0 and (site, region) in links]
    farthest = max((links[site, region].rtt_ms_median for region in asking), default=0.0)
    return max(min(API_SHARE_OF_SLO * row.ttft_ms_p95, row.ttft_ms_p95 - farthest), 0.0)


def tokens_at(cut: Cut, cell: int) -> float:
    """Return the tokens of the mean request of an API cell, as the plan counted them."""
    lanes, load = cut.assembled.problem.lanes, cut.assembled.inputs.load
    lane = int(np.flatnonzero(lanes.cell == cell)[0])
    work = lanes.workload[lane]
    tokens = load.input_tokens[work] + load.output_tokens[work]
    return float(lanes.goodput_rps_per_chip[lane, cut.scenario] * tokens)


def offers_at(cut: Cut, cell: int) -> list[str]:
    """List the offers that bring chips to a cell."""
    offers = cut.assembled.problem.axes.offers
    return [offers[offer] for offer in np.flatnonzero(cut.chips[:, cell] > NOTHING)]


def offer_shares(cut: Cut, cell: int) -> list[float]:
    """Return the share of a cell's chips that each of its offers brings."""
    chips = cut.chips[cut.chips[:, cell] > NOTHING, cell]
    return [float(share) for share in chips / chips.sum()]


def late_remedy_share(cut: Cut, cell: int) -> float:
    """Return the share of the fee that is not owed for late chips of a cell: the mean over its offers, by chips."""
    offers = cut.assembled.inputs.portfolio.offers
    remedies = [offers[name].row.late_remedy_share for name in offers_at(cut, cell)]
    return float(np.dot(remedies, offer_shares(cut, cell)))


def lane_goodputs(cut: Cut, cell: int, model: str, chips: float) -> list[float]:
    """Return what ``chips`` chips serve of each workload in requests per second [K]; 0 where it may not run."""
    lanes, workloads = cut.assembled.problem.lanes, cut.assembled.inputs.portfolio.tables.workloads
    rates = [0.0] * len(workloads)
    for lane in np.flatnonzero(lanes.cell == cell):
        work = int(lanes.workload[lane])
        if workloads[work].model == model:
            rates[work] = float(lanes.goodput_rps_per_chip[lane, cut.scenario]) * chips
    return rates


def allotments(cut: Cut, cell: int, model: str) -> list[list[float]]:
    """Return what the plan places in a cell in requests per second [B][K]."""
    lanes, workloads = cut.assembled.problem.lanes, cut.assembled.inputs.portfolio.tables.workloads
    placed = np.zeros((cut.assembled.problem.block_share.size, len(workloads)))
    for lane in np.flatnonzero(lanes.cell == cell):
        work = int(lanes.workload[lane])
        if workloads[work].model == model:
            placed[:, work] = np.maximum(cut.solution.served_rps[cut.scenario, cut.period, :, lane], 0.0)
    return [[float(rate) for rate in row] for row in placed]


def bids(cut: Cut, cell: int, used_usd_per_hour: float = 0.0) -> list[float]:
    """Return the bid price of a busy chip-second in each block [B], beyond what is paid for it only when used.

    A busy chip takes a chip, the power that it draws beyond an idle one, and what its requests send over the site's
    link; where power is curtailed idle chips are off, so that it takes all it draws.
    """
    prices, problem = cut.solution.prices, cut.assembled.problem
    cells, site = problem.cells, problem.cells.site[cell]
    power_kw = problem.power_kw[cut.scenario, cut.period, :, site]
    idle = np.where(power_kw < power_kw.max(), 0.0, cells.idle_share[cell])
    per_hour = prices.chips_usd_per_chip_hour[cut.period, :, cell].copy()
    per_hour += prices.power_usd_per_kwh[cut.period, :, site] * cells.kw_per_chip[cell] * (1.0 - idle)
    sent = gb_per_chip_hour(problem, cut.solution.served_rps[cut.scenario, cut.period])[:, cell]
    per_hour += prices.link_usd_per_gb[cut.period, :, site] * sent
    return [float(price) for price in np.maximum(per_hour - used_usd_per_hour, 0.0) / S_PER_HOUR]


def usd_per_chip_hour(cut: Cut, cell: int) -> tuple[float, float]:
    """Return what a chip-hour of a cell costs whether used or not, and beyond that when used: means over its offers.

    They are means over all chips delivered, fixed and elastic, so that the first on every chip of a cell is what is
    paid whether used or not; a cell that holds both kinds has one blended fee for use, whichever chip is busy. Energy
    is in both: of an idle chip, and of a busy one beyond that. An elastic chip draws nothing until it is used.
    """
    problem, solution = cut.assembled.problem, cut.solution
    vintages, deliveries, cells = problem.vintages, problem.deliveries, problem.cells
    paid = np.zeros(len(problem.axes.offers))
    kept = solution.kept[:, cut.scenario, cut.period]
    np.add.at(paid, vintages.offer, vintages.paid_usd[:, cut.scenario, cut.period] * kept)
    chips = cut.chips.sum(axis=1)
    hours = problem.period_hours[cut.period]
    rate = np.divide(paid, chips * hours, out=np.zeros_like(paid), where=chips > NOTHING)
    weight = cut.chips[:, cell] / cut.chips[:, cell].sum()
    at = entries_at(cut, cell)
    there = delivered(cut)[at]
    part = there / there.sum() if there.sum() > NOTHING else np.zeros(there.size)
    busy_usd = float(cells.kw_per_chip[cell] * cells.usd_per_kwh[cell])
    idle_usd = busy_usd * float(cells.idle_share[cell])
    elastic = float(part @ deliveries.elastic[at])
    used = float(part @ deliveries.used_usd_per_chip_hour[at]) + busy_usd - idle_usd * (1.0 - elastic)
    return float(max(rate @ weight, 0.0)) + idle_usd * (1.0 - elastic), used
