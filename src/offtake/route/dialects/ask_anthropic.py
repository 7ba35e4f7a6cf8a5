"""Say an OpenAI chat completion as an Anthropic message: requests only.

Comes in: the fields of a body. Goes out: those of the other dialect. Fields are taken one by one and what is left is
refused, so that nothing a client asked for is lost unseen.

Sources: the types of the official clients, ``openai`` 3.54 and ``anthropic`` 2.12.
"""

from __future__ import annotations

from typing import Any

import msgspec

from offtake.route.dialects.asked import Refusal
from offtake.route.dialects.fields import Fields, unsaid, wrong

ANTHROPIC = "Anthropic"
ANSWER_TOKENS_MAX = 4_096  #: Anthropic wants a limit; OpenAI's clients may give none (assumption)
TEMPERATURE_MAX = 1.0  #: of Anthropic; OpenAI's goes to 2
#: What an OpenAI request may say without asking for anything.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
#: What changes no word of an answer: it is dropped, and the answer's head says so.
HINTS = ("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")
CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def message_of(body: dict[str, Any], model: str) -> tuple[dict[str, Any], set[str]]:
    """Return the body of an Anthropic message that asks for the same, and the hints that were dropped.

    Raises
    ------
    Refusal
        Where a field cannot be said, or is not what it should be.
    """
    fields, dropped = Fields(body, "", ANTHROPIC), set[str]()
    fields.take("model", str)
    system, messages = _messages(fields)
    most = fields.take("max_completion_tokens", int)
    less = fields.take("max_tokens", int)
    said: dict[str, Any] = {"model": model, "max_tokens": most or less or ANSWER_TOKENS_MAX, "messages": messages}
    if system:
        said["system"] = system
    said |= _sampling(fields)
    said |= _tools(fields)
    user, safety = fields.take("user", str), fields.take("safety_identifier", str)
    if user or safety:
        said["metadata"] = {"user_id": safety or user}
    if fields.take("stream", bool):
        said["stream"] = True
    options = fields.part("stream_options")
    if options is not None:
        options.take("include_usage", bool)  # the translator of the answer does it
        options.hint(dropped, "include_obfuscation")
        options.done()
    for name, values in NEUTRAL.items():
        fields.only(name, *values)
    fields.hint(dropped, *HINTS)
    fields.done()
    return said, dropped


def _sampling(fields: Fields) -> dict[str, Any]:
    """Return how words are drawn, and what ends an answer."""
    said: dict[str, Any] = {}
    temperature = fields.take("temperature", float)
    if temperature is not None:
        if temperature > TEMPERATURE_MAX:
            raise unsaid("temperature", f"{ANTHROPIC} (it goes to {TEMPERATURE_MAX:g} there)")
        said["temperature"] = temperature
    top = fields.take("top_p", float)
    if top is not None:
        said["top_p"] = top
    stop = fields.left.pop("stop", None)
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
            raise wrong("stop", "a string or a list of strings")
        if stops:
            said["stop_sequences"] = stops
    return said


def _tools(fields: Fields) -> dict[str, Any]:
    """Return the tools that may be called, and whether one must be."""
    tools = [_tool(one) for one in fields.each("tools")]
    said: dict[str, Any] = {"tools": tools} if tools else {}
    parallel = fields.take("parallel_tool_calls", bool)
    choice = _choice(fields)
    if parallel is False and tools:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if choice is not None and tools:
        said["tool_choice"] = choice
    elif choice is not None and choice["type"] in {"any", "tool"}:
        raise wrong("tools", "there, if one of them must be called")
    return said


def _choice(fields: Fields) -> dict[str, Any] | None:
    """Return whether a tool must be called."""
    asked = fields.left.pop("tool_choice", None)
    if asked is None:
        return None
    if isinstance(asked, str):
        if asked not in CHOICES:
            raise fields.unsaid("tool_choice")
        return {"type": CHOICES[asked]}
    chosen = Fields(asked, "tool_choice", ANTHROPIC)
    chosen.only("type", "function")
    function = chosen.part("function")
    chosen.done()
    if function is None:
        raise fields.unsaid("tool_choice")
    name = function.need("name", str)
    function.done()
    return {"type": "tool", "name": name}


def _tool(tool: Fields) -> dict[str, Any]:
    """Return one tool."""
    tool.only("type", "function")
    function = tool.part("function")
    tool.done()
    if function is None:
        raise wrong(tool.where("function"), "an object")
    said: dict[str, Any] = {"name": function.need("name", str)}
    for name, kind in (("description", str), ("strict", bool)):
        value: Any = function.take(name, kind)
        if value is not None and value is not False:
            said[name] = value
    said["input_schema"] = function.take("parameters", dict) or {"type": "object", "properties": {}}
    function.done()
    return said


def _messages(fields: Fields) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what stands before the talk, and its turns; results of tools become part of the user's turn."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    if "messages" in fields.left and not isinstance(fields.left["messages"], list):
        raise wrong("messages", "a list")
    for message in fields.each("messages"):
        role = message.need("role", str)
        if role in {"system", "developer"}:
            if turns:
                raise unsaid(message.where("role"), f"{ANTHROPIC} (instructions come first there)")
            system += _content(message, images=False)
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _assistant(message)})
        elif role in {"user", "tool"}:
            blocks = _content(message, images=True) if role == "user" else [_result(message)]
            if turns and turns[-1]["role"] == "user":
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": "user", "content": blocks})
        else:
            raise message.unsaid("role")
        message.done()
    return system, turns


def _assistant(message: Fields) -> list[dict[str, Any]]:
    """Return what an assistant said and called."""
    calls = [_call(one) for one in message.each("tool_calls")]
    blocks = _content(message, images=False) if message.left.get("content") else []
    message.left.pop("content", None)
    message.only("annotations", [])
    return [one for one in blocks if one["text"]] + calls or [{"type": "text", "text": ""}]


def _call(call: Fields) -> dict[str, Any]:
    """Return one call of a tool."""
    call.only("type", "function")
    call.left.pop("index", None)
    function = call.part("function")
    if function is None:
        raise call.unsaid("type")
    text = function.take("arguments", str) or "{}"
    try:
        given = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        given = None
    if not isinstance(given, dict):
        where = function.where("arguments")
        raise Refusal(400, f"`{where}` must be an object, written as JSON.", where)
    said = {"type": "tool_use", "id": call.need("id", str), "name": function.need("name", str), "input": given}
    function.done()
    call.done()
    return said


def _result(message: Fields) -> dict[str, Any]:
    """Return what a tool gave."""
    blocks = _content(message, images=False)
    plain = blocks[0]["text"] if len(blocks) == 1 else blocks
    return {"type": "tool_result", "tool_use_id": message.need("tool_call_id", str), "content": plain}


def _content(message: Fields, *, images: bool) -> list[dict[str, Any]]:
    """Return the text and images of a message."""
    content = message.left.get("content")
    if isinstance(content, str):
        del message.left["content"]
        return [{"type": "text", "text": content}]
    return [_part(one, images=images) for one in message.each("content")]


def _part(part: Fields, *, images: bool) -> dict[str, Any]:
    """Return one part of a message."""
    kind = part.need("type", str)
    if kind == "text":
        said: dict[str, Any] = {"type": "text", "text": part.need("text", str)}
    elif kind == "image_url" and images:
        image = part.part("image_url")
        if image is None:
            raise wrong(part.where("image_url"), "an object")
        image.only("detail", "auto")
        said = {"type": "image", "source": _source(image)}
        image.done()
    else:
        raise part.unsaid("type")
    part.done()
    return said


def _source(image: Fields) -> dict[str, Any]:
    """Return where an image is: in the request itself, or at an address that the upstream fetches."""
    url = image.need("url", str)
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, comma, data = url.removeprefix("data:").partition(",")
    media, coded, rest = kind.partition(";base64")
    if not comma or not coded or rest or ";" in media:
        raise image.unsaid("url")
    return {"type": "base64", "media_type": media, "data": data}
