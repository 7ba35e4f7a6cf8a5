"""Write the planner's figures in words: money, counts, power, days.

Comes in: numbers in the house units. Goes out: short text. It must never know a plan.
"""

from __future__ import annotations

from datetime import date
from math import isclose

import numpy as np

from offtake.units import KW_PER_MW, PERCENT, USD_PER_BILLION, USD_PER_MILLION

MINUS = "−"
DIGITS = 3
WHOLE = 1e-6
PROVEN_SHARE = 1e-6  #: of a value; less is rounding


def money(usd: float) -> str:
    """Write US dollars.

    >>> money(1.25e9), money(-3.2e8), money(12345.0)
    ('$1.25 bn', '−$320 m', '$12,345')
    """
    sign, size = (MINUS, -usd) if usd < 0 else ("", usd)
    if size >= USD_PER_BILLION:
        return f"{sign}${significant(size / USD_PER_BILLION)} bn"
    if size >= USD_PER_MILLION:
        return f"{sign}${significant(size / USD_PER_MILLION)} m"
    return f"{sign}${size:,.0f}"


def significant(number: float) -> str:
    """Write a number with three significant digits, never in powers of ten.

    >>> significant(1234.5), significant(0.5), significant(-12.0)
    ('1,230', '0.5', '−12')
    """
    if number == 0:
        return "0"
    places = DIGITS - 1 - int(np.floor(np.log10(abs(number))))
    text = f"{round(number, places):,.{max(places, 0)}f}".replace("-", MINUS)
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(number: float) -> str:
    """Write a count: whole where it is whole.

    >>> count(325000.0), count(2.5)
    ('325,000', '2.5')
    """
    whole = round(number)
    near = isclose(number, whole, rel_tol=WHOLE, abs_tol=WHOLE)
    return f"{whole:,}".replace("-", MINUS) if near else significant(number)


def power(kw: float) -> str:
    """Write facility power in MW.

    >>> power(300000.0)
    '300 MW'
    """
    return f"{significant(kw / KW_PER_MW)} MW"


def percent(share: float) -> str:
    """Write a share.

    >>> percent(0.1234)
    '12.3%'
    """
    return f"{significant(share * PERCENT)}%"


def day(ordinal: int) -> str:
    """Write a day.

    >>> day(date(2026, 5, 1).toordinal())
    '2026-05-01'
    """
    return date.fromordinal(ordinal).isoformat()


def listing(names: list[str], most: int = 6) -> str:
    """Join names as a sentence does, the first few of many.

    >>> listing(["a", "b", "c"]), listing(["a", "b", "c", "d"], most=2)
    ('a, b and c', 'a, b and 2 more')
    """
    shown = names if len(names) <= most else [*names[:most], f"{len(names) - most} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def gap_words(objective_usd: float, bound_usd: float) -> str:
    """Say how much better a plan could be than one of some value, given a bound on all.

    >>> gap_words(16.6e6, 16.7e6)
    "No plan is worth over $100,000 more on these scenarios: the solver's gap."
    """
    doubt = bound_usd - objective_usd
    if doubt <= PROVEN_SHARE * max(abs(objective_usd), 1.0):
        return "On these scenarios the plan is proven best."
    return f"No plan is worth over {money(doubt)} more on these scenarios: the solver's gap."
