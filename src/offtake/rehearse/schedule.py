"""Turn a timeline into actions in order of time.

Events of one kind that overlap become one course of values: what several take away adds up, of several caps the least
holds, a site that is lost twice is lost once. Counts are those of the fleet that is simulated: with thinning 1 in n,
its share of the replicas. Comes in: a timeline and the fleet. Goes out: actions, surges, and what is known of an event
beforehand. Whatever is random is drawn here, from the seed. This module must never know an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

import numpy as np

from offtake.fleet import Fleet, Pool
from offtake.rehearse.capacity import ALL, scalers_of
from offtake.rehearse.failures import draw_failures, expected_failures
from offtake.rehearse.measured import retransmit_ms, satellite_rtt_ms
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
    span_of,
)
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S, S_PER_HOUR

LINK_STREAM = 9  #: stream of random numbers that draws a satellite's round trips
BEFORE_NS = -1  #: what is so from the beginning is so before the first request
ROUNDING = 1e-9
TOO_LATE = "it begins after the load has ended"


class Frame(NamedTuple):
    """Hold what every event needs: the fleet that is simulated, 1 in ``thin``, the seed, and the load's hours."""

    fleet: Fleet
    thin: int
    seed: int
    hours: float


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


def ns(hours: float) -> int:
    """Return hours as ns; hour 0 is before the first request."""
    return round(hours * NS_PER_HOUR) if hours > 0 else BEFORE_NS


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


def taken(pool: Pool, share: float, thin: int) -> int:
    """Return the replicas that a share of a pool's chips carried: a replica without one of its chips does not run."""
    if pool.kind == "api":
        return int(share > 0)
    exact = pool.replicas * share
    return round(exact) if thin > 1 else ceil(exact - ROUNDING)


def left(pool: Pool, share: float, thin: int) -> int:
    """Return the replicas that a share of a pool's power carries."""
    if pool.kind == "api":
        return ALL
    exact = pool.replicas * share
    return round(exact) if thin > 1 else floor(exact + ROUNDING)


def share_of_offer(pool: Pool, offer: str | None, name: str | None) -> float:
    """Return the share of a pool's chips that an offer brings, or all where the pool itself is named."""
    if name is not None:
        return float(pool.name == name)
    if offer not in pool.offers:
        return 0.0
    return pool.offer_share[pool.offers.index(offer)] if pool.offer_share else 1.0 / len(pool.offers)


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
            count = taken(pool, row.share * share_of_offer(pool, row.offer, row.pool), frame.thin)
            end_hour = row.notice_hour + row.notice_hours
            if count > 0:
                start_hour = max(row.notice_hour, end_hour - row.drain_hours)
                spells.setdefault(index, []).append(spell(start_hour, FOREVER_HOURS, count, event))
                yield Action(ns(end_hour), Kind.HALT, index, 0.0, 1, event)
        for event, late in timeline.of(LateTranche):
            count = taken(pool, late.share * share_of_offer(pool, late.offer, late.pool), frame.thin)
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
        share = 1.0 - (row.cut_share or 0.0)
        if row.power_kw is not None:
            whole_kw = sum(p.replicas * p.chips_per_replica * p.kw_per_chip for p in here.values()) * frame.thin
            share = min(1.0, row.power_kw / whole_kw) if whole_kw > 0 else 1.0
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
        there = sum(pool.replicas * pool.chips_per_replica for pool in here.values()) * frame.thin
        for index, pool in here.items():
            count = taken(pool, row.chips / there, frame.thin)
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


def slow_count(pool: Pool, row: SlowReplica, thin: int) -> int:
    """Return how many replicas of a pool are slow."""
    exact = pool.replicas * row.share if row.share is not None else (row.count or 0) / thin
    return min(pool.replicas, round(exact) if thin > 1 else ceil(exact - ROUNDING))


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


def notes_of(timeline: Timeline, frame: Frame) -> dict[int, str]:
    """Return what is known beforehand of events whose effect is drawn: how often it is expected."""
    found = {event: _expected(row, frame) for event, row in timeline.of(ChipFailures)}
    late = {event: TOO_LATE for event, row in enumerate(timeline.rows) if span_of(row)[0] > frame.hours}
    return found | late


def _expected(row: ChipFailures, frame: Frame) -> str:
    """Say how many failures are expected, of the whole fleet."""
    pools: Iterable[Pool] = (p for p in frame.fleet.pools if p.kind == "chips" and row.pool in {None, p.name})
    mean = sum(expected_failures(pool, row, frame.hours) for pool in pools) * frame.thin
    hours = 1 / row.per_chip_hour
    return (
        f"{mean:.3g} failures expected, one per {hours:,.0f} chip-hours"
        if hours >= 1
        else f"{mean:.3g} failures expected"
    )
