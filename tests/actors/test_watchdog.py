"""The watchdog on a real loop and a real thread: handlers block it until the report is there."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from greenroom.actors import (
    Actor,
    ChildSpec,
    LoopBlocked,
    Mailbox,
    Request,
    SpecInvalid,
    SupervisorSpec,
    supervise,
    watch_loop,
)

PATIENCE = 30.0


class Reports(Request[None]):
    """What the watchdog has said."""

    def __init__(self) -> None:
        self.all: list[LoopBlocked] = []
        self.came = threading.Event()

    def hear(self, blocked: LoopBlocked) -> None:
        self.all.append(blocked)
        self.came.set()

    def block_until_heard(self) -> None:
        assert self.came.wait(PATIENCE)
        self.came.clear()


class Blocking(Actor[Reports]):
    def receive(self, message: Reports) -> None:
        message.block_until_heard()


class BlockingLater(Actor[Reports]):
    async def receive(self, message: Reports) -> None:
        await asyncio.sleep(0)
        message.block_until_heard()


async def blocking(mailbox: Mailbox[Reports]) -> None:
    reports = await mailbox.get()
    reports.block_until_heard()
    mailbox.reply(reports, None)
    await mailbox.get()


@pytest.mark.parametrize("start", [Blocking, BlockingLater, blocking])
def test_the_report_names_the_actor_and_shows_its_stack(start: Any) -> None:
    reports = Reports()

    async def main() -> None:
        spec = SupervisorSpec(name="root", children=(ChildSpec(name="a", start=start),))
        async with watch_loop(limit=0.02, report=reports.hear), supervise(spec) as tree:
            await tree.ref("a").ask(reports)

    asyncio.run(main())
    assert {report.path for report in reports.all} == {"root/a"}
    assert all("block_until_heard" in report.stack for report in reports.all)
    assert "actor root/a has held up the event loop for more than 0.02 s" in str(reports.all[0])


def test_code_outside_of_actors_is_reported_as_such_and_once() -> None:
    reports = Reports()

    async def main() -> None:
        async with watch_loop(limit=0.01, report=reports.hear):
            await asyncio.sleep(0)
            reports.block_until_heard()
            assert not reports.came.wait(0.1)

    asyncio.run(main())
    assert [report.path for report in reports.all] == [None]
    assert "code outside of actors" in str(reports.all[0])


def test_by_default_a_warning_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    logged = threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.set()

    handler = Told()
    logger = logging.getLogger("greenroom.actors")
    logger.addHandler(handler)

    async def main() -> None:
        async with watch_loop(limit=0.01):
            await asyncio.sleep(0)
            assert logged.wait(PATIENCE)

    try:
        asyncio.run(main())
    finally:
        logger.removeHandler(handler)
    assert "has held up the event loop" in caplog.text


def test_a_report_that_fails_is_logged_and_the_watch_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports()

    def report(blocked: LoopBlocked) -> None:
        reports.hear(blocked)
        raise RuntimeError("report")

    async def main() -> None:
        async with watch_loop(limit=0.01, report=report):
            for _ in range(2):
                await asyncio.sleep(0)
                reports.block_until_heard()

    asyncio.run(main())
    assert len(reports.all) == 2
    assert "the watchdog's report failed" in caplog.text


def test_the_thread_ends_with_the_context_and_a_closed_loop() -> None:
    before = threading.active_count()

    async def main() -> None:
        async with watch_loop(limit=100):
            assert threading.active_count() == before + 1
        assert threading.active_count() == before
        with pytest.raises(SpecInvalid, match="limit is 0"):
            async with watch_loop(limit=0):
                pass

    asyncio.run(main())
