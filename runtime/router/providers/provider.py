"""A provider: what is true of it and of no other. A frozen value; the rest of the router asks it and knows no names.

What is left out is as in OpenAI's protocol, so a server that speaks it as OpenAI does is a name and an address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .. import protocol
from ..failures import MESSAGE_CHARS, Refusal, kind_of


class Provider(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How a provider is asked, and how it is understood.

    Attributes:
        name: in configurations and records.
        base_url: its address; "": each deployment gives one.
        key_env: the variable that holds its key where a configuration names none; "": each deployment names one.
        key_beginnings: what its own keys begin with, for `greenroom doctor`.
        models: logical name -> its model, for whoever sets `key_env` and configures nothing.
        refused: parameters that it answers with 400. They are left out; name such as tune or label a call and do not
            change what it asks for.
        paths: what it serves of `/chat/completions`, `/responses`, `/embeddings`; None: all.
        error_in: finds the error object in decoded JSON; {}: there is none.
        verdict: says of (status, error) which kind of failure it is; "": what its status says.
        pause: reads from (headers, error) how many seconds it asks to wait; None: it does not say.
        limit: reads from (headers, "requests" or "tokens") a limit a minute; None: it tells none.
    """

    name: str
    base_url: str = ""
    key_env: str = ""
    key_beginnings: tuple[str, ...] = ()
    models: Mapping[str, str] = {}
    refused: frozenset[str] = frozenset()
    paths: tuple[str, ...] | None = None
    error_in: Callable[[Any], dict[str, Any]] = protocol.error_in
    verdict: Callable[[int, Mapping[str, Any]], str] = protocol.verdict
    pause: Callable[[Mapping[str, str], Mapping[str, Any]], float | None] = protocol.pause
    limit: Callable[[Mapping[str, str], str], protocol.ToldLimit | None] = protocol.limit

    @property
    def variables(self) -> str:
        """What its variables begin with: `<this>_BASE_URL`, `GREENROOM_<this>_RPM`."""
        return self.name.upper().replace("-", "_")

    def serves(self, path: str) -> bool:
        """Say whether it serves a path."""
        return self.paths is None or path in self.paths

    def prepare(self, path: str, body: Mapping[str, Any], model: str, *, stream: bool) -> dict[str, Any]:
        """Return the body as it wants it."""
        sent = {name: value for name, value in body.items() if name not in self.refused}
        sent["model"] = model
        if stream and path.endswith("chat/completions"):
            sent["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
        return sent

    def error_of(self, body: bytes) -> dict[str, Any]:
        """Return the error object of a body; {}: there is none."""
        try:
            return self.error_in(msgspec.json.decode(body))
        except msgspec.DecodeError:
            return {}

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
        """Say what an error answer means."""
        return self._refusal(status, headers, self.error_of(body))

    def hidden(self, error: Mapping[str, Any], where: str) -> Refusal:
        """Say what an error means that came with status 200: a limit or a quota if it says so, else an outage."""
        limited = any(str(error.get(name)) in LIMITED for name in ("code", "type"))
        found = self._refusal(429 if limited else 503, {}, error)
        said = str(error.get("message") or "it says no more")[:MESSAGE_CHARS]
        return msgspec.structs.replace(found, message=f"error inside the {where}: {said}")

    def _refusal(self, status: int, headers: Mapping[str, str], error: Mapping[str, Any]) -> Refusal:
        message = f"{status} {str(error.get('message') or 'no message')[:MESSAGE_CHARS]}"
        kind = self.verdict(status, error) or kind_of(status)
        pause_s = self.pause(headers, error) if kind in ("limited", "unavailable") else None
        return Refusal(kind, message, status, pause_s)


LIMITED = frozenset({"429", "rate_limit_exceeded", "insufficient_quota"})
"""Codes and types of errors that mean 429, wherever they come."""
