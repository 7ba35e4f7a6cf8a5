from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from offtake.errors import InfeasibleError, InputError
from offtake.fleet import read_fleet
from offtake.plan.appraise import appraise
from offtake.plan.plan import PlanOptions, PlanRun, make_plan, write_plan
from offtake.plan.prices import prices_of
from offtake.plan.result import PlanResult
from offtake.plan.solve import solve
from offtake.schema.portfolio import Tables
from offtake.schema.settings import Limits
from tests.plan.fakes import assembled
from tests.supply.small import (
    deployment,
    growth,
    job,
    offer,
    settings,
    shock,
    tables,
    tranche,
    way_out,
    workload,
)

TABLES = {"capacity", "demand", "placement", "cost", "prices", "scenarios", "lanes"}


def portfolio(folder: str = ".", hashes: dict[str, str] | None = None, **given: Any) -> Tables:
    """A lease in question, a contract that runs, an API; two branches of growth, surges, training."""
    known: dict[str, Any] = {
        "folder": folder,
        "hashes": hashes or {},
        "settings": settings(
            end=date(2026, 9, 30), scenarios=4, blocks=2, question="lease", title="Sign?", weeks_first=2, seed=5
        ),
        "growth": (growth("slow", 0.5, 1.0), growth("fast", 0.5, 9.0)),
        "shocks": (shock("news"),),
        "workloads": (
            workload(rate_rps=600.0, value_usd_per_request=0.002, refusal_usd_per_request=0.0005),
            workload("batch", kind="batch", rate_rps=40.0, deferral_hours=24.0, ttft_ms_p95=60000.0),
        ),
        "deployments": (deployment(throughput_sd=0.1),),
        "offers": (
            offer("base", signed=True, fee_usd_per_chip_hour=2.0, confidence="estimate", source="list"),
            offer(
                "lease",
                name="The lease",
                units_max=4.0,
                whole_units=True,
                fee_usd_per_chip_hour=3.0,
                sign_by=date(2026, 5, 31),
                reclaim_per_year=0.5,
            ),
            offer(
                "api",
                signed=True,
                tokens_per_minute_max=600_000.0,
                fee_usd_per_million_input_tokens=0.2,
                fee_usd_per_million_output_tokens=0.8,
            ),
        ),
        "tranches": (
            tranche("base", chips_per_unit=60.0, available=date(2026, 1, 1)),
            tranche("lease", chips_per_unit=20.0, available=date(2026, 6, 1), slip_days_max=30),
            tranche("api", chip="", chips_per_unit=0.0, available=date(2026, 1, 1)),
        ),
        "exits": (way_out("only", "either", date(2026, 8, 1), notice_days=60),),
        "training": (job(chip_hours=5000.0, value_usd=50_000.0),),
    }
    return tables(**(known | given))


@pytest.fixture(scope="module")
def run() -> PlanRun:
    return make_plan(portfolio())


def test_a_plan_answers_the_question_first(run: PlanRun) -> None:
    lease = next(one for one in run.result.decisions if one.offer == "lease")
    assert lease.action in {"sign", "sign part", "leave"}
    assert run.result.answer.startswith("Sign" if lease.units > 0 else "Do not sign The lease by 2026-05-31")
    assert run.result.title == "Sign?"


def test_every_offer_has_a_decision_with_a_sentence(run: PlanRun) -> None:
    assert [one.offer for one in run.result.decisions] == ["base", "lease", "api"]
    base, _, api = run.result.decisions
    assert base.action == "keep"
    assert base.sentence.startswith("Keep base: 60 chips, 0.084 MW firm, kept until 2026-09-30, for $440,640 in fees")
    assert "600,000 tokens a minute" in api.sentence
    assert run.result.decisions[1].notice == "60 days' notice, out from 2026-08-01"


def test_the_parts_of_the_money_add_up_to_the_net_value(run: PlanRun) -> None:
    money = run.result.money
    costs = msgspec.structs.asdict(money)
    net = costs.pop("net_usd")
    assert costs.pop("value_served_usd") - sum(costs.values()) == pytest.approx(net, rel=1e-9)
    assert run.result.mean_net_usd == pytest.approx(net)


def test_the_cost_table_adds_up_to_each_scenarios_net_value(run: PlanRun) -> None:
    sign = pl.when(pl.col("part") == "value_served").then(1.0).otherwise(-1.0)
    net = run.frames["cost"].group_by("scenario").agg(net=(sign * pl.col("usd")).sum()).sort("scenario")
    assert net["net"].to_list() == pytest.approx(run.frames["scenarios"]["net_usd"].to_list(), rel=1e-9)


def test_what_is_asked_is_served_refused_or_moved_within_the_week(run: PlanRun) -> None:
    shares = dict(zip(run.assembled.problem.axes.blocks, run.assembled.problem.block_share, strict=True))
    frame = run.frames["demand"].with_columns(share=pl.col("block").replace_strict(shares, return_dtype=pl.Float64))
    sums = frame.group_by("period", "workload").agg(
        asked=(pl.col("share") * pl.col("rps_mean")).sum(),
        done=(pl.col("share") * (pl.col("served_mean") + pl.col("refused_mean"))).sum(),
    )
    assert sums["asked"].to_list() == pytest.approx(sums["done"].to_list(), rel=1e-6)


def test_marks_share_out_figures_fees_and_power(run: PlanRun) -> None:
    marks = {one.confidence: one for one in run.result.marks}
    assert sum(one.figures_share for one in run.result.marks) == pytest.approx(1.0)
    assert sum(one.fees_share for one in run.result.marks) == pytest.approx(1.0)
    assert marks["estimate"].fees_share > 0
    assert marks["assumption"].kw_share == pytest.approx(1.0)


def test_a_plan_says_what_it_assumes(run: PlanRun) -> None:
    text = " ".join(run.result.warnings)
    assert "the right to cancel is worth at least what is shown" in text
    assert "API is taken to serve any model" in text
    assert any(one.startswith("offers lease reclaim_per_year: 0.5") for one in run.result.assumptions)


def test_the_fleet_is_of_the_first_full_week_with_the_questioned_offer(run: PlanRun) -> None:
    assert run.fleet.week == "2026-07-06"  # 1 June and 30 days of slip are 1 July, a Wednesday
    assert date.fromisoformat(run.fleet.week).weekday() == 0
    pools = {pool.name: pool for pool in run.fleet.pools}
    base = pools["east/h100/small"]
    assert base.replicas >= 55  # 60 chips, less what training holds
    assert base.deployment == "llama-3.1-8b-h100-tp1*0.935786208976394@27062"  # the scenario's own speed
    assert base.usd_per_chip_hour >= 2.0
    api = pools["east/api/small"]
    assert (api.kind, api.replicas) == ("api", 0)
    assert api.tokens_per_minute_max == pytest.approx(600_000.0)
    assert api.goodput_rps[0] > 0


def test_the_price_of_a_rate_limit_is_told_in_requests_and_not_in_chips() -> None:
    terms = offer("api", signed=True, tokens_per_minute_max=600_000.0)
    there = tranche("api", chip="", chips_per_unit=0.0, available=date(2026, 1, 1))
    some = assembled(tables(offers=(terms,), tranches=(there,)))  # 25 requests/s of 400 tokens, and 100 are asked
    (price,) = prices_of(some.problem, solve(some.problem))
    assert price.price == pytest.approx(36.0)  # 3,600 requests of 0.01 USD
    assert (price.family, price.unit) == ("rate limit", "USD per request/s for an hour")
    assert "one more request a second for an hour adds 36 USD" in price.sentence


def test_the_fleet_is_of_any_week_that_is_asked_for() -> None:
    run = make_plan(portfolio(), PlanOptions(week=date(2026, 5, 11)))
    assert run.fleet.week == run.result.fleet_week == "2026-05-11"


def test_the_same_portfolio_gives_the_same_plan_to_the_bit(run: PlanRun, tmp_path: Path) -> None:
    first, again = write_plan(run, tmp_path / "a"), write_plan(make_plan(portfolio()), tmp_path / "b")
    names = sorted(one.name for one in first.iterdir())
    assert names == sorted([*(f"{name}.parquet" for name in TABLES), "fleet.json", "inputs", "plan.json"])
    for name in names:
        if name != "inputs":
            assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_a_written_plan_reads_back_and_holds_its_inputs(tmp_path: Path) -> None:
    source = tmp_path / "portfolio"
    source.mkdir()
    (source / "portfolio.toml").write_text("name = 'small'\n", encoding="utf-8")
    run = make_plan(portfolio(str(source), {"portfolio.toml": "00"}))
    folder = write_plan(run, tmp_path / "runs" / "small")
    write_plan(run, tmp_path / "runs" / "small")
    assert msgspec.json.decode((folder / "plan.json").read_bytes(), type=PlanResult) == run.result
    assert read_fleet(folder / "fleet.json") == run.fleet
    assert (folder / "inputs" / "portfolio.toml").read_text(encoding="utf-8") == "name = 'small'\n"
    assert [one.name for one in folder.parent.iterdir()] == ["plan"]


def test_limits_that_no_plan_can_meet_leave_no_plan() -> None:
    with pytest.raises(InfeasibleError) as raised:
        make_plan(portfolio(limits=Limits(budget_usd_per_year=1000.0)))
    assert raised.value.sentences


def test_unknown_profiles_and_links_are_faults_before_anything_is_solved() -> None:
    with pytest.raises(InputError, match="no profile of this name"):
        make_plan(portfolio(workloads=(workload(profile="nothing-like-it"),)))


def test_an_appraisal_of_a_plan_agrees_with_the_plan(run: PlanRun) -> None:
    found = appraise(portfolio(), "lease", run=run)
    lease = next(one for one in run.result.decisions if one.offer == "lease")
    assert found.units == pytest.approx(lease.units)
    assert found.sign == (lease.action != "leave")
    assert found.difference_usd >= -1e-6 * abs(found.with_usd)
    assert sum(found.scenario_probability) == pytest.approx(1.0)
    assert len(found.difference_by_scenario_usd) == 4


def test_a_portfolio_of_one_period_and_one_scenario_works() -> None:
    run = make_plan(portfolio(settings=settings(end=date(2026, 5, 31)), growth=(), shocks=(), training=(), exits=()))
    assert run.result.size.periods == run.result.size.scenarios == 1
    assert run.frames["scenarios"]["description"].to_list() == ["everything as promised"]


def test_a_workload_without_demand_is_no_trouble() -> None:
    rows = (workload(rate_rps=0.0),)
    run = make_plan(portfolio(workloads=rows, settings=settings(end=date(2026, 6, 30)), growth=(), training=()))
    assert run.result.refused_share == {"chat": 0.0}


def test_a_plan_whose_goodputs_are_known_loads_no_compiler_and_no_optimiser() -> None:
    code = "import sys, offtake.plan.plan; sys.exit(len({'numba', 'scipy.optimize', 'altair'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
