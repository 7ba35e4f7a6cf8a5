"""A router on a socket before scripted upstreams, in a thread of its own, for clients of any kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from offtake.fleet import Fleet
from offtake.route.config import Breaker
from offtake.route.desk import RequestDesk
from offtake.route.health import Health
from offtake.route.http1 import Limits
from offtake.route.seams import Dialect, Times, Upstream
from offtake.route.serve import Server
from offtake.units import NS_PER_S
from tests.rehearse.fleets import small_fleet
from tests.route.setup import Pages, desk_in

TIMES = Times(connect_ns=2 * NS_PER_S, first_ns=5 * NS_PER_S, between_ns=5 * NS_PER_S, total_ns=20 * NS_PER_S)
KEYS = {
    Dialect.OPENAI: ((b"authorization", b"Bearer upstream-secret"),),
    Dialect.ANTHROPIC: ((b"x-api-key", b"upstream-secret"),),
}


@dataclass
class Got:
    """What an upstream was sent."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Answer:
    """What it says to it: a body, or pieces of one; after them it may wait for ever, or break off."""

    status: int = 200
    body: bytes = b""
    pieces: list[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    then: str = "end"


def json_answer(said: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, msgspec.json.encode(said), headers={"content-type": "application/json", **headers})


def stream_answer(*events: bytes, then: str = "end") -> Answer:
    return Answer(pieces=list(events), headers={"content-type": "text/event-stream"}, then=then)


Script = Callable[[Got], Answer]


@dataclass
class Wire:
    """A running router."""

    desk: RequestDesk
    port: int = 0
    got: list[Got] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)  #: what nobody caught
    gone: threading.Event = field(default_factory=threading.Event)  #: a client's leaving reached an upstream

    @property
    def book(self) -> Pages:
        pages = self.desk.parts.book
        assert isinstance(pages, Pages)
        return pages

    def closed(self) -> Any:
        """Wait for the end of the one request and return its record."""
        for _ in range(500):
            if self.book.shut:
                break
            threading.Event().wait(0.01)
        [record] = self.book.shut
        return record

    async def serve(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                got = await read_request(reader)
                self.got.append(got)
                await self.answer(script(got), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in answer.headers.items())]
        if answer.pieces is None:
            writer.write("\r\n".join([*lines, f"content-length: {len(answer.body)}", "", ""]).encode() + answer.body)
            return
        writer.write("\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode())
        for piece in answer.pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0)
        if answer.then == "end":
            writer.write(b"0\r\n\r\n")
        elif answer.then == "wait":
            try:
                await reader.read()
            finally:
                self.gone.set()


async def read_request(reader: asyncio.StreamReader) -> Got:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head[:-4].split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Got(line.split()[1], headers, body)


Pools = dict[str, tuple[Dialect, Script]]


def alike(dialect: Dialect, script: Script) -> Pools:
    """Let every pool of the small fleet speak alike."""
    return {pool.name: (dialect, script) for pool in small_fleet().pools}


@contextmanager
def routed(folder: Path, pools: Pools, fleet: Fleet | None = None, text: str | None = None) -> Iterator[Wire]:
    wire = Wire(desk_in(folder, fleet, text))
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        loop.set_exception_handler(lambda _loop, context: wire.errors.append(context))
        fleet_now = wire.desk.parts.fleet
        names = [pool.name for pool in fleet_now.pools]
        behind: list[asyncio.Server] = []
        upstreams: list[Upstream] = []
        for name, (dialect, script) in pools.items():

            def meet(reader: Any, writer: Any, script: Script = script) -> Awaitable[None]:
                return wire.serve(script, reader, writer)

            server = await asyncio.start_server(meet, "127.0.0.1", 0, limit=1_000_000)
            behind.append(server)
            upstreams.append(
                Upstream(
                    pool=names.index(name),
                    name=name,
                    host="127.0.0.1",
                    port=server.sockets[0].getsockname()[1],
                    path=b"/up",
                    dialect=dialect,
                    model=f"{fleet_now.pools[names.index(name)].model}-at-{name}",
                    headers=KEYS[dialect],
                    times=TIMES,
                    asks_usage=wire.desk.parts.config.file.upstream[len(upstreams)].ask_usage,
                )
            )
        wire.desk.parts.health = Health(upstreams, Breaker())
        router = Server(wire.desk, wire.desk.parts.clock, Limits(body_bytes=1_000_000))
        await router.start(("127.0.0.1", 0))
        wire.port = router.addresses[0][1]
        ready.set()
        await stop.wait()
        await router.drain(wire.desk.parts.clock.now_ns())
        for server in behind:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.01)

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(10)
    try:
        yield wire
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()
        assert wire.errors == []
