"""What the dashboard's tests share: a real browser, a real server on a free port, runs whose logs are written by hand.

Neither Playwright nor a browser is part of the default set-up, because they are large. Where one is missing the tests
are skipped and say how to get it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

from greenroom import Approval, Decision, workflow
from greenroom.runtime.http import ApiOptions, api, serve
from greenroom.runtime.records import LeaseTaken, OutputDelta, Record, RunStarted, encode
from greenroom.runtime.runs import Runs
from greenroom.transports import Lease, Terms, Transition, Transport, open_transport

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
PATIENCE_MS = 30_000

publish = Approval("publish", Decision)


@workflow(approvals=[publish])
async def newsroom(topic: str = "tea") -> str:
    """Write an article about a topic."""
    return topic


@workflow
async def digest(topic: str = "tea") -> str:
    """Sum up a topic."""
    return topic


def found() -> str | None:
    """The browser to use."""
    return os.environ.get("GREENROOM_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    playwright = pytest.importorskip(
        "playwright.async_api", reason="needs Playwright: .venv/bin/pip install -r requirements-browser.txt"
    )
    executable = found()
    if executable is None:
        pytest.skip("needs Chromium: apt install chromium, or name one with GREENROOM_CHROMIUM")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        await browser.close()


class Clock:
    """The store's clock: the real one, or standing still where a scene wants its own times."""

    def __init__(self) -> None:
        self._at: float | None = None

    def __call__(self) -> float:
        return time.time() if self._at is None else self._at

    def set(self, ago: float | None) -> None:
        """Stand still at a moment in the past; None: go on as the real one."""
        self._at = None if ago is None else time.time() - ago

    def go(self, seconds: float) -> None:
        """Let time pass, if it stands still."""
        if self._at is not None:
            self._at += seconds


class House:
    """A store, the API over it on a real socket, and a worker that appends what a test tells it to."""

    def __init__(self, store: Transport, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.runs = Runs(store, {one.name: one for one in (newsroom, digest)})
        self.url = ""
        self._leases: dict[str, Lease] = {}

    async def start(self, name: str = "newsroom", **options: Any) -> str:
        """Start a run; its id."""
        run, _ = await self.runs.start(name, b'{"topic":"tea"}', **options)
        return run.run_id

    async def claim(self, run_id: str, worker: str = "worker-1") -> None:
        """Take the lease of a run."""
        while run_id not in self._leases:
            wanted = dict.fromkeys(["newsroom", "digest"], Terms())
            for claim in await self.store.claim(worker, wanted, limit=100, lease_s=86400):
                self._leases[claim.run.run_id] = claim.lease
                taken = LeaseTaken(worker=worker, build="b42", fence=claim.lease.fence)
                await self.append(claim.run.run_id, taken, RunStarted())

    async def append(self, run_id: str, *records: Record, to: Transition | None = None, after: float = 0) -> None:
        """Append in one act; `after` seconds of a clock that stands still."""
        self.clock.go(after)
        await self.store.append(self._leases[run_id], [encode(record) for record in records], to)

    async def say(self, run_id: str, *words: str, step: str = "write", attempt: int = 1, after: float = 0) -> None:
        """Append output, one record a word."""
        said = (OutputDelta(step=step, attempt=attempt, text=word) for word in words)
        await self.append(run_id, *said, after=after)

    def at(self, path: str = "") -> str:
        """The address of a place in the dashboard."""
        return f"{self.url}/dashboard{path}"

    @asynccontextmanager
    async def served(self, *, port: int = 0, options: ApiOptions | None = None) -> AsyncIterator[str]:
        """Serve the API; its URL."""
        ready = anyio.Event()

        def begun(url: str) -> None:
            self.url = url
            ready.set()

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: serve(api(self.runs, options=options), port=port, grace_s=1, ready=begun))
            await ready.wait()
            yield self.url
            group.cancel_scope.cancel()


@asynccontextmanager
async def open_house(url: str = "memory://") -> AsyncIterator[House]:
    """Open a house that is not yet served."""
    clock = Clock()
    async with open_transport(url, clock=clock) as store:
        yield House(store, clock)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as house, house.served():
        yield house


class Visitor:
    """Somebody with a browser. What the browser complains of is kept in `complaints`: a page that is well has none."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.asked: list[str] = []

    async def page(self, url: str) -> Page:
        """Open a tab."""
        page = await self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        origin = url.partition("/dashboard")[0]
        page.on("request", lambda asked: self._note(asked.url, origin))
        await page.goto(url)
        return page

    def _note(self, url: str, origin: str) -> None:
        (self.asked if url.startswith(origin) else self.foreign).append(url)

    def unexpected(self, *expected: str) -> Sequence[str]:
        """The complaints that hold none of these words."""
        return [text for text in self.complaints if not any(word in text for word in expected)]


@asynccontextmanager
async def visiting(browser: Browser, **options: Any) -> AsyncIterator[Visitor]:
    """Have a visitor, with a browser that knows nothing of others."""
    context = await browser.new_context(**options)
    try:
        yield Visitor(context)
    finally:
        await context.close()


@pytest.fixture
async def visitor(browser: Browser) -> AsyncIterator[Visitor]:
    async with visiting(browser, viewport={"width": 1280, "height": 800}) as visitor:
        yield visitor
        assert visitor.unexpected("Failed to load resource") == []
        assert visitor.foreign == []


def expecting(target: Any) -> Any:
    """Expect something of a page, sooner or later."""
    from playwright.async_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    return expect(target)


def raw(value: object) -> msgspec.Raw:
    """Data, as records hold it."""
    return msgspec.Raw(msgspec.json.encode(value))
