"""What the API tells, as frozen values. Fields that a newer API adds are ignored; `docs/http-api.md` says what each is.

A run's `input` and `result` stay as they came, `msgspec.Raw`: only the caller knows their types.
"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from ...transports import RunState
from ..records import NULL


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: where (`$.input.topic`), and what."""

    path: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem; `instance` names this occurrence in the server's log."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: tuple[Fault, ...] = ()


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stood when the API told it. In lists, what only its log knows has its default."""

    id: str
    workflow: str
    status: RunState
    created: datetime.datetime
    updated: datetime.datetime
    seq: int
    tags: tuple[str, ...] = ()
    tenant: str = ""
    waiting_on: str = ""
    trace_id: str = ""
    metadata: dict[str, str] = {}
    timeout_s: float | None = None
    input: msgspec.Raw = NULL
    result: msgspec.Raw = NULL
    error: Problem | None = None


class RunPage(msgspec.Struct, frozen=True):
    """Some runs, and the cursor of those that follow."""

    data: tuple[RunInfo, ...]
    next_cursor: str | None = None


class ApprovalInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a run asked for; `decision` is None while nobody has decided."""

    approval: str
    name: str
    question: str
    data: Any = None
    decision: Any = None
    by: str = ""


class Approvals(msgspec.Struct, frozen=True):
    """What a run asked for, in the order of the questions."""

    data: tuple[ApprovalInfo, ...]


class Shown(msgspec.Struct, frozen=True):
    """A run's text as it changes. `text` is all that counts; `delta` what this added to it.

    `taken_back`: an attempt died, and what it had shown is not in `text` any more; `delta` is then empty.
    """

    text: str
    delta: str = ""
    taken_back: bool = False
