"""Say a stream of one dialect in the other, event by event.

Comes in: the data of each event. Goes out: bytes of the other dialect's stream. A stream that ends before the upstream
said that it does is a fault, so that no client takes half an answer for a whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec

from offtake.route.dialects.events import DONE, data_event, named_event
from offtake.route.dialects.told import (
    anthropic_usage,
    error_of,
    finish_of,
    openai_usage,
    stop_of,
    text_of,
    thought_of,
)
from offtake.route.seams import Dialect

Said = dict[str, Any]
END = b"[DONE]"
BROKEN = 500  #: what an error in the middle of a stream stands for


class Asking(NamedTuple):
    """Hold what of a request its answer depends on."""

    request_id: str
    now_s: int
    input_tokens: int  #: as the router estimates them
    wants_usage: bool  #: OpenAI's clients are told the usage of a stream only if they ask


class Telling(Protocol):
    """Say a stream in another dialect."""

    def event(self, data: bytes) -> bytes:
        """Return what the data of one event is in the other dialect."""

    def close(self) -> bytes:
        """Return what is left at the end of the stream."""


class ToChat:
    """Say Anthropic's events as OpenAI's chunks."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.usage: Said = {}
        self.base: Said = {}
        self.calls = 0  #: tools called so far
        self.called: dict[int, bool] = {}  #: block of a call: whether its input was told
        self.ended = self.over = False

    def event(self, data: bytes) -> bytes:
        """Return what the data of one event is in the other dialect."""
        said: Said = msgspec.json.decode(data, type=dict)
        kind = said.get("type")
        if self.over or kind == "ping":
            return b""
        if kind == "error":
            self.over = True
            return b"data: " + error_of(Dialect.OPENAI, BROKEN, data, self.asking.request_id) + b"\n\n"
        if not self.base and kind != "message_start":
            raise ValueError("the upstream's stream does not begin with message_start")
        say = self.SAYS.get(kind)
        return say(self, said) if say is not None else b""

    def close(self) -> bytes:
        """Return what is left at the end of the stream."""
        if not self.over:
            raise ValueError("the upstream's stream ended before its message did")
        return b""

    def _start(self, said: Said) -> bytes:
        """Begin the answer."""
        message = said["message"]
        self.usage = dict(message["usage"])
        self.base = {
            "id": message["id"],
            "object": "chat.completion.chunk",
            "created": self.asking.now_s,
            "model": message["model"],
        }
        return self._chunk({"role": "assistant", "content": ""})

    def _block(self, said: Said) -> bytes:
        """Begin a block."""
        index, block = said["index"], said["content_block"]
        kind = block["type"]
        if kind == "text":
            return self._chunk({"content": block["text"]}) if block.get("text") else b""
        if kind == "thinking":
            return self._chunk({"reasoning_content": block["thinking"]}) if block.get("thinking") else b""
        if kind != "tool_use":
            raise ValueError("the upstream's stream holds a block of a kind that was not asked for")
        given = msgspec.json.encode(block["input"]).decode() if block.get("input") else ""
        self.called[index] = bool(given)
        function = {"name": block["name"], "arguments": given}
        call = {"index": self.calls, "id": block["id"], "type": "function", "function": function}
        self.calls += 1
        return self._chunk({"tool_calls": [call]})

    def _delta(self, said: Said) -> bytes:
        """Go on with a block."""
        index, delta = said["index"], said["delta"]
        kind = delta["type"]
        if kind == "text_delta":
            return self._chunk({"content": text_of(delta["text"])})
        if kind == "thinking_delta":
            return self._chunk({"reasoning_content": text_of(delta["thinking"])})
        if kind == "input_json_delta":
            if not delta["partial_json"]:
                return b""
            self.called[index] = True
            return self._arguments(index, text_of(delta["partial_json"]))
        if kind == "signature_delta":
            return b""  # a thought cannot be sent back in this dialect, so that its signature has no use
        raise ValueError("the upstream's stream holds a change of a kind that was not asked for")

    def _block_end(self, said: Said) -> bytes:
        """End a block; a call without input has an empty object."""
        index = said["index"]
        return self._arguments(index, "{}") if self.called.get(index) is False else b""

    def _arguments(self, index: int, part: str) -> bytes:
        """Go on with the arguments of a call."""
        place = list(self.called).index(index)
        return self._chunk({"tool_calls": [{"index": place, "function": {"arguments": part}}]})

    def _chunk(self, delta: Said, finish: str | None = None) -> bytes:
        """Write one chunk."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return data_event(self.base | {"choices": [choice]})

    def _reason(self, said: Said) -> bytes:
        """Tell why the answer ended."""
        self.usage |= {name: value for name, value in said.get("usage", {}).items() if value is not None}
        reason = said["delta"].get("stop_reason")
        if reason is None:
            return b""
        self.ended = True
        return self._chunk({}, finish_of(reason))

    def _stop(self, _said: Said) -> bytes:
        """End the stream."""
        if not self.ended:
            raise ValueError("the upstream's stream ended before its message did")
        self.over = True
        if not self.asking.wants_usage:
            return DONE
        return data_event(self.base | {"choices": [], "usage": openai_usage(self.usage)}) + DONE

    SAYS: ClassVar[dict[Any, Callable[[ToChat, Said], bytes]]] = {
        "message_start": _start,
        "content_block_start": _block,
        "content_block_delta": _delta,
        "content_block_stop": _block_end,
        "message_delta": _reason,
        "message_stop": _stop,
    }


class ToMessage:
    """Say OpenAI's chunks as Anthropic's events. Its last words wait for the usage, which comes after the reason."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.usage: Said = {}
        self.begun = self.over = self.called = False
        self.pieces = 0  #: of the answer, told instead of its tokens if the upstream does not count them
        self.index = -1  #: of the block that is open
        self.open = ""  #: its kind; for a call, with its place
        self.reason: tuple[str, str | None] | None = None

    def event(self, data: bytes) -> bytes:
        """Return what the data of one event is in the other dialect."""
        if self.over:
            return b""
        if data == END:
            return self._end()
        said: Said = msgspec.json.decode(data, type=dict)
        if said.get("error"):
            self.over = True
            told = error_of(Dialect.ANTHROPIC, BROKEN, data, self.asking.request_id)
            return b"event: error\ndata: " + told + b"\n\n"
        out = b"" if self.begun else self._start(said)
        self.usage = said.get("usage") or self.usage
        for choice in said["choices"]:
            out += self._choice(choice)
        return out

    def close(self) -> bytes:
        """Return what is left at the end of the stream."""
        return b"" if self.over else self._end()

    def _start(self, said: Said) -> bytes:
        """Begin the message; how long its prompt was is known at its end only, and estimated here."""
        self.begun = True
        message = {
            "id": said["id"],
            "type": "message",
            "role": "assistant",
            "model": said["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self.asking.input_tokens, "output_tokens": 0},
        }
        return named_event({"type": "message_start", "message": message})

    def _choice(self, choice: Said) -> bytes:
        """Go on with the answer."""
        if choice.get("index"):
            raise ValueError("the upstream's stream holds an answer that was not asked for")
        delta = choice.get("delta") or {}
        out = b""
        thought = thought_of(delta)
        if thought:
            out += self._turn_to("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out += self._delta({"type": "thinking_delta", "thinking": thought})
        text = delta.get("content") or delta.get("refusal")
        if text:
            out += self._turn_to("text", {"type": "text", "text": ""})
            out += self._delta({"type": "text_delta", "text": text_of(text)})
        for call in delta.get("tool_calls") or ():
            out += self._call(call)
        if choice.get("finish_reason"):
            self.reason = stop_of(choice, called=self.called)
        if delta.get("refusal"):
            self.reason = ("refusal", None)
        return out

    def _call(self, call: Said) -> bytes:
        """Begin a call of a tool, or go on with one."""
        function, name = call.get("function") or {}, f"call {call.get('index', 0)}"
        out = b""
        self.called = True
        if self.open != name:
            if not call.get("id"):
                raise ValueError("the upstream's stream goes back to a call that had ended")
            block = {"type": "tool_use", "id": call["id"], "name": text_of(function.get("name")), "input": {}}
            out = self._turn_to(name, block)
        if function.get("arguments"):
            out += self._delta({"type": "input_json_delta", "partial_json": text_of(function["arguments"])})
        return out

    def _turn_to(self, name: str, block: Said) -> bytes:
        """Open a block, unless it is the one that is open."""
        if self.open == name:
            return b""
        out = self._block_end()
        self.index += 1
        self.open = name
        return out + named_event({"type": "content_block_start", "index": self.index, "content_block": block})

    def _delta(self, delta: Said) -> bytes:
        """Go on with the block that is open."""
        self.pieces += 1
        return named_event({"type": "content_block_delta", "index": self.index, "delta": delta})

    def _block_end(self) -> bytes:
        """End the block that is open."""
        if not self.open:
            return b""
        self.open = ""
        return named_event({"type": "content_block_stop", "index": self.index})

    def _end(self) -> bytes:
        """End the message."""
        if self.reason is None:
            raise ValueError("the upstream's stream ended before its answer did")
        self.over = True
        reason, matched = self.reason
        usage = anthropic_usage(self.usage) if self.usage else {"output_tokens": self.pieces}
        delta = {"stop_reason": reason, "stop_sequence": matched}
        out = self._block_end() + named_event({"type": "message_delta", "delta": delta, "usage": usage})
        return out + named_event({"type": "message_stop"})
