"""Build small portfolios in code: one row a call, with the figures a test is about and nothing else."""

from __future__ import annotations

from datetime import date
from typing import Any

from offtake.schema.portfolio import Tables
from offtake.schema.settings import (
    ConcentrationRow,
    GrowthRow,
    Limits,
    ModelRow,
    RegionRow,
    Risk,
    Settings,
    ShockRow,
    WorkloadRow,
)
from offtake.schema.tables import (
    ChipRow,
    DeploymentRow,
    ExitRow,
    LinkRow,
    OfferRow,
    PowerRow,
    ProviderRow,
    SiteRow,
    TrainingRow,
    TrancheRow,
)

START = date(2026, 5, 1)


def settings(**given: Any) -> Settings:
    known: dict[str, Any] = {"name": "small", "start": START, "end": date(2026, 12, 31), "scenarios": 1, "blocks": 1}
    return Settings(**(known | given))


def provider(name: str = "acme", **given: Any) -> ProviderRow:
    return ProviderRow(**({"provider": name, "name": name.title(), "kind": "neocloud"} | given))


def site(name: str = "east", **given: Any) -> SiteRow:
    known: dict[str, Any] = {"site": name, "name": name.title(), "residency": "US", "power_kw_max": 1e6}
    return SiteRow(**(known | given))


def link(site_name: str = "east", region: str = "us", **given: Any) -> LinkRow:
    known: dict[str, Any] = {"kind": "fibre", "bandwidth_gbit_s": 100.0, "rtt_ms_median": 20.0, "rtt_ms_p99": 40.0}
    return LinkRow(**({"site": site_name, "region": region} | known | given))


def chip(name: str = "h100", **given: Any) -> ChipRow:
    known: dict[str, Any] = {
        "chip": name,
        "name": name.upper(),
        "facility_kw": 1.4,
        "memory_gb": 80.0,
        "memory_bandwidth_gb_s": 3350.0,
        "peak_tflops": 989.0,
    }
    return ChipRow(**(known | given))


def deployment(model: str = "small", chip_name: str = "h100", **given: Any) -> DeploymentRow:
    known: dict[str, Any] = {"chips_per_replica": 1, "performance": "table:llama-3.1-8b-h100-tp1"}
    return DeploymentRow(**({"model": model, "chip": chip_name} | known | given))


def offer(offer_name: str = "lease", **given: Any) -> OfferRow:
    return OfferRow(**({"offer": offer_name, "provider": "acme"} | given))


def tranche(offer_name: str = "lease", name: str = "t1", **given: Any) -> TrancheRow:
    known: dict[str, Any] = {"site": "east", "chip": "h100", "chips_per_unit": 100.0, "available": START}
    return TrancheRow(**({"offer": offer_name, "tranche": name} | known | given))


def way_out(reading: str, who: str, exit_from: date, **given: Any) -> ExitRow:
    known: dict[str, Any] = {"offer": "lease", "notice_days": 90}
    return ExitRow(**(known | {"reading": reading, "who": who, "exit_from": exit_from} | given))


def workload(name: str = "chat", **given: Any) -> WorkloadRow:
    known: dict[str, Any] = {
        "workload": name,
        "model": "small",
        "kind": "interactive",
        "profile": "azure-2023-conv",
        "rate_rps": 100.0,
        "regions": {"us": 1.0},
        "ttft_ms_p95": 2000.0,
        "tpot_ms_p95": 100.0,
        "value_usd_per_request": 0.01,
    }
    return WorkloadRow(**(known | given))


def job(name: str = "run", **given: Any) -> TrainingRow:
    known: dict[str, Any] = {
        "job": name,
        "chip_hours": 1000.0,
        "chips": {"h100": 1.0},
        "earliest": date(2026, 6, 1),
        "deadline": date(2026, 8, 31),
        "value_usd": 5000.0,
    }
    return TrainingRow(**(known | given))


def growth(branch: str, weight: float, per_year: float, **given: Any) -> GrowthRow:
    return GrowthRow(branch=branch, weight=weight, per_year=per_year, **given)


def shock(name: str, **given: Any) -> ShockRow:
    return ShockRow(**({"shock": name, "per_year": 4.0, "multiplier": 1.5, "days": 7.0} | given))


def power(site_name: str, day: date, power_kw: float) -> PowerRow:
    return PowerRow(site=site_name, date=day, power_kw=power_kw)


def concentration(group: str, share_max: float, **given: Any) -> ConcentrationRow:
    return ConcentrationRow(group=group, share_max=share_max, **given)


def tables(**given: Any) -> Tables:
    """Return a portfolio of one partner, one site, one chip, one model, one workload; give what differs."""
    known: dict[str, Any] = {
        "folder": ".",
        "hashes": {},
        "settings": settings(),
        "limits": Limits(),
        "risk": Risk(),
        "regions": (RegionRow(region="us"),),
        "models": (ModelRow(model="small", stand_in="llama-3.1-8b"),),
        "workloads": (workload(),),
        "growth": (),
        "nodes": (),
        "shocks": (),
        "concentration": (),
        "providers": (provider(),),
        "sites": (site(),),
        "power": (),
        "links": (link(),),
        "chips": (chip(),),
        "deployments": (deployment(),),
        "offers": (offer(),),
        "tranches": (tranche(),),
        "exits": (),
        "training": (),
    }
    return Tables(**(known | given))
