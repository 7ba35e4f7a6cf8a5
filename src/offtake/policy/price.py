"""Say what capacity costs now, and what it is worth to serve a request with it.

    margin = worth - paid only when used - price · need,     need = chip-seconds (of an API: tokens of its limit)
    price  = bid · y⁴ + (density - bid) · y¹⁶,               y = max(0, 1 - √N · (1 - x) / 16)

*Pressure* x is the load of a pool over the load at which it just keeps its service level: the largest of the predicted
TPOT over its limit, the wait over the TTFT limit (both without what an empty pool takes), and the places taken, over
the *reach* that measurement has found the pool to have (``update``). *Density* is the most worth that a unit of its
capacity can earn, *bid* the plan's shadow price in this block of the week, never more than the density. N is what the
pool holds at its limit.

Why this form. Capacity that is not used now is lost, so below the limit it is worth only the chance that a better
request finds it taken. Load fluctuates by √N around N, and the reserve that is best to keep from a request of value v
for those of value V grows as log(V / v) of those deviations (trunk reservation: Key, 1990; Reiman, 1991). So the price
falls from the density by a factor e with each deviation below the limit, and exp(-z) ≈ (1 - z/16)¹⁶ costs four
products and is exactly nothing far from the limit. A plan's price is known before the load is, so it is charged from
four times as far. At the limit the price is the density: nothing pays more, and what is refused below it is what is
worth least.
A class that the plan refuses is served while there is room, and one that it serves is refused when it is in the way.

Comes in: a view and a request. Goes out: US dollars and ns. Source: bid-price control, Talluri and van Ryzin, *The
Theory and Practice of Revenue Management*, 2004, chapter 3. This module must never choose.
"""

from __future__ import annotations

import math

from offtake.performance.compiled import kernel
from offtake.policy.view import BUCKET_NS, NO_RETRY_NS, Request, View
from offtake.units import HOURS_PER_WEEK, NS_PER_HOUR, NS_PER_MS

FOLDS = 16.0  #: (1 - z/16)¹⁶ for exp(-z)
LATE_WORTH = 0.5  #: share of its worth that an answer keeps when it is predicted to be late (assumption)
PATIENCE = 0.9  #: share of its worth that work which can wait holds back on arrival, falling to 0 at its deadline
EVEN = 1e-3  #: of worth, times pressure: between pools that cost the same, the emptier (assumption)
HELD_MIN = 64.0  #: requests from which N counts in the price: at half its limit a pool then costs e⁻⁴ of its density
SIGMAS = 2.0  #: standard deviations that a Retry-After allows for
REACH_MIN = 0.25  #: least that measurement may find of a pool's reach (assumption)


@kernel
def block_at(view: View, now_ns: int) -> int:
    """Return the block of the week at ``now_ns``."""
    hour = ((view.clock_ns[0] + now_ns) // NS_PER_HOUR) % HOURS_PER_WEEK
    return view.block_of_hour[hour]


@kernel
def expected_output(view: View, request: Request) -> float:
    """Return the output tokens to expect: the workload's mean, or what the request allows if that is less."""
    mean = view.workloads[request.workload].output_tokens_mean
    if request.output_tokens_max > 0:
        return min(float(mean), float(request.output_tokens_max))
    return mean


@kernel
def need(view: View, request: Request, pool: int, output: float) -> float:
    """Return the chip-seconds (of an API: the tokens of its limit) that ``request`` is expected to take."""
    per = view.need[pool, request.workload]
    return per[0] * request.input_tokens + per[1] * output


@kernel
def predicted_wait_ns(view: View, pool: int) -> float:
    """Predict how long a request sent now waits before its own prompt is worked on, ns.

    The prompts ahead take their prefill; for those that wait because every place is taken, places come free at the rate
    places / service time. One that waits beside free places is admitted with the next step.
    """
    row = view.pools[pool]
    queue_ns = row.queued_tokens * row.prefill_ns_per_token / row.replicas_up
    places = row.places * row.replicas_up
    if row.in_flight > places:
        queue_ns = max(queue_ns, min(float(row.waiting), row.in_flight - places) * row.service_ns / places)
    return queue_ns


@kernel
def wait_ns(view: View, pool: int, now_ns: int) -> float:
    """Return the predicted wait of a request sent now, of replicas or behind an API's rate limit, ns."""
    row = view.pools[pool]
    if row.is_api:
        return max(0.0, float(row.free_ns - now_ns))
    return row.wait_ns


@kernel
def own_ns(view: View, pool: int, tokens: int) -> float:
    """Predict the time to first token of a prompt at an empty pool, without the round trip, ns."""
    row = view.pools[pool]
    return row.own_ns + tokens * (row.read_ns_per_token + tokens * row.read_ns_per_token2)


@kernel
def ttft_ns(view: View, request: Request, pool: int, now_ns: int) -> float:
    """Predict the time to first token as the user sees it."""
    first_ns = own_ns(view, pool, request.input_tokens)
    return first_ns + wait_ns(view, pool, now_ns) + view.rtt_ns[pool, request.region]


@kernel
def nearness(pressure: float, held: float) -> float:
    """Return y of the price: 1 at the limit, 0 from 16 deviations below it; ``held`` is N."""
    return max(0.0, 1.0 - steepness(held) * (1.0 - pressure) / FOLDS)


@kernel
def steepness(held: float) -> float:
    """Return √N, but no less than 8: a pool that holds few keeps no more than half of itself free for the best."""
    return math.sqrt(max(held, HELD_MIN))


@kernel
def price_at(near: float, bid_usd: float, density_usd: float) -> float:
    """Return the price of a unit of need at nearness ``near``, US dollars."""
    fourth = near * near * near * near
    bid = min(bid_usd, density_usd)
    return bid * fourth + (density_usd - bid) * fourth * fourth * fourth * fourth


@kernel
def caution_at(near: float, bid_usd: float, density_usd: float) -> float:
    """Return by how much more a unit of need is shunned than it costs while another pool can serve, US dollars.

    The price then falls as y⁸ instead of y¹⁶, by a factor e with two deviations: an answer that is late there would
    have been in time elsewhere.
    """
    eighth = near * near * near * near * near * near * near * near
    return (density_usd - min(bid_usd, density_usd)) * max(0.0, eighth - eighth * eighth)


@kernel
def api_near(view: View, pool: int, now_ns: int) -> float:
    """Return y for an API: its pressure is the part of a minute's tokens that is used up."""
    row = view.pools[pool]
    if row.token_ns <= 0.0:
        return 0.0
    left = float(now_ns - row.free_ns) / BUCKET_NS
    return nearness(1.0 - left, row.slots)


@kernel
def load(view: View, pool: int) -> float:
    """Return the share of the running places taken, waiting requests included; for an API, of a minute's requests."""
    row = view.pools[pool]
    return row.in_flight / (row.slots * max(row.replicas_up, 1))


@kernel
def paid_when_used_usd(view: View, request: Request, pool: int) -> float:
    """Return what the buyer pays for this request only because it is served here."""
    row = view.pools[pool]
    output = expected_output(view, request)
    tokens = row.usd_per_input_token * request.input_tokens + row.usd_per_output_token * output
    return tokens + row.usd_per_chip_s_used * need(view, request, pool, output)


@kernel
def worth_usd(view: View, request: Request, pool: int, now_ns: int) -> float:
    """Return what serving ``request`` at ``pool`` earns, less if it is predicted to miss a limit."""
    row, kind = view.pools[pool], view.workloads[request.workload]
    tpot_ns = row.tpot_now_ns
    if ttft_ns(view, request, pool, now_ns) > kind.slo_ttft_ns or tpot_ns > kind.slo_tpot_ns:
        return LATE_WORTH * kind.worth_usd
    return kind.worth_usd


@kernel
def patience(view: View, request: Request, now_ns: int) -> float:
    """Return the share of its worth that ``request`` pays now: all if it cannot wait or time is up, else less."""
    defer_ns = view.workloads[request.workload].defer_ns
    if request.last_ns <= now_ns or defer_ns <= 0.0:
        return 1.0
    return 1.0 - PATIENCE * min(1.0, (request.last_ns - now_ns) / float(defer_ns))


@kernel
def margin_usd(view: View, request: Request, pool: int, now_ns: int, paying: float) -> float:
    """Return what it is worth to serve ``request`` at ``pool`` now, US dollars; ``paying`` is of ``patience``."""
    row = view.pools[pool]
    price = row.price_usd
    if row.is_api:
        price = price_at(api_near(view, pool, now_ns), price, row.density_usd)
    output = expected_output(view, request)
    taken = need(view, request, pool, output)
    paid = row.usd_per_input_token * request.input_tokens + row.usd_per_output_token * output
    paid += row.usd_per_chip_s_used * taken
    return paying * worth_usd(view, request, pool, now_ns) - paid - price * taken


@kernel
def retry_after_ns(view: View, request: Request, pool: int, now_ns: int, paying: float) -> int:
    """Return after how long ``pool`` takes ``request`` if nobody else comes, ns; ``NO_RETRY_NS`` if never.

    The price that the request can pay is turned into the requests at which it is charged, and those into the time in
    which the others have gone, two standard deviations late, because answers end at random.
    """
    row, kind = view.pools[pool], view.workloads[request.workload]
    output = expected_output(view, request)
    first_ns = own_ns(view, pool, request.input_tokens) + view.rtt_ns[pool, request.region]
    in_time = first_ns <= kind.slo_ttft_ns and row.tpot_ns <= kind.slo_tpot_ns
    worth = kind.worth_usd if in_time else LATE_WORTH * kind.worth_usd
    paid = paid_when_used_usd(view, request, pool)
    if worth <= paid:
        return NO_RETRY_NS
    gain = max(paying * worth - paid, 0.0)
    most = row.density_usd * need(view, request, pool, output)
    near = math.sqrt(math.sqrt(min(1.0, gain / most))) if most > 0.0 else 1.0
    patient_ns = max(0.0, kind.slo_ttft_ns - first_ns) if in_time else float(NS_PER_HOUR)
    if row.is_api:
        left = FOLDS * (1.0 - near) / steepness(row.slots)
        ahead_ns = max(left * BUCKET_NS, -patient_ns) + float(row.free_ns - now_ns)
    else:
        over = 0.0
        if in_time and row.tpot_now_ns > kind.slo_tpot_ns:
            over = (row.tpot_now_ns - kind.slo_tpot_ns) / (row.tpot_now_ns - row.tpot_ns)
        stay_ns = max(row.service_ns, output * row.tpot_now_ns)
        ahead_ns = row.wait_ns + stay_ns * _turnovers(view, pool, near, over)
    return int(max(ahead_ns, 0.0)) + NS_PER_MS


@kernel
def _turnovers(view: View, pool: int, near: float, over: float) -> float:
    """Return after how many mean stays a pool of replicas holds as few requests as ``near`` says, if nobody else comes.

    A share of ``over`` must leave in any case. At random ends (each of n is as likely to end next) it takes
    ln((n + 1) / (left + 1)) stays until ``left`` are left, give or take 1/√(left + 1). A pool that is over its limit
    gives late answers, which may lower its reach to the least there is.
    """
    row = view.pools[pool]
    if row.in_flight == 0 or row.pressure <= 0.0:
        return 0.0
    limit = row.in_flight / row.pressure
    if row.pressure >= 1.0:
        limit *= REACH_MIN / row.reach
    left = min(limit * (1.0 - FOLDS * (1.0 - near) / steepness(limit)), (1.0 - over) * row.in_flight)
    left = min(max(left, 0.0), float(row.in_flight)) + 1.0
    return math.log((row.in_flight + 1.0) / left) + SIGMAS / math.sqrt(left)
