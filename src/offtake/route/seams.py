"""Name what the parts of the router hand to each other: the bytes, the desk that decides, and the ledger.

The *bytes* (``serve``, ``upstream``) own sockets, parsers, timers and back-pressure, and know no policy. The *desk*
owns keys, policy, limits and ledger, and knows no socket. They meet in one ``Case`` per request and in ``Desk``, whose
every method is plain, quick and never waits. Times are nanoseconds of the router's own clock, which never goes back.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from ssl import SSLContext
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]  #: names in lower case, values as they came

NOTHING = -1  #: no tenant, no pool, no session, no time yet


class Dialect(IntEnum):
    """Name the two ways in which clients and upstreams speak."""

    OPENAI = 0
    ANTHROPIC = 1


class Call(IntEnum):
    """Name what a client may ask for that an upstream must answer."""

    CHAT = 0  # POST /v1/chat/completions
    RESPONSES = 1  # POST /v1/responses
    COMPLETIONS = 2  # POST /v1/completions
    EMBEDDINGS = 3  # POST /v1/embeddings
    MESSAGES = 4  # POST /v1/messages
    COUNT_TOKENS = 5  # POST /v1/messages/count_tokens


class Failure(IntEnum):
    """Say how an attempt at an upstream failed before its answer was whole."""

    UNREACHABLE = 0  # refused, no route, TLS not agreed
    RESET = 1  # the connection ended before the answer did
    CONNECT_TIME = 2
    FIRST_TIME = 3  # nothing came in time
    BETWEEN_TIME = 4  # it stopped in the middle
    TOTAL_TIME = 5
    MALFORMED = 6  # not HTTP, or framed in two ways
    TOO_LARGE = 7
    STATUS = 8  # 429 or 5xx: overloaded, or broken


class Outcome(IntEnum):
    """Say how a request ended, as the ledger keeps it."""

    OPEN = 0  # it has not ended; after a crash recovery makes it LOST
    SERVED = 1
    REFUSED = 2  # by the router: policy, limits, no capacity
    FAILED = 3  # every attempt failed before the first byte
    CUT = 4  # the upstream failed after the first byte
    LEFT = 5  # the client left
    FAULTY = 6  # the upstream found the request at fault (4xx)
    LOST = 7  # the router died while it was open


class Leave(IntEnum):
    """Say what to do with an upstream whose client left; it is a term of the contract."""

    ABORT = 0  # our own chips: stop them at once
    DRAIN = 1  # a vendor that bills the rest anyway: read to the end and book it


class Head(NamedTuple):
    """Hold the head of a request; ``path`` is without the query."""

    method: bytes
    path: bytes
    query: bytes
    headers: Headers


class Reply(NamedTuple):
    """Hold a whole answer that the router itself gives; length and date are added when it is sent."""

    status: int
    headers: Headers
    body: bytes


class Feed(NamedTuple):
    """Hold an answer that goes on: ``begin(send)`` is called once with the sender, and returns what ends it."""

    headers: Headers
    begin: Callable[[Callable[[bytes], None]], Callable[[], None]]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the time limits of one attempt, nanoseconds."""

    connect_ns: int
    first_ns: int  #: From the last byte of the request to the first byte of the answer's body.
    between_ns: int
    total_ns: int


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one address that serves a pool; there is no other place to which a request can go."""

    pool: int  #: Index in the fleet.
    name: str
    host: str
    port: int
    path: bytes  #: What stands before `/v1/…`, without a last slash.
    dialect: Dialect
    model: str  #: What the upstream calls the model.
    headers: Headers  #: Its credentials; never logged, never echoed.
    times: Times
    leave: Leave = Leave.ABORT
    tls: SSLContext | None = None
    connections_max: int = 1024
    health: bytes = b""  #: Path that answers 200 while it is well; empty: none.
    metrics: bytes = b""  #: Path of its engine's metrics; empty: none.
    asks_usage: bool = False  #: An OpenAI stream is asked for its usage though its client did not.


class Translator(Protocol):
    """Turn an answer of the upstream's dialect into the client's, as it comes; what cannot be said was refused."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body and return what can be passed on by now."""

    def close(self) -> bytes:
        """Return what is left at the end of the body."""


class Sending(NamedTuple):
    """Hold one attempt: where it goes, its bytes, and how its answer is turned, if it is."""

    upstream: Upstream
    head: bytes  #: Request line and headers, with their last empty line; the body's length is among them.
    body: bytes
    translator: Translator | None = None
    hedge_ns: int = NOTHING  #: when `Desk.hedge` is asked, if the answer's body has not begun by then


class Hold(NamedTuple):
    """Say that a request waits at the router; ``Desk.place`` is asked again at ``until_ns`` or when it is woken."""

    until_ns: int


class Pass(NamedTuple):
    """Say that the upstream's answer goes to the client, under this head.

    The head is a status line and headers, each with its line end, and no empty line. The bytes add what they alone
    know: ``content-length`` or ``transfer-encoding``, and ``connection``; none of these may be in it.
    ``http1.head_of`` writes one.
    """

    head: bytes


class Case:
    """Hold one request from arrival to the ledger. The desk fills it; the bytes read it and keep ``wake``."""

    __slots__ = (
        "arrival_ns",
        "attempts",
        "bid_usd",
        "body",
        "call",
        "dialect",
        "dropped",
        "first_ns",
        "head",
        "input_tokens",
        "last_ns",
        "margin_usd",
        "mark",
        "model",
        "output_tokens_max",
        "pool",
        "request_id",
        "session",
        "status",
        "stream",
        "tenant",
        "tried",
        "upstream",
        "wake",
        "workload",
    )

    def __init__(self, request_id: str, head: Head, body: bytes, arrival_ns: int) -> None:
        self.request_id = request_id
        self.head = head
        self.body = body  #: let go by the bytes once a part of the answer was passed on
        self.arrival_ns = arrival_ns
        self.last_ns = arrival_ns  #: until when it may still wait
        self.first_ns = NOTHING  #: of the answer's body
        self.call, self.dialect, self.stream = Call.CHAT, Dialect.OPENAI, False
        self.model = ""  #: as the client named it
        self.tenant = self.workload = self.session = self.pool = NOTHING
        self.input_tokens, self.output_tokens_max = 0, 0
        self.attempts, self.status = 0, 0
        self.margin_usd = self.bid_usd = 0.0
        self.tried: tuple[int, ...] = ()  #: pools of failed attempts
        self.dropped: tuple[str, ...] = ()  #: hints that its upstream's dialect has no words for
        self.upstream: Upstream | None = None
        self.wake: Callable[[], None] | None = None  #: set while it waits
        self.mark: object = None  #: the desk's own


Step: TypeAlias = Sending | Hold | Reply  #: what can be done with a request of which no byte was answered


class Desk(Protocol):
    """Decide about requests; every method returns at once. What it returns is carried out by the bytes."""

    def arrived(self, head: Head, body: bytes, now_ns: int) -> Case | Reply | Feed:
        """Take a whole request: know its caller, what it asks for and of whom; or answer it at once."""

    def place(self, case: Case, now_ns: int) -> Step:
        """Find a pool for a request that has none, or let it wait, or refuse it. Its open row is in the ledger then."""

    def heard(self, case: Case, status: int, headers: Headers, now_ns: int) -> Pass | Step:
        """Judge the head of an answer before anything of it is passed on."""

    def first(self, case: Case, now_ns: int) -> None:
        """Learn that the first byte of the body came."""

    def failed(self, case: Case, failure: Failure, now_ns: int) -> Step:
        """Learn that an attempt failed before the first byte was passed on; perhaps try another."""

    def hedge(self, case: Case, now_ns: int) -> Sending | None:
        """Find a second pool for a request whose answer is late; None if it may have none."""

    def hedged(self, case: Case, now_ns: int, *, won: bool) -> None:
        """Learn whether the second attempt is the one whose answer goes on; the other is given up."""

    def ended(self, case: Case, outcome: Outcome, tail: bytes, chunks: int, now_ns: int) -> bool:
        """Close the request before its last bytes are passed on; False if its row could not be kept.

        ``tail`` is the upstream's body, or its first 2 kB and its last 16 kB, ``chunks`` how many pieces it came in.
        It is called exactly once for each case that ``arrived`` returned.
        """
