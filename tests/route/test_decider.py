"""The live decider counts every request in and out once, and its log gives the same choices when it is replayed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from offtake.errors import InputError
from offtake.fleet import Fleet
from offtake.performance.library import StoredTable, save_table
from offtake.policy.view import NO_POOL, Event, EventKind, Policy, Request
from offtake.route.decider import Decider, Held, Sent, Settings, Used, Worker, session_of, week_hour
from offtake.route.decisions import Asked, entries_of
from offtake.route.replay import replay
from offtake.route.shared import Change, Others, Size, make_block
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
        without = (int(rng.integers(0, len(one.fleet.pools))),) if rng.random() < 0.1 else ()
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


def test_a_shadow_says_what_it_would_have_done_and_changes_nothing(folder: Path) -> None:
    log: list[bytes] = []
    bare = decider(folder)
    one = decider(folder, shadow=Policy.ROUND_ROBIN, keep=log.append)
    live(bare, 3, 300)
    live(one, 3, 300)
    for name in ("in_flight", "price_usd", "reach"):
        assert one.view.pools[name].tolist() == bare.view.pools[name].tolist()
    asked = [entry for entry in entries_of(b"".join(log)) if isinstance(entry, Asked)]
    pairs = [(entry.choice.pool, entry.other.pool) for entry in asked if entry.other is not None]
    assert len(pairs) == one.shadowed.sum() == 300
    assert one.shadowed[NO_POOL].sum() == sum(live == NO_POOL for live, _ in pairs)
    assert np.trace(one.shadowed) == sum(live == other for live, other in pairs)
    assert 0 < np.trace(one.shadowed) < 300


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


@pytest.mark.parametrize("seed", range(3))
def test_workers_of_one_host_see_the_same_load_and_learn_the_same(folder: Path, seed: int) -> None:
    size = Size(2, 4, 2)
    block = make_block(folder / "block", size)
    one, two = (decider(folder, worker=Worker(number, block)) for number in range(2))
    held = live(one, seed, 300)
    two.tick(900_000_000)
    for kind, name in enumerate(("in_flight", "waiting", "queued_tokens")):
        here = one.view.pools[name] - one._measured[:, :, kind].sum(axis=1)  # what engines told only the first
        assert two.view.pools[name].tolist() == here.tolist()
    assert two.view.pools["in_flight"].sum() > 0
    assert (two.view.pools["reach"] != 1.0).any()
    block.clear(0)
    two.tick(910_000_000)
    assert not two.view.running.any()
    assert held


def test_an_api_limit_is_used_up_by_what_other_workers_take_and_given_back_by_what_failed(folder: Path) -> None:
    block = make_block(folder / "block", Size(2, 4, 2))
    one, two = (decider(folder, worker=Worker(number, block)) for number in range(2))
    request = Request(0, 0, 1_000, 0, 1_020, -1, -1)
    sent = one.routed(request, API, 0)
    two.tick(0)
    minute_ns = 60_000_000_000
    assert one.view.pools["free_ns"][API] == 1_020 * minute_ns / 40_000 - minute_ns
    assert two.view.pools["free_ns"][API] == one.view.pools["free_ns"][API]
    one.gone(sent, 0)
    two.tick(0)
    assert one.view.pools["free_ns"][API] == two.view.pools["free_ns"][API] == -minute_ns
    again = one.routed(request, API, 0)
    one.finished(again, Used(1_000, 0, 500), 0)
    assert one.view.pools["free_ns"][API] == 1_500 * minute_ns / 40_000 - minute_ns


def test_what_engines_hold_and_nobody_here_sent_is_load_from_elsewhere(folder: Path) -> None:
    one = decider(folder)
    sent = [one.routed(Request(0, 0, 50, 0, 70, -1, -1), 0, 0) for _ in range(4)]
    one.measured(0, Held(10, 0), 1)
    assert one.view.running[0].tolist() == [10, 0]
    one.measured(0, Held(1, 0), 2)
    assert one.view.running[0].tolist() == [4, 0]
    one.measured(0, Held(3, 4), 3)
    assert one.view.pools["in_flight"][0] == 7
    assert one.view.pools["waiting"][0] == 4
    for each in sent:
        one.gone(each, 4)
    one.measured(0, Held(0, 0), 5)
    assert one.view.pools["in_flight"][0] == one.view.pools["waiting"][0] == one.view.pools["queued_tokens"][0] == 0
    one.measured(2, Held(6, 0), 6)
    assert one.view.running[2].tolist() == [6, 0]


@pytest.mark.parametrize("reads", [True, False])
def test_two_routers_without_a_store_fill_pools_only_once_if_they_read_the_engines(folder: Path, reads: bool) -> None:
    alone, *pair = (decider(folder) for _ in range(3))
    for each in (alone, *pair):
        each.capacity(API, 0, 0)

    def fill(routers: list[Decider]) -> int:
        for step in range(1_000):
            one, now_ns = routers[step % len(routers)], step * 1_000
            choice = one.choose(Request(0, 0, 50, 0, 70, -1, -1), now_ns)
            if choice.pool != NO_POOL:
                one.first_token(one.routed(Request(0, 0, 50, 0, 70, -1, -1), choice.pool, now_ns), now_ns)
            if reads and step % 10 == 0:
                held = [sum(sent.pool == pool for each in routers for sent in each.sent) for pool in range(3)]
                for pool, running in enumerate(held):
                    for each in routers:
                        each.measured(pool, Held(running, 0), now_ns)
        return sum(len(each.sent) for each in routers)

    most = fill([alone])
    assert most > 50
    held = fill(pair)
    assert held < 1.1 * most if reads else held > 1.9 * most


def test_the_prompt_of_an_answer_that_comes_whole_counts_as_read_when_it_must_have_been(folder: Path) -> None:
    one = decider(folder)
    sent = one.routed(Request(0, 0, 200, 0, 220, -1, -1), 0, 0, streamed=False)
    one.tick(1)
    assert one.view.pools["queued_tokens"][0] == 200
    one.tick(10**9)
    assert one.view.pools["queued_tokens"][0] == 0
    one.finished(sent, Used(200, 0, 20), 2 * 10**9)
    assert one.view.pools["in_flight"][0] == 0


def test_an_answer_that_comes_whole_is_late_only_if_it_cannot_have_kept_both_limits(folder: Path) -> None:
    log: list[bytes] = []
    one = decider(folder, keep=log.append)
    for whole_ms in (2_300, 2_500):  # 500 ms to the first token and 19 times 100 ms
        sent = one.routed(Request(0, 0, 60, 0, 80, -1, -1), 0, 0, streamed=False)
        one.finished(sent, Used(60, 0, 20), whole_ms * 1_000_000)
    told = [entry for entry in entries_of(b"".join(log)) if isinstance(entry, Event)]
    assert [event.tokens for event in told if event.kind == EventKind.FINISHED] == [0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_a_new_fleet_goes_on_with_what_is_in_flight_and_what_was_learned(folder: Path, seed: int) -> None:
    log: list[bytes] = []
    old = decider(folder)
    live(old, seed, 400)
    fleet = small_fleet()
    turned = msgspec.structs.replace(fleet, pools=fleet.pools[:0:-1])  # without the first, in another order
    new = decider(folder, turned, keep=log.append)
    count = [sum(fleet.pools[sent.pool].name == pool.name for sent in old.sent) for pool in turned.pools]
    every = list(old.sent)
    new.take_over(old, 10**10)
    assert not old.sent
    assert new.view.pools["in_flight"].tolist() == count
    assert new.view.pools["reach"].tolist() == old.view.pools["reach"][:0:-1].tolist()
    live(new, seed + 50, 200)
    assert replay(turned, b"".join(log), folder) == []
    for sent in (*every, *new.sent):
        new.gone(sent, 2 * 10**10)
    for pool in range(3):
        new.measured(pool, Held(0, 0), 2 * 10**10)
    assert not new.view.running.any()


def test_a_new_fleet_takes_its_load_from_the_old_block_to_its_own(folder: Path) -> None:
    blocks = [make_block(folder / name, Size(2, 4, 2)) for name in ("old", "new")]
    old, new = (decider(folder, worker=Worker(0, block)) for block in blocks)
    live(old, 1, 200)
    held = len(old.sent)
    new.take_over(old, 10**9)
    seen = [sum(one.in_flight for one in Others(block, 1).changes() if isinstance(one, Change)) for block in blocks]
    assert seen == [0, held]
    with pytest.raises(ValueError, match="counts for"):
        decider(folder, worker=Worker(0, make_block(folder / "other", Size(2, 5, 2))))


def test_who_takes_over_in_the_same_block_counts_what_is_there_once(folder: Path) -> None:
    block = make_block(folder / "one", Size(2, 4, 2))
    old = decider(folder, worker=Worker(0, block))
    live(old, 1, 200)
    new = decider(folder, worker=Worker(0, block, fresh=False))
    live(old, 2, 50)
    held = len(old.sent)
    new.take_over(old, 10**9)
    assert sum(one.in_flight for one in Others(block, 1).changes() if isinstance(one, Change)) == held > 0
    for sent in list(new.sent):
        new.gone(sent, 2 * 10**9)
    assert not block.others(1)[: block.size.levels].any()


def test_sessions_are_numbered_the_same_everywhere_and_apart_for_each_tenant() -> None:
    assert session_of(3, b"conversation-7") == session_of(3, b"conversation-7")
    assert session_of(3, b"conversation-7") != session_of(4, b"conversation-7")
    assert all(0 <= session_of(tenant, bytes([tenant])) < 2**31 - 1 for tenant in range(200))


def test_the_hour_of_the_week_is_counted_from_monday() -> None:
    assert week_hour(0) == 72.0  # 1 January 1970 was a Thursday
    assert week_hour(1_779_667_200_000_000_000) == 0.0  # Monday, 25 May 2026, 00:00 UTC


def test_a_log_of_another_fleet_is_refused(folder: Path) -> None:
    log: list[bytes] = []
    decider(folder, keep=log.append)
    other = msgspec.structs.replace(small_fleet(), name="other")
    with pytest.raises(InputError, match="another fleet"):
        replay(other, b"".join(log), folder)
    with pytest.raises(InputError, match="not a log"):
        replay(other, b"", folder)


def test_the_decider_loads_no_compiler_and_no_heavy_library() -> None:
    program = "import sys, offtake.route.decider; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "numpy" in loaded
    assert not loaded & {"numba", "scipy", "polars", "pydantic", "typer", "rich", "joblib", "highspy"}
