"""Make traffic from profiles: sorted requests in windows, the same bytes for the same seed.

Comes in: :class:`TraceSpec` records. Goes out: batches of :class:`~offtake.demand.request.Requests`. Each
window of a stream has its own random numbers, drawn from (seed, stream, window), so a stream does not depend
on how it is cut, on the streams it is mixed with, or on how much of it is read. Memory holds one window per
stream. It must never know a clock, a fleet or a plan.

Arrivals are the Cox process of ``burst.py`` whose bursts follow the hour of the week: its rate is constant between
few breakpoints, so sorted uniform numbers turn into sorted arrivals through the cumulative rate. Lengths are
looked up at a pair of correlated normal numbers (Gaussian copula with the measured rank correlation).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, pi, sin, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offtake.demand.burst import thin
from offtake.demand.cells import INT16_MAX
from offtake.demand.profile import LOOKUP_PER_SCORE, NORMAL_MAX, Lengths, Profile
from offtake.demand.rates import RateCurve
from offtake.demand.request import Requests, count_of, merge_streams, requests_of
from offtake.demand.tenants import TENANTS_MAX, tenant_lookup
from offtake.errors import Fault, InputError
from offtake.units import HOURS_PER_WEEK, NS_PER_S, S_PER_HOUR

ROWS_PER_WINDOW = 131_072
WINDOW_S_MAX = 2_048
CELL_S_MAX = 64
SWING_STEP_S = 60.0
SWING_STREAM, WINDOW_STREAM, LENGTH_STREAM = 0, 1, 2

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TraceSpec:
    """Ask for one stream of requests.

    ``rate_rps_mean`` is the mean over a whole week, before thinning. The trace begins ``start_hour_of_week`` hours
    after Monday 00:00 UTC; ``lag_hours`` moves the profile's day later for users who live further west.
    ``keep_one_in`` thins at random (one request in n is made, with the bunching that thinning leaves). Streams
    with the same seed and different ``stream`` are independent. The requests belong to ``tenants`` customers from
    ``tenant_first`` on, as unequal as measured. A ``curve`` takes the place of the profile's hours of the week.
    """

    profile: Profile
    rate_rps_mean: float
    duration_s: float
    seed: int
    stream: int = 0
    start_hour_of_week: float = 0.0
    lag_hours: float = 0.0
    keep_one_in: int = 1
    workload: int = 0
    region: int = 0
    tenants: int = 1
    tenant_first: int = 0
    curve: RateCurve | None = None


def check_spec(spec: TraceSpec) -> None:
    """Check the figures of a specification.

    Raises
    ------
    InputError
        With one fault for each figure out of bounds.
    """
    limits = [
        ("rate_rps_mean", spec.rate_rps_mean, 0 <= spec.rate_rps_mean < np.inf, "Give a rate of 0 or more."),
        ("duration_s", spec.duration_s, 0 < spec.duration_s < np.inf, "Give a length above 0 s."),
        ("keep_one_in", spec.keep_one_in, spec.keep_one_in >= 1, "Give 1 to keep every request, n to keep one in n."),
        ("seed", spec.seed, spec.seed >= 0, "Give a seed of 0 or more."),
        ("tenants", spec.tenants, 1 <= spec.tenants <= TENANTS_MAX, f"Give 1 to {TENANTS_MAX} tenants."),
        (
            "tenant_first",
            spec.tenant_first,
            0 <= spec.tenant_first <= INT16_MAX - spec.tenants,
            "Give 0 or a little more.",
        ),
        ("stream", spec.stream, spec.stream >= 0, "Give a stream of 0 or more."),
    ]
    faults = [
        Fault(f"trace from profile {spec.profile.name}", "the figure is out of bounds", mend, None, name, str(value))
        for name, value, fine, mend in limits
        if not fine
    ]
    if faults:
        raise InputError(faults)


def generate(spec: TraceSpec) -> Iterator[Requests]:
    """Yield the requests of one stream, sorted, window by window; the same bytes for the same specification.

    Cost: about 60 ns per request on one core.

    Raises
    ------
    InputError
        When a figure of the specification is out of bounds.
    """
    check_spec(spec)
    return filter(count_of, _windows(spec))


def mix(specs: Sequence[TraceSpec]) -> Iterator[Requests]:
    """Yield the requests of several streams as one sorted stream; at equal arrivals the earlier stream goes first.

    Raises
    ------
    InputError
        When a figure of a specification is out of bounds.
    """
    for spec in specs:
        check_spec(spec)
    return merge_streams([generate(spec) for spec in specs])


# ── one stream ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _windows(spec: TraceSpec) -> Iterator[Requests]:
    """Yield the requests of each window."""
    lengths = LengthDraw(spec.profile.input_tokens, spec.profile.output_tokens, spec.profile.spearman)
    for arrival_ns, _, random in arrival_windows(spec):
        input_tokens, output_tokens = lengths.draw(arrival_ns.size, random)
        batch = requests_of(arrival_ns, input_tokens, output_tokens, spec.workload, spec.region)
        yield batch._replace(tenant=draw_tenants(spec, arrival_ns.size, random))


def arrival_windows(spec: TraceSpec) -> Iterator[tuple[NDArray[np.int64], int, np.random.Generator]]:
    """Yield the arrivals of each window (ns), its end (ns), and the random numbers for whatever else is drawn of it."""
    process = _Process(spec)
    process.warm(_random(spec, 0))
    for window in range(process.windows):
        random = _random(spec, window + 1)
        arrival_ns = (process.draw(window, random) * NS_PER_S).astype(np.int64)
        end_ns = (window + 1) * process.window_s * NS_PER_S
        if end_ns > process.end_ns:
            end_ns = process.end_ns
            arrival_ns = arrival_ns[: np.searchsorted(arrival_ns, end_ns)]
        yield arrival_ns, end_ns, random


def draw_tenants(spec: TraceSpec, count: int, random: np.random.Generator) -> NDArray[np.int16]:
    """Return the tenants of ``count`` requests; one tenant takes no random number."""
    if spec.tenants == 1:
        return np.full(count, spec.tenant_first, dtype=np.int16)
    lookup = tenant_lookup(spec.tenants, spec.tenant_first)
    return lookup.take(random.integers(0, lookup.size, count, dtype=np.uint16))


def _random(spec: TraceSpec, window: int) -> np.random.Generator:
    """Return the random numbers of one window of one stream."""
    return np.random.default_rng([spec.seed, spec.stream, WINDOW_STREAM, window])


class _Bursts(NamedTuple):
    """Hold bursts that still raise the rate: when each starts and ends (s), and by how many requests per s."""

    start_s: Floats
    end_s: Floats
    height_rps: Floats


class _Process:
    """Draw arrivals of the Cox process, one window after the other."""

    def __init__(self, spec: TraceSpec) -> None:
        profile = spec.profile
        self.components = thin(profile.bursts, spec.keep_one_in)
        self.single_share = max(0.0, 1 - sum(burst.share for burst in self.components))
        self.rate_rps = spec.rate_rps_mean / spec.keep_one_in
        self.window_s = window_s_of(self.rate_rps)
        self.end_ns = round(spec.duration_s * NS_PER_S)
        self.windows = ceil(self.end_ns / (self.window_s * NS_PER_S))
        self.knots = knots_of(profile.shape())
        self.first_hour = spec.start_hour_of_week - spec.lag_hours
        self.curve = spec.curve
        self.swing = _swing_of(spec)
        self.active = _Bursts(np.zeros(0), np.zeros(0), np.zeros(0))

    def warm(self, random: np.random.Generator) -> None:
        """Draw the bursts that began before the trace and still last at its start."""
        longest_s = max((burst.duration_s for burst in self.components), default=0.0)
        self.active = self._bursts(*_cells(-longest_s, longest_s), random)

    def draw(self, window: int, random: np.random.Generator) -> Floats:
        """Return the sorted arrivals (s) in a window.

        The rate is a sum of steps: the cells' single requests and the starts and ends of bursts. Its integral at
        the steps, and Poisson many sorted uniform numbers below the last, give the arrivals by interpolation.
        """
        start_s, end_s = float(window * self.window_s), float((window + 1) * self.window_s)
        edges_s, cell_s = _cells(start_s, self.window_s)
        single_rps = self.single_share * self._rate(edges_s + cell_s / 2)
        fresh = self._bursts(edges_s, cell_s, random)
        lasting = _Bursts(*(column[self.active.end_s > start_s] for column in self.active))
        edge_steps_rps = np.diff(single_rps, prepend=-lasting.height_rps.sum())
        self.active = _Bursts(*map(np.concatenate, zip(lasting, fresh, strict=True)))
        ending = self.active.end_s < end_s
        times_s = np.concatenate([edges_s, fresh.start_s, self.active.end_s[ending]])
        steps_rps = np.concatenate([edge_steps_rps, fresh.height_rps, -self.active.height_rps[ending]])
        order = np.argsort(times_s, kind="stable")
        times_s = np.append(times_s[order], end_s)
        rate_rps = np.maximum(np.cumsum(steps_rps[order]), 0.0)
        expected = np.concatenate([[0.0], np.cumsum(rate_rps * np.diff(times_s))])
        return np.asarray(np.interp(_sorted_uniform(float(expected[-1]), random), expected, times_s), dtype=np.float64)

    def _bursts(self, edges_s: Floats, cell_s: float, random: np.random.Generator) -> _Bursts:
        """Return the bursts that start within cells of ``cell_s`` seconds."""
        parts = []
        rate_rps = self._rate(edges_s + cell_s / 2)
        for burst in self.components:
            counts = random.poisson(rate_rps * (cell_s * burst.share / burst.size_mean))
            start_s = np.repeat(edges_s, counts)
            start_s += random.random(start_s.size) * cell_s
            height_rps = random.standard_exponential(start_s.size) * (burst.size_mean / burst.duration_s)
            parts.append((start_s, start_s + burst.duration_s, height_rps))
        return _Bursts(*map(np.concatenate, zip(*parts, strict=True))) if parts else _Bursts(*np.zeros((3, 0)))

    def _rate(self, time_s: Floats) -> Floats:
        """Return the rate (requests per s) at times from the start of the trace."""
        level = self.curve.at(time_s) if self.curve else self._level(time_s)
        if not self.swing.size:
            return np.asarray(self.rate_rps * level)
        step = np.maximum(time_s // SWING_STEP_S, 0).astype(np.int64)
        return np.asarray(self.rate_rps * level * self.swing[step])

    def _level(self, time_s: Floats) -> Floats:
        """Return the rate over its weekly mean as the hour of the week has it."""
        hour = (time_s / S_PER_HOUR + self.first_hour - 0.5) % HOURS_PER_WEEK
        return np.asarray(np.interp(hour, np.arange(HOURS_PER_WEEK + 1), self.knots))


def _cells(start_s: float, length_s: float) -> tuple[Floats, float]:
    """Return the starts (s) and the common length of cells of at most 64 s that fill a stretch."""
    cells = ceil(length_s / CELL_S_MAX)
    cell_s = length_s / max(cells, 1)
    return start_s + cell_s * np.arange(cells, dtype=np.float64), cell_s


def _sorted_uniform(expected: float, random: np.random.Generator) -> Floats:
    """Return Poisson many sorted numbers, uniform below ``expected``: sums of exponential gaps need no sorting."""
    gaps = random.standard_exponential(int(random.poisson(expected)) + 1)
    sums = np.cumsum(gaps)
    return np.asarray(sums[:-1] * (expected / sums[-1]))


def window_s_of(rate_rps: float) -> int:
    """Return the length of a window: the power of two seconds, up to 2048, that holds about 131,072 requests."""
    seconds = WINDOW_S_MAX
    while seconds > 1 and seconds * rate_rps > ROWS_PER_WINDOW:
        seconds //= 2
    return seconds


def knots_of(shape: Floats) -> Floats:
    """Return levels at the middle of each hour (169, the first repeated) whose joining lines keep each hour's mean.

    The mean of hour i between straight lines is (k[i−1] + 6 k[i] + k[i+1]) / 8, a cyclic filter undone by Fourier
    transform. Where a level would turn negative, the hours' own levels are taken.
    """
    angle = 2 * np.pi * np.arange(shape.size) / shape.size
    knots = np.fft.ifft(np.fft.fft(shape) / (0.75 + 0.25 * np.cos(angle))).real
    if knots.min() < 0:
        knots = shape
    return np.append(knots, knots[0])


def _swing_of(spec: TraceSpec) -> Floats:
    """Return the slow swing per minute: log-normal with mean 1, log AR(1) with memory ``swing_s``; empty for none."""
    profile = spec.profile
    if profile.swing_cv == 0:
        return np.zeros(0)
    sigma = sqrt(np.log(1 + profile.swing_cv**2))
    keep = float(np.exp(-SWING_STEP_S / profile.swing_s))
    random = np.random.default_rng([spec.seed, spec.stream, SWING_STREAM])
    noise = random.standard_normal(ceil((spec.duration_s + WINDOW_S_MAX) / SWING_STEP_S) + 1)
    noise[1:] *= sqrt(1 - keep**2)
    swing = np.array(list(accumulate(noise.tolist(), lambda before, new: keep * before + new)))
    return np.asarray(np.exp(sigma * swing - sigma**2 / 2))


class LengthDraw:
    """Draw pairs of token counts with the measured quantiles and rank correlation."""

    def __init__(self, input_tokens: Lengths, output_tokens: Lengths, spearman: float) -> None:
        self.input_lookup = input_tokens.lookup()
        self.output_lookup = output_tokens.lookup()
        self.rho = np.float32(2 * sin(pi * spearman / 6))
        self.rest = np.float32(sqrt(1 - float(self.rho) ** 2))

    def draw(self, count: int, random: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return input and output tokens of ``count`` requests."""
        first = random.standard_normal(count, dtype=np.float32)
        second = random.standard_normal(count, dtype=np.float32)
        second *= self.rest
        second += self.rho * first
        return _look_up(self.input_lookup, first), _look_up(self.output_lookup, second)


def _look_up(table: NDArray[np.int32], score: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return table entries at normal scores; scores beyond the table take its ends."""
    score *= np.float32(LOOKUP_PER_SCORE)
    score += np.float32(NORMAL_MAX * LOOKUP_PER_SCORE)
    return np.take(table, score.astype(np.int32), mode="clip")


def sample_lengths(profile: Profile, count: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Draw input and output tokens of ``count`` requests, as traffic made from the profile has them."""
    lengths = LengthDraw(profile.input_tokens, profile.output_tokens, profile.spearman)
    return lengths.draw(count, np.random.default_rng([seed, LENGTH_STREAM]))
