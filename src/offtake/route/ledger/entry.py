"""Describe what is kept of a request: what was known when it was sent, and what was known when it ended.

Comes in: nothing; these are the shapes. A request's words are never among them. Times are nanoseconds since 1970, costs
US dollars, tokens as the provider counts them where ``counted`` is false. ``request_id`` is the key: whatever is
written twice is kept once.
"""

from __future__ import annotations

import msgspec


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """Hold what is known of a request before it is sent anywhere."""

    request_id: str  #: Name of the request, as the client was told.
    arrival_ns: int  #: When it was whole at the router.
    tenant: str  #: Who asked.
    key: str  #: Name of the key, never the key.
    workload: str  #: Of the fleet.
    call: str  #: `chat`, `responses`, `completions`, `embeddings`, `messages` or `count_tokens`.
    model_asked: str  #: As the client named it.
    region: str  #: User region of the router.
    stream: bool  #: Whether the answer was to come piece by piece.
    session: int  #: The same for all turns of a talk; -1: it stands alone.
    input_tokens: int  #: Of the prompt, estimated from its bytes.
    output_tokens_max: int  #: As asked; 0: it does not say.


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Hold what is known of a request once it has ended."""

    request_id: str  #: Name of the request, as the client was told.
    end_ns: int  #: When it ended.
    first_ns: int  #: First byte of the answer's body; 0: there was none.
    outcome: str  #: Name of an ``Outcome`` in lower case.
    reason: str  #: Why it was not served; empty where it was.
    status: int  #: As the client saw it; 0: nothing was sent.
    pool: str  #: That answered, or was tried last; empty: none.
    upstream: str  #: Of the pool.
    contract: str  #: Offers that bring the pool's capacity, joined by `+`.
    model: str  #: That served.
    attempts: int  #: Times that it was sent.
    input_tokens: int  #: Of the prompt, cached ones among them.
    output_tokens: int  #: Of the answer.
    cached_tokens: int  #: Of the prompt, not read again.
    counted: bool  #: Whether the router counted the tokens, because the provider did not say.
    cost_usd: float  #: By the contract: what is paid because it was served.
    bid_usd: float  #: Price at the decision of what the request takes at its pool.
    margin_usd: float  #: What it was worth beyond its price and cost.
    policy: str  #: That chose the pool.


Record = Opened | Closed
