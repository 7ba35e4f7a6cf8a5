"""Make the load of a rehearsal: the fleet's own workloads over some hours of its week, or a trace scaled to them.

Comes in: a fleet, a :class:`Window`, perhaps a trace. Goes out: batches of requests, thinned as asked, and the
choices a person would make first: the busiest hour, how far to thin, the largest site. It must never know a policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offtake.demand.formats import Binding
from offtake.demand.generate import mix
from offtake.demand.keys import Names
from offtake.demand.profile import load_profile
from offtake.demand.request import Requests, merge_streams
from offtake.demand.reshape import Shape, check_shape, renamed, reshaped
from offtake.demand.sessions import ClosedLoop, closed_loop, mix_sessions
from offtake.demand.trace import read_trace
from offtake.demand.workload import Week, traffic_of
from offtake.errors import Fault, InputError
from offtake.fleet import Fleet
from offtake.performance.steps import ReplicaLimits
from offtake.rehearse.timeline import SURGE_MAX
from offtake.schema.read import nearest
from offtake.units import HOURS_PER_WEEK, S_PER_HOUR

UNLIMITED_TOKENS = 2**62  #: longest request of an API
TALKING = {"interactive", "agentic"}  #: kinds of workload whose users go on in sessions
TENANTS = 100  #: (assumption) customers of such a workload
REQUESTS_PER_USER = 10  #: of a closed loop, as InferenceX has it
TRACE_STREAM = 3  #: stream of random numbers that gives a trace's requests their regions


HOUR_MEND = f"Give an hour from 0 to {HOURS_PER_WEEK - 1}, or leave it out for the busiest."
AS_IT_IS = Shape()
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Choose the hours of the week that are rehearsed, from Monday 00:00 UTC; ``surge`` multiplies every rate.

    ``shift_hours[region]`` moves the day of a region later (empty: none). With ``sessions`` people and agents come in
    sessions with think time. ``users`` above 0 makes a closed loop instead: they send ``requests`` in all (0: ten
    each), each the next as soon as the last is answered.
    """

    seed: int
    start_hour: float = 0.0
    hours: float = 1.0
    thin: int = 1
    surge: float = 1.0
    shift_hours: tuple[float, ...] = ()
    sessions: bool = False
    users: int = 0
    requests: int = 0


@dataclass(frozen=True, kw_only=True)
class Traced:
    """Name a trace, and the workload whose traffic it is; "" leaves that to its column, or means the first."""

    path: Path
    workload: str = ""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Say how traces are replayed; ``context_tokens_max[workload]`` is the longest request (empty: any)."""

    seed: int
    shape: Shape = AS_IT_IS
    context_tokens_max: tuple[int, ...] = ()


def check_window(window: Window) -> None:
    """Refuse hours that the week does not have.

    Raises
    ------
    InputError
        With every fault of the window.
    """
    week, most = f"Give more than 0 and at most {HOURS_PER_WEEK} hours.", f"at most {SURGE_MAX:,}"
    loop, thin = "A closed loop has users who do not think.", "A closed loop cannot be thinned: give fewer users."
    checks = [
        (window.seed >= 0, "--seed", window.seed, "Give a seed of 0 or more, or leave it out for the plan's."),
        (0 <= window.start_hour < HOURS_PER_WEEK, "--from-hour", window.start_hour, HOUR_MEND),
        (0 < window.hours <= HOURS_PER_WEEK, "--hours", window.hours, week),
        (0 < window.surge <= SURGE_MAX, "--surge", window.surge, f"Give a factor above 0 and {most}."),
        (window.thin >= 1, "--thin", window.thin, "Give a whole number from 1 on."),
        (window.users >= 0, "--closed-loop", window.users, "Give a number of users above 0."),
        (not (window.users and window.sessions), "--sessions", window.sessions, loop),
        (not window.users or window.thin == 1, "--thin", window.thin, thin),
    ]
    faults = [
        Fault(flag, "the value cannot be used", mend, value=f"{value}")
        for good, flag, value, mend in checks
        if not good
    ]
    if faults:
        raise InputError(faults)


def generated(fleet: Fleet, window: Window) -> Iterator[Requests]:
    """Yield the traffic of the fleet's workloads, 1 request in ``thin`` made.

    Workloads of people and agents have a hundred customers each, batch and internal ones a single one (assumption).
    """
    if window.users:
        return merge_streams([closed_loop(loop) for loop in loops_of(fleet, window)])
    workloads = fleet.workloads
    week = Week(
        seed=window.seed,
        start_hour_of_week=window.start_hour,
        duration_s=window.hours * S_PER_HOUR,
        keep_one_in=window.thin,
        surge=window.surge,
        lag_hours=window.shift_hours,
        tenants=tuple(TENANTS if workload.kind in TALKING else 1 for workload in workloads),
    )
    names = [workload.profile for workload in workloads]
    rates = [workload.rate_rps for workload in workloads]
    specs = traffic_of(names, rates, [workload.region_share for workload in workloads], week)
    talk = [spec for spec in specs if window.sessions and workloads[spec.workload].kind in TALKING]
    single = [spec for spec in specs if spec not in talk]
    return merge_streams([mix_sessions(talk), mix(single)]) if talk else mix(specs)


def loops_of(fleet: Fleet, window: Window) -> list[ClosedLoop]:
    """Return a closed loop for each workload: the users shared out by rate, and the requests by users."""
    rates = np.array([workload.rate_rps for workload in fleet.workloads])
    users = shared_out(window.users, rates)
    requests = shared_out(window.requests or REQUESTS_PER_USER * window.users, np.array(users, dtype=np.float64))
    return [
        ClosedLoop(
            profile=load_profile(workload.profile),
            users=users[index],
            requests=max(requests[index], users[index]),
            seed=window.seed,
            stream=index,
            workload=index,
            region_share=tuple(workload.region_share),
            first_session=sum(users[:index]),
        )
        for index, workload in enumerate(fleet.workloads)
        if users[index]
    ]


def shared_out(count: int, weight: Floats) -> list[int]:
    """Share out a whole number by weight, what is left to the largest remainders; equally where all weights are 0."""
    weight = weight if weight.sum() > 0 else np.ones(weight.size)
    exact = count * weight / weight.sum()
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: count - int(whole.sum())]] += 1
    return [int(part) for part in whole]


def traced(text: str) -> Traced:
    """Read ``WORKLOAD=FILE``, or ``FILE`` for a trace whose columns name its workloads."""
    workload, equals, file = text.partition("=")
    return Traced(path=Path(file), workload=workload) if equals and not Path(text).exists() else Traced(path=Path(text))


def shift_hours_of(texts: Sequence[str], regions: Sequence[str]) -> tuple[float, ...]:
    """Read ``REGION=HOURS`` each: the hours by which the clock of each region is later; empty where none is given.

    Raises
    ------
    InputError
        With a fault for each that does not read so, or names an unknown region.
    """
    hours = dict.fromkeys(regions, 0.0)
    faults = []
    for text in texts:
        region, _, number = text.rpartition("=")
        later = _hours_of(number)
        if region in hours and later is not None:
            hours[region] = later
            continue
        mend = nearest(region, regions) if region and later is not None else "Write REGION=HOURS, such as eu=6."
        faults.append(Fault("--shift-hours", "this is not a region and its hours", mend, value=text))
    if faults:
        raise InputError(faults)
    return tuple(hours.values()) if any(hours.values()) else ()


def _hours_of(text: str) -> float | None:
    """Return a number of hours, None for what is none."""
    try:
        hours = float(text)
    except ValueError:
        return None
    return hours if np.isfinite(hours) else None


def replayed(traces: Sequence[Traced], fleet: Fleet, replay: Replay) -> Iterator[Requests]:
    """Yield several traces as one load, each the traffic of one workload or of those that its columns name.

    A request without a region is given one by its workload's shares. Each trace is reshaped for itself.

    Raises
    ------
    InputError
        If the fleet has no such workload, or a trace is faulty.
    """
    loads = [partial(_read, one, fleet, replay, index) for index, one in enumerate(traces)]
    streams = [reshaped(load, replay.shape, replay.seed + index) for index, load in enumerate(loads)]
    return merge_streams([_renamed(stream, len(streams), index) for index, stream in enumerate(streams)])


def check_traces(traces: Sequence[Traced], fleet: Fleet, replay: Replay) -> None:
    """Read every trace to its end before anything is rehearsed; a model that no pool serves is a fault.

    Raises
    ------
    InputError
        With the faults of all of them, and of how they are to be changed.
    """
    faults = check_shape(replay.shape)
    asked: set[int] = set()
    for index, one in enumerate(traces):
        try:
            for batch in _read(one, fleet, replay, index):
                asked.update(np.unique(batch.workload).tolist())
        except InputError as error:
            faults.extend(error.faults)
    served = {pool.model for pool in fleet.pools}
    mend = "Replay it as another workload, or plan capacity for this one."
    for workload in (fleet.workloads[index] for index in sorted(asked)):
        if workload.model not in served:
            problem = f"no pool of the fleet serves {workload.model}, the model of this workload"
            faults.append(Fault("--trace", problem, mend, value=workload.name))
    if faults:
        raise InputError(faults)


def _renamed(batches: Iterator[Requests], names: int, name: int) -> Iterator[Requests]:
    """Yield batches whose sessions are told apart from those of other traces."""
    return (renamed(batch, names, name) for batch in batches)


def _read(one: Traced, fleet: Fleet, replay: Replay, index: int) -> Iterator[Requests]:
    """Yield the requests of one trace, with workload and region."""
    names = Names(tuple(each.name for each in fleet.workloads), tuple(fleet.regions))
    bound = None
    if one.workload:
        if one.workload not in names.workload:
            mend = nearest(one.workload, names.workload)
            raise InputError([Fault("--trace", "the fleet has no such workload", mend, value=one.workload)])
        bound = names.workload.index(one.workload)
        names = names._replace(workload=())
    reader = read_trace(one.path, binding=Binding(names, bound, replay.context_tokens_max))
    edges = np.cumsum([each.region_share for each in fleet.workloads], axis=1)[:, :-1]
    random = np.random.default_rng([replay.seed, TRACE_STREAM, index])
    for batch in reader:
        count = len(batch.arrival_ns)
        workload = batch.workload if bound is None else np.full(count, bound, np.int16)
        region = batch.region
        if "region" not in reader.columns:
            region = (random.random(count)[:, None] >= edges[workload]).sum(axis=1).astype(np.int16)
        yield batch._replace(workload=workload, region=region)


def contexts_of(fleet: Fleet, limits: Mapping[str, ReplicaLimits]) -> tuple[int, ...]:
    """Return the longest request, prompt and answer (tokens), that any pool of each workload's model can hold.

    ``limits`` are those of the deployments that the fleet's pools name. What is not known limits nothing: an API's, or
    that of a model which no pool serves.
    """
    longest = {workload.model: 0 for workload in fleet.workloads}
    for pool in fleet.pools:
        held = limits[pool.deployment].context_tokens_max if pool.kind == "chips" else UNLIMITED_TOKENS
        longest[pool.model] = max(longest[pool.model], min(held, pool.context_tokens_max or held))
    return tuple(longest[workload.model] or UNLIMITED_TOKENS for workload in fleet.workloads)


def rate_by_hour_rps(fleet: Fleet) -> list[float]:
    """Return the fleet's demand in each hour of the week, in requests per second, by its blocks."""
    by_block = [
        sum(workload.rate_rps * workload.level[block] for workload in fleet.workloads)
        for block in range(len(fleet.block_share))
    ]
    return [by_block[block] for block in fleet.block_of_hour]


def busiest_hour(fleet: Fleet) -> int:
    """Return the first of the busiest hours of the week."""
    return int(np.argmax(rate_by_hour_rps(fleet)))


def thin_for(fleet: Fleet, window: Window, requests_max: int) -> int:
    """Return the least whole n for which 1 in n of the window's requests is at most ``requests_max``."""
    rates = rate_by_hour_rps(fleet)
    first = int(window.start_hour)
    hours = range(first, first + max(1, int(np.ceil(window.hours))))
    mean_rps = float(np.mean([rates[hour % HOURS_PER_WEEK] for hour in hours])) * window.surge
    return max(1, int(np.ceil(mean_rps * window.hours * S_PER_HOUR / requests_max)))


def largest_site(fleet: Fleet) -> str:
    """Return the site that the plan gives the most requests per second over the week."""
    share = fleet.block_share
    placed = {site.name: 0.0 for site in fleet.sites}
    for pool in fleet.pools:
        placed[pool.site] += sum(part * sum(row) for part, row in zip(share, pool.allotment_rps, strict=True))
    return max(placed, key=lambda name: placed[name])
