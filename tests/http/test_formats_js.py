"""The front ends' own clients, under node, against a real server: the `ai` package's chat and AG-UI's agent.

They are installed once into `.cache/` by the lock beside `js/package.json`; without node, npm or a registry these
tests are skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
import httpx2
import msgspec
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from greenroom import Retry, Runtime, component, emit, workflow
from greenroom.runtime.records import ApprovalRequested, Failure, OutputDelta, Status
from greenroom.runtime.settings import WorkerSettings

from .conftest import served
from .test_formats import chats as chats

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SOURCE = Path(__file__).with_name("js")
CACHE = Path(__file__).parents[2] / ".cache"
INSTALL = (
    "npm",
    "ci",
    "--ignore-scripts",
    "--omit=optional",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "--fetch-retries=1",
)


@pytest.fixture(scope="session")
def js() -> Path:
    """A folder with the scripts and what they import."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    digest = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = CACHE / f"js-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("package.json", "package-lock.json", "chat.mjs", "read.mjs"):
            shutil.copy(SOURCE / name, folder / name)
        if not (folder / "installed").exists():
            try:
                done = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, timeout=120)
            except subprocess.TimeoutExpired:
                pytest.skip("npm had not installed the front ends within 120 s")
            if done.returncode:
                pytest.skip(f"npm could not install the front ends: {done.stderr.strip()[-300:]}")
            (folder / "installed").touch()
    return folder


class Script:
    """A script that runs, and the lines that it has printed."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._text = TextReceiveStream(process.stdout)
        self._rest = ""

    async def line(self) -> Any:
        """The next one; EndOfStream when there is none."""
        while "\n" not in self._rest:
            self._rest += await self._text.receive()
        line, _, self._rest = self._rest.partition("\n")
        return msgspec.json.decode(line)

    async def until(self, text: str) -> Any:
        """The line on which the answer reads like this."""
        while (found := await self.line()).get("text") != text:
            pass
        return found

    async def last(self) -> Any:
        """What it ends with."""
        found: Any = None
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                found = await self.line()
        return found


@contextlib.asynccontextmanager
async def node(folder: Path, *args: str) -> AsyncIterator[Script]:
    async with await anyio.open_process(
        ["node", *args], cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=None
    ) as process:
        try:
            yield Script(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


async def answering(house: Any, chat: str) -> str:
    """The run that answers in a chat, once the message has come; claimed."""
    while not (found := (await house.client.get(f"/v1/runs?tag=chat:{chat}")).json()["data"]):  # noqa: ASYNC110
        await anyio.sleep(0.01)
    await house.hand.claim(found[0]["id"])
    return str(found[0]["id"])


async def test_a_chat_streams_breaks_off_and_resumes_to_exactly_the_output(js: Path, chats: Any) -> None:
    """The SDK hangs up in the middle; another page comes with the chat's id alone, and gets the message whole."""
    api = f"{chats.url}/v1/chat/talk"
    async with node(js, "chat.mjs", api, "c1", "cut", "tea?") as chat:
        run_id = await answering(chats, "c1")
        await chats.hand.say(run_id, "Tea ")
        cut = await chat.last()
    assert (cut["aborted"], cut["text"]) == (True, "Tea ")
    await chats.hand.say(run_id, "is ")
    async with node(js, "chat.mjs", api, "c1", "resume", "tea?") as chat:
        assert (await chat.until("Tea is "))["id"] == run_id
        await chats.hand.append(run_id, Status(step="s", message="boiling"))
        await chats.hand.say(run_id, "hot")
        await chats.hand.complete(run_id, "done")
        end = await chat.last()
    assert end == {
        "end": "ready", "error": None, "aborted": False, "reason": "stop", "messages": 2, "text": "Tea is hot",
        "approvals": [], "notes": ["boiling"],
    }  # fmt: skip
    assert (await chats.client.get(f"/v1/runs/{run_id}/output", headers={"accept": "text/plain"})).text == end["text"]
    async with node(js, "chat.mjs", api, "c1", "resume", "tea?") as chat:
        assert (await chat.last())["messages"] == 1


async def test_a_chat_is_told_what_is_asked_and_what_failed(js: Path, chats: Any) -> None:
    async with node(js, "chat.mjs", f"{chats.url}/v1/chat/talk", "c3", "send", "tea?") as chat:
        run_id = await answering(chats, "c3")
        await chats.hand.say(run_id, "One ")
        await chats.hand.append(run_id, ApprovalRequested(approval="p-1", name="publish", question="Publish?"))
        await chats.hand.say(run_id, "lump")
        await chat.until("One lump")
        await chats.hand.fail(run_id, Failure(type="ValueError", message="no tea"))
        end = await chat.last()
    assert (end["end"], end["error"], end["text"]) == ("error", "ValueError: no tea", "One lump")
    assert [approval["question"] for approval in end["approvals"]] == ["Publish?"]


async def test_both_readers_take_back_what_a_dead_attempt_said(js: Path, chats: Any) -> None:
    """They watch it happen: half a text, the reset, and exactly what counts."""
    for kind, name in (("ai", "ui-message"), ("ag-ui", "ag-ui")):
        run, _ = await chats.runs.start("newsroom", b'{"topic":"tea"}')
        await chats.hand.claim(run.run_id)
        await chats.hand.append(run.run_id, OutputDelta(step="other", attempt=1, text="kept "))
        url = f"{chats.url}/v1/runs/{run.run_id}/output?format={name}"
        async with node(js, "read.mjs", kind, url) as reader:
            while not len(chats.app.state.streams):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await chats.hand.say(run.run_id, "dead", attempt=1)
            await chats.hand.reset(run.run_id, attempt=1)
            await chats.hand.say(run.run_id, "counts", attempt=2)
            await chats.hand.complete(run.run_id, {"a": 1})
            end = await reader.last()
        output = await chats.client.get(f"/v1/runs/{run.run_id}/output", headers={"accept": "text/plain"})
        assert end["text"] == output.text == "kept counts"
        if kind == "ai":
            assert (end["id"], end["errors"]) == (run.run_id, [])
        else:
            assert (end["failure"], end["result"]) == (None, {"a": 1})
            assert "MESSAGES_SNAPSHOT" in end["seen"]


gate = anyio.Event()


@component(retry=Retry(attempts=2, first_s=0.01))
async def write(prompt: str) -> str:
    """Write; the first attempt dies with half a text shown."""
    await emit(f"{prompt} half ")
    if prompt == "twice" and not gate.is_set():
        await gate.wait()
        raise ValueError("cut")
    if prompt == "long":
        await anyio.sleep_forever()
    await emit("whole")
    return "done"


@workflow
async def answer(prompt: str) -> str:
    """Answer a message."""
    return await write(prompt)


async def test_with_a_real_worker_a_retry_is_taken_back_and_stop_cancels(js: Path, tmp_path: Path) -> None:
    global gate
    gate = anyio.Event()
    runtime = Runtime(answer, store="memory://", settings=WorkerSettings())
    async with runtime, runtime.worker(), served(runtime.asgi()) as url, httpx2.AsyncClient(base_url=url) as client:
        api = f"{url}/v1/chat/answer"
        async with node(js, "chat.mjs", api, "c1", "send", "twice") as chat:
            shown = await chat.until("twice half ")
            gate.set()
            end = await chat.last()
        log = [event async for event in runtime.runs.events(shown["id"])]
        assert "output.reset" in [event.kind for event in log]
        assert (end["text"], end["reason"]) == ("twice half whole", "stop")

        async with node(js, "chat.mjs", api, "c2", "send", "long") as chat:
            shown = await chat.until("long half ")
            assert (await client.post(f"{api}/c2/stop")).status_code == 202
            end = await chat.last()
        assert (await runtime.runs.wait(shown["id"], 30)).run.state.value == "canceled"
        assert end["text"] == "long half "
