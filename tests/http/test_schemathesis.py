"""Schemathesis against the API of a rich app: what the OpenAPI document says is what the server does.

It reads the document, makes requests that fit it and requests that do not, follows its links from one call to the next,
and checks every answer. It runs as its own process against a real server with a worker. The seed is fixed, and printed
with what was found.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import anyio
import msgspec
import pydantic
import pytest

from greenroom import Approval, Decision, Runtime, Signal, component, emit, status, workflow
from greenroom.runtime.http import ApiOptions, Token

from .conftest import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SEED = int(os.environ.get("GREENROOM_SCHEMATHESIS_SEED", "6"))
EXAMPLES = int(os.environ.get("GREENROOM_SCHEMATHESIS_EXAMPLES", "5"))
CONFIG = Path(__file__).with_name("schemathesis.toml")
TOKEN = "a-token-for-schemathesis"


class Mood(enum.Enum):
    GLAD = "glad"
    CROSS = "cross"


@dataclasses.dataclass
class Author:
    name: str
    born: datetime.date | None = None


class Source(msgspec.Struct):
    url: str
    weight: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5


class Wish(pydantic.BaseModel):
    topic: str = pydantic.Field(min_length=1, max_length=50)
    words: int = pydantic.Field(default=100, ge=1)


class Article(pydantic.BaseModel):
    title: str
    text: str


more = Signal("more", Source)
publish = Approval("publish", Decision)


@component
async def write(topic: str) -> str:
    await emit(topic)
    return topic


@workflow(signals=[more], approvals=[publish])
async def newsroom(wish: Wish, author: Author, sources: list[Source] = [], mood: Mood = Mood.GLAD) -> Article:  # noqa: B006
    """Write an article."""
    await status("writing")
    return Article(title=wish.topic, text=await write(wish.topic))


@workflow
async def fails(why: Literal["tea", "coffee"]) -> None:
    """Fail."""
    raise ValueError(why)


@workflow
async def chat(prompt: str, tone: str = "dry") -> str:
    """Answer."""
    return await write(prompt)


@workflow(approvals=[publish])
async def asks(timeout: Annotated[float, msgspec.Meta(gt=0, le=0.2)] = 0.1) -> bool:
    """Ask, and do not wait long."""
    return (await publish.request("Publish it?", timeout=timeout)).approved


async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """All of its checks and phases: examples, coverage, fuzzing, sequences of calls; with and without a token."""
    runtime = Runtime(newsroom, fails, chat, asks, store="memory://")
    options = ApiOptions(tokens=(Token(name="all", scopes=["admin"], token=TOKEN),))
    async with runtime, runtime.worker(), served(runtime.asgi(options)) as url:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json"]
        choices = ["--checks", "all", "--seed", str(SEED), "--max-examples", str(EXAMPLES), "--request-timeout", "30"]
        header = ["--header", f"Authorization: Bearer {TOKEN}", "--no-color", "--warnings", "off"]
        done = await anyio.run_process(
            [*command, *choices, *header], check=False, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    told = done.stdout.decode()
    assert done.returncode == 0, f"seed {SEED}\n{told[-12_000:]}"
    (selected, of, tested), *_ = re.findall(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", told)
    assert selected == of == tested
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in told
