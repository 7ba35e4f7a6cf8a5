"""Tiny problems with an optimum known by hand, one for each constraint and account: it binds, and the sum shows how.

A chip serves one request a second, an hour of that is worth 10 USD, a period is one hour; all else is said by the case.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from offtake.plan.problem import Axes, Cells, Deliveries, Jobs, Lanes, Limits, Problem, Vintages

S_PER_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Say what one offer costs (USD per unit and hour, and per chip-hour used) and brings."""

    fee: float = 4.0
    used: float | None = None
    size: float = 1000.0
    least: float = 0.0
    chips: float = 1.0
    site: int = 0
    grouped: bool = False
    signed: bool = False
    lock: int = 1
    prepay: float = 0.0
    of: int | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """Ask for ``demand [S, T, B]`` requests a second of one workload that runs at every site."""

    demand: Any = (((10.0,),),)
    offers: tuple[Offer, ...] = (Offer(),)
    sites: int = 1
    job_hours: float = 0.0
    given: dict[str, Any] = field(default_factory=dict)

    def problem(self) -> Problem:
        """Lay the case out as a problem; ``given`` overrides parts of it, parts of parts by ``part__field``."""
        demand = np.asarray(self.demand, dtype=float)[..., None]
        made = self.bare(demand)
        for name, value in self.given.items():
            part, _, inner = name.partition("__")
            made = replace(made, **{part: replace(getattr(made, part), **{inner: value}) if inner else value})
        return made

    def bare(self, demand: Any) -> Problem:
        S, T, B, _ = demand.shape
        N = self.sites
        return Problem(
            axes=self.axes(S, T, B),
            probability=np.full(S, 1 / S),
            period_hours=np.ones(T),
            discount=np.ones(T),
            block_share=np.full(B, 1 / B),
            demand_rps=demand,
            value_usd=np.array([10.0 / S_PER_HOUR]),
            refusal_usd=np.zeros(1),
            deferrable=np.zeros(1, dtype=bool),
            power_kw=np.full((S, T, B, N), np.inf),
            link_bytes_per_s=np.full(N, np.inf),
            cells=Cells(
                site=np.arange(N),
                is_api=np.zeros(N, dtype=bool),
                kw_per_chip=np.ones(N),
                idle_share=np.zeros(N),
                usd_per_kwh=np.zeros(N),
            ),
            lanes=Lanes(
                workload=np.zeros(N, dtype=int),
                cell=np.arange(N),
                goodput_rps_per_chip=np.ones((N, S)),
                usd_per_request=np.zeros(N),
                bytes_per_request=np.ones(N),
            ),
            vintages=self.vintages(S, T),
            deliveries=self.deliveries(S, T),
            jobs=self.jobs(T),
            limits=Limits(
                group_cap=np.ones(1),
                group_cap_from=np.zeros(1, dtype=int),
                survive_group=np.zeros(1, dtype=bool),
                survive_share=0.0,
                critical=np.zeros(1, dtype=bool),
                budget_usd=np.full(1, np.inf),
                period_year=np.zeros(T, dtype=int),
                prepay_usd_max=np.inf,
            ),
            risk_weight=0.0,
            risk_alpha=0.5,
        )

    @property
    def of(self) -> Any:
        """Give the offer of each vintage."""
        return np.array([index if one.of is None else one.of for index, one in enumerate(self.offers)])

    def each(self, name: str) -> Any:
        """Give one field of every offer."""
        return np.array([float(getattr(one, name) or 0.0) for one in self.offers])

    @property
    def elastic(self) -> Any:
        """Tell which offers are paid by use."""
        return np.array([one.used is not None for one in self.offers])

    def axes(self, S: int, T: int, B: int) -> Axes:
        V, N, of, jobs = len(self.offers), self.sites, self.of, int(self.job_hours > 0)
        return Axes(
            scenarios=[f"s{s}" for s in range(S)],
            periods=[f"t{t}" for t in range(T)],
            blocks=[f"b{b}" for b in range(B)],
            sites=[f"site{n}" for n in range(N)],
            cells=[f"site{n}/chip" for n in range(N)],
            workloads=["work"],
            offers=[f"offer{o}" for o in range(of.max() + 1)],
            vintages=[f"vintage{v}" for v in range(V)],
            jobs=["job"] * jobs,
            groups=["group"],
            years=["year"],
        )

    def vintages(self, S: int, T: int) -> Vintages:
        V = len(self.offers)
        paid = self.each("fee")[:, None, None] * ~self.elastic[:, None, None]
        return Vintages(
            offer=self.of,
            sign_period=np.zeros(V, dtype=int),
            units_min=self.each("least"),
            units_max=self.each("size"),
            whole_units=np.zeros(V, dtype=bool),
            all_or_nothing=np.zeros(V, dtype=bool),
            signed=self.each("signed").astype(bool),
            lock_until=self.each("lock").astype(int),
            term_until=np.full(V, T),
            paid_usd=np.broadcast_to(paid, (V, S, T)),
            prepay_usd=self.each("prepay"),
            cancel_usd=np.zeros((V, S, T)),
            renewed=np.zeros((V, T), dtype=bool),
            terminal_usd=np.zeros((V, S)),
            firm_kw=np.ones((V, T)),
            group_kw=np.broadcast_to(self.each("grouped")[:, None, None], (V, T, 1)),
        )

    def deliveries(self, S: int, T: int) -> Deliveries:
        entry = [(s, v, t) for s in range(S) for v in range(len(self.offers)) for t in range(T)]
        scenario, vintage, period = (np.array(one) for one in zip(*entry, strict=True))
        return Deliveries(
            scenario=scenario,
            vintage=vintage,
            period=period,
            cell=self.each("site").astype(int)[vintage],
            chips=self.each("chips")[vintage],
            elastic=self.elastic[vintage],
            used_usd_per_chip_hour=self.each("used")[vintage],
            group_member=self.each("grouped").astype(bool)[vintage][:, None],
        )

    def jobs(self, T: int) -> Jobs:
        jobs, N = int(self.job_hours > 0), self.sites
        return Jobs(
            chip_hours=np.full(jobs, self.job_hours),
            first_period=np.zeros(jobs, dtype=int),
            last_period=np.zeros(jobs, dtype=int),
            single_site=np.zeros(jobs, dtype=bool),
            gang_chips=np.zeros(jobs),
            steady=np.zeros(jobs, dtype=bool),
            speed=np.ones((jobs, N)),
            missed_usd=np.full(jobs, 10.0),
            floor_chips=np.zeros(T),
        )


NO_DEMAND = (((0.0,),),)
TWO = (Offer(grouped=True), Offer(fee=6.0))  # a cheap one in the group, a dear one outside it

#: by function: the case, its optimum in USD, and how a hand comes to it
CASES: dict[str, tuple[Case, float, str]] = {
    "an_order_is_within_its_size": (Case(offers=(Offer(least=20.0),)), 20.0, "20 units for 10 requests: 100 - 80"),
    "an_offer_is_signed_at_most_in_full": (
        Case(offers=(Offer(size=3.0), Offer(size=3.0, of=0))),
        18.0,
        "3 units at two dates together: 3 (10 - 4)",
    ),
    "at_most_one_of_exclusive_offers": (
        Case(offers=(Offer(size=4.0), Offer(size=4.0, fee=5.0)), given={"exclusive": [[0, 1]]}),
        24.0,
        "the cheaper of the two alone: 4 (10 - 4)",
    ),
    "what_is_signed_is_kept_until_notice_can_end_it": (
        Case(demand=(((10.0,), (0.0,)),), offers=(Offer(lock=2),)),
        20.0,
        "two periods paid for one of use: 10 (10 - 8)",
    ),
    "what_is_given_up_is_gone": (
        Case(demand=(((10.0,), (0.0,), (10.0,)),)),
        80.0,
        "kept through the idle period: 200 - 120; given up it would be 60, and come back for 120",
    ),
    "a_renewal_is_kept_to_its_end": (
        Case(demand=(((10.0,), (0.0,)),), given={"vintages__renewed": np.array([[False, True]])}),
        20.0,
        "kept through the idle period, which a renewal covers: 10 (10 - 4 - 4); given up it would be 60",
    ),
    "capacity_is_what_kept_units_deliver": (
        Case(offers=(Offer(chips=2.0),)),
        80.0,
        "5 units of two chips: 100 - 20",
    ),
    "elastic_use_is_within_what_is_delivered": (
        Case(offers=(Offer(used=4.0, size=6.0),)),
        36.0,
        "6 chips to use: 6 (10 - 4)",
    ),
    "every_request_is_served_refused_or_deferred": (
        Case(offers=(Offer(size=6.0),), given={"refusal_usd": np.array([1.0 / S_PER_HOUR])}),
        32.0,
        "6 served and 4 refused at 1 USD each: 36 - 4",
    ),
    "deferred_work_is_done_within_the_week": (
        Case(demand=(((10.0, 0.0),),), given={"deferrable": np.array([True])}),
        30.0,
        "5 chips serve half the work in each half of the week: 5 (10 - 4)",
    ),
    "work_fits_the_chips_of_a_cell": (
        Case(given={"lanes__goodput_rps_per_chip": np.full((1, 1), 2.0)}),
        80.0,
        "5 chips at two requests a second: 100 - 20",
    ),
    "power_of_a_site_carries_busy_and_idle_chips": (
        Case(
            offers=(Offer(signed=True, size=10.0),),
            given={"power_kw": np.full((1, 1, 1, 1), 7.0), "cells__idle_share": np.array([0.5])},
        ),
        0.0,
        "ten chips draw 5 kW idle, 2 kW more let 4 work: 40 - 40",
    ),
    "busy_chips_fit_the_power_left_by_curtailment": (
        Case(demand=(((10.0, 10.0),),), given={"power_kw": np.array([[[[10.0], [6.0]]]])}),
        40.0,
        "10 chips, of which 6 work in the curtailed half: 50 + 30 - 40",
    ),
    "traffic_fits_the_link_of_a_site": (
        Case(given={"link_bytes_per_s": np.array([6.0])}),
        36.0,
        "6 requests of a byte each fit: 6 (10 - 4)",
    ),
    "no_group_holds_more_than_its_share_of_firm_power": (
        Case(offers=TWO, given={"limits__group_cap": np.array([0.5])}),
        50.0,
        "half in the group: 5 (10 - 4) + 5 (10 - 6)",
    ),
    "critical_work_survives_the_loss_of_any_one_group": (
        Case(
            offers=TWO,
            given={
                "limits__survive_group": np.array([True]),
                "limits__survive_share": 0.3,
                "limits__critical": np.array([True]),
            },
        ),
        54.0,
        "3 of 10 requests outside the group: 7 (10 - 4) + 3 (10 - 6)",
    ),
    "training_done_is_what_its_chips_do": (
        Case(demand=NO_DEMAND, job_hours=6.0, given={"jobs__speed": np.full((1, 1), 2.0)}),
        -12.0,
        "three chips of speed 2 for an hour: -3 x 4",
    ),
    "training_is_done_by_its_deadline_or_missed": (
        Case(demand=NO_DEMAND, job_hours=6.0, given={"jobs__missed_usd": np.array([3.0])}),
        -18.0,
        "missing costs 3 an hour and a chip 4: -6 x 3",
    ),
    "a_single_site_job_stays_at_its_host": (
        Case(
            demand=NO_DEMAND,
            sites=2,
            offers=(Offer(size=3.0), Offer(size=3.0, site=1)),
            job_hours=6.0,
            given={"jobs__single_site": np.array([True])},
        ),
        -42.0,
        "3 chips at one site, 3 hours missed at 10: -12 - 30",
    ),
    "a_gang_runs_whole_or_not_at_all": (
        Case(
            demand=NO_DEMAND,
            offers=(Offer(size=4.0),),
            job_hours=6.0,
            given={"jobs__gang_chips": np.array([5.0])},
        ),
        -60.0,
        "4 chips are no gang of 5, all is missed: -6 x 10",
    ),
    "a_job_that_may_not_pause_trains_alike_in_all_blocks": (
        Case(demand=(((4.0, 0.0),),), job_hours=2.0, given={"jobs__steady": np.array([True])}),
        -4.0,
        "2 chips train at all hours beside 4 that serve half of them: 20 - 24; with a pause it would be 20 - 16",
    ),
    "a_job_that_may_not_pause_goes_on_once_it_has_begun": (
        Case(
            demand=(((0.0,), (4.0,), (0.0,)),),
            offers=(Offer(size=4.0, signed=True),),
            job_hours=8.0,
            given={"jobs__steady": np.array([True]), "jobs__last_period": np.array([2])},
        ),
        -28.0,
        "2, 2 and 4 chips train, so that 2 requests are served: 20 - 48; with a pause it would be 40 - 48",
    ),
    "research_keeps_its_floor": (
        Case(demand=NO_DEMAND, given={"jobs__floor_chips": np.array([3.0])}),
        -12.0,
        "3 chips kept for research: -3 x 4",
    ),
    "a_years_spend_is_within_its_budget": (
        Case(given={"limits__budget_usd": np.array([20.0])}),
        30.0,
        "20 USD buy 5 chips: 5 (10 - 4)",
    ),
    "prepayment_is_within_its_limit": (
        Case(offers=(Offer(prepay=1.0),), given={"limits__prepay_usd_max": 5.0}),
        25.0,
        "5 units are prepaid at 1 each: 5 (10 - 4 - 1)",
    ),
    "money_committed_in_a_period": (
        Case(given={"cells__idle_share": np.ones(1), "cells__usd_per_kwh": np.array([0.5])}),
        55.0,
        "a kW for each chip at 0.5: 10 (10 - 4.5)",
    ),
    "money_spent_on_work_in_a_period": (
        Case(given={"lanes__usd_per_request": np.array([1.0 / S_PER_HOUR])}),
        50.0,
        "1 USD of traffic an hour for each request a second: 10 (10 - 4 - 1)",
    ),
    "value_served_in_a_period": (
        Case(given={"value_usd": np.array([12.0 / S_PER_HOUR])}),
        80.0,
        "each is worth 12: 10 (12 - 4)",
    ),
    "a_scenarios_loss_beyond_the_value_at_risk": (
        Case(demand=(((5.0,),), ((15.0,),)), given={"risk_weight": 1.0}),
        60.0,
        "with u units of 5 to 15: mean 25 + u, less the loss 4u - 50 of the worse half; 5 units, where 15 has the mean",
    ),
}
