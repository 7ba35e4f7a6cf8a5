from __future__ import annotations

import pytest

from offtake.route.seams import Failure, Outcome
from tests.route.fakes import ASK, OK, PAGE, SSE, FakeDesk, Script, chunk, client, good, once, serving, upstream
from tests.route.loops import Run, run

__all__ = ["run"]


def test_a_json_answer_comes_back_as_it_was(run: Run) -> None:
    async def main() -> None:
        async with upstream(good(OK)) as (up, _), serving(desk := FakeDesk([up])) as server, client(server) as mine:
            for _ in range(3):
                await mine.ask(ASK)
                status, headers, body = await mine.answer()
                assert (status, headers[b"content-length"], body) == (200, b"2", b"{}")
            assert [entry[0] for entry in desk.log] == ["place", "heard", "first", "ended"] * 3
            assert desk.ends == [(Outcome.SERVED, b"{}", 1)] * 3

    run(main)


def test_a_stream_comes_back_chunk_by_chunk(run: Run) -> None:
    async def main() -> None:
        events = [b"data: %d\n\n" % i for i in range(5)]
        script = once(SSE, *map(chunk, events), b"0\r\n\r\n", pause_s=0.01)
        async with upstream(script) as (up, _), serving(desk := FakeDesk([up])) as server, client(server) as mine:
            await mine.ask(ASK)
            assert (await mine.answer())[2] == b"".join(events)
            assert desk.ends == [(Outcome.SERVED, b"".join(events), 5)]

    run(main)


def test_the_desks_own_pages_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with upstream(good(OK)) as (up, _), serving(FakeDesk([up])) as server, client(server) as mine:
            await mine.ask(ASK + PAGE + ASK + b"HEAD /page HTTP/1.1\r\nhost: a\r\n\r\n" + PAGE)
            bodies = [(await mine.answer())[2] for _ in range(3)]
            assert bodies == [b"{}", b"hello", b"{}"]
            head = await mine.reader.readuntil(b"\r\n\r\n")
            assert b"content-length: 5\r\n" in head
            assert (await mine.answer())[2] == b"hello"

    run(main)


@pytest.mark.parametrize(
    "first, failure",
    [
        (once(then="reset"), Failure.RESET),
        (once(SSE, then="close"), Failure.RESET),
        (once(b"HTTP/1.1 200 OK\r\ncontent-le", then="close"), Failure.RESET),
        (once(b"garbage\r\n\r\n"), Failure.MALFORMED),
        (once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n"), Failure.MALFORMED),
        (once(OK.replace(b"{}", b"{}{}")[:-2] + b"HTTP/1.1 200 OK\r\n\r\n", then="close"), None),
    ],
)
def test_what_fails_before_the_first_byte_is_tried_elsewhere(run: Run, first: Script, failure: Failure | None) -> None:
    async def main() -> None:
        async with (
            upstream(first) as (bad, _),
            upstream(good(OK)) as (up, _),
            serving(desk := FakeDesk([bad, up])) as server,
            client(server) as mine,
        ):
            await mine.ask(ASK)
            assert (await mine.answer())[::2] == (200, b"{}")
            assert [entry[1] for entry in desk.log if entry[0] == "failed"] == [failure] * (failure is not None)
            assert [end[0] for end in desk.ends] == [Outcome.SERVED]

    run(main)


def test_an_answer_that_breaks_after_the_first_byte_never_ends_cleanly(run: Run) -> None:
    async def main() -> None:
        script = once(SSE + chunk(b"data: 1\n\n"), then="reset")
        async with upstream(script) as (up, _), serving(desk := FakeDesk([up, up])) as server, client(server) as mine:
            await mine.ask(ASK)
            assert not (await mine.read()).endswith(b"0\r\n\r\n")
            assert desk.ends == [(Outcome.CUT, b"data: 1\n\n", 1)]

    run(main)


def test_no_clean_end_is_passed_on_when_the_row_could_not_be_kept(run: Run) -> None:
    async def main() -> None:
        script = once(SSE, chunk(b"data: 1\n\n"), b"0\r\n\r\n", pause_s=0.02)
        async with upstream(script) as (up, _), serving(desk := FakeDesk([up])) as server, client(server) as mine:
            desk.kept = False
            await mine.ask(ASK)
            assert not (await mine.read()).endswith(b"0\r\n\r\n")
            assert [end[0] for end in desk.ends] == [Outcome.SERVED]

    run(main)
