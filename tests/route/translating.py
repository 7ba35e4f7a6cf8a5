"""Have a request of one dialect said in the other."""

from __future__ import annotations

from typing import Any

import msgspec

from offtake.route.dialects.asked import PATHS
from offtake.route.dialects.translate import Turned, turned
from offtake.route.seams import Call, Case, Dialect, Head

CHAT_HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
MESSAGE_HELLO: dict[str, Any] = CHAT_HELLO | {"max_tokens": 9}
SCHEMA = {"type": "object", "properties": {"x": {"type": "number"}}}


def case_of(call: Call, body: dict[str, Any], status: int = 200) -> Case:
    case = Case("req_1", Head(b"POST", PATHS[call], b"", ()), msgspec.json.encode(body), 0)
    case.call, case.stream, case.status = call, bool(body.get("stream")), status
    case.dialect = Dialect.ANTHROPIC if call in {Call.MESSAGES, Call.COUNT_TOKENS} else Dialect.OPENAI
    case.input_tokens = 33
    return case


def turn(call: Call, body: dict[str, Any], status: int = 200) -> Turned:
    return turned(case_of(call, body, status), "theirs", 1_700_000_000)


def said(call: Call, **fields: Any) -> Any:
    base = CHAT_HELLO if call is Call.CHAT else MESSAGE_HELLO
    return msgspec.json.decode(turn(call, base | fields).body)


TEXT = {"type": "text", "text": "a"}
