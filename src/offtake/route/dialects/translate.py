"""Have a request of one dialect answered by an upstream of the other.

Comes in: a case and the model's name at the upstream. Goes out: the path, the body, the hints that were dropped, and
the ``Translator`` of its answer. What cannot be said in the other dialect is a ``Refusal`` that names it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from offtake.route.dialects import ask_anthropic, ask_openai, told
from offtake.route.dialects.asked import PATHS, Refusal
from offtake.route.dialects.events import EventReader
from offtake.route.dialects.fields import UNSAID
from offtake.route.dialects.streams import Asking, Telling, ToChat, ToMessage
from offtake.route.seams import Call, Case, Dialect

FAULT = 400  #: the first status of an error


class Turned(NamedTuple):
    """Hold a request as the other dialect says it."""

    path: bytes
    body: bytes
    dropped: tuple[str, ...]
    translator: Turner


class Turner:
    """Turn an answer as it comes: a stream event by event, everything else at its end (``seams.Translator``).

    Whether it is an error, the case tells: its status is known before the first byte comes.
    """

    __slots__ = ("_asking", "_case", "_parts", "_reader", "_telling")

    def __init__(self, case: Case, asking: Asking) -> None:
        self._case, self._asking = case, asking
        self._parts: list[bytes] = []  #: of an answer that is turned at its end
        self._reader = EventReader() if case.stream else None
        self._telling: Telling = ToMessage(asking) if case.dialect is Dialect.ANTHROPIC else ToChat(asking)

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body and return what can be passed on by now.

        Raises
        ------
        ValueError
            Where the upstream's answer is none.
        """
        if self._reader is None or self._case.status >= FAULT:
            self._parts.append(data)
            return b""
        return self._told(self._reader.feed(data))

    def close(self) -> bytes:
        """Return what is left at the end of the body."""
        try:
            if self._case.status >= FAULT:
                return told.error_of(
                    self._case.dialect, self._case.status, b"".join(self._parts), self._asking.request_id
                )
            if self._reader is not None:
                return self._told(self._reader.close()) + self._telling.close()
            answer: dict[str, Any] = msgspec.json.decode(b"".join(self._parts), type=dict)
            if self._case.dialect is Dialect.ANTHROPIC:
                return msgspec.json.encode(told.message_of(answer))
            return msgspec.json.encode(told.chat_of(answer, self._asking.now_s))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("the upstream's answer is not as its dialect says") from error

    def _told(self, events: list[bytes]) -> bytes:
        """Turn events."""
        try:
            return b"".join([self._telling.event(data) for data in events])
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("the upstream's stream is not as its dialect says") from error


def turned(case: Case, model: str, now_s: int) -> Turned:
    """Return ``case`` in the dialect that is not its own.

    Raises
    ------
    Refusal
        Where it, or a part of it, cannot be said there.
    """
    try:
        body: dict[str, Any] = msgspec.json.decode(case.body, type=dict)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(400, f"The body is not JSON: {error}.") from None
    options = body.get("stream_options")
    wants = isinstance(options, dict) and options.get("include_usage") is True
    asking = Asking(case.request_id, now_s, case.input_tokens, wants)
    if case.call is Call.CHAT:
        said, dropped = ask_anthropic.message_of(body, model)
        path = PATHS[Call.MESSAGES]
    elif case.call is Call.MESSAGES:
        said, dropped = ask_openai.chat_of(body, model)
        path = PATHS[Call.CHAT]
    else:
        other = "Anthropic" if case.dialect is Dialect.OPENAI else "OpenAI"
        message = f"{PATHS[case.call].decode()} cannot be said in the {other} dialect, which the pools of it speak."
        raise Refusal(400, message, None, UNSAID)
    return Turned(path, msgspec.json.encode(said), tuple(sorted(dropped)), Turner(case, asking))
