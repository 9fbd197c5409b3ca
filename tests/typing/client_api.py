"""What type checkers make of the client: checked by mypy, never run."""

from __future__ import annotations

from typing import Any, assert_type

from greenroom.client import ApprovalInfo, Client, RemoteRun, RunInfo, Shown


class Article:
    """A result's type."""


async def uses(client: Client) -> None:
    run = await client.start("newsroom", {"topic": "tea"}, key="k", wait_s=1)
    assert_type(run, RemoteRun)
    assert_type(await run.result(timeout=1, as_type=Article), Article)
    assert_type(await run.result(as_type=list[int]), list[int])
    assert_type(await run.result(), Any)
    assert_type(await run.view(), RunInfo)
    assert_type(await run.approvals(), tuple[ApprovalInfo, ...])
    assert_type(await run.fork(), RemoteRun)
    async for shown in run.text_stream():
        assert_type(shown, Shown)
    async for info in client.runs():
        assert_type(info, RunInfo)
