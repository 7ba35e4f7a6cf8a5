"""Write figures as people read them: money in $ m and $ bn, power in MW, shares in per cent, dates in words.

Comes in: numbers in the house units. Goes out: short text. It knows no run and no page.
"""

from __future__ import annotations

import math
import re
from datetime import date

from offtake.units import KW_PER_GW, KW_PER_MW, MS_PER_S, PERCENT, USD_PER_BILLION, USD_PER_MILLION

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MINUS = "−"
NOTHING = "–"
ISO_DATE = re.compile(r"(?<![\w-])\d{4}-\d\d-\d\d(?![\w-])")
PERCENT_LEAST, PERCENT_MOST = 0.1, 99.9  # what one decimal can show, short of nothing and of all
PERCENT_LOW, PERCENT_HIGH = 10.0, 90.0  # beyond these a decimal tells something


def number(value: float, digits: int = 3) -> str:
    """Write a number with ``digits`` significant digits, thousands parted by commas.

    >>> number(1234567.0), number(0.01234), number(-2.0)
    ('1,230,000', '0.0123', '−2')
    """
    if not math.isfinite(value):
        return NOTHING
    if value == 0.0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(abs(value), places)
    text = f"{rounded:,.{max(places, 0)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{MINUS}{text}" if value < 0.0 else text


def count(value: float) -> str:
    """Write a count in full.

    >>> count(220000.4)
    '220,000'
    """
    return f"{round(value):,}".replace("-", MINUS) if math.isfinite(value) else NOTHING


def tally(value: float) -> str:
    """Write a count: in full below a million, above it in m and bn.

    >>> tally(264672), tally(1760000), tally(12252860619)
    ('264,672', '1.76 m', '12.3 bn')
    """
    return count(value) if abs(value) < USD_PER_MILLION else money(value).replace("$", "")


def money(usd: float) -> str:
    """Write US dollars.

    >>> money(1.25e9), money(-3.2e8), money(5.27)
    ('$1.25 bn', '−$320 m', '$5.27')
    """
    if not math.isfinite(usd):
        return NOTHING
    sign, size = (MINUS, -usd) if usd < 0.0 else ("", usd)
    if size >= USD_PER_BILLION:
        return f"{sign}${number(size / USD_PER_BILLION)} bn"
    if size >= USD_PER_MILLION:
        return f"{sign}${number(size / USD_PER_MILLION)} m"
    return f"{sign}${number(size)}"


def change(usd: float) -> str:
    """Write a difference in US dollars, with its sign.

    >>> change(2.1e9)
    '+$2.1 bn'
    """
    return f"+{money(usd)}" if usd > 0.0 else money(usd)


def with_interval(usd: float, low: float | None, high: float | None) -> str:
    """Write a difference in US dollars with its interval, where there is one.

    >>> with_interval(2e6, 1e6, 3e6), with_interval(2e6, None, None)
    ('+$2 m ($1 m to $3 m)', '+$2 m')
    """
    return change(usd) if low is None or high is None else f"{change(usd)} ({money(low)} to {money(high)})"


def power(kw: float) -> str:
    """Write facility power.

    >>> power(300000), power(1250000), power(89.6)
    ('300 MW', '1.25 GW', '89.6 kW')
    """
    if abs(kw) >= KW_PER_GW:
        return f"{number(kw / KW_PER_GW)} GW"
    return f"{number(kw / KW_PER_MW)} MW" if abs(kw) >= KW_PER_MW else f"{number(kw)} kW"


def money_unit(usd_most: float) -> tuple[float, str]:
    """Choose the unit of an axis of money: what to divide by, and its name.

    >>> money_unit(1.5e10), money_unit(2e6), money_unit(900.0)
    ((1000000000, 'US dollars, bn'), (1000000, 'US dollars, m'), (1, 'US dollars'))
    """
    if abs(usd_most) >= USD_PER_BILLION:
        return USD_PER_BILLION, "US dollars, bn"
    return (USD_PER_MILLION, "US dollars, m") if abs(usd_most) >= USD_PER_MILLION / 2 else (1, "US dollars")


def power_unit(kw_most: float) -> tuple[float, str]:
    """Choose the unit of an axis of power: what to divide by, and its name.

    >>> power_unit(5.4e6), power_unit(123.0)
    ((1000, 'MW'), (1, 'kW'))
    """
    return (KW_PER_MW, "MW") if abs(kw_most) >= KW_PER_MW else (1, "kW")


def share(part: float) -> str:
    """Write a share in per cent.

    >>> share(0.34), share(0.0123), share(0.00004), share(0.9996), share(1.0)
    ('34%', '1.2%', 'under 0.1%', 'over 99.9%', '100%')
    """
    if not math.isfinite(part):
        return NOTHING
    percent = part * PERCENT
    if 0.0 < percent < PERCENT_LEAST:
        return "under 0.1%"
    if PERCENT_MOST < percent < PERCENT:
        return "over 99.9%"
    near_an_end = abs(percent) < PERCENT_LOW or PERCENT_HIGH < percent < PERCENT
    text = f"{percent:.1f}" if near_an_end else f"{percent:.0f}"
    return f"{text.removesuffix('.0')}%".replace("-", MINUS)


def short(part: float) -> str:
    """Write a share in the width of a narrow column.

    >>> short(0.00004), short(0.9996), short(0.34)
    ('<0.1%', '>99.9%', '34%')
    """
    return share(part).replace("under ", "<").replace("over ", ">")


def points(part: float) -> str:
    """Write a difference of shares in percentage points, with its sign.

    >>> points(0.0123), points(-0.0004), points(-0.25)
    ('+1.2', '−0.04', '−25')
    """
    return f"{'+' if part > 0.0 else ''}{number(part * PERCENT, 2)}"


def against(mean: float, low: float | None, high: float | None) -> str:
    """Write a difference of shares in percentage points, with its interval where there is one.

    >>> against(0.01, -0.002, 0.022), against(-0.01, None, None)
    ('+1 (−0.2 to +2.2)', '−1')
    """
    return points(mean) if low is None or high is None else f"{points(mean)} ({points(low)} to {points(high)})"


def duration(milliseconds: float) -> str:
    """Write a wait.

    >>> duration(84.0), duration(2310.0)
    ('84 ms', '2.31 s')
    """
    return f"{number(milliseconds)} ms" if milliseconds < MS_PER_S else f"{number(milliseconds / MS_PER_S)} s"


def day(when: str) -> str:
    """Write calendar dates in a text in words; the rest stays as it is.

    >>> day("2026-05-01"), day("2026-05-01, 2026-08-01"), day("at once")
    ('1 May 2026', '1 May 2026, 1 Aug 2026', 'at once')
    """
    return ISO_DATE.sub(lambda found: date_in_words(found.group()), when)


def date_in_words(text: str) -> str:
    """Write one date such as 2026-05-01 in words, or leave what is none."""
    try:
        when = date.fromisoformat(text)
    except ValueError:
        return text
    return f"{when.day} {MONTHS[when.month - 1]} {when.year}"


def plural(amount: int, thing: str) -> str:
    """Count things.

    >>> plural(1, "scenario"), plural(24, "scenario")
    ('1 scenario', '24 scenarios')
    """
    return f"{amount:,} {thing}" if amount == 1 else f"{amount:,} {thing}s"


def listing(names: list[str]) -> str:
    """Join names as a sentence does.

    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
