"""Hold how much of each pool may run, and why the rest may not: as arrays, before the first event.

Comes in: a fleet and a timeline. Goes out: :class:`Capacity`, part of the engine. What takes capacity away is kept
apart by cause, so that causes may begin and end in any order. Axes run pool, replica, site, region. This module must
never advance time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.fleet import Fleet, Pool
from offtake.performance.compiled import Rows
from offtake.rehearse.timeline import Autoscale, Loading, Timeline
from offtake.units import BITS_PER_BYTE, BITS_PER_GBIT, BYTES_PER_GB, NS_PER_S

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]

ALL = 2**40  #: more replicas than there are: nothing limits them
FAILED = 1  #: a failed replica that did not run when it failed
FAILED_RUNNING = 2  #: one that ran, and so is missing from those that could

#: One row per pool: what limits its replicas, by cause, and how long one takes to come up.
CAPACITY = np.dtype(
    [
        ("lost", "i8"),  # 1 while its site is lost
        ("held", "i8"),  # replicas that the partner has not brought yet or has taken back
        ("training", "i8"),  # replicas whose chips train and cannot be interrupted
        ("spare_training", "i8"),  # replicas whose chips train and can be
        ("power", "i8"),  # replicas that the site's power is enough for
        ("wanted", "i8"),  # replicas that somebody asked for; ALL where nobody did
        ("failed", "i8"),  # replicas that ran and failed
        ("up", "i8"),  # replicas that take requests
        ("loading", "i8"),
        ("draining", "i8"),
        ("transfer_ns", "i8"),  # time of its weights over the site's link; 0 where the link is not known
        ("warm_ns", "i8"),  # time from then on, or from the disk
        ("weights_ns", "i8"),  # when the transfer under way ends
        ("up_ns", "f8"),  # ∫ replicas up dt until up_at_ns
        ("up_at_ns", "i8"),
    ],
    align=True,
)

#: One row per autoscaler and pool.
SCALER = np.dtype(
    [
        ("pool", "i8"),
        ("least", "i8"),
        ("most", "i8"),
        ("load_target", "f8"),
        ("up_after_ns", "i8"),
        ("down_after_ns", "i8"),
        ("up_at_ns", "i8"),  # last step up; the first may come at once
        ("down_at_ns", "i8"),  # last step down
    ],
    align=True,
)

#: One row per event of the timeline: what it did, as far as the engine can tell.
EFFECT = np.dtype(
    [
        ("moved", "i8"),  # requests routed again
        ("failed", "i8"),  # requests that had begun to answer
        ("stopped", "i8"),  # replicas stopped with whatever they ran
        ("drained", "i8"),  # replicas that took no further request
        ("loaded", "i8"),  # replicas that began to load
    ],
    align=True,
)


class Capacity(NamedTuple):
    """Hold rows of ``CAPACITY [pool]``, ``SCALER [scaler]`` and ``EFFECT [event]``.

    ``failed [replica]`` is 0, ``FAILED`` or ``FAILED_RUNNING``; ``link_free_ns [site]`` is when a site's link has
    carried all weights asked for; ``rtt_ns [pool, region]`` is the round trip without events; ``event [1]`` is the row
    of the effects of what happens now.
    """

    pools: Any
    scalers: Any
    effects: Any
    failed: Bytes
    link_free_ns: Ints
    rtt_ns: Ints
    event: Ints


def new_capacity(fleet: Fleet, timeline: Timeline, thin: int, rtt_ns: Ints) -> Capacity:
    """Return the capacity of ``fleet`` (thinned 1 in ``thin``) with every replica up."""
    pools = np.zeros(len(fleet.pools), CAPACITY).view(np.recarray)
    pools["up"] = [pool.replicas if pool.kind == "chips" else 1 for pool in fleet.pools]
    pools["power"] = pools["wanted"] = ALL
    times = [load_ns(fleet, pool, timeline.loading) for pool in fleet.pools]
    pools["transfer_ns"], pools["warm_ns"] = [first for first, _ in times], [last for _, last in times]
    return Capacity(
        pools=pools,
        scalers=_scaler_rows(fleet, timeline, thin),
        effects=np.zeros(len(timeline.rows) + 1, EFFECT).view(np.recarray),
        failed=np.zeros(sum(pool.replicas for pool in fleet.pools if pool.kind == "chips"), np.int8),
        link_free_ns=np.zeros(len(fleet.sites), np.int64),
        rtt_ns=rtt_ns.copy(),
        event=np.zeros(1, np.int64),
    )


def load_ns(fleet: Fleet, pool: Pool, loading: Loading) -> tuple[int, int]:
    """Return the time of a pool's weights over its site's link, and what a replica takes after that, ns.

    Where the link is not known, weights come from a disk of the replica's own; where the weights are not known either,
    there is only the warm-up.
    """
    link = next(site.link_gbit_s for site in fleet.sites if site.name == pool.site)
    warm_s = loading.warm_up_s
    if link > 0:
        transfer_s = pool.weights_gb * BYTES_PER_GB * BITS_PER_BYTE / (link * BITS_PER_GBIT)
        return round(transfer_s * NS_PER_S), round(warm_s * NS_PER_S)
    return 0, round((warm_s + pool.weights_gb / loading.disk_gb_per_s) * NS_PER_S)


def scalers_of(fleet: Fleet, timeline: Timeline) -> Iterator[tuple[int, int, Autoscale]]:
    """Yield the event, the index of the pool, and the row of each autoscaler, in order of their rows."""
    for event, row in timeline.of(Autoscale):
        for index, pool in enumerate(fleet.pools):
            if pool.kind == "chips" and row.pool in {None, pool.name}:
                yield event, index, row


def _scaler_rows(fleet: Fleet, timeline: Timeline, thin: int) -> Rows:
    """Return the autoscalers before their first look; a row more, so that there is always one."""
    found = list(scalers_of(fleet, timeline))
    rows = np.zeros(len(found) + 1, SCALER).view(np.recarray)
    for place, (_, index, row) in enumerate(found):
        rows[place]["pool"] = index
        rows[place]["least"] = max(1, round(row.replicas_min / thin))
        rows[place]["most"] = max(1, round(row.replicas_max / thin)) if row.replicas_max is not None else ALL
        rows[place]["load_target"] = row.load_target
        rows[place]["up_after_ns"] = round(row.up_after_s * NS_PER_S)
        rows[place]["down_after_ns"] = round(row.down_after_s * NS_PER_S)
        rows[place]["up_at_ns"] = -round(row.up_after_s * NS_PER_S)
    return rows
