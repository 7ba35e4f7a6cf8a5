"""Serve with a desk that decides nothing: ``python -m benchmarks.route.bytes_alone PORT UPSTREAM_PORT``.

What is left of the router then are its sockets, strict parsers, timers and the passing on of bytes: no keys, no policy,
no limits, no ledger, no reading of bodies or usage.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus

from offtake.route.clock import Clock
from offtake.route.http1 import head_of, status_line
from offtake.route.loop import run
from offtake.route.seams import Case, Dialect, Failure, Head, Headers, Outcome, Pass, Reply, Sending, Times, Upstream
from offtake.route.serve import Server
from offtake.units import NS_PER_S

FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
TIMES = Times(connect_ns=2 * NS_PER_S, first_ns=60 * NS_PER_S, between_ns=60 * NS_PER_S, total_ns=900 * NS_PER_S)
FAILED = Reply(HTTPStatus.BAD_GATEWAY, (), b"")


class PlainDesk:
    """Send everything to one upstream."""

    def __init__(self, port: int) -> None:
        self.upstream = Upstream(
            pool=0,
            name="one",
            host="127.0.0.1",
            port=port,
            path=b"",
            dialect=Dialect.OPENAI,
            model="model",
            headers=(),
            times=TIMES,
            connections_max=20_000,
        )

    def arrived(self, head: Head, body: bytes, now_ns: int) -> Case | Reply:
        """Take it."""
        return Case("", head, body, now_ns)

    def place(self, case: Case, now_ns: int) -> Sending:
        """Send it."""
        del now_ns
        head, length = case.head, len(case.body)
        line = b"POST %b HTTP/1.1\r\n" % head.path
        passed = head_of(line, tuple([one for one in head.headers if one[0] not in FRAMING]))
        return Sending(self.upstream, b"%bcontent-length: %d\r\n\r\n" % (passed, length), case.body)

    def heard(self, case: Case, status: int, headers: Headers, now_ns: int) -> Pass:
        """Pass it on."""
        del case, now_ns
        return Pass(head_of(status_line(status), tuple([one for one in headers if one[0] not in FRAMING])))

    def first(self, case: Case, now_ns: int) -> None:
        """Learn nothing."""
        del case, now_ns

    def failed(self, case: Case, failure: Failure, now_ns: int) -> Reply:
        """Give up."""
        del case, failure, now_ns
        return FAILED

    def hedge(self, case: Case, now_ns: int) -> None:
        """Ask nobody else."""
        del case, now_ns

    def hedged(self, case: Case, now_ns: int, *, won: bool) -> None:
        """Learn nothing."""
        del case, now_ns, won

    def ended(self, case: Case, outcome: Outcome, tail: bytes, chunks: int, now_ns: int) -> bool:
        """Keep nothing."""
        del case, outcome, tail, chunks, now_ns
        return True


async def serve(port: int, upstream_port: int) -> None:
    """Serve until the process is ended."""
    server = Server(PlainDesk(upstream_port), Clock())
    await server.start(("127.0.0.1", port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(lambda: serve(int(sys.argv[1]), int(sys.argv[2])))
