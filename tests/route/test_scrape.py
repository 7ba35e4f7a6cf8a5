from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from offtake.route.clock import Clock
from offtake.route.columns import Host
from offtake.route.decider import Held
from offtake.route.desk import RequestDesk
from offtake.route.health import Health
from offtake.route.scrape import BODY_BYTES_MAX, PROBED, PROBED_WIDTH, WELL, Applier, Looker, held_of
from offtake.route.seams import Case, Failure, Reply, Sending, Upstream
from offtake.units import NS_PER_S
from tests.route.loops import Run, run
from tests.route.setup import desk_in
from tests.route.test_desk import come

__all__ = ["run"]
VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 5.0
"""
SGLANG = b"""sglang:num_running_reqs{model_name="m",tp_rank="0"} 8.0
sglang:num_running_reqs_offline_batch{model_name="m"} 90.0
sglang:num_queue_reqs{model_name="m"} 1.0
"""
TRTLLM = b"trtllm_num_requests_running 4\ntrtllm_num_requests_waiting 2\n"
TRITON = b"""nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 9
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 6
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 3
"""


@pytest.mark.parametrize(
    "text, held", [(VLLM, Held(5, 7)), (SGLANG, Held(8, 1)), (TRTLLM, Held(4, 2)), (TRITON, Held(6, 3))]
)
def test_the_load_of_each_engine_is_read(text: bytes, held: Held) -> None:
    assert held_of(text) == held
    assert held_of(b"python_info 1\n" + text + b"other_total 4\n") == held


@pytest.mark.parametrize(
    "text", [b"", b"up 1\n", b"vllm:num_requests_running", b"vllm:num_requests_running{ x\n", b"\xff"]
)
def test_what_tells_no_load_is_no_load_of_nothing(text: bytes) -> None:
    assert held_of(text) is None


Answering = Callable[[str], bytes]


@asynccontextmanager
async def engine(answering: Answering) -> AsyncIterator[tuple[Upstream, list[str]]]:
    """A server whose answer to each path is written by hand; an empty one never comes."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            asked.append(path)
            answer = answering(path)
            if not answer:
                await reader.read()
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield upstream(port), asked
    server.close()
    await server.wait_closed()


def upstream(port: int) -> Upstream:
    from offtake.route.seams import Dialect, Times

    times = Times(connect_ns=1, first_ns=1, between_ns=1, total_ns=1)
    return Upstream(
        pool=0,
        name="a-one#0",
        host="127.0.0.1",
        port=port,
        path=b"/base",
        dialect=Dialect.OPENAI,
        model="m",
        headers=((b"authorization", b"Bearer secret"),),
        times=times,
        health=b"/health",
        metrics=b"/metrics",
    )


def good(body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def placed(folder: Path, one: Upstream) -> tuple[RequestDesk, Host, Looker, Applier]:
    desk, host, clock = desk_in(folder), Host(folder / "state"), Clock()
    others = [each.upstream for each in desk.parts.health.by_name.values() if each.upstream.pool != 0]
    desk.parts.health = Health([one, *others], desk.parts.config.file.breaker)
    return desk, host, Looker(host, clock), Applier(host, clock, desk)


def test_an_engines_load_that_nobody_here_sent_reaches_the_policy(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        pages = {"/base/health": good(), "/base/metrics": chunked(VLLM)}
        async with engine(lambda path: pages[path]) as (one, asked):
            desk, _, looker, applier = placed(tmp_path, one)
            await looker.round([one], 0.5)
            assert asked == ["/base/health", "/base/metrics"]
            applier.apply(looker.clock.now_ns())
            row = desk.parts.decider.view.pools[0]
            assert (row["in_flight"], row["waiting"]) == (12, 7)
            applier.apply(looker.clock.now_ns() + 20 * NS_PER_S)  # it was never read again
            assert (row["in_flight"], row["waiting"]) == (0, 0)

    run(main)


def test_a_site_at_which_nobody_listens_is_left_at_the_first_look_and_tried_when_it_is_back(
    tmp_path: Path, run: Run
) -> None:
    async def main() -> None:
        async with engine(lambda _: good()) as (one, _):
            desk, host, looker, applier = placed(tmp_path, one)
            await looker.round([one], 0.5)
            applier.apply(0)
            assert desk.parts.health.pick(0, -1, 0) is one
            port = one.port
        gone = msgspec.structs.replace(one, port=port)
        await looker.round([gone], 0.5)
        applier.apply(1)
        assert desk.parts.health.pick(0, -1, 1) is None
        assert int(desk.parts.decider.view.pools["replicas_up"][0]) == 0
        host.row((PROBED, one.name), PROBED_WIDTH)[WELL] = 1.0
        host.row((PROBED, one.name), PROBED_WIDTH)[0] += 1.0
        applier.apply(2)
        assert desk.parts.health.pick(0, -1, 2) is one
        assert int(desk.parts.decider.view.pools["replicas_up"][0]) == 3

    run(main)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", b"banana", b"HTTP/1.1 200 OK\r\n"]
)
def test_a_health_path_that_fails_twice_leaves_its_upstream_alone(tmp_path: Path, run: Run, answer: bytes) -> None:
    async def main() -> None:
        async with engine(lambda _: answer) as (one, asked):
            desk, _, looker, applier = placed(tmp_path, one)
            found = []
            for now_ns in range(2):
                await looker.round([one], 0.1)
                applier.apply(now_ns)
                found.append(desk.parts.health.pick(0, -1, now_ns))
            assert found == [one, None]
            assert asked.count("/base/health") == 2

    run(main)


def test_metrics_without_an_end_are_not_read_to_their_end(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 * BODY_BYTES_MAX)
        async with engine(lambda path: good() if "health" in path else endless) as (one, _):
            desk, _, looker, applier = placed(tmp_path, one)
            await looker.round([one], 2.0)
            applier.apply(0)
            assert desk.parts.health.pick(0, -1, 0) is one
            assert desk.parts.decider.view.pools[0]["in_flight"] == 0

    run(main)


def test_after_slow_metrics_an_engine_is_left_in_peace(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with engine(lambda path: good() if "health" in path else b"") as (one, asked):
            _, _, looker, _ = placed(tmp_path, one)
            for _ in range(4):
                await looker.round([one], 0.1)
            assert asked.count("/base/metrics") == 1
            assert asked.count("/base/health") == 4

    run(main)


def test_an_upstream_whose_requests_failed_is_tried_with_one_when_its_health_path_is_well_again(tmp_path: Path) -> None:
    one = upstream(1)
    desk, *_ = placed(tmp_path, one)
    health = desk.parts.health
    assert health.failed(one, Failure.UNREACHABLE, 0)
    desk.probed(one, well=False, now_ns=1)
    assert health.pick(0, -1, 100 * NS_PER_S) is None
    desk.probed(one, well=True, now_ns=2)
    assert health.pick(0, -1, 2) is one
    assert health.began(one, 2)  # a trial
    assert health.pick(0, -1, 3) is None


def test_a_look_that_tells_nothing_new_does_not_end_the_wait_for_a_busy_upstream(tmp_path: Path) -> None:
    one = upstream(1)
    desk, *_ = placed(tmp_path, one)
    desk.parts.health.busy(one, 5 * NS_PER_S, 0)
    desk.probed(one, well=True, now_ns=1)
    assert desk.parts.health.pick(0, -1, NS_PER_S) is None


def test_requests_are_not_placed_where_a_look_found_nobody(tmp_path: Path) -> None:
    one = upstream(1)
    desk, *_ = placed(tmp_path, one)
    desk.probed(one, well=False, now_ns=0)
    for _ in range(50):
        case: Case = come(desk)
        step = desk.place(case, 0)
        assert isinstance(step, Sending | Reply)
        assert case.pool != 0
