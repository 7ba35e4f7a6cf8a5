"""Turn a timeline into actions in order of time.

Events of one kind that overlap become one course of values: what several take away adds up, of several caps the least
holds, a site that is lost twice is lost once. Counts are those of the fleet that is simulated: with thinning 1 in n,
its share of the replicas. Comes in: a timeline and the fleet. Goes out: actions, surges, and what is known of an event
beforehand. Whatever is random is drawn here, from the seed. This module must never know an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np

from offtake.fleet import Fleet
from offtake.rehearse.capacity import ALL, scalers_of
from offtake.rehearse.failures import draw_failures
from offtake.rehearse.measured import retransmit_ms, satellite_rtt_ms
from offtake.rehearse.notes import Frame, notes_of
from offtake.rehearse.shares import left, share_held, share_powered, share_trained, slow_count, taken
from offtake.rehearse.timeline import (
    FOREVER_HOURS,
    Action,
    Autoscale,
    ChipFailures,
    ControlPlaneDown,
    Curtailment,
    Kind,
    LateTranche,
    LinkDegraded,
    LostSite,
    Reclaim,
    Retries,
    RetryStorm,
    Scale,
    SlowReplica,
    Surge,
    SurgeRow,
    Timeline,
    Training,
    ns,
)
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S, S_PER_HOUR

LINK_STREAM = 9  #: stream of random numbers that draws a satellite's round trips


class Schedule(NamedTuple):
    """Hold the actions of a rehearsal by time, and notes on events by their place."""

    actions: list[Action]
    notes: dict[int, str]


class Spell(NamedTuple):
    """Hold one event on one target: what it takes or gives, from ``start_ns`` to ``end_ns``."""

    start_ns: int
    end_ns: int
    value: float
    event: int


Spells = dict[int, list[Spell]]  #: by target


def schedule(timeline: Timeline, frame: Frame) -> Schedule:
    """Return the actions of ``timeline``; at one instant they come in the order of ``Kind``.

    An event that begins after the load has ended does nothing.
    """
    timeline = replace(timeline, until_hour=frame.hours)
    actions = [
        *lost_sites(timeline, frame),
        *held(timeline, frame),
        *power(timeline, frame),
        *training(timeline, frame),
        *failures(timeline, frame),
        *slow(timeline, frame),
        *links(timeline, frame),
        *control(timeline),
        *scaling(timeline, frame),
    ]
    actions = [action for action in actions if action.at_ns < ns(FOREVER_HOURS)]
    return Schedule(sorted(actions), notes_of(timeline, frame))


def spell(start_hour: float, hours: float, value: float, event: int) -> Spell:
    """Return a spell of some hours."""
    return Spell(ns(start_hour), ns(start_hour + hours), value, event)


def course(kind: Kind, spells: Spells, combine: Callable[[list[float]], float]) -> Iterator[Action]:
    """Yield an action each time the combined value of a target's spells changes; ``size`` is the value as a count."""
    for target, mine in spells.items():
        now = combine([])
        coming = sorted(mine, reverse=True)
        active: list[Spell] = []
        while coming or active:
            at_ns = min([one.end_ns for one in active] + [one.start_ns for one in coming[-1:]])
            ended = [one for one in active if one.end_ns <= at_ns]
            active = [one for one in active if one.end_ns > at_ns]
            begun = []
            while coming and coming[-1].start_ns <= at_ns:
                begun.append(coming.pop())
            active += begun
            value = combine([one.value for one in active])
            if value != now:
                yield Action(at_ns, kind, target, value, int(value), (begun or ended)[0].event)
            now = value


def anything(values: list[float]) -> float:
    """Combine spells that are or are not."""
    return float(len(values) > 0)


def least(values: list[float]) -> float:
    """Combine caps."""
    return min(values, default=float(ALL))


def lost_sites(timeline: Timeline, frame: Frame) -> Iterator[Action]:
    """Yield the losses of sites and their ends."""
    names = [site.name for site in frame.fleet.sites]
    spells: Spells = {}
    for event, row in timeline.of(LostSite):
        spells.setdefault(names.index(row.site), []).append(spell(row.start_hour, row.hours, 1.0, event))
    return course(Kind.LOST, spells, anything)


def held(timeline: Timeline, frame: Frame) -> Iterator[Action]:
    """Yield what partners take back or have not brought: drained first, stopped at the end of notice."""
    spells: Spells = {}
    for index, pool in enumerate(frame.fleet.pools):
        for event, row in timeline.of(Reclaim):
            count = taken(pool, share_held(row, pool), frame.thin)
            end_hour = row.notice_hour + row.notice_hours
            if count > 0:
                start_hour = max(row.notice_hour, end_hour - row.drain_hours)
                spells.setdefault(index, []).append(spell(start_hour, FOREVER_HOURS, count, event))
                yield Action(ns(end_hour), Kind.HALT, index, 0.0, 1, event)
        for event, late in timeline.of(LateTranche):
            count = taken(pool, share_held(late, pool), frame.thin)
            if count > 0 and late.until_hour > late.start_hour:
                hours = late.until_hour - late.start_hour
                spells.setdefault(index, []).append(spell(late.start_hour, hours, count, event))
                yield Action(ns(late.start_hour), Kind.HALT, index, 0.0, 1, event)
    yield from course(Kind.HELD, spells, sum)


def power(timeline: Timeline, frame: Frame) -> Iterator[Action]:
    """Yield the caps of power: every pool of the site keeps the same share of its replicas."""
    spells: Spells = {}
    for event, row in timeline.of(Curtailment):
        here = {at: p for at, p in enumerate(frame.fleet.pools) if p.site == row.site and p.kind == "chips"}
        share = share_powered(row, frame.fleet, frame.thin)
        for index, pool in here.items():
            start_hour = max(0.0, row.start_hour - row.drain_hours)
            hours = row.start_hour + row.hours - start_hour
            spells.setdefault(index, []).append(spell(start_hour, hours, left(pool, share, frame.thin), event))
            yield Action(ns(row.start_hour), Kind.HALT, index, 0.0, 1, event)
    yield from course(Kind.POWER, spells, least)


def training(timeline: Timeline, frame: Frame) -> Iterator[Action]:
    """Yield the training jobs: every pool of their chips gives the same share."""
    kinds: dict[Kind, Spells] = {Kind.TRAINING: {}, Kind.SPARE_TRAINING: {}}
    for event, row in timeline.of(Training):
        here = {at: p for at, p in enumerate(frame.fleet.pools) if (p.site, p.chip) == (row.site, row.chip)}
        share = share_trained(row, frame.fleet, frame.thin)
        for index, pool in here.items():
            count = taken(pool, share, frame.thin)
            start_hour = max(0.0, row.start_hour - row.drain_hours)
            hours = row.start_hour + row.hours - start_hour
            kind = Kind.SPARE_TRAINING if row.interruptible else Kind.TRAINING
            kinds[kind].setdefault(index, []).append(spell(start_hour, hours, count, event))
            yield Action(ns(row.start_hour), Kind.HALT, index, 0.0, 1, event)
    for kind, spells in kinds.items():
        yield from course(kind, spells, sum)


def failures(timeline: Timeline, frame: Frame) -> Iterator[Action]:
    """Yield the failures of replicas and their repairs."""
    spells: Spells = {}
    first = 0
    for pool in frame.fleet.pools:
        for event, row in timeline.of(ChipFailures):
            if pool.kind == "chips" and row.pool in {None, pool.name}:
                for one in draw_failures(pool, row, frame.hours, (frame.seed, event)):
                    down = Spell(ns(one.start_hour), ns(one.end_hour), 1.0, event)
                    spells.setdefault(first + one.first, []).append(down)
        first += pool.replicas if pool.kind == "chips" else 0
    return (action._replace(size=1) for action in course(Kind.FAILED, spells, anything))


def slow(timeline: Timeline, frame: Frame) -> Iterator[Action]:
    """Yield the slow replicas, which are the first of their pool; where events overlap, their factors multiply."""
    first = 0
    for pool in frame.fleet.pools:
        mine = [(event, row) for event, row in timeline.of(SlowReplica) if row.pool == pool.name]
        sizes = {event: slow_count(pool, row, frame.thin) for event, row in mine}
        ends = sorted({0, *sizes.values()})
        for low, high in pairwise(ends):
            found = [spell(row.start_hour, row.hours, row.factor, event) for event, row in mine if sizes[event] >= high]
            for action in course(Kind.SLOW, {first + low: found}, product):
                yield action._replace(size=high - low)
        first += pool.replicas if pool.kind == "chips" else 0


def product(values: list[float]) -> float:
    """Combine factors."""
    return float(np.prod(values)) if values else 1.0


def links(timeline: Timeline, frame: Frame) -> Iterator[Action]:
    """Yield what is added to round trips, by site and user region."""
    sites, regions = [site.name for site in frame.fleet.sites], frame.fleet.regions
    for place, site in enumerate(sites):
        for at, region in enumerate(regions):
            found = [
                one
                for event, row in timeline.of(LinkDegraded)
                if row.site == site and (not row.regions or region in row.regions)
                for one in link_spells(row, frame, event)
            ]
            for action in course(Kind.LINK, {place: found}, sum):
                yield action._replace(size=at)


def link_spells(row: LinkDegraded, frame: Frame, event: int) -> Iterator[Spell]:
    """Yield what one event adds, ns: over a satellite a new value every interval, the same for every region."""
    added_ms = row.adds_ms + retransmit_ms(row.loss_share)
    if row.kind == "fixed":
        yield spell(row.start_hour, row.hours, added_ms * NS_PER_MS, event)
        return
    last = min(row.start_hour + row.hours, max(frame.hours, row.start_hour))
    step = row.interval_s / S_PER_HOUR
    steps = max(1, ceil((last - row.start_hour) / step))
    drawn_ms = satellite_rtt_ms(np.random.default_rng([frame.seed, LINK_STREAM, event]).random(steps))
    for index, rtt_ms in enumerate(drawn_ms.tolist()):
        hours = step if index < steps - 1 else row.hours - index * step
        yield spell(row.start_hour + index * step, hours, (added_ms + rtt_ms) * NS_PER_MS, event)


def control(timeline: Timeline) -> Iterator[Action]:
    """Yield the outages of the control plane."""
    down = [spell(row.start_hour, row.hours, 1.0, event) for event, row in timeline.of(ControlPlaneDown)]
    return course(Kind.CONTROL, {0: down}, anything)


def retries_of(timeline: Timeline) -> list[Retries]:
    """Return the storms of clients that ask again."""
    return [
        Retries(
            start_ns=max(0, ns(row.start_hour)),
            end_ns=ns(row.start_hour + row.hours),
            share=row.share,
            attempts_max=row.attempts_max,
            backoff_ns=round(row.backoff_s * NS_PER_S),
        )
        for _, row in timeline.of(RetryStorm)
    ]


def scaling(timeline: Timeline, frame: Frame) -> Iterator[Action]:
    """Yield the changes of size that were asked for, and every look of the autoscalers while the load lasts."""
    names = [pool.name for pool in frame.fleet.pools]
    for event, row in timeline.of(Scale):
        count = round(row.replicas / frame.thin)
        yield Action(ns(row.hour), Kind.SCALE, names.index(row.pool), 0.0, count, event)
    for place, (event, _, scaler) in enumerate(scalers_of(frame.fleet, timeline)):
        yield from ticks(scaler, place, event, frame.hours)


def ticks(row: Autoscale, place: int, event: int, hours: float) -> Iterator[Action]:
    """Yield the looks of one autoscaler."""
    step_ns = round(row.interval_s * NS_PER_S)
    return (Action(at, Kind.TICK, place, 0.0, 1, event) for at in range(step_ns, round(hours * NS_PER_HOUR), step_ns))


def surges_of(timeline: Timeline, fleet: Fleet) -> list[Surge]:
    """Return the surges, with indices for names."""
    names, regions = [one.name for one in fleet.workloads], fleet.regions
    return [
        Surge(
            start_ns=max(0, ns(row.start_hour)),
            end_ns=ns(row.start_hour + row.hours),
            factor=row.factor,
            workload=None if row.workload is None else names.index(row.workload),
            region=None if row.region is None else regions.index(row.region),
        )
        for _, row in timeline.of(SurgeRow)
    ]
