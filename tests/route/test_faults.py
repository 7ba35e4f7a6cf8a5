"""What upstreams do wrong: each request ends once, no answer that broke ends cleanly, nothing leaks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from offtake.route.http1 import Limits
from offtake.route.seams import Failure, Outcome, Reply, Times
from tests.route.fakes import (
    ASK,
    EVENT,
    MS,
    OK,
    SSE,
    TIMES,
    FakeDesk,
    Peer,
    Script,
    chunk,
    client,
    described,
    failures,
    good,
    once,
    outcomes,
    serving,
    until,
    upstream,
)
from tests.route.loops import Run, run

pytestmark = pytest.mark.slow

__all__ = ["run"]

SOON = Times(connect_ns=5_000 * MS, first_ns=50 * MS, between_ns=50 * MS, total_ns=5_000 * MS)
LONG = Times(connect_ns=60_000 * MS, first_ns=60_000 * MS, between_ns=60_000 * MS, total_ns=60_000 * MS)


@contextmanager
def deaf() -> Iterator[int]:
    """A port of ours on which nobody listens, and that nobody else is given meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# ── before the first byte ────────────────────────────────────────────────────────────────────────────────────────────
def test_a_refused_connection_is_tried_elsewhere(run: Run) -> None:
    async def main() -> None:
        with deaf() as port:
            async with (
                upstream(good(OK)) as (up, _),
                serving(desk := FakeDesk([described(port), up])) as server,
                client(server) as mine,
            ):
                await mine.ask(ASK)
                assert (await mine.answer())[0] == 200
                assert failures(desk) == [Failure.UNREACHABLE]

    run(main)


def test_all_that_wait_for_an_upstream_that_refuses_connections_learn_it_at_once(run: Run) -> None:
    async def main() -> None:
        with deaf() as port:
            closed = described(port, connections_max=2, times=LONG)
            async with upstream(good(OK)) as (up, _), serving(desk := FakeDesk([closed, up])) as server:

                async def one() -> None:
                    async with client(server) as mine:
                        await mine.ask(ASK)
                        assert (await mine.answer())[0] == 200

                await asyncio.gather(*[one() for _ in range(10)])
                assert failures(desk) == [Failure.UNREACHABLE] * 10

    run(main)


@pytest.mark.parametrize(
    "script, failure",
    [
        (once(), Failure.FIRST_TIME),
        (once(SSE), Failure.FIRST_TIME),
        (once(b"HTTP/1.1 200 OK\r\nx: y\r\n", pause_s=0.01), Failure.FIRST_TIME),
    ],
    ids=["nothing", "a head alone", "half a head"],
)
def test_an_upstream_that_hangs_before_the_first_byte_is_left_for_another(
    run: Run, script: Script, failure: Failure
) -> None:
    async def main() -> None:
        async with (
            upstream(script, times=SOON) as (slow, hung),
            upstream(good(OK)) as (up, _),
            serving(desk := FakeDesk([slow, up])) as server,
            client(server) as mine,
        ):
            await mine.ask(ASK)
            assert (await mine.answer())[0] == 200
            assert failures(desk) == [failure]
            await until(lambda: hung.gone == 1)

    run(main)


def test_when_every_attempt_failed_the_client_is_told_and_the_case_ends_once(run: Run) -> None:
    async def main() -> None:
        async with upstream(once(then="reset")) as (up, _), serving(desk := FakeDesk([up, up])) as server:
            async with client(server) as mine:
                await mine.ask(ASK)
                assert (await mine.answer())[::2] == (503, b"no upstream")
            assert failures(desk) == [Failure.RESET] * 2
            assert outcomes(desk) == [Outcome.FAILED]

    run(main)


@pytest.mark.parametrize("status, outcome", [(400, Outcome.FAULTY), (429, Outcome.FAILED), (500, Outcome.FAILED)])
def test_the_desk_may_answer_in_place_of_an_upstream(run: Run, status: int, outcome: Outcome) -> None:
    async def main() -> None:
        bad = OK.replace(b"200 OK", b"%d Bad" % status)
        async with upstream(good(bad)) as (up, met), serving(desk := FakeDesk([up])) as server, client(server) as mine:
            desk.judge = lambda _case, status: Reply(status, (), b"mine")
            for _ in range(3):
                desk.cases.clear()
                await mine.ask(ASK)
                assert (await mine.answer())[::2] == (status, b"mine")
            assert outcomes(desk) == [outcome] * 3
            assert met.met == 1  # the whole answer was read, so its connection is used again

    run(main)


def test_an_overloaded_upstream_is_left_for_another(run: Run) -> None:
    async def main() -> None:
        busy = OK.replace(b"200 OK", b"429 Too Many Requests")
        async with (
            upstream(good(busy)) as (first, _),
            upstream(good(OK)) as (second, _),
            serving(desk := FakeDesk([first, second])) as server,
            client(server) as mine,
        ):
            desk.judge = lambda case, status: desk.send(case) if status == 429 else None
            await mine.ask(ASK)
            assert (await mine.answer())[0] == 200
            assert outcomes(desk) == [Outcome.SERVED]

    run(main)


def test_a_kept_connection_that_died_is_replaced_once_without_a_word_to_the_desk(run: Run) -> None:
    async def main() -> None:
        async def dies_when_asked_again(peer: Peer) -> None:
            await peer.request()
            await peer.say(OK)
            await peer.request()
            peer.reset()

        async with upstream(dies_when_asked_again) as (up, met), serving(desk := FakeDesk([up])) as server:
            async with client(server) as mine:
                for _ in range(4):
                    await mine.ask(ASK)
                    assert (await mine.answer())[0] == 200
            assert failures(desk) == []
            assert met.met == 4

    run(main)


def test_a_kept_connection_that_dies_within_an_answers_head_is_a_failure(run: Run) -> None:
    async def main() -> None:
        async def dies_in_the_head(peer: Peer) -> None:
            await peer.request()
            await peer.say(OK)
            await peer.request()
            await peer.say(b"HTTP/1.1 200")
            peer.writer.close()

        async with upstream(dies_in_the_head) as (up, _), serving(desk := FakeDesk([up])) as server:
            async with client(server) as mine:
                await mine.ask(ASK)
                await mine.answer()
                await mine.ask(ASK)
                assert (await mine.answer())[0] == 503
            assert failures(desk) == [Failure.RESET]

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
        SSE + chunk(b"z" * 5000),
    ],
    ids=["length", "head", "chunk"],
)
def test_an_answer_over_its_limit_is_a_failure(run: Run, answer: bytes) -> None:
    async def main() -> None:
        async with (
            upstream(once(answer)) as (up, _),
            serving(desk := FakeDesk([up]), Limits(answer_body_bytes=4000)) as server,
            client(server) as mine,
        ):
            await mine.ask(ASK)
            assert (await mine.answer())[0] == 503
            assert failures(desk) == [Failure.TOO_LARGE]

    run(main)


# ── after the first byte ─────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "script",
    [
        once(SSE + chunk(EVENT), then="reset"),
        once(SSE + chunk(EVENT), then="close"),
        once(SSE + chunk(EVENT), b"zz\r\n", pause_s=0.02),
        once(SSE + chunk(EVENT)),
        once(SSE, *[chunk(EVENT)] * 20, pause_s=0.03),
        once(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + EVENT, then="close"),
        once(SSE + chunk(EVENT), b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", pause_s=0.02),
    ],
    ids=["reset", "truncated", "malformed", "hang", "slow drip over the total", "short of its length", "more than one"],
)
def test_a_broken_answer_is_cut_and_never_ends_cleanly(run: Run, script: Script) -> None:
    async def main() -> None:
        times = Times(connect_ns=5_000 * MS, first_ns=5_000 * MS, between_ns=100 * MS, total_ns=400 * MS)
        async with (
            upstream(script, times=times) as (up, met),
            serving(desk := FakeDesk([up, up])) as server,
            client(server) as mine,
        ):
            await mine.ask(ASK)
            got = await mine.read()
            assert EVENT in got or got == b"reset"
            assert not got.endswith(b"0\r\n\r\n")
            assert outcomes(desk) == [Outcome.CUT]
            assert desk.ends[0][1].startswith(EVENT)
            await until(lambda: met.gone == 1)
            assert server.connections == 0

    run(main)


def test_a_client_of_http_1_0_sees_a_reset_where_the_end_would_look_clean(run: Run) -> None:
    async def main() -> None:
        script = once(SSE + chunk(EVENT), then="reset")
        async with upstream(script) as (up, _), serving(FakeDesk([up])) as server, client(server) as mine:
            await mine.ask(ASK.replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert await mine.read() == b"reset"

    run(main)


def test_the_time_between_two_pieces_is_counted_anew_with_each(run: Run) -> None:
    async def main() -> None:
        times = Times(
            connect_ns=TIMES.connect_ns, first_ns=TIMES.first_ns, between_ns=150 * MS, total_ns=TIMES.total_ns
        )
        script = once(SSE, *[chunk(EVENT)] * 8, b"0\r\n\r\n", pause_s=0.05)
        async with upstream(script, times=times) as (up, _), serving(desk := FakeDesk([up])) as server:
            async with client(server) as mine:
                await mine.ask(ASK)
                assert (await mine.answer())[2] == EVENT * 8
            assert outcomes(desk) == [Outcome.SERVED]

    run(main)
