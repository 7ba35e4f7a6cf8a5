"""The live decider counts every request in and out once, and its log gives the same choices when it is replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offtake.fleet import Fleet
from offtake.performance.library import StoredTable, save_table
from offtake.policy.view import NO_POOL, Policy, Request
from offtake.route.decider import Decider, Held, Sent, Settings, Used
from offtake.route.replay import replay
from tests.rehearse.fleets import small_deployments, small_fleet

BEGUN_NS = 1_780_000_000_000_000_000  #: of 2026, in the afternoon
LEVELS = ("in_flight", "waiting", "queued_tokens", "work_ns", "pressure")
API = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The step tables that the small fleet names, as files."""
    for name, (table, limits) in small_deployments(1).items():
        save_table(StoredTable(name, table, limits, {}), tmp_path)
    return tmp_path


def decider(folder: Path, fleet: Fleet | None = None, **how: Any) -> Decider:
    return Decider(fleet or small_fleet(), Settings(BEGUN_NS, folder=folder, **how))


def ask(rng: np.random.Generator, now_ns: int) -> Request:
    tokens, kind = int(rng.integers(1, 250)), int(rng.integers(0, 2))
    return Request(kind, int(rng.integers(0, 2)), tokens, 0, tokens + 20, int(rng.integers(-1, 30)), now_ns)


def live(one: Decider, seed: int, steps: int) -> list[Sent]:
    """Serve a random load for a while; return what is still at its pool."""
    rng, open_ = np.random.default_rng([seed, 31]), list[Sent]()
    for step in range(steps):
        now_ns = step * 3_000_000
        one.tick(now_ns)
        request = ask(rng, now_ns)
        without = (int(rng.integers(0, 4)),) if rng.random() < 0.1 else ()
        choice = one.choose(request, now_ns, without)
        assert choice.pool not in without
        if choice.pool == NO_POOL:
            one.declined(request.workload, now_ns)
        else:
            open_.append(one.routed(request, choice.pool, now_ns, streamed=bool(rng.random() < 0.7)))
        for sent in [sent for sent in open_ if rng.random() < 0.03]:
            happen(one, sent, rng, now_ns)
        open_ = [sent for sent in open_ if sent in one.sent]
        if step % 40 == 39:
            one.capacity(1, int(rng.integers(0, 3)), now_ns)
            one.measured(0, Held(int(rng.integers(0, 30)), int(rng.integers(0, 9))), now_ns)
    return open_


def happen(one: Decider, sent: Sent, rng: np.random.Generator, now_ns: int) -> None:
    """Let the next thing happen to a request, or the same once more."""
    match int(rng.integers(0, 4)):
        case 0:
            one.admitted(sent, now_ns)
        case 1:
            one.first_token(sent, now_ns)
        case 2:
            one.finished(sent, Used(sent.tokens, int(rng.integers(0, sent.tokens)), int(rng.integers(1, 90))), now_ns)
            one.finished(sent, Used(sent.tokens, 0, 1), now_ns)
        case _:
            one.gone(sent, now_ns)
            one.gone(sent, now_ns)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", list(Policy))
def test_a_log_replayed_gives_every_choice_again(folder: Path, policy: Policy, seed: int) -> None:
    log: list[bytes] = []
    live(decider(folder, policy=policy, shadow=Policy.POWER_OF_TWO, keep=log.append), seed, 400)
    assert len(log) > 1_000
    assert replay(small_fleet(), b"".join(log), folder) == []


@pytest.mark.parametrize("seed", range(5))
def test_no_count_is_left_when_every_request_has_ended(folder: Path, seed: int) -> None:
    one = decider(folder)
    for sent in live(one, seed, 500):
        one.gone(sent, 10**10)
    one.measured(0, Held(0, 0), 10**10)
    one.capacity(1, 1, 10**10)  # what is down is not looked at
    assert not one.sent
    assert not one.view.running.any()
    for name in LEVELS:
        assert one.view.pools[name].tolist() == [0, 0, 0, 0]
    assert not any(one._own.levels)
