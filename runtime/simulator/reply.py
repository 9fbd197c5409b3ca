"""What a simulated model says: to a question, a call of a tool, JSON that fits a schema, or text; and vectors."""

from __future__ import annotations

import base64
import re
import struct
from typing import Any

import msgspec

from . import text


def reply(seed: int, body: dict[str, Any]) -> tuple[dict[str, Any], str, tuple[int, int]]:
    """Return (message, finish reason, usage)."""
    question = question_of(body)
    dice = text.draw(seed, question, body["model"])
    words = re.findall(r"[A-Za-z][a-z]{5,}", question) or ["simulated"]
    given = text.tokens_of(question)
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    tools = [tool.get("function", {}) for tool in body.get("tools") or () if isinstance(tool, dict)]
    choice = body.get("tool_choice", "auto")
    if tools and choice != "none" and (choice != "auto" or body["messages"][-1].get("role") != "tool"):
        wanted = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
        tool = next((one for one in tools if one.get("name") == wanted), tools[0])
        arguments = msgspec.json.encode(text.fill(tool.get("parameters", {}), dice, words)).decode()
        call = {
            "id": f"call_{dice.randrange(10**9)}",
            "type": "function",
            "function": {"name": tool.get("name", ""), "arguments": arguments},
        }
        return {"content": None, "tool_calls": [call]}, "tool_calls", (given, text.tokens_of(arguments))
    if schema is not None:
        content = msgspec.json.encode(text.fill(schema, dice, words)).decode()
        return {"content": content}, "stop", (given, text.tokens_of(content))
    if (body.get("response_format") or {}).get("type") == "json_object":
        content = msgspec.json.encode({"answer": " ".join(words[:8])}).decode()
        return {"content": content}, "stop", (given, text.tokens_of(content))
    bound = body.get("max_completion_tokens") or body.get("max_tokens")
    content, short = text.write(question, dice, bound)
    return {"content": content}, "length" if short else "stop", (given, text.tokens_of(content))


def question_of(body: dict[str, Any]) -> str:
    """Return the text of all messages."""
    return "\n".join(_words(message.get("content")) for message in body["messages"] if isinstance(message, dict))


def _words(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def estimate(body: dict[str, Any]) -> float:
    """Return what the provider sets aside until the answer is there: the prompt and the longest answer."""
    if "input" in body:
        return text.tokens_of(str(body["input"]))
    bound = body.get("max_completion_tokens") or body.get("max_tokens") or text.DEFAULT_TOKENS
    return text.tokens_of(question_of(body)) + bound


def vectors(body: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the data of an embeddings answer, and the tokens used."""
    given = body.get("input")
    inputs = given if isinstance(given, list) else [given]
    size = body.get("dimensions") or 256
    data: list[dict[str, Any]] = []
    for index, one in enumerate(inputs):
        vector: Any = text.embed(str(one), size)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    return data, sum(text.tokens_of(str(one)) for one in inputs)
