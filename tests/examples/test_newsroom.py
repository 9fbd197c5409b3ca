"""The newsroom: its components alone, and the whole of it on virtual time, crashed everywhere, models failing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import newsroom as module
import pytest
from newsroom import Article, analyse, edit, fetch, newsroom, report, write
from openai import AsyncOpenAI

from greenroom import WorkerSettings
from greenroom.runtime.log import fold_output
from greenroom.runtime.records import Event
from greenroom.runtime.router import RouterConfig
from greenroom.runtime.runs import Runs, RunView
from greenroom.runtime.simulator import Fault, Latency, ProviderPlan, Simulator, simulator_app
from greenroom.runtime.testing import crash_everywhere, virtual_backend
from greenroom.runtime.trace import fold_trace
from greenroom.runtime.worker import open_worker
from greenroom.transports import open_transport


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    """A provider in this process: the simulator, on virtual time, under a real client. A call takes a second."""
    second = Latency(first_token_s=1.0, tokens_per_s=0, jitter=0)
    plan = ProviderPlan(name="openai", models=("smart", "fast"), latency=second)
    simulator = Simulator([plan], clock=anyio.current_time)
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(simulator_app(simulator)), base_url="http://simulator")
    async with AsyncOpenAI(api_key="-", base_url="http://simulator/v1", max_retries=0, http_client=http) as client:
        monkeypatch.setattr(module, "llm", client)
        yield simulator


async def completed() -> tuple[RunView, list[Event]]:
    """A run of the newsroom from start to end, and its log."""
    async with open_transport("memory://", clock=asyncio.get_running_loop().time) as store:
        runs = Runs(store, {"newsroom": newsroom})
        async with open_worker(store, runs.workflows, WorkerSettings(seed=0), RouterConfig(models={})):
            run, _ = await runs.start("newsroom", b'{"topic": "night trains"}')
            view = await runs.wait(run.run_id)
        return view, [event async for event in runs.events(run.run_id)]


async def test_posts_are_fetched_by_topic() -> None:
    posts = await fetch("Night Trains")
    assert {post.topic for post in posts} == {"night trains"}
    assert len(posts) == 6
    assert len(await fetch("tea")) == 12


async def test_an_unknown_topic_is_told_which_there_are() -> None:
    with pytest.raises(LookupError, match="no post is about 'tae': there are posts about night trains, tea"):
        await fetch("tae")


async def test_every_component_works_alone(provider: Simulator) -> None:
    posts = await fetch("night trains")
    analysis = await analyse(posts[0])
    assert analysis.summary
    brief = await report("night trains", [analysis])
    assert brief.headline
    draft = await write(brief)
    assert len(draft) > 100
    assert await edit(draft)
    assert [seen.model for seen in provider.seen] == ["fast", "fast", "smart", "smart"]


async def test_its_output_is_the_draft_and_its_result_the_edited_article(provider: Simulator) -> None:
    view, events = await completed()
    article = Article.model_validate_json(bytes(view.result))
    draft = fold_output(events)
    assert article.headline
    assert len(draft) > 100
    assert article.text != draft
    assert len(article.sources) == 6
    assert [seen.status for seen in provider.seen] == [200] * 9


async def test_posts_that_no_model_answers_for_are_skimmed(provider: Simulator) -> None:
    provider.faults.append(Fault(model="fast", status=400, times=6 * 3))
    view, events = await completed()
    assert view.run.state.value == "completed"
    skimmed = [span for span in fold_trace(events).spans if span.source == "fallback"]
    assert [span.name for span in skimmed] == ["analyse"] * 6


async def test_a_draft_that_cannot_be_edited_is_printed_as_it_is(provider: Simulator) -> None:
    reported, written = 2.0, 3.0
    provider.faults.append(Fault(model="smart", status=400, from_s=(reported + written) / 2))
    view, events = await completed()
    article = Article.model_validate_json(bytes(view.result))
    assert article.text == fold_output(events)


@pytest.mark.slow
async def test_it_ends_the_same_wherever_its_worker_is_lost(provider: Simulator) -> None:
    trials = await crash_everywhere(newsroom, topic="night trains")
    assert len(trials) > 10
    # no takeover: undisturbed; all made, the end too; nothing made, not even that the worker has it
    assert sum(not trial.takeovers for trial in trials) == 3
    assert max(trial.replayed for trial in trials) >= 1 + 6 + 2
