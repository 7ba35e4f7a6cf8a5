"""Say in words what happens in each scenario, and what a reader must know beside the answer.

Comes in: an assembled problem. Goes out: sentences. It must never know a solution.
"""

from __future__ import annotations

from datetime import date

import numpy as np

from offtake.plan.assemble import Assembled, Inputs
from offtake.plan.given import ways_of
from offtake.plan.goodputs import Goodputs
from offtake.plan.nodes import LEAST
from offtake.plan.words import count, day, listing, significant
from offtake.schema.columns import Confidence
from offtake.schema.marks import Figure, figures
from offtake.supply.delivery import first_days
from offtake.supply.offer import Terms, promised_day
from offtake.supply.portfolio import oddities

THROUGHPUT_TOLERANCE = 0.02
ALL_TODAY = (
    "Signing, and the day of our own notice, are decided today for all scenarios: waiting for news is worth "
    "nothing in this plan, and the right to cancel is worth at least what is shown."
)
HORIZON_END = "Money after the last day counts for nothing, on either side, but for terminal values that offers give."
API_ASSUMED = (
    "A token-priced API is taken to serve any model within its rate limit, and to answer in half the time that its "
    "strictest workload allows, to the first token and for each one after; to the first in less, where the round trip "
    "of the farthest region leaves less than half."
)
CURTAILED = "Curtailed hours are put into the busiest blocks of the week, as a mean loss of power there."
ASSUMED_TABLES = {"growth", "shock", "risk", "deployments"}
ASSUMED_OF_OFFER = {"offers", "tranches", "exits"}


def describe_scenarios(inputs: Inputs) -> list[str]:
    """Describe each scenario in one line: growth, surges, late or missing offers, exits, losses, throughput."""
    return [describe(inputs, scenario) for scenario in range(inputs.tree.scenarios)]


def describe(inputs: Inputs, scenario: int) -> str:
    """Describe one scenario."""
    parts = [growth_words(inputs, scenario), way_words(inputs, scenario), *inputs.load.surges[scenario]]
    for terms in inputs.portfolio.offers.values():
        parts += offer_words(inputs, terms, scenario)
    end = int(inputs.calendar.edges[-1])
    for site, lost in inputs.tree.lost_day.items():
        if lost[scenario] < end:
            parts.append(f"site {site} lost on {day(int(lost[scenario]))}")
    for site, hours in inputs.tree.curtailed_hours.items():
        if inputs.portfolio.sites[site].curtailment_hours_per_year > 0:
            parts.append(f"{site} curtailed for {significant(float(hours[scenario]))} hours a year")
    for (model, chip), factors in inputs.tree.throughput.items():
        if abs(factors[scenario] - 1.0) > THROUGHPUT_TOLERANCE:
            parts.append(f"{model} on {chip} runs at {factors[scenario]:.2f} of its table")
    return "; ".join(part for part in parts if part) or "everything as promised"


def growth_words(inputs: Inputs, scenario: int) -> str:
    """Name the branch of growth."""
    branch = int(inputs.tree.growth[scenario])
    if branch < 0:
        return ""
    row = inputs.portfolio.tables.growth[branch]
    return f"growth {row.branch} (×{significant(row.per_year)} a year)"


def way_words(inputs: Inputs, scenario: int) -> str:
    """Name the way through the user's own tree."""
    way = int(inputs.tree.way[scenario])
    return "" if way < 0 else ways_of(inputs.portfolio.tables.nodes)[way].name


def growth_name(inputs: Inputs, scenario: int) -> str:
    """Return the name of the branch of growth; ``none`` without a fan."""
    branch = int(inputs.tree.growth[scenario])
    return "none" if branch < 0 else inputs.portfolio.tables.growth[branch].branch


def offer_words(inputs: Inputs, terms: Terms, scenario: int) -> list[str]:
    """Say what happens to one offer, if signed on the first day."""
    name, luck = terms.row.offer, inputs.tree.luck[terms.row.offer]
    if not luck.there[scenario]:
        return [f"{name} cannot be had"]
    parts = []
    start, end = int(inputs.calendar.edges[0]), int(inputs.calendar.edges[-1])
    draw = inputs.tree.draw(terms, start)
    first = first_days(terms, start, draw)[scenario]
    due = np.array([promised_day(one, start, signed=terms.row.signed) for one in terms.tranches])
    late = (first - due)[due < end]
    if late.any():
        most = int(late.max())
        parts.append(f"{name} up to {most} day{'s' if most > 1 else ''} late")
    if len(terms.readings) > 1:
        parts.append(f"{name} read as {terms.readings[int(luck.reading[scenario])].name}")
    if draw.exit_day[scenario] < end:
        parts.append(f"{name} taken back on {day(int(draw.exit_day[scenario]))}")
    return parts


def assumptions_of(inputs: Inputs) -> list[str]:
    """List the assumed figures that the answer leans on: growth, shocks, risk, throughput and the questioned offer."""
    tables = inputs.portfolio.tables
    question = tables.settings.question

    def leans(figure: Figure) -> bool:
        own = figure.table in ASSUMED_OF_OFFER and figure.key.split(" ")[0] == question
        return figure.confidence == Confidence.ASSUMPTION and (own or figure.table in ASSUMED_TABLES)

    return [
        f"{figure.table} {figure.key} {figure.column}: {figure.value} {figure.unit}".rstrip()
        for figure in figures(tables)
        if leans(figure)
    ]


def learning(assembled: Assembled) -> str:
    """Say when news may change what is decided, and how finely it is told apart."""
    node_as, periods = assembled.problem.decided.node_as, assembled.problem.axes.periods
    parts = [len(np.unique(node_as[:, period])) for period in range(node_as.shape[1])]
    stages = [period for period in range(1, len(parts)) if parts[period] != parts[period - 1]]
    if not stages:
        return ALL_TODAY
    days = listing([day(date.fromisoformat(periods[period]).toordinal()) for period in stages])
    if assembled.inputs.portfolio.tables.nodes:
        ways = f"{count(parts[-1])} ways in all"
        return f"What is not decided today is decided as your own tree parts: before {days}, {ways}."
    return (
        f"What is not decided today is decided on what has been seen before {days}: {count(parts[-1])} courses of "
        f"events are told apart in the end, of at least {count(LEAST)} scenarios each; a notice is decided its days "
        "before it takes effect."
    )


def warnings_of(assembled: Assembled) -> list[str]:
    """Return what a reader must know beside the answer."""
    portfolio = assembled.inputs.portfolio
    tables = portfolio.tables
    sentences = [learning(assembled), HORIZON_END]
    sentences += [f"Step times of {row.model} are those of {row.stand_in}." for row in tables.models]
    goodputs = assembled.inputs.goodput_of
    if isinstance(goodputs, Goodputs):
        known = goodputs.deployments.items()
        sentences += [
            f"Step times of {model} on {chip} are extrapolated from its data sheet, not measured."
            for (model, chip), deployment in known
            if deployment.extrapolated
        ]
    if any(cell.is_api for cell in assembled.cells):
        sentences.append(API_ASSUMED)
    if any(site.curtailment_hours_per_year > 0 for site in portfolio.sites.values()):
        sentences.append(CURTAILED)
    if assembled.contracts.too_late:
        names = listing(assembled.contracts.too_late)
        sentences.append(f"{names}: nothing is delivered before the horizon ends, so there is nothing to decide.")
    drawn, asked = assembled.inputs.tree.scenarios, tables.settings.scenarios
    if drawn != asked:
        sentences.append(f"{drawn} scenarios were drawn, not {asked}: each branch of growth needs one.")
    excluded = assembled.placement.excluded
    if excluded:
        pairs = len(excluded) + len(assembled.placement.lanes)
        sentences.append(f"{count(len(excluded))} of {count(pairs)} pairs of workload and place are ruled out.")
    return sentences + oddities(portfolio)
