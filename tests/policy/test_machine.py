"""The policy as machine code decides bit for bit as the compiled doors do, and needs no compiler to be called."""

from __future__ import annotations

import numpy as np
import pytest

from offtake.policy.doors import decide, late_by_load, update
from offtake.policy.machine import machine_of
from offtake.policy.view import NO_POOL, Answer, Event, EventKind, Policy, Reason, Request
from tests.policy.test_seam import raw, view


def happening(rng: np.random.Generator, now_ns: int) -> Event:
    """Return anything that may happen at one of the four pools."""
    kind, pool, load = int(rng.integers(1, 9)), int(rng.integers(0, 4)), int(rng.integers(0, 2))
    size, tokens = int(rng.integers(1, 4)), int(rng.integers(-50, 200))
    return Event(kind, pool, load, size, tokens, int(rng.integers(1, 10**9)), now_ns)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", list(Policy))
def test_choices_and_views_are_those_of_the_doors_to_the_last_bit(policy: Policy, seed: int) -> None:
    rng, ours, theirs = np.random.default_rng([seed, 21]), view(), view()
    machine, reasons = machine_of(ours), set()
    for step in range(1_500):
        now_ns = step * 7_000_000
        tokens, kind = int(rng.integers(1, 400)), int(rng.integers(0, 2))
        last_ns = now_ns + int(rng.integers(0, 40_000_000_000)) if kind else now_ns
        request = Request(kind, int(rng.integers(0, 2)), tokens, 0, tokens + 20, int(rng.integers(-1, 30)), last_ns)
        u = float(rng.random())
        choice = machine.decide(int(policy), request, now_ns, u)
        assert choice == decide(theirs, int(policy), request, now_ns, u)
        reasons.add(choice.reason)
        event = Event(EventKind.DECLINED, NO_POOL, kind, 1, 0, 0, now_ns)
        if choice.pool != NO_POOL:
            event = Event(EventKind.ROUTED, choice.pool, kind, 1, tokens, 0, now_ns)
        for told in (event, happening(rng, now_ns)):
            machine.update(told)
            update(theirs, told)
        ttft_ns, tpot_ns = int(rng.integers(0, 10**9)), float(rng.random()) * 2e8
        answer = Answer(kind, tokens, int(rng.integers(0, 10**8)), ttft_ns, tpot_ns)
        assert machine.late_by_load(step % 4, answer) == late_by_load(theirs, step % 4, answer)
    assert raw(ours) == raw(theirs)
    assert Reason.NONE in reasons
