"""A newsroom: fetch posts about a topic, analyse each of them, report, write an article, edit it.

    greenroom run examples/newsroom.py:runtime --arg topic=tea     # here, once
    greenroom dev examples/newsroom.py:runtime                     # as a REST API

Read from the bottom: the workflow is the story, the components are its steps. Each component is a plain async
function, so that it can be called and tested alone. Inside a run its calls are recorded: whatever kills the process,
what has been done is not done again.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from greenroom import Retry, Runtime, component, emit, llm, status, workflow

POSTS = Path(__file__).with_name("data") / "posts.json"


class Post(BaseModel):
    """What somebody wrote."""

    id: int
    topic: str
    author: str
    title: str
    text: str


class Analysis(BaseModel):
    """What a post says, and in which mood."""

    summary: str
    mood: Literal["glad", "mixed", "cross"]
    claims: list[str]


class Report(BaseModel):
    """What all posts amount to."""

    headline: str
    angle: str
    findings: list[str]


class Article(BaseModel):
    """What the newsroom makes."""

    headline: str
    text: str
    sources: list[str]


# --- components


@component(retry=Retry(attempts=3, never=(LookupError,)), timeout=10)
async def fetch(topic: str) -> list[Post]:
    """Fetch the posts about a topic. A file stands in for the network."""
    posts = [Post.model_validate(row) for row in json.loads(POSTS.read_text(encoding="utf-8"))]
    found = [post for post in posts if post.topic == topic.casefold()]
    if not found:
        known = ", ".join(sorted({post.topic for post in posts}))
        raise LookupError(f"no post is about {topic!r}: there are posts about {known}")
    return found


async def skim(post: Post) -> Analysis:
    """Do without a model: take the first sentence for the summary."""
    return Analysis(summary=post.text.partition(".")[0], mood="mixed", claims=[])


@component(retry=3, timeout=60, concurrency=20, fallback=skim)
async def analyse(post: Post) -> Analysis:
    """Say what a post claims. One that no model answers for is skimmed, so that it holds nobody up."""
    return await answer(Analysis, f"Summarise this post, its mood and its claims.\n\n{post.title}\n{post.text}")


@component(retry=3, timeout=60)
async def report(topic: str, analyses: list[Analysis]) -> Report:
    """Find what all posts amount to."""
    notes = "\n".join(f"- ({one.mood}) {one.summary}" for one in analyses)
    return await answer(Report, f"These are notes on posts about {topic}. What do they amount to?\n\n{notes}")


@component(retry=3, timeout=120)
async def write(brief: Report) -> str:
    """Write an article. Readers of the run see it grow; if this attempt dies, they see it taken back."""
    findings = "\n".join(f"- {finding}" for finding in brief.findings)
    question = f"Write a short article titled {brief.headline!r}. Its angle: {brief.angle}\n\n{findings}"
    stream = await llm.chat.completions.create(
        model="smart", messages=[{"role": "user", "content": question}], stream=True
    )
    text = ""
    async for chunk in stream:
        piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        text += piece
        await emit(piece)
    return text


async def unedited(draft: str) -> str:
    """Leave a draft as it is."""
    return draft


@component(retry=2, timeout=60, fallback=unedited)
async def edit(draft: str) -> str:
    """Edit a draft. A draft that cannot be edited is printed as it is."""
    question = f"Edit this article for clarity. Answer with the article alone.\n\n{draft}"
    done = await llm.chat.completions.create(model="smart", messages=[{"role": "user", "content": question}])
    return done.choices[0].message.content or draft


Shape = TypeVar("Shape", bound=BaseModel)


async def answer(shape: type[Shape], question: str) -> Shape:
    """Ask a fast model for an answer of a certain shape."""
    done = await llm.chat.completions.parse(
        model="fast", messages=[{"role": "user", "content": question}], response_format=shape
    )
    found = done.choices[0].message.parsed
    if found is None:
        raise ValueError(f"the model did not answer with a {shape.__name__}")
    return found


# --- the workflow


@workflow(timeout=600)
async def newsroom(topic: str = "tea") -> Article:
    """Make an article out of what people post about a topic."""
    await status("fetching", topic=topic)
    posts = await fetch(topic)
    await status("analysing", posts=len(posts))
    analyses = await asyncio.gather(*(analyse(post) for post in posts))
    await status("reporting")
    brief = await report(topic, analyses)
    await status("writing", headline=brief.headline)
    draft = await write(brief)
    await status("editing")
    text = await edit(draft)
    return Article(headline=brief.headline, text=text, sources=[f"{post.title} ({post.author})" for post in posts])


runtime = Runtime(newsroom)
