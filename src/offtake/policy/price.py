"""Say what it is worth to serve a request at a pool: value, bid price, lateness.

    margin = worth · (1 - lateness / SLO) - price · chip-seconds - what is paid only when used
    lateness = max(0, predicted TTFT - SLO),    worth = value served + cost of refusing

The price is the plan's shadow price of a chip-second in this block of the week, corrected online: it is paid in full
from half load on and falls to nothing at an idle pool (capacity that is not used is lost, so it is worth nothing now),
and a *surge* is added while measured first tokens come later than half their SLO. Half load, the surge's gain and its
half-life are assumptions.

Comes in: a view and a request. Goes out: US dollars and ns. Source: bid-price control, Talluri and van Ryzin, *The
Theory and Practice of Revenue Management*, 2004, chapter 3. This module must never choose.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.policy.view import NO_RETRY_NS, Request, View
from offtake.units import HOURS_PER_WEEK, NS_PER_HOUR, NS_PER_MS, NS_PER_S

LOAD_FULL = 0.5  #: share of the running places taken from which the bid price is charged in full (assumption)
SURGE_HALF_LIFE_NS = 10.0 * NS_PER_S  #: time in which a surge halves by itself (assumption)


@kernel
def block_at(view: View, now_ns: int) -> int:
    """Return the block of the week at ``now_ns``."""
    hour = ((view.clock_ns[0] + now_ns) // NS_PER_HOUR) % HOURS_PER_WEEK
    return view.block_of_hour[hour]  # type: ignore[no-any-return]


@kernel
def chip_seconds(view: View, request: Request, pool: int) -> float:
    """Return the chip-seconds that ``request`` is expected to take at ``pool``."""
    inputs = view.chip_s_per_token[pool, request.workload, 0] * request.input_tokens
    outputs = view.chip_s_per_token[pool, request.workload, 1] * expected_output(view, request)
    return inputs + outputs  # type: ignore[no-any-return]


@kernel
def expected_output(view: View, request: Request) -> float:
    """Return the output tokens to expect: the workload's mean, if the request allows as many."""
    return min(float(view.workloads[request.workload].output_tokens_mean), float(request.output_tokens_max))


@kernel
def wait_ns(view: View, pool: int, now_ns: int) -> float:
    """Predict how long a request sent now waits at ``pool`` before its own prompt is worked on, ns.

    The prompts ahead take their prefill; if requests already wait for a place, places come free at the rate
    running / service time (Little's law).
    """
    if view.pools[pool].is_api:
        return max(0.0, float(view.pools[pool].free_ns - now_ns))
    up = max(view.pools[pool].replicas_up, 1)
    ahead = view.pools[pool].queued_tokens * view.pools[pool].prefill_ns_per_token / up
    if view.pools[pool].waiting > 0:
        running = max(view.pools[pool].in_flight - view.pools[pool].waiting, 1)
        ahead = max(ahead, view.pools[pool].waiting * view.pools[pool].service_ns / running)
    return ahead  # type: ignore[no-any-return]


@kernel
def ttft_ns(view: View, request: Request, pool: int, now_ns: int) -> float:
    """Predict the time to first token as the user sees it, ns."""
    own = (
        view.pools[pool].step_ns
        + request.input_tokens * view.pools[pool].prefill_ns_per_token
        + view.pools[pool].ttft_ns
    )
    return own + wait_ns(view, pool, now_ns) + view.rtt_ns[pool, request.region]  # type: ignore[no-any-return]


@kernel
def load(view: View, pool: int) -> float:
    """Return the share of the running places taken, waiting requests included; for an API, minutes of backlog."""
    return view.pools[pool].in_flight / (view.pools[pool].slots * max(view.pools[pool].replicas_up, 1))  # type: ignore[no-any-return]


@kernel
def surge(view: View, pool: int, now_ns: int) -> float:
    """Return the part of the price that comes from measured waits, US dollars per chip-second."""
    if view.pools[pool].surge_usd_per_chip_s <= 0.0:
        return 0.0
    age = float(now_ns - view.pools[pool].surge_at_ns) / SURGE_HALF_LIFE_NS
    return view.pools[pool].surge_usd_per_chip_s * 2.0**-age  # type: ignore[no-any-return]


@kernel
def paid_when_used_usd(view: View, request: Request, pool: int) -> float:
    """Return what the buyer pays for this request only because it is served here."""
    output = expected_output(view, request)
    tokens = (
        view.pools[pool].usd_per_input_token * request.input_tokens + view.pools[pool].usd_per_output_token * output
    )
    return tokens + view.pools[pool].usd_per_chip_s_used * chip_seconds(view, request, pool)  # type: ignore[no-any-return]


@kernel
def bid_usd(view: View, request: Request, pool: int, block: int) -> float:
    """Return the plan's price of what ``request`` takes at ``pool`` in ``block``, before correction."""
    tokens = request.input_tokens + expected_output(view, request)
    chips = view.bid_usd[block, pool, 0] * chip_seconds(view, request, pool)
    return chips * min(1.0, load(view, pool) / LOAD_FULL) + view.bid_usd[block, pool, 1] * tokens  # type: ignore[no-any-return]


@kernel
def late_usd(view: View, request: Request, lateness_ns: float) -> float:
    """Return the cost of being ``lateness_ns`` late: all the worth after once the SLO, and more later (assumption)."""
    share = max(0.0, lateness_ns) / view.workloads[request.workload].slo_ttft_ns
    return view.workloads[request.workload].worth_usd * share  # type: ignore[no-any-return]


@kernel
def margin_usd(view: View, request: Request, pool: int, now_ns: int) -> float:
    """Return what serving ``request`` at ``pool`` now is worth, US dollars."""
    late = late_usd(view, request, ttft_ns(view, request, pool, now_ns) - view.workloads[request.workload].slo_ttft_ns)
    price = bid_usd(view, request, pool, block_at(view, now_ns))
    price += surge(view, pool, now_ns) * chip_seconds(view, request, pool)
    return view.workloads[request.workload].worth_usd - late - price - paid_when_used_usd(view, request, pool)  # type: ignore[no-any-return]


@kernel
def retry_after_ns(view: View, request: Request, pool: int, now_ns: int) -> int:
    """Return after how long the margin at ``pool`` is no longer negative if nobody else comes, ns.

    Tried in turn: the queue drains (one second per second), the surge fades, a later hour of the week has a lower
    bid price. ``NO_RETRY_NS`` if none of them is enough.
    """
    worth = view.workloads[request.workload].worth_usd - paid_when_used_usd(view, request, pool)
    slo_ns = view.workloads[request.workload].slo_ttft_ns
    late_ns = ttft_ns(view, request, pool, now_ns) - slo_ns
    drain_ns = min(max(late_ns, 0.0), wait_ns(view, pool, now_ns))
    spare = worth - bid_usd(view, request, pool, block_at(view, now_ns)) - late_usd(view, request, late_ns - drain_ns)
    delay_ns = drain_ns
    if spare <= 0.0:
        return _cheaper_hour_ns(view, request, pool, now_ns)
    surcharge = surge(view, pool, now_ns) * chip_seconds(view, request, pool)
    if surcharge == 0.0:
        kept_ns = min(drain_ns, spare / view.workloads[request.workload].worth_usd * slo_ns)
        return int(delay_ns - kept_ns) + NS_PER_MS
    halvings = 0.0
    while surcharge > spare:
        surcharge *= 0.5
        halvings += 1.0
    return int(max(delay_ns, halvings * SURGE_HALF_LIFE_NS)) + NS_PER_MS


@kernel
def _cheaper_hour_ns(view: View, request: Request, pool: int, now_ns: int) -> int:
    """Return the time to the first hour of the next week in which the bid price alone is not above the worth, ns."""
    worth = view.workloads[request.workload].worth_usd - paid_when_used_usd(view, request, pool)
    into_ns = (view.clock_ns[0] + now_ns) % NS_PER_HOUR
    for hours in range(1, HOURS_PER_WEEK):
        start_ns = now_ns - into_ns + hours * NS_PER_HOUR
        if bid_usd(view, request, pool, block_at(view, start_ns)) < worth:
            return start_ns - now_ns  # type: ignore[no-any-return]
    return NO_RETRY_NS
