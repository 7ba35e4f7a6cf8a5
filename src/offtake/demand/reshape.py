"""Change a load in time, rate and place: cut, stretch, thin, multiply, shift by region, loop.

Comes in: a :class:`Load`, something that can be opened again and gives the same sorted requests each time. Goes out:
sorted batches. Nothing is held but a batch or two of each stream, so multiplying, shifting and looping read the
trace once more for each copy. Sessions stay whole: they are kept or left out together, and each copy has its own.

What it does to bunching. Thinning by chance takes the index of dispersion from I to 1 + (I - 1) · share, as losing
users at random does. Multiplying by k superposes k copies, shifted against each other by up to an hour (cyclic), as
adding independent users does: the dispersion stays I where the shift is longer than a burst, and the gaps come nearer
to Poisson. (Putting k requests in the place of each would multiply it by k.) Stretching by f makes
the rate 1/f and keeps the dispersion, at windows f times as long. It must never know a file, a fleet or a profile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offtake.demand.cells import INT32_MAX
from offtake.demand.chance import chance_of
from offtake.demand.request import Requests, chosen, count_of, merge_streams
from offtake.demand.turns import Firsts
from offtake.errors import Fault, InputError
from offtake.units import NS_PER_DAY, NS_PER_HOUR

THIN_STREAM = 6  #: stream of random numbers that says which requests of a trace are kept
COPY_SHIFT_NS_MAX = NS_PER_HOUR  #: copies are shifted by less than this, so that the hours of a day stay what they are
WHOLE_DAYS_TOLERANCE = 0.01  #: a trace that is this near below a whole number of days repeats after them

Load = Callable[[], Iterator[Requests]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Say how a load is changed, in this order; the default changes nothing.

    ``stretch`` multiplies every time (not the think times, which are the users' own); ``shift_hours[region]`` moves
    the requests of a region later, cyclically, as the clocks of users further west are (all regions or none are given);
    ``scale`` multiplies the rate;
    ``loop_ns`` repeats the load until then (0: not); ``start_ns`` and ``end_ns`` cut it (``end_ns`` 0: no end).
    """

    stretch: float = 1.0
    shift_hours: tuple[float, ...] = ()
    scale: float = 1.0
    loop_ns: int = 0
    start_ns: int = 0
    end_ns: int = 0


class Span(NamedTuple):
    """Hold how many requests a load has, and after which time it repeats."""

    requests: int
    period_ns: int


def check_shape(shape: Shape) -> list[Fault]:
    """Return a fault for each figure of a shape that cannot be."""
    checks = [
        (0 < shape.scale < np.inf, "--scale", "Give a factor above 0."),
        (0 < shape.stretch < np.inf, "--stretch", "Give a factor above 0."),
        (all(abs(hours) < np.inf for hours in shape.shift_hours), "--shift-hours", "Give hours such as 6 or -5.5."),
        (shape.start_ns >= 0 and shape.loop_ns >= 0, "--loop", "Give times of 0 or more."),
        (not shape.end_ns or shape.end_ns > shape.start_ns, "--hours", "End after the start."),
    ]
    return [Fault(flag, "the value cannot be used", mend) for fine, flag, mend in checks if not fine]


def reshaped(load: Load, shape: Shape, seed: int) -> Iterator[Requests]:
    """Yield a load changed as a :class:`Shape` says; the same bytes for the same seed."""
    step = load
    if shape.stretch != 1:
        step = _bound(stretched, step, shape.stretch)
    if any(shape.shift_hours) or shape.scale > 1 or shape.loop_ns:
        period_ns = span_of(step).period_ns
        step = _regions_shifted(step, shape.shift_hours, period_ns)
        step = _multiplied(step, shape.scale, period_ns, seed)
        step = _looped(step, shape.loop_ns, period_ns)
    if shape.scale < 1:
        step = _bound(thinned, step, shape.scale, [seed, 0])
    return window(step(), shape.start_ns, shape.end_ns or None)


def _bound(change: Callable[..., Iterator[Requests]], load: Load, *rest: object) -> Load:
    """Return the load that a change makes of another."""
    return lambda: change(load(), *rest)


def span_of(load: Load) -> Span:
    """Read a load to its end: how much it holds, and after which time it may be repeated.

    That is its last arrival and one mean gap, or the whole number of days that is at most 1 % longer.
    """
    requests, last_ns = 0, 0
    for batch in load():
        if count_of(batch):
            requests += count_of(batch)
            last_ns = int(batch.arrival_ns[-1])
    period_ns = last_ns + max(round(last_ns / max(requests - 1, 1)), 1)
    whole_ns = ceil(period_ns / NS_PER_DAY) * NS_PER_DAY
    return Span(requests, whole_ns if whole_ns <= period_ns * (1 + WHOLE_DAYS_TOLERANCE) else period_ns)


# ── one change at a time ─────────────────────────────────────────────────────────────────────────────────────────────
def window(batches: Iterable[Requests], start_ns: int, end_ns: int | None) -> Iterator[Requests]:
    """Yield what arrives from ``start_ns`` up to, not including, ``end_ns``, counted from ``start_ns``."""
    firsts = Firsts()
    for batch in batches:
        first = int(np.searchsorted(batch.arrival_ns, start_ns))
        last = count_of(batch) if end_ns is None else int(np.searchsorted(batch.arrival_ns, end_ns))
        if last > first:
            inside = Requests._make(column[first:last] for column in batch)
            yield firsts.mended(inside._replace(arrival_ns=inside.arrival_ns - start_ns)) if start_ns else inside
        if last < count_of(batch):
            return


def stretched(batches: Iterable[Requests], factor: float) -> Iterator[Requests]:
    """Yield the same requests with each arrival at ``factor`` times its time."""
    for batch in batches:
        yield batch._replace(arrival_ns=np.rint(batch.arrival_ns * factor).astype(np.int64))


def thinned(batches: Iterable[Requests], share: float, seed: list[int]) -> Iterator[Requests]:
    """Yield each request with chance ``share``; the requests of a session stay or go together."""
    random = np.random.default_rng([*seed, THIN_STREAM])
    for batch in batches:
        chance = random.random(count_of(batch))
        in_session = batch.session >= 0
        if in_session.any():
            chance = np.where(in_session, chance_of(batch.session, [*seed, THIN_STREAM]), chance)
        yield chosen(batch, chance < share)


def renamed(batch: Requests, names: int, name: int) -> Requests:
    """Return a batch whose sessions are told apart from those of ``names`` - 1 other copies.

    Raises
    ------
    InputError
        When there are more sessions than can be told apart.
    """
    if names == 1 or not count_of(batch):
        return batch
    last = int(batch.session.max())
    if last < 0:
        return batch
    if (last + 1) * names > INT32_MAX:
        mend = "Number sessions from 0 on, or repeat the trace less often."
        raise InputError([Fault("sessions", f"{names} copies of {last + 1} sessions cannot be told apart", mend)])
    return batch._replace(session=np.where(batch.session >= 0, batch.session * names + name, batch.session))


def shifted(load: Load, by_ns: int, period_ns: int) -> Iterator[Requests]:
    """Yield a load ``by_ns`` later, its end coming round to the start; a session that is cut becomes two."""
    by_ns %= period_ns
    if by_ns == 0:
        yield from load()
        return
    for batch in window(load(), period_ns - by_ns, None):
        yield renamed(batch, 2, 1)
    for batch in window(load(), 0, period_ns - by_ns):
        yield renamed(batch._replace(arrival_ns=batch.arrival_ns + by_ns), 2, 0)


def _of_regions(batches: Iterable[Requests], regions: NDArray[np.int16]) -> Iterator[Requests]:
    """Yield the requests of some user regions."""
    for batch in batches:
        yield chosen(batch, np.isin(batch.region, regions))


# ── several copies at once ───────────────────────────────────────────────────────────────────────────────────────────
def _regions_shifted(load: Load, shift_hours: tuple[float, ...], period_ns: int) -> Load:
    """Return a load in which each region's requests come by its own clock."""
    if not any(shift_hours):
        return load
    regions_by_hours = {
        hours: np.flatnonzero(np.array(shift_hours) == hours).astype(np.int16) for hours in sorted(set(shift_hours))
    }
    streams = [
        (_bound(_of_regions, load, regions), round(hours * NS_PER_HOUR)) for hours, regions in regions_by_hours.items()
    ]

    def opened() -> Iterator[Requests]:
        copies = [shifted(stream, by_ns, period_ns) for stream, by_ns in streams]
        return merge_streams([_renamed_all(copy, len(copies), name) for name, copy in enumerate(copies)])

    return opened


def _renamed_all(batches: Iterable[Requests], names: int, name: int) -> Iterator[Requests]:
    """Yield batches whose sessions are told apart from those of other copies."""
    for batch in batches:
        yield renamed(batch, names, name)


def _multiplied(load: Load, factor: float, period_ns: int, seed: int) -> Load:
    """Return a load of ``factor`` times the rate: shifted copies, the last one thinned to what is left."""
    if factor <= 1:
        return load
    copies = ceil(factor)
    step_ns = min(period_ns, COPY_SHIFT_NS_MAX) // copies

    def opened() -> Iterator[Requests]:
        streams = [shifted(load, copy * step_ns, period_ns) for copy in range(copies)]
        if copies != factor:
            streams[-1] = thinned(streams[-1], factor - (copies - 1), [seed, copies])
        return merge_streams([_renamed_all(stream, copies, copy) for copy, stream in enumerate(streams)])

    return opened


def _looped(load: Load, end_ns: int, period_ns: int) -> Load:
    """Return a load that begins again after each period, up to ``end_ns`` (0: once)."""
    if not end_ns:
        return load
    rounds = ceil(end_ns / period_ns)

    def opened() -> Iterator[Requests]:
        for again in range(rounds):
            for batch in load():
                later = batch._replace(arrival_ns=batch.arrival_ns + again * period_ns)
                yield renamed(later, rounds, again)

    return opened
