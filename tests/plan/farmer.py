"""State the farmer of Birge and Louveaux (Introduction to Stochastic Programming, section 1.1) as a planning problem.

An acre is a unit of an offer with a fee; it delivers "chips" for one hour: tons of a crop, a fifth more or fewer with
the weather. A ton sold is a request served at its price; a ton of feed that is bought is a request refused at its
cost. 500 acres of land are a limit on prepayment, of one dollar an acre, which the fee is lowered by.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offtake.plan.problem import Problem
from tests.plan.problems import newsvendor

ACRES = 500.0
CROPS = ("wheat", "corn", "beets")
PLANTING_USD = (150.0, 230.0, 260.0)
TONS_PER_ACRE = np.array([2.5, 3.0, 20.0])
WEATHER = np.array([1.2, 1.0, 0.8])
MANY = 1e5
#: crop, tons that can be sold or are needed, price of a ton sold, cost of a ton bought
USES = (
    (0, 200.0, 0.0, 238.0),  # feed
    (0, MANY, 170.0, 0.0),
    (1, 240.0, 0.0, 210.0),  # feed
    (1, MANY, 150.0, 0.0),
    (2, 6000.0, 36.0, 0.0),  # within the quota
    (2, MANY, 10.0, 0.0),
)


def farmer() -> Problem:
    """Make the farmer's problem: three crops, three years of weather, each as likely."""
    one = newsvendor((1.0, 1.0, 1.0))
    crops, uses = len(CROPS), len(USES)
    scenario, crop = (each.ravel() for each in np.indices((3, crops)))
    hour = np.zeros(crops, dtype=int)
    return replace(
        one,
        axes=replace(
            one.axes,
            scenarios=["above", "average", "below"],
            cells=[f"field/{name}" for name in CROPS],
            workloads=[f"use {use}" for use in range(uses)],
            offers=list(CROPS),
            vintages=list(CROPS),
        ),
        demand_rps=np.tile(np.array([tons for _, tons, _, _ in USES]), (3, 1, 1, 1)),
        value_usd=np.array([price for _, _, price, _ in USES]) / 3600,
        refusal_usd=np.array([cost for _, _, _, cost in USES]) / 3600,
        deferrable=np.zeros(uses, dtype=bool),
        cells=replace(
            one.cells,
            site=hour,
            is_api=np.zeros(crops, dtype=bool),
            kw_per_chip=np.ones(crops),
            idle_share=np.zeros(crops),
            usd_per_kwh=np.zeros(crops),
        ),
        lanes=replace(
            one.lanes,
            workload=np.arange(uses),
            cell=np.array([crop for crop, _, _, _ in USES]),
            goodput_rps_per_chip=np.ones((uses, 3)),
            usd_per_request=np.zeros(uses),
            bytes_per_request=np.ones(uses),
        ),
        vintages=replace(
            one.vintages,
            offer=np.arange(crops),
            sign_period=hour,
            units_min=np.zeros(crops),
            units_max=np.full(crops, ACRES),
            whole_units=np.zeros(crops, dtype=bool),
            all_or_nothing=np.zeros(crops, dtype=bool),
            signed=np.zeros(crops, dtype=bool),
            lock_until=hour + 1,
            term_until=hour + 1,
            paid_usd=np.repeat(np.array(PLANTING_USD)[:, np.newaxis, np.newaxis] - 1.0, 3, axis=1),
            prepay_usd=np.ones(crops),
            cancel_usd=np.zeros((crops, 3, 1)),
            renewed=np.zeros((crops, 1), dtype=bool),
            terminal_usd=np.zeros((crops, 3)),
            firm_kw=np.ones((crops, 1)),
            group_kw=np.ones((crops, 1, 1)),
        ),
        deliveries=replace(
            one.deliveries,
            scenario=scenario,
            vintage=crop,
            period=np.zeros(scenario.size, dtype=int),
            cell=crop,
            chips=TONS_PER_ACRE[crop] * WEATHER[scenario],
            elastic=np.zeros(scenario.size, dtype=bool),
            used_usd_per_chip_hour=np.zeros(scenario.size),
            group_member=np.ones((scenario.size, 1), dtype=bool),
        ),
        jobs=replace(one.jobs, speed=np.zeros((0, crops))),
        limits=replace(one.limits, critical=np.zeros(uses, dtype=bool), prepay_usd_max=ACRES),
    )
