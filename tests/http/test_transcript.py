"""The transcript in docs/http-api.md of the real `ai` package that resumes an answer: made here, and held to be true.

`GREENROOM_TRANSCRIPT=write python -m pytest tests/http/test_transcript.py` writes it anew.
"""

from __future__ import annotations

import contextlib
import os
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from .test_formats import chats as chats
from .test_formats_js import Script, answering, node
from .test_formats_js import js as js

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"
BEGIN, END = "<!-- transcript -->\n", "<!-- /transcript -->\n"


async def told(script: Script) -> list[str]:
    """All that a script prints from here on; the same line twice is one."""
    lines = []
    with contextlib.suppress(anyio.EndOfStream):
        while True:
            lines.append(msgspec.json.encode(await script.line()).decode())
    return [line for line, _ in groupby(lines)]


async def wire(house: Any, path: str, until: str) -> list[str]:
    """The head that matters of a stream, and its frames up to one."""
    async with house.client.stream("GET", path) as response:
        lines = [f"HTTP/1.1 {response.status_code}"]
        lines += [f"{name}: {response.headers[name]}" for name in ("content-type", "x-vercel-ai-ui-message-stream")]
        lines.append("")
        async for line in response.aiter_lines():
            lines.append(line)
            if until in line:
                break
    return lines


async def record(js: Path, house: Any) -> str:
    """A chat is cut in the middle, and another page resumes it."""
    api = f"{house.url}/v1/chat/talk"
    shown = [
        "# a page of the real `ai` package asks, and is closed after the first words",
        f"$ node chat.mjs {api} c1 cut tea?",
    ]
    async with node(js, "chat.mjs", api, "c1", "cut", "tea?") as chat:
        run_id = await answering(house, "c1")
        await house.hand.say(run_id, "Tea ")
        shown += await told(chat)
    await house.hand.say(run_id, "is ")
    shown += ["", "# the answer goes on; this is what the package is told when the page comes back"]
    shown += [f"$ curl -N -i {api}/c1/stream", *await wire(house, f"{api}/c1/stream", "text-delta")]
    shown += ["", "# and this is what it makes of it, in a new process that knows the chat's id alone"]
    shown.append(f"$ node chat.mjs {api} c1 resume tea?")
    async with node(js, "chat.mjs", api, "c1", "resume", "tea?") as chat:
        first = await chat.until("Tea is ")
        await house.hand.say(run_id, "hot")
        await chat.until("Tea is hot")
        await house.hand.complete(run_id, "done")
        shown += [msgspec.json.encode(first).decode(), *await told(chat)]
    text = (await house.client.get(f"/v1/runs/{run_id}/output", headers={"accept": "text/plain"})).text
    shown += ["", f"$ curl -H 'accept: text/plain' {house.url}/v1/runs/{run_id}/output", text]
    return "\n".join(shown).replace(run_id, "RUN").replace(house.url, "http://localhost:8800")


async def test_the_transcript_in_the_documentation_is_what_happens(js: Path, chats: Any) -> None:
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    known, end, after = rest.partition(END)
    assert begin, f"{PAGE.name} has lost the mark before its transcript"
    assert end, f"{PAGE.name} has lost the mark after its transcript"
    version = msgspec.json.decode((js / "node_modules/ai/package.json").read_bytes())["version"]
    lines = f"```console\n# ai {version}\n{await record(js, chats)}\n```\n"
    if os.environ.get("GREENROOM_TRANSCRIPT") == "write":
        PAGE.write_text(f"{before}{begin}{lines}{end}{after}", encoding="utf-8")
    else:
        assert known == lines
