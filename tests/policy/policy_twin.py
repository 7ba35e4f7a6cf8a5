"""The policies as plain objects: the independent twin of the room's kernels.

Nothing is imported from the policies. What a view holds fixed (speeds, limits, densities, weights) is read from
it once; whatever changes is counted here, on objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

MINUTE_NS, HOUR_NS = 60_000_000_000, 3_600_000_000_000
PRIME = 2**31 - 1


@dataclass
class PoolSeen:
    """What a policy has seen of one pool."""

    known: Any
    replicas: int
    in_flight: int = 0
    waiting: int = 0
    queued_tokens: int = 0
    free_ns: int = -MINUTE_NS
    service_ns: float = 0.0
    work_ns: int = 0
    reach: float = 1.0
    price: float = 0.0
    caution: float = 0.0
    wait_ns: float = 0.0
    tpot_now_ns: float = 0.0
    pressure: float = 0.0
    tightest: tuple[float, float] = (0.0, 0.0)
    running: dict[int, int] = field(default_factory=dict)

    @property
    def load(self) -> float:
        return self.in_flight / (float(self.known.slots) * max(self.replicas, 1))


@dataclass
class Asked:
    """A request as a policy sees it."""

    workload: int
    region: int
    input_tokens: int
    output_tokens_max: int
    context_tokens: int
    session: int
    last_ns: int


class PolicyTwin:
    """Decide and learn as the kernels do."""

    def __init__(self, view: Any) -> None:
        self.view = view
        self.pools = [
            PoolSeen(row.copy(), int(row.replicas_up), service_ns=float(row.service_ns), tpot_now_ns=float(row.tpot_ns))
            for row in view.pools
        ]
        self.kinds = [row.copy() for row in view.workloads]
        self.cursor = [0] * len(self.kinds)
        self.owed = [0.0] * len(self.kinds)

    # ── what is learned ─────────────────────────────────────────────────────────────────────────────────────────────
    def routed(self, index: int, workload: int, tokens: int, now_ns: int) -> None:
        pool = self.pools[index]
        pool.in_flight += 1
        pool.waiting += 1
        pool.queued_tokens += tokens
        self.enter(index, workload, 1)
        self.cursor[workload] = index + 1
        self.owed[workload] = max(self.owed[workload] + float(self.kinds[workload].admit_share_min) - 1.0, 0.0)
        self.look(index, now_ns)

    def declined(self, workload: int) -> None:
        self.owed[workload] = min(self.owed[workload] + float(self.kinds[workload].admit_share_min), 1.0)

    def admitted(self, index: int, count: int, now_ns: int) -> None:
        self.pools[index].waiting -= count
        self.look(index, now_ns)

    def first_tokens(self, index: int, tokens: int, now_ns: int) -> None:
        self.pools[index].queued_tokens -= tokens
        self.look(index, now_ns)

    def finished(self, index: int, answers: int, late: int, sum_ns: int) -> None:
        pool = self.pools[index]
        pool.service_ns += min(1.0, 0.02 * answers) * (sum_ns / answers - pool.service_ns)
        held = max(float(pool.in_flight), 20.0)
        near = min(self.nearness(pool.pressure, held / max(pool.pressure, 1.0 / held)), 1.0)
        fourth = near * near * near * near
        expected = 0.05 * fourth * fourth * fourth * fourth
        pool.reach = min(max(pool.reach + 1.0 / held * (expected * answers - late), 0.25), 2.0)

    def late(self, index: int, answer: tuple[int, int, int, int, float]) -> bool:
        workload, read, rtt_ns, ttft_ns, tpot_ns = answer
        kind, known = self.kinds[workload], self.pools[index].known
        alone = float(known.own_ns) + read * (float(known.read_ns_per_token) + read * float(known.read_ns_per_token2))
        by_load = (ttft_ns - rtt_ns - alone) * float(self.view.rate[index, workload, 1]) > 1.0
        return bool((ttft_ns > float(kind.slo_ttft_ns) and by_load) or tpot_ns > float(kind.slo_tpot_ns))

    def gone(self, index: int, workload: int, unread: int, waiting: int, now_ns: int) -> None:
        pool = self.pools[index]
        pool.in_flight -= 1
        pool.waiting -= waiting
        pool.queued_tokens -= unread
        self.enter(index, workload, -1)
        self.look(index, now_ns)

    def capacity(self, index: int, replicas: int, now_ns: int) -> None:
        self.pools[index].replicas = replicas
        self.look(index, now_ns)

    def elsewhere(self, index: int, workload: int, count: int, tokens: int, now_ns: int) -> None:
        self.pools[index].in_flight += count
        self.pools[index].queued_tokens += tokens
        self.enter(index, workload, count)
        self.look(index, now_ns)

    def taken(self, index: int, tokens: int, now_ns: int) -> None:
        pool, full = self.pools[index], now_ns - MINUTE_NS
        pool.free_ns = max(max(pool.free_ns, full) + math.floor(tokens * float(pool.known.token_ns) + 0.5), full)
        self.look(index, now_ns)

    def enter(self, index: int, workload: int, change: int) -> None:
        pool = self.pools[index]
        pool.running[workload] = pool.running.get(workload, 0) + change
        pool.work_ns += change * int(self.view.load_ns[index, workload])
        present = [k for k, count in pool.running.items() if count > 0]
        rates = self.view.rate[index]
        pool.tightest = (
            max((float(rates[k, 0]) for k in present), default=0.0),
            max((float(rates[k, 1]) for k in present), default=0.0),
        )

    def look(self, index: int, now_ns: int) -> None:
        pool = self.pools[index]
        if pool.replicas == 0:
            return
        bid = float(self.view.bid_usd[self.block(now_ns), index])
        if pool.known.is_api:
            pool.pressure, pool.price = pool.in_flight / float(pool.known.slots), bid
            return
        pool.wait_ns = pool.queued_tokens * float(pool.known.prefill_ns_per_token) / pool.replicas
        held = float(pool.known.places) * pool.replicas
        if pool.in_flight > held:
            outside = min(float(pool.waiting), pool.in_flight - held)
            pool.wait_ns = max(pool.wait_ns, outside * pool.service_ns / held)
        more = pool.work_ns / pool.replicas
        pool.tpot_now_ns = float(pool.known.tpot_ns) + more
        places = pool.in_flight / (float(pool.known.places) * pool.replicas)
        pool.pressure = max(more * pool.tightest[0], pool.wait_ns * pool.tightest[1], places) / pool.reach
        near = self.nearness(pool.pressure, pool.in_flight / pool.pressure) if pool.pressure > 0 else 0.0
        pool.price = self.price(near, bid, float(pool.known.density_usd))
        eighth = near * near * near * near * near * near * near * near
        more = max(0.0, eighth - eighth * eighth)
        pool.caution = (float(pool.known.density_usd) - min(bid, float(pool.known.density_usd))) * more

    # ── predictions and prices ──────────────────────────────────────────────────────────────────────────────────────
    def block(self, now_ns: int) -> int:
        return int(self.view.block_of_hour[((int(self.view.clock_ns[0]) + now_ns) // HOUR_NS) % 168])

    @staticmethod
    def nearness(pressure: float, held: float) -> float:
        return max(0.0, 1.0 - math.sqrt(max(held, 64.0)) * (1.0 - pressure) / 16.0)

    @staticmethod
    def price(near: float, bid: float, density: float) -> float:
        fourth = near * near * near * near
        bid = min(bid, density)
        return bid * fourth + (density - bid) * fourth * fourth * fourth * fourth

    def wait(self, index: int, now_ns: int) -> float:
        pool = self.pools[index]
        return max(0.0, float(pool.free_ns - now_ns)) if pool.known.is_api else pool.wait_ns

    def own_ns(self, index: int, ask: Asked) -> float:
        known = self.pools[index].known
        return float(known.own_ns) + ask.input_tokens * (
            float(known.read_ns_per_token) + ask.input_tokens * float(known.read_ns_per_token2)
        )

    def output(self, ask: Asked) -> float:
        mean = float(self.kinds[ask.workload].output_tokens_mean)
        return min(mean, float(ask.output_tokens_max)) if ask.output_tokens_max else mean

    def need(self, index: int, ask: Asked) -> float:
        per = self.view.need[index, ask.workload]
        return float(per[0]) * ask.input_tokens + float(per[1]) * self.output(ask)

    def paid(self, index: int, ask: Asked) -> float:
        known = self.pools[index].known
        tokens = float(known.usd_per_input_token) * ask.input_tokens
        tokens += float(known.usd_per_output_token) * self.output(ask)
        return tokens + float(known.usd_per_chip_s_used) * self.need(index, ask)

    def ttft_ns(self, index: int, ask: Asked, now_ns: int) -> float:
        rtt = int(self.view.rtt_ns[index, ask.region])
        return self.own_ns(index, ask) + self.wait(index, now_ns) + rtt

    def paying(self, ask: Asked, now_ns: int) -> float:
        defer = float(self.kinds[ask.workload].defer_ns)
        if ask.last_ns <= now_ns or defer <= 0:
            return 1.0
        return 1.0 - 0.9 * min(1.0, (ask.last_ns - now_ns) / defer)

    def margin(self, index: int, ask: Asked, now_ns: int) -> float:
        pool, kind = self.pools[index], self.kinds[ask.workload]
        price = pool.price
        if pool.known.is_api:
            left = float(now_ns - pool.free_ns) / MINUTE_NS
            near = self.nearness(1.0 - left, float(pool.known.slots)) if pool.known.token_ns > 0 else 0.0
            price = self.price(near, price, float(pool.known.density_usd))
        slow = pool.tpot_now_ns > float(kind.slo_tpot_ns)
        late = slow or self.ttft_ns(index, ask, now_ns) > float(kind.slo_ttft_ns)
        worth = (0.5 if late else 1.0) * float(kind.worth_usd)
        return self.paying(ask, now_ns) * worth - self.paid(index, ask) - price * self.need(index, ask)

    def retry_after(self, index: int, ask: Asked, now_ns: int) -> int:
        pool, kind = self.pools[index], self.kinds[ask.workload]
        own = self.own_ns(index, ask) + int(self.view.rtt_ns[index, ask.region])
        in_time = own <= float(kind.slo_ttft_ns) and float(pool.known.tpot_ns) <= float(kind.slo_tpot_ns)
        worth, paid = (1.0 if in_time else 0.5) * float(kind.worth_usd), self.paid(index, ask)
        if worth <= paid:
            return -1
        gain = max(self.paying(ask, now_ns) * worth - paid, 0.0)
        most = float(pool.known.density_usd) * self.need(index, ask)
        near = math.sqrt(math.sqrt(min(1.0, gain / most))) if most > 0 else 1.0
        patient = max(0.0, float(kind.slo_ttft_ns) - own) if in_time else float(HOUR_NS)
        if pool.known.is_api:
            left = 16.0 * (1.0 - near) / math.sqrt(max(float(pool.known.slots), 64.0))
            ahead = max(left * MINUTE_NS, -patient) + float(pool.free_ns - now_ns)
        else:
            over = 0.0
            if in_time and pool.tpot_now_ns > float(kind.slo_tpot_ns):
                over = pool.tpot_now_ns - float(kind.slo_tpot_ns)
                over /= pool.tpot_now_ns - float(pool.known.tpot_ns)
            stay = max(pool.service_ns, self.output(ask) * pool.tpot_now_ns)
            ahead = pool.wait_ns + stay * self.turnovers(pool, near, over)
        return int(max(ahead, 0.0)) + 1_000_000

    @staticmethod
    def turnovers(pool: PoolSeen, near: float, over: float) -> float:
        if pool.in_flight == 0 or pool.pressure <= 0:
            return 0.0
        limit = pool.in_flight / pool.pressure
        if pool.pressure >= 1.0:
            limit *= 0.25 / pool.reach
        left = min(limit * (1.0 - 16.0 * (1.0 - near) / math.sqrt(max(limit, 64.0))), (1.0 - over) * pool.in_flight)
        left = min(max(left, 0.0), float(pool.in_flight)) + 1.0
        return math.log((pool.in_flight + 1.0) / left) + 2.0 / math.sqrt(left)

    # ── decisions ───────────────────────────────────────────────────────────────────────────────────────────────────
    def fit(self, ask: Asked) -> list[int]:
        return [index for index in range(len(self.pools)) if self.view.allowed[index, ask.workload]]

    def open(self, ask: Asked) -> list[int]:
        return [
            index
            for index in self.fit(ask)
            if self.pools[index].replicas > 0 and ask.context_tokens <= int(self.pools[index].known.context_tokens_max)
        ]

    def choose(self, policy: str, ask: Asked, now_ns: int, u: float) -> tuple[int, str, int]:
        """Return pool, reason and Retry-After; -1 and a reason where there is no pool."""
        fit, able = self.fit(ask), self.open(ask)
        if not able:
            short = [index for index in fit if ask.context_tokens <= int(self.pools[index].known.context_tokens_max)]
            return -1, "no_capacity" if short else "too_long" if fit else "no_fit", -1
        first = int(u * len(fit))
        order = [index for index in fit[first:] + fit[:first] if index in able]
        if policy == "bid_price":
            return self.by_bid_price(ask, now_ns, order)
        taken = {
            "least_loaded": lambda: self.least(order),
            "round_robin": lambda: min(able, key=lambda index: (index - self.cursor[ask.workload]) % len(self.pools)),
            "weighted": lambda: self.weighted(ask, now_ns, u, able, order),
            "power_of_two": lambda: self.power_of_two(u, able),
            "cheapest_first": lambda: self.cheapest(ask, order),
            "latency_first": lambda: min(order, key=lambda index: self.ttft_ns(index, ask, now_ns)),
            "prefix_affinity": lambda: self.affine(ask, able, order),
        }[policy]()
        return int(taken), "none", -1

    def by_bid_price(self, ask: Asked, now_ns: int, order: list[int]) -> tuple[int, str, int]:
        kind = self.kinds[ask.workload]
        even = 1e-3 * float(kind.worth_usd)
        margins = {index: self.margin(index, ask, now_ns) for index in order}
        best = max(order, key=lambda index: margins[index])

        def score(index: int) -> float:
            pool = self.pools[index]
            return margins[index] - even * pool.pressure - pool.caution * self.need(index, ask)

        calm = max(order, key=score)
        best = calm if margins[calm] >= 0.0 else best
        owed = self.owed[ask.workload] + float(kind.admit_share_min) >= 1.0
        if margins[best] < 0.0 and not owed:
            return -1, "below_bid", self.soonest(best, ask, now_ns, order)
        return best, "none", -1

    def soonest(self, best: int, ask: Asked, now_ns: int, order: list[int]) -> int:
        mine = self.retry_after(best, ask, now_ns)
        theirs = [self.retry_after(index, ask, now_ns) for index in order]
        return mine if mine != -1 else min((each for each in theirs if each != -1), default=-1)

    def least(self, order: list[int]) -> int:
        return min(order, key=lambda index: self.pools[index].load)

    def weighted(self, ask: Asked, now_ns: int, u: float, able: list[int], order: list[int]) -> int:
        weights = [float(self.view.weight[self.block(now_ns), index, ask.workload]) for index in able]
        total = 0.0
        for weight in weights:
            total += weight  # one by one: from Python 3.12 on, sum() rounds otherwise
        mark, last = u * total, None
        for index, weight in zip(able, weights, strict=True):
            if weight > 0:
                mark, last = mark - weight, index
                if mark < 0:
                    break
        return self.least(order) if last is None else last

    def power_of_two(self, u: float, able: list[int]) -> int:
        count = len(able)
        first = int(u * count)
        second = int((u * count - first) * (count - 1))
        second += second >= first
        if second >= count:
            return able[first]
        one, other = able[first], able[second]
        return other if self.pools[other].load < self.pools[one].load else one

    def cheapest(self, ask: Asked, order: list[int]) -> int:
        free = [index for index in order if self.pools[index].load < 1.0]
        return min(free, key=lambda index: self.paid(index, ask)) if free else self.least(order)

    def affine(self, ask: Asked, able: list[int], order: list[int]) -> int:
        if ask.session < 0:
            return self.least(order)
        total = sum(self.pools[index].load for index in able)
        light = [index for index in able if self.pools[index].load * len(able) <= 1.25 * total]

        def mixed(index: int) -> int:
            found = (ask.session * 48_271 + 11) % PRIME
            found = (found * found + (index + 1) * 69_621) % PRIME
            return (found * found + 7) % PRIME

        return max(light, key=mixed)
