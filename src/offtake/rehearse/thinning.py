"""Measure what thinning did: hold the rehearsal, thinned 1 in n, beside one thinned 1 in 2n.

The second runs on half of the first's requests (common random numbers) and half of its replicas. From the whole fleet
to 1 in n it was halved log2(n) times; each of these halvings is taken to change a figure as much as the one that is
measured. That holds for what falls or rises steadily with a pool's size (a wait by chance falls about as one over it);
a change that only large pools show is not seen. For shares and money the luck of the draw is added, as it is known:
√(p·(1 - p)/requests) and √((1 - 1/n)/requests), requests being those simulated. Comes in: two summaries. Goes out:
figures, each with its error. This module must never run anything.
"""

from __future__ import annotations

import math

import msgspec

from offtake.rehearse.summary import NOT_MEASURED, Group, Summary, ThinFigure

TOTAL = "all"
#: What the sentence says: a figure, in words, and its unit.
SAID = (
    ("share_within_slo", "of the share served in time", ""),
    ("share_refused", "of the share refused", ""),
    ("ttft_ms_p50", "of the median TTFT", " ms"),
    ("ttft_ms_p95", "of its 95th percentile", " ms"),
    ("value_in_time_usd", "of the value in time", " US dollars"),
)


def thin_figures(summary: Summary, thinner: Summary) -> list[ThinFigure]:
    """Return the main figures of a rehearsal with their errors, from one that is thinned twice as far."""
    beside = {group.kind: group for group in thinner.kinds}
    pairs = [(TOTAL, summary.total, thinner.total)]
    pairs += [(group.kind, group, beside[group.kind]) for group in summary.kinds if group.kind in beside]
    return [
        ThinFigure(
            figure=name,
            kind=kind,
            value=value,
            value_thinner=other,
            error=error_of(value, other, summary.thin, luck_of(name, mine, summary.thin)),
        )
        for kind, mine, theirs in pairs
        for (name, value), (_, other) in zip(figures_of(mine), figures_of(theirs), strict=True)
    ]


def figures_of(group: Group) -> list[tuple[str, float | None]]:
    """Return the figures of a group for which thinning is judged."""
    return [
        ("share_within_slo", group.share_within_slo),
        ("share_refused", group.refused / max(group.requests, 1)),
        ("ttft_ms_p50", group.ttft_ms_p50),
        ("ttft_ms_p95", group.ttft_ms_p95),
        ("value_in_time_usd", group.value_in_time_usd),
    ]


def luck_of(name: str, group: Group, thin: int) -> float:
    """Return the standard deviation of a figure by which requests thinning left; 0 for percentiles."""
    value, drawn = dict(figures_of(group))[name], max(group.requests / thin, 1.0)
    if value is None or name.startswith("ttft"):
        return 0.0
    if name.startswith("share"):
        return math.sqrt(value * (1.0 - value) / drawn)
    return value * math.sqrt((1.0 - 1.0 / thin) / drawn)


def error_of(value: float | None, thinner: float | None, thin: int, luck: float) -> float | None:
    """Return the error to expect of a figure; None where one of the two does not exist."""
    if value is None or thinner is None:
        return None
    return math.hypot((thinner - value) * max(math.log2(thin), 1.0), luck)


def rounded(error: float) -> str:
    """Write an error with two digits that count.

    >>> rounded(0.0334), rounded(112_345.0)
    ('0.033', '110,000')
    """
    return f"{float(f'{error:.2g}'):,.15g}"


def with_thin_error(summary: Summary, thinner: Summary) -> Summary:
    """Return the summary with the measured error of its thinning, and a sentence that says it."""
    found = thin_figures(summary, thinner)
    error = {figure.figure: figure.error for figure in found if figure.kind == TOTAL}
    told = [f"{word} {rounded(off)}{unit}" for name, word, unit in SAID if (off := error[name]) is not None]
    known = summary.thin_error.removesuffix(NOT_MEASURED)
    sentence = f"{known}; measured beside 1 in {thinner.thin}, the error to expect is " + ", ".join(told)
    return msgspec.structs.replace(summary, thin_error=sentence, thin_figures=found)
