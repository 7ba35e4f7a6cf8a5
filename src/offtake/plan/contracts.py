"""Turn each offer and signing date into a vintage: what it delivers, costs and binds, period by period.

Comes in: a portfolio, its calendar and its scenarios. Goes out: the arrays :class:`~offtake.plan.problem.Vintages`
and :class:`~offtake.plan.problem.Deliveries`. It must never know demand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from offtake.plan.calendar import Calendar, signing_dates
from offtake.plan.nodes import Moments
from offtake.plan.problem import Deliveries, Vintages
from offtake.plan.tree import Tree
from offtake.schema.tables import TrancheRow
from offtake.supply.chip import kw_at_site
from offtake.supply.delivery import deliver, end_day, first_days, kinds
from offtake.supply.fee import cancel_usd, paid_usd_by_day, prepay_usd, terminal_usd, used_usd_per_chip_hour
from offtake.supply.offer import NEVER, Terms, buyer_lock_day, buyer_notice_days, latest_term_over, promised_day
from offtake.supply.portfolio import Portfolio
from offtake.units import S_PER_MINUTE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FIRM = {"firm", "option"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Hold a place where work runs: a chip at a site, or the token-priced API of one offer (then ``chip`` is empty)."""

    site: str
    chip: str
    api_offer: str

    @property
    def is_api(self) -> bool:
        """Tell whether it is a token-priced API."""
        return bool(self.api_offer)

    @property
    def name(self) -> str:
        """Name it: ``site/chip``, or ``site/offer``."""
        return f"{self.site}/{self.api_offer or self.chip}"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Hold what every vintage needs: the portfolio, its calendar, its scenarios, its cells and its groups.

    ``tokens_per_request [N]`` is the mean over the requests that may go to a cell: one "chip" of an API carries
    one such request a second.
    """

    portfolio: Portfolio
    calendar: Calendar
    tree: Tree
    cells: list[Cell]
    groups: list[str]
    tokens_per_request: Floats


@dataclass(frozen=True, kw_only=True)
class Vintage:
    """Hold one offer at one signing date: ``paid_usd``, ``cancel_usd [S, T]``, ``used_usd_per_chip_hour [T]``.

    ``renewed [T]`` and ``terminal_usd [S]`` are as in :class:`~offtake.plan.problem.Vintages`.

    Of one unit: ``chips [S, T]`` by cell are delivered and qualified; ``firm_kw [T]`` and the part of it in each
    group, ``group_kw [T, G]``. ``group_member [G]`` by cell are the groups that its chips there are lost with.
    """

    offer: int
    sign_day: int
    lock_day: int
    end_day: int
    prepay_usd: float
    paid_usd: Floats
    cancel_usd: Floats
    renewed: Bools
    terminal_usd: Floats
    used_usd_per_chip_hour: Floats
    firm_kw: Floats
    group_kw: Floats
    chips: dict[int, Floats]
    group_member: dict[int, Bools]


@dataclass(frozen=True, kw_only=True)
class Contracts:
    """Hold all vintages with their names, signing days and moments, and the offers that deliver after the horizon."""

    vintages: Vintages
    deliveries: Deliveries
    moments: Moments
    names: list[str]
    sign_days: Ints
    too_late: list[str]


def cells_of(portfolio: Portfolio) -> list[Cell]:
    """List the cells that some tranche fills, in the order of the offers; those of chips that may come instead last."""
    rows = [(terms, row) for terms in portfolio.offers.values() for row in terms.tranches]
    promised = [cell_of(terms, row, row.chip) for terms, row in rows]
    other = [cell_of(terms, row, row.substitute_chip) for terms, row in rows if row.substitute_chip]
    return list(dict.fromkeys([*promised, *other]))


def cell_of(terms: Terms, tranche: TrancheRow, chip: str) -> Cell:
    """Return the cell that a tranche fills with a chip: the one promised, or the one that may come instead."""
    return Cell(site=tranche.site, chip=chip, api_offer=terms.row.offer if terms.is_api else "")


def contracts_of(frame: Frame) -> Contracts:
    """Return every vintage that is promised to bring something within the horizon, and every signed contract."""
    kept: list[Vintage] = []
    too_late = []
    for index, terms in enumerate(frame.portfolio.offers.values()):
        some = list(vintages_of(frame, index, terms))
        kept += some
        if not some:
            too_late.append(terms.row.offer)
    days = np.array([one.sign_day for one in kept], dtype=np.int64)
    offers = list(frame.portfolio.offers)
    names = [f"{offers[one.offer]} signed {date.fromordinal(one.sign_day)}" for one in kept]
    return Contracts(
        vintages=stack_vintages(frame, kept),
        deliveries=stack_deliveries(frame, kept),
        moments=moments_of(frame, kept),
        names=names,
        sign_days=days,
        too_late=too_late,
    )


def moments_of(frame: Frame, kept: list[Vintage]) -> Moments:
    """Return when each vintage is signed, and when it is decided to keep it through each period: a notice earlier.

    What is known then is what was seen before the period in which the day of the notice lies.
    """
    terms, starts = list(frame.portfolio.offers.values()), frame.calendar.edges[:-1]
    sign = np.array([frame.calendar.period_of(one.sign_day) for one in kept], dtype=np.int64)
    notice_days = np.array([buyer_notice_days(terms[one.offer]) for one in kept], dtype=np.int64)
    day = starts - notice_days[:, np.newaxis]
    keep = np.searchsorted(starts, day, side="right") - 1
    return Moments(sign=sign, keep=np.maximum(keep, sign[:, np.newaxis]).astype(np.int64))


def vintages_of(frame: Frame, index: int, terms: Terms) -> Iterator[Vintage]:
    """Yield an offer's vintages by signing date, but for those that come too late for the horizon."""
    end = int(frame.calendar.edges[-1])
    for date_signed in signing_dates(terms.row, frame.portfolio.tables.settings):
        sign_day = date_signed.toordinal()
        ready = min(
            promised_day(one, sign_day, signed=terms.row.signed) + one.qualification_days for one in terms.tranches
        )
        if terms.row.signed or ready < end:
            yield vintage_of(frame, index, terms, sign_day)


def vintage_of(frame: Frame, index: int, terms: Terms, sign_day: int) -> Vintage:
    """Return one vintage, in every scenario at once.

    Notes
    -----
    Cost: O(scenarios × tranches × days); a few array operations.
    """
    calendar, row = frame.calendar, terms.row
    draw = frame.tree.draw(terms, sign_day)
    delivery = deliver(terms, sign_day, draw, calendar.days)
    counted = calendar.mean(delivery.counted)
    chips: dict[int, Floats] = {}
    group_member: dict[int, Bools] = {}
    firm_kw, group_kw = np.zeros(calendar.periods), np.zeros((calendar.periods, len(frame.groups)))
    brought = [(place, one, kind) for place, one in enumerate(terms.tranches) for kind in kinds(terms, place, draw)]
    for place, one, (chip, ratio) in brought:
        cell = frame.cells.index(cell_of(terms, one, chip))
        size = chips_of_unit(terms, one, float(frame.tokens_per_request[cell]))
        delivered = counted[:, place] * size * ratio[:, np.newaxis]
        chips[cell] = chips.get(cell, 0.0) + delivered
        group_member[cell] = member_of(frame, terms, one, chip)
        if not terms.is_api and row.firmness in FIRM:
            kw = kw_at_site(frame.portfolio.chips[chip], frame.portfolio.sites[one.site])
            mean_kw = kw * (frame.tree.probability @ delivered)
            firm_kw += mean_kw
            group_kw += mean_kw[:, np.newaxis] * group_member[cell]
    return Vintage(
        offer=index,
        sign_day=sign_day,
        lock_day=buyer_lock_day(terms, sign_day),
        end_day=int(end_day(terms, first_days(terms, sign_day, draw), draw).max()),
        prepay_usd=0.0 if row.signed else prepay_usd(terms, sign_day),
        paid_usd=calendar.total(paid_usd_by_day(terms, sign_day, draw, delivery)),
        cancel_usd=cancel_usd(terms, sign_day, draw, calendar.edges[:-1]),
        renewed=renewed(terms, sign_day, calendar),
        terminal_usd=terminal_usd(terms, draw, delivery),
        used_usd_per_chip_hour=calendar.mean(used_usd_per_chip_hour(terms, calendar.days)),
        firm_kw=firm_kw,
        group_kw=group_kw,
        chips=chips,
        group_member=group_member,
    )


def renewed(terms: Terms, sign_day: int, calendar: Calendar) -> Bools:
    """Tell in which periods a renewal runs that began before [T]: one that is for a time ends with it, and not sooner.

    A renewal begins with the first period from its day on.
    """
    first, length = latest_term_over(terms, sign_day), terms.row.renewal_term_days
    starts = calendar.edges[:-1]
    if length is None or first == NEVER:
        return np.zeros(starts.size, dtype=np.bool_)
    begins = np.searchsorted(starts, np.arange(first, int(calendar.edges[-1]), length))
    runs = starts >= first
    runs[begins[begins < starts.size]] = False
    return runs


def member_of(frame: Frame, terms: Terms, tranche: TrancheRow, chip: str) -> Bools:
    """Return which groups a tranche with a chip is in [G]; all tranches of an offer in one cell are in the same."""
    mine = frame.portfolio.groups_of_tranche(terms, tranche, chip)
    return np.array([group in mine for group in frame.groups], dtype=np.bool_)


def chips_of_unit(terms: Terms, tranche: TrancheRow, tokens_per_request: float) -> float:
    """Return the chips of a tranche that one unit brings; for an API, the mean requests per second it allows."""
    if not terms.is_api:
        return tranche.chips_per_unit
    tokens_per_s = terms.row.tokens_per_minute_max / S_PER_MINUTE / len(terms.tranches)
    return tokens_per_s / tokens_per_request if tokens_per_request > 0 else 0.0


def stack_vintages(frame: Frame, kept: list[Vintage]) -> Vintages:
    """Lay the vintages out as arrays."""
    calendar, terms = frame.calendar, list(frame.portfolio.offers.values())
    rows = [terms[one.offer].row for one in kept]
    shape = (len(kept), frame.tree.scenarios, calendar.periods)
    starts = calendar.edges[:-1]
    return Vintages(
        offer=np.array([one.offer for one in kept], dtype=np.int64),
        sign_period=np.array([calendar.period_of(one.sign_day) for one in kept], dtype=np.int64),
        units_min=np.array([row.units_min for row in rows], dtype=np.float64),
        units_max=np.array([row.units_max for row in rows], dtype=np.float64),
        whole_units=np.array([row.whole_units for row in rows], dtype=np.bool_),
        all_or_nothing=np.array([row.all_or_nothing for row in rows], dtype=np.bool_),
        signed=np.array([row.signed for row in rows], dtype=np.bool_),
        lock_until=np.searchsorted(starts, [one.lock_day for one in kept]).astype(np.int64),
        term_until=np.searchsorted(starts, [one.end_day for one in kept]).astype(np.int64),
        paid_usd=np.array([one.paid_usd for one in kept], dtype=np.float64).reshape(shape),
        prepay_usd=np.array([one.prepay_usd for one in kept], dtype=np.float64),
        cancel_usd=np.array([one.cancel_usd for one in kept], dtype=np.float64).reshape(shape),
        renewed=np.array([one.renewed for one in kept], dtype=np.bool_).reshape(len(kept), calendar.periods),
        terminal_usd=np.array([one.terminal_usd for one in kept], dtype=np.float64).reshape(shape[:2]),
        firm_kw=np.array([one.firm_kw for one in kept], dtype=np.float64).reshape(len(kept), calendar.periods),
        group_kw=np.array([one.group_kw for one in kept], dtype=np.float64).reshape(
            len(kept), calendar.periods, len(frame.groups)
        ),
    )


def stack_deliveries(frame: Frame, kept: list[Vintage]) -> Deliveries:
    """List what is delivered, entry by entry, leaving out what is zero."""
    terms = list(frame.portfolio.offers.values())
    tables = [np.zeros((7, 0))]
    member = [np.zeros((0, len(frame.groups)), dtype=np.bool_)]
    for index, one in enumerate(kept):
        elastic = terms[one.offer].row.take_or_pay_share < 1 and not terms[one.offer].is_api
        for cell, chips in one.chips.items():
            scenario, period = np.nonzero(chips)
            amount, used = chips[scenario, period], one.used_usd_per_chip_hour[period]
            tables.append(np.stack(np.broadcast_arrays(scenario, index, period, cell, amount, elastic, used)))
            member.append(np.tile(one.group_member[cell], (scenario.size, 1)))
    scenario, vintage, period, cell, amount, elastic, used = np.concatenate(tables, axis=1)
    return Deliveries(
        scenario=scenario.astype(np.int64),
        vintage=vintage.astype(np.int64),
        period=period.astype(np.int64),
        cell=cell.astype(np.int64),
        chips=amount,
        elastic=elastic.astype(np.bool_),
        used_usd_per_chip_hour=used,
        group_member=np.concatenate(member),
    )
