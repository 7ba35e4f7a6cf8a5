"""Say an Anthropic message as an OpenAI chat completion: requests only.

Comes in: the fields of a body. Goes out: those of the other dialect. Fields are taken one by one and what is left is
refused, so that nothing a client asked for is lost unseen.

Sources: the types of the official clients, ``openai`` 3.54 and ``anthropic`` 2.12.
"""

from __future__ import annotations

from typing import Any

import msgspec

from offtake.route.dialects.fields import Fields, wrong

OPENAI = "OpenAI"
#: What an Anthropic request may say without asking for anything.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "service_tier": ("auto",),
    "thinking": ({"type": "disabled"},),
    "output_config": ({},),
    "container": (),
    "mcp_servers": ([],),
}
HINT = "cache_control"  #: changes no word of an answer: it is dropped, and the answer's head says so
CHOICES = {"auto": "auto", "none": "none", "any": "required"}
Said = dict[str, Any]
NO = (False,)


def chat_of(body: Said, model: str) -> tuple[Said, set[str]]:
    """Return the body of an OpenAI chat completion that asks for the same, and the hints that were dropped.

    Raises
    ------
    Refusal
        Where a field cannot be said, or is not what it should be.
    """
    fields, dropped = Fields(body, "", OPENAI), set[str]()
    fields.take("model", str)
    said: Said = {"model": model, "messages": _system(fields, dropped) + _turns(fields, dropped)}
    said["max_completion_tokens"] = fields.need("max_tokens", int)
    for name, kind in (("temperature", float), ("top_p", float)):
        value: Any = fields.take(name, kind)
        if value is not None:
            said[name] = value
    stops: list[Any] = fields.take("stop_sequences", list) or []
    if stops:
        said["stop"] = stops
    said |= _tools(fields, dropped)
    about = fields.part("metadata")
    if about is not None:
        user = about.take("user_id", str)
        about.done()
        said |= {"user": user} if user else {}
    if fields.take("stream", bool):
        said |= {"stream": True, "stream_options": {"include_usage": True}}
    for name, values in NEUTRAL.items():
        fields.only(name, *values)
    fields.hint(dropped, HINT)
    fields.done()
    return said, dropped


def _system(fields: Fields, dropped: set[str]) -> list[Said]:
    """Return what stands before the talk."""
    if isinstance(fields.left.get("system"), str):
        return [{"role": "system", "content": fields.left.pop("system")}]
    parts = [_text(one, dropped) for one in fields.each("system")]
    return [{"role": "system", "content": parts}] if parts else []


def _turns(fields: Fields, dropped: set[str]) -> list[Said]:
    """Return the turns of the talk; results of tools become messages of their own, before what the user says."""
    if "messages" in fields.left and not isinstance(fields.left["messages"], list):
        raise wrong("messages", "a list")
    said: list[Said] = []
    for message in fields.each("messages"):
        role = message.need("role", str)
        if role not in {"user", "assistant"}:
            raise message.unsaid("role")
        if isinstance(message.left.get("content"), str):
            said.append({"role": role, "content": message.left.pop("content")})
        elif role == "assistant":
            said.append(_assistant(message, dropped))
        else:
            said += _user(message, dropped)
        message.done()
    return said


def _user(message: Fields, dropped: set[str]) -> list[Said]:
    """Return what a user says, after what tools gave."""
    results: list[Said] = []
    parts: list[Said] = []
    for block in message.each("content"):
        kind = block.need("type", str)
        if kind == "tool_result":
            if parts:
                raise block.unsaid("type")  # the order of text and result would be another
            results.append(_result(block, dropped))
        elif kind == "image":
            parts.append(_image(block, dropped))
        else:
            parts.append(_text(block, dropped, kind))
    return [*results, {"role": "user", "content": parts}] if parts else results


def _assistant(message: Fields, dropped: set[str]) -> Said:
    """Return what an assistant thought, said and called."""
    thought, calls = "", list[Said]()
    parts: list[Said] = []
    for block in message.each("content"):
        kind = block.need("type", str)
        if kind == "tool_use":
            calls.append(_call(block, dropped))
        elif kind == "thinking":
            thought += block.need("thinking", str)
            block.only("signature", "")  # a signed thought is another provider's
            block.done()
        elif calls:
            raise block.unsaid("type")  # text after a call
        else:
            parts.append(_text(block, dropped, kind))
    said: Said = {"role": "assistant", "content": parts or None}
    if calls:
        said["tool_calls"] = calls
    if thought:
        said["reasoning_content"] = thought
    return said


def _call(block: Fields, dropped: set[str]) -> Said:
    """Return one call of a tool."""
    given = msgspec.json.encode(block.need("input", dict)).decode()
    said = {
        "id": block.need("id", str),
        "type": "function",
        "function": {"name": block.need("name", str), "arguments": given},
    }
    block.only("caller", {"type": "direct"})
    block.hint(dropped, HINT)
    block.done()
    return said


def _result(block: Fields, dropped: set[str]) -> Said:
    """Return what a tool gave; that it failed cannot be said."""
    block.only("is_error", *NO)
    if isinstance(block.left.get("content"), str):
        content: Any = block.left.pop("content")
    else:
        content = [_text(one, dropped) for one in block.each("content")] or ""
    said = {"role": "tool", "tool_call_id": block.need("tool_use_id", str), "content": content}
    block.hint(dropped, HINT)
    block.done()
    return said


def _text(block: Fields, dropped: set[str], kind: str = "") -> Said:
    """Return a block of text; any other is refused."""
    if (kind or block.need("type", str)) != "text":
        raise block.unsaid("type")
    said = {"type": "text", "text": block.need("text", str)}
    block.only("citations", [])
    block.hint(dropped, HINT)
    block.done()
    return said


def _image(block: Fields, dropped: set[str]) -> Said:
    """Return an image, in the request itself or at an address."""
    source = block.part("source")
    if source is None:
        raise wrong(block.where("source"), "an object")
    kind = source.need("type", str)
    if kind == "base64":
        url = f"data:{source.need('media_type', str)};base64,{source.need('data', str)}"
    elif kind == "url":
        url = source.need("url", str)
    else:
        raise source.unsaid("type")
    source.done()
    block.hint(dropped, HINT)
    block.done()
    return {"type": "image_url", "image_url": {"url": url}}


def _tools(fields: Fields, dropped: set[str]) -> Said:
    """Return the tools that may be called, and whether one must be."""
    tools = [_tool(one, dropped) for one in fields.each("tools")]
    said: Said = {"tools": tools} if tools else {}
    chosen = fields.part("tool_choice")
    if chosen is None:
        return said
    kind = chosen.need("type", str)
    if kind == "tool":
        said["tool_choice"] = {"type": "function", "function": {"name": chosen.need("name", str)}}
    elif kind in CHOICES:
        said["tool_choice"] = CHOICES[kind]
    else:
        raise chosen.unsaid("type")
    if chosen.take("disable_parallel_tool_use", bool):
        said["parallel_tool_calls"] = False
    chosen.done()
    return said


def _tool(tool: Fields, dropped: set[str]) -> Said:
    """Return one tool; those that the provider itself runs cannot be had."""
    tool.only("type", "custom")
    function: Said = {"name": tool.need("name", str)}
    for name, kind in (("description", str), ("strict", bool)):
        value: Any = tool.take(name, kind)
        if value is not None and value is not False:
            function[name] = value
    function["parameters"] = tool.need("input_schema", dict)
    tool.only("defer_loading", *NO)
    tool.only("allowed_callers", ["direct"])
    tool.hint(dropped, HINT, "eager_input_streaming")
    tool.done()
    return {"type": "function", "function": function}
