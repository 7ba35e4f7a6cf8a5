"""The two providers, scripted, and their official clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from offtake.route.seams import Dialect
from tests.route.recorded import (
    CALL_STREAM,
    CALLED,
    CHAT,
    CHAT_STREAM,
    DONE,
    MESSAGE,
    MESSAGE_STREAM,
    USE_STREAM,
    USED,
    USING,
)
from tests.route.wire import Answer, Got, Wire, alike, json_answer, routed, stream_answer

OPENAI, ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC
HELLO: Any = [{"role": "user", "content": "hello"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
OPENAI_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
ANTHROPIC_TOOL: Any = {"name": "weather", "input_schema": WEATHER}


def provider(got: Got) -> Answer:
    """Answer as the provider whose path is asked for."""
    asked = got.json
    streams, tools = asked.get("stream"), bool(asked.get("tools"))
    if got.path.startswith("/up/v1/chat/completions"):
        usage = [USED] if (asked.get("stream_options") or {}).get("include_usage") else []
        if streams:
            return stream_answer(*(CALL_STREAM if tools else CHAT_STREAM), *usage, DONE)
        return json_answer(CALLED if tools else CHAT)
    if got.path.startswith("/up/v1/messages"):
        if streams:
            return stream_answer(*(USE_STREAM if tools else MESSAGE_STREAM))
        return json_answer(USING if tools else MESSAGE)
    raise AssertionError(got.path)


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    with routed(tmp_path, alike(request.param, provider)) as wire:
        yield wire


def openai_at(wire: Wire, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{wire.port}/v1", api_key="ot-acme", max_retries=0, **options)


def anthropic_at(wire: Wire, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{wire.port}", api_key="ot-acme", **({"max_retries": 0} | options)
    )
