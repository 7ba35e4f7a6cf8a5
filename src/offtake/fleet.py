"""Say what runs where, with which allotment and bid price: the seam between plan, rehearsal and router.

A plan writes one :class:`Fleet` for one week; rehearsal and router read it and nothing else of the
plan. It is also a documented file, ``fleet.json``, so that each room runs alone. Lists run in the
house order of axes: period, block, site, pool, workload, user region. This module knows no solver,
no table of the portfolio and no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from offtake.errors import Fault, InputError
from offtake.files import write_json
from offtake.units import HOURS_PER_WEEK, HOURS_PER_YEAR

FORMAT = "offtake-fleet-1"
SCENARIO_KINDS = ("late_tranche", "reclaim", "lost_site", "curtailment", "surge", "slow_replica")
PROBABILITY_ERROR = 1e-6  #: the probabilities of the scenarios sum to 1 but for rounding

Check = tuple[bool, str, str]  #: whether it holds, the field, what is wrong otherwise


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe a place with power and links."""

    name: str  #: Key of the site.
    residency: str  #: Zone that it lies in.
    security: int  #: Its security class.
    power_kw_max: float  #: Most power in the week.
    rtt_ms: list[float]  #: Median round trip from each user region.
    lat: float | None = None  #: Latitude, degrees.
    lon: float | None = None  #: Longitude, degrees.
    link_gbit_s: float = 0.0  #: Bandwidth of its links together, each at its availability; 0: not known.
    curtailment_hours_per_year: float = 0.0  #: Hours a year in which the grid may cut it.
    curtailment_share: float = 0.0  #: Share of power lost in a curtailed hour.


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe one stream of requests in the fleet's week."""

    name: str  #: Key of the workload.
    model: str  #: Model it asks for.
    kind: str  #: `interactive`, `agentic`, `batch` or `internal`.
    profile: str  #: Profile of its lengths and arrivals.
    rate_rps: float  #: Weekly mean.
    level: list[float]  #: Multiplies the rate in each block.
    region_share: list[float]  #: Share from each user region; they sum to 1.
    input_tokens_mean: float  #: Mean prompt.
    output_tokens_mean: float  #: Mean answer.
    ttft_ms_p95: float  #: Limit on the time to first token.
    tpot_ms_p95: float  #: Limit on the time per output token after the first.
    value_usd_per_request: float  #: Worth of serving one.
    refusal_usd_per_request: float  #: Cost of refusing one, beyond that.
    deferral_hours: float = 0.0  #: How long it may wait.
    residency: str = "any"  #: Zone that it must stay in, or `any`.
    security: int = 0  #: Lowest security class a site must have.
    admit_share_min: float = 0.0  #: Share of its requests that is admitted whatever the price of capacity.


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe replicas of one model on one chip at one site, or one token-priced API."""

    name: str  #: Site, chip (or offer) and model.
    kind: str  #: `chips` or `api`.
    provider: str  #: Provider or providers.
    site: str  #: Key of the site.
    chip: str  #: Key of the chip; empty for an API.
    model: str  #: Model served.
    deployment: str  #: Name of its step table; empty for an API.
    replicas: int  #: Replicas; 0 for an API.
    chips_per_replica: int  #: Chips of one.
    offers: list[str]  #: Offers that bring its chips.
    #: What one replica serves of each workload within its limits; 0 where it may not. For an API: the whole.
    goodput_rps: list[float]
    allotment_rps: list[list[float]]  #: What the plan places here, by block and workload.
    bid_usd_per_chip_s: list[float]  #: Shadow price of a chip-second in each block.
    usd_per_chip_hour: float = 0.0  #: Paid whether used or not.
    usd_per_chip_hour_used: float = 0.0  #: Paid when busy, beyond that.
    usd_per_million_input_tokens: float = 0.0  #: Paid by the token.
    usd_per_million_output_tokens: float = 0.0  #: Paid by the token.
    tokens_per_minute_max: float = 0.0  #: Rate limit of an API.
    bid_usd_per_token: list[float] = []  #: Shadow price of a token of an API, in each block.
    ttft_ms: float = 0.0  #: Time to first token of an API.
    tpot_ms: float = 0.0  #: Time per output token of an API.
    offer_share: list[float] = []  #: Share of its chips by offer, as in `offers`; empty: even.
    weights_gb: float = 0.0  #: Weights that one replica loads; 0: not known.
    kw_per_chip: float = 0.0  #: Facility power of one busy chip; 0: not known.
    extrapolated: bool = False  #: Whether its step times were extrapolated from a data sheet.
    context_tokens_max: int = 0  #: Longest context of the model, prompt and answer; 0: not known.
    late_remedy_share: float = 1.0  #: Share of the fee not owed for chips that are late, mean over its offers.


class ScenarioEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe one thing that happens in one of the plan's futures, in the week of the fleet."""

    #: `late_tranche`, `reclaim`, `lost_site`, `curtailment`, `surge` or `slow_replica`, as in a file of events.
    kind: str
    target: str  #: Name of the pool; of the site where it is lost or curtailed; empty for a surge.
    start_hour: float  #: From Monday 00:00 UTC.
    hours: float  #: How long; a reclaim is for good.
    #: Share of the pool's chips away; share of power lost; factor on demand; factor on step times.
    value: float


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe one of the plan's futures for the fleet's week, beside what the fleet itself holds."""

    name: str  #: Name, as in `scenarios.parquet`.
    probability: float  #: Its weight; those of all scenarios sum to 1.
    demand_factor: list[float]  #: By workload: its rate over that of the fleet, surges left out.
    events: list[ScenarioEvent] = []  #: What happens, by start.


class Fleet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold one week of a plan."""

    format: str  #: `offtake-fleet-1`.
    name: str  #: Name of the portfolio.
    week: str  #: Its Monday.
    seed: int  #: Seed of the plan.
    version: str  #: Version of Offtake.
    portfolio_hash: str  #: As in `plan.json`.
    regions: list[str]  #: User regions.
    block_of_hour: list[int]  #: Block of each of the 168 hours from Monday 00:00 UTC.
    block_share: list[float]  #: Share of the week of each block.
    sites: list[Site]  #: Sites of the pools.
    workloads: list[Workload]  #: Streams of requests.
    pools: list[Pool]  #: What serves them.
    assumption_share: float = 0.0  #: Of the portfolio's figures, assumptions.
    scenarios: list[Scenario] = []  #: The plan's futures for this week; none where no plan made the file.
    #: Groups of models of which each may answer for each other one. Without a group a model answers only for itself.
    equivalent: list[list[str]] = []


def write_fleet(fleet: Fleet, path: Path) -> None:
    """Write ``fleet.json``, whole or not at all."""
    write_json(path, fleet)


def read_fleet(path: Path) -> Fleet:
    """Read and check ``fleet.json``.

    Raises
    ------
    InputError
        With one fault for each thing that is wrong with the file.
    """
    try:
        fleet = msgspec.json.decode(path.read_bytes(), type=Fleet)
    except OSError as error:
        mend = "Make it with `offtake plan`; `offtake rehearse` takes a run folder, such as runs/may-2026."
        raise InputError([Fault(str(path), f"the file cannot be read: {error.strerror}", mend)]) from None
    except msgspec.DecodeError as error:
        mend = "Write it again with `offtake plan`."
        raise InputError([Fault(str(path), f"the file is not a fleet: {error}", mend)]) from None
    faults = check_fleet(fleet, str(path))
    if faults:
        raise InputError(faults)
    return fleet


def check_fleet(fleet: Fleet, file: str) -> list[Fault]:
    """Return every fault in the lengths, names and signs of a fleet."""
    blocks = len(fleet.block_share)
    checks: list[Check] = [
        (fleet.format == FORMAT, "format", f"must be {FORMAT}"),
        (len(fleet.block_of_hour) == HOURS_PER_WEEK, "block_of_hour", f"must hold {HOURS_PER_WEEK} hours"),
        (all(0 <= block < blocks for block in fleet.block_of_hour), "block_of_hour", "names a block that is not there"),
        (len({pool.name for pool in fleet.pools}) == len(fleet.pools), "pools", "two pools share a name"),
        *_site_checks(fleet),
        *_workload_checks(fleet),
        *_pool_checks(fleet),
        *_scenario_checks(fleet),
        *_group_checks(fleet),
    ]
    mend = "Write the file again with `offtake plan`, or mend the field by hand."
    return [Fault(file, problem, mend, row=where) for good, where, problem in checks if not good]


def _site_checks(fleet: Fleet) -> Iterator[Check]:
    """Yield what must hold of the sites."""
    for index, site in enumerate(fleet.sites):
        at = f"sites[{index}]"
        yield len(site.rtt_ms) == len(fleet.regions), f"{at}.rtt_ms", f"must hold {len(fleet.regions)} regions"
        yield site.link_gbit_s >= 0, f"{at}.link_gbit_s", "must not be negative"
        year = 0 <= site.curtailment_hours_per_year <= HOURS_PER_YEAR
        yield year, f"{at}.curtailment_hours_per_year", f"must lie between 0 and {HOURS_PER_YEAR}"
        yield 0 <= site.curtailment_share <= 1, f"{at}.curtailment_share", "must lie between 0 and 1"


def _workload_checks(fleet: Fleet) -> Iterator[Check]:
    """Yield what must hold of the workloads."""
    blocks, regions = len(fleet.block_share), len(fleet.regions)
    for index, workload in enumerate(fleet.workloads):
        at = f"workloads[{index}]"
        yield len(workload.level) == blocks, f"{at}.level", f"must hold {blocks} blocks"
        yield len(workload.region_share) == regions, f"{at}.region_share", f"must hold {regions} regions"
        yield workload.rate_rps >= 0, f"{at}.rate_rps", "must not be negative"
        yield 0 <= workload.admit_share_min <= 1, f"{at}.admit_share_min", "must be a share from 0 to 1"


def _pool_checks(fleet: Fleet) -> Iterator[Check]:
    """Yield what must hold of the pools."""
    blocks, workloads = len(fleet.block_share), len(fleet.workloads)
    sites = {site.name for site in fleet.sites}
    models = {model for workload in fleet.workloads for model in stand_ins(fleet, workload.model)}
    for index, pool in enumerate(fleet.pools):
        at = f"pools[{index}]"
        shape = len(pool.allotment_rps) == blocks and all(len(row) == workloads for row in pool.allotment_rps)
        yield pool.kind in {"chips", "api"}, f"{at}.kind", "must be chips or api"
        yield pool.site in sites, f"{at}.site", "names a site that is not in the file"
        yield pool.model in models, f"{at}.model", "names a model that no workload asks for"
        yield len(pool.goodput_rps) == workloads, f"{at}.goodput_rps", f"must hold {workloads} workloads"
        yield shape, f"{at}.allotment_rps", f"must hold {blocks} blocks of {workloads} workloads"
        yield len(pool.bid_usd_per_chip_s) == blocks, f"{at}.bid_usd_per_chip_s", f"must hold {blocks} blocks"
        yield pool.replicas >= 0, f"{at}.replicas", "must not be negative"
        known = not pool.offer_share or len(pool.offer_share) == len(pool.offers)
        yield known, f"{at}.offer_share", f"must hold {len(pool.offers)} offers"
        yield pool.weights_gb >= 0, f"{at}.weights_gb", "must not be negative"
        yield pool.kw_per_chip >= 0, f"{at}.kw_per_chip", "must not be negative"
        yield 0 <= pool.late_remedy_share <= 1, f"{at}.late_remedy_share", "must be a share from 0 to 1"
        yield pool.context_tokens_max >= 0, f"{at}.context_tokens_max", "must not be negative"


def stand_ins(fleet: Fleet, model: str) -> set[str]:
    """Return the models that may answer for ``model``: itself, and those of its group."""
    return {model}.union(*(group for group in fleet.equivalent if model in group))


def _group_checks(fleet: Fleet) -> Iterator[Check]:
    """Yield what must hold of the groups of equivalent models."""
    models = {each.model for each in fleet.workloads} | {each.model for each in fleet.pools}
    named = [model for group in fleet.equivalent for model in group]
    yield len(set(named)) == len(named), "equivalent", "names a model twice"
    for index, group in enumerate(fleet.equivalent):
        at = f"equivalent[{index}]"
        yield len(group) > 1, at, "must name at least two models"
        yield all(model in models for model in group), at, "names a model that no pool serves and no workload asks for"


def _scenario_checks(fleet: Fleet) -> Iterator[Check]:
    """Yield what must hold of the plan's futures."""
    scenarios, workloads = fleet.scenarios, len(fleet.workloads)
    sites, pools = {site.name for site in fleet.sites}, {pool.name for pool in fleet.pools}
    targets = {"lost_site": sites, "curtailment": sites, "surge": {""}}
    yield len({one.name for one in scenarios}) == len(scenarios), "scenarios", "two scenarios share a name"
    total = sum(one.probability for one in scenarios)
    yield not scenarios or abs(total - 1) <= PROBABILITY_ERROR, "scenarios", "the probabilities must sum to 1"
    for index, scenario in enumerate(scenarios):
        at = f"scenarios[{index}]"
        shape = len(scenario.demand_factor) == workloads and all(one >= 0 for one in scenario.demand_factor)
        yield shape, f"{at}.demand_factor", f"must hold {workloads} factors, none negative"
        for place, event in enumerate(scenario.events):
            here = f"{at}.events[{place}]"
            yield event.kind in SCENARIO_KINDS, f"{here}.kind", f"must be one of {', '.join(SCENARIO_KINDS)}"
            known = targets.get(event.kind, pools)
            yield event.target in known, f"{here}.target", "names something that is not in the file"
            yield event.hours > 0, f"{here}.hours", "must be above 0"
            yield event.value >= 0, f"{here}.value", "must not be negative"
