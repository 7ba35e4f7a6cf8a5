"""The seam between rehearsal and router: one log gives the same decisions each time, and deciding changes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from offtake.performance.dense import prepare
from offtake.policy.build import view_of
from offtake.policy.doors import choose, update
from offtake.policy.view import NO_POOL, Event, EventKind, Policy, Reason, Request, View
from tests.policy.policy_twin import Asked, PolicyTwin
from tests.rehearse.fleets import small_deployments, small_fleet, workload


class Life(NamedTuple):
    pool: int
    workload: int
    tokens: int
    end: int


def view() -> View:
    loads = [
        workload("chat", ttft_ms_p95=150.0, admit_share_min=0.2),
        workload("code", residency="us", value_usd_per_request=0.002, deferral_hours=0.01),
    ]
    tables, names = small_deployments(1), ["one", "two"]
    seen = small_fleet()
    deployment = np.array([names.index(p.deployment) if p.kind == "chips" else -1 for p in seen.pools], np.int64)
    return view_of(msgspec.structs.replace(seen, workloads=loads), prepare([tables[n] for n in names]), deployment)


def raw(seen: View) -> list[bytes]:
    return [np.ascontiguousarray(column).tobytes() for column in seen]


def others(rng: np.random.Generator, twin: PolicyTwin, held: Any, now_ns: int) -> list[Event]:
    """Let other routers send more or less, and use up or give back an API's limit; ``held`` is what they have."""
    index, kind, taken = int(rng.integers(0, 4)), int(rng.integers(0, 2)), int(rng.integers(-500, 3_000))
    count = int(rng.integers(-held[index, kind], 4))
    held[index, kind] += count
    twin.elsewhere(index, kind, count, 30 * count, now_ns)
    twin.taken(3, taken, now_ns)
    sent = Event(EventKind.ELSEWHERE, index, kind, count, 30 * count, 0, now_ns)
    return [sent, Event(EventKind.TAKEN, 3, 0, 1, taken, 0, now_ns)]


def log_of(policy: Policy, seed: int, steps: int) -> tuple[list[Any], list[Any]]:
    """Route random requests under a policy; return the log of what was asked and what happened, and the choices."""
    rng, seen, twin = np.random.default_rng([seed, 9]), view(), PolicyTwin(view())
    log: list[Any] = []
    choices: list[Any] = []
    lives: list[Life] = []
    elsewhere = np.zeros((4, 2), np.int64)

    def tell(event: Event) -> None:
        update(seen, event)
        log.append(event)

    for step in range(steps):
        now_ns = step * 4_000_000
        for life in [life for life in lives if life.end <= step]:
            lives.remove(life)
            late = int(rng.random() < 0.1)
            tell(Event(EventKind.ADMITTED, life.pool, 0, 1, 0, 0, now_ns))
            twin.admitted(life.pool, 1, now_ns)
            tell(Event(EventKind.FIRST_TOKEN, life.pool, 0, 1, life.tokens, 0, now_ns))
            twin.first_tokens(life.pool, life.tokens, now_ns)
            tell(Event(EventKind.GONE, life.pool, life.workload, 0, 0, 0, now_ns))
            twin.gone(life.pool, life.workload, 0, 0, now_ns)
            tell(Event(EventKind.FINISHED, life.pool, 0, 1, late, 90_000_000, now_ns))
            twin.finished(life.pool, 1, late, 90_000_000)
            twin.look(life.pool, now_ns)
        if step % 50 == 49:
            up = int(rng.integers(0, 3))
            tell(Event(EventKind.CAPACITY, 1, 0, up, 0, 0, now_ns))
            twin.capacity(1, up, now_ns)
        if step % 7 == 6:
            for event in others(rng, twin, elsewhere, now_ns):
                tell(event)
        tokens, kind = int(rng.integers(1, 250)), int(rng.integers(0, 2))
        last_ns = now_ns + int(rng.integers(0, 40_000_000_000)) if kind else now_ns
        request = Request(kind, int(rng.integers(0, 2)), tokens, 0, tokens + 20, int(rng.integers(-1, 30)), last_ns)
        u = float(rng.random())
        before = raw(seen)
        choice = choose(int(policy), seen, request, now_ns, u)
        assert raw(seen) == before
        log.append((request, now_ns, u))
        choices.append(choice)
        pool, reason, retry_ns = twin.choose(policy.name.lower(), Asked(*request), now_ns, u)
        assert (choice.pool, Reason(choice.reason).name.lower()) == (pool, reason)
        assert choice.retry_after_ns == retry_ns or reason == "none"
        if choice.pool == NO_POOL:
            tell(Event(EventKind.DECLINED, NO_POOL, kind, 1, 0, 0, now_ns))
            twin.declined(kind)
            continue
        tell(Event(EventKind.ROUTED, choice.pool, kind, 1, tokens, 0, now_ns))
        twin.routed(int(choice.pool), kind, tokens, now_ns)
        lives.append(Life(int(choice.pool), kind, tokens, step + int(rng.integers(1, 90))))
    return log, choices


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", list(Policy))
def test_the_same_log_gives_the_same_decisions_and_those_of_the_plain_twin(policy: Policy, seed: int) -> None:
    log, choices = log_of(policy, seed, 300)
    seen, again = view(), []
    for entry in log:
        if isinstance(entry, Event):
            update(seen, entry)
        else:
            again.append(choose(int(policy), seen, *entry))
    assert again == choices
    if policy is Policy.BID_PRICE:
        assert {Reason.NONE, Reason.BELOW_BID} <= {choice.reason for choice in choices}


@pytest.mark.plain
def test_a_short_log_gives_the_same_decisions_without_compiling() -> None:
    log, choices = log_of(Policy.BID_PRICE, 7, 40)
    assert len(choices) == 40
    assert len(log) > 80
