"""Bytes out equal bytes in, however the upstream's bytes are split; in process, with transports that only keep."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offtake.route.answers import AnswerReader
from offtake.route.clock import Clock
from offtake.route.http1 import Limits
from offtake.route.seams import Outcome
from offtake.route.serve import Downstream, Server
from offtake.route.upstream import Link
from tests.route.fakes import ASK, SSE, FakeDesk, chunk, described
from tests.route.kept import Kept, Turned

TEXTS = st.lists(st.binary(min_size=1, max_size=60), max_size=12)
CUTS = st.lists(st.integers(0, 2000), max_size=20)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(places) if end > start]


def carried(
    answer: list[bytes], *, ask: bytes = ASK, turned: bool = False, closes: bool = False
) -> tuple[bytes, FakeDesk]:
    """Carry one answer from a link to a client, and return what the client was sent."""

    async def main() -> tuple[bytes, FakeDesk]:
        up = described(1)
        desk = FakeDesk([up])
        if turned:
            desk.translator = Turned
        server = Server(desk, Clock())
        out, sent = Kept(), Kept()
        pool = server._pools.of(up)
        link = Link(pool, Limits())
        link.connection_made(cast("asyncio.Transport", sent))
        pool.kept(link)
        mine = Downstream(server, server._works)
        mine.connection_made(cast("asyncio.Transport", out))
        mine.data_received(ask)
        for piece in answer:
            link.data_received(piece)
        if closes:
            link.eof_received()
            link.connection_lost(None)
        server._works.wheel.close()
        return out.written, desk

    return asyncio.run(main())


def body_of(answer: bytes) -> bytes:
    """Read a whole answer with the strict reader, and return its body."""
    reader = AnswerReader(Limits())
    reader.feed(answer)
    assert reader.done
    assert not reader.junk
    return reader.tail()


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, cuts=CUTS)
def test_a_chunked_body_is_passed_on_byte_for_byte(texts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(map(chunk, texts)) + b"0\r\n\r\n"
    out, desk = carried(pieces_of(SSE + body, cuts))
    assert out.partition(b"\r\n\r\n")[2] == body
    assert desk.ends[0][:2] == (Outcome.SERVED, b"".join(texts))


@settings(max_examples=40, deadline=None)
@given(body=st.binary(max_size=300), cuts=CUTS)
def test_a_body_of_known_length_is_passed_on_byte_for_byte(body: bytes, cuts: list[int]) -> None:
    out, desk = carried(pieces_of(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body, cuts))
    assert out.partition(b"\r\n\r\n")[2] == body
    assert desk.ends[0][:2] == (Outcome.SERVED, body)


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS, cuts=CUTS, closes=st.booleans())
def test_a_body_that_is_turned_or_ends_with_the_connection_arrives_whole(
    texts: list[bytes], cuts: list[int], closes: bool
) -> None:
    body = b"".join(texts)
    if closes:
        out, _ = carried(pieces_of(b"HTTP/1.1 200 OK\r\n\r\n" + body, cuts), closes=True)
        assert body_of(out) == body
    else:
        out, _ = carried(pieces_of(SSE + b"".join(map(chunk, texts)) + b"0\r\n\r\n", cuts), turned=True)
        assert body_of(out) == body.upper()


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS, cuts=CUTS)
def test_a_client_of_http_1_0_gets_the_body_without_chunks(texts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(map(chunk, texts)) + b"0\r\n\r\n"
    out, _ = carried(pieces_of(SSE + body, cuts), ask=ASK.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert out.partition(b"\r\n\r\n")[2] == b"".join(texts)
    assert b"transfer-encoding" not in out.partition(b"\r\n\r\n")[0]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6), cut=st.integers(1, 400))
def test_a_body_that_is_cut_anywhere_never_ends_cleanly(texts: list[bytes], cut: int) -> None:
    whole = SSE + b"".join(map(chunk, texts)) + b"0\r\n\r\n"
    out, desk = carried([whole[: min(cut + len(SSE), len(whole) - 1)]], closes=True)
    reader = AnswerReader(Limits())
    reader.feed(out)
    assert desk.ends[0][0] in {Outcome.CUT, Outcome.FAILED}
    assert reader.status == 503 or not reader.done


@pytest.mark.parametrize("size", [100, 1_000, 100_000])
def test_of_a_long_body_only_its_end_is_kept(size: int) -> None:
    reader = AnswerReader(Limits())
    reader.feed(SSE)
    for number in range(5_000_000 // size):
        reader.feed(chunk(b"%08d" % number * (size // 8)))
    assert 16_384 <= len(reader.tail()) < 65_536 + 2 * size
    assert reader.count() == 5_000_000 // size
    assert reader.tail().endswith(b"%08d" % (5_000_000 // size - 1))


def test_pieces_of_one_large_read_all_reach_a_client_whose_body_is_turned() -> None:
    texts = [b"%04d" % number * 25 for number in range(3000)]
    whole = SSE + b"".join(map(chunk, texts)) + b"0\r\n\r\n"
    out, desk = carried([whole[:-5], whole[-5:]], turned=True)
    reader = AnswerReader(Limits())
    reader.feed(out)
    assert reader.done
    assert reader.since(0) == b"".join(texts)
    assert desk.ends[0][2] == 3000
