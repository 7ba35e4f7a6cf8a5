"""A fleet as plain objects that looks at every replica at every event: the independent twin of the engine.

Nothing is imported from the engine or the policies. The view's fixed numbers are taken from a fleet's view;
everything that changes is counted here from the objects themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tests.performance.replica_twin import Replica, Request

HALF_LIFE_NS, MINUTE_NS, HOUR_NS = 10e9, 60_000_000_000, 3_600_000_000_000


@dataclass(eq=False)
class Ask(Request):
    workload: int = 0
    region: int = 0
    u: float = 0.0
    released_ns: int = 0
    pool: int = -1
    status: str = "pending"
    entered_ns: int = -1
    given: int = 0
    session: int = -1
    think_ns: int = -1
    tries: int = 0
    follower: Ask | None = None


@dataclass(eq=False)
class PoolTwin:
    replicas: list[Replica]
    site: int
    up: bool = True
    turn: int = 0
    calls: list[Ask] = field(default_factory=list)
    free_ns: int = -60_000_000_000
    service_ns: float = 0.0
    surge: float = 0.0
    surge_at_ns: int = 0
    recent: float = 0.0
    recent_at_ns: int = 0

    @property
    def in_flight(self) -> int:
        return len(self.calls) + sum(replica.in_flight for replica in self.replicas)

    @property
    def waiting(self) -> int:
        return sum(len(replica.queue) for replica in self.replicas)

    @property
    def queued_tokens(self) -> int:
        return sum(replica.queued_tokens for replica in self.replicas) + sum(ask.input_tokens for ask in self.calls)


class FleetTwin:
    """Serve requests one event at a time under ``policy`` (bid_price, least_loaded or round_robin)."""

    def __init__(self, fleet: Any, deployments: Any, view: Any, policy: str, storms: Any = ()) -> None:
        self.storms, self.last_of_session = storms, dict[int, Ask]()
        sites = [site.name for site in fleet.sites]
        self.fleet, self.view, self.policy = fleet, view, policy
        self.pools = [
            PoolTwin([Replica(*deployments[p.deployment]) for _ in range(p.replicas)], sites.index(p.site))
            for p in fleet.pools
        ]
        for index, pool in enumerate(self.pools):
            pool.service_ns = float(view.pools[index].service_ns)
        self.timers: list[tuple[int, int, Ask]] = []
        self.cursor = [0] * len(fleet.workloads)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def run(self, asks: list[Ask], switches: list[tuple[int, int, int]]) -> None:
        inputs = [(ask.arrival_ns, 0, index, ask) for index, ask in enumerate(asks)]
        while True:
            ready: list[tuple[int, int, int, Any]] = inputs[:1]
            ready += [(at, 1, label, ask) for at, label, ask in self.timers]
            line = [replica for pool in self.pools for replica in pool.replicas]
            ready += [(r.end_ns, 2, index, r) for index, r in enumerate(line) if r.end_ns is not None]
            ready += [(at, 3, index, (site, up)) for index, (at, site, up) in enumerate(switches[:1])]
            if not ready:
                return
            now_ns, kind, _, what = min(ready, key=lambda entry: entry[:3])
            if kind == 0:
                inputs.pop(0)
                self.known(what, now_ns)
            elif kind == 1:
                self.timer(now_ns)
            elif kind == 2:
                self.tick(what, now_ns)
            else:
                switches = switches[1:]
                self.switch(what[0], what[1], now_ns)

    def known(self, ask: Ask, now_ns: int) -> None:
        before = self.last_of_session.get(ask.session) if ask.session >= 0 else None
        self.last_of_session[ask.session] = ask
        if before is not None and ask.think_ns >= 0:
            if before.finish_ns < 0:
                before.follower, ask.status = ask, "waiting"
                return
            if before.finish_ns + ask.think_ns > now_ns:
                ask.status = "waiting"
                self.timers.append((before.finish_ns + ask.think_ns, ask.label, ask))
                return
        ask.released_ns = now_ns
        self.offer(ask, now_ns)

    def ended(self, ask: Ask, now_ns: int) -> None:
        ask.finish_ns = now_ns
        if ask.follower is not None:
            self.timers.append((now_ns + ask.follower.think_ns, ask.follower.label, ask.follower))

    def asks_again(self, ask: Ask, now_ns: int) -> bool:
        for storm in self.storms:
            comes = (ask.u + 0.6180339887498949 * (ask.tries + 1)) % 1.0 < storm.share
            if storm.start_ns <= now_ns < storm.end_ns and ask.tries + 1 < storm.attempts_max and comes:
                ask.tries, ask.status, ask.pool, ask.given, ask.done = ask.tries + 1, "retrying", -1, 0, 0
                ask.start_ns = ask.first_token_ns = -1
                self.timers.append((now_ns + storm.backoff_ns, ask.label, ask))
                return True
        return False

    def timer(self, now_ns: int) -> None:
        entry = min(self.timers, key=lambda each: each[:2])
        self.timers.remove(entry)
        ask = entry[2]
        if ask.status == "waiting":
            ask.arrival_ns = now_ns
        if ask.status in {"deferred", "waiting", "retrying"}:
            ask.released_ns = now_ns
        if ask.status in {"deferred", "moved", "waiting", "retrying"}:
            self.offer(ask, now_ns)
            return
        pool = self.pools[ask.pool]
        pool.calls.remove(ask)
        ask.status = "served"
        self.ended(ask, now_ns)
        self.learn_wait(ask.pool, 1, ask.first_token_ns - ask.entered_ns, now_ns)
        self.learn_service(ask.pool, [ask])

    def tick(self, replica: Replica, now_ns: int) -> None:
        index = next(i for i, pool in enumerate(self.pools) if replica in pool.replicas)
        begun: list[Any] = list(replica.prefilling)
        finished: list[Any] = replica.tick()
        first = [ask for ask in begun if ask.first_token_ns == now_ns]
        if first:
            self.learn_wait(index, len(first), sum(now_ns - ask.released_ns for ask in first), now_ns)
        for ask in finished:
            ask.status = "served"
            self.ended(ask, now_ns)
        if finished:
            self.learn_service(index, finished)

    # ── what is learned ─────────────────────────────────────────────────────────────────────────────────────────────
    def learn_service(self, index: int, finished: list[Any]) -> None:
        pool, mean = self.pools[index], sum(ask.finish_ns - ask.start_ns for ask in finished) / len(finished)
        pool.service_ns += min(1.0, 0.02 * len(finished)) * (mean - pool.service_ns)

    def surge(self, index: int, now_ns: float) -> float:
        pool = self.pools[index]
        return pool.surge * 2.0 ** -((now_ns - pool.surge_at_ns) / HALF_LIFE_NS) if pool.surge > 0.0 else 0.0

    def learn_wait(self, index: int, count: int, sum_ns: int, now_ns: int) -> None:
        pool, unit = self.pools[index], float(self.view.pools[index].surge_usd)
        pressure = sum_ns / count / float(self.view.pools[index].slo_ns) - 0.5
        change = 0.02 * count * min(max(pressure, -1.0), 1.0)
        if change > 0.0 or pool.surge > 0.0:
            pool.surge = min(max(self.surge(index, now_ns) + change * unit, 0.0), 10.0 * unit)
            pool.surge_at_ns = now_ns

    # ── decisions ───────────────────────────────────────────────────────────────────────────────────────────────────
    def fits(self, index: int, ask: Ask) -> bool:
        pool, tokens = self.fleet.pools[index], ask.input_tokens + ask.output_tokens
        site, workload = self.fleet.sites[self.pools[index].site], self.fleet.workloads[ask.workload]
        home = workload.residency in {"any", site.residency} and site.security >= workload.security
        short = pool.kind == "api" or tokens <= int(self.view.pools[index].context_tokens_max)
        return pool.model == workload.model and home and pool.goodput_rps[ask.workload] > 0 and short

    def wait_ns(self, index: int, now_ns: int, ahead_ns: float) -> float:
        pool, known = self.pools[index], self.view.pools[index]
        if self.fleet.pools[index].kind == "api":
            return max(0.0, float(pool.free_ns - now_ns) - ahead_ns)
        queue = pool.queued_tokens * float(known.prefill_ns_per_token) / max(len(pool.replicas), 1)
        if pool.waiting:
            queue = max(queue, pool.waiting * pool.service_ns / max(pool.in_flight - pool.waiting, 1))
        return max(0.0, queue - ahead_ns)

    def in_flight(self, index: int, ahead_ns: float) -> float:
        pool = self.pools[index]
        gone = (pool.in_flight - pool.waiting) * ahead_ns / max(pool.service_ns, 1.0)
        return max(0.0, pool.in_flight - gone)

    def recent(self, index: int, now_ns: float) -> float:
        return float(self.pools[index].recent * math.exp((self.pools[index].recent_at_ns - now_ns) / 10e9))

    def load(self, index: int, ahead_ns: float) -> float:
        up = max(len(self.pools[index].replicas), 1)
        return self.in_flight(index, ahead_ns) / (float(self.view.pools[index].slots) * up)

    def margin(self, index: int, ask: Ask, now_ns: int, ahead_ns: float) -> float:
        known, kind, view = self.view.pools[index], self.view.workloads[ask.workload], self.view
        up = max(len(self.pools[index].replicas), 1)
        output = min(float(kind.output_tokens_mean), float(ask.output_tokens))
        per = view.chip_s_per_token[index, ask.workload]
        chip_s = float(per[0]) * ask.input_tokens + float(per[1]) * output
        own = 0.0 if self.fleet.pools[index].kind == "api" else float(known.step_ns)
        own = own + ask.input_tokens * float(known.prefill_ns_per_token) + float(known.ttft_ns)
        ttft = own + self.wait_ns(index, now_ns, ahead_ns) + int(view.rtt_ns[index, ask.region])
        tpot = float(known.tpot_ns) + float(known.tpot_ns_per_request) * (self.in_flight(index, ahead_ns) / up)
        late = max(0.0, ttft / float(kind.slo_ttft_ns) - 0.8) / 0.4
        rho = self.recent(index, now_ns + ahead_ns) / (10.0 * self.fleet.pools[index].chips_per_replica * up)
        late += max(0.0, tpot / float(kind.slo_tpot_ns) - 0.8) / 0.4 + max(0.0, rho - 0.9) / 0.1
        price = float(view.bid_usd[0, index, 0]) * min(1.0, self.load(index, ahead_ns) / 0.5)
        price = (price + self.surge(index, now_ns + ahead_ns)) * chip_s
        price += float(view.bid_usd[0, index, 1]) * (ask.input_tokens + output)
        paid = float(known.usd_per_input_token) * ask.input_tokens + float(known.usd_per_output_token) * output
        paid += float(known.usd_per_chip_s_used) * chip_s
        return float(float(kind.worth_usd) * (1.0 - late) - (price + paid))

    def offer(self, ask: Ask, now_ns: int) -> None:
        fit = [index for index in range(len(self.pools)) if self.fits(index, ask)]
        up = [index for index in fit if self.pools[index].up]
        if not up:
            self.decline(ask, "no_capacity" if fit else "unfit", HOUR_NS if fit else -1, now_ns)
            return
        count = len(self.pools)
        if self.policy == "round_robin":
            turn = self.cursor[ask.workload]
            self.send(ask, min(up, key=lambda index: (index - turn) % count), now_ns)
            return
        order = sorted(up, key=lambda index: (index - int(ask.u * count)) % count)
        if self.policy == "least_loaded":
            self.send(ask, min(order, key=lambda index: self.load(index, 0.0)), now_ns)
            return
        margins = {index: self.margin(index, ask, now_ns, 0.0) for index in order}
        best = max(order, key=lambda index: margins[index])
        if margins[best] < 0.0:
            self.decline(ask, "below_bid", self.retry_after(best, ask, now_ns), now_ns)
        else:
            self.send(ask, best, now_ns)

    def retry_after(self, index: int, ask: Ask, now_ns: int) -> int:
        pool = self.pools[index]
        empty = pool.service_ns * pool.in_flight / max(pool.in_flight - pool.waiting, 1)
        soon, late = 0.0, max(self.wait_ns(index, now_ns, 0.0) + empty, 10 * HALF_LIFE_NS)
        if self.margin(index, ask, now_ns, late) < 0.0:
            hours = range(1, 168)  # the block never changes here, so only a fading surge can help
            good = [h * HOUR_NS - now_ns for h in hours if self.margin(index, ask, now_ns, h * HOUR_NS - now_ns) >= 0.0]
            return good[0] if good else -1
        for _ in range(24):
            middle = 0.5 * (soon + late)
            if self.margin(index, ask, now_ns, middle) < 0.0:
                soon = middle
            else:
                late = middle
        return int(late) + 1_000_000

    def decline(self, ask: Ask, reason: str, retry_ns: int, now_ns: int) -> None:
        again_ns = now_ns + max(retry_ns, MINUTE_NS)
        window_ns = round(self.fleet.workloads[ask.workload].deferral_hours * HOUR_NS)
        ask.pool = -1
        if retry_ns > 0 and again_ns <= ask.arrival_ns + window_ns:
            ask.status = "deferred"
            self.timers.append((again_ns, ask.label, ask))
        elif not self.asks_again(ask, now_ns):
            ask.status = f"refused {reason}"
            self.ended(ask, now_ns)

    def send(self, ask: Ask, index: int, now_ns: int) -> None:
        pool, known = self.pools[index], self.view.pools[index]
        self.cursor[ask.workload] = index + 1
        ask.status, ask.pool, ask.entered_ns = "running", index, now_ns
        per, mean = self.view.chip_s_per_token[index, ask.workload], self.view.workloads[ask.workload]
        chip_s = float(per[0]) * ask.input_tokens + float(per[1]) * float(mean.output_tokens_mean)
        pool.recent, pool.recent_at_ns = self.recent(index, now_ns) + chip_s, now_ns
        if self.fleet.pools[index].kind == "api":
            ask.start_ns = max(now_ns, pool.free_ns)
            tokens = ask.input_tokens + ask.output_tokens
            taken = int(tokens * float(known.token_ns) + 0.5)
            pool.free_ns = max(pool.free_ns + MINUTE_NS, now_ns) + taken - MINUTE_NS
            ask.first_token_ns = ask.start_ns + round(float(known.ttft_ns))
            answer_ns = int((ask.output_tokens - 1) * self.fleet.pools[index].tpot_ms * 1_000_000 + 0.5)
            pool.calls.append(ask)
            self.timers.append((ask.first_token_ns + answer_ns, ask.label, ask))
            return
        if self.policy == "round_robin":
            chosen = pool.replicas[pool.turn % len(pool.replicas)]
            pool.turn += 1
        else:
            chosen = min(pool.replicas, key=lambda replica: replica.in_flight)
        chosen.arrive(ask, now_ns)

    # ── a lost site ─────────────────────────────────────────────────────────────────────────────────────────────────
    def switch(self, site: int, up: int, now_ns: int) -> None:
        for pool in [pool for pool in self.pools if pool.site == site]:
            pool.up, pool.free_ns = bool(up), -MINUTE_NS
            if up:
                continue
            pool.surge = pool.recent = 0.0
            held: list[Any] = list(pool.calls)
            for place, replica in enumerate(pool.replicas):
                held += replica.decoding + replica.prefilling + replica.queue
                pool.replicas[place] = Replica(replica.table, replica.limits)
            self.timers = [entry for entry in self.timers if entry[2] not in pool.calls]
            pool.calls.clear()
            for ask in held:
                self.lose(ask, now_ns)

    def lose(self, ask: Ask, now_ns: int) -> None:
        if 0 <= ask.first_token_ns <= now_ns:
            if self.asks_again(ask, now_ns):
                return
            ask.status = "failed"
            pool = self.fleet.pools[ask.pool]
            called = 1 + int((now_ns - ask.first_token_ns) / (pool.tpot_ms * 1e6)) if pool.kind == "api" else 0
            ask.given = min(called, ask.output_tokens) or ask.output_tokens - ask.left
            self.ended(ask, now_ns)
            return
        ask.status, ask.start_ns, ask.first_token_ns, ask.done = "moved", -1, -1, 0
        ask.held = ask.cached = 0
        self.timers.append((now_ns, ask.label, ask))
