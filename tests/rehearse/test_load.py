from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from offtake.demand.request import Requests, chosen, concat, rebatch, requests_of
from offtake.demand.reshape import Shape
from offtake.errors import InputError
from offtake.fleet import Fleet
from offtake.rehearse.arrivals import checked
from offtake.rehearse.load import (
    Replay,
    Traced,
    Window,
    check_traces,
    check_window,
    contexts_of,
    generated,
    replayed,
    shared_out,
    traced,
)
from tests.rehearse.fleets import fleet, pool, small_deployments, small_fleet, workload

ONCE = Replay(seed=1)
HEAD = "arrival_s,input_tokens,output_tokens"


def written(folder: Path, name: str, head: str, rows: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def two_workloads() -> Fleet:
    one, other = workload("chat", region_share=[0.25, 0.75]), workload("code", region_share=[1.0, 0.0])
    return fleet([pool("A-1", "A", goodput_rps=[1.0, 1.0], allotment_rps=[[1.0, 1.0]])], workloads=[one, other])


def got(traces: list[Traced], replay: Replay = ONCE) -> Requests:
    return concat(list(replayed(traces, two_workloads(), replay)))


def same(one: Requests, other: Requests) -> bool:
    pairs: Any = zip(one, other, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# ── traces bound to workloads ────────────────────────────────────────────────────────────────────────────────────────
def test_several_traces_are_one_sorted_load_each_of_its_workload(tmp_path: Path) -> None:
    one = written(tmp_path, "a.csv", HEAD, [f"{row},10,1" for row in range(0, 100, 2)])
    other = written(tmp_path, "b.csv", HEAD, [f"{row},20,1" for row in range(1, 100, 2)])
    made = got([Traced(path=one, workload="code"), Traced(path=other, workload="chat")])
    assert made.arrival_ns.tolist() == [row * 10**9 for row in range(100)]
    assert made.workload.tolist() == [1, 0] * 50
    assert made.input_tokens.tolist() == [10, 20] * 50


def test_a_trace_that_names_workloads_and_regions_keeps_them(tmp_path: Path) -> None:
    rows = ["0,1,1,code,eu", "1,1,1,chat,us", "2,1,1,1,1"]
    path = written(tmp_path, "a.csv", f"{HEAD},workload,region", rows)
    made = got([Traced(path=path)])
    assert made.workload.tolist() == [1, 0, 1]
    assert made.region.tolist() == [1, 0, 1]
    assert got([Traced(path=path, workload="chat")]).workload.tolist() == [0, 0, 0]


def test_requests_without_a_region_are_spread_by_their_workloads_shares(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", f"{HEAD},workload", [f"{row},1,1,{row % 2}" for row in range(4_000)])
    made = got([Traced(path=path)])
    chat, code = (made.region[made.workload == index] for index in (0, 1))
    assert chat.mean() == pytest.approx(0.75, abs=0.04)
    assert code.max() == 0


def test_sessions_of_several_traces_stay_apart(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", f"{HEAD},session", [f"{row},1,1,{row % 3}" for row in range(9)])
    made = got([Traced(path=path, workload="chat"), Traced(path=path, workload="code")])
    chat, code = (set(made.session[made.workload == index].tolist()) for index in (0, 1))
    assert len(chat) == len(code) == 3
    assert not chat & code


def test_traces_are_reshaped_alike_and_the_same_seed_gives_the_same_requests(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", f"{HEAD},session", [f"{row},1,1,{row % 7}" for row in range(500)])
    shape = Shape(scale=1.5, shift_hours=(0.0, 0.02), loop_ns=1_000 * 10**9, end_ns=1_000 * 10**9)
    traces = [Traced(path=path, workload="chat"), Traced(path=path, workload="code")]
    made = got(traces, Replay(seed=4, shape=shape))
    assert made.arrival_ns.size == pytest.approx(2 * 1.5 * 1_000, rel=0.1)
    assert same(made, got(traces, Replay(seed=4, shape=shape)))
    assert not same(made, got(traces, Replay(seed=5, shape=shape)))


@pytest.mark.parametrize(
    "text, workload, name",
    [("chat=a.csv", "chat", "a.csv"), ("a.csv", "", "a.csv"), ("chat=x=y.csv", "chat", "x=y.csv")],
)
def test_a_trace_is_written_with_its_workload(text: str, workload: str, name: str) -> None:
    assert traced(text) == Traced(path=Path(name), workload=workload)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_faults_of_all_traces_and_of_their_shape_are_told_at_once(tmp_path: Path) -> None:
    one = written(tmp_path, "a.csv", HEAD, ["0,0,1", "1,1,1"])
    other = written(tmp_path, "b.csv", f"{HEAD},region", ["0,1,1,mars", "-1,1,1,0", "5,1,90,0"])
    traces = [
        Traced(path=one, workload="chat"),
        Traced(path=other, workload="code"),
        Traced(path=one, workload="chatt"),
        Traced(path=tmp_path / "none.csv"),
    ]
    replay = Replay(seed=1, shape=Shape(scale=-1.0), context_tokens_max=(100, 90))
    with pytest.raises(InputError) as found:
        check_traces(traces, two_workloads(), replay)
    told = [(fault.file.rsplit("/")[-1], fault.row, fault.column, fault.value) for fault in found.value.faults]
    assert told == [
        ("--scale", None, None, None),
        ("a.csv", 2, "input_tokens", "0"),
        ("b.csv", 2, "region", "mars"),
        ("b.csv", 3, "arrival_s", "-1"),
        ("b.csv", 4, "input_tokens", "1"),
        ("--trace", None, None, "chatt"),
        ("none.csv", None, None, None),
    ]
    assert found.value.faults[5].mend == "Did you mean 'chat'?"


def test_the_longest_request_is_that_of_any_pool_of_the_model() -> None:
    limits = {name: limit for name, (_, limit) in small_deployments(1).items()}
    chips = fleet(small_fleet().pools[:3])
    most = max(limits["one"].context_tokens_max, limits["two"].context_tokens_max)
    assert contexts_of(chips, limits) == (most, most)
    assert min(contexts_of(small_fleet(), limits)) > 10**9


def test_no_pool_holds_more_than_the_context_of_its_model() -> None:
    limits = {name: limit for name, (_, limit) in small_deployments(1).items()}
    short = [msgspec.structs.replace(one, context_tokens_max=77) for one in small_fleet().pools]
    assert contexts_of(fleet(short), limits) == (77, 77)


def test_a_trace_of_a_model_that_no_pool_serves_is_one_fault(tmp_path: Path) -> None:
    orphan = workload("orphan", model="nobody's")
    asked = fleet(small_fleet().pools, workloads=[*small_fleet().workloads, orphan])
    path = written(tmp_path, "a.csv", HEAD, ["1,10,10"])
    check_traces([Traced(path=path, workload="chat")], asked, ONCE)
    with pytest.raises(InputError, match="no pool of the fleet serves nobody's"):
        check_traces([Traced(path=path, workload="orphan")], asked, ONCE)


@pytest.mark.parametrize("surge", [float("inf"), 1e30, 0.0, float("nan")])
def test_a_surge_that_no_rate_can_follow_is_a_fault(surge: float) -> None:
    with pytest.raises(InputError, match="--surge"):
        check_window(Window(seed=1, surge=surge))


# ── made loads ───────────────────────────────────────────────────────────────────────────────────────────────────────
def talking() -> Fleet:
    chat = workload("chat", profile="chat", rate_rps=3.0)
    batch = workload("jobs", profile="coding", rate_rps=1.0, kind="batch")
    return fleet([], workloads=[chat, batch])


def made(**changes: Any) -> Requests:
    window: dict[str, Any] = {"seed": 3, "start_hour": 10.0, "hours": 1.0, **changes}
    return concat(list(generated(talking(), Window(**window))))


def test_people_have_many_customers_and_batch_work_one() -> None:
    requests = made()
    chat, jobs = (np.unique(requests.tenant[requests.workload == index]) for index in (0, 1))
    assert chat.max() < 100
    assert chat.size > 60
    assert jobs.tolist() == [100]


def test_with_sessions_people_go_on_and_batch_work_stays_single() -> None:
    requests = made(sessions=True)
    assert np.all(np.diff(requests.arrival_ns) >= 0)
    assert np.all(requests.session[requests.workload == 0] >= 0)
    assert np.all(requests.session[requests.workload == 1] == -1)
    alone = made()
    assert same(chosen(requests, requests.workload == 1), chosen(alone, alone.workload == 1))


def test_a_region_with_another_clock_follows_its_own_hours() -> None:
    night, day = made(start_hour=4.0), made(start_hour=4.0, shift_hours=(0.0, -10.0))
    counts = np.array([np.bincount(each.region, minlength=2) for each in (night, day)])
    assert counts[0, 0] == counts[1, 0]
    assert counts[1, 1] > 1.2 * counts[0, 1]


def test_a_closed_loop_shares_its_users_out_by_rate() -> None:
    requests = made(users=10)
    assert requests.arrival_ns.max() == 0
    assert np.bincount(requests.workload).tolist() == [80, 20]
    assert [np.unique(requests.session[requests.workload == index]).size for index in (0, 1)] == [8, 2]
    assert (requests.think_ns < 0).sum() == 10


@pytest.mark.parametrize(
    "count, weight, shares",
    [(10, [3.0, 1.0], [8, 2]), (1, [1.0, 1.0], [1, 0]), (7, [0.0, 0.0], [4, 3]), (0, [1.0], [0])],
)
def test_a_number_is_shared_out_whole(count: int, weight: list[float], shares: list[int]) -> None:
    assert shared_out(count, np.array(weight)) == shares


def test_a_window_that_cannot_be_is_told_with_every_fault() -> None:
    with pytest.raises(InputError) as found:
        check_window(Window(seed=1, hours=0.0, users=4, sessions=True, thin=2))
    assert [fault.file for fault in found.value.faults] == ["--hours", "--sessions", "--thin"]


# ── thinning ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thinning_a_load_keeps_or_leaves_out_whole_sessions(seed: int) -> None:
    count = 10_000
    tokens = np.ones(count, dtype=np.int32)
    whole = requests_of(np.arange(count), tokens, tokens)
    whole = whole._replace(session=np.where(np.arange(count) % 2, np.arange(count) // 10, -1).astype(np.int32))
    kept = concat(list(checked(rebatch([whole], 99), two_workloads(), thin=4, seed=seed)))
    in_session = kept.session >= 0
    assert set(np.bincount(kept.session[in_session]).tolist()) == {0, 5}
    assert in_session.sum() == pytest.approx(count / 8, rel=0.2)
    assert (~in_session).sum() == pytest.approx(count / 8, rel=0.15)
