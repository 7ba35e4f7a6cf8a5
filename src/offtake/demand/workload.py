"""Gather everything that is asked for: workloads with their profiles, growth, shocks, training and the research floor.

Comes in: the checked tables of a portfolio. Goes out: :class:`Demand`; and, for a rehearsal of one week, the
specifications of its traffic. It must never know supply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offtake.demand.forecast import Branch, branches_of
from offtake.demand.generate import TraceSpec
from offtake.demand.profile import Profile, load_profile, profile_names
from offtake.demand.rates import RateCurve
from offtake.demand.shock import Shock, shocks_of
from offtake.demand.training import Job, check_jobs, job_of
from offtake.errors import Fault, InputError
from offtake.schema.portfolio import Tables
from offtake.schema.read import TOML_NAME, nearest
from offtake.schema.settings import WorkloadRow
from offtake.units import S_PER_WEEK

STREAMS_PER_WORKLOAD = 1_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Hold the demand side of a portfolio; workloads and regions keep the order of their file.

    ``region_share[workload, region]`` sums to 1 in each workload.
    """

    workloads: tuple[WorkloadRow, ...]
    profiles: tuple[Profile, ...]
    regions: tuple[str, ...]
    region_share: Floats
    branches: tuple[Branch, ...]
    shocks: tuple[Shock, ...]
    jobs: tuple[Job, ...]
    research_floor_chips: float

    @property
    def rate_rps(self) -> Floats:
        """Return ``rate[workload]``: the weekly mean at the start of the horizon (requests per s)."""
        return np.array([row.rate_rps for row in self.workloads])

    @property
    def grows(self) -> NDArray[np.bool_]:
        """Return ``grows[workload]``: whether the workload follows the growth fan."""
        return np.array([row.grows for row in self.workloads])

    def shapes(self) -> Floats:
        """Return ``shape[workload, hour]``: rate over its weekly mean, from Monday 00:00 UTC."""
        return np.array([profile.hour_of_week for profile in self.profiles])


def demand_of(tables: Tables) -> Demand:
    """Gather the demand side of a portfolio.

    Raises
    ------
    InputError
        With a fault for each unknown profile and each job that cannot be done.
    """
    faults = check_profiles(tables.workloads) + check_jobs(tables.training)
    if faults:
        raise InputError(faults)
    start = tables.settings.start.toordinal()
    regions = tuple(row.region for row in tables.regions)
    share = np.array([[row.regions.get(region, 0.0) for region in regions] for row in tables.workloads])
    return Demand(
        workloads=tables.workloads,
        profiles=tuple(load_profile(row.profile) for row in tables.workloads),
        regions=regions,
        region_share=share / share.sum(axis=1, keepdims=True),
        branches=branches_of(tables.growth, start),
        shocks=shocks_of(tables.shocks),
        jobs=tuple(job_of(row, start) for row in tables.training),
        research_floor_chips=tables.limits.research_floor_chips,
    )


def check_profiles(rows: tuple[WorkloadRow, ...]) -> list[Fault]:
    """Return a fault for each workload that names a profile that is not there."""
    names = profile_names()
    return [
        Fault(
            TOML_NAME,
            "there is no profile of this name",
            nearest(row.profile, names),
            f"[[workload]] {row.at}",
            "profile",
            row.profile,
        )
        for row in rows
        if row.profile not in names
    ]


@dataclass(frozen=True, kw_only=True)
class Week:
    """Ask for a stretch of traffic: a week unless said otherwise.

    ``keep_one_in`` thins every stream at random; ``surge`` multiplies every rate. ``lag_hours[region]`` moves the day
    of a region later, as the clocks of users further west are; empty for none. ``tenants[workload]`` customers ask, as
    unequal as measured; empty for one in all.
    """

    seed: int
    start_hour_of_week: float = 0.0
    duration_s: float = S_PER_WEEK
    keep_one_in: int = 1
    surge: float = 1.0
    lag_hours: tuple[float, ...] = ()
    tenants: tuple[int, ...] = ()


def traffic_of(
    profiles: Sequence[str], rate_rps: Sequence[float], region_share: Sequence[Sequence[float]], week: Week
) -> list[TraceSpec]:
    """Return one specification for each workload and region that has traffic, to be mixed.

    A stream depends on the seed, its workload and its region alone, so that plans rehearsed on the same seed meet the
    same requests, and a changed rate elsewhere changes nothing here.

    Parameters
    ----------
    profiles, rate_rps
        Of each workload: the name of its profile, and its weekly mean rate (requests per s).
    region_share
        ``region_share[workload][region]``.
    week
        Which stretch, with which seed.
    """
    first = np.concatenate([[0], np.cumsum(week.tenants)]).astype(int).tolist()
    return [
        TraceSpec(
            profile=load_profile(profile),
            rate_rps_mean=rate * share * week.surge,
            duration_s=week.duration_s,
            seed=week.seed,
            stream=workload * STREAMS_PER_WORKLOAD + region,
            start_hour_of_week=week.start_hour_of_week,
            lag_hours=week.lag_hours[region] if week.lag_hours else 0.0,
            keep_one_in=week.keep_one_in,
            workload=workload,
            region=region,
            tenants=week.tenants[workload] if week.tenants else 1,
            tenant_first=first[workload] if week.tenants else 0,
        )
        for workload, (profile, rate, shares) in enumerate(zip(profiles, rate_rps, region_share, strict=True))
        for region, share in enumerate(shares)
        if rate * share * week.surge > 0
    ]


def traffic_at_rates(curves: Mapping[str, RateCurve], profiles: Sequence[str], week: Week) -> list[TraceSpec]:
    """Return one specification for each curve of rates, to be mixed; profiles give lengths and bunching.

    With ``read_rates`` of the published curves of Azure's week of May 2024 (Azure/AzurePublicDataset, requests per
    minute of a coding and a conversation service) and the profiles ``coding`` and ``chat``, this makes its
    44.1 million requests: ``mix(traffic_at_rates(read_rates(path), ["coding", "chat"], Week(seed=1)))``.

    Parameters
    ----------
    curves
        The rate of each workload over time, by name.
    profiles
        Of each workload: the name of its profile.
    week
        How long, with which seed; thinned, multiplied and with tenants as it says.
    """
    first = np.concatenate([[0], np.cumsum(week.tenants)]).astype(int).tolist()
    return [
        TraceSpec(
            profile=load_profile(profile),
            rate_rps_mean=curve.rate_rps_mean * week.surge,
            duration_s=week.duration_s,
            seed=week.seed,
            stream=workload * STREAMS_PER_WORKLOAD,
            keep_one_in=week.keep_one_in,
            workload=workload,
            tenants=week.tenants[workload] if week.tenants else 1,
            tenant_first=first[workload] if week.tenants else 0,
            curve=curve,
        )
        for workload, (profile, curve) in enumerate(zip(profiles, curves.values(), strict=True))
    ]


def rehearsal_specs(demand: Demand, multiplier: Floats, week: Week) -> list[TraceSpec]:
    """Return the specifications of a week in which ``multiplier[workload]`` multiplies each rate of today."""
    rate_rps = demand.rate_rps * np.asarray(multiplier, dtype=np.float64)
    names = [row.profile for row in demand.workloads]
    return traffic_of(names, rate_rps.tolist(), demand.region_share.tolist(), week)
