"""What the caller gets: a provider's answer without what is not the caller's business, or one in a provider's stead.

Law 10: a provider's response carries the request with its key, and its error may repeat the key; neither goes on.
"""

from __future__ import annotations

import httpx2
import msgspec

from .deployment import Deployment

TOLD = ("retry-after", "x-ratelimit-", "x-request-id", "x-greenroom-")
"""Headers of a provider that the caller gets to see."""


def told(response: httpx2.Response, content: bytes, deployment: Deployment, by: str = "") -> httpx2.Response:
    """Pass on an answer whose content was read. An error comes in OpenAI's shape, whoever wrote it, and names `by`."""
    headers = {name: value for name, value in response.headers.items() if name.startswith(TOLD)}
    headers["content-type"] = response.headers.get("content-type", "application/json")
    if response.status_code >= 400:
        content = error_body(response.status_code, content, deployment, by)
        headers["content-type"] = "application/json"
    return httpx2.Response(response.status_code, headers=headers, content=content)


def error_body(status: int, body: bytes, deployment: Deployment, by: str = "") -> bytes:
    """Write a provider's error as OpenAI would."""
    error = deployment.spoken.error_of(body)
    message = str(error.get("message") or f"the provider answered {status} and said no more")
    shaped = {
        "message": deployment.key.hide(f"{by}: {message}" if by else message),
        "type": error.get("type") or error.get("status"),
        "param": error.get("param"),
        "code": error.get("code"),
    }
    return msgspec.json.encode({"error": shaped})


def refuse(status: int, code: str, message: str, retry_after_s: float | None = None) -> httpx2.Response:
    """Answer in a provider's stead."""
    headers = {"content-type": "application/json", "x-greenroom-router": code}
    if retry_after_s is not None:
        headers["retry-after"] = f"{max(1.0, retry_after_s):.0f}"
    error = {"message": message, "type": "router_error", "param": None, "code": code}
    return httpx2.Response(status, headers=headers, content=msgspec.json.encode({"error": error}))


def json(found: object) -> httpx2.Response:
    """Answer with JSON."""
    headers = {"content-type": "application/json"}
    return httpx2.Response(200, headers=headers, content=msgspec.json.encode(found))
