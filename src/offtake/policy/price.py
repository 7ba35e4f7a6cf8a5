"""Say what it is worth to serve a request at a pool: value, bid price, lateness.

    margin = worth · (1 - late(TTFT) - late(TPOT) - crowd) - price · chip-seconds - what is paid only when used
    late(x) = max(0, x / SLO - 0.8) / 0.4,    crowd = max(0, ρ - 0.9) / 0.1,    worth = value served + cost of refusing

A prediction is a mean, so a request is counted as partly late from 0.8 of its SLO on and as worth nothing at 1.2 of it;
beyond that it does harm, because it holds what others need. ρ is what was routed here over the last seconds, in
chip-seconds by the plan's goodput, over the chips there are: at ρ = 1 the pool just keeps its P95, and one request more
makes others late, which costs as much as it is worth. The price is the plan's shadow price of a chip-second in
this block of the week, corrected online: it is paid in full from half load on and falls to nothing at an idle pool
(capacity that is not used is lost, so it is worth nothing now), and a *surge* is added while measured first tokens come
later than half their SLO. These shares and times and the surge's gain are assumptions.

Every function can look ``ahead_ns`` into a future in which nobody else comes: the queue drains, the requests in flight
finish, the surge fades, the block of the week changes. That is how a ``Retry-After`` is found that is true.

Comes in: a view and a request. Goes out: US dollars and ns. Source: bid-price control, Talluri and van Ryzin, *The
Theory and Practice of Revenue Management*, 2004, chapter 3. This module must never choose.
"""

from __future__ import annotations

import math

from offtake.performance.compiled import kernel
from offtake.policy.view import NO_RETRY_NS, Request, View
from offtake.units import HOURS_PER_WEEK, NS_PER_HOUR, NS_PER_MS, NS_PER_S

LOAD_FULL = 0.5  #: share of the running places taken from which the bid price is charged in full (assumption)
SURGE_HALF_LIFE_NS = 10.0 * NS_PER_S  #: time in which a surge halves by itself (assumption)
LATE_FROM = 0.8  #: share of the SLO at which a predicted mean begins to cost (assumption)
LATE_WIDTH = 0.4  #: shares of the SLO over which all the worth goes (assumption)
CROWD_FROM = 0.9  #: ρ from which a request begins to make others late (assumption)
CROWD_WIDTH = 0.1  #: of ρ, over which that grows to all its worth (assumption)
RECENT_NS = 10.0 * NS_PER_S  #: time in which what was routed fades to 1/e (assumption)
FADED = 10  #: half-lives after which a surge is over, and what was routed is forgotten
HALVINGS = 24  #: of the interval in which a Retry-After is sought: to a ten-millionth of it


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
def in_flight(view: View, pool: int, ahead_ns: float) -> float:
    """Return the requests at ``pool`` after ``ahead_ns``: they leave at the rate running / service time (Little)."""
    row = view.pools[pool]
    running = row.in_flight - row.waiting
    gone = running * ahead_ns / max(row.service_ns, 1.0)
    return max(0.0, row.in_flight - gone)  # type: ignore[no-any-return]


@kernel
def wait_ns(view: View, pool: int, now_ns: int, ahead_ns: float) -> float:
    """Predict how long a request sent after ``ahead_ns`` waits before its own prompt is worked on, ns.

    The prompts ahead take their prefill; if requests already wait for a place, places come free at the rate
    running / service time.
    """
    row = view.pools[pool]
    if row.is_api:
        return max(0.0, float(row.free_ns - now_ns) - ahead_ns)
    queue_ns = row.queued_tokens * row.prefill_ns_per_token / max(row.replicas_up, 1)
    if row.waiting > 0:
        queue_ns = max(queue_ns, row.waiting * row.service_ns / max(row.in_flight - row.waiting, 1))
    return max(0.0, queue_ns - ahead_ns)  # type: ignore[no-any-return]


@kernel
def ttft_ns(view: View, request: Request, pool: int, waiting_ns: float) -> float:
    """Predict the time to first token as the user sees it, after a wait of ``waiting_ns``."""
    row = view.pools[pool]
    own_ns = row.step_ns * (1 - row.is_api) + request.input_tokens * row.prefill_ns_per_token + row.ttft_ns
    return own_ns + waiting_ns + view.rtt_ns[pool, request.region]  # type: ignore[no-any-return]


@kernel
def tpot_ns(view: View, pool: int, ahead_ns: float) -> float:
    """Predict the mean time per further token of a request sent after ``ahead_ns``, ns."""
    row = view.pools[pool]
    beside = in_flight(view, pool, ahead_ns) / max(row.replicas_up, 1)
    return row.tpot_ns + row.tpot_ns_per_request * beside  # type: ignore[no-any-return]


@kernel
def late_share(predicted_ns: float, slo_ns: float) -> float:
    """Return the share of a request's worth that is lost to being late."""
    return max(0.0, predicted_ns / slo_ns - LATE_FROM) / LATE_WIDTH


@kernel
def recent_chip_s(view: View, pool: int, now_ns: float) -> float:
    """Return the chip-seconds routed to ``pool`` lately, fading."""
    row = view.pools[pool]
    return row.recent_chip_s * math.exp((row.recent_at_ns - now_ns) / RECENT_NS)  # type: ignore[no-any-return]


@kernel
def crowd_share(view: View, pool: int, now_ns: float) -> float:
    """Return the share of a request's worth that it takes from the others at ``pool`` by crowding it."""
    row = view.pools[pool]
    rho = recent_chip_s(view, pool, now_ns) / (RECENT_NS / NS_PER_S * row.chips * max(row.replicas_up, 1))
    return max(0.0, rho - CROWD_FROM) / CROWD_WIDTH  # type: ignore[no-any-return]


@kernel
def load(view: View, pool: int, ahead_ns: float) -> float:
    """Return the share of the running places taken, waiting requests included; for an API, of a minute's requests."""
    row = view.pools[pool]
    return in_flight(view, pool, ahead_ns) / (row.slots * max(row.replicas_up, 1))  # type: ignore[no-any-return]


@kernel
def surge(view: View, pool: int, now_ns: float) -> float:
    """Return the part of the price that comes from measured waits, US dollars per chip-second."""
    row = view.pools[pool]
    if row.surge_usd_per_chip_s <= 0.0:
        return 0.0
    age = (now_ns - row.surge_at_ns) / SURGE_HALF_LIFE_NS
    return row.surge_usd_per_chip_s * 2.0**-age  # type: ignore[no-any-return]


@kernel
def paid_when_used_usd(view: View, request: Request, pool: int) -> float:
    """Return what the buyer pays for this request only because it is served here."""
    row = view.pools[pool]
    tokens = row.usd_per_input_token * request.input_tokens + row.usd_per_output_token * expected_output(view, request)
    return tokens + row.usd_per_chip_s_used * chip_seconds(view, request, pool)  # type: ignore[no-any-return]


@kernel
def price_usd(view: View, request: Request, pool: int, now_ns: int, ahead_ns: float) -> float:
    """Return the corrected price of what ``request`` takes at ``pool``."""
    block = block_at(view, now_ns + int(ahead_ns))
    per_chip_s = view.bid_usd[block, pool, 0] * min(1.0, load(view, pool, ahead_ns) / LOAD_FULL)
    per_chip_s += surge(view, pool, now_ns + ahead_ns)
    tokens = request.input_tokens + expected_output(view, request)
    return per_chip_s * chip_seconds(view, request, pool) + view.bid_usd[block, pool, 1] * tokens  # type: ignore[no-any-return]


@kernel
def margin_usd(view: View, request: Request, pool: int, now_ns: int, ahead_ns: float) -> float:
    """Return what it is worth to serve ``request`` at ``pool`` at ``now_ns`` + ``ahead_ns``, US dollars."""
    kind = view.workloads[request.workload]
    late = late_share(ttft_ns(view, request, pool, wait_ns(view, pool, now_ns, ahead_ns)), kind.slo_ttft_ns)
    late += late_share(tpot_ns(view, pool, ahead_ns), kind.slo_tpot_ns) + crowd_share(view, pool, now_ns + ahead_ns)
    price = price_usd(view, request, pool, now_ns, ahead_ns) + paid_when_used_usd(view, request, pool)
    return kind.worth_usd * (1.0 - late) - price  # type: ignore[no-any-return]


@kernel
def retry_after_ns(view: View, request: Request, pool: int, now_ns: int) -> int:
    """Return after how long the margin at ``pool`` is no longer negative if nobody else comes, ns.

    ``NO_RETRY_NS`` if it stays negative for a week.
    """
    row = view.pools[pool]
    empty_ns = wait_ns(view, pool, now_ns, 0.0) + row.service_ns * row.in_flight / max(row.in_flight - row.waiting, 1)
    late_ns = max(empty_ns, FADED * max(SURGE_HALF_LIFE_NS, RECENT_NS))
    if margin_usd(view, request, pool, now_ns, late_ns) < 0.0:
        return _cheaper_hour_ns(view, request, pool, now_ns)
    soon_ns = 0.0
    for _ in range(HALVINGS):
        middle_ns = 0.5 * (soon_ns + late_ns)
        if margin_usd(view, request, pool, now_ns, middle_ns) < 0.0:
            soon_ns = middle_ns
        else:
            late_ns = middle_ns
    return int(late_ns) + NS_PER_MS


@kernel
def _cheaper_hour_ns(view: View, request: Request, pool: int, now_ns: int) -> int:
    """Return the time to the first later hour of the week in which the margin is no longer negative, ns."""
    into_ns = (view.clock_ns[0] + now_ns) % NS_PER_HOUR
    for hours in range(1, HOURS_PER_WEEK):
        ahead_ns = hours * NS_PER_HOUR - into_ns
        if margin_usd(view, request, pool, now_ns, float(ahead_ns)) >= 0.0:
            return ahead_ns  # type: ignore[no-any-return]
    return NO_RETRY_NS
