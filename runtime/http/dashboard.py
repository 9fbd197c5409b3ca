"""The dashboard: a page that shows runs through the public API alone, served from the package without a build step.

Why: whoever can reach the API can look at what it does, with nothing to install and nothing fetched from elsewhere.
The files hold no data, so they are given without a token; whatever the page shows it asks the API for, with the token
that was typed into it. Their names are a list: no path that a client sends is ever looked up on a disk.

Law kept here: 10 (what a model wrote can neither run in the page nor call out of it: `POLICY` has the browser see to
it).
"""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from . import views
from .negotiation import unchanged
from .problems import SECURITY

PAGE = "/dashboard"
FILES = (
    "api.js",
    "app.css",
    "app.js",
    "approvals.js",
    "bulk.js",
    "details.js",
    "events.js",
    "fold.js",
    "icon.svg",
    "listing.js",
    "output.js",
    "parts.js",
    "place.js",
    "preact.js",
    "providers.js",
    "run.js",
    "runs.js",
    "scale.js",
    "stream.js",
    "tree.js",
    "waterfall.js",
    "workers.js",
    "vendor/hooks.js",
    "vendor/htm.js",
    "vendor/preact.js",
)
"""All that the page is made of, beside the page itself."""

OPEN_PATHS = frozenset({"/", PAGE, f"{PAGE}/", *(f"{PAGE}/{name}" for name in FILES)})
"""Answered without a token: they tell nothing of any run."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Only files of ours, nothing inline, nothing from elsewhere; and no text can be made into markup."""

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def routes() -> list[BaseRoute]:
    """Give the routes of the page and its files; they stand in no OpenAPI document."""
    return [
        Route("/", _home, include_in_schema=False),
        Route(PAGE, _page, include_in_schema=False),
        Route(f"{PAGE}/", _home, include_in_schema=False),
        Route(f"{PAGE}/{{name:path}}", _file, include_in_schema=False),
    ]


async def _home(request: Request) -> Response:
    return RedirectResponse(views.root_of(request) + PAGE, headers={"cache-control": "no-store", **SECURITY})


async def _page(request: Request) -> Response:
    return _give(request, "index.html")


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404)
    return _give(request, name)


def _give(request: Request, name: str) -> Response:
    body, etag = _read(name)
    headers = SECURITY | {"content-security-policy": POLICY, "cache-control": "no-cache", "etag": etag}
    if unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])


@functools.cache
def _read(name: str) -> tuple[bytes, str]:
    """Read a file of the package; its bytes, and the tag that names this version of it."""
    body = (files(__package__) / "static").joinpath(*name.split("/")).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
