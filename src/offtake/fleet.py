"""Say what runs where, with which allotment and bid price: the seam between plan, rehearsal and router.

A plan writes one :class:`Fleet` for one week; rehearsal and router read it and nothing else of the
plan. It is also a documented file, ``fleet.json``, so that each room runs alone. Lists run in the
house order of axes: period, block, site, pool, workload, user region. This module knows no solver,
no table of the portfolio and no clock.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from offtake.errors import Fault, InputError
from offtake.files import write_json
from offtake.units import HOURS_PER_WEEK

FORMAT = "offtake-fleet-1"


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe a place with power and links."""

    name: str  #: Key of the site.
    residency: str  #: Zone that it lies in.
    security: int  #: Its security class.
    power_kw_max: float  #: Most power in the week.
    rtt_ms: list[float]  #: Median round trip from each user region.
    lat: float | None = None  #: Latitude, degrees.
    lon: float | None = None  #: Longitude, degrees.


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
    blocks, regions, workloads = len(fleet.block_share), len(fleet.regions), len(fleet.workloads)
    sites = {site.name for site in fleet.sites}
    models = {workload.model for workload in fleet.workloads}
    checks: list[tuple[bool, str, str]] = [
        (fleet.format == FORMAT, "format", f"must be {FORMAT}"),
        (len(fleet.block_of_hour) == HOURS_PER_WEEK, "block_of_hour", f"must hold {HOURS_PER_WEEK} hours"),
        (all(0 <= block < blocks for block in fleet.block_of_hour), "block_of_hour", "names a block that is not there"),
        (len({pool.name for pool in fleet.pools}) == len(fleet.pools), "pools", "two pools share a name"),
    ]
    for index, site in enumerate(fleet.sites):
        checks.append((len(site.rtt_ms) == regions, f"sites[{index}].rtt_ms", f"must hold {regions} regions"))
    for index, workload in enumerate(fleet.workloads):
        at = f"workloads[{index}]"
        checks += [
            (len(workload.level) == blocks, f"{at}.level", f"must hold {blocks} blocks"),
            (len(workload.region_share) == regions, f"{at}.region_share", f"must hold {regions} regions"),
            (workload.rate_rps >= 0, f"{at}.rate_rps", "must not be negative"),
        ]
    for index, pool in enumerate(fleet.pools):
        at = f"pools[{index}]"
        shape = len(pool.allotment_rps) == blocks and all(len(row) == workloads for row in pool.allotment_rps)
        checks += [
            (pool.kind in {"chips", "api"}, f"{at}.kind", "must be chips or api"),
            (pool.site in sites, f"{at}.site", "names a site that is not in the file"),
            (pool.model in models, f"{at}.model", "names a model that no workload asks for"),
            (len(pool.goodput_rps) == workloads, f"{at}.goodput_rps", f"must hold {workloads} workloads"),
            (shape, f"{at}.allotment_rps", f"must hold {blocks} blocks of {workloads} workloads"),
            (len(pool.bid_usd_per_chip_s) == blocks, f"{at}.bid_usd_per_chip_s", f"must hold {blocks} blocks"),
            (pool.replicas >= 0, f"{at}.replicas", "must not be negative"),
        ]
    mend = "Write the file again with `offtake plan`, or mend the field by hand."
    return [Fault(file, problem, mend, row=where) for good, where, problem in checks if not good]
