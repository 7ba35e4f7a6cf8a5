"""A fleet as plain objects that looks at every replica at every event: the independent twin of the engine.

Nothing is imported from the engine or the policies: decisions are those of the policies' own twin, which is told what
happens to the objects here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.performance.replica_twin import Replica, Request
from tests.policy.policy_twin import Asked, PolicyTwin

MINUTE_NS, HOUR_NS = 60_000_000_000, 3_600_000_000_000


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
    asked: int = 0
    tries: int = 0
    follower: Ask | None = None


@dataclass(eq=False)
class PoolTwin:
    replicas: list[Replica]
    site: int
    up: bool = True
    turn: int = 0
    calls: list[Ask] = field(default_factory=list)


def fresh(table: Any, limits: Any) -> Replica:
    return Replica(table, limits, caching=True)


class FleetTwin:
    """Serve requests one event at a time under ``policy``."""

    def __init__(self, fleet: Any, deployments: Any, view: Any, policy: str, storms: Any = ()) -> None:
        self.storms, self.last_of_session = storms, dict[int, Ask]()
        sites = [site.name for site in fleet.sites]
        self.fleet, self.view, self.policy = fleet, view, policy
        self.pools = [
            PoolTwin([fresh(*deployments[p.deployment]) for _ in range(p.replicas)], sites.index(p.site))
            for p in fleet.pools
        ]
        self.mind = PolicyTwin(view)
        self.timers: list[tuple[int, int, Ask]] = []

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def run(self, asks: list[Ask], switches: list[tuple[int, int, str]]) -> None:
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
                ask.held = ask.cached = 0
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
        self.pools[ask.pool].calls.remove(ask)
        self.mind.first_tokens(ask.pool, ask.input_tokens, now_ns)
        ask.finish_ns = now_ns
        self.leave(ask.pool, [ask], now_ns)

    def tick(self, replica: Replica, now_ns: int) -> None:
        index = next(i for i, pool in enumerate(self.pools) if replica in pool.replicas)
        before, waiting = list(replica.prefilling), len(replica.queue)
        finished: list[Any] = replica.tick()
        if len(replica.queue) != waiting:
            self.mind.admitted(index, waiting - len(replica.queue), now_ns)
        first = [ask for ask in before if ask.first_token_ns == now_ns]
        if first:
            self.mind.first_tokens(index, sum(ask.input_tokens for ask in first), now_ns)
        if finished:
            self.leave(index, finished, now_ns)

    def leave(self, index: int, finished: list[Any], now_ns: int) -> None:
        late = 0
        for ask in finished:
            ask.status = "served"
            rtt_ns = int(self.view.rtt_ns[index, ask.region])
            ttft_ns = ask.first_token_ns - ask.released_ns + rtt_ns
            gap_ns = (ask.finish_ns - ask.first_token_ns) / max(ask.output_tokens - 1, 1)
            late += self.mind.late(index, (ask.workload, ask.input_tokens - ask.cached, rtt_ns, ttft_ns, gap_ns))
            self.mind.gone(index, ask.workload, 0, 0, now_ns)
            self.ended(ask, now_ns)
        self.mind.finished(index, len(finished), late, sum(ask.finish_ns - ask.start_ns for ask in finished))
        self.mind.look(index, now_ns)

    # ── decisions ───────────────────────────────────────────────────────────────────────────────────────────────────
    def offer(self, ask: Ask, now_ns: int) -> None:
        window_ns = round(self.fleet.workloads[ask.workload].deferral_hours * HOUR_NS)
        last_ns = ask.arrival_ns + window_ns
        room = ask.input_tokens + 1
        asked = Asked(ask.workload, ask.region, ask.input_tokens, 0, room, ask.session, last_ns)
        index, reason, retry_ns = self.mind.choose(self.policy, asked, now_ns, ask.u)
        if index >= 0:
            self.send(ask, index, now_ns)
            return
        self.mind.declined(ask.workload)
        retry_ns = HOUR_NS if reason == "no_capacity" else retry_ns
        again_ns = min(now_ns + max(retry_ns, MINUTE_NS), last_ns)
        ask.pool = -1
        if retry_ns > 0 and again_ns > now_ns:
            ask.status = "deferred"
            self.timers.append((again_ns, ask.label, ask))
        elif not self.asks_again(ask, now_ns):
            ask.status = f"refused {reason}"
            self.ended(ask, now_ns)

    def send(self, ask: Ask, index: int, now_ns: int) -> None:
        pool, known, seen = self.pools[index], self.view.pools[index], self.mind.pools[index]
        self.mind.routed(index, ask.workload, ask.input_tokens, now_ns)
        ask.status, ask.pool, ask.entered_ns = "running", index, now_ns
        ask.output_tokens = min(ask.asked, int(known.context_tokens_max) - ask.input_tokens)
        ask.output_max = ask.output_tokens
        if self.fleet.pools[index].kind == "api":
            ask.start_ns = max(now_ns, seen.free_ns)
            tokens = ask.input_tokens + ask.output_tokens
            taken = int(tokens * float(known.token_ns) + 0.5)
            seen.free_ns = max(seen.free_ns + MINUTE_NS, now_ns) + taken - MINUTE_NS
            ask.first_token_ns = ask.start_ns + round(float(known.ttft_ns))
            answer_ns = int((ask.output_tokens - 1) * self.fleet.pools[index].tpot_ms * 1_000_000 + 0.5)
            pool.calls.append(ask)
            self.mind.admitted(index, 1, now_ns)
            self.timers.append((ask.first_token_ns + answer_ns, ask.label, ask))
            return
        if self.policy == "round_robin":
            chosen = pool.replicas[pool.turn % len(pool.replicas)]
            pool.turn += 1
        else:
            chosen = min(pool.replicas, key=lambda replica: replica.in_flight)
        chosen.arrive(ask, now_ns)

    # ── a lost site ─────────────────────────────────────────────────────────────────────────────────────────────────
    def switch(self, site: int, what: str, now_ns: int) -> None:
        for index, pool in [(index, pool) for index, pool in enumerate(self.pools) if pool.site == site]:
            if what != "down":
                if bool(pool.replicas) == (what == "replicas up"):
                    pool.up = True
                    self.mind.capacity(index, len(pool.replicas) or 1, now_ns)
                continue
            pool.up = False
            self.mind.capacity(index, 0, now_ns)
            self.mind.pools[index].free_ns = -MINUTE_NS
            held: list[Any] = list(pool.calls)
            waiting: list[Any] = []
            for place, replica in enumerate(pool.replicas):
                held += replica.decoding + replica.prefilling
                waiting += replica.queue
                pool.replicas[place] = fresh(replica.table, replica.limits)
            self.timers = [entry for entry in self.timers if entry[2] not in pool.calls]
            pool.calls.clear()
            for ask in held + waiting:
                self.lose(ask, int(ask in waiting), now_ns)

    def lose(self, ask: Ask, waits: int, now_ns: int) -> None:
        pool = self.fleet.pools[ask.pool]
        chips, begun = pool.kind == "chips", ask.first_token_ns >= 0
        unread = 0 if chips and begun else ask.input_tokens
        self.mind.gone(ask.pool, ask.workload, unread, waits, now_ns)
        if begun and ask.first_token_ns <= now_ns:
            if self.asks_again(ask, now_ns):
                return
            ask.status = "failed"
            called = 0 if chips else 1 + int((now_ns - ask.first_token_ns) / (pool.tpot_ms * 1e6))
            ask.given = min(called, ask.output_tokens) or ask.output_tokens - ask.left
            self.ended(ask, now_ns)
            return
        ask.status, ask.start_ns, ask.first_token_ns, ask.done = "moved", -1, -1, 0
        ask.held = ask.cached = 0
        self.timers.append((now_ns, ask.label, ask))
