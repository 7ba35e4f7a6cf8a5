"""List every kind of event a rehearsal knows, field by field, and what an event becomes: actions in order of time.

One frozen record class per table of an events file; this is the single list from which the reader and the reference are
made. Hours count from the first instant of the load. Goes out: a :class:`Timeline` of what a person asked for, and the
:class:`Action` that the engine applies. Defaults of drains, curtailments, an autoscaler's
target and clients' tries have no source: they are assumptions. This module must never know an engine or a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Literal, NamedTuple, TypeVar

import msgspec
from pydantic import Field

from offtake.rehearse.measured import CHIP_FAILURES_PER_CHIP_HOUR, SATELLITE_INTERVAL_S
from offtake.schema.columns import column
from offtake.schema.tables import Row, Share
from offtake.units import NS_PER_HOUR

Hour = Annotated[float, Field(ge=0)]
Hours = Annotated[float, Field(gt=0)]
R = TypeVar("R", bound=Row)
FOREVER_HOURS = 1e6  #: longer than any load
BEFORE_NS = -1  #: what is so from the beginning is so before the first request
SURGE_MAX = 1_000_000  #: most that demand is multiplied by: beyond it a rate can no longer be drawn (assumption)

REPAIR_HOURS = 2.0  #: a failed replica is back after this, weight loading apart (assumption: restart or spare node)
#: bytecode 15 s, torch.compile 70 s, CUDA graphs 60 s: Llama 70B FP8 on 8 GPUs (vllm-project/vllm issue 19824)
WARM_UP_S = 145.0
#: the same 70.6 GB in 10 s, from a warm page cache: a cold disk is slower (vllm-project/vllm issue 19824)
DISK_GB_PER_S = 7.0
SCALER_INTERVAL_S = 15.0  #: horizontal-pod-autoscaler-sync-period of kube-controller-manager by default
SCALER_DOWN_S = 300.0  #: horizontal-pod-autoscaler-downscale-stabilization of kube-controller-manager by default


class Kind(IntEnum):
    """Name what an action does; at one instant lower numbers come first. ``Action`` says which fields count."""

    LOST = 0  # the site ``target`` is lost (``value`` 1) or back (0)
    FAILED = 1  # ``size`` replicas from ``target`` on fail (``value`` 1) or are mended (0)
    HELD = 2  # ``size`` replicas of the pool ``target`` are with the partner: late or reclaimed
    POWER = 3  # the power of the pool ``target`` is enough for ``size`` replicas
    TRAINING = 4  # training that cannot be interrupted holds ``size`` replicas' chips of the pool ``target``
    SPARE_TRAINING = 5  # the same for training that can be interrupted
    SCALE = 6  # ``size`` replicas are wanted of the pool ``target``
    HALT = 7  # what the pool ``target`` still drains stops now
    SLOW = 8  # steps of ``size`` replicas from ``target`` on take ``value`` times as long
    LINK = 9  # the round trip between site ``target`` and user region ``size`` is ``value`` ns longer
    CONTROL = 10  # the control plane is down (``value`` 1) or up (0)
    TICK = 11  # the autoscaler ``target`` looks at its pool


class Action(NamedTuple):
    """Hold one thing to do to an engine at ``at_ns``; ``event`` is the row of the effects that it is counted in."""

    at_ns: int
    kind: int
    target: int
    value: float
    size: int = 1
    event: int = 0


class Surge(msgspec.Struct, frozen=True, kw_only=True):
    """Multiply the load by ``factor`` from ``start_ns`` to ``end_ns``; of one workload or region, where given."""

    start_ns: int
    end_ns: int
    factor: float
    workload: int | None = None  #: Index; None: every one.
    region: int | None = None  #: Index of the user region; None: every one.


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """Let clients try again from ``start_ns`` to ``end_ns`` when they are refused or fail."""

    start_ns: int
    end_ns: int
    share: float  #: Of the requests refused or failed, those that come back.
    attempts_max: int  #: Most times that one is sent, the first included.
    backoff_ns: int  #: Time until it comes back, the same each time.


class LostSite(Row):
    """Describe a site that is lost for some hours."""

    about = "A site is lost: what has begun to answer fails, the rest is routed again. It comes back empty and loads."

    site: str = column("The site.", refers="sites")
    start_hour: Hour = column("When it is lost.", "h")
    hours: Hours = column("How long.", "h", FOREVER_HOURS)


class Reclaim(Row):
    """Describe capacity that a partner takes back at the end of its notice."""

    about = "A partner takes capacity back at the end of notice: it drains before, and what still runs then is lost."

    offer: str | None = column("The offer whose chips go; give this or `pool`.", default=None, refers="offers")
    pool: str | None = column("The pool whose chips go.", default=None, refers="pools")
    share: Share = column("Share of those chips.", "share", 1.0)
    notice_hour: Hour = column("When notice is given.", "h")
    notice_hours: Hour = column("Time from notice to the end.", "h")
    drain_hours: Hour = column(
        "How long before the end, and not before notice, its replicas get no new request.", "h", 1.0
    )


class Curtailment(Row):
    """Describe a cap on a site's power for some hours."""

    about = (
        "The grid cuts a site's power: replicas stop until the rest fits, each pool in proportion; interruptible "
        "training stops first. Give `cut_share` (of the power the pools draw) or `power_kw` (for the pools together)."
    )

    site: str = column("The site.", refers="sites")
    start_hour: Hour = column("When the cap begins.", "h")
    hours: Hours = column("How long.", "h", 2.0)
    cut_share: Share | None = column("Share of the power lost.", "share", None)
    power_kw: Annotated[float, Field(ge=0)] | None = column("Power left.", "kW", None)
    drain_hours: Hour = column("How long before the cap its replicas get no new request.", "h", 0.0)


class ChipFailures(Row):
    """Describe failures of chips at a rate."""

    about = "Chips fail at random, from the seed: one failed chip takes its replica down until it is mended and loaded."

    pool: str | None = column("The pool; blank: every pool.", default=None, refers="pools")
    start_hour: Hour = column("From when on.", "h", 0.0)
    hours: Hours = column("For how long.", "h", FOREVER_HOURS)
    per_chip_hour: Annotated[float, Field(gt=0)] = column(
        "Failures per chip-hour; the default is Llama 3's: 419 in 54 days of 16,384 H100.",
        "failures per chip-hour",
        CHIP_FAILURES_PER_CHIP_HOUR,
    )
    repair_hours: Hours = column("Time to mend one; the default is an assumption.", "h", REPAIR_HOURS)
    replicas_together: Annotated[int, Field(ge=1)] = column(
        "Neighbouring replicas that a switch or cable takes down at once (0.084 of Llama 3's failures were such).",
        "replicas",
        1,
    )


class SlowReplica(Row):
    """Describe replicas that run slower for some hours."""

    about = "Replicas of a pool run slower; the others do not."

    pool: str = column("The pool.", refers="pools")
    count: Annotated[int, Field(ge=1)] | None = column("How many replicas; give this or `share`.", "replicas", None)
    share: Annotated[float, Field(gt=0, le=1)] | None = column("Share of the replicas.", "share", None)
    factor: Annotated[float, Field(gt=0)] = column("Multiplies the time of every step.", "ratio")
    start_hour: Hour = column("From when on.", "h")
    hours: Hours = column("How long.", "h", FOREVER_HOURS)


class LinkDegraded(Row):
    """Describe a link that is slower for some hours."""

    about = "The round trip between a site and its users grows, by a fixed time or as over a satellite; both add up."

    site: str = column("The site.", refers="sites")
    regions: tuple[str, ...] = column("User regions; none: every one.", default=())
    start_hour: Hour = column("From when on.", "h")
    hours: Hours = column("How long.", "h")
    adds_ms: Hour = column("Added to the round trip.", "ms", 0.0)
    kind: Literal["fixed", "satellite"] = column(
        "`satellite` adds a round trip drawn every `interval_s` from 2,398 pings over Starlink (median 41 ms).",
        default="fixed",
    )
    interval_s: Annotated[float, Field(ge=1)] = column(
        "Time between two draws of a satellite's round trip.", "s", SATELLITE_INTERVAL_S
    )
    loss_share: Annotated[float, Field(ge=0, lt=1)] = column(
        "Share of packets lost; each is sent again after 200 ms (the least timeout of Linux's TCP).", "share", 0.0
    )


class LateTranche(Row):
    """Describe capacity that is not there at first."""

    about = "Capacity is not there until an hour; then it loads its weights and warms up."

    offer: str | None = column("The offer whose chips are late; give this or `pool`.", default=None, refers="offers")
    pool: str | None = column("The pool whose chips are late.", default=None, refers="pools")
    share: Share = column("Share of those chips.", "share", 1.0)
    start_hour: Hour = column("From when on they are missing.", "h", 0.0)
    until_hour: Hours = column("When they come.", "h", FOREVER_HOURS)


class SurgeRow(Row):
    """Describe a surge of demand."""

    about = "Demand is multiplied for some hours."

    start_hour: Hour = column("When it begins.", "h")
    hours: Hours = column("How long.", "h")
    factor: Annotated[float, Field(ge=0, le=SURGE_MAX)] = column("Demand during it, over demand without.", "ratio")
    workload: str | None = column("The workload; blank: every one.", default=None, refers="workloads")
    region: str | None = column("The user region; blank: every one.", default=None, refers="regions")


class RetryStorm(Row):
    """Describe clients that try again."""

    about = "Clients whose requests are refused or fail send them again."

    start_hour: Hour = column("When it begins.", "h", 0.0)
    hours: Hours = column("How long.", "h", FOREVER_HOURS)
    share: Share = column("Share of those requests that come back.", "share", 1.0)
    attempts_max: Annotated[int, Field(ge=2, le=1000)] = column(
        "Most times that one is sent, the first included.", "attempts", 3
    )
    backoff_s: Hour = column("Time until it comes back.", "s", 1.0)


class ControlPlaneDown(Row):
    """Describe an outage of the control plane."""

    about = "New requests are refused though capacity is there; what runs goes on."

    start_hour: Hour = column("When it begins.", "h")
    hours: Hours = column("How long.", "h")


class Scale(Row):
    """Describe a change of a pool's size."""

    about = "A pool is scaled: more replicas load and warm up first, surplus ones drain."

    pool: str = column("The pool.", refers="pools")
    hour: Hour = column("When.", "h")
    replicas: Annotated[int, Field(ge=0)] = column("Replicas wanted; never more than its chips carry.", "replicas")


class Autoscale(Row):
    """Describe an autoscaler."""

    about = (
        "An autoscaler wants ceil(requests present / (places within the SLO × load_target)) replicas, as the "
        "Kubernetes horizontal pod autoscaler does; its defaults are those of Kubernetes."
    )

    pool: str | None = column("The pool; blank: every pool of chips.", default=None, refers="pools")
    replicas_min: Annotated[int, Field(ge=1)] = column("Fewest replicas.", "replicas", 1)
    replicas_max: Annotated[int, Field(ge=1)] | None = column("Most; blank: all.", "replicas", None)
    load_target: Annotated[float, Field(gt=0, le=10)] = column("Load that it aims at.", "ratio", 0.7)
    interval_s: Annotated[float, Field(ge=1)] = column("Time between two looks.", "s", SCALER_INTERVAL_S)
    up_after_s: Hour = column("Least time between two steps up.", "s", 0.0)
    down_after_s: Hour = column("Least time since the last step before one down.", "s", SCALER_DOWN_S)


class Training(Row):
    """Describe a training job that holds chips."""

    about = (
        "A training job takes chips from the pools of a site, each in proportion. An interruptible one gives them back "
        "while the power is cut, and to a pool that is scaled up."
    )

    site: str = column("The site.", refers="sites")
    chip: str = column("The chip.", refers="chips")
    chips: Annotated[float, Field(gt=0)] = column("Chips held.", "chips")
    start_hour: Hour = column("When it begins.", "h")
    hours: Hours = column("How long.", "h")
    interruptible: bool = column("Whether it can give chips back.", default=False)
    drain_hours: Hour = column("How long before it begins its replicas get no new request.", "h", 0.25)


class Loading(Row):
    """Say how long a replica takes to come up."""

    about = (
        "How long a replica takes to come up, one for all pools. The defaults are what vLLM was measured to take with "
        "Llama 70B FP8 on 8 GPUs, its weights in a warm page cache (vllm-project/vllm issue 19824)."
    )

    warm_up_s: Hour = column("Compilation and graph capture once the weights are there.", "s", WARM_UP_S)
    disk_gb_per_s: Hours = column("Rate of reading weights where the site's link is not known.", "GB/s", DISK_GB_PER_S)


#: Every table of an events file, in the order of the reference.
TABLES: dict[str, type[Row]] = {
    "lost_site": LostSite,
    "reclaim": Reclaim,
    "curtailment": Curtailment,
    "chip_failures": ChipFailures,
    "slow_replica": SlowReplica,
    "link_degraded": LinkDegraded,
    "late_tranche": LateTranche,
    "surge": SurgeRow,
    "retry_storm": RetryStorm,
    "control_plane_down": ControlPlaneDown,
    "scale": Scale,
    "autoscale": Autoscale,
    "training": Training,
}
SINGLE: dict[str, type[Row]] = {"loading": Loading}  #: Tables of which there is one.


@dataclass(frozen=True, slots=True)
class Timeline:
    """Hold what happens in a rehearsal up to ``until_hour``, as a person asked for it."""

    rows: tuple[Row, ...] = ()
    loading: Loading = field(default_factory=Loading)
    until_hour: float = FOREVER_HOURS

    def of(self, record: type[R]) -> Iterator[tuple[int, R]]:
        """Yield the events of one kind that begin in time, with their place in ``rows``."""
        mine = ((place, row) for place, row in enumerate(self.rows) if isinstance(row, record))
        return ((place, row) for place, row in mine if span_of(row)[0] <= self.until_hour)


def ns(hours: float) -> int:
    """Return hours as ns; hour 0 is before the first request."""
    return round(hours * NS_PER_HOUR) if hours > 0 else BEFORE_NS


def table_of(row: Row) -> str:
    """Return the name of the table that an event stands in."""
    return next(table for table, record in TABLES.items() if isinstance(row, record))


def span_of(row: Row) -> tuple[float, float | None]:
    """Return the hours from which and until which an event holds."""
    first, last = 0.0, FOREVER_HOURS
    match row:
        case Reclaim():
            first = row.notice_hour + row.notice_hours
        case LateTranche():
            first, last = row.start_hour, row.until_hour
        case Scale():
            first = row.hour
        case (
            LostSite()
            | Curtailment()
            | ChipFailures()
            | SlowReplica()
            | LinkDegraded()
            | SurgeRow()
            | RetryStorm()
            | ControlPlaneDown()
            | Training()
        ):
            first, last = row.start_hour, row.start_hour + row.hours
        case _:
            pass
    return first, last if last < FOREVER_HOURS else None
