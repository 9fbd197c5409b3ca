"""OpenAI's Responses on the wire: a question and its answer in that protocol's words.

What is asked is read as a chat, so that both protocols give one answer to one question. Source: OpenAI's API
reference, Responses; a stream is named events, numbered, of which the last holds the whole response.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec


def as_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same question as the body of a chat completion."""
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    messages = [_message(item) for item in items if isinstance(item, dict)]
    if body.get("instructions"):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    chat = {"model": body["model"], "messages": messages, "stream": body.get("stream") is True}
    shape = (body.get("text") or {}).get("format") or {}
    if shape.get("type") in ("json_schema", "json_object"):
        chat["response_format"] = {"type": shape["type"], "json_schema": {"schema": shape.get("schema")}}
    if tools := [tool for tool in body.get("tools") or () if isinstance(tool, dict) and tool.get("type") == "function"]:
        choice = body.get("tool_choice", "auto")
        chat["tools"] = [{"function": tool} for tool in tools]
        chat["tool_choice"] = {"function": {"name": choice.get("name")}} if isinstance(choice, dict) else choice
    if body.get("max_output_tokens"):
        chat["max_completion_tokens"] = body["max_output_tokens"]
    return chat


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    if item.get("type") == "function_call_output":
        return {"role": "tool", "content": item.get("output")}
    return {"role": item.get("role", "assistant"), "content": item.get("content")}


def response(
    number: str, model: str, message: Mapping[str, Any], finish: str, usage: tuple[int, int]
) -> dict[str, Any]:
    """Return a whole response."""
    given, made = usage
    return {
        **_begun(number, model),
        "status": "incomplete" if finish == "length" else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if finish == "length" else None,
        "output": [_item(number, message)],
        "usage": {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + made,
        },
    }


class Events:
    """The events of a streamed response: those before its pieces, one for each piece, and those after."""

    def __init__(
        self, number: str, model: str, message: Mapping[str, Any], finish: str, usage: tuple[int, int], size: int
    ) -> None:
        self._whole = response(number, model, message, finish, usage)
        self._begun = _begun(number, model)
        self._item = self._whole["output"][0]
        self._said = self._item["arguments"] if "arguments" in self._item else self._item["content"][0]["text"]
        self._kind = "response.function_call_arguments" if "arguments" in self._item else "response.output_text"
        self._size = size
        self._count = 0

    def head(self) -> Iterator[bytes]:
        """Before the first piece."""
        yield self._event("response.created", response=self._begun)
        yield self._event("response.in_progress", response=self._begun)
        empty: dict[str, Any] = {"arguments": ""} if "arguments" in self._item else {"content": []}
        yield self._event(
            "response.output_item.added", output_index=0, item={**self._item, **empty, "status": "in_progress"}
        )
        if "content" in self._item:
            yield self._event(
                "response.content_part.added", **self._place(), part={**self._item["content"][0], "text": ""}
            )

    def pieces(self) -> Iterator[bytes]:
        """Text, or a call's arguments, piece by piece."""
        for at in range(0, len(self._said), self._size):
            yield self._event(
                f"{self._kind}.delta", **self._place(), delta=self._said[at : at + self._size], logprobs=[]
            )

    def tail(self) -> Iterator[bytes]:
        """After the last piece."""
        if "content" in self._item:
            yield self._event(f"{self._kind}.done", **self._place(), text=self._said, logprobs=[])
            yield self._event("response.content_part.done", **self._place(), part=self._item["content"][0])
        else:
            yield self._event(f"{self._kind}.done", **self._place(), name=self._item["name"], arguments=self._said)
        yield self._event("response.output_item.done", output_index=0, item=self._item)
        yield self._event(f"response.{self._whole['status']}", response=self._whole)

    def error(self, message: str) -> bytes:
        """Instead of what would have come."""
        return self._event("error", code="server_error", message=message, param=None)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item["id"], "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        told = msgspec.json.encode({"type": kind, "sequence_number": self._count, **fields})
        self._count += 1
        return b"event: " + kind.encode() + b"\ndata: " + told + b"\n\n"


def _begun(number: str, model: str) -> dict[str, Any]:
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _item(number: str, message: Mapping[str, Any]) -> dict[str, Any]:
    for call in message.get("tool_calls") or ():
        made = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        return {"id": f"fc_{number}", "type": "function_call", "status": "completed", "call_id": call["id"], **made}
    text = message.get("content") or ""
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
