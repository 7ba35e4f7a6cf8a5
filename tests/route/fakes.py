"""A desk that does as it is told, an upstream that follows a script, and a client that sends bytes and reads bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from offtake.route import http1
from offtake.route.clock import Clock
from offtake.route.seams import (
    Case,
    Dialect,
    Failure,
    Feed,
    Head,
    Headers,
    Leave,
    Outcome,
    Pass,
    Reply,
    Sending,
    Step,
    Times,
    Translator,
    Upstream,
)
from offtake.route.serve import Server

MS = 1_000_000
S = 1_000_000_000
HIDDEN = {b"connection", b"content-length", b"transfer-encoding", b"keep-alive"}
TIMES = Times(connect_ns=2 * S, first_ns=2 * S, between_ns=2 * S, total_ns=20 * S)

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
EVENT = b"data: 1\n\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ASK = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
PAGE = b"GET /page HTTP/1.1\r\nhost: a\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class FakeDesk:
    """Place every request on ``upstreams`` in turn, until they are used up; keep all it is told in ``log``."""

    def __init__(self, upstreams: list[Upstream]) -> None:
        self.upstreams = upstreams
        self.log: list[tuple[Any, ...]] = []
        self.ends: list[tuple[Outcome, bytes, int]] = []
        self.kept = True  # what ended() returns
        self.hold: Callable[[Case, int], Step | None] = lambda _case, _now_ns: None
        self.judge: Callable[[Case, int], Step | None] = lambda _case, _status: None
        self.translator: Callable[[], Translator | None] = lambda: None
        self.replies: dict[bytes, Reply | Feed] = {b"/page": Reply(200, ((b"x-page", b"1"),), b"hello")}
        self.cases: list[Case] = []
        self.closed: list[Case] = []
        self.times: list[int] = []  # of all calls
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []

    def arrived(self, head: Head, body: bytes, now_ns: int) -> Case | Reply | Feed:
        self.heads.append(head)
        self.bodies.append(body)
        if head.path in self.replies:
            return self.replies[head.path]
        case = Case(f"req_{len(self.cases)}", head, body, now_ns)
        self.cases.append(case)
        return case

    def place(self, case: Case, now_ns: int) -> Step:
        self.times.append(now_ns)
        self.log.append(("place",))
        return self.hold(case, now_ns) or self.send(case)

    def send(self, case: Case) -> Step:
        if case.attempts >= len(self.upstreams):
            return Reply(503, (), b"no upstream")
        upstream = self.upstreams[case.attempts]
        case.attempts += 1
        head = b"POST /x HTTP/1.1\r\nhost: up\r\ncontent-length: %d\r\n\r\n" % len(case.body)
        return Sending(upstream, head, case.body, self.translator())

    def heard(self, case: Case, status: int, headers: Headers, now_ns: int) -> Pass | Step:
        self.times.append(now_ns)
        self.log.append(("heard", status))
        step = self.judge(case, status)
        if step is not None:
            return step
        passed = tuple(header for header in headers if header[0] not in HIDDEN)
        return Pass(http1.head_of(http1.status_line(status), passed))

    def first(self, case: Case, now_ns: int) -> None:
        assert case not in self.closed
        self.times.append(now_ns)
        self.log.append(("first",))

    def failed(self, case: Case, failure: Failure, now_ns: int) -> Step:
        self.times.append(now_ns)
        self.log.append(("failed", failure))
        return self.send(case)

    def hedge(self, case: Case, now_ns: int) -> Sending | None:
        del case, now_ns
        return None

    def hedged(self, case: Case, now_ns: int, *, won: bool) -> None:
        del case, now_ns, won

    def ended(self, case: Case, outcome: Outcome, tail: bytes, chunks: int, now_ns: int) -> bool:
        assert case not in self.closed
        self.closed.append(case)
        self.times.append(now_ns)
        self.log.append(("ended", outcome))
        self.ends.append((outcome, tail, chunks))
        return self.kept


Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection at a scripted upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    async def say(self, *parts: bytes, pause_s: float = 0.0) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(pause_s)

    def reset(self) -> None:
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the router has ended the connection."""
        while await self.reader.read(65536):
            pass


@dataclass
class Scripted:
    """An upstream: each connection plays the next script, the last one again and again."""

    scripts: list[Script]
    met: int = 0
    gone: int = 0
    errors: list[AssertionError] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.met, len(self.scripts) - 1)]
        self.met += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await script(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except AssertionError as error:
            self.errors.append(error)
        finally:
            self.gone += 1
            writer.close()
            self.tasks.discard(task)


@asynccontextmanager
async def upstream(*scripts: Script, **changes: Any) -> AsyncIterator[tuple[Upstream, Scripted]]:
    scripted = Scripted(list(scripts))
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0, ssl=changes.pop("served_tls", None))
    port = server.sockets[0].getsockname()[1]
    try:
        yield described(port, **changes), scripted
    finally:
        server.close()
        for task in tuple(scripted.tasks):
            task.cancel()
        await asyncio.gather(*scripted.tasks, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert not scripted.errors


def described(port: int, **changes: Any) -> Upstream:
    given: dict[str, Any] = {
        "pool": 0,
        "name": f"up-{port}",
        "host": "127.0.0.1",
        "port": port,
        "path": b"",
        "dialect": Dialect.OPENAI,
        "model": "m",
        "headers": (),
        "times": TIMES,
        "leave": Leave.ABORT,
    }
    return Upstream(**given | changes)


class Client:
    """A client's connection; ``read`` returns everything until the router ends it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self) -> bytes:
        try:
            return await self.reader.read()
        except ConnectionError:
            return b"reset"

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Read one answer with its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head[:-4].split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        status = int(status_line.split()[1])
        if b"content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers[b"content-length"]))
        parts: list[bytes] = []
        while b"transfer-encoding" in headers:
            size = int(await self.reader.readline(), 16)
            parts.append((await self.reader.readexactly(size + 2))[:-2])
            if size == 0:
                break
        return status, headers, b"".join(parts)


@asynccontextmanager
async def serving(desk: FakeDesk, limits: http1.Limits | None = None, tls: Any = None) -> AsyncIterator[Server]:
    clock = Clock()
    server = Server(desk, clock, limits)
    await server.start(("127.0.0.1", 0), tls)
    try:
        yield server
    finally:
        await server.drain(clock.now_ns())
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client(server: Server, tls: Any = None) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*server.addresses[0], ssl=tls, limit=1_000_000)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0.01)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what must come, five seconds at most."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come")


def good(answer: bytes) -> Script:
    """Answer every request of a connection alike."""

    async def play(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(answer)

    return play


def once(*parts: bytes, pause_s: float = 0.0, then: str = "wait") -> Script:
    """Answer one request in parts, then wait for the router, close or reset."""

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(*parts, pause_s=pause_s)
        if then == "wait":
            await peer.gone()
        elif then == "reset":
            peer.reset()

    return play


def failures(desk: FakeDesk) -> list[Failure]:
    return [entry[1] for entry in desk.log if entry[0] == "failed"]


def outcomes(desk: FakeDesk) -> list[Outcome]:
    return [end[0] for end in desk.ends]


def recorded_feed() -> tuple[Feed, list[Callable[[bytes], None]], list[bool]]:
    senders: list[Callable[[bytes], None]] = []
    ended: list[bool] = []

    def begin(send: Callable[[bytes], None]) -> Callable[[], None]:
        senders.append(send)
        return lambda: ended.append(True)

    return Feed(((b"content-type", b"text/event-stream"),), begin), senders, ended
