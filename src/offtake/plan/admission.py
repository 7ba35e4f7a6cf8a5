"""Say where the terms alone let work run: residency, security, distance, chips; before anything is simulated.

Comes in: a portfolio. Goes out: a reason for each pair of work and place that its terms rule out, and one
``InputError`` for work that is left without any place. It must never know a goodput or a price.
"""

from __future__ import annotations

from offtake.errors import Fault, InputError
from offtake.plan.contracts import Cell, cells_of
from offtake.schema.check import ANY, TOML_NAME, where
from offtake.schema.portfolio import Tables
from offtake.schema.settings import WorkloadRow
from offtake.schema.tables import SiteRow, TrainingRow
from offtake.supply.link import rtt_ms
from offtake.supply.portfolio import Portfolio, portfolio_of

REASONS_SHOWN = 3


def check_places(tables: Tables) -> None:
    """Check that each workload and each training job has a cell that its terms allow, before any goodput is sought.

    Raises
    ------
    InputError
        With one fault for each that has none.
    """
    try:
        portfolio = portfolio_of(tables)
    except InputError:  # told by its own check already
        return
    cells = cells_of(portfolio)
    if not cells:
        mend = "Add rows to offers.csv, and what they deliver to tranches.csv; contracts signed already count."
        raise InputError([Fault("offers.csv", "there are no offers, so there is nothing to plan with", mend)])
    faults: list[Fault] = []
    for workload in tables.workloads:
        reasons = {cell: refused_by_terms(portfolio, workload, cell) for cell in cells}
        if all(reasons.values()):
            said = [f"{workload.workload} cannot run on {cell.name}: {reason}." for cell, reason in reasons.items()]
            faults.append(nowhere(workload, said))
    faults += [fault for job in tables.training for fault in job_faults(portfolio, job, cells)]
    if faults:
        raise InputError(faults)


def job_faults(portfolio: Portfolio, job: TrainingRow, cells: list[Cell]) -> list[Fault]:
    """Return the fault of a training job that no site may run, or of a gang that no site could ever hold."""
    chips: dict[str, float] = {}
    for terms in portfolio.offers.values():
        for tranche in terms.tranches:
            kinds = ((tranche.chip, 1.0), (tranche.substitute_chip, tranche.substitute_ratio))
            ratio = max((ratio for chip, ratio in kinds if job.chips.get(chip)), default=0.0)
            if ratio and not refused_by_site(job, portfolio.sites[tranche.site]):
                more = ratio * tranche.chips_per_unit * terms.row.units_max
                chips[tranche.site] = chips.get(tranche.site, 0.0) + more
    if not chips:
        sites = dict.fromkeys(cell.site for cell in cells if not cell.is_api)
        reasons = [refused_by_site(job, portfolio.sites[site]) or f"{site} has none of its chips" for site in sites]
        shown = "; ".join(reasons[:REASONS_SHOWN]) or "no offer brings chips"
        mend = f"Loosen its needs, or add an offer where it may run ({shown})."
        return [Fault("training.csv", "no site may run this job", mend, job.at, "job", job.job)]
    if job.gang_chips <= max(chips.values()):
        return []
    best = max(chips, key=lambda site: chips[site])
    problem = "no site ever holds so many of its chips at once"
    mend = f"Ask for fewer, or offer more: {best} could hold {chips[best]:,.0f} with all its offers signed."
    return [Fault("training.csv", problem, mend, job.at, "gang_chips", f"{job.gang_chips:g}")]


def refused_by_terms(portfolio: Portfolio, workload: WorkloadRow, cell: Cell) -> str:
    """Return why a workload may not be in a cell, whatever its goodput; or nothing."""
    rtt = rtt_ms(portfolio.links, cell.site, workload.regions)
    reason = refused_by_site(workload, portfolio.sites[cell.site]) or refused_by_distance(workload, rtt)
    if reason or cell.is_api or (workload.model, cell.chip) in portfolio.deployments:
        return reason
    return f"deployments.csv has no row for {workload.model} on {cell.chip}"


def refused_by_distance(workload: WorkloadRow, rtt: float | None) -> str:
    """Return why users cannot be served over the link alone, or nothing."""
    if rtt is None:
        return "the site has no link to its users"
    if rtt >= workload.ttft_ms_p95:
        return f"the round trip of {rtt:.0f} ms alone takes its {workload.ttft_ms_p95:.0f} ms to the first token"
    return ""


def refused_by_site(work: WorkloadRow | TrainingRow, site: SiteRow) -> str:
    """Return why work may not be at a site at all, or nothing."""
    if work.residency not in {ANY, site.residency}:
        return f"its data must stay in {work.residency} and {site.site} is in {site.residency}"
    if site.security < work.security:
        return f"it needs security class {work.security} and {site.site} has {site.security}"
    return ""


def nowhere(workload: WorkloadRow, reasons: list[str]) -> Fault:
    """Return the fault of a workload that may run nowhere, with the first reasons."""
    shown = " ".join(reasons[:REASONS_SHOWN]) or "No offer brings capacity."
    more = f" And {len(reasons) - REASONS_SHOWN} more like these." if len(reasons) > REASONS_SHOWN else ""
    mend = f"{shown}{more} Add a deployment, a link or an offer where it may run, or loosen its needs."
    at = where("workload", workload)
    return Fault(TOML_NAME, "no site may serve this workload", mend, at, "workload", workload.workload)
