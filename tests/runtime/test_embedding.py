"""The runtime in programs of other kinds: apps with lifespans, notebooks, code that is not async; several at once."""

from __future__ import annotations

import ast
import asyncio
import inspect
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from litestar import Litestar
from litestar.handlers import asgi
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from greenroom import RunFailed, Runtime, component, emit, lifespan, workflow
from greenroom.client import Client, Refused


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@component
async def shout(text: str) -> str:
    await emit(text.upper())
    return text.upper()


@workflow
async def greet(name: str) -> str:
    """Greet somebody."""
    if name == "nobody":
        raise ValueError("nobody is there")
    return await shout(f"hello {name}")


@workflow(name="greet")
async def other(name: str) -> str:
    """Greet somebody in another way."""
    return f"good day, {name}"


@asynccontextmanager
async def client_of(app: Any, path: str = "/greenroom") -> AsyncIterator[Client]:
    transport = httpx2.ASGITransport(app=app)
    async with Client(f"http://testserver{path}", transport=transport, patience_s=0) as client:
        yield client


# --- lifespans


async def test_lifespans_are_opened_in_order_and_the_apps_state_is_its_own() -> None:
    """The app's own is the outermost: what the runtime's workflows use of it is there until the last of them ended."""
    told: list[str] = []
    runtime = Runtime(greet, store="memory://")

    @asynccontextmanager
    async def own(app: object) -> AsyncIterator[dict[str, str]]:
        told.append("own opens")
        yield {"greeting": "good morning"}
        assert not is_open(runtime)
        told.append("own closes")

    async def home(request: Request) -> JSONResponse:
        return JSONResponse({"says": request.state.greeting})

    app = Starlette(
        routes=[Route("/", home), Mount("/greenroom", runtime.asgi())], lifespan=lifespan(runtime, wrap=own)
    )
    async with lived(app) as state:
        assert is_open(runtime)
        assert state == {"greeting": "good morning"}
        async with client_of(app) as client:
            assert await (await client.start("greet", {"name": "bob"})).result(30) == "HELLO BOB"
    assert told == ["own opens", "own closes"]
    assert not is_open(runtime)


async def test_several_runtimes_in_one_app_know_nothing_of_each_other() -> None:
    """Two stores, two workflows of one name, two mounts, one lifespan."""
    first, second = Runtime(greet, store="memory://"), Runtime(other, store="memory://")
    app = FastAPI(lifespan=lifespan(first, second))
    app.mount("/first", first.asgi())
    app.mount("/second", second.asgi())
    async with lived(app), client_of(app, "/first") as one, client_of(app, "/second") as two:
        started = await one.start("greet", {"name": "bob"}, key="k")
        again = await two.start("greet", {"name": "bob"}, key="k")
        assert await started.result(30) == "HELLO BOB"
        assert await again.result(30) == "good day, bob"
        assert [info.id async for info in one.runs()] == [started.id]
        with pytest.raises(Refused, match="unknown-run"):
            await two.run(started.id).view()


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "litestar"])
async def test_a_request_before_the_start_is_told_the_fix(framework: str) -> None:
    """An app that forgot its lifespan: a mounted app's own does not run."""
    api = Runtime(greet, store="memory://").asgi()
    app: Any
    if framework == "starlette":
        app = Starlette(routes=[Mount("/greenroom", api)])
    elif framework == "fastapi":
        app = FastAPI()
        app.mount("/greenroom", api)
    else:

        @asgi("/greenroom", is_mount=True, copy_scope=True)
        async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
            await api({**scope, "path": scope["path"].rstrip("/")}, receive, send)  # type: ignore[arg-type]

        app = Litestar([mounted], logging_config=None)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        refused = await client.post("/greenroom/v1/workflows/greet/runs", json={"input": {"name": "bob"}})
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:greenroom:problem:not-started")
    assert "pass lifespan=runtime.lifespan" in refused.json()["detail"]


@asynccontextmanager
async def lived(app: Any) -> AsyncIterator[dict[str, Any]]:
    """Live as a server has an app live: lifespan messages from a task of their own."""
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    state: dict[str, Any] = {}
    async with asyncio.TaskGroup() as group:
        group.create_task(app({"type": "lifespan", "state": state, "asgi": {"version": "3.0"}}, said.get, told.put))
        await said.put({"type": "lifespan.startup"})
        assert (await told.get())["type"] == "lifespan.startup.complete"
        yield state
        await said.put({"type": "lifespan.shutdown"})
        assert (await told.get())["type"] == "lifespan.shutdown.complete"


def is_open(runtime: Runtime) -> bool:
    try:
        return runtime.runs is not None
    except Exception:
        return False


# --- notebooks


async def cell(code: str, names: dict[str, Any]) -> None:
    """Run a cell as a notebook does: top-level await, in the loop that is running, in a task of its own."""
    compiled = compile(code, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def run() -> None:
        done = eval(compiled, names)
        if inspect.isawaitable(done):
            await done

    async with asyncio.TaskGroup() as group:
        group.create_task(run())


async def test_a_notebooks_cells_await_at_the_top_and_leave_nothing_behind() -> None:
    """Each cell in the one loop that is running; the second opens the runtime anew. No loop or policy is touched."""
    loop, names = asyncio.get_running_loop(), dict[str, Any]()
    await cell("from greenroom import Runtime, workflow", names)
    await cell("@workflow\nasync def double(number: int) -> int:\n    return 2 * number", names)
    await cell("runtime = Runtime(double, store='memory://')", names)
    for number in (1, 2):
        await cell(
            f"async with runtime, runtime.worker():\n"
            f"    run = await runtime.start(double, {number})\n"
            f"    result = await run.result()",
            names,
        )
        assert names["result"] == 2 * number
    assert asyncio.get_running_loop() is loop


async def test_a_notebook_keeps_a_runtime_over_its_cells_without_await() -> None:
    """Open in one cell, used in others, closed in the last: it has a loop and a thread of its own."""
    names: dict[str, Any] = {"greet": greet, "Runtime": Runtime}
    await cell("from contextlib import ExitStack\nopen = ExitStack()", names)
    await cell("runtime = open.enter_context(Runtime(greet, store='memory://').blocking())", names)
    await cell("run = runtime.start(greet, name='bob')", names)
    await cell("result = run.result()", names)
    await cell("open.close()", names)
    assert names["result"] == "HELLO BOB"


# --- code that is not async


def test_a_script_that_is_not_async_starts_follows_and_ends() -> None:
    before = threading.active_count()
    with Runtime(greet, store="memory://").blocking() as runtime:
        run = runtime.start(greet, "bob")
        assert run.result() == "HELLO BOB"
        assert [event.kind for event in run.events()][-1] == "run.completed"
        assert run.output() == "HELLO BOB"
        assert runtime.handle(greet, run.run_id).view().run.run_id == run.run_id
        with pytest.raises(RunFailed, match="nobody is there"):
            runtime.start(greet, "nobody").result()
    assert threading.active_count() == before


def test_threads_share_a_blocking_runtime() -> None:
    results: list[str] = []
    with Runtime(greet, store="memory://").blocking() as runtime:
        threads = [
            threading.Thread(target=lambda n=n: results.append(runtime.start(greet, f"{n}").result())) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [f"HELLO {n}" for n in range(4)]
