"""Tell what an offer delivers on each day, in each scenario, for one kept unit.

Comes in: terms, the day of signing, and what chance decided (:class:`Draw`). Goes out: shares of each tranche
by day: promised, present, and counted after qualification. Pure functions of dates; a period's mean is the
mean over its days, so a tranche that comes in mid-month counts for the days on which it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from offtake.supply.offer import NEVER, Terms, promised_day

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Hold what chance decided for one offer, by scenario S and tranche R.

    ``there [S]`` whether it can be had; ``slip_days [S, R]``; ``exit_day [S]`` the provider's exit and
    ``lost_day [S, R]`` the loss of the tranche's site, as ordinals (``NEVER`` where it does not happen);
    ``exit_usd [S]`` what the provider then pays for each unit, and ``swapped [S, R]`` whether it delivers the other
    chip that it may (of length 1: the same in every scenario, and for every tranche).
    """

    there: Bools
    slip_days: Ints
    exit_day: Ints
    lost_day: Ints
    exit_usd: Floats = field(default_factory=lambda: np.zeros(1))
    swapped: Bools = field(default_factory=lambda: np.zeros((1, 1), dtype=np.bool_))


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Hold shares of each tranche by day D; each is the mean over the day, between 0 and 1.

    ``promised [R, D]`` as written; ``owed [S, R, D]`` what is paid for: present, and late capacity as far as
    the late remedy leaves it owed; ``counted [S, R, D]`` present and qualified; ``alive [S, D]`` whether the
    contract runs; ``term_over [S]`` the first day after the term, renewal left out (``NEVER`` without a term).
    """

    days: Ints
    promised: Floats
    owed: Floats
    counted: Floats
    alive: Bools
    term_over: Ints


def present_share(first_day: Ints, ramp_days: int, days: Ints) -> Floats:
    """Return the share of a tranche that is present, as the mean over each day [..., D].

    Chips come in a straight line from ``first_day [...]`` over ``ramp_days``; with A(x) = x²/2r for x < r and
    x − r/2 beyond, the mean over day d is A(d + 1 − first) − A(d − first): exact, also in the middle of a ramp.
    """
    since = days - np.asarray(first_day)[..., np.newaxis]
    if ramp_days == 0:
        return (since >= 0).astype(np.float64)
    return np.clip((since + 0.5) / ramp_days, 0.0, 1.0) * (since >= 0)


def first_days(terms: Terms, sign_day: int, draw: Draw) -> Ints:
    """Return the first day of each tranche in each scenario [S, R], slips included.

    A signed contract whose tranche was due by ``sign_day`` has delivered it: it slips no more.
    """
    promised = np.array([promised_day(one, sign_day, signed=terms.row.signed) for one in terms.tranches])
    done = terms.row.signed & (promised <= sign_day)
    return np.where(done, promised, promised + draw.slip_days).astype(np.int64)


def end_day(terms: Terms, first: Ints, draw: Draw) -> Ints:
    """Return the first day on which the contract no longer runs, by scenario [S]: term or the provider's exit.

    A renewal goes on where the term ends.
    """
    end: Ints = np.minimum(draw.exit_day, term_over(terms, first) + terms.row.renewal_days)
    return end


def term_over(terms: Terms, first: Ints) -> Ints:
    """Return the first day after the term, by scenario [S]: it runs from the first delivery of anything."""
    if terms.row.term_days is None:
        return np.full(first.shape[0], NEVER, dtype=np.int64)
    over: Ints = np.minimum(first.min(axis=1) + terms.row.term_days, NEVER)
    return over


def deliver(terms: Terms, sign_day: int, draw: Draw, days: Ints) -> Delivery:
    """Return what one kept unit delivers on each day [D]; shapes as in :class:`Delivery`.

    Cost: O(scenarios × tranches × days).
    """
    due = np.array([promised_day(one, sign_day, signed=terms.row.signed) for one in terms.tranches], dtype=np.int64)
    first = first_days(terms, sign_day, draw)
    end = end_day(terms, first, draw)
    alive = draw.there[:, np.newaxis] & (days >= due.min()) & (days < end[:, np.newaxis])
    promised = np.stack([present_share(due[r], one.ramp_days, days) for r, one in enumerate(terms.tranches)])
    late_share = 1.0 - terms.row.late_remedy_share
    owed, counted = [], []
    for r, tranche in enumerate(terms.tranches):
        standing = alive & (days < draw.lost_day[:, r, np.newaxis])
        present = present_share(first[:, r], tranche.ramp_days, days)
        owed.append(standing * (present + late_share * np.maximum(promised[r] - present, 0.0)))
        counted.append(standing * present_share(first[:, r] + tranche.qualification_days, tranche.ramp_days, days))
    return Delivery(
        days=days,
        promised=promised,
        owed=np.stack(owed, axis=1),
        counted=np.stack(counted, axis=1),
        alive=alive,
        term_over=term_over(terms, first),
    )


def kinds(terms: Terms, tranche: int, draw: Draw) -> Iterator[tuple[str, Floats]]:
    """Yield each chip that a tranche may bring, with how many come for each one promised, by scenario [S]."""
    row = terms.tranches[tranche]
    swapped = np.broadcast_to(draw.swapped, draw.slip_days.shape)[:, tranche]
    if not row.substitute_chip:
        yield row.chip, np.ones(swapped.size)
        return
    yield row.chip, (~swapped).astype(np.float64)
    yield row.substitute_chip, row.substitute_ratio * swapped.astype(np.float64)


def as_promised(terms: Terms) -> Draw:
    """Return the draw of one scenario in which everything comes as written and nobody leaves."""
    tranches = len(terms.tranches)
    return Draw(
        there=np.ones(1, dtype=np.bool_),
        slip_days=np.zeros((1, tranches), dtype=np.int64),
        exit_day=np.full(1, NEVER, dtype=np.int64),
        lost_day=np.full((1, tranches), NEVER, dtype=np.int64),
    )
