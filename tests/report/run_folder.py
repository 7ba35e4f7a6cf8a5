"""Write a run folder such as the verbs write: the May-2026 question with invented answers, for the report's tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from offtake.fleet import FORMAT, Fleet, Pool, Site, Workload, write_fleet
from offtake.plan.result import (
    APPRAISAL_FORMAT,
    PLAN_FORMAT,
    Appraisal,
    Decision,
    Mark,
    Money,
    PlanResult,
    Price,
    Size,
)
from offtake.rehearse.compare import FORMAT as COMPARISON_FORMAT
from offtake.rehearse.compare import MEASURES, Comparison, Interval, Row, Score
from offtake.rehearse.summary import FORMAT as REHEARSAL_FORMAT
from offtake.rehearse.summary import Group, PoolLoad, Summary

BLOCKS = ["night", "morning", "day", "evening peak"]
BLOCK_SHARE = [0.25, 0.25, 0.35, 0.15]
WORKLOADS = {"coding": 5200.0, "chat": 8300.0, "us-only": 2600.0, "batch": 1500.0}
BRANCHES = {"3x a year": 0.40, "6x a year": 0.35, "10x a year": 0.20, "80x for a quarter": 0.05}
GROWTH = {"3x a year": 3.0, "6x a year": 6.0, "10x a year": 10.0, "80x for a quarter": 16.0}
PARTS = ["value_served", "fees", "used_fees", "energy", "request_fees", "refusal", "training_missed"]
# offer, provider, site, chip, firmness, MW from, MW to, first month, months of growth
SUPPLY = [
    ("aws-base", "aws", "new-carlisle", "trn2", "firm", 600, 1000, 0, 7),
    ("tpu-base", "google", "council-bluffs", "tpu-v7", "firm", 500, 1000, 0, 7),
    ("azure-base", "azure", "wisconsin", "gb200", "firm", 150, 150, 0, 1),
    ("azure-option", "azure", "wisconsin", "gb200", "option", 0, 400, 6, 8),
    ("coreweave-base", "coreweave", "denton", "h100", "firm", 50, 50, 0, 1),
    ("nexus", "nexus", "texas", "gb200", "firm", 0, 430, 8, 5),
    ("lake-mariner", "terawulf", "lake-mariner", "gb200", "firm", 0, 330, 7, 4),
    ("river-bend", "hut8", "river-bend", "gb200", "firm", 0, 245, 12, 5),
    ("tpu-2027", "google", "council-bluffs", "tpu-v7", "firm", 0, 1500, 9, 11),
    ("letters", "landlords", "various", "gb200", "letter", 0, 420, 12, 7),
    ("h100-year", "neoclouds", "denton", "h100", "firm", 20, 40, 1, 4),
    ("spacex-c1", "spacex", "colossus-1", "h100", "firm", 0, 190, 1, 1),
]
KW = {"trn2": 0.95, "tpu-v7": 1.15, "gb200": 1.9, "h100": 1.4}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Say what the run folder should hold; names may be replaced to try what a user's file might contain."""

    plan: bool = True
    appraisals: tuple[str, ...] = ("spacex-c1",)
    answer: str = (
        "Do not sign the SpaceX lease at $1.25 bn a month: it lowers the expected value of the plan by $2.1 bn, "
        "and breaks even at 0.81 of the fee."
    )
    rehearsals: tuple[str, ...] = ("bid_price",)
    overloaded: bool = False
    compared: bool = True
    rename: dict[str, str] = field(default_factory=dict)


def periods() -> list[date]:
    """Return eight weeks, then months, to the end of 2027; the last date is the end."""
    weeks = [date(2026, 5, 1) + timedelta(weeks=week) for week in range(9)]
    months = [date(2026 + month // 12, month % 12 + 1, 1) for month in range(6, 24)]
    return [*weeks, *months, date(2028, 1, 1)]


def months_after(day: date) -> float:
    """Count months from the start of the horizon."""
    return (day - date(2026, 5, 1)).days / 30.44


def capacity_frame() -> pl.DataFrame:
    """Return chips and kW by offer and period, ramping in a straight line."""
    rows = []
    for period, day in enumerate(periods()[:-1]):
        for offer, provider, site, chip, firmness, low, high, first, grow in SUPPLY:
            done = min(max((months_after(day) - first) / grow, 0.0), 1.0)
            power_kw = (low + (high - low) * done) * 1000.0
            if power_kw == 0.0 or offer == "spacex-c1":
                continue
            chips = power_kw / KW[chip]
            rows.append({
                "period": period, "start": day, "provider": provider, "offer": offer, "site": site, "chip": chip,
                "firmness": firmness, "chips_mean": chips, "chips_p10": 0.9 * chips, "chips_p90": 1.04 * chips,
                "kw_mean": power_kw,
            })  # fmt: skip
    return pl.DataFrame(rows)


def demand_frame() -> pl.DataFrame:
    """Return demand, served and refused by block and workload; the fan opens with time."""
    level = [0.45, 1.05, 1.15, 1.45]
    rows = []
    for period, day in enumerate(periods()[:-1]):
        years = months_after(day) / 12.0
        mean = sum(BRANCHES[name] * GROWTH[name] ** years for name in BRANCHES)
        p10, p90 = 3.0**years, 10.0**years
        room = 1.6 + 10.5 * years
        for block, name in enumerate(BLOCKS):
            for workload, rate in WORKLOADS.items():
                want = rate * level[block] * mean
                short = max(0.0, 1.0 - room / (mean * level[block])) * (0.9 if workload == "batch" else 0.35)
                rows.append({
                    "period": period, "start": day, "block": name, "workload": workload, "rps_mean": want,
                    "rps_p10": rate * level[block] * p10, "rps_p90": rate * level[block] * p90,
                    "served_mean": want * (1.0 - short), "refused_mean": want * short,
                })  # fmt: skip
    return pl.DataFrame(rows)


def scenario_frame(rng: np.random.Generator) -> pl.DataFrame:
    """Return twenty-four scenarios over the growth fan, with their net value."""
    centre = {"3x a year": 9e9, "6x a year": 21e9, "10x a year": 30e9, "80x for a quarter": 17e9}
    rows: list[dict[str, object]] = []
    for branch, weight in BRANCHES.items():
        for draw in range(6):
            rows.append({
                "scenario": f"s{len(rows):02d}", "probability": weight / 6, "growth_branch": branch,
                "description": f"growth {branch}, slips drawn as number {draw}",
                "net_usd": float(rng.normal(centre[branch], 3.5e9)),
            })  # fmt: skip
    return pl.DataFrame(rows)


def cost_frame(scenarios: pl.DataFrame) -> pl.DataFrame:
    """Return money by scenario, period and part."""
    size = {"value_served": 1.0, "fees": 0.52, "used_fees": 0.05, "energy": 0.03, "request_fees": 0.01}
    size |= {"refusal": 0.02, "training_missed": 0.0}
    rows = []
    dates = periods()
    for number, (name, probability) in enumerate(scenarios.select("scenario", "probability").iter_rows()):
        for period, (day, end) in enumerate(pairwise(dates)):
            base = 6.5e7 * (end - day).days * 1.12 ** months_after(day) * (0.8 + 0.02 * number)
            rows += [
                {"scenario": name, "probability": probability, "period": period, "start": day, "part": part,
                 "usd": base * size[part]}
                for part in PARTS
            ]  # fmt: skip
    return pl.DataFrame(rows)


def price_frame() -> pl.DataFrame:
    """Return shadow prices of chips by site, period and block, and of power at one site."""
    scarcity = {"new-carlisle": 1.4, "council-bluffs": 1.1, "colossus-1": 1.9, "wisconsin": 2.3, "denton": 1.7}
    peak = [0.0, 0.4, 0.8, 2.4]
    rows = []
    for period, day in enumerate(periods()[:-1]):
        ease = max(0.0, 1.0 - 0.045 * months_after(day))
        for site, price in scarcity.items():
            chip = next(row[3] for row in SUPPLY if row[2] == site)
            rows += [
                {"family": "work", "site": site, "chip": chip, "period": period, "start": day, "block": block,
                 "price": price * peak[number] * ease, "unit": "USD per chip-hour"}
                for number, block in enumerate(BLOCKS)
            ]  # fmt: skip
        rows += [
            {"family": "power", "site": "wisconsin", "chip": "", "period": period, "start": day, "block": block,
             "price": 0.31 * peak[number] * ease, "unit": "USD per kWh"}
            for number, block in enumerate(BLOCKS)
        ]  # fmt: skip
    return pl.DataFrame(rows)


def decisions() -> list[Decision]:
    """Return one decision for each offer."""
    rows = []
    for offer, provider, _, chip, firmness, _, high, first, _ in SUPPLY:
        action = {"spacex-c1": "leave", "h100-year": "sign part", "azure-option": "sign"}.get(offer, "keep")
        units = {"leave": 0.0, "sign part": 0.6}.get(action, 1.0)
        done = {"keep": "Keep", "sign": "Sign", "sign part": "Sign part of", "leave": "Leave"}[action]
        rows.append(
            Decision(
                offer=offer, name=offer.replace("-", " "), provider=provider, action=action, firmness=firmness,
                units=units, units_now=units, units_max=1.0, later_share=0.3 if action == "sign part" else 0.0,
                notice_share=0.25 if action == "sign" else 0.0,
                sign_date="2026-08-01" if action.startswith("sign") else "",
                kept_until="2028-01-01" if units else "", notice="", chips=units * high * 1000.0 / KW[chip],
                firm_kw=units * high * 1000.0 if firmness == "firm" else 0.0,
                fees_usd=units * high * 1000.0 * 833.0 * (20 - first),
                reduced_cost_usd=-2.1e9 if action == "leave" else None,
                sentence=f"{done} {offer}, {high:,} MW at its largest.",
            )
        )  # fmt: skip
    return rows


def plan_result() -> PlanResult:
    """Return a plan."""
    money = Money(
        value_served_usd=61.4e9, fees_usd=33.1e9, prepay_usd=1.2e9, used_fees_usd=2.9e9, energy_usd=1.7e9,
        request_fees_usd=0.4e9, refusal_usd=1.9e9, training_missed_usd=0.0, net_usd=20.2e9,
    )  # fmt: skip
    size = Size(
        scenarios=24, periods=26, blocks=4, variables=91_204, integers=36, rows=48_911, nonzeros=391_022,
        build_s=0.4, solve_s=31.0,
    )  # fmt: skip
    prices = [
        Price(family="chips", where="wisconsin, gb200", when="evening peak, May 2026", price=5.52,
              unit="USD per chip-hour", sentence="One more GB200-hour in Wisconsin at the evening peak earns $5.52."),
        Price(family="chips", where="colossus-1, h100", when="evening peak, May 2026", price=4.56,
              unit="USD per chip-hour", sentence="One more H100-hour at Colossus 1 would earn $4.56."),
        Price(family="power", where="wisconsin", when="evening peak, May 2026", price=0.74,
              unit="USD per kWh", sentence="One more kWh in Wisconsin at the evening peak earns $0.74."),
        Price(family="concentration", where="landlord:google", when="from Jul 2027", price=1.9e6,
              unit="USD per point", sentence="Each point by which Google's share may rise is worth $1.9 m a period."),
    ]  # fmt: skip
    marks = [
        Mark(confidence="confirmed", figures=61, figures_share=0.18, fees_share=0.31, kw_share=0.22),
        Mark(confidence="reported", figures=88, figures_share=0.26, fees_share=0.24, kw_share=0.30),
        Mark(confidence="estimate", figures=74, figures_share=0.22, fees_share=0.12, kw_share=0.19),
        Mark(confidence="assumption", figures=115, figures_share=0.34, fees_share=0.33, kw_share=0.29),
    ]
    return PlanResult(
        format=PLAN_FORMAT, name="may-2026", title="In May 2026, should a frontier lab sign the SpaceX lease?",
        version="0.1.0", seed=1, portfolio_hash="9f1c" * 16,
        inputs={"portfolio.toml": "ab12" * 16, "offers.csv": "cd34" * 16, "tranches.csv": "ef56" * 16},
        start="2026-05-01", end="2028-01-01",
        answer="Keep ten contracts, take the Azure option and 60 % of the H100 year; leave the SpaceX lease. "
        "Expected net value $18.9 bn to the end of 2027.",
        objective_usd=17.3e9, bound_usd=17.31e9, gap=0.0006, mean_net_usd=18.9e9, cvar_loss_usd=-4.1e9,
        risk_weight=0.1, risk_alpha=0.9, money=money, size=size, decisions=decisions(), prices=prices,
        refused_share={"coding": 0.012, "chat": 0.016, "us-only": 0.021, "batch": 0.087}, marks=marks,
        assumptions=[
            "offers.csv, spacex-c1: reclaim_per_year 0.15, from 0.05 to 0.40; no public figure.",
            "portfolio.toml, workload coding: value_usd_per_request 0.021, from revenue per MW-year.",
            "tranches.csv, aws-base: 600 MW live on 1 May 2026; no total is published.",
        ],
        warnings=["The gap to the best possible plan is 0.06 %.", "29 % of the firm power rests on assumptions."],
        fleet_week="2026-08-03",
    )  # fmt: skip


def appraisal(offer: str, wish: Wish, scenarios: pl.DataFrame, rng: np.random.Generator) -> Appraisal:
    """Return what the offer is worth, by scenario."""
    branch = scenarios["growth_branch"].to_list()
    centre = {"3x a year": -7.5e9, "6x a year": -1.0e9, "10x a year": 4.0e9, "80x for a quarter": 9e9}
    difference = [float(rng.normal(centre[name], 1.6e9)) for name in branch]
    weight = scenarios["probability"].to_list()
    mean = float(np.dot(weight, difference))
    return Appraisal(
        format=APPRAISAL_FORMAT, portfolio_hash="9f1c" * 16, offer=offer,
        name="SpaceX lease, Colossus 1 and 2", answer=wish.answer, sign=False,
        units=0.0, units_max=1.0, with_usd=17.3e9, without_usd=17.3e9, difference_usd=0.0, forced_usd=-2.1e9,
        mean_difference_usd=mean, cvar_difference_usd=-9.2e9, break_even_fee_ratio=0.81, fee_paid_usd=22.5e9,
        proves_right_share=float(sum(w for w, d in zip(weight, difference, strict=True) if d > 0)),
        scenario_names=scenarios["scenario"].to_list(), scenario_probability=weight,
        difference_by_scenario_usd=difference,
        displaces=["h100 year: 1.0 to 0.6 units", "azure option: signed 6 months later"], gap=0.0008,
        sentences=[
            "Signed in full, the lease costs $22.5 bn and earns $20.4 bn more than the plan without it.",
            "It pays where demand grows 10 times a year or more, and loses where it grows 3 times.",
            f"It does best in s23 ($11.1 bn): growth 80x; {'; '.join(f'site {n} late' for n in range(30))}.",
        ],
        warnings=["The term is read in three ways; the weights of the readings are assumptions."],
    )  # fmt: skip


def fleet() -> Fleet:
    """Return a small fleet for the chosen week."""
    sites = sorted({row[2] for row in SUPPLY})
    return Fleet(
        format=FORMAT, name="may-2026", week="2026-08-03", seed=1, version="0.1.0", portfolio_hash="9f1c" * 16,
        regions=["us", "eu"], block_of_hour=[0] * 42 + [1] * 42 + [2] * 59 + [3] * 25, block_share=BLOCK_SHARE,
        sites=[Site(name=name, residency="US", security=1, power_kw_max=1e6, rtt_ms=[30.0, 110.0]) for name in sites],
        workloads=[
            Workload(name=name, model="large", kind="batch" if name == "batch" else "interactive", profile="azure",
                     rate_rps=rate, level=[0.45, 1.05, 1.15, 1.45], region_share=[0.7, 0.3], input_tokens_mean=1800.0,
                     output_tokens_mean=240.0, ttft_ms_p95=1500.0, tpot_ms_p95=60.0, value_usd_per_request=0.02,
                     refusal_usd_per_request=0.005)
            for name, rate in WORKLOADS.items()
        ],
        pools=[
            Pool(name=f"{row[2]}-{row[3]}", kind="chips", provider=row[1], site=row[2], chip=row[3], model="large",
                 deployment="large-h100", replicas=100, chips_per_replica=8, offers=[row[0]], goodput_rps=[2.0] * 4,
                 allotment_rps=[[100.0] * 4] * 4, bid_usd_per_chip_s=[0.0, 0.0001, 0.0002, 0.0006])
            for row in SUPPLY[:4:3]
        ],
        assumption_share=0.34,
    )  # fmt: skip


def group(workload: str, kind: str, site: str, requests: int, *, status: str = "stationary") -> Group:
    """Return how one group of requests fared; without percentiles unless it was stationary."""
    good = status == "stationary"
    late = {"chat": 0.012, "batch": 0.0}.get(workload, 0.034) * (1.7 if site == "wisconsin" else 1.0)
    refused = 0 if site not in {"all", "none"} else round(requests * {"batch": 0.09}.get(workload, 0.011))
    return Group(
        workload=workload, kind=kind, site=site, status=status, requests=requests, served=requests - refused,
        refused=refused, failed=0, refused_by_reason={"below_bid": refused} if refused else {},
        share_served=1.0 - refused / requests, share_within_ttft=1.0 - late, share_within_tpot=1.0 - late / 4,
        share_within_slo=1.0 - late - refused / requests, ttft_ms_p50=310.0 if good else None,
        ttft_ms_p95=1240.0 if good else None, ttft_ms_p99=2410.0 if good else None,
        tpot_ms_p50=31.0 if good else None, tpot_ms_p95=48.5 if good else None, e2e_ms_p95=14_200.0 if good else None,
        input_tokens=requests * 1800, output_tokens=requests * 240, value_usd=requests * 0.02,
        cost_usd=requests * 0.007,
    )  # fmt: skip


def summary(policy: str, wish: Wish) -> Summary:
    """Return a rehearsal; an overloaded one has workloads that are not stationary."""
    bad = {"coding", "batch"} if wish.overloaded else set()
    kinds = {name: "batch" if name == "batch" else "interactive" for name in WORKLOADS}
    status = {name: "not stationary" if name in bad else "stationary" for name in WORKLOADS}
    count = {name: int(rate * 100) for name, rate in WORKLOADS.items()}
    sites = ["colossus-1", "council-bluffs", "denton", "new-carlisle", "wisconsin"]
    cells = [
        group(name, kinds[name], site, count[name] // (2 + place), status=status[name])
        for place, site in enumerate(sites) for name in WORKLOADS if (name, site) != ("us-only", "wisconsin")
    ]  # fmt: skip
    pools = [
        PoolLoad(pool=f"{site}-pool", site=site, status="stationary", replicas_simulated=60, capacity_error=0.0,
                 requests=300_000, busy_share=0.9 - place / 10, places_share=0.5, memory_share=0.6,
                 load_planned=0.82, in_system_mean=400.0, arrivals_rps=30.0, stay_s_mean=13.0,
                 queue_ms_mean=84.0, held_usd=20_000.0, idle_usd=9_000.0)
        for place, site in enumerate(sites)
    ]  # fmt: skip
    whole = "not stationary" if bad else "stationary"
    return Summary(
        format=REHEARSAL_FORMAT, portfolio_hash="9f1c" * 16, fleet="may-2026",
        week="2026-08-03", policy=policy, seed=1, thin=40,
        thin_error="1 in 40 replicas and requests; the capacity of pool denton-h100 is off by +1.3%", complete=True,
        done_share=1.0, hours=168.0, requests_simulated=1_760_000, status=whole,
        total=group("all", "all", "all", sum(count.values()), status=whole),
        workloads=[group(name, kinds[name], "all", count[name], status=status[name]) for name in WORKLOADS],
        kinds=[group("all", kind, "all", 100_000) for kind in ("batch", "interactive")],
        sites=[group("all", "all", site, 100_000) for site in sites], cells=cells, pools=pools, idle_usd=9_000.0,
        cost_usd=21_300.0, lost_sites=["denton from 12 h to 18 h"],
        checks=["Little's law holds at every pool to 1.2e-12", "KV blocks are never negative and all come back"],
    )  # fmt: skip


def comparison(*, overloaded: str = "", seeds: int = 3) -> Comparison:
    """Return three policies on some loads; one may have been overloaded on the first."""
    values = {"bid_price": 0.91, "least_loaded": 0.88, "prefix_affinity": 0.905}
    spread = {"bid_price": 0.0, "least_loaded": 0.01, "prefix_affinity": 0.02}
    offered = 40_000.0
    status = {name: "not stationary" if name == overloaded else "stationary" for name in values}
    scores = [
        Score(policy=name, seed=seed, status=status[name] if seed == 1 else "stationary", requests=1_760_000,
              offered_usd=offered, value_usd=0.95 * offered, value_in_time_usd=value * offered, cost_usd=21_300.0,
              share_within_slo=value, share_refused=0.012, share_failed=0.0, fairness=0.987,
              attainment={"batch": 0.999, "interactive": value})
        for name, value in values.items() for seed in range(1, seeds + 1)
    ]  # fmt: skip
    rows = [
        Row(policy=name, status=status[name],
            means={"value_usd": 0.95 * offered, "value_in_time_usd": value * offered, "cost_usd": 21_300.0,
                   "share_within_slo": value, "share_refused": 0.012, "fairness": 0.987},
            attainment={"batch": 0.999, "interactive": value}, hindsight_share=value / 0.94,
            differences={
                measure: Interval(mean=(value - 0.91) * offered,
                                  low=(value - 0.91 - spread[name]) * offered if seeds > 1 else None,
                                  high=(value - 0.91 + spread[name]) * offered if seeds > 1 else None)
                for measure in MEASURES
            })
        for name, value in values.items()
    ]  # fmt: skip
    return Comparison(
        format=COMPARISON_FORMAT, portfolio_hash="9f1c" * 16, fleet="may-2026", week="2026-08-03",
        seeds=list(range(1, seeds + 1)), thin=40, requests=1_760_000.0, offered_usd=offered,
        hindsight_usd=0.94 * offered, rows=rows, scores=scores,
    )  # fmt: skip


def write_json(record: msgspec.Struct, path: Path, rename: dict[str, str]) -> None:
    """Write a record, with names replaced as the wish says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.encode(record).decode()
    for old, new in rename.items():
        text = text.replace(old, msgspec.json.encode(new).decode()[1:-1])
    path.write_text(text, "utf-8")


def build_run(folder: Path, wish: Wish | None = None) -> Path:
    """Write a whole run folder and return it."""
    wish = wish or Wish()
    rng = np.random.default_rng([7, 1])
    scenarios = scenario_frame(rng)
    if wish.plan:
        frames = {
            "capacity": capacity_frame(), "demand": demand_frame(), "cost": cost_frame(scenarios),
            "prices": price_frame(), "scenarios": scenarios,
        }  # fmt: skip
        write_json(plan_result(), folder / "plan" / "plan.json", wish.rename)
        for name, frame in frames.items():
            text = pl.selectors.string()
            frame.with_columns(text.replace(wish.rename)).write_parquet(folder / "plan" / f"{name}.parquet")
        write_fleet(fleet(), folder / "plan" / "fleet.json")
    for offer in wish.appraisals:
        record = appraisal(offer, wish, scenarios, rng)
        write_json(record, folder / "appraise" / offer / "appraisal.json", wish.rename)
    for place, policy in enumerate(wish.rehearsals):
        where = folder / "rehearse" / policy if place else folder / "rehearse"
        write_json(summary(policy, wish), where / "rehearse.json", wish.rename)
    if wish.compared:
        write_json(comparison(), folder / "rehearse" / "compare.json", wish.rename)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
