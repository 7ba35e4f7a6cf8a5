"""Make requests of users who wait for an answer before they go on: sessions with think time, and closed loops.

A session begins as its profile's requests arrive, at the rate that brings as many requests in the mean. Each later
prompt is the one before it, its answer and a new message, so the context grows turn by turn and all but the message is
shared; a session ends before its context is full. A closed loop is a fixed number of users who do not think at all.

Comes in: :class:`~offtake.demand.generate.TraceSpec` or :class:`ClosedLoop`. Goes out: sorted batches. A later turn
has a think time, and its ``arrival_ns`` is the earliest that it can come: the begin and all think times. When
it does come depends on how fast it is answered, and is for the rehearsal to tell. The same seed makes the same
requests, however much is read of them. It must never know a clock or a fleet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from offtake.demand.generate import LengthDraw, TraceSpec, arrival_windows, check_spec, draw_tenants
from offtake.demand.profile import Profile, Sessions, load_profile
from offtake.demand.request import OPEN, Requests, count_of, merge, merge_streams, no_requests, reordered, until
from offtake.demand.reshape import renamed, window
from offtake.errors import Fault, InputError
from offtake.units import NS_PER_S, S_PER_HOUR

MEASURED = "mooncake-conversation"  #: the profile whose users are measured
CONTEXT_TOKENS_MAX = 131_072  #: (assumption) a session ends before its context is longer
WARM_UP_S = S_PER_HOUR  #: sessions that began this long before the start are under way at it
CLOSED_STREAM = 8  #: stream of random numbers of closed loops
ROWS = 65_536

Integers = NDArray[np.int64]


def sessions_of(profile: Profile) -> Sessions:
    """Return how the users of a profile go on.

    Where that was not measured they go on as in Mooncake's conversation trace, and begin with the profile's own
    prompts (assumption).
    """
    if profile.sessions is not None:
        return profile.sessions
    measured = load_profile(MEASURED).sessions
    if measured is None:
        raise InputError([Fault(MEASURED, "the profile does not tell how users go on", "Measure its sessions.")])
    return Sessions(
        turn_share=measured.turn_share,
        think_probability=measured.think_probability,
        think_s=measured.think_s,
        first_tokens=profile.input_tokens,
        message_tokens=measured.message_tokens,
    )


def sessions(spec: TraceSpec, context_tokens_max: int = CONTEXT_TOKENS_MAX) -> Iterator[Requests]:
    """Yield the requests of sessions, sorted, window by window; ``rate_rps_mean`` counts requests, not sessions.

    Sessions begin an hour before the start, so that their later turns are there from the start on. Their begins bunch
    as the profile's requests do (assumption). ``keep_one_in`` keeps whole sessions.

    Raises
    ------
    InputError
        When a figure of the specification is out of bounds.
    """
    check_spec(spec)
    early = replace(
        spec,
        rate_rps_mean=spec.rate_rps_mean / sessions_of(spec.profile).turns_mean(),
        duration_s=spec.duration_s + WARM_UP_S,
        start_hour_of_week=spec.start_hour_of_week - WARM_UP_S / S_PER_HOUR,
        curve=spec.curve and spec.curve._replace(time_s=spec.curve.time_s + WARM_UP_S),
    )
    return window(_sessions(early, context_tokens_max), WARM_UP_S * NS_PER_S, None)


def mix_sessions(specs: Sequence[TraceSpec], context_tokens_max: int = CONTEXT_TOKENS_MAX) -> Iterator[Requests]:
    """Yield the sessions of several streams as one sorted stream."""
    return merge_streams(
        [_renamed(sessions(spec, context_tokens_max), len(specs), place) for place, spec in enumerate(specs)]
    )


def _renamed(batches: Iterator[Requests], names: int, name: int) -> Iterator[Requests]:
    """Yield batches whose sessions are told apart from those of other streams."""
    return (renamed(batch, names, name) for batch in batches)


def _sessions(spec: TraceSpec, context_tokens_max: int) -> Iterator[Requests]:
    """Yield the turns of each window; those of its sessions that come later wait."""
    draw = _TurnDraw(spec, context_tokens_max)
    waiting = no_requests()
    for begin_ns, end_ns, random in arrival_windows(spec):
        ready, waiting = until(merge([waiting, draw.draw(begin_ns, random)]), end_ns)
        if count_of(ready):
            yield ready


class _TurnDraw:
    """Draw all turns of sessions that begin at given times."""

    def __init__(self, spec: TraceSpec, context_tokens_max: int) -> None:
        self.spec = spec
        self.figures = sessions_of(spec.profile)
        self.turns_below = np.cumsum(self.figures.turn_share)[:-1] / sum(self.figures.turn_share)
        self.first = LengthDraw(self.figures.first_tokens, spec.profile.output_tokens, spec.profile.spearman)
        self.later = LengthDraw(self.figures.message_tokens, spec.profile.output_tokens, 0.0)
        self.context_tokens_max = context_tokens_max
        self.made = 0

    def draw(self, begin_ns: Integers, random: np.random.Generator) -> Requests:
        """Return the turns of the sessions that begin at ``begin_ns``, sorted."""
        count = begin_ns.size
        turns = 1 + np.searchsorted(self.turns_below, random.random(count), side="right")
        session, head = np.repeat(np.arange(count), turns), np.cumsum(turns) - turns
        opens = np.zeros(session.size, dtype=np.bool_)
        opens[head] = True
        message, answer = self.later.draw(session.size, random)
        message[head], answer[head] = self.first.draw(count, random)
        think_s = np.interp(random.random(session.size), self.figures.think_probability, self.figures.think_s)
        think_ns = np.where(opens, 0, np.rint(think_s * NS_PER_S).astype(np.int64))
        answer = np.minimum(answer, self.context_tokens_max - 1)
        message[head] = np.minimum(message[head], self.context_tokens_max - answer[head])
        grown = message.astype(np.int64) + np.where(opens, 0, np.roll(answer, 1))
        prompt = _running(grown, head, turns)
        fits = prompt + answer <= self.context_tokens_max
        tenant = draw_tenants(self.spec, count, random)
        made = Requests(
            begin_ns[session] + _running(think_ns, head, turns),
            prompt.astype(np.int32),
            answer,
            np.full(session.size, self.spec.workload, dtype=np.int16),
            np.full(session.size, self.spec.region, dtype=np.int16),
            tenant[session],
            (self.made + session).astype(np.int32),
            np.where(opens, 0, prompt - message).astype(np.int32),
            np.where(opens, OPEN, think_ns),
        )
        self.made += count
        kept = np.flatnonzero(fits)
        return reordered(made, kept[np.argsort(made.arrival_ns[kept], kind="stable")])


def _running(values: Integers, head: Integers, turns: Integers) -> Integers:
    """Return running sums that begin anew at each head."""
    total = np.cumsum(values, dtype=np.int64)
    return total - np.repeat(total[head] - values[head], turns)


# ── closed loops ─────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """Ask for ``requests`` of ``users`` who each send the next as soon as the last is answered, all at once at first.

    That is how InferenceX measures: a burst of as many requests as the concurrency, then one for each that ends.
    Lengths are the profile's; or, with ``nominal`` (prompt and answer, tokens), uniform from 0.8 to 1.0 of these, as
    there. Users take equal turns, where a benchmark gives the next prompt to whoever is free; at the end, when there
    are no more prompts, the last users so finish a little further apart. ``region_share`` spreads the users.
    """

    profile: Profile
    users: int
    requests: int
    seed: int
    stream: int = 0
    nominal: tuple[int, int] | None = None
    workload: int = 0
    region_share: tuple[float, ...] = (1.0,)
    first_session: int = 0


NOMINAL_SHARE_MIN = 0.8  #: shortest length over nominal in InferenceX's random prompts


def closed_loop(loop: ClosedLoop) -> Iterator[Requests]:
    """Yield the requests of a closed loop; all are known from the start, and all but each user's first wait.

    Raises
    ------
    InputError
        When there is no user, or fewer requests than users.
    """
    if not 1 <= loop.users <= loop.requests:
        mend = "Give at least one user, and at least one request for each."
        raise InputError([Fault("--closed-loop", "the number of users cannot be", mend, value=str(loop.users))])
    return _closed_loop(loop)


def _closed_loop(loop: ClosedLoop) -> Iterator[Requests]:
    """Yield the batches of a closed loop."""
    profile = loop.profile
    lengths = LengthDraw(profile.input_tokens, profile.output_tokens, profile.spearman)
    edges = np.cumsum(loop.region_share)[:-1] / sum(loop.region_share)
    for batch, start in enumerate(range(0, loop.requests, ROWS)):
        random = np.random.default_rng([loop.seed, CLOSED_STREAM, loop.stream, batch])
        place = np.arange(start, min(start + ROWS, loop.requests))
        count, user = place.size, place % loop.users
        if loop.nominal is None:
            prompt, answer = lengths.draw(count, random)
        else:
            least = [max(round(NOMINAL_SHARE_MIN * tokens), 1) for tokens in loop.nominal]
            prompt, answer = random.integers(least, [tokens + 1 for tokens in loop.nominal], (count, 2), np.int32).T
        yield Requests(
            np.zeros(count, dtype=np.int64),
            np.ascontiguousarray(prompt),
            np.ascontiguousarray(answer),
            np.full(count, loop.workload, dtype=np.int16),
            np.searchsorted(edges, (user + 0.5) / loop.users, side="right").astype(np.int16),
            np.zeros(count, dtype=np.int16),
            (loop.first_session + user).astype(np.int32),
            np.zeros(count, dtype=np.int32),
            np.where(place < loop.users, OPEN, 0),
        )
