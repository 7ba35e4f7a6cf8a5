"""Keep a view true: apply what happened at a pool.

Comes in: a view and one event. Goes out: nothing; the view is changed in place. The same events come from the
rehearsal's replicas and from the router's upstreams, so the same log gives the same decisions in both.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.policy.price import recent_chip_s, surge
from offtake.policy.view import Event, EventKind, View

SMOOTHING = 0.02  #: weight of one finished request in the smoothed service time (assumption)
SURGE_GAIN = 0.02  #: surge units added per first token that is one SLO later than half the SLO (assumption)
SURGE_UNITS_MAX = 10.0  #: a surge never exceeds this many units (assumption)


@kernel
def update(view: View, event: Event) -> None:
    """Apply ``event`` to ``view``. Cost: O(1)."""
    pool = event.pool
    if event.kind == EventKind.ROUTED:
        view.pools[pool].in_flight += 1
        view.pools[pool].waiting += 1
        view.pools[pool].queued_tokens += event.tokens
        view.workloads[event.workload].cursor = pool + 1
        _learn_rate(view, event)
    elif event.kind == EventKind.ADMITTED:
        view.pools[pool].waiting -= event.size
    elif event.kind == EventKind.FIRST_TOKEN:
        view.pools[pool].queued_tokens -= event.tokens
        _learn_wait(view, event)
    elif event.kind == EventKind.FINISHED:
        view.pools[pool].in_flight -= event.size
        weight = min(1.0, SMOOTHING * event.size)
        view.pools[pool].service_ns += weight * (event.sum_ns / event.size - view.pools[pool].service_ns)
    elif event.kind == EventKind.CAPACITY:
        view.pools[pool].replicas_up = event.size
        if event.size == 0:
            view.pools[pool].surge_usd_per_chip_s = view.pools[pool].recent_chip_s = 0.0
    elif event.kind == EventKind.GONE:
        view.pools[pool].in_flight -= 1
        view.pools[pool].waiting -= event.size
        view.pools[pool].queued_tokens -= event.tokens


@kernel
def _learn_rate(view: View, event: Event) -> None:
    """Add the chip-seconds that a routed request is expected to take to what was routed lately."""
    per_token = view.chip_s_per_token
    chip_s = per_token[event.pool, event.workload, 0] * event.tokens
    chip_s += per_token[event.pool, event.workload, 1] * view.workloads[event.workload].output_tokens_mean
    row = view.pools[event.pool]
    row.recent_chip_s = recent_chip_s(view, event.pool, float(event.now_ns)) + chip_s
    row.recent_at_ns = event.now_ns


@kernel
def _learn_wait(view: View, event: Event) -> None:
    """Raise the pool's surge when first tokens come later than half the SLO, lower it when they come sooner."""
    pool = event.pool
    pressure = event.sum_ns / event.size / view.pools[pool].slo_ns - 0.5
    change = SURGE_GAIN * event.size * min(max(pressure, -1.0), 1.0)
    if change <= 0.0 and view.pools[pool].surge_usd_per_chip_s <= 0.0:
        return
    unit = view.pools[pool].surge_usd
    now = surge(view, pool, float(event.now_ns)) + change * unit
    view.pools[pool].surge_usd_per_chip_s = min(max(now, 0.0), SURGE_UNITS_MAX * unit)
    view.pools[pool].surge_at_ns = event.now_ns
