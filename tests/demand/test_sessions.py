from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from offtake.demand.generate import TraceSpec
from offtake.demand.measure import measure_sessions
from offtake.demand.profile import check_profile, load_profile
from offtake.demand.request import Requests, concat
from offtake.demand.sessions import ClosedLoop, closed_loop, mix_sessions, sessions, sessions_of
from offtake.demand.trace import read_trace
from offtake.errors import InputError
from tests.demand.real import real_trace

SEEDS = (1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow))


def spec(**changes: Any) -> TraceSpec:
    given: dict[str, Any] = {"rate_rps_mean": 10.0, "duration_s": 3_000.0, "seed": 7, **changes}
    return TraceSpec(profile=load_profile("mooncake-conversation"), **given)


def same(one: Requests, other: Requests) -> bool:
    pairs: Any = zip(one, other, strict=True)
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@cache
def made(seed: int) -> Requests:
    return concat(list(sessions(spec(seed=seed, duration_s=20_000.0, tenants=20))))


# ── what a session is ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("seed", SEEDS)
def test_the_rate_counts_requests_from_the_start_on(seed: int) -> None:
    per_part = np.bincount(made(seed).arrival_ns // (2_000 * 10**9), minlength=10)
    assert per_part == pytest.approx(20_000, rel=0.1)
    assert per_part.sum() == pytest.approx(200_000, rel=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_prompt_holds_the_one_before_it_its_answer_and_a_new_message(seed: int) -> None:
    requests = made(seed)
    order = np.lexsort((requests.arrival_ns, requests.session))
    session, prompt, answer = (
        each[order] for each in (requests.session, requests.input_tokens, requests.output_tokens)
    )
    opens = requests.think_ns[order] < 0
    later = np.flatnonzero(~opens)
    assert later.size > 50_000
    assert np.array_equal(session[later], session[later - 1])
    whole = prompt[later - 1] + answer[later - 1]
    fresh = requests.shared_tokens[order][later] == whole
    assert fresh.all()
    assert np.all(prompt[later] > whole)
    assert not requests.shared_tokens[order][opens].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_turn_becomes_known_when_it_could_come_at_the_earliest(seed: int) -> None:
    requests = made(seed)
    assert np.all(np.diff(requests.arrival_ns) >= 0)
    order = np.lexsort((requests.arrival_ns, requests.session))
    later = np.flatnonzero(requests.think_ns[order] >= 0)
    gaps_ns = np.diff(requests.arrival_ns[order])[later - 1]
    assert np.array_equal(gaps_ns, requests.think_ns[order][later])


@pytest.mark.parametrize("seed", SEEDS)
def test_turns_think_times_and_shared_prompts_are_as_measured(seed: int) -> None:
    found = measure_sessions(made(seed), (0.0, 10_000.0), tpot_s=0.0)
    figures = load_profile("mooncake-conversation").sessions
    assert figures is not None
    assert found.turns_mean() == pytest.approx(1.5778, rel=0.03)
    assert found.turn_share[0] == pytest.approx(0.718, abs=0.02)
    assert np.interp(0.5, found.think_probability, found.think_s) == pytest.approx(122.8, rel=0.05)
    assert found.message_tokens.quantile(0.9) == pytest.approx(4_099, rel=0.1)
    shared = made(seed).shared_tokens.sum() / made(seed).input_tokens.sum()
    assert shared == pytest.approx(0.366, abs=0.05)  # of the trace's blocks, 36.6 % can be reused


def test_a_session_ends_before_its_context_is_full() -> None:
    requests = concat(list(sessions(spec(), context_tokens_max=9_000)))
    total = requests.input_tokens.astype(np.int64) + requests.output_tokens
    assert 8_000 < total.max() <= 9_000
    assert requests.input_tokens.min() >= 1


def test_a_session_has_one_tenant_and_large_tenants_have_more() -> None:
    requests = made(1)
    order = np.argsort(requests.session, kind="stable")
    one = np.diff(requests.session[order]) == 0
    assert not np.diff(requests.tenant[order])[one].any()
    counts = np.bincount(requests.tenant, minlength=20)
    assert counts[0] / counts.sum() == pytest.approx(0.205, abs=0.02)


def test_users_of_a_profile_without_sessions_go_on_as_measured_from_its_own_prompts() -> None:
    chat = sessions_of(load_profile("chat"))
    assert chat.first_tokens == load_profile("chat").input_tokens
    assert chat.turns_mean() == pytest.approx(1.5778, abs=1e-3)


# ── the same seed, the same requests ─────────────────────────────────────────────────────────────────────────────────
def test_the_same_seed_gives_the_same_sessions_and_another_gives_others() -> None:
    once = concat(list(sessions(spec())))
    assert same(once, concat(list(sessions(spec()))))
    assert not same(once, concat(list(sessions(spec(seed=8)))))


def test_a_mixed_stream_is_sorted_and_its_sessions_stay_apart() -> None:
    mixed = concat(list(mix_sessions([spec(), spec(stream=1, workload=1)])))
    assert np.all(np.diff(mixed.arrival_ns) >= 0)
    assert not set(mixed.session[mixed.workload == 0].tolist()) & set(mixed.session[mixed.workload == 1].tolist())
    alone = concat(list(sessions(spec())))
    assert np.array_equal(mixed.input_tokens[mixed.workload == 0], alone.input_tokens)


def test_keeping_one_in_four_keeps_whole_sessions() -> None:
    requests = concat(list(sessions(spec(duration_s=20_000.0, keep_one_in=4))))
    assert requests.arrival_ns.size == pytest.approx(50_000, rel=0.06)
    assert measure_sessions(requests, (0.0, 10_000.0), tpot_s=0.0).turns_mean() == pytest.approx(1.5778, rel=0.05)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_embedded_figures_are_those_of_the_trace() -> None:
    requests = concat(list(read_trace(real_trace("mooncake-conversation.parquet"))))
    assert measure_sessions(requests, (600.0, 1_800.0)) == load_profile("mooncake-conversation").sessions


def test_a_trace_without_sessions_cannot_tell_how_users_go_on() -> None:
    with pytest.raises(InputError, match="no session goes on"):
        measure_sessions(made(1)._replace(session=np.full_like(made(1).session, -1)), (0.0, 1e9))


def test_figures_that_cannot_be_are_told() -> None:
    profile = load_profile("mooncake-conversation")
    assert profile.sessions is not None
    broken = msgspec.structs.replace(profile.sessions, turn_share=(0.0, -1.0), think_s=(3.0, 1.0))
    columns = [fault.column for fault in check_profile(msgspec.structs.replace(profile, sessions=broken), "p.json")]
    assert columns == ["turn_share", "think_s", "think_s"]


# ── closed loops ─────────────────────────────────────────────────────────────────────────────────────────────────────
def loop(**changes: Any) -> ClosedLoop:
    given: dict[str, Any] = {"profile": load_profile("chat"), "users": 8, "requests": 20, "seed": 1, **changes}
    return ClosedLoop(**given)


def test_a_closed_loop_begins_with_a_burst_and_each_user_goes_on_at_once() -> None:
    requests = concat(list(closed_loop(loop())))
    assert requests.arrival_ns.tolist() == [0] * 20
    assert requests.session.tolist() == [*range(8), *range(8), *range(4)]
    assert requests.think_ns.tolist() == [-1] * 8 + [0] * 12


def test_nominal_lengths_are_uniform_from_eight_tenths_to_the_whole() -> None:
    requests = concat(list(closed_loop(loop(requests=100_000, nominal=(1_000, 10)))))
    assert (requests.input_tokens.min(), requests.input_tokens.max()) == (800, 1_000)
    assert (requests.output_tokens.min(), requests.output_tokens.max()) == (8, 10)
    assert requests.input_tokens.mean() == pytest.approx(900, abs=1)
    assert requests.input_tokens.dtype == np.int32


def test_the_users_of_a_closed_loop_are_spread_over_the_regions_by_share() -> None:
    requests = concat(list(closed_loop(loop(region_share=(0.25, 0.75), users=8))))
    assert requests.region[:8].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("users, requests", [(0, 5), (6, 5)])
def test_a_closed_loop_without_users_or_with_too_few_requests_is_refused(users: int, requests: int) -> None:
    with pytest.raises(InputError, match="--closed-loop"):
        closed_loop(loop(users=users, requests=requests))
