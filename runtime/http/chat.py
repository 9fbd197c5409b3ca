"""A workflow as a chat, for the AI SDK's `useChat`: each answer is a run, tagged with its chat.

Why: a chat's transport sends its messages, comes back after a reload with the chat's id alone, and can only hang up to
stop. So the answer to a message is found again by what was sent, and the newest run of a chat by its tag.

Laws kept here: 1 (a message that is sent again is answered by the run that it started), 9 (a workflow that takes no
messages is refused by name). Hanging up cancels nothing; `stop` does.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from ...transports import Run, RunEnded, RunFilter
from ..cursor import Cursor
from ..errors import InputInvalid, UnknownWorkflow
from ..runs import Runs
from . import views
from .body import read_json
from .formats import Message
from .negotiation import idempotency_key, traceparent
from .options import ApiOptions
from .problems import SECURITY
from .sse import EventStream
from .streams import Streams
from .ui_message import UiMessage

SUBMIT = "submit-message"
CHAT = frozenset({"messages", "prompt"})
"""The arguments of which a workflow takes one or both, to be a chat."""

LATEST = 20
"""How many of a chat's runs are looked at to stop it."""


class ChatTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat sends: its id, all its messages, and arguments of the workflow beside them.

    The workflow gets the messages as `messages`, the text of the last one of the user's as `prompt`; it takes either.
    """

    id: Annotated[str, Meta(min_length=1, max_length=90)]
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = msgspec.field(default=None, name="messageId")
    input: dict[str, Any] = {}


class ChatResource:
    """The endpoints. `runs` gives the runs that a request may see, or raises `NotStarted`."""

    def __init__(self, runs: Callable[[Request], Runs], options: ApiOptions, streams: Streams) -> None:
        self._runs = runs
        self._options = options
        self._streams = streams

    async def answer(self, request: Request) -> Response:
        """Answer a message: start its run, or find it, and tell it from its start."""
        runs, workflow = self._runs(request), request.path_params["workflow"]
        self._streams.require_room()
        key = idempotency_key(request)
        turn = await read_json(request, ChatTurn, self._options)
        arguments = msgspec.json.encode(_arguments(runs, workflow, turn))
        if key is None and turn.trigger == SUBMIT:
            sent = msgspec.json.encode((workflow, turn.id, turn.messages[-1].get("id"), turn.message_id))
            key = f"chat-{hashlib.sha256(sent + arguments).hexdigest()}"
        run, new = await runs.start(
            workflow, arguments, key=key, tags=(_tag(turn.id),), traceparent=traceparent(request)
        )
        location = f"{views.run_path(views.root_of(request), run.run_id)}/output?format=ui-message"
        headers = {"content-location": location} | ({} if new else {"idempotent-replayed": "true"})
        return self._tell(runs, run, headers)

    async def stream(self, request: Request) -> Response:
        """Tell the answer that is being given from its start; 204 if there is none."""
        runs = self._runs(request)
        newest = await self._latest(runs, request, 1)
        if not newest or newest[0].state.terminal:
            return Response(status_code=204, headers={"cache-control": "no-store", **SECURITY})
        return self._tell(runs, newest[0])

    async def stop(self, request: Request) -> Response:
        """Cancel what answers in this chat; 204 if nothing does."""
        runs = self._runs(request)
        stopped = []
        for run in await self._latest(runs, request, LATEST):
            if not run.state.terminal:
                with contextlib.suppress(RunEnded):
                    stopped.append(await runs.cancel(run.run_id, "the chat was stopped"))
        if not stopped:
            return Response(status_code=204, headers={"cache-control": "no-store", **SECURITY})
        return views.reply(views.row_object(views.root_of(request), stopped[0]), 202)

    async def _latest(self, runs: Runs, request: Request, limit: int) -> tuple[Run, ...]:
        workflow, chat = request.path_params["workflow"], request.path_params["chat_id"]
        if workflow not in runs.workflows:
            raise UnknownWorkflow(workflow, runs.workflows)
        return (await runs.list(RunFilter(workflow=workflow, tag=_tag(chat)), limit=limit)).runs

    def _tell(self, runs: Runs, run: Run, headers: dict[str, str] | None = None) -> Response:
        words = Message(run, UiMessage(run.run_id))
        return EventStream(runs, words, after=Cursor(), streams=self._streams, headers=headers)


def _tag(chat_id: str) -> str:
    return f"chat:{chat_id}"


def _arguments(runs: Runs, workflow: str, turn: ChatTurn) -> dict[str, Any]:
    definition = runs.workflows.get(workflow)
    if definition is None:
        raise UnknownWorkflow(workflow, runs.workflows)
    offered = {"messages": turn.messages, "prompt": _prompt(turn.messages)}
    taken = {name: offered[name] for name in definition.signature.input.__struct_fields__ if name in offered}
    if not taken:
        raise InputInvalid(workflow, "$", "a chat needs a workflow that takes `messages` or `prompt`")
    return turn.input | taken


def _prompt(messages: list[dict[str, Any]]) -> str:
    """The text of the user's last message."""
    for message in reversed(messages):
        if message.get("role") == "user":
            parts = message.get("parts")
            texts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
            return "".join(str(part.get("text", "")) for part in texts if part.get("type") == "text")
    return ""
