"""What clients do: they leave, lag, wait, ask too much; feeds and draining; each request ends once, nothing leaks."""

from __future__ import annotations

import asyncio

import pytest

from offtake.route.http1 import Limits
from offtake.route.seams import Hold, Leave, Outcome, Reply, Sending
from tests.route.fakes import (
    ASK,
    EVENT,
    MS,
    OK,
    PAGE,
    SSE,
    FakeDesk,
    Peer,
    chunk,
    client,
    failures,
    good,
    once,
    outcomes,
    recorded_feed,
    serving,
    until,
    upstream,
)
from tests.route.loops import Run, run

pytestmark = pytest.mark.slow

__all__ = ["run"]


# ── the client ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("before", [b"", SSE, SSE + chunk(EVENT)], ids=["nothing", "head", "stream"])
def test_a_client_that_leaves_stops_our_own_chips_at_once(run: Run, before: bytes) -> None:
    async def main() -> None:
        async with upstream(once(before)) as (up, met), serving(desk := FakeDesk([up, up])) as server:
            async with client(server) as mine:
                await mine.ask(ASK)
                await until(lambda: met.met == 1)
                await asyncio.sleep(0.05)
            await until(lambda: met.gone == 1)
            assert outcomes(desk) == [Outcome.LEFT]
            assert failures(desk) == []
            await until(lambda: server.connections == 0)

    run(main)


@pytest.mark.parametrize("before", [b"", SSE + chunk(EVENT)], ids=["nothing", "stream"])
def test_an_upstream_that_bills_the_rest_is_read_to_its_end_and_booked(run: Run, before: bytes) -> None:
    async def main() -> None:
        leaving = asyncio.Event()
        rest = (SSE if not before else b"") + chunk(EVENT) * 3 + chunk(b"usage") + b"0\r\n\r\n"

        async def goes_on(peer: Peer) -> None:
            await peer.request()
            await peer.say(before)
            await leaving.wait()
            await asyncio.sleep(0.05)
            await peer.say(rest)
            await peer.gone()

        async with upstream(goes_on, leave=Leave.DRAIN) as (up, met), serving(desk := FakeDesk([up])) as server:
            async with client(server) as mine:
                await mine.ask(ASK)
                await until(lambda: met.met == 1)
                await asyncio.sleep(0.05)
            leaving.set()
            await until(lambda: len(desk.ends) == 1)
            outcome, tail, chunks = desk.ends[0]
            assert (outcome, tail[-5:], chunks) == (Outcome.LEFT, b"usage", 5 if before else 4)
            assert server.connections == 0

    run(main)


def test_a_client_that_leaves_while_its_request_waits_ends_it(run: Run) -> None:
    async def main() -> None:
        async with serving(desk := FakeDesk([])) as server:
            desk.hold = lambda _case, now_ns: Hold(now_ns + 60_000 * MS)
            async with client(server) as mine:
                await mine.ask(ASK)
                await until(lambda: len(desk.cases) == 1)
            await until(lambda: outcomes(desk) == [Outcome.LEFT])
            assert desk.cases[0].wake is None

    run(main)


def test_a_slow_reader_holds_the_upstream_back_and_loses_nothing(run: Run) -> None:
    async def main() -> None:
        piece = b"x" * 65_536

        async def floods(peer: Peer) -> None:
            await peer.request()
            await peer.say(SSE)
            for _ in range(400):
                await peer.say(chunk(piece))
            await peer.say(b"0\r\n\r\n")
            await peer.gone()

        async with upstream(floods) as (up, _), serving(desk := FakeDesk([up])) as server, client(server) as mine:
            await mine.ask(ASK)
            await until(lambda: next(iter(server._clients)).paused)
            await asyncio.sleep(0.2)
            kept = next(iter(server._clients)).transport.get_write_buffer_size()
            assert 0 < kept < 600_000  # one read and what the loop lets wait; the rest is in the kernel or not yet sent
            assert (await mine.answer())[2] == piece * 400
            assert outcomes(desk) == [Outcome.SERVED]
            assert len(desk.ends[0][1]) < 400_000

    run(main)


def test_a_client_that_reads_nothing_for_too_long_has_left(run: Run) -> None:
    async def main() -> None:
        async def floods(peer: Peer) -> None:
            await peer.request()
            await peer.say(SSE)
            while True:
                await peer.say(chunk(b"x" * 65_536))

        async with (
            upstream(floods) as (up, met),
            serving(desk := FakeDesk([up]), Limits(stall_ns=100 * MS)) as server,
            client(server) as mine,
        ):
            await mine.ask(ASK)
            await until(lambda: met.gone == 1)
            assert outcomes(desk) == [Outcome.LEFT]

    run(main)


# ── waiting, feeds, draining ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_request_that_waits_is_placed_when_its_time_comes_or_when_it_is_woken(run: Run) -> None:
    async def main() -> None:
        async with upstream(good(OK)) as (up, _), serving(desk := FakeDesk([up, up])) as server:
            waits = [20 * MS, 60_000 * MS]
            desk.hold = lambda _case, now_ns: Hold(now_ns + waits.pop(0)) if waits else None
            async with client(server) as mine:
                await mine.ask(ASK)
                await until(lambda: not waits)
                wake = desk.cases[0].wake
                assert wake is not None
                wake()
                assert (await mine.answer())[0] == 200
            assert [entry[0] for entry in desk.log][:3] == ["place"] * 3

    run(main)


def test_a_feed_goes_on_until_the_client_leaves(run: Run) -> None:
    async def main() -> None:
        feed, senders, ended = recorded_feed()
        async with serving(desk := FakeDesk([])) as server:
            desk.replies[b"/feed"] = feed
            async with client(server) as mine:
                await mine.ask(PAGE.replace(b"/page", b"/feed"))
                await until(lambda: len(senders) == 1)
                senders[0](b"data: 1\n\n")
                head = await mine.reader.readuntil(b"\r\n\r\n")
                assert b"transfer-encoding: chunked\r\n" in head
                assert await mine.reader.readexactly(14) == chunk(b"data: 1\n\n")
            await until(lambda: ended == [True])
            senders[0](b"data: 2\n\n")
            assert server.connections == 0

    run(main)


def test_a_feed_drops_a_client_that_lags(run: Run) -> None:
    async def main() -> None:
        feed, senders, ended = recorded_feed()
        async with serving(desk := FakeDesk([]), Limits(lag_bytes=1_000_000)) as server, client(server) as mine:
            desk.replies[b"/feed"] = feed
            await mine.ask(PAGE.replace(b"/page", b"/feed"))
            await until(lambda: len(senders) == 1)
            for _ in range(1000):
                senders[0](b"x" * 65_536)
                await asyncio.sleep(0)
                if ended:
                    break
            assert ended == [True]

    run(main)


def test_draining_ends_idle_connections_finishes_streams_and_cuts_what_is_left(run: Run) -> None:
    async def main() -> None:
        short = once(SSE, *[chunk(EVENT)] * 5, b"0\r\n\r\n", pause_s=0.03)
        endless = once(SSE, *[chunk(EVENT)] * 400, pause_s=0.03)
        async with upstream(short, endless) as (up, met), serving(desk := FakeDesk([up])) as server:
            async with client(server) as idle, client(server) as first, client(server) as second:
                await first.ask(ASK)
                await until(lambda: met.met == 1)
                await second.ask(ASK)
                await until(lambda: desk.log.count(("first",)) == 2)
                server.stop_accepting()
                assert await idle.read() == b""
                assert (await first.answer())[2] == EVENT * 5
                assert await first.read() == b""
                assert await server.drain(server._clock.now_ns() + 100 * MS) == 1
                assert not (await second.read()).endswith(b"0\r\n\r\n")
            assert outcomes(desk) == [Outcome.SERVED, Outcome.CUT]
            with pytest.raises(IndexError):
                assert server.addresses[0]

    run(main)


def test_answers_say_that_the_connection_ends_while_draining(run: Run) -> None:
    async def main() -> None:
        script = once(OK[:-2], b"{}", pause_s=0.1)
        async with upstream(script) as (up, met), serving(FakeDesk([up])) as server, client(server) as mine:
            await mine.ask(ASK)
            await until(lambda: met.met == 1)
            server.stop_accepting()
            status, headers, body = await mine.answer()
            assert (status, headers[b"connection"], body) == (200, b"close", b"{}")
            assert await mine.read() == b""

    run(main)


# ── limits of requests ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "sent, status",
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 101 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"x" * 60_000), 413),
        (b"GET / HTTP/1.1\r\nhost: a\r\n", 408),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n", 408),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
    ],
    ids=["target", "head", "headers", "length", "chunks", "slow head", "slow body", "no host"],
)
def test_a_request_over_a_limit_is_refused_and_its_connection_ends(run: Run, sent: bytes, status: int) -> None:
    async def main() -> None:
        limits = Limits(body_bytes=20_000, head_ns=50 * MS, body_ns=50 * MS, linger_ns=50 * MS)
        async with serving(desk := FakeDesk([]), limits) as server, client(server) as mine:
            await mine.ask(PAGE + sent)
            assert (await mine.answer())[2] == b"hello"
            assert (await mine.answer())[0] == status
            assert await mine.read() == b""
            assert len(desk.heads) == 1
            await until(lambda: server.connections == 0)

    run(main)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nx: ", ASK[:-2] + b"{"], ids=["head", "body"])
def test_a_request_that_drips_is_not_waited_for_any_longer(run: Run, sent: bytes) -> None:
    async def main() -> None:
        limits = Limits(head_ns=150 * MS, body_ns=150 * MS, linger_ns=10 * MS)
        asked = sent.replace(b"content-length: 2", b"content-length: 2000")
        async with serving(FakeDesk([]), limits) as server, client(server) as mine:
            await mine.ask(asked)
            for _ in range(100):
                mine.writer.write(b"x")
                await asyncio.sleep(0.01)
                if mine.reader.at_eof() or server.connections == 0:
                    break
            assert (await mine.answer())[0] == 408

    run(main)


def test_one_connection_too_many_is_told_so(run: Run) -> None:
    async def main() -> None:
        async with serving(FakeDesk([]), Limits(connections=1)) as server, client(server) as first:
            await first.ask(PAGE)
            await first.answer()
            async with client(server) as second:
                assert (await second.answer())[0] == 503
            await first.ask(PAGE)
            assert (await first.answer())[0] == 200

    run(main)


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(run: Run) -> None:
    async def main() -> None:
        async with upstream(good(OK)) as (up, _), serving(FakeDesk([up])) as server, client(server) as mine:
            head, _, body = ASK.partition(b"\r\n\r\n")
            await mine.ask(head + b"\r\nexpect: 100-continue\r\n\r\n")
            assert await mine.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await mine.ask(body)
            assert (await mine.answer())[0] == 200

    run(main)


def test_more_requests_wait_for_a_connection_than_the_upstream_takes(run: Run) -> None:
    async def main() -> None:
        async with upstream(good(OK), connections_max=2) as (up, met), serving(desk := FakeDesk([up])) as server:

            async def one() -> None:
                async with client(server) as mine:
                    await mine.ask(ASK)
                    assert (await mine.answer())[0] == 200

            await asyncio.gather(*[one() for _ in range(20)])
            assert met.met == 2
            assert outcomes(desk) == [Outcome.SERVED] * 20

    run(main)


def test_a_header_that_holds_a_line_end_is_never_written(run: Run) -> None:
    async def main() -> None:
        async with serving(desk := FakeDesk([])) as server, client(server) as mine:
            desk.replies[b"/page"] = Reply(200, ((b"x", b"a\r\nset-cookie: b"),), b"")
            await mine.ask(PAGE)
            assert (await mine.answer())[0] == 500

    run(main)


def test_an_early_answer_does_not_leave_half_a_request_on_a_kept_connection(run: Run) -> None:
    async def main() -> None:
        async def answers_early(peer: Peer) -> None:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.say(OK)
            await peer.gone()

        async with upstream(answers_early) as (up, met), serving(desk := FakeDesk([up])) as server:
            async with client(server) as mine:
                body = b"x" * 20_000_000
                for _ in range(2):
                    await mine.ask(b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 20000000\r\n\r\n" + body)
                    assert (await mine.answer())[0] == 200
                assert met.met == 2
            assert outcomes(desk) == [Outcome.SERVED] * 2

    run(main)


def test_a_sending_carries_its_own_bytes(run: Run) -> None:
    async def main() -> None:
        got = []

        async def keeps(peer: Peer) -> None:
            got.append(await peer.request())
            await peer.say(OK)
            await peer.gone()

        async with upstream(keeps) as (up, _), serving(desk := FakeDesk([up])) as server, client(server) as mine:
            desk.hold = lambda _case, _now_ns: Sending(up, b"POST /y HTTP/1.1\r\ncontent-length: 3\r\n\r\n", b"abc")
            await mine.ask(ASK)
            await mine.answer()
            assert got == [b"POST /y HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"]

    run(main)
