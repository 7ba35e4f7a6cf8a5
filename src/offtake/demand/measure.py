"""Measure a trace: rate, bunching, lengths and their correlation, and make a profile of it.

Comes in: batches of requests, in one pass; memory grows with the seconds and the longest request, not with
the requests. Goes out: :class:`Statistics`, and from them a :class:`~offtake.demand.profile.Profile`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from offtake.demand.burst_fit import fit_bursts
from offtake.demand.profile import FORMAT, Lengths, Profile, Sessions, Source
from offtake.demand.request import Requests, count_of
from offtake.errors import Fault, InputError
from offtake.units import HOURS_PER_WEEK, NS_PER_S, S_PER_HOUR, S_PER_WEEK

WINDOWS_S = (1, 3, 10, 30, 60)
PROBABILITIES = (0, 0.001, 0.01, 0.025, *(step / 20 for step in range(1, 20)), 0.975, 0.99, 0.995, 0.999, 1)
CORRELATED_REQUESTS_MAX = 1_000_000
REQUESTS_MIN = 100
TPOT_S = 0.02  #: (assumption) time of a token of an answer, where a trace does not tell


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what one pass over a trace tells; ``per_second[second]`` counts arrivals."""

    requests: int
    duration_s: float
    rate_rps: float
    interarrival_cv: float
    dispersion: dict[float, float]
    input_tokens: Lengths
    output_tokens: Lengths
    spearman: float
    per_second: NDArray[np.int64]

    def hour_of_week(self, start_hour_of_week: float) -> NDArray[np.float64]:
        """Return ``shape[hour]`` (mean 1) of whole weeks, or a flat shape where the trace holds less than one."""
        weeks = int(self.per_second.size // S_PER_WEEK)
        if weeks == 0:
            return np.ones(HOURS_PER_WEEK)
        seconds = np.roll(self.per_second[: weeks * S_PER_WEEK], round(start_hour_of_week * S_PER_HOUR))
        shape = seconds.reshape(weeks, HOURS_PER_WEEK, S_PER_HOUR).sum(axis=(0, 2)).astype(np.float64)
        return np.asarray(shape / shape.mean())


class _Tally:
    """Add up batches: counts per second and per length, and moments of the gaps."""

    def __init__(self) -> None:
        self.requests = 0
        self.first_ns = 0
        self.last_ns = 0
        self.gap_square_s = 0.0
        self.per_second = np.zeros(0, dtype=np.int64)
        self.lengths = [np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)]
        self.sample: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []

    def add(self, batch: Requests) -> None:
        """Count one batch."""
        if not count_of(batch):
            return
        if self.requests == 0:
            self.first_ns = self.last_ns = int(batch.arrival_ns[0])
        gaps_s = np.diff(batch.arrival_ns, prepend=self.last_ns) / NS_PER_S
        self.gap_square_s += float(gaps_s @ gaps_s)
        seconds = (batch.arrival_ns - self.first_ns) // NS_PER_S
        start = int(seconds[0])
        self.per_second = _sum(self.per_second, np.bincount(seconds - start), start)
        columns = (batch.input_tokens, batch.output_tokens)
        self.lengths = [
            _sum(total, np.bincount(column), 0) for total, column in zip(self.lengths, columns, strict=True)
        ]
        if self.requests < CORRELATED_REQUESTS_MAX:
            self.sample.append((columns[0].copy(), columns[1].copy()))
        self.requests += count_of(batch)
        self.last_ns = int(batch.arrival_ns[-1])


def measure(batches: Iterable[Requests], name: str = "trace") -> Statistics:
    """Measure sorted batches in one pass; the rank correlation is that of the first million requests.

    The index of dispersion is that of counts in whole windows of 1, 3, 10, 30 and 60 s.

    Raises
    ------
    InputError
        When there are fewer than a hundred requests: their figures would mean nothing.
    """
    tally = _Tally()
    for batch in batches:
        tally.add(batch)
    if tally.requests < REQUESTS_MIN or tally.last_ns == tally.first_ns:
        mend = f"Give at least {REQUESTS_MIN} requests that do not arrive all at once."
        raise InputError([Fault(name, f"{tally.requests} requests are too few to measure", mend)])
    duration_s = (tally.last_ns - tally.first_ns) / NS_PER_S
    gap_s = duration_s / (tally.requests - 1)
    per_second = tally.per_second[: int(duration_s) + 1]
    square = tally.gap_square_s / (tally.requests - 1)
    return Statistics(
        requests=tally.requests,
        duration_s=duration_s,
        rate_rps=tally.requests / duration_s,
        interarrival_cv=float(np.sqrt(max(square - gap_s**2, 0.0)) / gap_s),
        dispersion={window: dispersion_of(per_second, window) for window in WINDOWS_S},
        input_tokens=_lengths_of(tally.lengths[0]),
        output_tokens=_lengths_of(tally.lengths[1]),
        spearman=_spearman(tally.sample),
        per_second=per_second,
    )


def dispersion_of(per_second: NDArray[np.int64], window_s: int) -> float:
    """Return variance over mean of the counts in whole windows; 1 (Poisson) where fewer than two are whole."""
    whole = (per_second.size - 1) // window_s  # the last second is not whole
    if whole <= 1:
        return 1.0
    counts = per_second[: whole * window_s].reshape(whole, window_s).sum(axis=1)
    return float(counts.var(ddof=1) / counts.mean())


def profile_of(statistics: Statistics, name: str, sources: tuple[Source, ...], start_hour_of_week: float) -> Profile:
    """Return the profile of a measured trace that began ``start_hour_of_week`` hours after Monday 00:00 UTC."""
    return Profile(
        format=FORMAT,
        name=name,
        about=f"Measured from {statistics.requests} requests over {statistics.duration_s:.0f} s.",
        sources=sources,
        hour_of_week=tuple(statistics.hour_of_week(start_hour_of_week).tolist()),
        input_tokens=statistics.input_tokens,
        output_tokens=statistics.output_tokens,
        spearman=statistics.spearman,
        bursts=fit_bursts(statistics.dispersion, statistics.interarrival_cv, statistics.rate_rps),
        measured_rps=statistics.rate_rps,
        interarrival_cv=statistics.interarrival_cv,
        dispersion_window_s=tuple(statistics.dispersion),
        dispersion=tuple(statistics.dispersion.values()),
    )


def measure_sessions(requests: Requests, begin_s: tuple[float, float], tpot_s: float = TPOT_S) -> Sessions:
    """Measure how users go on, from the sessions that begin within ``begin_s`` (from, before; s from the start).

    A trace is a window: sessions at its edges are cut, so take those that begin well inside it. The think time is the
    time between two arrivals less that of the answer between them, which a trace does not tell: ``tpot_s`` per token
    (assumption). A later prompt that is shorter than what went before brings one new token.

    Raises
    ------
    InputError
        When no session goes on.
    """
    member = np.flatnonzero(requests.session >= 0)
    order = member[np.argsort(requests.session[member], kind="stable")]
    session, arrival_s = requests.session[order], requests.arrival_ns[order] / NS_PER_S
    first = np.diff(session, prepend=-1) != 0
    turns = np.diff(np.append(np.flatnonzero(first), session.size))
    begins = (arrival_s[first] >= begin_s[0]) & (arrival_s[first] < begin_s[1])
    later = np.repeat(begins, turns) & ~first
    if not later.any():
        mend = "Give a trace with sessions of several turns, or a wider window."
        raise InputError([Fault("sessions", "no session goes on", mend)])
    prompt, answer = requests.input_tokens[order], requests.output_tokens[order]
    before = np.flatnonzero(later) - 1
    think_s = arrival_s[later] - arrival_s[before] - answer[before] * tpot_s
    message = np.maximum(prompt[later] - prompt[before] - answer[before], 1)
    return Sessions(
        turn_share=tuple((np.bincount(turns[begins])[1:] / begins.sum()).round(6).tolist()),
        think_probability=PROBABILITIES,
        think_s=tuple(np.maximum(np.quantile(think_s, PROBABILITIES), 0.0).round(3).tolist()),
        first_tokens=_lengths_of(np.bincount(prompt[first][begins])),
        message_tokens=_lengths_of(np.bincount(message)),
    )


def _sum(total: NDArray[np.int64], more: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """Return ``total`` with ``more`` added from index ``start``, made twice as long where it is too short."""
    if start + more.size > total.size:
        longer = np.zeros(max(start + more.size, 2 * total.size), dtype=np.int64)
        longer[: total.size] = total
        total = longer
    total[start : start + more.size] += more
    return total


def _lengths_of(counts: NDArray[np.int64]) -> Lengths:
    """Return the quantiles of a histogram of token counts: the least length that enough requests do not exceed."""
    share = np.cumsum(counts) / counts.sum()
    tokens = np.searchsorted(share, np.array(PROBABILITIES) - 1e-12, side="left")
    tokens[0] = np.flatnonzero(counts)[0]
    tokens = np.minimum(tokens, counts.size - 1)
    mean = float(counts @ np.arange(counts.size) / counts.sum())
    return Lengths(probability=PROBABILITIES, tokens=tuple(tokens.astype(float).tolist()), mean_measured=mean)


def _spearman(sample: list[tuple[NDArray[np.int32], NDArray[np.int32]]]) -> float:
    """Return the rank correlation of input and output tokens; 0 where one does not vary."""
    ranks = [rankdata(np.concatenate(column)) for column in zip(*sample, strict=True)]
    if min(rank.std() for rank in ranks) == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
