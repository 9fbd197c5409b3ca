"""What `greenroom doctor` finds of the providers: keys that are set, look like keys, and are taken where they are sent.

Each address is asked once for its list of models, which costs nothing. Law 10: of a key its variable is told, no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import anyio
import httpx2

from ..config import Settings
from ..router import Deployment, MissingKey, RouterConfig, RouterError
from .finding import Finding

PATIENCE_S = 5.0
"""How long an address may take to answer, seconds."""


def providers(settings: Settings) -> list[Finding]:
    """Look at the keys, and ask each address whether it takes them."""
    try:
        config = (
            RouterConfig.from_table(settings.router, os.environ)
            if settings.router is not None
            else RouterConfig.from_env(os.environ)
        )
    except RouterError as error:
        return [Finding("providers", "mend", str(error), 2)]
    if not config.models:
        return [Finding("providers", "look", f"{MissingKey()}; 'greenroom dev' starts it by itself")]
    deployments = [one for many in config.models.values() for one in many]
    names = ", ".join(sorted({one.name for one in deployments}))
    accounts = {(one.base_url, one.key): one for one in deployments}
    wrong = [found for one in accounts.values() if (found := _shape(one)) is not None]
    return [Finding("providers", "ok", f"keys are set for {names}"), *wrong, *anyio.run(_ask_all, accounts.values())]


def _shape(one: Deployment) -> Finding | None:
    known = one.spoken.key_beginnings
    own = one.base_url == one.spoken.base_url  # other addresses may have other keys
    if not known or not own or one.key.reveal().startswith(known):
        return None
    text = f"the key of {one.provider} does not begin with {' or '.join(known)}, as theirs do: copy it again"
    return Finding("key", "look", text)


async def _ask_all(deployments: Iterable[Deployment]) -> list[Finding]:
    found: list[Finding] = []

    async def ask(one: Deployment) -> None:
        finding = await _ask(client, one)
        if finding is not None:
            found.append(finding)

    async with httpx2.AsyncClient(timeout=PATIENCE_S) as client, anyio.create_task_group() as group:
        for one in deployments:
            group.start_soon(ask, one)
    return sorted(found, key=lambda finding: finding.text)


async def _ask(client: httpx2.AsyncClient, one: Deployment) -> Finding | None:
    """Ask for the models; None: they were given, or the server has no such list, and so there is one."""
    headers = {"authorization": f"Bearer {one.key.reveal()}"}
    try:
        answer = await client.get(f"{one.base_url.rstrip('/')}/models", headers=headers)
    except httpx2.TransportError as error:
        why = one.key.hide(str(error)) or type(error).__name__
        text = f"{one.base_url} of {one.provider} cannot be reached ({why}): see to the network, or correct the address"
        return Finding("provider", "mend", text, 3)
    if answer.status_code in (401, 403):
        text = f"{one.base_url} does not take the key of {one.provider} ({answer.status_code}): set another one"
        return Finding("provider", "mend", text, 2)
    if answer.status_code >= 500:
        return Finding("provider", "look", f"{one.base_url} of {one.provider} answers {answer.status_code}: try later")
    return None
