"""Small and large planning problems for tests and benchmarks, made from literals or from a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offtake.plan.problem import Axes, Cells, Deliveries, Jobs, Lanes, Limits, Problem, Vintages


def frontier(
    *,
    scenarios: int = 12,
    periods: int = 25,
    blocks: int = 5,
    offers: int = 14,
    sites: int = 10,
    workloads: int = 5,
    seed: int = 7,
) -> Problem:
    """Make a problem of the size of the shipped frontier example; every number is synthetic, drawn from ``seed``."""
    rng = np.random.default_rng([seed, 1])
    chips, dates, jobs = 2, 4, 2
    cells = sites * chips
    names = [f"site{i}" for i in range(sites)]
    cell_site = np.repeat(np.arange(sites), chips)
    speed_of_cell = np.tile([1.0, 2.5], sites)
    offer_of, sign_of = np.repeat(np.arange(offers), dates), np.tile(np.arange(dates) * (periods // 6 or 1), offers)
    base = np.arange(3)
    offer_of = np.concatenate([offer_of, offers + base])
    sign_of = np.concatenate([sign_of, np.zeros(3, dtype=int)])
    V, T, S, B, K = offer_of.size, periods, scenarios, blocks, workloads
    signed = offer_of >= offers
    lots = (offer_of % 4 == 0) & ~signed
    units_max = np.where(signed, 1.0, np.where(lots, 1.0, rng.integers(4, 40, size=offers + 3)[offer_of])).astype(float)
    chips_per_unit = np.where(signed, 60_000.0, np.where(lots, 50_000.0, 2_000.0))
    lead = rng.integers(1, 8, size=offers + 3)[offer_of] * ~signed
    term = np.where(signed, T, np.minimum(sign_of + lead + 12 * rng.integers(1, 3, size=offers + 3)[offer_of], T))
    lock = np.minimum(sign_of + lead + 6, term)
    site_of_offer = np.concatenate([rng.integers(0, sites, size=offers), base])
    price = rng.uniform(1.6, 4.5, size=offers + 3)[offer_of]
    hours = np.full(T, 730.0)
    entry = []
    slip = rng.integers(0, 4, size=(S, offers + 3))
    for v in range(V):
        share = [0.6, 0.4]
        for s in range(S):
            start = sign_of[v] + lead[v] + (0 if signed[v] else slip[s, offer_of[v]])
            for t in range(start, term[v]):
                for c in range(chips):
                    cell = site_of_offer[offer_of[v]] * chips + c
                    entry.append((s, v, t, cell, chips_per_unit[v] * share[c] * min(1.0, (t - start + 1) / 3)))
    s_e, v_e, t_e, n_e, chips_e = (np.array(x) for x in zip(*entry, strict=True))
    elastic = offer_of[v_e] % 5 == 1
    member = (offer_of % 4)[:, None] == np.arange(4)
    paid = np.zeros((V, S, T))
    for v in range(V):
        paid[v, :, sign_of[v] + lead[v] : term[v]] = (
            price[v] * chips_per_unit[v] * 730 * (0.3 if offer_of[v] % 5 == 1 else 1)
        )
    pairs = [(k, n) for k in range(K) for n in range(cells) if (k + n) % 2 == 0 or k == 0]
    lane_workload, lane_cell = (np.array(x) for x in zip(*pairs, strict=True))
    goodput = (rng.uniform(0.5, 4.0, size=K)[lane_workload] * speed_of_cell[lane_cell])[:, None] * rng.uniform(
        0.85, 1.15, size=(1, S)
    )
    growth = np.exp(np.linspace(0, 1, T)[None] * rng.normal(1.2, 0.5, size=(S, 1)))
    shape = 0.5 + rng.uniform(0, 1, size=(B, K))
    mean = np.array([60_000.0 * 4 / (K * 1.0) * g for g in rng.uniform(0.5, 4.0, size=K)])
    demand = growth[:, :, None, None] * shape * mean
    power = np.full((S, T, B, sites), 2.0e5)
    power[:, :, 0, :3] *= 0.8
    return Problem(
        axes=Axes(
            scenarios=[f"s{i}" for i in range(S)],
            periods=[f"m{i}" for i in range(T)],
            blocks=[f"b{i}" for i in range(B)],
            sites=names,
            cells=[f"{names[i // chips]}/{'ab'[i % chips]}" for i in range(cells)],
            workloads=[f"w{i}" for i in range(K)],
            offers=[f"offer{i}" for i in range(offers + 3)],
            vintages=[f"offer{o} at m{t}" for o, t in zip(offer_of, sign_of, strict=True)],
            jobs=[f"job{i}" for i in range(jobs)],
            groups=[f"group{i}" for i in range(4)],
            years=[f"y{i}" for i in range((T + 11) // 12)],
        ),
        probability=np.full(S, 1 / S),
        period_hours=hours,
        discount=1.1 ** (-np.arange(T) / 12),
        block_share=np.full(B, 1 / B),
        demand_rps=demand,
        value_usd=np.full(K, 3.0 / 3600) * rng.uniform(0.6, 2.5, size=K) / rng.uniform(0.5, 4.0, size=K),
        refusal_usd=np.full(K, 0.3 / 3600),
        deferrable=np.arange(K) == K - 1,
        power_kw=power,
        link_bytes_per_s=np.where(np.arange(sites) < 3, np.inf, 5e10),
        cells=Cells(
            site=cell_site,
            is_api=np.zeros(cells, dtype=bool),
            kw_per_chip=np.tile([1.4, 2.0], sites),
            idle_share=np.full(cells, 0.3),
            usd_per_kwh=np.full(cells, 0.06),
        ),
        lanes=Lanes(
            workload=lane_workload,
            cell=lane_cell,
            goodput_rps_per_chip=goodput,
            usd_per_request=np.full(lane_cell.size, 1e-6),
            bytes_per_request=np.full(lane_cell.size, 3e4),
        ),
        vintages=Vintages(
            offer=offer_of,
            sign_period=sign_of,
            units_min=np.where(signed | lots, 0.0, 2.0),
            units_max=units_max,
            whole_units=np.ones(V, dtype=bool),
            all_or_nothing=lots,
            signed=signed,
            lock_until=lock,
            term_until=term,
            paid_usd=paid,
            prepay_usd=np.where(signed, 0.0, 0.02 * price * chips_per_unit * 730),
            cancel_usd=np.zeros(paid.shape),
            renewed=np.zeros((paid.shape[0], paid.shape[2]), dtype=bool),
            terminal_usd=np.zeros(paid.shape[:2]),
            firm_kw=np.repeat((chips_per_unit * 1.6)[:, None], T, axis=1),
            group_kw=np.repeat((chips_per_unit * 1.6)[:, None, None] * member[:, None, :], T, axis=1),
        ),
        deliveries=Deliveries(
            scenario=s_e,
            vintage=v_e,
            period=t_e,
            cell=n_e,
            chips=chips_e.astype(float),
            elastic=elastic,
            used_usd_per_chip_hour=np.where(elastic, 0.7 * price[v_e], 0.0),
            group_member=member[v_e],
        ),
        jobs=Jobs(
            chip_hours=np.array([5e7, 3e7]),
            first_period=np.array([2, 6]),
            last_period=np.array([9, min(18, T - 1)]),
            single_site=np.array([True, False]),
            gang_chips=np.array([20_000.0, 0.0]),
            steady=np.zeros(2, dtype=bool),
            speed=np.tile(speed_of_cell, (jobs, 1)),
            missed_usd=np.array([6.0, 5.0]),
            floor_chips=np.full(T, 4_000.0),
        ),
        limits=Limits(
            group_cap=np.array([0.6, 0.6, 0.6, 1.0]),
            group_cap_from=np.full(4, min(10, T)),
            survive_group=np.array([True, True, False, False]),
            survive_share=0.3,
            critical=np.arange(K) == 0,
            budget_usd=np.full((T + 11) // 12, 2e10),
            period_year=np.arange(T) // 12,
            prepay_usd_max=3e9,
        ),
        risk_weight=0.3,
        risk_alpha=0.9,
        exclusive=[[0, 4]],
    )


def tiny() -> Problem:
    """Make a problem of two scenarios, two periods and two blocks that has every family of constraint."""
    S, T, B = 2, 2, 2
    # vintages: own fleet (signed), a lot at the second site now or later, on-demand (elastic) at the first, an API
    offer, sign = np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 0, 0])
    V = offer.size
    deliveries = [
        (s, v, t, n, chips, v >= 3)
        for s in range(S)
        for v, first, n, chips in ((0, 0, 0, 100.0), (1, 0, 1, 10.0), (2, 1, 1, 10.0), (3, 0, 0, 1.0), (4, 0, 2, 1.0))
        for t in range(first, T)
    ]
    s_e, v_e, t_e, n_e, chips, elastic = (np.array(x) for x in zip(*deliveries, strict=True))
    chips = chips.astype(float)
    chips[(s_e == 1) & (n_e == 1) & (t_e == 0)] = 0.0  # the second site is late in the second scenario
    paid = np.zeros((V, S, T))
    paid[0], paid[1], paid[2, :, 1], paid[3] = 150_000.0, 20_000.0, 21_000.0, 100.0
    demand = np.zeros((S, T, B, 2))
    demand[..., 0] = [[[80, 120], [100, 150]], [[80, 120], [160, 240]]]
    demand[..., 1] = [[[20, 30], [20, 30]], [[20, 30], [30, 40]]]
    firm_kw = np.array([[140.0, 140.0], [15.0, 15.0], [0.0, 15.0], [0.0, 0.0], [0.0, 0.0]])
    member = np.array([[False, True], [True, False], [True, False], [False, True], [False, False]])
    power = np.full((S, T, B, 3), np.inf)
    power[:, :, :, 0], power[:, :, :, 1] = 250.0, 200.0
    power[:, :, 1, 1] = 120.0
    return Problem(
        axes=Axes(
            scenarios=["low", "high"],
            periods=["jan", "feb"],
            blocks=["night", "day"],
            sites=["ohio", "texas", "cloud"],
            cells=["ohio/h100", "texas/h200", "cloud/api"],
            workloads=["chat", "batch"],
            offers=["own", "lease", "spot", "tokens"],
            vintages=["own", "lease jan", "lease feb", "spot", "tokens"],
            jobs=["pretrain", "tune"],
            groups=["landlord", "grid"],
            years=["2026"],
        ),
        probability=np.array([0.75, 0.25]),
        period_hours=np.array([744.0, 672.0]),
        discount=np.array([1.0, 0.99]),
        block_share=np.array([0.5, 0.5]),
        demand_rps=demand,
        value_usd=np.array([0.002, 0.001]),
        refusal_usd=np.array([0.0005, 0.0]),
        deferrable=np.array([False, True]),
        power_kw=power,
        link_bytes_per_s=np.array([np.inf, 4.0e6, np.inf]),
        cells=Cells(
            site=np.array([0, 1, 2]),
            is_api=np.array([False, False, True]),
            kw_per_chip=np.array([1.4, 1.5, 0.0]),
            idle_share=np.array([0.3, 0.3, 0.0]),
            usd_per_kwh=np.array([0.06, 0.05, 0.0]),
        ),
        lanes=Lanes(
            workload=np.array([0, 0, 0, 1]),
            cell=np.array([0, 1, 2, 1]),
            goodput_rps_per_chip=np.array([[1.0, 1.0], [2.0, 1.8], [1.0, 1.0], [4.0, 4.0]]),
            usd_per_request=np.array([0.0, 0.0, 0.0015, 0.0]),
            bytes_per_request=np.array([20_000.0, 20_000.0, 20_000.0, 5_000.0]),
        ),
        vintages=Vintages(
            offer=offer,
            sign_period=sign,
            units_min=np.array([1.0, 2.0, 2.0, 0.0, 10.0]),
            units_max=np.array([1.0, 6.0, 6.0, 40.0, 50.0]),
            whole_units=np.array([True, True, True, False, False]),
            all_or_nothing=np.array([True, False, False, False, False]),
            signed=np.array([True, False, False, False, False]),
            lock_until=np.array([2, 1, 2, 0, 0]),
            term_until=np.array([2, 2, 2, 2, 2]),
            paid_usd=paid,
            prepay_usd=np.array([0.0, 5_000.0, 5_000.0, 0.0, 0.0]),
            cancel_usd=np.array([0.0, 0.0, 0.0, 30.0, 0.0])[:, None, None] * np.ones(paid.shape),
            renewed=np.array([[False, v == 1] for v in range(5)]),
            terminal_usd=np.array([0.0, 70.0, 0.0, 0.0, 0.0])[:, None] * np.ones(paid.shape[:2]),
            firm_kw=firm_kw,
            group_kw=firm_kw[:, :, None] * member[:, None, :],
        ),
        deliveries=Deliveries(
            scenario=s_e,
            vintage=v_e,
            period=t_e,
            cell=n_e,
            chips=chips,
            elastic=elastic,
            used_usd_per_chip_hour=np.where(v_e == 3, 3.0, 0.0),
            group_member=member[v_e],
        ),
        jobs=Jobs(
            chip_hours=np.array([8_000.0, 3_000.0]),
            first_period=np.array([0, 1]),
            last_period=np.array([1, 1]),
            single_site=np.array([True, False]),
            gang_chips=np.array([16.0, 0.0]),
            steady=np.array([True, False]),
            speed=np.array([[1.0, 1.5, 0.0], [1.0, 0.0, 0.0]]),
            missed_usd=np.array([8.0, 6.0]),
            floor_chips=np.array([0.0, 5.0]),
        ),
        limits=Limits(
            group_cap=np.array([0.4, 1.0]),
            group_cap_from=np.array([1, 0]),
            survive_group=np.array([True, False]),
            survive_share=0.5,
            critical=np.array([True, False]),
            budget_usd=np.array([2_000_000.0]),
            period_year=np.array([0, 0]),
            prepay_usd_max=25_000.0,
        ),
        risk_weight=0.5,
        risk_alpha=0.8,
        exclusive=[[1, 3]],
    )


TEN_TO_HUNDRED = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


def newsvendor(
    demand: tuple[float, ...] = TEN_TO_HUNDRED,
    *,
    fee_usd: float = 3.25,
    value_usd: float = 10.0,
    units_max: float = 1000.0,
) -> Problem:
    """Make one offer of chips for one hour against an unsure demand: a chip serves one request/s for ``value_usd``."""
    n = len(demand)
    one = np.ones(1)
    return Problem(
        axes=Axes(
            scenarios=[f"demand {d}" for d in demand],
            periods=["hour"],
            blocks=["all"],
            sites=["site"],
            cells=["site/chip"],
            workloads=["work"],
            offers=["offer"],
            vintages=["offer now"],
            jobs=[],
            groups=["grid"],
            years=["year"],
        ),
        probability=np.full(n, 1 / n),
        period_hours=one,
        discount=one,
        block_share=one,
        demand_rps=np.array(demand, dtype=float).reshape(n, 1, 1, 1),
        value_usd=one * value_usd / 3600,
        refusal_usd=np.zeros(1),
        deferrable=np.zeros(1, dtype=bool),
        power_kw=np.full((n, 1, 1, 1), np.inf),
        link_bytes_per_s=np.full(1, np.inf),
        cells=Cells(
            site=np.zeros(1, dtype=int),
            is_api=np.zeros(1, dtype=bool),
            kw_per_chip=one,
            idle_share=np.zeros(1),
            usd_per_kwh=np.zeros(1),
        ),
        lanes=Lanes(
            workload=np.zeros(1, dtype=int),
            cell=np.zeros(1, dtype=int),
            goodput_rps_per_chip=np.ones((1, n)),
            usd_per_request=np.zeros(1),
            bytes_per_request=np.ones(1),
        ),
        vintages=Vintages(
            offer=np.zeros(1, dtype=int),
            sign_period=np.zeros(1, dtype=int),
            units_min=np.zeros(1),
            units_max=one * units_max,
            whole_units=np.zeros(1, dtype=bool),
            all_or_nothing=np.zeros(1, dtype=bool),
            signed=np.zeros(1, dtype=bool),
            lock_until=np.ones(1, dtype=int),
            term_until=np.ones(1, dtype=int),
            paid_usd=np.full((1, n, 1), fee_usd),
            prepay_usd=np.zeros(1),
            cancel_usd=np.zeros((1, n, 1)),
            renewed=np.zeros((1, 1), dtype=bool),
            terminal_usd=np.zeros((1, n)),
            firm_kw=np.ones((1, 1)),
            group_kw=np.ones((1, 1, 1)),
        ),
        deliveries=Deliveries(
            scenario=np.arange(n),
            vintage=np.zeros(n, dtype=int),
            period=np.zeros(n, dtype=int),
            cell=np.zeros(n, dtype=int),
            chips=np.ones(n),
            elastic=np.zeros(n, dtype=bool),
            used_usd_per_chip_hour=np.zeros(n),
            group_member=np.ones((n, 1), dtype=bool),
        ),
        jobs=Jobs(
            chip_hours=np.zeros(0),
            first_period=np.zeros(0, dtype=int),
            last_period=np.zeros(0, dtype=int),
            single_site=np.zeros(0, dtype=bool),
            gang_chips=np.zeros(0),
            steady=np.zeros(0, dtype=bool),
            speed=np.zeros((0, 1)),
            missed_usd=np.zeros(0),
            floor_chips=np.zeros(1),
        ),
        limits=Limits(
            group_cap=np.ones(1),
            group_cap_from=np.zeros(1, dtype=int),
            survive_group=np.zeros(1, dtype=bool),
            survive_share=0.0,
            critical=np.zeros(1, dtype=bool),
            budget_usd=np.full(1, np.inf),
            period_year=np.zeros(1, dtype=int),
            prepay_usd_max=np.inf,
        ),
        risk_weight=0.0,
        risk_alpha=0.9,
    )


def lease(scenarios: int = 8, *, fee_usd: float = 5.0) -> Problem:
    """Make a chip on lease for four hours against demand that goes away after the first hour in half the scenarios.

    Serving it earns 10 an hour. The buyer may leave from the second hour on.
    """
    one = newsvendor((1.0,) * scenarios, fee_usd=fee_usd, units_max=1.0)
    hours = 4
    demand = np.ones((scenarios, hours, 1, 1))
    demand[scenarios // 2 :, 1:] = 0.0
    scenario, period = (each.ravel() for each in np.indices((scenarios, hours)))
    entries = np.zeros(scenario.size, dtype=int)
    return replace(
        one,
        axes=replace(one.axes, periods=[f"hour {hour}" for hour in range(hours)]),
        period_hours=np.ones(hours),
        discount=np.ones(hours),
        demand_rps=demand,
        power_kw=np.full((scenarios, hours, 1, 1), np.inf),
        vintages=replace(
            one.vintages,
            term_until=np.full(1, hours),
            paid_usd=np.full((1, scenarios, hours), fee_usd),
            cancel_usd=np.zeros((1, scenarios, hours)),
            renewed=np.zeros((1, hours), dtype=bool),
            terminal_usd=np.zeros((1, scenarios)),
            firm_kw=np.ones((1, hours)),
            group_kw=np.ones((1, hours, 1)),
        ),
        deliveries=replace(
            one.deliveries,
            scenario=scenario,
            vintage=entries,
            period=period,
            cell=entries,
            chips=np.ones(scenario.size),
            elastic=np.zeros(scenario.size, dtype=bool),
            used_usd_per_chip_hour=np.zeros(scenario.size),
            group_member=np.ones((scenario.size, 1), dtype=bool),
        ),
        jobs=replace(one.jobs, floor_chips=np.zeros(hours)),
        limits=replace(one.limits, period_year=np.zeros(hours, dtype=int)),
    )
